//! `SyncLink`: copies one database server's changes to another.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use model::IdcName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::{ByteSize, Duration, Endpoint, Member};

/// Copies the changes of one member to another.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "multiactive.dev",
    version = "v1alpha1",
    kind = "SyncLink",
    namespaced,
    status = "SyncLinkStatus",
    derive = "PartialEq",
    shortname = "sl",
    category = "multiactive",
    doc = "Copies the changes of one member to another.",
    validation = Rule::new("size(self.metadata.name) <= 52 && !self.metadata.name.contains('.')").message(Message::Expression("\"SyncLink '\" + self.metadata.name + \"': choose a metadata.name of at most 52 characters without dots; its Services and Deployments are named after it\"".into())),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source.idc"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.idc"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.lag"),
    printcolumn(name = "Rate", type_ = "string", json_path = ".status.rate"),
    printcolumn(name = "Conflicts", type_ = "integer", json_path = ".status.ledger.conflicts"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.target.idc) || self.source.idc != self.target.idc").message(Message::Expression("\"spec.source.idc and spec.target.idc are both '\" + self.source.idc + \"': a link joins two different IDCs\"".into())),
    validation = Rule::new("!has(self.unit) || (!has(self.source.endpoint) && !has(self.source.credentialsSecret) && !has(self.target.endpoint) && !has(self.target.credentialsSecret))").message("spec.unit is set, and endpoints and credentials come from the Unit: remove endpoint and credentialsSecret from spec.source and spec.target, or remove spec.unit"),
    validation = Rule::new("has(self.unit) || (has(self.source.endpoint) && has(self.source.credentialsSecret))").message("spec.source names no database: set spec.unit, or give spec.source an endpoint and a credentialsSecret"),
    validation = Rule::new("has(self.unit) || has(self.target.kafka) || (has(self.target.endpoint) && has(self.target.credentialsSecret))").message("spec.target names no database: set spec.unit, or give spec.target an endpoint and a credentialsSecret, or kafka"),
    validation = Rule::new("has(self.target.kafka) || has(self.target.idc)").message("spec.target has neither idc nor kafka: say where the changes go"),
    validation = Rule::new("!has(self.target.kafka) || (!has(self.target.idc) && !has(self.target.endpoint) && !has(self.target.credentialsSecret))").message("spec.target.kafka stands alone: remove idc, endpoint and credentialsSecret from spec.target, or remove kafka"),
    validation = Rule::new("!has(self.source.endpoint) || !has(self.target.endpoint) || self.source.endpoint.host != self.target.endpoint.host || self.source.endpoint.port != self.target.endpoint.port").message("spec.source and spec.target are the same server: a link copies between two servers"),
)]
pub struct SyncLinkSpec {
    /// The Unit in the same namespace from which endpoints and epochs come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::LabelName>")]
    pub unit: Option<String>,
    /// Where changes come from.
    pub source: LinkSource,
    /// Where they go.
    pub target: LinkTarget,
    /// Everything that a Unit's linkTemplate can set as well.
    #[serde(flatten)]
    pub options: LinkOptions,
    /// True stops both ends; the checkpoint in the target stays.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspended: bool,
}

impl SyncLinkSpec {
    /// Source and target of a link without a Unit, as a Unit's members are told; `None` under a Unit,
    /// or where the target is no database.
    pub fn own_ends(&self) -> Option<[Member; 2]> {
        let (source, target) = (&self.source, &self.target);
        let source = Member {
            idc: source.idc.clone(),
            endpoint: source.endpoint.clone()?,
            credentials_secret: source.credentials_secret.clone()?,
            priority: 0,
        };
        let target = Member {
            idc: target.idc.clone()?,
            endpoint: target.endpoint.clone()?,
            credentials_secret: target.credentials_secret.clone()?,
            priority: 0,
        };
        Some([source, target])
    }
}

/// Whoever does not suspend a link leaves the field to whoever does.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
fn is_false(value: &bool) -> bool {
    !*value
}

/// Where changes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkSource {
    /// The IDC.
    #[schemars(with = "schema::IdcName")]
    pub idc: IdcName,
    /// Without a unit: the database server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Without a unit: a Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::SecretName>")]
    pub credentials_secret: Option<String>,
}

/// Where changes go: a database, or a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkTarget {
    /// The IDC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::IdcName>")]
    pub idc: Option<IdcName>,
    /// Without a unit: the database server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Without a unit: a Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::SecretName>")]
    pub credentials_secret: Option<String>,
    /// A change feed for other consumers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaTarget>,
}

/// A change feed in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTarget {
    /// `host:port`, several separated by commas.
    #[schemars(length(min = 1, max = 1024))]
    pub bootstrap_servers: String,
    /// The topic.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// A Secret with what is needed to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::SecretName>")]
    pub secret: Option<String>,
}

/// Kafka between syncer and writer.
pub type KafkaTransport = KafkaTarget;

/// What a SyncLink can be told, and a Unit's linkTemplate as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.transport == 'Kafka') == has(self.kafka)").message("transport and kafka go together: set kafka with bootstrapServers and topic for transport: Kafka, and remove it for transport: Direct"))]
pub struct LinkOptions {
    /// Which tables.
    #[serde(default)]
    pub tables: Tables,
    /// How rows that exist before the stream get across.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// How changes travel.
    #[serde(default)]
    pub transport: Transport,
    /// The topic of `transport: Kafka`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaTransport>,
    /// Compression on the way.
    #[serde(default)]
    pub compression: Compression,
    /// How changes are applied.
    #[serde(default)]
    pub apply: Apply,
    /// What happens where both sides changed a row. Absent: the link halts; it is noticed by the key
    /// under a Unit, which has one writer, and by the rows' contents without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,
    /// What happens to DDL of the source.
    #[serde(default)]
    pub ddl: DdlPolicy,
    /// Star topologies: also send what came from other IDCs.
    #[serde(default)]
    pub relay: bool,
    /// Overrides for some tables, by data class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub classes: Vec<Class>,
}

/// Which tables a link copies, by patterns `database.table` with `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tables {
    /// Copied if one matches. Empty: all tables of the Unit's databases. Without a Unit it says which
    /// databases there are, so it cannot be empty then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::TablePattern>", length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub include: Vec<String>,
    /// Not copied if one matches, whatever `include` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::TablePattern>", length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub exclude: Vec<String>,
    /// Copied under another name; the first match counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub routes: Vec<Route>,
}

/// Sends what matches `from` to the table `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.to.contains('*')").message(Message::Expression("\"routes: to is '\" + self.to + \"': name one table, without *\"".into())))]
pub struct Route {
    /// A pattern.
    #[schemars(with = "schema::TablePattern")]
    pub from: String,
    /// One table.
    #[schemars(with = "schema::TablePattern")]
    pub to: String,
}

/// How rows that exist before the stream get across.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    /// Whether.
    pub mode: SnapshotMode,
    /// About how much is read at a time.
    pub chunk_bytes: ByteSize,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            mode: SnapshotMode::IfEmpty,
            chunk_bytes: ByteSize::from_mebibytes(4),
        }
    }
}

/// Whether rows that exist before the stream are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotMode {
    /// Of tables that are empty or missing at the target.
    IfEmpty,
    /// Of every table.
    Always,
    /// Of none.
    Never,
}

/// How changes travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// The writer pulls a gRPC stream from the syncer.
    #[default]
    Direct,
    /// Through a Kafka topic.
    Kafka,
}

/// Compression on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compression {
    /// None.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard, level 1.
    #[default]
    Zstd,
}

/// How changes are applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Apply {
    /// What readers of the target may see.
    pub consistency: Consistency,
    /// How many apply in parallel; absent: as many as the writer can. More than 1 is not supported
    /// yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: Option<u32>,
    /// How changes are put together.
    pub batch: Batch,
}

impl Default for Apply {
    fn default() -> Self {
        Self {
            consistency: Consistency::Transactional,
            workers: None,
            batch: Batch::default(),
        }
    }
}

/// What readers of the target may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Consistency {
    /// Source transactions whole and in order.
    Transactional,
    /// Rows ordered per key, merged.
    Eventual,
}

/// How changes are put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Batch {
    /// At most so many rows in one transaction at the target.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_rows: u32,
    /// How long to wait for more.
    #[schemars(with = "schema::Linger")]
    pub linger: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_rows: 1000,
            linger: Duration::from_millis(5),
        }
    }
}

/// What happens where both sides changed a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.resolve != 'LastWriteWins' || has(self.column)").message("conflicts.resolve LastWriteWins compares a column: set conflicts.column to the column that holds the time of the last write, for example updated_at"),
    validation = Rule::new("self.resolve == 'Halt' || self.detect == 'BeforeImage'").message("conflicts.resolve other than Halt compares rows before they are changed: set conflicts.detect to BeforeImage, or conflicts.resolve to Halt"),
    validation = Rule::new("self.resolve != 'Delta' || (has(self.counters) && size(self.counters) > 0)").message("conflicts.resolve Delta adds counters up: name them in conflicts.counters, for example [\"orders.stock.quantity\"]"),
    validation = Rule::new("self.resolve == 'Delta' || !has(self.counters)").message("conflicts.counters is only used by resolve Delta: remove it or choose Delta"),
    validation = Rule::new("self.resolve == 'LastWriteWins' || !has(self.column)").message("conflicts.column is only used by resolve LastWriteWins: remove it or choose LastWriteWins"),
)]
pub struct Conflicts {
    /// How a conflict is noticed.
    #[serde(default)]
    pub detect: ConflictDetection,
    /// What becomes of it.
    #[serde(default)]
    pub resolve: ConflictResolution,
    /// The column that LastWriteWins compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub column: Option<String>,
    /// The integer columns that Delta adds up, as `database.table.column` of the source; of a time
    /// among them the later value stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::CounterColumn>", length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub counters: Vec<String>,
}

/// How a conflict is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConflictDetection {
    /// The key is missing or already there.
    #[default]
    Key,
    /// The row differs from what the source had before its change.
    BeforeImage,
}

/// What becomes of a conflict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConflictResolution {
    /// The link halts with the row shown.
    #[default]
    Halt,
    /// The change is set aside for a person, and the link goes on.
    Hold,
    /// The source's row is put.
    SourceWins,
    /// The target's row stays.
    TargetWins,
    /// The later one by a column, ties by the IDC's priority.
    LastWriteWins,
    /// The IDC of higher priority.
    IdcPriority,
    /// What the source added to counters is added to the target's; the rest of a row as by Hold.
    Delta,
}

/// What happens to DDL of the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DdlPolicy {
    /// Replayed at the target.
    #[default]
    Apply,
    /// Left out and counted.
    Ignore,
    /// Stops the link with the statement shown.
    Halt,
}

/// Other settings for some tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Class {
    /// Which tables.
    #[schemars(with = "Vec<schema::TablePattern>", length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tables: Vec<String>,
    /// How their changes are applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Apply>,
    /// What happens to their conflicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,
}

/// What the operator sees of a link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncLinkStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the link stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<LinkPhase>,
    /// Progress of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotStatus>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<PositionStatus>,
    /// The age of the newest change that arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lag: Option<Duration>,
    /// Changes a second, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Where each change went: `read = applied + filtered + conflicts + stranded + held + inFlight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// The transaction of the source that it is halted at, where it is halted at one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted_at: Option<HaltedAtStatus>,
    /// How many changes are held as conflicts at the target and wait for a person; absent before its
    /// writer has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts_held: Option<u64>,
    /// How many transactions that it was made to skip are filed at the target and not settled; absent
    /// before its writer has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_open: Option<u64>,
    /// Ready, Progressing, Degraded, PreflightPassed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkPhase {
    /// Not begun.
    Pending,
    /// Copying rows that exist.
    Snapshotting,
    /// Following closely.
    Streaming,
    /// Following from further behind.
    CatchingUp,
    /// Stopped by a failure that it tries again, for example a server out of reach.
    Interrupted,
    /// Stopped by something a person has to decide.
    Halted,
    /// Stopped by `suspended: true`.
    Suspended,
}

/// Progress of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// Tables to copy.
    pub tables: u64,
    /// Tables copied.
    pub done: u64,
    /// Rows copied.
    pub rows: u64,
}

/// How far a link is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PositionStatus {
    /// The newest position received from the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The checkpoint at the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
}

/// Where each change went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Read from the source.
    pub read: u64,
    /// Committed at the target.
    pub applied: u64,
    /// Left out on purpose.
    pub filtered: u64,
    /// Not applied because of a conflict: held, or lost to the target's row.
    pub conflicts: u64,
    /// Set aside in `multiactive.stranded`, since their epoch had ended.
    #[serde(default)]
    pub stranded: u64,
    /// Set aside in `multiactive.held`, since a person had the link skip their transactions.
    #[serde(default)]
    pub held: u64,
    /// None of these yet.
    pub in_flight: u64,
}

/// The transaction of the source that a link is halted at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HaltedAtStatus {
    /// Its GTID at the source.
    pub gtid: String,
    /// Whether the link can set it aside and go on after it (`mactl link skip`).
    pub skippable: bool,
}
