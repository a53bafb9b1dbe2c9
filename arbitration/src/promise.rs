//! Rule 11: a holder that cannot reach etcd goes on while every other candidate's arbiter promises
//! not to take the Unit.
//!
//! # Why a holder with promises is the only one
//!
//! Who could take over while the holder's lease runs out in etcd? Only a member that the epoch's
//! record names as a candidate (`is_admitted`), which the holder itself wrote, so it asks each of
//! them. A promise must bind whoever could open that member, not just the process that gave it: an
//! IDC may have two that live, of which one does not know that it was superseded. So it is recorded
//! in the promising member's own database, under the generation of the process that gives it, and
//! answered only when the database has acknowledged the record. Then:
//!
//! 1. The process that recorded it neither campaigns nor votes the Unit vacant until it is over,
//!    counted from when the record was *acknowledged* (`has_promised`). When it answers it has no
//!    takeover on its way of which it does not know the end (`takeover_in_doubt`).
//! 2. A process of a later generation takes nothing before the database was seen to obey its own
//!    generation (`looked`). From then on the database refuses records of earlier ones. Whatever was
//!    recorded before, it sees in that very look, and waits for as long as the longest promise from
//!    then on, on its own clock (`inherited_until`): the server's clock may have been set.
//! 3. What a process of an earlier generation sent to etcd compares its session's key, which
//!    claiming the session rewrote; a takeover of it that took effect is in the state that the
//!    later one decides on, and it promises nothing to the holder of an epoch that is over.
//! 4. `open` in the server refuses while a promise runs on the server's clock, whoever calls it: a
//!    second line behind the others.
//!
//! The holder counts a promise from when the ask was *sent*, which is before the record, less the
//! margin for drift. So at no instant does it rely on a promise that does not bind everybody who
//! could open that member. A member whose database cannot be reached promises nothing, since another
//! process of its IDC may reach it; the witness has none, takes nothing, and is not asked.
//!
//! Two ways need no promise: a hand-over and a release that carry the proof of a fence, since the
//! fence was carried out under a generation that no earlier process of the holder's IDC can open
//! under. The promotion that follows takes the record away.

use std::collections::BTreeMap;

use model::{Epoch, Generation, IdcName, Intent, IntentKind, UnitState, Versioned};

use crate::announce::Transition;
use crate::bid::has_fence_proof;
use crate::core::{Core, Exposure, Plan};
use crate::event::{Command, DatabaseCommand, Purpose, Slot, Write};
use crate::observation::{PromiseAsk, PromiseSeen};
use crate::{Moment, Now, Settings};

/// So many asks are remembered while they wait for an answer.
const ASKS: usize = 8;

/// What this arbiter knows of promises, its own and those of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Promises {
    /// Asks under way: when each was sent, and for how long it asks.
    asks: BTreeMap<u64, (Moment, u64)>,
    asked_at: Option<Moment>,
    /// The epoch that the answers are about.
    epoch: Epoch,
    /// Until when each other candidate has promised, counted from when it was asked.
    given: BTreeMap<IdcName, Moment>,
    /// This arbiter's own promise: until then it takes nothing.
    own: Option<Moment>,
    /// When the database was first seen to obey this process's generation: from then on no earlier
    /// process of this IDC can record a promise.
    looked: Option<Moment>,
    /// Asks that wait for the database to record a promise.
    waiting: Vec<(IdcName, PromiseAsk)>,
    /// Those that the command to the database which runs now is about.
    recording: Vec<(IdcName, PromiseAsk)>,
    /// Answers that are to be sent.
    answers: Vec<(IdcName, u64, bool)>,
}

impl Promises {
    /// This process became active, or found another server: it does not know what earlier processes
    /// have promised.
    pub(crate) fn begin(&mut self) {
        self.looked = None;
    }

    /// The command that was to record them came to nothing.
    pub(crate) fn not_recorded(&mut self) {
        let asks = std::mem::take(&mut self.recording);
        self.refuse(asks);
    }

    /// There is no database to record anything in.
    pub(crate) fn refuse_waiting(&mut self) {
        let asks = std::mem::take(&mut self.waiting);
        self.refuse(asks);
    }

    fn refuse(&mut self, asks: Vec<(IdcName, PromiseAsk)>) {
        let refused = asks.into_iter().map(|(by, ask)| (by, ask.number, false));
        self.answers.extend(refused);
    }

    /// The command that records what waits was sent.
    pub(crate) fn recording_begins(&mut self) {
        self.recording = std::mem::take(&mut self.waiting);
    }

    /// The holder holds something else now, or nothing.
    fn forget_given(&mut self) {
        self.given.clear();
        self.asks.clear();
    }
}

impl Core {
    fn failsafe(&self) -> bool {
        self.settings.features.failsafe
    }

    /// The members that the holder has to ask: whom the epoch's record names.
    fn others_to_ask(&self) -> Vec<IdcName> {
        let admitted = self
            .state
            .as_ref()
            .and_then(|state| state.epoch.as_ref())
            .map(|epoch| epoch.value.candidates.as_slice())
            .unwrap_or_default();
        admitted
            .iter()
            .filter(|idc| **idc != self.me)
            .cloned()
            .collect()
    }

    /// Until when all others have promised, less the margin for drift.
    pub(crate) fn promised_until(&self) -> Option<Moment> {
        let allowed = self.doc().is_some_and(|doc| doc.value.failover.failsafe);
        let holds = self.held().map(|primary| primary.value.epoch);
        if !self.failsafe() || !allowed || holds != Some(self.promises.epoch) {
            return None;
        }
        let others = self.others_to_ask();
        let ends = others.iter().map(|idc| self.promises.given.get(idc));
        let end = if self.rules.all_must_promise {
            // No candidate but this one: nobody to ask, and nobody who could promise either.
            ends.collect::<Option<Vec<_>>>()?.into_iter().min()?
        } else {
            ends.flatten().max()?
        };
        let margin = Settings::drift(self.settings.longest_promise);
        Some(end.minus(margin))
    }

    /// Until when this arbiter has last promised to wait, or an earlier process of its IDC may have,
    /// in the past or in the future.
    pub(crate) fn promised_to_wait_until(&self) -> Option<Moment> {
        let inherited = self.inherited_until().filter(|_| self.failsafe());
        self.promises.own.max(inherited)
    }

    /// Until when a promise binds that an earlier process of this IDC recorded; `None` where none
    /// was found, or nobody has looked yet.
    fn inherited_until(&self) -> Option<Moment> {
        let looked = self.promises.looked?;
        let (_, seen) = self.member.seen.as_ref()?;
        let current = self.epoch().unwrap_or_default();
        // A promise to the holder of an epoch that is over binds nobody.
        let binds = |promise: &PromiseSeen| promise.epoch >= current;
        let recorded = seen.promise.filter(binds).map(|promise| promise.for_millis);
        let longest = self.settings.longest_promise;
        // What was kept in memory only may have been given all the same.
        let recorded = recorded.or((!self.rules.record_promises).then_some(longest))?;
        let longest = longest.max(recorded);
        Some(looked.plus(longest).plus(Settings::drift(longest)))
    }

    /// The database was looked at, and obeys this generation.
    pub(crate) fn note_promises(&mut self, now: Now, obeyed: Generation) {
        let mine = self.session.map(|session| session.generation);
        if mine.is_some_and(|mine| obeyed >= mine) {
            self.promises.looked.get_or_insert(now.at);
        }
    }

    /// Whether this arbiter has promised to wait.
    pub(crate) fn has_promised(&self, now: Now) -> bool {
        self.rules.keep_promises && self.promises.own.is_some_and(|until| now.at < until)
    }

    /// Whether no promise stands in the way of a takeover, its own or one it may not know of.
    pub(crate) fn free_of_promises(&self, now: Now) -> bool {
        let inherits = self.promises.looked.is_none()
            || self.inherited_until().is_some_and(|until| now.at < until);
        let inherits = self.rules.wait_after_start && inherits;
        !self.failsafe() || !(self.has_promised(now) || inherits)
    }

    /// What a promotion may take away of the promises recorded here: those to holders of epochs below
    /// this one are over.
    pub(crate) fn promises_over(transition: Option<&Transition>) -> Epoch {
        match transition {
            Some(transition) if transition.fenced => transition.epoch,
            Some(transition) => transition.ended,
            None => Epoch::NONE,
        }
    }

    /// Whether the holder has named this member as a candidate, was this IDC itself, or left the
    /// proof that it holds nothing by promises.
    pub(crate) fn is_admitted(&self, state: &UnitState) -> bool {
        let Some(epoch) = &state.epoch else {
            return true;
        };
        let candidates = &epoch.value.candidates;
        !self.failsafe()
            || candidates.is_empty()
            || epoch.value.idc == self.me
            || has_fence_proof(state)
            || candidates.contains(&self.me)
    }

    /// The candidates that a takeover writes: the members of the document that were named before,
    /// or whose databases would notice a restored etcd.
    pub(crate) fn candidates(&self) -> Vec<IdcName> {
        let (Some(state), Some(doc)) = (&self.state, self.doc().filter(|_| self.failsafe())) else {
            return Vec::new();
        };
        let named = state
            .epoch
            .as_ref()
            .map(|epoch| epoch.value.candidates.as_slice())
            .unwrap_or_default();
        let remembers = |idc: &IdcName| {
            let record = state.members.get(idc);
            record.is_some_and(|record| record.value.remembers)
        };
        let members = doc.value.members.iter().map(|member| &member.idc);
        members
            .filter(|idc| **idc == self.me || named.contains(idc) || remembers(idc))
            .cloned()
            .collect()
    }

    /// The holder names the members of a document that it has seen, before any of them may take
    /// over without having been asked, and says whether its server boots fenced.
    pub(crate) fn admit(&self) -> Option<Plan> {
        let state = self.confirmed()?;
        let primary = self.held()?;
        let epoch = state.epoch.as_ref()?;
        let doc = self.doc()?;
        let candidates = self.candidates();
        let mut record = epoch.value.clone();
        if !candidates.is_empty() {
            record.candidates = candidates;
        }
        if self.member.seen.is_some() {
            record.boots_fenced = self.boots_fenced();
        }
        if record == epoch.value {
            return None;
        }
        Some(
            self.plan(Purpose::Admit)
                .compare(Slot::Primary, primary.revision)
                .compare(Slot::Epoch, epoch.revision)
                .compare(Slot::Unit, doc.revision)
                .write(Write::Epoch(record)),
        )
    }

    pub(crate) fn take_ask(&mut self, now: Now, by: IdcName, ask: PromiseAsk) {
        let room = self.promises.waiting.len() < ASKS;
        if !self.may_promise(&by, ask) || !self.member.reachable || !room {
            self.promises.answers.push((by, ask.number, false));
        } else if self.rules.record_promises {
            self.promises.waiting.push((by, ask));
        } else {
            self.promise(now, by, ask);
        }
    }

    /// From now on it binds this process.
    fn promise(&mut self, now: Now, by: IdcName, ask: PromiseAsk) {
        let until = now.at.plus(ask.for_millis);
        self.promises.own = self.promises.own.max(Some(until));
        self.promises.answers.push((by, ask.number, true));
    }

    /// Records in the database what is asked for, so that it binds whoever could open the member.
    pub(crate) fn record_promise(&self) -> Option<DatabaseCommand> {
        let waiting = &self.promises.waiting;
        let (to, first) = waiting.first()?;
        let asks = || waiting.iter().map(|(_, ask)| ask);
        Some(DatabaseCommand::Promise {
            epoch: asks().map(|ask| ask.epoch).max().unwrap_or(first.epoch),
            to: to.clone(),
            for_millis: asks()
                .map(|ask| ask.for_millis)
                .max()
                .unwrap_or(first.for_millis),
        })
    }

    /// The database has acknowledged the record. Much may have happened meanwhile.
    pub(crate) fn take_recorded(&mut self, now: Now) {
        for (by, ask) in std::mem::take(&mut self.promises.recording) {
            if self.may_promise(&by, ask) {
                self.promise(now, by, ask);
            } else {
                self.promises.answers.push((by, ask.number, false));
            }
        }
    }

    fn may_promise(&self, by: &IdcName, ask: PromiseAsk) -> bool {
        let Some(state) = self.confirmed().filter(|_| self.failsafe()) else {
            return false;
        };
        let Some(epoch) = state.epoch.as_ref().map(|epoch| &epoch.value) else {
            return false;
        };
        let is_holder = match ask.epoch.cmp(&epoch.epoch) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => epoch.idc == *by && !crate::automatic::is_vacated(state),
            // This arbiter is behind; what it may have sent compares an epoch that is gone.
            std::cmp::Ordering::Greater => true,
        };
        let in_doubt = self.takeover_in_doubt.is_some();
        let asked_for = |intent: &Versioned<Intent>| intent.value.kind == IntentKind::Forced;
        is_holder
            && !in_doubt
            && self.trusts_etcd()
            && self.held().is_none()
            && !self.intent().is_some_and(asked_for)
            // A holder that cannot read the order is told by the refusal.
            && !state.fence_orders.contains_key(by)
            && ask.for_millis <= self.settings.longest_promise
            && self.member.exposure != Exposure::Open
    }

    pub(crate) fn take_promise(&mut self, by: IdcName, number: u64, promised: bool) {
        let Some((sent_at, for_millis)) = self.promises.asks.get(&number).copied() else {
            return;
        };
        if promised {
            let end = sent_at.plus(for_millis);
            let known = self.promises.given.entry(by).or_insert(end);
            *known = end.max(*known);
        } else {
            // One refusal is enough: whoever refuses may be about to take over.
            self.promises.forget_given();
        }
    }

    /// Sends what is to be asked and answered now.
    pub(crate) fn speak(&mut self, now: Now, out: &mut Vec<Command>) {
        for (to, number, promised) in std::mem::take(&mut self.promises.answers) {
            out.push(Command::AnswerPromise {
                to,
                number,
                promised,
            });
        }
        let holds = self.held().map(|primary| primary.value.epoch);
        if holds.is_none() || holds != Some(self.promises.epoch) {
            self.promises.forget_given();
            self.promises.epoch = holds.unwrap_or_default();
        }
        if !self.wants_promises(now) {
            return;
        }
        let Some(for_millis) = self.lease.as_ref().map(|lease| lease.granted) else {
            return;
        };
        self.promises.asked_at = Some(now.at);
        for of in self.others_to_ask() {
            self.numbers += 1;
            let ask = PromiseAsk {
                number: self.numbers,
                epoch: self.promises.epoch,
                for_millis,
            };
            self.promises.asks.insert(ask.number, (now.at, for_millis));
            out.push(Command::AskPromise { of, ask });
        }
        while self.promises.asks.len() > ASKS {
            self.promises.asks.pop_first();
        }
    }

    fn wants_promises(&self, now: Now) -> bool {
        let Some(lease) = &self.lease else {
            return false;
        };
        let silent = now.at.since(lease.since) >= self.settings.failsafe_after;
        let due = self
            .promises
            .asked_at
            .is_none_or(|at| now.at.since(at) >= self.settings.promise_every);
        self.failsafe()
            && silent
            && due
            && self.doc().is_some_and(|doc| doc.value.failover.failsafe)
            && self.held().is_some()
            && self.member.exposure == Exposure::Open
            && self.trusts_etcd()
    }

    /// When to ask next, or to act again after a promise.
    pub(crate) fn promise_moments(&self) -> impl Iterator<Item = Moment> {
        let ask = self
            .lease
            .as_ref()
            .map(|lease| lease.since.plus(self.settings.failsafe_after));
        let again = self
            .promises
            .asked_at
            .map(|at| at.plus(self.settings.promise_every));
        ask.into_iter()
            .chain(again)
            .chain(self.promises.own)
            .chain(self.inherited_until())
    }
}
