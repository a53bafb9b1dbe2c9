//! Reading one chunk between its marks.

use std::sync::Arc;

use bytes::Bytes;
use change::{Row, TableSchema, Value, decode_key, encode_key};
use futures::TryStreamExt;
use mysql::keyset;
use mysql::lifeline::Lifeline;
use mysql::session::SessionOptions;
use mysql::tables::TableInfo;
use mysql::values;
use mysql_async::prelude::Queryable;

use crate::error::PullError;
use crate::source::identifier;

/// Errors that say that the table is not as it was described a moment ago: it, its database or a
/// column is missing.
const CHANGED: [u16; 4] = [1146, 1049, 1054, 1412];

/// A session that reads chunks.
pub struct ChunkReader {
    session: mysql::session::Session,
    link: String,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The chunk's mark.
    pub mark: u64,
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Where the chunk before ended.
    pub cursor: Option<Bytes>,
    /// At most so many rows.
    pub limit: u64,
    /// Rows that go beyond so many bytes are left for the next chunk.
    pub most_bytes: usize,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Rows.
    Read(Chunk),
    /// The table is not there, or was changed while it was read.
    Changed,
}

/// Rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The table.
    pub table: Arc<TableSchema>,
    /// The rows, in the order of the key.
    pub rows: Vec<Row>,
    /// Where the next chunk begins.
    pub cursor: Bytes,
    /// Nothing follows.
    pub done: bool,
    /// What they take, in bytes.
    pub bytes: usize,
    /// How many rows the server thinks the table has.
    pub rows_estimate: u64,
}

impl ChunkReader {
    /// Opens the session.
    pub async fn connect(options: &SessionOptions, link: String) -> Result<Self, PullError> {
        let mut session = options.connect().await?;
        for setting in [
            "SET NAMES utf8mb4",
            "SET SESSION sql_mode = '', time_zone = '+00:00', lock_wait_timeout = 10",
            "SET SESSION net_write_timeout = 600",
        ] {
            let what = "setting up a session for the snapshot";
            session
                .conn
                .query_drop(setting)
                .await
                .map_err(PullError::query(what))?;
        }
        Ok(Self { session, link })
    }

    /// What tells whether the session is still there.
    pub fn lifeline(&self) -> &Lifeline {
        self.session.lifeline()
    }

    /// Reads a chunk between its marks.
    pub async fn read(&mut self, request: &Request) -> Result<Outcome, PullError> {
        self.write_mark(request.mark, 0).await?;
        let outcome = self.select(request).await?;
        self.write_mark(request.mark, request.mark).await?;
        Ok(outcome)
    }

    async fn write_mark(&mut self, low: u64, high: u64) -> Result<(), PullError> {
        let statement = "INSERT INTO multiactive.watermark (link, low, high) VALUES (?, ?, ?) \
                         ON DUPLICATE KEY UPDATE low = VALUES(low), high = VALUES(high)";
        self.session
            .conn
            .exec_drop(statement, (self.link.as_str(), low, high))
            .await
            .map_err(PullError::query(
                "writing a mark into multiactive.watermark",
            ))
    }

    async fn select(&mut self, request: &Request) -> Result<Outcome, PullError> {
        let Request {
            database, table, ..
        } = request;
        let what = format!("reading {database}.{table}");
        let conn = &mut self.session.conn;
        let info = mysql::tables::table(conn, database, table)
            .await
            .map_err(PullError::query(format!("describing {database}.{table}")))?;
        let Some(info) = info else {
            return Ok(Outcome::Changed);
        };
        let Ok(schema) = info.schema() else {
            return Ok(Outcome::Changed);
        };
        if schema.primary_key.is_empty() {
            return Ok(Outcome::Changed);
        }
        let statement = statement(&info, &schema, request)?;
        conn.query_drop("SET character_set_results = NULL")
            .await
            .map_err(PullError::query(what.clone()))?;
        let read = collect(conn, &statement, &schema, request.most_bytes).await;
        conn.query_drop("SET character_set_results = utf8mb4")
            .await
            .map_err(PullError::query(what.clone()))?;
        match read {
            Ok(rows) => Ok(Outcome::Read(finish(
                info.rows_estimate,
                schema,
                rows,
                request,
            ))),
            Err(CollectError::Driver(mysql_async::Error::Server(error)))
                if CHANGED.contains(&error.code) =>
            {
                Ok(Outcome::Changed)
            }
            Err(CollectError::Driver(error)) => Err(PullError::query(what)(error)),
            // The description was of before a DDL and the rows of after it, or the server answers
            // in a way that is not understood; a second look tells.
            Err(CollectError::Misfit(misfit)) => Err(PullError::NotYet(format!(
                "{what}: {misfit}; it is read again"
            ))),
        }
    }
}

enum CollectError {
    Driver(mysql_async::Error),
    Misfit(values::Misfit),
}

struct Collected {
    rows: Vec<Row>,
    bytes: usize,
    /// Rows were left out.
    cut: bool,
}

async fn collect(
    conn: &mut mysql_async::Conn,
    statement: &str,
    schema: &TableSchema,
    most_bytes: usize,
) -> Result<Collected, CollectError> {
    let mut collected = Collected {
        rows: Vec::new(),
        bytes: 0,
        cut: false,
    };
    // A statement with parameters, even without any, is answered in the binary protocol.
    let mut stream = conn
        .exec_stream::<mysql_async::Row, _, _>(statement, ())
        .await
        .map_err(CollectError::Driver)?;
    while let Some(row) = stream.try_next().await.map_err(CollectError::Driver)? {
        collected.cut |= collected.bytes > most_bytes;
        if collected.cut {
            continue;
        }
        let row = schema
            .columns
            .iter()
            .zip(row.unwrap())
            .map(|(column, sql)| values::value(column, sql))
            .collect::<Result<Row, _>>()
            .map_err(CollectError::Misfit)?;
        collected.bytes += row.iter().map(Value::weight).sum::<usize>();
        collected.rows.push(row);
    }
    Ok(collected)
}

fn finish(
    rows_estimate: u64,
    schema: TableSchema,
    collected: Collected,
    request: &Request,
) -> Chunk {
    let Collected { rows, bytes, cut } = collected;
    let done = !cut && (rows.len() as u64) < request.limit;
    let cursor = match rows.last() {
        Some(row) => cursor(&schema, row),
        None => request.cursor.clone().unwrap_or_default(),
    };
    Chunk {
        table: Arc::new(schema),
        rows,
        cursor,
        done,
        bytes,
        rows_estimate,
    }
}

/// The key's columns by name, each with its value: a cursor tells if the key is another one now.
fn cursor(schema: &TableSchema, row: &Row) -> Bytes {
    let mut parts = Vec::with_capacity(schema.primary_key.len() * 2);
    for &place in &schema.primary_key {
        parts.push(Value::Text(Bytes::copy_from_slice(
            schema.columns[place].name.as_bytes(),
        )));
        parts.push(row.get(place).cloned().unwrap_or(Value::Null));
    }
    encode_key(&parts)
}

/// The SELECT of a chunk.
fn statement(
    info: &TableInfo,
    schema: &TableSchema,
    request: &Request,
) -> Result<String, PullError> {
    let columns: Vec<String> = schema.columns.iter().map(values::expression).collect();
    let key: Vec<String> = schema
        .primary_key
        .iter()
        .map(|&place| schema.columns[place].name.clone())
        .collect();
    let mut statement = format!(
        "SELECT {} FROM {}.{}",
        columns.join(", "),
        identifier(&request.database),
        identifier(&request.table)
    );
    if let Some(cursor) = request.cursor.as_ref().filter(|cursor| !cursor.is_empty()) {
        let literals = literals(info, schema, &key, cursor)?;
        statement.push_str(" WHERE ");
        statement.push_str(&keyset::behind(&key, &literals));
    }
    let order: Vec<String> = key.iter().map(|name| identifier(name)).collect();
    Ok(format!(
        "{statement} ORDER BY {} LIMIT {}",
        order.join(", "),
        request.limit
    ))
}

fn literals(
    info: &TableInfo,
    schema: &TableSchema,
    key: &[String],
    cursor: &Bytes,
) -> Result<Vec<String>, PullError> {
    let unreadable = || {
        PullError::halt(
            "SnapshotCursor",
            format!(
                "the copy of {schema} cannot go on where it was: its key is another one now. Empty \
                 the table at the target and let the link copy it anew"
            ),
        )
    };
    let parts = decode_key(cursor.clone()).map_err(|_| unreadable())?;
    let mut literals = Vec::with_capacity(key.len());
    let mut parts = parts.chunks_exact(2);
    for (name, &place) in key.iter().zip(&schema.primary_key) {
        match parts.next() {
            Some([Value::Text(of), value]) if of == name.as_bytes() => {
                let set = &info.columns[place].character_set;
                literals.push(keyset::literal(value, set).ok_or_else(unreadable)?);
            }
            _ => return Err(unreadable()),
        }
    }
    if parts.next().is_some() {
        Err(unreadable())
    } else {
        Ok(literals)
    }
}
