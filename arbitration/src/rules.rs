//! Switches that take a rule out, so that a check can be seen to find what the rule is there for.

/// Which rules are in force. Production knows only [`Rules::ALL`]; the simulator takes one out at
/// a time and must then find two primaries, a lost write, or an election without its grounds. Rules that stand behind others (the
/// session's revision in every transaction, the epoch's in a takeover, the
/// refusal to promise with a takeover in doubt, the admission of candidates) are not here, since no run
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
    /// Rule 7: only the votes of a majority of all IDCs, or a proof, elect.
    pub majority: bool,
    /// Rule 7: a takeover compares the votes that it counted.
    pub compare_votes: bool,
    /// Rule 7: the re-take waits while somebody's signals say that the database is down.
    pub retake_without_votes: bool,
    /// Rule 7: nobody takes over before all that the former holder can have been acknowledged is
    /// over, whatever became of its lease.
    pub await_former_right: bool,
    /// Votes: a member whose heartbeats still arrive through the link is not down.
    pub replication_is_life: bool,
    /// Rule 7: nobody is elected who was too far behind at the last sign of life.
    pub lag_guard: bool,
    /// No second automatic failover during the cool-down.
    pub cooldown: bool,
    /// Rule 11: a promise is kept.
    pub keep_promises: bool,
    /// Rule 11: a promise is recorded in the promising member's database before it is given.
    pub record_promises: bool,
    /// Rule 11: nobody campaigns before a promise that an earlier process may have given is over.
    pub wait_after_start: bool,
    /// Rule 11: every other candidate has to promise, not just one.
    pub all_must_promise: bool,
    /// Rule 10: an etcd that shows less than before is not believed.
    pub remember_etcd: bool,
    /// Rule 10: what states and transactions tell of etcd's revision counts too.
    pub remember_commits: bool,
    /// Rule 10: whoever notices it writes it into that etcd.
    pub note_loss: bool,
    /// Rule 10: what was asked for before is not done any more.
    pub forget_requests: bool,
    /// Rule 10: what is restored is believed again only two lease times later.
    pub two_lease_times: bool,
    /// Rule 10: and only when somebody has acknowledged it.
    pub await_ack: bool,
    /// Rule 10: since this process claimed its session in that etcd.
    pub claim_in_doubt: bool,
    /// Rule 5: what did not end as a fence is none.
    pub fence_is_proved: bool,
    /// Rule 5: a guard may run from when it was sent on, whatever was answered.
    pub guards_count_when_sent: bool,
    /// Rule 8: whoever takes over writes its epoch into its database before it opens.
    pub promote_first: bool,
    /// Rule 9: a transaction whose end nobody knows may still take effect.
    pub unknown_is_unknown: bool,
    /// Orders: a holder whose member a person has taken out fences and releases.
    pub orders_fence: bool,
    /// Orders: a member that a person has taken out is neither elected nor opened.
    pub orders_bar: bool,
    /// Rule 10: an epoch below the highest that anybody has seen is not held.
    pub highest_epoch: bool,
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
        majority: true,
        compare_votes: true,
        retake_without_votes: true,
        await_former_right: true,
        replication_is_life: true,
        lag_guard: true,
        cooldown: true,
        keep_promises: true,
        record_promises: true,
        wait_after_start: true,
        all_must_promise: true,
        remember_etcd: true,
        remember_commits: true,
        note_loss: true,
        forget_requests: true,
        two_lease_times: true,
        await_ack: true,
        claim_in_doubt: true,
        highest_epoch: true,
        fence_is_proved: true,
        guards_count_when_sent: true,
        promote_first: true,
        unknown_is_unknown: true,
        orders_fence: true,
        orders_bar: true,
    };
}
