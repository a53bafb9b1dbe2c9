//! The rig: three IDCs as network namespaces, etcd with a member in each, databases in two
//! or three, and the product's own processes where Kubernetes would run them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use harness::{Databases, World, WorldSpec};
use model::{
    Credentials, FailoverMode, FailoverPolicy, HeartbeatCheck, IdcDoc, IdcRole, Intent, IntentKind,
    IntentPhase, MemberDoc, UnitDoc, UnitKey, UnitState,
};
use topology::{EtcdOptions, Topology};

use crate::keeper::Keeper;
use crate::options::{Copies, Options};
use crate::parts::{self, PREFIX, Programs};
use crate::sight::Lookout;

/// The tables that applications write.
pub const TABLES: [&str; 2] = ["writes", "counters"];

/// In the order in which the parts are to end.
pub struct Rig {
    pub topology: Topology,
    pub unit: UnitKey,
    pub copies: Copies,
    pub options: Options,
    pub keeper: Keeper,
    pub lookout: Lookout,
    programs: Programs,
    pub world: World,
}

/// The arbiters name candidates within this time.
const CANDIDATES_WITHIN: Duration = Duration::from_secs(60);

/// Polls until the answer is there. An error is not final: whatever is asked may be cut off.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let give_up = Instant::now() + limit;
    loop {
        let seen = look().await;
        if let Ok(Some(answer)) = seen {
            return Ok(answer);
        }
        if Instant::now() >= give_up {
            let said = format!("not within {limit:?}: {what}");
            return match seen {
                Err(error) => Err(error.context(said)),
                Ok(_) => bail!("{said}"),
            };
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Rig {
    /// Starts everything, and waits for the first primary.
    pub async fn start(options: &Options, copies: Copies) -> Result<Self> {
        let spec = WorldSpec {
            databases: Databases::of(copies.members),
            etcd: true,
            ..WorldSpec::empty("partition")
        };
        let world = World::up(&spec)?;
        let directory = world.info().directory.join("partition");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        let binaries = options
            .binaries
            .clone()
            .unwrap_or_else(|| harness::paths::release("arbiter").with_file_name(""));
        for program in ["arbiter", "syncer", "writer"] {
            let path = binaries.join(program);
            ensure!(
                path.is_file(),
                "no {}: `cargo xtask images` builds it, or name another place by --binaries",
                path.display()
            );
        }
        let etcd = EtcdOptions::new(world.info().etcd.clone(), PREFIX, None);
        let mut looking = etcd.clone();
        looking.request_timeout = Duration::from_millis(700);
        let unit = UnitKey::new("shop", "orders")?;
        let rig = Self {
            topology: Topology::connect(&etcd).await?,
            lookout: Lookout::start(Topology::connect(&looking).await?, unit.clone()),
            keeper: Keeper::start(&world.info().directory)?,
            programs: Programs {
                binaries,
                directory,
            },
            unit,
            copies,
            options: options.clone(),
            world,
        };
        rig.prepare()?;
        rig.publish().await?;
        rig.start_processes()?;
        rig.steady(Duration::from_secs(90)).await?;
        Ok(rig)
    }

    /// The IDCs with a copy.
    pub fn data(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.copies.members.iter().map(|(idc, _)| *idc)
    }

    /// From each of them to each other.
    pub fn links(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let members = self.copies.members;
        members.iter().flat_map(move |(from, _)| {
            let others = members.iter().filter(move |(to, _)| to != from);
            others.map(move |(to, _)| (*from, *to))
        })
    }

    /// The rig's directory.
    pub fn directory(&self) -> PathBuf {
        self.programs.directory.clone()
    }

    /// Tables and files. The tables are made on each server by itself, as a user's are that were
    /// there before.
    fn prepare(&self) -> Result<()> {
        for name in self.data() {
            let database = self.world.database(name)?;
            database.root(
                "SET sql_log_bin = 0; \
                 CREATE TABLE orders.writes (client INT UNSIGNED NOT NULL, number BIGINT UNSIGNED \
                 NOT NULL, counted TINYINT NOT NULL, PRIMARY KEY (client, number)); \
                 CREATE TABLE orders.counters (client INT UNSIGNED NOT NULL PRIMARY KEY, total \
                 BIGINT UNSIGNED NOT NULL)",
            )?;
        }
        let databases: Vec<&Database> = self
            .data()
            .map(|name| self.world.database(name))
            .collect::<Result<_>>()?;
        self.programs.write_links(&self.unit, &databases)?;
        let credentials = self.programs.credentials();
        std::fs::create_dir_all(&credentials)?;
        for database in databases {
            let account = Credentials {
                username: database.user.clone(),
                password: database.password.clone(),
                ca: None,
            };
            let file = self.unit.credentials_file(&parts::idc(&database.idc)?);
            std::fs::write(credentials.join(file), serde_json::to_vec(&account)?)?;
        }
        Ok(())
    }

    /// The topology, as the operator publishes it.
    async fn publish(&self) -> Result<()> {
        for name in &self.world.info().idcs {
            let role = if self.data().any(|it| it == name) {
                IdcRole::Data
            } else {
                IdcRole::Witness
            };
            let doc = IdcDoc { role };
            self.topology.publish_idc(&parts::idc(name)?, &doc).await?;
        }
        self.publish_unit(1, true).await
    }

    /// Publishes the Unit, with failsafe or without.
    async fn publish_unit(&self, generation: i64, failsafe: bool) -> Result<()> {
        let mut members = Vec::new();
        for (name, priority) in self.data().zip([100, 50, 25]) {
            members.push(MemberDoc {
                idc: parts::idc(name)?,
                endpoint: parts::endpoint(self.world.database(name)?),
                priority,
            });
        }
        let mode = if self.options.ask {
            FailoverMode::Manual
        } else {
            FailoverMode::Automatic
        };
        // The custom resource's defaults, other than the cooldown: trials follow each other closely.
        let doc = UnitDoc {
            uid: "partition".to_owned(),
            generation,
            databases: vec!["orders".to_owned()],
            members,
            failover: FailoverPolicy {
                mode,
                max_lag_millis: 5_000,
                cooldown_millis: 0,
                failback: FailoverMode::Manual,
                failsafe,
            },
            application: None,
            heartbeat: HeartbeatCheck {
                interval_millis: 1_000,
                timeout_millis: 500,
                failures: 3,
            },
            paused: false,
        };
        self.topology.publish_unit(&self.unit, &doc).await?;
        Ok(())
    }

    /// Switches failsafe on or off, and waits until every member is one that could promise.
    pub async fn set_failsafe(&self, failsafe: bool) -> Result<()> {
        let unit = self.state().await?.unit;
        let unit = unit.context("the Unit is not published")?.value;
        if unit.failover.failsafe == failsafe {
            return Ok(());
        }
        self.publish_unit(unit.generation + 1, failsafe).await?;
        let what = "every member is named as a candidate";
        until(what, CANDIDATES_WITHIN, async || {
            let epoch = self.state().await?.epoch;
            let named = epoch.filter(|epoch| epoch.value.candidates.len() == self.data().count());
            Ok(named.map(drop))
        })
        .await
    }

    fn start_processes(&self) -> Result<()> {
        let world = &self.world;
        let mut specs = Vec::new();
        for idc in &world.info().idcs {
            for standby in [false, true] {
                if !standby || self.options.standby {
                    let spec = self.programs.arbiter(world, idc, standby)?;
                    specs.push((parts::arbiter(idc, standby), spec));
                }
            }
        }
        for (from, to) in self.links() {
            specs.push((parts::syncer(from, to), self.programs.syncer(from, to)));
            specs.push((
                parts::writer(from, to),
                self.programs.writer(world, from, to)?,
            ));
        }
        for (name, spec) in specs {
            world.sandbox().spawn(&name, spec)?;
            self.keeper.keep(&name);
        }
        Ok(())
    }

    /// Every process of an IDC: the product's, the database and the member of etcd.
    pub fn parts_of(&self, idc: &str) -> Vec<String> {
        let mut all = vec![parts::arbiter(idc, false)];
        if self.options.standby {
            all.push(parts::arbiter(idc, true));
        }
        for (from, to) in self.links() {
            if from == idc {
                all.push(parts::syncer(from, to));
            }
            if to == idc {
                all.push(parts::writer(from, to));
            }
        }
        if self.data().any(|it| it == idc) {
            all.push(harness::database::part(idc));
        }
        all.push(harness::coordination::part(idc));
        all
    }

    pub fn database(&self, idc: &str) -> Result<&Database> {
        self.world.database(idc)
    }

    /// Another IDC with data: the one that is preferred.
    pub fn other(&self, idc: &str) -> &'static str {
        self.data().find(|it| *it != idc).unwrap_or_default()
    }

    pub async fn state(&self) -> Result<UnitState> {
        Ok(self.topology.unit_state(&self.unit).await?)
    }

    /// Asks for a transition. Returns the request's id.
    pub async fn ask(&self, kind: IntentKind, to: &str, id: &str) -> Result<String> {
        let state = self.state().await?;
        let intent = Intent {
            id: format!("{id}-{}", state.revision),
            kind,
            to: Some(parts::idc(to)?),
            expected_primary: state.primary.map(|primary| primary.value.idc),
            expected_epoch: state
                .epoch
                .map(|epoch| epoch.value.epoch)
                .unwrap_or_default(),
            allow_data_loss: false,
            requested_at: jiff::Timestamp::now(),
            phase: IntentPhase::Requested,
        };
        self.topology.create_intent(&self.unit, &intent).await?;
        Ok(intent.id)
    }

    /// Says that somebody has looked, and that automation may go on: what `mactl ack` does.
    pub async fn acknowledge(&self) -> Result<()> {
        let epoch = self.state().await?.epoch.map(|it| it.value.epoch);
        let record = serde_json::json!({
            "epoch": epoch.unwrap_or_default(), "at": jiff::Timestamp::now(),
        });
        let key = format!("{PREFIX}units/{}/ack", self.unit);
        let words = ["put".to_owned(), key, record.to_string()];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let etcd = &self.world.info().etcd;
        harness::shell::run(&mut harness::coordination::etcdctl(etcd, &words))
    }

    /// Waits for the end of a request. `None` if another has taken its place.
    pub async fn asked(&self, id: &str, limit: Duration) -> Result<Option<IntentPhase>> {
        until(&format!("request {id} ends"), limit, async || {
            let intent = self.state().await?.intent.context("the intent is gone")?;
            let found = intent.value;
            if found.id != id {
                return Ok(Some(None));
            }
            Ok(found.phase.is_final().then_some(Some(found.phase)))
        })
        .await
    }

    /// What is worth reading when something did not happen.
    pub async fn describe(&self) -> String {
        let mut text = String::new();
        match self.state().await {
            Ok(state) => {
                let brief = |it: String| format!("  {it}\n");
                text.push_str("etcd:\n");
                text.push_str(&brief(format!(
                    "epoch {:?}",
                    state.epoch.map(|it| it.value)
                )));
                text.push_str(&brief(format!(
                    "primary {:?}",
                    state.primary.map(|it| it.value)
                )));
                text.push_str(&brief(format!(
                    "vacated {:?}",
                    state.vacated.map(|it| it.value)
                )));
                text.push_str(&brief(format!(
                    "intent {:?}",
                    state.intent.map(|it| it.value)
                )));
                for (idc, member) in state.members {
                    text.push_str(&brief(format!("member {idc} {:?}", member.value)));
                }
                for (idc, session) in state.sessions {
                    text.push_str(&brief(format!("session {idc} {:?}", session.value)));
                }
            }
            Err(error) => text.push_str(&format!("etcd: {error}\n")),
        }
        for (from, to) in self.links() {
            match self.writer_status(from, to) {
                Ok(status) => text.push_str(&format!(
                    "link {from} to {to}: {:?}, lag {:?} ms, {}\n",
                    status.phase, status.lag_millis, status.error
                )),
                Err(error) => text.push_str(&format!("link {from} to {to}: {error:#}\n")),
            }
        }
        for idc in self.data() {
            text.push_str(&match self.arbiter_status(idc) {
                Ok(status) => format!("arbiter {idc}: {status}\n"),
                Err(error) => format!("arbiter {idc}: {error:#}\n"),
            });
            text.push_str(&match self.database(idc).and_then(|database| {
                database.root(
                    "SELECT @@read_only, (SELECT MAX(epoch) FROM multiactive.epoch); \
                     SELECT idc, epoch, writable, seq, at FROM multiactive.heartbeat",
                )
            }) {
                Ok(rows) => format!("database {idc}: {rows:?}\n"),
                Err(error) => format!("database {idc}: {error:#}\n"),
            });
        }
        text
    }
}
