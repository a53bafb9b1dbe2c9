//! Rule 11: a holder that cannot reach etcd goes on while every other candidate's arbiter promises
//! not to take the Unit.
//!
//! # Why a holder with promises is the only one
//!
//! Who could take over while the holder's lease runs out in etcd? Only a member that the epoch's
//! record names as a candidate (`is_admitted`), which the holder itself wrote, so it asks each of
//! them. Each counts its promise from when the ask *came*, the holder counts it from when it was
//! *sent*, less the margin for drift. A candidate that has sent a takeover of which nobody knows
//! the end promises nothing (`takeover_in_doubt`). One that promised neither campaigns nor opens
//! until its promise is over, whatever etcd says meanwhile; one that cannot know what an earlier
//! process of its IDC promised waits for as long as the longest promise (`quiet_until`). Two
//! ways need no promise: a hand-over and a release that carry the proof of a fence, since the fence
//! was carried out under a generation that no earlier process of the holder's IDC can open under.

use std::collections::BTreeMap;

use model::{Epoch, IdcName, Intent, IntentKind, UnitState, Versioned};

use crate::bid::has_fence_proof;
use crate::core::{Core, Exposure, Plan};
use crate::event::{Command, Purpose, Slot, Write};
use crate::observation::PromiseAsk;
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
    /// Until then it does not know what an earlier process of its IDC has promised.
    quiet_until: Moment,
    /// Answers that are to be sent.
    answers: Vec<(IdcName, u64, bool)>,
}

impl Promises {
    /// This process began, became active, or saw that its IDC became a candidate.
    pub(crate) fn begin(&mut self, now: Now, settings: &Settings) {
        let longest = settings.longest_promise;
        let end = now.at.plus(longest).plus(Settings::drift(longest));
        self.quiet_until = self.quiet_until.max(end);
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
        let allowed = self.doc().is_some_and(|doc| doc.value.failover.failsafe);
        let perhaps = (self.failsafe() && allowed).then_some(self.promises.quiet_until);
        self.promises.own.max(perhaps)
    }

    /// Whether this arbiter has promised to wait.
    pub(crate) fn has_promised(&self, now: Now) -> bool {
        self.rules.keep_promises && self.promises.own.is_some_and(|until| now.at < until)
    }

    /// Whether no promise stands in the way of a takeover, its own or one it may not know of.
    pub(crate) fn free_of_promises(&self, now: Now) -> bool {
        let unknown = self.rules.wait_after_start && now.at < self.promises.quiet_until;
        !self.failsafe() || !(self.has_promised(now) || unknown)
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
    /// over without having been asked.
    pub(crate) fn admit(&self) -> Option<Plan> {
        let state = self.confirmed()?;
        let primary = self.held()?;
        let epoch = state.epoch.as_ref()?;
        let doc = self.doc()?;
        let candidates = self.candidates();
        if candidates.is_empty() || candidates == epoch.value.candidates {
            return None;
        }
        let mut record = epoch.value.clone();
        record.candidates = candidates;
        Some(
            self.plan(Purpose::Admit)
                .compare(Slot::Primary, primary.revision)
                .compare(Slot::Epoch, epoch.revision)
                .compare(Slot::Unit, doc.revision)
                .write(Write::Epoch(record)),
        )
    }

    pub(crate) fn take_ask(&mut self, now: Now, by: IdcName, ask: PromiseAsk) {
        let promised = self.may_promise(&by, ask);
        if promised {
            let until = now.at.plus(ask.for_millis);
            self.promises.own = self.promises.own.max(Some(until));
        }
        self.promises.answers.push((by, ask.number, promised));
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
            .chain([self.promises.quiet_until])
    }
}
