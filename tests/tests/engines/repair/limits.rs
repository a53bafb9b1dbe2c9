//! What it must not do: judge what a link has not brought yet, write under another epoch, go on
//! beyond its quota.

use anyhow::{Result, ensure};
use harness::Engine::{MariaDb, MySql};
use model::RepairPhase;
use serde_json::json;

use super::rig::{Rig, between, ensure_equal};

const TABLE: &str = "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT); \
    CREATE TABLE nokey (v INT); CREATE TABLE f (id INT PRIMARY KEY, d DOUBLE)";
const ROWS: &str = "USE orders; INSERT INTO t VALUES (1, 1), (2, 2), (3, 3); \
    INSERT INTO f VALUES (1, 1)";

/// Without a writer nothing arrives: what differs then is no finding, and nothing is mended.
async fn lag(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLE, ROWS)?;
    rig.target
        .root("SET sql_log_bin = 0; DROP TABLE orders.nokey")?;
    rig.source
        .root("SET sql_log_bin = 0; DROP TABLE orders.nokey")?;
    let mut link = rig.link().await?;
    link.kill_writer()?;
    rig.source.app(
        "USE orders; UPDATE t SET v = 7 WHERE id = 1; DELETE FROM t WHERE id = 2; \
         INSERT INTO t VALUES (4, 4); UPDATE f SET d = 2",
    )?;
    let before = Rig::checksums(rig.target)?;
    let short = json!({"consistencyTimeoutMillis": 1500});
    let status = rig.run("suite/lag", "Repair", &short).await?;
    let total = status.report.total();
    ensure!(
        (total.missing, total.extra, total.differing, total.repaired) == (0, 0, 0, 0),
        "{status:#?}"
    );
    ensure!(total.unjudged == 4, "{status:#?}");
    ensure!(status.phase == RepairPhase::Incomplete, "{status:#?}");
    ensure!(
        Rig::checksums(rig.target)? == before,
        "something was written"
    );
    link.start_writer(rig)?;
    link.wait_streaming().await?;
    ensure_equal(&rig.verify("suite/caught-up").await?)?;
    link.check().await
}

#[test]
fn lag_is_no_finding() -> Result<()> {
    between("lag", MySql, MariaDb, &lag)
}

/// A promotion at the target ends a repair; one that holds the epoch's lock holds it up.
async fn epochs(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLE, ROWS)?;
    rig.target
        .root("SET sql_log_bin = 0; DROP TABLE orders.nokey")?;
    rig.source
        .root("SET sql_log_bin = 0; DROP TABLE orders.nokey")?;
    let _link = rig.link().await?;
    rig.plant("USE orders;", "UPDATE t SET v = 9 WHERE id = 2")?;
    let spoilt = Rig::checksums(rig.target)?;
    let epoch = format!(
        "SET sql_log_bin = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6))",
        rig.target.idc
    );
    rig.target.root(&epoch)?;
    let status = rig.run("suite/late", "Repair", &json!({})).await?;
    ensure!(status.phase == RepairPhase::Refused, "{status:#?}");
    ensure!(
        status.message.contains("epoch 2 is held by"),
        "{}",
        status.message
    );
    ensure!(
        Rig::checksums(rig.target)? == spoilt,
        "something was written"
    );
    rig.target
        .root("SET sql_log_bin = 0; DELETE FROM multiactive.epoch WHERE epoch = 2")?;
    // A promotion in the middle: the row that is to be mended is held until it has committed.
    let mut holding = rig.target.client(harness::database::Account::Root);
    holding.stdin(std::process::Stdio::piped());
    holding.stdout(std::process::Stdio::null());
    let mut holding = holding.spawn()?;
    let mut input = holding.stdin.take();
    let mut say = |sql: &str| -> Result<()> {
        use std::io::Write as _;
        if let Some(input) = &mut input {
            writeln!(input, "{sql}")?;
            input.flush()?;
        }
        Ok(())
    };
    say(&format!(
        "SET sql_log_bin = 0; START TRANSACTION; \
         SELECT epoch FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1 FOR UPDATE; \
         INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6)); \
         DO GET_LOCK('the promotion stands', 0);",
        rig.target.idc
    ))?;
    // The writer has transactions of its own: only the promotion's session can say that it stands.
    let stands = "SELECT IS_USED_LOCK('the promotion stands') IS NOT NULL";
    crate::apply::rig::until("the promotion holds its lock", async || {
        Ok(rig.target.root(stands)?.concat() == ["1"])
    })
    .await?;
    let process = rig.start("suite/middle", "Repair", &json!({}))?;
    // It has found the row once its rows were read and nothing was mended.
    // MariaDB renews innodb_trx only for those who ask less often than every 0.1 s; this is counted.
    let waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
    crate::apply::rig::until("the repair waits for the promotion", async || {
        Ok(rig.target.root(waits)?[0][1] != "0")
    })
    .await?;
    say("COMMIT;")?;
    let status = super::rig::over(&process).await?;
    drop(input);
    holding.wait()?;
    ensure!(status.phase == RepairPhase::Refused, "{status:#?}");
    ensure!(status.report.total().repaired == 0, "{status:#?}");
    ensure!(
        Rig::checksums(rig.target)? == spoilt,
        "something was written"
    );
    Ok(())
}

#[test]
fn nothing_is_written_against_a_promotion() -> Result<()> {
    between("epochs", MySql, MariaDb, &epochs)
}

/// A quota ends a run, and what cannot be compared is said.
async fn bounds(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLE, ROWS)?;
    rig.source.root(
        "SET sql_log_bin = 0; USE orders; DROP TABLE nokey; CREATE TABLE lonely (id INT PRIMARY KEY)",
    )?;
    let _link = rig.link().await?;
    rig.plant("USE orders;", "UPDATE t SET v = 9")?;
    let status = rig
        .run("suite/quota", "Repair", &json!({"rowQuota": 2}))
        .await?;
    ensure!(status.phase == RepairPhase::Stopped || status.phase == RepairPhase::Incomplete);
    ensure!(status.report.total().repaired == 2, "{status:#?}");
    let rows = rig
        .target
        .root("SELECT COUNT(*) FROM orders.t WHERE v = 9")?;
    ensure!(rows == [["1"]], "{rows:?}");
    let status = rig.verify("suite/tables").await?;
    ensure!(status.phase == RepairPhase::Incomplete, "{status:#?}");
    let tables = &status.report.tables;
    ensure!(
        tables["orders.nokey"]
            .refused
            .contains("only at the target"),
        "{status:#?}"
    );
    ensure!(tables["orders.t"].differing == 1, "{status:#?}");
    let none = rig
        .run("suite/none", "Verify", &json!({"tables": ["orders.tt"]}))
        .await?;
    ensure!(none.phase == RepairPhase::Refused, "{none:#?}");
    ensure!(none.message.contains("orders.tt"), "{none:#?}");
    let some = rig
        .run("suite/some", "Repair", &json!({"tables": ["orders.t"]}))
        .await?;
    ensure!(some.report.tables.len() == 1, "{some:#?}");
    ensure!(some.report.total().repaired == 1, "{some:#?}");
    Ok(())
}

#[test]
fn bounds_are_kept() -> Result<()> {
    between("bounds", MySql, MariaDb, &bounds)
}
