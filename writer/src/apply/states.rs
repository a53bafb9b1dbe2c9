//! The rows that a transaction touches, as they are in its end. Pure.
//!
//! **Why the rows come out right.** The target has what that member wrote up to P, and nothing after
//! it. A transaction of the source's holds what the member wrote between two positions L and R, all of
//! it, as the source applied it. Where L = P it could be applied like any other. Where L < P < R the
//! target has a part of it, and it is not told which; but every row that it touches is as it was at P,
//! and every other row is the same at P and at R. So the rows that it touches are *put* as they are at
//! R, whatever they are now: all of them are removed and those that are there at R are inserted, which
//! no unique key stands against, as what is there at R are rows of one state. (What is done in the
//! order of the changes could meet a value that a later row has already.) Which rows are there at R:
//! those that a change left and that no later one begins with, by their keys. That the
//! transaction touches every row that the member changed between L and R is seen to where it is made
//! ([`crate::sql::merge`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use change::{Row, RowChange, RowFlags, TableChange, TableSchema, Value, encode_key};

/// What a transaction does to one table.
struct Touched<'a> {
    table: &'a Arc<TableSchema>,
    /// The images that it begins with or goes through.
    gone: Vec<&'a Row>,
    /// Those that it leaves, by their keys.
    there: BTreeMap<Bytes, &'a Row>,
    /// Where the key's columns are in a row.
    key: Vec<usize>,
}

impl<'a> Touched<'a> {
    fn take(&mut self, row: &'a RowChange) {
        let before = match row {
            RowChange::Insert { .. } => None,
            RowChange::Update { before, .. } | RowChange::Delete { before } => Some(before),
        };
        if let Some(before) = before {
            self.there.remove(&self.key_of(before));
            self.gone.push(before);
        }
        if let Some(after) = row.after() {
            self.there.insert(self.key_of(after), after);
        }
    }

    fn key_of(&self, row: &Row) -> Bytes {
        let key: Vec<Value> = self.key.iter().map(|index| row[*index].clone()).collect();
        encode_key(&key)
    }

    /// All go before the first comes. Lenient, so that rows are put whatever is there.
    fn state(self) -> TableChange {
        let gone = self.gone.iter().chain(self.there.values());
        let gone = gone.map(|row| RowChange::Delete {
            before: (*row).clone(),
        });
        let there = self.there.values().map(|row| RowChange::Insert {
            after: (*row).clone(),
        });
        TableChange {
            table: Arc::clone(self.table),
            lenient: true,
            flags: RowFlags::default(),
            rows: gone.chain(there).collect(),
        }
    }
}

/// All rows that these changes touch as they are in the end, for each table; with each change the
/// places of the key's columns in its rows.
pub(super) fn states(changes: &[(&TableChange, Vec<usize>)]) -> Vec<TableChange> {
    let mut tables: Vec<Touched<'_>> = Vec::new();
    for (change, key) in changes {
        let known = tables.iter().position(|it| *it.table == change.table);
        let index = known.unwrap_or_else(|| {
            tables.push(Touched {
                table: &change.table,
                gone: Vec::new(),
                there: BTreeMap::new(),
                key: key.clone(),
            });
            tables.len() - 1
        });
        for row in &change.rows {
            tables[index].take(row);
        }
    }
    tables.into_iter().map(Touched::state).collect()
}

#[cfg(test)]
mod tests {
    use change::{Column, ColumnKind};
    use proptest::prelude::*;

    use super::*;

    type Table = BTreeMap<i64, (i64, i64)>;

    /// What a member does to a row: its key, a value, and one that no two rows share.
    #[derive(Debug, Clone)]
    enum Step {
        Put(i64, i64, i64),
        Move(i64, i64),
        Remove(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..5_i64, 0..3_i64, 0..5_i64).prop_map(|(key, v, u)| Step::Put(key, v, u)),
            1 => (0..5_i64, 0..5_i64).prop_map(|(key, to)| Step::Move(key, to)),
            1 => (0..5_i64).prop_map(Step::Remove),
        ]
    }

    fn image(key: i64, (v, u): (i64, i64)) -> Row {
        vec![Value::Int(key), Value::Int(v), Value::Int(u)]
    }

    /// Does it if the keys allow it, and says what a binlog would.
    fn change(table: &mut Table, step: &Step) -> Option<RowChange> {
        let free = |table: &Table, u: i64, but: i64| {
            table.iter().all(|(key, row)| *key == but || row.1 != u)
        };
        match *step {
            Step::Put(key, v, u) if free(table, u, key) => {
                let after = image(key, (v, u));
                Some(match table.insert(key, (v, u)) {
                    Some(before) => RowChange::Update {
                        before: image(key, before),
                        after,
                    },
                    None => RowChange::Insert { after },
                })
            }
            Step::Move(key, to) if table.contains_key(&key) && !table.contains_key(&to) => {
                let row = table.remove(&key)?;
                table.insert(to, row);
                Some(RowChange::Update {
                    before: image(key, row),
                    after: image(to, row),
                })
            }
            Step::Remove(key) => table.remove(&key).map(|row| RowChange::Delete {
                before: image(key, row),
            }),
            _ => None,
        }
    }

    fn number(value: &Value) -> i64 {
        match value {
            Value::Int(number) => *number,
            other => panic!("{other:?}"),
        }
    }

    /// As the target does lenient changes: what is there of a key goes, and then the row comes, in
    /// the order of the changes.
    fn put(table: &mut Table, changes: &[TableChange]) {
        for row in changes.iter().flat_map(|change| &change.rows) {
            let (RowChange::Insert { after: image } | RowChange::Delete { before: image }) = row
            else {
                panic!("{row:?}");
            };
            table.remove(&number(&image[0]));
            if row.after().is_some() {
                let (v, u) = (number(&image[1]), number(&image[2]));
                assert!(table.values().all(|it| it.1 != u), "a clash at {u}");
                table.insert(number(&image[0]), (v, u));
            }
        }
    }

    fn schema() -> Arc<TableSchema> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: ColumnKind::BigInt,
            unsigned: false,
            nullable: false,
            collation: 0,
            length: 0,
            decimals: 0,
            members: Vec::new(),
        };
        Arc::new(TableSchema {
            database: "d".to_owned(),
            table: "t".to_owned(),
            columns: ["k", "v", "u"].map(column).to_vec(),
            primary_key: vec![0],
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Wherever the target is within the transaction, it ends where the source does.
        #[test]
        fn rows_are_as_they_are_in_the_end(
            before in prop::collection::vec(step(), 0..8),
            within in prop::collection::vec(step(), 1..12),
        ) {
            let mut table = Table::new();
            for step in &before {
                change(&mut table, step);
            }
            let mut moments = vec![table.clone()];
            let mut rows = Vec::new();
            for step in &within {
                rows.extend(change(&mut table, step));
                moments.push(table.clone());
            }
            let change = TableChange {
                table: schema(),
                lenient: false,
                flags: RowFlags::default(),
                rows,
            };
            let states = states(&[(&change, vec![0])]);
            for mut target in moments {
                put(&mut target, &states);
                prop_assert_eq!(&target, &table);
            }
        }
    }
}
