//! Rule 7: who may take `primary`, and what its transaction compares. Elections are in `automatic`.

use model::{
    Epoch, EpochRecord, FenceProof, IdcName, Intent, IntentKind, IntentPhase, PositionText,
    PrimaryRecord, Revision, TransitionKind, UnitState, Versioned,
};

use crate::Now;
use crate::announce::Transition;
use crate::bid::has_fence_proof;
use crate::core::{Core, Exposure, Plan};
use crate::event::{Compare, DatabaseCommand, Purpose, Slot, Write};
use crate::vote::votes_about_database;

impl Core {
    /// Whether this member could be opened, were it elected now.
    pub(crate) fn can_take(&self, now: Now) -> bool {
        let closed = matches!(self.member.exposure, Exposure::Closed(_));
        let lives = self.hold_until().is_some_and(|until| now.at < until);
        closed
            && lives
            && self.member.reachable
            && self.member.preflight
            && self.identity().is_some()
            && self.my_doc().is_some()
            && self.trusts_own_memory()
            && self.database_remembers()
            && !self.is_barred_by_order()
            && self
                .state
                .as_ref()
                .is_some_and(|state| self.is_admitted(state))
    }

    /// The epoch after every one that anybody has seen.
    fn next_epoch(&self, state: &UnitState) -> Epoch {
        let elected = state
            .epoch
            .as_ref()
            .map_or(Epoch::NONE, |epoch| epoch.value.epoch);
        if self.rules.highest_epoch {
            elected.max(self.highest_epoch()).next()
        } else {
            elected.next()
        }
    }

    /// Takes `primary`, if it is free and this member's to take.
    pub(crate) fn campaign(&self, now: Now) -> Option<Plan> {
        let state = self.confirmed()?;
        if state.primary.is_some() && self.rules.compare_primary {
            return None;
        }
        if self.is_paused() || !self.can_take(now) {
            return None;
        }
        match &state.epoch {
            None => self.take_first(now, state),
            Some(_) => self
                .take_forced(now, state)
                .or_else(|| self.retake(now, state))
                .or_else(|| self.take_elected(now, state)),
        }
    }

    /// The former holder's IDC takes up again what nobody else was elected for since: the last one
    /// that is known, whoever etcd names where it has forgotten some.
    fn retake(&self, now: Now, state: &UnitState) -> Option<Plan> {
        // Who was promised time to go on was the holder that etcd names.
        let free = || has_fence_proof(state) || self.free_of_promises(now);
        let mine = self.was_holder(state) || (self.held_a_forgotten_epoch(state) && free());
        if state.primary.is_some() || !mine || self.promised_elsewhere() || self.went_back {
            return None;
        }
        // Somebody has received a later epoch than this database: etcd forgot it.
        let here = self
            .member
            .seen
            .as_ref()
            .map(|(_, seen)| seen.highest_epoch);
        let later =
            |record: &Versioned<model::MemberRecord>| Some(record.value.highest_epoch) > here;
        if self.settings.features.memory && state.members.values().any(later) {
            return None;
        }
        let objected = votes_about_database(state) > 0;
        if self.is_automatic() && self.rules.retake_without_votes && objected {
            return None;
        }
        if self.is_automatic() && self.sits_out(now, state) {
            return None;
        }
        let plan = self
            .takeover(now, state, Purpose::Retake, TransitionKind::Retake)?
            .compare(Slot::Intent, intent_revision(state));
        Some(if self.is_automatic() {
            self.compare_no_objection(plan, state)
        } else {
            plan
        })
    }

    /// Whether an unfinished intent stands to another IDC.
    fn promised_elsewhere(&self) -> bool {
        self.intent().is_some_and(|intent| match &intent.value.to {
            Some(to) => *to != self.me,
            None => true,
        })
    }

    fn take_forced(&self, now: Now, state: &UnitState) -> Option<Plan> {
        let intent = self.intent()?;
        if state.primary.is_some() && !self.forced_mutation() {
            return None;
        }
        let proven = matches!(intent.value.phase, IntentPhase::Fenced { .. });
        if !self.is_target(state, intent) || !(intent.value.kind == IntentKind::Forced || proven) {
            return None;
        }
        if !proven && !has_fence_proof(state) && !self.free_of_promises(now) {
            return None;
        }
        if proven && self.lacks_copies() {
            return None;
        }
        match self.catch_up_position() {
            Some((_, position)) if self.caught_up.as_ref() == Some(&position) => {}
            // A fenced holder that is gone left a position to reach: a planned move loses nothing.
            Some(_) if proven => return None,
            Some(_) if self.stage_age(now) < self.settings.catch_up_timeout => return None,
            _ => {
                self.forced_lag(now, state, intent).ok()?;
            }
        }
        let kind = if proven {
            TransitionKind::Switchover
        } else {
            TransitionKind::Failover
        };
        let purpose = if proven {
            Purpose::HandOver
        } else {
            Purpose::TakeForced
        };
        let plan = self.takeover(now, state, purpose, kind)?;
        Some(self.carry_intent(plan, state, intent))
    }

    fn forced_mutation(&self) -> bool {
        !self.rules.compare_primary
    }

    /// Whether this member is where an intent goes, for the epoch that is current.
    pub(crate) fn is_target(&self, state: &UnitState, intent: &Versioned<Intent>) -> bool {
        let epoch = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        Some(intent.value.expected_epoch) == epoch
            && !self.asked_before_loss(state, intent)
            && self.target(state, intent).as_ref() == Some(&self.me)
    }

    /// Where an intent goes. A forced one without a target goes to the member with the highest
    /// priority that its arbiter calls healthy, the old holder left out; names decide a tie.
    pub(crate) fn target(&self, state: &UnitState, intent: &Versioned<Intent>) -> Option<IdcName> {
        if let Some(to) = &intent.value.to {
            return Some(to.clone());
        }
        let holder = state.epoch.as_ref().map(|epoch| &epoch.value.idc);
        let doc = self.doc()?;
        doc.value
            .members
            .iter()
            .filter(|member| Some(&member.idc) != holder)
            .filter(|member| !state.fence_orders.contains_key(&member.idc))
            .filter(|member| {
                state.members.get(&member.idc).is_some_and(|record| {
                    record.value.reachable && record.value.preflight_passed && record.value.fenced
                })
            })
            .map(|member| (std::cmp::Reverse(member.priority), member.idc.clone()))
            .min()
            .map(|(_, idc)| idc)
    }

    /// The position that the fenced holder ended at, if it could be asked, and whose it is.
    pub(crate) fn catch_up_position(&self) -> Option<(IdcName, PositionText)> {
        let state = self.confirmed()?;
        let intent = self.intent();
        let stands = intent.is_none() && self.is_automatic() && self.held().is_none();
        if !stands && !intent.is_some_and(|intent| self.is_target(state, intent)) {
            return None;
        }
        let epoch = &state.epoch.as_ref()?.value;
        let proof = match (intent.map(|intent| &intent.value.phase), &state.vacated) {
            (Some(IntentPhase::Fenced { proof, .. }), _) => proof,
            (_, Some(vacated)) if vacated.value.epoch == epoch.epoch => &vacated.value.proof,
            _ => return None,
        };
        match proof {
            FenceProof::Fenced { position, .. } if epoch.idc != self.me => {
                Some((epoch.idc.clone(), position.clone()))
            }
            _ => None,
        }
    }

    /// Asks the database whether it has caught up, while that is what a transition waits for.
    pub(crate) fn check_applied(&self) -> Option<DatabaseCommand> {
        let (source, position) = self.catch_up_position()?;
        (self.caught_up.as_ref() != Some(&position))
            .then_some(DatabaseCommand::CheckApplied { source, position })
    }

    /// The hand-over of a planned switchover: `primary` moves from the fenced holder's lease to
    /// this one's, in one transaction that excludes a cancel.
    pub(crate) fn hand_over(&self, now: Now) -> Option<Plan> {
        let state = self.confirmed()?;
        let intent = self.intent()?;
        let primary = state.primary.as_ref()?;
        let fenced = matches!(intent.value.phase, IntentPhase::Fenced { .. });
        if !fenced || !self.is_target(state, intent) || !self.can_take(now) || self.lacks_copies() {
            return None;
        }
        let (_, position) = self.catch_up_position()?;
        if self.rules.await_catch_up && self.caught_up.as_ref() != Some(&position) {
            return None;
        }
        let mut plan = self.takeover(now, state, Purpose::HandOver, TransitionKind::Switchover)?;
        if let Some(lease) = primary.lease {
            plan.compares.push(Compare::Lease(Slot::Primary, lease));
        }
        Some(self.carry_intent(plan, state, intent))
    }

    /// Whether tables are copied to this member whose rows nobody has allowed to be lost. That may have
    /// begun since it said that it was ready.
    fn lacks_copies(&self) -> bool {
        !self.copied_by().is_empty() && !self.may_lose()
    }

    fn carry_intent(&self, plan: Plan, state: &UnitState, intent: &Versioned<Intent>) -> Plan {
        let stopped_at = match &intent.value.phase {
            IntentPhase::Fenced { stopped_at, .. } => Some(*stopped_at),
            _ => None,
        };
        let phase = IntentPhase::HandedOver {
            stopped_at,
            epoch: self.next_epoch(state),
        };
        let to = Some(self.me.clone());
        let carried = Intent {
            phase,
            to,
            ..intent.value.clone()
        };
        plan.compare_if(self.rules.compare_intent, Slot::Intent, intent.revision)
            .write(Write::Intent(carried))
    }

    /// What every takeover compares and writes.
    pub(crate) fn takeover(
        &self,
        now: Now,
        state: &UnitState,
        purpose: Purpose,
        kind: TransitionKind,
    ) -> Option<Plan> {
        let session = self.session?;
        let identity = self.identity()?.clone();
        let doubtful = self.went_back_for_others(state) || self.noted_lately(now);
        if doubtful || !self.former_right_is_over(now, state) {
            return None;
        }
        let epoch = self.next_epoch(state);
        let doc = self.doc()?;
        let revision = |revision: Option<Revision>| revision.unwrap_or(Revision::ABSENT);
        let primary_revision = revision(state.primary.as_ref().map(|primary| primary.revision));
        let epoch_revision = revision(state.epoch.as_ref().map(|epoch| epoch.revision));
        let before = state.epoch.as_ref().map(|epoch| epoch.value.failed_over);
        let automatic = purpose == Purpose::TakeElected && kind == TransitionKind::Failover;
        let elected = EpochRecord {
            epoch,
            idc: self.me.clone(),
            identity: identity.clone(),
            failed_over: if automatic {
                epoch
            } else {
                before.unwrap_or_default()
            },
            candidates: self.candidates(),
            highest: epoch,
            noted: state.epoch.as_ref().and_then(|epoch| epoch.value.noted),
            boots_fenced: self.boots_fenced(),
        };
        let primary = PrimaryRecord {
            idc: self.me.clone(),
            epoch,
            identity,
            open: false,
        };
        let mut plan = self
            .plan(purpose)
            .compare_if(self.rules.compare_primary, Slot::Primary, primary_revision)
            .compare(Slot::Epoch, epoch_revision)
            .compare(Slot::Unit, doc.revision);
        plan = self
            .compare_orders(plan, state)
            .write(Write::Epoch(elected))
            .write(Write::Primary(primary, session.lease));
        if let Some(vacated) = &state.vacated {
            plan = plan
                .compare(Slot::Vacated, vacated.revision)
                .write(Write::DeleteVacated);
        }
        plan.transition = Some(Transition::begin(self, now, state, epoch, (purpose, kind)));
        debug_assert!(
            Some(epoch) > self.epoch(),
            "an epoch is only ever incremented"
        );
        Some(plan)
    }
}

fn intent_revision(state: &UnitState) -> Revision {
    state
        .intent
        .as_ref()
        .map_or(Revision::ABSENT, |intent| intent.revision)
}

/// No two members answer as the same server: a server that is its own copy is no copy.
pub(crate) fn identities_differ(state: &UnitState) -> bool {
    let mut identities: Vec<_> = state
        .members
        .values()
        .filter_map(|record| record.value.identity.as_ref())
        .collect();
    identities.sort();
    identities.windows(2).all(|pair| pair[0] != pair[1])
}
