//! What a process says of itself at `GET /status`, as JSON. The operator and `mactl` read it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Epoch, IdcName, LinkKey, PositionText, UnitKey};

/// An arbiter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArbiterStatus {
    /// Its IDC.
    pub idc: IdcName,
    /// Version of the software.
    pub version: String,
    /// Whether its session lives.
    pub session: bool,
    /// Its last acknowledged keep-alive.
    pub last_keep_alive: Option<Timestamp>,
    /// Every Unit that has a member in this IDC, with that member. Empty at a witness, which votes
    /// on all of them.
    pub units: BTreeMap<UnitKey, MemberStatus>,
}

/// A member as its own arbiter sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// What it is now.
    pub role: MemberRole,
    /// Whether it accepts writes (`read_only` is off), as last seen.
    pub writable: bool,
    /// Whether the last look succeeded.
    pub reachable: bool,
    /// The epoch this arbiter knows.
    pub epoch: Epoch,
    /// The server's position.
    pub position: Option<PositionText>,
    /// A replica's age: how old the newest heartbeat of the primary is here, in milliseconds.
    pub lag_millis: Option<u64>,
    /// What preflight found, blocking or not. Empty: everything passed.
    pub findings: Vec<Finding>,
    /// What this arbiter is doing or waiting for, as a sentence. Empty in steady state.
    pub message: String,
    /// Whether the Unit's primary would move by itself if it failed now.
    #[serde(default)]
    pub failover: FailoverStatus,
    /// How many transactions of an ended epoch it holds that nobody else has, and that were not
    /// taken back yet.
    #[serde(default)]
    pub stranded: u64,
    /// How many transactions of other members are set aside here and not settled.
    #[serde(default)]
    pub filed: u64,
}

/// Whether a Unit's primary would move by itself, as one arbiter sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// Nothing stands in the way.
    pub ready: bool,
    /// What stands in the way first, as one CamelCase word. Empty if nothing does.
    pub reason: String,
    /// All that stands in the way, as sentences.
    pub message: String,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberRole {
    /// Holds `primary`.
    Primary,
    /// Follows.
    Replica,
    /// Not known: never reached, or preflight has not passed.
    Unknown,
}

/// One thing that preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Whether it blocks.
    pub severity: Severity,
    /// One CamelCase word, for example `BinlogFormat`, `AccessDenied`, `TableWithoutKey`.
    pub check: String,
    /// The object, for example `member sh (mysql.sh.example:3306)` or `table orders.log`.
    pub object: String,
    /// What was seen there, value included.
    pub message: String,
    /// What to do, as SQL or as YAML where that is possible.
    pub fix: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.message)?;
        if self.fix.is_empty() {
            Ok(())
        } else {
            write!(f, " Fix: {}", self.fix)
        }
    }
}

/// Whether a finding blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Works, but somebody should know.
    Warning,
    /// Nothing is started until it is mended.
    Blocking,
}

/// A syncer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncerStatus {
    /// The link it serves.
    pub link: LinkKey,
    /// Whether a writer is connected.
    pub connected: bool,
    /// What it read last.
    pub position: Option<PositionText>,
    /// Why it cannot read or serve, as a sentence. Empty when all is well.
    pub error: String,
}

/// A writer. It knows the most about its link, so the link's status comes from here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterStatus {
    /// The link.
    pub link: LinkKey,
    /// Where the link stands.
    pub phase: LinkPhase,
    /// Progress of the snapshot.
    pub snapshot: SnapshotProgress,
    /// The newest position received.
    pub received: Option<PositionText>,
    /// The checkpoint.
    pub applied: Option<PositionText>,
    /// Age of the newest change applied, when it was applied, in milliseconds.
    pub lag_millis: Option<u64>,
    /// Where each change went.
    pub ledger: Ledger,
    /// How many transactions of the source are set aside at the target and not settled.
    #[serde(default)]
    pub stranded: u64,
    /// Why it does not go on, as a sentence that says what to do. Empty when all is well.
    pub error: String,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkPhase {
    /// Not begun.
    Pending,
    /// Copying rows that exist, while the stream goes on.
    Snapshotting,
    /// Following, lag small.
    Streaming,
    /// Following, lag above 10 s.
    CatchingUp,
    /// Stopped by something a person has to decide.
    Halted,
}

/// Progress of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotProgress {
    /// Tables to copy.
    pub tables: u64,
    /// Tables copied.
    pub done: u64,
    /// Rows copied.
    pub rows: u64,
}

/// Where each change that was read went, counted in row changes and DDL statements:
/// `read = applied + filtered + conflicts + stranded + in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Read from the source's binlog.
    pub read: u64,
    /// Committed at the target.
    pub applied: u64,
    /// Left out on purpose: other origin, table not selected, DDL ignored.
    pub filtered: u64,
    /// Held as conflicts.
    pub conflicts: u64,
    /// Set aside in `multiactive.stranded`, since their epoch had ended.
    #[serde(default)]
    pub stranded: u64,
    /// Read, and none of the others yet.
    pub in_flight: u64,
}
