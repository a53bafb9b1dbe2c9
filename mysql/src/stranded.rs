//! What is set aside in `multiactive.stranded` of a server, for people.

use std::collections::BTreeSet;

use change::{Body, RowChange, TableSchema, Transaction, Value, WireError, decode_stored};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Row};
use serde::Serialize;

use crate::session::Session;

/// At most so many are listed at once, the oldest first.
pub const LISTED: usize = 1000;
/// So many are settled by one statement.
const SETTLED_AT_ONCE: usize = 500;

/// A transaction by where it was committed and its GTID there.
pub type Name = (String, String);

/// A transaction that is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filed {
    /// Its place in the order of filing.
    #[serde(skip)]
    pub number: u64,
    /// Where it was committed.
    pub source: String,
    /// Its GTID there.
    pub gtid: String,
    /// The epoch that it was committed under.
    pub epoch: u64,
    /// The epoch that ended that one.
    pub ended_by: u64,
    /// When it was committed, UTC.
    pub committed: String,
    /// How many changes it holds.
    pub changes: u64,
    /// Which tables, with their changes; or the statement.
    pub what: String,
    /// `Held`, `Replayed` or `Discarded`.
    pub state: String,
    /// When it was filed, UTC.
    pub filed: String,
}

/// A change of a transaction that is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum FiledChange {
    /// A row.
    Row {
        /// `database.table`.
        table: String,
        /// `insert`, `update` or `delete`.
        verb: &'static str,
        /// The row before, by column.
        before: Option<Vec<(String, String)>>,
        /// The row after, by column.
        after: Option<Vec<(String, String)>>,
    },
    /// A statement.
    Statement {
        /// Its default database.
        database: String,
        /// The statement.
        statement: String,
    },
}

/// Why what is set aside could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StrandedError {
    /// The server answered with an error.
    #[error("{0}")]
    Driver(#[from] mysql_async::Error),
    /// A body cannot be read.
    #[error("{0}")]
    Body(#[from] WireError),
}

/// What is set aside, oldest first, at most [`LISTED`]; `held`: only what is not settled.
///
/// # Errors
/// The driver's, for example where there is no schema `multiactive`.
pub async fn list(session: &mut Session, held: bool) -> Result<Vec<Filed>, StrandedError> {
    page(session, held, 0).await
}

/// All that is not settled, oldest first.
///
/// # Errors
/// The driver's.
pub async fn all_held(session: &mut Session) -> Result<Vec<Filed>, StrandedError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, |filed: &Filed| filed.number);
        let page = page(session, true, after).await?;
        let last = page.len() < LISTED;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

async fn page(session: &mut Session, held: bool, after: u64) -> Result<Vec<Filed>, StrandedError> {
    let which = if held { "WHERE state = 'Held' " } else { "" };
    let sql = format!(
        "SELECT CAST(source AS CHAR), CAST(gtid AS CHAR), MIN(epoch), MIN(ended_by), \
         COALESCE(CAST(MIN(committed) AS CHAR), ''), CAST(SUM(changes) AS UNSIGNED), \
         LEFT(GROUP_CONCAT(`tables` ORDER BY part SEPARATOR ', '), 1000), \
         CAST(MIN(state) AS CHAR), CAST(MIN(filed) AS CHAR), MIN(seq) FROM multiactive.stranded \
         {which}GROUP BY source, gtid HAVING MIN(seq) > {after} ORDER BY MIN(seq) LIMIT {LISTED}"
    );
    let rows: Vec<Row> = session.conn.query(sql).await?;
    let filed = |mut row: Row| {
        let mut text = |index: usize| row.take::<String, _>(index).unwrap_or_default();
        let (source, gtid, committed) = (text(0), text(1), text(4));
        let (what, state, filed) = (text(6), text(7), text(8));
        let mut number = |index: usize| row.take::<u64, _>(index).unwrap_or_default();
        Filed {
            number: number(9),
            source,
            gtid,
            epoch: number(2),
            ended_by: number(3),
            committed,
            changes: number(5),
            what,
            state,
            filed,
        }
    };
    Ok(rows.into_iter().map(filed).collect())
}

/// Which are not settled: all of them, or those with this GTID.
///
/// # Errors
/// The driver's.
pub async fn held_names(
    session: &mut Session,
    gtid: Option<&str>,
) -> Result<BTreeSet<Name>, StrandedError> {
    let (which, params): (&str, Params) = match gtid {
        Some(gtid) => (" AND gtid = ?", (gtid,).into()),
        None => ("", Params::Empty),
    };
    let sql = format!(
        "SELECT DISTINCT CAST(source AS CHAR), CAST(gtid AS CHAR) FROM multiactive.stranded \
         WHERE state = 'Held'{which}"
    );
    let names: Vec<Name> = session.conn.exec(sql, params).await?;
    Ok(names.into_iter().collect())
}

/// In how many pieces a transaction is set aside and not settled; 0 where it is not.
///
/// # Errors
/// The driver's.
pub async fn pieces(session: &mut Session, name: (&str, &str)) -> Result<u32, StrandedError> {
    let sql = "SELECT COUNT(*) FROM multiactive.stranded WHERE source = ? AND gtid = ? \
         AND state = 'Held'";
    Ok(session.conn.exec_first(sql, name).await?.unwrap_or(0))
}

/// Every change of one transaction, in order; empty if it is not set aside here.
///
/// # Errors
/// The driver's, and [`StrandedError::Body`] for a body of another release.
pub async fn show(session: &mut Session, gtid: &str) -> Result<Vec<FiledChange>, StrandedError> {
    let sql = "SELECT body FROM multiactive.stranded WHERE gtid = ? ORDER BY seq";
    let bodies: Vec<Vec<u8>> = session.conn.exec(sql, (gtid,)).await?;
    shown_all(bodies)
}

/// Every change in the stored pieces of a transaction.
pub(crate) fn shown_all(bodies: Vec<Vec<u8>>) -> Result<Vec<FiledChange>, StrandedError> {
    let mut changes = Vec::new();
    for body in bodies {
        match decode_stored(body.into())?.body {
            Body::Ddl(ddl) => changes.push(FiledChange::Statement {
                database: ddl.database.clone(),
                statement: match &ddl.refused {
                    Some(refused) => format!("{}\n{}", refused.what, ddl.statement_lossy()),
                    None => ddl.statement_lossy().into_owned(),
                },
            }),
            Body::Rows(tables) => {
                for table in tables {
                    let rows = table.rows.iter();
                    changes.extend(rows.map(|row| shown(&table.table, row)));
                }
            }
        }
    }
    Ok(changes)
}

/// One piece of a transaction that is set aside and not settled; `None` after the last.
///
/// # Errors
/// The driver's, and [`StrandedError::Body`] for a body of another release.
pub async fn piece(
    session: &mut Session,
    source: &str,
    gtid: &str,
    part: u32,
) -> Result<Option<Transaction>, StrandedError> {
    let sql = "SELECT body FROM multiactive.stranded WHERE source = ? AND gtid = ? AND part = ? \
         AND state = 'Held'";
    let body: Option<Vec<u8>> = session.conn.exec_first(sql, (source, gtid, part)).await?;
    Ok(body.map(|body| decode_stored(body.into())).transpose()?)
}

/// Settles a transaction that was replayed in another member.
///
/// # Errors
/// The driver's.
pub async fn settle_replayed(
    session: &mut Session,
    source: &str,
    gtid: &str,
    by: &str,
) -> Result<(), StrandedError> {
    let sql = "UPDATE multiactive.stranded SET state = 'Replayed', settled = UTC_TIMESTAMP(6), \
         settled_by = ? WHERE source = ? AND gtid = ? AND state = 'Held'";
    session.conn.exec_drop(sql, (by, source, gtid)).await?;
    Ok(())
}

/// Settles these transactions as discarded, as far as they are set aside here and not settled yet: none
/// that was filed since somebody counted them. They stay readable. Returns which it settled.
///
/// # Errors
/// The driver's; nothing is settled then, unless the connection ended.
pub async fn discard(
    session: &mut Session,
    names: &BTreeSet<Name>,
    by: &str,
) -> Result<BTreeSet<Name>, StrandedError> {
    let mut settled = BTreeSet::new();
    let names: Vec<&Name> = names.iter().collect();
    session.conn.query_drop("START TRANSACTION").await?;
    for some in names.chunks(SETTLED_AT_ONCE) {
        match discard_some(session, some, by).await {
            Ok(these) => settled.extend(these),
            Err(error) => {
                session.conn.query_drop("ROLLBACK").await?;
                return Err(error);
            }
        }
    }
    session.conn.query_drop("COMMIT").await?;
    Ok(settled)
}

async fn discard_some(
    session: &mut Session,
    names: &[&Name],
    by: &str,
) -> Result<Vec<Name>, StrandedError> {
    let places = vec!["(?, ?)"; names.len()].join(", ");
    let which = format!("WHERE (source, gtid) IN ({places}) AND state = 'Held'");
    let values = || -> Vec<mysql_async::Value> {
        let each = names.iter().flat_map(|(source, gtid)| [source, gtid]);
        each.map(|text| mysql_async::Value::from(text.as_str()))
            .collect()
    };
    let sql = format!(
        "SELECT CAST(source AS CHAR), CAST(gtid AS CHAR) FROM multiactive.stranded {which} FOR UPDATE"
    );
    let there: Vec<Name> = session.conn.exec(sql, values()).await?;
    let sql = format!(
        "UPDATE multiactive.stranded SET state = 'Discarded', settled = UTC_TIMESTAMP(6), \
         settled_by = ? {which}"
    );
    let mut params = vec![mysql_async::Value::from(by)];
    params.extend(values());
    session.conn.exec_drop(sql, params).await?;
    Ok(there)
}

pub(crate) fn shown(table: &TableSchema, row: &RowChange) -> FiledChange {
    let image = |values: &Vec<Value>| {
        let columns = table.columns.iter().zip(values);
        columns
            .map(|(column, value)| (column.name.clone(), text(value)))
            .collect()
    };
    let (verb, before, after) = match row {
        RowChange::Insert { after } => ("insert", None, Some(after)),
        RowChange::Update { before, after } => ("update", Some(before), Some(after)),
        RowChange::Delete { before } => ("delete", Some(before), None),
    };
    FiledChange::Row {
        table: table.to_string(),
        verb,
        before: before.map(image),
        after: after.map(image),
    }
}

/// A value for people.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) | Value::Bit(number) | Value::Set(number) => number.to_string(),
        Value::Enum(number) | Value::Year(number) => number.to_string(),
        Value::Float(number) => number.get().to_string(),
        Value::Double(number) => number.get().to_string(),
        Value::Decimal(text) => text.clone(),
        Value::Text(bytes) | Value::Json(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("{text:?}"),
            Err(_) => hexadecimal(bytes),
        },
        Value::Bytes(bytes) | Value::Geometry(bytes) => hexadecimal(bytes),
        Value::Date(date) => date.to_string(),
        Value::DateTime(moment) => moment.to_string(),
        Value::Time(micros) => format!("{micros} µs"),
        Value::Timestamp(micros) => format!("{} UTC", crate::values::utc(*micros)),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "0x".to_owned();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        assert_eq!(text(&Value::Null), "NULL");
        assert_eq!(text(&Value::Text("NULL".into())), "\"NULL\"");
        assert_eq!(text(&Value::Text(b"\xff".as_slice().into())), "0xff");
        assert_eq!(text(&Value::Bytes(b"a".as_slice().into())), "0x61");
        assert_eq!(text(&Value::Int(-1)), "-1");
    }
}
