//! What is recorded in `multiactive.conflicts` of a server, for people.

use change::{Body, Row, RowChange, TableChange, Transaction, WireError, decode_stored};
use mysql_async::prelude::Queryable;
use serde::Serialize;

use crate::session::Session;
use crate::stranded::{FiledChange, shown};

/// At most so many are listed at once, the newest first.
pub const LISTED: usize = 1000;

/// A conflict that was settled or held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// Its number in this server.
    pub number: u64,
    /// The link that met it.
    pub link: String,
    /// Where the change was committed.
    pub source: String,
    /// Its GTID there.
    pub gtid: String,
    /// `database.table`.
    pub table: String,
    /// The row's key, as `column=value`.
    pub row: String,
    /// For example `update_differs`.
    pub kind: String,
    /// The link's policy then.
    pub policy: String,
    /// `Held`; `SourceWon`, `TargetWon`, `Same` where the policy settled it; `TookSource`,
    /// `TookTarget`, `Discarded`, `Superseded` where a person did.
    pub state: String,
    /// How the row differed, or the server's answer.
    pub detail: String,
    /// When it was met, UTC.
    pub at: String,
    /// When a person settled it, UTC; empty if nobody has.
    pub settled: String,
    /// Who.
    pub settled_by: String,
}

/// A conflict with both images.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What is listed of it.
    pub conflict: Conflict,
    /// The change, one row, with its table's definition.
    pub change: TableChange,
    /// The row that was at its key at the target.
    pub found: Option<Row>,
}

/// A conflict with both images, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// What is listed of it.
    #[serde(flatten)]
    pub conflict: Conflict,
    /// The source's change.
    pub change: FiledChange,
    /// The row that was there, by column; `None`: no row.
    pub found: Option<Vec<(String, String)>>,
}

/// Why a conflict could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConflictsError {
    /// The server answered with an error.
    #[error("{0}")]
    Driver(#[from] mysql_async::Error),
    /// An image cannot be read.
    #[error("{0}")]
    Body(#[from] WireError),
    /// A record holds something else than one change.
    #[error("conflict {0} holds something else than one change of a row")]
    Strange(u64),
}

const COLUMNS: &str = "seq, CAST(link AS CHAR), CAST(source AS CHAR), CAST(gtid AS CHAR), \
     CAST(CONCAT(`database`, '.', `table`) AS CHAR), CAST(`row` AS CHAR), CAST(kind AS CHAR), \
     CAST(policy AS CHAR), CAST(state AS CHAR), CAST(detail AS CHAR), CAST(at AS CHAR), \
     COALESCE(CAST(settled AS CHAR), ''), COALESCE(CAST(settled_by AS CHAR), '')";

/// What is recorded, the newest first, at most [`LISTED`]; `held`: only what waits for a person.
///
/// # Errors
/// The driver's, for example where there is no schema `multiactive`.
pub async fn list(session: &mut Session, held: bool) -> Result<Vec<Conflict>, ConflictsError> {
    let which = if held { "WHERE state = 'Held' " } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM multiactive.conflicts {which}ORDER BY seq DESC LIMIT {LISTED}"
    );
    let rows: Vec<mysql_async::Row> = session.conn.query(sql).await?;
    Ok(rows.into_iter().map(conflict).collect())
}

/// One conflict with both images; `None` if there is none of this number.
///
/// # Errors
/// The driver's, and [`ConflictsError::Body`] for images of another release.
pub async fn read(session: &mut Session, number: u64) -> Result<Option<Recorded>, ConflictsError> {
    let sql = format!("SELECT {COLUMNS}, body, found FROM multiactive.conflicts WHERE seq = ?");
    let row: Option<mysql_async::Row> = session.conn.exec_first(sql, (number,)).await?;
    let Some(mut row) = row else {
        return Ok(None);
    };
    let body: Vec<u8> = row.take(13).unwrap_or_default();
    let found: Option<Vec<u8>> = row.take(14).flatten();
    let strange = ConflictsError::Strange(number);
    let Some(change) = only(decode_stored(body.into())?) else {
        return Err(strange);
    };
    let found = match found {
        None => None,
        Some(bytes) => match only(decode_stored(bytes.into())?).map(|it| it.rows) {
            Some(rows) => match <[RowChange; 1]>::try_from(rows) {
                Ok([RowChange::Insert { after }]) => Some(after),
                _ => return Err(strange),
            },
            None => return Err(strange),
        },
    };
    Ok(Some(Recorded {
        conflict: conflict(row),
        change,
        found,
    }))
}

/// Says that a change that is held is not wanted; it stays readable. Returns whether it was held.
///
/// # Errors
/// The driver's.
pub async fn discard(session: &mut Session, number: u64, by: &str) -> Result<bool, ConflictsError> {
    let sql = "UPDATE multiactive.conflicts SET state = 'Discarded', settled = UTC_TIMESTAMP(6), \
         settled_by = ? WHERE seq = ? AND state = 'Held'";
    session.conn.exec_drop(sql, (by, number)).await?;
    Ok(session.conn.affected_rows() == 1)
}

impl Recorded {
    /// The change.
    pub fn row(&self) -> &RowChange {
        // Reading has made sure that there is exactly one.
        &self.change.rows[0]
    }

    /// For people.
    pub fn shown(self) -> Shown {
        let change = shown(&self.change.table, self.row());
        let found = self.found.map(|row| {
            let there = shown(&self.change.table, &RowChange::Insert { after: row });
            match there {
                FiledChange::Row { after, .. } => after.unwrap_or_default(),
                FiledChange::Statement { .. } => Vec::new(),
            }
        });
        Shown {
            conflict: self.conflict,
            change,
            found,
        }
    }
}

/// The one change of one row that a record holds.
fn only(stored: Transaction) -> Option<TableChange> {
    let Body::Rows(changes) = stored.body else {
        return None;
    };
    match <[TableChange; 1]>::try_from(changes) {
        Ok([change]) if change.rows.len() == 1 => Some(change),
        _ => None,
    }
}

fn conflict(mut row: mysql_async::Row) -> Conflict {
    let number = row.take::<u64, _>(0).unwrap_or_default();
    let mut text = |index: usize| row.take::<String, _>(index).unwrap_or_default();
    Conflict {
        number,
        link: text(1),
        source: text(2),
        gtid: text(3),
        table: text(4),
        row: text(5),
        kind: text(6),
        policy: text(7),
        state: text(8),
        detail: text(9),
        at: text(10),
        settled: text(11),
        settled_by: text(12),
    }
}
