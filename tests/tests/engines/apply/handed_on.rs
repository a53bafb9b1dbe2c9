//! Links that hand on what other links bring to their source (`relay: true`), between three servers
//! without a Unit: MySQL in `sh`, MariaDB in `bj`, MySQL in `witness`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::database::Database;
use harness::programs::{self, beside_test};
use harness::{Databases, Engine, World, WorldSpec};
use model::LinkPhase;
use serde_json::json;

use super::alone::{begins, refusals, start, status};
use super::links::Link;
use super::rig::{Writer, reset, until, until_applied};
use crate::worlds::{self, Shared, block_on};

static WORLD: Shared = Shared::new();

fn spec() -> WorldSpec {
    let servers = [
        ("sh", Engine::MySql),
        ("bj", Engine::MariaDb),
        ("witness", Engine::MySql),
    ];
    WorldSpec {
        databases: Databases::of(&servers),
        ..WorldSpec::empty("suite-relay")
    }
}

pub struct Three<'a> {
    pub world: &'a World,
    syncer: &'a Path,
    pub servers: [&'a Database; 3],
}

pub const SH: usize = 0;
pub const BJ: usize = 1;
pub const WITNESS: usize = 2;

impl Three<'_> {
    fn link(&self, from: usize, to: usize, relay: bool) -> Result<Link> {
        self.link_of(&["orders"], from, to, relay)
    }

    /// A link that carries these databases.
    pub fn link_of(&self, databases: &[&str], from: usize, to: usize, relay: bool) -> Result<Link> {
        let (source, target) = (self.servers[from], self.servers[to]);
        start(self.world, self.syncer, [source, target], |settings| {
            settings["origins"] = json!([source.idc, target.idc]);
            settings["relay"] = json!(relay);
            settings["snapshot"]["mode"] = json!("Never");
            settings["databases"] = json!(databases);
        })
    }

    pub async fn begins(&self, link: &Link, from: usize, to: usize) -> Result<()> {
        begins(link, self.servers[to], &self.servers[from].idc).await
    }

    async fn equal(&self, table: &str, links: &[Link]) -> Result<()> {
        self.equal_in("orders", table, links).await
    }

    /// Waits until a table is the same on all three.
    pub async fn equal_in(&self, database: &str, table: &str, links: &[Link]) -> Result<()> {
        let writers: Vec<&Writer> = links.iter().flat_map(|link| &link.writer).collect();
        let mut sums = Vec::new();
        let same = until_applied("all three are equal", &writers, async || {
            let sum = |server: &Database| server.checksum(database, table).ok();
            sums = self.servers.map(sum).to_vec();
            Ok(sums[0].is_some() && sums.iter().all(|sum| *sum == sums[0]))
        });
        let outcome = same.await;
        let logs: Vec<String> = links.iter().map(Link::describe).collect();
        outcome.with_context(|| format!("{sums:?}\n{}", logs.join("\n")))
    }
}

/// Servers that nobody has prepared; applications write to all of them.
pub fn in_three(test: &impl AsyncFn(&Three<'_>) -> Result<()>) -> Result<()> {
    let world = worlds::lock(&WORLD, &spec())?;
    programs::writer_with_failpoints()?;
    let syncer = beside_test("syncer")?;
    block_on(async {
        let servers = ["sh", "bj", "witness"].map(|idc| world.database(idc));
        let [sh, bj, witness] = servers;
        let servers = [sh?, bj?, witness?];
        for server in servers {
            reset(server).await?;
            server.root("SET sql_log_bin = 0; DROP DATABASE multiactive")?;
            server.open()?;
        }
        let three = Three {
            world: &world,
            syncer: &syncer,
            servers,
        };
        Box::pin(test(&three)).await
    })
}

/// A star around `bj`: what any of the three writes comes to the two others once, whatever dies.
#[test]
fn what_comes_to_the_middle_is_handed_on_to_all_others() -> Result<()> {
    in_three(&async |three: &Three<'_>| {
        let mut links = [
            three.link(BJ, SH, true)?,
            three.link(BJ, WITNESS, true)?,
            three.link(SH, BJ, false)?,
            three.link(WITNESS, BJ, false)?,
        ];
        for (link, (from, to)) in
            links
                .iter()
                .zip([(BJ, SH), (BJ, WITNESS), (SH, BJ), (WITNESS, BJ)])
        {
            three.begins(link, from, to).await?;
        }
        for round in 0..8 {
            for (place, server) in three.servers.iter().enumerate() {
                for number in 0..12 {
                    let id = (round * 12 + number) * 3 + place;
                    server.app(&format!(
                        "INSERT INTO orders.t VALUES ({id}, 1, {id}); \
                         UPDATE orders.t SET v = v + 1 WHERE id = {id}; \
                         UPDATE orders.t SET v = v + 10 WHERE id % 3 = {place} AND id % 5 = 0; \
                         DELETE FROM orders.t WHERE id = {id} AND {number} = 7"
                    ))?;
                }
            }
            let link = &mut links[round % 4];
            if round < 4 {
                link.kill_writer()?;
            } else {
                link.kill_syncer()?;
            }
        }
        three.equal("t", &links).await?;
        // Statements of a spoke and of the middle, and rows after them.
        three.servers[SH].app(
            "CREATE TABLE orders.more (id INT PRIMARY KEY, v INT); \
             INSERT INTO orders.more VALUES (1, 1); ALTER TABLE orders.more ADD w INT DEFAULT 7; \
             INSERT INTO orders.more VALUES (4, 1, 1)",
        )?;
        three.equal("more", &links).await?;
        three.servers[BJ].app(
            "ALTER TABLE orders.more ADD x INT; INSERT INTO orders.more VALUES (2, 1, 1, 1)",
        )?;
        three.equal("more", &links).await?;
        three.servers[WITNESS]
            .app("INSERT INTO orders.more VALUES (3, 1, 1, 1); DROP TABLE orders.t")?;
        three.equal("more", &links).await?;
        for link in &links {
            let status = status(link).await?;
            ensure!(status.phase == LinkPhase::Streaming, "{}", link.describe());
            ensure!(status.error.is_empty(), "{}", status.error);
        }
        Ok(())
    })
}

/// A link that does not hand on stops before its target differs, and goes on from there once it does.
#[test]
fn what_would_be_left_out_is_told() -> Result<()> {
    in_three(&async |three: &Three<'_>| {
        let second = three.link(BJ, WITNESS, false)?;
        three.begins(&second, BJ, WITNESS).await?;
        let first = three.link(SH, BJ, false)?;
        three.begins(&first, SH, BJ).await?;
        until("it is refused", async || {
            Ok(refusals(&second).await? == ["LeftOut"])
        })
        .await
        .with_context(|| second.describe())?;
        three.servers[SH].app("INSERT INTO orders.t VALUES (1, 1, 1)")?;
        let at_bj = "SELECT COUNT(*) FROM orders.t";
        until("it has come to the middle", async || {
            Ok(three.servers[BJ].root(at_bj)? == [["1"]])
        })
        .await
        .with_context(|| first.describe())?;
        drop(second);
        let second = three.link(BJ, WITNESS, true)?;
        three.equal("t", &[first, second]).await?;
        ensure!(three.servers[WITNESS].root(at_bj)? == [["1"]]);
        Ok(())
    })
}

/// Two ways from one server to another, of which no manifest tells.
#[test]
fn what_comes_to_both_ends_is_not_handed_on() -> Result<()> {
    in_three(&async |three: &Three<'_>| {
        let first = three.link(SH, BJ, false)?;
        three.begins(&first, SH, BJ).await?;
        let short = three.link(SH, WITNESS, false)?;
        three.begins(&short, SH, WITNESS).await?;
        let long = three.link(BJ, WITNESS, true)?;
        until("it is refused", async || {
            Ok(refusals(&long).await? == ["ComesTwice"])
        })
        .await
        .with_context(|| long.describe())
    })
}

/// Nothing goes round in circles, whatever manifests say.
#[test]
fn a_ring_stands_still() -> Result<()> {
    in_three(&async |three: &Three<'_>| {
        let ring = [(SH, BJ), (BJ, WITNESS), (WITNESS, SH)];
        let links = ring.map(|(from, to)| three.link(from, to, true));
        let [a, b, c] = links;
        let links = [a?, b?, c?];
        until("it is noticed", async || {
            for link in &links {
                let status = status(link).await?;
                if status.phase == LinkPhase::Halted && status.error.contains("round in circles") {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
        .with_context(|| {
            links
                .iter()
                .map(Link::describe)
                .collect::<Vec<_>>()
                .join("\n")
        })
    })
}
