//! One Kubernetes cluster for each IDC: what each cluster's operator sees, and what all of them have
//! agreed on. Keys are in the `topology` crate; the decision is in the operator.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{IdcDoc, IdcName};

/// A short hash of a spec: equal specs have equal hashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpecHash(pub String);

impl fmt::Display for SpecHash {
    /// As people are shown it: enough to tell two specs apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0.get(..8).unwrap_or(&self.0))
    }
}

/// The spec of a custom resource without what differs between clusters (uid, generation, status).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenSpec {
    /// Of `spec`.
    pub hash: SpecHash,
    /// The spec as JSON text, whose form only operators know.
    pub spec: String,
}

/// `topology/views/<idc>/units/<namespace>/<name>`: what the cluster of an IDC holds of a Unit. It is
/// not bound to a lease: a cluster whose operator is down holds what it held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "sees")]
pub enum UnitSighting {
    /// The Unit, with this spec.
    Spec(SeenSpec),
    /// It was there and was deleted. Said aloud, since silence may also mean that a manifest has
    /// not arrived yet, and nothing must be ended for that. Taken back once the Unit is not in
    /// force any more.
    Gone,
}

/// `topology/views/<idc>/idcs`, the IDCs that the cluster of one of them holds; and
/// `topology/agreed/idcs`, those that are in force, in one document whose revision tells whether
/// they still are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdcSet {
    /// Each with its document.
    pub idcs: BTreeMap<IdcName, IdcDoc>,
}

/// `topology/syncers/<namespace>/<link>`: where the syncer of a link is reached from other clusters.
/// The operator of the source's IDC says so, that of the target's reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncerAddress {
    /// The source's IDC, whose operator wrote this.
    pub idc: IdcName,
    /// `host:port`.
    pub address: String,
}
