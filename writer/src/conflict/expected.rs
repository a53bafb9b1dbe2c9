//! What the rows that a batch changes must be at the target before its first change. Pure.
//!
//! A change of a row that the batch has changed before expects what that change left, so only the
//! first change of each row tells something of the target: an insert that its key is free, an
//! update or a removal that its row is there as it was at the source.
//!
//! **Why the rows need not be told by their keys.** All rows at all these keys are read, and must be
//! the expected ones, no more and no fewer. That holds whichever keys the server takes for one
//! (`a` and `A` under most collations): if it calls a free key one with that of an expected row, it
//! answers with that row, which is expected. What differs makes the batch be gone through row by
//! row, where the server is asked for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use change::{Row, RowChange, TableChange, TableSchema, Value, encode_row};

use crate::target::table::Mapping;

/// Keys of one table, and the rows that must be there.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub table: Arc<TableSchema>,
    pub mapping: Arc<Mapping>,
    /// Keys that a change has been seen of, in canonical bytes.
    touched: BTreeSet<Vec<u8>>,
    /// Where to look: rows with the keys.
    pub places: Vec<&'a Row>,
    rows: BTreeMap<Vec<u8>, usize>,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(table: &Arc<TableSchema>, mapping: &Arc<Mapping>) -> Self {
        Self {
            table: Arc::clone(table),
            mapping: Arc::clone(mapping),
            touched: BTreeSet::new(),
            places: Vec::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Adds the next changes of the table. Those of a table that is being copied are put whatever
    /// is there, and expect nothing.
    pub(crate) fn add(&mut self, change: &'a TableChange) {
        for row in &change.rows {
            if let RowChange::Update { before, .. } | RowChange::Delete { before } = row
                && self.touch(before)
                && !change.lenient
            {
                self.places.push(before);
                *self.rows.entry(written(before, &self.mapping)).or_default() += 1;
            }
            if let Some(after) = row.after()
                && self.touch(after)
                && !change.lenient
            {
                self.places.push(after);
            }
        }
    }

    fn touch(&mut self, row: &Row) -> bool {
        self.touched.insert(key(row, &self.mapping))
    }

    /// Whether the rows that were found at all of the places are those that must be there.
    pub(crate) fn are(&self, found: &[Row]) -> bool {
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for row in found {
            *counts.entry(written(row, &self.mapping)).or_default() += 1;
        }
        counts == self.rows
    }
}

/// A row's key in canonical bytes.
pub(crate) fn key(row: &Row, mapping: &Mapping) -> Vec<u8> {
    let values: Vec<Value> = mapping
        .key
        .iter()
        .map(|column| row[column.index].clone())
        .collect();
    let mut bytes = Vec::new();
    encode_row(&values, &mut bytes);
    bytes
}

/// Whether a change changes its row's key, so that it concerns two places.
pub(crate) fn is_move(row: &RowChange, mapping: &Mapping) -> bool {
    match row {
        RowChange::Update { before, after } => key(before, mapping) != key(after, mapping),
        RowChange::Insert { .. } | RowChange::Delete { .. } => false,
    }
}

/// The canonical bytes of what is written of a row.
fn written(row: &Row, mapping: &Mapping) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_row(&only_written(row, mapping), &mut bytes);
    bytes
}

/// A row with `NULL` in the columns that the target computes by itself, but for those of its key:
/// they are not compared.
pub(crate) fn only_written(row: &Row, mapping: &Mapping) -> Row {
    let mut kept = vec![Value::Null; row.len()];
    for column in mapping.columns.iter().chain(&mapping.key) {
        kept[column.index] = row[column.index].clone();
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use change::{ColumnKind, RowFlags};
    use proptest::prelude::*;

    use super::*;
    use crate::target::table::map;
    use crate::target::table::tests::{source, target};

    type Table = BTreeMap<i64, i64>;

    fn row(id: i64, v: i64) -> Row {
        vec![Value::Int(id), Value::Int(v)]
    }

    /// A change that fits the table, and its effect.
    fn step(table: &mut Table, (id, other, v): (i64, i64, i64)) -> RowChange {
        match table.remove(&id) {
            None => {
                table.insert(id, v);
                RowChange::Insert { after: row(id, v) }
            }
            Some(old) if v % 4 == 0 => RowChange::Delete {
                before: row(id, old),
            },
            Some(old) => {
                let to = if table.contains_key(&other) {
                    id
                } else {
                    other
                };
                table.insert(to, v);
                RowChange::Update {
                    before: row(id, old),
                    after: row(to, v),
                }
            }
        }
    }

    fn table(rows: &[(i64, i64)]) -> Table {
        rows.iter().copied().collect()
    }

    proptest! {
        /// The rows are as expected exactly if, one by one, each change finds what it expects.
        #[test]
        fn the_first_changes_tell_for_all(
            start in prop::collection::vec((0_i64..5, 0_i64..3), 0..5),
            here in prop::collection::vec((0_i64..5, 0_i64..3), 0..5),
            steps in prop::collection::vec((0_i64..5, 0_i64..5, 0_i64..3), 1..8),
        ) {
            let mut there = table(&start);
            let rows: Vec<RowChange> = steps.into_iter().map(|it| step(&mut there, it)).collect();
            let schema = Arc::new(source(&[("id", ColumnKind::Int), ("v", ColumnKind::Int)]));
            let mapping = Arc::new(map(&schema, &target(&[("id", "int"), ("v", "int")])).unwrap());
            let change = TableChange {
                table: Arc::clone(&schema),
                lenient: false,
                flags: RowFlags::default(),
                rows: rows.clone(),
            };
            let mut expected = Expected::new(&schema, &mapping);
            expected.add(&change);
            let here = table(&here);
            let ids: BTreeSet<&Value> = expected.places.iter().map(|row| &row[0]).collect();
            let found: Vec<Row> = here
                .iter()
                .filter(|(id, _)| ids.contains(&Value::Int(**id)))
                .map(|(id, v)| row(*id, *v))
                .collect();
            let mut now = here.clone();
            let one_by_one = rows.iter().all(|change| fits(&mut now, change));
            prop_assert_eq!(expected.are(&found), one_by_one);
        }
    }

    /// Applies a change if it finds what it expects.
    fn fits(table: &mut Table, change: &RowChange) -> bool {
        let number = |row: &Row, at: usize| match row[at] {
            Value::Int(number) => number,
            _ => unreachable!("integers only"),
        };
        if let RowChange::Update { before, .. } | RowChange::Delete { before } = change
            && table.remove(&number(before, 0)) != Some(number(before, 1))
        {
            return false;
        }
        change
            .after()
            .is_none_or(|after| table.insert(number(after, 0), number(after, 1)).is_none())
    }

    #[test]
    fn rows_of_a_copy_expect_nothing() {
        let schema = Arc::new(source(&[("id", ColumnKind::Int), ("v", ColumnKind::Int)]));
        let mapping = Arc::new(map(&schema, &target(&[("id", "int"), ("v", "int")])).unwrap());
        let change = TableChange {
            table: Arc::clone(&schema),
            lenient: true,
            flags: RowFlags::default(),
            rows: vec![RowChange::Insert { after: row(1, 1) }],
        };
        let mut expected = Expected::new(&schema, &mapping);
        expected.add(&change);
        assert!(expected.places.is_empty());
    }
}
