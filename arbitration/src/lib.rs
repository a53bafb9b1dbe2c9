//! The arbitration core: who may be primary, as a state machine without IO, clock or randomness.
//!
//! [`Core::step`] takes an event and answers with commands, for one Unit as seen by the arbiter of
//! one IDC. The shell (`arbiter/`) carries them out; the simulator in `tests/` steps the same core
//! through crashes, lost messages, pauses and drifting clocks.
//!
//! A step has two halves. The first takes the event into the state (`intake`). The second decides by
//! pure functions of the state what is to be done: one command to the database at a time (`hold`),
//! one transaction to etcd at a time (`elect`, `request`, `announce`). So it does not matter which
//! event brought a state about, and an answer that was lost is made up for by the next event.
//!
//! # Why no two members are writable
//!
//! Let `t` be when the last acknowledged keep-alive was *sent*, TTL the lease time granted with
//! it, `d` the margin for drift.
//!
//! 1. Whoever takes `primary` when it is absent waits until TTL after it heard of the last renewal
//!    of its former holder's session, which is at or after `t`, whenever etcd ended the lease
//!    (`right`). The acknowledgement also says that the session's key was this process's at `t` or
//!    later, so a process that was superseded stops within the same time.
//! 2. This member stops accepting writes before `t + TTL - d`: the arbiter begins the fence the
//!    fence budget earlier (`hold_until`), and should it be dead or frozen, the guard in the server
//!    does so the guard budget earlier (`guard_deadline`). It is opened only while a guard runs
//!    (`open_step`), and an `Open` that reaches the server late opens nothing, since the server
//!    compares the guard's deadline.
//! 3. `primary` leaves this IDC before it expires only through a transaction that follows this
//!    process's own, recorded word: a release with the proof of a fence, or `Fenced` in an intent,
//!    after the fence. Until the end of that is known, the member is not opened: the state has to be
//!    at least as new as this process's last transaction (`needs`); a transaction without an answer
//!    is brought to nothing first, by one that rewrites the `primary` it compares (`barrier`); what
//!    an earlier process of this IDC sent compares its session's key, which claiming the session
//!    rewrote.
//! 4. Whoever takes `primary` compares that it is absent, or, for a hand-over, the very revision
//!    that the fenced holder wrote, and the intent in its `Fenced` phase; a cancel compares the
//!    same intent, so exactly one of the two takes effect.
//!
//! So the writable periods of two members are disjoint. They are ordered by epoch, since each
//! takeover compares the epoch's revision and puts a higher one. The assumptions are those of
//! `docs/architecture.md`: clock rates differ by less than the margin, a fence takes less than its
//! budget, and etcd is linearizable.
//!
//! # What is let be
//!
//! A Unit that was deleted ends its guard and leaves the member as it is, open where it was open:
//! deleting a custom resource gives the servers back to their owner. Before a Unit's first election
//! a member that accepts writes is fenced only when the election can be held, so that applying a
//! Unit with a mistake in it stops nobody's business.

mod announce;
mod automatic;
mod bid;
mod core;
mod elect;
mod event;
mod explain;
mod first;
mod forgotten;
mod hold;
mod intake;
mod lag;
mod memory;
mod observation;
mod order;
mod promise;
mod readiness;
mod request;
mod right;
mod rules;
mod signals;
mod standby;
mod time;
mod vote;

pub use core::Core;
pub use event::{
    Command, Compare, DatabaseCommand, DatabaseResult, Event, HeldSession, Outcome, Purpose, Slot,
    Transaction, Write,
};
pub use explain::Report;
pub use observation::{Applied, Hindrance, Observation, PromiseAsk, PromiseSeen, Sign};
pub use readiness::{FailoverReadiness, NotReady};
pub use rules::Rules;
pub use standby::{LOOK_EVERY, Standby, Standing};
pub use time::{Features, Moment, Now, Settings};
