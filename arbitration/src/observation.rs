//! What the core is told of databases, and what arbiters ask of each other.

use model::{
    Epoch, EtcdMark, Generation, IdcName, PositionText, ServerBoot, ServerIdentity, Signal,
};

/// What a look at the member's database showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, each named"
)]
pub struct Observation {
    /// The server.
    pub identity: ServerIdentity,
    /// Its boot.
    pub boot: ServerBoot,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether it refuses ordinary sessions altogether: a fence, or the guard of an earlier
    /// process, was not seen through to its end.
    pub offline: bool,
    /// Whether a guard of ours runs in it.
    pub guard_running: bool,
    /// How old the newest heartbeat of the last epoch's holder is here, in milliseconds; `None`
    /// where none has arrived.
    pub lag_millis: Option<u64>,
    /// Whether the Unit's databases hold any table with a row.
    pub has_data: bool,
    /// The highest epoch in the database.
    pub highest_epoch: Epoch,
    /// Whether it was this member that held it.
    pub held_highest: bool,
    /// How much of the last epoch's holder's own transactions has been applied here.
    pub applied: Option<Applied>,
    /// The number of this member's own last transaction. It only ever grows, unless the server
    /// lost writes that it had.
    pub own_sequence: Option<u64>,
    /// Whether it is known to come up `read_only` after a restart (rule 4).
    pub boots_fenced: bool,
    /// How far etcd was, as this database remembers it (rule 10).
    pub etcd: Option<EtcdMark>,
    /// The highest generation of an arbiter that this server has obeyed, where it tells.
    pub generation: Generation,
    /// The promise that was last recorded here (rule 11), read no earlier than the generation.
    pub promise: Option<PromiseSeen>,
}

/// A promise as it is recorded in the database of the member that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PromiseSeen {
    /// The epoch of the holder to whom it was given.
    pub epoch: Epoch,
    /// For how long, in milliseconds.
    pub for_millis: u64,
}

/// How much of another member's history has been applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Applied {
    /// The number of the last of its transactions before which none is missing.
    pub sequence: u64,
    /// All that was applied of it, which is more than that where several are applied at once.
    pub position: PositionText,
}

/// What one signal of a member showed (see [`Event::Signalled`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sign {
    /// It answered, or the write succeeded.
    Answered(Signal),
    /// It did not, with what it said, for people.
    Failed(Signal, String),
    /// A heartbeat of it that is newer than all before arrived here through the link.
    Replicated {
        /// The epoch that it carries.
        epoch: Epoch,
    },
}

/// Something about a member on account of which a planned switchover would hurt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hindrance {
    /// An ALTER that copies a table runs: the fence would wait for it.
    Alter,
    /// A backup holds its lock: the fence would wait for it, or guards could not tick.
    BackupLock,
    /// So many prepared XA transactions could still be committed after the fence.
    PreparedXa(u64),
    /// So many transactions of an ended epoch are set aside here and not settled.
    Stranded(u64),
    /// So many transactions that this member committed under an ended epoch are nowhere else, and
    /// were not taken back here yet.
    NotInLine(u64),
    /// These links still copy tables to this member, so rows are missing here.
    Copying(Vec<String>),
    /// The link from this IDC does not stream.
    LinkStopped(IdcName),
}

impl std::fmt::Display for Hindrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alter => f.write_str(
                "an ALTER runs that copies a table, and a fence would wait for it. Wait for its \
                 end, or kill it",
            ),
            Self::BackupLock => f.write_str(
                "a backup holds its lock, and a fence would wait for it. Wait for its end",
            ),
            Self::PreparedXa(count) => write!(
                f,
                "{count} XA transactions are prepared, and could be committed after a fence. Commit \
                 or roll them back: XA RECOVER"
            ),
            Self::Stranded(count) => write!(
                f,
                "{count} transactions of an ended epoch are set aside and not settled. See mactl \
                 stranded list"
            ),
            Self::NotInLine(count) => write!(
                f,
                "{count} transactions that it committed under an ended epoch are nowhere else, and \
                 were not taken back yet. See the status of the link to it"
            ),
            Self::Copying(links) => write!(
                f,
                "link {} still copies tables to it, so rows are missing there. Wait until it has \
                 ended; its status tells how far it is",
                links.join(", ")
            ),
            Self::LinkStopped(from) => {
                write!(f, "the link from {from} does not stream. See its status")
            }
        }
    }
}

/// A holder without etcd asks another member's arbiter not to take the Unit (rule 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PromiseAsk {
    /// Its number at the holder's core; the answer carries it back.
    pub number: u64,
    /// The epoch that the holder holds.
    pub epoch: Epoch,
    /// For how long from its receipt, in milliseconds.
    pub for_millis: u64,
}
