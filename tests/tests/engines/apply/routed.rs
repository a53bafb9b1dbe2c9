//! Routes with real servers at both ends: three tables come together in one, and one gets another
//! name, copied and followed while the source is written and both ends of the link die.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;
use model::LinkPhase;

use super::links::Link;
use super::rig::{in_world, reset, until, until_applied};

/// Source and target of each engine.
const WAYS: [(&str, &str); 2] = [("sh", "bj"), ("bj", "sh")];

const TABLES: &str = "\
    CREATE TABLE log_1 (id BIGINT PRIMARY KEY, shard INT NOT NULL, v INT NOT NULL, \
    u VARCHAR(40) NULL UNIQUE); \
    CREATE TABLE log_2 LIKE log_1; CREATE TABLE log_3 LIKE log_1; \
    CREATE TABLE tag_1 (name VARCHAR(60) PRIMARY KEY, v INT NOT NULL); \
    CREATE TABLE tag_2 LIKE tag_1; \
    CREATE TABLE items (id INT PRIMARY KEY, v INT NOT NULL);";

/// Both servers empty, and the source with tables.
async fn prepare(source: &Database, target: &Database, sql: &str) -> Result<()> {
    for side in [source, target] {
        reset(side).await?;
        side.root(
            "SET sql_log_bin = 0; DROP TABLE orders.t; DROP DATABASE IF EXISTS merged; \
             GRANT ALL ON merged.* TO 'multiactive'@'%'",
        )?;
    }
    source.root(&format!(
        "SET GLOBAL read_only = 0; \
         INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, '{}', NULL, NOW(6)); \
         USE orders; {sql}",
        source.idc
    ))?;
    Ok(())
}

fn start(world: &World, syncer: &Path, source: &Database, target: &Database) -> Result<Link> {
    Link::start_with(world, syncer, source, target, |link| {
        link["tables"]["routes"] = serde_json::json!([
            {"from": "orders.log_*", "to": "orders.log"},
            {"from": "orders.tag_*", "to": "merged.tag"},
            {"from": "orders.items", "to": "merged.goods"},
        ]);
        link["conflicts"] = serde_json::json!({"detect": "BeforeImage", "resolve": "Halt"});
    })
}

/// Rows that are there before the link.
fn first_rows(source: &Database) -> Result<()> {
    let mut sql = String::new();
    for shard in 1..=3 {
        let rows: Vec<String> = (0..400)
            .map(|n| format!("({}, {shard}, {n}, 'first {shard} {n}')", n * 3 + shard))
            .collect();
        sql.push_str(&format!(
            "INSERT INTO log_{shard} VALUES {};",
            rows.join(",")
        ));
    }
    let rows: Vec<String> = (0..300).map(|n| format!("('tag {n}', {n})")).collect();
    let (one, two) = rows.split_at(150);
    for (number, rows) in [(1, one), (2, two)] {
        sql.push_str(&format!(
            "INSERT INTO tag_{number} VALUES {};",
            rows.join(",")
        ));
    }
    sql.push_str("INSERT INTO items SELECT id, v FROM log_1;");
    source.root(&format!("USE orders; {sql}")).map(drop)
}

/// Changes of every kind, also of keys, and rows that go over from one table to another.
fn load(source: &Database, round: u64) -> Result<()> {
    let mut sql = String::new();
    for n in 0..40_u64 {
        let (shard, next) = (n % 3 + 1, (n + 1) % 3 + 1);
        let id = 10_000 + round * 100 + n;
        let (seven, eleven, thirteen) = (n % 7, (n + round) % 31, (n + round) % 37);
        let past = 100_000 * shard;
        let (gone, tag) = ((n * 3 + 1) * 3 + shard, (n * 7 + round) % 150);
        sql.push_str(&format!(
            "INSERT INTO log_{shard} VALUES ({id}, {shard}, {round}, 'u{id}'); \
             UPDATE log_{shard} SET v = v + 1 WHERE id % 7 = {seven}; \
             UPDATE items SET v = v + 1 WHERE id % 7 = {seven};"
        ));
        if n % 5 == 0 {
            sql.push_str(&format!(
                "DELETE FROM log_{shard} WHERE id % 31 = {eleven}; \
                 UPDATE log_{shard} SET id = id + {past}, u = NULL \
                 WHERE id % 37 = {thirteen} AND id < 100000; \
                 START TRANSACTION; DELETE FROM log_{shard} WHERE id = {gone}; \
                 DELETE FROM log_{next} WHERE id = {gone}; \
                 INSERT INTO log_{next} VALUES ({gone}, {next}, {round}, NULL); COMMIT; \
                 START TRANSACTION; DELETE FROM tag_1 WHERE name = 'tag {tag}'; \
                 DELETE FROM tag_2 WHERE name = 'tag {tag}'; \
                 INSERT INTO tag_2 VALUES ('tag {tag}', {n}); COMMIT; \
                 DELETE FROM items WHERE id % 31 = {eleven};"
            ));
        }
    }
    source.app(&format!("USE orders; {sql}")).map(drop)
}

const TOGETHER: [(&str, &str); 3] = [
    (
        "SELECT * FROM (SELECT * FROM orders.log_1 UNION ALL SELECT * FROM orders.log_2 \
         UNION ALL SELECT * FROM orders.log_3) AS every ORDER BY id",
        "SELECT * FROM orders.log ORDER BY id",
    ),
    (
        "SELECT * FROM (SELECT * FROM orders.tag_1 UNION ALL SELECT * FROM orders.tag_2) AS every \
         ORDER BY name",
        "SELECT * FROM merged.tag ORDER BY name",
    ),
    (
        "SELECT * FROM orders.items ORDER BY id",
        "SELECT * FROM merged.goods ORDER BY id",
    ),
];

/// Waits until the target has all rows, and no others.
async fn equal(source: &Database, target: &Database, link: &Link) -> Result<()> {
    let writers: Vec<_> = link.writer.iter().collect();
    let mut differ = String::new();
    let same = until_applied("both sides are equal", &writers, async || {
        for (there, here) in TOGETHER {
            let here = target.root(here).unwrap_or_default();
            let there = source.root(there)?;
            if there != here {
                let first = there.iter().zip(&here).find(|(there, here)| there != here);
                differ = format!("{} and {} rows, {first:?}", there.len(), here.len());
                return Ok(false);
            }
        }
        Ok(true)
    });
    let outcome = same.await;
    outcome.with_context(|| format!("{differ}\n{}", link.describe()))
}

/// The error that the link halts with, once it names this.
async fn halts(link: &Link, part: &str) -> Result<String> {
    let mut error = String::new();
    let writer = link.writer.as_ref().context("no writer")?;
    let halted = until("the link halts", async || {
        let status = writer.status().await?;
        error = status.error;
        Ok(status.phase == LinkPhase::Halted && error.contains(part))
    });
    let outcome = halted.await;
    outcome.with_context(|| format!("{part:?} is not in {error:?}\n{}", link.describe()))?;
    Ok(error)
}

async fn merge(world: &World, syncer: &Path, source: &Database, target: &Database) -> Result<()> {
    prepare(source, target, TABLES).await?;
    first_rows(source)?;
    let mut link = start(world, syncer, source, target)?;
    let mut while_copying = 0;
    for round in 1..12 {
        load(source, round)?;
        link.kill_writer()?;
        if round % 3 == 0 {
            link.kill_syncer()?;
        }
        let under_way = target.root("SELECT COUNT(*) FROM multiactive.routed")?;
        while_copying += u32::from(under_way != [["0"]]);
    }
    equal(source, target, &link).await?;
    ensure!(
        while_copying > 2,
        "killed {while_copying} times in the copy"
    );
    let writer = link.writer.as_ref().context("no writer")?;
    let forgotten = until("what was copied is forgotten", async || {
        Ok(target.root("SELECT COUNT(*) FROM multiactive.routed")? == [["0"]])
    });
    forgotten.await.with_context(|| link.describe())?;
    let ledger = writer.status().await?.ledger;
    ensure!(
        ledger.read == ledger.applied + ledger.filtered && ledger.conflicts == 0,
        "{ledger:?}"
    );
    // Another table comes in, and one of them is emptied.
    source.app(
        "USE orders; CREATE TABLE log_4 LIKE log_1; \
         INSERT INTO log_4 VALUES (900001, 3, 1, 'of the fourth')",
    )?;
    let arrived = until("a row of the new table arrives", async || {
        let sql = "SELECT COUNT(*) FROM orders.log WHERE u = 'of the fourth'";
        Ok(target.root(sql)? == [["1"]])
    });
    arrived.await.with_context(|| link.describe())?;
    source.app("USE orders; DROP TABLE log_4")?;
    halts(&link, "DROP TABLE").await?;
    hand(
        target,
        &link,
        "DELETE FROM orders.log WHERE u = 'of the fourth'",
    )
    .await?;
    equal(source, target, &link).await?;
    source.app("USE orders; TRUNCATE TABLE log_2")?;
    let before = target.root("SELECT COUNT(*) FROM orders.log")?;
    let error = halts(&link, "TRUNCATE").await?;
    ensure!(
        error.contains("(from orders.log_* to orders.log)"),
        "{error}"
    );
    ensure!(target.root("SELECT COUNT(*) FROM orders.log")? == before);
    hand(target, &link, "DELETE FROM orders.log WHERE shard = 2").await?;
    load(source, 20)?;
    link.kill_writer()?;
    equal(source, target, &link).await
}

/// Does the work of the statement that the link halts at, and has it skipped.
async fn hand(target: &Database, link: &Link, sql: &str) -> Result<()> {
    target.root(&format!("SET sql_log_bin = 0; {sql}"))?;
    link.skip(target).await.map(drop)
}

#[test]
fn three_tables_come_together_while_everything_is_written_and_killed() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        for (from, to) in WAYS {
            let (source, target) = (world.database(from)?, world.database(to)?);
            merge(world, &syncer, source, target)
                .await
                .with_context(|| format!("from {}", source.engine.name()))?;
        }
        Ok(())
    })
}

/// What a copy of several tables into one must not do silently, and goes on from.
async fn refused(world: &World, syncer: &Path, source: &Database, target: &Database) -> Result<()> {
    prepare(
        source,
        target,
        &format!(
            "{TABLES} INSERT INTO log_1 VALUES (1, 1, 1, 'a'), (5, 1, 1, NULL), (7, 1, 1, NULL); \
             INSERT INTO log_2 VALUES (2, 2, 2, 'b'), (5, 1, 1, NULL), (7, 2, 2, NULL); \
             INSERT INTO log_3 VALUES (3, 3, 3, 'a'); \
             CREATE TABLE entries (id INT PRIMARY KEY, log BIGINT NOT NULL, \
             CONSTRAINT of_log FOREIGN KEY (log) REFERENCES log_1 (id) ON DELETE CASCADE)"
        ),
    )
    .await?;
    target.root(
        "SET sql_log_bin = 0; CREATE TABLE orders.log (id BIGINT PRIMARY KEY, shard INT NOT NULL, \
         v INT NOT NULL, u VARCHAR(40) NULL UNIQUE); INSERT INTO orders.log VALUES (1, 9, 9, NULL)",
    )?;
    let link = start(world, syncer, source, target)?;
    let error = halts(&link, "CascadesOfRoutedTable").await?;
    ensure!(error.contains("orders.entries to orders.log_1"), "{error}");
    source.app(
        "USE orders; ALTER TABLE entries DROP FOREIGN KEY of_log; \
         ALTER TABLE entries ADD CONSTRAINT of_log FOREIGN KEY (log) REFERENCES log_1 (id)",
    )?;
    // Rows whose origin is not known.
    let error = halts(&link, "TargetHasRows").await?;
    ensure!(error.contains("already: orders.log."), "{error}");
    target.root("SET sql_log_bin = 0; TRUNCATE TABLE orders.log")?;
    // A table whose foreign key is to one that has another name there.
    let error = halts(&link, "orders.entries").await?;
    ensure!(error.contains("foreign key to orders.log_1"), "{error}");
    target.root(
        "SET sql_log_bin = 0; CREATE TABLE orders.entries (id INT PRIMARY KEY, log BIGINT NOT NULL)",
    )?;
    // Rows of two tables at one key, one time the very same, and of one unique value.
    for (key, mend) in [
        ("id=5", "UPDATE log_2 SET id = 50 WHERE id = 5"),
        ("id=7", "UPDATE log_2 SET id = 70 WHERE id = 7"),
        ("id=3", "UPDATE log_3 SET u = 'c' WHERE id = 3"),
    ] {
        let error = halts(&link, key).await?;
        for part in [
            "a row of another source table",
            "orders.log (rows of orders.log_",
        ] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        source.app(&format!("USE orders; {mend}"))?;
    }
    equal(source, target, &link).await
}

#[test]
fn what_would_not_be_exact_halts_and_goes_on_when_mended() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        for (from, to) in WAYS {
            let (source, target) = (world.database(from)?, world.database(to)?);
            refused(world, &syncer, source, target)
                .await
                .with_context(|| format!("from {}", source.engine.name()))?;
        }
        Ok(())
    })
}
