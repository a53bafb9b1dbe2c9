//! The world: processes, databases, etcd, a network that loses and delays, and one queue of what
//! happens next. Everything follows from the seed.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use arbitration::{
    Core, Event, Features, HeldSession, LOOK_EVERY, Moment, Now, Outcome, PromiseAsk, Rules,
    Settings, Standby, Transaction,
};
use jiff::Timestamp;
use model::{Epoch, EtcdMark, Generation, IdcName, Revision, UnitState};

use crate::chaos::Fault;
use crate::checks::{Doubt, Ledger};
use crate::database::{Clock, Database, Sent};
use crate::etcd::Etcd;
use crate::orders::Sighting;
use crate::rng::Rng;
use crate::setup::Focus;
use crate::setup::Plan;

pub const LEASE: u64 = 6_000;
/// How often a process looks at its database, and tells it how far etcd is.
pub const HEARTBEAT: u64 = 500;
/// Clients write so often, in milliseconds.
pub const WRITE_EVERY: u64 = 7;

/// An arbiter process. A crashed one never comes back; its IDC gets a new one.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that can be wrong with it"
)]
pub struct Process {
    pub idc: IdcName,
    pub core: Core,
    pub clock: Clock,
    pub alive: bool,
    pub frozen: bool,
    pub backlog: Vec<Happening>,
    pub doubt: Doubt,
    pub session: Option<HeldSession>,
    /// That of the last session: what it sends bears it also when the session is lost.
    pub generation: Generation,
    /// Claims that were sent: only the newest one's answer counts.
    pub claims: u64,
    /// The next claim's generation is above this.
    pub claim_above: Generation,
    /// The server's clock as an observation showed it, and this clock when its answer came.
    pub mapping: Option<(u64, u64)>,
    pub running: Option<u64>,
    pub observing: bool,
    pub order_floor: u64,
    pub last_push: u64,
    /// Its watch ended with the etcd that it was of, so the next state is listed anew.
    pub lists: bool,
    /// The newest heartbeat of each member that this core was told of: when it was told, when it
    /// was written, and the epoch in it.
    pub told: BTreeMap<IdcName, (u64, u64, Epoch)>,
    /// Whose session each IDC's was when this process last heard of etcd: whom it asks.
    pub known: BTreeMap<IdcName, Generation>,
    /// Requests do not reach etcd, those of the whole IDC.
    pub cut_from_etcd: bool,
    /// Requests of this process alone do not reach etcd.
    pub stranded: bool,
    /// etcd's answers and news do not come back.
    pub deaf_to_etcd: bool,
    pub slow_replies: bool,
    pub cut_from_database: bool,
    pub sighting: Sighting,
}

impl Process {
    pub fn reaches_no_etcd(&self) -> bool {
        self.cut_from_etcd || self.stranded
    }
}

#[derive(Debug, Clone)]
pub enum Happening {
    Wake(usize),
    KeepAliveDue(usize),
    /// Whether the next one follows it.
    ClaimDue(usize, bool),
    ObserveDue(usize),
    /// With the revision of the session's key as the claimant read it before.
    ClaimArrives(usize, Option<Revision>, (u64, u64)),
    ClaimAnswered(usize, HeldSession, u64, u64, EtcdMark),
    KeepAliveArrives(usize, HeldSession, u64),
    KeepAliveAnswered(usize, HeldSession, u64, Result<u64, bool>, EtcdMark),
    CommitArrives(usize, Box<Transaction>),
    Answer(usize, Box<Event>),
    Push(usize, Box<UnitState>),
    Arrives(Box<Sent>),
    Observed(usize, u64, Option<u64>, Vec<Event>),
    Restored(usize),
    SignalsDue(usize),
    /// An event that another IDC or the network brings to a process.
    Told(usize, Box<Event>),
    /// The process that asks, the IDC that it asks, and which of that IDC's processes hears it.
    PromiseArrives(usize, IdcName, PromiseAsk),
    StandbyDue(IdcName),
    /// Somebody looks whether anything waits for people.
    PersonLooks,
    GuardTick,
    LeaseTick,
    ClientWrites,
    Replicates,
    Fault(Fault),
    Heal(Fault),
    Replace(IdcName),
}

#[derive(Debug)]
struct Entry(u64, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// The earliest first, since the heap gives the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub first: u64,
    pub retakes: u64,
    pub failovers: u64,
    pub switchovers: u64,
    pub cancels: u64,
    pub refusals: u64,
    pub releases: u64,
    pub elections: u64,
    pub promises: u64,
    pub restores: u64,
    pub standbys: u64,
    pub failbacks: u64,
    pub fences: u64,
    pub early_ends: u64,
}

impl Counts {
    /// Each count, and in how many seeds it is expected once.
    pub fn each(&self) -> [(&'static str, u64, u64); 14] {
        [
            ("first elections", self.first, 2),
            ("re-takes", self.retakes, 5),
            ("forced failovers", self.failovers, 5),
            ("switchovers", self.switchovers, 5),
            ("cancels", self.cancels, 20),
            ("refusals", self.refusals, 2),
            ("releases", self.releases, 5),
            ("elections", self.elections, 5),
            ("promises", self.promises, 5),
            ("restores", self.restores, 10),
            ("claims of standbys", self.standbys, 5),
            ("failbacks", self.failbacks, 50),
            ("orders to fence", self.fences, 5),
            ("leases ended early", self.early_ends, 2),
        ]
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.first, other.first),
            (&mut self.retakes, other.retakes),
            (&mut self.failovers, other.failovers),
            (&mut self.switchovers, other.switchovers),
            (&mut self.cancels, other.cancels),
            (&mut self.refusals, other.refusals),
            (&mut self.releases, other.releases),
            (&mut self.elections, other.elections),
            (&mut self.promises, other.promises),
            (&mut self.restores, other.restores),
            (&mut self.standbys, other.standbys),
            (&mut self.failbacks, other.failbacks),
            (&mut self.fences, other.fences),
            (&mut self.early_ends, other.early_ends),
        ] {
            *mine += theirs;
        }
    }
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub etcd: Etcd,
    pub databases: BTreeMap<IdcName, Database>,
    pub processes: Vec<Process>,
    pub plan: Plan,
    /// What does not get through from one IDC to another.
    pub cuts: BTreeSet<(IdcName, IdcName)>,
    pub standbys: BTreeMap<IdcName, Standby>,
    pub snapshot: Option<Etcd>,
    pub ledger: Ledger,
    pub link_up: bool,
    /// While faults are drawn, messages are lost and late too.
    pub rough: bool,
    /// So many more messages in a hundred are very late.
    late: u64,
    pub counts: Counts,
    pub violation: Option<String>,
    pub log: Vec<String>,
    pub verbose: bool,
    pub rules: Rules,
    queue: BinaryHeap<Entry>,
    sequence: u64,
    pub orders: u64,
}

/// Shorter than in production where a race is to be seen more often.
fn settings() -> Settings {
    Settings {
        catch_up_timeout: 1_500,
        fence_timeout: 3_000,
        failback_after: 5_000,
        longest_promise: LEASE,
        features: Features::ALL,
        ..Settings::default()
    }
}

pub const IDCS: [&str; 3] = ["sh", "bj", "hz"];

pub fn idc(name: &str) -> IdcName {
    IdcName::new(name).unwrap()
}

impl World {
    pub fn new(seed: u64, rules: Rules, verbose: bool, change: impl FnOnce(&mut Plan)) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = Plan::draw(&mut rng);
        // Drawn apart, so that the other seeds run as they did.
        let mut apart = Rng::new(!seed);
        plan.orders = apart.percent(30);
        plan.early_ends = apart.percent(25);
        change(&mut plan);
        plan.settle();
        let mut world = Self {
            now: 0,
            rng,
            plan,
            cuts: BTreeSet::new(),
            standbys: BTreeMap::new(),
            snapshot: None,
            ledger: Ledger::default(),
            etcd: Etcd::default(),
            databases: BTreeMap::new(),
            processes: Vec::new(),
            link_up: true,
            rough: false,
            late: 0,
            counts: Counts::default(),
            violation: None,
            log: Vec::new(),
            verbose,
            rules,
            queue: BinaryHeap::new(),
            sequence: 0,
            orders: 0,
        };
        // Servers that are put under care may accept writes, one or even both.
        world.late = if world.rng.percent(25) { 12 } else { 0 };
        let both = world.rng.percent(50);
        for place in world.plan.members.clone() {
            let open = place == idc("sh") || (both && place == idc("bj"));
            let clock = world.draw_clock();
            let mut database = Database::new(place.clone(), clock, !open);
            database.guard_is_event = world.plan.guard_is_event;
            database.opens_despite_promise = world.plan.opens_despite_promise;
            database.without = world.plan.without;
            world.databases.insert(place, database);
        }
        if let Some(database) = world.databases.get_mut(&idc("sh")) {
            database.writes = 1;
        }
        for name in IDCS {
            world.start_process(&idc(name));
            if world.plan.standbys {
                world.standbys.insert(idc(name), Standby::default());
                world.later(LOOK_EVERY, Happening::StandbyDue(idc(name)));
            }
        }
        world.publish_idcs();
        for tick in [
            Happening::GuardTick,
            Happening::LeaseTick,
            Happening::ClientWrites,
            Happening::Replicates,
            Happening::PersonLooks,
        ] {
            world.later(10, tick);
        }
        world
    }

    fn draw_clock(&mut self) -> Clock {
        // Rates may differ by 1 %: each is off by at most half of that.
        let drift = i64::try_from(self.rng.range(0, 91)).unwrap() - 45;
        Clock {
            offset: self.rng.range(10_000, 10_000_000),
            drift,
        }
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.log.push(format!("{:>8} {}", self.now, text()));
        }
    }

    pub fn later(&mut self, delay: u64, what: Happening) {
        self.sequence += 1;
        self.queue
            .push(Entry(self.now + delay, self.sequence, what));
    }

    pub fn start_process(&mut self, idc: &IdcName) -> usize {
        let clock = self.draw_clock();
        let mut core = Core::new(idc.clone(), settings(), self.rules);
        let at = Now {
            at: Moment(clock.read(self.now)),
            wall: self.wall(),
        };
        core.step(at, Event::Preflight(true));
        self.processes.push(Process {
            idc: idc.clone(),
            core,
            clock,
            alive: true,
            frozen: false,
            backlog: Vec::new(),
            doubt: Doubt::default(),
            session: None,
            claims: 0,
            generation: Generation(0),
            claim_above: Generation(0),
            mapping: None,
            running: None,
            observing: false,
            order_floor: 0,
            last_push: 0,
            lists: false,
            told: BTreeMap::new(),
            known: BTreeMap::new(),
            cut_from_etcd: self
                .processes
                .iter()
                .any(|it| it.alive && it.idc == *idc && it.cut_from_etcd),
            stranded: false,
            deaf_to_etcd: false,
            slow_replies: false,
            cut_from_database: false,
            sighting: Sighting::default(),
        });
        let process = self.processes.len() - 1;
        self.note(|| format!("process {process} starts in {idc}"));
        self.later(1, Happening::Wake(process));
        self.later(2, Happening::ClaimDue(process, true));
        self.later(20, Happening::KeepAliveDue(process));
        self.later(3, Happening::ObserveDue(process));
        self.later(4, Happening::SignalsDue(process));
        process
    }

    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + i64::try_from(self.now).unwrap()).unwrap()
    }

    /// Runs until this true time or until something is wrong.
    pub fn run_until(&mut self, end: u64) {
        while self.violation.is_none() {
            let Some(entry) = self.queue.peek() else {
                return;
            };
            if entry.0 > end {
                self.now = end;
                return;
            }
            let Some(Entry(at, _, what)) = self.queue.pop() else {
                return;
            };
            self.now = at;
            if self.etcd.expire(self.now) {
                self.push_all();
            }
            self.happen(what);
            self.check();
        }
    }

    pub fn violate(&mut self, text: String) {
        self.note(|| format!("VIOLATION {text}"));
        self.violation.get_or_insert(text);
    }

    /// A delay on the way; `None` where the message is lost.
    pub fn delay(&mut self, cut: bool) -> Option<u64> {
        if cut {
            return None;
        }
        if !self.rough {
            return Some(self.rng.range(1, 8));
        }
        match self.rng.range(0, 100) {
            0..2 => None,
            late if (2..3 + self.late).contains(&late) => Some(self.rng.range(2_000, 12_000)),
            90..93 => Some(self.rng.range(200, 2_500)),
            _ => Some(self.rng.range(1, 25)),
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Some(process) = addressee(&what) {
            if !self.processes[process].alive {
                return;
            }
            if self.processes[process].frozen {
                self.processes[process].backlog.push(what);
                return;
            }
        }
        match what {
            Happening::Wake(process) => {
                self.step(process, Event::Tick);
                self.later(50, Happening::Wake(process));
            }
            Happening::KeepAliveDue(process) => self.keep_alive_due(process),
            Happening::ClaimDue(process, again) => self.claim_due(process, again),
            Happening::ObserveDue(process) => self.observe_due(process),
            Happening::ClaimArrives(process, seen, claim) => {
                self.claim_arrives(process, seen, claim);
            }
            Happening::ClaimAnswered(process, session, claim, sent_at, mark) => {
                self.claim_answered(process, session, claim, (sent_at, mark));
            }
            Happening::KeepAliveArrives(process, session, sent_at) => {
                self.keep_alive_arrives(process, session, sent_at);
            }
            Happening::KeepAliveAnswered(process, session, sent_at, answer, mark) => {
                // An answer about an earlier session is none about this one.
                if self.processes[process].session == Some(session) {
                    self.keep_alive_answered(process, sent_at, answer, mark);
                }
            }
            Happening::CommitArrives(process, transaction) => {
                self.commit_arrives(process, &transaction);
            }
            Happening::Answer(process, event) => self.answered(process, *event),
            Happening::Push(process, state) => {
                let sessions = state.sessions.iter();
                let known = sessions.map(|(idc, it)| (idc.clone(), it.value.generation));
                self.processes[process].known = known.collect();
                self.step(process, Event::State(state));
            }
            Happening::Arrives(sent) => self.statement_arrives(*sent),
            Happening::Observed(process, order, clock, events) => {
                self.observed(process, order, clock, events);
            }
            Happening::Restored(process) => self.processes[process].observing = false,
            happening => self.happen_beside(happening),
        }
    }

    fn happen_beside(&mut self, what: Happening) {
        match what {
            Happening::SignalsDue(process) => self.signals_due(process),
            Happening::Told(process, event) => self.step(process, *event),
            Happening::PromiseArrives(by, of, ask) => self.promise_arrives(by, &of, ask),
            Happening::StandbyDue(place) => self.standby_due(&place),
            Happening::PersonLooks => self.person_looks(),
            Happening::GuardTick => {
                let now = self.now;
                self.databases
                    .values_mut()
                    .for_each(|database| database.tick(now));
                self.later(20, Happening::GuardTick);
            }
            Happening::LeaseTick => {
                // Snapshots are made now and then, and never of the newest state.
                let often = self.plan.focus == Focus::PutBack;
                let between = if often { 7 } else { 90 };
                if (self.now / 100).is_multiple_of(between) && self.now > 1_000 {
                    self.snapshot = Some(self.etcd.clone());
                }
                self.later(100, Happening::LeaseTick);
            }
            Happening::ClientWrites => self.client_writes(),
            Happening::Replicates => self.replicates(),
            Happening::Fault(fault) => self.begin_fault(fault),
            Happening::Heal(fault) => self.end_fault(fault),
            Happening::Replace(idc) => {
                if self.process_of(&idc).is_none() {
                    self.start_process(&idc);
                }
            }
            other => unreachable!("{other:?} is handled above"),
        }
    }

    /// Connections to etcd break: what is on its way either way is lost.
    pub fn forget_requests(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue
            .into_iter()
            .filter(|entry| {
                let commit = match &entry.2 {
                    Happening::Answer(_, event) => matches!(
                        **event,
                        Event::Committed { outcome, .. } if outcome != Outcome::Unknown
                    ),
                    _ => false,
                };
                !commit
                    && !matches!(
                        entry.2,
                        Happening::CommitArrives(..)
                            | Happening::KeepAliveArrives(..)
                            | Happening::KeepAliveAnswered(..)
                            | Happening::ClaimArrives(..)
                            | Happening::ClaimAnswered(..)
                            | Happening::Push(..)
                    )
            })
            .collect();
    }

    fn client_writes(&mut self) {
        let now = self.now;
        for database in self
            .databases
            .values_mut()
            .filter(|database| database.writable())
        {
            database.tick(now);
            if !database.read_only {
                database.writes += 1;
            }
        }
        self.later(WRITE_EVERY, Happening::ClientWrites);
    }

    fn replicates(&mut self) {
        if self.link_up {
            let sources: Vec<_> = self
                .databases
                .values()
                .filter(|database| database.answers())
                .map(|it| (it.idc.clone(), it.writes, it.beat, it.epoch))
                .collect();
            for target in self
                .databases
                .values_mut()
                .filter(|database| database.answers())
            {
                for (source, writes, beat, epoch) in &sources {
                    let way = (source.clone(), target.idc.clone());
                    if *source == target.idc || self.cuts.contains(&way) {
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
        let pause = self.rng.range(5, 60);
        self.later(pause, Happening::Replicates);
    }
}

fn addressee(what: &Happening) -> Option<usize> {
    match what {
        Happening::Wake(process)
        | Happening::KeepAliveDue(process)
        | Happening::ClaimDue(process, _)
        | Happening::ObserveDue(process)
        | Happening::ClaimAnswered(process, ..)
        | Happening::KeepAliveAnswered(process, ..)
        | Happening::Answer(process, _)
        | Happening::Push(process, _)
        | Happening::Observed(process, ..)
        | Happening::SignalsDue(process)
        | Happening::Told(process, _)
        | Happening::Restored(process) => Some(*process),
        _ => None,
    }
}
