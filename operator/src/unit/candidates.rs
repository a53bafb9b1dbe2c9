//! Who can take over, and whether somebody would: the condition `FailoverReady`.

use crds::{Automation, Verdict};
use model::{FailoverStatus, IdcName, UnitState};
use topology::Room;

use super::report::Facts;

/// A member that might take over, and why it may not.
pub struct Candidate {
    /// Its IDC.
    pub idc: IdcName,
    /// Why it may not; `None` where it may.
    pub reason: Option<String>,
}

impl Candidate {
    /// In words.
    pub fn describe(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} {reason}", self.idc),
            None => format!("{} is ready", self.idc),
        }
    }
}

/// Every member that does not hold the primary.
pub fn candidates(facts: &Facts<'_>, state: &UnitState) -> Vec<Candidate> {
    let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
    let limit = facts.unit.spec.failover.max_lag;
    let members = facts
        .unit
        .spec
        .members
        .iter()
        .filter(|member| Some(&member.idc) != holder);
    members
        .map(|member| {
            let record = state.members.get(&member.idc).map(|record| &record.value);
            let said = facts.member_now(&member.idc);
            let lag = said.and_then(|said| said.lag_millis);
            let from = state.epoch.as_ref().map(|epoch| &epoch.value.idc);
            let reason = match record {
                None => Some("has no arbiter with a session".to_owned()),
                Some(record) if !record.reachable => {
                    Some("is out of its arbiter's reach".to_owned())
                }
                Some(record) if !record.preflight_passed => {
                    Some("has not passed preflight".to_owned())
                }
                Some(_) if holder.is_some() && lag.is_some_and(|lag| lag > limit.as_millis()) => {
                    Some(format!("is further behind than failover.maxLag ({limit})"))
                }
                Some(_)
                    if said.is_some()
                        && lag.is_none()
                        && from.is_some_and(|from| *from != member.idc) =>
                {
                    Some("has received nothing of the last primary yet".to_owned())
                }
                Some(_) => None,
            };
            Candidate {
                idc: member.idc.clone(),
                reason,
            }
        })
        .collect()
}

/// Who holds the automation: the spec, or an order in etcd beside it.
fn held(facts: &Facts<'_>, state: &UnitState) -> Option<String> {
    if facts.unit.spec.paused {
        return Some("spec.paused is true: `mactl resume` ends that.".to_owned());
    }
    let order = &state.pause_order.as_ref()?.value;
    Some(format!(
        "Automation is held {order}. `mactl resume` ends that."
    ))
}

/// The condition `FailoverReady`.
pub fn failover_ready(facts: &Facts<'_>) -> Verdict {
    const FAILOVER: &str = "FailoverReady";
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(FAILOVER, "EtcdUnreachable", trouble.clone());
    }
    let Some(state) = facts.state().filter(|state| state.unit.is_some()) else {
        return Verdict::no(FAILOVER, "NotPublished", "The Unit is not in force yet.");
    };
    if facts.view.room == Some(Room::None) {
        let advice = Room::None.advice().unwrap_or_default();
        return Verdict::no(FAILOVER, "EtcdFull", advice);
    }
    let word = arbiters_word(facts, state);
    // Arbiters that do not trust etcd refuse people's requests, too.
    if let Some(word) = word.filter(|word| word.doubts_etcd()) {
        return Verdict::no(FAILOVER, &word.reason, format!("{}.", word.message));
    }
    let candidates = candidates(facts, state);
    let told: Vec<String> = candidates.iter().map(Candidate::describe).collect();
    let told = told.join("; ");
    if let Some(held) = held(facts, state) {
        return Verdict::no(FAILOVER, "Paused", held);
    }
    if candidates
        .iter()
        .all(|candidate| candidate.reason.is_some())
    {
        return Verdict::no(
            FAILOVER,
            "NoCandidate",
            format!("No member can take over: {told}."),
        );
    }
    let by_hand = format!(
        "`mactl failover {} --to IDC -n {}` moves it by hand",
        facts.key.name(),
        facts.key.namespace()
    );
    let policy = &facts.unit.spec.failover;
    let said = format!("{by_hand}: {told}.");
    if policy.mode == Automation::Manual {
        let failback = match policy.failback {
            Automation::Manual => "",
            Automation::Automatic => {
                " spec.failover.failback is Automatic, which has no effect with mode Manual."
            }
        };
        return Verdict::yes(FAILOVER, "Manual", format!("{said}{failback}"));
    }
    let failsafe = failsafe(facts, state);
    match word {
        Some(word) if word.ready => Verdict::yes(FAILOVER, "Ready", format!("{told}.{failsafe}")),
        Some(word) => Verdict::no(
            FAILOVER,
            &word.reason,
            format!("{}. Meanwhile {said}{failsafe}", word.message),
        ),
        None if facts.agreed.is_some() => Verdict::unknown(
            FAILOVER,
            "ToldElsewhere",
            format!("The clusters of the members tell whether it fails over by itself. {said}"),
        ),
        None => Verdict::unknown(
            FAILOVER,
            "NoArbiter",
            format!("No arbiter of a member answers. {said}"),
        ),
    }
}

/// Where failsafe is asked for and cannot work.
fn failsafe(facts: &Facts<'_>, state: &UnitState) -> String {
    if !facts.unit.spec.failover.failsafe {
        return String::new();
    }
    let mute: Vec<&str> = facts
        .unit
        .spec
        .members
        .iter()
        .filter(|member| {
            let session = state.sessions.get(&member.idc);
            session.is_some_and(|session| session.value.promises_at.is_empty())
        })
        .map(|member| member.idc.as_str())
        .collect();
    if let Some(ended) = facts.certificates.transport.as_ref().filter(|it| it.over) {
        return format!(
            " spec.failover.failsafe is true, but promises are not to be had, since the certificate \
             for them has ended: with etcd out of reach, the primary is fenced when its lease ends. {}",
            ended.message
        );
    }
    if mute.is_empty() {
        return String::new();
    }
    format!(
        " spec.failover.failsafe is true, but arbiters of {} cannot be asked for promises (started \
         without --serve and --tls): with etcd out of reach, the primary is fenced when its lease \
         ends.",
        mute.join(", ")
    )
}

/// What an arbiter says of automatic failover: the holder's, or else another member's; but whoever
/// says that etcd went back is heard first.
fn arbiters_word<'a>(facts: &'a Facts<'a>, state: &UnitState) -> Option<&'a FailoverStatus> {
    let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
    let members = facts.unit.spec.members.iter().map(|member| &member.idc);
    let words = holder
        .into_iter()
        .chain(members)
        .filter_map(|idc| facts.fresh_member(idc));
    let words = words.map(|member| &member.failover);
    FailoverStatus::weightiest(words.chain(&facts.doubts))
}
