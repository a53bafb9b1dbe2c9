//! What goes into etcd by way of the Kubernetes API: acknowledgements and orders, each an annotation that
//! the operator carries.

use std::time::Duration;

use crds::{ACKNOWLEDGE, ACKNOWLEDGED, ORDER, ORDERED, Unit};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{DefaultBackoff, watch_object};
use kube::{Api, ResourceExt};
use model::{AckRecord, OrderChange, OrderRequest, UnitKey};
use serde::Serialize;

use super::kube::KubeBackend;
use crate::failure::Failure;

/// An operator that runs carries it within a second; a new leader is found within this.
const CARRIED_WITHIN: Duration = Duration::from_secs(30);

/// An annotation for the operator, and the one in which it keeps the last that it has carried.
struct Mark {
    asked: &'static str,
    carried: &'static str,
    /// The command that does without an operator.
    command: String,
}

impl KubeBackend {
    /// Marks the Unit as looked at, and waits until the operator has carried that into etcd.
    pub async fn acknowledge(&self, unit: &UnitKey, record: &AckRecord) -> Result<(), Failure> {
        let mark = Mark {
            asked: ACKNOWLEDGE,
            carried: ACKNOWLEDGED,
            command: format!("ack {unit}"),
        };
        let tried = format!("Unit {unit} was not acknowledged");
        self.have_carried(&tried, unit, &mark, record).await
    }

    /// Gives or lifts an order, and waits until the operator has carried that into etcd.
    pub async fn order(&self, unit: &UnitKey, request: &OrderRequest) -> Result<(), Failure> {
        let command = match &request.change {
            OrderChange::Fence { idc, .. } => format!("fence {unit} {idc}"),
            OrderChange::Unfence { idc } => format!("unfence {unit} {idc}"),
            OrderChange::Pause => format!("pause {unit}"),
            OrderChange::Resume => format!("resume {unit}"),
        };
        let mark = Mark {
            asked: ORDER,
            carried: ORDERED,
            command,
        };
        let tried = format!("{} of Unit {unit} was not ordered", request.change);
        self.have_carried(&tried, unit, &mark, request).await
    }

    async fn have_carried(
        &self,
        tried: &str,
        unit: &UnitKey,
        mark: &Mark,
        document: &impl Serialize,
    ) -> Result<(), Failure> {
        let value = serde_json::to_string(document)
            .map_err(|error| Failure::failed(tried, error.to_string()))?;
        let api = self.namespaced::<Unit>(unit.namespace());
        self.mark(tried, unit, mark, Some(&value)).await?;
        match tokio::time::timeout(CARRIED_WITHIN, carried(&api, unit, mark, &value)).await {
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
                self.mark(tried, unit, mark, None).await?;
                let cause = format!(
                    "no operator carried it into etcd within {} s; nothing was changed",
                    CARRIED_WITHIN.as_secs()
                );
                let around = format!("{} --etcd-endpoints URL,...", mark.command);
                Err(Failure::failed(tried, cause)
                    .next(self.call.own("version"))
                    .next(format!("without an operator: {}", self.call.own(&around))))
            }
        }
    }

    async fn mark(
        &self,
        tried: &str,
        unit: &UnitKey,
        mark: &Mark,
        value: Option<&str>,
    ) -> Result<(), Failure> {
        let patch = serde_json::json!({"metadata": {"annotations": {mark.asked: value}}});
        self.patch_unit(tried, unit, &patch).await
    }
}

/// Waits until the mark is gone. Answers whether it was carried.
async fn carried(api: &Api<Unit>, unit: &UnitKey, mark: &Mark, value: &String) -> bool {
    let mut seen = watch_object(api.clone(), unit.name())
        .backoff(DefaultBackoff::default())
        .boxed();
    while let Some(looked) = seen.next().await {
        match looked {
            Ok(Some(looked)) if looked.annotations().get(mark.asked) != Some(value) => {
                return looked.annotations().get(mark.carried) == Some(value);
            }
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => {}
        }
    }
    false
}
