//! Votes: an arbiter says in etcd that the primary of the epoch is down, and takes it back.
//!
//! A vote is bound to the voter's session, so it is gone with the voter. It is about one epoch. It
//! takes nothing from anybody: a holder whose key lives is *told* by a majority to fence and
//! release, and does so itself (`hold`); a candidate needs the key to be gone all the same.

use std::collections::BTreeMap;

use model::{
    Evidence, FailoverMode, IdcName, Revision, UnitState, Versioned, VoteGround, VoteRecord,
};

use crate::Now;
use crate::core::{Core, Plan};
use crate::event::{Purpose, Slot, Write};

impl Core {
    /// Whether this Unit's primary moves by itself.
    pub(crate) fn is_automatic(&self) -> bool {
        self.settings.features.votes
            && !self.is_paused()
            && self
                .doc()
                .is_some_and(|doc| doc.value.failover.mode == FailoverMode::Automatic)
    }

    /// Notes since when votes could matter, on this arbiter's clock.
    pub(crate) fn note_votes(&mut self, now: Now) {
        let renounces = self.renounces();
        self.renounced_since = self
            .renounced_since
            .filter(|_| renounces)
            .or(renounces.then_some(now.at));
        let voted = self
            .state
            .as_ref()
            .is_some_and(|state| votes_about_database(state) > 0);
        self.voted_since = self
            .voted_since
            .filter(|_| voted)
            .or(voted.then_some(now.at));
    }

    /// Whether the holder's own IDC says that its database is down.
    fn renounces(&self) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let holder = state.epoch.as_ref().map(|epoch| &epoch.value.idc);
        down_votes(state)
            .iter()
            .any(|(idc, vote)| Some(*idc) == holder && vote.value.ground.is_about_the_database())
    }

    /// Longer than the former holder was given to take it again.
    fn is_vacant(&self, now: Now) -> bool {
        self.vacancy
            .as_ref()
            .is_some_and(|vacancy| now.at.since(vacancy.since) >= self.settings.retake_grace)
    }

    /// What this arbiter should be voting now.
    fn opinion(&self, now: Now, state: &UnitState) -> Option<(VoteGround, Vec<Evidence>)> {
        let against = &state.epoch.as_ref()?.value.idc;
        if let Some(down) = self.verdict(now, against) {
            return Some(down);
        }
        // Who has promised to wait knows that the holder lives.
        let vacant = self.is_automatic() && self.is_vacant(now) && !self.has_promised(now);
        vacant.then_some((VoteGround::Vacant, Vec::new()))
    }

    /// Publishes the vote, brings it up to date, or withdraws it.
    pub(crate) fn vote(&self, now: Now) -> Option<Plan> {
        let state = self.confirmed()?;
        let session = self.session?;
        if !self.settings.features.votes || self.doc().is_none() {
            return None;
        }
        let standing = state.votes.get(&self.me);
        // Only an IDC that is published has a vote; whatever it voted before counts no more.
        let opinion = state
            .idcs
            .contains_key(&self.me)
            .then(|| self.opinion(now, state))
            .flatten();
        let Some((ground, evidence)) = opinion else {
            let plan = self.plan(Purpose::WithdrawVote);
            return standing.map(|vote| {
                plan.compare(Slot::Vote(self.me.clone()), vote.revision)
                    .write(Write::DeleteVote)
            });
        };
        let epoch = state.epoch.as_ref()?;
        let said = standing.is_some_and(|vote| {
            vote.lease == Some(session.lease)
                && vote.value.epoch == epoch.value.epoch
                && vote.value.against == epoch.value.idc
                && vote.value.ground == ground
        });
        let record = VoteRecord {
            epoch: epoch.value.epoch,
            against: epoch.value.idc.clone(),
            ground,
            evidence,
            at: now.wall,
        };
        (!said).then(|| {
            self.plan(Purpose::Vote)
                .compare(Slot::Epoch, epoch.revision)
                .write(Write::Vote(record, session.lease))
        })
    }

    /// Whether so many are more than half of all IDCs, witnesses included.
    pub(crate) fn is_majority(&self, state: &UnitState, votes: usize) -> bool {
        if !self.rules.majority {
            return votes > 0;
        }
        2 * votes > state.idcs.len()
    }

    /// Whether a majority votes the primary of the current epoch down.
    pub(crate) fn is_voted_down(&self, state: &UnitState) -> bool {
        self.is_majority(state, down_votes(state).len())
    }

    /// Whether the votes tell this holder to fence and release. Only while somebody else could
    /// take over: a primary that few can reach is better than none.
    pub(crate) fn told_by_votes(&self, now: Now) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        self.held().is_some()
            && self.is_automatic()
            && self.may_fail_over(now, state)
            && self.is_voted_down(state)
            && self
                .bids(state)
                .iter()
                .any(|(idc, bid)| **idc != self.me && bid.ineligible.is_empty())
    }

    /// The comparison of votes with which a former holder takes the primary again: that nobody's
    /// signals speak against it, and that this stays so.
    pub(crate) fn compare_no_objection(&self, mut plan: Plan, state: &UnitState) -> Plan {
        for voter in state.idcs.keys() {
            let revision = state
                .votes
                .get(voter)
                .map_or(Revision::ABSENT, |vote| vote.revision);
            plan = plan.compare_if(
                self.rules.compare_votes,
                Slot::Vote(voter.clone()),
                revision,
            );
        }
        plan
    }
}

/// The votes that count: of published IDCs, against the primary of the current epoch.
pub(crate) fn down_votes(state: &UnitState) -> BTreeMap<&IdcName, &Versioned<VoteRecord>> {
    let Some(epoch) = state.epoch.as_ref().map(|epoch| &epoch.value) else {
        return BTreeMap::new();
    };
    state
        .votes
        .iter()
        .filter(|(voter, vote)| {
            state.idcs.contains_key(*voter)
                && vote.value.epoch == epoch.epoch
                && vote.value.against == epoch.idc
        })
        .collect()
}

/// How many see the database itself down.
pub(crate) fn votes_about_database(state: &UnitState) -> usize {
    down_votes(state)
        .values()
        .filter(|vote| vote.value.ground.is_about_the_database())
        .count()
}
