//! What a failover left behind.

use model::UnitKey;
use mysql::stranded::FiledChange;

use writer::{Outcome, Replayed};

use super::table::Table;
use crate::commands::{Listed, ReplayReport};

/// Long statements and lists of tables are cut here, but for `-o wide`.
const SHORT: usize = 60;

/// The list for people.
pub fn list(unit: &UnitKey, listed: &[Listed], wide: bool) -> String {
    if listed.is_empty() {
        return format!("Nothing of Unit {unit} is set aside.\n");
    }
    let mut table = Table::with_heading(&[
        "GTID",
        "FROM",
        "HELD IN",
        "EPOCH",
        "COMMITTED",
        "CHANGES",
        "WHAT",
        "STATE",
    ]);
    for Listed { held_in, filed } in listed {
        table.row([
            filed.gtid.clone(),
            filed.source.clone(),
            held_in.to_string(),
            format!("{}, ended by {}", filed.epoch, filed.ended_by),
            filed.committed.clone(),
            filed.changes.to_string(),
            shorten(&filed.what, wide),
            filed.state.clone(),
        ]);
    }
    table.text()
}

pub(super) fn shorten(text: &str, wide: bool) -> String {
    match text.char_indices().nth(SHORT) {
        Some((at, _)) if !wide => format!("{}...", &text[..at]),
        _ => text.to_owned(),
    }
}

/// One transaction for people: each change with its columns, those that changed with both values.
pub fn show(changes: &[FiledChange]) -> String {
    let mut text = String::new();
    for change in changes {
        match change {
            FiledChange::Statement {
                database,
                statement,
            } => text.push_str(&format!("statement in {database}:\n  {statement}\n")),
            FiledChange::Row {
                table,
                verb,
                before,
                after,
            } => {
                text.push_str(&format!("{verb} {table}\n"));
                for line in columns(before.as_deref(), after.as_deref()) {
                    text.push_str(&format!("  {line}\n"));
                }
            }
        }
    }
    text
}

/// A replay or its rehearsal for people: a line for each transaction, and below it what is for a
/// person.
pub fn replayed(report: &ReplayReport) -> String {
    let mut table = Table::with_heading(&[
        "GTID",
        "FROM",
        "APPLIED",
        "ALREADY THERE",
        "HELD",
        "OUTCOME",
    ]);
    let mut below = String::new();
    for tried in &report.transactions {
        let Replayed {
            outcome,
            applied,
            already_there,
            held,
            rows,
        } = &tried.replayed;
        let outcome = match (outcome, report.rehearsed) {
            (Outcome::Replayed, true) => "would be replayed",
            (Outcome::Replayed, false) => "replayed",
            (Outcome::ReplayedBefore, _) => "replayed before",
            (Outcome::Held, true) => "would stay held",
            (Outcome::Held, false) => "held",
        };
        table.row([
            tried.gtid.clone(),
            tried.source.clone(),
            applied.to_string(),
            already_there.to_string(),
            held.to_string(),
            outcome.to_owned(),
        ]);
        for row in rows {
            let kind = serde_json::to_value(row.kind).ok();
            let kind = kind
                .as_ref()
                .and_then(|kind| kind.as_str())
                .unwrap_or("held");
            below.push_str(&format!(
                "{}: {kind} {} {}: {}\n",
                tried.gtid, row.table, row.key, row.detail
            ));
        }
        let told = rows.len() as u64;
        if *held > told {
            below.push_str(&format!("{}: and {} more\n", tried.gtid, held - told));
        }
    }
    let heading = if report.rehearsed {
        format!("Unit {}, rehearsed on {}:\n", report.unit, report.primary)
    } else {
        format!("Unit {}, on {}:\n", report.unit, report.primary)
    };
    let gap = if below.is_empty() { "" } else { "\n" };
    format!("{heading}{}{gap}{below}", table.text())
}

type Image = [(String, String)];

pub(super) fn columns(before: Option<&Image>, after: Option<&Image>) -> Vec<String> {
    let some = after.or(before).unwrap_or_default();
    let both = before.zip(after);
    let line = |(index, (name, value)): (usize, &(String, String))| {
        let old = both.and_then(|(before, _)| before.get(index));
        match old.filter(|(_, old)| old != value) {
            Some((_, old)) => format!("{name}: {old} → {value}"),
            None => format!("{name}: {value}"),
        }
    };
    some.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_what_it_changed() {
        let image = |v: &str| Some(vec![("id".into(), "1".into()), ("v".into(), v.into())]);
        let changes = [
            FiledChange::Row {
                table: "orders.t".into(),
                verb: "update",
                before: image("2"),
                after: image("3"),
            },
            FiledChange::Row {
                table: "orders.t".into(),
                verb: "delete",
                before: image("3"),
                after: None,
            },
            FiledChange::Statement {
                database: "orders".into(),
                statement: "TRUNCATE t".into(),
            },
        ];
        assert_eq!(
            show(&changes),
            "update orders.t\n  id: 1\n  v: 2 → 3\ndelete orders.t\n  id: 1\n  v: 3\n\
             statement in orders:\n  TRUNCATE t\n"
        );
    }
}
