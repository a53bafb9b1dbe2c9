//! Faults, and people who ask for things at the wrong moment.

use model::{
    Endpoint, FailoverMode, FailoverPolicy, HeartbeatCheck, IdcName, Intent, IntentKind,
    IntentPhase, MemberDoc, Revision, TlsSettings, UnitDoc, Versioned,
};

use crate::world::{Happening, World, idc};

#[derive(Debug, Clone)]
pub enum Fault {
    /// The arbiter process dies; a new one starts after a while.
    Crash(IdcName),
    /// The arbiter process stops and goes on later.
    Freeze(usize),
    /// A second process starts beside a frozen one.
    Supersede(IdcName),
    /// The arbiter loses etcd.
    CutEtcd(IdcName),
    /// etcd's answers to the arbiter become slow, and then nothing gets through.
    Fading(IdcName),
    /// The arbiter loses its database.
    CutDatabase(IdcName),
    /// The database dies and comes back fenced.
    Restart(IdcName),
    /// The database stops and goes on later.
    FreezeDatabase(IdcName),
    /// Nothing is replicated for a while.
    CutLink,
    /// Somebody asks for something.
    Ask {
        kind: IntentKind,
        to: Option<IdcName>,
        allow_data_loss: bool,
    },
    /// Somebody pauses the Unit.
    Pause,
}

pub fn unit_doc(paused: bool) -> UnitDoc {
    let member = |name: &str, priority| MemberDoc {
        idc: idc(name),
        endpoint: Endpoint {
            host: name.to_owned(),
            port: 3306,
            tls: TlsSettings::default(),
        },
        priority,
    };
    UnitDoc {
        uid: "1".to_owned(),
        generation: 1,
        databases: vec!["orders".to_owned()],
        members: vec![member("sh", 100), member("bj", 50)],
        failover: FailoverPolicy {
            mode: FailoverMode::Manual,
            max_lag_millis: 5_000,
            cooldown_millis: 0,
            failback: FailoverMode::Manual,
            failsafe: false,
        },
        heartbeat: HeartbeatCheck {
            interval_millis: 500,
            timeout_millis: 500,
            failures: 3,
        },
        paused,
    }
}

impl World {
    pub fn publish(&mut self, paused: bool) {
        let revision = Revision(self.etcd.state.revision.0 + 1);
        self.etcd.state.revision = revision;
        let unit = Versioned {
            value: unit_doc(paused),
            revision,
            lease: None,
        };
        self.etcd.state.unit = Some(unit);
        self.push_all();
    }

    fn data_idc(&mut self) -> IdcName {
        idc(if self.rng.percent(50) { "sh" } else { "bj" })
    }

    pub fn draw_fault(&mut self) -> Fault {
        let place = self.data_idc();
        match self.rng.range(0, 100) {
            0..10 => Fault::Crash(place),
            10..22 => match self.process_of(&place) {
                Some(process) => Fault::Freeze(process),
                None => Fault::CutLink,
            },
            22..28 => Fault::Supersede(place),
            28..36 => Fault::CutEtcd(place),
            36..41 => Fault::Fading(place),
            41..48 => Fault::CutDatabase(place),
            48..56 => Fault::Restart(place),
            56..63 => Fault::FreezeDatabase(place),
            63..70 => Fault::CutLink,
            70..73 => Fault::Pause,
            roll => {
                let kind = if roll < 88 {
                    IntentKind::Planned
                } else {
                    IntentKind::Forced
                };
                // Mostly to where the primary is not.
                let holder = self
                    .etcd
                    .state
                    .primary
                    .as_ref()
                    .map(|primary| &primary.value.idc);
                let place = match holder {
                    Some(holder) if *holder == place && self.rng.percent(85) => {
                        idc(if place == idc("sh") { "bj" } else { "sh" })
                    }
                    _ => place,
                };
                let anywhere = kind == IntentKind::Forced && self.rng.percent(25);
                let to = (!anywhere).then_some(place);
                Fault::Ask {
                    kind,
                    to,
                    allow_data_loss: self.rng.percent(50),
                }
            }
        }
    }

    pub fn begin_fault(&mut self, fault: Fault) {
        if !self.rough {
            return;
        }
        self.note(|| format!("fault {fault:?}"));
        let lasts = if self.rng.percent(70) {
            self.rng.range(50, 3_000)
        } else {
            self.rng.range(3_000, 20_000)
        };
        match &fault {
            Fault::Crash(place) => {
                if let Some(process) = self.process_of(place) {
                    self.processes[process].alive = false;
                    self.later(lasts, Happening::Replace(place.clone()));
                }
                return;
            }
            Fault::Freeze(process) => self.processes[*process].frozen = true,
            Fault::Supersede(place) => {
                // At the worst moment: the old one is frozen meanwhile.
                if let Some(process) = self.process_of(place) {
                    self.processes[process].frozen = self.rng.percent(70);
                    self.later(lasts, Happening::Heal(Fault::Freeze(process)));
                }
                self.start_process(place);
                return;
            }
            Fault::CutEtcd(place) => self.set_cuts(place, |process| process.cut_from_etcd = true),
            Fault::Fading(place) => {
                self.set_cuts(place, |process| process.slow_replies = true);
                let then = self.rng.range(3_000, 7_000);
                self.later(then, Happening::Fault(Fault::CutEtcd(place.clone())));
            }
            Fault::CutDatabase(place) => {
                self.set_cuts(place, |process| process.cut_from_database = true);
            }
            Fault::Restart(place) => {
                let database = self.databases.get_mut(place).unwrap();
                database.alive = false;
                database.read_only = true;
                database.guards.clear();
                database.waiting.clear();
            }
            Fault::FreezeDatabase(place) => self.databases.get_mut(place).unwrap().frozen = true,
            Fault::CutLink => self.link_up = false,
            Fault::Ask {
                kind,
                to,
                allow_data_loss,
            } => {
                self.ask(*kind, to.clone(), *allow_data_loss);
                return;
            }
            Fault::Pause => self.publish(true),
        }
        self.later(lasts, Happening::Heal(fault));
    }

    pub fn end_fault(&mut self, fault: Fault) {
        self.note(|| format!("heal {fault:?}"));
        match fault {
            Fault::Crash(_) | Fault::Supersede(_) | Fault::Ask { .. } => {}
            Fault::Freeze(process) => self.thaw_process(process),
            Fault::CutEtcd(place) => {
                self.set_cuts(&place, |process| process.cut_from_etcd = false);
                // The watch lists anew.
                self.push_all();
            }
            Fault::Fading(place) => {
                self.set_cuts(&place, |process| process.slow_replies = false);
            }
            Fault::CutDatabase(place) => {
                self.set_cuts(&place, |process| process.cut_from_database = false);
            }
            Fault::Restart(place) => self.databases.get_mut(&place).unwrap().restart(),
            Fault::FreezeDatabase(place) => self.thaw_database(&place),
            Fault::CutLink => self.link_up = true,
            Fault::Pause => self.publish(false),
        }
    }

    /// Everything is well again, and nothing is paused.
    pub fn heal_all(&mut self) {
        self.rough = false;
        self.link_up = true;
        for process in 0..self.processes.len() {
            self.processes[process].cut_from_etcd = false;
            self.processes[process].slow_replies = false;
            self.processes[process].cut_from_database = false;
            self.thaw_process(process);
        }
        for place in [idc("sh"), idc("bj")] {
            if !self.databases[&place].alive {
                self.databases.get_mut(&place).unwrap().restart();
            }
            self.thaw_database(&place);
            if self.process_of(&place).is_none() {
                self.start_process(&place);
            }
        }
        self.publish(false);
    }

    fn thaw_database(&mut self, place: &IdcName) {
        let now = self.now;
        let database = self.databases.get_mut(place).unwrap();
        database.frozen = false;
        // What thaws first is its guard; see the assumptions in the crate's documentation.
        database.tick(now);
        for sent in std::mem::take(&mut database.waiting) {
            self.statement_arrives(sent);
        }
    }

    fn set_cuts(&mut self, place: &IdcName, cut: impl Fn(&mut crate::world::Process)) {
        self.processes
            .iter_mut()
            .filter(|process| process.idc == *place)
            .for_each(cut);
    }

    /// As `topology`'s `create_intent` does it.
    fn ask(&mut self, kind: IntentKind, to: Option<IdcName>, allow_data_loss: bool) {
        let state = &self.etcd.state;
        let under_way = state
            .intent
            .as_ref()
            .is_some_and(|intent| !intent.value.phase.is_final());
        if under_way && kind == IntentKind::Planned {
            return;
        }
        let revision = Revision(state.revision.0 + 1);
        let value = Intent {
            id: format!("request-{revision}"),
            kind,
            to,
            expected_primary: state
                .primary
                .as_ref()
                .map(|primary| primary.value.idc.clone()),
            expected_epoch: state
                .epoch
                .as_ref()
                .map_or(model::Epoch::NONE, |e| e.value.epoch),
            allow_data_loss,
            requested_at: jiff::Timestamp::UNIX_EPOCH,
            phase: IntentPhase::Requested,
        };
        self.etcd.state.revision = revision;
        self.etcd.state.intent = Some(Versioned {
            value,
            revision,
            lease: None,
        });
        self.push_all();
    }
}
