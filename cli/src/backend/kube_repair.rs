//! `DataRepair`s in the Kubernetes API.

use crds::DataRepair;
use futures::stream::LocalBoxStream;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PostParams};
use model::RepairControl;

use super::kube::{FIELD_MANAGER, KubeBackend};
use crate::failure::Failure;

impl KubeBackend {
    /// Those of a namespace, or all.
    pub async fn repairs(&self, namespace: Option<&str>) -> Result<Vec<DataRepair>, Failure> {
        let api = match namespace {
            Some(namespace) => self.namespaced::<DataRepair>(namespace),
            None => self.everywhere::<DataRepair>(),
        };
        let (tried, all) = ("the DataRepairs were not read", ListParams::default());
        Ok(self.request(tried, api.list(&all)).await?.items)
    }

    /// One, which must be there.
    pub async fn repair(&self, namespace: &str, name: &str) -> Result<DataRepair, Failure> {
        let tried = format!("DataRepair {namespace}/{name} was not read");
        let api = self.namespaced::<DataRepair>(namespace);
        let found = self.request(&tried, api.get_opt(name)).await?;
        found.ok_or_else(|| {
            Failure::failed(tried, "there is none of that name").next(format!(
                "list them: {}",
                self.call.own(&format!("repair list -n {namespace}"))
            ))
        })
    }

    /// Creates one. Answers with it as it was made.
    pub async fn create_repair(&self, repair: &DataRepair) -> Result<DataRepair, Failure> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let namespace = repair.namespace().unwrap_or_default();
        let api = self.namespaced::<DataRepair>(&namespace);
        let tried = "no DataRepair was created";
        self.request(tried, api.create(&params, repair)).await
    }

    /// Says what a person wants of one.
    pub async fn control_repair(
        &self,
        namespace: &str,
        name: &str,
        control: RepairControl,
    ) -> Result<(), Failure> {
        let tried = format!("DataRepair {namespace}/{name} was not changed");
        let word = format!("{control:?}");
        let patch = serde_json::json!({"metadata": {"annotations": {crds::CONTROL: word}}});
        let api = self.namespaced::<DataRepair>(namespace);
        self.patch(&tried, &api, name, &Patch::Merge(patch)).await
    }

    /// One as it is, and at each change. Ends after a failure.
    pub fn follow_repair(
        &self,
        namespace: &str,
        name: &str,
    ) -> LocalBoxStream<'_, Result<DataRepair, Failure>> {
        let tried = format!("DataRepair {namespace}/{name} was not followed");
        self.watched(namespace, name, tried)
    }
}
