//! The link's row in `multiactive.applied`: how far the target has applied its source.
//!
//! It changes in the transaction that applies the rows, and only if it still is what this writer
//! wrote last. Each writer puts a name of its own into the row before it applies anything, so that
//! a predecessor that is still alive (a pod being replaced, a connection that hangs) finds its
//! name gone and applies nothing more.

mod copies;

use change::{Flavor, Position, Progress, Transaction};
use model::{DdlPolicy, IdcName, Ledger, LinkKey};
use serde::{Deserialize, Serialize};

use crate::epoch::way::NewestData;
use crate::error::WriterError;
use crate::selection::Selection;
use crate::sql::literal;

pub(crate) use copies::{Anew, Snapshot, TableCopy, to_hex};

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
