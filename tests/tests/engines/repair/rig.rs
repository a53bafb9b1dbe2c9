//! Worlds of two servers with a link, and runs of the repair process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::database::Database;
use harness::{Databases, Engine, World, WorldSpec, programs, shell};
use model::{LinkPhase, RepairPhase, RepairStatus, WriterStatus};
use mysql_async::prelude::Queryable as _;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::apply::rig::{certificates, credentials, free_port, link, reset, until};
use crate::worlds::block_on;

/// The pairs of engines that a link may join.
const PAIRS: [(Engine, Engine); 3] = [
    (Engine::MySql, Engine::MySql),
    (Engine::MariaDb, Engine::MariaDb),
    (Engine::MySql, Engine::MariaDb),
];

/// Runs a test between every pair of engines, between two different ones both ways.
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
pub fn between_all(name: &str, test: impl AsyncFn(&Rig<'_>) -> Result<()>) -> Result<()> {
    for (sh, bj) in PAIRS {
        between(name, sh, bj, &test)?;
    }
    Ok(())
}

/// Runs a test between two engines, both ways if they differ.
pub fn between(
    name: &str,
    sh: Engine,
    bj: Engine,
    test: &impl AsyncFn(&Rig<'_>) -> Result<()>,
) -> Result<()> {
    let ways: &[_] = if sh == bj {
        &[["sh", "bj"]]
    } else {
        &[["sh", "bj"], ["bj", "sh"]]
    };
    along(name, [sh, bj], ways, test)
}

/// Runs a test from one engine to another.
pub fn one_way(
    name: &str,
    source: Engine,
    target: Engine,
    test: &impl AsyncFn(&Rig<'_>) -> Result<()>,
) -> Result<()> {
    along(name, [source, target], &[["sh", "bj"]], test)
}

fn along(
    name: &str,
    [sh, bj]: [Engine; 2],
    ways: &[[&str; 2]],
    test: &impl AsyncFn(&Rig<'_>) -> Result<()>,
) -> Result<()> {
    let spec = WorldSpec {
        databases: Databases::pair(sh, bj),
        ..WorldSpec::empty(&format!("repair-{name}"))
    };
    let world = World::up(&spec)?;
    for [source, target] in ways {
        let (source, target) = (world.database(source)?, world.database(target)?);
        let outcome = block_on(async {
            let rig = Rig::new(&world, source, target).await?;
            tokio::time::timeout(Duration::from_secs(600), Box::pin(test(&rig)))
                .await
                .context("too slow")?
        });
        let way = || format!("from {} to {}", source.engine.name(), target.engine.name());
        outcome.with_context(way)?;
    }
    Ok(())
}

/// A process of the product; killed when dropped.
pub struct Process {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(directory: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_program(directory, name, &programs::beside_test(name)?, arguments)
    }

    fn start_program(
        directory: &Path,
        name: &str,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let port = free_port()?;
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(["--link", "link.json", "--log", "text", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()?;
        Ok(Self { child, port, log })
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits until it has, in good order.
    pub async fn terminate(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        shell::run(&mut shell::command("kill", ["-TERM", &id]))?;
        let mut status = None;
        until("the process ends", async || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        ensure!(
            status.is_some_and(|status| status.success()),
            "{status:?}\n{}",
            self.describe()
        );
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        Ok(body.to_owned())
    }

    /// What it tells of itself; `None` before it listens.
    pub async fn status<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>> {
        match self.get("/status").await {
            Ok(body) => Ok(Some(serde_json::from_str(&body)?)),
            Err(_) => Ok(None),
        }
    }

    pub fn describe(&self) -> String {
        format!("{}:\n{}", self.log.display(), shell::tail(&self.log))
    }
}

/// A link between two servers.
pub struct Rig<'a> {
    world: &'a World,
    pub source: &'a Database,
    pub target: &'a Database,
    pub directory: PathBuf,
}

/// Writes the source's heartbeat as its arbiter would, only more often, until it is dropped: an
/// idle link tells its position once a second, and this one is not idle.
pub struct Heartbeats(tokio::task::JoinHandle<()>);

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The two ends of a link that runs.
pub struct Link {
    address: String,
    pub writer: Option<Process>,
    _syncer: Process,
}

impl<'a> Rig<'a> {
    async fn new(world: &'a World, source: &'a Database, target: &'a Database) -> Result<Self> {
        for side in [source, target] {
            reset(side).await?;
            side.root(
                "SET sql_log_bin = 0; DROP TABLE orders.t; DELETE FROM multiactive.fence; \
                 DELETE FROM multiactive.repairs; DELETE FROM multiactive.repair_runs; \
                 DELETE FROM multiactive.rebuilds",
            )?;
        }
        source.root(&format!(
            "SET GLOBAL read_only = 0; \
             INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, '{}', NULL, NOW(6))",
            source.idc
        ))?;
        let name = format!("{}-{}", source.idc, target.idc);
        let directory = world.info().directory.join("repair").join(&name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        certificates(&directory.join("tls"))?;
        // Both servers have the account under the same name.
        credentials(&directory.join("credentials"), target)?;
        let mut settings = link(&name, &source.idc, (&source.host, source.port), target);
        settings["apply"]["lingerMillis"] = 5.into();
        std::fs::write(directory.join("link.json"), settings.to_string())?;
        Ok(Self {
            world,
            source,
            target,
            directory,
        })
    }

    /// Ends the server of one end as a crash does, and starts it again. As any server that comes up
    /// it is read-only, which the link and a repair pass by.
    pub fn crash(&self, side: &Database) -> Result<()> {
        let part = harness::database::part(&side.idc);
        self.world.kill(&part)?;
        self.world.start(&part)?;
        self.world.wait_for_database(&side.idc)
    }

    /// Whether somebody waits for a row's lock at the target. MariaDB renews `innodb_trx` only for
    /// those who ask less often than every 0.1 s; this is counted.
    pub fn somebody_waits(&self) -> Result<bool> {
        let waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
        Ok(self.target.root(waits)?[0][1] != "0")
    }

    /// Makes tables at both ends and fills them at the source, none of it logged.
    pub fn make(&self, tables: &str, rows: &str) -> Result<()> {
        for side in [self.source, self.target] {
            side.root(&format!("SET sql_log_bin = 0; {tables}"))?;
        }
        self.source.root(&format!("SET sql_log_bin = 0; {rows}"))?;
        Ok(())
    }

    /// Changes the link's settings, before it is started.
    pub fn settings(&self, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let path = self.directory.join("link.json");
        let mut settings = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        change(&mut settings);
        Ok(std::fs::write(path, settings.to_string())?)
    }

    /// Waits until a statement says the same of both ends.
    pub async fn equal(&self, sql: &str) -> Result<()> {
        let mut found = Vec::new();
        let same = until("both ends are equal", async || {
            found = vec![self.source.root(sql)?, self.target.root(sql)?];
            Ok(found[0] == found[1])
        });
        same.await.with_context(|| format!("{sql}: {found:?}"))
    }

    /// Writes at the source, round after round, while something else is done.
    pub fn under_load<T>(
        &self,
        round: impl Fn(u64) -> String + Sync,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| -> Result<u64> {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    self.source.app(&round(number))?;
                    number += 1;
                }
                Ok(number)
            });
            let runtime = tokio::runtime::Handle::current();
            let outcome = tokio::task::block_in_place(|| runtime.block_on(work));
            stop.store(true, Ordering::Relaxed);
            match writing.join() {
                Ok(rounds) => {
                    let rounds = rounds?;
                    let outcome = outcome?;
                    ensure!(rounds >= 5, "{rounds} rounds are no load");
                    Ok(outcome)
                }
                Err(_) => anyhow::bail!("the application panicked"),
            }
        })
    }

    /// Starts the link and waits until it has copied everything.
    pub async fn link(&self) -> Result<Link> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let transport = ["--credentials", "credentials", "--tls", "tls"];
        let serve = [transport.as_slice(), &["--serve", &address]].concat();
        let mut link = Link {
            writer: None,
            _syncer: Process::start(&self.directory, "syncer", &serve)?,
            address,
        };
        link.start_writer(self)?;
        link.wait_streaming().await?;
        Ok(link)
    }

    /// Begins to write heartbeats at the source.
    pub async fn heartbeats(&self) -> Result<Heartbeats> {
        let options = crate::apply::rig::options(self.source)?;
        let mut session = options.connect().await?;
        let sql = format!(
            "INSERT INTO multiactive.heartbeat (idc, epoch, writable, seq, at) \
             VALUES ('{}', 1, 1, 1, SYSDATE(6)) \
             ON DUPLICATE KEY UPDATE seq = seq + 1, at = SYSDATE(6)",
            self.source.idc
        );
        session.conn.query_drop(&sql).await?;
        Ok(Heartbeats(tokio::spawn(async move {
            loop {
                // Its server may be killed, and comes back.
                if session.conn.query_drop(&sql).await.is_err()
                    && let Ok(another) = options.connect().await
                {
                    session = another;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })))
    }

    /// Changes rows of the target behind the link's back; says how many.
    pub fn plant(&self, settings: &str, sql: &str) -> Result<u64> {
        let sql = format!("SET sql_log_bin = 0; {settings} {sql}; SELECT ROW_COUNT()");
        let mut tries = 0;
        let rows = loop {
            match self.target.root(&sql) {
                // The link writes to the same rows, and this statement was the victim.
                Err(error) if tries < 10 && format!("{error:#}").contains("ERROR 1213") => {
                    tries += 1;
                }
                other => break other?,
            }
        };
        let count = rows
            .last()
            .and_then(|row| row.first())
            .context("no count")?;
        Ok(count.parse()?)
    }

    /// Starts a run.
    pub fn start(&self, run: &str, mode: &str, settings: &serde_json::Value) -> Result<Process> {
        let mut config = json!({
            "run": run, "mode": mode, "maxBatchBytes": 1_048_576,
            "consistencyTimeoutMillis": 30_000, "rowQuota": 10_000,
            "throttle": {"share": 1.0, "maxLagMillis": 60_000, "maxThreadsRunning": 10_000},
        });
        if let (Some(config), Some(settings)) = (config.as_object_mut(), settings.as_object()) {
            config.extend(settings.clone());
        }
        std::fs::write(self.directory.join("repair.json"), config.to_string())?;
        Process::start(
            &self.directory,
            "repair",
            &[
                "--repair",
                "repair.json",
                "--source-credentials",
                "credentials",
                "--target-credentials",
                "credentials",
            ],
        )
    }

    /// Says what a person wants of a run.
    pub fn control(&self, run: &str, control: &str) -> Result<()> {
        self.target.root(&format!(
            "SET sql_log_bin = 0; UPDATE multiactive.repair_runs SET control = '{control}' \
             WHERE run = '{run}'"
        ))?;
        Ok(())
    }

    /// Carries a run out and returns what it has come to.
    pub async fn run(
        &self,
        run: &str,
        mode: &str,
        settings: &serde_json::Value,
    ) -> Result<RepairStatus> {
        let process = self.start(run, mode, settings)?;
        let status = over(&process).await?;
        process.terminate().await?;
        Ok(status)
    }

    /// Verifies everything.
    pub async fn verify(&self, run: &str) -> Result<RepairStatus> {
        self.run(run, "Verify", &json!({})).await
    }

    /// How many rows are recorded in a state by a run, none of them twice.
    pub fn recorded(&self, run: &str, state: &str) -> Result<u64> {
        let sql = format!(
            "SELECT COUNT(*), COUNT(DISTINCT `table`, `row`) FROM multiactive.repairs \
             WHERE run = '{run}' AND state = '{state}'"
        );
        let rows = self.target.root(&sql)?;
        let row = rows.first().context("no count")?;
        ensure!(row[0] == row[1], "a row twice: {rows:?}");
        Ok(row[0].parse()?)
    }

    /// The server's own checksum of every table of one end.
    pub fn checksums(side: &Database) -> Result<Vec<Vec<String>>> {
        let names = side.root(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'orders' \
             AND table_type = 'BASE TABLE' ORDER BY 1",
        )?;
        let mut sums = Vec::new();
        for name in names.into_iter().flatten() {
            let name = name.replace('`', "``");
            sums.extend(side.root(&format!("CHECKSUM TABLE orders.`{name}` EXTENDED"))?);
        }
        Ok(sums)
    }

    /// How many transactions were born at the target.
    pub fn born_at_target(&self) -> Result<u64> {
        let (sql, flavor) = match self.target.engine {
            Engine::MySql => (
                "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')",
                change::Flavor::MySql,
            ),
            Engine::MariaDb => ("SELECT @@GLOBAL.gtid_binlog_pos", change::Flavor::MariaDb),
        };
        let text = self.target.root(sql)?.concat().concat().replace('\n', "");
        let position = change::Position::parse(flavor, &text)?;
        let idcs = [&self.source.idc, &self.target.idc].map(|idc| idc.parse());
        let idcs: Vec<model::IdcName> = idcs.into_iter().collect::<Result<_, _>>()?;
        Ok(mysql::origin::born_here(&position, &idcs))
    }
}

impl Link {
    /// Starts the writer, or another one.
    pub fn start_writer(&mut self, rig: &Rig<'_>) -> Result<()> {
        let arguments = ["--credentials", "credentials", "--tls", "tls", "--syncer"];
        let arguments = [arguments.as_slice(), &[&self.address]].concat();
        self.writer = Some(Process::start(&rig.directory, "writer", &arguments)?);
        Ok(())
    }

    /// Starts a writer that ends at a failpoint, in place of the one that runs.
    pub fn crash_at(&mut self, rig: &Rig<'_>, point: &str) -> Result<()> {
        self.kill_writer()?;
        let arguments = ["--credentials", "credentials", "--tls", "tls", "--syncer"];
        let end = [self.address.as_str(), "--crash-at", point];
        let arguments = [arguments.as_slice(), &end].concat();
        let program = programs::writer_with_failpoints()?;
        self.writer = Some(Process::start_program(
            &rig.directory,
            "writer",
            &program,
            &arguments,
        )?);
        Ok(())
    }

    /// Whether the writer runs.
    pub fn is_writing(&mut self) -> Result<bool> {
        match &mut self.writer {
            Some(writer) => Ok(writer.child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Kills the writer.
    pub fn kill_writer(&mut self) -> Result<()> {
        self.writer.take().map_or(Ok(()), Process::kill)
    }

    /// Waits until everything was copied.
    pub async fn wait_streaming(&self) -> Result<()> {
        let writer = self.writer.as_ref().context("no writer")?;
        let streams = until("the link streams", async || {
            let status: Option<WriterStatus> = writer.status().await?;
            Ok(status.is_some_and(|status| status.phase == LinkPhase::Streaming))
        });
        streams.await.with_context(|| writer.describe())
    }

    /// Refuses a link that has halted.
    pub async fn check(&self) -> Result<()> {
        let writer = self.writer.as_ref().context("no writer")?;
        let status: Option<WriterStatus> = writer.status().await?;
        let error = status.map(|status| status.error).unwrap_or_default();
        ensure!(error.is_empty(), "the link says: {error}");
        Ok(())
    }
}

/// Waits until a run is over, as long as it gets on: how much a machine compares and mends in two
/// minutes is not what is tried.
pub async fn over(process: &Process) -> Result<RepairStatus> {
    let mut last: Option<RepairStatus> = None;
    loop {
        let before = last.clone().map(|status| status.report);
        let over = until("the run is over", async || {
            last = process.status().await?;
            Ok(last.as_ref().is_some_and(|status| status.phase.is_over()))
        });
        match (over.await, &last) {
            (Ok(()), _) => return last.context("no status"),
            (Err(_), Some(now)) if before.as_ref() != Some(&now.report) => {}
            (Err(error), _) => {
                return Err(error.context(format!("{last:?}\n{}", process.describe())));
            }
        }
    }
}

/// Refuses a run that found anything, or could not judge something.
pub fn ensure_equal(status: &RepairStatus) -> Result<()> {
    let total = status.report.total();
    ensure!(
        status.phase == RepairPhase::Done
            && (total.missing, total.extra, total.differing, total.unjudged) == (0, 0, 0, 0),
        "{status:#?}"
    );
    Ok(())
}
