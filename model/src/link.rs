//! The settings of one link, as its syncer and writer read them from a mounted file.

use serde::{Deserialize, Serialize};

use crate::{Endpoint, IdcName, LinkKey, UnitKey};

/// One link, `link.json`. The operator writes it, both ends of the link read the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkConfig {
    /// The link.
    pub link: LinkKey,
    /// The Unit it belongs to. Without one each end looks after its server itself, and applications
    /// may write to both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitKey>,
    /// Where changes come from.
    pub source: LinkEnd,
    /// Where they go.
    pub target: LinkEnd,
    /// The origins a transaction can have: every IDC with a member, in the Unit's order; without a
    /// Unit, those of the two ends.
    pub origins: Vec<IdcName>,
    /// The databases of the Unit, or those that the tables are in.
    pub databases: Vec<String>,
    /// Which of their tables.
    pub tables: TableSelection,
    /// How existing rows get across.
    pub snapshot: SnapshotSettings,
    /// Compression of frames on the wire.
    pub compression: Compression,
    /// How changes are applied.
    pub apply: ApplySettings,
    /// What happens to DDL.
    pub ddl: DdlPolicy,
    /// Also send what came from other IDCs.
    pub relay: bool,
    /// How a conflict is noticed, and what becomes of it.
    #[serde(default, skip_serializing_if = "ConflictSettings::is_default")]
    pub conflicts: ConflictSettings,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkEnd {
    /// The IDC.
    pub idc: IdcName,
    /// Its database.
    pub endpoint: Endpoint,
}

/// Which tables a link copies, as `database.table` patterns with `*` as wildcard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSelection {
    /// Copied if one matches; empty means every table of the databases.
    pub include: Vec<String>,
    /// Not copied if one matches, whatever `include` says.
    pub exclude: Vec<String>,
    /// Copied under another name. The first match counts.
    pub routes: Vec<Route>,
}

/// Sends tables that match `from` to the table `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// A `database.table` pattern.
    pub from: String,
    /// A `database.table` name.
    pub to: String,
}

/// How rows that exist before the stream get across.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSettings {
    /// Whether.
    pub mode: SnapshotMode,
    /// How many bytes of rows are read at a time, about.
    pub chunk_bytes: u64,
}

/// Whether rows that exist before the stream are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotMode {
    /// Those tables that are empty or missing at the target.
    IfEmpty,
    /// Every table.
    Always,
    /// None: the stream starts now.
    Never,
}

/// Compression of frames on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// None.
    None,
    /// zstd, level 1.
    Zstd,
}

/// How changes are applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplySettings {
    /// What readers of the target may see.
    pub consistency: Consistency,
    /// At most so many rows in one target transaction, unless one source transaction has more.
    pub max_rows: u32,
    /// How long to wait for more source transactions before committing, in milliseconds.
    pub linger_millis: u64,
}

/// What readers of the target may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Source transactions whole and in order.
    Transactional,
}

/// What happens to DDL of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DdlPolicy {
    /// Replayed at the target.
    Apply,
    /// Left out, and counted.
    Ignore,
    /// Stops the link with the statement shown.
    Halt,
}

/// How a conflict is noticed, and what becomes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictSettings {
    /// How it is noticed.
    pub detect: ConflictDetection,
    /// What becomes of it.
    pub resolve: ConflictResolution,
    /// Applications write at both ends, and a link carries each end's writes to the other. Policies
    /// by which the target's row may win take that for granted; with `SourceWins`, which a Unit's
    /// links may have too, it has to be said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both_write: bool,
}

impl ConflictSettings {
    /// Whether it says what is done without it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a conflict is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictDetection {
    /// A row is missing, or one is there where none must be.
    #[default]
    Key,
    /// The row is not what it was at the source before the change.
    BeforeImage,
}

/// What becomes of a conflict. Every one but `Halt` needs [`ConflictDetection::BeforeImage`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
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
    /// The row of the later write stays, by a column; ties by the IDCs' priorities, then by the
    /// order of the rows' canonical bytes.
    LastWriteWins {
        /// The column.
        column: String,
        /// The source's priority.
        source_priority: u32,
        /// The target's.
        target_priority: u32,
    },
    /// What the source added to counters is added to the target's; the rest of a row as by `Hold`.
    Delta {
        /// Columns of integers, or of times, of which the later one stays; as
        /// `database.table.column` of the source.
        counters: Vec<String>,
    },
    /// The row of the IDC of higher priority stays.
    IdcPriority {
        /// The source's priority.
        source_priority: u32,
        /// The target's.
        target_priority: u32,
    },
}
