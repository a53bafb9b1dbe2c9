//! Rows that were in conflict.

use mysql::conflicts::Shown;
use mysql::stranded::FiledChange;

use super::stranded::{columns, shorten};
use super::table::Table;
use crate::commands::ListedConflict;

/// The list for people.
pub fn list(of: &str, listed: &[ListedConflict], settled: bool, wide: bool) -> String {
    if listed.is_empty() {
        let what = if settled {
            "is recorded"
        } else {
            "waits for a person"
        };
        return format!("No conflict of {of} {what}.\n");
    }
    let mut table = Table::with_heading(&[
        "CONFLICT", "KIND", "TABLE", "ROW", "FROM", "MET", "POLICY", "STATE",
    ]);
    for ListedConflict { id, conflict, .. } in listed {
        table.row([
            id.clone(),
            conflict.kind.clone(),
            conflict.table.clone(),
            shorten(&conflict.row, wide),
            conflict.source.clone(),
            conflict.at.clone(),
            conflict.policy.clone(),
            conflict.state.clone(),
        ]);
    }
    table.text()
}

/// One conflict for people: what the source did, and what was there.
pub fn show(id: &str, shown: &Shown) -> String {
    let Shown {
        conflict,
        change,
        found,
    } = shown;
    let mut text = format!(
        "{id}: {} in {} at {}\n  link {}, transaction {} of {}, met {}\n  policy {}, state {}",
        conflict.kind,
        conflict.table,
        conflict.row,
        conflict.link,
        conflict.gtid,
        conflict.source,
        conflict.at,
        conflict.policy,
        conflict.state
    );
    if !conflict.settled.is_empty() {
        text.push_str(&format!(
            ", settled {} by {}",
            conflict.settled, conflict.settled_by
        ));
    }
    text.push_str(&format!("\n  {}\n", conflict.detail));
    if let FiledChange::Row {
        verb,
        before,
        after,
        ..
    } = change
    {
        text.push_str(&format!("{verb} at the source\n"));
        for line in columns(before.as_deref(), after.as_deref()) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    match found {
        None => text.push_str("no row at the target\n"),
        Some(row) => {
            text.push_str("at the target\n");
            for line in columns(None, Some(row.as_slice())) {
                text.push_str(&format!("  {line}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use mysql::conflicts::Conflict;

    use super::*;

    fn conflict() -> Conflict {
        Conflict {
            number: 17,
            link: "shop/orders-sh-bj".into(),
            source: "sh".into(),
            gtid: "0-1-9".into(),
            table: "orders.t".into(),
            row: "id=1".into(),
            kind: "update_differs".into(),
            policy: "Hold".into(),
            state: "Held".into(),
            detail: "v: was 1, became 2, is 3".into(),
            at: "2026-01-02 03:04:05".into(),
            settled: String::new(),
            settled_by: String::new(),
        }
    }

    #[test]
    fn a_conflict_shows_both_sides() {
        let image = |v: &str| vec![("id".to_owned(), "1".to_owned()), ("v".into(), v.into())];
        let mut shown = Shown {
            conflict: conflict(),
            change: FiledChange::Row {
                table: "orders.t".into(),
                verb: "update",
                before: Some(image("1")),
                after: Some(image("2")),
            },
            found: Some(image("3")),
        };
        assert_eq!(
            show("bj/17", &shown),
            "bj/17: update_differs in orders.t at id=1\n  link shop/orders-sh-bj, transaction 0-1-9 \
             of sh, met 2026-01-02 03:04:05\n  policy Hold, state Held\n  v: was 1, became 2, is 3\n\
             update at the source\n  id: 1\n  v: 1 → 2\nat the target\n  id: 1\n  v: 3\n"
        );
        shown.found = None;
        assert!(show("bj/17", &shown).ends_with("no row at the target\n"));
    }

    #[test]
    fn a_list_names_each_as_it_is_typed() {
        let unit = "Unit shop/orders";
        let listed = [ListedConflict::new(
            &model::IdcName::new("bj").unwrap(),
            conflict(),
        )];
        let text = list(unit, &listed, false, false);
        assert!(text.contains("bj/17") && text.contains("id=1"), "{text}");
        let empty = list(unit, &[], false, false);
        assert_eq!(
            empty,
            "No conflict of Unit shop/orders waits for a person.\n"
        );
        let empty = list(unit, &[], true, false);
        assert_eq!(empty, "No conflict of Unit shop/orders is recorded.\n");
    }
}
