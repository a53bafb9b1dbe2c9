//! Rows are copied while they change, and the copy goes on where it was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use change::Frame;

use super::pull::{Pull, is_at_rest};
use super::{Source, on_each, on_each_where_ddl_is};

/// Tables with keys of several kinds, a unique value, and enough rows for many chunks.
const TABLES: &str = "\
    CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, v INT, u INT UNIQUE); \
    CREATE TABLE texts (name VARCHAR(40) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT); \
    CREATE TABLE pairs (a INT, b VARCHAR(10) CHARACTER SET latin1, v INT, PRIMARY KEY (a, b)); \
    INSERT INTO plain (v) SELECT seq.n FROM (SELECT d1.d + 10 * d2.d + 100 * d3.d AS n FROM \
    (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 \
    UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) d1, \
    (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 \
    UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) d2, \
    (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) d3) seq; \
    INSERT INTO plain (v) SELECT v FROM plain; \
    INSERT INTO texts SELECT CONCAT(IF(v % 2, 'n', 'N'), id), v FROM plain; \
    INSERT INTO pairs SELECT v % 20, CONCAT('b', id), v FROM plain;";

/// Changes of every kind, all over the tables: rows come, go, change, change their keys and swap
/// unique values. `round` makes them differ.
fn changes(round: u32) -> String {
    let (seven, five) = (round % 7, round % 5);
    format!(
        "USE orders; INSERT INTO plain (v) VALUES ({round}), ({round}), ({round}); \
         UPDATE plain SET v = v + 1 WHERE id % 7 = {seven}; \
         DELETE FROM plain WHERE id % 31 = {round} % 31; \
         START TRANSACTION; UPDATE plain SET u = NULL; UPDATE plain SET u = id + {round} \
         WHERE id % 3 = 0; COMMIT; \
         UPDATE texts SET name = UPPER(name) WHERE v % 5 = {five}; \
         UPDATE texts SET name = LOWER(name) WHERE v % 7 = {seven}; \
         INSERT INTO texts VALUES ('x{round}', {round}); DELETE FROM texts WHERE v % 29 = {round} % 29; \
         UPDATE pairs SET a = a + 1 WHERE a = {round} % 20 AND v % 5 = {five}; \
         DELETE FROM pairs WHERE v % 37 = {round} % 37; \
         INSERT INTO pairs VALUES (7, 'r{round}', {round})"
    )
}

/// Reads until all is copied and everything up to now has come, while the source is written.
/// `cuts`: how often the connection is cut on the way.
async fn copy_under_load(source: &Source<'_>, cuts: u64) -> Result<Pull> {
    let stop = AtomicBool::new(false);
    let database = source.database;
    let (pull, load) = thread::scope(|scope| {
        let load = scope.spawn(|| -> Result<u32> {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                database.root(&changes(round))?;
            }
            Ok(round)
        });
        let copy = async {
            let mut pull = source.pull(None).await?;
            let mut cut = 0;
            while !pull.copied_all {
                pull.next().await?;
                // At a prime distance, so that the cuts fall on frames of each kind.
                if cut < cuts && pull.frames % 23 == 22 {
                    cut += 1;
                    pull.again(source).await?;
                }
            }
            ensure!(cut == cuts, "only {cut} cuts");
            Ok(pull)
        };
        let runtime = tokio::runtime::Handle::current();
        let pull = tokio::task::block_in_place(|| runtime.block_on(copy));
        stop.store(true, Ordering::Relaxed);
        (pull, load.join())
    });
    let mut pull = pull?;
    match load {
        Ok(rounds) => ensure!(rounds? >= 5, "too little was written meanwhile"),
        Err(_) => anyhow::bail!("the load panicked"),
    }
    pull.reach(&source.end()?).await?;
    Ok(pull)
}

/// Compares with a copy of the tables at rest.
async fn check(source: &Source<'_>, pull: &Pull) -> Result<()> {
    ensure!(pull.conflicts.is_empty(), "{:?}", pull.conflicts);
    ensure!(pull.chunks > 30, "only {} chunks", pull.chunks);
    is_at_rest(source, pull).await
}

#[test]
fn rows_that_change_while_they_are_copied_come_out_right() -> Result<()> {
    on_each(async |source| {
        source.make(TABLES)?;
        let pull = copy_under_load(source, 0).await?;
        check(source, &pull).await
    })
}

#[test]
fn a_copy_that_was_cut_goes_on_where_it_was() -> Result<()> {
    on_each(async |source| {
        source.make(TABLES)?;
        let pull = copy_under_load(source, 6).await?;
        ensure!(
            pull.snapshots.iter().filter(|begin| !begin.resumed).count() == 1
                && pull.snapshots.len() > 3,
            "{:?}",
            pull.snapshots
        );
        check(source, &pull).await
    })
}

/// Reads until a chunk has come, so that the copy is under way and far from its end.
async fn first_chunk(source: &Source<'_>) -> Result<Pull> {
    source.make(TABLES)?;
    let mut pull = source.pull(None).await?;
    while pull.chunks == 0 {
        pull.next().await?;
    }
    ensure!(!pull.copied_all);
    Ok(pull)
}

#[test]
fn tables_may_be_emptied_and_dropped_while_they_are_copied() -> Result<()> {
    on_each(async |source| {
        let mut pull = first_chunk(source).await?;
        source.database.root(
            "USE orders; TRUNCATE TABLE plain; INSERT INTO plain (v) VALUES (1), (2); \
             DROP TABLE pairs",
        )?;
        while !pull.copied_all {
            pull.next().await?;
        }
        pull.reach(&source.end()?).await?;
        ensure!(pull.conflicts.is_empty(), "{:?}", pull.conflicts);
        is_at_rest(source, &pull).await
    })
}

/// Where statements are left out, the copy hears of them all the same.
#[test]
fn a_table_that_is_dropped_while_it_is_copied_does_not_keep_a_link_that_leaves_statements_out()
-> Result<()> {
    on_each_where_ddl_is("Ignore", async |source| {
        let mut pull = first_chunk(source).await?;
        source
            .database
            .root("USE orders; DROP TABLE pairs, plain")?;
        while !pull.copied_all {
            pull.next().await?;
        }
        pull.reach(&source.end()?).await?;
        let copied = pull.rows();
        ensure!(copied.keys().any(|(table, _)| table == "orders.texts"));
        Ok(())
    })
}

#[test]
fn a_table_that_is_renamed_while_it_is_copied_halts_the_link() -> Result<()> {
    on_each(async |source| {
        let mut pull = first_chunk(source).await?;
        source
            .database
            .root("USE orders; RENAME TABLE plain TO plain2")?;
        let halt = pull.halt().await?;
        ensure!(
            halt.reason == "RenamedWhileCopied" && halt.message.contains("orders.plain"),
            "{halt:?}"
        );
        Ok(())
    })
}

#[test]
fn a_copy_from_a_member_that_lost_its_epoch_halts_the_link() -> Result<()> {
    on_each(async |source| {
        let mut pull = first_chunk(source).await?;
        let mark = match source.flavor() {
            change::Flavor::MySql => "SET gtid_next = 'AUTOMATIC:ma_gz'".to_owned(),
            change::Flavor::MariaDb => {
                let gz = model::IdcName::new("gz")?;
                format!("SET gtid_domain_id = {}", mysql::origin::origin_domain(&gz))
            }
        };
        source.database.root(&format!(
            "{mark}; INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, 'gz', NULL, NOW(6))"
        ))?;
        let halt = loop {
            match pull.next().await? {
                Frame::Halt(halt) => break halt,
                _ => ensure!(!pull.copied_all, "the copy went on to its end"),
            }
        };
        ensure!(
            halt.reason == "PrimaryMoved" && halt.message.contains("gz (epoch 2)"),
            "{halt:?}"
        );
        Ok(())
    })
}
