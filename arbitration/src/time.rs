//! Time as the core knows it: given with each step, never read.

use jiff::Timestamp;

/// An instant on the arbiter's own monotonic clock, in milliseconds. The shell reads it from
/// `CLOCK_BOOTTIME`, which goes on while the machine is suspended, as a lease in etcd does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This many milliseconds later.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This many milliseconds earlier.
    #[must_use]
    pub fn minus(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// Milliseconds from an earlier moment to this one; 0 if it is not earlier.
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The two clocks at the instant of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Now {
    /// What every decision is made by.
    pub at: Moment,
    /// What is written into documents for people, and decides nothing.
    pub wall: Timestamp,
}

/// The time limits of an arbiter, in milliseconds. None of them is a fact about the world: making
/// one longer or shorter costs availability; safety needs only that the two budgets suffice for a
/// fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How long before the lease may end a fence must begin.
    pub fence_budget: u64,
    /// How long before the lease may end the guard in the server must begin its fence; the guard
    /// needs no network, so it is less.
    pub guard_budget: u64,
    /// How long open transactions have to end before a planned fence cuts them.
    pub fence_grace: u64,
    /// How long a planned fence may take before the switchover is cancelled.
    pub fence_timeout: u64,
    /// How long the target may take to catch up with a fenced primary.
    pub catch_up_timeout: u64,
    /// How long a new holder waits for what was received of an epoch whose end nobody proved, and is
    /// still being applied.
    pub time_to_drain: u64,
    /// How long an arbiter that ought to act on an intent may stay silent.
    pub answer_timeout: u64,
    /// How long the target waits for its lag to become small.
    pub ready_timeout: u64,
    /// A target's lag must be below the heartbeat's interval plus this.
    pub ready_lag: u64,
    /// The pause after something failed.
    pub retry_pause: u64,
    /// How long after `primary` is gone the former holder may take it again before others vote
    /// that nobody holds it.
    pub retake_grace: u64,
    /// How long the first in an election waits for those that have not bid yet.
    pub bid_wait: u64,
    /// How long each next in rank waits for the one before it.
    pub rank_turn: u64,
    /// How long a new holder may take to open before it gives up where another member could.
    pub open_timeout: u64,
    /// How long the member with the highest priority has to be in sync before it asks for the
    /// primary back.
    pub failback_after: u64,
    /// The silence of etcd after which a holder asks for promises.
    pub failsafe_after: u64,
    /// The pause between two rounds of asking.
    pub promise_every: u64,
    /// The longest promise that is given: the installation's lease time.
    pub longest_promise: u64,
    /// What this arbiter takes part in.
    pub features: Features,
}

/// What an arbiter takes part in. Whoever steps the core says so explicitly, and supplies the
/// events and carries out the commands that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features {
    /// Judge members by [`crate::Event::Signalled`], vote, bid, elect and fail back. Every IDC
    /// runs a core for every Unit then, also where it has no member.
    pub votes: bool,
    /// Ask for promises and give them: [`crate::Command::AskPromise`] and
    /// [`crate::Command::AnswerPromise`].
    pub failsafe: bool,
    /// Trust etcd only as far as [`crate::Event::EtcdSeen`] and the database's memory allow
    /// (rule 10); [`crate::Core::etcd_mark`] is written into the database with each heartbeat.
    pub memory: bool,
}

impl Features {
    /// Everything.
    pub const ALL: Self = Self {
        votes: true,
        failsafe: true,
        memory: true,
    };
    /// Nothing but what a person asks for.
    pub const NONE: Self = Self {
        votes: false,
        failsafe: false,
        memory: false,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fence_budget: 1_500,
            guard_budget: 1_000,
            fence_grace: 50,
            fence_timeout: 5_000,
            catch_up_timeout: 10_000,
            time_to_drain: 2_000,
            answer_timeout: 15_000,
            ready_timeout: 10_000,
            ready_lag: 1_000,
            retry_pause: 300,
            retake_grace: 1_000,
            bid_wait: 300,
            rank_turn: 1_000,
            open_timeout: 10_000,
            failback_after: 60_000,
            failsafe_after: 2_000,
            promise_every: 700,
            longest_promise: 6_000,
            features: Features::ALL,
        }
    }
}

impl Settings {
    /// The margin for clocks that run at different rates, given a lease time: 1 % and 200 ms.
    pub fn drift(lease_millis: u64) -> u64 {
        lease_millis / 100 + 200
    }
}
