//! Verification and repair of one link: compares the target with the source row by row while both
//! take writes, and mends what differs.
//!
//! Where things are:
//! - `pair`, `digest`, `sizer`, `verdict`, `throttle`: the decisions, pure;
//! - `side`, `fence`, `still`: reading both ends, and knowing that the link has caught up;
//! - `judge`: from rows that look different to rows that are;
//! - `anew`: having the link copy whole tables anew;
//! - `mend`: writing one row; `swap` and `unfit`: several that keep each other out; `undo`: taking
//!   that back;
//! - `record`: the tables `multiactive.repair_runs` and `multiactive.repairs`;
//! - `run`: all tables, chunk by chunk; `worker`: the loop around it.
//!
//! **Invariants.** Nothing is called a divergence but what was seen in a *still moment*: the source's
//! rows locked, and the link past everything that was committed there before ([`still`]). Nothing
//! is written but single rows by compare and set, one at a time or, where their unique values keep
//! each other out, up to 32 together, in a transaction that holds the lock of the epoch as the
//! writer's do, that leaves a row in `multiactive.repairs` for each, and that bears the origin mark
//! of the source. Nothing is removed by a range. Whole tables are only asked for; it is the
//! link's writer that empties and copies them.

mod anew;
mod digest;
mod error;
mod fence;
mod judge;
mod mend;
pub mod options;
mod pair;
mod place;
mod record;
mod run;
mod side;
mod sizer;
mod status;
mod still;
mod swap;
mod throttle;
mod undo;
mod verdict;
mod worker;

pub use error::RepairError;
pub use status::Status;
pub use worker::Worker;

/// Bytes in hexadecimal.
fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
