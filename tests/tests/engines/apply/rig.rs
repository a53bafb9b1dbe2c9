//! A world with both engines, and writers as processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use change::Flavor;
use harness::database::Database;
use harness::{World, programs, shell};
use model::{LinkPhase, PositionText, WriterStatus};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::script::Source;
use crate::worlds::{self, Shared, block_on, one_of_each};

/// How long something may take on a slow machine before a test fails.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a link that has not stood still may take in all.
const MOST: Duration = Duration::from_secs(600);

static WORLD: Shared = Shared::new();

/// What both ends of our own connections are called.
const TRANSPORT: &str = "transport.multiactive";

/// Certificates of one CA for both ends of our own connections.
pub fn certificates(directory: &Path) -> Result<()> {
    certificates_for(directory, TRANSPORT)
}

/// The same for another name, or an address.
pub fn certificates_for(directory: &Path, name: &str) -> Result<()> {
    let params = CertificateParams::new(vec![name.to_owned()])?;
    Authority::new()?.issue(directory, &params)
}

/// A CA whose certificates are in more than one directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Issues a certificate for our own connections, in place of what the directory held.
    pub fn good(&self, directory: &Path) -> Result<()> {
        let params = CertificateParams::new(vec![TRANSPORT.to_owned()])?;
        self.issue(directory, &params)
    }

    /// The same, and it expired years ago.
    pub fn expired(&self, directory: &Path) -> Result<()> {
        let mut params = CertificateParams::new(vec![TRANSPORT.to_owned()])?;
        params.not_after = rcgen::date_time_ymd(2020, 12, 31);
        self.issue(directory, &params)
    }

    fn issue(&self, directory: &Path, params: &CertificateParams) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        std::fs::write(directory.join("ca.crt"), &self.certificate)?;
        std::fs::write(directory.join("tls.crt"), certificate.pem())?;
        std::fs::write(directory.join("tls.key"), key.serialize_pem())?;
        Ok(())
    }
}

/// A free port of loopback, below those that the system gives to outgoing connections, and another
/// one each time.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(24_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 32_000, "no free port below 32000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// One target with a scripted source.
pub struct Rig<'a> {
    pub target: &'a Database,
    pub source: Source,
    pub directory: PathBuf,
    syncer: String,
    _stop: tokio_util::sync::DropGuard,
}

/// A writer that runs; killed when dropped.
pub struct Writer {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test with each engine as the target, one after the other.
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
pub fn on_each(test: impl AsyncFn(&Rig<'_>) -> Result<()>) -> Result<()> {
    on_each_under(1, test)
}

/// The same, where the source's transactions are of this epoch; of 0 where it belongs to no Unit.
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
pub fn on_each_under(epoch: u64, test: impl AsyncFn(&Rig<'_>) -> Result<()>) -> Result<()> {
    let world = worlds::lock(&WORLD, &one_of_each("suite-apply"))?;
    programs::writer_with_failpoints()?;
    // The source is of the other engine: what is the same on both is tried crosswise.
    for (idc, from, flavor) in [("sh", "bj", Flavor::MariaDb), ("bj", "sh", Flavor::MySql)] {
        let target = world.database(idc)?;
        let mut source = Source::new(from, flavor);
        source.epoch = epoch;
        let tried = block_on(async {
            let rig = Rig::new(&world, target, source).await?;
            tokio::time::timeout(Duration::from_secs(240), Box::pin(test(&rig)))
                .await
                .context("too slow")?
        });
        tried.with_context(|| format!("with {} as the target", target.engine.name()))?;
    }
    Ok(())
}

/// Runs a test with the world alone.
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests read best as closures in the call"
)]
pub fn in_world(test: impl AsyncFn(&World) -> Result<()>) -> Result<()> {
    let world = worlds::lock(&WORLD, &one_of_each("suite-apply"))?;
    programs::writer_with_failpoints()?;
    block_on(Box::pin(test(&world)))
}

/// How the product reaches a server.
pub fn options(database: &Database) -> Result<mysql::session::SessionOptions> {
    let endpoint = model::Endpoint {
        host: database.host.clone(),
        port: database.port,
        tls: model::TlsSettings::default(),
    };
    let credentials = model::Credentials {
        username: database.user.clone(),
        password: database.password.clone(),
        ca: None,
    };
    Ok(mysql::session::SessionOptions::new(
        &endpoint,
        &credentials,
        mysql::session::Program::Arbiter,
    )?)
}

/// The product's own schema, empty, and a fresh `orders.t`, on one server; none of it logged.
pub async fn reset(database: &Database) -> Result<()> {
    let options = options(database)?;
    let mut control =
        mysql::control::ControlSession::connect(&options, Duration::from_secs(10)).await?;
    control.install().await?;
    // The writer passes read_only by, as on a replica.
    database.root(
        "SET GLOBAL read_only = 1; SET sql_log_bin = 0; DELETE FROM multiactive.epoch; \
         DELETE FROM multiactive.applied; DELETE FROM multiactive.ddl; \
         DELETE FROM multiactive.heartbeat; DELETE FROM multiactive.stranded; \
         DELETE FROM multiactive.undone; DELETE FROM multiactive.replayed; \
         DELETE FROM multiactive.skips; DELETE FROM multiactive.held; \
         DELETE FROM multiactive.conflicts; DELETE FROM multiactive.tombstones; \
         DELETE FROM multiactive.routed; \
         DROP DATABASE IF EXISTS orders; \
         CREATE DATABASE orders CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; \
         CREATE TABLE orders.t (id INT PRIMARY KEY, v INT, u INT UNIQUE)",
    )?;
    Ok(())
}

impl<'a> Rig<'a> {
    async fn new(world: &'a World, target: &'a Database, source: Source) -> Result<Self> {
        reset(target).await?;
        let directory = world.info().directory.join("apply").join(&target.idc);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        certificates(&directory.join("tls"))?;
        credentials(&directory.join("credentials"), target)?;
        let stop = CancellationToken::new();
        let syncer = source
            .clone()
            .serve(&directory.join("tls"), stop.clone())?
            .to_string();
        let rig = Self {
            target,
            source,
            directory,
            syncer,
            _stop: stop.drop_guard(),
        };
        rig.settings(|_| {})?;
        Ok(rig)
    }

    /// Writes the link's settings.
    pub fn settings(&self, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let mut link = link("apply", &self.source.idc, ("127.0.0.1", 1), self.target);
        change(&mut link);
        std::fs::write(self.directory.join("link.json"), link.to_string())?;
        Ok(())
    }

    /// Starts a writer.
    pub fn start(&self) -> Result<Writer> {
        self.start_with(&[])
    }

    /// Starts a writer that ends at a failpoint.
    pub fn start_with(&self, arguments: &[&str]) -> Result<Writer> {
        start_writer(&self.directory, &self.syncer, arguments)
    }

    /// Starts a writer again and again, so that it ends at each of these points: the first time that
    /// it gets there, then the second, and so on up to `times`, unless it has applied everything
    /// before. Says how often it ended.
    pub async fn crash_at(&self, points: &[&str], times: u32) -> Result<u32> {
        let mut crashes = 0;
        for time in 1..=times {
            for point in points {
                let mut writer = self.start_with(&["--crash-at", &format!("{point}:{time}")])?;
                let ended = until("the writer ends or is through", async || {
                    Ok(!writer.is_running()? || self.is_through()?)
                });
                ended.await.with_context(|| writer.describe())?;
                crashes += u32::from(!writer.is_running()?);
            }
        }
        Ok(crashes)
    }

    /// Everything in `orders.t`, as text.
    pub fn rows(&self) -> Result<Vec<Vec<String>>> {
        self.target
            .root("SELECT id, v, u FROM orders.t ORDER BY id")
    }

    /// The link's checkpoint; empty where there is none.
    pub fn applied(&self) -> Result<String> {
        Ok(self.checkpoint()?.unwrap_or_default())
    }

    fn checkpoint(&self) -> Result<Option<String>> {
        let sql = "SELECT position FROM multiactive.applied WHERE position IS NOT NULL";
        Ok(self.target.root(sql)?.into_iter().flatten().next())
    }

    /// Whether everything at the source has been applied.
    pub fn is_through(&self) -> Result<bool> {
        let position = self.source.position(self.source.length());
        Ok(self.checkpoint()? == Some(position.to_string()))
    }

    /// Waits until everything at the source has been applied and the writer counts it: one that is
    /// started where nothing is left to do has read no checkpoint yet, and its ledger says nothing.
    pub async fn wait_through(&self, writer: &Writer) -> Result<()> {
        let position = PositionText(self.source.position(self.source.length()).to_string());
        let through = until("all is applied", async || {
            Ok(self.is_through()? && writer.status().await?.applied.as_ref() == Some(&position))
        });
        through.await.with_context(|| writer.describe())
    }

    /// Waits until the link halts, and returns its error.
    pub async fn wait_halted(&self, writer: &Writer) -> Result<String> {
        let mut error = String::new();
        let halted = until("the link halts", async || {
            let status = writer.status().await?;
            error.clone_from(&status.error);
            Ok(status.phase == LinkPhase::Halted && !status.error.contains("one of several rows"))
        });
        halted.await.with_context(|| writer.describe())?;
        Ok(error)
    }
}

/// A link's settings.
pub fn link(name: &str, from: &str, source: (&str, u16), target: &Database) -> serde_json::Value {
    serde_json::json!({
        "link": format!("suite/{name}"), "unit": "suite/orders",
        "source": {"idc": from, "endpoint": {"host": source.0, "port": source.1}},
        "target": {"idc": target.idc, "endpoint": {"host": target.host, "port": target.port}},
        "origins": ["sh", "bj"], "databases": ["orders"],
        "tables": {"include": [], "exclude": [], "routes": []},
        "snapshot": {"mode": "IfEmpty", "chunkBytes": 65_536}, "compression": "Zstd",
        "apply": {"consistency": "Transactional", "maxRows": 1000, "lingerMillis": 5},
        "ddl": "Apply", "relay": false,
    })
}

/// The product's account on a server, as a mounted Secret.
pub fn credentials(directory: &Path, database: &Database) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("username"), &database.user)?;
    std::fs::write(directory.join("password"), &database.password)?;
    Ok(())
}

/// Starts a writer with the files in a directory.
pub fn start_writer(directory: &Path, syncer: &str, arguments: &[&str]) -> Result<Writer> {
    let port = free_port()?;
    let log = directory.join("writer.log");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)?;
    let child = Command::new(programs::writer_with_failpoints()?)
        .args([
            "--link",
            "link.json",
            "--credentials",
            "credentials",
            "--tls",
            "tls",
        ])
        .args(["--syncer", syncer, "--log", "text", "--listen"])
        .arg(format!("127.0.0.1:{port}"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()?;
    Ok(Writer { child, port, log })
}

impl Writer {
    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end; says whether it ended by a failpoint rather than in good order.
    pub async fn ended(&mut self) -> Result<bool> {
        let mut status = None;
        let ended = until("the writer ends", async || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        });
        ended.await?;
        Ok(status.is_some_and(|status| !status.success()))
    }

    /// Asks it to end.
    pub fn terminate(&self) -> Result<()> {
        shell::run(&mut shell::command(
            "kill",
            ["-TERM", &self.child.id().to_string()],
        ))
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The body that one of its endpoints answers with.
    pub async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: writer\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        Ok(body.to_owned())
    }

    pub async fn status(&self) -> Result<WriterStatus> {
        let start = Instant::now();
        loop {
            match self.get("/status").await {
                Ok(body) => return Ok(serde_json::from_str(&body)?),
                // It may not listen yet, or have nothing to tell yet.
                Err(error) if start.elapsed() > LIMIT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    pub fn describe(&self) -> String {
        format!("{}:\n{}", self.log.display(), shell::tail(&self.log))
    }
}

/// Polls until a check holds.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        if check().await? {
            return Ok(());
        }
        ensure!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Polls until a check holds, as long as one of these links gets on: how much a machine applies in
/// two minutes is not what is tried.
pub async fn until_applied(
    what: &str,
    writers: &[&Writer],
    mut check: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    let (mut moved, mut looked) = (start, start);
    let mut last = Vec::new();
    loop {
        if check().await? {
            return Ok(());
        }
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            let now = progress(writers).await;
            if now != last {
                (moved, last) = (looked, now);
            }
        }
        let seconds = start.elapsed().as_secs();
        ensure!(
            moved.elapsed() < LIMIT && start.elapsed() < MOST,
            "not within {seconds} s: {what}; {last:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What each of them says of itself; one that has just begun says nothing.
async fn progress(writers: &[&Writer]) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for writer in writers {
        let status = writer.get("/status").await;
        let status = status.and_then(|body| Ok(serde_json::from_str::<WriterStatus>(&body)?));
        all.push(status.ok().map(|status| {
            let WriterStatus {
                phase,
                snapshot,
                applied,
                ledger,
                error,
                ..
            } = status;
            format!("{phase:?} at {applied:?}, {snapshot:?}, {ledger:?}, {error:?}")
        }));
    }
    all
}
