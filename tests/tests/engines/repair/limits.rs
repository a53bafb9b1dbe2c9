//! What it must not do: judge what a link has not brought yet, write under another epoch, go on
//! beyond its quota.

use anyhow::{Context as _, Result, ensure};
use harness::Engine::{MariaDb, MySql};
use model::{RepairPhase, RepairStatus};
use serde_json::json;

use super::rig::{Rig, between, ensure_equal, over};
use crate::apply::rig::until;

const TABLE: &str = "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT); \
    CREATE TABLE nokey (v INT); CREATE TABLE f (id INT PRIMARY KEY, d DOUBLE)";
/// The same without a table that links do not carry.
const KEYED: &str = "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT); \
    CREATE TABLE f (id INT PRIMARY KEY, d DOUBLE)";
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
    until("the promotion holds its lock", async || {
        Ok(rig.target.root(stands)?.concat() == ["1"])
    })
    .await?;
    let process = rig.start("suite/middle", "Repair", &json!({}))?;
    // It has found the row once its rows were read and nothing was mended.
    until("the repair waits for the promotion", async || {
        rig.somebody_waits()
    })
    .await?;
    say("COMMIT;")?;
    let status = over(&process).await?;
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
    // Also where all that is too much was in a table's last chunk.
    ensure!(status.phase == RepairPhase::Stopped, "{status:#?}");
    ensure!(status.message.contains("rowQuota is 2"), "{status:#?}");
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

/// A table that gets another column in the middle of a run is compared by it, from its first row on.
async fn altered(rig: &Rig<'_>) -> Result<()> {
    let values: Vec<String> = (0..2000).map(|id| format!("({id}, {id})")).collect();
    rig.make(
        "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        &format!("USE orders; INSERT INTO t VALUES {}", values.join(",")),
    )?;
    let link = rig.link().await?;
    let slow = json!({"maxBatchBytes": 4096,
        "throttle": {"share": 0.1, "maxLagMillis": 60_000, "maxThreadsRunning": 10_000}});
    let process = rig.start("suite/altered", "Repair", &slow)?;
    until("it has begun", async || {
        let status: Option<RepairStatus> = process.status().await?;
        Ok(status.is_some_and(|it| it.report.rows > 0))
    })
    .await?;
    rig.control("suite/altered", "Pause")?;
    until("it is paused", async || {
        let status: Option<RepairStatus> = process.status().await?;
        Ok(status.is_some_and(|it| it.phase == RepairPhase::Paused))
    })
    .await?;
    rig.source.app(
        "USE orders; ALTER TABLE t ADD COLUMN note VARCHAR(20) NOT NULL DEFAULT ''; \
         UPDATE t SET note = 'new' WHERE id = 1999",
    )?;
    let sum = "SELECT COUNT(*), SUM(CRC32(CONCAT_WS(',', id, v, note))) FROM orders.t";
    rig.equal(sum).await?;
    // One behind where it is, whose new column it must not leave out; one that it has passed.
    rig.plant("USE orders;", "DELETE FROM t WHERE id = 1999")?;
    rig.plant("USE orders;", "UPDATE t SET note = 'other' WHERE id = 0")?;
    rig.control("suite/altered", "Run")?;
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    let total = status.report.total();
    ensure!((total.rows, total.repaired) == (2000, 2), "{status:#?}");
    rig.equal(sum).await?;
    link.check().await
}

#[test]
fn a_table_that_is_altered_is_compared_anew() -> Result<()> {
    between("altered", MySql, MariaDb, &altered)
}

/// A lock that somebody holds at the target for longer than one attempt waits ends no run.
async fn locked(rig: &Rig<'_>) -> Result<()> {
    rig.make(
        "USE orders; CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE)",
        "USE orders; INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
    )?;
    let link = rig.link().await?;
    rig.plant("USE orders;", "DELETE FROM t WHERE id = 2")?;
    let mut holding = rig.target.client(harness::database::Account::Root);
    holding.arg(
        "--execute=SET sql_log_bin = 0; START TRANSACTION; INSERT INTO orders.t VALUES (100, 2); \
         DO GET_LOCK('the entry is taken', 0); DO SLEEP(4); ROLLBACK",
    );
    let mut holding = holding.spawn()?;
    let taken = "SELECT IS_USED_LOCK('the entry is taken') IS NOT NULL";
    until("the entry is taken", async || {
        Ok(rig.target.root(taken)?.concat() == ["1"])
    })
    .await?;
    let status = rig.run("suite/locked", "Repair", &json!({})).await?;
    holding.wait()?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    ensure!(status.report.total().repaired == 1, "{status:#?}");
    rig.equal("SELECT * FROM orders.t ORDER BY id").await?;
    link.check().await
}

#[test]
fn a_lock_that_is_held_for_long_ends_no_run() -> Result<()> {
    between("locked", MySql, MariaDb, &locked)
}

/// A run that waits for a link says which one has it, and that a person paused that one.
async fn busy(rig: &Rig<'_>) -> Result<()> {
    rig.make(KEYED, ROWS)?;
    let link = rig.link().await?;
    let first = rig.start("suite/first", "Verify", &json!({"control": "Pause"}))?;
    until("the first one is paused", async || {
        let status: Option<RepairStatus> = first.status().await?;
        Ok(status.is_some_and(|it| it.phase == RepairPhase::Paused))
    })
    .await?;
    let second = rig.start("suite/second", "Verify", &json!({}))?;
    let mut said = String::new();
    until("the second one says for whom it waits", async || {
        let status: Option<RepairStatus> = second.status().await?;
        said = status.map(|it| it.message).unwrap_or_default();
        Ok(said.contains("run suite/first, which a person paused, has link"))
    })
    .await
    .with_context(|| said.clone())?;
    first.terminate().await?;
    let status = over(&second).await?;
    ensure!(status.run == "suite/second", "{status:#?}");
    ensure!(!status.message.contains("suite/first"), "{status:#?}");
    link.check().await
}

#[test]
fn who_waits_for_a_link_says_who_has_it() -> Result<()> {
    between("busy", MySql, MariaDb, &busy)
}

/// A table that the target lacks is a divergence, and one that is on its way is none.
async fn absent(rig: &Rig<'_>) -> Result<()> {
    rig.make(KEYED, ROWS)?;
    let mut link = rig.link().await?;
    rig.target
        .root("SET sql_log_bin = 0; DROP TABLE orders.f")?;
    let status = rig.run("suite/absent", "Repair", &json!({})).await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    let [f, t] = ["orders.f", "orders.t"].map(|name| &status.report.tables[name]);
    ensure!(
        f.table_missing && f.done && f.refused.is_empty() && !t.table_missing,
        "{status:#?}"
    );
    let made = rig
        .run("suite/made", "Rebuild", &json!({"tables": ["orders.f"]}))
        .await?;
    ensure!(made.phase == RepairPhase::Done, "{made:#?}");
    let none = |status: &RepairStatus| !status.report.tables.values().any(|it| it.table_missing);
    let status = rig.verify("suite/there").await?;
    ensure!(none(&status), "{status:#?}");
    ensure_equal(&status)?;

    link.kill_writer()?;
    rig.source
        .app("USE orders; CREATE TABLE later (id INT PRIMARY KEY); INSERT INTO later VALUES (1)")?;
    let short = json!({"consistencyTimeoutMillis": 1500});
    let status = rig.run("suite/later", "Verify", &short).await?;
    let later = &status.report.tables["orders.later"];
    ensure!(
        none(&status) && later.refused.contains("did not catch up"),
        "{status:#?}"
    );
    link.start_writer(rig)?;
    link.wait_streaming().await?;
    let status = rig.verify("suite/arrived").await?;
    ensure!(none(&status) && status.report.rows == 5, "{status:#?}");
    ensure_equal(&status)?;
    link.check().await
}

#[test]
fn a_table_that_is_not_there_is_a_divergence() -> Result<()> {
    between("absent", MySql, MariaDb, &absent)
}
