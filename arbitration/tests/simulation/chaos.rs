//! Faults, and people who ask for things at the wrong moment.

use model::{IdcName, Intent, IntentKind, IntentPhase, Revision, Versioned};

use crate::setup::Focus;
use crate::world::{Happening, IDCS, World, idc};

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
    /// The newest arbiter process of an IDC loses etcd; a standby of it does not.
    Strand(IdcName),
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
    /// etcd's answers are lost on the way back.
    Deaf(IdcName),
    /// Nothing gets out of an IDC or into it.
    Isolate(IdcName),
    /// Only this IDC reaches etcd, and nothing gets from it to the others or back.
    Apart(IdcName),
    /// Nothing gets from one IDC to another; back it does.
    OneWay(IdcName, IdcName),
    /// An IDC is there and gone, again and again.
    Flap(IdcName, u8),
    /// etcd has no leader for a while.
    Leaderless,
    /// etcd ends the lease of an IDC early, as a leader does that was stopped and goes on; and that
    /// may be when the IDC loses etcd.
    EndLease(IdcName),
    /// etcd is made anew from a snapshot.
    Restore,
    /// Somebody acknowledges, perhaps too early.
    Acknowledge,
    /// A server's clock is set.
    StepClock(IdcName, bool),
    /// A backup locks a server.
    BackupLock(IdcName),
    /// The next fence waits for somebody's statement.
    SlowFence(IdcName),
    /// The disk of a server is full.
    DiskFull(IdcName),
    /// The Unit has a member less for a while.
    Reshape,
    /// A person takes a member out.
    TakeOut(IdcName),
    /// A person holds the automation, in etcd.
    Hold,
}

impl World {
    pub fn data_idc(&mut self) -> IdcName {
        let count = u64::try_from(self.plan.members.len()).unwrap();
        let index = usize::try_from(self.rng.range(0, count)).unwrap();
        self.plan.members[index].clone()
    }

    /// Where it hurts: mostly the holder's IDC.
    pub fn sore_idc(&mut self) -> IdcName {
        let holder = self.etcd.state.primary.as_ref();
        let holder = holder.map(|primary| primary.value.idc.clone());
        match holder {
            Some(holder) if self.rng.percent(65) => holder,
            _ => {
                let index = usize::try_from(self.rng.range(0, 3)).unwrap();
                idc(IDCS[index])
            }
        }
    }

    pub fn draw_fault(&mut self) -> Fault {
        if let Some(order) = self.draw_order() {
            return order;
        }
        if self.plan.early_ends && self.rng.percent(20) {
            return Fault::EndLease(self.sore_idc());
        }
        if self.plan.focus != Focus::Anything && self.rng.percent(70) {
            return self.draw_focused_fault();
        }
        if self.rng.percent(50) {
            return self.draw_wide_fault();
        }
        let place = self.data_idc();
        match self.rng.range(0, 100) {
            0..10 => Fault::Crash(place),
            10..22 => match self.process_of(&place) {
                Some(process) => Fault::Freeze(process),
                None => Fault::CutLink,
            },
            22..28 => Fault::Supersede(place),
            28..36 => Fault::CutEtcd(place),
            36..39 => Fault::Fading(place),
            39..41 => Fault::Strand(place),
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

    /// The arbiter is back at once and does not know what it has promised; and somebody asks it to
    /// take over.
    fn replace_and_ask(&mut self, place: &IdcName) {
        let back = self.rng.range(50, 600);
        self.later(back, Happening::Replace(place.clone()));
        if self.rng.percent(60) {
            let ask = Fault::Ask {
                kind: IntentKind::Forced,
                to: Some(place.clone()),
                allow_data_loss: true,
            };
            let then = self.rng.range(1, 1_500);
            self.later(then, Happening::Fault(ask));
        }
    }

    fn draw_focused_fault(&mut self) -> Fault {
        let holder = self.etcd.state.epoch.as_ref();
        let holder = holder.map_or(idc("sh"), |epoch| epoch.value.idc.clone());
        let other = self.data_idc();
        let roll = self.rng.range(0, 100);
        match self.plan.focus {
            Focus::Failsafe => match roll {
                // The holder asks in vain whom it cannot reach, and whoever promises is not enough.
                0..12 if self.plan.members.len() == 3 && other != holder => {
                    if self.rng.percent(70) {
                        let ask = Fault::Ask {
                            kind: IntentKind::Forced,
                            to: Some(other.clone()),
                            allow_data_loss: true,
                        };
                        let then = self.rng.range(1, 7_000);
                        self.later(then, Happening::Fault(ask));
                    }
                    Fault::Apart(other)
                }
                0..30 => Fault::CutEtcd(holder),
                30..55 if other != holder => Fault::Crash(other),
                55..66 if other != holder => Fault::Ask {
                    kind: IntentKind::Forced,
                    to: Some(other),
                    allow_data_loss: true,
                },
                66..72 => Fault::OneWay(other, holder),
                72..82 if other != holder => {
                    // Often both at once, as where something between two sites breaks.
                    if self.rng.percent(70) {
                        let cut = Fault::CutEtcd(holder);
                        self.later(1, Happening::Fault(cut));
                    }
                    Fault::Strand(other)
                }
                72..76 => Fault::CutEtcd(other),
                76..90 if other != holder => Fault::StepClock(other, false),
                _ => Fault::Deaf(holder),
            },
            Focus::PutBack => match roll {
                0..45 if other != holder => {
                    let soon = self.rng.range(30, 1_200);
                    self.later(soon, Happening::Fault(Fault::Restore));
                    let kinds = [IntentKind::Planned, IntentKind::Forced];
                    Fault::Ask {
                        kind: kinds[usize::from(self.rng.percent(40))],
                        to: Some(other),
                        allow_data_loss: true,
                    }
                }
                0..65 => Fault::Crash(other),
                65..85 => Fault::CutEtcd(other),
                _ => Fault::Isolate(holder),
            },
            Focus::Succession => match roll {
                0..60 if other != holder => self.draw_succession(&other, &holder),
                0..75 => Fault::Supersede(holder),
                75..85 => Fault::SlowFence(other),
                _ => Fault::CutEtcd(other),
            },
            _ => match roll {
                0..25 => Fault::Restore,
                25..50 => Fault::CutEtcd(holder),
                50..70 => Fault::Isolate(holder),
                _ => Fault::Crash(other),
            },
        }
    }

    /// Somebody asks an IDC to take over, its arbiter hears of its success late, its successor begins
    /// meanwhile, and the former holder is to have it back.
    fn draw_succession(&mut self, place: &IdcName, holder: &IdcName) -> Fault {
        let ask = |to: &IdcName| Fault::Ask {
            kind: IntentKind::Forced,
            to: Some(to.clone()),
            allow_data_loss: true,
        };
        let mut at = 0;
        for (next, within) in [
            (Fault::Fading(place.clone()), 200),
            (Fault::Supersede(place.clone()), 1_500),
            (ask(holder), 300),
        ] {
            at += self.rng.range(10, within);
            self.later(at, Happening::Fault(next));
        }
        ask(place)
    }

    fn draw_wide_fault(&mut self) -> Fault {
        let place = self.sore_idc();
        let data = self.data_idc();
        match self.rng.range(0, 100) {
            0..16 => Fault::Isolate(place),
            16..24 => Fault::Deaf(place),
            24..36 => Fault::OneWay(data, place),
            36..42 => Fault::Flap(place, 6),
            42..56 => Fault::Leaderless,
            56..61 if self.plan.restores => Fault::Restore,
            61..66 => Fault::Acknowledge,
            66..72 => {
                let back = self.rng.percent(50);
                Fault::StepClock(data, back)
            }
            72..78 => Fault::BackupLock(data),
            78..86 => Fault::SlowFence(data),
            86..93 => Fault::DiskFull(data),
            93..97 if self.plan.members.len() == 3 => Fault::Reshape,
            _ => Fault::CutDatabase(data),
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
                    if self.plan.focus == Focus::Failsafe {
                        self.replace_and_ask(place);
                        return;
                    }
                    // A standby takes over by itself.
                    if !self.plan.standbys {
                        self.later(lasts, Happening::Replace(place.clone()));
                    }
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
            Fault::Strand(place) => self.strand(place),
            Fault::Fading(place) => {
                self.set_cuts(place, |process| process.slow_replies = true);
                let then = self.rng.range(3_000, 7_000);
                self.later(then, Happening::Fault(Fault::CutEtcd(place.clone())));
            }
            Fault::CutDatabase(place) => {
                self.set_cuts(place, |process| process.cut_from_database = true);
            }
            Fault::Restart(place) => self.databases.get_mut(place).unwrap().stop(),
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
            wide => {
                let wide = wide.clone();
                if !self.begin_wide_fault(&wide, lasts) {
                    return;
                }
            }
        }
        self.later(lasts, Happening::Heal(fault));
    }

    /// The newest process of an IDC loses etcd, alone.
    fn strand(&mut self, place: &IdcName) {
        if let Some(process) = self.process_of(place) {
            self.processes[process].stranded = true;
        }
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
            Fault::Strand(place) => {
                self.set_cuts(&place, |process| process.stranded = false);
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
            wide => self.end_wide_fault(&wide),
        }
    }

    /// Everything is well again, and nothing is paused.
    pub fn heal_all(&mut self) {
        self.rough = false;
        self.link_up = true;
        self.cuts.clear();
        self.plan.with_third = self.plan.members.len() == 3;
        if self.etcd.leaderless {
            let now = self.now;
            self.etcd.elect(now);
        }
        for process in 0..self.processes.len() {
            self.processes[process].cut_from_etcd = false;
            self.processes[process].stranded = false;
            self.processes[process].deaf_to_etcd = false;
            self.processes[process].slow_replies = false;
            self.processes[process].cut_from_database = false;
            self.thaw_process(process);
        }
        for place in self.plan.members.clone() {
            let database = self.databases.get_mut(&place).unwrap();
            database.full = false;
            database.locked = false;
            database.slow_fence = 0;
            if !self.databases[&place].alive {
                self.databases.get_mut(&place).unwrap().restart();
            }
            self.thaw_database(&place);
        }
        for place in IDCS.map(idc) {
            if self.process_of(&place).is_none() {
                self.start_process(&place);
            }
        }
        self.lift_orders();
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

    pub fn set_cuts(&mut self, place: &IdcName, cut: impl Fn(&mut crate::world::Process)) {
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
