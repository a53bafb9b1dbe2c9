//! `Unit`: a slice of the business that takes its writes in one IDC at a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use model::IdcName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::{Duration, LinkOptions};

/// A slice of the business: its databases, the servers that hold copies of them, and the rules by
/// which its primary moves.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "multiactive.dev",
    version = "v1alpha1",
    kind = "Unit",
    namespaced,
    status = "UnitStatus",
    derive = "PartialEq",
    shortname = "unit",
    category = "multiactive",
    doc = "A slice of the business: its databases, the servers that hold copies of them, and the rules by which its primary moves.",
    validation = Rule::new("size(self.metadata.name) <= 40 && !self.metadata.name.contains('.')").message(Message::Expression("\"Unit '\" + self.metadata.name + \"': choose a metadata.name of at most 40 characters without dots; Services and SyncLinks are named after it\"".into())),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.lag"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("size(self.databases) >= 1").message("spec.databases is empty: name at least one database to copy"),
    validation = Rule::new("self.databases.all(d, self.databases.exists_one(e, e == d))").message("spec.databases names a database twice: remove the duplicate"),
    validation = Rule::new("size(self.members) >= 2").message("spec.members has fewer than two members: with one there is nowhere to switch to; add a member in another IDC"),
    validation = Rule::new("self.members.all(m, self.members.exists_one(n, n.idc == m.idc))").message("spec.members has two members in one IDC: keep one of them, or give the other an IDC of its own"),
    validation = Rule::new("self.members.all(m, self.members.exists_one(n, n.endpoint.host == m.endpoint.host && n.endpoint.port == m.endpoint.port))").message("spec.members has two members with the same endpoint: each member is a database server of its own"),
)]
pub struct UnitSpec {
    /// The databases that are copied. The Unit owns its servers: two Units on one are refused.
    #[schemars(with = "Vec<schema::DatabaseName>", length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub databases: Vec<String>,
    /// One database server an IDC; at least two.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["idc".into()]))]
    pub members: Vec<Member>,
    /// When and how the primary moves.
    #[serde(default)]
    pub failover: Failover,
    /// How the members are watched.
    #[serde(default)]
    pub health_checks: HealthChecks,
    /// Mesh: the operator makes the SyncLinks between all members. None: it makes none.
    #[serde(default)]
    pub links: LinkLayout,
    /// Optional fields of a SyncLink's spec, for those that the operator makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_template: Option<LinkOptions>,
    /// How applications find the primary.
    #[serde(default)]
    pub routing: Routing,
    /// True while people hold the automation: nothing moves, opens or is released on its own.
    #[serde(default)]
    pub paused: bool,
}

/// One copy of a Unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The name of the Idc.
    #[schemars(with = "schema::IdcName")]
    pub idc: IdcName,
    /// The database server.
    pub endpoint: Endpoint,
    /// A Secret in the Unit's namespace with the keys `username` and `password`.
    #[schemars(with = "schema::SecretName")]
    pub credentials_secret: String,
    /// Among candidates that are equally far, the higher one becomes primary.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: u32,
}

/// Where a database server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// A DNS name or an IP address.
    #[schemars(with = "schema::HostName")]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How connections are protected.
    #[serde(default)]
    pub tls: Tls,
}

/// Protection of connections to a database server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.mode in ['VerifyCa', 'VerifyIdentity']) || has(self.caSecret)").message("tls.mode checks the server's certificate, which needs the CA: set tls.caSecret to a Secret with the key ca.crt, or choose the mode Required or Disabled"),
    validation = Rule::new("self.mode in ['VerifyCa', 'VerifyIdentity'] || !has(self.caSecret)").message("tls.caSecret is set but tls.mode checks no certificate: choose the mode VerifyCa or VerifyIdentity, or remove tls.caSecret"),
)]
pub struct Tls {
    /// What of the server's certificate is checked.
    #[serde(default)]
    pub mode: TlsMode,
    /// A Secret in the same namespace with the key `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::SecretName>")]
    pub ca_secret: Option<String>,
}

/// What of a server's certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Disabled,
    /// TLS, and nothing is checked: protects against listeners only.
    Required,
    /// The certificate must be signed by the CA.
    VerifyCa,
    /// The certificate must be signed by the CA and name the host.
    VerifyIdentity,
}

/// When and how the primary moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// Whether the primary moves without being asked.
    pub mode: Automation,
    /// A candidate further behind is not promoted unless data loss is allowed.
    #[schemars(with = "schema::MaxLag")]
    pub max_lag: Duration,
    /// After an automatic failover, none for this long.
    pub cooldown: Duration,
    /// Whether the primary goes back to the member of highest priority by itself.
    pub failback: Automation,
    /// With etcd out of reach, stay primary while every other candidate acknowledges.
    pub failsafe: bool,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            mode: Automation::Automatic,
            max_lag: Duration::from_secs(5),
            cooldown: Duration::from_secs(600),
            failback: Automation::Manual,
            failsafe: true,
        }
    }
}

/// Whether something happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Automation {
    /// By itself.
    Automatic,
    /// Only when a person asks.
    Manual,
}

/// How members are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthChecks {
    /// The SQL heartbeat.
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// An application's own health, fetched beside the heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// The age of the copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationCheck>,
}

/// The SQL heartbeat of each member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    /// Time between two.
    #[schemars(with = "schema::Interval")]
    pub interval: Duration,
    /// An answer later than this counts as none.
    #[schemars(with = "schema::Timeout")]
    pub timeout: Duration,
    /// So many failures in a row make the member down.
    #[schemars(range(min = 1, max = 100))]
    pub failures: u32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            failures: 3,
        }
    }
}

/// A health check by HTTP: 2xx is well, everything else is not. Each arbiter of a member asks, from
/// its IDC. It makes the Unit Degraded and never moves the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// What is fetched; `{idc}` in it stands for the name of the IDC that asks.
    #[schemars(with = "schema::HttpUrl")]
    pub url: String,
    /// Time between two.
    #[serde(default = "default_http_interval")]
    #[schemars(with = "schema::Interval")]
    pub interval: Duration,
    /// An answer later than this counts as none.
    #[serde(default = "default_http_timeout")]
    #[schemars(with = "schema::Timeout")]
    pub timeout: Duration,
    /// So many failures in a row count.
    #[serde(default = "default_http_failures")]
    #[schemars(range(min = 1, max = 100))]
    pub failures: u32,
}

/// The age of the copies. Degrades the Unit, never fails over by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationCheck {
    /// A copy older than this makes the Unit Degraded.
    #[schemars(with = "schema::MaxLag")]
    pub max_lag: Duration,
}

/// Which SyncLinks the operator makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkLayout {
    /// One from each member to each other member.
    #[default]
    Mesh,
    /// None.
    None,
}

/// How applications find the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Routing {
    /// Whether the operator makes the Services `<unit>-rw` and `<unit>-ro`.
    pub service: bool,
}

impl Default for Routing {
    fn default() -> Self {
        Self { service: true }
    }
}

/// What the operator sees of a Unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the Unit stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<UnitPhase>,
    /// The IDC that takes the writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub primary: Option<IdcName>,
    /// How many times a primary was elected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The age of the oldest copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lag: Option<Duration>,
    /// Each member as its own arbiter sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["idc".into()]))]
    pub members: Vec<MemberSummary>,
    /// Who holds the automation by an order in etcd, beside `spec.paused`; absent while nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_order: Option<String>,
    /// How the present primary came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<LastTransition>,
    /// Ready, Progressing, Degraded, FailoverReady, Fenced, TopologyAgreed, PreflightPassed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a Unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnitPhase {
    /// A primary is open for writing.
    Ready,
    /// A primary is being elected or promoted.
    Electing,
    /// A switchover or failover that was asked for is under way.
    SwitchingOver,
    /// Nobody takes writes.
    NoPrimary,
    /// People hold the automation.
    Paused,
}

/// One member as its own arbiter sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberSummary {
    /// Its IDC.
    #[schemars(with = "String")]
    pub idc: IdcName,
    /// What it is now.
    pub role: MemberRole,
    /// Whether it accepts writes, as last seen; absent while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<bool>,
    /// Whether its arbiter reaches it; absent while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
    /// Its replication position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// How far it is behind the primary: the lag of the link from there while that streams,
    /// otherwise the age of the primary's newest heartbeat here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lag: Option<Duration>,
    /// Transactions of an ended epoch that never left this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stranded_transactions: Option<u64>,
    /// What stands against a planned switchover from here, and what to do; absent while nobody has
    /// looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrances: Option<Vec<String>>,
    /// Who has fenced it by an order, with `mactl fence`; absent while nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_order: Option<String>,
    /// What its arbiter is doing or waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// Takes the writes.
    Primary,
    /// Follows.
    Replica,
    /// Not known: its arbiter does not answer or never reached it.
    Unknown,
}

/// How the present primary came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastTransition {
    /// First, Switchover, Failover or Retake.
    pub kind: String,
    /// The primary before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from: Option<IdcName>,
    /// The primary since.
    #[schemars(with = "String")]
    pub to: IdcName,
    /// The epoch that began.
    pub epoch: u64,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When the new primary was open.
    pub at: Time,
    /// For how long nobody took writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub write_pause: Option<Duration>,
    /// The command that shows the receipt.
    pub receipt: String,
}

fn default_priority() -> u32 {
    100
}

fn default_port() -> u16 {
    3306
}

fn default_http_interval() -> Duration {
    Duration::from_secs(5)
}

fn default_http_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_http_failures() -> u32 {
    2
}
