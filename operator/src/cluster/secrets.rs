//! Secrets that belong to the installation and to no custom resource.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Cluster, ClusterError};

impl Cluster {
    /// Creates a Secret, or changes the one that was seen. Somebody who was faster is an error:
    /// what was decided was decided about something else.
    pub async fn write_secret(
        &self,
        secret: Secret,
        seen: Option<&Secret>,
    ) -> Result<(), ClusterError> {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        let doing = format!("write Secret {namespace}/{name}");
        self.check_leader(&doing)?;
        self.metrics.write("apply", "Secret");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        match seen {
            None => {
                self.bounded(&doing, api.create(&PostParams::default(), &secret))
                    .await?;
            }
            Some(seen) => {
                // Its type cannot be changed, and what else people have put in stays.
                let patch = json!({
                    "metadata": {
                        "resourceVersion": seen.resource_version(),
                        "labels": secret.labels(),
                    },
                    "data": secret.data,
                });
                let parameters = PatchParams::default();
                self.bounded(&doing, api.patch(&name, &parameters, &Patch::Merge(&patch)))
                    .await?;
            }
        }
        Ok(())
    }
}
