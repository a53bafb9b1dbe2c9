//! What happens without being asked: elections, failback, and what keeps them from happening too
//! often.

use model::{
    Epoch, FailoverMode, IdcName, Intent, IntentKind, IntentPhase, TransitionKind, UnitState,
};

use crate::core::{Core, Exposure, Plan};
use crate::event::{Purpose, Slot, Write};
use crate::order::holder_is_taken_out;
use crate::vote::down_votes;
use crate::{Moment, Now};

/// With fewer IDCs a majority is all of them, and whoever is lost cannot vote.
pub(crate) const FEWEST_IDCS: usize = 3;

impl Core {
    /// Notes when what the core waits for began, on this arbiter's clock.
    pub(crate) fn note_election(&mut self, now: Now) {
        let open = self.state.as_ref().is_some_and(|state| {
            state.primary.is_none()
                && state.epoch.is_some()
                && (is_vacated(state) || self.is_voted_down(state))
                && self.former_right_is_over(now, state)
        });
        self.takeable_since = self
            .takeable_since
            .filter(|_| open)
            .or(open.then_some(now.at));
        let failed_over = self
            .state
            .as_ref()
            .and_then(|state| state.epoch.as_ref())
            .map(|epoch| epoch.value.failed_over)
            .filter(|epoch| *epoch > Epoch::NONE);
        if self.cooling_since.map(|(epoch, _)| epoch) != failed_over {
            self.cooling_since = failed_over.map(|epoch| (epoch, now.at));
        }
        let in_sync = self.is_in_sync(now);
        self.in_sync_since = self
            .in_sync_since
            .filter(|_| in_sync)
            .or(in_sync.then_some(now.at));
        let shut = self.held().is_some()
            && self.member.exposure != Exposure::Open
            && !self.intent_wants_fence(now);
        self.unopened_since = self
            .unopened_since
            .filter(|_| shut)
            .or(shut.then_some(now.at));
        let held = self.held().map(|held| held.value.epoch);
        if let Some(epoch) = held.filter(|_| self.has_tried(now) && self.gives_up_opening(now)) {
            self.gave_up = Some((epoch, now.at));
        }
    }

    /// Whether the cool-down after an automatic failover runs. Counted from when this process
    /// first saw the failover, so a restart can only make it longer.
    pub(crate) fn is_cooling(&self, now: Now, state: &UnitState) -> bool {
        let Some(doc) = self.doc().filter(|_| self.rules.cooldown) else {
            return false;
        };
        let Some((failed_over, since)) = self.cooling_since else {
            return false;
        };
        let acknowledged = state
            .ack
            .as_ref()
            .is_some_and(|ack| ack.value.epoch >= failed_over);
        !acknowledged && now.at.since(since) < doc.value.failover.cooldown_millis
    }

    /// Whether the primary may go to another IDC without being asked.
    ///
    /// Rule 4: not from a server that may come up writable. Once it is restarted, with its arbiter
    /// gone or without etcd, nothing that we have would fence it, neither an arbiter nor a guard.
    pub(crate) fn may_fail_over(&self, now: Now, state: &UnitState) -> bool {
        state.idcs.len() >= FEWEST_IDCS
            && !self.is_cooling(now, state)
            && holder_boots_fenced(state)
    }

    /// Rule 7: takes `primary` with the votes of a majority, or the proof of a release.
    pub(crate) fn take_elected(&self, now: Now, state: &UnitState) -> Option<Plan> {
        let own = self.was_holder(state);
        let allowed = own || self.may_fail_over(now, state);
        if !self.is_automatic()
            || state.primary.is_some()
            || !allowed
            || !self.trusts_own_memory()
            || self.is_bound_by_intent(state)
            || !self.ineligible(now, state).is_empty()
            || !self.my_turn(now, state)
        {
            return None;
        }
        let kind = if own {
            TransitionKind::Retake
        } else {
            TransitionKind::Failover
        };
        let mut plan = self.takeover(now, state, Purpose::TakeElected, kind)?;
        for (voter, vote) in down_votes(state) {
            plan = plan.compare_if(
                self.rules.compare_votes,
                Slot::Vote(voter.clone()),
                vote.revision,
            );
        }
        for (idc, doc) in &state.idcs {
            plan = plan.compare(Slot::Idc(idc.clone()), doc.revision);
        }
        plan = plan.compare(
            Slot::Intent,
            state
                .intent
                .as_ref()
                .map_or_else(Default::default, |intent| intent.revision),
        );
        Some(match self.intent() {
            // Its target took over and never opened; nobody else would end it.
            Some(intent) => plan.write(Write::Intent(Intent {
                phase: IntentPhase::Cancelled {
                    reason: format!("{} was elected before the target was open", self.me),
                },
                ..intent.value.clone()
            })),
            None => plan,
        })
    }

    /// Whether an unfinished intent has to be ended first, by its target or by its time-out.
    fn is_bound_by_intent(&self, state: &UnitState) -> bool {
        let epoch = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        self.intent()
            .is_some_and(|intent| match &intent.value.phase {
                IntentPhase::HandedOver { epoch: handed, .. } => Some(*handed) > epoch,
                _ => true,
            })
    }

    /// Whether nobody who goes before this member can be expected to act any more.
    fn my_turn(&self, now: Now, state: &UnitState) -> bool {
        let (Some(since), Some(rank)) = (self.takeable_since, self.rank(state)) else {
            return false;
        };
        if self.sits_out(now, state) {
            return false;
        }
        let waited = now.at.since(since);
        let settings = &self.settings;
        // A fenced holder left the position to reach; lag would say less exactly.
        if let Some((_, position)) = self.catch_up_position()
            && self.caught_up.as_ref() != Some(&position)
            && waited < settings.catch_up_timeout
        {
            return false;
        }
        // Released without votes, for a reason of the holder's own: it may take it up again, unless a
        // person has taken it out.
        let settled = self.is_voted_down(state) || holder_is_taken_out(state);
        let grace = if settled || self.was_holder(state) {
            0
        } else {
            settings.retake_grace
        };
        let bids = if self.all_have_bid(state) {
            0
        } else {
            settings.bid_wait
        };
        waited >= grace.max(bids) + rank * settings.rank_turn
    }

    /// A holder that does not manage to open gives up where another member could. One that does
    /// not even reach its database tries nothing that would be worth waiting for: it gives up as
    /// soon as the guard there has certainly fenced, which the release has to prove.
    pub(crate) fn gives_up_opening(&self, now: Now) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let hopeless = self.unopened_since.is_some() && !self.member.reachable;
        (self.has_tried(now) || hopeless)
            && self.is_automatic()
            && self.may_fail_over(now, state)
            && state.members.iter().any(|(idc, record)| {
                *idc != self.me
                    && record.value.reachable
                    && record.value.fenced
                    && record.value.ineligible.is_empty()
            })
    }

    /// Whether it has had the time that opening may take.
    fn has_tried(&self, now: Now) -> bool {
        self.unopened_since
            .is_some_and(|since| now.at.since(since) >= self.settings.open_timeout)
    }

    /// Whether this member leaves the Unit to others for as long as it tried itself: it could not be
    /// opened in the last epoch, and would be the first to take the next one.
    pub(crate) fn sits_out(&self, now: Now, state: &UnitState) -> bool {
        let last = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        self.gave_up.is_some_and(|(epoch, since)| {
            Some(epoch) == last && now.at.since(since) < self.settings.open_timeout
        })
    }

    fn is_in_sync(&self, now: Now) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let follows = state
            .primary
            .as_ref()
            .is_some_and(|primary| primary.value.idc != self.me && primary.value.open);
        let bound = self
            .doc()
            .map(|doc| doc.value.heartbeat.interval_millis + self.settings.ready_lag);
        let lag = self
            .member
            .seen
            .as_ref()
            .and_then(|(_, seen)| seen.lag_millis);
        follows
            && self.intent().is_none()
            && lag.is_some()
            && lag <= bound
            && self.hindrances.is_empty()
            && self.standing_obstacles(now).is_empty()
    }

    /// The priority of a member; members that the Unit does not have come last.
    fn priority(&self, idc: &IdcName) -> Option<u32> {
        Some(self.doc()?.value.member(idc)?.priority)
    }

    /// Asks for a planned switchover to this member, if the primary ought to be here.
    pub(crate) fn ask_failback(&self, now: Now) -> Option<Plan> {
        let state = self.confirmed()?;
        let doc = self.doc()?;
        let primary = state.primary.as_ref()?;
        let epoch = state.epoch.as_ref()?;
        let wanted = self.is_automatic() && doc.value.failover.failback == FailoverMode::Automatic;
        let since = self.in_sync_since?;
        let mine = self.priority(&self.me);
        let best = state
            .members
            .iter()
            .filter(|(idc, record)| **idc != self.me && record.value.ineligible.is_empty())
            .all(|(idc, _)| self.priority(idc) <= mine);
        if !wanted
            || mine <= self.priority(&primary.value.idc)
            || !best
            || self.intent().is_some()
            || self.is_cooling(now, state)
            || now.at.since(since) < self.settings.failback_after
        {
            return None;
        }
        let asked = Intent {
            id: format!("failback-{}", epoch.value.epoch),
            kind: IntentKind::Planned,
            to: Some(self.me.clone()),
            expected_primary: Some(primary.value.idc.clone()),
            expected_epoch: epoch.value.epoch,
            allow_data_loss: false,
            requested_at: now.wall,
            phase: IntentPhase::Requested,
        };
        Some(
            self.plan(Purpose::AskFailback)
                .compare(Slot::Unit, doc.revision)
                .compare(Slot::Epoch, epoch.revision)
                .compare(
                    Slot::Intent,
                    state
                        .intent
                        .as_ref()
                        .map_or_else(Default::default, |it| it.revision),
                )
                .write(Write::Intent(asked)),
        )
    }

    /// Writes into the receipt of the epoch that ended this member's how much of it was stranded.
    pub(crate) fn count_stranded(&self) -> Option<Plan> {
        let (epoch, transactions) = self.stranded?;
        let state = self.confirmed()?;
        let receipt = state.receipt.as_ref()?;
        let meant = receipt.value.epoch == epoch
            && receipt.value.from.as_ref() == Some(&self.me)
            && receipt.value.stranded != Some(transactions);
        let mut counted = receipt.value.clone();
        counted.stranded = Some(transactions);
        meant.then(|| {
            self.plan(Purpose::CountStranded)
                .compare(Slot::History(epoch), receipt.revision)
                .write(Write::History(counted))
        })
    }

    /// The moments at which something here becomes due.
    pub(crate) fn automatic_moments(&self) -> impl Iterator<Item = Moment> {
        let settings = &self.settings;
        let turns = self.takeable_since.into_iter().flat_map(move |since| {
            let turn = settings.rank_turn;
            (0..3).flat_map(move |rank| {
                [0, settings.bid_wait, settings.retake_grace]
                    .map(|wait| since.plus(wait + rank * turn))
            })
        });
        let vacant = self
            .vacancy
            .as_ref()
            .into_iter()
            .flat_map(|vacancy| [vacancy.since.plus(settings.retake_grace), vacancy.over_at]);
        let given_up = self
            .unopened_since
            .map(|since| since.plus(settings.open_timeout));
        let back = self
            .gave_up
            .map(|(_, since)| since.plus(settings.open_timeout));
        turns.chain(vacant).chain(given_up).chain(back)
    }
}

/// Whether the server of the current epoch's holder is known to come up `read_only`.
pub(crate) fn holder_boots_fenced(state: &UnitState) -> bool {
    let epoch = state.epoch.as_ref();
    epoch.is_none_or(|epoch| epoch.value.boots_fenced)
}

/// Whether the holder of the current epoch left the proof of its release.
pub(crate) fn is_vacated(state: &UnitState) -> bool {
    let epoch = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
    state
        .vacated
        .as_ref()
        .is_some_and(|vacated| Some(vacated.value.epoch) == epoch)
}
