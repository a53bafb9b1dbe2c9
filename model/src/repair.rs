//! Verification and repair of one link: what its process is told, and what it tells.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LinkKey;

/// What to verify and how, `repair.json`. The link's own settings stand beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairConfig {
    /// The run's name. A process with the name of a run that was begun goes on with it.
    pub run: String,
    /// What is done.
    pub mode: RepairMode,
    /// Who wins where rows differ.
    #[serde(default)]
    pub winner: Winner,
    /// Only tables that match one of these `database.table` patterns, of those that the link
    /// copies. Empty: all of them.
    #[serde(default)]
    pub tables: Vec<String>,
    /// About how many bytes of rows are compared at a time.
    pub max_batch_bytes: u64,
    /// How long rows that differ are looked at again before it is given up to tell whether they
    /// are the link's lag or a divergence.
    pub consistency_timeout_millis: u64,
    /// At most so many rows are mended, or recorded where nothing is mended.
    pub row_quota: u64,
    /// Show what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// What it must leave to others.
    #[serde(default)]
    pub throttle: Throttle,
    /// What a person wants of it. `control` in `multiactive.repair_runs` says the same; the one that
    /// holds back more counts.
    #[serde(default)]
    pub control: RepairControl,
}

/// What a person wants of a run, from what holds it back least to what does most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RepairControl {
    /// That it goes on.
    #[default]
    Run,
    /// That it waits where it is.
    Pause,
    /// That it ends.
    Stop,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairMode {
    /// Compares, and records what differs.
    Verify,
    /// Compares, and mends what differs.
    Repair,
    /// Takes back what an earlier run mended, row by row, the newest first. The name is that run's.
    Undo,
    /// Has the link copy whole tables anew.
    Rebuild,
}

/// Who wins where rows differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Winner {
    /// The link's source, which is the Unit's primary.
    #[default]
    Source,
    /// Nobody: a person decides, row by row.
    Hold,
}

/// What a run must leave to others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Throttle {
    /// The part of the time in which it reads, from 0.01 to 1.
    pub share: f64,
    /// It waits while the link is further behind than this, in milliseconds.
    pub max_lag_millis: u64,
    /// It waits while either server runs more threads than this.
    pub max_threads_running: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            share: 0.5,
            max_lag_millis: 5_000,
            max_threads_running: 50,
        }
    }
}

/// What the process tells at `/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairStatus {
    /// The link.
    pub link: LinkKey,
    /// The run.
    pub run: String,
    /// Where it stands.
    pub phase: RepairPhase,
    /// How far it is and what it found.
    pub report: RepairReport,
    /// When it will have ended, in seconds from now, by its speed so far.
    pub remaining_seconds: Option<u64>,
    /// What it waits for or why it ended, as a sentence. Empty while it goes on.
    pub message: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairPhase {
    /// Not begun.
    Pending,
    /// Comparing.
    Running,
    /// A person paused it.
    Paused,
    /// It is through: every row of every table was compared.
    Done,
    /// It is through, and some tables or rows could not be judged.
    Incomplete,
    /// It ended before it was through.
    Stopped,
    /// It was not begun, or must not go on.
    Refused,
}

impl RepairPhase {
    /// Whether nothing more happens.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Paused)
    }
}

/// How far a run is and what it found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepairReport {
    /// How many rows the server thinks there are to compare.
    pub rows_estimate: u64,
    /// Rows of the source compared.
    pub rows: u64,
    /// By `database.table`.
    pub tables: BTreeMap<String, TableReport>,
    /// The first statements that a dry run would have mended rows with, at most
    /// [`MOST_STATEMENTS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
}

/// So many statements of a dry run are told in its status; all are kept with the rows.
pub const MOST_STATEMENTS: usize = 20;

impl RepairReport {
    /// Sums over all tables.
    pub fn total(&self) -> TableReport {
        let mut total = TableReport::default();
        for table in self.tables.values() {
            total.rows += table.rows;
            total.chunks += table.chunks;
            total.missing += table.missing;
            total.extra += table.extra;
            total.differing += table.differing;
            total.repaired += table.repaired;
            total.failed += table.failed;
            total.unjudged += table.unjudged;
            total.undone += table.undone;
        }
        total
    }
}

/// What was found in one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableReport {
    /// Every row was compared.
    pub done: bool,
    /// Why the table is not compared, as a sentence. Empty: it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// The source has the table and the target does not: only a copy of all of it mends that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub table_missing: bool,
    /// Whether chunks are compared by digests that the servers compute.
    pub digests: bool,
    /// Rows of the source compared.
    pub rows: u64,
    /// Chunks compared.
    pub chunks: u64,
    /// Rows that the target lacks.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Rows with different values.
    pub differing: u64,
    /// Of these, rows that were mended.
    pub repaired: u64,
    /// Of these, rows that could not be mended.
    pub failed: u64,
    /// Rows that differed while the link did not catch up in time; not counted above.
    pub unjudged: u64,
    /// Rows that were given back the values that they had before they were mended.
    pub undone: u64,
}
