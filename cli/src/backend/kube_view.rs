//! Custom resources as views: pure functions.

use crds::{
    Idc, LastTransition, LinkPhase, MemberSummary, Switchover, SwitchoverKind, SwitchoverPhase,
    SyncLink, Unit, UnitPhase as CrdPhase,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use model::{Epoch, FailoverMode, IdcName, IdcRole, MemberRole, Phase, PositionText, UnitKey};

use crate::view::{
    Complaint, IdcView, LinkView, MemberView, Progress, ReceiptView, RequestView, UnitPhase,
    UnitView,
};

/// One IDC; `None` for a name that the API server would refuse today.
pub fn idc(idc: &Idc) -> Option<IdcView> {
    let status = idc.status.clone().unwrap_or_default();
    let arbiter = status.arbiter;
    let alive = arbiter.as_ref().map(|arbiter| arbiter.state == "Active");
    // Of a living arbiter, the condition says what else is wrong; of a lost one, that it is lost.
    let message = status
        .conditions
        .iter()
        .find(|condition| is_bad(condition) && alive == Some(true))
        .map(|condition| condition.message.clone());
    Some(IdcView {
        name: IdcName::new(idc.name_any()).ok()?,
        role: match idc.spec.role {
            crds::IdcRole::Data => IdcRole::Data,
            crds::IdcRole::Witness => IdcRole::Witness,
        },
        arbiter_alive: alive,
        last_heartbeat: arbiter
            .as_ref()
            .and_then(|arbiter| Some(arbiter.last_heartbeat.as_ref()?.0)),
        version: arbiter.as_ref().and_then(|arbiter| arbiter.version.clone()),
        holder: arbiter.and_then(|arbiter| arbiter.holder),
        message: message.unwrap_or_default(),
        primaries: u64::from(status.primaries),
    })
}

/// The name of a Unit, `None` for one that the API server would refuse today.
pub fn key(unit: &Unit) -> Option<UnitKey> {
    UnitKey::new(unit.namespace().unwrap_or_default(), unit.name_any()).ok()
}

/// One Unit, with those of the links, requests and IDCs that belong to it.
pub fn unit(
    unit: &Unit,
    links: &[SyncLink],
    requests: &[Switchover],
    idcs: &[Idc],
) -> Option<UnitView> {
    let key = key(unit)?;
    let status = unit.status.clone().unwrap_or_default();
    let doc = unit.spec.document("", 0);
    let members = doc.members.iter().map(|doc| {
        let seen = status.members.iter().find(|seen| seen.idc == doc.idc);
        let mut view = member(seen, &doc.idc);
        view.endpoint = doc.endpoint.to_string();
        view.priority = doc.priority;
        if view.reachable.is_none() {
            view.reachable = reachable(idcs, &doc.idc, &key);
        }
        view
    });
    let under_way = requests
        .iter()
        .filter(|request| belongs(request, &key))
        .map(request_view)
        .filter(|request| !request.progress.is_final())
        .max_by_key(|request| request.requested_at);
    Some(UnitView {
        phase: status.phase.map_or(UnitPhase::Unknown, phase),
        primary: status.primary,
        epoch: Epoch(status.epoch.unwrap_or_default()),
        paused: doc.paused || status.pause_order.is_some(),
        paused_by_spec: doc.paused,
        pause_order: status.pause_order,
        max_lag_millis: doc.failover.max_lag_millis,
        automatic_failover: doc.failover.mode == FailoverMode::Automatic,
        automation_known: status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "FailoverReady" && condition.status != "Unknown"),
        members: members.collect(),
        links: links.iter().filter_map(|one| link(one, &key)).collect(),
        under_way,
        last_transition: status.last_transition.as_ref().map(last_transition),
        complaints: complaints(&status.conditions),
        unit: key,
    })
}

fn phase(phase: CrdPhase) -> UnitPhase {
    match phase {
        CrdPhase::Ready => UnitPhase::Ready,
        CrdPhase::Electing => UnitPhase::Electing,
        CrdPhase::SwitchingOver => UnitPhase::SwitchingOver,
        CrdPhase::NoPrimary => UnitPhase::NoPrimary,
        CrdPhase::Paused => UnitPhase::Paused,
    }
}

fn member(seen: Option<&MemberSummary>, idc: &IdcName) -> MemberView {
    MemberView {
        idc: idc.clone(),
        endpoint: String::new(),
        priority: 0,
        role: match seen.map(|seen| seen.role) {
            Some(crds::MemberRole::Primary) => MemberRole::Primary,
            Some(crds::MemberRole::Replica) => MemberRole::Replica,
            Some(crds::MemberRole::Unknown) | None => MemberRole::Unknown,
        },
        writable: seen.and_then(|seen| seen.writable),
        reachable: seen.and_then(|seen| seen.reachable),
        lag_at_most: false,
        lag_millis: seen
            .and_then(|seen| seen.lag)
            .map(crds::Duration::as_millis),
        position: seen
            .and_then(|seen| seen.position.clone())
            .map(PositionText),
        stranded: seen.and_then(|seen| seen.stranded_transactions),
        hindrances: seen.and_then(|seen| seen.hindrances.clone()),
        preflight_passed: None,
        fence_order: seen.and_then(|seen| seen.fence_order.clone()),
        findings: Vec::new(),
        message: seen
            .and_then(|seen| seen.message.clone())
            .unwrap_or_default(),
    }
}

/// What the IDC's arbiter says of the member's server.
fn reachable(idcs: &[Idc], idc: &IdcName, unit: &UnitKey) -> Option<bool> {
    let idc = idcs.iter().find(|one| one.name_any() == idc.as_str())?;
    let unit = unit.to_string();
    let members = &idc.status.as_ref()?.members;
    members
        .iter()
        .find(|member| member.unit == unit)
        .map(|member| member.reachable)
}

fn link(link: &SyncLink, unit: &UnitKey) -> Option<LinkView> {
    let spec = &link.spec;
    if link.namespace().as_deref() != Some(unit.namespace())
        || spec.unit.as_deref() != Some(unit.name())
    {
        return None;
    }
    let status = link.status.clone().unwrap_or_default();
    let phase = status.phase.filter(|phase| *phase != LinkPhase::Suspended);
    let mut bad = status
        .conditions
        .iter()
        .filter(|condition| is_bad(condition));
    // While rows are still being copied, not being ready is no fault.
    let starting = matches!(phase, Some(LinkPhase::Pending | LinkPhase::Snapshotting));
    // What is left for a person stops no link, and is told by its figures.
    let counted = status.conflicts_held.is_some() || status.skipped_open.is_some();
    let only_left = |condition: &Condition| {
        let reason = condition.reason.as_str();
        condition.type_ == "Degraded"
            && [crds::CONFLICTS_HELD, crds::TRANSACTIONS_SKIPPED].contains(&reason)
    };
    let worst = bad.find(|condition| {
        let no_fault =
            (starting && condition.type_ == "Ready") || (counted && only_left(condition));
        !no_fault
    });
    let message = worst.map(|condition| condition.message.clone());
    Some(LinkView {
        name: link.name_any(),
        source: spec.source.idc.clone(),
        target: spec.target.idc.clone()?,
        phase,
        suspended: spec.suspended,
        lag_millis: status.lag.map(crds::Duration::as_millis),
        conflicts: status
            .ledger
            .map(|ledger| ledger.conflicts)
            .unwrap_or_default(),
        conflicts_held: status.conflicts_held,
        skipped_open: status.skipped_open,
        message: message.filter(|_| !spec.suspended).unwrap_or_default(),
        since: worst.map(|condition| condition.last_transition_time.0),
    })
}

/// Whether a request is about this Unit.
pub fn belongs(request: &Switchover, unit: &UnitKey) -> bool {
    request.spec.unit == unit.name() && request.namespace().as_deref() == Some(unit.namespace())
}

fn request_view(request: &Switchover) -> RequestView {
    RequestView {
        id: request.name_any(),
        planned: request.spec.kind == SwitchoverKind::Planned,
        to: request.spec.to.clone(),
        allow_data_loss: request.spec.allow_data_loss,
        progress: progress(request),
        requested_at: request.creation_timestamp().map(|time| time.0),
    }
}

/// How far a request is.
pub fn progress(request: &Switchover) -> Progress {
    let status = request.status.clone().unwrap_or_default();
    let epoch = status.epoch.map(Epoch);
    let reason = || {
        status
            .message
            .clone()
            .unwrap_or_else(|| "no reason was given".to_owned())
    };
    match status.phase {
        None | Some(SwitchoverPhase::Pending) => Progress::Pending,
        Some(SwitchoverPhase::Requested) => Progress::Requested,
        Some(SwitchoverPhase::TargetReady) => Progress::TargetReady { lag_millis: None },
        Some(SwitchoverPhase::Fenced) => Progress::Fenced,
        Some(SwitchoverPhase::HandedOver) => Progress::HandedOver { epoch },
        Some(SwitchoverPhase::Succeeded | SwitchoverPhase::Checked) => Progress::Done { epoch },
        Some(SwitchoverPhase::Refused) => Progress::Refused { reason: reason() },
        Some(SwitchoverPhase::Cancelled) => Progress::Cancelled { reason: reason() },
    }
}

/// The receipt of a request that is done.
pub fn receipt(request: &Switchover) -> Option<ReceiptView> {
    let status = request.status.as_ref()?;
    let receipt = status.receipt.as_ref()?;
    let phase = |phase: &crds::PhaseDuration| Phase {
        name: phase.name.clone(),
        millis: phase.duration.as_millis(),
    };
    Some(ReceiptView {
        epoch: Epoch(receipt.epoch),
        kind: receipt.kind.clone(),
        from: status.from.clone(),
        to: status.to.clone(),
        reason: receipt.reason.clone(),
        message: receipt.message.clone(),
        started_at: Some(receipt.started_at.0),
        opened_at: receipt.opened_at.0,
        write_pause_millis: status.write_pause.map(crds::Duration::as_millis),
        proof: receipt.proof.clone(),
        applied: receipt.applied.clone(),
        phases: receipt.phases.iter().map(phase).collect(),
    })
}

fn last_transition(last: &LastTransition) -> ReceiptView {
    ReceiptView {
        epoch: Epoch(last.epoch),
        kind: last.kind.clone(),
        from: last.from.clone(),
        to: Some(last.to.clone()),
        reason: last.reason.clone(),
        message: last.message.clone(),
        started_at: None,
        opened_at: last.at.0,
        write_pause_millis: last.write_pause.map(crds::Duration::as_millis),
        proof: None,
        applied: None,
        phases: Vec::new(),
    }
}

/// What the Kubernetes API knows of a Unit's transitions, the newest first.
pub fn receipts(unit: &Unit, requests: &[Switchover]) -> Vec<ReceiptView> {
    let Some(key) = key(unit) else {
        return Vec::new();
    };
    let mut found: Vec<ReceiptView> = requests
        .iter()
        .filter(|request| belongs(request, &key))
        .filter_map(receipt)
        .collect();
    let last = unit
        .status
        .as_ref()
        .and_then(|status| status.last_transition.as_ref());
    found.extend(
        last.map(last_transition)
            .filter(|last| !found.iter().any(|receipt| receipt.epoch == last.epoch)),
    );
    found.sort_by_key(|receipt| std::cmp::Reverse(receipt.epoch));
    found
}

/// The conditions that say something is wrong. `Progressing` describes, it does not complain.
fn complaints(conditions: &[Condition]) -> Vec<Complaint> {
    conditions
        .iter()
        .filter(|condition| is_bad(condition))
        .map(|condition| Complaint {
            condition: condition.type_.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: Some(condition.last_transition_time.0),
        })
        .collect()
}

/// Whether a condition says that something is wrong. `Unknown` counts for `Ready`, which then says
/// what the operator cannot see; for the others it means only that nobody has looked yet.
fn is_bad(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        "Degraded" => condition.status == "True",
        "Ready" => condition.status != "True",
        "Fenced" | "FailoverReady" | "TopologyAgreed" | "PreflightPassed" => {
            condition.status == "False"
        }
        _ => false,
    }
}
