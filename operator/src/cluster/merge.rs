//! Changing one field of an object of ours, where the whole of it cannot be planned.

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Cluster, ClusterError, Owned, is_owned};

impl Cluster {
    /// Merges a patch into an object, provided that this owner made it and that it is still the same.
    pub async fn merge<K: Owned>(
        &self,
        live: &K,
        mut patch: Value,
        owner_uid: &str,
        manager: &str,
    ) -> Result<(), ClusterError> {
        if !is_owned(live, owner_uid) {
            return Ok(());
        }
        let (namespace, name) = (live.namespace().unwrap_or_default(), live.name_any());
        let kind = K::kind(&()).into_owned();
        let doing = format!("change {kind} {namespace}/{name}");
        patch["metadata"] = json!({"uid": live.uid()});
        self.check_leader(&doing)?;
        self.metrics.write("merge", &kind);
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let parameters = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        self.bounded(&doing, api.patch(&name, &parameters, &Patch::Merge(&patch)))
            .await?;
        tracing::info!(kind, namespace, name, "changed");
        Ok(())
    }
}
