//! The link's row in `multiactive.applied`: how far the target has applied its source.
//!
//! It changes in the transaction that applies the rows, and only if it still is what this writer
//! wrote last. Each writer puts a name of its own into the row before it applies anything, so that
//! a predecessor that is still alive (a pod being replaced, a connection that hangs) finds its
//! name gone and applies nothing more.

use std::collections::BTreeMap;

use change::{Flavor, Position, Progress, SnapshotBegin, SnapshotState, Transaction};
use model::{DdlPolicy, IdcName, Ledger, LinkKey, SnapshotProgress};
use serde::{Deserialize, Serialize};

use crate::epoch::way::NewestData;
use crate::error::WriterError;
use crate::selection::Selection;
use crate::sql::literal;

/// The row is not what a writer writes.
pub(crate) fn unreadable(reason: impl std::fmt::Display) -> WriterError {
    WriterError::CheckpointUnreadable {
        reason: reason.to_string(),
    }
}

/// What the row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Through where the source has been applied; `None` before the first snapshot.
    pub position: Option<Position>,
    pub snapshot: Snapshot,
    pub record: Record,
}

impl Checkpoint {
    /// The source is applied through here, its last transaction `last`.
    pub(crate) fn arrive(&mut self, position: &Position, epoch: u64, last: Option<Last>) {
        self.position = Some(position.clone());
        self.record.engine = Some(position.flavor().into());
        self.record.epoch = epoch;
        self.record.last = last;
    }
}

/// The column `ledger`: the counts, and who wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The counts at the position; nothing is in flight there.
    #[serde(flatten)]
    pub ledger: Ledger,
    /// Whose position it is, which an empty text does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<SourceEngine>,
    /// The source's epoch at the position.
    pub epoch: u64,
    /// The writer that may change the row.
    pub writer: String,
    /// How often the row was written.
    pub serial: u64,
    /// What the syncer said when the source lacked what had been applied from it. It stays until
    /// a person has looked: once the source has given out its lost numbers again, nothing would
    /// show any more that it went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_back: Option<String>,
    /// The last transaction of the position, whatever it held; absent where the link has just begun,
    /// or an earlier release wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// The newest data of the source that is at the target; absent where there is none, or an
    /// earlier release did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    /// Which tables the link carries at most; absent in a row that was just made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// What became of statements; absent as well where an earlier release wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ddl: Option<DdlPolicy>,
    /// Whether the link copies tables as it begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copies: bool,
    /// What the link adds up, in order; absent where it adds up nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Vec<String>>,
    /// What the target's IDC is called: changes that were born there are told by it. Absent where an
    /// earlier release wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<IdcName>,
}

/// A transaction by more than its number: a source that went back gives numbers out again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    pub gtid: String,
    /// When it was committed, microseconds since 1970.
    pub micros: u64,
}

impl From<&Transaction> for Last {
    fn from(transaction: &Transaction) -> Self {
        Self {
            gtid: transaction.gtid.clone(),
            micros: transaction.committed_micros,
        }
    }
}

impl Last {
    /// The last transaction of a position that is told with it.
    pub(crate) fn told(progress: &Progress) -> Option<Self> {
        (!progress.gtid.is_empty()).then(|| Self {
            gtid: progress.gtid.clone(),
            micros: progress.source_micros,
        })
    }
}

/// A bound of the data that a link has brought: see [`crate::epoch::way::NewestData`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newest {
    pub epoch: u64,
    /// A GTID, or a position.
    pub within: String,
}

impl Record {
    /// Reads the column.
    pub(crate) fn parse(ledger: &str) -> Result<Self, WriterError> {
        serde_json::from_str(ledger).map_err(unreadable)
    }

    /// The column.
    pub(crate) fn text(&self) -> Result<String, WriterError> {
        serde_json::to_string(self).map_err(unreadable)
    }
}

impl From<&NewestData> for Newest {
    fn from(data: &NewestData) -> Self {
        Self {
            epoch: data.epoch,
            within: data.within.to_string(),
        }
    }
}

impl Newest {
    /// What it bounds.
    ///
    /// # Errors
    /// If it is no position.
    pub(crate) fn bound(&self) -> Result<NewestData, WriterError> {
        Ok(NewestData {
            epoch: self.epoch,
            within: self.within.parse()?,
        })
    }

    /// After this transaction.
    pub(crate) fn of(transaction: &Transaction) -> Self {
        Self {
            epoch: transaction.epoch,
            within: transaction.gtid.clone(),
        }
    }
}

/// The engine of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SourceEngine {
    MySql,
    MariaDb,
}

impl From<Flavor> for SourceEngine {
    fn from(flavor: Flavor) -> Self {
        match flavor {
            Flavor::MySql => Self::MySql,
            Flavor::MariaDb => Self::MariaDb,
        }
    }
}

impl From<SourceEngine> for Flavor {
    fn from(engine: SourceEngine) -> Self {
        match engine {
            SourceEngine::MySql => Self::MySql,
            SourceEngine::MariaDb => Self::MariaDb,
        }
    }
}

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

/// The statement that reads the row.
pub(crate) fn select(link: &LinkKey) -> Vec<u8> {
    let mut sql = b"SELECT CAST(source AS CHAR), CAST(position AS CHAR), CAST(snapshot AS CHAR), CAST(ledger AS CHAR) \
                    FROM multiactive.applied WHERE link="
        .to_vec();
    literal::text(&mut sql, &link.to_string());
    sql
}

/// The statement that locks the row if it is still `previous`; it answers 1 then, else nothing.
pub(crate) fn lock(link: &LinkKey, previous: &Record) -> Vec<u8> {
    let mut sql = b"SELECT 1 FROM multiactive.applied WHERE ".to_vec();
    condition(&mut sql, link, previous);
    sql.extend_from_slice(b" FOR UPDATE");
    sql
}

/// The statement that changes the row from `previous` to `next`; it must find one row.
pub(crate) fn update(
    link: &LinkKey,
    previous: &Record,
    next: &Checkpoint,
    with_snapshot: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut sql = b"UPDATE multiactive.applied SET ".to_vec();
    if let Some(position) = &next.position {
        sql.extend_from_slice(b"position=");
        literal::text(&mut sql, &position.to_string());
        sql.push(b',');
    }
    if with_snapshot {
        sql.extend_from_slice(b"snapshot=");
        literal::text(&mut sql, &serde_json::to_string(&next.snapshot)?);
        sql.push(b',');
    }
    sql.extend_from_slice(b"ledger=");
    literal::text(&mut sql, &serde_json::to_string(&next.record)?);
    sql.extend_from_slice(b",at=UTC_TIMESTAMP(6) WHERE ");
    condition(&mut sql, link, previous);
    Ok(sql)
}

fn condition(sql: &mut Vec<u8>, link: &LinkKey, previous: &Record) {
    sql.extend_from_slice(b"link=");
    literal::text(sql, &link.to_string());
    sql.extend_from_slice(b" AND JSON_UNQUOTE(JSON_EXTRACT(ledger,'$.writer'))=");
    literal::text(sql, &previous.writer);
    sql.extend_from_slice(b" AND JSON_EXTRACT(ledger,'$.serial')=");
    sql.extend_from_slice(previous.serial.to_string().as_bytes());
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

    #[test]
    fn the_row_changes_only_from_what_was_written_last() {
        let link = LinkKey::new("shop", "orders").unwrap();
        let previous = Record {
            writer: "me".into(),
            serial: 41,
            ..Record::default()
        };
        let next = Checkpoint {
            position: Some("0-1-5".parse().unwrap()),
            snapshot: Snapshot::default(),
            record: Record {
                serial: 42,
                ..previous.clone()
            },
        };
        let sql = String::from_utf8(update(&link, &previous, &next, false).unwrap()).unwrap();
        assert!(
            sql.starts_with("UPDATE multiactive.applied SET position='0-1-5',ledger='{"),
            "{sql}"
        );
        assert!(
            sql.ends_with(
                "WHERE link='shop/orders' AND JSON_UNQUOTE(JSON_EXTRACT(ledger,'$.writer'))='me' \
                 AND JSON_EXTRACT(ledger,'$.serial')=41"
            ),
            "{sql}"
        );
        assert!(sql.contains("\"serial\":42"), "{sql}");
    }

    #[test]
    fn the_ledger_column_is_read_as_the_model_s_ledger() {
        let ledger = Ledger {
            read: 5,
            applied: 3,
            filtered: 1,
            conflicts: 1,
            stranded: 0,
            held: 0,
            in_flight: 0,
        };
        let record = Record {
            ledger,
            engine: Some(SourceEngine::MariaDb),
            epoch: 4,
            writer: "me".into(),
            serial: 9,
            went_back: None,
            last: Some(Last {
                gtid: "0-1-5".into(),
                micros: 7,
            }),
            newest: None,
            selection: None,
            ddl: None,
            copies: true,
            counters: Some(vec!["a.b.c".into()]),
            target: Some(IdcName::new("bj").unwrap()),
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
