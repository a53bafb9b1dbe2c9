//! A source, a target and a whole link between them.

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::{Account, Database};
use harness::programs::beside_test;
use harness::{Databases, Engine, World, WorldSpec};
use model::LinkPhase;

use super::compare;
use crate::apply::links::Link;
use crate::apply::rig::{reset, until_applied};

/// What the links carry.
const DATABASES: [&str; 2] = ["orders", "streamed"];

/// A link under test.
pub struct Pair<'a> {
    pub world: &'a World,
    pub source: &'a Database,
    pub target: &'a Database,
    pub link: Link,
    /// How often the source was marked.
    marks: u32,
    /// What the link halted at last, and was mended: it says so until it has tried again.
    mended: String,
}

/// A world for one pair of engines. It ends with the test.
pub fn world(sh: Engine, bj: Engine) -> Result<World> {
    // Rows of 64 MiB, written as literals, and files that the client reads.
    let options = ["--max-allowed-packet=512M", "--local-infile=1"];
    let databases = Databases::pair(sh, bj)
        .with_options("sh", &options)
        .with_options("bj", &options);
    let name = format!("m-{}-{}", sh.name(), bj.name());
    World::up(&WorldSpec {
        databases,
        ..WorldSpec::empty(&name)
    })
}

impl<'a> Pair<'a> {
    /// Empties both sides, makes `before` at the source and lets a link copy it.
    pub async fn start(
        world: &'a World,
        from: &str,
        to: &str,
        before: &[String],
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Self> {
        let (source, target) = (world.database(from)?, world.database(to)?);
        for side in [source, target] {
            reset(side).await?;
            side.root(
                "SET sql_log_bin = 0; DROP TABLE orders.t; DROP DATABASE IF EXISTS streamed; \
                 CREATE DATABASE streamed CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; \
                 GRANT ALL ON streamed.* TO 'multiactive'@'%'",
            )?;
        }
        source.root(&format!(
            "SET GLOBAL read_only = 0; \
             INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, '{from}', NULL, NOW(6)); \
             CREATE TABLE orders.marks (id INT PRIMARY KEY, n INT NOT NULL); \
             INSERT INTO orders.marks VALUES (1, 0)"
        ))?;
        for sql in before {
            source.root(&format!("USE orders; {sql}"))?;
        }
        let syncer = beside_test("syncer")?;
        let link = Link::start_with(world, &syncer, source, target, |settings| {
            settings["databases"] = serde_json::json!(DATABASES);
            change(settings);
        })?;
        let mut pair = Self {
            world,
            source,
            target,
            link,
            marks: 0,
            mended: String::new(),
        };
        pair.through().await?;
        Ok(pair)
    }

    /// Runs statements at the source, as its user `root`.
    pub fn run(&self, sql: &str) -> Result<()> {
        self.source.root(&format!("USE orders; {sql}")).map(drop)
    }

    /// Waits until all that was done at the source so far has been applied.
    pub async fn through(&mut self) -> Result<()> {
        match self.settle().await? {
            None => Ok(()),
            Some(error) => bail!("the link halted: {error}"),
        }
    }

    /// Waits until the link halts, and returns why.
    pub async fn halted(&mut self) -> Result<String> {
        match self.settle().await? {
            None => bail!("the link did not halt"),
            Some(error) => {
                self.mended.clone_from(&error);
                Ok(error)
            }
        }
    }

    /// Waits until all is applied (`None`), or the link halts.
    async fn settle(&mut self) -> Result<Option<String>> {
        self.marks += 1;
        let mark = self.marks.to_string();
        self.source
            .root(&format!("UPDATE orders.marks SET n = {mark} WHERE id = 1"))?;
        let mut halted = None;
        let writer = self.link.writer.as_ref().context("no writer")?;
        let writers = [writer];
        let arrived = until_applied("the link is through or halts", &writers, async || {
            let seen = self.target.root("SELECT n FROM orders.marks");
            // The table is not there before it was copied.
            if seen.is_ok_and(|rows| rows == [[mark.clone()]]) {
                return Ok(true);
            }
            let status = writer.status().await?;
            let names_row = !status.error.contains("one of several rows");
            if status.phase == LinkPhase::Halted && names_row && status.error != self.mended {
                halted = Some(status.error);
            }
            Ok(halted.is_some())
        });
        arrived.await.with_context(|| self.link.describe())?;
        Ok(halted)
    }

    /// How often the source was marked.
    pub fn marks(&self) -> u32 {
        self.marks
    }

    /// Compares all tables.
    pub fn compare(&self) -> Result<(usize, usize)> {
        compare::equal(self.source, self.target, &DATABASES)
    }

    /// The link's books: everything that was read was applied or left out.
    pub async fn check_ledger(&self) -> Result<()> {
        let writer = self.link.writer.as_ref().context("no writer")?;
        let ledger = writer.status().await?.ledger;
        ensure!(
            ledger.read == ledger.applied + ledger.filtered + ledger.held && ledger.in_flight == 0,
            "{ledger:?}"
        );
        Ok(())
    }

    /// Loads a file from the client's machine into a table.
    pub fn load_file(&self, table: &str, path: &std::path::Path) -> Result<()> {
        let mut client = self.source.client(Account::Root);
        client.arg("--local-infile=1");
        let sql = format!(
            "LOAD DATA LOCAL INFILE '{}' INTO TABLE orders.{table} CHARACTER SET utf8mb4 \
             FIELDS TERMINATED BY ','",
            path.display()
        );
        harness::shell::text_with_input(&mut client, &sql).map(drop)
    }
}
