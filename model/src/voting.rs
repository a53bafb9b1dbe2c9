//! What arbiters write to etcd while they judge a primary and elect the next one.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Epoch, IdcName, PositionText};

/// `units/<u>/votes/<idc>`, bound to the voter's session: exists only while that IDC's arbiter
/// votes the primary of this epoch down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoteRecord {
    /// The epoch whose primary is voted down. In another epoch the vote counts for nothing.
    pub epoch: Epoch,
    /// The IDC that was elected for that epoch.
    pub against: IdcName,
    /// Why.
    pub ground: VoteGround,
    /// What the voter saw, a line for each signal.
    pub evidence: Vec<Evidence>,
    /// When the verdict was reached, by the voter's clock.
    pub at: Timestamp,
}

/// Why a primary is voted down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VoteGround {
    /// It does not answer, and its heartbeats do not arrive through the link either.
    Unreachable,
    /// It answers, but ordinary writes fail.
    WritesFail,
    /// Nobody has held `primary` for longer than the grace in which the former holder may take it
    /// again, whatever the signals say of its database.
    Vacant,
}

impl VoteGround {
    /// Whether the ground is something seen of the database itself. A vacancy is ended by anybody
    /// who takes `primary`, the former holder too; a database that is down is not.
    pub fn is_about_the_database(self) -> bool {
        self != Self::Vacant
    }
}

impl fmt::Display for VoteGround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "does not answer and is not replicated",
            Self::WritesFail => "refuses ordinary writes",
            Self::Vacant => "nobody holds the primary",
        })
    }
}

/// One independent way of telling whether a member lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// The SQL heartbeat: in the arbiter's own IDC a write, elsewhere a read.
    Sql,
    /// Disk and connections, as far as writes fail for want of them.
    Resources,
    /// The member's heartbeat as it arrives here through the link.
    Replication,
}

/// What one signal showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The signal.
    pub signal: Signal,
    /// How often it failed in a row.
    pub failures: u32,
    /// What it said, for people.
    pub detail: String,
}

/// `units/<u>/bids/<idc>`, bound to the candidate's session, during an election.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BidRecord {
    /// The epoch that ended, or is voted down.
    pub epoch: Epoch,
    /// The highest epoch that the candidate's database has received.
    pub highest_epoch: Epoch,
    /// Up to which number the former holder's own transactions have been applied here without a
    /// gap. What candidates are ranked by.
    pub sequence: Option<u64>,
    /// The same as a position, for people and for the receipt.
    pub position: Option<PositionText>,
    /// How far the candidate was behind at the holder's last sign of life, in milliseconds.
    pub lag_millis: Option<u64>,
    /// Its priority.
    pub priority: u32,
    /// Why it may not be elected; empty if it may.
    pub ineligible: Vec<Ineligible>,
}

/// Why a member may not be elected automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ineligible {
    /// Its arbiter does not reach it.
    Unreachable,
    /// It is not fenced, so that its state is not known.
    NotFenced,
    /// Preflight has not passed.
    Preflight,
    /// It was not seen to come up `read_only` after a restart (MariaDB).
    BootsWritable,
    /// It was further behind than `failover.maxLag` at the holder's last sign of life, or has
    /// never received a heartbeat of it.
    Lag,
    /// Another member has received a later epoch.
    MissesEpoch,
    /// It lost writes that it had before.
    WentBack,
    /// A majority sees its database down.
    VotedDown,
    /// It has promised a holder that cannot reach etcd not to take the Unit, or may have before
    /// it was restarted.
    Promised,
    /// The holder has not confirmed it as a candidate yet.
    NotAdmitted,
    /// It sees less in etcd than it had seen before.
    EtcdWentBack,
    /// It holds transactions of an ended epoch that nobody else has, not taken back yet.
    Stranded,
    /// Tables are still being copied to it, for the first time or anew, so that rows are missing.
    Copying,
    /// A person has taken it out.
    FenceOrdered,
}

impl Ineligible {
    /// What is wrong and what to do, for people.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "its arbiter does not reach its database",
            Self::NotFenced => "it is not fenced",
            Self::Preflight => "preflight has not passed: mactl preflight",
            Self::BootsWritable => {
                "it was not seen to start read_only: set read_only=1 in the server's configuration \
                 and restart it"
            }
            Self::Lag => "it is further behind than failover.maxLag: see its link",
            Self::MissesEpoch => "another member has received a later epoch: see its link",
            Self::WentBack => "it has lost writes that it had before: repair it",
            Self::VotedDown => "a majority of IDCs sees its database down",
            Self::Promised => {
                "it has promised the holder, which cannot reach etcd, to wait; this ends by itself"
            }
            Self::NotAdmitted => "the holder has not confirmed it as a candidate yet",
            Self::Stranded => {
                "it holds writes of an ended epoch that nobody else has, and that were not taken back \
                 yet: see the link to it, and mactl stranded"
            }
            Self::Copying => {
                "tables are still being copied to it, so rows are missing there: see the link to it"
            }
            Self::FenceOrdered => "a person has fenced it: mactl unfence",
            Self::EtcdWentBack => "etcd shows less than before: mactl ack",
        }
    }
}

/// `units/<u>/ack`: somebody has looked at the last automatic failover, or at an etcd that went
/// back in time, and lets automation go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AckRecord {
    /// The epoch that was looked at.
    pub epoch: Epoch,
    /// When, by the clock of whoever did.
    pub at: Timestamp,
}
