//! What can stop a writer, and whether time or a person mends it.

use change::{InvalidPosition, Refused, WireError};
use mysql::session::SessionError;

use crate::aftermath::Aftermath;
use crate::target::unfit::Unfit;

/// Why the link does not go on.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// No session with the target.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The target answered with an error, or the connection broke.
    #[error("{doing} at the target: {source}")]
    Target {
        /// What was being done.
        doing: String,
        /// The driver's error.
        source: mysql_async::Error,
    },
    /// The target answered a change of a row with an error.
    #[error("{doing} at the target: {source} (transaction {gtid}, of which nothing was applied)")]
    RowRefused {
        /// What was being done, the row included.
        doing: String,
        /// The source transaction.
        gtid: String,
        /// The driver's error.
        source: mysql_async::Error,
    },
    /// A person took back that a transaction be skipped.
    #[error("transaction {gtid} is not to be skipped any more; trying it again")]
    SkipWithdrawn {
        /// The transaction.
        gtid: String,
    },
    /// The target cannot mark what is applied with its origin.
    #[error(
        "the target runs {version}, which cannot mark transactions with their origin, so changes \
         would go round in circles; use MySQL 8.3 or later, or MariaDB"
    )]
    NoOriginMarks {
        /// Engine and version.
        version: String,
    },
    /// The schema of ours is not there or not complete.
    #[error(
        "the schema multiactive at the target is not usable: {reason}; the arbiter of the target's \
         IDC makes it, see its log and the Unit's condition PreflightPassed"
    )]
    Schema {
        /// What was missing.
        reason: String,
    },
    /// Of a link without a Unit: what stands against its servers.
    #[error("preflight has not passed: {0}")]
    Preflight(String),
    /// Another writer of this link holds the target.
    #[error(
        "another writer of this link is connected to the target (connection {connection}); waiting for it to end"
    )]
    Locked {
        /// Its connection id at the server, 0 if it has just ended.
        connection: u64,
    },
    /// The checkpoint is not what this writer wrote last.
    #[error(
        "the row of this link in multiactive.applied was changed by somebody else, so nothing was \
         applied; reading it anew"
    )]
    CheckpointMoved,
    /// The checkpoint cannot be read.
    #[error(
        "the row of this link in multiactive.applied cannot be understood ({reason}); restore it, or \
         delete it to copy everything anew into empty tables"
    )]
    CheckpointUnreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The syncer does not answer or ended the stream.
    #[error("the syncer at {address}: {reason}")]
    Syncer {
        /// `host:port`.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The syncer halted the link.
    #[error("the syncer halted the link: {reason}: {message}")]
    SyncerHalted {
        /// One CamelCase word.
        reason: String,
        /// What happened and what to do.
        message: String,
    },
    /// The source lacked what had been applied from it, now or when it was met before.
    #[error(
        "{message}. The link stays halted, also when the source has given out those numbers again, \
         until its row is removed from multiactive.applied for a new copy; or, if both sides are \
         known to be equal, until one runs at the target: UPDATE multiactive.applied SET \
         ledger=JSON_REMOVE(ledger,'$.wentBack','$.last') WHERE link='{link}'"
    )]
    SourceWentBack {
        /// What the syncer said.
        message: String,
        /// The link.
        link: String,
    },
    /// The binlog does not tell what foreign keys do, and the target's do something else.
    #[error(
        "{what}. What such a key does to other rows is not in the source's binlog, so the target's own \
         has to do it, and rows are left over or lost where it does not. Give both ends the same keys \
         (at the target with SET SESSION sql_log_bin = 0), and compare the tables with mactl repair"
    )]
    CascadesDiffer {
        /// In what they differ.
        what: String,
    },
    /// The link was made to carry tables that it has not copied.
    #[error(
        "the link's tables were widened, or its routes changed, after it had begun (before: {before}; \
         now: {now}), and what the tables hold already would be missing where it is to go, without a \
         word. \
         Put the settings back; or empty the link's tables at the target and remove its row from \
         multiactive.applied, so that all is copied anew; or, if both sides of those tables are \
         known to be equal, run at the target: UPDATE multiactive.applied SET \
         ledger=JSON_REMOVE(ledger,'$.selection') WHERE link='{link}'"
    )]
    SelectionWidened {
        /// The selection that the checkpoint is of.
        before: String,
        /// That of the settings.
        now: String,
        /// The link.
        link: String,
    },
    /// The stream is not what it should be.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A position of another engine.
    #[error(transparent)]
    Position(#[from] InvalidPosition),
    /// A frame that must not come now.
    #[error("the syncer sent {what}, which a link must not carry; {fix}")]
    Unexpected {
        /// What came.
        what: String,
        /// What to do.
        fix: String,
    },
    /// A table that rows cannot be applied to.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A change that does not fit what is at the target.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Two source tables that go to one have a row with the same key.
    #[error(
        "a row of another source table has the place of the one at {key} of {told} ({gtid}): \
         {detail}. The link has brought neither over the other. Give the two rows different keys and \
         unique values at the source; if the link then halts on at what was written before, empty \
         {table} at the target and remove the link's row from multiactive.applied, so that all is \
         copied anew; or exclude one of the source tables from the link"
    )]
    RowsOfTwoTables {
        /// The target's table and the source's.
        told: String,
        /// The target's table.
        table: String,
        /// The row's key, as `column=value`.
        key: String,
        /// The source transaction.
        gtid: String,
        /// What was seen.
        detail: String,
    },
    /// What the end of an epoch left behind stands in the way.
    #[error(transparent)]
    Aftermath(#[from] Box<Aftermath>),
    /// A promotion went on while a transaction began.
    #[error("the target's epoch changed while a transaction began; looking again")]
    EpochMoved,
    /// Rows of a copy would overwrite the place where writes are made.
    #[error(
        "table {table} has rows in {source_idc} but not in {target_idc}, which holds the newest \
         epoch and takes the writes; a copy never goes there. Copy the table to {target_idc} by hand, or empty \
         it in {source_idc}"
    )]
    CopyIntoPrimary {
        /// `database.table`.
        table: String,
        /// The link's source.
        source_idc: String,
        /// The link's target.
        target_idc: String,
    },
    /// Rows of a copy were read under an epoch that has ended at the target.
    #[error(
        "table {table} was being copied from {source_idc} under epoch {epoch}, which ended when \
         epoch {newest} began, so the copy would mix rows of two primaries. Empty the link's tables \
         here (after SET SESSION sql_log_bin = 0) and remove the link's row from \
         multiactive.applied: the link from the new primary then copies them"
    )]
    CopyOfEndedEpoch {
        /// `database.table`.
        table: String,
        /// The link's source.
        source_idc: String,
        /// The epoch of the copy.
        epoch: u64,
        /// The newest epoch at the target.
        newest: u64,
    },
    /// Not a failure: what the syncer is to copy is another thing now, and the next session says so.
    #[error("the copy of {table} begins anew")]
    CopiesAnew {
        /// `database.table`.
        table: String,
    },
    /// A table got another name, or became another one, while it was emptied to be copied anew.
    #[error(
        "table {table} was renamed or exchanged at the source ({gtid}) while it was being emptied here, \
         or was not here, to be copied anew. Empty the link's tables at the target (after SET SESSION \
         sql_log_bin = 0), remove its row from multiactive.applied there, and let it copy them anew"
    )]
    RenamedWhileEmptied {
        /// `database.table`.
        table: String,
        /// The statement's GTID.
        gtid: String,
    },
    /// A statement that is not replayed.
    #[error("{statement:?} ({gtid}) is not replayed at the target: {reason}")]
    DdlRefused {
        /// The statement, shortened.
        statement: String,
        /// Its GTID.
        gtid: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A transaction that no link can carry.
    #[error("{}: {} ({gtid}). {}", refused.reason, refused.what, refused.fix)]
    NotCarried {
        /// Its GTID.
        gtid: String,
        /// What it is, and what to do.
        refused: Box<Refused>,
    },
    /// A statement that failed.
    #[error("{statement:?} ({gtid}) failed at the target: {answer}; {fix}")]
    DdlFailed {
        /// The statement, shortened.
        statement: String,
        /// Its GTID.
        gtid: String,
        /// The server's error.
        answer: String,
        /// What to do.
        fix: String,
    },
    /// It cannot be told whether a statement has run.
    #[error(
        "it cannot be told whether {statement:?} ({gtid}) has run at the target: the writer ended \
         while it ran, {seen}. See that its work is done there, then skip it"
    )]
    DdlAmbiguous {
        /// The statement, shortened.
        statement: String,
        /// Its GTID.
        gtid: String,
        /// What was seen.
        seen: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// A setting that is not supported.
    #[error("{0}")]
    Unsupported(String),
}

/// A change that found something else than it must find.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("conflict {kind} in table {table} at {key} ({gtid}): {detail}. {}", kind.fix())]
pub struct Conflict {
    /// Which kind.
    pub kind: ConflictKind,
    /// `database.table`.
    pub table: String,
    /// The row's key, as `column=value`.
    pub key: String,
    /// The source transaction.
    pub gtid: String,
    /// What was seen.
    pub detail: String,
}

/// The kinds of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// A new row's key is taken.
    InsertExists,
    /// A changed row is not there.
    UpdateMissing,
    /// A changed row is not what it was at the source before.
    UpdateDiffers,
    /// A removed row is not there.
    DeleteMissing,
    /// A removed row is not what it was at the source before.
    DeleteDiffers,
    /// Another row has the value of a unique key.
    UniqueClash,
    /// A foreign key forbids the change.
    ForeignKey,
    /// The target would not store the value as it is.
    ValueRefused,
    /// A conflict was decided lately at the key of a row that is removed or put; see
    /// `conflict::tombstone`.
    Disputed,
}

impl ConflictKind {
    /// The kind in one word, for metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::InsertExists => "insert_exists",
            Self::UpdateMissing => "update_missing",
            Self::UpdateDiffers => "update_differs",
            Self::DeleteMissing => "delete_missing",
            Self::DeleteDiffers => "delete_differs",
            Self::UniqueClash => "unique_clash",
            Self::ForeignKey => "foreign_key",
            Self::ValueRefused => "value_refused",
            Self::Disputed => "disputed",
        }
    }

    fn fix(self) -> &'static str {
        match self {
            Self::InsertExists | Self::UniqueClash => {
                "Nothing of the transaction was applied. Remove or change the row that is in its way \
                 at the target (after SET SESSION sql_log_bin = 0, where a link begins there); the link \
                 then goes on by itself"
            }
            Self::UpdateMissing | Self::DeleteMissing => {
                "Nothing of the transaction was applied. Put the row back at the target as it was at \
                 the source before this change (after SET SESSION sql_log_bin = 0, where a link begins \
                 there); the link then goes on by itself"
            }
            Self::UpdateDiffers | Self::DeleteDiffers | Self::Disputed => {
                "Nothing of the transaction was applied. Make the row at the target what it was at \
                 the source before this change (after SET SESSION sql_log_bin = 0, where a link begins \
                 there), or choose another conflicts.resolve; the link then goes on by itself"
            }
            Self::ForeignKey => {
                "Nothing of the transaction was applied. Make the target's rows and foreign keys what \
                 they are at the source; the link then goes on by itself"
            }
            Self::ValueRefused => {
                "Nothing of the transaction was applied. Give the column the type that it has at the \
                 source; the link then goes on by itself"
            }
        }
    }
}

impl std::fmt::Display for ConflictKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Two transactions met; try again at once.
    Collision,
    /// Something is out of reach; try again, ever more slowly.
    Environment,
    /// A person has to act. Tried again now and then, so that it goes on once that is done.
    Halt,
}

impl WriterError {
    /// What to do after it.
    pub fn class(&self) -> Class {
        match self {
            // The arbiter makes the schema; the writer may simply have been earlier.
            Self::Session(SessionError::Unreachable { .. })
            | Self::Locked { .. }
            | Self::Syncer { .. }
            | Self::SkipWithdrawn { .. }
            | Self::Preflight(_)
            | Self::Schema { .. } => Class::Environment,
            Self::Session(SessionError::Refused { source, .. })
            | Self::Target { source, .. }
            | Self::RowRefused { source, .. } => class_of_driver(source),
            Self::Aftermath(aftermath) if aftermath.passes() => Class::Environment,
            Self::CheckpointMoved | Self::EpochMoved | Self::CopiesAnew { .. } => Class::Collision,
            _ => Class::Halt,
        }
    }

    /// What the target's server or the connection to it said, if it was one of them.
    pub fn of_driver(&self) -> Option<&mysql_async::Error> {
        match self {
            Self::Target { source, .. }
            | Self::RowRefused { source, .. }
            | Self::Session(SessionError::Refused { source, .. }) => Some(source),
            _ => None,
        }
    }

    /// The table that it is about, as `database.table`, where it is about one.
    pub(crate) fn table(&self) -> Option<&str> {
        match self {
            Self::Conflict(conflict) => Some(&conflict.table),
            Self::Unfit(unfit) => Some(unfit.table()),
            _ => None,
        }
    }

    /// A stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Target { .. } | Self::RowRefused { .. } => "target",
            Self::SkipWithdrawn { .. } => "skip_withdrawn",
            Self::NoOriginMarks { .. } => "no_origin_marks",
            Self::Schema { .. } => "schema",
            Self::Preflight(_) => "preflight",
            Self::Locked { .. } => "locked",
            Self::CheckpointMoved | Self::CheckpointUnreadable { .. } => "checkpoint",
            Self::Syncer { .. } => "syncer",
            Self::SyncerHalted { .. } => "syncer_halted",
            Self::SelectionWidened { .. } => "selection_widened",
            Self::SourceWentBack { .. } => "source_went_back",
            Self::CascadesDiffer { .. } => "cascades_differ",
            Self::Wire(_) | Self::Position(_) | Self::Unexpected { .. } => "stream",
            Self::Unfit(_) => "table",
            Self::Conflict(conflict) => conflict.kind.name(),
            Self::RowsOfTwoTables { .. } => "rows_of_two_tables",
            Self::Aftermath(aftermath) => aftermath.category(),
            Self::EpochMoved => "epoch_moved",
            Self::CopyIntoPrimary { .. } => "copy_into_primary",
            Self::CopyOfEndedEpoch { .. } => "copy_of_ended_epoch",
            Self::CopiesAnew { .. } => "copies_anew",
            Self::RenamedWhileEmptied { .. } => "renamed_while_emptied",
            Self::DdlRefused { .. } | Self::DdlFailed { .. } | Self::DdlAmbiguous { .. } => "ddl",
            Self::NotCarried { .. } => "not_carried",
            Self::File { .. } => "file",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

/// Server error codes are those of `share/errmsg`; both engines share them below 4000.
pub fn class_of_driver(error: &mysql_async::Error) -> Class {
    let mysql_async::Error::Server(server) = error else {
        return match error {
            mysql_async::Error::Io(mysql_async::IoError::Tls(_)) => Class::Halt,
            mysql_async::Error::Io(_)
            | mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed) => {
                Class::Environment
            }
            // Any other error of the driver leaves the connection in an unknown state; a new one
            // may mend it, and if not a person has to look.
            _ => Class::Halt,
        };
    };
    match server.code {
        // Deadlock, record changed since the last read.
        1213 | 1020 => Class::Collision,
        // Somebody has held a lock for longer than we wait, which is told; out of memory, of disk, of
        // connections; shutting down; killed; timed out; read only; a table full; the connection's
        // own packets disturbed.
        3
        | 5
        | 1021
        | 1026
        | 1028
        | 1030
        | 1037
        | 1038
        | 1040
        | 1041
        | 1053
        | 1114
        | 1129
        | 1135
        | 1152
        | 1158..=1161
        | 1180
        | 1184
        | 1203
        | 1205
        | 1226
        | 1290
        | 1317
        | 1836
        | 1878
        | 1927
        | 1969
        | 3024
        | 3032
        | 3100
        | 3169
        | 4031 => Class::Environment,
        _ => Class::Halt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> WriterError {
        WriterError::Target {
            doing: "applying".into(),
            source: mysql_async::Error::Server(mysql_async::ServerError {
                code,
                message: String::new(),
                state: String::new(),
            }),
        }
    }

    #[test]
    fn time_mends_the_environment_and_people_the_rest() {
        assert_eq!(server(1213).class(), Class::Collision);
        assert_eq!(server(1290).class(), Class::Environment);
        // A lock that somebody holds for long is no collision, which nobody would hear of.
        assert_eq!(server(1205).class(), Class::Environment);
        assert_eq!(server(1142).class(), Class::Halt);
        let conflict = Conflict {
            kind: ConflictKind::UpdateMissing,
            table: "shop.orders".into(),
            key: "id=5".into(),
            gtid: "0-1-7".into(),
            detail: "no such row".into(),
        };
        let error = WriterError::from(conflict);
        assert_eq!(error.class(), Class::Halt);
        assert_eq!(error.category(), "update_missing");
        let text = error.to_string();
        for part in [
            "update_missing",
            "shop.orders",
            "id=5",
            "0-1-7",
            "Put the row back",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
