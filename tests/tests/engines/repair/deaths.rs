//! What is killed in the middle, the process or either server: the run goes on, and mends nothing twice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::Engine::{MariaDb, MySql};
use model::{RepairPhase, RepairStatus};
use serde_json::json;

use super::rig::{Process, Rig, between, over};
use crate::apply::rig::until;

const ROWS: u64 = 3000;
/// A hundred each are missing, extra and differing by themselves; forty hold each other's values.
const PLANTS: [(&str, u64); 6] = [
    ("UPDATE t SET v = -1 WHERE id % 30 = 7", 100),
    ("DELETE FROM t WHERE id % 30 = 8", 100),
    (
        "INSERT INTO t SELECT id + 100000, 0, NULL FROM t WHERE id % 30 = 9",
        100,
    ),
    (
        "UPDATE t SET u = -u WHERE id < 3000 AND id % 150 IN (20, 21)",
        40,
    ),
    (
        "UPDATE t SET u = id + 1 WHERE id < 3000 AND id % 150 = 20",
        20,
    ),
    (
        "UPDATE t SET u = id - 1 WHERE id < 3000 AND id % 150 = 21",
        20,
    ),
];
const PLANTED: u64 = 340;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Process,
    Source,
    Target,
}

/// Who dies once so many rows were mended. What holds each other's values is mended last.
const DEATHS: [(u64, Victim); 7] = [
    (20, Victim::Process),
    (70, Victim::Source),
    (120, Victim::Target),
    (180, Victim::Process),
    (240, Victim::Target),
    (304, Victim::Process),
    (310, Victim::Source),
];

/// Waits until so many rows were mended; whether the run was not over then.
async fn mended(process: &Process, count: u64) -> Result<bool> {
    let mut last: Option<RepairStatus> = None;
    until("some rows were mended", async || {
        last = process.status().await?;
        let repaired = last.as_ref().map(|it| it.report.total().repaired);
        Ok(repaired.is_some_and(|repaired| repaired >= count))
    })
    .await
    .with_context(|| format!("{last:#?}\n{}", process.describe()))?;
    Ok(last.is_some_and(|status| !status.phase.is_over()))
}

async fn die(rig: &Rig<'_>) -> Result<()> {
    let values: Vec<String> = (0..ROWS).map(|id| format!("({id}, {id}, {id})")).collect();
    rig.make(
        "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT, u INT UNIQUE)",
        &format!("USE orders; INSERT INTO t VALUES {}", values.join(",")),
    )?;
    let link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    let base = Rig::checksums(rig.target)?;
    for (sql, count) in PLANTS {
        let planted = rig.plant("USE orders;", sql)?;
        ensure!(planted == count, "{planted}: {sql}");
    }
    let settings = json!({"maxBatchBytes": 8192});
    let mut process = rig.start("suite/dies", "Repair", &settings)?;
    let mut deaths = 0;
    for (count, victim) in DEATHS {
        deaths += u32::from(mended(&process, count).await?);
        match victim {
            Victim::Process => {
                process.kill()?;
                process = rig.start("suite/dies", "Repair", &settings)?;
            }
            Victim::Source => rig.crash(rig.source)?,
            Victim::Target => rig.crash(rig.target)?,
        }
    }
    ensure!(deaths >= 6, "there were {deaths} deaths in the middle only");
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    let total = status.report.total();
    ensure!(
        (total.missing, total.extra, total.differing) == (100, 100, 140)
            && (total.repaired, total.failed, total.unjudged) == (PLANTED, 0, 0),
        "{status:#?}"
    );
    ensure!(
        total.rows >= ROWS - 100 && total.rows <= ROWS,
        "{status:#?}"
    );
    ensure!(rig.recorded("suite/dies", "Repaired")? == PLANTED);
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    rig.equal("SELECT * FROM orders.t ORDER BY id").await?;
    // The link has outlived both servers too, and met no row that it did not expect.
    link.wait_streaming().await?;
    link.check().await
}

#[test]
fn whatever_dies_a_run_goes_on_and_mends_nothing_twice() -> Result<()> {
    between("deaths", MySql, MariaDb, &die)
}

/// Paused it does nothing, resumed it goes on, stopped it ends; SIGTERM keeps its place.
async fn pause(rig: &Rig<'_>) -> Result<()> {
    let values: Vec<String> = (0..ROWS).map(|id| format!("({id}, {id})")).collect();
    rig.make(
        "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        &format!("USE orders; INSERT INTO t VALUES {}", values.join(",")),
    )?;
    let _link = rig.link().await?;
    let slow = json!({"maxBatchBytes": 4096,
        "throttle": {"share": 0.02, "maxLagMillis": 60_000, "maxThreadsRunning": 10_000}});
    let process = rig.start("suite/slow", "Verify", &slow)?;
    let rows = async |process: &Process| -> Result<(RepairPhase, u64)> {
        let status: Option<RepairStatus> = process.status().await?;
        Ok(status.map_or((RepairPhase::Pending, 0), |it| (it.phase, it.report.rows)))
    };
    until("it has begun", async || Ok(rows(&process).await?.1 > 0)).await?;
    let want = |control: &str| rig.control("suite/slow", control);
    want("Pause")?;
    until("it is paused", async || {
        Ok(rows(&process).await?.0 == RepairPhase::Paused)
    })
    .await?;
    let (_, at) = rows(&process).await?;
    // Long enough for several chunks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(rows(&process).await? == (RepairPhase::Paused, at));
    want("Run")?;
    until("it goes on", async || Ok(rows(&process).await?.1 > at)).await?;
    process.terminate().await?;
    let process = rig.start("suite/slow", "Verify", &slow)?;
    until("it goes on", async || Ok(rows(&process).await?.1 > at)).await?;
    want("Stop")?;
    let status = over(&process).await?;
    ensure!(status.phase == RepairPhase::Stopped, "{status:#?}");
    ensure!(status.report.rows < ROWS, "{status:#?}");
    Ok(())
}

#[test]
fn it_is_paused_resumed_and_stopped() -> Result<()> {
    between("pause", MySql, MariaDb, &pause)
}
