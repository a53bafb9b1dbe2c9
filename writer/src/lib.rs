//! The writer of one link: pulls what the link's syncer reads at the source and applies it to the
//! target, each transaction exactly once.
//!
//! Where things are:
//! - `run`: the loop that begins again after every error; `follow`: one session of it;
//! - `apply`, `snapshot`, `ddl`: rows, copies and statements, each with the checkpoint;
//! - `sql`: row changes as SQL, pure;
//! - `target`: the session with the target, and what its catalogue says;
//! - `undo`, `replay`: what a failover stranded, taken back where it was written, and written again
//!   where a person wants it;
//! - `skip`: the transaction that a person has a halted link leave out;
//! - `rebuild`: tables that a person wants copied anew;
//! - `settle`: what was held as a conflict, put at either end by a person;
//! - `checkpoint`, `epoch`, `batch`, `conflict`, `explain`: the decisions, pure.
//!
//! **Invariants.** Nothing is applied but in a transaction that changes the link's row in
//! `multiactive.applied` from what this writer wrote last. Nothing of an ended epoch is applied.
//! Source transactions are applied whole and in order. Nothing is skipped in silence: what is not
//! understood halts the link, and what a person has it skip is filed whole.

mod aftermath;
mod alone;
mod apply;
mod backoff;
mod batch;
mod bookkeeping;
mod cascades;
mod checkpoint;
mod claim;
mod conflict;
mod ddl;
mod entry;
mod epoch;
mod error;
mod explain;
mod failpoint;
mod follow;
mod lag;
pub mod options;
pub mod rebuild;
mod replay;
pub mod rows;
mod run;
mod selection;
mod settle;
mod skip;
mod snapshot;
mod sql;
mod status;
mod stranded;
mod stream;
mod target;
mod undo;

pub use aftermath::Aftermath;
pub use entry::main;
pub use error::{Class, Conflict, ConflictKind, WriterError, class_of_driver};
pub use replay::{HeldRow, Kind, Outcome, ReplayError, Replayed, Replayer};
pub use run::Writer;
pub use settle::{SettleError, Settler};
pub use status::Status;
pub use target::unfit::Unfit;
