//! From the events on the wire to the few things that make up transactions.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use change::{Flavor, Gtid, MariaDbGtid, MySqlGtid, ServerUuid};
use mysql_async::binlog::events::{Event, GtidEvent};

use crate::error::{BinlogError, Place};
use crate::event::{self, MariaDbGtidEvent, PayloadEvent, QueryEvent, XaStep, kind};
use crate::input::{Defect, Input};
use crate::rows::{RowsEvent, RowsKind};
use crate::table_map::{self, TableMap, TableMapError};

/// So many different table maps are remembered; then all are forgotten.
const MAX_TABLE_MAPS: usize = 4096;

/// One thing that the log says.
#[derive(Debug, Clone)]
pub enum LogEvent {
    /// Nothing that concerns us.
    Nothing,
    /// The server is there.
    Heartbeat,
    /// A transaction begins.
    Gtid(GtidStart),
    /// A row transaction begins (MySQL; on MariaDB the GTID says so).
    Begin,
    /// A transaction ends well.
    Commit,
    /// A transaction was rolled back, and what it did is logged all the same since a table without
    /// transactions took part.
    Rollback,
    /// A place in the transaction gets a name.
    Savepoint(String),
    /// What came since that place was rolled back, for the same reason.
    RollbackTo(String),
    /// A statement of an XA transaction.
    Xa(XaStep),
    /// An XA transaction is prepared, or committed at once (`one_phase`).
    XaPrepared {
        /// Nothing more comes of it.
        one_phase: bool,
    },
    /// A statement: DDL, or a change of rows that is logged as a statement.
    Statement(QueryEvent),
    /// Rows changed.
    Rows(Arc<KnownTable>, RowsEvent),
    /// Rows changed, and of JSON values only what changed in them is there.
    PartialJson(Arc<KnownTable>),
    /// A row event that only ends a statement.
    EndOfStatement,
}

/// The start of a transaction.
#[derive(Debug, Clone)]
pub struct GtidStart {
    /// Its identity.
    pub gtid: Gtid,
    /// When it was committed on the server that gave it its GTID, microseconds since 1970: a copy
    /// of that server says the same.
    pub committed_micros: u64,
    /// The one event that follows is all of it (MariaDB; MySQL does not tell).
    pub standalone: bool,
    /// The XA transaction that it prepares (MariaDB; on MySQL a statement tells).
    pub prepares: Option<String>,
}

/// A table whose rows follow.
#[derive(Debug)]
pub struct KnownTable {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Its columns.
    pub map: TableMap,
}

/// Decodes events; remembers file, format and table maps.
pub struct Decoder {
    flavor: Flavor,
    place: Place,
    tables: HashMap<u64, Arc<KnownTable>>,
    /// By the event's bytes behind the table id: a table map precedes each statement and is
    /// nearly always one that was seen before.
    maps: HashMap<Bytes, Arc<KnownTable>>,
    /// Bytes of a compressed transaction that have not come yet.
    payload_left: u64,
}

impl Decoder {
    /// Nothing was read yet.
    pub fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            place: Place::default(),
            tables: HashMap::new(),
            maps: HashMap::new(),
            payload_left: 0,
        }
    }

    /// Tells the decoder which transaction is open, for messages.
    pub fn set_transaction(&mut self, gtid: Option<Gtid>) {
        self.place.gtid = gtid;
    }

    /// Where the last event was.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What was wrong, with its place.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers have defects and numbers to give away"
    )]
    pub fn malformed(&self, event: impl ToString, reason: impl ToString) -> BinlogError {
        BinlogError::Malformed {
            event: event.to_string(),
            place: Box::new(self.place.clone()),
            reason: reason.to_string(),
        }
    }

    /// Something that is refused, with its place.
    pub fn refused(
        &self,
        reason: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> BinlogError {
        BinlogError::Refused {
            reason,
            what: what.into(),
            place: Box::new(self.place.clone()),
            fix: fix.into(),
        }
    }

    /// Decodes one event. `wanted` says whether the columns of a table have to be known.
    pub fn decode(
        &mut self,
        event: &Event,
        wanted: &mut dyn FnMut(&str, &str) -> bool,
    ) -> Result<LogEvent, BinlogError> {
        let header = event.header();
        let number = header.event_type_raw();
        self.check_payload(event)?;
        if header.log_pos() != 0 {
            self.place.offset = header.log_pos().into();
        }
        self.check_sum(event)?;
        let input = Input::of(event.data());
        let result = match number {
            kind::GTID | kind::TAGGED_GTID => return self.mysql_gtid(event),
            kind::MARIADB_GTID => return self.mariadb_gtid(input, header),
            kind::QUERY | kind::MARIADB_QUERY_COMPRESSED => {
                QueryEvent::read(input, header.timestamp(), number != kind::QUERY).map(sort_query)
            }
            // Who looks at the statement sees that it changes rows, and of which databases.
            kind::EXECUTE_LOAD_QUERY => {
                QueryEvent::read_load(input, header.timestamp()).map(LogEvent::Statement)
            }
            kind::PARTIAL_UPDATE_ROWS => return self.partial_json(input),
            kind::XA_PREPARE => xa_prepared(input),
            kind::XID => Ok(LogEvent::Commit),
            kind::TABLE_MAP => return self.table_map(input, wanted),
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => Ok(LogEvent::Heartbeat),
            kind::ROTATE => event::rotate(input).map(|file| {
                self.place.file = file;
                LogEvent::Nothing
            }),
            kind::FORMAT_DESCRIPTION => {
                self.tables.clear();
                Ok(LogEvent::Nothing)
            }
            kind::TRANSACTION_PAYLOAD => PayloadEvent::read(input).map(|payload| {
                self.payload_left = payload.uncompressed;
                LogEvent::Nothing
            }),
            _ => match rows_kind(number) {
                Some((rows, version, compressed)) => {
                    return self.rows(number, rows, version, compressed, input);
                }
                None => return self.other(number, header.flags_raw()),
            },
        };
        result.map_err(|defect| self.malformed(number, defect))
    }

    /// The driver leaves out the events of a compressed transaction that it cannot decompress, so
    /// what comes out is measured against what the transaction promised.
    fn check_payload(&mut self, event: &Event) -> Result<(), BinlogError> {
        if self.payload_left == 0 {
            return Ok(());
        }
        let size = u64::from(event.header().event_size());
        let inside = event.header().log_pos() == 0 || !event.footer().get_checksum_enabled();
        match self.payload_left.checked_sub(size) {
            Some(left) if inside || left == 0 => {
                self.payload_left = left;
                Ok(())
            }
            _ => Err(self.malformed(
                "of a compressed transaction",
                format!(
                    "{} bytes of it do not decompress into events",
                    self.payload_left
                ),
            )),
        }
    }

    fn check_sum(&self, event: &Event) -> Result<(), BinlogError> {
        let (Some(expected), Ok(Some(algorithm))) =
            (event.checksum(), event.footer().get_checksum_alg())
        else {
            return Ok(());
        };
        if algorithm != mysql_async::binlog::BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32
            || !event.footer().get_checksum_enabled()
        {
            return Ok(());
        }
        // Made-up events are not all given a checksum that fits, and change nothing.
        let made_up = event.header().log_pos() == 0
            || matches!(
                event.header().event_type_raw(),
                kind::ROTATE | kind::FORMAT_DESCRIPTION | kind::HEARTBEAT | kind::HEARTBEAT_V2
            );
        if made_up || event.calc_checksum(algorithm) == u32::from_le_bytes(expected) {
            return Ok(());
        }
        Err(BinlogError::Checksum {
            event: event.header().event_type_raw().to_string(),
            place: Box::new(self.place.clone()),
        })
    }

    fn mysql_gtid(&mut self, event: &Event) -> Result<LogEvent, BinlogError> {
        let start: GtidEvent = event
            .read_event()
            .map_err(|error| self.malformed("GTID", error))?;
        let tag = start
            .tag()
            .map(|tag| tag.as_str().to_owned())
            .unwrap_or_default();
        let gtid = MySqlGtid {
            uuid: ServerUuid(start.sid()),
            tag,
            number: start.gno(),
        };
        Ok(LogEvent::Gtid(GtidStart {
            gtid: Gtid::MySql(gtid),
            committed_micros: match start.original_commit_timestamp() {
                0 => u64::from(event.header().timestamp()) * 1_000_000,
                micros => micros,
            },
            standalone: false,
            prepares: None,
        }))
    }

    fn mariadb_gtid(
        &mut self,
        input: Input,
        header: mysql_async::binlog::events::BinlogEventHeader,
    ) -> Result<LogEvent, BinlogError> {
        let start =
            MariaDbGtidEvent::read(input).map_err(|defect| self.malformed("GTID", defect))?;
        let gtid = Gtid::MariaDb(MariaDbGtid {
            domain: start.domain,
            server: header.server_id(),
            sequence: start.sequence,
        });
        self.set_transaction(Some(gtid.clone()));
        Ok(LogEvent::Gtid(GtidStart {
            gtid,
            committed_micros: u64::from(header.timestamp()) * 1_000_000,
            standalone: start.standalone,
            prepares: start.prepares,
        }))
    }

    /// XA is not supported. `which` tells more of it.
    pub fn xa(&self, which: &str) -> BinlogError {
        self.refused(
            "Xa",
            format!("an XA transaction was met {which}"),
            "Links do not carry XA transactions yet: use ordinary transactions for the link's tables",
        )
    }

    fn table_map(
        &mut self,
        mut input: Input,
        wanted: &mut dyn FnMut(&str, &str) -> bool,
    ) -> Result<LogEvent, BinlogError> {
        let table_id = input
            .little(6)
            .map_err(|defect| self.malformed("TABLE_MAP", defect))?;
        let known = if let Some(known) = self.maps.get(&input.0) {
            Arc::clone(known)
        } else {
            let body = input.0.clone();
            let known = Arc::new(self.new_table(input, wanted)?);
            if self.maps.len() >= MAX_TABLE_MAPS {
                self.maps.clear();
            }
            self.maps.insert(body, Arc::clone(&known));
            known
        };
        self.tables.insert(table_id, known);
        Ok(LogEvent::Nothing)
    }

    fn new_table(
        &self,
        mut input: Input,
        wanted: &mut dyn FnMut(&str, &str) -> bool,
    ) -> Result<KnownTable, BinlogError> {
        let malformed = |defect| self.malformed("TABLE_MAP", defect);
        let _flags = input.u16().map_err(malformed)?;
        let (database, table) = table_map::names(&mut input).map_err(malformed)?;
        let map = table_map::columns(
            self.flavor,
            &database,
            &table,
            input,
            wanted(&database, &table),
        );
        let map = map.map_err(|error| match error {
            TableMapError::Defect(defect) => malformed(defect),
            TableMapError::NoNames(_) => self.refused(
                "RowMetadata",
                error.to_string(),
                "SET GLOBAL binlog_row_metadata = 'FULL' (and put it into the configuration), then \
                 let the link copy its tables anew, since what was logged before cannot be read",
            ),
            TableMapError::Unsupported { ref table, .. } => self.refused(
                "UnsupportedType",
                error.to_string(),
                format!("Change the column's type or exclude {table} from the link"),
            ),
        })?;
        Ok(KnownTable {
            database,
            table,
            map,
        })
    }

    fn rows(
        &mut self,
        number: u8,
        kind: RowsKind,
        version: u8,
        compressed: bool,
        input: Input,
    ) -> Result<LogEvent, BinlogError> {
        let rows = RowsEvent::read(kind, version, compressed, input)
            .map_err(|defect| self.malformed(number, defect))?;
        if rows.is_dummy() {
            self.tables.clear();
            return Ok(LogEvent::EndOfStatement);
        }
        let table = self.table_of(number, rows.table_id)?;
        if rows.ends_statement {
            self.tables.clear();
        }
        if !rows.fits(&table.map) {
            return Err(self.malformed(number, "it has another number of columns than its table"));
        }
        Ok(LogEvent::Rows(table, rows))
    }

    /// Of an update with parts of JSON values, which table it is about is all that is read.
    fn partial_json(&mut self, mut input: Input) -> Result<LogEvent, BinlogError> {
        const STATEMENT_END: u16 = 1;
        let malformed = |defect: Defect| self.malformed(kind::PARTIAL_UPDATE_ROWS, defect);
        let table_id = input.little(6).map_err(malformed)?;
        let flags = input.u16().map_err(malformed)?;
        let table = self.table_of(kind::PARTIAL_UPDATE_ROWS, table_id)?;
        if flags & STATEMENT_END != 0 {
            self.tables.clear();
        }
        Ok(LogEvent::PartialJson(table))
    }

    fn table_of(&self, number: u8, table_id: u64) -> Result<Arc<KnownTable>, BinlogError> {
        self.tables.get(&table_id).cloned().ok_or_else(|| {
            self.malformed(
                number,
                format!("no table map came for the table {table_id}"),
            )
        })
    }

    /// Events that are neither decoded nor harmful are named one by one; all others stop the link.
    fn other(&mut self, number: u8, flags: u16) -> Result<LogEvent, BinlogError> {
        match number {
            kind::STOP
            | kind::IGNORABLE
            | kind::ROWS_QUERY
            | kind::PREVIOUS_GTIDS
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            // These precede a statement, which is looked at itself.
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::BEGIN_LOAD_QUERY
            | kind::APPEND_BLOCK
            | kind::DELETE_FILE
            | kind::MARIADB_ANNOTATE_ROWS
            | kind::MARIADB_BINLOG_CHECKPOINT
            | kind::MARIADB_GTID_LIST
            | kind::MARIADB_START_ENCRYPTION => Ok(LogEvent::Nothing),
            kind::ANONYMOUS_GTID => Err(self.refused(
                "NoGtid",
                "a transaction without a GTID was met",
                "SET GLOBAL gtid_mode = 'ON' (by its steps, see the server's manual)",
            )),
            kind::INCIDENT => Err(self.refused(
                "Incident",
                "the server says that its binlog lacks changes (an incident event)",
                "Empty the target's tables and let the link copy them anew",
            )),
            _ if flags & event::IGNORABLE_FLAG != 0 => Ok(LogEvent::Nothing),
            _ => Err(self.refused(
                "UnknownEvent",
                format!("an event of the unknown type {number} was met ({})", self.flavor),
                "Use a version of multiactive that knows this version of the server",
            )),
        }
    }
}

fn xa_prepared(mut input: Input) -> Result<LogEvent, Defect> {
    let one_phase = input.u8()? != 0;
    Ok(LogEvent::XaPrepared { one_phase })
}

fn rows_kind(number: u8) -> Option<(RowsKind, u8, bool)> {
    Some(match number {
        kind::WRITE_ROWS_V1 => (RowsKind::Insert, 1, false),
        kind::UPDATE_ROWS_V1 => (RowsKind::Update, 1, false),
        kind::DELETE_ROWS_V1 => (RowsKind::Delete, 1, false),
        kind::WRITE_ROWS => (RowsKind::Insert, 2, false),
        kind::UPDATE_ROWS => (RowsKind::Update, 2, false),
        kind::DELETE_ROWS => (RowsKind::Delete, 2, false),
        kind::MARIADB_WRITE_ROWS_COMPRESSED_V1 => (RowsKind::Insert, 1, true),
        kind::MARIADB_UPDATE_ROWS_COMPRESSED_V1 => (RowsKind::Update, 1, true),
        kind::MARIADB_DELETE_ROWS_COMPRESSED_V1 => (RowsKind::Delete, 1, true),
        kind::MARIADB_WRITE_ROWS_COMPRESSED => (RowsKind::Insert, 2, true),
        kind::MARIADB_UPDATE_ROWS_COMPRESSED => (RowsKind::Update, 2, true),
        kind::MARIADB_DELETE_ROWS_COMPRESSED => (RowsKind::Delete, 2, true),
        _ => return None,
    })
}

/// Statements that only mark out transactions are told from the rest.
fn sort_query(query: QueryEvent) -> LogEvent {
    let is = |word: &str| query.statement.eq_ignore_ascii_case(word.as_bytes());
    let starts = |word: &str| {
        query
            .statement
            .get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
    };
    if is("BEGIN") {
        LogEvent::Begin
    } else if is("COMMIT") {
        LogEvent::Commit
    } else if is("ROLLBACK") || starts("ROLLBACK ") {
        match savepoint_after(&query.statement, &["ROLLBACK", "WORK", "TO", "SAVEPOINT"]) {
            Some(name) => LogEvent::RollbackTo(name),
            None => LogEvent::Rollback,
        }
    } else if starts("XA ") {
        LogEvent::Xa(XaStep::of(&query.statement))
    } else if starts("SAVEPOINT ") {
        match savepoint_after(&query.statement, &["SAVEPOINT"]) {
            Some(name) => LogEvent::Savepoint(name),
            None => LogEvent::Statement(query),
        }
    } else if starts("RELEASE SAVEPOINT ") {
        LogEvent::Nothing
    } else {
        LogEvent::Statement(query)
    }
}

/// The savepoint that a statement names behind these words, of which WORK and the second SAVEPOINT may
/// be left out; `None` if it names none. Names are compared without case.
fn savepoint_after(statement: &[u8], words: &[&str]) -> Option<String> {
    let text = String::from_utf8_lossy(statement).to_lowercase();
    let mut rest = text.trim_end();
    for word in words {
        let behind = rest.trim_start().strip_prefix(&word.to_lowercase());
        let is_word = |behind: &&str| {
            behind.starts_with(|next: char| next.is_whitespace() || next == '`' || next == '"')
        };
        match behind.filter(is_word) {
            Some(behind) => rest = behind,
            None if matches!(*word, "TO" | "ROLLBACK") => return None,
            None => {}
        }
    }
    let name = rest.trim().trim_matches(['`', '"']);
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use change::DdlSession;

    use super::*;

    fn sorted(statement: &'static str) -> String {
        let event = sort_query(QueryEvent {
            database: "shop".into(),
            statement: Bytes::from_static(statement.as_bytes()),
            error: 0,
            session: DdlSession::default(),
            unknown_setting: None,
        });
        match event {
            LogEvent::Savepoint(name) => format!("savepoint {name}"),
            LogEvent::RollbackTo(name) => format!("back to {name}"),
            LogEvent::Rollback => "rollback".into(),
            LogEvent::Nothing => "nothing".into(),
            LogEvent::Statement(_) => "statement".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn rolling_back_to_a_savepoint_is_not_rolling_back() {
        for (statement, expected) in [
            ("ROLLBACK", "rollback"),
            ("rollback work", "rollback"),
            ("ROLLBACK /* made by the server */", "rollback"),
            ("ROLLBACK TO `Sp`", "back to sp"),
            ("ROLLBACK TO SAVEPOINT sp", "back to sp"),
            ("rollback work to savepoint `to`", "back to to"),
            ("ROLLBACK TO `savepoint`", "back to savepoint"),
            ("SAVEPOINT `sp`", "savepoint sp"),
            ("SAVEPOINT sp", "savepoint sp"),
            ("RELEASE SAVEPOINT sp", "nothing"),
            ("TRUNCATE t", "statement"),
            ("XA START X'78',X'',1", "Xa(Start(\"X'78',X'',1\"))"),
            ("XA END X'78',X'',1", "Xa(End)"),
            ("XA COMMIT X'78',X'',1", "Xa(Commit(\"X'78',X'',1\"))"),
            ("XA ROLLBACK X'78',X'',1", "Xa(Rollback(\"X'78',X'',1\"))"),
            ("XA COMMIT X'78',X'',1 ONE PHASE", "Xa(Other)"),
        ] {
            assert_eq!(sorted(statement), expected, "{statement}");
        }
    }
}
