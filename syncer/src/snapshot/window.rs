//! What happened in the stream between the two marks of a chunk.

use std::collections::HashSet;

use bytes::Bytes;
use change::{Row, RowChange, TableChange, TableSchema, Value, encode_key};

/// Where the stream is with regard to the marks of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    Between,
    Behind,
}

/// The marks of one chunk and the keys that were changed between them.
#[derive(Debug)]
pub struct Window {
    mark: u64,
    database: String,
    table: String,
    /// Names of the key's columns; empty: not known yet.
    key: Vec<String>,
    stage: Stage,
    changed: HashSet<Bytes>,
    /// The table itself was changed: what was selected may have another shape.
    spoilt: bool,
}

impl Window {
    /// A chunk of a table, marked with this number, and the table's key so far as it is known.
    pub fn new(mark: u64, database: &str, table: &str, key: Vec<String>) -> Self {
        Self {
            mark,
            database: database.to_owned(),
            table: table.to_owned(),
            key,
            stage: Stage::Before,
            changed: HashSet::new(),
            spoilt: false,
        }
    }

    /// A row of `multiactive.watermark` of this link: (low, high). Returns true at the chunk's
    /// high mark.
    pub fn mark(&mut self, low: u64, high: u64) -> bool {
        if low != self.mark {
            return false;
        }
        self.stage = if high == self.mark {
            Stage::Behind
        } else {
            Stage::Between
        };
        self.stage == Stage::Behind
    }

    /// Changes that the stream brought.
    pub fn see(&mut self, changes: &[TableChange]) {
        if self.stage != Stage::Between {
            return;
        }
        for change in changes {
            if change.table.database != self.database || change.table.table != self.table {
                continue;
            }
            let places = places(&change.table, &self.key).filter(|places| !places.is_empty());
            let Some(places) = places else {
                self.spoilt = true;
                continue;
            };
            for row in &change.rows {
                let (first, second) = match row {
                    RowChange::Insert { after: row } | RowChange::Delete { before: row } => {
                        (row, None)
                    }
                    RowChange::Update { before, after } => (before, Some(after)),
                };
                for row in [Some(first), second].into_iter().flatten() {
                    self.changed.insert(key_of(row, &places));
                }
            }
        }
    }

    /// A statement that touches the table was met, wherever: what is being selected may be of
    /// before or after it.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// The rows that the stream has not brought newer; `None` if the chunk has to be read again.
    pub fn left(self, table: &TableSchema, rows: Vec<Row>) -> Option<Vec<Row>> {
        if self.spoilt {
            return None;
        }
        if self.changed.is_empty() {
            return Some(rows);
        }
        // Keys were remembered by another key than the table has now.
        if places(table, &self.key)? != table.primary_key {
            return None;
        }
        let kept = |row: &Row| !self.changed.contains(&key_of(row, &table.primary_key));
        Some(rows.into_iter().filter(kept).collect())
    }
}

/// Where a table's columns of these names are.
fn places(table: &TableSchema, names: &[String]) -> Option<Vec<usize>> {
    let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
    names.iter().map(place).collect()
}

fn key_of(row: &Row, places: &[usize]) -> Bytes {
    let key: Vec<Value> = places
        .iter()
        .map(|&place| row.get(place).cloned().unwrap_or(Value::Null))
        .collect();
    encode_key(&key)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use change::{Column, ColumnKind, RowFlags};

    use super::*;

    fn table() -> TableSchema {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: ColumnKind::BigInt,
            unsigned: false,
            nullable: false,
            collation: 0,
            length: 0,
            decimals: 0,
            members: vec![],
        };
        TableSchema {
            database: "d".into(),
            table: "t".into(),
            columns: vec![column("note"), column("id")],
            primary_key: vec![1],
        }
    }

    fn row(id: i64) -> Row {
        vec![Value::Int(0), Value::Int(id)]
    }

    fn change(rows: Vec<RowChange>) -> Vec<TableChange> {
        let (table, flags) = (Arc::new(table()), RowFlags::default());
        vec![TableChange {
            table,
            lenient: true,
            flags,
            rows,
        }]
    }

    fn left(window: Window) -> Option<Vec<i64>> {
        let rows = window.left(&table(), (1..=6).map(row).collect())?;
        let id = |row: &Row| match row[1] {
            Value::Int(id) => id,
            ref other => panic!("{other:?}"),
        };
        Some(rows.iter().map(id).collect())
    }

    fn window(key: &[&str]) -> Window {
        Window::new(7, "d", "t", key.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_what_changed_between_the_marks_is_dropped() {
        let mut window = window(&["id"]);
        window.see(&change(vec![RowChange::Insert { after: row(1) }]));
        assert!(!window.mark(6, 6), "another chunk's mark");
        assert!(!window.mark(7, 0));
        window.see(&change(vec![RowChange::Delete { before: row(2) }]));
        window.see(&change(vec![RowChange::Update {
            before: row(3),
            after: row(4),
        }]));
        assert!(window.mark(7, 7));
        window.see(&change(vec![RowChange::Insert { after: row(5) }]));
        assert_eq!(left(window), Some(vec![1, 5, 6]));
    }

    #[test]
    fn what_cannot_be_told_apart_is_read_again() {
        for key in [&["other"][..], &[], &["note"]] {
            let mut window = window(key);
            window.mark(7, 0);
            window.see(&change(vec![RowChange::Insert { after: row(1) }]));
            window.mark(7, 7);
            assert_eq!(left(window), None, "key {key:?}");
        }
        let mut spoilt = window(&["id"]);
        spoilt.spoil();
        assert_eq!(left(spoilt), None);
    }

    #[test]
    fn an_unknown_key_does_not_matter_while_nothing_changes() {
        assert_eq!(left(window(&[])).map(|rows| rows.len()), Some(6));
    }
}
