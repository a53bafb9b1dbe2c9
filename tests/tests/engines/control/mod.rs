//! What the arbiter does to a server, on both engines: a world of its own with MySQL in `sh` and
//! MariaDB in `bj`. Tests take turns at it, and each begins with an open server without guards.

mod boots;
mod fences;
mod guards;
mod lives;
mod looks;
mod opens;
mod owners;
mod preflights;
mod promises;
mod promotes;

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use harness::{Databases, World, WorldSpec};
use model::{Credentials, Endpoint, Generation, IdcName, ServerIdentity, TlsSettings};
use mysql::control::ControlSession;
use mysql::session::{Engine, Program, SessionOptions};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::patience::patiently;
use crate::worlds::{self, Shared, block_on, one_of_each};

/// Of an arbiter that nobody has superseded.
const NEWEST: Generation = Generation(u64::MAX);

/// What a call may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(5);

static WORLD: Shared = Shared::new();

/// One of the two servers.
struct Server<'a> {
    world: &'a World,
    database: &'a Database,
    engine: Engine,
    options: SessionOptions,
}

impl Server<'_> {
    async fn control(&self) -> Result<ControlSession> {
        patiently(async || Ok(ControlSession::connect(&self.options, PATIENCE).await?)).await
    }

    /// A session as root, which passes everything by.
    async fn root(&self) -> Result<Conn> {
        let options = OptsBuilder::default()
            .user(Some("root"))
            .socket(self.database.socket.to_str());
        patiently(async || Ok(Conn::new(options.clone()).await?)).await
    }

    /// A session as an application, in its schema.
    async fn app(&self) -> Result<Conn> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.database.host.clone())
            .tcp_port(self.database.port)
            .prefer_socket(false)
            .user(Some(self.database.app_user.clone()))
            .pass(Some(self.database.app_password.clone()))
            .db_name(Some(self.database.schema.clone()));
        Ok(Conn::new(options).await?)
    }

    fn idc(&self) -> Result<IdcName> {
        Ok(IdcName::new(self.database.idc.clone())?)
    }

    /// A number, read with the product's account: a guard cuts all others.
    async fn number(&self, sql: &str) -> Result<i64> {
        let mut session = patiently(async || Ok(self.options.connect().await?)).await?;
        let number: Option<i64> = session.conn.query_first(sql).await?;
        session.close().await?;
        number.with_context(|| format!("no answer to {sql}"))
    }

    async fn read_only(&self) -> Result<bool> {
        Ok(self.number("SELECT @@GLOBAL.read_only").await? == 1)
    }

    /// Brings the server into the state in which each test begins.
    async fn reset(&self) -> Result<ServerIdentity> {
        let mut control = self.control().await?;
        let identity = control.install().await?;
        control.end_guards(NEWEST, None).await?;
        let mut root = self.root().await?;
        root.query_drop("SET GLOBAL read_only = 0").await?;
        root.query_drop(match self.engine {
            Engine::MySql => "SET GLOBAL offline_mode = 0",
            Engine::MariaDb => "SET GLOBAL init_connect = ''",
        })
        .await?;
        let prepared: Vec<(i64, u32, u32, String)> = root.query("XA RECOVER").await?;
        for (format, length, _, data) in prepared {
            let (one, two) = data.split_at(usize::try_from(length)?);
            root.query_drop(format!("XA ROLLBACK '{one}', '{two}', {format}"))
                .await?;
        }
        root.query_drop(
            "SET lock_wait_timeout = 5, sql_log_bin = 0; UPDATE multiactive.control SET generation = 0; \
             DELETE FROM multiactive.epoch; DELETE FROM multiactive.promise; DELETE FROM multiactive.applied; \
             DELETE FROM multiactive.owner; \
             DROP DATABASE orders; CREATE DATABASE orders; \
             CREATE TABLE orders.t (id INT PRIMARY KEY, v INT); \
             INSERT INTO orders.t VALUES (1, 1), (2, 2)",
        )
        .await?;
        root.disconnect().await?;
        Ok(identity)
    }
}

/// A server of a world, with the product's account.
fn server<'a>(world: &'a World, idc: &str, engine: Engine) -> Result<Server<'a>> {
    let database = world.database(idc)?;
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
    let options = SessionOptions::new(&endpoint, &credentials, Program::Arbiter)?;
    Ok(Server {
        world,
        database,
        engine,
        options,
    })
}

/// Runs a test on each engine, one after the other. What fails names the engine.
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
fn on_each(test: impl AsyncFn(&Server<'_>, ServerIdentity) -> Result<()>) -> Result<()> {
    let world = worlds::lock(&WORLD, &one_of_each("suite-control"))?;
    for (idc, engine) in [("sh", Engine::MySql), ("bj", Engine::MariaDb)] {
        let server = server(&world, idc, engine)?;
        block_on(async {
            let identity = server
                .reset()
                .await
                .with_context(|| format!("reset on {engine:?}"))?;
            let test = Box::pin(test(&server, identity));
            tokio::time::timeout(Duration::from_secs(90), test)
                .await
                .with_context(|| format!("too slow on {engine:?}"))?
                .with_context(|| format!("on {engine:?}"))
        })?;
    }
    Ok(())
}

/// The tests' monotonic clock.
fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(1)
}

/// Polls until a check holds; fails with what it was waiting for.
async fn until<F>(what: &str, limit: Duration, mut check: impl FnMut() -> F) -> Result<Duration>
where
    F: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    loop {
        if check().await? {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a statement in a task of its own and returns when the process list shows it running.
async fn running(
    server: &Server<'_>,
    mut conn: Conn,
    sql: &'static str,
) -> Result<tokio::task::JoinHandle<Result<Conn, mysql_async::Error>>> {
    let id = conn.id();
    let task = tokio::spawn(async move { conn.query_drop(sql).await.map(|()| conn) });
    let look = format!(
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE id = {id} AND command = 'Query' AND time_ms > 50"
    );
    let look = match server.engine {
        Engine::MariaDb => look,
        Engine::MySql => look.replace(" AND time_ms > 50", ""),
    };
    until(sql, PATIENCE, || async {
        Ok(server.number(&look).await? == 1)
    })
    .await?;
    Ok(task)
}
