//! What etcd holds: keys, documents, sessions, compare-and-swap transactions and watches that
//! survive.
//!
//! - [`Topology`] is the client: one connection an endpoint, one endpoint in use at a time, every
//!   request bounded in time. Reads try the other endpoints before they fail; a transaction is
//!   sent once, since nobody can know what became of one that was not answered.
//! - [`Keys`] is the only place where keys are spelled.
//! - [`Transaction`] compares revisions and leases and puts documents. [`CommitError`] keeps
//!   *lost* (somebody else acted) apart from *unknown* (anything may have happened).
//! - [`Session`] is the lease that everything of one IDC is bound to.
//! - [`TopologyWatch`] holds the state of all Units, up to date, through compaction, lost members
//!   and reconnects.
//!
//! # Invariants
//! - Every document is JSON of a type in `model`; nothing else is ever put.
//! - A state that is handed out is that of one revision: the changes of one transaction are
//!   never seen in part.
//! - A moment at which a keep-alive was *sent* is read from the clock before the request is made.

mod agree;
mod certificates;
mod client;
mod clock;
mod error;
mod keys;
mod orders;
mod publish;
mod read;
mod renewal;
mod room;
mod session;
mod state;
mod transaction;
mod watch;

pub use agree::Basis;
pub use client::{EtcdOptions, Topology};
pub use clock::boot_time_millis;
pub use error::{CommitError, TopologyError};
pub use keys::{Key, Keys, Located};
pub use orders::{OrderRefused, Ordered};
pub use publish::{IntentRefused, Published};
pub use room::Room;
pub use session::{KeepAlive, Session, SessionClaim, Standing};
pub use state::{Agreement, TopologyState};
pub use transaction::Transaction;
pub use watch::{Changes, Listed, TopologyWatch};
