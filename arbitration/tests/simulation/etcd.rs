//! etcd, as far as the core can tell: one linear history of revisions, compares, and leases.

use std::collections::BTreeMap;

use arbitration::{Compare, HeldSession, Slot, Standing, Transaction, Write};
use model::{
    ClusterId, Epoch, EtcdMark, Generation, IdcName, IntentPhase, LeaseId, Receipt, RenewalRecord,
    Revision, SessionRecord, UnitState, Versioned,
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Etcd {
    pub state: UnitState,
    pub history: BTreeMap<Epoch, Versioned<Receipt>>,
    /// Without a leader it answers nobody, and no lease ends; with the next one each lease begins
    /// anew.
    pub leaderless: bool,
    pub cluster: u64,
    /// Lease, with its lease time and its end, in true time.
    leases: BTreeMap<LeaseId, (u64, u64)>,
    generations: BTreeMap<IdcName, Generation>,
    /// When each session was last kept alive.
    renewed_at: BTreeMap<IdcName, u64>,
    /// The holder whose lease ended last, its epoch, and when its session was last kept alive.
    pub ended: Option<(IdcName, Epoch, u64)>,
    /// A record was replaced by an older one.
    pub overwritten: Option<String>,
}

/// What etcd answers a keep-alive.
pub enum Renewal {
    Granted(u64),
    Expired,
    Superseded,
    /// etcd names an earlier holder: it was put back.
    Forgotten,
}

impl Etcd {
    fn next_revision(&mut self) -> Revision {
        self.state.revision = Revision(self.state.revision.0 + 1);
        self.state.revision
    }

    /// Drops what is bound to leases that have ended. True if anything changed.
    pub fn expire(&mut self, now: u64) -> bool {
        if self.leaderless {
            return false;
        }
        let ended: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, (_, end))| *end <= now)
            .map(|(id, _)| *id)
            .collect();
        for lease in &ended {
            self.end(*lease);
        }
        !ended.is_empty()
    }

    fn end(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        self.next_revision();
        let bound = Some(lease);
        let gone = self.state.primary.take_if(|primary| primary.lease == bound);
        if let Some(gone) = gone.map(|primary| primary.value) {
            let renewed_at = self.renewed_at.get(&gone.idc).copied().unwrap_or(0);
            self.ended = Some((gone.idc, gone.epoch, renewed_at));
        }
        self.state.members.retain(|_, member| member.lease != bound);
        self.state.votes.retain(|_, vote| vote.lease != bound);
        self.state.bids.retain(|_, bid| bid.lease != bound);
        self.state
            .sessions
            .retain(|_, session| session.lease != bound);
    }

    /// A leader that was stopped and goes on ends a lease that was kept alive with its successor.
    /// True if there was one.
    pub fn end_early(&mut self, idc: &IdcName) -> bool {
        let session = self.state.sessions.get(idc);
        let lease = session.and_then(|session| session.lease);
        if let Some(lease) = lease {
            self.end(lease);
        }
        lease.is_some()
    }

    /// Since when nobody can have been told that the former holder's session lives on, where a
    /// takeover by this IDC now has to wait for that: etcd holds no proof that it is fenced.
    pub fn awaits(&self, me: &IdcName) -> Option<u64> {
        let epoch = self.state.epoch.as_ref().map(|epoch| &epoch.value)?;
        let (idc, ended, renewed_at) = self.ended.as_ref()?;
        let vacated = self.state.vacated.as_ref();
        let vacated = vacated.is_some_and(|vacated| vacated.value.epoch == epoch.epoch);
        let fenced = self.state.intent.as_ref().is_some_and(|intent| {
            intent.value.expected_epoch == epoch.epoch
                && matches!(intent.value.phase, IntentPhase::Fenced { .. })
        });
        let last = *ended == epoch.epoch && idc == &epoch.idc && idc != me;
        (last && !vacated && !fenced && self.state.primary.is_none()).then_some(*renewed_at)
    }

    pub fn mark(&self) -> EtcdMark {
        EtcdMark {
            cluster: ClusterId(self.cluster),
            revision: self.state.revision,
        }
    }

    /// What watchers are told.
    pub fn told(&self) -> UnitState {
        let mut state = self.state.clone();
        state.cluster = Some(ClusterId(self.cluster));
        state.receipt = self.history.values().next_back().cloned();
        state
    }

    /// A new leader: every lease has its whole time again.
    pub fn elect(&mut self, now: u64) {
        self.leaderless = false;
        for (ttl, end) in self.leases.values_mut() {
            *end = now + *ttl;
        }
    }

    /// Somebody puts a document from outside.
    pub fn put<T>(&mut self, value: T) -> Versioned<T> {
        let revision = self.next_revision();
        Versioned {
            value,
            revision,
            lease: None,
        }
    }

    pub fn claim(&mut self, now: u64, idc: &IdcName, ttl: u64, above: Generation) -> HeldSession {
        let alive = self
            .state
            .sessions
            .get(idc)
            .and_then(|session| session.lease);
        let lease = alive.unwrap_or(LeaseId(1_000 + self.state.revision.0));
        self.leases.insert(lease, (ttl, now + ttl));
        let count = self.generations.entry(idc.clone()).or_default();
        *count = Generation(count.0.max(above.0) + 1);
        let generation = *count;
        let revision = self.next_revision();
        let value = SessionRecord {
            holder: format!("{idc}-{}", generation.0),
            address: String::new(),
            version: String::new(),
            generation,
            yielded: false,
            promises_at: String::new(),
        };
        let record = Versioned {
            value,
            revision,
            lease: Some(lease),
        };
        self.state.sessions.insert(idc.clone(), record);
        HeldSession {
            lease,
            revision,
            generation,
        }
    }

    pub fn keep_alive(&mut self, now: u64, idc: &IdcName, session: HeldSession) -> Renewal {
        let Some((ttl, end)) = self.leases.get_mut(&session.lease) else {
            return Renewal::Expired;
        };
        *end = now + *ttl;
        let granted = *ttl;
        match self.state.sessions.get(idc) {
            None => Renewal::Expired,
            Some(found) if found.revision != session.revision => {
                // Generations only ever grow, unless etcd was put back.
                if found.value.generation > session.generation {
                    Renewal::Superseded
                } else {
                    Renewal::Forgotten
                }
            }
            Some(_) => {
                let renewal = RenewalRecord {
                    granted_millis: granted,
                };
                let revision = self.next_revision();
                self.renewed_at.insert(idc.clone(), now);
                self.state
                    .renewals
                    .insert(idc.clone(), free(renewal, revision));
                Renewal::Granted(granted)
            }
        }
    }

    /// An IDC's session, as it is told to who looks at it; what is left of its lease is rounded as etcd
    /// and `topology` do.
    pub fn standing(&self, now: u64, idc: &IdcName) -> Option<Standing> {
        let session = self.state.sessions.get(idc)?;
        let lease = session.lease.and_then(|lease| self.leases.get(&lease));
        let (granted, end) = lease.copied().unwrap_or_default();
        let left = match end.checked_sub(now) {
            Some(left) => left / 1_000 * 1_000 + 1_000,
            None => 0,
        };
        Some(Standing {
            yielded: session.value.yielded,
            own: false,
            left,
            granted,
        })
    }

    fn revision_of(&self, slot: &Slot) -> Revision {
        let state = &self.state;
        let found = match slot {
            Slot::Unit => state.unit.as_ref().map(|found| found.revision),
            Slot::Session(idc) => state.sessions.get(idc).map(|found| found.revision),
            Slot::Epoch => state.epoch.as_ref().map(|found| found.revision),
            Slot::Primary => state.primary.as_ref().map(|found| found.revision),
            Slot::Vacated => state.vacated.as_ref().map(|found| found.revision),
            Slot::Intent => state.intent.as_ref().map(|found| found.revision),
            Slot::Member(idc) => state.members.get(idc).map(|found| found.revision),
            Slot::History(epoch) => self.history.get(epoch).map(|found| found.revision),
            Slot::Idc(idc) => state.idcs.get(idc).map(|found| found.revision),
            Slot::Vote(idc) => state.votes.get(idc).map(|found| found.revision),
            Slot::Bid(idc) => state.bids.get(idc).map(|found| found.revision),
            Slot::FenceOrder(idc) => state.fence_orders.get(idc).map(|found| found.revision),
            Slot::PauseOrder => state.pause_order.as_ref().map(|found| found.revision),
        };
        found.unwrap_or(Revision::ABSENT)
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Revision(slot, revision) => self.revision_of(slot) == *revision,
            Compare::Lease(Slot::Primary, lease) => {
                self.state
                    .primary
                    .as_ref()
                    .and_then(|primary| primary.lease)
                    == Some(*lease)
            }
            Compare::Lease(slot, _) => panic!("the core compares no lease of {slot:?}"),
        }
    }

    /// The revision it made; `None` if a comparison failed.
    pub fn commit(&mut self, me: &IdcName, transaction: &Transaction) -> Option<Revision> {
        if !transaction
            .compares
            .iter()
            .all(|compare| self.holds(compare))
        {
            return None;
        }
        // As etcd: a put bound to a lease that does not exist fails the whole transaction.
        let lease_missing = transaction.writes.iter().any(|write| match write {
            Write::Primary(_, lease)
            | Write::Member(_, lease)
            | Write::Vote(_, lease)
            | Write::Bid(_, lease) => !self.leases.contains_key(lease),
            _ => false,
        });
        if lease_missing {
            return None;
        }
        let revision = self.next_revision();
        for write in transaction.writes.iter().cloned() {
            self.write(me, revision, write);
        }
        Some(revision)
    }

    fn write(&mut self, me: &IdcName, revision: Revision, write: Write) {
        let state = &mut self.state;
        match write {
            Write::Epoch(value) => {
                let before = state.epoch.as_ref().map(|epoch| &epoch.value);
                // The holder may write its own anew, to name candidates.
                let same =
                    before.is_some_and(|it| (it.epoch, &it.idc) == (value.epoch, &value.idc));
                let before = before.map(|epoch| epoch.epoch);
                if !same && Some(value.epoch) <= before {
                    self.overwritten = Some(format!("epoch {before:?} became {}", value.epoch));
                }
                state.epoch = Some(free(value, revision));
            }
            Write::Primary(value, lease) => {
                state.primary = Some(bound(value, revision, lease));
            }
            Write::DeletePrimary => state.primary = None,
            Write::Vacated(value) => {
                state.vacated = Some(free(value, revision));
            }
            Write::DeleteVacated => state.vacated = None,
            Write::Intent(value) => {
                state.intent = Some(free(value, revision));
            }
            Write::Member(value, lease) => {
                let record = bound(value, revision, lease);
                state.members.insert(me.clone(), record);
            }
            Write::History(value) => {
                self.history.insert(
                    value.epoch,
                    Versioned {
                        value,
                        revision,
                        lease: None,
                    },
                );
            }
            Write::DeleteHistory(epoch) => {
                self.history.remove(&epoch);
            }
            Write::Vote(value, lease) => {
                let record = bound(value, revision, lease);
                state.votes.insert(me.clone(), record);
            }
            Write::DeleteVote => {
                state.votes.remove(me);
            }
            Write::Bid(value, lease) => {
                let record = bound(value, revision, lease);
                state.bids.insert(me.clone(), record);
            }
            Write::DeleteBid => {
                state.bids.remove(me);
            }
        }
    }
}

fn bound<T>(value: T, revision: Revision, lease: LeaseId) -> Versioned<T> {
    Versioned {
        value,
        revision,
        lease: Some(lease),
    }
}

fn free<T>(value: T, revision: Revision) -> Versioned<T> {
    Versioned {
        value,
        revision,
        lease: None,
    }
}
