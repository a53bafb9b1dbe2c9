//! What can go wrong.

use mysql::session::SessionError;
use writer::{Class, WriterError, class_of_driver};

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
    /// Another run has this link.
    #[error("{} link {link}, which one run at a time may have; {}", has(holder.as_ref()), way(holder.as_ref()))]
    Busy {
        /// The link.
        link: String,
        /// Who has it, if that is known.
        holder: Option<Holder>,
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

/// The run that has a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub run: String,
    /// Whether a person paused it.
    pub paused: bool,
}

fn has(holder: Option<&Holder>) -> String {
    match holder {
        None => "another process has".to_owned(),
        Some(Holder { run, paused: false }) => format!("run {run} has"),
        Some(Holder { run, paused: true }) => format!("run {run}, which a person paused, has"),
    }
}

fn way(holder: Option<&Holder>) -> &'static str {
    match holder {
        Some(Holder { paused: true, .. }) => {
            "let that one go on (mactl repair resume) or end it (mactl repair stop): this one waits \
             until it has ended"
        }
        _ => "waiting until it has ended",
    }
}

/// Errors that say that a table is not as it was described a moment ago.
const CHANGED: [u16; 4] = [1146, 1049, 1054, 1412];
/// A lock that was not given in time, a deadlock, and a record that changed since it was read.
const COLLISIONS: [u16; 3] = [1205, 1213, 1020];

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
        match self.of_driver() {
            Some(mysql_async::Error::Server(error)) => COLLISIONS.contains(&error.code),
            _ => false,
        }
    }

    /// Whether beginning again where it was may help: the connection broke, or a server was not
    /// there, was busy or had no room.
    pub(crate) fn passes(&self) -> bool {
        match self.of_driver() {
            Some(error @ mysql_async::Error::Server(_)) => class_of_driver(error) != Class::Halt,
            Some(_) => true,
            None => matches!(
                self,
                Self::Session(SessionError::Unreachable { .. })
                    | Self::Write(WriterError::Session(SessionError::Unreachable { .. }))
                    | Self::Busy { .. }
            ),
        }
    }

    /// What a server or the connection to it said, whatever was being done.
    fn of_driver(&self) -> Option<&mysql_async::Error> {
        match self {
            Self::Driver { source, .. } | Self::Session(SessionError::Refused { source, .. }) => {
                Some(source)
            }
            Self::Write(error) => error.of_driver(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> mysql_async::Error {
        mysql_async::Error::Server(mysql_async::ServerError {
            code,
            message: String::new(),
            state: String::new(),
        })
    }

    #[test]
    fn who_waits_says_for_whom() {
        let of = |holder: Option<bool>| {
            let run = "nightly/1".to_owned();
            let holder = holder.map(|paused| Holder { run, paused });
            let link = "shop/sh-bj".to_owned();
            RepairError::Busy { link, holder }.to_string()
        };
        assert_eq!(
            of(Some(true)),
            "run nightly/1, which a person paused, has link shop/sh-bj, which one run at a time may \
             have; let that one go on (mactl repair resume) or end it (mactl repair stop): this one \
             waits until it has ended"
        );
        assert!(of(Some(false)).starts_with("run nightly/1 has link shop/sh-bj"));
        assert!(of(None).starts_with("another process has link shop/sh-bj"));
    }

    /// However the error came up: reading, or writing a row, which the writer tells by itself.
    #[test]
    fn what_passes_ends_no_run() {
        let read = |code| RepairError::driver("reading", None, server(code));
        let written = |code| {
            RepairError::Write(WriterError::RowRefused {
                doing: "applying a change of shop.orders".to_owned(),
                gtid: String::new(),
                source: server(code),
            })
        };
        for of in [&read as &dyn Fn(u16) -> RepairError, &written] {
            // A deadlock, and a lock that was not given in time.
            assert!(of(1213).is_collision() && of(1205).is_collision());
            // Shutting down, killed, no free connection, no room on the disk.
            for code in [1213, 1205, 1053, 1317, 1040, 1021] {
                assert!(of(code).passes(), "{code}");
            }
            // No such privilege.
            assert!(!of(1142).passes() && !of(1142).is_collision());
        }
    }
}
