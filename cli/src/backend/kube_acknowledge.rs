//! An acknowledgement by way of the Kubernetes API: an annotation that the operator carries into etcd.

use std::time::Duration;

use crds::{ACKNOWLEDGE, ACKNOWLEDGED, Unit};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{DefaultBackoff, watch_object};
use kube::{Api, ResourceExt};
use model::{AckRecord, UnitKey};

use super::kube::KubeBackend;
use crate::failure::Failure;

/// An operator that runs carries it within a second; a new leader is found within this.
const CARRIED_WITHIN: Duration = Duration::from_secs(30);

impl KubeBackend {
    /// Marks the Unit as looked at, and waits until the operator has carried that into etcd.
    pub async fn acknowledge(&self, unit: &UnitKey, record: &AckRecord) -> Result<(), Failure> {
        let tried = format!("Unit {unit} was not acknowledged");
        let value = serde_json::to_string(record)
            .map_err(|error| Failure::failed(tried.clone(), error.to_string()))?;
        let api = self.namespaced::<Unit>(unit.namespace());
        self.mark(&tried, unit, Some(&value)).await?;
        match tokio::time::timeout(CARRIED_WITHIN, carried(&api, unit, &value)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::refused(
                tried,
                "the operator did not carry it into etcd, and says why in an Event",
            )
            .next(self.call.kubectl(&format!(
                "-n {} describe unit {}",
                unit.namespace(),
                unit.name()
            )))),
            Err(_) => {
                // Nobody waits for it any more, so it must not be carried later.
                self.mark(&tried, unit, None).await?;
                let cause = format!(
                    "no operator carried it into etcd within {} s; nothing was changed",
                    CARRIED_WITHIN.as_secs()
                );
                Err(Failure::failed(tried, cause)
                    .next(self.call.own("version"))
                    .next(format!(
                        "without an operator: {}",
                        self.call
                            .own(&format!("ack {unit} --etcd-endpoints URL,..."))
                    )))
            }
        }
    }

    async fn mark(&self, tried: &str, unit: &UnitKey, value: Option<&str>) -> Result<(), Failure> {
        let patch = serde_json::json!({"metadata": {"annotations": {ACKNOWLEDGE: value}}});
        self.patch_unit(tried, unit, &patch).await
    }
}

/// Waits until the mark is gone. Answers whether it was carried.
async fn carried(api: &Api<Unit>, unit: &UnitKey, value: &String) -> bool {
    let mut seen = watch_object(api.clone(), unit.name())
        .backoff(DefaultBackoff::default())
        .boxed();
    while let Some(looked) = seen.next().await {
        match looked {
            Ok(Some(looked)) if looked.annotations().get(ACKNOWLEDGE) != Some(value) => {
                return looked.annotations().get(ACKNOWLEDGED) == Some(value);
            }
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => {}
        }
    }
    false
}
