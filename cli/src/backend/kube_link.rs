//! `SyncLink`s in the Kubernetes API.

use crds::SyncLink;
use futures::stream::LocalBoxStream;
use kube::api::{ListParams, Patch};
use model::LinkKey;

use super::kube::KubeBackend;
use crate::failure::Failure;

impl KubeBackend {
    /// Those of a namespace, or all.
    pub async fn links(&self, namespace: Option<&str>) -> Result<Vec<SyncLink>, Failure> {
        let api = match namespace {
            Some(namespace) => self.namespaced::<SyncLink>(namespace),
            None => self.everywhere::<SyncLink>(),
        };
        let (tried, all) = ("the SyncLinks were not read", ListParams::default());
        Ok(self.request(tried, api.list(&all)).await?.items)
    }

    /// The `SyncLink` of this name, which must be there.
    pub async fn link(&self, namespace: &str, name: &str) -> Result<SyncLink, Failure> {
        let tried = format!("SyncLink {namespace}/{name} was not read");
        let api = self.namespaced::<SyncLink>(namespace);
        let found = self.request(&tried, api.get_opt(name)).await?;
        found.ok_or_else(|| {
            Failure::failed(tried, "there is none of that name").next(format!(
                "list them: {}",
                self.call.own(&format!("link list -n {namespace}"))
            ))
        })
    }

    /// Sets `spec.suspended` of a link and nothing else. Whoever does not suspend a link leaves the
    /// field out, so letting it go on takes the field away.
    pub async fn set_suspended(&self, link: &LinkKey, suspended: bool) -> Result<(), Failure> {
        let what = if suspended { "suspended" } else { "resumed" };
        let tried = format!("SyncLink {link} was not {what}");
        let value = suspended.then_some(true);
        let patch = serde_json::json!({"spec": {"suspended": value}});
        let api = self.namespaced::<SyncLink>(link.namespace());
        self.patch(&tried, &api, link.name(), &Patch::Merge(patch))
            .await
    }

    /// One as it is, and at each change. Ends after a failure.
    pub fn follow_link(&self, link: &LinkKey) -> LocalBoxStream<'_, Result<SyncLink, Failure>> {
        let tried = format!("SyncLink {link} was not followed");
        self.watched(link.namespace(), link.name(), tried)
    }
}
