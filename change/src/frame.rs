//! What a syncer tells its writer, and what a writer asks for.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Position, Row, TableSchema, Transaction};

/// One thing that a syncer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A snapshot begins or goes on. Always the first frame where the writer had no checkpoint,
    /// also if no table is to be copied: its position is the first checkpoint.
    SnapshotBegin(SnapshotBegin),
    /// Rows of a table.
    SnapshotChunk(SnapshotChunk),
    /// Every table of the snapshot was copied.
    SnapshotEnd,
    /// A transaction or a part of one.
    Transaction(Transaction),
    /// Nothing to apply up to here.
    Progress(Progress),
    /// The syncer cannot go on; a person has to act. The stream ends after it.
    Halt(Halt),
}

/// A snapshot begins or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// Where the stream starts.
    pub position: Position,
    /// The source's epoch there.
    pub epoch: u64,
    /// The tables that will be copied (those still to be done, if it goes on).
    pub tables: Vec<SnapshotTable>,
    /// It goes on from what the writer told; nothing starts anew.
    pub resumed: bool,
}

/// A table that will be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotTable {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// How the database is made, as `SHOW CREATE DATABASE IF NOT EXISTS` prints it.
    pub create_database: String,
    /// How the table is made, as `SHOW CREATE TABLE` prints it: without the database's name.
    pub create_statement: String,
    /// How many rows the source thinks it has.
    pub rows_estimate: u64,
}

/// Rows of a table that is being copied, as they are at this point of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The table.
    pub table: Arc<TableSchema>,
    /// The rows; a chunk may have none, if each was changed while it was read.
    pub rows: Vec<Row>,
    /// Opaque: where the next chunk begins. To be stored with the rows and told on reconnect.
    pub cursor: Bytes,
    /// The table is copied whole.
    pub done: bool,
    /// Rows sent so far, these included.
    pub rows_so_far: u64,
    /// How many rows the source thinks the table has.
    pub rows_estimate: u64,
}

/// Nothing to apply between the last position and this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The source's position.
    pub position: Position,
    /// The source's epoch there.
    pub epoch: u64,
    /// The last transaction there; empty where an earlier release did not say.
    pub gtid: String,
    /// When that was committed, in microseconds since 1970 (UTC).
    pub source_micros: u64,
    /// Changes that were read and left out since the last position.
    pub filtered: u64,
}

/// Why a syncer cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// One CamelCase word.
    pub reason: String,
    /// What happened, to which object, and what to do.
    pub message: String,
}

impl Halt {
    /// The reason of a source that lacks what was applied from it. The writer keeps this one, since
    /// the source may soon have given out the lost numbers again.
    pub const SOURCE_WENT_BACK: &str = "SourceWentBack";
}

/// A table at the target, as the writer tells it when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTable {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Whether it holds no row.
    pub empty: bool,
    /// How far its copy is.
    pub snapshot: SnapshotState,
}

/// How far the copy of a table is at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotState {
    /// Not part of a snapshot.
    None,
    /// Part of the snapshot that was begun; nothing copied yet.
    Pending,
    /// Copied up to a cursor.
    Running {
        /// The cursor of the last chunk applied.
        cursor: Bytes,
        /// Rows applied so far.
        rows: u64,
    },
    /// Copied whole.
    Done,
}
