//! Tables that are copied anew while something comes in between: other tables, statements, a person,
//! a promotion.

use anyhow::{Context as _, Result, ensure};
use harness::Engine::{MariaDb, MySql};
use harness::database::Database;
use model::{RepairPhase, RepairStatus, WriterStatus};
use serde_json::json;

use super::rig::{Link, Rig, between, over};
use crate::apply::rig::until;

const TABLES: &str = "USE orders; \
    CREATE TABLE wide (id INT PRIMARY KEY, v INT, note VARCHAR(200)); \
    CREATE TABLE beside (id INT PRIMARY KEY, v INT, note VARCHAR(200)); \
    CREATE TABLE gone (id INT PRIMARY KEY, v INT, note VARCHAR(200)); \
    CREATE TABLE absent (id INT PRIMARY KEY, v INT); \
    CREATE TABLE last (id INT PRIMARY KEY, v INT, note VARCHAR(200))";

const ROWS: u64 = 6000;

fn rows() -> String {
    let values: Vec<String> = (0..ROWS)
        .map(|id| format!("({id}, {id}, REPEAT('x', {}))", id % 60))
        .collect();
    let values = values.join(",");
    let insert = |table: &str| format!("INSERT INTO {table} VALUES {values}; ");
    let all: String = ["wide", "beside", "gone", "last"].map(insert).concat();
    format!("USE orders; {all} INSERT INTO absent VALUES (1, 1), (2, 2)")
}

/// Wishes past the repair process, as one that lives would have written them.
fn wish(rig: &Rig<'_>, run: &str, tables: &[&str]) -> Result<()> {
    let lives = format!(
        "SET sql_log_bin = 0; REPLACE INTO multiactive.repair_runs (run, link, state, at) VALUES \
         ('{run}', 'suite/{}-{}', '{{}}', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR)",
        rig.source.idc, rig.target.idc
    );
    rig.target.root(&lives)?;
    for table in tables {
        rig.target.root(&format!(
            "SET sql_log_bin = 0; REPLACE INTO multiactive.rebuilds \
             (link, `database`, `table`, run, state, reason, asked) VALUES \
             ('suite/{}-{}', 'orders', '{table}', '{run}', 'Asked', '', UTC_TIMESTAMP(6))",
            rig.source.idc, rig.target.idc
        ))?;
    }
    Ok(())
}

fn state(rig: &Rig<'_>, table: &str) -> Result<String> {
    let sql = format!("SELECT state FROM multiactive.rebuilds WHERE `table` = '{table}'");
    Ok(rig.target.root(&sql)?.concat().concat())
}

async fn reaches(rig: &Rig<'_>, link: &Link, table: &str, wanted: &str) -> Result<()> {
    let mut last = String::new();
    let reached = until("the wish gets there", async || {
        last = state(rig, table)?;
        Ok(last == wanted)
    });
    reached.await.with_context(|| {
        let writer = link.writer.as_ref().map(super::rig::Process::describe);
        format!("{table} is {last:?}\n{}", writer.unwrap_or_default())
    })
}

async fn equal(rig: &Rig<'_>, table: &str) -> Result<()> {
    rig.equal(&format!(
        "SELECT COUNT(*), SUM(CRC32(CONCAT_WS('#', id, v))) FROM orders.{table}"
    ))
    .await
}

/// The writer dies when some of a table's rows are removed.
async fn half_emptied(rig: &Rig<'_>, link: &mut Link, run: &str, table: &str) -> Result<()> {
    link.crash_at(rig, "while-emptying:2")?;
    link.wait_streaming().await?;
    wish(rig, run, &[table])?;
    until("the writer ends", async || Ok(!link.is_writing()?)).await?;
    ensure!(state(rig, table)? == "Emptying");
    let left = rig
        .target
        .root(&format!("SELECT COUNT(*) > 0 FROM orders.{table}"))?;
    ensure!(left == [["1"]], "nothing is left of {table}");
    Ok(())
}

/// Readers lack one table at a time, also where several were asked for at once.
async fn one_after_the_other(rig: &Rig<'_>, link: &Link) -> Result<()> {
    wish(rig, "by/hand", &["wide", "beside"])?;
    let both = "SELECT state FROM multiactive.rebuilds WHERE `table` IN ('wide', 'beside')";
    let mut states = Vec::new();
    until("both are copied", async || {
        states = rig.target.root(both)?.concat();
        let begun = states
            .iter()
            .filter(|state| *state == "Emptying" || *state == "Copying");
        ensure!(begun.count() < 2, "both at a time: {states:?}");
        Ok(states == ["Done", "Done"])
    })
    .await
    .with_context(|| format!("{states:?}"))?;
    for table in ["wide", "beside"] {
        equal(rig, table).await?;
    }
    link.check().await
}

/// A table that is dropped at the source while it is emptied is done with, whenever the writer dies.
async fn dropped(rig: &Rig<'_>, link: &mut Link) -> Result<()> {
    half_emptied(rig, link, "by/hand", "gone").await?;
    rig.source.app("DROP TABLE IF EXISTS orders.gone")?;
    // As if the stream had brought that between two steps.
    rig.target
        .root("SET sql_log_bin = 0; DROP TABLE orders.gone")?;
    link.crash_at(rig, "after-copies:1")?;
    until("the writer ends", async || Ok(!link.is_writing()?))
        .await
        .with_context(|| state(rig, "gone").unwrap_or_default())?;
    link.start_writer(rig)?;
    reaches(rig, link, "gone", "Refused").await?;
    let why = "SELECT reason FROM multiactive.rebuilds WHERE `table` = 'gone'";
    let why = rig.target.root(why)?.concat().concat();
    ensure!(why.contains("not at the source any more"), "{why}");
    link.wait_streaming().await?;
    link.check().await
}

/// Tables that are not at the target, while the stream has still to bring what made them and what
/// changed them since.
async fn missing(rig: &Rig<'_>, link: &mut Link) -> Result<()> {
    let made = "USE orders; CREATE TABLE made (id INT PRIMARY KEY, v INT); \
        INSERT INTO made VALUES (1, 1), (2, 2); \
        ALTER TABLE made ADD COLUMN added INT NOT NULL DEFAULT 5; \
        INSERT INTO made VALUES (3, 3, 3)";
    copied_with_its_backlog(rig, link, "made", made).await?;
    rig.target
        .root("SET sql_log_bin = 0; DROP TABLE orders.absent")?;
    let absent = "USE orders; INSERT INTO absent VALUES (3, 3); \
        ALTER TABLE absent ADD COLUMN added INT NOT NULL DEFAULT 7; \
        UPDATE absent SET added = 8 WHERE id = 2; DELETE FROM absent WHERE id = 1";
    copied_with_its_backlog(rig, link, "absent", absent).await
}

async fn copied_with_its_backlog(
    rig: &Rig<'_>,
    link: &mut Link,
    table: &str,
    backlog: &str,
) -> Result<()> {
    link.kill_writer()?;
    rig.source.app(backlog)?;
    let settings = json!({"tables": [format!("orders.{table}")]});
    let process = rig.start(&format!("suite/{table}"), "Rebuild", &settings)?;
    reaches(rig, link, table, "Asked").await?;
    link.start_writer(rig)?;
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    rig.source
        .app(&format!("INSERT INTO orders.{table} VALUES (4, 4, 4)"))?;
    let said = format!("SELECT id, v, added FROM orders.{table} ORDER BY id");
    rig.equal(&said).await?;
    link.check().await
}

/// A pod that is told to stop takes back what the one before it asked for, and names what the link
/// finishes.
async fn stopped_by_another(rig: &Rig<'_>, link: &mut Link) -> Result<()> {
    link.kill_writer()?;
    let settings = json!({"tables": ["orders.wide"]});
    let stop = json!({"tables": ["orders.wide"], "control": "Stop"});
    let stopped = async |run: &str| -> Result<RepairStatus> {
        let process = rig.start(run, "Rebuild", &stop)?;
        let status = over(&process).await?;
        process.terminate().await?;
        ensure!(status.phase == RepairPhase::Stopped, "{status:#?}");
        Ok(status)
    };
    let process = rig.start("suite/asked", "Rebuild", &settings)?;
    reaches(rig, link, "wide", "Asked").await?;
    process.kill()?;
    stopped("suite/asked").await?;
    ensure!(state(rig, "wide")?.is_empty(), "{}", state(rig, "wide")?);
    link.crash_at(rig, "while-emptying:2")?;
    let process = rig.start("suite/begun", "Rebuild", &settings)?;
    until("the writer ends", async || Ok(!link.is_writing()?)).await?;
    process.kill()?;
    let status = stopped("suite/begun").await?;
    ensure!(
        status.message.contains("goes on copying orders.wide"),
        "{status:#?}"
    );
    link.start_writer(rig)?;
    reaches(rig, link, "wide", "Done").await?;
    equal(rig, "wide").await
}

/// What is left of a run that is gone is not begun, nor what was asked of an earlier link.
async fn outlived(rig: &Rig<'_>, link: &mut Link) -> Result<()> {
    let old = "SET sql_log_bin = 0; UPDATE multiactive.repair_runs \
               SET at = UTC_TIMESTAMP(6) - INTERVAL 1 DAY WHERE run = 'long/gone'";
    link.kill_writer()?;
    wish(rig, "long/gone", &["beside"])?;
    rig.target.root(old)?;
    link.start_writer(rig)?;
    wish(rig, "by/hand", &["wide"])?;
    reaches(rig, link, "wide", "Done").await?;
    // It is older than the one that was carried out.
    ensure!(state(rig, "beside")? == "Asked");
    link.check().await
}

fn deletes(side: &Database) -> Result<u64> {
    let rows = side.root("SHOW GLOBAL STATUS LIKE 'Handler_delete'")?;
    let count = rows.first().and_then(|row| row.get(1));
    Ok(count.context("no count")?.parse()?)
}

/// Once the member has been promoted not one row is removed, not even to be put back.
async fn promoted(rig: &Rig<'_>, link: &mut Link) -> Result<()> {
    half_emptied(rig, link, "by/hand", "last").await?;
    let before = rig.target.root("SELECT COUNT(*) FROM orders.last")?;
    rig.target.root(&format!(
        "SET sql_log_bin = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) \
         VALUES (2, '{}', NULL, NOW(6))",
        rig.target.idc
    ))?;
    let deleted = deletes(rig.target)?;
    link.start_writer(rig)?;
    until("the writer sees it", async || {
        let writer = link.writer.as_ref().context("no writer")?;
        Ok(writer.describe().contains("the table is not emptied"))
    })
    .await?;
    let since = deletes(rig.target)? - deleted;
    ensure!(since < 10, "{since} rows were removed");
    ensure!(rig.target.root("SELECT COUNT(*) FROM orders.last")? == before);
    link.kill_writer()?;
    rig.target
        .root("SET sql_log_bin = 0; DELETE FROM multiactive.epoch WHERE epoch = 2")?;
    Ok(())
}

/// The primary has moved since the table was begun, and the stream has passed that: nothing is copied
/// from the one before.
async fn moved(rig: &Rig<'_>, link: &mut Link) -> Result<()> {
    rig.source.root(&format!(
        "SET sql_log_bin = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) \
         VALUES (2, '{}', NULL, NOW(6))",
        rig.target.idc
    ))?;
    link.start_writer(rig)?;
    let mut last = None;
    until("the link halts", async || {
        let writer = link.writer.as_ref().context("no writer")?;
        last = writer.status::<WriterStatus>().await?;
        ensure!(state(rig, "last")? != "Done", "it was copied");
        let error = last.as_ref().map(|status| status.error.as_str());
        Ok(error.is_some_and(|error| error.contains("PrimaryMoved")))
    })
    .await
    .with_context(|| format!("{last:#?}"))
}

async fn hindered(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    rig.settings(|link| link["snapshot"]["chunkBytes"] = 4096.into())?;
    let mut link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    one_after_the_other(rig, &link)
        .await
        .context("one after the other")?;
    dropped(rig, &mut link).await.context("dropped")?;
    missing(rig, &mut link).await.context("missing")?;
    stopped_by_another(rig, &mut link)
        .await
        .context("stopped by another")?;
    outlived(rig, &mut link).await.context("outlived")?;
    promoted(rig, &mut link).await.context("promoted")?;
    moved(rig, &mut link).await.context("moved")
}

#[test]
fn what_comes_between_a_rebuild_and_its_end() -> Result<()> {
    between("rebuild-hindered", MySql, MariaDb, &hindered)
}
