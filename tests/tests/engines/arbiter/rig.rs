//! The world of these tests: arbiters in each IDC, and applications that write to both servers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::database::Database;
use harness::programs::beside_test;
use harness::sandbox::PartSpec;
use harness::{World, WorldSpec};
use model::{
    ApplicationCheck, ArbiterStatus, Credentials, Endpoint, FailoverMode, FailoverPolicy,
    HeartbeatCheck, IdcDoc, IdcName, IdcRole, Intent, IntentKind, IntentPhase, MemberDoc,
    MemberRole, Receipt, TlsSettings, UnitDoc, UnitKey, UnitState,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::task::JoinSet;
use topology::{EtcdOptions, Topology};

use super::links::{Checkpoints, Link};
use crate::apply::rig::Authority;
use crate::worlds::{self, Shared, block_on, one_of_each};

/// The IDCs with data.
pub const DATA: [&str; 2] = ["sh", "bj"];
const PORT: u16 = 8080;
/// The first arbiter of each IDC runs under this account and the second one under the next, so that
/// a packet filter can tell them apart.
const ACCOUNT: u32 = 20_001;
const ETCD_PORT: u16 = 2379;

static WORLD: Shared = Shared::new();

/// Runs a test that has the world to itself.
pub fn with_world(test: &impl AsyncFn(&World) -> Result<()>) -> Result<()> {
    let spec = WorldSpec {
        etcd: true,
        ..one_of_each("suite-arbiter")
    };
    let world = worlds::lock(&WORLD, &spec)?;
    block_on(async {
        tokio::time::timeout(Duration::from_secs(300), Box::pin(test(&world)))
            .await
            .context("the test took more than 300 s")?
    })
}

pub async fn topology(world: &World, prefix: &str) -> Result<Topology> {
    let options = EtcdOptions::new(world.info().etcd.clone(), prefix, None);
    Ok(Topology::connect(&options).await?)
}

pub fn idc(name: &str) -> Result<IdcName> {
    Ok(IdcName::new(name)?)
}

/// Polls until the answer is there.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let give_up = Instant::now() + limit;
    loop {
        if let Some(answer) = look().await? {
            return Ok(answer);
        }
        ensure!(Instant::now() < give_up, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A write that was acknowledged to an application.
#[derive(Debug, Clone)]
pub struct Write {
    pub idc: &'static str,
    pub sent: Instant,
    pub acknowledged: Instant,
}

/// What applications were told.
#[derive(Debug, Default)]
struct Told {
    writes: Vec<Write>,
    /// Whose server refused a write, when, and how.
    refusals: Vec<(&'static str, Instant, String)>,
}

pub struct Rig<'a> {
    pub world: &'a World,
    pub topology: Topology,
    pub unit: UnitKey,
    /// What the Unit says of failover; see [`Rig::publish_idcs`] for the automatic one.
    pub policy: FailoverPolicy,
    /// What the Unit says of its application's health.
    pub application: Option<ApplicationCheck>,
    /// Which links' checkpoints stand still.
    pub checkpoints: Checkpoints,
    credentials: PathBuf,
    authority: Authority,
    certificates: PathBuf,
    prefix: String,
    told: Arc<Mutex<Told>>,
    tasks: JoinSet<()>,
}

/// A test that failed leaves no arbiter behind that would guard the next one's servers. Parts that
/// were never started, or have ended, cannot be killed, which is all right.
impl Drop for Rig<'_> {
    fn drop(&mut self) {
        for idc in &self.world.info().idcs {
            for part in [self.part(idc), self.standby_part(idc)] {
                drop(self.world.kill(&part));
            }
        }
        drop(self.world.heal_accounts());
        drop(self.world.heal_all());
    }
}

impl<'a> Rig<'a> {
    pub async fn new(world: &'a World, name: &str) -> Result<Self> {
        let prefix = format!("/{name}/");
        let credentials = world.info().directory.join(format!("credentials-{name}"));
        // An earlier run's.
        if credentials.exists() {
            std::fs::remove_dir_all(&credentials)?;
        }
        std::fs::create_dir_all(&credentials)?;
        let certificates = world.info().directory.join(format!("certificates-{name}"));
        let authority = Authority::new()?;
        for idc in &world.info().idcs {
            authority.good(&certificates.join(idc))?;
        }
        Ok(Self {
            world,
            topology: topology(world, &prefix).await?,
            unit: UnitKey::new("shop", name)?,
            policy: FailoverPolicy {
                mode: FailoverMode::Manual,
                max_lag_millis: 5_000,
                cooldown_millis: 0,
                failback: FailoverMode::Manual,
                failsafe: false,
            },
            application: None,
            checkpoints: Checkpoints::default(),
            credentials,
            authority,
            certificates,
            prefix,
            told: Arc::default(),
            tasks: JoinSet::new(),
        })
    }

    /// Runs `mactl` against etcd: its exit code, and all that it printed.
    pub fn mactl(&self, words: &[&str]) -> Result<(Option<i32>, String)> {
        let output = std::process::Command::new(beside_test("mactl")?)
            .args(words)
            .arg(format!(
                "--etcd-endpoints={}",
                self.world.info().etcd.join(",")
            ))
            .arg(format!("--etcd-prefix={}", self.prefix))
            .env("USER", "ann")
            .output()?;
        let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        println!("mactl {}: {:?}\n{printed}", words.join(" "), output.status);
        Ok((output.status.code(), printed))
    }

    /// The same, which must succeed.
    pub fn mactl_done(&self, words: &[&str]) -> Result<String> {
        let (code, printed) = self.mactl(words)?;
        ensure!(
            code == Some(0),
            "mactl {}: {code:?}: {printed}",
            words.join(" ")
        );
        Ok(printed)
    }

    pub fn part(&self, idc: &str) -> String {
        format!("arbiter-{}-{idc}", self.unit.name())
    }

    pub fn start_arbiters(&self) -> Result<()> {
        for idc in &self.world.info().idcs {
            self.spawn_arbiter(idc, 1, &self.part(idc), PORT)?;
        }
        Ok(())
    }

    /// The name of the second arbiter of an IDC.
    pub fn standby_part(&self, idc: &str) -> String {
        format!("{}-standby", self.part(idc))
    }

    /// Starts a second arbiter in an IDC.
    pub fn start_standby(&self, idc: &str) -> Result<()> {
        self.spawn_arbiter(idc, 2, &self.standby_part(idc), PORT + 1)
    }

    fn spawn_arbiter(&self, idc: &str, number: u32, name: &str, port: u16) -> Result<()> {
        let own = harness::coordination::endpoint(self.world.info().network, idc)?;
        let mut endpoints = self.world.info().etcd.clone();
        endpoints.sort_by_key(|endpoint| *endpoint != own);
        let account = ACCOUNT + number - 1;
        let spec = PartSpec::new([
            "setpriv".to_owned(),
            format!("--reuid={account}"),
            format!("--regid={account}"),
            "--clear-groups".to_owned(),
            beside_test("arbiter")?.display().to_string(),
            format!("--idc={idc}"),
            format!("--etcd-endpoints={}", endpoints.join(",")),
            format!("--etcd-prefix={}", self.prefix),
            format!("--credentials={}", self.credentials.display()),
            format!("--holder={idc}-{number}"),
            format!("--address={}:{port}", self.world.info().network.idc(idc)?),
            format!("--listen=0.0.0.0:{port}"),
            format!("--serve=0.0.0.0:{}", port + 100),
            format!("--tls={}", self.certificates.join(idc).display()),
            "--log=text".to_owned(),
        ]);
        self.world.sandbox().spawn(name, spec.in_netns(idc))
    }

    /// Cuts the first arbiter of an IDC from etcd, and from nothing else, until `heal_accounts`.
    pub fn cut_from_etcd(&self, idc: &str) -> Result<()> {
        self.world.cut_account(idc, ACCOUNT, ETCD_PORT)
    }

    /// The certificate of an IDC's arbiters is one that has expired, from the next connection on.
    pub fn let_certificate_expire(&self, idc: &str) -> Result<()> {
        self.authority.expired(&self.certificates.join(idc))
    }

    pub fn stop_arbiters(&self) -> Result<()> {
        for idc in &self.world.info().idcs {
            self.world.stop(&self.part(idc))?;
        }
        Ok(())
    }

    /// Writes a member's credentials file.
    pub fn grant(&self, name: &str, password: Option<&str>) -> Result<()> {
        self.grant_to(&self.unit, name, password)
    }

    /// The same for another Unit on the same servers.
    pub fn grant_to(&self, unit: &UnitKey, name: &str, password: Option<&str>) -> Result<()> {
        let database = self.world.database(name)?;
        let credentials = Credentials {
            username: database.user.clone(),
            password: password.unwrap_or(&database.password).to_owned(),
            ca: None,
        };
        let file = self.credentials.join(unit.credentials_file(&idc(name)?));
        std::fs::write(file, serde_json::to_vec(&credentials)?)?;
        Ok(())
    }

    pub async fn publish(&self, paused: bool) -> Result<()> {
        self.publish_as(&self.unit, paused).await
    }

    /// Publishes the IDCs, without which nobody can be a majority: automatic failover needs them.
    pub async fn publish_idcs(&self) -> Result<()> {
        for name in &self.world.info().idcs {
            let role = if DATA.contains(&name.as_str()) {
                IdcRole::Data
            } else {
                IdcRole::Witness
            };
            let doc = IdcDoc { role };
            self.topology.publish_idc(&idc(name)?, &doc).await?;
        }
        Ok(())
    }

    /// Waits until every arbiter with a member says that the primary would move by itself.
    pub async fn ready_to_fail_over(&self) -> Result<()> {
        for idc in DATA {
            let mut told = String::new();
            let ready = until("failover is ready", Duration::from_secs(30), async || {
                let failover = &self.status(idc)?.units[&self.unit].failover;
                told.clone_from(&failover.message);
                Ok(failover.ready.then_some(()))
            })
            .await;
            ready.with_context(|| format!("{idc} says: {told}"))?;
        }
        Ok(())
    }

    /// Waits until a member follows, closed.
    pub async fn follows(&self, idc: &str) -> Result<()> {
        let what = format!("{idc} follows, fenced");
        until(&what, Duration::from_secs(20), async || {
            let status = self.status(idc)?;
            let member = &status.units[&self.unit];
            let closed = member.reachable && !member.writable;
            Ok((closed && member.role == MemberRole::Replica).then_some(()))
        })
        .await
    }

    /// Publishes a Unit on these servers.
    pub async fn publish_as(&self, unit: &UnitKey, paused: bool) -> Result<()> {
        self.publish_crossed(unit, paused, false).await
    }

    /// The same; crossed: the member of each IDC has the server of the other one.
    pub async fn publish_crossed(&self, unit: &UnitKey, paused: bool, crossed: bool) -> Result<()> {
        let mut members = Vec::new();
        for (name, priority, other) in [("sh", 100, "bj"), ("bj", 50, "sh")] {
            let database = self.world.database(if crossed { other } else { name })?;
            let endpoint = Endpoint {
                host: database.host.clone(),
                port: database.port,
                tls: TlsSettings::default(),
            };
            members.push(MemberDoc {
                idc: idc(name)?,
                endpoint,
                priority,
            });
        }
        let doc = UnitDoc {
            uid: unit.to_string(),
            generation: 1,
            databases: vec!["orders".to_owned()],
            members,
            failover: self.policy.clone(),
            application: self.application.clone(),
            heartbeat: HeartbeatCheck {
                interval_millis: 500,
                timeout_millis: 500,
                failures: 3,
            },
            paused,
        };
        self.topology.publish_unit(unit, &doc).await?;
        Ok(())
    }

    pub async fn state(&self) -> Result<UnitState> {
        Ok(self.topology.unit_state(&self.unit).await?)
    }

    /// Waits until this IDC holds an open primary of a later epoch than this one.
    pub async fn primary(&self, name: &str, after: u64, limit: Duration) -> Result<u64> {
        until(&format!("{name} is the open primary"), limit, async || {
            let state = self.state().await?;
            let open = state.primary.filter(|primary| {
                primary.value.open
                    && primary.value.idc.as_str() == name
                    && primary.value.epoch.0 > after
            });
            Ok(open.map(|primary| primary.value.epoch.0))
        })
        .await
    }

    /// Asks for something and waits for its end.
    pub async fn ask(
        &self,
        kind: IntentKind,
        to: &str,
        allow_data_loss: bool,
    ) -> Result<IntentPhase> {
        let state = self.state().await?;
        let intent = Intent {
            id: format!("request-{}", state.revision),
            kind,
            to: Some(idc(to)?),
            expected_primary: state.primary.map(|primary| primary.value.idc),
            expected_epoch: state
                .epoch
                .map(|epoch| epoch.value.epoch)
                .unwrap_or_default(),
            allow_data_loss,
            requested_at: jiff::Timestamp::now(),
            phase: IntentPhase::Requested,
        };
        self.topology.create_intent(&self.unit, &intent).await?;
        until("the request ends", Duration::from_secs(60), async || {
            let found = self
                .state()
                .await?
                .intent
                .context("the intent is gone")?
                .value;
            ensure!(
                found.id == intent.id,
                "another intent took its place: {found:?}"
            );
            Ok(found.phase.is_final().then_some(found.phase))
        })
        .await
    }

    pub async fn receipt(&self, epoch: u64) -> Result<Receipt> {
        let found = self
            .topology
            .receipt(&self.unit, model::Epoch(epoch))
            .await?;
        found.with_context(|| format!("no receipt of epoch {epoch}"))
    }

    pub fn status(&self, idc: &str) -> Result<ArbiterStatus> {
        let address = self.world.info().network.idc(idc)?;
        let mut stream = TcpStream::connect((address.as_str(), PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET /status HTTP/1.1\r\nHost: arbiter\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        serde_json::from_str(body).with_context(|| format!("/status of {idc}: {body}"))
    }

    /// Applications that write to both servers, as fast as a few milliseconds' pause allows.
    pub fn start_applications(&mut self) -> Result<()> {
        for idc in DATA {
            let database = self.world.database(idc)?.clone();
            self.tasks
                .spawn(application(idc, database, self.told.clone()));
        }
        Ok(())
    }

    /// What the links' ends would do for arbitration; see [`Link`].
    pub fn start_links(&mut self) -> Result<()> {
        for (from, to) in [("sh", "bj"), ("bj", "sh")] {
            let (source, target) = (
                self.world.database(from)?.clone(),
                self.world.database(to)?.clone(),
            );
            let link = Link {
                from,
                source,
                target,
                checkpoints: self.checkpoints.clone(),
                epochs: self.policy.mode == FailoverMode::Automatic,
            };
            self.tasks.spawn(link.run());
        }
        Ok(())
    }

    /// What applications were told so far.
    pub fn writes(&self) -> Vec<Write> {
        self.told().writes.clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applications wrote on this server all the time since then, and none was refused. How long it
    /// took at most is printed: it is the machine's too.
    pub fn undisturbed(&self, name: &str, since: Instant, what: &str) -> Result<()> {
        let (gap, count) = self.longest_gap(since);
        println!("{what}: {count} writes, {gap:?} between two at most");
        ensure!(count > 0, "{what}: nobody wrote");
        let told = self.told();
        let refusals = told.refusals.iter();
        let refused = refusals
            .filter(|(idc, at, _)| *idc == name && *at >= since)
            .map(|(_, at, error)| (at.elapsed(), error))
            .next();
        ensure!(
            refused.is_none(),
            "{what}: a write was refused, so long ago: {refused:?}; it is {} now\n{}",
            jiff::Timestamp::now(),
            self.logs(name)
        );
        Ok(())
    }

    /// Whether a line of the log of an IDC's first arbiter has all of these words in it.
    pub fn logged(&self, idc: &str, words: &[&str]) -> Result<bool> {
        let log = std::fs::read_to_string(self.world.sandbox().log(&self.part(idc)))?;
        let mut lines = log.lines();
        Ok(lines.any(|line| words.iter().all(|word| line.contains(word))))
    }

    /// The ends of the logs of an IDC's arbiters.
    fn logs(&self, idc: &str) -> String {
        let parts = [self.part(idc), self.standby_part(idc)];
        let tails = parts.map(|part| {
            let log = self.world.sandbox().log(&part);
            format!("{}:\n{}", log.display(), harness::shell::tail(&log))
        });
        tails.join("\n")
    }

    /// The number of times that acknowledged writes moved from one server to another, in the order
    /// of their acknowledgement: one a transition, unless two members were writable at once.
    pub fn moves(&self) -> usize {
        let mut writes = self.writes();
        writes.sort_by_key(|write| write.acknowledged);
        writes
            .windows(2)
            .filter(|pair| pair[0].idc != pair[1].idc)
            .count()
    }

    /// The longest time between two acknowledged writes since then, and how many there were.
    pub fn longest_gap(&self, since: Instant) -> (Duration, usize) {
        let mut times: Vec<_> = self
            .writes()
            .iter()
            .filter(|write| write.acknowledged >= since)
            .map(|write| write.acknowledged)
            .collect();
        times.sort();
        let gap = times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default();
        (gap, times.len())
    }

    /// Waits until an application's write to this server is acknowledged.
    #[track_caller]
    pub fn written(&self, name: &str, limit: Duration) -> impl Future<Output = Result<Write>> {
        let what = format!("{name} takes writes, at {}", Location::caller());
        async move {
            let since = Instant::now();
            until(&what, limit, async || {
                let writes = self.writes();
                Ok(writes
                    .into_iter()
                    .find(|write| write.idc == name && write.sent > since))
            })
            .await
        }
    }
}

pub fn options(database: &Database, user: &str, password: &str) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(database.host.clone())
        .tcp_port(database.port)
        .prefer_socket(false)
        .user(Some(user.to_owned()))
        .pass(Some(password.to_owned()))
}

async fn application(idc: &'static str, database: Database, told: Arc<Mutex<Told>>) {
    let options = options(&database, &database.app_user, &database.app_password)
        .db_name(Some(database.schema.clone()));
    let mut conn: Option<Conn> = None;
    loop {
        tokio::time::sleep(Duration::from_millis(4)).await;
        let open = match conn.take() {
            Some(open) => Ok(open),
            None => connect(options.clone()).await,
        };
        let Ok(mut open) = open else { continue };
        let sent = Instant::now();
        let insert = open.query_drop("INSERT INTO t (v) VALUES (1)");
        match tokio::time::timeout(Duration::from_secs(2), insert).await {
            Ok(Ok(())) => {
                let acknowledged = Instant::now();
                let write = Write {
                    idc,
                    sent,
                    acknowledged,
                };
                told.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .writes
                    .push(write);
                conn = Some(open);
            }
            Ok(Err(error)) => {
                if let mysql_async::Error::Server(refusal) = &error {
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .refusals
                        .push((idc, Instant::now(), refusal.to_string()));
                }
                if !error.is_fatal() {
                    conn = Some(open);
                }
            }
            Err(_) => {}
        }
    }
}

pub async fn connect(options: OptsBuilder) -> Result<Conn> {
    Ok(tokio::time::timeout(Duration::from_secs(1), Conn::new(options)).await??)
}
