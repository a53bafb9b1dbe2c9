//! What to do about a Switchover: a pure function of the object, its Unit, and what etcd holds.

use crds::{Switchover, SwitchoverKind, SwitchoverPhase, SwitchoverSpec, SwitchoverStatus, Unit};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use model::{Epoch, IdcName, Intent, IntentKind, IntentPhase, UnitKey, UnitState};

/// What was observed.
pub struct Facts<'a> {
    /// The request.
    pub switchover: &'a Switchover,
    /// The Unit's name.
    pub key: &'a UnitKey,
    /// The Unit, if it exists.
    pub unit: Option<&'a Unit>,
    /// The Units of the namespace, for messages.
    pub units: Vec<String>,
    /// etcd's part.
    pub state: &'a UnitState,
    /// What a check of the target and of the links finds wrong, one sentence each.
    pub findings: Vec<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing: it has finished. It is deleted at this time.
    Finished {
        /// The end of its TTL.
        delete_at: Timestamp,
    },
    /// Write this status and look again at the next change.
    Report(SwitchoverStatus),
    /// Write this status first, so that a second attempt asks for the same, then create the intent.
    Ask {
        /// The status.
        status: SwitchoverStatus,
        /// The intent.
        intent: Box<Intent>,
    },
    /// Copy the intent's end into the status, with the receipt where there is one, then delete it.
    Conclude {
        /// The status, without the receipt.
        status: SwitchoverStatus,
        /// The epoch whose receipt belongs to it.
        receipt: Option<Epoch>,
    },
}

/// Decides.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let object = facts.switchover;
    let old = object.status.clone().unwrap_or_default();
    if let (Some(phase), Some(done)) = (old.phase, &old.completion_time)
        && phase.is_final()
    {
        let ttl = std::time::Duration::from(object.spec.ttl_after_finished);
        let delete_at = done.0.checked_add(ttl).unwrap_or(Timestamp::MAX);
        return Decision::Finished { delete_at };
    }
    let uid = object.uid().unwrap_or_default();
    if let Some(intent) = facts
        .state
        .intent
        .as_ref()
        .filter(|intent| intent.value.id == uid)
    {
        return follow(facts, &old, &intent.value, now);
    }
    if let Some(reason) = refusal(facts) {
        return Decision::Report(finish(&old, SwitchoverPhase::Refused, reason, now));
    }
    if object.spec.dry_run {
        let text = dry_run(facts);
        let phase = if facts.findings.is_empty() {
            SwitchoverPhase::Checked
        } else {
            SwitchoverPhase::Refused
        };
        return Decision::Report(finish(&with_aim(facts, &old), phase, text, now));
    }
    ask(facts, &old, now)
}

/// What makes a request pointless or impossible, before anything is asked of the arbiters.
fn refusal(facts: &Facts<'_>) -> Option<String> {
    let (spec, key) = (&facts.switchover.spec, facts.key);
    let Some(unit) = facts.unit else {
        let known = if facts.units.is_empty() {
            "none".to_owned()
        } else {
            facts.units.join(", ")
        };
        return Some(format!(
            "There is no Unit {key}; namespace {} has: {known}. Correct spec.unit in a new \
             Switchover.",
            key.namespace()
        ));
    };
    let mut members: Vec<&str> = unit
        .spec
        .members
        .iter()
        .map(|member| member.idc.as_str())
        .collect();
    members.sort_unstable();
    if let Some(to) = &spec.to
        && unit.spec.member(to).is_none()
    {
        return Some(format!(
            "Unit {key} has no member in IDC {to}; it has {}.",
            members.join(", ")
        ));
    }
    if facts.state.unit.is_none() {
        return Some(format!(
            "Unit {key} is not in force yet: its conditions tell why \
             (`kubectl describe unit {} -n {}`).",
            key.name(),
            key.namespace()
        ));
    }
    // A request that was begun has its expectations in the status; etcd compares them again.
    if facts
        .switchover
        .status
        .as_ref()
        .is_some_and(|status| status.start_time.is_some())
    {
        return None;
    }
    unexpected(facts).or_else(|| pointless(facts))
}

/// What the request expects of the primary, and is not so.
fn unexpected(facts: &Facts<'_>) -> Option<String> {
    let (spec, key) = (&facts.switchover.spec, facts.key);
    let primary = holder(facts.state);
    if let Some(expected) = &spec.expected_primary
        && primary != Some(expected)
    {
        let found = primary.map_or("there is none".to_owned(), |idc| format!("it is {idc}"));
        return Some(format!(
            "The primary of Unit {key} was expected to be {expected}, but {found}. Look at \
             `mactl status`, and ask again if you still want it."
        ));
    }
    if spec.expect_no_primary
        && let Some(primary) = primary
    {
        return Some(format!(
            "Unit {key} was expected to have no primary, but {primary} is it, epoch {}. Look at \
             `mactl status`, and ask again if you still want it.",
            epoch(facts.state)
        ));
    }
    None
}

/// There is nothing to move, or nothing to move from.
fn pointless(facts: &Facts<'_>) -> Option<String> {
    let (spec, key) = (&facts.switchover.spec, facts.key);
    match (spec.kind, holder(facts.state), &spec.to) {
        (_, Some(primary), Some(to)) if primary == to => Some(format!(
            "{to} is the primary of Unit {key} already, epoch {}: there is nothing to move.",
            epoch(facts.state)
        )),
        (SwitchoverKind::Planned, None, to) => {
            let to = to.as_ref().map_or("IDC", IdcName::as_str);
            Some(format!(
                "Unit {key} has no primary, so there is nothing to switch from. Give it one with \
                 `mactl failover {} --to {to} -n {}`.",
                key.name(),
                key.namespace()
            ))
        }
        _ => None,
    }
}

fn holder(state: &UnitState) -> Option<&IdcName> {
    state.primary.as_ref().map(|primary| &primary.value.idc)
}

fn epoch(state: &UnitState) -> Epoch {
    state
        .epoch
        .as_ref()
        .map_or(Epoch::NONE, |epoch| epoch.value.epoch)
}

fn dry_run(facts: &Facts<'_>) -> String {
    let to = facts.switchover.spec.to.as_ref();
    let to = to.map_or("the best candidate".to_owned(), IdcName::to_string);
    let from = holder(facts.state).map_or("nobody".to_owned(), IdcName::to_string);
    if facts.findings.is_empty() {
        format!(
            "Dry run: the writes of Unit {} would move from {from} to {to}.",
            facts.key
        )
    } else {
        format!("Dry run: would be refused. {}", facts.findings.join(" "))
    }
}

fn with_aim(facts: &Facts<'_>, old: &SwitchoverStatus) -> SwitchoverStatus {
    SwitchoverStatus {
        from: holder(facts.state).cloned(),
        to: facts.switchover.spec.to.clone(),
        expected_epoch: Some(epoch(facts.state).0),
        ..old.clone()
    }
}

fn ask(facts: &Facts<'_>, old: &SwitchoverStatus, now: Timestamp) -> Decision {
    let spec = &facts.switchover.spec;
    // What was expected at the first attempt is expected at every later one, so that a request
    // which was carried out while nobody looked is not carried out twice.
    let mut status = if old.start_time.is_some() {
        old.clone()
    } else {
        SwitchoverStatus {
            start_time: Some(whole_second(now)),
            ..with_aim(facts, old)
        }
    };
    status.phase = Some(SwitchoverPhase::Pending);
    status.message = Some("It is being asked of the arbiters.".to_owned());
    let intent = Intent {
        id: facts.switchover.uid().unwrap_or_default(),
        kind: match spec.kind {
            SwitchoverKind::Planned => IntentKind::Planned,
            SwitchoverKind::Forced => IntentKind::Forced,
        },
        to: spec.to.clone(),
        expected_primary: status.from.clone(),
        expected_epoch: Epoch(status.expected_epoch.unwrap_or_default()),
        allow_data_loss: spec.allow_data_loss,
        requested_at: now,
        phase: IntentPhase::Requested,
    };
    Decision::Ask {
        status,
        intent: Box::new(intent),
    }
}

/// The same request aimed at what etcd holds now, where it may be: a forced one that expects
/// nothing of the primary asks for the same whether the lost primary's lease has run out yet or
/// not. The epoch is compared all the same, so it cannot be carried out twice.
pub fn aimed_again(
    spec: &SwitchoverSpec,
    status: &SwitchoverStatus,
    state: &UnitState,
) -> Option<SwitchoverStatus> {
    let indifferent = spec.kind == SwitchoverKind::Forced
        && spec.expected_primary.is_none()
        && !spec.expect_no_primary;
    let primary = holder(state);
    let same_epoch = status.expected_epoch == Some(epoch(state).0);
    let moved = status.from.as_ref() != primary && primary != spec.to.as_ref();
    (indifferent && same_epoch && moved).then(|| SwitchoverStatus {
        from: primary.cloned(),
        ..status.clone()
    })
}

fn follow(facts: &Facts<'_>, old: &SwitchoverStatus, intent: &Intent, now: Timestamp) -> Decision {
    let under_way = |phase, message: String| {
        Decision::Report(SwitchoverStatus {
            phase: Some(phase),
            message: Some(message),
            ..old.clone()
        })
    };
    let to = intent
        .to
        .as_ref()
        .map_or("the best candidate".to_owned(), IdcName::to_string);
    let from = old
        .from
        .as_ref()
        .map_or("the old primary".to_owned(), IdcName::to_string);
    match &intent.phase {
        IntentPhase::Requested => under_way(
            SwitchoverPhase::Requested,
            format!("The arbiter of {to} checks its side."),
        ),
        IntentPhase::TargetReady { lag_millis } => under_way(
            SwitchoverPhase::TargetReady,
            format!("{to} is ready, {lag_millis} ms behind; {from} is about to be fenced."),
        ),
        IntentPhase::Fenced { .. } => under_way(
            SwitchoverPhase::Fenced,
            format!("{from} takes no more writes; {to} applies what is left."),
        ),
        IntentPhase::HandedOver { epoch, .. } => under_way(
            SwitchoverPhase::HandedOver,
            format!("{to} holds epoch {epoch} and is about to open."),
        ),
        IntentPhase::Done { epoch } => {
            let holder = facts
                .state
                .epoch
                .as_ref()
                .filter(|record| record.value.epoch == *epoch);
            let to = holder
                .map(|record| record.value.idc.clone())
                .or(intent.to.clone());
            let name = to
                .as_ref()
                .map_or("The target".to_owned(), IdcName::to_string);
            let message = format!("{name} takes the writes, epoch {epoch}.");
            let status = finish(old, SwitchoverPhase::Succeeded, message, now);
            Decision::Conclude {
                status: SwitchoverStatus {
                    to,
                    epoch: Some(epoch.0),
                    ..status
                },
                receipt: Some(*epoch),
            }
        }
        IntentPhase::Refused { reason } => Decision::Conclude {
            status: finish(old, SwitchoverPhase::Refused, reason.clone(), now),
            receipt: None,
        },
        IntentPhase::Cancelled { reason } => Decision::Conclude {
            status: finish(old, SwitchoverPhase::Cancelled, reason.clone(), now),
            receipt: None,
        },
    }
}

/// A final status.
pub fn finish(
    old: &SwitchoverStatus,
    phase: SwitchoverPhase,
    message: String,
    now: Timestamp,
) -> SwitchoverStatus {
    SwitchoverStatus {
        phase: Some(phase),
        message: Some(message),
        completion_time: Some(whole_second(now)),
        ..old.clone()
    }
}

fn whole_second(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests;
