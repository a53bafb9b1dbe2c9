//! What is written to etcd in which order, receipts, and what people are told meanwhile.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{
    Epoch, FenceProof, IdcName, Intent, IntentPhase, MemberRecord, Phase, PositionText,
    PrimaryRecord, Receipt, Revision, TransitionKind, UnitState, VoteRecord,
};

use crate::bid::has_fence_proof;
use crate::core::{Core, Exposure, Plan};
use crate::event::{Purpose, Slot, Write};
use crate::vote::down_votes;
use crate::{Moment, Now};

/// So many receipts are kept.
const HISTORY: u64 = 100;

/// A transition that this arbiter is carrying out, for its receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Transition {
    pub epoch: Epoch,
    /// The epoch that ended.
    pub ended: Epoch,
    /// Whether its holder left the proof of a fence.
    pub fenced: bool,
    pub kind: TransitionKind,
    pub from: Option<IdcName>,
    reason: &'static str,
    message: String,
    started_at: Timestamp,
    stopped_at: Option<Timestamp>,
    proof: Option<FenceProof>,
    applied: Option<PositionText>,
    phases: Vec<Phase>,
    automatic: bool,
    votes: BTreeMap<IdcName, VoteRecord>,
    may_be_lost_millis: Option<u64>,
    mark: Moment,
    opened_at: Option<Timestamp>,
}

impl Transition {
    pub(crate) fn begin(
        core: &Core,
        now: Now,
        state: &UnitState,
        epoch: Epoch,
        (purpose, kind): (Purpose, TransitionKind),
    ) -> Self {
        let intent = core.intent().map(|intent| &intent.value);
        let from = state.epoch.as_ref().map(|epoch| epoch.value.idc.clone());
        let mut phases = Vec::new();
        let (mut stopped_at, mut proof) = (None, None);
        if let Some(IntentPhase::Fenced {
            stopped_at: stopped,
            proof: fenced,
        }) = intent.map(|intent| &intent.phase)
        {
            stopped_at = Some(*stopped);
            proof = Some(fenced.clone());
            if let FenceProof::Fenced { at, .. } = fenced {
                phases.push(phase("Fence", millis_between(*stopped, *at)));
                phases.push(phase("CatchUp", millis_between(*at, now.wall)));
            }
        } else if let Some(vacated) = &state.vacated {
            proof = Some(vacated.value.proof.clone());
        }
        let automatic = purpose == Purpose::TakeElected;
        let votes: BTreeMap<IdcName, VoteRecord> = down_votes(state)
            .into_iter()
            .map(|(idc, vote)| (idc.clone(), vote.value.clone()))
            .collect();
        if automatic {
            let since = core
                .voted_since
                .or(core.vacancy.as_ref().map(|vacancy| vacancy.since));
            phases.push(phase("Elect", now.at.since(since.unwrap_or(now.at))));
        }
        let (reason, message) = if automatic {
            elected_reason(kind, core, from.as_ref().map(|it| (it, state)), &votes)
        } else {
            reason(kind, core, from.as_ref(), proof.as_ref())
        };
        let may_be_lost_millis = match kind {
            TransitionKind::First | TransitionKind::Switchover | TransitionKind::Retake => Some(0),
            TransitionKind::Failover => core.lag(now, state),
        };
        let first_vote = votes.values().map(|vote| vote.at).min();
        let started_at = match kind {
            _ if automatic => first_vote.unwrap_or(now.wall),
            TransitionKind::Switchover | TransitionKind::Failover => {
                intent.map_or(now.wall, |intent| intent.requested_at)
            }
            TransitionKind::First | TransitionKind::Retake => now.wall,
        };
        let (applied, opened_at, mark) = (None, None, now.at);
        Self {
            epoch,
            ended: core.epoch().unwrap_or_default(),
            fenced: has_fence_proof(state)
                || (purpose == Purpose::HandOver
                    && matches!(&proof, Some(FenceProof::Fenced { .. }))),
            kind,
            from,
            reason,
            message,
            started_at,
            stopped_at,
            proof,
            applied,
            phases,
            automatic,
            votes,
            may_be_lost_millis,
            mark,
            opened_at,
        }
    }

    /// Until when the promotion waits for what was received of another member's epoch, whose end
    /// nobody proved.
    pub(crate) fn drain_until(&self, me: &IdcName, time_to_drain: u64) -> Option<Moment> {
        let unproved = !self.fenced && self.from.as_ref().is_some_and(|from| from != me);
        unproved.then(|| self.mark.plus(time_to_drain))
    }

    pub(crate) fn promoted(&mut self, now: Now, applied: Option<PositionText>) {
        self.applied = applied;
        self.lap("Promote", now.at);
    }

    pub(crate) fn opened(&mut self, now: Now) {
        self.lap("Open", now.at);
        self.opened_at = Some(now.wall);
    }

    fn lap(&mut self, name: &str, at: Moment) {
        self.phases.push(phase(name, at.since(self.mark)));
        self.mark = at;
    }

    fn receipt(&self, now: Now, to: &IdcName) -> Receipt {
        let opened_at = self.opened_at.unwrap_or(now.wall);
        Receipt {
            epoch: self.epoch,
            kind: self.kind,
            from: self.from.clone(),
            to: to.clone(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            started_at: self.started_at,
            opened_at,
            write_pause_millis: self
                .stopped_at
                .map(|stopped| millis_between(stopped, opened_at)),
            proof: self.proof.clone(),
            applied: self.applied.clone(),
            phases: self.phases.clone(),
            automatic: self.automatic,
            votes: self.votes.clone(),
            may_be_lost_millis: self.may_be_lost_millis,
            stranded: None,
        }
    }
}

fn elected_reason(
    kind: TransitionKind,
    core: &Core,
    from: Option<(&IdcName, &UnitState)>,
    votes: &BTreeMap<IdcName, VoteRecord>,
) -> (&'static str, String) {
    let me = &core.me;
    let order = from.and_then(|(from, state)| Some(&state.fence_orders.get(from)?.value));
    if let (Some((from, _)), Some(order)) = (from, order) {
        let message = format!("{from} was fenced {order}; {me} was elected in its place");
        return ("FenceOrdered", message);
    }
    let from = from.map(|(from, _)| from);
    let from = from.map_or("nobody".to_owned(), ToString::to_string);
    let words: Vec<String> = votes
        .iter()
        .map(|(idc, vote)| format!("{idc}: {}", vote.ground))
        .collect();
    let grounds = if words.is_empty() {
        format!("{from} had released it, with proof")
    } else {
        words.join("; ")
    };
    match kind {
        TransitionKind::Retake => (
            "Reelected",
            format!("{me} was elected again, its own database being well ({grounds})"),
        ),
        _ => (
            if words.is_empty() {
                "Released"
            } else {
                "VotedDown"
            },
            format!("automatic failover from {from} to {me} ({grounds})"),
        ),
    }
}

fn reason(
    kind: TransitionKind,
    core: &Core,
    from: Option<&IdcName>,
    proof: Option<&FenceProof>,
) -> (&'static str, String) {
    let me = &core.me;
    let from = from.map_or("nobody".to_owned(), ToString::to_string);
    match kind {
        TransitionKind::First => (
            "FirstPrimary",
            format!("{me} became the unit's first primary; every member was fenced"),
        ),
        TransitionKind::Switchover => (
            "Requested",
            format!("planned switchover from {from} to {me}; nothing was lost"),
        ),
        TransitionKind::Failover => (
            "Requested",
            match proof {
                Some(FenceProof::Fenced { .. }) => {
                    format!(
                        "failover from {from} to {me}, asked for; {from} was fenced, with proof"
                    )
                }
                Some(_) => format!(
                    "failover from {from} to {me}, asked for; the database of {from} was out of \
                     reach, and its guard had run out"
                ),
                None => format!(
                    "failover from {from} to {me}, asked for; the lease of {from} had run out"
                ),
            },
        ),
        TransitionKind::Retake => (
            "SessionLost",
            format!(
                "the session of {me} was lost, and nobody else was elected before {me} took the primary up again"
            ),
        ),
    }
}

fn phase(name: &str, millis: u64) -> Phase {
    Phase {
        name: name.to_owned(),
        millis,
    }
}

fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
}

impl Core {
    /// The transaction to send now, if any. One at a time: what becomes of it decides the next.
    pub(crate) fn etcd_wish(&self, now: Now) -> Option<Plan> {
        if self.transaction.is_some() || now.at < self.transaction_retry || self.deleted() {
            return None;
        }
        if !self.trusts_etcd() {
            let state = self.restored_state()?;
            return self
                .note_loss(state)
                .or_else(|| self.publish_member(now, state));
        }
        let state = self.confirmed()?;
        self.note_epoch()
            .or_else(|| self.release(now))
            .or_else(|| self.clear_left_over())
            .or_else(|| self.vote(now))
            .or_else(|| self.follow_intent(now))
            .or_else(|| self.announce_closed(now))
            .or_else(|| self.announce_open(now))
            .or_else(|| self.campaign(now))
            .or_else(|| self.bid(now))
            .or_else(|| self.publish_member(now, state))
            .or_else(|| self.admit())
            .or_else(|| self.ask_failback(now))
            .or_else(|| self.count_stranded())
    }

    /// A member that is closed and about to be opened again was announced as open, or a
    /// transaction of before is unaccounted for.
    fn announce_closed(&self, now: Now) -> Option<Plan> {
        let primary = self.held()?;
        if !(primary.value.open || self.barred()) || !self.wants_open(now) {
            return None;
        }
        let record = PrimaryRecord {
            open: false,
            ..primary.value.clone()
        };
        Some(
            self.plan(Purpose::AnnounceClosed)
                .compare(Slot::Primary, primary.revision)
                .write(Write::Primary(record, self.session?.lease)),
        )
    }

    /// The member is open: routing may follow, the intent is done, the receipt is written.
    fn announce_open(&self, now: Now) -> Option<Plan> {
        let primary = self.held()?;
        if primary.value.open || self.member.exposure != Exposure::Open || !self.holds(now.at) {
            return None;
        }
        let epoch = primary.value.epoch;
        let record = PrimaryRecord {
            open: true,
            ..primary.value.clone()
        };
        let mut plan = self
            .plan(Purpose::AnnounceOpen)
            .compare(Slot::Primary, primary.revision)
            .write(Write::Primary(record, self.session?.lease));
        if let Some(intent) = self.intent()
            && matches!(intent.value.phase, IntentPhase::HandedOver { .. })
            && intent.value.to.as_ref() == Some(&self.me)
        {
            let done = Intent {
                phase: IntentPhase::Done { epoch },
                ..intent.value.clone()
            };
            plan = plan
                .compare(Slot::Intent, intent.revision)
                .write(Write::Intent(done));
        }
        if self.receipt_of != Some(epoch) {
            plan = plan
                .compare(Slot::History(epoch), Revision::ABSENT)
                .write(Write::History(self.receipt(now, epoch)));
            if let Some(old) = epoch.0.checked_sub(HISTORY).filter(|old| *old > 0) {
                plan = plan.write(Write::DeleteHistory(Epoch(old)));
            }
        }
        Some(plan)
    }

    fn receipt(&self, now: Now, epoch: Epoch) -> Receipt {
        if let Some(transition) = self
            .transition
            .as_ref()
            .filter(|known| known.epoch == epoch)
        {
            return transition.receipt(now, &self.me);
        }
        // Another process of this IDC began it, and died before the member was open.
        let handed = match self.phase() {
            Some(IntentPhase::HandedOver { stopped_at, .. }) => Some(*stopped_at),
            _ => None,
        };
        let stopped_at = handed.flatten();
        Receipt {
            epoch,
            kind: match handed {
                Some(_) if stopped_at.is_some() => TransitionKind::Switchover,
                Some(_) => TransitionKind::Failover,
                None if epoch.0 == 1 => TransitionKind::First,
                None => TransitionKind::Retake,
            },
            from: None,
            to: self.me.clone(),
            reason: "ArbiterRestarted".to_owned(),
            message: format!(
                "the arbiter of {} was restarted in the middle of the transition and completed it; \
                 its earlier steps are not recorded",
                self.me
            ),
            started_at: stopped_at.unwrap_or(now.wall),
            opened_at: now.wall,
            write_pause_millis: stopped_at.map(|stopped| millis_between(stopped, now.wall)),
            proof: None,
            applied: None,
            phases: Vec::new(),
            automatic: false,
            votes: BTreeMap::new(),
            may_be_lost_millis: None,
            stranded: None,
        }
    }

    /// The record of this member, as it should stand in etcd.
    pub(crate) fn member_record(&self, now: Now) -> MemberRecord {
        let seen = self.member.seen.as_ref().map(|(_, seen)| seen);
        MemberRecord {
            identity: seen.map(|seen| seen.identity.clone()),
            boot: seen.map(|seen| seen.boot),
            reachable: self.member.reachable,
            fenced: matches!(self.member.exposure, Exposure::Closed(_)),
            preflight_passed: self.member.preflight,
            has_data: seen.is_some_and(|seen| seen.has_data),
            highest_epoch: seen.map_or(Epoch::NONE, |seen| seen.highest_epoch),
            held_highest: seen.is_some_and(|seen| seen.held_highest),
            remembers: self.database_remembers() && self.trusts_etcd(),
            ineligible: self.standing_obstacles(now),
        }
    }

    fn publish_member(&self, now: Now, state: &UnitState) -> Option<Plan> {
        self.my_doc()?;
        let session = self.session?;
        let record = self.member_record(now);
        let published = state.members.get(&self.me);
        // In between a command and its end nothing new is known.
        let settled = self.database.is_none();
        let current = published
            .is_some_and(|known| known.value == record && known.lease == Some(session.lease));
        (settled && !current).then(|| {
            self.plan(Purpose::PublishMember)
                .write(Write::Member(record, session.lease))
        })
    }
}
