//! Switchovers: asked of the arbiters through etcd once, followed to their end, kept for a while.

mod checks;
mod decide;

use std::sync::Arc;
use std::time::Duration;

use crds::{
    PhaseDuration, ReceiptStatus, Switchover, SwitchoverPhase, SwitchoverStatus, Verdict,
    merge_conditions,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use model::{Epoch, FenceProof, Intent, Receipt, UnitKey, UnitState};
use topology::{IntentRefused, Transaction};

use crate::cluster::Notice;
use crate::context::{Context, ReconcileError};
use crate::unit::kind_name;
use decide::{Decision, Facts, aimed_again, decide, finish};

/// The field manager of this controller.
const MANAGER: &str = "multiactive-switchover";
/// The primary says it is open before its receipt is written; a request waits so long for it.
const RECEIPT_WAIT: Duration = Duration::from_millis(300);
/// How soon a request is asked again that met a change which does not matter to it.
const AIM_AGAIN: Duration = Duration::from_millis(50);

/// Brings one Switchover further.
pub async fn reconcile(
    switchover: Arc<Switchover>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if switchover.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = switchover.namespace().unwrap_or_default();
    let key = UnitKey::new(&namespace, &switchover.spec.unit)?;
    let unit = match context.stores.unit(&key) {
        Some(unit) => Some(context.in_force(&unit, &key)?),
        None => None,
    };
    let Some(state) = context.coordination.unit(&key).state else {
        let message = "etcd has not been read yet.".to_owned();
        let old = switchover.status.clone().unwrap_or_default();
        if old.phase.is_none() {
            let phase = Some(SwitchoverPhase::Pending);
            let status = SwitchoverStatus {
                phase,
                message: Some(message),
                ..old
            };
            write(&switchover, status, &context).await?;
        }
        return Ok(Action::requeue(Duration::from_secs(2)));
    };
    let here = |unit: &crds::Unit| unit.namespace().as_deref() == Some(namespace.as_str());
    let mut units: Vec<String> = context
        .stores
        .units
        .state_filter(here)
        .iter()
        .map(|unit| unit.name_any())
        .collect();
    units.sort();
    let findings = checks::findings(&switchover.spec, &key, unit.as_deref(), &state, &context);
    let facts = Facts {
        switchover: &switchover,
        key: &key,
        unit: unit.as_deref(),
        units,
        state: &state,
        findings,
    };
    match decide(&facts, Timestamp::now()) {
        Decision::Finished { delete_at } => {
            finished(&switchover, &key, &state, delete_at, &context).await
        }
        Decision::Report(status) => {
            write(&switchover, status, &context).await?;
            Ok(Action::await_change())
        }
        Decision::Ask { status, intent } => {
            write(&switchover, status.clone(), &context).await?;
            ask(&switchover, &key, status, &intent, &context).await
        }
        Decision::Conclude { status, receipt } => {
            conclude(&switchover, &key, status, receipt, &context).await
        }
    }
}

async fn ask(
    switchover: &Switchover,
    key: &UnitKey,
    status: SwitchoverStatus,
    intent: &Intent,
    context: &Context,
) -> Result<Action, ReconcileError> {
    context
        .cluster
        .check_leader("ask the arbiters for a switchover")?;
    match context
        .coordination
        .topology()
        .create_intent(key, intent)
        .await
    {
        Ok(revision) => {
            tracing::info!(unit = %key, id = intent.id, %revision, "asked for");
            Ok(Action::await_change())
        }
        // Unknown: the intent may exist. Its id and what it expects make another attempt harmless.
        Err(IntentRefused::Etcd(error)) => Err(error.into()),
        Err(refused) => {
            let topology = context.coordination.topology();
            let state = topology.unit_state(key).await?;
            if let Some(status) = aimed_again(&switchover.spec, &status, &state) {
                write(switchover, status, context).await?;
                return Ok(Action::requeue(AIM_AGAIN));
            }
            let message = refused.to_string();
            let status = finish(&status, SwitchoverPhase::Refused, message, Timestamp::now());
            write(switchover, status, context).await?;
            Ok(Action::await_change())
        }
    }
}

/// The end is first copied, then forgotten in etcd, so that it is in at least one of the two.
async fn conclude(
    switchover: &Switchover,
    key: &UnitKey,
    mut status: SwitchoverStatus,
    receipt: Option<Epoch>,
    context: &Context,
) -> Result<Action, ReconcileError> {
    if let Some(epoch) = receipt {
        match context.coordination.topology().receipt(key, epoch).await? {
            Some(receipt) => {
                status.write_pause = receipt.write_pause_millis.map(crds::Duration::from_millis);
                status.receipt = Some(summary(&receipt));
            }
            None if !waited(switchover, context) => return Ok(Action::requeue(RECEIPT_WAIT)),
            None => {}
        }
    }
    write(switchover, status, context).await?;
    forget(switchover, key, context).await?;
    Ok(Action::requeue(Duration::from_secs(1)))
}

/// Whether the receipt was waited for long enough; without it the end is told all the same.
fn waited(switchover: &Switchover, context: &Context) -> bool {
    context
        .pace
        .waited("Switchover", &switchover.uid().unwrap_or_default(), 20)
}

/// Deletes our intent if it is still there, comparing what was seen.
async fn forget(
    switchover: &Switchover,
    key: &UnitKey,
    context: &Context,
) -> Result<(), ReconcileError> {
    let topology = context.coordination.topology();
    let state = topology.unit_state(key).await?;
    let uid = switchover.uid().unwrap_or_default();
    let Some(intent) = state.intent.filter(|intent| intent.value.id == uid) else {
        return Ok(());
    };
    if !intent.value.phase.is_final() {
        return Ok(());
    }
    context
        .cluster
        .check_leader("delete a finished request from etcd")?;
    let intents = topology.keys().intent(key);
    let delete = Transaction::new(format!("delete the finished request {uid} of unit {key}"))
        .if_revision(&intents, intent.revision)
        .delete(&intents);
    match topology.commit(delete).await {
        // Somebody's next request has replaced it.
        Ok(_) | Err(topology::CommitError::Lost { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn finished(
    switchover: &Switchover,
    key: &UnitKey,
    state: &UnitState,
    delete_at: Timestamp,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let uid = switchover.uid().unwrap_or_default();
    if state
        .intent
        .as_ref()
        .is_some_and(|intent| intent.value.id == uid)
    {
        forget(switchover, key, context).await?;
    }
    let left = delete_at.duration_since(Timestamp::now());
    if left.is_positive() {
        return Ok(Action::requeue(
            left.unsigned_abs() + Duration::from_secs(1),
        ));
    }
    context.cluster.delete_object(switchover).await?;
    Ok(Action::await_change())
}

/// Writes a status with its conditions, if it differs, and publishes its end as an Event.
async fn write(
    switchover: &Switchover,
    mut status: SwitchoverStatus,
    context: &Context,
) -> Result<(), ReconcileError> {
    let old = switchover.status.clone().unwrap_or_default();
    let generation = switchover.metadata.generation;
    status.observed_generation = generation;
    status.conditions = merge_conditions(
        &old.conditions,
        &verdicts(&status),
        generation,
        Timestamp::now(),
    );
    if status == old {
        return Ok(());
    }
    context
        .cluster
        .write_status(switchover, &status, MANAGER)
        .await?;
    let final_phase = status.phase.filter(|phase| phase.is_final());
    if let Some(phase) = final_phase
        && old.phase != Some(phase)
    {
        let succeeded = matches!(phase, SwitchoverPhase::Succeeded | SwitchoverPhase::Checked);
        let notice = Notice {
            warning: !succeeded,
            reason: format!("{phase:?}"),
            note: status.message.clone().unwrap_or_default(),
        };
        context.cluster.event(switchover, &notice).await;
    }
    Ok(())
}

fn verdicts(status: &SwitchoverStatus) -> Vec<Verdict> {
    let message = status.message.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or(SwitchoverPhase::Pending);
    let reason = format!("{phase:?}");
    let ready = match phase {
        SwitchoverPhase::Succeeded | SwitchoverPhase::Checked => {
            Verdict::yes("Ready", reason.clone(), message.clone())
        }
        _ => Verdict::no("Ready", reason.clone(), message.clone()),
    };
    let progressing = if phase.is_final() {
        Verdict::no("Progressing", reason, "")
    } else {
        Verdict::yes("Progressing", reason, message)
    };
    vec![ready, progressing]
}

fn summary(receipt: &Receipt) -> ReceiptStatus {
    ReceiptStatus {
        epoch: receipt.epoch.0,
        kind: kind_name(receipt.kind).to_owned(),
        reason: receipt.reason.clone(),
        message: receipt.message.clone(),
        started_at: Time(receipt.started_at),
        opened_at: Time(receipt.opened_at),
        proof: receipt.proof.as_ref().map(proof),
        applied: receipt.applied.as_ref().map(ToString::to_string),
        phases: receipt
            .phases
            .iter()
            .map(|phase| PhaseDuration {
                name: phase.name.clone(),
                duration: crds::Duration::from_millis(phase.millis),
            })
            .collect(),
    }
}

fn proof(proof: &FenceProof) -> String {
    match proof {
        FenceProof::Fenced { position, at, .. } => {
            format!("Fenced at {at}, nothing of the epoch lies beyond {position}")
        }
        FenceProof::GuardExpired { at, .. } => {
            format!("Out of reach; the deadline of its last guard had passed at {at}")
        }
        FenceProof::NeverOpened { at } => format!("Never opened, as of {at}"),
    }
}
