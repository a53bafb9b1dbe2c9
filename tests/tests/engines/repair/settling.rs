//! What was put off is settled at a table's end, and a run may halt or die there: between rows that
//! are mended together it goes on later as if it had never begun with them.

use anyhow::{Result, ensure};
use harness::Engine::{MariaDb, MySql};
use model::{RepairPhase, RepairStatus};
use mysql::session::Session;
use mysql_async::prelude::Queryable as _;
use serde_json::json;

use super::rig::{Process, Rig, between, over};
use crate::apply::rig::until;

/// A session of the target that holds locks, as a person's may.
struct Holding(Session);

impl Holding {
    async fn begin(rig: &Rig<'_>, sql: &str) -> Result<Self> {
        let mut session = crate::apply::rig::options(rig.target)?.connect().await?;
        session.conn.query_drop("START TRANSACTION").await?;
        session.conn.query_drop(sql).await?;
        Ok(Self(session))
    }

    async fn end(mut self) -> Result<()> {
        Ok(self.0.conn.query_drop("ROLLBACK").await?)
    }
}

/// Waits until a repair has this row of `orders.many` and waits for a lock: it is amid rows that it
/// mends together, since of rows that it mends alone it has one at a time.
async fn amid_a_group(rig: &Rig<'_>, process: &Process, row: u32) -> Result<()> {
    let probe = format!("SELECT id FROM orders.many WHERE id = {row} FOR UPDATE NOWAIT");
    let amid = until("rows are being mended together", async || {
        Ok(rig.somebody_waits()? && rig.target.root(&probe).is_err())
    });
    let outcome = amid.await;
    outcome.map_err(|error| error.context(process.describe()))
}

const TABLE: &str =
    "USE orders; CREATE TABLE many (id INT PRIMARY KEY, u INT UNIQUE, w INT UNIQUE)";

fn rows(ids: impl Iterator<Item = u32>) -> String {
    let values: Vec<String> = ids.map(|id| format!("({id}, {id}, {id} + 1000)")).collect();
    format!("USE orders; INSERT INTO many VALUES {}", values.join(","))
}

/// What a run has done to the table, and what it says of it.
fn told(status: &RepairStatus) -> [u64; 5] {
    let it = status.report.total();
    let differ = it.missing + it.extra + it.differing;
    [it.rows, differ, it.repaired, it.failed, it.unjudged]
}

/// Rows 1 and 2 hold each other's values, and somebody else holds row 2; the table has several chunks.
async fn halts(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLE, &rows(1..=600))?;
    let link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    let base = Rig::checksums(rig.target)?;
    rig.plant(
        "USE orders;",
        "UPDATE many SET u = NULL WHERE id = 1; UPDATE many SET u = 1 WHERE id = 2; \
         UPDATE many SET u = 2 WHERE id = 1",
    )?;
    rig.plant("USE orders;", "DELETE FROM many WHERE id IN (3, 600)")?;
    let held = Holding::begin(rig, "SELECT * FROM orders.many WHERE id = 2 FOR UPDATE").await?;
    let settings = json!({"maxBatchBytes": 4096, "consistencyTimeoutMillis": 1000});

    let process = rig.start("suite/stopped", "Repair", &settings)?;
    amid_a_group(rig, &process, 1).await?;
    rig.control("suite/stopped", "Stop")?;
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(status.phase == RepairPhase::Stopped, "{status:#?}");
    ensure!(!status.report.tables["orders.many"].done, "{status:#?}");
    ensure!(told(&status)[1..] == [2, 2, 0, 0], "{status:#?}");

    // Ended in good order there, it is there again when it goes on.
    let process = rig.start("suite/halted", "Repair", &settings)?;
    amid_a_group(rig, &process, 1).await?;
    process.terminate().await?;
    let process = rig.start("suite/halted", "Repair", &settings)?;
    amid_a_group(rig, &process, 1).await?;
    rig.control("suite/halted", "Pause")?;
    let mut paused: Option<RepairStatus> = None;
    until("it is paused", async || {
        paused = process.status().await?;
        Ok(paused
            .as_ref()
            .is_some_and(|it| it.phase == RepairPhase::Paused))
    })
    .await?;
    process.kill()?;
    held.end().await?;
    rig.control("suite/halted", "Run")?;
    let status = rig.run("suite/halted", "Repair", &json!({})).await?;
    ensure!(status.phase == RepairPhase::Done, "{status:#?} {paused:#?}");
    ensure!(told(&status) == [600, 2, 2, 0, 0], "{status:#?}");
    ensure!(rig.recorded("suite/halted", "Repaired")? == 2);
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    link.check().await
}

#[test]
fn a_run_that_halts_while_it_settles_goes_on_there() -> Result<()> {
    between("settling", MariaDb, MariaDb, &halts)
}

/// Sixteen pairs that hold each other's values, and four rows: what row 1 must have, which the target
/// lacks, row 44 has; 43 and 44 have each other's; and what 44 must have, 50 has, which the source
/// lacks. Of a still moment's rows those that are missing come last: so row 1, which is judged with
/// the first 32, is tried together with others before 43 and 44 are, and after all pairs.
const PLANTS: [&str; 4] = [
    "DELETE FROM many WHERE id = 1",
    "UPDATE many SET u = -u WHERE id > 10",
    "UPDATE many SET u = IF(id % 2, id + 1, id - 1) WHERE id > 10",
    "UPDATE many SET w = IF(id = 43, NULL, 1001) WHERE id > 42; \
     INSERT INTO many VALUES (50, NULL, 1044)",
];
/// The four of them.
const FOUR: &str = "SELECT id, u, w FROM orders.many WHERE id IN (1, 43, 44, 50)";

/// A lock on the row that only the target has keeps it from being removed by itself: it is one of the
/// group then.
const LOCK: &str = "SELECT * FROM orders.many WHERE id = 50 FOR UPDATE";

/// Rows that are missing, extra and differing are mended together, and taken back together.
async fn of_every_kind(rig: &Rig<'_>, settings: &serde_json::Value) -> Result<()> {
    let (spoilt, held) = (
        Rig::checksums(rig.target)?,
        Holding::begin(rig, LOCK).await?,
    );
    let process = rig.start("suite/whole", "Repair", settings)?;
    amid_a_group(rig, &process, 44).await?;
    held.end().await?;
    let status = over(&process).await?;
    process.terminate().await?;
    ensure!(told(&status) == [35, 36, 36, 0, 0], "{status:#?}");
    let together = rig.target.root(
        "SELECT kind, COUNT(*) FROM multiactive.repairs \
         WHERE reason = 'mended together with 3 others' GROUP BY kind ORDER BY 1",
    )?;
    let kinds = [["Missing", "1"], ["Extra", "1"], ["Differing", "2"]];
    ensure!(together == kinds, "{together:?}");
    let undone = rig.run("suite/whole", "Undo", &json!({})).await?;
    ensure!(undone.phase == RepairPhase::Done, "{undone:#?}");
    ensure!(undone.report.total().undone == 36, "{undone:#?}");
    ensure!(Rig::checksums(rig.target)? == spoilt, "not as it had been");
    Ok(())
}

/// SIGKILL between what a transaction removes and what it puts: a value that somebody is about to
/// insert stops it there.
async fn dies_amid(rig: &Rig<'_>, settings: &serde_json::Value) -> Result<()> {
    let (four, held) = (rig.target.root(FOUR)?, Holding::begin(rig, LOCK).await?);
    ensure!(four.len() == 3, "{four:?}");
    let insert = "INSERT INTO orders.many VALUES (60, NULL, 9000)";
    let taken = Holding::begin(rig, insert).await?;
    let process = rig.start("suite/group", "Repair", settings)?;
    amid_a_group(rig, &process, 44).await?;
    held.end().await?;
    amid_a_group(rig, &process, 50).await?;
    process.kill()?;
    ensure!(rig.target.root(FOUR)? == four, "half of a group");
    taken.end().await?;
    ensure!(rig.target.root(FOUR)? == four, "half of a group");
    ensure!(rig.recorded("suite/group", "Repaired")? == 32);
    let status = rig.run("suite/group", "Repair", &json!({})).await?;
    let total = status.report.total();
    ensure!(status.phase == RepairPhase::Done, "{status:#?}");
    ensure!(told(&status) == [35, 36, 36, 0, 0], "{status:#?}");
    ensure!((total.missing, total.extra) == (1, 1), "{status:#?}");
    ensure!(rig.recorded("suite/group", "Repaired")? == 36);
    Ok(())
}

async fn groups(rig: &Rig<'_>) -> Result<()> {
    // Nobody's value is next to the one that stops it: whoever looks there for his own would wait too.
    let far = "UPDATE many SET w = 9000 WHERE id = 43";
    let rows = rows([1].into_iter().chain(11..=44));
    rig.make(TABLE, &format!("{rows}; {far}"))?;
    let link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    let base = Rig::checksums(rig.target)?;
    for sql in PLANTS {
        rig.plant("USE orders;", sql)?;
    }
    let settings = json!({"consistencyTimeoutMillis": 3000});
    of_every_kind(rig, &settings).await?;
    dies_amid(rig, &settings).await?;
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    link.check().await
}

#[test]
fn a_group_is_mended_as_a_whole_or_not_at_all() -> Result<()> {
    between("groups", MySql, MariaDb, &groups)
}
