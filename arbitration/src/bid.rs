//! Bids: who stands for election, who may be elected, and whose turn it is.
//!
//! The lag guard is applied before a bid is made, by the candidate, which alone knows how far it
//! was behind at the holder's last sign of life. Everybody sees the same bids, so everybody agrees
//! on the ranks: who has received the highest epoch, then the most of it, then the priority, then
//! the name. Which candidate's transaction takes effect, etcd decides; ranks have the one try first
//! that keeps the most. One that is further than this member and says that it is too far behind has
//! not yet judged itself by what this member knows of the holder's end, and will: it keeps its turn.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::{BidRecord, FenceProof, IdcName, Ineligible, UnitState, VacatedRecord};

use crate::Now;
use crate::core::{Core, Exposure, Plan};
use crate::event::{Purpose, Slot, Write};
use crate::vote::votes_about_database;

impl Core {
    /// Whether there is an election in which one may stand.
    fn election_is_near(&self, state: &UnitState) -> bool {
        self.is_automatic()
            && state.epoch.is_some()
            && (state.primary.is_none() || self.is_voted_down(state))
    }

    /// Publishes this member's bid, brings it up to date, or withdraws it.
    pub(crate) fn bid(&self, now: Now) -> Option<Plan> {
        let state = self.confirmed()?;
        let session = self.session?;
        if !self.settings.features.votes {
            return None;
        }
        let standing = state.bids.get(&self.me);
        let holds = self.held().is_some();
        if holds || self.my_doc().is_none() || !self.election_is_near(state) {
            return standing.map(|bid| {
                self.plan(Purpose::WithdrawBid)
                    .compare(Slot::Bid(self.me.clone()), bid.revision)
                    .write(Write::DeleteBid)
            });
        }
        let record = self.bid_record(now, state)?;
        let same = standing.is_some_and(|bid| {
            // The figures that go on changing do not make a new bid.
            let known = &bid.value;
            bid.lease == Some(session.lease)
                && known.epoch == record.epoch
                && known.highest_epoch == record.highest_epoch
                && known.sequence == record.sequence
                && known.priority == record.priority
                && known.ineligible == record.ineligible
        });
        let settled = self.database.is_none();
        (!same && settled).then(|| {
            self.plan(Purpose::Bid)
                .compare(
                    Slot::Epoch,
                    state
                        .epoch
                        .as_ref()
                        .map_or_else(Default::default, |it| it.revision),
                )
                .write(Write::Bid(record, session.lease))
        })
    }

    fn bid_record(&self, now: Now, state: &UnitState) -> Option<BidRecord> {
        let (_, seen) = self.member.seen.as_ref()?;
        let own = self.was_holder(state);
        let sequence = if own {
            seen.own_sequence
        } else {
            seen.applied.as_ref().map(|applied| applied.sequence)
        };
        Some(BidRecord {
            epoch: state.epoch.as_ref()?.value.epoch,
            highest_epoch: seen.highest_epoch,
            sequence,
            position: seen
                .applied
                .as_ref()
                .map(|applied| applied.position.clone()),
            lag_millis: self.lag(now, state),
            priority: self.my_doc()?.priority,
            ineligible: self.ineligible(now, state),
        })
    }

    /// The bids for the succession of the current epoch.
    pub(crate) fn bids<'a>(&self, state: &'a UnitState) -> BTreeMap<&'a IdcName, &'a BidRecord> {
        let epoch = self.epoch();
        state
            .bids
            .iter()
            .filter(|(_, bid)| Some(bid.value.epoch) == epoch)
            .map(|(idc, bid)| (idc, &bid.value))
            .collect()
    }

    /// How many go before this member; `None` if it does not stand or may not be elected.
    pub(crate) fn rank(&self, state: &UnitState) -> Option<u64> {
        let bids = self.bids(state);
        let key = |idc: &IdcName, bid: &BidRecord| {
            (
                Reverse(bid.highest_epoch),
                Reverse(bid.sequence),
                Reverse(bid.priority),
                idc.clone(),
            )
        };
        let mine = bids.get(&self.me).filter(|bid| bid.ineligible.is_empty())?;
        let mine = key(&self.me, mine);
        let own = bids.get(&self.me)?;
        let ahead =
            |bid: &BidRecord| (bid.highest_epoch, bid.sequence) > (own.highest_epoch, own.sequence);
        let may_go = |bid: &BidRecord| match bid.ineligible.as_slice() {
            [] => true,
            [Ineligible::Lag] => ahead(bid),
            _ => false,
        };
        let before = bids
            .iter()
            .filter(|(idc, bid)| may_go(bid) && key(idc, bid) < mine)
            .count();
        u64::try_from(before).ok()
    }

    /// Whether every member whose arbiter lives has said whether it stands.
    pub(crate) fn all_have_bid(&self, state: &UnitState) -> bool {
        let bids = self.bids(state);
        self.doc().is_some_and(|doc| {
            doc.value.members.iter().all(|member| {
                bids.contains_key(&member.idc) || !state.sessions.contains_key(&member.idc)
            })
        })
    }

    /// Whether this very server was the holder of the current epoch.
    pub(crate) fn was_holder(&self, state: &UnitState) -> bool {
        state.epoch.as_ref().is_some_and(|epoch| {
            epoch.value.idc == self.me
                && Some(&epoch.value.identity) == self.identity()
                && !self.missed_an_epoch(state)
        })
    }

    /// Why this member may not be elected automatically now.
    pub(crate) fn ineligible(&self, now: Now, state: &UnitState) -> Vec<Ineligible> {
        let seen = self.member.seen.as_ref().map(|(_, seen)| seen);
        let highest = seen.map(|seen| seen.highest_epoch);
        let misses_epoch = state
            .members
            .values()
            .any(|record| Some(record.value.highest_epoch) > highest);
        let voted_down =
            self.was_holder(state) && self.is_majority(state, votes_about_database(state));
        [
            (
                !self.member.reachable || seen.is_none(),
                Ineligible::Unreachable,
            ),
            (
                !matches!(self.member.exposure, Exposure::Closed(_)),
                Ineligible::NotFenced,
            ),
            (!self.member.preflight, Ineligible::Preflight),
            (
                seen.is_some() && !self.boots_fenced(),
                Ineligible::BootsWritable,
            ),
            (!self.lag_allows(now, state), Ineligible::Lag),
            (
                misses_epoch || self.missed_an_epoch(state),
                Ineligible::MissesEpoch,
            ),
            (self.went_back, Ineligible::WentBack),
            (voted_down, Ineligible::VotedDown),
            (
                !self.free_of_promises(now) && !has_fence_proof(state),
                Ineligible::Promised,
            ),
            (!self.is_admitted(state), Ineligible::NotAdmitted),
            (!self.trusts_etcd(), Ineligible::EtcdWentBack),
            (self.not_in_line().is_some(), Ineligible::Stranded),
            (!self.copied_by().is_empty(), Ineligible::Copying),
            (self.is_barred_by_order(), Ineligible::FenceOrdered),
        ]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, reason)| reason)
        .collect()
    }

    /// Whether this member's server is known to come up `read_only` after a restart.
    pub(crate) fn boots_fenced(&self) -> bool {
        let seen = self.member.seen.as_ref();
        seen.is_some_and(|(_, seen)| seen.boots_fenced)
    }

    /// How many transactions of an ended epoch only this member has. With them it would be another
    /// history than the one that the others went on from.
    pub(crate) fn not_in_line(&self) -> Option<u64> {
        self.hindrances
            .iter()
            .find_map(|hindrance| match hindrance {
                crate::Hindrance::NotInLine(count) => Some(*count),
                _ => None,
            })
    }

    /// The links that still copy tables to this member: until they have ended it lacks rows that
    /// every other member has.
    pub(crate) fn copied_by(&self) -> &[String] {
        self.hindrances
            .iter()
            .find_map(|hindrance| match hindrance {
                crate::Hindrance::Copying(links) => Some(links.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// Whether a person has asked for this member with the loss of what is missing here.
    pub(crate) fn may_lose(&self) -> bool {
        let asked = self.intent().map(|intent| &intent.value);
        asked.is_some_and(|it| it.allow_data_loss && it.to.as_ref() == Some(&self.me))
    }

    /// Why this member could not be elected if the primary failed now, as it is published. What
    /// passes by itself within seconds is left out: a record that says so would be rewritten all
    /// the time.
    pub(crate) fn standing_obstacles(&self, now: Now) -> Vec<Ineligible> {
        let Some(state) = &self.state else {
            return Vec::new();
        };
        let holds = state
            .primary
            .as_ref()
            .is_some_and(|primary| primary.value.idc == self.me);
        if !self.settings.features.votes || holds || state.epoch.is_none() {
            return Vec::new();
        }
        let passing = [Ineligible::Promised, Ineligible::VotedDown];
        let mut obstacles = self.ineligible(now, state);
        obstacles.retain(|reason| !passing.contains(reason));
        obstacles
    }

    fn lag_allows(&self, now: Now, state: &UnitState) -> bool {
        if !self.rules.lag_guard {
            return true;
        }
        let bound = self.doc().map(|doc| doc.value.failover.max_lag_millis);
        let lag = self.lag(now, state);
        lag.is_some() && lag <= bound
    }
}

/// Whether the holder of the current epoch left word that it is fenced. Fenced by its own IDC, with
/// the sessions of earlier processes cut, it holds nothing by promises either.
pub(crate) fn has_fence_proof(state: &UnitState) -> bool {
    let epoch = state.epoch.as_ref().map(|epoch| &epoch.value);
    // Of a later epoch, which etcd has forgotten, it proves nothing.
    let epoch = epoch.filter(|epoch| epoch.highest <= epoch.epoch);
    let epoch = epoch.map(|epoch| epoch.epoch);
    state.vacated.as_ref().is_some_and(|vacated| {
        let VacatedRecord {
            epoch: ended,
            proof,
            ..
        } = &vacated.value;
        Some(*ended) == epoch && matches!(proof, FenceProof::Fenced { .. })
    })
}
