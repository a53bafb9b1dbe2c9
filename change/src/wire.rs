//! Between our types and the generated messages.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::packet::WireError;
use crate::schema::{Column, ColumnKind, TableSchema};
use crate::sync::{self, frame};
use crate::{
    Body, Ddl, DdlObject, DdlSession, Flavor, Frame, Halt, Position, Progress, Refused, RowChange,
    RowFlags, SnapshotBegin, SnapshotChunk, SnapshotState, SnapshotTable, TableChange, TargetTable,
    Transaction, decode_row, decode_rows, encode_row,
};

/// Flags of row events, as both engines number them.
const NO_FOREIGN_KEY_CHECKS: u32 = 2;
const RELAXED_UNIQUE_CHECKS: u32 = 4;
const LOGS_CASCADES: u32 = 16;

/// The number of a table definition on this connection, defined on the way if it is new.
type IdOf<'a> = dyn FnMut(&Arc<TableSchema>) -> u32 + 'a;

type Tables = HashMap<u32, Arc<TableSchema>>;

pub(crate) fn frame_to_wire(frame: &Frame, id_of: &mut IdOf<'_>) -> sync::Frame {
    let body = match frame {
        Frame::SnapshotBegin(begin) => frame::Body::SnapshotBegin(begin_to_wire(begin)),
        Frame::SnapshotChunk(chunk) => frame::Body::SnapshotChunk(chunk_to_wire(chunk, id_of)),
        Frame::SnapshotEnd => frame::Body::SnapshotEnd(sync::SnapshotEnd {}),
        Frame::Transaction(transaction) => {
            frame::Body::Transaction(transaction_to_wire(transaction, id_of))
        }
        Frame::Progress(progress) => frame::Body::Progress(sync::Progress {
            position: Some((&progress.position).into()),
            epoch: progress.epoch,
            source_micros: progress.source_micros,
            filtered: progress.filtered,
            gtid: progress.gtid.clone(),
        }),
        Frame::Halt(halt) => frame::Body::Halt(sync::Halt {
            reason: halt.reason.clone(),
            message: halt.message.clone(),
        }),
    };
    sync::Frame { body: Some(body) }
}

pub(crate) fn frame_from_wire(frame: sync::Frame, tables: &Tables) -> Result<Frame, WireError> {
    Ok(match frame.body {
        Some(frame::Body::SnapshotBegin(begin)) => Frame::SnapshotBegin(begin_from_wire(begin)?),
        Some(frame::Body::SnapshotChunk(chunk)) => {
            Frame::SnapshotChunk(chunk_from_wire(chunk, tables)?)
        }
        Some(frame::Body::SnapshotEnd(_)) => Frame::SnapshotEnd,
        Some(frame::Body::Transaction(transaction)) => {
            Frame::Transaction(transaction_from_wire(transaction, tables)?)
        }
        Some(frame::Body::Progress(progress)) => Frame::Progress(Progress {
            position: position_from_wire(progress.position)?,
            epoch: progress.epoch,
            gtid: progress.gtid,
            source_micros: progress.source_micros,
            filtered: progress.filtered,
        }),
        Some(frame::Body::Halt(halt)) => Frame::Halt(Halt {
            reason: halt.reason,
            message: halt.message,
        }),
        Some(frame::Body::Table(_)) => return Err(unknown("a table definition out of place")),
        None => return Err(unknown("a frame of an unknown kind")),
    })
}

fn unknown(what: impl Into<String>) -> WireError {
    WireError::Unknown(what.into())
}

impl From<&Position> for sync::Position {
    fn from(position: &Position) -> Self {
        let flavor = match position.flavor() {
            Flavor::MySql => sync::Flavor::Mysql,
            Flavor::MariaDb => sync::Flavor::Mariadb,
        };
        Self {
            flavor: flavor.into(),
            text: position.to_string(),
        }
    }
}

impl TryFrom<&sync::Position> for Position {
    type Error = WireError;

    fn try_from(position: &sync::Position) -> Result<Self, WireError> {
        let flavor = match sync::Flavor::try_from(position.flavor) {
            Ok(sync::Flavor::Mysql) => Flavor::MySql,
            Ok(sync::Flavor::Mariadb) => Flavor::MariaDb,
            _ => {
                return Err(unknown(format!(
                    "a position of the engine {}",
                    position.flavor
                )));
            }
        };
        Ok(Position::parse(flavor, &position.text)?)
    }
}

fn position_from_wire(position: Option<sync::Position>) -> Result<Position, WireError> {
    let position = position.ok_or_else(|| unknown("a frame without its position"))?;
    Position::try_from(&position)
}

fn begin_to_wire(begin: &SnapshotBegin) -> sync::SnapshotBegin {
    let table = |table: &SnapshotTable| sync::SnapshotTable {
        database: table.database.clone(),
        table: table.table.clone(),
        create_statement: table.create_statement.clone(),
        rows_estimate: table.rows_estimate,
        create_database: table.create_database.clone(),
    };
    sync::SnapshotBegin {
        position: Some((&begin.position).into()),
        epoch: begin.epoch,
        tables: begin.tables.iter().map(table).collect(),
        resumed: begin.resumed,
    }
}

fn begin_from_wire(begin: sync::SnapshotBegin) -> Result<SnapshotBegin, WireError> {
    let table = |table: sync::SnapshotTable| SnapshotTable {
        database: table.database,
        table: table.table,
        create_database: table.create_database,
        create_statement: table.create_statement,
        rows_estimate: table.rows_estimate,
    };
    Ok(SnapshotBegin {
        position: position_from_wire(begin.position)?,
        epoch: begin.epoch,
        tables: begin.tables.into_iter().map(table).collect(),
        resumed: begin.resumed,
    })
}

fn chunk_to_wire(chunk: &SnapshotChunk, id_of: &mut IdOf<'_>) -> sync::SnapshotChunk {
    let mut rows = Vec::new();
    for row in &chunk.rows {
        encode_row(row, &mut rows);
    }
    sync::SnapshotChunk {
        table: id_of(&chunk.table),
        row_count: count(chunk.rows.len()),
        rows: rows.into(),
        cursor: chunk.cursor.clone(),
        done: chunk.done,
        rows_so_far: chunk.rows_so_far,
        rows_estimate: chunk.rows_estimate,
    }
}

fn chunk_from_wire(
    chunk: sync::SnapshotChunk,
    tables: &Tables,
) -> Result<SnapshotChunk, WireError> {
    let table = table_of(chunk.table, tables)?;
    let rows =
        decode_rows(chunk.rows, chunk.row_count as usize).map_err(|error| WireError::Row {
            table: table.to_string(),
            error,
        })?;
    check_widths(&table, rows.iter())?;
    Ok(SnapshotChunk {
        table,
        rows,
        cursor: chunk.cursor,
        done: chunk.done,
        rows_so_far: chunk.rows_so_far,
        rows_estimate: chunk.rows_estimate,
    })
}

/// Rows are counted in 32 bits on the wire; a part of a transaction is far smaller than that.
fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

fn table_of(id: u32, tables: &Tables) -> Result<Arc<TableSchema>, WireError> {
    tables
        .get(&id)
        .cloned()
        .ok_or_else(|| unknown(format!("rows of the undefined table {id}")))
}

fn check_widths<'a>(
    table: &TableSchema,
    mut rows: impl Iterator<Item = &'a crate::Row>,
) -> Result<(), WireError> {
    if rows.all(|row| row.len() == table.columns.len()) {
        Ok(())
    } else {
        Err(unknown(format!(
            "a row of {table} that has not the table's columns"
        )))
    }
}

fn transaction_to_wire(transaction: &Transaction, id_of: &mut IdOf<'_>) -> sync::Transaction {
    let (changes, ddl) = match &transaction.body {
        Body::Rows(changes) => (
            changes
                .iter()
                .flat_map(|change| change_to_wire(change, id_of))
                .collect(),
            None,
        ),
        Body::Ddl(ddl) => (Vec::new(), Some(ddl_to_wire(ddl))),
    };
    sync::Transaction {
        gtid: transaction.gtid.clone(),
        origin: transaction.origin.clone(),
        epoch: transaction.epoch,
        committed_micros: transaction.committed_micros,
        position: transaction.position.as_ref().map(Into::into),
        part: transaction.part,
        filtered: transaction.filtered,
        changes,
        ddl,
    }
}

fn transaction_from_wire(
    message: sync::Transaction,
    tables: &Tables,
) -> Result<Transaction, WireError> {
    let body = match message.ddl {
        Some(ddl) => Body::Ddl(ddl_from_wire(ddl)),
        None => Body::Rows(
            message
                .changes
                .into_iter()
                .map(|change| change_from_wire(change, tables))
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(Transaction {
        gtid: message.gtid,
        origin: message.origin,
        epoch: message.epoch,
        committed_micros: message.committed_micros,
        part: message.part,
        position: message
            .position
            .as_ref()
            .map(TryInto::try_into)
            .transpose()?,
        filtered: message.filtered,
        body,
    })
}

/// A change whose rows are of one kind gives one message; mixed ones give one for each run.
fn change_to_wire(change: &TableChange, id_of: &mut IdOf<'_>) -> Vec<sync::TableChange> {
    let mut flags = 0;
    if change.flags.no_foreign_key_checks {
        flags |= NO_FOREIGN_KEY_CHECKS;
    }
    if change.flags.relaxed_unique_checks {
        flags |= RELAXED_UNIQUE_CHECKS;
    }
    if change.flags.logs_cascades {
        flags |= LOGS_CASCADES;
    }
    let table = id_of(&change.table);
    change
        .rows
        .chunk_by(|left, right| kind_of(left) == kind_of(right))
        .map(|run| {
            let mut rows = Vec::new();
            for row in run {
                match row {
                    RowChange::Insert { after: row } | RowChange::Delete { before: row } => {
                        encode_row(row, &mut rows);
                    }
                    RowChange::Update { before, after } => {
                        encode_row(before, &mut rows);
                        encode_row(after, &mut rows);
                    }
                }
            }
            sync::TableChange {
                table,
                lenient: change.lenient,
                flags,
                kind: kind_of(&run[0]).into(),
                row_count: count(run.len()),
                rows: rows.into(),
            }
        })
        .collect()
}

fn kind_of(change: &RowChange) -> sync::RowKind {
    match change {
        RowChange::Insert { .. } => sync::RowKind::Insert,
        RowChange::Update { .. } => sync::RowKind::Update,
        RowChange::Delete { .. } => sync::RowKind::Delete,
    }
}

fn change_from_wire(change: sync::TableChange, tables: &Tables) -> Result<TableChange, WireError> {
    let table = table_of(change.table, tables)?;
    let kind = sync::RowKind::try_from(change.kind)
        .map_err(|_| unknown(format!("a row change of the kind {}", change.kind)))?;
    let rows = rows_from_wire(change.rows, change.row_count as usize, kind, &table)?;
    Ok(TableChange {
        table,
        lenient: change.lenient,
        flags: RowFlags {
            no_foreign_key_checks: change.flags & NO_FOREIGN_KEY_CHECKS != 0,
            relaxed_unique_checks: change.flags & RELAXED_UNIQUE_CHECKS != 0,
            logs_cascades: change.flags & LOGS_CASCADES != 0,
        },
        rows,
    })
}

fn rows_from_wire(
    mut input: Bytes,
    count: usize,
    kind: sync::RowKind,
    table: &TableSchema,
) -> Result<Vec<RowChange>, WireError> {
    let mut rows = Vec::with_capacity(count.min(input.len()));
    let mut next = || {
        let row = decode_row(&mut input).map_err(|error| WireError::Row {
            table: table.to_string(),
            error,
        })?;
        check_widths(table, std::iter::once(&row))?;
        Ok::<_, WireError>(row)
    };
    for _ in 0..count {
        rows.push(match kind {
            sync::RowKind::Insert => RowChange::Insert { after: next()? },
            sync::RowKind::Update => RowChange::Update {
                before: next()?,
                after: next()?,
            },
            sync::RowKind::Delete => RowChange::Delete { before: next()? },
        });
    }
    if input.is_empty() {
        Ok(rows)
    } else {
        Err(unknown(format!("more bytes than rows for {table}")))
    }
}

fn ddl_to_wire(ddl: &Ddl) -> sync::Ddl {
    let DdlSession {
        sql_mode,
        charset_client,
        collation_connection,
        collation_server,
        time_zone,
        foreign_key_checks,
        unique_checks,
        started_micros,
        default_collation_for_utf8mb4,
        explicit_defaults_for_timestamp,
        auto_increment,
    } = ddl.session.clone();
    let (auto_increment_increment, auto_increment_offset) = auto_increment.unwrap_or((0, 0));
    let object = |object: &DdlObject| sync::DdlObject {
        database: object.database.clone(),
        name: object.name.clone().unwrap_or_default(),
    };
    sync::Ddl {
        database: ddl.database.clone(),
        statement: ddl.statement.clone(),
        verb: ddl.verb.clone(),
        objects: ddl.objects.iter().map(object).collect(),
        sql_mode,
        charset_client: charset_client.into(),
        collation_connection: collation_connection.into(),
        collation_server: collation_server.into(),
        time_zone,
        foreign_key_checks,
        unique_checks,
        started_micros,
        default_collation_for_utf8mb4: default_collation_for_utf8mb4.into(),
        explicit_defaults_for_timestamp: match explicit_defaults_for_timestamp {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        },
        auto_increment_increment: auto_increment_increment.into(),
        auto_increment_offset: auto_increment_offset.into(),
        refused: ddl.refused.clone().map(|refused| sync::Refused {
            reason: refused.reason,
            what: refused.what,
            fix: refused.fix,
        }),
    }
}

fn ddl_from_wire(ddl: sync::Ddl) -> Ddl {
    // Collation ids have 16 bits in both engines; a wider one can only be rubbish, and 0 makes
    // the writer refuse the statement.
    let id = |number: u32| u16::try_from(number).unwrap_or(0);
    let object = |object: sync::DdlObject| DdlObject {
        database: object.database,
        name: Some(object.name).filter(|name| !name.is_empty()),
    };
    Ddl {
        database: ddl.database,
        statement: ddl.statement,
        verb: ddl.verb,
        objects: ddl.objects.into_iter().map(object).collect(),
        session: DdlSession {
            sql_mode: ddl.sql_mode,
            charset_client: id(ddl.charset_client),
            collation_connection: id(ddl.collation_connection),
            collation_server: id(ddl.collation_server),
            time_zone: ddl.time_zone,
            foreign_key_checks: ddl.foreign_key_checks,
            unique_checks: ddl.unique_checks,
            started_micros: ddl.started_micros,
            default_collation_for_utf8mb4: id(ddl.default_collation_for_utf8mb4),
            explicit_defaults_for_timestamp: match ddl.explicit_defaults_for_timestamp {
                1 => Some(false),
                2 => Some(true),
                _ => None,
            },
            auto_increment: match (
                id(ddl.auto_increment_increment),
                id(ddl.auto_increment_offset),
            ) {
                (0, _) => None,
                told => Some(told),
            },
        },
        refused: ddl.refused.map(|refused| {
            Box::new(Refused {
                reason: refused.reason,
                what: refused.what,
                fix: refused.fix,
            })
        }),
    }
}

pub(crate) fn table_to_wire(id: u32, schema: &TableSchema) -> sync::Frame {
    let column = |column: &Column| sync::Column {
        name: column.name.clone(),
        kind: column.kind.number(),
        unsigned: column.unsigned,
        nullable: column.nullable,
        collation: column.collation.into(),
        length: column.length,
        decimals: column.decimals.into(),
        members: column.members.clone(),
    };
    let table = sync::Table {
        id,
        database: schema.database.clone(),
        table: schema.table.clone(),
        columns: schema.columns.iter().map(column).collect(),
        key: schema
            .primary_key
            .iter()
            .map(|&index| count(index))
            .collect(),
    };
    sync::Frame {
        body: Some(frame::Body::Table(table)),
    }
}

pub(crate) fn table_from_wire(table: sync::Table) -> Result<(u32, TableSchema), WireError> {
    let columns = table
        .columns
        .into_iter()
        .map(|column| {
            let kind = ColumnKind::from_number(column.kind).ok_or_else(|| {
                unknown(format!(
                    "the column {} of the unknown type {}",
                    column.name, column.kind
                ))
            })?;
            let narrow = || {
                unknown(format!(
                    "the column {} with numbers out of range",
                    column.name
                ))
            };
            Ok(Column {
                kind,
                unsigned: column.unsigned,
                nullable: column.nullable,
                collation: column.collation.try_into().map_err(|_| narrow())?,
                length: column.length,
                decimals: column.decimals.try_into().map_err(|_| narrow())?,
                members: column.members,
                name: column.name,
            })
        })
        .collect::<Result<Vec<_>, WireError>>()?;
    let primary_key: Vec<usize> = table.key.iter().map(|&index| index as usize).collect();
    if primary_key.iter().any(|&index| index >= columns.len()) {
        return Err(unknown(format!(
            "a key of {} beyond its columns",
            table.table
        )));
    }
    let schema = TableSchema {
        database: table.database,
        table: table.table,
        columns,
        primary_key,
    };
    Ok((table.id, schema))
}

impl From<&TargetTable> for sync::TargetTable {
    fn from(table: &TargetTable) -> Self {
        let (snapshot, cursor, rows) = match &table.snapshot {
            SnapshotState::None => (sync::SnapshotState::None, Bytes::new(), 0),
            SnapshotState::Pending => (sync::SnapshotState::Pending, Bytes::new(), 0),
            SnapshotState::Running { cursor, rows } => {
                (sync::SnapshotState::Running, cursor.clone(), *rows)
            }
            SnapshotState::Done => (sync::SnapshotState::Done, Bytes::new(), 0),
        };
        Self {
            database: table.database.clone(),
            table: table.table.clone(),
            empty: table.empty,
            snapshot: snapshot.into(),
            cursor,
            rows,
        }
    }
}

impl TryFrom<sync::TargetTable> for TargetTable {
    type Error = WireError;

    fn try_from(table: sync::TargetTable) -> Result<Self, WireError> {
        let snapshot = match sync::SnapshotState::try_from(table.snapshot) {
            Ok(sync::SnapshotState::None) => SnapshotState::None,
            Ok(sync::SnapshotState::Pending) => SnapshotState::Pending,
            Ok(sync::SnapshotState::Running) => SnapshotState::Running {
                cursor: table.cursor,
                rows: table.rows,
            },
            Ok(sync::SnapshotState::Done) => SnapshotState::Done,
            Err(_) => return Err(unknown(format!("the snapshot state {}", table.snapshot))),
        };
        Ok(Self {
            database: table.database,
            table: table.table,
            empty: table.empty,
            snapshot,
        })
    }
}

impl sync::PullRequest {
    /// What a writer asks for: this release's protocol, its link, and what its target holds.
    pub fn of(
        link: String,
        checkpoint: Option<&Position>,
        epoch: u64,
        tables: &[TargetTable],
    ) -> Self {
        Self {
            protocol: crate::PROTOCOL,
            link,
            checkpoint: checkpoint.map(Into::into),
            epoch,
            tables: tables.iter().map(Into::into).collect(),
            relay: false,
            reads_refused: true,
            last: None,
        }
    }
}
