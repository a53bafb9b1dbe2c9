//! `DataRepair`: compares copies and mends what differs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use model::IdcName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::{ByteSize, Duration};

/// Compares the copies of a Unit or the two ends of a link, and mends what differs, or copies whole
/// tables anew. Its spec cannot be changed.
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
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "Divergent",
        type_ = "integer",
        json_path = ".status.counts.divergent"
    ),
    printcolumn(
        name = "Repaired",
        type_ = "integer",
        json_path = ".status.counts.repaired"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextScheduleTime",
        priority = 1
    ),
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
    validation = Rule::new("(self.mode == 'Undo') == has(self.run)").message("spec.run and mode Undo belong together: name the run to take back, as status.run of its DataRepair says, or remove spec.run"),
    validation = Rule::new("!has(self.idc) || has(self.unit)").message("spec.idc says which copy of spec.unit is meant: name a Unit, or remove spec.idc"),
    validation = Rule::new("self.mode != 'Rebuild' || has(self.link) || has(self.idc)").message("mode Rebuild empties and copies anew one copy at a time: name its IDC in spec.idc, or the link to it in spec.link"),
    validation = Rule::new("self.mode != 'Rebuild' || (!has(self.schedule) && !self.dryRun)").message("mode Rebuild happens once and for good: remove spec.schedule and spec.dryRun"),
    validation = Rule::new("self.mode != 'Undo' || (!has(self.schedule) && !self.dryRun)").message("mode Undo happens once and for good: remove spec.schedule and spec.dryRun"),
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
    /// Only the copy in this IDC. Absent: every copy of the Unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::IdcName>")]
    pub idc: Option<IdcName>,
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
    /// How long rows that look different are looked at again, while the link brings what is on its way,
    /// before they count as unjudged.
    #[serde(default = "default_consistency_timeout")]
    pub consistency_timeout: Duration,
    /// At most so many rows are mended on each link; with more differences than that its run stops.
    #[serde(default = "default_row_quota")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub row_quota: u64,
    /// Mode Undo only: the run whose mended rows are given back their values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub run: Option<String>,
    /// What it leaves to others.
    #[serde(default)]
    pub throttle: RepairThrottle,
    /// When it is repeated, in cron's five fields, in UTC. Absent: once.
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
    /// What an earlier run mended is taken back, row by row.
    Undo,
    /// Whole tables of one copy are emptied and copied anew through its link, which goes on.
    Rebuild,
}

/// What a run must leave to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepairThrottle {
    /// The part of the time in which it reads, in percent.
    #[serde(default = "default_share")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// It waits while the link is further behind than this.
    #[serde(default = "default_lag")]
    pub max_lag: Duration,
    /// It waits while either server runs more threads than this.
    #[serde(default = "default_threads")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_threads_running: u64,
}

impl Default for RepairThrottle {
    fn default() -> Self {
        Self {
            percent: default_share(),
            max_lag: default_lag(),
            max_threads_running: default_threads(),
        }
    }
}

fn default_share() -> u32 {
    50
}

fn default_lag() -> Duration {
    Duration::from_secs(5)
}

fn default_threads() -> u64 {
    50
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
    /// The run: what it found is kept under this name in `multiactive.repairs` at the targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The epoch in which the run was begun; it does not go on in another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// When the run was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it had ended, one way or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The time of the schedule that the run was begun for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// The next time of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// The part of the rows that was compared, as far as their number is known: `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// About how long it will still take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub remaining: Option<Duration>,
    /// Sums over all links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RepairCounts>,
    /// The links of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub links: Vec<LinkRepair>,
    /// The run before, of a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RepairRun>,
    /// Ready: it has ended, everything was compared, and nothing is left that differs.
    /// Progressing: it is under way. Diverged: rows differ that are not mended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What was compared and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RepairCounts {
    /// Tables to compare, those included that cannot be.
    pub tables: u64,
    /// Tables whose every row was compared.
    pub tables_done: u64,
    /// Tables that cannot be compared.
    pub tables_refused: u64,
    /// Tables that the target lacks; their rows are not counted.
    pub tables_missing: u64,
    /// How many rows there are to compare, as the servers estimate.
    pub rows_estimate: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ: missing, extra and differing ones.
    pub divergent: u64,
    /// Rows that the target lacks.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Rows with other values.
    pub differing: u64,
    /// Divergent rows that were mended.
    pub repaired: u64,
    /// Divergent rows that could not be mended.
    pub failed: u64,
    /// Rows that differed while the link did not catch up in time; not counted as divergent.
    pub unjudged: u64,
    /// Mended rows that were given back their values.
    pub undone: u64,
}

impl RepairCounts {
    /// Rows that differ and are not mended.
    pub fn rows_left(&self) -> u64 {
        self.divergent.saturating_sub(self.repaired) + self.undone
    }
}

/// A link of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkRepair {
    /// The `SyncLink`.
    pub link: String,
    /// The IDC it comes from.
    #[schemars(with = "String")]
    pub source: IdcName,
    /// The IDC whose copy is compared.
    #[schemars(with = "String")]
    pub target: IdcName,
    /// How far it is.
    pub phase: DataRepairPhase,
    /// What it waits for or why it ended; empty while it goes on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// About how long it will still take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub remaining: Option<Duration>,
    /// Sums over its tables.
    #[serde(default)]
    pub counts: RepairCounts,
    /// Tables about which there is something to say: rows differ, or it cannot be compared. At most
    /// 100 of them; the counts are of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<RepairedTable>,
    /// Of a dry run: the first 20 statements that would mend rows, each cut after 1000 characters. All
    /// of them are in `multiactive.repairs` at the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
}

/// A table with something to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepairedTable {
    /// `database.table`.
    pub table: String,
    /// Why it is not compared; empty: it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// The target lacks the table: only a rebuild of it mends that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub table_missing: bool,
    /// Rows compared.
    pub rows: u64,
    /// Rows that the target lacks.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Rows with other values.
    pub differing: u64,
    /// Of these, rows that were mended.
    pub repaired: u64,
    /// Of these, rows that could not be mended.
    pub failed: u64,
    /// Rows that could not be judged.
    pub unjudged: u64,
    /// Mended rows that were given back their values.
    pub undone: u64,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepairRun {
    /// Its name.
    pub run: String,
    /// How it ended.
    pub phase: DataRepairPhase,
    /// Why, in a sentence.
    pub message: String,
    /// When it had ended.
    pub completion_time: Time,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RepairCounts>,
}

/// How far a DataRepair is. `Done`, `Incomplete`, `Stopped` and `Refused` end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataRepairPhase {
    /// Not begun.
    Pending,
    /// Comparing, and mending if it shall.
    Running,
    /// A person paused it.
    Paused,
    /// Every row of every table was compared.
    Done,
    /// It is through, and some tables or rows could not be judged.
    Incomplete,
    /// It ended before it was through: the quota, or a person.
    Stopped,
    /// Not begun, or it must not go on.
    Refused,
}

impl DataRepairPhase {
    /// Whether the run has ended.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Paused)
    }
}
