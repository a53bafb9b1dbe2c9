//! What no link carries, with real servers at both ends: the link halts at it, a person does at the
//! target what is wanted there and has it skipped, and everything behind it arrives.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::{Database, Engine};
use harness::programs::beside_test;
use mysql::skips;

use super::links::{Link, equal};
use super::rig::{in_world, options, reset};
use super::skips::{halted_at, settled};

/// What somebody does at the source, the word that the link halts with, and what a person does at the
/// target then.
struct Case {
    done: &'static str,
    reason: &'static str,
    by_hand: &'static str,
}

const BOTH: [Case; 7] = [
    Case {
        done: "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
        reason: "ServerEvent",
        by_hand: "DO 1",
    },
    Case {
        done: "CREATE TABLE filled (id INT PRIMARY KEY) AS SELECT id FROM t",
        reason: "DdlWithRows",
        by_hand: "CREATE TABLE filled (id INT PRIMARY KEY) AS SELECT id FROM t",
    },
    Case {
        done: "SET SESSION binlog_format = STATEMENT; UPDATE t SET v = v + 1",
        reason: "StatementFormat",
        by_hand: "UPDATE t SET v = v + 1",
    },
    // Whole rows before and behind those that are not: none of them is applied.
    Case {
        done: "BEGIN; INSERT INTO t VALUES (50, 1, NULL); SET SESSION binlog_row_image = MINIMAL; \
               UPDATE t SET v = 7 WHERE id = 1; SET SESSION binlog_row_image = FULL; \
               INSERT INTO t VALUES (51, 1, NULL); COMMIT",
        reason: "RowImage",
        by_hand: "INSERT INTO t VALUES (50, 1, NULL), (51, 1, NULL); UPDATE t SET v = 7 WHERE id = 1",
    },
    Case {
        done: "CREATE TABLE one (id INT PRIMARY KEY); RENAME TABLE one TO unwanted_one",
        reason: "DdlAcrossSelection",
        by_hand: "DROP TABLE one",
    },
    Case {
        done: "CREATE TRIGGER doubles BEFORE INSERT ON t FOR EACH ROW SET NEW.v = NEW.v",
        reason: "would happen twice",
        by_hand: "DO 1",
    },
    Case {
        done: "SET sql_log_bin = 0; DROP TRIGGER doubles; SET sql_log_bin = 1; \
               CREATE TABLE two (id INT PRIMARY KEY); DROP TABLE two, unwanted_one",
        reason: "DdlAcrossSelection",
        by_hand: "DROP TABLE two",
    },
];

const MYSQL: [Case; 1] = [Case {
    done: "SET SESSION binlog_row_value_options = PARTIAL_JSON; \
           UPDATE j SET j = JSON_SET(j, '$.a', 'y')",
    reason: "PartialJson",
    by_hand: "UPDATE j SET j = JSON_SET(j, '$.a', 'y')",
}];

/// Lets one of them halt the link and gets past it.
async fn pass(source: &Database, target: &Database, link: &mut Link, case: &Case) -> Result<()> {
    let Case {
        done,
        reason,
        by_hand,
    } = case;
    source.root(&format!("USE orders; {done}"))?;
    let writer = link.writer.as_ref().context("no writer")?;
    let at = halted_at(writer).await?;
    let error = writer.status().await?.error;
    ensure!(
        at.skippable && error.contains(reason) && error.contains("link skip"),
        "{at:?}: {error}"
    );
    // Both ends meet it again, and know no more than before.
    link.kill_syncer()?;
    link.kill_writer()?;
    target.root(&format!("SET sql_log_bin = 0; USE orders; {by_hand}"))?;
    ensure!(link.skip(target).await? == at, "it went on");
    let row = "INSERT INTO orders.t SELECT MAX(id) + 1, 0, NULL FROM orders.t";
    source.app(row)?;
    equal(source, target, &[link]).await?;
    let name = format!("suite/{}-{}", source.idc, target.idc);
    let mut session = options(target)?.connect().await?;
    let held = skips::held(&mut session, &name, true).await?;
    ensure!(held.iter().any(|held| held.gtid == at.gtid), "{held:?}");
    Ok(())
}

async fn all(world: &World, syncer: &Path, source: &Database, target: &Database) -> Result<()> {
    for side in [source, target] {
        reset(side).await?;
    }
    let json = match source.engine {
        Engine::MySql => {
            "CREATE TABLE j (id INT PRIMARY KEY, j JSON); \
             INSERT INTO j VALUES (1, CONCAT('{\"a\":\"', REPEAT('x', 100), '\"}'))"
        }
        Engine::MariaDb => "DO 1",
    };
    source.root(&format!(
        "SET GLOBAL read_only = 0; \
         INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, '{}', NULL, NOW(6)); \
         USE orders; INSERT INTO t VALUES (1, 0, 1), (2, 0, 2); {json}",
        source.idc
    ))?;
    target.root("SET sql_log_bin = 0; DROP TABLE orders.t")?;
    let mut link = Link::start_with(world, syncer, source, target, |link| {
        link["tables"]["exclude"] = serde_json::json!(["orders.unwanted_*"]);
    })?;
    equal(source, target, &[&link]).await?;
    let own: &[Case] = match source.engine {
        Engine::MySql => &MYSQL,
        Engine::MariaDb => &[],
    };
    let mut passed = 0;
    for case in BOTH.iter().chain(own) {
        pass(source, target, &mut link, case)
            .await
            .with_context(|| format!("{}\n{}", case.done, link.describe()))?;
        passed += 1;
    }
    let writer = link.writer.as_ref().context("no writer")?;
    let ledger = settled(writer).await?.ledger;
    ensure!(
        ledger.held == passed
            && ledger.read == ledger.applied + ledger.filtered + ledger.conflicts + ledger.held,
        "{ledger:?}"
    );
    Ok(())
}

#[test]
fn what_no_link_carries_is_done_by_hand_and_skipped() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        for (from, to) in [("sh", "bj"), ("bj", "sh")] {
            let (source, target) = (world.database(from)?, world.database(to)?);
            all(world, &syncer, source, target)
                .await
                .with_context(|| format!("from {}", source.engine.name()))?;
        }
        Ok(())
    })
}
