//! What goes into etcd by way of the Kubernetes API: acknowledgements and orders, each an annotation that
//! the operator carries.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{ACKNOWLEDGE, ACKNOWLEDGED, ORDER, ORDERED, Unit};
use futures::StreamExt;
use kube::api::Patch;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{DefaultBackoff, watch_object};
use kube::{Api, Error as KubeError, ResourceExt};
use model::{AckRecord, OrderChange, OrderRequest, UnitKey};
use serde::Serialize;

use super::kube::{KubeBackend, parameters};
use crate::failure::Failure;

/// An operator that runs carries it within a second; a new leader is found within this.
const CARRIED_WITHIN: Duration = Duration::from_secs(30);

/// So often a Unit that others change meanwhile is changed again.
const TRIES: u32 = 10;

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
            OrderChange::Unfence { idc, .. } => format!("unfence {unit} {idc}"),
            OrderChange::Pause => format!("pause {unit}"),
            OrderChange::Resume { .. } => format!("resume {unit}"),
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
        self.put(tried, unit, mark, &value).await?;
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
            Err(_) => self.withdraw(tried, unit, mark, &value).await,
        }
    }

    /// Asks for it, unless something else is asked for at the moment.
    async fn put(
        &self,
        tried: &str,
        unit: &UnitKey,
        mark: &Mark,
        value: &str,
    ) -> Result<(), Failure> {
        match self.replace(tried, unit, mark, None, Some(value)).await? {
            None => Ok(()),
            Some(_) => Err(Failure::refused(
                tried,
                "somebody else's is being carried into etcd at the moment",
            )
            .next(self.call.own(&format!("status {unit}")))
            .next("then again, if it is still wanted")),
        }
    }

    /// Takes back what nobody waits for any more, so that it is not carried later, and says what is
    /// known of it.
    async fn withdraw(
        &self,
        tried: &str,
        unit: &UnitKey,
        mark: &Mark,
        value: &str,
    ) -> Result<(), Failure> {
        let otherwise = self.replace(tried, unit, mark, Some(value), None).await?;
        let carried = otherwise.and_then(|mut annotations| annotations.remove(mark.carried));
        if carried.as_deref() == Some(value) {
            return Ok(());
        }
        let cause = format!(
            "no operator said within {} s that it carried it into etcd, so it was taken back. If one \
             was about to, it stands all the same",
            CARRIED_WITHIN.as_secs()
        );
        let around = format!("{} --etcd-endpoints URL,...", mark.command);
        Err(Failure::failed(tried, cause)
            .next(self.call.own(&format!("status {unit}")))
            .next(self.call.own("version"))
            .next(format!("without an operator: {}", self.call.own(&around))))
    }

    /// Changes what is asked for from one thing to another. Where another one is asked for, answers
    /// with all annotations instead.
    async fn replace(
        &self,
        tried: &str,
        unit: &UnitKey,
        mark: &Mark,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Option<BTreeMap<String, String>>, Failure> {
        let api = self.namespaced::<Unit>(unit.namespace());
        for _ in 0..TRIES {
            let now = self.request(tried, api.get_metadata(unit.name())).await?;
            if now.annotations().get(mark.asked).map(String::as_str) != from {
                return Ok(Some(now.annotations().clone()));
            }
            let patch = Patch::Merge(serde_json::json!({"metadata": {
                "annotations": {mark.asked: to},
                "resourceVersion": now.resource_version(),
            }}));
            let changed = async {
                match api.patch(unit.name(), &parameters(), &patch).await {
                    Ok(_) => Ok(true),
                    // The operator writes the status whenever something happens.
                    Err(KubeError::Api(answer)) if answer.code == 409 => Ok(false),
                    Err(error) => Err(error),
                }
            };
            if self.request(tried, changed).await? {
                return Ok(None);
            }
        }
        let cause = "others change the Unit all the time";
        Err(Failure::failed(tried, cause).next("again"))
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
