//! Switches that take a rule out, so that a check can be seen to find what the rule is there for.

/// Which rules are in force. Production knows only [`Rules::ALL`]; the simulator takes one out at
/// a time and must then find two primaries, or a lost write. Rules that stand behind others (the
/// session's revision in every transaction, the epoch's in a takeover, the barrier after an unknown outcome) are not here, since no run
/// shows their absence while those others are in force: scripts in `testdata/` see that they are
/// followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is one rule, on or off")]
pub struct Rules {
    /// Rule 1: the fence begins before the lease can end, not when it does.
    pub fence_before_lease_ends: bool,
    /// Rule 1: a deadline counts from when the keep-alive was sent, not from its answer.
    pub deadline_from_sending: bool,
    /// Rule 2: no member is open without a guard whose deadline lies before the lease's end.
    pub guard: bool,
    /// Rule 6: `primary` is released only with a proof.
    pub release_with_proof: bool,
    /// Rule 7: a candidate compares that `primary` is absent.
    pub compare_primary: bool,
    /// Rule 7: the first primary compares that every member is fenced.
    pub compare_members: bool,
    /// Switchover: hand-over and cancel compare the intent's revision.
    pub compare_intent: bool,
    /// Switchover: the old primary opens again only once its cancel is acknowledged.
    pub await_cancel: bool,
    /// Switchover: the target takes over only once it has applied the fenced position.
    pub await_catch_up: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self {
        fence_before_lease_ends: true,
        deadline_from_sending: true,
        guard: true,
        release_with_proof: true,
        compare_primary: true,
        compare_members: true,
        compare_intent: true,
        await_cancel: true,
        await_catch_up: true,
    };
}
