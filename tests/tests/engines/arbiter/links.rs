//! What stands in for the links: what arbitration sees of them is copied between the servers by the
//! test, and rows are not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::database::Database;
use mysql_async::prelude::Queryable;

use super::rig::{connect, options};

/// From which IDCs checkpoints do not move on.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints(Arc<Mutex<BTreeSet<&'static str>>>);

impl Checkpoints {
    /// From now on the checkpoint of the link from this IDC stands still, as where one transaction
    /// waits for a lock at the target and those behind it, heartbeats too, go by.
    pub fn hold(&self, from: &'static str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(from);
    }

    /// It moves on again.
    pub fn release(&self, from: &'static str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(from);
    }

    fn holds(&self, from: &'static str) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.contains(from)
    }
}

/// Heartbeats and checkpoints of one direction.
pub struct Link {
    pub from: &'static str,
    pub source: Database,
    pub target: Database,
    pub checkpoints: Checkpoints,
    /// Epochs as well: who may be elected without being asked depends on those that have arrived.
    pub epochs: bool,
}

impl Link {
    /// Copies until the task is ended, anew after each error.
    pub async fn run(self) {
        let mut told = String::new();
        loop {
            if let Err(error) = self.copy().await {
                let error = format!("{error:#}");
                if error != told {
                    println!("the link from {} begins anew: {error}", self.from);
                    told = error;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn look(&self) -> String {
        let from = self.from;
        let position = match self.source.engine {
            harness::Engine::MySql => "REPLACE(@@GLOBAL.gtid_executed, '\\n', '')",
            harness::Engine::MariaDb => "@@GLOBAL.gtid_binlog_pos",
        };
        format!(
            "SELECT {position}, \
             (SELECT CONCAT_WS(',', epoch, writable, seq, CONCAT('''', at, '''')) \
             FROM multiactive.heartbeat WHERE idc = '{from}'), \
             (SELECT CONCAT_WS(',', epoch, QUOTE(idc), QUOTE(ended), QUOTE(at)) \
             FROM multiactive.epoch WHERE idc = '{from}' ORDER BY epoch DESC LIMIT 1)"
        )
    }

    async fn copy(&self) -> Result<()> {
        let (source, target, from) = (&self.source, &self.target, self.from);
        let mut read = connect(options(source, &source.user, &source.password)).await?;
        let mut write = connect(options(target, &target.user, &target.password)).await?;
        write
            .query_drop("SET SESSION sql_log_bin = 0, time_zone = '+00:00'")
            .await?;
        let look = self.look();
        let mut known = None;
        loop {
            let looking = read.query_first(look.as_str());
            let seen: Option<(String, Option<String>, Option<String>)> =
                tokio::time::timeout(Duration::from_secs(1), looking).await??;
            let (position, heartbeat, epoch) = seen.context("no position")?;
            let mut copies = Vec::new();
            if let Some(values) = epoch.clone().filter(|_| self.epochs && epoch != known) {
                copies.push(format!(
                    "INSERT IGNORE INTO multiactive.epoch (epoch, idc, ended, at) VALUES ({values})"
                ));
            }
            if let Some(values) = heartbeat {
                copies.push(format!(
                    "REPLACE INTO multiactive.heartbeat (idc, epoch, writable, seq, at) \
                     VALUES ('{from}', {values})"
                ));
                // Asked after the look, so nothing that comes after `hold` counts as applied.
                if !self.checkpoints.holds(from) {
                    copies.push(format!(
                        "REPLACE INTO multiactive.applied (link, source, position, at) \
                         VALUES ('shop/{from}', '{from}', '{position}', NOW(6))"
                    ));
                }
            }
            if !copies.is_empty() {
                let copying = write.query_drop(copies.join("; "));
                tokio::time::timeout(Duration::from_secs(1), copying).await??;
                known = epoch;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
