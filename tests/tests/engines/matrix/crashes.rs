//! Everything of a link is killed while its source is written, both ends and both servers, in an
//! order drawn from a seed. Afterwards both sides are equal, and the books tell each change once.
//!
//! `MULTIACTIVE_SEED` and `MULTIACTIVE_CRASHES` (how many, each way) are for longer runs; what fails
//! names the seed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::database::{Database, part};
use harness::{Engine, World};

use super::pair::{Pair, world};
use crate::apply::rig::{start_writer, until};
use crate::worlds::block_on;

/// Numbers that look random and are the same each time (Knuth's constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Syncer,
    Writer,
    Source,
    Target,
}

const TABLES: &str = "\
    CREATE TABLE counters (id INT PRIMARY KEY, n BIGINT NOT NULL); \
    INSERT INTO counters VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0); \
    CREATE TABLE journal (id BIGINT AUTO_INCREMENT PRIMARY KEY, counter INT NOT NULL, \
    u BIGINT NULL UNIQUE)";

/// So many transactions in one go of the client: one that a crash of the server cuts in two is
/// there whole or not at all.
const BATCH: u64 = 40;

/// Writes until told to stop: each transaction adds one to a counter and a row to the journal.
/// Errors are the crashes of the server.
fn write(side: &Database, stop: &AtomicBool, written: &AtomicU64) {
    let mut numbers = Numbers(3);
    while !stop.load(Ordering::Relaxed) {
        let mut sql = String::from("USE orders;");
        for _ in 0..BATCH {
            let counter = numbers.below(8);
            sql.push_str(&format!(
                "START TRANSACTION; UPDATE counters SET n = n + 1 WHERE id = {counter}; \
                 INSERT INTO journal (counter) VALUES ({counter}); COMMIT;"
            ));
        }
        if side.root(&sql).is_ok() {
            written.fetch_add(BATCH, Ordering::Relaxed);
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn restart(world: &World, idc: &str, open: bool) -> Result<()> {
    let name = part(idc);
    world.kill(&name)?;
    world.start(&name)?;
    world.wait_for_database(idc)?;
    if open {
        world.database(idc)?.root("SET GLOBAL read_only = 0")?;
    }
    Ok(())
}

fn strike(pair: &mut Pair<'_>, victim: Victim) -> Result<()> {
    let (source, target) = (pair.source.idc.clone(), pair.target.idc.clone());
    match victim {
        Victim::Syncer => pair.link.kill_syncer(),
        Victim::Writer => pair.link.kill_writer(),
        Victim::Source => restart(pair.world, &source, true),
        Victim::Target => restart(pair.world, &target, false),
    }
}

/// The link's count of changes that were applied.
async fn applied(pair: &Pair<'_>) -> Result<u64> {
    let writer = pair.link.writer.as_ref().context("no writer")?;
    Ok(writer.status().await?.ledger.applied)
}

async fn survive(world: &World, from: &str, to: &str, seed: u64, crashes: u64) -> Result<()> {
    let mut pair = Pair::start(world, from, to, &[TABLES.to_owned()], |settings| {
        // Small target transactions, so that there is much to cut.
        settings["apply"]["maxRows"] = 7.into();
    })
    .await?;
    let (before, marks) = (applied(&pair).await?, pair.marks());
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut numbers = Numbers(seed);
    let source = pair.source;
    let struck: Result<()> = std::thread::scope(|scope| {
        scope.spawn(|| write(source, &stop, &written));
        let strikes = async {
            // Each of the four first, then as it comes.
            let all = [
                Victim::Writer,
                Victim::Target,
                Victim::Syncer,
                Victim::Source,
            ];
            for number in 0..crashes {
                let victim = match all.get(usize::try_from(number)?) {
                    Some(victim) => *victim,
                    None => all[usize::try_from(numbers.below(4))?],
                };
                let (so_far, more) = (written.load(Ordering::Relaxed), 1 + numbers.below(400));
                until("the source is written", async || {
                    Ok(written.load(Ordering::Relaxed) >= so_far + more)
                })
                .await?;
                strike(&mut pair, victim).with_context(|| format!("crash {number}: {victim:?}"))?;
            }
            Ok(())
        };
        let runtime = tokio::runtime::Handle::current();
        let struck = tokio::task::block_in_place(|| runtime.block_on(strikes));
        stop.store(true, Ordering::Relaxed);
        struck
    });
    struck?;
    pair.through().await?;
    pair.compare().with_context(|| pair.link.describe())?;
    let counts = pair.target.root(
        "SELECT (SELECT SUM(n) FROM orders.counters), (SELECT COUNT(*) FROM orders.journal)",
    )?;
    let [sum, journal] = counts
        .concat()
        .try_into()
        .map_err(|_| anyhow::anyhow!("the counts have another form"))?;
    ensure!(
        sum == journal,
        "{sum} were counted, {journal} are in the journal"
    );
    let transactions: u64 = journal.parse()?;
    ensure!(
        transactions >= crashes * 20,
        "only {transactions} transactions"
    );
    // Two changes each, and the marks by which this test waits.
    let expected = 2 * transactions + u64::from(pair.marks() - marks);
    let counted = applied(&pair).await? - before;
    ensure!(
        counted == expected,
        "the ledger says that {counted} changes were applied, and {expected} were made"
    );
    pair.check_ledger().await
}

/// The tables of a copy are made, and the writer ends before the checkpoint says so.
async fn copy_begins_twice(world: &World, from: &str, to: &str) -> Result<()> {
    let mut pair = Pair::start(world, from, to, &[TABLES.to_owned()], |_| {}).await?;
    pair.link.writer = None;
    pair.target.root(
        "SET sql_log_bin = 0; DELETE FROM multiactive.applied; DROP TABLE orders.counters, \
         orders.journal, orders.marks",
    )?;
    let (directory, address) = (pair.link.directory.clone(), pair.link.address.clone());
    let mut writer = start_writer(&directory, &address, &["--crash-at", "after-create"])?;
    ensure!(
        writer.ended().await?,
        "it did not crash: {}",
        writer.describe()
    );
    let made = pair.target.root("SHOW TABLES IN orders")?;
    ensure!(made.len() == 3, "{made:?}");
    pair.link.kill_writer()?;
    pair.through().await?;
    pair.compare().map(drop)
}

fn variable(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

#[test]
fn what_is_killed_at_random_neither_loses_nor_repeats() -> Result<()> {
    let seed = variable("MULTIACTIVE_SEED", 1)?;
    let crashes = variable("MULTIACTIVE_CRASHES", 6)?;
    let world = world(Engine::MySql, Engine::MariaDb)?;
    for (from, to) in [("sh", "bj"), ("bj", "sh")] {
        let name = world.database(from)?.engine.name();
        let run = async {
            copy_begins_twice(&world, from, to).await?;
            survive(&world, from, to, seed, crashes).await
        };
        block_on(Box::pin(run)).with_context(|| {
            format!(
                "from {name}; replay with MULTIACTIVE_SEED={seed} MULTIACTIVE_CRASHES={crashes}"
            )
        })?;
    }
    Ok(())
}
