//! `DataRepair`s in the Kubernetes API.

use crds::DataRepair;
use futures::stream::{LocalBoxStream, StreamExt};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{DefaultBackoff, watch_object};
use model::RepairControl;

use super::kube::{FIELD_MANAGER, KubeBackend, WATCH_ERRORS};
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

    /// The `SyncLink` of this name, which must be there.
    pub async fn link(&self, namespace: &str, name: &str) -> Result<crds::SyncLink, Failure> {
        let tried = format!("SyncLink {namespace}/{name} was not read");
        let api = self.namespaced::<crds::SyncLink>(namespace);
        let found = self.request(&tried, api.get_opt(name)).await?;
        found.ok_or_else(|| {
            Failure::failed(tried, "there is none of that name").next(format!(
                "list them: {}",
                self.call.kubectl(&format!("get synclinks -n {namespace}"))
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
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let api = self.namespaced::<DataRepair>(namespace);
        self.request(&tried, api.patch(name, &params, &Patch::Merge(patch)))
            .await
            .map(drop)
    }

    /// One as it is, and at each change. Ends after a failure.
    pub fn follow_repair(
        &self,
        namespace: &str,
        name: &str,
    ) -> LocalBoxStream<'_, Result<DataRepair, Failure>> {
        let api = self.namespaced::<DataRepair>(namespace);
        let watch = watch_object(api, name).backoff(DefaultBackoff::default());
        let tried = format!("DataRepair {namespace}/{name} was not followed");
        let state = Some((watch.boxed_local(), 0_u32));
        futures::stream::unfold(state, move |state| {
            let tried = tried.clone();
            async move {
                let (mut watch, mut errors) = state?;
                loop {
                    match watch.next().await? {
                        Ok(Some(repair)) => return Some((Ok(repair), Some((watch, 0)))),
                        Ok(None) => {
                            let gone = "it was deleted while it was followed";
                            return Some((Err(Failure::failed(tried, gone)), None));
                        }
                        Err(_) if errors < WATCH_ERRORS => errors += 1,
                        Err(error) => {
                            return Some((Err(self.watch_failure(&tried, error)), None));
                        }
                    }
                }
            }
        })
        .boxed_local()
    }
}
