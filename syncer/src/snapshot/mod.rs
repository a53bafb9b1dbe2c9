//! Copying rows that exist, while the stream goes on and nothing is locked.
//!
//! The way is that of `DBLog` (arXiv 2010.12597). For each chunk: write a low mark into
//! `multiactive.watermark`, select the chunk, write a high mark. In the stream, what lies before
//! the low mark is in the chunk already and what lies behind the high mark comes after it. What
//! lies between may be in it or not, so rows of the chunk whose key was changed there are dropped:
//! the stream brought the newer row. What is left goes to the writer at the place of the high mark.
//! A chunk between whose marks the table itself was changed is read again.
//!
//! It needs that a transaction which precedes the low mark in the binlog is visible once the mark
//! is: `binlog_order_commits` on MySQL, always so on MariaDB.

mod chunk;
mod window;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use binlog::Notice;
use change::{Body, DdlObject, Position, SnapshotChunk, TableSchema, Transaction, Value};
use mysql::session::SessionOptions;
use tokio::task::{JoinError, JoinSet};

use crate::error::PullError;
use crate::start::{CopyStart, UNLOGGED};
use chunk::{Chunk, ChunkReader, Outcome, Request};
use window::Window;

/// Rows of the first chunk of a table; how large its rows are is not known yet.
const FIRST_LIMIT: u64 = 16;
/// A chunk has at most so many times the rows of the one before.
const GROWTH: u64 = 8;
/// A chunk has at most so many rows, however small they are.
const MOST_ROWS: u64 = 50_000;
/// How long to wait before a table that was not as expected is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

type Reading = Result<(ChunkReader, Outcome), PullError>;

/// The copying of the tables of one connection.
pub struct Snapshot {
    options: SessionOptions,
    link: String,
    chunk_bytes: u64,
    /// The first one is being copied.
    tables: VecDeque<Copying>,
    reader: Option<ChunkReader>,
    /// One at most. It goes on by itself, also while the stream leaves no time for anything else.
    reading: JoinSet<Reading>,
    outcome: Option<Outcome>,
    window: Option<Window>,
    /// The last chunk's table was not as expected: wait for the DDL before reading again.
    look_again: bool,
    next_mark: u64,
    /// What the source had executed when the connection began: a table that is missing once the
    /// stream is there was dropped.
    executed: Position,
    finished: bool,
}

struct Copying {
    start: CopyStart,
    limit: u64,
    /// Names of the key's columns, once known.
    key: Vec<String>,
}

impl Copying {
    fn is(&self, database: &str, table: &str) -> bool {
        self.start.database == database && self.start.table == table
    }

    fn touched_by(&self, object: &DdlObject) -> bool {
        object.database == self.start.database
            && object
                .name
                .as_ref()
                .is_none_or(|name| *name == self.start.table)
    }
}

impl Snapshot {
    /// Will copy these tables, in this order.
    pub fn new(
        options: SessionOptions,
        link: String,
        chunk_bytes: u64,
        tables: Vec<CopyStart>,
        executed: Position,
    ) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let copying = |start| Copying {
            start,
            limit: FIRST_LIMIT,
            key: Vec::new(),
        };
        Self {
            options,
            link,
            chunk_bytes: chunk_bytes.max(1),
            tables: tables.into_iter().map(copying).collect(),
            reader: None,
            reading: JoinSet::new(),
            outcome: None,
            window: None,
            look_again: false,
            // No mark of an earlier connection, which may still come in the stream, is met again.
            next_mark: u64::try_from(now.as_micros()).unwrap_or(1),
            executed,
            finished: false,
        }
    }

    /// Whether rows of a table may still be missing at the target.
    pub fn is_copying(&self, database: &str, table: &str) -> bool {
        self.tables
            .iter()
            .any(|copying| copying.is(database, table))
    }

    /// True once, when every table was copied.
    pub fn take_finished(&mut self) -> bool {
        let finished = self.tables.is_empty() && !self.finished;
        self.finished |= finished;
        finished
    }

    /// Begins to read the next chunk, if it is time, and takes one that was read.
    pub fn begin(&mut self) -> Result<(), PullError> {
        if let Some(read) = self.reading.try_join_next() {
            self.take_read(read)?;
        }
        let nothing = self.tables.front().is_none_or(|copying| copying.start.gone);
        if self.outcome.is_none() && !nothing && self.reading.is_empty() {
            self.begin_chunk();
        }
        Ok(())
    }

    /// Returns when a chunk was read and waits for its place in the stream. Dropping the future
    /// loses nothing. Pending for ever if nothing is being read.
    pub async fn work(&mut self) -> Result<(), PullError> {
        if self.reading.is_empty() {
            return std::future::pending().await;
        }
        self.finish_reading().await
    }

    async fn finish_reading(&mut self) -> Result<(), PullError> {
        match self.reading.join_next().await {
            Some(read) => self.take_read(read),
            None => Ok(()),
        }
    }

    fn take_read(&mut self, read: Result<Reading, JoinError>) -> Result<(), PullError> {
        let (reader, outcome) =
            read.map_err(|error| PullError::NotYet(format!("a chunk was not read: {error}")))??;
        self.reader = Some(reader);
        self.outcome = Some(outcome);
        Ok(())
    }

    fn begin_chunk(&mut self) {
        let Some(copying) = self.tables.front() else {
            return;
        };
        let request = Request {
            mark: self.next_mark,
            database: copying.start.database.clone(),
            table: copying.start.table.clone(),
            cursor: copying.start.cursor.clone(),
            limit: copying.limit,
            most_bytes: usize::try_from(self.chunk_bytes.saturating_mul(2)).unwrap_or(usize::MAX),
        };
        self.next_mark += 1;
        let key = copying.key.clone();
        self.window = Some(Window::new(
            request.mark,
            &request.database,
            &request.table,
            key,
        ));
        let wait = std::mem::take(&mut self.look_again);
        let (options, link) = (self.options.clone(), self.link.clone());
        let reader = self.reader.take();
        self.reading.spawn(async move {
            let mut reader = match reader {
                Some(reader) => reader,
                None => ChunkReader::connect(&options, link).await?,
            };
            if wait {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let lifeline = reader.lifeline().clone();
            let outcome = lifeline.wait(reader.read(&request)).await??;
            Ok((reader, outcome))
        });
    }

    /// Marks the changes of tables that are being copied as lenient, and remembers their keys.
    pub fn see(&mut self, transaction: &mut Transaction) {
        let Body::Rows(changes) = &mut transaction.body else {
            return;
        };
        for change in changes.iter_mut() {
            change.lenient = self.is_copying(&change.table.database, &change.table.table);
        }
        if let Some(window) = &mut self.window {
            window.see(changes);
        }
    }

    /// The stream got to a position. Tables that were gone before this connection began have been
    /// dropped in what it has passed by now.
    pub fn reach(&mut self, position: &Position) {
        let any = self.tables.iter().any(|copying| copying.start.gone);
        if any && position.contains(&self.executed) {
            self.tables.retain(|copying| !copying.start.gone);
        }
    }

    /// Something that the stream met. Returns a chunk when its place has come.
    pub async fn notice(&mut self, notice: &Notice) -> Result<Option<SnapshotChunk>, PullError> {
        match notice {
            Notice::Watermark(schema, row) => {
                let Some((low, high)) = marks(schema, row, &self.link) else {
                    return Ok(None);
                };
                let Some(window) = &mut self.window else {
                    return Ok(None);
                };
                if !window.mark(low, high) {
                    return Ok(None);
                }
                // The mark is in the binlog a little before the reader has the server's answer.
                self.finish_reading().await?;
                Ok(self.take_chunk())
            }
            Notice::Statement { verb, objects } => self.statement(verb, objects).map(|()| None),
            Notice::ForeignEpoch { epoch, idc } if !self.tables.is_empty() => {
                Err(PullError::primary_moved(*epoch, idc))
            }
            Notice::ForeignEpoch { .. } => Ok(None),
        }
    }

    fn statement(&mut self, verb: &str, objects: &[DdlObject]) -> Result<(), PullError> {
        let touched = |copying: &Copying| objects.iter().any(|object| copying.touched_by(object));
        if verb == "DROP TABLE" || verb == "DROP DATABASE" {
            let first = self.tables.front().is_some_and(touched);
            self.tables.retain(|copying| !touched(copying));
            if first {
                self.abandon_chunk();
            }
            return Ok(());
        }
        if let Some(copying) = self.tables.iter().find(|copying| touched(copying)) {
            let renames = verb == "RENAME TABLE" || (verb == "ALTER TABLE" && objects.len() > 1);
            if renames {
                let CopyStart {
                    database, table, ..
                } = &copying.start;
                return Err(PullError::halt(
                    "RenamedWhileCopied",
                    format!(
                        "table {database}.{table} was renamed or exchanged while it was being \
                         copied. Empty the link's tables at the target ({UNLOGGED}), remove its row \
                         from multiactive.applied there, and let it copy them anew"
                    ),
                ));
            }
        }
        let first = self.tables.front().is_some_and(touched);
        if let Some(window) = self.window.as_mut().filter(|_| first) {
            window.spoil();
        }
        Ok(())
    }

    /// What is being read is of a table that is not copied any more.
    fn abandon_chunk(&mut self) {
        self.window = None;
        self.outcome = None;
        // The session is in the middle of something; the next chunk opens another.
        self.reading = JoinSet::new();
        self.reader = None;
    }

    fn take_chunk(&mut self) -> Option<SnapshotChunk> {
        let (window, outcome) = (self.window.take()?, self.outcome.take()?);
        let copying = self.tables.front_mut()?;
        let Outcome::Read(chunk) = outcome else {
            // The DDL that changed it is on its way through the stream.
            self.look_again = true;
            return None;
        };
        let key = &chunk.table.primary_key;
        copying.key = key
            .iter()
            .map(|&place| chunk.table.columns[place].name.clone())
            .collect();
        copying.limit = next_limit(&chunk, copying.limit, self.chunk_bytes);
        let rows = window.left(&chunk.table, chunk.rows)?;
        copying.start.cursor = Some(chunk.cursor.clone());
        copying.start.rows += rows.len() as u64;
        let sent = SnapshotChunk {
            table: chunk.table,
            rows,
            cursor: chunk.cursor,
            done: chunk.done,
            rows_so_far: copying.start.rows,
            rows_estimate: chunk.rows_estimate,
        };
        if chunk.done {
            self.tables.pop_front();
        }
        Some(sent)
    }
}

/// As many rows as take the wished number of bytes, going by the last chunk.
fn next_limit(chunk: &Chunk, limit: u64, wished: u64) -> u64 {
    let rows = chunk.rows.len() as u64;
    let average = (chunk.bytes as u64).checked_div(rows).unwrap_or(1).max(1);
    (wished / average).clamp(1, limit.saturating_mul(GROWTH).min(MOST_ROWS))
}

/// Low and high of a row of `multiactive.watermark`, if it is this link's.
fn marks(schema: &TableSchema, row: &[Value], link: &str) -> Option<(u64, u64)> {
    let of = |name: &str| {
        let place = schema
            .columns
            .iter()
            .position(|column| column.name == name)?;
        row.get(place)
    };
    match of("link")? {
        Value::Text(text) | Value::Bytes(text) if text == link.as_bytes() => {}
        _ => return None,
    }
    let number = |value: &Value| match value {
        Value::UInt(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Text(text) | Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    };
    Some((number(of("low")?)?, number(of("high")?)?))
}
