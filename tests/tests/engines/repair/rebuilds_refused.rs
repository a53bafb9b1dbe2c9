//! What is not copied anew, and what takes that back.

use anyhow::{Result, ensure};
use harness::Engine;
use model::{RepairPhase, RepairStatus};
use serde_json::json;

use super::rig::{Rig, between_all, over};
use crate::apply::rig::until;

const TABLES: &str = "USE orders; DROP TABLE IF EXISTS below, above; \
    CREATE TABLE plain (id INT PRIMARY KEY, v INT); \
    CREATE TABLE narrow (id INT PRIMARY KEY, v INT); \
    CREATE TABLE above (id INT PRIMARY KEY); \
    CREATE TABLE below (id INT PRIMARY KEY, up INT, \
        CONSTRAINT kin FOREIGN KEY (up) REFERENCES above (id))";

const ROWS: &str = "USE orders; INSERT INTO plain VALUES (1, 1), (2, 2); \
    INSERT INTO narrow VALUES (1, 1); \
    INSERT INTO above VALUES (1); INSERT INTO below VALUES (1, 1)";

async fn rebuild(rig: &Rig<'_>, run: &str, table: &str) -> Result<RepairStatus> {
    let settings = json!({"tables": [format!("orders.{table}")]});
    rig.run(run, "Rebuild", &settings).await
}

/// What was wrong stays as it is.
fn untouched(rig: &Rig<'_>) -> Result<()> {
    let rows = rig
        .target
        .root("SELECT id, v FROM orders.plain ORDER BY id")?;
    ensure!(rows == [["1", "1"], ["2", "-2"]], "{rows:?}");
    Ok(())
}

/// A wish past the repair process, as anybody with the account could write it.
async fn wished(rig: &Rig<'_>, table: &str) -> Result<String> {
    rig.target.root(&format!(
        "SET sql_log_bin = 0; REPLACE INTO multiactive.repair_runs (run, link, state, at) \
         VALUES ('by hand', 'suite', '{{}}', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR); \
         REPLACE INTO multiactive.rebuilds \
         (link, `database`, `table`, run, state, reason, asked) VALUES \
         ('suite/{}-{}', 'orders', '{table}', 'by hand', 'Asked', '', NOW(6))",
        rig.source.idc, rig.target.idc
    ))?;
    let mut reason = String::new();
    until("the writer refuses it", async || {
        let sql = format!(
            "SELECT reason FROM multiactive.rebuilds WHERE `table` = '{table}' AND state = 'Refused'"
        );
        let rows = rig.target.root(&sql)?;
        reason = rows.into_iter().flatten().next().unwrap_or_default();
        Ok(!reason.is_empty())
    })
    .await?;
    Ok(reason)
}

async fn refused(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, ROWS)?;
    let mut link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    rig.plant("USE orders;", "UPDATE plain SET v = -2 WHERE id = 2")?;
    let elsewhere = "REPLACE INTO multiactive.rebuilds (link, `database`, `table`, run, state, reason, \
         asked) VALUES ('suite/other', 'orders', 'plain', 'by hand', 'Asked', '', NOW(6))";
    rig.plant("", elsewhere)?;
    taken_back(rig, &mut link).await?;
    unfit(rig).await?;
    cascading(rig).await?;
    primary(rig).await?;
    untouched(rig)
}

/// While no writer has begun with it, it can be taken back.
async fn taken_back(rig: &Rig<'_>, link: &mut super::rig::Link) -> Result<()> {
    link.kill_writer()?;
    let settings = json!({"tables": ["orders.plain"]});
    let process = rig.start("suite/back", "Rebuild", &settings)?;
    let count = "SELECT COUNT(*) FROM multiactive.rebuilds \
                 WHERE run = 'suite/back' AND state = 'Asked'";
    until("it asks", async || Ok(rig.target.root(count)? == [["1"]])).await?;
    rig.control("suite/back", "Stop")?;
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Stopped, "{status:#?}");
    let left = rig
        .target
        .root("SELECT COUNT(*) FROM multiactive.rebuilds WHERE run = 'suite/back'")?;
    ensure!(left == [["0"]], "{left:?}");
    link.start_writer(rig)?;
    link.wait_streaming().await?;
    untouched(rig)
}

/// What its rows cannot be put back into is not emptied: a trigger would fire for each row, too.
async fn unfit(rig: &Rig<'_>) -> Result<()> {
    rig.target.root(
        "SET sql_log_bin = 0; USE orders; CREATE TABLE seen (id INT); \
         CREATE TRIGGER sees AFTER DELETE ON plain FOR EACH ROW INSERT INTO seen VALUES (OLD.id); \
         ALTER TABLE narrow DROP COLUMN v",
    )?;
    for (table, why) in [("plain", "sees"), ("narrow", "v")] {
        let status = rebuild(rig, &format!("suite/unfit-{table}"), table).await?;
        let report = &status.report.tables[&format!("orders.{table}")];
        ensure!(report.refused.contains(why), "{status:#?}");
    }
    let reason = wished(rig, "plain").await?;
    ensure!(reason.contains("sees"), "{reason}");
    let left = rig
        .target
        .root("SELECT (SELECT COUNT(*) FROM orders.seen), (SELECT COUNT(*) FROM orders.narrow)")?;
    ensure!(left == [["0", "1"]], "{left:?}");
    rig.target
        .root("SET sql_log_bin = 0; USE orders; DROP TRIGGER sees; DROP TABLE seen, narrow")?;
    rig.source
        .root("SET sql_log_bin = 0; DROP TABLE orders.narrow")?;
    Ok(())
}

/// Where the source does not log what a cascade does, both tables of the key are refused, by the
/// process and by the writer.
async fn cascading(rig: &Rig<'_>) -> Result<()> {
    rig.source.app(
        "ALTER TABLE orders.below DROP FOREIGN KEY kin, \
         ADD CONSTRAINT cascades FOREIGN KEY (up) REFERENCES above (id) ON DELETE CASCADE",
    )?;
    let there = "SELECT COUNT(*) FROM information_schema.referential_constraints \
                 WHERE constraint_name = 'cascades'";
    until("the statement has come", async || {
        Ok(rig.target.root(there)? == [["1"]])
    })
    .await?;
    for table in ["above", "below"] {
        let status = rebuild(rig, &format!("suite/{table}"), table).await?;
        let report = &status.report.tables[&format!("orders.{table}")];
        if rig.source.engine == Engine::MySql {
            ensure!(report.done, "{status:#?}");
            continue;
        }
        ensure!(
            status.phase == RepairPhase::Incomplete && report.refused.contains("CASCADE"),
            "{status:#?}"
        );
        let reason = wished(rig, table).await?;
        ensure!(reason.contains("CASCADE"), "{reason}");
    }
    Ok(())
}

/// The member that takes the writes is never written into, whoever asks.
async fn primary(rig: &Rig<'_>) -> Result<()> {
    let promoted = format!(
        "SET sql_log_bin = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) \
         VALUES (2, '{}', NULL, NOW(6))",
        rig.target.idc
    );
    rig.target.root(&promoted)?;
    let reason = wished(rig, "plain").await?;
    ensure!(
        reason.contains("takes the writes") && reason.contains(&rig.target.idc),
        "{reason}"
    );
    let status = rebuild(rig, "suite/primary", "plain").await?;
    ensure!(
        status.phase == RepairPhase::Refused
            && status.message.contains("epoch 2 is held by")
            && status.message.contains("name the link from"),
        "{status:#?}"
    );
    untouched(rig)
}

#[test]
fn what_must_not_be_copied_anew_is_not() -> Result<()> {
    between_all("rebuild-refused", refused)
}
