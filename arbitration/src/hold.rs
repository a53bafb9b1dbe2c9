//! Rules 1 to 6: when a member may be open, when it must be fenced, and what is done about it.

use model::{
    Epoch, FenceProof, IntentKind, IntentPhase, PrimaryRecord, ServerIdentity, VacatedRecord,
    Versioned,
};

use crate::core::{Core, Exposure, Plan};
use crate::event::{DatabaseCommand, Purpose, Slot, Write};
use crate::{Moment, Now, Settings};

impl Core {
    /// The moment at which the fence begins: the lease's end as reckoned from when the last
    /// acknowledged keep-alive was *sent*, less the margin for drift and the time a fence takes; or
    /// the end of the promises of all others, if that is later.
    pub(crate) fn hold_until(&self) -> Option<Moment> {
        let promised = self
            .promised_until()
            .map(|end| end.minus(self.settings.fence_budget));
        promised.max(self.hold_by_lease())
    }

    fn hold_by_lease(&self) -> Option<Moment> {
        let lease = self.lease.as_ref()?;
        let end = lease.since.plus(lease.granted);
        if !self.rules.fence_before_lease_ends {
            return Some(end.plus(self.settings.fence_budget));
        }
        Some(
            end.minus(Settings::drift(lease.granted))
                .minus(self.settings.fence_budget),
        )
    }

    /// The deadline that a guard started now is given.
    pub(crate) fn guard_deadline(&self) -> Option<Moment> {
        let promised = self
            .promised_until()
            .map(|end| end.minus(self.settings.guard_budget));
        promised.max(self.guard_by_lease())
    }

    fn guard_by_lease(&self) -> Option<Moment> {
        let lease = self.lease.as_ref()?;
        let end = lease.since.plus(lease.granted);
        if !self.rules.fence_before_lease_ends {
            return Some(
                end.plus(self.settings.fence_budget)
                    .plus(self.settings.guard_budget),
            );
        }
        Some(
            end.minus(Settings::drift(lease.granted))
                .minus(self.settings.guard_budget),
        )
    }

    /// The `primary` key if it is this IDC's, bound to this session's lease, in the current epoch.
    pub(crate) fn held(&self) -> Option<&Versioned<PrimaryRecord>> {
        let (primary, current) = self.own_primary()?;
        (Some(primary.value.epoch) == current).then_some(primary)
    }

    /// The `primary` that lives by this IDC's session, and etcd's epoch.
    pub(crate) fn own_primary(&self) -> Option<(&Versioned<PrimaryRecord>, Option<Epoch>)> {
        let state = self.state.as_ref()?;
        let primary = state.primary.as_ref()?;
        let session = self.session?;
        let current = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        (primary.value.idc == self.me && primary.lease == Some(session.lease))
            .then_some((primary, current))
    }

    /// Rule 1, checked at the moment of acting.
    pub(crate) fn holds(&self, at: Moment) -> bool {
        self.held().is_some()
            && self.trusts_own_memory()
            && self.hold_until().is_some_and(|until| at < until)
    }

    /// Whether the endpoint answers as another server than the one that was elected.
    pub(crate) fn is_another_server(&self) -> bool {
        match (self.held(), self.identity()) {
            (Some(primary), Some(identity)) => primary.value.identity != *identity,
            _ => false,
        }
    }

    /// Whether a transaction that is unaccounted for may yet take `primary` from this holder.
    pub(crate) fn barred(&self) -> bool {
        self.barrier.is_some() && self.held().map(|primary| primary.revision) == self.barrier
    }

    /// Whether an intent asks this holder to be fenced.
    pub(crate) fn intent_wants_fence(&self, now: Now) -> bool {
        let (Some(intent), Some(state)) = (self.intent(), &self.state) else {
            return false;
        };
        if self.held().is_none()
            || self.asked_before_loss(state, intent)
            || intent.value.to.as_ref() == Some(&self.me)
            || Some(intent.value.expected_epoch) != self.epoch()
        {
            return false;
        }
        match (&intent.value.kind, &intent.value.phase) {
            (IntentKind::Planned, IntentPhase::TargetReady { .. }) => {
                self.hindrance_to_fence(now).is_none()
            }
            (IntentKind::Forced, IntentPhase::TargetReady { .. }) => true,
            (IntentKind::Planned, IntentPhase::Fenced { .. }) => {
                self.rules.await_cancel || self.stage_age(now) < self.settings.catch_up_timeout
            }
            _ => false,
        }
    }

    /// What stands against fencing this holder for a planned switchover. Once the fence has begun,
    /// nothing: then going on is the shorter way.
    pub(crate) fn hindrance_to_fence(&self, now: Now) -> Option<String> {
        if self.fenced_for_intent {
            return None;
        }
        if let Some(hindrance) = self.hindrances.first() {
            return Some(hindrance.to_string());
        }
        let target = self.intent()?.value.to.as_ref()?;
        let streams = !self.settings.features.votes || self.replicates(now, target);
        (!streams).then(|| crate::Hindrance::LinkStopped(target.clone()).to_string())
    }

    fn may_stay_open(&self, now: Now) -> bool {
        let guarded = !self.rules.guard || self.member.guard_until > Some(now.at);
        guarded
            && self.holds(now.at)
            && self.my_doc().is_some()
            && !self.intent_wants_fence(now)
            && !self.is_another_server()
            && !self.told_by_votes(now)
            && !self.is_fenced_by_order()
            && !self.holds_the_past()
    }

    /// A predecessor of this process opened the member in this epoch, and it is still open: a
    /// guard is all that it needs.
    fn may_adopt(&self, now: Now) -> bool {
        self.member.exposure == Exposure::Writable
            && self.confirmed().is_some()
            && self.holds(now.at)
            && self.held().is_some_and(|primary| primary.value.open)
            && self.my_doc().is_some()
            && !self.intent_wants_fence(now)
            && !self.is_another_server()
            && !self.is_fenced_by_order()
            && !self.holds_the_past()
    }

    fn opens(&self) -> bool {
        matches!(self.database, Some((_, DatabaseCommand::Open { .. })))
    }

    /// This process has claimed the session anew, and not heard of its first keep-alive yet. The guard
    /// that was seen running keeps the promise of the last one of before.
    fn awaits_first_keep_alive(&self, now: Now) -> bool {
        self.session.is_some()
            && self.lease.is_none()
            && self.rules.guard
            && self.member.guard_until > Some(now.at)
    }

    fn must_fence(&self, now: Now) -> bool {
        match self.member.exposure {
            Exposure::Unseen | Exposure::Closed(_) => false,
            // An open that is under way is let be while what it was decided on still stands.
            Exposure::Uncertain => !(self.opens() && self.may_stay_open(now) && !self.barred()),
            Exposure::Open => !self.may_stay_open(now) && !self.awaits_first_keep_alive(now),
            // Not opened by this process. Before the first election it is a server of users who
            // have just asked for protection: it is fenced only when the election can be held.
            Exposure::Writable => match self.confirmed() {
                Some(state) if state.epoch.is_none() => {
                    self.is_fenced_by_order() || self.first_waits(now, false).is_none()
                }
                // Until the first keep-alive nobody can say whether this IDC holds; a guard that an
                // earlier process started keeps the promise meanwhile.
                Some(_) => {
                    self.member.reachable
                        && self.lease.is_some()
                        && self.trusts_own_memory()
                        && !self.may_adopt(now)
                }
                None => false,
            },
        }
    }

    /// The member is closed, but what is to be done next needs the proof of it.
    fn wants_proof(&self, now: Now) -> bool {
        let asked = matches!(self.phase(), Some(IntentPhase::TargetReady { .. }))
            && self.intent_wants_fence(now);
        self.member.exposure == Exposure::Closed(None)
            && self.member.reachable
            && self.held().is_some()
            && !self.is_another_server()
            && (asked || self.must_release(now))
    }

    /// Whether the holder has to give `primary` up.
    fn must_release(&self, now: Now) -> bool {
        if self.held().is_none() {
            return false;
        }
        let forced = self
            .intent()
            .is_some_and(|intent| intent.value.kind == IntentKind::Forced)
            && self.intent_wants_fence(now);
        forced
            || self.my_doc().is_none()
            || self.is_another_server()
            || self.told_by_votes(now)
            || self.is_fenced_by_order()
            || self.gives_up_opening(now)
            || self.holds_the_past()
    }

    /// What to do to the database, if anything.
    pub(crate) fn database_wish(&self, now: Now) -> Option<DatabaseCommand> {
        if self.is_outranked() {
            return None;
        }
        if self.deleted() {
            let idle = self.database.is_none() && now.at >= self.database_retry;
            return (idle && !self.left && self.touches()).then_some(DatabaseCommand::Leave);
        }
        let running = self.database.as_ref().map(|(_, command)| command);
        if matches!(running, Some(DatabaseCommand::Fence { .. })) {
            return None;
        }
        if self.must_fence(now) || self.wants_proof(now) {
            let supersedes = running.is_some();
            return (supersedes || now.at >= self.database_retry).then(|| self.fence(now));
        }
        if running.is_some() || now.at < self.database_retry || !self.member.reachable {
            return None;
        }
        self.record_promise()
            .or_else(|| self.renew_guard(now))
            .or_else(|| self.open_step(now))
            .or_else(|| self.check_applied())
    }

    fn fence(&self, now: Now) -> DatabaseCommand {
        let planned = self.member.exposure == Exposure::Open
            && self.holds(now.at)
            && self.intent_wants_fence(now);
        DatabaseCommand::Fence {
            grace_millis: if planned {
                self.settings.fence_grace
            } else {
                0
            },
        }
    }

    /// Rule 2: each acknowledged keep-alive starts the next guard, with the later deadline.
    fn renew_guard(&self, now: Now) -> Option<DatabaseCommand> {
        let deadline = self.guard_deadline()?;
        let open = self.member.exposure == Exposure::Open && self.may_stay_open(now);
        let later = self
            .member
            .guard_until
            .is_none_or(|until| deadline > until.plus(100));
        ((open && later) || self.may_adopt(now)).then_some(DatabaseCommand::StartGuard { deadline })
    }

    /// Whether a closed member of the holder should be opened.
    pub(crate) fn wants_open(&self, now: Now) -> bool {
        let closed = matches!(self.member.exposure, Exposure::Closed(_));
        let asked_for =
            self.fenced_for_intent || matches!(self.phase(), Some(IntentPhase::HandedOver { .. }));
        // A cancel under way does not count where the rule is switched off.
        let settled = self.confirmed().is_some()
            && (self.transaction.as_ref().is_none_or(|pending| {
                pending.purpose == Purpose::PublishMember
                    || (!self.rules.await_cancel && pending.purpose == Purpose::Cancel)
            }));
        closed
            && settled
            && self.holds(now.at)
            // Promises keep open what is open. What is closed waits for etcd.
            && self.hold_by_lease().is_some_and(|until| now.at < until)
            && self.my_doc().is_some()
            && self.member.reachable
            && self.member.preflight
            && (!self.is_paused() || asked_for)
            && !self.intent_wants_fence(now)
            && !self.is_another_server()
            && !self.is_barred_by_order()
            && !self.must_release(now)
    }

    /// Rules 8, 2 and 3, in this order.
    fn open_step(&self, now: Now) -> Option<DatabaseCommand> {
        if !self.wants_open(now) {
            return None;
        }
        let primary = self.held()?;
        // Routing follows what is announced, and earlier transactions must come to nothing.
        if primary.value.open || self.barred() {
            return None;
        }
        let epoch = primary.value.epoch;
        let (_, seen) = self.member.seen.as_ref()?;
        if self.rules.promote_first && self.promoted != Some(epoch) {
            let from = self
                .transition
                .as_ref()
                .and_then(|transition| transition.from.clone());
            let over = Self::promises_over(self.transition.as_ref());
            // Looks are seconds apart: what has begun to be copied since, the database sees.
            let lossy = self.may_lose();
            let drain_until = self.transition.as_ref().and_then(|transition| {
                transition.drain_until(&self.me, self.settings.time_to_drain)
            });
            return Some(DatabaseCommand::Promote {
                epoch,
                from,
                over,
                lossy,
                drain_until,
            });
        }
        let deadline = self.guard_deadline()?;
        // A guard that would fence at once is renewed first; the next keep-alive is near.
        let soon = now.at.plus(self.settings.retry_pause);
        if self.rules.guard && self.member.guard_until.is_none_or(|until| until < soon) {
            return (deadline > soon).then_some(DatabaseCommand::StartGuard { deadline });
        }
        let deadline = self.member.guard_until.unwrap_or(deadline);
        let deadline = deadline.min(self.guard_by_lease()?);
        let (identity, boot) = (seen.identity.clone(), seen.boot);
        Some(DatabaseCommand::Open {
            epoch,
            deadline,
            identity,
            boot,
        })
    }

    /// Gives `primary` up, with the proof of rule 6.
    pub(crate) fn release(&self, now: Now) -> Option<Plan> {
        let primary = self.held()?;
        let state = self.confirmed()?;
        if !self.must_release(now) {
            return None;
        }
        let proof = self.proof(now, &primary.value.identity)?;
        let record = VacatedRecord {
            epoch: primary.value.epoch,
            idc: self.me.clone(),
            proof,
        };
        let plan = self
            .plan(Purpose::Release)
            .compare(Slot::Primary, primary.revision)
            .compare(Slot::Epoch, state.epoch.as_ref()?.revision);
        let plan = match self.intent() {
            Some(intent) => plan.compare(Slot::Intent, intent.revision),
            None => plan,
        };
        Some(
            plan.write(Write::DeletePrimary)
                .write(Write::Vacated(record)),
        )
    }

    /// Why nothing can be written on the elected server any more, if that is known.
    pub(crate) fn proof(&self, now: Now, elected: &ServerIdentity) -> Option<FenceProof> {
        if !self.rules.release_with_proof {
            let (identity, at) = (elected.clone(), now.wall);
            return Some(FenceProof::GuardExpired { identity, at });
        }
        if let Exposure::Closed(Some(proof)) = &self.member.exposure
            && !self.is_another_server()
        {
            return Some(proof.clone());
        }
        let out_of_reach = !self.member.reachable || self.is_another_server();
        let allowed_at = self.guards_end()?;
        (out_of_reach && now.at >= allowed_at).then(|| FenceProof::GuardExpired {
            identity: elected.clone(),
            at: now.wall,
        })
    }

    /// What passes for a proof where a fence that failed counts as one.
    pub(crate) fn taken_for_proof(&self, now: Now) -> Option<FenceProof> {
        let (_, seen) = self.member.seen.as_ref()?;
        let position = model::PositionText(seen.own_sequence?.to_string());
        Some(FenceProof::Fenced {
            identity: seen.identity.clone(),
            boot: seen.boot,
            position,
            at: now.wall,
        })
    }

    /// When every guard that may run in the member has fenced, with margin, on this clock.
    pub(crate) fn guards_end(&self) -> Option<Moment> {
        let lease = self.lease.as_ref()?;
        let member = &self.member;
        let last = member.guards_before.max(member.guard_until);
        let last = last.max(member.guards_sent.values().max().copied())?;
        Some(
            last.plus(self.settings.guard_budget)
                .plus(Settings::drift(lease.granted)),
        )
    }

    /// Whether something of ours may be at work in the member.
    pub(crate) fn touches(&self) -> bool {
        matches!(self.member.exposure, Exposure::Open | Exposure::Uncertain)
            || self.member.guard_until.is_some()
    }

    /// The Unit was there and is gone.
    pub(crate) fn deleted(&self) -> bool {
        self.confirmed().is_some_and(|state| state.unit.is_none())
    }
}
