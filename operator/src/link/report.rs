//! What a SyncLink's status says: a pure function of what was observed.

use crds::{
    Duration, HaltedAtStatus, LedgerStatus, LinkPhase, PositionStatus, SnapshotStatus, SyncLink,
    SyncLinkStatus, Verdict, condition, merge_conditions,
};
use jiff::Timestamp;
use model::{Severity, SyncerStatus, WriterStatus};

use super::Sides;
use super::left::left;
use crate::cluster::Notice;
use crate::reports::Word;
use crate::transport::Expiry;
use crate::unit::{Problem, describe, lag_class, sentence};

/// The reason of a link that is not started before its members have passed preflight.
pub const WAITING: &str = "WaitingForPreflight";

/// What was observed.
pub struct Facts<'a> {
    /// The link.
    pub link: &'a SyncLink,
    /// What is wrong with the links' certificate.
    pub certificate: Option<Expiry>,
    /// What keeps it from being started.
    pub problems: &'a [Problem],
    /// What it waits for before it is started; empty once it is.
    pub waits: Vec<String>,
    /// What failed when it was brought to where it should be.
    pub failure: Option<String>,
    /// Whether syncer and writer were started.
    pub started: bool,
    /// Which ends run in this cluster.
    pub sides: Sides,
    /// The syncer's last word.
    pub syncer: Word<SyncerStatus>,
    /// The writer's last word.
    pub writer: Word<WriterStatus>,
    /// Changes applied a second, about.
    pub rate: Option<f64>,
}

impl Facts<'_> {
    pub(super) fn said(&self) -> Option<&WriterStatus> {
        match &self.writer {
            Some(Ok(status)) if self.started && !self.link.spec.suspended => Some(status),
            _ => None,
        }
    }
}

/// The status.
pub fn status(facts: &Facts<'_>, now: Timestamp) -> SyncLinkStatus {
    let old = facts.link.status.clone().unwrap_or_default();
    let generation = facts.link.metadata.generation;
    let verdicts = verdicts(facts);
    let conditions = merge_conditions(&old.conditions, &verdicts, generation, now);
    // Where the writer runs in another cluster, that one's object has the figures.
    let phase = facts.sides.writer.then(|| phase(facts));
    let Some(said) = facts.said() else {
        // The figures of a writer that does not answer are still the last that are known.
        return SyncLinkStatus {
            observed_generation: generation,
            phase,
            lag: None,
            rate: None,
            // What it was halted at when it was last heard need not be what it is halted at now.
            halted_at: None,
            conditions,
            ..old
        };
    };
    SyncLinkStatus {
        observed_generation: generation,
        phase,
        snapshot: Some(SnapshotStatus {
            tables: said.snapshot.tables,
            done: said.snapshot.done,
            rows: said.snapshot.rows,
        }),
        position: Some(PositionStatus {
            source: said.received.as_ref().map(ToString::to_string),
            applied: said.applied.as_ref().map(ToString::to_string),
        }),
        // That of the last change before an interruption says nothing of now.
        lag: said
            .lag_millis
            .filter(|_| phase != Some(LinkPhase::Interrupted))
            .map(Duration::from_millis),
        rate: facts.rate.map(|rate| format!("{rate:.0}/s")),
        ledger: Some(LedgerStatus {
            read: said.ledger.read,
            applied: said.ledger.applied,
            filtered: said.ledger.filtered,
            conflicts: said.ledger.conflicts,
            stranded: said.ledger.stranded,
            held: said.ledger.held,
            in_flight: said.ledger.in_flight,
        }),
        halted_at: said.halted_at.as_ref().map(|at| HaltedAtStatus {
            gtid: at.gtid.clone(),
            skippable: at.skippable,
        }),
        // A writer that has just been started has not counted yet.
        conflicts_held: said.conflicts_held.or(old.conflicts_held),
        skipped_open: said.skipped_open.or(old.skipped_open),
        conditions,
    }
}

fn phase(facts: &Facts<'_>) -> LinkPhase {
    if facts.link.spec.suspended {
        return LinkPhase::Suspended;
    }
    facts
        .said()
        .map_or(LinkPhase::Pending, |said| match said.phase {
            model::LinkPhase::Snapshotting
            | model::LinkPhase::Streaming
            | model::LinkPhase::CatchingUp
                if !said.error.is_empty() =>
            {
                LinkPhase::Interrupted
            }
            model::LinkPhase::Pending => LinkPhase::Pending,
            model::LinkPhase::Snapshotting => LinkPhase::Snapshotting,
            model::LinkPhase::Streaming => LinkPhase::Streaming,
            model::LinkPhase::CatchingUp => LinkPhase::CatchingUp,
            model::LinkPhase::Halted => LinkPhase::Halted,
        })
}

fn verdicts(facts: &Facts<'_>) -> Vec<Verdict> {
    let ready = ready(facts);
    let progressing = match (&ready.status, phase(facts)) {
        (Some(true), _) => Verdict::no("Progressing", "Settled", ""),
        (_, LinkPhase::Halted | LinkPhase::Suspended) => {
            Verdict::no("Progressing", ready.reason.clone(), "Waits for a person.")
        }
        _ if !facts.problems.is_empty() => {
            Verdict::no("Progressing", ready.reason.clone(), "Waits for a change.")
        }
        _ => Verdict::yes("Progressing", ready.reason.clone(), ready.message.clone()),
    };
    let degraded = degraded(facts, &ready);
    let preflight = match facts.problems.first() {
        Some(first) => Verdict::no("PreflightPassed", first.reason, describe(facts.problems)),
        None if facts.started && facts.link.spec.unit.is_none() => found(facts),
        None if facts.started => Verdict::yes("PreflightPassed", "Passed", ""),
        None if facts.waits.is_empty() => Verdict::unknown("PreflightPassed", "Waiting", ""),
        None => Verdict::unknown("PreflightPassed", "Waiting", facts.waits.join(" ")),
    };
    vec![ready, progressing, degraded, preflight]
}

/// What syncer and writer of a link without a Unit have found on their servers.
fn found(facts: &Facts<'_>) -> Verdict {
    const PREFLIGHT: &str = "PreflightPassed";
    let by_syncer = match &facts.syncer {
        Some(Ok(said)) => said.findings.as_ref(),
        _ => None,
    };
    let by_writer = match &facts.writer {
        Some(Ok(said)) => said.findings.as_ref(),
        _ => None,
    };
    let all = || by_syncer.into_iter().chain(by_writer).flatten();
    let blocking = Severity::Blocking.words(all());
    let looked = (by_syncer.is_some() || !facts.sides.syncer)
        && (by_writer.is_some() || !facts.sides.writer);
    if !blocking.is_empty() {
        Verdict::no(PREFLIGHT, "PreflightFailed", blocking)
    } else if !looked {
        let message = "Syncer and writer have not looked at their servers yet.";
        Verdict::unknown(PREFLIGHT, "Waiting", message)
    } else if all().next().is_none() {
        Verdict::yes(PREFLIGHT, "Passed", "")
    } else {
        Verdict::yes(
            PREFLIGHT,
            "PassedWithWarnings",
            Severity::Warning.words(all()),
        )
    }
}

/// A link goes on with a certificate that has ended, until it has to connect anew.
fn degraded(facts: &Facts<'_>, ready: &Verdict) -> Verdict {
    let own = match phase(facts) {
        _ if !facts.sides.writer => (ready.status == Some(false)).then(|| ready.message.clone()),
        LinkPhase::Halted | LinkPhase::CatchingUp | LinkPhase::Interrupted => {
            Some(trouble(facts, ready))
        }
        _ if facts.started && facts.said().is_none() && !facts.link.spec.suspended => {
            Some(ready.message.clone())
        }
        _ => None,
    };
    let left = left(facts);
    let texts = |first: Option<String>| {
        let left = left.iter().map(|(_, text)| text.clone());
        let texts: Vec<String> = first.into_iter().chain(left).collect();
        texts.join(" ")
    };
    match (own, &facts.certificate, left.first()) {
        (own, Some(ends), _) => {
            let own = own.map_or_else(String::new, |own| format!(" {own}"));
            let message = texts(Some(format!("{}{own}", ends.message)));
            Verdict::yes("Degraded", ends.reason, message)
        }
        (Some(own), None, None) => Verdict::yes("Degraded", ready.reason.clone(), own),
        (Some(own), None, Some(_)) => {
            let message = texts(Some(sentence(&own)));
            Verdict::yes("Degraded", ready.reason.clone(), message)
        }
        (None, None, Some((reason, _))) => Verdict::yes("Degraded", *reason, texts(None)),
        (None, None, None) => Verdict::no("Degraded", "AllWell", ""),
    }
}

fn trouble(facts: &Facts<'_>, ready: &Verdict) -> String {
    let error = facts
        .said()
        .map(|said| said.error.clone())
        .unwrap_or_default();
    if error.is_empty() {
        ready.message.clone()
    } else {
        error
    }
}

fn ready(facts: &Facts<'_>) -> Verdict {
    const READY: &str = "Ready";
    if let Some(first) = facts.problems.first() {
        return Verdict::no(READY, first.reason, describe(facts.problems));
    }
    if let Some(failure) = &facts.failure {
        return Verdict::no(READY, "ApplyFailed", failure.clone());
    }
    if facts.link.spec.suspended {
        let message = "spec.suspended is true. The checkpoint stays in the target.";
        return Verdict::no(READY, "Suspended", message);
    }
    if !facts.sides.writer {
        return elsewhere(facts);
    }
    if !facts.started {
        return Verdict::no(READY, WAITING, facts.waits.join(" "));
    }
    match &facts.writer {
        None => Verdict::no(READY, "Starting", "Syncer and writer are being started."),
        Some(Err(error)) => Verdict::no(READY, "WriterSilent", format!("The writer: {error}.")),
        Some(Ok(said)) => running(facts, said),
    }
}

/// Of a link whose writer runs in another cluster only its syncer can be told of, if that runs here.
fn elsewhere(facts: &Facts<'_>) -> Verdict {
    const READY: &str = "Ready";
    let target = facts.sides.target.as_ref();
    let target = target.map_or("its target", model::IdcName::as_str);
    let told = format!(
        "The writer runs in the cluster of {target}, where this object's status tells how far it is."
    );
    if !facts.sides.syncer {
        return Verdict::yes(READY, "Elsewhere", told);
    }
    if !facts.started {
        return Verdict::no(READY, WAITING, facts.waits.join(" "));
    }
    match &facts.syncer {
        Some(Ok(said)) if said.error.is_empty() => Verdict::yes(READY, "Serving", told),
        Some(Ok(said)) => Verdict::no(READY, "SyncerTrouble", said.error.clone()),
        Some(Err(error)) => Verdict::no(READY, "SyncerSilent", format!("The syncer: {error}.")),
        None => Verdict::no(READY, "Starting", "The syncer is being started."),
    }
}

fn running(facts: &Facts<'_>, said: &WriterStatus) -> Verdict {
    const READY: &str = "Ready";
    let with_syncer = |text: String| match &facts.syncer {
        Some(Ok(syncer)) if !syncer.error.is_empty() => {
            format!("{text} The syncer: {}", syncer.error)
        }
        Some(Err(error)) => format!("{text} The syncer: {error}."),
        _ => text,
    };
    match said.phase {
        model::LinkPhase::Streaming if said.error.is_empty() => {
            Verdict::yes(READY, "Streaming", "")
        }
        model::LinkPhase::CatchingUp if said.error.is_empty() => Verdict::yes(
            READY,
            "CatchingUp",
            "The link follows, from further behind than 10 s.",
        ),
        model::LinkPhase::Halted => Verdict::no(READY, "Halted", said.error.clone()),
        model::LinkPhase::Snapshotting if said.error.is_empty() => Verdict::no(
            READY,
            "Snapshotting",
            format!(
                "{} of {} tables are copied.",
                said.snapshot.done, said.snapshot.tables
            ),
        ),
        _ if said.error.is_empty() => Verdict::no(
            READY,
            "Starting",
            with_syncer("The writer has not begun.".to_owned()),
        ),
        _ => Verdict::no(READY, "Interrupted", with_syncer(said.error.clone())),
    }
}

/// Whether a new status is worth a write: whatever is more than a figure at once, figures beyond
/// a tolerance when their time has come, positions never by themselves.
pub fn worth_writing(old: &SyncLinkStatus, new: &SyncLinkStatus, figures_due: bool) -> bool {
    let words = |status: &SyncLinkStatus| {
        let ledger = status.ledger.clone().unwrap_or_default();
        let snapshot = status.snapshot.clone().unwrap_or_default();
        let aside = (
            (ledger.conflicts, ledger.stranded, ledger.held),
            (status.conflicts_held, status.skipped_open),
        );
        (
            status.observed_generation,
            status.phase,
            status.conditions.clone(),
            status.halted_at.clone(),
            aside,
            (snapshot.tables, snapshot.done),
        )
    };
    if words(old) != words(new) || old.ledger.is_some() != new.ledger.is_some() {
        return true;
    }
    let (before, after) = (
        old.ledger.clone().unwrap_or_default(),
        new.ledger.clone().unwrap_or_default(),
    );
    let rows = |status: &SyncLinkStatus| status.snapshot.clone().unwrap_or_default().rows;
    figures_due
        && (lag_class(old.lag) != lag_class(new.lag)
            || old.rate.is_some() != new.rate.is_some()
            || moved(rate(old), rate(new))
            || moved(before.read, after.read)
            || moved(before.applied, after.applied)
            || moved(before.filtered, after.filtered)
            || moved(rows(old), rows(new)))
}

fn rate(status: &SyncLinkStatus) -> u64 {
    let text = status.rate.as_deref().unwrap_or_default();
    text.trim_end_matches("/s").parse().unwrap_or_default()
}

/// Whether a count has moved by more than a fifth and by more than a hundred: an idle link's
/// heartbeats are below that for minutes.
fn moved(before: u64, after: u64) -> bool {
    let difference = before.abs_diff(after);
    difference > 100 && difference > before / 5
}

/// What is worth an Event.
pub fn notices(old: &SyncLinkStatus, new: &SyncLinkStatus) -> Vec<Notice> {
    let Some(ready) = condition(&new.conditions, "Ready") else {
        return Vec::new();
    };
    let before = condition(&old.conditions, "Ready");
    if before.is_some_and(|before| before.reason == ready.reason) {
        return Vec::new();
    }
    let quiet = matches!(
        ready.reason.as_str(),
        "Starting" | "WaitingForPreflight" | "Suspended" | "Snapshotting" | "WriterSilent"
    );
    vec![Notice {
        warning: ready.status != "True" && !quiet,
        reason: ready.reason.clone(),
        note: ready.message.clone(),
    }]
}

#[cfg(test)]
pub(super) mod tests {
    use model::{HaltedAt, Ledger, SnapshotProgress};

    use super::*;
    use crate::samples;

    pub(crate) fn writer(halted_at: Option<HaltedAt>) -> WriterStatus {
        WriterStatus {
            link: "shop/orders-sh-bj".parse().unwrap(),
            phase: model::LinkPhase::Halted,
            snapshot: SnapshotProgress::default(),
            received: None,
            applied: None,
            lag_millis: None,
            ledger: Ledger {
                read: 21,
                applied: 1,
                filtered: 2,
                conflicts: 3,
                stranded: 4,
                held: 5,
                in_flight: 6,
            },
            stranded: 1,
            conflicts_held: Some(0),
            skipped_open: Some(0),
            error: "conflict".to_owned(),
            halted_at,
            findings: None,
        }
    }

    pub(crate) fn told(link: &SyncLink, writer: Word<WriterStatus>) -> SyncLinkStatus {
        let facts = Facts {
            link,
            certificate: None,
            problems: &[],
            waits: Vec::new(),
            failure: None,
            started: true,
            sides: Sides {
                syncer: true,
                writer: true,
                target: Some(samples::idc_name("bj")),
            },
            syncer: None,
            writer,
            rate: None,
        };
        status(&facts, "2026-03-04T05:06:07Z".parse().unwrap())
    }

    #[test]
    fn the_ledger_keeps_every_kind_of_change() {
        let link = samples::link();
        let ledger = told(&link, Some(Ok(writer(None)))).ledger.unwrap();
        let LedgerStatus {
            read,
            applied,
            filtered,
            conflicts,
            stranded,
            held,
            in_flight,
        } = ledger;
        assert_eq!(
            [
                read, applied, filtered, conflicts, stranded, held, in_flight
            ],
            [21, 1, 2, 3, 4, 5, 6]
        );
    }

    #[test]
    fn what_a_link_is_halted_at_is_told_only_while_its_writer_says_so() {
        let at = |gtid: &str| HaltedAt {
            gtid: gtid.to_owned(),
            skippable: true,
        };
        let mut link = samples::link();
        let first = told(&link, Some(Ok(writer(Some(at("0-1-7"))))));
        assert_eq!(first.halted_at.as_ref().unwrap().gtid, "0-1-7");
        let other = told(&link, Some(Ok(writer(Some(at("0-1-8"))))));
        assert!(worth_writing(&first, &other, false));
        link.status = Some(first);
        let silent = told(&link, None);
        assert!(silent.halted_at.is_none() && silent.ledger.is_some());
        link.spec.suspended = true;
        let suspended = told(&link, Some(Ok(writer(Some(at("0-1-7"))))));
        assert!(suspended.halted_at.is_none());
    }
}
