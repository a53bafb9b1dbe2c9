//! The applications of one side: clients that write without pause to every member that they can
//! reach, since they do not know which is the primary, and note each attempt.
//!
//! They are a process of their own, in the network of their IDC, with the ordinary account. Each
//! attempt has a number of its own and is never repeated; each is noted when it has ended, in one
//! write to a file, so that nothing noted is lost however the process ends.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, OptsBuilder};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tests::history::{Attempt, Nanos, Outcome, WriteId, log};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The first argument that makes this program one.
pub const SUBCOMMAND: &str = "__application";

/// An answer later than this counts as none. The connection is given up with it.
const PATIENCE: Duration = Duration::from_millis(1_500);
const CONNECT_PATIENCE: Duration = Duration::from_millis(700);
/// How long a client waits before it tries again what was refused.
const AGAIN: Duration = Duration::from_millis(12);

/// What a process is given, as a JSON file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The IDC that it runs in.
    pub side: String,
    /// Where attempts are noted.
    pub log: PathBuf,
    /// The members: IDC, host, port.
    pub members: Vec<(String, String, u16)>,
    /// The ordinary account.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Its schema.
    pub schema: String,
    /// The number of its first client.
    pub first_client: u32,
}

/// The clients that one process has for each member.
pub const CLIENTS_A_MEMBER: u32 = 2;

/// Now, on the clock that all processes of the machine share.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// Runs until it is asked to end; attempts under way are ended and noted first.
pub fn main(file: &str) -> Result<()> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let settings: Settings = serde_json::from_slice(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> Result<()> {
    let stop = CancellationToken::new();
    let log = Arc::new(
        File::options()
            .create(true)
            .append(true)
            .open(&settings.log)?,
    );
    let mut clients = tokio::task::JoinSet::new();
    let numbers = settings.first_client..;
    let kinds = settings
        .members
        .iter()
        .flat_map(|member| [false, true].map(|counted| (member, counted)));
    for (number, ((member, host, port), counted)) in numbers.zip(kinds) {
        let options = OptsBuilder::default()
            .ip_or_hostname(host.clone())
            .tcp_port(*port)
            .prefer_socket(false)
            .user(Some(settings.user.clone()))
            .pass(Some(settings.password.clone()))
            .db_name(Some(settings.schema.clone()))
            // A lock that somebody holds is waited for as briefly as an answer.
            .setup(vec![
                "SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1",
            ]);
        let client = Client {
            member: member.clone(),
            number,
            counted,
            options,
            log: Arc::clone(&log),
            attempts: 0,
        };
        clients.spawn(client.run(stop.clone()));
    }
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminated.recv() => stop.cancel(),
        Some(ended) = clients.join_next() => anyhow::bail!("a client ended: {ended:?}"),
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

struct Client {
    member: String,
    number: u32,
    counted: bool,
    options: OptsBuilder,
    log: Arc<File>,
    attempts: u64,
}

impl Client {
    async fn run(mut self, stop: CancellationToken) -> Result<()> {
        // Clients of one process do not all write at the same instants.
        let pause =
            Duration::from_millis(if self.counted { 45 } else { 15 } + u64::from(self.number % 5));
        let mut conn: Option<Conn> = None;
        while !stop.is_cancelled() {
            if conn.is_none() {
                conn = self.connect().await;
            }
            let Some(mut open) = conn.take() else {
                tokio::time::sleep(AGAIN * 4).await;
                continue;
            };
            self.attempts += 1;
            let id = WriteId {
                client: self.number,
                number: self.attempts,
            };
            let (mut total, mut stage) = (None, Stage::Before);
            let sent = now();
            let writing = async {
                if self.counted {
                    several(&mut open, id, &mut total, &mut stage).await
                } else {
                    stage = Stage::Deciding;
                    single(&mut open, id).await
                }
            };
            let answer = tokio::time::timeout(PATIENCE, writing).await;
            let ended = now();
            let outcome = judge(answer, stage);
            let done = outcome == Outcome::Acknowledged;
            // A transaction that was refused half-way may still be open.
            let usable = done || (outcome == Outcome::Refused && !self.counted);
            let attempt = Attempt {
                id,
                member: self.member.clone(),
                counted: self.counted,
                sent,
                ended,
                outcome,
                total,
            };
            (&*self.log).write_all(log::line(&attempt).as_bytes())?;
            if usable {
                conn = Some(open);
            }
            tokio::time::sleep(if done { pause } else { AGAIN + pause }).await;
        }
        Ok(())
    }

    async fn connect(&self) -> Option<Conn> {
        let connecting = Conn::new(self.options.clone());
        tokio::time::timeout(CONNECT_PATIENCE, connecting)
            .await
            .ok()?
            .ok()
    }
}

/// How far a transaction has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing that could commit it has been sent.
    Before,
    /// What was sent may commit it.
    Deciding,
}

async fn single(conn: &mut Conn, id: WriteId) -> Result<(), Error> {
    let WriteId { client, number } = id;
    conn.query_drop(format!(
        "INSERT INTO writes (client, number, counted) VALUES ({client}, {number}, 0)"
    ))
    .await
}

/// A transaction of several statements, with the application's own work between them.
async fn several(
    conn: &mut Conn,
    id: WriteId,
    total: &mut Option<u64>,
    stage: &mut Stage,
) -> Result<(), Error> {
    let WriteId { client, number } = id;
    conn.query_drop("START TRANSACTION").await?;
    conn.query_drop(format!(
        "INSERT INTO writes (client, number, counted) VALUES ({client}, {number}, 1)"
    ))
    .await?;
    tokio::time::sleep(Duration::from_millis(number % 7)).await;
    conn.query_drop(format!(
        "INSERT INTO counters (client, total) VALUES ({client}, 1) \
         ON DUPLICATE KEY UPDATE total = total + 1"
    ))
    .await?;
    *total = conn
        .query_first(format!(
            "SELECT total FROM counters WHERE client = {client}"
        ))
        .await?;
    *stage = Stage::Deciding;
    conn.query_drop("COMMIT").await
}

fn judge(answer: Result<Result<(), Error>, tokio::time::error::Elapsed>, stage: Stage) -> Outcome {
    let error = match answer {
        Ok(Ok(())) => return Outcome::Acknowledged,
        Ok(Err(error)) => error,
        Err(_) if stage == Stage::Before => return Outcome::Refused,
        Err(_) => return Outcome::Unknown,
    };
    match error {
        Error::Server(server) => match server.code {
            // read_only, super_read_only, offline_mode, a lock that was waited for in vain, a
            // deadlock, a statement of an XA transaction: not done.
            1290 | 1836 | 3032 | 1205 | 1213 | 1399 => Outcome::Refused,
            // The end of a session, a statement or a server: not known if it came during a commit.
            1053 | 1077 | 1080 | 1184 | 1317 | 1927 | 3169 | 3024 | 1969
                if stage == Stage::Before =>
            {
                Outcome::Refused
            }
            1053 | 1077 | 1080 | 1184 | 1317 | 1927 | 3169 | 3024 | 1969 => Outcome::Unknown,
            _ => Outcome::Wrong(format!("{} {}", server.code, server.message)),
        },
        // The connection.
        _ if stage == Stage::Before => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}
