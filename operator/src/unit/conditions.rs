//! The conditions of a Unit. Each that is not as it should be says why, and what to do.

use crds::{Automation, LinkPhase, UnitPhase, Verdict};
use model::{IdcName, UnitState};

use super::preflight::preflight;
use super::report::{Facts, LinkFacts, phase, sentence};
use super::routing::open_primary;
use super::validate::describe;
use crate::link::WAITING;

/// All conditions, in the order of the API.
pub fn verdicts(facts: &Facts<'_>) -> Vec<Verdict> {
    let preflight = preflight(facts);
    let ready = ready(facts, &preflight);
    let progressing = progressing(facts, &ready);
    vec![
        ready,
        progressing,
        degraded(facts, &preflight),
        failover_ready(facts),
        fenced(facts),
        topology_agreed(facts),
        preflight,
    ]
}

fn ready(facts: &Facts<'_>, preflight: &Verdict) -> Verdict {
    const READY: &str = "Ready";
    if let Some(first) = facts.problems.first() {
        let mut message = describe(facts.problems);
        if facts.state().is_some_and(|state| state.unit.is_some()) {
            message.push_str(" The last valid spec stays in force.");
        }
        return Verdict::no(READY, first.reason, message);
    }
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(READY, "EtcdUnreachable", trouble.clone());
    }
    if let Some(failure) = &facts.failure {
        return Verdict::no(READY, "ApplyFailed", failure.clone());
    }
    let Some(state) = facts.state() else {
        return Verdict::unknown(READY, "Starting", "etcd has not been read yet.");
    };
    match phase(facts, state) {
        UnitPhase::SwitchingOver => {
            Verdict::no(READY, "SwitchingOver", under_way(state).unwrap_or_default())
        }
        _ if open_primary(state).is_some() => Verdict::yes(READY, "PrimaryOpen", open(state)),
        _ if preflight.status != Some(true) => {
            Verdict::no(READY, preflight.reason.clone(), preflight.message.clone())
        }
        UnitPhase::Paused => Verdict::no(
            READY,
            "Paused",
            "Nobody takes the writes, and spec.paused holds the automation: set spec.paused to \
             false (`mactl resume`), or ask for a primary with `mactl failover`.",
        ),
        UnitPhase::NoPrimary => Verdict::no(READY, "NoPrimary", no_primary(facts, state)),
        UnitPhase::Electing | UnitPhase::Ready => {
            Verdict::no(READY, "Electing", electing(facts, state))
        }
    }
}

fn open(state: &UnitState) -> String {
    let epoch = state
        .epoch
        .as_ref()
        .map(|epoch| epoch.value.epoch)
        .unwrap_or_default();
    open_primary(state)
        .map(|idc| format!("{idc} takes the writes, epoch {epoch}."))
        .unwrap_or_default()
}

fn under_way(state: &UnitState) -> Option<String> {
    let intent = &state.intent.as_ref()?.value;
    if intent.phase.is_final() {
        return None;
    }
    let to = intent
        .to
        .as_ref()
        .map_or("whichever member is best".to_owned(), IdcName::to_string);
    Some(format!(
        "A move of the primary to {to} is under way (request {}).",
        intent.id
    ))
}

fn electing(facts: &Facts<'_>, state: &UnitState) -> String {
    let who = match (&state.primary, &state.epoch) {
        (Some(primary), _) => {
            format!(
                "{} holds epoch {} and is being opened.",
                primary.value.idc, primary.value.epoch
            )
        }
        (None, Some(epoch)) => format!(
            "{} held epoch {} last and may take it up again.",
            epoch.value.idc, epoch.value.epoch
        ),
        (None, None) => "The first primary is being chosen.".to_owned(),
    };
    with_words(who, facts)
}

fn no_primary(facts: &Facts<'_>, state: &UnitState) -> String {
    let last = state.epoch.as_ref().map_or_else(
        || "The Unit has had no primary yet.".to_owned(),
        |epoch| format!("Nobody takes the writes; {} did last.", epoch.value.idc),
    );
    let candidates = candidates(facts, state);
    let advice = candidates
        .iter()
        .find(|candidate| candidate.reason.is_none())
        .map_or_else(
            || {
                let reasons: Vec<String> = candidates.iter().map(Candidate::describe).collect();
                format!("No member can take over: {}.", reasons.join("; "))
            },
            |candidate| {
                format!(
                    "{} can take over: `mactl failover {} --to {} -n {}`.",
                    candidate.idc,
                    facts.key.name(),
                    candidate.idc,
                    facts.key.namespace()
                )
            },
        );
    with_words(format!("{last} {advice}"), facts)
}

/// Adds what the arbiters say they are doing.
fn with_words(mut text: String, facts: &Facts<'_>) -> String {
    for member in &facts.unit.spec.members {
        if let Some(said) = facts.member(&member.idc)
            && !said.message.is_empty()
        {
            text.push_str(&format!(" {}: {}", member.idc, sentence(&said.message)));
        }
    }
    text
}

fn progressing(facts: &Facts<'_>, ready: &Verdict) -> Verdict {
    const PROGRESSING: &str = "Progressing";
    let state = facts.state();
    let moving = state.is_some_and(|state| {
        matches!(
            phase(facts, state),
            UnitPhase::Electing | UnitPhase::SwitchingOver
        )
    });
    if ready.status == Some(true) {
        Verdict::no(PROGRESSING, "Settled", "")
    } else if !facts.problems.is_empty() || ready.reason == "PreflightFailed" {
        Verdict::no(
            PROGRESSING,
            ready.reason.clone(),
            "Waits for what the condition Ready names.",
        )
    } else if moving || facts.failure.is_some() {
        Verdict::yes(PROGRESSING, ready.reason.clone(), ready.message.clone())
    } else {
        Verdict::no(
            PROGRESSING,
            ready.reason.clone(),
            "Waits for what the condition Ready names.",
        )
    }
}

fn degraded(facts: &Facts<'_>, preflight: &Verdict) -> Verdict {
    const DEGRADED: &str = "Degraded";
    let mut causes: Vec<(&str, String)> = Vec::new();
    if let Some(trouble) = &facts.view.trouble {
        causes.push(("EtcdUnreachable", trouble.clone()));
    }
    if let Some(state) = facts.state().filter(|state| state.unit.is_some()) {
        for member in &facts.unit.spec.members {
            causes.extend(member_trouble(facts, state, &member.idc));
        }
        if preflight.status == Some(false) {
            causes.push(("PreflightFailed", preflight.message.clone()));
        }
        causes.extend(facts.links.iter().filter_map(link_trouble));
    }
    if let Some(check) = &facts.unit.spec.health_checks.replication {
        for member in &facts.unit.spec.members {
            let lag = facts.member(&member.idc).and_then(|said| said.lag_millis);
            if lag.is_some_and(|lag| lag > check.max_lag.as_millis()) {
                let limit = check.max_lag;
                causes.push((
                    "Lag",
                    format!(
                        "The copy in {} is older than spec.healthChecks.replication.maxLag \
                         ({limit}).",
                        member.idc
                    ),
                ));
            }
        }
    }
    for reason in &facts.unresolved {
        causes.push(("Unresolved", format!("Routing leaves out {reason}.")));
    }
    match causes.first() {
        None => Verdict::no(DEGRADED, "AllWell", ""),
        Some((reason, _)) => {
            let reason = (*reason).to_owned();
            let texts: Vec<String> = causes.into_iter().map(|(_, text)| text).collect();
            Verdict::yes(DEGRADED, reason, texts.join(" "))
        }
    }
}

fn member_trouble(
    facts: &Facts<'_>,
    state: &UnitState,
    idc: &IdcName,
) -> Option<(&'static str, String)> {
    if !state.sessions.contains_key(idc) {
        return Some((
            "NoArbiter",
            format!("The arbiter of {idc} has no session in etcd."),
        ));
    }
    let record = &state.members.get(idc)?.value;
    if record.reachable {
        return None;
    }
    let mut text = format!("The arbiter of {idc} does not reach its member.");
    if let Some(said) = facts.member(idc).filter(|said| !said.message.is_empty()) {
        text.push_str(&format!(" {}", sentence(&said.message)));
    }
    Some(("MemberUnreachable", text))
}

fn link_trouble(link: &LinkFacts) -> Option<(&'static str, String)> {
    let (ready, why, message) = link.ready.as_ref()?;
    let reason = match link.phase {
        Some(LinkPhase::Halted) => "LinkHalted",
        Some(LinkPhase::Suspended) => "LinkSuspended",
        Some(LinkPhase::CatchingUp) => "LinkCatchingUp",
        // What it waits for is the Unit's own preflight.
        _ if why == WAITING => return None,
        _ if !ready => "LinkNotReady",
        _ => return None,
    };
    Some((
        reason,
        format!("SyncLink {}: {}", link.name, sentence(message)),
    ))
}

/// A member that might take over, and why it may not.
struct Candidate {
    idc: IdcName,
    reason: Option<String>,
}

impl Candidate {
    fn describe(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} {reason}", self.idc),
            None => format!("{} is ready", self.idc),
        }
    }
}

/// Every member that does not hold the primary.
fn candidates(facts: &Facts<'_>, state: &UnitState) -> Vec<Candidate> {
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
            let lag = facts.member(&member.idc).and_then(|said| said.lag_millis);
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
                Some(_) => None,
            };
            Candidate {
                idc: member.idc.clone(),
                reason,
            }
        })
        .collect()
}

fn failover_ready(facts: &Facts<'_>) -> Verdict {
    const FAILOVER: &str = "FailoverReady";
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(FAILOVER, "EtcdUnreachable", trouble.clone());
    }
    let Some(state) = facts.state().filter(|state| state.unit.is_some()) else {
        return Verdict::no(FAILOVER, "NotPublished", "The Unit is not in force yet.");
    };
    let candidates = candidates(facts, state);
    let told: Vec<String> = candidates.iter().map(Candidate::describe).collect();
    let told = told.join("; ");
    if facts.unit.spec.paused {
        return Verdict::no(
            FAILOVER,
            "Paused",
            "spec.paused is true: `mactl resume` ends that.",
        );
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
    match facts.unit.spec.failover.mode {
        Automation::Manual => Verdict::yes(FAILOVER, "Manual", format!("{by_hand}: {told}.")),
        Automation::Automatic => Verdict::no(
            FAILOVER,
            "NotSupportedYet",
            format!(
                "spec.failover.mode is Automatic, but this version moves the primary only when \
                 asked: {by_hand} ({told})."
            ),
        ),
    }
}

/// Whether every member but the primary is known to refuse writes.
fn fenced(facts: &Facts<'_>) -> Verdict {
    const FENCED: &str = "Fenced";
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(FENCED, "EtcdUnreachable", trouble.clone());
    }
    let Some(state) = facts.state().filter(|state| state.unit.is_some()) else {
        return Verdict::unknown(FENCED, "NotPublished", "The Unit is not in force yet.");
    };
    let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
    let others = || {
        facts
            .unit
            .spec
            .members
            .iter()
            .filter(|member| Some(&member.idc) != holder)
    };
    let record = |idc: &IdcName| state.members.get(idc).map(|record| &record.value);
    let names = |found: Vec<&IdcName>| {
        found
            .into_iter()
            .map(IdcName::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let unfenced: Vec<_> = others()
        .map(|member| &member.idc)
        .filter(|idc| record(idc).is_some_and(|record| record.reachable && !record.fenced))
        .collect();
    if !unfenced.is_empty() {
        let message = format!(
            "Not fenced (read_only) when last seen: {}.",
            names(unfenced)
        );
        return Verdict::no(FENCED, "NotFenced", message);
    }
    let unseen: Vec<_> = others()
        .map(|member| &member.idc)
        .filter(|idc| !record(idc).is_some_and(|record| record.reachable))
        .collect();
    if unseen.is_empty() {
        Verdict::yes(
            FENCED,
            "OthersFenced",
            "Every member but the primary refuses writes.",
        )
    } else {
        let message = format!("Out of its arbiter's reach: {}.", names(unseen));
        Verdict::unknown(FENCED, "NotSeen", message)
    }
}

fn topology_agreed(facts: &Facts<'_>) -> Verdict {
    const AGREED: &str = "TopologyAgreed";
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(AGREED, "EtcdUnreachable", trouble.clone());
    }
    let Some(state) = facts.state() else {
        return Verdict::unknown(AGREED, "Starting", "etcd has not been read yet.");
    };
    let generation = facts.unit.metadata.generation.unwrap_or_default();
    match &state.unit {
        Some(document) if document.value.generation == generation => {
            Verdict::yes(AGREED, "Published", "")
        }
        Some(document) => Verdict::no(
            AGREED,
            facts
                .problems
                .first()
                .map_or("Publishing", |problem| problem.reason),
            format!(
                "The spec of generation {} is in force, not that of generation {generation}. {}",
                document.value.generation,
                describe(facts.problems)
            ),
        ),
        None => Verdict::no(
            AGREED,
            facts
                .problems
                .first()
                .map_or("Publishing", |problem| problem.reason),
            format!("Nothing is in force yet. {}", describe(facts.problems)),
        ),
    }
}
