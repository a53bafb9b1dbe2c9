//! The source and the two targets.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use harness::{Databases, Engine, World, WorldSpec};
use model::{Credentials, Endpoint, TlsSettings};
use mysql::session::{Program, SessionOptions};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::figure::{Figure, Goal, Measured};
use crate::link::{Link, Process, Running, processor_seconds};
use crate::options::Options;

/// A target that has not caught up by then has failed.
const LIMIT: Duration = Duration::from_secs(900);
/// Redo logs and buffer pools that hold the work, so that what is measured is applying and not
/// when a server chooses to write back pages.
const MARIADB: [&str; 2] = ["--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G"];
const MYSQL: [&str; 2] = [
    "--innodb-buffer-pool-size=1G",
    "--innodb-redo-log-capacity=1G",
];
/// Bounds what one process may take, in MiB.
const MEMORY_GOAL: f64 = 256.0;

/// Who applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The link.
    Ours,
    /// The server's own replication.
    Theirs,
}

impl Side {
    /// Both, the one that goes first changing from round to round.
    pub fn in_turn(round: u32) -> [Self; 2] {
        if round.is_multiple_of(2) {
            [Self::Ours, Self::Theirs]
        } else {
            [Self::Theirs, Self::Ours]
        }
    }
}

/// What catching up took, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// On the clock.
    pub clock: f64,
    /// Of processors: the target's server, and on our side the syncer and the writer.
    pub processor: f64,
}

/// Three servers of one engine, a link and a replica.
pub struct Rig {
    /// The engine of all three.
    pub engine: Engine,
    /// The link's files, and what its processes took.
    pub link: Link,
    world: World,
    syncer: Option<Process>,
    running: Option<Running>,
    marker: u64,
}

impl Rig {
    /// Starts all, both targets empty and following.
    pub async fn start(engine: Engine, options: &Options) -> Result<Self> {
        let server_options: Vec<String> = match engine {
            Engine::MariaDb => MARIADB.map(str::to_owned).to_vec(),
            Engine::MySql => MYSQL.map(str::to_owned).to_vec(),
        };
        let server = |idc: &str| (idc.to_owned(), engine, server_options.clone());
        let world = World::up(&WorldSpec {
            databases: Databases {
                servers: ["sh", "bj", "witness"].map(server).to_vec(),
            },
            ..WorldSpec::empty("bench")
        })?;
        for database in &world.info().databases {
            let session = session_options(database)?;
            let limit = Duration::from_secs(10);
            let mut control = mysql::control::ControlSession::connect(&session, limit).await?;
            control.install().await?;
        }
        let (source, target) = (world.database("sh")?, world.database("bj")?);
        let directory = world.info().directory.join("product");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        let link = Link::new(directory, source, target, options.binaries.as_deref())?;
        source.open()?;
        let mut rig = Self {
            engine,
            link,
            world,
            syncer: None,
            running: None,
            marker: 0,
        };
        rig.attach_replica()?;
        rig.start_side(Side::Ours)?;
        rig.start_side(Side::Theirs)?;
        rig.wait_for_checkpoint().await?;
        rig.source()?.root(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, 'sh', NULL, NOW(6)); \
             CREATE TABLE orders.marker (id BIGINT PRIMARY KEY); \
             INSERT INTO orders.marker VALUES (0)",
        )?;
        rig.both_follow().await?;
        Ok(rig)
    }

    /// Where all is written.
    pub fn source(&self) -> Result<&Database> {
        self.world.database("sh")
    }

    /// Where it is applied.
    pub fn target(&self, side: Side) -> Result<&Database> {
        self.world.database(match side {
            Side::Ours => "bj",
            Side::Theirs => "witness",
        })
    }

    /// The world, for loads.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn attach_replica(&self) -> Result<()> {
        let (source, target) = (self.source()?, self.target(Side::Theirs)?);
        let account = (&source.user, &source.password, &source.host);
        let (user, password, host) = account;
        target
            .root(&match self.engine {
                Engine::MariaDb => format!(
                    "SET GLOBAL slave_parallel_threads = 4; CHANGE MASTER TO MASTER_HOST='{host}', \
                     MASTER_PORT={}, MASTER_USER='{user}', MASTER_PASSWORD='{password}', \
                     MASTER_USE_GTID=slave_pos",
                    source.port
                ),
                Engine::MySql => format!(
                    "SET GLOBAL replica_parallel_workers = 4; CHANGE REPLICATION SOURCE TO \
                     SOURCE_HOST='{host}', SOURCE_PORT={}, SOURCE_USER='{user}', \
                     SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1",
                    source.port
                ),
            })
            .map(drop)
    }

    /// Starts what runs all the time: a syncer is a process of its own and waits for its writer, as
    /// the source's server does for its replica.
    fn ready_side(&mut self, side: Side) -> Result<()> {
        if side == Side::Ours && self.syncer.is_none() {
            self.syncer = Some(self.link.ready_syncer()?);
        }
        Ok(())
    }

    /// Starts one side; does not wait for anything else.
    pub fn start_side(&mut self, side: Side) -> Result<()> {
        match side {
            Side::Ours => {
                self.ready_side(side)?;
                let Some(syncer) = self.syncer.take() else {
                    bail!("the syncer is gone");
                };
                let writer = self.link.writer()?;
                self.running = Some(Running { syncer, writer });
            }
            Side::Theirs => {
                self.target(side)?.root(match self.engine {
                    Engine::MariaDb => "START SLAVE",
                    Engine::MySql => "START REPLICA",
                })?;
            }
        }
        Ok(())
    }

    /// Stops one side, and keeps for `work` what our processes took.
    pub fn stop_side(&mut self, side: Side, work: &str) -> Result<()> {
        match side {
            Side::Ours => {
                let Some(mut running) = self.running.take() else {
                    bail!("the link does not run");
                };
                let engine = self.engine.name();
                for process in [&mut running.writer, &mut running.syncer] {
                    let name = format!("{}, {work}, {engine}", process.name());
                    let peak = process.peak_memory()?;
                    let most = self.link.peaks.entry(name).or_default();
                    *most = most.max(peak);
                    process.end()?;
                }
            }
            Side::Theirs => {
                self.target(side)?.root(match self.engine {
                    Engine::MariaDb => "STOP SLAVE",
                    Engine::MySql => "STOP REPLICA",
                })?;
            }
        }
        Ok(())
    }

    /// Writes the last transaction of a work at the source; a target that has it has them all,
    /// since both commit in the source's order.
    pub fn mark(&mut self) -> Result<()> {
        self.marker += 1;
        let sql = format!("INSERT INTO orders.marker VALUES ({})", self.marker);
        self.source()?.root(&sql).map(drop)
    }

    /// Waits until a side has the last mark.
    pub async fn wait_marked(&self, side: Side) -> Result<()> {
        let mut conn = connect(self.target(side)?).await?;
        let sql = format!("SELECT id FROM orders.marker WHERE id = {}", self.marker);
        let since = Instant::now();
        let mut looked = Instant::now();
        loop {
            let found: Result<Option<u64>, _> = conn.query_first(&sql).await;
            // The table itself may be still to come.
            if let Ok(Some(_)) = found {
                break;
            }
            if looked.elapsed() > Duration::from_secs(5) {
                looked = Instant::now();
                self.check_side(side)?;
            }
            ensure!(
                since.elapsed() < LIMIT,
                "{side:?} has not caught up within {LIMIT:?}\n{}",
                self.describe()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        conn.disconnect().await?;
        Ok(())
    }

    /// The server's own replication stops at an error and says so nowhere but in its status.
    fn check_side(&self, side: Side) -> Result<()> {
        if side == Side::Ours {
            return Ok(());
        }
        let status = self.target(side)?.root(match self.engine {
            Engine::MariaDb => "SHOW SLAVE STATUS\\G",
            Engine::MySql => "SHOW REPLICA STATUS\\G",
        })?;
        let errors: Vec<String> = status
            .into_iter()
            .map(|line| line.concat().trim().to_owned())
            .filter(|line| line.starts_with("Last_") && line.contains("Error: "))
            .filter(|line| !line.ends_with("Error: "))
            .collect();
        ensure!(errors.is_empty(), "the replica stopped: {errors:?}");
        Ok(())
    }

    async fn wait_for_checkpoint(&self) -> Result<()> {
        let target = self.target(Side::Ours)?;
        let since = Instant::now();
        let sql = "SELECT COUNT(*) FROM multiactive.applied WHERE position IS NOT NULL";
        while target.root(sql)? != [["1"]] {
            ensure!(
                since.elapsed() < LIMIT,
                "the link did not begin\n{}",
                self.describe()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until both sides, which must run, have everything.
    pub async fn both_follow(&mut self) -> Result<()> {
        self.mark()?;
        for side in [Side::Ours, Side::Theirs] {
            self.wait_marked(side).await?;
        }
        Ok(())
    }

    /// How long a side takes from its start until it has everything. It must be stopped, and is
    /// again after.
    pub async fn catch_up(&mut self, side: Side, work: &str) -> Result<Taken> {
        self.ready_side(side)?;
        let before = self.server_seconds(side)?;
        let since = Instant::now();
        self.start_side(side)?;
        self.wait_marked(side).await?;
        let clock = since.elapsed().as_secs_f64();
        let mut processor = self.server_seconds(side)? - before;
        if let (Side::Ours, Some(running)) = (side, &self.running) {
            processor += running.syncer.processor_seconds()?;
            processor += running.writer.processor_seconds()?;
        }
        self.stop_side(side, work)?;
        Ok(Taken { clock, processor })
    }

    /// The processor time that the server of a target has taken, in seconds.
    fn server_seconds(&self, side: Side) -> Result<f64> {
        // No two servers listen at one address, whichever world they are of.
        let address = format!("--bind-address={}", self.target(side)?.host);
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            let is_server = words.next().is_some_and(|program| {
                program.ends_with(b"mariadbd") || program.ends_with(b"mysqld")
            });
            if is_server && words.any(|word| word == address.as_bytes()) {
                return processor_seconds(&entry.path());
            }
        }
        bail!("no server process with {address}")
    }

    /// Fails unless both targets hold in every table exactly what the source holds.
    pub fn check_equal(&self) -> Result<()> {
        let source = self.source()?;
        let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'orders'";
        for table in source.root(sql)?.into_iter().flatten() {
            let wanted = source.checksum("orders", &table)?;
            for side in [Side::Ours, Side::Theirs] {
                let held = self.target(side)?.checksum("orders", &table)?;
                ensure!(
                    held == wanted,
                    "orders.{table} is {held:?} at the target of {side:?} and {wanted:?} at the \
                     source"
                );
            }
        }
        Ok(())
    }

    /// The memory that our processes took, in all works.
    pub fn memory(&self) -> Vec<Figure> {
        let figure = |(name, peak): (&String, &f64)| Figure {
            name: format!("peak memory: {name}"),
            unit: "MiB",
            measured: Measured::Alone(vec![*peak]),
            goal: Goal::AtMost(MEMORY_GOAL),
        };
        self.link.peaks.iter().map(figure).collect()
    }

    fn describe(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |running| {
            format!(
                "{}\n{}",
                running.syncer.describe(),
                running.writer.describe()
            )
        })
    }
}

fn session_options(database: &Database) -> Result<SessionOptions> {
    let endpoint = Endpoint {
        host: database.host.clone(),
        port: database.port,
        tls: TlsSettings::default(),
    };
    let credentials = Credentials {
        username: database.user.clone(),
        password: database.password.clone(),
        ca: None,
    };
    Ok(SessionOptions::new(
        &endpoint,
        &credentials,
        Program::Mactl,
    )?)
}

/// A session that lasts, with the product's account.
pub async fn connect(database: &Database) -> Result<Conn> {
    let session = session_options(database)?.connect().await;
    Ok(session.context("connecting to look")?.conn)
}
