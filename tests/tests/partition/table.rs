//! The results, for people and for machines.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use tests::history::Violation;
use tests::history::pause::percentile;

use crate::faults::Fault;
use crate::trial::Trial;

fn millis(trial: &Trial) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // Pauses are far below 2^52 ns.
    trial.pause.as_ref().map(|pause| pause.nanos as f64 / 1e6)
}

/// One line a trial, as soon as it has ended, with what repeats it.
pub fn line(number: u32, of: u32, trial: &Trial) -> String {
    let pause = millis(trial).map_or("-".to_owned(), |pause| format!("{pause:.0} ms"));
    let moved = trial.pause.as_ref().and_then(|it| it.moved_to.clone());
    let mut text = format!(
        "{number:>3}/{of} {} {} seed {}: {}, pause {pause}{}, {} transitions, {} acknowledged, {} \
         refused, {} unknown, {} stranded",
        trial.copies,
        trial.fault.name(),
        trial.seed,
        if trial.passed() { "passed" } else { "FAILED" },
        moved.map_or_else(String::new, |to| format!(" (to {to})")),
        trial.transitions,
        trial.acknowledged,
        trial.refused,
        trial.unknown,
        trial.stranded,
    );
    if !trial.notes.is_empty() {
        text.push_str(&format!("; {}", trial.notes.join(", ")));
    }
    if !trial.restarts.is_empty() {
        text.push_str(&format!("; restarted: {:?}", trial.restarts));
    }
    text.push_str(&format!(
        "\n        again: cargo xtask soak {}",
        trial.replay
    ));
    for violation in trial.violations.iter().take(SHOWN) {
        text.push_str(&format!("\n        {violation}"));
    }
    if trial.violations.len() > SHOWN {
        text.push_str(&format!(
            "\n        and {} more",
            trial.violations.len() - SHOWN
        ));
    }
    if let Some(stuck) = &trial.stuck {
        text.push_str(&format!(
            "\n        STUCK: {}",
            stuck.replace('\n', "\n        ")
        ));
    }
    text
}

const SHOWN: usize = 8;

/// The trials of one kind of fault.
struct Row<'a> {
    trials: Vec<&'a Trial>,
}

impl Row<'_> {
    fn count(&self, fits: impl Fn(&Violation) -> bool) -> usize {
        let all = self.trials.iter().flat_map(|trial| &trial.violations);
        all.filter(|violation| fits(violation)).count()
    }

    /// Pauses in milliseconds, the shortest first.
    fn pauses(&self) -> Vec<f64> {
        let mut pauses: Vec<f64> = self.trials.iter().filter_map(|it| millis(it)).collect();
        pauses.sort_by(f64::total_cmp);
        pauses
    }

    fn other(&self) -> usize {
        self.count(|it| !it.is_overlap() && !it.is_loss())
    }

    fn stuck(&self) -> usize {
        self.trials.iter().filter(|it| it.stuck.is_some()).count()
    }

    fn stranded(&self) -> usize {
        self.trials.iter().map(|it| it.stranded).sum()
    }
}

fn rows(trials: &[Trial]) -> BTreeMap<Fault, Row<'_>> {
    let mut rows: BTreeMap<Fault, Row<'_>> = BTreeMap::new();
    for trial in trials {
        let row = rows
            .entry(trial.fault)
            .or_insert_with(|| Row { trials: Vec::new() });
        row.trials.push(trial);
    }
    rows
}

/// The table.
pub fn table(trials: &[Trial]) -> String {
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
    let mut text = format!(
        "{:<30} {:>6} {:>7} {:>7} {:>7} {:>7} {:>5} {:>8} {:>6} {:>5}\n",
        "fault",
        "trials",
        "overlap",
        "p50 ms",
        "p99 ms",
        "max ms",
        "lost",
        "stranded",
        "other",
        "stuck"
    );
    for (fault, row) in rows(trials) {
        let pauses = row.pauses();
        text.push_str(&format!(
            "{:<30} {:>6} {:>7} {:>7} {:>7} {:>7} {:>5} {:>8} {:>6} {:>5}\n",
            fault.name(),
            row.trials.len(),
            row.count(Violation::is_overlap),
            shown(percentile(&pauses, 50)),
            shown(percentile(&pauses, 99)),
            shown(pauses.last().copied()),
            row.count(Violation::is_loss),
            row.stranded(),
            row.other(),
            row.stuck(),
        ));
    }
    text
}

/// Writes the table and every trial as JSON.
pub fn write_json(path: &Path, trials: &[Trial]) -> Result<()> {
    let table: Vec<serde_json::Value> = rows(trials)
        .into_iter()
        .map(|(fault, row)| {
            let pauses = row.pauses();
            serde_json::json!({
                "fault": fault.name(),
                "trials": row.trials.len(),
                "overlap": row.count(Violation::is_overlap),
                "pauseMillis": {
                    "p50": percentile(&pauses, 50),
                    "p99": percentile(&pauses, 99),
                    "max": pauses.last(),
                },
                "lost": row.count(Violation::is_loss),
                "stranded": row.stranded(),
                "other": row.other(),
                "stuck": row.stuck(),
            })
        })
        .collect();
    let all: Vec<serde_json::Value> = trials
        .iter()
        .map(|trial| {
            serde_json::json!({
                "fault": trial.fault.name(),
                "engine": trial.copies,
                "seed": trial.seed,
                "pauseMillis": millis(trial),
                "movedTo": trial.pause.as_ref().and_then(|it| it.moved_to.clone()),
                "transitions": trial.transitions,
                "acknowledged": trial.acknowledged,
                "refused": trial.refused,
                "unknown": trial.unknown,
                "stranded": trial.stranded,
                "violations": trial.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "stuck": trial.stuck,
                "notes": trial.notes,
                "restarts": trial.restarts,
                "replay": format!("cargo xtask soak {}", trial.replay),
            })
        })
        .collect();
    let text = serde_json::to_string_pretty(&serde_json::json!({"faults": table, "trials": all}))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
