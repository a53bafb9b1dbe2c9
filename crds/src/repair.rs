//! `DataRepair`: compares copies and mends what differs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::{ByteSize, Duration};

/// Compares the copies of a Unit or the two ends of a link, and mends what differs. Its spec
/// cannot be changed.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "multiactive.dev",
    version = "v1alpha1",
    kind = "DataRepair",
    namespaced,
    status = "DataRepairStatus",
    derive = "PartialEq",
    category = "multiactive",
    doc = "Compares the copies of a Unit or the two ends of a link, and mends what differs. Its spec cannot be changed.",
    printcolumn(name = "Unit", type_ = "string", json_path = ".spec.unit"),
    printcolumn(name = "Link", type_ = "string", json_path = ".spec.link"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
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
    validation = Rule::new("self == oldSelf").message("the spec of a DataRepair cannot be changed, since it may already be under way: create another DataRepair"),
    validation = Rule::new("has(self.unit) != has(self.link)").message("name either spec.unit or spec.link, one of the two"),
    validation = Rule::new("self.mode == 'Repair' || !has(self.strategy)").message("spec.strategy is only used by mode Repair: remove it or set mode: Repair"),
)]
pub struct DataRepairSpec {
    /// A Unit in the same namespace: all its copies are compared with its primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::LabelName>")]
    pub unit: Option<String>,
    /// A SyncLink in the same namespace: its target is compared with its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::LabelName>")]
    pub link: Option<String>,
    /// Which tables, by patterns. Empty: all that are copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::TablePattern>", length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tables: Vec<String>,
    /// Whether differences are only reported or also mended.
    #[serde(default)]
    pub mode: RepairMode,
    /// Who wins where rows differ. Absent: the Unit's primary, or the link's own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RepairStrategy>,
    /// How much is read at a time.
    #[serde(default = "default_batch")]
    pub max_batch_size: ByteSize,
    /// A difference must last so long to count.
    #[serde(default = "default_consistency_timeout")]
    pub consistency_timeout: Duration,
    /// At most so many rows are mended.
    #[serde(default = "default_row_quota")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub row_quota: u64,
    /// When it is repeated, in cron's five fields. Absent: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,
    /// Print what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// How long the object is kept after it has finished.
    #[serde(default = "default_ttl")]
    pub ttl_after_finished: Duration,
}

fn default_batch() -> ByteSize {
    ByteSize::from_mebibytes(1)
}

fn default_consistency_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_row_quota() -> u64 {
    10_000
}

fn default_ttl() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

/// Whether differences are mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RepairMode {
    /// Only reported.
    #[default]
    Verify,
    /// Mended.
    Repair,
}

/// Who wins where rows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RepairStrategy {
    /// The Unit's primary.
    Primary,
    /// The link's source.
    SourceWins,
    /// The link's target.
    TargetWins,
    /// A person decides, row by row.
    Hold,
}

/// How far a DataRepair is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataRepairStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DataRepairPhase>,
    /// What happened or what is waited for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ready, Progressing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How far a DataRepair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataRepairPhase {
    /// Not begun.
    Pending,
    /// Not begun, and will not be.
    Refused,
}
