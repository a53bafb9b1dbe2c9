//! `Switchover`: asks once that a Unit's primary moves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use model::IdcName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::schema;

/// Asks once that a Unit's primary moves. Its spec cannot be changed; it is kept as history until
/// its TTL has passed.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "multiactive.dev",
    version = "v1alpha1",
    kind = "Switchover",
    namespaced,
    status = "SwitchoverStatus",
    derive = "PartialEq",
    category = "multiactive",
    doc = "Asks once that a Unit's primary moves. Its spec cannot be changed; it is kept as history until its TTL has passed.",
    printcolumn(name = "Unit", type_ = "string", json_path = ".spec.unit"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.from"),
    printcolumn(name = "To", type_ = "string", json_path = ".status.to"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Pause", type_ = "string", json_path = ".status.writePause"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("the spec of a Switchover cannot be changed, since it may already be under way: create another Switchover"),
    validation = Rule::new("self.kind != 'Planned' || has(self.to)").message("a planned Switchover needs spec.to: the IDC that is to take the writes"),
    validation = Rule::new("self.kind == 'Forced' || !self.allowDataLoss").message("spec.allowDataLoss is only for kind Forced: a planned Switchover loses nothing or does not happen; remove allowDataLoss or set kind: Forced"),
    validation = Rule::new("!self.expectNoPrimary || self.kind == 'Forced'").message("spec.expectNoPrimary is only for kind Forced: a planned Switchover moves the writes of a primary there is; remove expectNoPrimary or set kind: Forced"),
    validation = Rule::new("!self.expectNoPrimary || !has(self.expectedPrimary)").message(Message::Expression("\"spec.expectNoPrimary is true and spec.expectedPrimary is '\" + self.expectedPrimary + \"': they contradict each other; remove one of them\"".into())),
    validation = Rule::new("!has(self.to) || !has(self.expectedPrimary) || self.to != self.expectedPrimary").message(Message::Expression("\"spec.to and spec.expectedPrimary are both '\" + self.to + \"': there is nothing to move; choose another spec.to\"".into())),
)]
pub struct SwitchoverSpec {
    /// The Unit, in the same namespace.
    #[schemars(with = "schema::LabelName")]
    pub unit: String,
    /// The IDC that is to take the writes. A forced one may leave the choice to the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::IdcName>")]
    pub to: Option<IdcName>,
    /// Refuse unless this IDC is primary. Absent: whichever is primary when it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::IdcName>")]
    pub expected_primary: Option<IdcName>,
    /// Forced only: refuse if there is a primary, also one that came back in the meantime.
    #[serde(default)]
    pub expect_no_primary: bool,
    /// Planned: nothing is lost, rolled back if it cannot be done. Forced: the primary is believed
    /// lost; still through fencing and the lease.
    #[serde(default)]
    pub kind: SwitchoverKind,
    /// Forced only: promote even if writes may be missing.
    #[serde(default)]
    pub allow_data_loss: bool,
    /// Check only, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// How long the object is kept after it has finished.
    #[serde(default = "default_ttl")]
    pub ttl_after_finished: Duration,
}

fn default_ttl() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

/// Whether the primary is believed to live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SwitchoverKind {
    /// It lives, and nothing is lost.
    #[default]
    Planned,
    /// It is believed lost.
    Forced,
}

/// How far a Switchover is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchoverStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<SwitchoverPhase>,
    /// What happened or what is waited for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The primary before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from: Option<IdcName>,
    /// The primary that is asked for, or that came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub to: Option<IdcName>,
    /// The epoch in which it was asked for: it does not happen in another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_epoch: Option<u64>,
    /// The epoch that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// For how long nobody took writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub write_pause: Option<Duration>,
    /// When it was asked of the arbiters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it had finished, one way or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Who decided, on what, and how long each phase took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptStatus>,
    /// Ready: it has succeeded. Progressing: it is under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How far a Switchover is. `Succeeded`, `Refused`, `Cancelled` and `Checked` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SwitchoverPhase {
    /// Not asked of the arbiters yet.
    Pending,
    /// The target's arbiter checks its side.
    Requested,
    /// The target is ready; the old primary is about to be fenced.
    TargetReady,
    /// Writes have stopped at the old primary; the target catches up.
    Fenced,
    /// The target holds the new epoch and is about to open.
    HandedOver,
    /// The target takes the writes.
    Succeeded,
    /// Not begun, since a check failed; nothing has changed.
    Refused,
    /// Begun and rolled back.
    Cancelled,
    /// A dry run whose checks passed.
    Checked,
}

impl SwitchoverPhase {
    /// Whether nothing further will happen.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Refused | Self::Cancelled | Self::Checked
        )
    }
}

/// The receipt of a transition, as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptStatus {
    /// The epoch that began.
    pub epoch: u64,
    /// First, Switchover, Failover or Retake.
    pub kind: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When the transition began.
    pub started_at: Time,
    /// When the new primary was open.
    pub opened_at: Time,
    /// How the old primary is known to be fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// What the new primary had applied of the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// The steps in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseDuration>,
}

/// One step of a transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseDuration {
    /// For example Fence, CatchUp, HandOver, Promote.
    pub name: String,
    /// How long it took.
    #[schemars(with = "String")]
    pub duration: Duration,
}
