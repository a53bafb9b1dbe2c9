//! The history of a trial, and what is wrong with it.
//!
//! Pure: made from what applications noted of their own writes, from what etcd showed to somebody
//! who kept asking, and from the rows that are there in the end. Nothing here reads a clock, a
//! database or a file, and nothing uses the product's code, so it can be fed made-up histories.
//!
//! What is checked, and why it is enough:
//! - **Overlap.** Every acknowledged write happened under some epoch whose holder is the member that
//!   took it. If `a` was acknowledged before `b` was sent, the epoch of `a` is not above that of
//!   `b`; a write of an epoch was not acknowledged before etcd can have held that epoch, and not
//!   sent after etcd was seen to hold a later one; and none lies wholly in a time in which nobody
//!   held `primary`. If no epoch is left for a write, two members were writable at once. See
//!   [`epochs`].
//! - **Lost, doubled, stranded, diverged.** See [`rows`].

pub mod epochs;
pub mod log;
pub mod pause;
pub mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use epochs::{Epochs, Sighting};
pub use pause::{Measure, Pause};

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds: the same for all processes of a machine.
pub type Nanos = u64;

/// One write: the client's number, and the client's count of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// The client.
    pub client: u32,
    /// Its count.
    pub number: u64,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.number)
    }
}

/// What came of an attempt to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server said that it is committed.
    Acknowledged,
    /// The server said that it is not.
    Refused,
    /// No answer, or one that says neither.
    Unknown,
    /// An answer that no server in good order gives to a write.
    Wrong(String),
}

/// One attempt to write. Each has a number of its own and is never repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The write.
    pub id: WriteId,
    /// The IDC of the member that it was sent to.
    pub member: String,
    /// Whether it also adds one to its client's counter, in the same transaction.
    pub counted: bool,
    /// When it was sent.
    pub sent: Nanos,
    /// When the answer came, or the waiting for one ended.
    pub ended: Nanos,
    /// What came of it.
    pub outcome: Outcome,
    /// The counter as the transaction itself read it, after adding one.
    pub total: Option<u64>,
}

impl Attempt {
    /// Whether the client may tell others that it is written.
    pub fn acknowledged(&self) -> bool {
        self.outcome == Outcome::Acknowledged
    }
}

/// What a member holds in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberRows {
    /// Every write of the trial that is there.
    pub writes: BTreeSet<WriteId>,
    /// Every client's counter.
    pub totals: BTreeMap<u32, u64>,
    /// Rows and digest of each table, by SQL of the databases' own client.
    pub digests: BTreeMap<String, (u64, u64)>,
}

/// Writes that were set aside instead of applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stranding {
    /// Those that were found: on the member that took them, and not on the other.
    pub found: BTreeSet<WriteId>,
    /// How many the product says there are.
    pub reported: u64,
}

/// Everything known of a trial.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What applications noted.
    pub attempts: Vec<Attempt>,
    /// What etcd showed, in the order of asking.
    pub sightings: Vec<Sighting>,
    /// What receipts and older revisions of etcd say of epochs: number, holder, and whether it
    /// began with a planned switchover.
    pub receipts: Vec<(u64, String, bool)>,
    /// The primary in the end.
    pub primary: String,
    /// What each member holds in the end, after what was stranded was brought back in line.
    pub members: BTreeMap<String, MemberRows>,
    /// What was stranded.
    pub stranding: Stranding,
    /// What the new primary held when it already took writes, and its epoch: what it gets later
    /// of earlier epochs was hidden from its readers.
    pub at_takeover: Option<(u64, BTreeSet<WriteId>)>,
    /// Promises of the other arbiters may keep the last holder open while nobody holds `primary`.
    pub promises: bool,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A write was acknowledged at a time at which its member cannot have been the primary.
    Overlap {
        /// The write.
        write: WriteId,
        /// The member that took it.
        member: String,
        /// Why no epoch fits.
        reason: String,
    },
    /// An epoch had two holders.
    TwoHolders {
        /// The epoch.
        epoch: u64,
        /// Both.
        holders: [String; 2],
    },
    /// An acknowledged write is neither on the primary nor accounted for as stranded.
    Lost {
        /// The write.
        write: WriteId,
        /// The member that took it.
        member: String,
    },
    /// A counter is not the number of its writes.
    Miscounted {
        /// The client.
        client: u32,
        /// The member.
        member: String,
        /// What the counter says.
        total: u64,
        /// The writes that are there.
        rows: u64,
    },
    /// A write was set aside that must not have been.
    WronglyStranded {
        /// The write.
        write: WriteId,
        /// Why not.
        reason: String,
    },
    /// A write of an earlier epoch turned up on the new primary after it had begun to take writes.
    AppliedLate {
        /// The write.
        write: WriteId,
        /// The new primary's epoch.
        epoch: u64,
    },
    /// The product says of another number of writes that they are stranded than there are.
    StrandedMiscounted {
        /// What it says.
        reported: u64,
        /// How many there are.
        found: u64,
    },
    /// A client was told something that is not so.
    WrongAnswer {
        /// The write.
        write: WriteId,
        /// What.
        reason: String,
    },
    /// The primary moved, or was taken up again, where nothing called for it.
    Moved {
        /// Epochs that began.
        epochs: usize,
        /// That may have begun.
        at_most: usize,
    },
    /// Two members do not hold the same.
    Diverged {
        /// Where and what.
        reason: String,
    },
}

impl Violation {
    /// Whether it means that two members were writable at once.
    pub fn is_overlap(&self) -> bool {
        matches!(self, Self::Overlap { .. } | Self::TwoHolders { .. })
    }

    /// Whether it means that something acknowledged is gone.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Miscounted { total, rows, .. } => total < rows,
            // Gone from the primary, and the product does not say so.
            Self::StrandedMiscounted { reported, found } => reported < found,
            _ => false,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap {
                write,
                member,
                reason,
            } => write!(
                f,
                "OVERLAP: write {write} was acknowledged by {member}, but {reason}"
            ),
            Self::TwoHolders {
                epoch,
                holders: [one, other],
            } => write!(f, "OVERLAP: epoch {epoch} was held by {one} and by {other}"),
            Self::Lost { write, member } => write!(
                f,
                "LOST: write {write} was acknowledged by {member}, and is neither on the primary \
                 nor stranded"
            ),
            Self::Miscounted {
                client,
                member,
                total,
                rows,
            } => {
                let what = if total < rows { "LOST" } else { "DOUBLED" };
                write!(
                    f,
                    "{what}: client {client} has {rows} counted writes at {member}, its counter \
                     says {total}"
                )
            }
            Self::WronglyStranded { write, reason } => {
                write!(f, "WRONGLY STRANDED: write {write}: {reason}")
            }
            Self::AppliedLate { write, epoch } => write!(
                f,
                "APPLIED LATE: write {write} of an earlier epoch was not on the primary when it \
                 took writes under epoch {epoch}, and is there now"
            ),
            Self::StrandedMiscounted { reported, found } => {
                let what = if reported < found { "LOST" } else { "STRANDED" };
                write!(
                    f,
                    "{what}: the product reports {reported} transactions as stranded, {found} are \
                     not on the primary"
                )
            }
            Self::WrongAnswer { write, reason } => {
                write!(f, "WRONG ANSWER: write {write}: {reason}")
            }
            Self::Moved { epochs, at_most } => write!(
                f,
                "MOVED: {epochs} epochs began, and the fault calls for {at_most} at most"
            ),
            Self::Diverged { reason } => write!(f, "DIVERGED: {reason}"),
        }
    }
}

fn epochs_of(history: &History) -> (Epochs, Vec<Violation>) {
    let (mut epochs, violations) = Epochs::of(&history.sightings, &history.receipts);
    if history.promises {
        epochs.allow_vacancies();
    }
    (epochs, violations)
}

/// What is wrong with the order of writes alone: for histories whose end is not known.
pub fn check_order(history: &History) -> Vec<Violation> {
    let (epochs, mut violations) = epochs_of(history);
    violations.extend(epochs.place(&history.attempts).1);
    violations
}

/// Everything that is wrong with a history; empty if nothing is.
pub fn check(history: &History) -> Vec<Violation> {
    let (epochs, mut violations) = epochs_of(history);
    let (placed, overlaps) = epochs.place(&history.attempts);
    violations.extend(overlaps);
    violations.extend(rows::check(history, &epochs, &placed));
    violations
}
