//! What a seed's world is made of: which IDCs hold copies, and how the Unit is set.

use model::{
    AckRecord, Endpoint, Epoch, FailoverMode, FailoverPolicy, HeartbeatCheck, IdcDoc, IdcName,
    IdcRole, MemberDoc, TlsSettings, UnitDoc,
};

use crate::database::ServerRule;
use crate::rng::Rng;
use crate::world::{HEARTBEAT, Happening, IDCS, World, idc};

/// What a run is mostly about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    Anything,
    /// Holders lose etcd, and candidates crash meanwhile.
    Failsafe,
    /// etcd is restored, and people acknowledge it at once.
    Restores,
    /// etcd's disks are put back to shortly before a transition, while arbiters crash.
    PutBack,
    /// A second process takes an IDC over while the first is opening its database.
    Succession,
}

/// The choices that hold for a whole run.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one choice")]
pub struct Plan {
    /// IDCs with a database.
    pub members: Vec<IdcName>,
    pub automatic: bool,
    pub failback: bool,
    pub failsafe: bool,
    pub cooldown: u64,
    pub standbys: bool,
    /// etcd may be restored from a snapshot.
    pub restores: bool,
    /// The guard is an event of the server: not how it is built, see `main`.
    pub guard_is_event: bool,
    /// `open` does not look at promises: not how it is built either.
    pub opens_despite_promise: bool,
    /// What servers do not see to: not how they are built either.
    pub without: Option<ServerRule>,
    /// Whether the document names `hz`, where there are three databases.
    pub with_third: bool,
    /// A person takes members out and lets them in again.
    pub orders: bool,
    /// etcd ends leases that were kept alive.
    pub early_ends: bool,
    pub focus: Focus,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let third = rng.percent(45);
        let members = if third { &IDCS[..] } else { &IDCS[..2] };
        Self {
            members: members.iter().map(|name| idc(name)).collect(),
            automatic: rng.percent(75),
            failback: rng.percent(30),
            failsafe: rng.percent(50),
            cooldown: if rng.percent(50) { 0 } else { 20_000 },
            standbys: rng.percent(40),
            restores: rng.percent(25),
            guard_is_event: false,
            opens_despite_promise: false,
            without: None,
            with_third: third,
            orders: false,
            early_ends: false,
            focus: match rng.range(0, 100) {
                0..8 => Focus::Failsafe,
                8..14 => Focus::Restores,
                14..20 => Focus::PutBack,
                _ => Focus::Anything,
            },
        }
    }
}

impl Plan {
    /// What a focus needs.
    pub fn settle(&mut self) {
        match self.focus {
            Focus::Anything | Focus::Succession => {}
            Focus::Failsafe => {
                self.failsafe = true;
                self.automatic = true;
                self.restores = false;
            }
            Focus::Restores | Focus::PutBack => self.restores = true,
        }
    }
}

fn mode(automatic: bool) -> FailoverMode {
    if automatic {
        FailoverMode::Automatic
    } else {
        FailoverMode::Manual
    }
}

impl World {
    pub fn unit_doc(&self, paused: bool) -> UnitDoc {
        let member = |idc: &IdcName| MemberDoc {
            idc: idc.clone(),
            endpoint: Endpoint {
                host: idc.to_string(),
                port: 3306,
                tls: TlsSettings::default(),
            },
            priority: match idc.as_str() {
                "sh" => 100,
                "bj" => 50,
                _ => 10,
            },
        };
        let named = |idc: &&IdcName| self.plan.with_third || idc.as_str() != "hz";
        UnitDoc {
            uid: "1".to_owned(),
            generation: 1,
            databases: vec!["orders".to_owned()],
            members: self.plan.members.iter().filter(named).map(member).collect(),
            failover: FailoverPolicy {
                mode: mode(self.plan.automatic),
                max_lag_millis: MAX_LAG,
                cooldown_millis: self.plan.cooldown,
                failback: mode(self.plan.failback),
                failsafe: self.plan.failsafe,
            },
            application: None,
            heartbeat: HeartbeatCheck {
                interval_millis: HEARTBEAT,
                timeout_millis: 500,
                failures: 3,
            },
            paused,
        }
    }

    pub fn publish(&mut self, paused: bool) {
        let doc = self.unit_doc(paused);
        let unit = self.etcd.put(doc);
        self.etcd.state.unit = Some(unit);
        self.push_all();
    }

    pub fn publish_idcs(&mut self) {
        for name in IDCS {
            let role = if self.databases.contains_key(&idc(name)) {
                IdcRole::Data
            } else {
                IdcRole::Witness
            };
            // What is there already is not written again.
            if !self.etcd.state.idcs.contains_key(&idc(name)) {
                let doc = self.etcd.put(IdcDoc { role });
                self.etcd.state.idcs.insert(idc(name), doc);
            }
        }
    }

    /// What each arbiter says, for whoever reads the log of a run that got stuck.
    pub fn describe(&mut self) {
        let plan = format!("{:?}", self.plan);
        let mut lines = vec![plan, format!("{:?}", self.etcd.state)];
        for process in self.processes.iter().filter(|process| process.alive) {
            let report = process.core.report(self.local_of(process));
            lines.push(format!("{}: {report:?}", process.idc));
        }
        for line in lines {
            self.note(|| line);
        }
    }

    /// `mactl ack`: what waits for it is looked at every few seconds, once the world is calm
    /// at the latest.
    pub fn person_looks(&mut self) {
        let hasty = self.plan.focus == Focus::Restores;
        self.later(if hasty { 700 } else { 4_000 }, Happening::PersonLooks);
        let attentive = hasty || !self.rough || self.rng.percent(25);
        let waits = self
            .processes
            .iter()
            .filter(|process| process.alive)
            .any(|process| {
                let report = process.core.failover_readiness(self.local_of(process));
                report
                    .obstacles
                    .contains(&arbitration::NotReady::EtcdWentBack)
            });
        if attentive && waits && !self.etcd.leaderless {
            self.acknowledge();
        }
    }

    pub fn acknowledge(&mut self) {
        let epoch = self.etcd.state.epoch.as_ref();
        let record = AckRecord {
            epoch: epoch.map_or(Epoch::NONE, |epoch| epoch.value.epoch),
            at: self.wall(),
        };
        self.note(|| format!("somebody acknowledges: {record:?}"));
        self.ledger.acknowledge();
        let ack = self.etcd.put(record);
        self.etcd.state.ack = Some(ack);
        self.push_all();
    }
}

pub const MAX_LAG: u64 = 5_000;
