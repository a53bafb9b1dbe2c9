//! The receipt of a transition: who decided, on what, how long it took, what it may have cost.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Epoch, FenceProof, IdcName, PositionText, VoteRecord};

/// `units/<u>/history/<epoch>`: how the primary of that epoch came about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The epoch that began.
    pub epoch: Epoch,
    /// Why a new one began.
    pub kind: TransitionKind,
    /// The holder of the epoch before, if there was one.
    pub from: Option<IdcName>,
    /// The new holder.
    pub to: IdcName,
    /// One CamelCase word, for example `Requested`, `FirstPrimary`, `SessionLost`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When the transition began, by the clock of the arbiter that began it.
    pub started_at: Timestamp,
    /// When the new primary was open, by its own arbiter's clock.
    pub opened_at: Timestamp,
    /// From the fence of the old primary to the opening of the new one, in milliseconds; the two
    /// ends come from two clocks, so it is as exact as those agree. `None` where the beginning is
    /// not known (the old holder vanished).
    pub write_pause_millis: Option<u64>,
    /// How the old holder is known to be fenced; `None` for the first primary and where its lease
    /// ran out.
    pub proof: Option<FenceProof>,
    /// What the new primary had applied of the old one at promotion.
    pub applied: Option<PositionText>,
    /// The steps in order.
    pub phases: Vec<Phase>,
    /// Whether nobody asked for it.
    #[serde(default)]
    pub automatic: bool,
    /// Who had voted the old holder down when the new one took over, and what each saw.
    #[serde(default)]
    pub votes: BTreeMap<IdcName, VoteRecord>,
    /// Writes of so many milliseconds may be missing at the new holder: how far it was behind when
    /// the old one last lived. 0 where it had caught up with a fenced holder; `None` where nobody
    /// knows.
    #[serde(default)]
    pub may_be_lost_millis: Option<u64>,
    /// So many transactions of the old holder lay beyond what the new one had; they are set aside
    /// there. `None` until the old holder was looked at.
    #[serde(default)]
    pub stranded: Option<u64>,
}

/// One step of a transition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// For example `Fence`, `CatchUp`, `HandOver`, `Promote`.
    pub name: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// Why an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransitionKind {
    /// The Unit's first primary.
    First,
    /// A planned switchover.
    Switchover,
    /// A failover, asked for or automatic.
    Failover,
    /// The IDC that held the last epoch took it up again after its session was lost, or was
    /// elected for it anew.
    Retake,
}
