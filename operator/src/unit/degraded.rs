//! The condition `Degraded`: all that is not as it should be, while the Unit may well go on.

use crds::{LinkPhase, Verdict};
use model::{IdcName, UnitState};
use topology::Room;

use super::report::{Facts, LinkFacts, sentence};
use crate::link::WAITING;

/// The reason of a Unit whose links do not follow yet.
pub(super) const STARTING: &str = "LinksStarting";

/// Each link that is about to follow, in words.
pub(super) fn starting(facts: &Facts<'_>) -> Vec<String> {
    let links = facts.links.iter();
    links
        .filter_map(link_trouble)
        .filter(|(reason, _)| *reason == STARTING)
        .map(|(_, text)| text)
        .collect()
}

pub(super) fn degraded(facts: &Facts<'_>, preflight: &Verdict) -> Verdict {
    const DEGRADED: &str = "Degraded";
    let mut causes: Vec<(&str, String)> = Vec::new();
    if let Some(trouble) = &facts.view.trouble {
        causes.push(("EtcdUnreachable", trouble.clone()));
    }
    if let Some(advice) = facts.view.room.and_then(Room::advice) {
        causes.push(("EtcdNearlyFull", advice));
    }
    let troubles = facts.certificates.troubles();
    causes.extend(troubles.map(|trouble| (trouble.reason, trouble.message.clone())));
    if let Some(state) = facts.state().filter(|state| state.unit.is_some()) {
        for member in &facts.unit.spec.members {
            causes.extend(member_trouble(facts, state, &member.idc));
        }
        for member in &facts.unit.spec.members {
            causes.extend(stranded(facts, &member.idc));
            causes.extend(full(facts, &member.idc));
            causes.extend(crowded(facts, &member.idc));
            causes.extend(passes_read_only(facts, &member.idc));
            causes.extend(application(facts, &member.idc));
        }
        if preflight.status == Some(false) {
            causes.push(("PreflightFailed", preflight.message.clone()));
        }
        // Before preflight has passed, that is what links wait for, and it is told once.
        let troubles = facts.links.iter().filter_map(link_trouble);
        let begun = preflight.status == Some(true);
        causes.extend(troubles.filter(|(reason, _)| begun || *reason != STARTING));
        causes.extend(facts.links.iter().flat_map(link_left));
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

/// What a failover left behind: not taken back yet in this member, or set aside in it.
fn stranded(facts: &Facts<'_>, idc: &IdcName) -> Vec<(&'static str, String)> {
    let Some(said) = facts.member(idc) else {
        return Vec::new();
    };
    let mut causes = Vec::new();
    if said.stranded > 0 {
        causes.push((
            "NotInLine",
            format!(
                "{idc} holds {} of an ended epoch that no other member has. They are set aside \
                 elsewhere and being taken back in {idc}, which is not promoted before: see the \
                 link to it.",
                count(said.stranded)
            ),
        ));
    }
    if said.filed > 0 {
        causes.push((
            "Stranded",
            format!(
                "{} of an ended epoch are set aside in {idc} and wait for a person: mactl stranded \
                 list {} -n {}.",
                count(said.filed),
                facts.key.name(),
                facts.key.namespace()
            ),
        ));
    }
    causes
}

fn crowded(facts: &Facts<'_>, idc: &IdcName) -> Option<(&'static str, String)> {
    let most = facts.member(idc)?.crowded?;
    Some((
        "Crowded",
        format!(
            "Nearly all connections of the server of {idc} are in use (max_connections = {most}); \
             when they all are, applications are refused. Find who holds them (SHOW PROCESSLIST), or \
             raise it: SET GLOBAL max_connections = <more>; and the same in the server's \
             configuration."
        ),
    ))
}

/// The server has no room for what is written.
fn full(facts: &Facts<'_>, idc: &IdcName) -> Option<(&'static str, String)> {
    let why = &facts.member(idc)?.full;
    (!why.is_empty()).then(|| {
        (
            "DiskFull",
            format!(
                "The server of {idc} has no room left for writes ({why}); while it is the primary, \
                 that moves it as one that does not answer does. Make room on its data volume (old \
                 binlogs: SHOW BINARY LOGS; PURGE BINARY LOGS TO ...; not those that a link has yet \
                 to read), or enlarge it."
            ),
        )
    })
}

/// Whoever `read_only` does not stop: nothing can be written past a fence but by them.
fn passes_read_only(facts: &Facts<'_>, idc: &IdcName) -> Vec<(&'static str, String)> {
    const CHECK: &str = "PassesReadOnly";
    let findings = facts
        .member(idc)
        .into_iter()
        .flat_map(|said| &said.findings);
    findings
        .filter(|finding| finding.check == CHECK)
        .map(|finding| (CHECK, sentence(&finding.to_string())))
        .collect()
}

fn application(facts: &Facts<'_>, idc: &IdcName) -> Option<(&'static str, String)> {
    let why = &facts.member(idc)?.application;
    (!why.is_empty()).then(|| {
        (
            "ApplicationUnwell",
            format!(
                "The application is not well as seen from {idc}: {why}. That moves no primary; see \
                 spec.healthChecks.http."
            ),
        )
    })
}

fn count(number: u64) -> String {
    match number {
        1 => "1 transaction".to_owned(),
        _ => format!("{number} transactions"),
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
    if let Some(said) = facts
        .fresh_member(idc)
        .filter(|said| !said.message.is_empty())
    {
        text.push_str(&format!(" {}", sentence(&said.message)));
    }
    Some(("MemberUnreachable", text))
}

/// What keeps a link from following, or from following closely.
fn link_trouble(link: &LinkFacts) -> Option<(&'static str, String)> {
    let name = &link.name;
    let Some((ready, why, message)) = &link.ready else {
        let text = format!("SyncLink {name} is about to be started, and copies nothing yet.");
        return Some((STARTING, text));
    };
    let reason = match link.phase {
        Some(LinkPhase::Halted) => "LinkHalted",
        Some(LinkPhase::Suspended) => "LinkSuspended",
        Some(LinkPhase::CatchingUp) => "LinkCatchingUp",
        Some(LinkPhase::Interrupted) => "LinkInterrupted",
        // Of one without a phase the writer runs in another cluster, whose Unit tells of it.
        Some(LinkPhase::Streaming) | None if *ready => return None,
        Some(LinkPhase::Streaming) => "LinkNotReady",
        // While it comes up the way it should, only the phase is worth telling.
        phase if COMING_UP.contains(&why.as_str()) || (!link.begun && why == "WriterSilent") => {
            let phase = phase.map_or("Pending".to_owned(), |phase| format!("{phase:?}"));
            let text = format!("SyncLink {name} is {phase}: {}", sentence(message));
            return Some((STARTING, text));
        }
        _ => "LinkNotReady",
    };
    Some((reason, format!("SyncLink {name}: {}", sentence(message))))
}

/// What a link leaves to a person while it goes on.
fn link_left(link: &LinkFacts) -> impl Iterator<Item = (&'static str, String)> {
    let left = link.left.iter();
    left.map(|(reason, text)| (*reason, format!("SyncLink {}: {text}", link.name)))
}

/// Reasons of links that need nobody's help to follow.
const COMING_UP: [&str; 3] = [WAITING, "Starting", "Snapshotting"];
