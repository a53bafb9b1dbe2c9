//! What etcd holds, as views: pure functions.

use std::collections::BTreeMap;

use model::{
    ArbiterStatus, Epoch, FailoverMode, FailoverStatus, IdcName, Intent, IntentKind, IntentPhase,
    MemberDoc, MemberRecord, MemberRole, UnitDoc, UnitKey, UnitState,
};
use topology::TopologyState;

use crate::view::{Complaint, IdcView, MemberView, Progress, RequestView, UnitPhase, UnitView};

/// What arbiters said of themselves when asked directly, as far as they could be reached.
pub type Reports = BTreeMap<IdcName, ArbiterStatus>;

/// Every IDC.
pub fn idcs(state: &TopologyState, reports: &Reports) -> Vec<IdcView> {
    let units: Vec<UnitState> = state.unit_keys().map(|key| state.unit(key)).collect();
    let primaries = |idc: &IdcName| {
        let held = units.iter().filter_map(|unit| unit.primary.as_ref());
        held.filter(|primary| primary.value.idc == *idc).count() as u64
    };
    state
        .idcs
        .iter()
        .map(|(name, doc)| {
            let session = state.sessions.get(name);
            IdcView {
                name: name.clone(),
                role: doc.value.role,
                arbiter_alive: Some(session.is_some()),
                last_heartbeat: reports.get(name).and_then(|report| report.last_keep_alive),
                version: session.map(|session| session.value.version.clone()),
                holder: session.map(|session| session.value.holder.clone()),
                message: String::new(),
                primaries: primaries(name),
            }
        })
        .collect()
}

/// One Unit; `None` if its document was deleted, or never published.
pub fn unit(key: &UnitKey, state: &UnitState, reports: &Reports) -> Option<UnitView> {
    let doc = &state.unit.as_ref()?.value;
    let report = |idc: &IdcName| reports.get(idc).and_then(|report| report.units.get(key));
    let members = doc.members.iter().map(|doc| {
        let mut view = member(doc, state);
        if let Some(status) = report(&doc.idc) {
            view.writable = Some(status.writable);
            view.reachable = Some(status.reachable);
            view.lag_millis = status
                .lag_millis
                .filter(|_| view.role != MemberRole::Primary);
            view.lag_at_most = true;
            view.position.clone_from(&status.position);
            view.findings.clone_from(&status.findings);
            view.message.clone_from(&status.message);
        }
        view
    });
    // The holder's arbiter judges best; without it, whichever answers.
    let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
    let words = holder.into_iter().chain(reports.keys()).filter_map(report);
    let words = words.map(|status| &status.failover);
    let doubts = reports.values().filter_map(|report| report.doubts.get(key));
    let failover = FailoverStatus::weightiest(words.chain(doubts));
    Some(UnitView {
        unit: key.clone(),
        phase: phase(doc, state),
        primary: state
            .primary
            .as_ref()
            .map(|primary| primary.value.idc.clone()),
        epoch: state
            .epoch
            .as_ref()
            .map_or(Epoch::NONE, |epoch| epoch.value.epoch),
        paused: state.is_paused(),
        paused_by_spec: doc.paused,
        pause_order: state
            .pause_order
            .as_ref()
            .map(|order| order.value.to_string()),
        max_lag_millis: doc.failover.max_lag_millis,
        automatic_failover: doc.failover.mode == FailoverMode::Automatic,
        members: members.collect(),
        links: Vec::new(),
        under_way: state
            .intent
            .as_ref()
            .map(|intent| request(&intent.value))
            .filter(|request| !request.progress.is_final()),
        last_transition: None,
        automation_known: failover.is_some(),
        complaints: failover.and_then(complaint).into_iter().collect(),
    })
}

/// What an arbiter says of automation, where something holds it.
fn complaint(failover: &FailoverStatus) -> Option<Complaint> {
    (!failover.ready && !failover.reason.is_empty()).then(|| Complaint {
        condition: "FailoverReady".to_owned(),
        reason: failover.reason.clone(),
        message: format!("{}.", failover.message),
        since: None,
    })
}

fn member(doc: &MemberDoc, state: &UnitState) -> MemberView {
    let record = state.members.get(&doc.idc).map(|record| &record.value);
    let primary = state
        .primary
        .as_ref()
        .is_some_and(|primary| primary.value.idc == doc.idc);
    let role = match record {
        _ if primary => MemberRole::Primary,
        Some(record) if record.preflight_passed => MemberRole::Replica,
        _ => MemberRole::Unknown,
    };
    MemberView {
        idc: doc.idc.clone(),
        endpoint: doc.endpoint.to_string(),
        priority: doc.priority,
        role,
        writable: record
            .filter(|record| record.reachable)
            .map(|record| !record.fenced),
        reachable: record.map(|record| record.reachable),
        lag_millis: None,
        lag_at_most: false,
        position: None,
        stranded: None,
        hindrances: None,
        preflight_passed: record
            .filter(|record| record.reachable)
            .map(|record| record.preflight_passed),
        fence_order: state
            .fence_orders
            .get(&doc.idc)
            .map(|order| order.value.to_string()),
        findings: Vec::new(),
        message: message(doc, record, state),
    }
}

fn message(doc: &MemberDoc, record: Option<&MemberRecord>, state: &UnitState) -> String {
    match record {
        None if !state.sessions.contains_key(&doc.idc) => {
            format!("the arbiter of {} has no session.", doc.idc)
        }
        None => format!("the arbiter of {} has not looked at it yet.", doc.idc),
        Some(record) if record.reachable && !record.preflight_passed => {
            "its preflight has not passed, so nothing can be moved there.".to_owned()
        }
        Some(_) => String::new(),
    }
}

fn phase(doc: &UnitDoc, state: &UnitState) -> UnitPhase {
    let requested = state
        .intent
        .as_ref()
        .is_some_and(|intent| !intent.value.phase.is_final());
    let candidate = state
        .members
        .values()
        .any(|record| record.value.reachable && record.value.preflight_passed);
    match &state.primary {
        _ if requested => UnitPhase::SwitchingOver,
        _ if state.is_paused() => UnitPhase::Paused,
        Some(primary) if primary.value.open => UnitPhase::Ready,
        Some(_) => UnitPhase::Electing,
        None if candidate && doc.failover.mode == FailoverMode::Automatic => UnitPhase::Electing,
        None => UnitPhase::NoPrimary,
    }
}

/// What somebody asked for.
pub fn request(intent: &Intent) -> RequestView {
    RequestView {
        id: intent.id.clone(),
        planned: intent.kind == IntentKind::Planned,
        to: intent.to.clone(),
        allow_data_loss: intent.allow_data_loss,
        progress: progress(&intent.phase),
        requested_at: Some(intent.requested_at),
    }
}

/// How far it is.
pub fn progress(phase: &IntentPhase) -> Progress {
    match phase {
        IntentPhase::Requested => Progress::Requested,
        IntentPhase::TargetReady { lag_millis } => Progress::TargetReady {
            lag_millis: Some(*lag_millis),
        },
        IntentPhase::Fenced { .. } => Progress::Fenced,
        IntentPhase::HandedOver { epoch, .. } => Progress::HandedOver {
            epoch: Some(*epoch),
        },
        IntentPhase::Done { epoch } => Progress::Done {
            epoch: Some(*epoch),
        },
        IntentPhase::Refused { reason } => Progress::Refused {
            reason: reason.clone(),
        },
        IntentPhase::Cancelled { reason } => Progress::Cancelled {
            reason: reason.clone(),
        },
    }
}
