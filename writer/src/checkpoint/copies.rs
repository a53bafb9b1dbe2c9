//! How far a link's copies are: the column `snapshot` of its row in `multiactive.applied`.

use std::collections::BTreeMap;

use change::{SnapshotBegin, SnapshotState};
use model::SnapshotProgress;
use serde::{Deserialize, Serialize};

use super::unreadable;
use crate::error::WriterError;

/// The column `snapshot`: how far each table's copy is. Empty before it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    /// Every table was copied.
    #[serde(default)]
    pub done: bool,
    /// By database and table.
    #[serde(default)]
    pub tables: BTreeMap<String, BTreeMap<String, TableCopy>>,
    /// The whole was copied before, and what is not done is copied anew ([`crate::rebuild`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// How far the copy of one table is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableCopy {
    /// Copied whole.
    #[serde(default)]
    pub done: bool,
    /// Rows copied.
    #[serde(default)]
    pub rows: u64,
    /// Where the next chunk begins, in hexadecimal; empty before the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cursor: String,
    /// How far it is with being copied anew; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anew: Option<Anew>,
}

/// How far a table is with being copied anew: see [`crate::rebuild`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Anew {
    /// Its rows are being removed, and its changes are left out.
    Emptying,
    /// It is not at the target, and is made with the first chunk of its copy. Its changes, and the
    /// statements about it, are left out.
    Missing,
    /// It was empty when its copy began.
    Copying,
}

impl Snapshot {
    /// Reads the column.
    pub(crate) fn parse(snapshot: Option<&str>) -> Result<Self, WriterError> {
        match snapshot {
            Some(text) => serde_json::from_str(text).map_err(unreadable),
            None => Ok(Self::default()),
        }
    }

    /// What the syncer is told of a table.
    pub(crate) fn state(&self, database: &str, table: &str) -> SnapshotState {
        match self
            .tables
            .get(database)
            .and_then(|tables| tables.get(table))
        {
            None => SnapshotState::None,
            // Its copy does not begin before it is empty, or not there.
            Some(copy) if copy.anew == Some(Anew::Emptying) => SnapshotState::None,
            Some(copy) if copy.done => SnapshotState::Done,
            Some(copy) => match from_hex(&copy.cursor) {
                Some(cursor) if !cursor.is_empty() => SnapshotState::Running {
                    cursor: cursor.into(),
                    rows: copy.rows,
                },
                _ => SnapshotState::Pending,
            },
        }
    }

    /// The entry of a table, made if it is not there.
    pub(crate) fn table(&mut self, database: &str, table: &str) -> &mut TableCopy {
        self.tables
            .entry(database.to_owned())
            .or_default()
            .entry(table.to_owned())
            .or_default()
    }

    /// How far a table is with being copied anew.
    pub(crate) fn anew(&self, database: &str, table: &str) -> Option<Anew> {
        self.tables.get(database)?.get(table)?.anew
    }

    /// The tables that are so far with being copied anew.
    pub(crate) fn tables_anew(&self, state: Anew) -> impl Iterator<Item = (&str, &str)> {
        self.tables.iter().flat_map(move |(database, tables)| {
            let are = tables
                .iter()
                .filter(move |(_, copy)| copy.anew == Some(state));
            are.map(|(table, _)| (database.as_str(), table.as_str()))
        })
    }

    /// The syncer begins to copy, or goes on: whether there is something to copy is told by what it
    /// begins with. One that goes on does not know of tables that are being emptied, so it ends
    /// nothing.
    pub(crate) fn begin(&mut self, begin: &SnapshotBegin) {
        if !begin.resumed {
            *self = Self {
                done: begin.tables.is_empty(),
                ..Self::default()
            };
        }
        for table in &begin.tables {
            self.table(&table.database, &table.table);
        }
    }

    /// A table is to be copied anew.
    pub(crate) fn begin_anew(&mut self, database: &str, table: &str, state: Anew) {
        self.again |= self.done;
        self.done = false;
        *self.table(database, table) = TableCopy {
            anew: Some(state),
            ..TableCopy::default()
        };
    }

    /// The syncer has nothing more to copy. What is still being emptied it does not know of. Returns
    /// the tables whose copy anew has ended without a last chunk: they were dropped at the source.
    pub(crate) fn end(&mut self) -> Vec<(String, String)> {
        let mut dropped = Vec::new();
        let mut open = false;
        for (database, tables) in &mut self.tables {
            for (table, copy) in tables {
                if copy.anew == Some(Anew::Emptying) {
                    open = true;
                    continue;
                }
                if copy.anew.take().is_some() {
                    dropped.push((database.clone(), table.clone()));
                }
                copy.done = true;
            }
        }
        self.done = !open;
        self.again &= open;
        dropped
    }

    /// The tables whose copy has not ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&String, &String)> {
        self.tables.iter().flat_map(|(database, tables)| {
            let open = tables.iter().filter(|(_, copy)| !copy.done);
            open.map(move |(table, _)| (database, table))
        })
    }

    /// Whether some table is still to be copied.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.done && self.open().next().is_some()
    }

    /// Whether all was copied and that was not written down yet.
    pub(crate) fn lacks_end(&self) -> bool {
        !self.done && !self.tables.is_empty() && !self.is_under_way()
    }

    /// The figures for `/status`.
    pub(crate) fn progress(&self) -> SnapshotProgress {
        let mut progress = SnapshotProgress::default();
        for copy in self.tables.values().flat_map(BTreeMap::values) {
            progress.tables += 1;
            progress.done += u64::from(copy.done);
            progress.rows += copy.rows;
        }
        progress
    }
}

impl TableCopy {
    /// After a chunk.
    pub(crate) fn advance(&mut self, cursor: &[u8], rows: u64, done: bool) {
        self.cursor = if done { String::new() } else { to_hex(cursor) };
        self.rows = rows;
        self.done = done;
        if done {
            self.anew = None;
        }
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_row() {
        let mut snapshot = Snapshot::default();
        snapshot
            .table("shop", "orders")
            .advance(b"\0\xff", 7, false);
        snapshot.table("shop", "empty").advance(b"", 0, false);
        snapshot.table("shop", "small").advance(b"x", 1, true);
        let read: Snapshot =
            serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();
        assert_eq!(
            read.state("shop", "orders"),
            SnapshotState::Running {
                cursor: b"\0\xff".as_slice().into(),
                rows: 7
            }
        );
        assert_eq!(read.state("shop", "empty"), SnapshotState::Pending);
        assert_eq!(read.state("shop", "small"), SnapshotState::Done);
        assert_eq!(read.state("shop", "other"), SnapshotState::None);
        assert!(read.is_under_way());
        let progress = SnapshotProgress {
            tables: 3,
            done: 1,
            rows: 8,
        };
        assert_eq!(read.progress(), progress);
    }

    #[test]
    fn a_table_that_is_copied_anew_is_nothing_to_the_syncer_before_it_is_empty() {
        let mut snapshot = Snapshot::default();
        snapshot.table("shop", "a").advance(b"", 3, true);
        snapshot.table("shop", "b").advance(b"", 4, true);
        snapshot.done = true;
        snapshot.begin_anew("shop", "a", Anew::Emptying);
        assert_eq!(snapshot.state("shop", "a"), SnapshotState::None);
        assert!(snapshot.is_under_way() && snapshot.again && !snapshot.lacks_end());
        // The end of another copy is not this one's.
        assert!(snapshot.end().is_empty());
        assert!(snapshot.is_under_way() && snapshot.again);
        snapshot.begin_anew("shop", "a", Anew::Copying);
        assert_eq!(snapshot.state("shop", "a"), SnapshotState::Pending);
        snapshot.table("shop", "a").advance(b"x", 1, false);
        assert_eq!(snapshot.anew("shop", "a"), Some(Anew::Copying));
        let text = serde_json::to_string(&snapshot).unwrap();
        let mut read: Snapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(read, snapshot);
        snapshot.table("shop", "a").advance(b"", 3, true);
        assert!(snapshot.lacks_end() && snapshot.anew("shop", "a").is_none());
        assert!(snapshot.end().is_empty() && snapshot.done && !snapshot.again);
        // Its last chunk did not come: it is not at the source any more.
        assert_eq!(read.end(), [("shop".to_owned(), "a".to_owned())]);
        assert!(read.done && !read.is_under_way());
    }

    #[test]
    fn a_copy_that_goes_on_ends_nothing() {
        let mut snapshot = Snapshot::default();
        for table in ["a", "b"] {
            snapshot.table("shop", table).advance(b"", 3, true);
        }
        snapshot.done = true;
        snapshot.begin_anew("shop", "a", Anew::Copying);
        snapshot.begin_anew("shop", "b", Anew::Emptying);
        // The first was dropped at the source, and of the second it does not know.
        let begin = |resumed| SnapshotBegin {
            position: "0-1-5".parse().unwrap(),
            epoch: 1,
            tables: Vec::new(),
            resumed,
        };
        snapshot.begin(&begin(true));
        assert!(!snapshot.done && snapshot.is_under_way());
        assert_eq!(snapshot.end(), [("shop".to_owned(), "a".to_owned())]);
        assert!(!snapshot.done && snapshot.anew("shop", "b") == Some(Anew::Emptying));
        snapshot.begin(&begin(false));
        assert!(snapshot.done && snapshot.tables.is_empty());
    }
}
