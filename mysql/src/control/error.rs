//! What can go wrong between an arbiter and its server.

use std::fmt;
use std::time::Duration;

use model::Endpoint;

use crate::session::SessionError;

/// Why something asked of a server did not happen, or is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The server or the connection said no.
    #[error("cannot {doing} at {endpoint}: {source}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// The answer.
        source: Box<mysql_async::Error>,
    },
    /// No answer in time. What was asked for may happen all the same, even later.
    #[error("cannot {doing} at {endpoint}: no answer within {patience:?}")]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// How long it was waited for.
        patience: Duration,
    },
    /// An earlier call has lost the connection.
    #[error("cannot {doing} at {endpoint}: the connection was lost before; connect again")]
    Broken {
        /// What was to be done.
        doing: &'static str,
        /// Where.
        endpoint: Endpoint,
    },
    /// The answer has another shape than it can have.
    #[error("cannot {doing} at {endpoint}: the server's answer has no readable {what}")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// What is missing or cannot be read.
        what: String,
    },
    /// The schema `multiactive` is not there, or not whole.
    #[error("the schema multiactive at {endpoint} is missing or incomplete: {reason}")]
    NotInstalled {
        /// Where.
        endpoint: Endpoint,
        /// What the server said.
        reason: String,
    },
    /// A newer version of this software has been here.
    #[error(
        "the schema multiactive at {endpoint} has version {found}, and this software knows \
         versions up to {known}: run the newer software again, or restore the schema"
    )]
    SchemaNewer {
        /// Where.
        endpoint: Endpoint,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The guard was asked for a deadline that is over, or so near that it could not start.
    #[error("the guard's deadline at {endpoint} is over before the guard runs")]
    DeadlineOver {
        /// Where.
        endpoint: Endpoint,
    },
    /// `CALL multiactive.guard` was sent, and the process list does not show it running.
    #[error("the guard at {endpoint} was started and is not in the process list: {reason}")]
    GuardNotSeen {
        /// Where.
        endpoint: Endpoint,
        /// What was seen in its place, or what its CALL came back with.
        reason: String,
    },
    /// A newer arbiter process of the same IDC acts on this server.
    #[error(
        "an arbiter of generation {found} has acted at {endpoint}, and this one has generation \
         {own}: it must not act there any more"
    )]
    Superseded {
        /// Where.
        endpoint: Endpoint,
        /// This process's generation.
        own: u64,
        /// The newer one.
        found: u64,
    },
    /// Promotion of an epoch that this database has already seen, or passed.
    #[error("cannot promote to epoch {epoch} at {endpoint}: the database has seen epoch {newest}")]
    EpochPassed {
        /// Where.
        endpoint: Endpoint,
        /// The epoch asked for.
        epoch: u64,
        /// The newest in `multiactive.epoch`.
        newest: u64,
    },
    /// Promotion of a member to which tables are still copied.
    #[error(
        "cannot promote at {endpoint}: link {link} still copies tables to it, so rows are missing \
         there. Let it finish (see its status), or promote another member; to promote this one all \
         the same, without them: mactl failover --allow-data-loss"
    )]
    CopiesTables {
        /// Where.
        endpoint: Endpoint,
        /// The link.
        link: String,
    },
    /// Two links from one source have checkpoints of which none contains the other.
    #[error(
        "the links {links} at {endpoint} have applied different parts of IDC {source_idc}: wait \
         until they have caught up, or delete from multiactive.applied the row of a link that no \
         longer exists"
    )]
    CheckpointsDiverge {
        /// Where.
        endpoint: Endpoint,
        /// Their source.
        source_idc: String,
        /// Their names.
        links: String,
    },
    /// A position that cannot be read.
    #[error("a position at {endpoint} cannot be read: {source}")]
    Position {
        /// Where.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: change::InvalidPosition,
    },
}

impl ControlError {
    pub(crate) fn sql(
        doing: &'static str,
        endpoint: &Endpoint,
        source: mysql_async::Error,
    ) -> Self {
        // ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE, ER_SP_DOES_NOT_EXIST, ER_BAD_FIELD_ERROR
        if let mysql_async::Error::Server(error) = &source
            && matches!(error.code, 1049 | 1146 | 1305 | 1054)
            && error.message.contains("multiactive")
        {
            let (endpoint, reason) = (endpoint.clone(), error.message.clone());
            return Self::NotInstalled { endpoint, reason };
        }
        Self::Sql {
            doing,
            endpoint: endpoint.clone(),
            source: Box::new(source),
        }
    }

    pub(crate) fn timeout(doing: &'static str, endpoint: &Endpoint, patience: Duration) -> Self {
        Self::Timeout {
            doing,
            endpoint: endpoint.clone(),
            patience,
        }
    }

    /// The server's error number, if it was the server that refused.
    pub fn server_code(&self) -> Option<u16> {
        match self {
            Self::Sql { source, .. } => match source.as_ref() {
                mysql_async::Error::Server(error) => Some(error.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the server refused for want of room on its disk.
    pub fn is_for_want_of_room(&self) -> bool {
        let Self::Sql { source, .. } = self else {
            return false;
        };
        match source.as_ref() {
            mysql_async::Error::Server(error) => wants_room(error.code, &error.message),
            _ => false,
        }
    }

    /// A stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Sql { .. } => "sql",
            Self::Timeout { .. } => "timeout",
            Self::Broken { .. } => "broken",
            Self::Answer { .. } => "answer",
            Self::NotInstalled { .. } => "not_installed",
            Self::SchemaNewer { .. } => "schema_newer",
            Self::DeadlineOver { .. } => "deadline_over",
            Self::GuardNotSeen { .. } => "guard_not_seen",
            Self::Superseded { .. } => "superseded",
            Self::EpochPassed { .. } => "epoch_passed",
            Self::CheckpointsDiverge { .. } => "checkpoints_diverge",
            Self::Position { .. } => "position",
            Self::CopiesTables { .. } => "copies_tables",
        }
    }
}

/// `ER_DISK_FULL` and `ER_RECORD_FILE_FULL` ("The table is full") say it; `EE_WRITE`,
/// `ER_ERROR_ON_WRITE` and `ER_GET_ERRNO` name the system's error, of which 28 is `ENOSPC`.
fn wants_room(code: u16, message: &str) -> bool {
    match code {
        1021 | 1114 => true,
        3 | 1026 | 1030 => message
            .split(|character: char| !character.is_ascii_digit())
            .any(|number| number == "28"),
        _ => false,
    }
}

/// Why a server is **not** known to be fenced. Nobody may conclude anything from it but that.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// `read_only` could not be set in time.
    #[error("{endpoint} is not fenced after {budget:?}: {}", standing(.obstacles))]
    TimedOut {
        /// Where.
        endpoint: Endpoint,
        /// How long it was tried.
        budget: Duration,
        /// What stands in the way.
        obstacles: Vec<Obstacle>,
    },
    /// MySQL: prepared XA transactions could still be committed, under `read_only` too. The
    /// server stays in `offline_mode`.
    #[error(
        "{endpoint} is not fenced: prepared XA transactions could still be committed; settle each \
         with XA COMMIT or XA ROLLBACK, until then ordinary sessions are refused there: {}",
        .transactions.join(", ")
    )]
    PreparedXa {
        /// Where.
        endpoint: Endpoint,
        /// Each as it has to be written in `XA ROLLBACK ...`.
        transactions: Vec<String>,
    },
    /// A step failed.
    #[error("fence failed: {0}")]
    Control(#[from] ControlError),
}

fn standing(obstacles: &[Obstacle]) -> String {
    if obstacles.is_empty() {
        return "the process list shows nothing that stands in the way".to_owned();
    }
    obstacles
        .iter()
        .map(Obstacle::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// A session that is still there after it was killed, and so may be what a fence waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The server's number of the connection.
    pub id: u64,
    /// Whose it is.
    pub user: String,
    /// What the server says that it is doing.
    pub state: String,
    /// The statement, cut short.
    pub statement: String,
    /// For how many seconds.
    pub seconds: i64,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            user,
            state,
            statement,
            seconds,
        } = self;
        write!(
            f,
            "session {id} of {user:?} ({state:?}, {seconds} s): {statement}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_told_from_other_refusals() {
        assert!(wants_room(1114, "The table 'heartbeat' is full"));
        assert!(wants_room(1021, "Disk full (./x.MYD); waiting"));
        let ours = "Error writing file './b.000001' (Errcode: 28 \"No space left on device\")";
        assert!(wants_room(3, ours));
        assert!(wants_room(1030, "Got error 28 from storage engine"));
        assert!(!wants_room(
            3,
            "Error writing file './b.000128' (Errcode: 5)"
        ));
        assert!(!wants_room(1290, "running with the --read-only option, 28"));
    }
}
