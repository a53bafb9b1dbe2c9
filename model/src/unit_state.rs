//! Everything etcd holds about one Unit, as of one revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    AckRecord, BidRecord, EpochRecord, IdcDoc, IdcName, Intent, MemberRecord, Order, PrimaryRecord,
    Receipt, RenewalRecord, SessionRecord, UnitDoc, VacatedRecord, VoteRecord,
};

/// A revision of etcd: one more at each transaction that changed anything.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub i64);

impl Revision {
    /// What a key that does not exist compares equal to.
    pub const ABSENT: Revision = Revision(0);
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which etcd cluster this is: another one after a restore from a snapshot, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// How far etcd has been seen to be. etcd never goes back from it, unless it was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdMark {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its revision, as a linearizable answer told it.
    pub revision: Revision,
}

/// An etcd lease. etcd writes it in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub i64);

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A document with the revision that last wrote it, which is what a compare-and-set compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The document.
    pub value: T,
    /// The revision that last wrote the key.
    pub revision: Revision,
    /// The lease that the key is bound to.
    pub lease: Option<LeaseId>,
}

/// What etcd holds about one Unit, all of it as of `revision`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnitState {
    /// The revision that this is the state at, or a later one at which nothing here had changed.
    pub revision: Revision,
    /// The cluster that said so, where it is known.
    #[serde(default)]
    pub cluster: Option<ClusterId>,
    /// The Unit, as the operator published it; `None` once it is deleted.
    pub unit: Option<Versioned<UnitDoc>>,
    /// The epoch; `None` before the first primary.
    pub epoch: Option<Versioned<EpochRecord>>,
    /// The holder.
    pub primary: Option<Versioned<PrimaryRecord>>,
    /// The proof that the last holder left.
    pub vacated: Option<Versioned<VacatedRecord>>,
    /// Each member as its own arbiter sees it; absent where that arbiter has no session.
    pub members: BTreeMap<IdcName, Versioned<MemberRecord>>,
    /// What somebody asked for.
    pub intent: Option<Versioned<Intent>>,
    /// The arbiters that have a session: of every IDC, whether it has a member or not.
    pub sessions: BTreeMap<IdcName, Versioned<SessionRecord>>,
    /// When each session was last kept alive, by the revision of its record. They outlive sessions.
    #[serde(default)]
    pub renewals: BTreeMap<IdcName, Versioned<RenewalRecord>>,
    /// The IDCs as published: each has one vote, whether it has a member or not.
    #[serde(default)]
    pub idcs: BTreeMap<IdcName, Versioned<IdcDoc>>,
    /// Who votes the primary down.
    #[serde(default)]
    pub votes: BTreeMap<IdcName, Versioned<VoteRecord>>,
    /// Who stands for election.
    #[serde(default)]
    pub bids: BTreeMap<IdcName, Versioned<BidRecord>>,
    /// What somebody has looked at.
    #[serde(default)]
    pub ack: Option<Versioned<AckRecord>>,
    /// The members that a person has taken out.
    #[serde(default)]
    pub fence_orders: BTreeMap<IdcName, Versioned<Order>>,
    /// That a person holds the automation, beside what the Unit's document says.
    #[serde(default)]
    pub pause_order: Option<Versioned<Order>>,
    /// The receipt of the newest transition.
    #[serde(default)]
    pub receipt: Option<Versioned<Receipt>>,
}

impl UnitState {
    /// Whether automation is held: by the Unit's document, or by a person's order in etcd.
    pub fn is_paused(&self) -> bool {
        self.pause_order.is_some() || self.unit.as_ref().is_some_and(|unit| unit.value.paused)
    }
}
