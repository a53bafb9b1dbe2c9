//! Why a connection of a writer ends.

use binlog::BinlogError;
use change::{Halt, WireError};
use mysql::session::SessionError;

use crate::start::UNLOGGED;

/// Why a connection of a writer ends.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A person has to act; the writer is told.
    #[error("{}", .0.message)]
    Halted(Halt),
    /// The binlog cannot be read; a new connection may help.
    #[error(transparent)]
    Binlog(BinlogError),
    /// No session with the source.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A query failed.
    #[error("{what} at the source failed: {source}")]
    Query {
        /// What was being done.
        what: String,
        /// The driver's error.
        source: mysql_async::Error,
    },
    /// Something is not there yet.
    #[error("{0}")]
    NotYet(String),
    /// A frame cannot be written.
    #[error(transparent)]
    Wire(WireError),
    /// The writer is gone, or another connection took its place, or the process ends.
    #[error("the connection with the writer ended")]
    Gone,
}

impl PullError {
    /// A stop with its reason, a CamelCase word, and a message that says what to do.
    pub fn halt(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Halted(Halt {
            reason: reason.into(),
            message: message.into(),
        })
    }

    /// A failed query.
    pub fn query(what: impl Into<String>) -> impl FnOnce(mysql_async::Error) -> Self {
        let what = what.into();
        move |source| Self::Query { what, source }
    }

    /// A stable word for metrics.
    pub fn category(&self) -> &str {
        match self {
            Self::Halted(halt) => &halt.reason,
            Self::Binlog(error) => error.category(),
            Self::Session(_) => "Session",
            Self::Query { .. } => "Query",
            Self::NotYet(_) => "NotYet",
            Self::Wire(_) => "Wire",
            Self::Gone => "Gone",
        }
    }

    /// Rows of a member whose epoch is over are no copy of what the primary has.
    pub(crate) fn primary_moved(
        epoch: impl std::fmt::Display,
        idc: &impl std::fmt::Display,
    ) -> Self {
        Self::halt(
            "PrimaryMoved",
            format!(
                "the primary moved to {idc} (epoch {epoch}) while tables were being copied from here, \
                 so the copy would mix rows of two primaries. Empty the target's tables ({UNLOGGED}) \
                 and remove the link's row from its multiactive.applied: the link from {idc} then \
                 copies them"
            ),
        )
    }
}

impl From<BinlogError> for PullError {
    fn from(error: BinlogError) -> Self {
        if error.is_permanent() {
            Self::halt(error.category(), error.to_string())
        } else {
            Self::Binlog(error)
        }
    }
}

impl From<WireError> for PullError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLarge { .. } => Self::halt("TooLarge", error.to_string()),
            other => Self::Wire(other),
        }
    }
}
