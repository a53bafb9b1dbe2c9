//! What takes a change back. Pure.
//!
//! A transaction is taken back by the inverse of each of its changes, the last one first, each by
//! compare and set: the row must be as the change left it ([`Inverse::expected`]) and is made what
//! it was before ([`Inverse::wanted`]). After the last inverse each row is as it was before the
//! transaction, whatever rows the transaction touched how often: the state before change number i
//! is what its inverse leaves, and that is what the inverse of change i - 1 expects.

use change::{Row, RowChange};

/// What takes one change of a row back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inverse<'a> {
    /// What the change left; `None`: no row with the key of `wanted`.
    pub expected: Option<&'a Row>,
    /// What was there before; `None`: no row.
    pub wanted: Option<&'a Row>,
}

impl<'a> Inverse<'a> {
    pub(crate) fn of(change: &'a RowChange) -> Self {
        let (expected, wanted) = match change {
            RowChange::Insert { after } => (Some(after), None),
            RowChange::Update { before, after } => (Some(after), Some(before)),
            RowChange::Delete { before } => (None, Some(before)),
        };
        Self { expected, wanted }
    }

    /// As a change.
    pub(crate) fn change(&self) -> Option<RowChange> {
        match (self.expected, self.wanted) {
            (Some(before), None) => Some(RowChange::Delete {
                before: before.clone(),
            }),
            (Some(before), Some(after)) => Some(RowChange::Update {
                before: before.clone(),
                after: after.clone(),
            }),
            (None, Some(after)) => Some(RowChange::Insert {
                after: after.clone(),
            }),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use change::Value;
    use proptest::prelude::*;

    use super::*;

    /// A table by its key, the first column.
    type Table = BTreeMap<i64, Row>;

    fn key(row: &Row) -> i64 {
        match row[0] {
            Value::Int(id) => id,
            _ => panic!("no key"),
        }
    }

    fn row(id: i64, v: i64) -> Row {
        vec![Value::Int(id), Value::Int(v)]
    }

    fn apply(table: &mut Table, change: &RowChange) {
        match change {
            RowChange::Insert { after } => {
                assert!(table.insert(key(after), after.clone()).is_none());
            }
            RowChange::Update { before, after } => {
                assert_eq!(table.remove(&key(before)).as_ref(), Some(before));
                assert!(table.insert(key(after), after.clone()).is_none());
            }
            RowChange::Delete { before } => {
                assert_eq!(table.remove(&key(before)).as_ref(), Some(before));
            }
        }
    }

    /// A change that is possible with these rows.
    fn step(table: &Table, (id, other, v): (i64, i64, i64)) -> RowChange {
        match table.get(&id) {
            None => RowChange::Insert { after: row(id, v) },
            Some(held) if v % 3 == 0 => RowChange::Delete {
                before: held.clone(),
            },
            Some(held) => RowChange::Update {
                before: held.clone(),
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

    proptest! {
        #[test]
        fn the_inverses_newest_first_lead_back(
            steps in prop::collection::vec((0_i64..6, 0_i64..6, 0_i64..50), 0..60)
        ) {
            let mut states = vec![Table::new()];
            let mut changes = Vec::new();
            for numbers in steps {
                let mut next = states[states.len() - 1].clone();
                let change = step(&next, numbers);
                apply(&mut next, &change);
                changes.push(change);
                states.push(next);
            }
            let mut table = states[states.len() - 1].clone();
            for (index, change) in changes.iter().enumerate().rev() {
                let inverse = Inverse::of(change);
                // What the compare must find.
                let place = inverse.expected.or(inverse.wanted).map(key);
                prop_assert_eq!(table.get(&place.unwrap()), inverse.expected);
                apply(&mut table, &inverse.change().unwrap());
                prop_assert_eq!(&table, &states[index]);
            }
        }

        #[test]
        fn the_inverse_of_the_inverse_is_the_change(id in 0_i64..9, v in 0_i64..9, kind in 0..3) {
            let change = match kind {
                0 => RowChange::Insert { after: row(id, v) },
                1 => RowChange::Delete { before: row(id, v) },
                _ => RowChange::Update { before: row(id, v), after: row(v, id) },
            };
            let inverse = Inverse::of(&change).change().unwrap();
            prop_assert_eq!(Inverse::of(&inverse).change().unwrap(), change);
        }
    }
}
