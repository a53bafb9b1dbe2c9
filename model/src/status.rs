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
    /// Every other Unit of which it does not believe what etcd says, and takes no part until somebody
    /// has looked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub doubts: BTreeMap<UnitKey, FailoverStatus>,
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
    /// Nearly all of the server's connections are in use; so many are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowded: Option<u64>,
    /// Why the server has no room for writes, as it says itself. Empty: it has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub full: String,
    /// What stands against a planned switchover from here; `None` where that was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrances: Option<MemberHindrances>,
    /// Why the application is not well as seen from this IDC, as part of a sentence. Empty: it is,
    /// or nobody asks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub application: String,
}

/// What stands against a planned switchover from a member: what a fence would wait for or cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberHindrances {
    /// Prepared XA transactions.
    pub prepared_xa: u64,
    /// Statements that change a table, at work now; the beginning of each.
    pub alters: Vec<String>,
    /// Whether a lock is held for a backup; `None` where the server does not show it.
    pub backup_lock: Option<bool>,
}

impl MemberHindrances {
    /// Each in words, with what to do.
    pub fn sentences(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.prepared_xa > 0 {
            found.push(format!(
                "{} XA transactions are prepared there; settle each (XA RECOVER; XA COMMIT or XA \
                 ROLLBACK)",
                self.prepared_xa
            ));
        }
        for statement in &self.alters {
            found.push(format!(
                "a statement that changes a table is at work there: wait for it, or end it: \
                 {statement}"
            ));
        }
        if self.backup_lock == Some(true) {
            found.push(
                "a lock is held there for a backup: wait until the backup is done".to_owned(),
            );
        }
        found
    }
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

impl FailoverStatus {
    /// The word of an arbiter that does not believe etcd. It holds everything that is decided in
    /// etcd, people's requests too, until somebody acknowledges it.
    pub const ETCD_WENT_BACK: &str = "EtcdWentBack";

    /// Whether this arbiter does not believe etcd.
    pub fn doubts_etcd(&self) -> bool {
        self.reason == Self::ETCD_WENT_BACK
    }

    /// Of what several arbiters say, the first; but one that does not believe etcd is heard before
    /// the others, who may not know why it takes no part.
    pub fn weightiest<'a>(words: impl Iterator<Item = &'a Self>) -> Option<&'a Self> {
        let words: Vec<&Self> = words.collect();
        let doubt = words.iter().find(|word| word.doubts_etcd());
        doubt.or(words.first()).copied()
    }
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

impl Severity {
    /// The findings of this severity as sentences; empty if there are none.
    pub fn words<'a>(self, findings: impl IntoIterator<Item = &'a Finding>) -> String {
        let of = findings.into_iter().filter(|it| it.severity == self);
        let words: Vec<String> = of.map(ToString::to_string).collect();
        words.join(" ")
    }
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
    /// Of a link without a Unit: what was found on the source; `None` before anybody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<Finding>>,
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
    /// How many changes are held as conflicts at the target and not settled; `None` before anybody
    /// has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts_held: Option<u64>,
    /// How many transactions that the link was made to skip are filed at the target and not settled,
    /// as the table there says, unlike the ledger's `held`; `None` before anybody has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_open: Option<u64>,
    /// Why it does not go on, as a sentence that says what to do. Empty when all is well.
    pub error: String,
    /// The transaction that it is halted at; `None` where it is not halted, or not at one
    /// transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted_at: Option<HaltedAt>,
    /// Of a link without a Unit: what was found on the target, and between it and the source; `None`
    /// before anybody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<Finding>>,
}

/// The transaction of the source that a link is halted at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HaltedAt {
    /// Its GTID at the source.
    pub gtid: String,
    /// Whether the link can set it aside and go on after it, if a person wants that.
    pub skippable: bool,
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
/// `read = applied + filtered + conflicts + stranded + held + in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Read from the source's binlog.
    pub read: u64,
    /// Committed at the target.
    pub applied: u64,
    /// Left out on purpose: other origin, table not selected, DDL ignored.
    pub filtered: u64,
    /// Not applied because of a conflict: held, or lost to the target's row.
    pub conflicts: u64,
    /// Set aside in `multiactive.stranded`, since their epoch had ended.
    #[serde(default)]
    pub stranded: u64,
    /// Set aside in `multiactive.held`, since a person had the link skip their transactions.
    #[serde(default)]
    pub held: u64,
    /// Read, and none of the others yet.
    pub in_flight: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hindrance_is_said_and_what_is_not_seen_is_not() {
        assert!(MemberHindrances::default().sentences().is_empty());
        let found = MemberHindrances {
            prepared_xa: 2,
            alters: vec!["ALTER TABLE orders.t".to_owned()],
            backup_lock: Some(true),
        };
        let said = found.sentences();
        assert_eq!(said.len(), 3);
        assert!(said[0].starts_with("2 XA transactions") && said[1].ends_with("orders.t"));
    }

    #[test]
    fn who_doubts_etcd_is_heard_first() {
        let word = |reason: &str| FailoverStatus {
            reason: reason.to_owned(),
            ..FailoverStatus::default()
        };
        let words = [word(""), word("Manual"), word("EtcdWentBack")];
        assert_eq!(FailoverStatus::weightiest(words.iter()), Some(&words[2]));
        assert_eq!(
            FailoverStatus::weightiest(words[..2].iter()),
            Some(&words[0])
        );
        assert_eq!(FailoverStatus::weightiest([].into_iter()), None);
    }
}
