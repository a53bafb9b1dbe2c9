//! Three IDCs as one value that can be compared and hashed: the real cores, and the simulator's etcd
//! and databases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arbitration::{
    Command, Core, DatabaseCommand, DatabaseResult, Event, Features, HeldSession, Moment, Now,
    Purpose, Rules, Settings, Sign, Transaction,
};
use jiff::Timestamp;
use model::{
    Endpoint, FailoverMode, FailoverPolicy, Generation, HeartbeatCheck, IdcDoc, IdcName, IdcRole,
    MemberDoc, Signal, TlsSettings, UnitDoc,
};

use crate::database::{Clock, Database, Sent, Statement};
use crate::etcd::{Etcd, Renewal};
use crate::setting::{Setting, Trouble};

pub const LEASE: u64 = 6_000;
const NAMES: [&str; 3] = ["sh", "bj", "hz"];

/// A transaction on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flight {
    pub transaction: Transaction,
    /// Nobody waits for its answer any more.
    pub late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    idc: IdcName,
    pub core: Core,
    pub session: Option<HeldSession>,
    pub flights: VecDeque<Flight>,
    order: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub setting: Setting,
    pub rules: Rules,
    pub now: u64,
    pub second: u8,
    /// Nothing but time has passed since the last second began.
    pub fresh_second: bool,
    pub deviations: u8,
    pub etcd: Etcd,
    pub databases: BTreeMap<IdcName, Database>,
    pub processes: Vec<Process>,
    /// What is wrong, and for how many seconds more.
    pub troubles: BTreeMap<Trouble, u8>,
    pub asked: bool,
    /// What the transaction was for that broke a rule.
    pub violation: Option<Purpose>,
}

pub fn idc(place: usize) -> IdcName {
    IdcName::new(NAMES[place]).unwrap()
}

fn settings(failsafe: bool) -> Settings {
    Settings {
        catch_up_timeout: 2_000,
        fence_timeout: 2_000,
        answer_timeout: 3_000,
        ready_timeout: 2_000,
        // Its links bring something in every step of a second until then.
        time_to_drain: 1_000,
        features: Features {
            votes: true,
            failsafe,
            memory: false,
        },
        ..Settings::default()
    }
}

impl World {
    /// A world in which `sh` has just become the first primary, and nothing is on its way.
    pub fn established(setting: Setting, rules: Rules) -> Self {
        let clock = Clock {
            offset: 0,
            drift: 0,
        };
        let places: Vec<IdcName> = (0..3).map(idc).collect();
        let databases = places[..setting.copies]
            .iter()
            .map(|place| (place.clone(), Database::new(place.clone(), clock, true)))
            .collect();
        let mut world = Self {
            setting,
            rules,
            now: 10_000,
            second: 0,
            fresh_second: true,
            deviations: 0,
            etcd: Etcd::default(),
            databases,
            processes: Vec::new(),
            troubles: BTreeMap::new(),
            asked: false,
            violation: None,
        };
        let unit = world.etcd.put(world.unit_doc());
        world.etcd.state.unit = Some(unit);
        for place in &places {
            let role = IdcRole::Data;
            let doc = world.etcd.put(IdcDoc { role });
            world.etcd.state.idcs.insert(place.clone(), doc);
            world.processes.push(Process {
                idc: place.clone(),
                core: world.new_core(place),
                session: None,
                flights: VecDeque::new(),
                order: 0,
            });
        }
        // Long enough for the first promises that nobody remembers to be over.
        world.run_calmly(20);
        assert_eq!(world.writable().count(), 1, "no primary before it begins");
        world.second = 0;
        world
    }

    pub fn new_core(&self, place: &IdcName) -> Core {
        let mut core = Core::new(place.clone(), settings(self.setting.failsafe), self.rules);
        core.step(self.time(), Event::Preflight(true));
        core
    }

    fn unit_doc(&self) -> UnitDoc {
        let member = |place: usize| MemberDoc {
            idc: idc(place),
            endpoint: Endpoint {
                host: NAMES[place].to_owned(),
                port: 3306,
                tls: TlsSettings::default(),
            },
            priority: 100 - u32::try_from(place).unwrap(),
        };
        UnitDoc {
            uid: "1".to_owned(),
            generation: 1,
            databases: vec!["orders".to_owned()],
            members: (0..self.setting.copies).map(member).collect(),
            failover: FailoverPolicy {
                mode: if self.setting.automatic {
                    FailoverMode::Automatic
                } else {
                    FailoverMode::Manual
                },
                max_lag_millis: 5_000,
                cooldown_millis: 0,
                failback: FailoverMode::Manual,
                failsafe: self.setting.failsafe,
            },
            application: None,
            heartbeat: HeartbeatCheck {
                interval_millis: 1_000,
                timeout_millis: 500,
                failures: 2,
            },
            paused: false,
        }
    }

    pub fn time(&self) -> Now {
        let wall = 1_700_000_000_000 + i64::try_from(self.now).unwrap();
        Now {
            at: Moment(self.now),
            wall: Timestamp::from_millisecond(wall).unwrap(),
        }
    }

    pub fn is(&self, trouble: Trouble) -> bool {
        self.troubles.contains_key(&trouble)
    }

    pub fn runs(&self, place: usize) -> bool {
        !self.is(Trouble::Pause(place)) && !self.is(Trouble::Crash(place))
    }

    pub fn reaches_etcd(&self, place: usize) -> bool {
        !self.is(Trouble::CutEtcd(place))
            && !self.is(Trouble::Isolate(place))
            && !self.is(Trouble::EndLease(place))
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        from == to || !(self.is(Trouble::Isolate(from)) || self.is(Trouble::Isolate(to)))
    }

    pub fn writable(&self) -> impl Iterator<Item = &Database> {
        self.databases
            .values()
            .filter(|database| database.writable())
    }

    pub fn in_flight(&self) -> usize {
        self.processes
            .iter()
            .map(|process| process.flights.len())
            .sum()
    }

    pub fn oldest(&self, process: usize) -> Option<&Flight> {
        self.processes[process].flights.front()
    }

    pub fn may_ask(&self) -> bool {
        self.setting.request.is_some() && !self.asked && self.fresh_second
    }

    /// Time goes by, and whoever is well does what it does every second.
    pub fn second(&mut self) {
        self.second += 1;
        self.now += 1_000;
        self.fresh_second = true;
        let over: Vec<Trouble> = self
            .troubles
            .iter_mut()
            .filter_map(|(trouble, left)| {
                *left -= 1;
                (*left == 0).then_some(*trouble)
            })
            .collect();
        for trouble in over {
            self.troubles.remove(&trouble);
            self.end(trouble);
        }
        let now = self.now;
        for database in self.databases.values_mut() {
            // Guards tick often; clients write until then.
            database.tick(now);
            database.writes += u64::from(database.writable());
        }
        self.replicate();
        if self.etcd.expire(now) {
            self.tell_all();
        }
        for place in 0..self.processes.len() {
            if self.runs(place) {
                self.beat(place);
            }
        }
    }

    fn replicate(&mut self) {
        let sources: Vec<_> = self
            .databases
            .values()
            .filter(|database| database.answers())
            .map(|it| (it.idc.clone(), it.writes, it.beat, it.epoch))
            .collect();
        let place_of = |name: &IdcName| NAMES.iter().position(|it| *it == name.as_str()).unwrap();
        let apart: BTreeSet<usize> = (0..3)
            .filter(|place| self.is(Trouble::Isolate(*place)))
            .collect();
        if self.is(Trouble::Links) {
            return;
        }
        for target in self.databases.values_mut().filter(|it| it.answers()) {
            for (source, writes, beat, epoch) in &sources {
                let cut =
                    apart.contains(&place_of(source)) || apart.contains(&place_of(&target.idc));
                if *source == target.idc || cut {
                    continue;
                }
                target.applied.insert(source.clone(), *writes);
                target.epoch = target.epoch.max(*epoch);
                if let Some(beat) = beat {
                    target.heartbeats.insert(source.clone(), *beat);
                }
            }
        }
    }

    /// One arbiter's second: keep-alive, look, signals.
    fn beat(&mut self, place: usize) {
        if self.reaches_etcd(place) {
            self.keep_alive(place);
        }
        self.look(place);
        for other in 0..self.setting.copies {
            let own = other == place;
            let database = &self.databases[&idc(other)];
            let well = database.answers()
                && (!own || !database.read_only)
                && self.reaches(place, other)
                && !(own && self.is(Trouble::CutDatabase(place)));
            let sign = if well {
                Sign::Answered(Signal::Sql)
            } else {
                Sign::Failed(Signal::Sql, String::new())
            };
            self.step(
                place,
                Event::Signalled {
                    of: idc(other),
                    sign,
                },
            );
        }
        self.step(place, Event::Tick);
    }

    fn keep_alive(&mut self, place: usize) {
        let (now, name) = (self.now, idc(place));
        let deaf = self.is(Trouble::Deaf(place));
        let Some(session) = self.processes[place].session else {
            let session = self.etcd.claim(now, &name, LEASE, Generation(0));
            if !deaf {
                self.processes[place].session = Some(session);
                self.step(place, Event::SessionClaimed(session));
                self.tell_all();
                self.keep_alive(place);
            }
            return;
        };
        let answer = self.etcd.keep_alive(now, &name, session);
        if deaf {
            return;
        }
        if let Renewal::Granted(granted_millis) = answer {
            let sent_at = Moment(now);
            self.step(
                place,
                Event::KeepAlive {
                    sent_at,
                    granted_millis,
                },
            );
        } else {
            // Superseded cannot be: there is one process an IDC, whose claims are answered or made
            // again.
            self.processes[place].session = None;
            self.step(place, Event::SessionLost);
        }
        self.tell(place);
    }

    fn look(&mut self, place: usize) {
        let now = self.now;
        let cut = self.is(Trouble::CutDatabase(place));
        let core = &self.processes[place].core;
        let (followed, epoch) = (core.followed().cloned(), core.heartbeat().0);
        let generation = self.generation(place);
        let Some(database) = self.databases.get_mut(&idc(place)) else {
            return;
        };
        if cut || !database.answers() {
            self.step(place, Event::Unreachable);
            return;
        }
        let seen = database.observe(now, generation, followed.as_ref(), (epoch, None));
        let heartbeats = database.heartbeats.clone();
        let asked_at = Moment(now);
        self.step(place, Event::Observed { asked_at, seen });
        for (of, (written, epoch)) in heartbeats {
            if written + 1_000 >= now {
                let sign = Sign::Replicated { epoch };
                self.step(place, Event::Signalled { of, sign });
            }
        }
    }

    pub fn step(&mut self, place: usize, event: Event) {
        let now = self.time();
        let commands = self.processes[place].core.step(now, event);
        for command in commands {
            match command {
                Command::Commit(transaction) => {
                    self.processes[place].flights.push_back(Flight {
                        transaction,
                        late: false,
                    });
                }
                Command::Database { id, command } => self.execute(place, id, command),
                Command::AskPromise { of, ask } => {
                    let to = NAMES.iter().position(|it| *it == of.as_str()).unwrap();
                    if self.reaches(place, to) && self.runs(to) {
                        self.step(
                            to,
                            Event::PromiseAsked {
                                by: idc(place),
                                ask,
                            },
                        );
                    }
                }
                Command::AnswerPromise {
                    to,
                    number,
                    promised,
                } => {
                    let asker = NAMES.iter().position(|it| *it == to.as_str()).unwrap();
                    let by = idc(place);
                    if self.reaches(place, asker) && self.runs(asker) {
                        self.step(
                            asker,
                            Event::PromiseAnswered {
                                by,
                                number,
                                promised,
                            },
                        );
                    }
                }
                Command::ClaimAgain { .. } => unreachable!("etcd forgets nothing here"),
            }
        }
    }

    fn generation(&self, place: usize) -> Generation {
        let session = self.processes[place].session;
        session.map_or(Generation(0), |session| session.generation)
    }

    /// A statement is carried out at once, or waits in a frozen server, or is lost.
    fn execute(&mut self, place: usize, id: u64, command: DatabaseCommand) {
        let (now, wall) = (self.now, self.time().wall);
        let cut = self.is(Trouble::CutDatabase(place));
        let generation = self.generation(place);
        let process = &mut self.processes[place];
        process.order += 1;
        let deadline = match &command {
            DatabaseCommand::Open { .. } if !self.rules.guard => u64::MAX,
            DatabaseCommand::Open { deadline, .. } | DatabaseCommand::StartGuard { deadline } => {
                deadline.0
            }
            _ => 0,
        };
        let sent = Sent {
            process: place,
            number: id,
            generation,
            order: process.order,
            deadline,
            read_at: now,
            statement: Statement::Run(command),
        };
        let database = self.databases.get_mut(&idc(place)).unwrap();
        let reason = String::new;
        let result = if cut || !database.alive {
            Some(DatabaseResult::NotSent { reason: reason() })
        } else if database.frozen {
            database.waiting.push(sent);
            None
        } else {
            database.execute(now, wall, &sent)
        };
        let result = result.unwrap_or(DatabaseResult::Failed { reason: reason() });
        self.step(place, Event::Database { id, result });
    }

    fn tell(&mut self, place: usize) {
        let hears = self.runs(place) && self.reaches_etcd(place) && !self.is(Trouble::Deaf(place));
        if hears && self.processes[place].session.is_some() {
            let state = Box::new(self.etcd.told());
            self.step(place, Event::State(state));
        }
    }

    pub fn tell_all(&mut self) {
        for place in 0..self.processes.len() {
            self.tell(place);
        }
    }

    /// Everything arrives and every second is well.
    fn run_calmly(&mut self, seconds: u8) {
        for _ in 0..seconds {
            self.second();
            for _ in 0..40 {
                let Some(place) = (0..3).find(|place| self.oldest(*place).is_some()) else {
                    break;
                };
                self.arrives(place, true);
            }
        }
    }

    /// Whether a member becomes writable once everything is mended.
    pub fn recovers(&self) -> bool {
        let mut world = self.clone();
        for trouble in std::mem::take(&mut world.troubles).into_keys() {
            world.end(trouble);
        }
        (0..8).any(|_| {
            world.run_calmly(5);
            world.writable().next().is_some()
        })
    }
}
