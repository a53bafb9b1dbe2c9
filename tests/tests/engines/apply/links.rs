//! Both ends of both links for real: MySQL in `sh`, MariaDB in `bj`, a syncer and a writer each way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;
use model::HaltedAt;
use mysql::skips;

use super::rig::{
    Writer, certificates, credentials, free_port, in_world, link, options, reset, start_writer,
    until, until_applied,
};
use super::skips::halted_at;

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One direction.
pub struct Link {
    pub directory: PathBuf,
    pub address: String,
    pub writer: Option<Writer>,
    syncer: Syncer,
}

/// The process that reads, and what starts it again as it was.
struct Syncer {
    program: PathBuf,
    listen: u16,
    /// Killed when dropped.
    process: Option<Killed>,
}

impl Link {
    fn start(world: &World, syncer: &Path, source: &Database, target: &Database) -> Result<Self> {
        Self::start_with(world, syncer, source, target, |_| {})
    }

    /// Starts both ends, with settings that `change` makes differ.
    pub fn start_with(
        world: &World,
        syncer: &Path,
        source: &Database,
        target: &Database,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Self> {
        let name = format!("{}-{}", source.idc, target.idc);
        let directory = world.info().directory.join("apply").join(&name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        certificates(&directory.join("tls"))?;
        // Both servers have the account under the same name.
        credentials(&directory.join("credentials"), target)?;
        let mut settings = link(&name, &source.idc, (&source.host, source.port), target);
        // Small chunks, so that the copy is under way while its writer dies.
        settings["snapshot"]["chunkBytes"] = 1_024.into();
        change(&mut settings);
        std::fs::write(directory.join("link.json"), settings.to_string())?;
        let (serve, listen) = (free_port()?, free_port()?);
        let address = format!("127.0.0.1:{serve}");
        let mut link = Self {
            directory,
            address,
            writer: None,
            syncer: Syncer {
                program: syncer.to_owned(),
                listen,
                process: None,
            },
        };
        link.start_syncer()?;
        link.kill_writer()?;
        Ok(link)
    }

    fn start_syncer(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("syncer.log"))?;
        let child = Command::new(&self.syncer.program)
            .args(["--link", "link.json", "--credentials", "credentials"])
            .args(["--tls", "tls", "--serve", &self.address])
            .args(["--log", "text", "--listen"])
            .arg(format!("127.0.0.1:{}", self.syncer.listen))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.syncer.process = Some(Killed(child));
        Ok(())
    }

    /// Kills the syncer and starts another one.
    pub fn kill_syncer(&mut self) -> Result<()> {
        self.syncer.process = None;
        self.start_syncer()
    }

    /// Kills the writer and starts another one.
    pub fn kill_writer(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.kill()?;
        }
        self.writer = Some(start_writer(&self.directory, &self.address, &[])?);
        Ok(())
    }

    /// Has what the link is halted at skipped.
    pub async fn skip(&self, target: &Database) -> Result<HaltedAt> {
        let writer = self.writer.as_ref().context("no writer")?;
        let at = halted_at(writer).await?;
        ensure!(at.skippable, "{at:?}: {}", self.describe());
        let name = writer.status().await?.link.to_string();
        let mut session = options(target)?.connect().await?;
        skips::ask(&mut session, &name, &at.gtid, "ann", "done by hand").await?;
        Ok(at)
    }

    /// The ends of both logs.
    pub fn describe(&self) -> String {
        let writer = self.writer.as_ref().map(Writer::describe);
        let syncer = self.directory.join("syncer.log");
        format!(
            "{}\n{}:\n{}",
            writer.unwrap_or_default(),
            syncer.display(),
            harness::shell::tail(&syncer)
        )
    }
}

pub async fn equal(sh: &Database, bj: &Database, links: &[&Link]) -> Result<()> {
    let mut sides = Vec::new();
    let writers: Vec<&Writer> = links
        .iter()
        .filter_map(|link| link.writer.as_ref())
        .collect();
    let same = until_applied("both sides are equal", &writers, async || {
        sides = [sh, bj]
            .map(|side| side.checksum("orders", "t").ok())
            .to_vec();
        Ok(sides[0].is_some() && sides[0] == sides[1])
    });
    let outcome = same.await;
    let logs: Vec<String> = links.iter().map(|link| link.describe()).collect();
    outcome.with_context(|| format!("{sides:?}\n{}", logs.join("\n")))
}

/// Some hundred transactions of every kind on one side, written as an application would; the keys
/// come from the server, whose increment keeps the two sides apart.
fn load(side: &Database, round: u32) -> Result<()> {
    let mut sql = String::new();
    for number in 0..60 {
        let v = round * 1000 + number;
        sql.push_str(&format!(
            "INSERT INTO t (v) VALUES ({v}), ({v}); UPDATE t SET v = v + 1 WHERE v % 7 = {};",
            number % 7
        ));
        if number % 10 == 0 {
            sql.push_str(&format!(
                "START TRANSACTION; DELETE FROM t WHERE v % 13 = {}; UPDATE t SET u = NULL; \
                 UPDATE t SET u = id; COMMIT;",
                number % 13
            ));
        }
    }
    side.app(&format!("USE orders; {sql}")).map(drop)
}

#[test]
fn both_ways_with_snapshot_stream_statements_crashes_and_a_turn() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        let (sh, bj) = (world.database("sh")?, world.database("bj")?);
        for side in [sh, bj] {
            reset(side).await?;
            side.root("SET sql_log_bin = 0; DROP TABLE orders.t")?;
        }
        // Rows that exist before the links, and an epoch that says whose they are.
        sh.root(
            "SET GLOBAL read_only = 0; CREATE TABLE orders.t \
             (id INT AUTO_INCREMENT PRIMARY KEY, v INT, u INT UNIQUE) COLLATE utf8mb4_0900_ai_ci; \
             INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, 'sh', NULL, NOW(6))",
        )?;
        load(sh, 0)?;
        let mut there = Link::start(world, &syncer, sh, bj)?;
        let mut back = Link::start(world, &syncer, bj, sh)?;
        // The copy, while writing goes on and the writer dies again and again.
        for round in 1..6 {
            load(sh, round)?;
            there.kill_writer()?;
        }
        equal(sh, bj, &[&there, &back]).await?;
        // The way back has begun before the turn: bj has learned of epoch 1 from the way there.
        let begun = "SELECT COUNT(*) FROM multiactive.applied WHERE position IS NOT NULL";
        until("the way back begins", async || {
            Ok(sh.root(begun)? == [["1"]])
        })
        .await?;
        sh.app("ALTER TABLE orders.t ADD COLUMN note VARCHAR(20) DEFAULT 'é', ADD INDEX (v)")?;
        load(sh, 6)?;
        equal(sh, bj, &[&there, &back]).await?;
        // The turn: bj is opened under the next epoch, sh is closed first.
        sh.root("SET GLOBAL read_only = 1")?;
        bj.root("SET GLOBAL read_only = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, 'bj', NULL, NOW(6))")?;
        for round in 7..10 {
            load(bj, round)?;
            back.kill_writer()?;
        }
        bj.app("TRUNCATE TABLE orders.t")?;
        load(bj, 10)?;
        equal(sh, bj, &[&there, &back]).await?;
        let epochs = "SELECT epoch, idc FROM multiactive.epoch ORDER BY epoch";
        ensure!(
            sh.root(epochs)? == [["1", "sh"], ["2", "bj"]],
            "{:?}",
            sh.root(epochs)?
        );
        quiet(sh, bj).await
    })
}

/// Links that have nothing to do leave the binlogs alone: nothing goes round in circles, and two
/// links do not answer each other's checkpoints.
async fn quiet(sh: &Database, bj: &Database) -> Result<()> {
    let positions = || -> Result<_> {
        let sh = sh.root("SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')")?;
        Ok((sh, bj.root("SELECT @@GLOBAL.gtid_current_pos")?))
    };
    let mut last = positions()?;
    let mut same_since = std::time::Instant::now();
    // Longer than any checkpoint waits that is written for changes left out.
    until("both servers are quiet for three seconds", async || {
        let now = positions()?;
        if now != last {
            last = now;
            same_since = std::time::Instant::now();
        }
        Ok(same_since.elapsed() > std::time::Duration::from_secs(3))
    })
    .await
}

/// Every type that links carry, with its extremes.
const VALUES: &str = include_str!("../read/values.sql");
/// Values inside JSON that only MySQL has.
const MYSQL_JSON: &str = "INSERT INTO jsons VALUES (500, JSON_OBJECT('d', DATE'2020-01-02', 't', \
     TIME'-12:34:56.5', 'dec', CAST(1.10 AS DECIMAL(10,2)), 'b', x'00ff', 'big', \
     REPEAT(x'ab', 200), 'y', CAST(2020 AS YEAR)))";

/// The settings, the tables and the rows of [`VALUES`].
fn values() -> (String, String, String) {
    let (mut settings, mut tables, mut rows) = (String::new(), String::new(), String::new());
    for line in VALUES.lines().filter(|line| !line.starts_with("--")) {
        if line.starts_with("USE ") {
            settings.push_str(line);
        } else if line.starts_with("CREATE ") {
            let (table, row) = line.split_once("; INSERT").unwrap_or((line, ""));
            tables.push_str(&format!("{};\n", table.trim_end_matches(';')));
            if !row.is_empty() {
                rows.push_str(&format!("INSERT{row}\n"));
            }
        } else {
            rows.push_str(&format!("{line}\n"));
        }
    }
    (settings, tables, rows)
}

fn checksums(side: &Database) -> Result<Vec<Vec<String>>> {
    let names = side.root(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'orders' \
         AND table_name <> 't' ORDER BY 1",
    )?;
    let mut sums = Vec::new();
    for name in names.into_iter().flatten() {
        let name = name.replace('`', "``");
        sums.extend(side.root(&format!("CHECKSUM TABLE orders.`{name}` EXTENDED"))?);
    }
    Ok(sums)
}

/// A primary is lost with everything that it wrote last: every row of every type removed and put
/// again, no part of which has reached the other member. That one is promoted and writes on. The
/// old primary comes back as its copy, with every row as it was at the hand-over, byte for byte.
async fn come_back(world: &World, syncer: &Path, old: &Database, new: &Database) -> Result<()> {
    let (settings, tables, rows) = values();
    for side in [old, new] {
        reset(side).await?;
        side.root(&format!("SET sql_log_bin = 0; {settings}\n{tables}"))?;
    }
    old.root(&format!("SET sql_log_bin = 0; {settings}\n{rows}"))?;
    let base = checksums(old)?;
    ensure!(base.len() > 15, "{base:?}");
    old.root(&format!(
        "SET GLOBAL read_only = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, '{}', NULL, NOW(6))",
        old.idc
    ))?;
    let never = |settings: &mut serde_json::Value| settings["snapshot"]["mode"] = "Never".into();
    let mut there = Link::start_with(world, syncer, old, new, never)?;
    let back = Link::start_with(world, syncer, new, old, never)?;
    for side in [old, new] {
        let begun = "SELECT COUNT(*) FROM multiactive.applied WHERE position IS NOT NULL";
        until("the link begins", async || Ok(side.root(begun)? == [["1"]]))
            .await
            .with_context(|| format!("{}\n{}", there.describe(), back.describe()))?;
    }
    if let Some(writer) = there.writer.take() {
        writer.kill()?;
    }
    let names = old.root("SHOW TABLES IN orders")?;
    let removed: String = names
        .into_iter()
        .flatten()
        .map(|name| format!("DELETE FROM `{}`; ", name.replace('`', "``")))
        .collect();
    let more = match old.engine {
        harness::Engine::MySql => MYSQL_JSON,
        harness::Engine::MariaDb => "",
    };
    old.root(&format!(
        "{settings}\nSTART TRANSACTION; {removed} COMMIT;\n{rows}\n\
         UPDATE ints SET s0 = 1, y0 = 1999; DELETE FROM decs WHERE id < 5; {more}"
    ))?;
    ensure!(checksums(old)? != base);
    new.root(&format!(
        "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6)); SET GLOBAL read_only = 0; \
         INSERT INTO orders.t VALUES (1, 2, 3)",
        new.idc
    ))?;
    old.root("SET GLOBAL read_only = 1")?;
    let held = back.writer.as_ref().context("no writer")?;
    until("the link back is held", async || {
        Ok(held.status().await?.error.contains("held before epoch 2"))
    })
    .await?;
    there.kill_writer()?;
    let arrived = until("the next epoch arrives", async || {
        Ok(old.root("SELECT id, v, u FROM orders.t")? == [["1", "2", "3"]])
    });
    arrived
        .await
        .with_context(|| format!("{}\n{}", there.describe(), back.describe()))?;
    let after = checksums(old)?;
    ensure!(after == base, "{base:?}\nbecame {after:?}");
    all_taken_back(old, new).await
}

/// Each filed transaction was taken back, which is neither sent on nor stranded itself.
async fn all_taken_back(old: &Database, new: &Database) -> Result<()> {
    let filed = new.root("SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded")?;
    let undone = old.root("SELECT COUNT(*) FROM multiactive.undone WHERE how = 'Inverse'")?;
    ensure!(filed == undone, "{filed:?} filed, {undone:?} undone");
    let count: u64 = undone.concat().concat().parse()?;
    ensure!(count > 200, "{count}");
    let (sh, bj) = if old.engine == harness::Engine::MySql {
        (old, new)
    } else {
        (new, old)
    };
    quiet(sh, bj).await?;
    let still = new.root("SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded")?;
    ensure!(still == filed, "{filed:?} became {still:?}");
    Ok(())
}

#[test]
fn a_lost_primary_comes_back_in_line_with_every_type() -> Result<()> {
    in_world(async |world: &World| {
        let syncer = beside_test("syncer")?;
        let (sh, bj) = (world.database("sh")?, world.database("bj")?);
        come_back(world, &syncer, sh, bj)
            .await
            .context("MySQL comes back")?;
        come_back(world, &syncer, bj, sh)
            .await
            .context("MariaDB comes back")
    })
}
