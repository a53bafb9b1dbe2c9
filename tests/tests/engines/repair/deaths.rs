//! A process that is killed in the middle: its successor goes on, and mends nothing twice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use model::{RepairPhase, RepairStatus};
use serde_json::json;

use super::rig::{Rig, between_all, over};
use crate::apply::rig::until;

const ROWS: u64 = 3000;
const PLANTED: u64 = 300;

async fn die(rig: &Rig<'_>) -> Result<()> {
    let values: Vec<String> = (0..ROWS).map(|id| format!("({id}, {id}, {id})")).collect();
    rig.make(
        "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT, u INT UNIQUE)",
        &format!("USE orders; INSERT INTO t VALUES {}", values.join(",")),
    )?;
    let link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    let base = Rig::checksums(rig.target)?;
    for (sql, count) in [
        ("UPDATE t SET v = -1 WHERE id % 30 = 7", 100),
        ("DELETE FROM t WHERE id % 30 = 8", 100),
        (
            "INSERT INTO t SELECT id + 100000, 0, NULL FROM t WHERE id % 30 = 9",
            100,
        ),
    ] {
        let planted = rig.plant("USE orders;", sql)?;
        ensure!(planted == count, "{planted}: {sql}");
    }
    let settings = json!({"maxBatchBytes": 8192});
    let mut deaths = 0;
    for mended in [20, 90, 150, 220] {
        let process = rig.start("suite/dies", "Repair", &settings)?;
        let mut last: Option<RepairStatus> = None;
        until("some rows were mended", async || {
            last = process.status().await?;
            let count = last.as_ref().map(|it| it.report.total().repaired);
            Ok(count.is_some_and(|count| count >= mended))
        })
        .await
        .with_context(|| format!("{last:#?}\n{}", process.describe()))?;
        let over = last.is_some_and(|status| status.phase.is_over());
        process.kill()?;
        deaths += u32::from(!over);
    }
    ensure!(deaths >= 3, "it was killed {deaths} times only");
    let process = rig.start("suite/dies", "Repair", &settings)?;
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    let total = status.report.total();
    ensure!(
        (
            total.repaired,
            total.failed,
            total.missing,
            total.extra,
            total.differing
        ) == (PLANTED, 0, 100, 100, 100),
        "{status:#?}"
    );
    ensure!(
        total.rows >= ROWS - 100 && total.rows <= ROWS,
        "{status:#?}"
    );
    let records = rig.target.root(
        "SELECT COUNT(*), COUNT(DISTINCT `row`) FROM multiactive.repairs \
         WHERE run = 'suite/dies' AND state = 'Repaired'",
    )?;
    ensure!(records == [["300", "300"]], "{records:?}");
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    link.check().await
}

#[test]
fn a_successor_goes_on_and_mends_nothing_twice() -> Result<()> {
    between_all("deaths", die)
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
    let rows = async |process: &super::rig::Process| -> Result<(RepairPhase, u64)> {
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
    use harness::Engine::{MariaDb, MySql};
    super::rig::between("pause", MySql, MariaDb, &pause)
}
