//! Tables that are copied anew, while an application writes to them and to others, and while the
//! writer dies.

use anyhow::{Context as _, Result, ensure};
use model::{RepairPhase, RepairStatus};
use serde_json::json;

use super::rig::{Link, Process, Rig, between_all, ensure_equal, over};
use crate::apply::rig::until;

const TABLES: &str = "USE orders; \
    CREATE TABLE wide (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(200), u INT UNIQUE); \
    CREATE TABLE beside (id INT PRIMARY KEY, v INT); \
    CREATE TABLE parents (id INT PRIMARY KEY, v INT); \
    CREATE TABLE children (id INT PRIMARY KEY, parent INT, \
        CONSTRAINT kin FOREIGN KEY (parent) REFERENCES parents (id))";

const SAID: &str = "USE orders; \
    SELECT COUNT(*), SUM(CRC32(CONCAT_WS('#', id, v, COALESCE(note, '-'), COALESCE(u, '-')))) \
    FROM wide; \
    SELECT COUNT(*), SUM(CRC32(CONCAT_WS('#', id, v))) FROM beside; \
    SELECT COUNT(*), SUM(CRC32(CONCAT_WS('#', id, v))) FROM parents; \
    SELECT COUNT(*), SUM(CRC32(CONCAT_WS('#', id, parent))) FROM children";

const ROWS: u64 = 24_000;

fn rows() -> String {
    let mut sql = "USE orders; ".to_owned();
    for start in (0..ROWS).step_by(2000) {
        let values = |of: fn(u64) -> String| {
            let values: Vec<String> = (start..start + 2000).map(of).collect();
            values.join(",")
        };
        sql.push_str(&format!(
            "INSERT INTO wide (v, note, u) VALUES {}; INSERT INTO parents VALUES {}; \
             INSERT INTO children VALUES {}; ",
            values(|id| format!("({id}, REPEAT('x', {}), {id})", id % 60)),
            values(|id| format!("({id}, 0)")),
            values(|id| format!("({id}, {id})")),
        ));
    }
    sql + "INSERT INTO beside VALUES (0, 0)"
}

/// Changes all over the table: rows come, go, change and exchange their unique values.
fn round(number: u64) -> String {
    let pick = number * 997 % ROWS;
    let new = 1_000_000 + number;
    format!(
        "USE orders; INSERT INTO wide (v, note) VALUES ({number}, 'new'), ({number}, NULL); \
         UPDATE wide SET v = v + 1, note = CONCAT('n', v) WHERE id BETWEEN {pick} AND {pick} + 99; \
         UPDATE wide SET v = v + 1 WHERE id % 500 = {}; \
         START TRANSACTION; UPDATE wide SET u = NULL WHERE id = {pick} + 100; \
         UPDATE wide SET u = {pick} + 99 + {ROWS} WHERE id = {pick} + 101; COMMIT; \
         DELETE FROM wide WHERE id = {pick} + 200; \
         INSERT INTO beside VALUES ({new}, {number}); \
         INSERT INTO parents VALUES ({new}, 0); INSERT INTO children VALUES ({new}, {new}); \
         UPDATE children SET parent = {new} WHERE id = {pick}; \
         UPDATE parents SET v = v + 1 WHERE id BETWEEN {pick} AND {pick} + 20",
        number % 500
    )
}

/// What went wrong at the target, in a way that the link has not met yet.
fn plant(rig: &Rig<'_>) -> Result<()> {
    for sql in [
        "UPDATE wide SET v = -7, note = 'wrong' WHERE id % 11 = 3",
        "UPDATE wide SET u = u + 5000000 WHERE id % 11 = 4",
        "INSERT INTO wide (id, v, note) SELECT id + 3000000, v, note FROM wide WHERE id % 11 = 5",
    ] {
        ensure!(rig.plant("USE orders;", sql)? > 1000, "{sql}");
    }
    Ok(())
}

fn wish(rig: &Rig<'_>, table: &str) -> Result<(String, u64)> {
    let sql = format!("SELECT state, copied FROM multiactive.rebuilds WHERE `table` = '{table}'");
    let rows = rig.target.root(&sql)?;
    let Some([state, copied]) = rows.first().and_then(|row| row.first_chunk()) else {
        return Ok((String::new(), 0));
    };
    Ok((state.clone(), copied.parse()?))
}

/// Waits until a table is so far, or further.
async fn reached(rig: &Rig<'_>, process: &Process, state: &str, copied: u64) -> Result<()> {
    let order = ["", "Asked", "Emptying", "Copying", "Done"];
    let place = |name: &str| order.iter().position(|known| *known == name);
    let mut last = (String::new(), 0);
    until("the table is so far", async || {
        last = wish(rig, "wide")?;
        ensure!(last.0 != "Refused", "it was refused");
        let passed = place(&last.0) > place(state);
        Ok(passed || (last.0 == state && last.1 >= copied))
    })
    .await
    .with_context(|| format!("{last:?}\n{}", process.describe()))
}

/// Kills the writer in each of the steps.
async fn kill_on_the_way(rig: &Rig<'_>, link: &mut Link, process: &Process) -> Result<()> {
    let mut killed_while = Vec::new();
    for (state, copied) in [
        ("Emptying", 0),
        ("Copying", 1),
        ("Copying", 6000),
        ("Copying", 12_000),
    ] {
        reached(rig, process, state, copied).await?;
        link.kill_writer()?;
        killed_while.push(wish(rig, "wide")?.0);
        // What other tables have got goes on to come while this one is copied.
        let before = rig.target.root("SELECT COUNT(*) FROM orders.beside")?;
        link.start_writer(rig)?;
        until("another table is written to", async || {
            Ok(rig.target.root("SELECT COUNT(*) FROM orders.beside")? != before)
        })
        .await?;
    }
    ensure!(
        killed_while
            .iter()
            .filter(|state| *state == "Copying")
            .count()
            >= 2,
        "it was killed too late: {killed_while:?}"
    );
    Ok(())
}

async fn anew(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    rig.settings(|link| link["snapshot"]["chunkBytes"] = 16_384.into())?;
    let mut link = rig.link().await?;
    let born = rig.born_at_target()?;
    let settings = json!({"tables": ["orders.wide"]});
    let status = rig.under_load(round, async {
        plant(rig)?;
        let process = rig.start("suite/anew", "Rebuild", &settings)?;
        kill_on_the_way(rig, &mut link, &process).await?;
        let status = over(&process).await?;
        process.terminate().await?;
        Ok(status)
    })?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    let tables = &status.report.tables;
    ensure!(
        tables.len() == 1 && tables["orders.wide"].done && tables["orders.wide"].rows > 10_000,
        "{status:#?}"
    );
    rig.equal(SAID).await?;
    link.check().await?;
    ensure!(rig.born_at_target()? == born, "the link would send it back");
    let end = "SELECT JSON_UNQUOTE(JSON_EXTRACT(snapshot, '$.done')) FROM multiactive.applied";
    until("its end is written down", async || {
        Ok(rig.target.root(end)? == [["true"]])
    })
    .await?;
    ensure_equal(&rig.verify("suite/afterwards").await?)
}

#[test]
fn a_table_is_copied_anew_under_load_while_the_writer_dies() -> Result<()> {
    between_all("rebuild", anew)
}

/// The same with deaths between what is committed and what follows from it.
async fn crashes(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    rig.settings(|link| link["snapshot"]["chunkBytes"] = 65_536.into())?;
    let mut link = rig.link().await?;
    let settings = json!({"tables": ["orders.wide"]});
    rig.under_load(round, async {
        for (number, point) in ["while-emptying:1", "while-emptying:3", "after-emptying:1"]
            .into_iter()
            .enumerate()
        {
            plant(rig)?;
            link.crash_at(rig, point)?;
            link.wait_streaming().await?;
            let process = rig.start(&format!("suite/crash-{number}"), "Rebuild", &settings)?;
            until("the writer ends", async || Ok(!link.is_writing()?))
                .await
                .with_context(|| format!("{point}\n{}", process.describe()))?;
            link.start_writer(rig)?;
            let status = over(&process).await?;
            process.terminate().await?;
            ensure!(status.phase == RepairPhase::Done, "{point}: {status:#?}");
        }
        Ok(())
    })?;
    rig.equal(SAID).await?;
    link.check().await
}

#[test]
fn a_crash_at_any_step_of_a_rebuild_is_made_up_for() -> Result<()> {
    use harness::Engine::{MariaDb, MySql};
    super::rig::between("rebuild-crashes", MySql, MariaDb, &crashes)
}

/// Every table of a member: one has foreign keys, one is missing, which has halted the link.
async fn member(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    let link = rig.link().await?;
    plant(rig)?;
    rig.target.root(
        "SET sql_log_bin = 0, foreign_key_checks = 0; USE orders; DROP TABLE beside; \
         DELETE FROM parents WHERE id % 3 = 0; UPDATE children SET parent = 1 WHERE id % 2 = 0; \
         CREATE TABLE only_here (id INT PRIMARY KEY)",
    )?;
    rig.source.app("INSERT INTO orders.beside VALUES (1, 1)")?;
    let halted = until("the link halts", async || {
        let writer = link.writer.as_ref().context("no writer")?;
        let status: Option<model::WriterStatus> = writer.status().await?;
        Ok(status.is_some_and(|status| status.phase == model::LinkPhase::Halted))
    });
    halted.await?;
    let all = json!({});
    let run = rig.run("suite/member", "Rebuild", &all);
    let status = rig.under_load(round, run)?;
    ensure!(status.phase == RepairPhase::Incomplete, "{status:#?}");
    let tables = &status.report.tables;
    ensure!(
        tables["orders.only_here"]
            .refused
            .contains("only at the target")
    );
    let copied = ["wide", "beside", "parents", "children"];
    ensure!(
        tables.len() == copied.len() + 1
            && copied
                .iter()
                .all(|name| tables[&format!("orders.{name}")].done),
        "{status:#?}"
    );
    rig.equal(SAID).await?;
    link.check().await
}

#[test]
fn a_whole_member_is_copied_anew() -> Result<()> {
    between_all("rebuild-member", member)
}

/// Definitions that change while the table is emptied and copied are followed.
async fn definitions(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    rig.settings(|link| link["snapshot"]["chunkBytes"] = 8192.into())?;
    let link = rig.link().await?;
    plant(rig)?;
    let settings = json!({"tables": ["orders.wide"]});
    let process = rig.start("suite/ddl", "Rebuild", &settings)?;
    reached(rig, &process, "Emptying", 0).await?;
    rig.source
        .app("ALTER TABLE orders.wide ADD COLUMN first_added INT NOT NULL DEFAULT 3")?;
    reached(rig, &process, "Copying", 3000).await?;
    rig.source
        .app("ALTER TABLE orders.wide ADD COLUMN added INT NOT NULL DEFAULT 7 AFTER v")?;
    rig.source
        .app("UPDATE orders.wide SET added = id WHERE id % 5 = 0")?;
    let status: RepairStatus = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    rig.equal(
        "SELECT COUNT(*), SUM(added), SUM(first_added), SUM(CRC32(CONCAT_WS('#', id, v, added))) \
         FROM orders.wide",
    )
    .await?;
    rig.equal(SAID).await?;
    link.check().await
}

#[test]
fn a_definition_may_change_in_the_middle() -> Result<()> {
    use harness::Engine::{MariaDb, MySql};
    super::rig::between("rebuild-ddl", MySql, MySql, &definitions)?;
    super::rig::between("rebuild-ddl", MariaDb, MariaDb, &definitions)
}
