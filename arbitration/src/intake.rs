//! How each event changes the state. Nothing is decided here.

use model::{Epoch, FenceProof, Revision, UnitState};

use crate::core::{Core, Exposure, LeaseClock};
use crate::event::{DatabaseCommand, DatabaseResult, Event, Outcome, Purpose};
use crate::observation::Observation;
use crate::{Moment, Now};

/// Between two questions whether the member has caught up, in milliseconds.
const CHECK_PAUSE: u64 = 20;

/// How many times longer the pause is while the server cannot be reached.
const UNREACHABLE_PAUSES: u64 = 10;

impl Core {
    pub(crate) fn take(&mut self, now: Now, event: Event) {
        match event {
            Event::Tick => {}
            Event::SessionClaimed(session) => {
                self.session = Some(session);
                self.promises.begin();
                self.takeover_in_doubt = None;
                self.lease = None;
                self.member.guards_before = None;
                self.needs = self.needs.max(session.revision);
                self.claimed_in_doubt(session);
                // What an earlier session sent compares that session's revision.
                self.transaction = None;
                // Another process of this IDC may have held the session in between, and opened
                // what this one had closed: its proofs are worth nothing any more.
                if !matches!(self.member.exposure, Exposure::Open | Exposure::Uncertain) {
                    self.member.exposure = Exposure::Unseen;
                }
            }
            Event::KeepAlive {
                sent_at,
                granted_millis,
            } => {
                self.take_keep_alive(now, sent_at, granted_millis);
            }
            Event::SessionLost => {
                self.session = None;
                self.lease = None;
                self.transaction = None;
            }
            Event::State(state) => self.take_state(now, *state),
            Event::Unrecorded => self.doubt_rights(now),
            Event::Committed { id, outcome } => self.take_outcome(now, id, outcome),
            Event::Observed { asked_at, seen } => self.take_observation(now, asked_at, seen),
            Event::Signalled { of, sign } => self.take_sign(now, of, sign),
            Event::EtcdSeen { sent_at, mark } => self.take_mark(now, sent_at, mark),
            Event::Hindrances(hindrances) => self.hindrances = hindrances,
            Event::Stranded {
                epoch,
                transactions,
            } => self.stranded = Some((epoch, transactions)),
            Event::PromiseAsked { by, ask } => self.take_ask(now, by, ask),
            Event::PromiseAnswered {
                by,
                number,
                promised,
            } => self.take_promise(by, number, promised),
            Event::Unreachable => {
                self.member.reachable = false;
                self.promises.refuse_waiting();
            }
            Event::Preflight(passed) => self.member.preflight = passed,
            Event::Database { id, result } => self.take_result(now, id, result),
        }
    }

    fn take_keep_alive(&mut self, now: Now, sent_at: Moment, granted: u64) {
        if self.session.is_none() {
            return;
        }
        let sent_at = if self.rules.deadline_from_sending {
            sent_at
        } else {
            now.at
        };
        let since = self
            .lease
            .as_ref()
            .map_or(sent_at, |lease| lease.since.max(sent_at));
        self.lease = Some(LeaseClock { since, granted });
        if self.member.guards_before.is_none() {
            self.member.guards_before = Some(now.at.plus(granted));
        }
        if self.holder_elsewhere_lives() {
            self.evidence = Some(sent_at);
        }
    }

    fn take_state(&mut self, now: Now, state: UnitState) {
        self.compare_cluster(now, &state);
        // What comes out of order is old, unless etcd itself went back: then the last word counts.
        let older = self
            .state
            .as_ref()
            .is_some_and(|known| known.revision > state.revision);
        if older && self.trusts_etcd() {
            return;
        }
        self.raise_mark(now, state.revision);
        self.compare_epoch(now, &state);
        self.take_note(now, &state);
        if state.unit.is_some() {
            self.left = false;
        }
        let epoch = state.epoch.as_ref();
        if let Some(epoch) = epoch.filter(|epoch| epoch.value.epoch > self.seen_epoch) {
            self.count_anew(&epoch.value.idc);
        }
        self.seen_epoch = self
            .seen_epoch
            .max(epoch.map_or(Epoch::NONE, |epoch| epoch.value.epoch));
        if epoch.map(|epoch| epoch.revision) != self.takeover_in_doubt {
            let pending = self
                .transaction
                .as_ref()
                .is_some_and(|pending| pending.purpose.takes_over());
            self.takeover_in_doubt = self.takeover_in_doubt.filter(|_| pending);
        }
        self.note_renewals(now, &state);
        self.state = Some(state);
    }

    fn take_outcome(&mut self, now: Now, id: u64, outcome: Outcome) {
        let Some(pending) = self.transaction.take_if(|pending| pending.id == id) else {
            return;
        };
        if pending.purpose.takes_over() && outcome != Outcome::Unknown {
            self.takeover_in_doubt = None;
        }
        match outcome {
            Outcome::Done(revision) => {
                self.needs = self.needs.max(revision);
                self.compare_commit(now, pending.based_on, revision);
                if pending.purpose == Purpose::AnnounceOpen {
                    self.receipt_of = self.epoch();
                    self.transition = None;
                }
                if let Some(transition) = pending.transition {
                    self.transition = Some(transition);
                }
            }
            Outcome::Lost => {
                let before = self.needs;
                // Something we compared is newer than the state that we decided on.
                self.needs = self.needs.max(Revision(pending.based_on.0 + 1));
                if pending.purpose == Purpose::AnnounceOpen {
                    // Perhaps only the receipt was there already.
                    self.receipt_of = self.epoch();
                    self.needs = before;
                }
                self.transaction_retry = now.at.plus(self.settings.retry_pause);
            }
            Outcome::Unknown if !self.rules.unknown_is_unknown => {
                self.takeover_in_doubt = None;
                self.transaction_retry = now.at.plus(self.settings.retry_pause);
            }
            Outcome::Unknown => {
                if matches!(pending.purpose, Purpose::Release | Purpose::HolderFenced) {
                    self.barrier = self.held().map(|primary| primary.revision);
                }
                // If it took effect after all, this is what its receipt says.
                if let Some(transition) = pending.transition {
                    self.transition = Some(transition);
                }
                self.transaction_retry = now.at.plus(self.settings.retry_pause);
            }
        }
    }

    fn take_observation(&mut self, now: Now, asked_at: Moment, observation: Observation) {
        let before = self.member.seen.as_ref().map(|(_, before)| before.clone());
        let same_server = before
            .as_ref()
            .is_none_or(|before| before.identity == observation.identity);
        let same_boot = same_server
            && before
                .as_ref()
                .is_none_or(|before| before.boot == observation.boot);
        if !same_server {
            self.member.preflight = false;
            self.promises.begin();
        }
        if !same_boot {
            self.promoted = None;
            self.caught_up = None;
        }
        self.note_own(&observation);
        self.take_memory(now, observation.etcd);
        self.note_generation(now, observation.generation);
        self.note_promises(now, observation.generation);
        if !self.member.reachable {
            self.member.reachable = true;
            self.database_retry = now.at;
        }
        if self.database.is_none() {
            self.member.exposure = self.exposure_after(&observation, same_boot);
        }
        self.member.seen = Some((asked_at.min(now.at), observation));
    }

    /// A server that has fewer transactions of its own than it had before has lost some.
    fn note_own(&mut self, observation: &Observation) {
        let Some(own) = observation.own_sequence else {
            return;
        };
        let known = self
            .highest_own
            .take()
            .filter(|(identity, _)| *identity == observation.identity)
            .map(|(_, known)| known);
        self.went_back = known.is_some_and(|known| own < known);
        let highest = known.map_or(own, |known| known.max(own));
        self.highest_own = Some((observation.identity.clone(), highest));
    }

    fn exposure_after(&self, observation: &Observation, same_boot: bool) -> Exposure {
        let closed = observation.read_only;
        let begun = self
            .state
            .as_ref()
            .is_some_and(|state| state.epoch.is_some());
        match &self.member.exposure {
            // A guard that this process has ended, or whose deadline it did not know of, may have
            // begun to fence. Applications do not get in, so it is not open, and only a fence that
            // is seen through, and opening again, end that.
            Exposure::Unseen | Exposure::Writable | Exposure::Open
                if observation.offline && begun =>
            {
                Exposure::Uncertain
            }
            Exposure::Unseen | Exposure::Writable | Exposure::Open if closed => {
                Exposure::Closed(None)
            }
            Exposure::Unseen | Exposure::Writable => Exposure::Writable,
            Exposure::Uncertain => Exposure::Uncertain,
            Exposure::Closed(_) if !closed => Exposure::Writable,
            Exposure::Closed(proof) => Exposure::Closed(proof.clone().filter(|_| same_boot)),
            Exposure::Open if !same_boot => Exposure::Uncertain,
            Exposure::Open if !observation.guard_running && self.rules.guard => Exposure::Uncertain,
            Exposure::Open => Exposure::Open,
        }
    }

    fn take_result(&mut self, now: Now, id: u64, result: DatabaseResult) {
        // Also of a command that has given way to a newer one.
        let sent = !matches!(result, DatabaseResult::NotSent { .. });
        self.member.hear_of_guard(id, sent);
        let Some((_, command)) = self.database.take_if(|(number, _)| *number == id) else {
            return;
        };
        self.database_failure.clear();
        match (command, result) {
            (DatabaseCommand::Fence { .. }, DatabaseResult::Fenced(proof)) => {
                self.take_fence(proof);
            }
            (DatabaseCommand::Promote { epoch, .. }, DatabaseResult::Promoted { applied }) => {
                self.promoted = Some(epoch);
                if let Some(transition) = &mut self.transition {
                    transition.promoted(now, applied);
                }
            }
            (DatabaseCommand::Promote { .. }, DatabaseResult::StillApplies) => {
                // A look may come in between.
                self.database_retry = now.at.plus(CHECK_PAUSE);
            }
            (DatabaseCommand::StartGuard { deadline }, DatabaseResult::GuardRuns) => {
                self.member.guard_until = self.member.guard_until.max(Some(deadline));
                if self.member.exposure == Exposure::Writable {
                    self.member.exposure = Exposure::Open;
                }
            }
            (DatabaseCommand::Open { .. }, DatabaseResult::Opened) => {
                self.member.exposure = Exposure::Open;
                self.forget_refused_writes();
                self.fenced_for_intent = false;
                self.stopped_at = None;
                if let Some(transition) = &mut self.transition {
                    transition.opened(now);
                }
            }
            (
                DatabaseCommand::CheckApplied { position, .. },
                DatabaseResult::Applied(contained),
            ) => {
                self.caught_up = contained.then_some(position);
                if !contained {
                    // A look may come in between.
                    self.database_retry = now.at.plus(CHECK_PAUSE);
                }
            }
            (DatabaseCommand::Promise { .. }, DatabaseResult::Promised) => self.take_recorded(now),
            (DatabaseCommand::Leave, DatabaseResult::Left) => {
                self.left = true;
                self.member.exposure = Exposure::Unseen;
                self.member.guard_until = None;
            }
            (command, DatabaseResult::NotSent { reason } | DatabaseResult::Failed { reason }) => {
                self.take_failure(now, &command, reason);
            }
            (command, _) => {
                self.take_failure(
                    now,
                    &command,
                    "the answer is not one to the command".to_owned(),
                );
            }
        }
    }

    /// An address moves at any time: what was fenced may be another server than the one that was
    /// open, which then may be open still.
    fn take_fence(&mut self, proof: FenceProof) {
        let other = match &proof {
            FenceProof::Fenced { identity, .. } => Some(identity) != self.identity(),
            FenceProof::GuardExpired { .. } | FenceProof::NeverOpened { .. } => false,
        };
        if other {
            self.member.exposure = Exposure::Uncertain;
            return;
        }
        self.member.exposure = Exposure::Closed(Some(proof));
        self.member.guard_until = None;
    }

    fn take_failure(&mut self, now: Now, command: &DatabaseCommand, reason: String) {
        self.database_failure = reason;
        // A server that looks do not reach either is left alone for longer; the next look that
        // reaches it ends that.
        let pauses = if self.member.reachable {
            1
        } else {
            UNREACHABLE_PAUSES
        };
        self.database_retry = now.at.plus(self.settings.retry_pause * pauses);
        // An open or a fence without a clear end may have happened in part, or may yet. A guard
        // that may not be there is no guard.
        match command {
            DatabaseCommand::Fence { .. } if !self.rules.fence_is_proved => {
                self.member.exposure = Exposure::Closed(self.taken_for_proof(now));
            }
            DatabaseCommand::Open { .. } | DatabaseCommand::Fence { .. } => {
                self.member.exposure = Exposure::Uncertain;
            }
            DatabaseCommand::Promise { .. } => self.promises.not_recorded(),
            DatabaseCommand::StartGuard { .. } if self.member.exposure != Exposure::Open => {
                self.member.guard_until = None;
            }
            _ => {}
        }
    }
}
