//! Why a binlog cannot be read on.

use change::Gtid;

/// Why a binlog cannot be read on. [`BinlogError::is_permanent`] tells what a person has to mend
/// from what a new connection may mend.
#[derive(Debug, thiserror::Error)]
pub enum BinlogError {
    /// No session.
    #[error(transparent)]
    Session(#[from] mysql::session::SessionError),
    /// The server or the connection failed.
    #[error("reading the binlog of {endpoint} failed: {source}")]
    Driver {
        /// The server.
        endpoint: String,
        /// The driver's error.
        source: mysql_async::Error,
    },
    /// Neither events nor heartbeats.
    #[error("the server {endpoint} sent neither an event nor a heartbeat for {seconds} s")]
    Silent {
        /// The server.
        endpoint: String,
        /// For how long.
        seconds: u64,
    },
    /// The server ended the stream.
    #[error("the server {endpoint} ended the binlog stream")]
    Ended {
        /// The server.
        endpoint: String,
    },
    /// Not all events that the position needs are there any more.
    #[error(
        "the binlog of {endpoint} does not reach back to the position of the target: the server \
         says {answer:?}. The events in between are gone, so the target cannot be brought up to \
         date from here: empty its tables and let the link copy them anew"
    )]
    Purged {
        /// The server.
        endpoint: String,
        /// Its words.
        answer: String,
    },
    /// The server does not go on reading its binlog for us, and its files are not gone.
    #[error(
        "the server {endpoint} does not go on sending its binlog behind {place}: it says {answer:?}. \
         Mend at that server what it names; the link then goes on by itself"
    )]
    NotSent {
        /// The server.
        endpoint: String,
        /// Behind what.
        place: Box<Place>,
        /// Its words.
        answer: String,
    },
    /// Another reader took the place of this one.
    #[error(
        "the server {endpoint} ended the binlog stream, since another reader came with the same \
         number: it says {answer:?}"
    )]
    Replaced {
        /// The server.
        endpoint: String,
        /// Its words.
        answer: String,
    },
    /// An event that no packet of the protocol can hold, or that the driver does not take.
    #[error(
        "the binlog of {endpoint} goes on behind {place} with an event that is too large to be read: \
         {answer}. Do by hand at the target what that transaction did, then let the link copy its \
         tables anew; from now on write such rows in smaller pieces"
    )]
    TooLarge {
        /// The server.
        endpoint: String,
        /// Behind what.
        place: Box<Place>,
        /// What was said.
        answer: String,
    },
    /// Bytes that are not the event they claim to be.
    #[error("the binlog event {event} at {place} cannot be decoded: {reason}")]
    Malformed {
        /// The event's name or number.
        event: String,
        /// Where it is.
        place: Box<Place>,
        /// What is wrong.
        reason: String,
    },
    /// The checksum does not fit.
    #[error(
        "the binlog event {event} at {place} was damaged on its way: its checksum does not fit"
    )]
    Checksum {
        /// The event's name or number.
        event: String,
        /// Where it is.
        place: Box<Place>,
    },
    /// Something that is not supported, or a setting that must not be.
    #[error("{what} at {place}. {fix}")]
    Refused {
        /// One CamelCase word.
        reason: &'static str,
        /// What was met, with its object.
        what: String,
        /// Where.
        place: Box<Place>,
        /// What to do.
        fix: String,
    },
}

/// Where in the binlog something was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The binlog file.
    pub file: String,
    /// The end of the event in it.
    pub offset: u64,
    /// The transaction, if one was open.
    pub gtid: Option<Gtid>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, offset, gtid } = self;
        write!(f, "{file}:{offset}")?;
        match gtid {
            Some(gtid) => write!(f, " (transaction {gtid})"),
            None => Ok(()),
        }
    }
}

impl BinlogError {
    /// Whether reading again would meet the same: a person has to act.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Purged { .. }
                | Self::NotSent { .. }
                | Self::TooLarge { .. }
                | Self::Malformed { .. }
                | Self::Refused { .. }
        )
    }

    /// A stable word for metrics and for [`change::Halt::reason`].
    pub fn category(&self) -> &'static str {
        match self {
            Self::Session(_) => "Session",
            Self::Driver { .. } => "Connection",
            Self::Silent { .. } => "Silent",
            Self::Ended { .. } | Self::Replaced { .. } => "Ended",
            Self::Purged { .. } => "Purged",
            Self::NotSent { .. } => "BinlogNotSent",
            Self::TooLarge { .. } => "EventTooLarge",
            Self::Malformed { .. } => "Malformed",
            Self::Checksum { .. } => "Checksum",
            Self::Refused { reason, .. } => reason,
        }
    }
}
