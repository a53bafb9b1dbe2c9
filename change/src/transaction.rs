//! Transactions as they travel.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Position, TableSchema, Value};

/// One row image: a value for each column of its [`TableSchema`].
pub type Row = Vec<Value>;

/// One source transaction, or a part of one that is too large to be held whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The GTID in the source's text form.
    pub gtid: String,
    /// The IDC it was born in.
    pub origin: String,
    /// The source's epoch when it was committed; 0 before the first.
    pub epoch: u64,
    /// When it was committed at its source, in microseconds since 1970 (UTC). MariaDB tells
    /// whole seconds only.
    pub committed_micros: u64,
    /// Which part this is, from 0.
    pub part: u32,
    /// The source's position after the transaction: present on the last part, absent before it.
    pub position: Option<Position>,
    /// Row changes and DDL statements that were read and left out since the last position.
    pub filtered: u64,
    /// What it does.
    pub body: Body,
}

impl Transaction {
    /// Whether nothing of this transaction follows.
    pub fn is_last(&self) -> bool {
        self.position.is_some()
    }

    /// How many changes it holds, as the ledger counts them.
    pub fn change_count(&self) -> u64 {
        match &self.body {
            Body::Rows(changes) => changes.iter().map(|change| change.rows.len() as u64).sum(),
            Body::Ddl(_) => 1,
        }
    }
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Changes of rows, in the order they happened.
    Rows(Vec<TableChange>),
    /// One DDL statement, which is a transaction of its own, or what a link cannot carry
    /// ([`Ddl::refused`]).
    Ddl(Ddl),
}

/// Changes of one kind to one table, next to each other in the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// The table as it was then.
    pub table: Arc<TableSchema>,
    /// The table is still being copied: a row that should be there may be missing, and one that
    /// should not may be there. Insert and update put the row whatever is there, delete may find
    /// nothing.
    pub lenient: bool,
    /// How the source checked keys.
    pub flags: RowFlags,
    /// The rows.
    pub rows: Vec<RowChange>,
}

/// How foreign and unique keys were checked where a change was made, from the row event's flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RowFlags {
    /// `foreign_key_checks = 0`; also set by MySQL 9 on the rows that a cascade changed.
    pub no_foreign_key_checks: bool,
    /// `unique_checks = 0`.
    pub relaxed_unique_checks: bool,
    /// Foreign keys were the SQL layer's work (MySQL 9.6 and later): whatever they did to other rows
    /// is in the binlog by itself, and what is not there they did not do. `REPLACE` of a row that
    /// others refer to is logged as its removal and its insertion, and cascades nowhere.
    pub logs_cascades: bool,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// A new row.
    Insert {
        /// The row.
        after: Row,
    },
    /// A changed row.
    Update {
        /// The row before.
        before: Row,
        /// The row after.
        after: Row,
    },
    /// A removed row.
    Delete {
        /// The row.
        before: Row,
    },
}

impl RowChange {
    /// The row that is there after it, if one is.
    pub fn after(&self) -> Option<&Row> {
        match self {
            Self::Insert { after } | Self::Update { after, .. } => Some(after),
            Self::Delete { .. } => None,
        }
    }
}

/// A DDL statement with what is needed to run it elsewhere with the same result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ddl {
    /// The session's default database; empty: none.
    pub database: String,
    /// The statement in the character set `session.charset_client`.
    pub statement: Bytes,
    /// Its first words, for example `ALTER TABLE`.
    pub verb: String,
    /// What it makes, changes or removes.
    pub objects: Vec<DdlObject>,
    /// The session's settings that its result depends on.
    pub session: DdlSession,
    /// Why it is not to be run, if so. It stands for its whole transaction then, which may have
    /// changed rows as well.
    pub refused: Option<Box<Refused>>,
}

/// Why a link cannot carry a transaction. Its writer halts there until a person has seen to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One CamelCase word.
    pub reason: String,
    /// What was met.
    pub what: String,
    /// What to do before the transaction is skipped.
    pub fix: String,
}

impl Ddl {
    /// What it is, for people: the statement, or what was met where it is not to be run.
    pub fn told(&self) -> std::borrow::Cow<'_, str> {
        match &self.refused {
            Some(refused) => refused.what.as_str().into(),
            None => self.statement_lossy(),
        }
    }

    /// The statement for people; characters that are not UTF-8 are replaced.
    pub fn statement_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.statement)
    }
}

/// An object that a DDL statement touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DdlObject {
    /// Its database.
    pub database: String,
    /// Its name in the database; `None` is the database itself.
    pub name: Option<String>,
}

impl std::fmt::Display for DdlObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}.{name}", self.database),
            None => write!(f, "database {}", self.database),
        }
    }
}

/// The settings of the session that ran a DDL statement, as its binlog event tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DdlSession {
    /// `sql_mode` as a bit set of the source's engine.
    pub sql_mode: u64,
    /// Collation id whose character set is `character_set_client`.
    pub charset_client: u16,
    /// Collation id of `collation_connection`.
    pub collation_connection: u16,
    /// Collation id of `collation_server`.
    pub collation_server: u16,
    /// `time_zone`; empty: not told.
    pub time_zone: String,
    /// `foreign_key_checks`.
    pub foreign_key_checks: bool,
    /// `unique_checks`.
    pub unique_checks: bool,
    /// When the statement started, in microseconds since 1970 (UTC): its `NOW()`.
    pub started_micros: u64,
    /// MySQL's `default_collation_for_utf8mb4`, a collation id; 0: not told.
    pub default_collation_for_utf8mb4: u16,
    /// `explicit_defaults_for_timestamp`, where it was told.
    pub explicit_defaults_for_timestamp: Option<bool>,
    /// `auto_increment_increment` and `auto_increment_offset`, where they were told: an ALTER that
    /// adds such a column numbers the rows that are there. Servers tell them unless both are 1.
    pub auto_increment: Option<(u16, u16)>,
}
