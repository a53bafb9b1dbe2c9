//! What there is to show, wherever it was read from: the Kubernetes API or etcd.
//!
//! These are also the documents of `-o json` and `-o yaml`.

use crds::LinkPhase;
use jiff::Timestamp;
use model::{
    Epoch, FenceProof, Finding, IdcName, IdcRole, MemberRole, Phase, PositionText, Receipt,
    TransitionKind, UnitKey,
};
use serde::Serialize;

/// The topology, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// Where it was read.
    pub source: String,
    /// When it was read.
    pub at: Timestamp,
    /// When the operator, whose statuses are shown, gave its last sign of life; `None` where that
    /// is not known, or where etcd itself was read.
    pub operator_seen: Option<Timestamp>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// The IDCs by name.
    pub idcs: Vec<IdcView>,
    /// The Units by namespace and name.
    pub units: Vec<UnitView>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How bad it is.
    pub gravity: Gravity,
    /// What it is about, for example `Unit shop/orders`.
    pub object: String,
    /// What is wrong, as a sentence.
    pub message: String,
    /// Since when it is so; `None` where that is not known.
    pub since: Option<Timestamp>,
    /// What to do: sentences, or commands to type.
    pub next: Vec<String>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Gravity {
    /// Writes stop, or could be lost.
    Critical,
    /// Works, but would not survive the next failure, or needs somebody's attention.
    Warning,
}

/// One IDC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdcView {
    /// Its name.
    pub name: IdcName,
    /// Whether it holds copies.
    pub role: IdcRole,
    /// Whether its arbiter is alive; `None` where that is not known.
    pub arbiter_alive: Option<bool>,
    /// When its arbiter was last heard of.
    pub last_heartbeat: Option<Timestamp>,
    /// Version of its arbiter.
    pub version: Option<String>,
    /// The arbiter's process.
    pub holder: Option<String>,
    /// What is said of its arbiter, as a sentence.
    pub message: String,
    /// The number of Units it is primary for.
    pub primaries: u64,
}

/// One Unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, as documents show them"
)]
pub struct UnitView {
    /// Its namespace and name.
    pub unit: UnitKey,
    /// Where it stands.
    pub phase: UnitPhase,
    /// The IDC that takes its writes.
    pub primary: Option<IdcName>,
    /// The epoch.
    pub epoch: Epoch,
    /// Whether its automation is held, by its spec or by an order.
    pub paused: bool,
    /// Whether its spec says so.
    pub paused_by_spec: bool,
    /// Who holds it by an order in etcd.
    pub pause_order: Option<String>,
    /// A candidate further behind is not promoted without `--allow-data-loss`; milliseconds.
    pub max_lag_millis: u64,
    /// Whether a lost primary is replaced without being asked.
    pub automatic_failover: bool,
    /// Whether somebody said if anything holds that; what holds it is among the complaints.
    pub automation_known: bool,
    /// Its copies, in the Unit's order.
    pub members: Vec<MemberView>,
    /// Its links. Empty where they are not known (etcd holds none).
    pub links: Vec<LinkView>,
    /// A switchover or failover that is under way.
    pub under_way: Option<RequestView>,
    /// How the present epoch began.
    pub last_transition: Option<ReceiptView>,
    /// The conditions that say something is wrong.
    pub complaints: Vec<Complaint>,
}

impl UnitView {
    /// The member in an IDC.
    pub fn member(&self, idc: &IdcName) -> Option<&MemberView> {
        self.members.iter().find(|member| member.idc == *idc)
    }

    /// The condition of this type, if it says that something is wrong.
    pub fn complaint(&self, condition: &str) -> Option<&Complaint> {
        self.complaints
            .iter()
            .find(|complaint| complaint.condition == condition)
    }

    /// The IDCs it has members in.
    pub fn idcs(&self) -> impl Iterator<Item = &IdcName> {
        self.members.iter().map(|member| &member.idc)
    }

    /// The link from one IDC to another.
    pub fn link(&self, source: &IdcName, target: &IdcName) -> Option<&LinkView> {
        self.links
            .iter()
            .find(|link| link.source == *source && link.target == *target)
    }
}

/// Where a Unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum UnitPhase {
    /// Nothing was reported yet.
    Unknown,
    /// It has an open primary.
    Ready,
    /// A primary is being found or opened.
    Electing,
    /// A switchover or failover that was asked for is under way.
    SwitchingOver,
    /// It has none, and none is being found.
    NoPrimary,
    /// Its automation is held.
    Paused,
}

impl UnitPhase {
    /// The word as it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Ready => "Ready",
            Self::Electing => "Electing",
            Self::SwitchingOver => "SwitchingOver",
            Self::NoPrimary => "NoPrimary",
            Self::Paused => "Paused",
        }
    }
}

/// One copy of a Unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Where.
    pub idc: IdcName,
    /// Host and port.
    pub endpoint: String,
    /// Among equals the higher becomes primary.
    pub priority: u32,
    /// What it is.
    pub role: MemberRole,
    /// Whether it accepts writes; `None` where that is not known.
    pub writable: Option<bool>,
    /// Whether its arbiter reaches it; `None` where that is not known.
    pub reachable: Option<bool>,
    /// A replica's age in milliseconds; `None` where it is not known, and for the primary.
    pub lag_millis: Option<u64>,
    /// Whether that is only an upper bound: the age of the newest heartbeat, which is up to a
    /// heartbeat's interval where nothing lags at all.
    pub lag_at_most: bool,
    /// Its position.
    pub position: Option<PositionText>,
    /// Transactions that only this copy has, since a failover left them behind; `None` where
    /// nobody has looked.
    pub stranded: Option<u64>,
    /// What stands against a planned switchover from here, each with what to do; `None` where nobody
    /// has looked.
    pub hindrances: Option<Vec<String>>,
    /// Whether every blocking check of preflight passed; `None` where that is not known for the
    /// single member.
    pub preflight_passed: Option<bool>,
    /// Who has fenced it by an order: it is neither elected nor opened before that is lifted.
    pub fence_order: Option<String>,
    /// What preflight found.
    pub findings: Vec<Finding>,
    /// What its arbiter is doing or waiting for, as a sentence.
    pub message: String,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// Its name.
    pub name: String,
    /// From.
    pub source: IdcName,
    /// To.
    pub target: IdcName,
    /// Where it stands; `None`: suspended, or nothing was reported yet.
    pub phase: Option<LinkPhase>,
    /// Whether it is suspended by its spec.
    pub suspended: bool,
    /// Age of the newest change it applied, in milliseconds.
    pub lag_millis: Option<u64>,
    /// Changes that conflicts have kept from being applied since it began, also those that were
    /// settled since.
    pub conflicts: u64,
    /// Changes that are held as conflicts at its target and wait for a person; `None` where that is
    /// not known here.
    pub conflicts_held: Option<u64>,
    /// Transactions that it was made to skip, filed at its target and not settled; `None` where that
    /// is not known here.
    pub skipped_open: Option<u64>,
    /// Why it does not go on, as a sentence.
    pub message: String,
    /// Since when that is so.
    pub since: Option<Timestamp>,
}

/// A switchover or failover that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    /// The Switchover object's name, or the id of the intent in etcd.
    pub id: String,
    /// True for a switchover, false for a failover.
    pub planned: bool,
    /// Where the primary is to go; `None`: the rules choose.
    pub to: Option<IdcName>,
    /// Whether the new primary may lack writes.
    pub allow_data_loss: bool,
    /// How far it is.
    pub progress: Progress,
    /// When it was asked for.
    pub requested_at: Option<Timestamp>,
}

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all_fields = "camelCase")]
pub enum Progress {
    /// Written down; the operator has not passed it on yet.
    Pending,
    /// Asked of the arbiters.
    Requested,
    /// The target says that it can take over.
    TargetReady {
        /// The target's lag then, in milliseconds.
        lag_millis: Option<u64>,
    },
    /// The old primary is fenced with proof; the target catches up.
    Fenced,
    /// The target holds the primary and is being opened.
    HandedOver {
        /// The new epoch.
        epoch: Option<Epoch>,
    },
    /// The target is open.
    Done {
        /// The new epoch.
        epoch: Option<Epoch>,
    },
    /// Not begun; nothing has changed.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// Begun and rolled back.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl Progress {
    /// Whether nothing further will happen.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Done { .. } | Self::Refused { .. } | Self::Cancelled { .. }
        )
    }
}

/// How an epoch began.
///
/// etcd holds all of it; the Kubernetes API holds all of it for what was asked for by a
/// `Switchover`, and the outline of the last transition of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptView {
    /// The epoch that began.
    pub epoch: Epoch,
    /// `First`, `Switchover`, `Failover` or `Retake`.
    pub kind: String,
    /// The primary before.
    pub from: Option<IdcName>,
    /// The primary since.
    pub to: Option<IdcName>,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When the transition began.
    pub started_at: Option<Timestamp>,
    /// When the new primary was open.
    pub opened_at: Timestamp,
    /// How long nothing was writable, in milliseconds; `None` where the beginning is not known.
    pub write_pause_millis: Option<u64>,
    /// How the old primary is known to be closed, as a sentence; `None` where that is not known
    /// here.
    pub proof: Option<String>,
    /// What the new primary had applied of the old one.
    pub applied: Option<String>,
    /// The steps in order.
    pub phases: Vec<Phase>,
}

impl From<&Receipt> for ReceiptView {
    fn from(receipt: &Receipt) -> Self {
        Self {
            epoch: receipt.epoch,
            kind: match receipt.kind {
                TransitionKind::First => "First",
                TransitionKind::Switchover => "Switchover",
                TransitionKind::Failover => "Failover",
                TransitionKind::Retake => "Retake",
            }
            .to_owned(),
            from: receipt.from.clone(),
            to: Some(receipt.to.clone()),
            reason: receipt.reason.clone(),
            message: receipt.message.clone(),
            started_at: Some(receipt.started_at),
            opened_at: receipt.opened_at,
            write_pause_millis: receipt.write_pause_millis,
            proof: Some(proof(receipt)),
            applied: receipt.applied.as_ref().map(ToString::to_string),
            phases: receipt.phases.clone(),
        }
    }
}

/// How the old primary is known to be closed.
fn proof(receipt: &Receipt) -> String {
    match (&receipt.proof, &receipt.from) {
        (
            Some(FenceProof::Fenced {
                identity,
                position,
                at,
                ..
            }),
            _,
        ) => {
            format!(
                "server {} was fenced at {at:.0}, at position {position}",
                identity.0
            )
        }
        (Some(FenceProof::GuardExpired { identity, at }), _) => format!(
            "server {} was out of reach; its guard's last deadline had passed at {at:.0}",
            identity.0
        ),
        (Some(FenceProof::NeverOpened { at }), _) => {
            format!("it was never opened in that epoch (seen at {at:.0})")
        }
        (None, Some(from)) => format!("the lease of {from} had run out"),
        (None, None) => "none needed: the Unit had no primary before".to_owned(),
    }
}

/// A condition of a custom resource that says something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Complaint {
    /// Its type, for example `FailoverReady`.
    pub condition: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// Since when it says so, as far as that is known.
    pub since: Option<Timestamp>,
}
