//! Links without a Unit, both ends for real: MySQL in `sh`, MariaDB in `bj`, and nobody else who makes
//! a schema, looks at the servers or writes heartbeats.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;
use model::{LinkPhase, Severity, WriterStatus};
use serde_json::{Value, json};

use super::links::{Link, equal};
use super::rig::{Writer, in_world, reset, until, until_applied};

/// As servers are that nobody has prepared; applications write to both.
pub async fn bare(world: &World) -> Result<[&Database; 2]> {
    let sides = [world.database("sh")?, world.database("bj")?];
    for side in sides {
        reset(side).await?;
        side.root("SET sql_log_bin = 0; DROP DATABASE multiactive")?;
        side.open()?;
    }
    Ok(sides)
}

pub fn start(
    world: &World,
    syncer: &Path,
    [source, target]: [&Database; 2],
    change: impl FnOnce(&mut Value),
) -> Result<Link> {
    Link::start_with(world, syncer, source, target, |settings| {
        if let Some(settings) = settings.as_object_mut() {
            settings.remove("unit");
        }
        settings["conflicts"] = json!({"detect": "BeforeImage", "resolve": "Halt"});
        change(settings);
    })
}

pub async fn status(link: &Link) -> Result<WriterStatus> {
    let writer = link.writer.as_ref().context("no writer")?;
    writer.status().await
}

/// The blocking findings that the link tells of.
pub async fn refusals(link: &Link) -> Result<Vec<String>> {
    let findings = status(link).await?.findings.unwrap_or_default();
    let blocking = findings.into_iter();
    let blocking = blocking.filter(|finding| finding.severity == Severity::Blocking);
    Ok(blocking.map(|finding| finding.check).collect())
}

pub async fn begins(link: &Link, target: &Database, source: &str) -> Result<()> {
    let begun = format!(
        "SELECT COUNT(*) FROM multiactive.applied WHERE source = '{source}' AND position IS NOT NULL"
    );
    let writers: Vec<&Writer> = link.writer.iter().collect();
    until_applied("the link begins", &writers, async || {
        Ok(target.root(&begun).is_ok_and(|rows| rows == [["1"]]))
    })
    .await
    .with_context(|| link.describe())
}

#[test]
fn one_server_is_copied_to_another() -> Result<()> {
    let syncer = beside_test("syncer")?;
    in_world(async |world| {
        let [sh, bj] = bare(world).await?;
        let rows: Vec<String> = (1..=500).map(|id| format!("({id}, {id}, NULL)")).collect();
        sh.app(&format!("INSERT INTO orders.t VALUES {}", rows.join(", ")))?;
        let link = start(world, &syncer, [sh, bj], |_| {})?;
        equal(sh, bj, &[&link]).await?;
        sh.app("UPDATE orders.t SET v = v + 1; CREATE TABLE orders.more (id INT PRIMARY KEY)")?;
        sh.app("INSERT INTO orders.more VALUES (1)")?;
        equal(sh, bj, &[&link]).await?;
        // Its own heartbeats tell how far it is, though nobody writes anything.
        until("the link streams, and its lag is told", async || {
            let status = status(&link).await?;
            Ok(status.phase == LinkPhase::Streaming && status.lag_millis.is_some())
        })
        .await
        .with_context(|| link.describe())?;
        let at = "SELECT MAX(at) FROM multiactive.heartbeat WHERE idc = 'sh'";
        let before = bj.root(at)?;
        until("heartbeats arrive", async || Ok(bj.root(at)? != before))
            .await
            .with_context(|| link.describe())?;
        ensure!(refusals(&link).await?.is_empty());
        Ok(())
    })
}

#[test]
fn both_ends_take_writes() -> Result<()> {
    let syncer = beside_test("syncer")?;
    in_world(async |world| {
        let [sh, bj] = bare(world).await?;
        let last = |from_sh: bool| {
            let (source, target) = if from_sh { (2, 1) } else { (1, 2) };
            json!({"LastWriteWins":
                {"column": "v", "sourcePriority": source, "targetPriority": target}})
        };
        let with = |from_sh: bool| {
            move |settings: &mut Value| {
                settings["snapshot"]["mode"] = json!("Never");
                settings["conflicts"]["resolve"] = last(from_sh);
            }
        };
        let there = start(world, &syncer, [sh, bj], with(true))?;
        let mut back = start(world, &syncer, [bj, sh], with(false))?;
        begins(&there, bj, "sh").await?;
        begins(&back, sh, "bj").await?;
        for round in 0..20 {
            // The same row at both, most of them before either has heard of the other.
            sh.app(&format!(
                "INSERT INTO orders.t VALUES ({round}, {round}, NULL)"
            ))?;
            let last = 100 - round;
            bj.app(&format!(
                "INSERT INTO orders.t VALUES ({round}, {last}, NULL) ON DUPLICATE KEY UPDATE v = {last}"
            ))?;
            if round == 10 {
                back.kill_syncer()?;
                back.kill_writer()?;
            }
        }
        equal(sh, bj, &[&there, &back]).await?;
        let highest = "SELECT COUNT(*) FROM orders.t WHERE v = 100 - id";
        ensure!(
            sh.root(highest)? == [["20"]],
            "{:?}",
            sh.root("SELECT * FROM orders.t")?
        );
        let held = "SELECT COUNT(*) FROM multiactive.conflicts WHERE state = 'Held'";
        ensure!(sh.root(held)? == [["0"]] && bj.root(held)? == [["0"]]);
        Ok(())
    })
}

/// Nothing is copied while something stands against either server, and it begins once that is mended.
#[test]
fn each_end_looks_at_its_server_first() -> Result<()> {
    let syncer = beside_test("syncer")?;
    in_world(async |world| {
        let [sh, bj] = bare(world).await?;
        sh.app("INSERT INTO orders.t VALUES (1, 1, NULL)")?;
        sh.root("SET GLOBAL binlog_row_image = 'MINIMAL'")?;
        bj.root("SET GLOBAL binlog_row_metadata = 'NO_LOG'")?;
        let link = start(world, &syncer, [sh, bj], |_| {})?;
        let at_target = until("the target is refused", async || {
            Ok(refusals(&link).await? == ["BinlogRowMetadata"])
        });
        at_target.await.with_context(|| link.describe())?;
        let schemas = "SELECT COUNT(*) FROM information_schema.schemata \
                       WHERE schema_name = 'multiactive'";
        for side in [sh, bj] {
            ensure!(
                side.root(schemas)? == [["0"]],
                "{}: a schema was made",
                side.idc
            );
        }
        bj.root("SET GLOBAL binlog_row_metadata = 'FULL'")?;
        let at_source = until("the source is refused", async || {
            let error = status(&link).await?.error;
            Ok(error.contains("binlog_row_image is MINIMAL"))
        });
        at_source.await.with_context(|| link.describe())?;
        sh.root("SET GLOBAL binlog_row_image = 'FULL'")?;
        equal(sh, bj, &[&link]).await
    })
}

/// A link the other way is seen in the database, whatever is known of manifests.
#[test]
fn a_link_that_overwrites_unseen_is_refused_beside_one_the_other_way() -> Result<()> {
    let syncer = beside_test("syncer")?;
    in_world(async |world| {
        let [sh, bj] = bare(world).await?;
        let there = start(world, &syncer, [sh, bj], |_| {})?;
        begins(&there, bj, "sh").await?;
        let back = start(world, &syncer, [bj, sh], |settings| {
            settings["snapshot"]["mode"] = json!("Never");
            settings["conflicts"] = json!({"detect": "Key", "resolve": "Halt"});
        })?;
        until("it is refused", async || {
            Ok(refusals(&back).await? == ["OppositeLink"])
        })
        .await
        .with_context(|| back.describe())
    })
}

/// Not only when it begins: the other one may come later.
#[test]
fn a_link_that_overwrites_unseen_ends_when_one_the_other_way_begins() -> Result<()> {
    let syncer = beside_test("syncer")?;
    in_world(async |world| {
        let [sh, bj] = bare(world).await?;
        let there = start(world, &syncer, [sh, bj], |settings| {
            settings["conflicts"] = json!({"detect": "Key", "resolve": "Halt"});
        })?;
        sh.app("INSERT INTO orders.t VALUES (1, 1, NULL)")?;
        equal(sh, bj, &[&there]).await?;
        let back = start(world, &syncer, [bj, sh], |settings| {
            settings["snapshot"]["mode"] = json!("Never");
        })?;
        begins(&back, sh, "bj").await?;
        until("the first one is refused", async || {
            Ok(refusals(&there).await? == ["OppositeLink"])
        })
        .await
        .with_context(|| there.describe())?;
        until("its session has ended", async || {
            Ok(status(&there).await?.error.contains("would be overwritten"))
        })
        .await
        .with_context(|| there.describe())?;
        // What its source changes from here on is not put over anything.
        sh.app("UPDATE orders.t SET v = 3 WHERE id = 1")?;
        // The careful one meets it, and halts.
        bj.app("UPDATE orders.t SET v = 2 WHERE id = 1")?;
        until("the other one halts", async || {
            Ok(status(&back).await?.phase == LinkPhase::Halted)
        })
        .await
        .with_context(|| back.describe())?;
        ensure!(bj.root("SELECT v FROM orders.t WHERE id = 1")? == [["2"]]);
        ensure!(sh.root("SELECT v FROM orders.t WHERE id = 1")? == [["3"]]);
        Ok(())
    })
}

/// A Unit fences its servers, and would not know of what a link without it writes there.
#[test]
fn servers_of_a_unit_are_left_alone() -> Result<()> {
    let syncer = beside_test("syncer")?;
    in_world(async |world| {
        let sides = [world.database("sh")?, world.database("bj")?];
        for side in sides {
            reset(side).await?;
        }
        let [sh, bj] = sides;
        let owner = "SET sql_log_bin = 0; INSERT INTO multiactive.owner \
                     (installation, unit, idc, at) VALUES ('/x/', 'shop/orders', 'bj', UTC_TIMESTAMP(6))";
        bj.root(owner)?;
        let link = start(world, &syncer, [sh, bj], |_| {})?;
        let refused = async |check: &str| {
            until(check, async || Ok(refusals(&link).await? == [check]))
                .await
                .with_context(|| link.describe())
        };
        refused("SharedServer").await?;
        // A Unit that was deleted leaves its row, and its epochs.
        bj.root("SET sql_log_bin = 0; UPDATE multiactive.owner SET at = at - INTERVAL 1 DAY")?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        refused("SharedServer").await?;
        bj.root("SET sql_log_bin = 0; DELETE FROM multiactive.owner")?;
        bj.root(
            "SET sql_log_bin = 0; INSERT INTO multiactive.epoch (epoch, idc, at) \
             VALUES (3, 'bj', UTC_TIMESTAMP(6))",
        )?;
        refused("FormerMember").await?;
        bj.root("SET sql_log_bin = 0; DELETE FROM multiactive.epoch")?;
        begins(&link, bj, "sh").await
    })
}
