//! What becomes of one change of a transaction that is replayed. Pure.
//!
//! A change says what its row was before and is after. It is applied only where the row is as it
//! was before, and counts as there already only where the row is as it is after; anything else is
//! for a person. So a transaction that is replayed as a whole leaves every row that it touched as it
//! left it where it was committed, and replaying it once more changes nothing that somebody did
//! since.

use change::{Row, RowChange};
use serde::Serialize;

/// Why a change is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The key of a new row is taken, by a row that differs: it may have been given out again.
    InsertExists,
    /// A changed row is not there.
    UpdateMissing,
    /// A changed row is neither as it was before nor as it is after.
    UpdateDiffers,
    /// A removed row is not as it was before.
    DeleteDiffers,
    /// Another row has the value of a unique key.
    UniqueClash,
    /// A foreign key forbids it.
    ForeignKey,
    /// It would change rows of other tables by a foreign key's cascade.
    Cascade,
    /// The table would not store a value as it is.
    ValueRefused,
    /// The table is not there, or has changed so that the row does not fit.
    TableUnfit,
    /// A statement: it can only be run by hand.
    Statement,
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is applied.
    Apply,
    /// The row is as the change leaves it.
    AlreadyThere,
    /// It is for a person.
    Held(Kind),
}

/// Where the rows of a change are looked for, and what is found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// At the key of the row before; `None`: no row.
    pub old: Option<&'a Row>,
    /// At the key of the row after.
    pub new: Option<&'a Row>,
}

/// Judges a change by what is at its two keys, of which an insert and a delete have one.
pub(crate) fn judge(change: &RowChange, found: Found<'_>) -> Verdict {
    match change {
        RowChange::Insert { after } => match found.new {
            None => Verdict::Apply,
            Some(row) if row == after => Verdict::AlreadyThere,
            Some(_) => Verdict::Held(Kind::InsertExists),
        },
        RowChange::Delete { before } => match found.old {
            None => Verdict::AlreadyThere,
            Some(row) if row == before => Verdict::Apply,
            Some(_) => Verdict::Held(Kind::DeleteDiffers),
        },
        RowChange::Update { before, after } => update(before, after, found),
    }
}

fn update(before: &Row, after: &Row, found: Found<'_>) -> Verdict {
    // The same row at both keys: they are one key to the server, even where its bytes differ, as
    // `a` and `A` do under most collations.
    let one_key = found.old == found.new;
    match (found.old, found.new) {
        (Some(row), _) if one_key && row == after => Verdict::AlreadyThere,
        (Some(row), _) if one_key && row == before => Verdict::Apply,
        (Some(_), _) if one_key => Verdict::Held(Kind::UpdateDiffers),
        (Some(row), None) if row == before => Verdict::Apply,
        (None, Some(row)) if row == after => Verdict::AlreadyThere,
        (None, _) => Verdict::Held(Kind::UpdateMissing),
        (Some(row), Some(_)) if row == before => Verdict::Held(Kind::InsertExists),
        (Some(_), _) => Verdict::Held(Kind::UpdateDiffers),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use change::Value;
    use proptest::prelude::*;

    use super::*;

    type Table = BTreeMap<i64, Row>;

    fn row(id: i64, v: i64) -> Row {
        vec![Value::Int(id), Value::Int(v)]
    }

    fn key(row: &Row) -> i64 {
        match row[0] {
            Value::Int(id) => id,
            _ => unreachable!("keys are integers here"),
        }
    }

    fn keys(change: &RowChange) -> Vec<i64> {
        match change {
            RowChange::Insert { after } => vec![key(after)],
            RowChange::Delete { before } => vec![key(before)],
            RowChange::Update { before, after } => vec![key(before), key(after)],
        }
    }

    fn apply(table: &mut Table, change: &RowChange) {
        if let RowChange::Update { before, .. } | RowChange::Delete { before } = change {
            table.remove(&key(before));
        }
        if let RowChange::Update { after, .. } | RowChange::Insert { after } = change {
            table.insert(key(after), after.clone());
        }
    }

    fn verdict(table: &Table, change: &RowChange) -> Verdict {
        let (old, new) = match change {
            RowChange::Insert { after } => (None, Some(after)),
            RowChange::Delete { before } => (Some(before), None),
            RowChange::Update { before, after } => (Some(before), Some(after)),
        };
        let at = |place: Option<&Row>| place.and_then(|row| table.get(&key(row)));
        judge(
            change,
            Found {
                old: at(old),
                new: at(new),
            },
        )
    }

    /// Replays a transaction; `None` if something of it is for a person.
    fn replay(table: &Table, changes: &[RowChange]) -> Option<Table> {
        let mut table = table.clone();
        for change in changes {
            match verdict(&table, change) {
                Verdict::Apply => apply(&mut table, change),
                Verdict::AlreadyThere => {}
                Verdict::Held(_) => return None,
            }
        }
        Some(table)
    }

    fn step(table: &Table, (id, other, v): (i64, i64, i64)) -> RowChange {
        match table.get(&id) {
            None => RowChange::Insert { after: row(id, v) },
            Some(before) if v % 4 == 0 => RowChange::Delete {
                before: before.clone(),
            },
            Some(before) => RowChange::Update {
                before: before.clone(),
                after: row(
                    if table.contains_key(&other) {
                        id
                    } else {
                        other
                    },
                    v,
                ),
            },
        }
    }

    fn table(rows: &[(i64, i64)]) -> Table {
        rows.iter().map(|(id, v)| (*id, row(*id, *v))).collect()
    }

    proptest! {
        /// Where nothing is for a person, every row that the transaction touched is what it made of
        /// it, and no other row has changed, whatever was there.
        #[test]
        fn a_replayed_transaction_leaves_its_rows_as_it_left_them(
            start in prop::collection::vec((0_i64..5, 0_i64..3), 0..5),
            here in prop::collection::vec((0_i64..5, 0_i64..3), 0..5),
            steps in prop::collection::vec((0_i64..5, 0_i64..5, 0_i64..3), 1..5),
        ) {
            let mut there = table(&start);
            let mut changes = Vec::new();
            for numbers in steps {
                let change = step(&there, numbers);
                apply(&mut there, &change);
                changes.push(change);
            }
            let here = table(&here);
            if let Some(result) = replay(&here, &changes) {
                let touched: Vec<i64> = changes.iter().flat_map(keys).collect();
                for id in 0..5 {
                    let wanted = if touched.contains(&id) { &there } else { &here };
                    prop_assert_eq!(result.get(&id), wanted.get(&id));
                }
            }
            // And where nobody has written since, nothing is for a person.
            prop_assert_eq!(replay(&table(&start), &changes), Some(there));
        }
    }

    #[test]
    fn what_somebody_else_wrote_is_left_for_a_person() {
        let held = |rows: &[(i64, i64)], change: &RowChange| match verdict(&table(rows), change) {
            Verdict::Held(kind) => Some(kind),
            _ => None,
        };
        let insert = RowChange::Insert { after: row(1, 10) };
        assert_eq!(held(&[(1, 11)], &insert), Some(Kind::InsertExists));
        assert_eq!(held(&[(1, 10)], &insert), None);
        let delete = RowChange::Delete { before: row(1, 10) };
        assert_eq!(held(&[(1, 11)], &delete), Some(Kind::DeleteDiffers));
        assert_eq!(held(&[], &delete), None);
        let update = RowChange::Update {
            before: row(1, 10),
            after: row(1, 20),
        };
        assert_eq!(held(&[], &update), Some(Kind::UpdateMissing));
        assert_eq!(held(&[(1, 15)], &update), Some(Kind::UpdateDiffers));
        let moved = RowChange::Update {
            before: row(1, 10),
            after: row(2, 10),
        };
        assert_eq!(held(&[(1, 10), (2, 9)], &moved), Some(Kind::InsertExists));
        assert_eq!(held(&[(1, 11), (2, 10)], &moved), Some(Kind::UpdateDiffers));
        assert_eq!(held(&[(2, 9)], &moved), Some(Kind::UpdateMissing));
        assert_eq!(held(&[(2, 10)], &moved), None);
    }

    #[test]
    fn one_row_at_two_spellings_of_a_key_is_one_row() {
        let text = |text: &str| vec![Value::Text(text.as_bytes().to_vec().into())];
        let change = RowChange::Update {
            before: text("a"),
            after: text("A"),
        };
        let judged = |there: &str| {
            let there = text(there);
            let found = Found {
                old: Some(&there),
                new: Some(&there),
            };
            judge(&change, found)
        };
        assert_eq!(judged("a"), Verdict::Apply);
        assert_eq!(judged("A"), Verdict::AlreadyThere);
        assert_eq!(judged("á"), Verdict::Held(Kind::UpdateDiffers));
    }
}
