//! The topology as the operator publishes it and the arbiters read it: IDCs and Units.

use serde::{Deserialize, Serialize};

use crate::IdcName;

/// One IDC, at `topology/idcs/<idc>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdcDoc {
    /// Whether the IDC holds copies or only votes.
    pub role: IdcRole,
}

/// What an IDC is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IdcRole {
    /// Holds copies and votes.
    Data,
    /// Votes, holds no copy.
    Witness,
}

/// One Unit, at `topology/units/<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitDoc {
    /// The custom resource's UID, so that a Unit made anew under the same name is told apart.
    pub uid: String,
    /// The custom resource's generation that this document was made from.
    pub generation: i64,
    /// What is copied.
    pub databases: Vec<String>,
    /// One database server an IDC; at least two.
    pub members: Vec<MemberDoc>,
    /// When and how the primary moves.
    pub failover: FailoverPolicy,
    /// How often a member is looked at, and when it counts as down.
    pub heartbeat: HeartbeatCheck,
    /// An application's own health, asked from each member's IDC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationCheck>,
    /// True while people hold the automation: nothing moves, nothing is opened or released on its
    /// own account; the lease's deadline still fences.
    pub paused: bool,
}

impl UnitDoc {
    /// The member in an IDC, if the Unit has one there.
    pub fn member(&self, idc: &IdcName) -> Option<&MemberDoc> {
        self.members.iter().find(|member| member.idc == *idc)
    }
}

/// One copy of a Unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberDoc {
    /// Where it is.
    pub idc: IdcName,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Among candidates that are equally far, the higher one becomes primary.
    pub priority: u32,
}

/// Where a database server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: TlsSettings,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Protection of a database connection. The CA comes with the [`Credentials`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSettings {
    /// What is checked.
    pub mode: TlsMode,
}

/// What of the server's certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Disabled,
    /// TLS, nothing checked: against listeners only.
    Required,
    /// The certificate must be signed by the CA.
    VerifyCa,
    /// The certificate must be signed by the CA and name the host.
    VerifyIdentity,
}

/// An account on one member, as a mounted JSON file holds it. Never published to etcd.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Account name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// PEM of the CA that the server's certificate is checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl std::fmt::Debug for Credentials {
    /// Leaves the password out, so that no log line can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// When and how a Unit's primary moves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverPolicy {
    /// Whether it moves without being asked.
    pub mode: FailoverMode,
    /// A candidate further behind than this, in milliseconds, is not promoted unless data loss is
    /// allowed.
    pub max_lag_millis: u64,
    /// After an automatic failover, none for this long, in milliseconds.
    pub cooldown_millis: u64,
    /// Whether the primary goes back to the highest priority by itself.
    pub failback: FailoverMode,
    /// etcd unreachable: stay primary while every other candidate acknowledges.
    pub failsafe: bool,
}

/// Whether something happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailoverMode {
    /// By itself.
    Automatic,
    /// Only when a person asks.
    Manual,
}

/// The SQL heartbeat of each member. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatCheck {
    /// Time between two.
    pub interval_millis: u64,
    /// An answer later than this counts as none.
    pub timeout_millis: u64,
    /// So many failures in a row make the member down.
    pub failures: u32,
}

/// An application's health by HTTP. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationCheck {
    /// What is fetched; `{idc}` in it stands for the IDC that asks.
    pub url: String,
    /// Time between two.
    pub interval_millis: u64,
    /// An answer later than this counts as none.
    pub timeout_millis: u64,
    /// So many failures in a row count, and so many answers in a row end that.
    pub failures: u32,
}
