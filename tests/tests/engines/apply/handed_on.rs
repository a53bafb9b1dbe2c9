//! Links that hand on what other links bring to their source (`relay: true`), between three servers
//! without a Unit: MySQL in `sh`, MariaDB in `bj`, MySQL in `witness`.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use harness::programs::{self, beside_test};
use harness::{Databases, Engine, World, WorldSpec};
use model::LinkPhase;
use serde_json::json;

use super::alone::{begins, refusals, start, status};
use super::links::Link;
use super::rig::{Writer, reset, until, until_applied};

fn world() -> Result<&'static Mutex<World>> {
    static WORLD: OnceLock<Result<Mutex<World>, String>> = OnceLock::new();
    let start = || {
        let servers = [
            ("sh", Engine::MySql),
            ("bj", Engine::MariaDb),
            ("witness", Engine::MySql),
        ];
        let spec = WorldSpec {
            databases: Databases::of(&servers),
            ..WorldSpec::empty("suite-relay")
        };
        let world = World::up(&spec).map_err(|error| format!("{error:#}"));
        world.map(Mutex::new)
    };
    match WORLD.get_or_init(start) {
        Ok(world) => Ok(world),
        Err(error) => bail!("the world did not start: {error}"),
    }
}

struct Three<'a> {
    world: &'a World,
    syncer: &'a Path,
    servers: [&'a Database; 3],
}

const SH: usize = 0;
const BJ: usize = 1;
const WITNESS: usize = 2;

impl Three<'_> {
    fn link(&self, from: usize, to: usize, relay: bool) -> Result<Link> {
        let (source, target) = (self.servers[from], self.servers[to]);
        start(self.world, self.syncer, [source, target], |settings| {
            settings["origins"] = json!([source.idc, target.idc]);
            settings["relay"] = json!(relay);
            settings["snapshot"]["mode"] = json!("Never");
        })
    }

    async fn begins(&self, link: &Link, from: usize, to: usize) -> Result<()> {
        begins(link, self.servers[to], &self.servers[from].idc).await
    }

    async fn equal(&self, table: &str, links: &[Link]) -> Result<()> {
        let writers: Vec<&Writer> = links.iter().flat_map(|link| &link.writer).collect();
        let mut sums = Vec::new();
        let same = until_applied("all three are equal", &writers, async || {
            let sum = |server: &Database| server.checksum("orders", table).ok();
            sums = self.servers.map(sum).to_vec();
            Ok(sums[0].is_some() && sums.iter().all(|sum| *sum == sums[0]))
        });
        let outcome = same.await;
        let logs: Vec<String> = links.iter().map(Link::describe).collect();
        outcome.with_context(|| format!("{sums:?}\n{}", logs.join("\n")))
    }
}

/// Servers that nobody has prepared; applications write to all of them.
fn in_three(test: &impl AsyncFn(&Three<'_>) -> Result<()>) -> Result<()> {
    let world = world()?.lock().unwrap_or_else(PoisonError::into_inner);
    programs::writer_with_failpoints()?;
    let syncer = beside_test("syncer")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
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

/// A link that does not hand on says so before what it leaves out makes its target differ, and is not
/// mended by handing on later.
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
        drop(second);
        let second = three.link(BJ, WITNESS, true)?;
        until("it is told what it has left out", async || {
            let findings = status(&second).await?.findings.unwrap_or_default();
            let text = findings.iter().map(ToString::to_string).collect::<String>();
            Ok(text.contains("began without relay: true"))
        })
        .await
        .with_context(|| second.describe())
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
