//! What a person orders, for as long as it stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::IdcName;

/// `units/<u>/fenced/<idc>`: a person takes this member out, and it is not opened before the order
/// is lifted; or `units/<u>/paused`: a person holds the Unit's automation.
///
/// An order is the presence of its key. It is bound to no lease, so it outlives every process, and
/// it lasts until somebody lifts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Who gave it, by their own word.
    pub by: String,
    /// When, by the clock of whoever did.
    pub at: Timestamp,
    /// Why; empty where nobody said.
    #[serde(default)]
    pub reason: String,
}

impl std::fmt::Display for Order {
    /// As in `by ann at 2026-05-01T10:00:00Z: the disk is to be replaced`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "by {} at {:.0}", self.by, self.at)?;
        if self.reason.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.reason)
    }
}

/// What a person asks for: an order, or that one be lifted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderRequest {
    /// What is to change.
    pub change: OrderChange,
    /// Who asks, when and why; as it is kept while the order stands.
    pub order: Order,
}

/// What an order changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum OrderChange {
    /// A member is taken out.
    Fence {
        /// Which.
        idc: IdcName,
        /// Whether whoever asks has seen that it is the primary: the order does much more then.
        is_primary: bool,
    },
    /// A member may be elected and opened again.
    Unfence {
        /// Which.
        idc: IdcName,
        /// The order that whoever asks has looked at, in its words: another one that was given since
        /// has reasons of its own.
        stands: String,
    },
    /// Automation is held.
    Pause,
    /// That hold is lifted; what the Unit's document says stays.
    Resume {
        /// The order that whoever asks has looked at, in its words.
        stands: String,
    },
}

impl std::fmt::Display for OrderChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fence { idc, .. } => write!(f, "the fence of IDC {idc}"),
            Self::Unfence { idc, .. } => write!(f, "the end of the fence of IDC {idc}"),
            Self::Pause => f.write_str("the hold of automation"),
            Self::Resume { .. } => f.write_str("the end of the hold of automation"),
        }
    }
}
