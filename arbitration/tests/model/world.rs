//! Three IDCs as one value that can be compared and hashed: the real cores, and the simulator's etcd
//! and databases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arbitration::{
    Command, Core, DatabaseCommand, DatabaseResult, Event, Features, HeldSession, Moment, Now,
    Outcome, Purpose, Rules, Settings, Sign, Transaction,
};
use jiff::Timestamp;
use model::{
    Endpoint, Epoch, FailoverMode, FailoverPolicy, Generation, HeartbeatCheck, IdcDoc, IdcName,
    IdcRole, Intent, IntentKind, IntentPhase, MemberDoc, Signal, TlsSettings, UnitDoc,
};

use crate::database::{Clock, Database, Sent, Statement};
use crate::etcd::{Etcd, Renewal};

const LEASE: u64 = 6_000;
const NAMES: [&str; 3] = ["sh", "bj", "hz"];

/// What a model is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Setting {
    pub copies: usize,
    pub automatic: bool,
    pub failsafe: bool,
    pub request: Option<IntentKind>,
    pub horizon: u8,
    pub deviations: u8,
}

impl Setting {
    pub const TWO: Self = Self {
        copies: 2,
        automatic: true,
        failsafe: false,
        request: None,
        horizon: 12,
        deviations: 2,
    };
    pub const THREE: Self = Self {
        copies: 3,
        horizon: 11,
        ..Self::TWO
    };
    pub const FAILSAFE: Self = Self {
        failsafe: true,
        horizon: 11,
        ..Self::TWO
    };
    pub const SWITCHOVER: Self = Self {
        request: Some(IntentKind::Planned),
        horizon: 6,
        ..Self::TWO
    };
    pub const FAILOVER: Self = Self {
        automatic: false,
        request: Some(IntentKind::Forced),
        horizon: 9,
        ..Self::TWO
    };
}

/// What can go wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// The arbiter stops and goes on later.
    Pause(usize),
    /// The arbiter dies and is started again.
    Crash(usize),
    /// The arbiter loses etcd.
    CutEtcd(usize),
    /// etcd's answers and news do not come back.
    Deaf(usize),
    /// The arbiter loses its database.
    CutDatabase(usize),
    /// The database dies and comes back fenced.
    Down(usize),
    /// The database stops and goes on later.
    Freeze(usize),
    /// The IDC is cut from etcd and from the others.
    Isolate(usize),
    /// Nothing is replicated.
    Links,
}

/// A transaction on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flight {
    transaction: Transaction,
    /// Nobody waits for its answer any more.
    pub late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    idc: IdcName,
    core: Core,
    session: Option<HeldSession>,
    flights: VecDeque<Flight>,
    order: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    setting: Setting,
    rules: Rules,
    now: u64,
    pub second: u8,
    /// Nothing but time has passed since the last second began.
    pub fresh_second: bool,
    pub deviations: u8,
    pub etcd: Etcd,
    databases: BTreeMap<IdcName, Database>,
    pub processes: Vec<Process>,
    /// What is wrong, and for how many seconds more.
    troubles: BTreeMap<Trouble, u8>,
    asked: bool,
    /// What the transaction was for that broke a rule.
    pub violation: Option<Purpose>,
}

fn idc(place: usize) -> IdcName {
    IdcName::new(NAMES[place]).unwrap()
}

fn settings(failsafe: bool) -> Settings {
    Settings {
        catch_up_timeout: 2_000,
        fence_timeout: 2_000,
        answer_timeout: 3_000,
        ready_timeout: 2_000,
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

    fn new_core(&self, place: &IdcName) -> Core {
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
            heartbeat: HeartbeatCheck {
                interval_millis: 1_000,
                timeout_millis: 500,
                failures: 2,
            },
            paused: false,
        }
    }

    fn time(&self) -> Now {
        let wall = 1_700_000_000_000 + i64::try_from(self.now).unwrap();
        Now {
            at: Moment(self.now),
            wall: Timestamp::from_millisecond(wall).unwrap(),
        }
    }

    fn is(&self, trouble: Trouble) -> bool {
        self.troubles.contains_key(&trouble)
    }

    fn runs(&self, place: usize) -> bool {
        !self.is(Trouble::Pause(place)) && !self.is(Trouble::Crash(place))
    }

    fn reaches_etcd(&self, place: usize) -> bool {
        !self.is(Trouble::CutEtcd(place)) && !self.is(Trouble::Isolate(place))
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

    pub fn troubles_possible(&self) -> Vec<Trouble> {
        let of_place = |place: usize| {
            let mut all = vec![
                Trouble::Pause(place),
                Trouble::Crash(place),
                Trouble::CutEtcd(place),
                Trouble::Deaf(place),
                Trouble::Isolate(place),
            ];
            if place < self.setting.copies {
                all.extend([
                    Trouble::CutDatabase(place),
                    Trouble::Down(place),
                    Trouble::Freeze(place),
                ]);
            }
            all
        };
        (0..3)
            .flat_map(of_place)
            .chain([Trouble::Links])
            .filter(|trouble| !self.is(*trouble))
            .collect()
    }

    pub fn begin(&mut self, trouble: Trouble, lasts: u8) {
        self.troubles.insert(trouble, lasts);
        match trouble {
            Trouble::Crash(place) => {
                // What it sent may arrive all the same.
                let core = self.new_core(&idc(place));
                let process = &mut self.processes[place];
                process.core = core;
                process.session = None;
                for flight in &mut process.flights {
                    flight.late = true;
                }
            }
            Trouble::Down(place) => {
                let database = self.databases.get_mut(&idc(place)).unwrap();
                database.alive = false;
                database.read_only = true;
                database.guards.clear();
                database.waiting.clear();
            }
            Trouble::Freeze(place) => self.databases.get_mut(&idc(place)).unwrap().frozen = true,
            _ => {}
        }
    }

    fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Down(place) => self.databases.get_mut(&idc(place)).unwrap().restart(),
            Trouble::Freeze(place) => {
                let (now, wall) = (self.now, self.time().wall);
                let database = self.databases.get_mut(&idc(place)).unwrap();
                database.frozen = false;
                database.tick(now);
                // Nobody hears the answers any more.
                for sent in std::mem::take(&mut database.waiting) {
                    database.execute(now, wall, &sent);
                }
            }
            _ => {}
        }
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
        let Some(database) = self.databases.get_mut(&idc(place)) else {
            return;
        };
        if cut || !database.answers() {
            self.step(place, Event::Unreachable);
            return;
        }
        let seen = database.observe(now, followed.as_ref(), (epoch, None));
        let heartbeats = database.heartbeats.clone();
        self.step(place, Event::Observed(seen));
        for (of, (written, epoch)) in heartbeats {
            if written + 1_000 >= now {
                let sign = Sign::Replicated { epoch };
                self.step(place, Event::Signalled { of, sign });
            }
        }
    }

    fn step(&mut self, place: usize, event: Event) {
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

    /// A statement is carried out at once, or waits in a frozen server, or is lost.
    fn execute(&mut self, place: usize, id: u64, command: DatabaseCommand) {
        let (now, wall) = (self.now, self.time().wall);
        let cut = self.is(Trouble::CutDatabase(place));
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
            generation: process
                .session
                .map_or(Generation(0), |session| session.generation),
            order: process.order,
            deadline,
            read_at: now,
            statement: Statement::Run(command),
        };
        let database = self.databases.get_mut(&idc(place)).unwrap();
        let result = if cut || !database.alive {
            None
        } else if database.frozen {
            database.waiting.push(sent);
            None
        } else {
            database.execute(now, wall, &sent)
        };
        let result = result.unwrap_or(DatabaseResult::Failed {
            reason: String::new(),
        });
        self.step(place, Event::Database { id, result });
    }

    fn tell(&mut self, place: usize) {
        let hears = self.runs(place) && self.reaches_etcd(place) && !self.is(Trouble::Deaf(place));
        if hears && self.processes[place].session.is_some() {
            let state = Box::new(self.etcd.told());
            self.step(place, Event::State(state));
        }
    }

    fn tell_all(&mut self) {
        for place in 0..self.processes.len() {
            self.tell(place);
        }
    }

    /// The oldest transaction of a process arrives, if it can.
    pub fn arrives(&mut self, place: usize, answered: bool) {
        self.fresh_second = false;
        let Some(flight) = self.processes[place].flights.pop_front() else {
            return;
        };
        let id = flight.transaction.id;
        // A late one has found another way.
        let reached = self.reaches_etcd(place) || flight.late;
        let before = self.etcd.state.clone();
        let made = reached
            .then(|| self.etcd.commit(&idc(place), &flight.transaction))
            .flatten();
        if made.is_some() {
            self.check_commit(place, &before, flight.transaction.purpose);
        }
        let heard = answered && reached && !self.is(Trouble::Deaf(place));
        let outcome = match made {
            _ if !heard => Outcome::Unknown,
            Some(revision) => Outcome::Done(revision),
            None => Outcome::Lost,
        };
        if !flight.late && self.runs(place) {
            self.step(place, Event::Committed { id, outcome });
        }
        if made.is_some() {
            self.tell_all();
        }
    }

    /// Nobody waits any more for the oldest transaction of a process.
    pub fn late(&mut self, place: usize) {
        self.fresh_second = false;
        let Some(flight) = self.processes[place].flights.front_mut() else {
            return;
        };
        flight.late = true;
        let id = flight.transaction.id;
        let outcome = Outcome::Unknown;
        if self.runs(place) {
            self.step(place, Event::Committed { id, outcome });
        }
    }

    pub fn ask(&mut self) {
        self.asked = true;
        self.fresh_second = false;
        let Some(kind) = self.setting.request else {
            return;
        };
        let state = &self.etcd.state;
        let intent = Intent {
            id: "request".to_owned(),
            kind,
            to: Some(idc(1)),
            expected_primary: state.primary.as_ref().map(|it| it.value.idc.clone()),
            expected_epoch: state
                .epoch
                .as_ref()
                .map_or(Epoch::NONE, |it| it.value.epoch),
            allow_data_loss: false,
            requested_at: Timestamp::UNIX_EPOCH,
            phase: IntentPhase::Requested,
        };
        let intent = self.etcd.put(intent);
        self.etcd.state.intent = Some(intent);
        self.tell_all();
    }

    fn check_commit(&mut self, place: usize, before: &model::UnitState, purpose: Purpose) {
        let Some(epoch) = before.epoch.as_ref().map(|epoch| &epoch.value) else {
            return;
        };
        let broken = match purpose {
            Purpose::TakeElected => {
                let votes = before
                    .votes
                    .values()
                    .filter(|vote| vote.value.epoch == epoch.epoch)
                    .count();
                let proof = before
                    .vacated
                    .as_ref()
                    .is_some_and(|vacated| vacated.value.epoch == epoch.epoch);
                before.primary.is_some() || !(2 * votes > before.idcs.len() || proof)
            }
            Purpose::HandOver => {
                let here = self.databases[&idc(place)].applied.get(&epoch.idc);
                self.databases[&epoch.idc].writes > here.copied().unwrap_or(0)
            }
            _ => false,
        };
        if broken {
            self.violation = Some(purpose);
        }
    }

    /// Nothing to note but what the properties see.
    pub fn check(&mut self) {
        debug_assert!(self.deviations <= 8);
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
