//! The conditions of a Unit. Each that is not as it should be says why, and what to do.

use crds::{UnitPhase, Verdict};
use model::{IdcName, UnitState};

use super::candidates::{Candidate, candidates, failover_ready};
use super::degraded::{STARTING, degraded, starting};
use super::preflight::preflight;
use super::report::{Facts, holder, phase, sentence, writable};
use super::routing::open_primary;
use super::validate::describe;

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
        UnitPhase::Paused => {
            let held = match &state.pause_order {
                Some(order) => format!("was held {}", order.value),
                None => "is held by spec.paused".to_owned(),
            };
            let words = format!(
                "Nobody takes the writes, and the automation {held}. `mactl resume` ends that; then \
                 `mactl failover` asks for a primary, if none comes by itself."
            );
            Verdict::no(READY, "Paused", words)
        }
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
        if let Some(said) = facts.fresh_member(&member.idc)
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
    if let Some(wait) = &facts.parting {
        return Verdict::yes(PROGRESSING, "Deleting", wait.clone());
    }
    let starting = starting(facts);
    if ready.status == Some(true) && !starting.is_empty() {
        Verdict::yes(PROGRESSING, STARTING, starting.join(" "))
    } else if ready.status == Some(true) {
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

/// Whether every member but the primary is known to refuse writes.
fn fenced(facts: &Facts<'_>) -> Verdict {
    const FENCED: &str = "Fenced";
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(FENCED, "EtcdUnreachable", trouble.clone());
    }
    let Some(state) = facts.state().filter(|state| state.unit.is_some()) else {
        return Verdict::unknown(FENCED, "NotPublished", "The Unit is not in force yet.");
    };
    let holder = holder(state);
    let others = || {
        let members = facts.unit.spec.members.iter();
        members
            .map(|member| &member.idc)
            .filter(|idc| Some(*idc) != holder)
    };
    let listed = |wanted: Option<bool>| {
        let found = others().filter(|idc| writable(facts, state, idc) == wanted);
        found.map(IdcName::as_str).collect::<Vec<_>>().join(", ")
    };
    let (unfenced, unseen) = (listed(Some(true)), listed(None));
    if !unfenced.is_empty() {
        let message = format!("Not fenced (read_only) when last seen: {unfenced}.");
        Verdict::no(FENCED, "NotFenced", message)
    } else if unseen.is_empty() {
        let message = "Every member but the primary refuses writes.";
        Verdict::yes(FENCED, "OthersFenced", message)
    } else {
        let message = format!("Not seen by its arbiter: {unseen}.");
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
    if let Some(verdict) = &facts.agreed {
        return verdict.clone();
    }
    let generation = facts.unit.metadata.generation.unwrap_or_default();
    if facts.parting.is_some() {
        // Being deleted counts as a change of the object, though not of its spec.
        return Verdict::yes(AGREED, "Deleting", "");
    }
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
