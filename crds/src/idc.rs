//! `Idc`: a data centre.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A data centre: it holds copies and votes, or only votes.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "multiactive.dev",
    version = "v1alpha1",
    kind = "Idc",
    status = "IdcStatus",
    derive = "PartialEq",
    category = "multiactive",
    doc = "A data centre: it holds copies and votes, or only votes.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$')").message(Message::Expression("\"Idc '\" + self.metadata.name + \"': choose a metadata.name of 1 to 32 lower-case letters, digits and '-', starting with a letter and not ending with '-'; it becomes part of etcd keys, GTID tags and object names\"".into())),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Arbiter", type_ = "string", json_path = ".status.arbiter.state"),
    printcolumn(name = "Reaches", type_ = "string", json_path = ".status.reaches", description = "Members of this IDC that its arbiter reaches, of all that it has"),
    printcolumn(name = "Primaries", type_ = "integer", json_path = ".status.primaries"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct IdcSpec {
    /// Data: holds copies and votes. Witness: votes and holds no copy.
    #[serde(default)]
    pub role: IdcRole,
    /// Where the pods of this IDC go. Absent: anywhere in this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
}

/// What an IDC is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IdcRole {
    /// Holds copies and votes.
    #[default]
    Data,
    /// Votes and holds no copy.
    Witness,
}

/// Where pods go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node of this IDC has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
}

/// What the operator sees of an IDC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdcStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The IDC's arbiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arbiter: Option<ArbiterSummary>,
    /// How many of the members in this IDC its arbiter reaches, for example `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaches: Option<String>,
    /// The members in this IDC, by Unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["unit".into()]))]
    pub members: Vec<ReachedMember>,
    /// How many Units have their primary here.
    #[serde(default)]
    pub primaries: u32,
    /// Ready, Progressing, Degraded, TopologyAgreed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// An IDC's arbiter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArbiterSummary {
    /// `Active` while its session in etcd lives, else `Lost`.
    pub state: String,
    /// The process that holds the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When its session was last seen to live; set once it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Time>,
}

/// A member and whether it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReachedMember {
    /// `namespace/name` of the Unit.
    pub unit: String,
    /// Whether the arbiter reaches the member's server.
    pub reachable: bool,
}
