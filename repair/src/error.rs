//! What can go wrong.

use mysql::session::SessionError;
use writer::WriterError;

/// Why verification or repair did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A file that was given cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Something that this release does not do, or must not do now.
    #[error("{0}")]
    Refused(String),
    /// No session with a server.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A server or the connection to it failed.
    #[error("{doing}: {source}")]
    Driver {
        /// What was tried, with the end and the table.
        doing: String,
        /// The driver's error.
        source: mysql_async::Error,
    },
    /// Another process verifies this link.
    #[error("another process verifies link {link}; waiting until it has ended")]
    Busy {
        /// The link.
        link: String,
    },
    /// A table was changed by DDL while it was compared.
    #[error("{0} was changed while it was compared")]
    Changed(String),
    /// The newest epoch is another one than when the run began.
    #[error(
        "the primary has moved: the newest epoch is {found} now and was {begun} when this run \
         began. Nothing was written since; start another run"
    )]
    EpochMoved {
        /// The epoch that the run began under.
        begun: u64,
        /// The newest now.
        found: u64,
    },
    /// The same, of a run that has tables copied anew.
    #[error(
        "the primary has moved: the newest epoch is {found} now and was {begun} when this run \
         began. No other table is begun. A table that was being emptied or copied is not whole: the \
         link halts there and says what to do; start another run for the rest"
    )]
    EpochMovedWhileCopied {
        /// The epoch that the run began under.
        begun: u64,
        /// The newest now.
        found: u64,
    },
    /// A row could not be written.
    #[error(transparent)]
    Write(#[from] WriterError),
    /// Rows of `multiactive` that cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
}

/// Errors that say that a table is not as it was described a moment ago.
const CHANGED: [u16; 4] = [1146, 1049, 1054, 1412];
/// A lock that was not given in time, and a deadlock.
const COLLISIONS: [u16; 2] = [1205, 1213];
/// The server shuts down, or somebody ended the session or its statement.
const PASSING: [u16; 4] = [1053, 1317, 1927, 3169];

impl RepairError {
    /// Wraps an error of the driver that came up while reading a table.
    pub(crate) fn driver(
        doing: impl Into<String>,
        table: Option<&str>,
        source: mysql_async::Error,
    ) -> Self {
        let doing = doing.into();
        if let (mysql_async::Error::Server(error), Some(table)) = (&source, table)
            && CHANGED.contains(&error.code)
        {
            return Self::Changed(table.to_owned());
        }
        Self::Driver { doing, source }
    }

    /// What an error says to one who has tables copied anew.
    pub(crate) fn of_copies(self) -> Self {
        match self {
            Self::EpochMoved { begun, found } => Self::EpochMovedWhileCopied { begun, found },
            other => other,
        }
    }

    /// Whether another transaction was in the way, so that trying again may help.
    pub(crate) fn is_collision(&self) -> bool {
        let code = match self {
            Self::Driver {
                source: mysql_async::Error::Server(error),
                ..
            }
            | Self::Write(WriterError::Target {
                source: mysql_async::Error::Server(error),
                ..
            }) => error.code,
            _ => return false,
        };
        COLLISIONS.contains(&code)
    }

    /// Whether beginning again where it was may help: the connection broke, or a server was not
    /// there.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Session(error) => matches!(error, SessionError::Unreachable { .. }),
            Self::Driver { source, .. } | Self::Write(WriterError::Target { source, .. }) => {
                let mysql_async::Error::Server(error) = source else {
                    return true;
                };
                COLLISIONS.contains(&error.code) || PASSING.contains(&error.code)
            }
            Self::Busy { .. } => true,
            _ => false,
        }
    }
}
