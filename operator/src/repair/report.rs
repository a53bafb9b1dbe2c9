//! What a `DataRepair`'s status says: pure functions of what was observed.

use crds::{
    DataRepair, DataRepairPhase, DataRepairStatus, LinkRepair, RepairCounts, RepairMode,
    RepairedTable, Verdict,
};
use model::{RepairPhase, RepairReport, RepairStatus};

use crate::cluster::Notice;
use crate::http::StatusError;

/// A status has room for so many tables of a link.
const MOST_TABLES: usize = 100;

/// Takes in the last word of a link's worker.
pub fn heard(link: &mut LinkRepair, run: &str, word: Option<&Result<RepairStatus, StatusError>>) {
    let said = match word {
        None => return,
        Some(Err(error)) => {
            link.message = format!("What compares it does not answer: {error}.");
            return;
        }
        // A pod of an earlier run, which is being replaced.
        Some(Ok(said)) if said.run != run || said.link.name() != link.link => return,
        Some(Ok(said)) => said,
    };
    link.phase = phase(said.phase);
    link.message.clone_from(&said.message);
    link.remaining = said
        .remaining_seconds
        .filter(|_| !said.phase.is_over())
        .map(crds::Duration::from_secs);
    // One that has just begun, or does not come to anything, has not read yet how far it was.
    if !said.report.tables.is_empty() {
        link.counts = counts(&said.report);
        link.tables = tables(&said.report);
        link.statements.clone_from(&said.report.statements);
    }
}

fn phase(phase: RepairPhase) -> DataRepairPhase {
    match phase {
        RepairPhase::Pending => DataRepairPhase::Pending,
        RepairPhase::Running => DataRepairPhase::Running,
        RepairPhase::Paused => DataRepairPhase::Paused,
        RepairPhase::Done => DataRepairPhase::Done,
        RepairPhase::Incomplete => DataRepairPhase::Incomplete,
        RepairPhase::Stopped => DataRepairPhase::Stopped,
        RepairPhase::Refused => DataRepairPhase::Refused,
    }
}

fn counts(report: &RepairReport) -> RepairCounts {
    let total = report.total();
    let count = |which: fn(&model::TableReport) -> bool| {
        report.tables.values().filter(|table| which(table)).count() as u64
    };
    RepairCounts {
        tables: report.tables.len() as u64,
        tables_done: count(|table| table.done),
        tables_refused: count(|table| !table.refused.is_empty()),
        tables_missing: count(|table| table.table_missing),
        rows_estimate: report.rows_estimate,
        rows: report.rows,
        divergent: total.missing + total.extra + total.differing,
        missing: total.missing,
        extra: total.extra,
        differing: total.differing,
        repaired: total.repaired,
        failed: total.failed,
        unjudged: total.unjudged,
        undone: total.undone,
    }
}

fn tables(report: &RepairReport) -> Vec<RepairedTable> {
    let tables = report.tables.iter().map(|(name, table)| RepairedTable {
        table: name.clone(),
        refused: table.refused.clone(),
        table_missing: table.table_missing,
        rows: table.rows,
        missing: table.missing,
        extra: table.extra,
        differing: table.differing,
        repaired: table.repaired,
        failed: table.failed,
        unjudged: table.unjudged,
        undone: table.undone,
    });
    let speaks = |table: &RepairedTable| {
        let rows = table.missing + table.extra + table.differing + table.unjudged + table.undone;
        !table.refused.is_empty() || table.table_missing || rows > 0
    };
    tables.filter(speaks).take(MOST_TABLES).collect()
}

fn add(one: RepairCounts, other: &RepairCounts) -> RepairCounts {
    RepairCounts {
        tables: one.tables + other.tables,
        tables_done: one.tables_done + other.tables_done,
        tables_refused: one.tables_refused + other.tables_refused,
        tables_missing: one.tables_missing + other.tables_missing,
        rows_estimate: one.rows_estimate + other.rows_estimate,
        rows: one.rows + other.rows,
        divergent: one.divergent + other.divergent,
        missing: one.missing + other.missing,
        extra: one.extra + other.extra,
        differing: one.differing + other.differing,
        repaired: one.repaired + other.repaired,
        failed: one.failed + other.failed,
        unjudged: one.unjudged + other.unjudged,
        undone: one.undone + other.undone,
    }
}

/// The status with what the links have come to.
pub fn summed(
    repair: &DataRepair,
    old: &DataRepairStatus,
    links: Vec<LinkRepair>,
    odd: Option<String>,
) -> DataRepairStatus {
    let counts = links
        .iter()
        .fold(RepairCounts::default(), |sum, link| add(sum, &link.counts));
    let phase = whole(&links);
    let message = match odd {
        Some(odd) if !phase.is_over() => odd,
        _ => message(repair, &links, phase, &counts),
    };
    DataRepairStatus {
        phase: Some(phase),
        message: Some(message),
        progress: progress(phase, &counts),
        remaining: links.iter().filter_map(|link| link.remaining).max(),
        counts: Some(counts),
        links,
        ..old.clone()
    }
}

/// The phase of the whole: while one link goes on it does, and of ends the worst counts.
fn whole(links: &[LinkRepair]) -> DataRepairPhase {
    use DataRepairPhase::{Done, Incomplete, Paused, Pending, Refused, Running, Stopped};
    let has = |phase| links.iter().any(|link| link.phase == phase);
    let first = [Running, Paused, Pending, Refused, Stopped, Incomplete];
    let open = links.iter().any(|link| !link.phase.is_over());
    match first.into_iter().find(|phase| has(*phase)) {
        Some(phase) if phase.is_over() == open => Running,
        Some(phase) => phase,
        None => Done,
    }
}

fn progress(phase: DataRepairPhase, counts: &RepairCounts) -> Option<String> {
    if phase == DataRepairPhase::Done {
        return Some("100%".to_owned());
    }
    let part = (counts.rows.saturating_mul(100)).checked_div(counts.rows_estimate)?;
    // The estimate is the server's: a table may have more rows than that.
    Some(format!("{}%", part.min(99)))
}

/// Rows that differ and are not mended, and tables that the copy lacks.
pub fn left(counts: &RepairCounts) -> u64 {
    counts.rows_left() + counts.tables_missing
}

/// Whether something differs at all.
fn differs(counts: &RepairCounts) -> bool {
    counts.divergent > 0 || counts.tables_missing > 0
}

fn message(
    repair: &DataRepair,
    links: &[LinkRepair],
    phase: DataRepairPhase,
    counts: &RepairCounts,
) -> String {
    let mut sentences = Vec::new();
    if repair.spec.mode == RepairMode::Undo {
        if phase.is_over() {
            sentences.push(format!(
                "{} rows were given back their values.",
                counts.undone
            ));
        }
    } else if repair.spec.mode == RepairMode::Rebuild {
        if phase.is_over() {
            sentences.push(format!(
                "{} of {} tables copied anew, {} rows.",
                counts.tables_done, counts.tables, counts.rows
            ));
        }
    } else if phase.is_over() || differs(counts) {
        sentences.push(format!(
            "{} rows of {} tables compared: {}.",
            counts.rows,
            counts.tables - counts.tables_refused - counts.tables_missing,
            found(counts)
        ));
    }
    for link in links.iter().filter(|link| !link.message.is_empty()) {
        let end = if link.message.ends_with('.') { "" } else { "." };
        sentences.push(format!("{}: {}{end}", link.link, link.message));
    }
    sentences.join(" ")
}

fn found(counts: &RepairCounts) -> String {
    if !differs(counts) {
        return "nothing differs".to_owned();
    }
    let mut text = match counts.divergent {
        0 => "no row differs".to_owned(),
        _ => format!(
            "{} rows differ ({} missing, {} extra, {} with other values)",
            counts.divergent, counts.missing, counts.extra, counts.differing
        ),
    };
    for (number, what) in [
        (counts.repaired, "repaired"),
        (counts.failed, "could not be repaired"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    match counts.tables_missing {
        0 => {}
        1 => text.push_str("; 1 table is not in its copy: rebuild it"),
        tables => text.push_str(&format!(
            "; {tables} tables are not in their copies: rebuild them"
        )),
    }
    text
}

/// The conditions.
pub fn verdicts(repair: &DataRepair, status: &DataRepairStatus) -> Vec<Verdict> {
    let phase = status.phase.unwrap_or(DataRepairPhase::Pending);
    let message = status.message.clone().unwrap_or_default();
    let counts = status.counts.unwrap_or_default();
    let left = left(&counts);
    let undo = repair.spec.mode == RepairMode::Undo;
    let rebuild = repair.spec.mode == RepairMode::Rebuild;
    let reason = format!("{phase:?}");
    let ready = match phase {
        DataRepairPhase::Done if undo || left == 0 => {
            Verdict::yes("Ready", reason.clone(), message.clone())
        }
        DataRepairPhase::Done => Verdict::no("Ready", "DivergenceFound", message.clone()),
        _ => Verdict::no("Ready", reason.clone(), message.clone()),
    };
    let progressing = match phase {
        DataRepairPhase::Running => Verdict::yes("Progressing", reason, ""),
        _ => Verdict::no("Progressing", reason, ""),
    };
    let compared = format!("{} rows compared: {}.", counts.rows, found(&counts));
    let diverged = if undo {
        Verdict::unknown("Diverged", "NotCompared", "An undo compares nothing.")
    } else if rebuild {
        Verdict::unknown("Diverged", "NotCompared", "A rebuild compares nothing.")
    } else if left > 0 {
        Verdict::yes("Diverged", "DivergenceFound", compared)
    } else if phase == DataRepairPhase::Done {
        let reason = if counts.repaired > 0 {
            "Repaired"
        } else {
            "Equal"
        };
        Verdict::no("Diverged", reason, compared)
    } else {
        Verdict::unknown("Diverged", "NotCompared", "")
    };
    // Figures that move all the time would write conditions all the time; the counts have them.
    let figures = |mut verdict: Verdict| {
        if !phase.is_over() {
            verdict.message = String::new();
        }
        verdict
    };
    vec![ready, progressing, figures(diverged)]
}

/// Whether a new status is worth a write: words at once, figures when their time has come.
pub fn worth_writing(old: &DataRepairStatus, new: &DataRepairStatus, figures_due: bool) -> bool {
    let words = |status: &DataRepairStatus| {
        let mut plain = status.clone();
        (plain.progress, plain.remaining) = (None, None);
        plain.counts = plain.counts.map(words_of);
        for link in &mut plain.links {
            (link.remaining, link.counts) = (None, words_of(link.counts));
            link.tables.clear();
            link.statements.clear();
        }
        // What it waits for is often told with figures.
        if plain.phase == Some(DataRepairPhase::Running) {
            plain.message = None;
            for link in &mut plain.links {
                link.message.clear();
            }
            for condition in &mut plain.conditions {
                condition.message.clear();
            }
        }
        plain
    };
    words(old) != words(new) || (figures_due && old != new)
}

/// Whether something was found at all.
fn words_of(counts: RepairCounts) -> RepairCounts {
    RepairCounts {
        divergent: counts.divergent.min(1),
        tables_missing: counts.tables_missing.min(1),
        ..RepairCounts::default()
    }
}

/// What is worth an Event.
pub fn notices(old: &DataRepairStatus, new: &DataRepairStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let message = new.message.clone().unwrap_or_default();
    let another = old.run != new.run || old.start_time != new.start_time;
    let refused = new.phase == Some(DataRepairPhase::Refused);
    if another && new.start_time.is_some() && !new.links.is_empty() {
        let links: Vec<&str> = new.links.iter().map(|link| link.link.as_str()).collect();
        let run = new.run.clone().unwrap_or_default();
        notices.push(Notice {
            warning: false,
            reason: "Started".to_owned(),
            note: format!("Run {run} compares {}.", links.join(", ")),
        });
    }
    let found = |status: &DataRepairStatus| status.counts.is_some_and(|counts| differs(&counts));
    if found(new) && (another || !found(old)) {
        let counts = new.counts.unwrap_or_default();
        notices.push(Notice {
            warning: true,
            reason: "DivergenceFound".to_owned(),
            note: format!("So far: {}.", self::found(&counts)),
        });
    }
    let over = |status: &DataRepairStatus| status.completion_time.is_some();
    if over(new) && (another || !over(old)) {
        let clean = new.phase == Some(DataRepairPhase::Done)
            && new.counts.is_none_or(|counts| left(&counts) == 0);
        notices.push(Notice {
            warning: !clean,
            reason: if refused { "Refused" } else { "Finished" }.to_owned(),
            note: message,
        });
    }
    notices
}
