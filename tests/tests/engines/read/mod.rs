//! What the syncer reads of a source, on both engines: the shipped program against real servers,
//! pulled by a client that keeps what it is told.

mod copying;
mod corpus;
mod generated;
mod passes;
mod pull;
mod refusals;
mod starts;
mod values;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use change::{Flavor, Position};
use harness::World;
use harness::database::Database;
use harness::programs::beside_test;

use crate::apply::rig::{certificates, credentials, free_port, link, reset};
use crate::worlds::{self, Shared, block_on, one_of_each};
use pull::Pull;

/// How long something may take on a slow machine before a test fails.
const LIMIT: Duration = Duration::from_secs(60);

static WORLD: Shared = Shared::new();

/// One source and the syncer that reads it; the syncer is killed when dropped.
struct Source<'a> {
    world: &'a World,
    database: &'a Database,
    directory: PathBuf,
    address: String,
    syncer: Child,
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.syncer.kill();
        let _ = self.syncer.wait();
    }
}

impl<'a> Source<'a> {
    fn start(
        world: &'a World,
        database: &'a Database,
        mode: &str,
        chunk_bytes: u32,
        ddl: &str,
    ) -> Result<Self> {
        let directory = world.info().directory.join("read").join(&database.idc);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        certificates(&directory.join("tls"))?;
        credentials(&directory.join("credentials"), database)?;
        let mut settings = link(
            "read",
            &database.idc,
            (&database.host, database.port),
            database,
        );
        settings["ddl"] = ddl.into();
        settings["target"]["idc"] = "gz".into();
        settings["origins"] = serde_json::json!(["sh", "bj", "gz"]);
        settings["snapshot"]["mode"] = mode.into();
        settings["snapshot"]["chunkBytes"] = chunk_bytes.into();
        settings["tables"]["exclude"] = serde_json::json!(["orders.unwanted*"]);
        std::fs::write(directory.join("link.json"), settings.to_string())?;
        let (serve, listen) = (free_port()?, free_port()?);
        let address = format!("127.0.0.1:{serve}");
        let syncer = Command::new(beside_test("syncer")?)
            .args(["--link", "link.json", "--credentials", "credentials"])
            .args([
                "--tls", "tls", "--log", "text", "--serve", &address, "--listen",
            ])
            .arg(format!("127.0.0.1:{listen}"))
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("syncer.log"))?)
            .spawn()?;
        Ok(Self {
            world,
            database,
            directory,
            address,
            syncer,
        })
    }

    fn flavor(&self) -> Flavor {
        match self.database.engine {
            harness::Engine::MySql => Flavor::MySql,
            harness::Engine::MariaDb => Flavor::MariaDb,
        }
    }

    /// Where the source is now.
    fn position(&self) -> Result<Position> {
        let sql = match self.flavor() {
            Flavor::MySql => "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')",
            Flavor::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
        };
        let text = self.database.root(sql)?.into_iter().flatten().next();
        Ok(Position::parse(self.flavor(), &text.unwrap_or_default())?)
    }

    /// The place behind everything so far, to be reached by a connection. The syncer says nothing
    /// of the marks that copies leave behind until something else follows, as heartbeats do.
    fn end(&self) -> Result<Position> {
        self.database.root(&format!(
            "REPLACE INTO multiactive.heartbeat VALUES ('{}', 1, 1, 1, NOW(6))",
            self.database.idc
        ))?;
        self.position()
    }

    /// Everything in `orders` anew, and an epoch that says whose it is. `sql` makes what there is;
    /// the position is of before it.
    fn make(&self, sql: &str) -> Result<Position> {
        self.database.root(&format!(
            "SET GLOBAL read_only = 0; REPLACE INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, '{}', NULL, \
             NOW(6)); DROP DATABASE orders; CREATE DATABASE orders CHARACTER SET utf8mb4",
            self.database.idc
        ))?;
        let position = self.position()?;
        self.database.root(&format!("USE orders; {sql}"))?;
        Ok(position)
    }

    /// A connection as a writer's.
    async fn pull(&self, checkpoint: Option<&Position>) -> Result<Pull> {
        Pull::connect(self, checkpoint)
            .await
            .with_context(|| self.describe())
    }

    fn describe(&self) -> String {
        let log = self.directory.join("syncer.log");
        format!("{}:\n{}", log.display(), harness::shell::tail(&log))
    }
}

/// Runs a test with each engine as the source, one after the other. What fails names the engine.
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
fn on_each(test: impl AsyncFn(&Source<'_>) -> Result<()>) -> Result<()> {
    on_each_with("Always", test)
}

/// The same with a mode of the snapshot.
fn on_each_with(mode: &str, test: impl AsyncFn(&Source<'_>) -> Result<()>) -> Result<()> {
    // Small chunks, so that there are many.
    on_each_of(mode, 1_024, "Apply", test)
}

/// The same with a setting for statements.
fn on_each_where_ddl_is(ddl: &str, test: impl AsyncFn(&Source<'_>) -> Result<()>) -> Result<()> {
    on_each_of("Always", 1_024, ddl, test)
}

/// The same with chunks of another size.
fn on_each_chunked(bytes: u32, test: impl AsyncFn(&Source<'_>) -> Result<()>) -> Result<()> {
    on_each_of("Always", bytes, "Apply", test)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
fn on_each_of(
    mode: &str,
    chunk_bytes: u32,
    ddl: &str,
    test: impl AsyncFn(&Source<'_>) -> Result<()>,
) -> Result<()> {
    let world = worlds::lock(&WORLD, &one_of_each("suite-read"))?;
    for idc in ["sh", "bj"] {
        let database = world.database(idc)?;
        let tried = block_on(async {
            reset(database).await?;
            let source = Source::start(&world, database, mode, chunk_bytes, ddl)?;
            tokio::time::timeout(4 * LIMIT, Box::pin(test(&source)))
                .await
                .context("too slow")
                .flatten()
                .with_context(|| source.describe())
        });
        tried.with_context(|| format!("with {} as the source", database.engine.name()))?;
    }
    Ok(())
}
