//! The events of both engines, but for rows and table maps.

use bytes::Bytes;
use change::DdlSession;

use crate::input::{Defect, Input, text};

/// Event types.
pub mod kind {
    #![allow(missing_docs)]
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const APPEND_BLOCK: u8 = 9;
    pub const DELETE_FILE: u8 = 11;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const TAGGED_GTID: u8 = 42;
    pub const MARIADB_ANNOTATE_ROWS: u8 = 160;
    pub const MARIADB_BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const MARIADB_GTID_LIST: u8 = 163;
    pub const MARIADB_START_ENCRYPTION: u8 = 164;
    pub const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub const MARIADB_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const MARIADB_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const MARIADB_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const MARIADB_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const MARIADB_UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const MARIADB_DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// The flag of events that a reader may pass over if it does not know them.
pub const IGNORABLE_FLAG: u16 = 0x80;

/// A statement, and the settings of the session that ran it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryEvent {
    /// The default database; empty: none.
    pub database: String,
    /// The statement, in the session's character set.
    pub statement: Bytes,
    /// The error that the statement ended in at its source; 0: none.
    pub error: u16,
    /// The settings.
    pub session: DdlSession,
    /// The number of a setting that is not known. It hides those behind it, so the statement
    /// cannot be run elsewhere with the same result.
    pub unknown_setting: Option<u8>,
}

/// Bits of the status variable `Q_FLAGS2_CODE`.
const FLAG_NO_FOREIGN_KEY_CHECKS: u32 = 1 << 26;
const FLAG_RELAXED_UNIQUE_CHECKS: u32 = 1 << 27;

impl QueryEvent {
    /// The statement for people, shortened.
    pub fn shown(&self) -> String {
        change::shown(&self.statement, change::SHOWN)
    }

    /// Reads a query event; `timestamp` is its header's, in seconds. `compressed`: MariaDB's
    /// compressed form.
    pub fn read(input: Input, timestamp: u32, compressed: bool) -> Result<Self, Defect> {
        Self::read_behind(input, timestamp, compressed, 0)
    }

    /// Reads the event of a LOAD DATA: one whose header goes on with the number of the file, where its
    /// name begins and ends in the statement, and what is done with duplicates.
    pub fn read_load(input: Input, timestamp: u32) -> Result<Self, Defect> {
        const OF_THE_FILE: usize = 4 + 4 + 4 + 1;
        Self::read_behind(input, timestamp, false, OF_THE_FILE)
    }

    fn read_behind(
        mut input: Input,
        timestamp: u32,
        compressed: bool,
        more_header: usize,
    ) -> Result<Self, Defect> {
        input.skip(8)?; // thread id, execution time
        let database_length = input.u8()?;
        let error = input.u16()?;
        let status_length = input.u16()?;
        input.skip(more_header)?;
        let status = Input(input.take(status_length.into())?);
        let database = text(&input.take(database_length.into())?)?;
        input.skip(1)?;
        let statement = if compressed { inflate(input)? } else { input.0 };
        let (mut session, unknown_setting) = read_status(status)?;
        session.started_micros += u64::from(timestamp) * 1_000_000;
        Ok(Self {
            database,
            statement,
            error,
            session,
            unknown_setting,
        })
    }
}

/// The status variables of a query event, as `Query_event` in
/// `libs/mysql/binlog/event/statement_events.h` of MySQL and `Query_log_event` in `sql/log_event.h`
/// of MariaDB list them. They are written without lengths, so one that is not known hides those
/// behind it; its number is given too then.
#[expect(
    clippy::match_same_arms,
    reason = "one arm for each variable, with what it is"
)]
fn read_status(mut input: Input) -> Result<(DdlSession, Option<u8>), Defect> {
    let mut session = DdlSession {
        foreign_key_checks: true,
        unique_checks: true,
        ..DdlSession::default()
    };
    while !input.is_empty() {
        match input.u8()? {
            0 => {
                let flags = input.u32()?;
                session.foreign_key_checks = flags & FLAG_NO_FOREIGN_KEY_CHECKS == 0;
                session.unique_checks = flags & FLAG_RELAXED_UNIQUE_CHECKS == 0;
            }
            1 => session.sql_mode = input.u64()?,
            // The catalog, with a zero behind it; always "std".
            2 => {
                let length = input.u8()?;
                input.skip(usize::from(length) + 1)?;
            }
            3 => session.auto_increment = Some((input.u16()?, input.u16()?)),
            4 => {
                session.charset_client = input.u16()?;
                session.collation_connection = input.u16()?;
                session.collation_server = input.u16()?;
            }
            5 => {
                let length = input.u8()?;
                session.time_zone = text(&input.take(length.into())?)?;
            }
            6 => {
                let length = input.u8()?;
                input.skip(length.into())?;
            }
            7 | 8 => input.skip(2)?, // lc_time_names, charset of the database
            9 => input.skip(8)?,     // tables of a multi-table update
            10 => input.skip(4)?,    // master_data_written
            11 => {
                for _ in 0..2 {
                    let length = input.u8()?; // user, host
                    input.skip(length.into())?;
                }
            }
            12 => updated_databases(&mut input)?,
            13 => session.started_micros += input.little(3)?,
            // MySQL: commit timestamps of before 5.7.
            14 | 15 => input.skip(8)?,
            16 => session.explicit_defaults_for_timestamp = Some(input.u8()? != 0),
            17 => input.skip(8)?, // DDL's transaction number in the engine
            18 => session.default_collation_for_utf8mb4 = input.u16()?,
            // sql_require_primary_key, default_table_encryption, and one that MySQL 9.7 writes with
            // changes of rows only.
            19..=21 => input.skip(1)?,
            // MariaDB.
            128 => session.started_micros += input.little(3)?,
            129 => input.skip(8)?, // transaction number of DDL
            130 => {
                // Flags: one for several engines, the others for an ALTER logged in two steps.
                const MULTI_ENGINE: u8 = 1;
                if input.u8()? & !MULTI_ENGINE != 0 {
                    return Err(Defect::from(
                        "an ALTER is logged in two steps; SET GLOBAL binlog_alter_two_phase = OFF",
                    ));
                }
            }
            131 => {
                let pairs = input.u8()?;
                input.skip(usize::from(pairs) * 4)?; // default collations of character sets
            }
            other => return Ok((session, Some(other))),
        }
    }
    Ok((session, None))
}

/// Databases that the statement changes; 254 means too many to name.
fn updated_databases(input: &mut Input) -> Result<(), Defect> {
    const TOO_MANY: u8 = 254;
    let count = input.u8()?;
    if count != TOO_MANY {
        for _ in 0..count {
            while input.u8()? != 0 {}
        }
    }
    Ok(())
}

/// MariaDB's compressed form: a byte `0x80 | n` (bits 4 to 6: algorithm, 0 is zlib), the length
/// of the content in n bytes, big endian, and a zlib stream.
pub fn inflate(mut input: Input) -> Result<Bytes, Defect> {
    const LARGEST: u64 = 1 << 30;
    /// How many bytes deflate makes of one at most (zlib's technical notes).
    const MOST_INFLATED: u64 = 1032;
    let header = input.u8()?;
    if header & 0xf0 != 0x80 {
        return Err(Defect(format!("the compression {header:#x} is not known")));
    }
    let length = input.big(usize::from(header & 7))?;
    if length > LARGEST {
        return Err(Defect(format!("a compressed event holds {length} bytes")));
    }
    // What claims more than zlib can make of its bytes is not believed before it is unpacked.
    let possible = (input.0.len() as u64).saturating_mul(MOST_INFLATED);
    if length > possible {
        return Err(Defect(format!(
            "{} compressed bytes cannot hold {length}",
            input.0.len()
        )));
    }
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut zlib = flate2::read::ZlibDecoder::new(&input.0[..]);
    std::io::Read::read_to_end(
        &mut std::io::Read::take(&mut zlib, length + 1),
        &mut content,
    )
    .map_err(|error| Defect(format!("it does not decompress: {error}")))?;
    if content.len() as u64 == length {
        Ok(content.into())
    } else {
        Err(Defect(format!(
            "it holds {} bytes instead of {length}",
            content.len()
        )))
    }
}

/// A rotate event: the file that follows.
pub fn rotate(mut input: Input) -> Result<String, Defect> {
    input.skip(8)?;
    let name = String::from_utf8_lossy(&input.0).into_owned();
    // The first, made-up rotate event of MariaDB has its checksum left on the name.
    Ok(name
        .split(|character: char| !character.is_ascii_graphic())
        .next()
        .unwrap_or("")
        .to_owned())
}

/// A GTID event of MariaDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MariaDbGtidEvent {
    /// Number in the domain.
    pub sequence: u64,
    /// Domain.
    pub domain: u32,
    /// The transaction is the one event that follows (DDL); otherwise it begins here.
    pub standalone: bool,
    /// The XA transaction that it prepares, as [`XaStep`] has it.
    pub prepares: Option<String>,
}

impl MariaDbGtidEvent {
    /// Reads it.
    pub fn read(mut input: Input) -> Result<Self, Defect> {
        const STANDALONE: u8 = 1;
        const GROUP_COMMIT_ID: u8 = 2;
        const PREPARED_XA: u8 = 64;
        let (sequence, domain, flags) = (input.u64()?, input.u32()?, input.u8()?);
        if flags & GROUP_COMMIT_ID != 0 {
            input.skip(8)?;
        }
        let prepares = if flags & PREPARED_XA == 0 {
            None
        } else {
            Some(xa_name(&mut input)?)
        };
        Ok(Self {
            sequence,
            domain,
            standalone: flags & STANDALONE != 0,
            prepares,
        })
    }
}

/// The name of an XA transaction: number of its format, two lengths, two texts (`Gtid_log_event` in
/// `sql/log_event.cc` of MariaDB). It is written as the servers write it in statements.
fn xa_name(input: &mut Input) -> Result<String, Defect> {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|it| format!("{it:02x}")).collect() };
    let format = input.u32()?;
    let (global, branch) = (input.u8()?, input.u8()?);
    let global = hex(&input.take(global.into())?);
    let branch = hex(&input.take(branch.into())?);
    Ok(format!("X'{global}',X'{branch}',{format}"))
}

/// What a statement does with an XA transaction, whose name is text as the servers write it:
/// `X'78',X'',1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XaStep {
    /// Its changes follow.
    Start(String),
    /// No more follow.
    End,
    /// What was prepared happens.
    Commit(String),
    /// What was prepared does not happen.
    Rollback(String),
    /// Anything else.
    Other,
}

impl XaStep {
    /// Reads a statement that begins with XA.
    pub fn of(statement: &[u8]) -> Self {
        let text = String::from_utf8_lossy(statement);
        let mut words = text.split_whitespace().skip(1);
        let (verb, name) = (words.next().unwrap_or_default(), words.next());
        match (verb.to_ascii_uppercase().as_str(), name, words.next()) {
            ("START", Some(name), None) => Self::Start(name.to_owned()),
            ("END", ..) => Self::End,
            ("COMMIT", Some(name), None) => Self::Commit(name.to_owned()),
            ("ROLLBACK", Some(name), None) => Self::Rollback(name.to_owned()),
            _ => Self::Other,
        }
    }
}

/// A compressed transaction of MySQL: fields of type and length, then the payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadEvent {
    /// What the events inside take, in bytes.
    pub uncompressed: u64,
}

impl PayloadEvent {
    /// Reads the fields.
    pub fn read(mut input: Input) -> Result<Self, Defect> {
        const END: u64 = 0;
        const SIZE: u64 = 1;
        const COMPRESSION: u64 = 2;
        const UNCOMPRESSED: u64 = 3;
        const ZSTD: u64 = 0;
        const NONE: u64 = 255;
        let (mut size, mut uncompressed) = (None, None);
        loop {
            let field = input.length_encoded()?;
            if field == END {
                break;
            }
            let mut value = Input(input.counted()?);
            match field {
                SIZE => size = Some(value.length_encoded()?),
                UNCOMPRESSED => uncompressed = Some(value.length_encoded()?),
                COMPRESSION => {
                    let algorithm = value.length_encoded()?;
                    if !matches!(algorithm, ZSTD | NONE) {
                        return Err(Defect(format!("the compression {algorithm} is not known")));
                    }
                }
                _ => {}
            }
        }
        match uncompressed.or(size) {
            Some(uncompressed) => Ok(Self { uncompressed }),
            None => Err(Defect::from("a compressed transaction tells no size")),
        }
    }
}
