//! The world: processes, databases, etcd, a network that loses and delays, and one queue of what
//! happens next. Everything follows from the seed.

use std::collections::{BTreeMap, BinaryHeap};

use arbitration::{
    Command, Core, DatabaseCommand, DatabaseResult, Event, HeldSession, Moment, Now, Outcome,
    Purpose, Rules, Settings, Transaction,
};
use jiff::Timestamp;
use model::{Generation, IdcName, Revision, UnitState};

use crate::chaos::Fault;
use crate::database::{Clock, Database, Sent, Statement};
use crate::etcd::{Etcd, Renewal};
use crate::rng::Rng;

pub const LEASE: u64 = 6_000;
const ETCD_TIMEOUT: u64 = 2_000;
const DATABASE_TIMEOUT: u64 = 1_000;
const KEEP_ALIVE_EVERY: u64 = 1_000;
const OBSERVE_EVERY: u64 = 500;

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
    backlog: Vec<Happening>,
    session: Option<HeldSession>,
    /// Claims that were sent: only the newest one's answer counts.
    claims: u64,
    /// The server's clock as an observation showed it, and this clock when its answer came.
    mapping: Option<(u64, u64)>,
    running: Option<u64>,
    observing: bool,
    order_floor: u64,
    last_push: u64,
    pub cut_from_etcd: bool,
    pub slow_replies: bool,
    pub cut_from_database: bool,
}

#[derive(Debug, Clone)]
pub enum Happening {
    Wake(usize),
    KeepAliveDue(usize),
    ObserveDue(usize),
    /// With the revision of the session's key as the claimant read it before.
    ClaimArrives(usize, Option<Revision>, u64),
    ClaimAnswered(usize, HeldSession, u64),
    KeepAliveArrives(usize, HeldSession, u64),
    KeepAliveAnswered(usize, HeldSession, u64, Result<u64, bool>),
    CommitArrives(usize, Box<Transaction>),
    Answer(usize, Box<Event>),
    Push(usize, Box<UnitState>),
    Arrives(Box<Sent>),
    Observed(usize, u64, Option<(u64, u64)>, Box<Event>),
    Restored(usize),
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
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub etcd: Etcd,
    pub databases: BTreeMap<IdcName, Database>,
    pub processes: Vec<Process>,
    pub link_up: bool,
    /// While faults are drawn, messages are lost and late too.
    pub rough: bool,
    /// So many more messages in a hundred are very late.
    late: u64,
    pub counts: Counts,
    pub violation: Option<String>,
    pub log: Vec<String>,
    pub verbose: bool,
    rules: Rules,
    queue: BinaryHeap<Entry>,
    sequence: u64,
    orders: u64,
}

/// Shorter than in production where a race is to be seen more often.
fn settings() -> Settings {
    Settings {
        catch_up_timeout: 1_500,
        fence_timeout: 3_000,
        ..Settings::default()
    }
}

pub fn idc(name: &str) -> IdcName {
    IdcName::new(name).unwrap()
}

impl World {
    pub fn new(seed: u64, rules: Rules, verbose: bool) -> Self {
        let mut world = Self {
            now: 0,
            rng: Rng::new(seed),
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
        for (name, read_only) in [("sh", false), ("bj", !both)] {
            let clock = world.draw_clock();
            let database = Database::new(idc(name), clock, read_only);
            world.databases.insert(idc(name), database);
        }
        if let Some(database) = world.databases.get_mut(&idc("sh")) {
            database.writes = 1;
        }
        for name in ["sh", "bj", "hz"] {
            world.start_process(&idc(name));
        }
        for tick in [
            Happening::GuardTick,
            Happening::LeaseTick,
            Happening::ClientWrites,
            Happening::Replicates,
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
            session: None,
            claims: 0,
            mapping: None,
            running: None,
            observing: false,
            order_floor: 0,
            last_push: 0,
            cut_from_etcd: false,
            slow_replies: false,
            cut_from_database: false,
        });
        let process = self.processes.len() - 1;
        self.note(|| format!("process {process} starts in {idc}"));
        self.later(1, Happening::Wake(process));
        self.later(2, Happening::KeepAliveDue(process));
        self.later(3, Happening::ObserveDue(process));
        process
    }

    fn wall(&self) -> Timestamp {
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

    fn check(&mut self) {
        let writable: Vec<_> = self
            .databases
            .values()
            .filter(|database| database.writable())
            .collect();
        // Before the first election the servers are their owners'.
        if writable.len() > 1 && self.etcd.state.epoch.is_some() {
            let text = format!("{} members are writable at once", writable.len());
            self.violate(text);
        }
    }

    pub fn violate(&mut self, text: String) {
        self.note(|| format!("VIOLATION {text}"));
        self.violation.get_or_insert(text);
    }

    /// A delay on the way; `None` where the message is lost.
    fn delay(&mut self, cut: bool) -> Option<u64> {
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
            Happening::ObserveDue(process) => self.observe_due(process),
            Happening::ClaimArrives(process, seen, claim) => {
                self.claim_arrives(process, seen, claim);
            }
            Happening::ClaimAnswered(process, session, claim) => {
                self.claim_answered(process, session, claim);
            }
            Happening::KeepAliveArrives(process, session, sent_at) => {
                self.keep_alive_arrives(process, session, sent_at);
            }
            Happening::KeepAliveAnswered(process, session, sent_at, answer) => {
                // An answer about an earlier session is none about this one.
                if self.processes[process].session == Some(session) {
                    self.keep_alive_answered(process, sent_at, answer);
                }
            }
            Happening::CommitArrives(process, transaction) => {
                self.commit_arrives(process, &transaction);
            }
            Happening::Answer(process, event) => self.answered(process, *event),
            Happening::Push(process, state) => self.step(process, Event::State(state)),
            Happening::Arrives(sent) => self.statement_arrives(*sent),
            Happening::Observed(process, order, clock, event) => {
                self.observed(process, order, clock, *event);
            }
            Happening::Restored(process) => self.processes[process].observing = false,
            Happening::GuardTick => {
                let now = self.now;
                self.databases
                    .values_mut()
                    .for_each(|database| database.tick(now));
                self.later(20, Happening::GuardTick);
            }
            Happening::LeaseTick => self.later(100, Happening::LeaseTick),
            Happening::ClientWrites => self.client_writes(),
            Happening::Replicates => self.replicates(),
            Happening::Fault(fault) => self.begin_fault(fault),
            Happening::Heal(fault) => self.end_fault(fault),
            Happening::Replace(idc) => {
                self.start_process(&idc);
            }
        }
    }

    fn client_writes(&mut self) {
        let now = self.now;
        for database in self
            .databases
            .values_mut()
            .filter(|database| database.writable())
        {
            database.tick(now);
            database.writes += u64::from(!database.read_only);
        }
        self.later(7, Happening::ClientWrites);
    }

    fn replicates(&mut self) {
        if self.link_up {
            let sources: Vec<_> = self
                .databases
                .values()
                .filter(|database| database.answers())
                .map(|database| (database.idc.clone(), database.writes))
                .collect();
            let now = self.now;
            for target in self
                .databases
                .values_mut()
                .filter(|database| database.answers())
            {
                for (source, writes) in sources.iter().filter(|(source, _)| *source != target.idc) {
                    target.applied.insert(source.clone(), *writes);
                    target.heartbeats.insert(source.clone(), now);
                }
            }
        }
        let pause = self.rng.range(5, 60);
        self.later(pause, Happening::Replicates);
    }

    // The processes and etcd.

    fn local(&self, process: usize) -> Now {
        Now {
            at: Moment(self.processes[process].clock.read(self.now)),
            wall: self.wall(),
        }
    }

    pub fn step(&mut self, process: usize, event: Event) {
        let now = self.local(process);
        let verbose = self.verbose;
        let words = match &event {
            Event::State(state) if verbose => format!("state {}", state.revision),
            event if verbose => format!("{event:?}"),
            _ => String::new(),
        };
        let commands = self.processes[process].core.step(now, event);
        if verbose && !commands.is_empty() {
            self.note(|| format!("process {process} on {words}: {commands:?}"));
        }
        for command in commands {
            match command {
                Command::Commit(transaction) => self.send_commit(process, transaction),
                Command::Database { id, command } => self.send_statement(process, id, command),
            }
        }
    }

    fn keep_alive_due(&mut self, process: usize) {
        self.later(KEEP_ALIVE_EVERY, Happening::KeepAliveDue(process));
        let cut = self.processes[process].cut_from_etcd;
        let sent_at = self.local(process).at.0;
        if let Some(session) = self.processes[process].session {
            if let Some(delay) = self.delay(cut) {
                self.later(
                    delay,
                    Happening::KeepAliveArrives(process, session, sent_at),
                );
            }
        } else if let Some(delay) = self.delay(cut) {
            let idc = &self.processes[process].idc;
            let seen = self
                .etcd
                .state
                .sessions
                .get(idc)
                .map(|session| session.revision);
            self.processes[process].claims += 1;
            let claim = self.processes[process].claims;
            self.later(delay, Happening::ClaimArrives(process, seen, claim));
        }
    }

    fn claim_arrives(&mut self, process: usize, seen: Option<Revision>, claim: u64) {
        let idc = self.processes[process].idc.clone();
        let found = self
            .etcd
            .state
            .sessions
            .get(&idc)
            .map(|session| session.revision);
        if found != seen {
            return;
        }
        let session = self.etcd.claim(self.now, &idc, LEASE);
        self.note(|| format!("process {process} claims the session of {idc}: {session:?}"));
        self.push_all();
        if let Some(delay) = self.delay(self.processes[process].cut_from_etcd) {
            self.later(delay, Happening::ClaimAnswered(process, session, claim));
        }
    }

    fn claim_answered(&mut self, process: usize, session: HeldSession, claim: u64) {
        if self.processes[process].session.is_none() && self.processes[process].claims == claim {
            self.processes[process].session = Some(session);
            self.step(process, Event::SessionClaimed(session));
            let state = self.etcd.state.clone();
            self.step(process, Event::State(Box::new(state)));
        }
    }

    fn keep_alive_arrives(&mut self, process: usize, session: HeldSession, sent_at: u64) {
        let idc = self.processes[process].idc.clone();
        let answer = match self.etcd.keep_alive(self.now, &idc, session) {
            Renewal::Granted(granted) => Ok(granted),
            Renewal::Expired => Err(false),
            Renewal::Superseded => Err(true),
        };
        if let Some(delay) = self.delay(self.processes[process].cut_from_etcd) {
            let slow = self.processes[process].slow_replies;
            let delay = if slow {
                delay + self.rng.range(2_500, 3_500)
            } else {
                delay
            };
            self.later(
                delay,
                Happening::KeepAliveAnswered(process, session, sent_at, answer),
            );
        }
    }

    fn keep_alive_answered(&mut self, process: usize, sent_at: u64, answer: Result<u64, bool>) {
        match answer {
            Ok(granted_millis) => {
                let sent_at = Moment(sent_at);
                self.step(
                    process,
                    Event::KeepAlive {
                        sent_at,
                        granted_millis,
                    },
                );
            }
            Err(false) => {
                self.processes[process].session = None;
                self.step(process, Event::SessionLost);
            }
            // Superseded: it ends, and leaves everything to its successor.
            Err(true) => {
                self.note(|| format!("process {process} was superseded and ends"));
                self.processes[process].alive = false;
            }
        }
    }

    fn send_commit(&mut self, process: usize, transaction: Transaction) {
        let cut = self.processes[process].cut_from_etcd;
        let id = transaction.id;
        if let Some(delay) = self.delay(cut) {
            self.later(
                delay,
                Happening::CommitArrives(process, Box::new(transaction)),
            );
        }
        let unknown = Event::Committed {
            id,
            outcome: Outcome::Unknown,
        };
        self.later(ETCD_TIMEOUT, Happening::Answer(process, Box::new(unknown)));
    }

    fn commit_arrives(&mut self, process: usize, transaction: &Transaction) {
        let idc = self.processes[process].idc.clone();
        let made = self.etcd.commit(&idc, transaction);
        self.note(|| format!("etcd: {:?} of {idc}: {made:?}", transaction.purpose));
        if made.is_some() {
            self.count(transaction.purpose);
            self.push_all();
        }
        let outcome = made.map_or(Outcome::Lost, Outcome::Done);
        if transaction.purpose == Purpose::HandOver && made.is_some() {
            self.check_nothing_lost(&idc);
        }
        if let Some(delay) = self.delay(self.processes[process].cut_from_etcd) {
            let event = Event::Committed {
                id: transaction.id,
                outcome,
            };
            self.later(delay, Happening::Answer(process, Box::new(event)));
        }
    }

    fn count(&mut self, purpose: Purpose) {
        let counts = &mut self.counts;
        match purpose {
            Purpose::TakeFirst => counts.first += 1,
            Purpose::Retake => counts.retakes += 1,
            Purpose::TakeForced => counts.failovers += 1,
            Purpose::HandOver => counts.switchovers += 1,
            Purpose::Cancel => counts.cancels += 1,
            Purpose::Refuse => counts.refusals += 1,
            Purpose::Release => counts.releases += 1,
            _ => {}
        }
    }

    /// A planned switchover loses nothing: what was acknowledged elsewhere is here.
    fn check_nothing_lost(&mut self, target: &IdcName) {
        let lost = self.databases.values().find_map(|source| {
            let here = self.databases[target]
                .applied
                .get(&source.idc)
                .copied()
                .unwrap_or(0);
            (source.idc != *target && source.writes > here).then(|| (source.idc.clone(), here))
        });
        if let Some((source, here)) = lost {
            let writes = self.databases[&source].writes;
            self.violate(format!(
                "{source} acknowledged {writes}, {target} takes over with {here}"
            ));
        }
    }

    pub fn push_all(&mut self) {
        for process in 0..self.processes.len() {
            if !self.processes[process].alive || self.processes[process].session.is_none() {
                continue;
            }
            if self.processes[process].cut_from_etcd {
                continue;
            }
            // A watch delivers late, but in order and without gaps.
            let delay = if self.rough && self.rng.percent(5) {
                self.rng.range(100, 3_000)
            } else {
                self.rng.range(1, 15)
            };
            let at = (self.now + delay).max(self.processes[process].last_push);
            self.processes[process].last_push = at;
            let state = Box::new(self.etcd.state.clone());
            self.later(at - self.now, Happening::Push(process, state));
        }
    }

    fn answered(&mut self, process: usize, event: Event) {
        if let Event::Database { id, .. } = &event {
            if self.processes[process].running != Some(*id) {
                return;
            }
            self.processes[process].running = None;
        }
        self.step(process, event);
    }

    // The processes and their databases.

    fn send_statement(&mut self, process: usize, id: u64, command: DatabaseCommand) {
        // A newer command takes the place of an older one, whose answer no longer counts.
        self.processes[process].running = Some(id);
        self.orders += 1;
        self.processes[process].order_floor = self.orders;
        let sent = Sent {
            process,
            number: id,
            generation: self.generation(process),
            order: self.orders,
            deadline: self.deadline(process, &command),
            statement: Statement::Run(command),
        };
        if let Some(delay) = self.delay(self.processes[process].cut_from_database) {
            self.later(delay, Happening::Arrives(Box::new(sent)));
        }
        let reason = "no answer in time".to_owned();
        let event = Event::Database {
            id,
            result: DatabaseResult::Failed { reason },
        };
        self.later(
            DATABASE_TIMEOUT,
            Happening::Answer(process, Box::new(event)),
        );
    }

    fn generation(&self, process: usize) -> Generation {
        self.processes[process]
            .session
            .map_or(Generation(0), |session| session.generation)
    }

    /// A moment of the process's clock in the clock of its server: reckoned from when the answer
    /// that showed the server's clock *came*, so that a late one can only shorten.
    fn deadline(&self, process: usize, command: &DatabaseCommand) -> u64 {
        let (DatabaseCommand::StartGuard { deadline } | DatabaseCommand::Open { deadline, .. }) =
            command
        else {
            return 0;
        };
        if !self.rules.guard && matches!(command, DatabaseCommand::Open { .. }) {
            return u64::MAX;
        }
        let Some((server, local)) = self.processes[process].mapping else {
            return 0;
        };
        server + deadline.0.saturating_sub(local)
    }

    fn observe_due(&mut self, process: usize) {
        self.later(OBSERVE_EVERY, Happening::ObserveDue(process));
        let idc = self.processes[process].idc.clone();
        let busy = self.processes[process].running.is_some() || self.processes[process].observing;
        if !self.databases.contains_key(&idc) || busy {
            return;
        }
        self.processes[process].observing = true;
        self.orders += 1;
        let order = self.orders;
        let cut = self.processes[process].cut_from_database;
        let (there, back) = (self.delay(cut), self.delay(cut));
        let database = &self.databases[&idc];
        let reached = database.answers() && !cut;
        if let (Some(there), Some(back), true) = (there, back, reached) {
            // The look is taken at the far end of the way there.
            let sent = Sent {
                process,
                number: back,
                generation: self.generation(process),
                order,
                statement: Statement::Observe,
                deadline: 0,
            };
            self.later(there, Happening::Arrives(Box::new(sent)));
            self.later(DATABASE_TIMEOUT, Happening::Restored(process));
        } else {
            let event = Box::new(Event::Unreachable);
            self.later(
                DATABASE_TIMEOUT,
                Happening::Observed(process, order, None, event),
            );
        }
    }

    fn observed(&mut self, process: usize, order: u64, clock: Option<(u64, u64)>, event: Event) {
        self.processes[process].observing = false;
        // A look from before the newest command is dropped: the worker does one after the other.
        if order < self.processes[process].order_floor {
            return;
        }
        if let Some((server, _)) = clock {
            let local = self.processes[process].clock.read(self.now);
            self.processes[process].mapping = Some((server, local));
        }
        self.step(process, event);
    }

    pub fn statement_arrives(&mut self, sent: Sent) {
        let idc = self.processes[sent.process].idc.clone();
        let (now, wall) = (self.now, self.wall());
        let followed = self.processes[sent.process].core.followed().cloned();
        let Some(database) = self.databases.get_mut(&idc) else {
            return;
        };
        if !database.alive {
            return;
        }
        if database.frozen {
            database.waiting.push(sent);
            return;
        }
        if matches!(sent.statement, Statement::Observe) {
            database.tick(now);
            let clock = Some((database.clock.read(now), 0));
            let event = Box::new(Event::Observed(database.observe(now, followed.as_ref())));
            self.later(
                sent.number,
                Happening::Observed(sent.process, sent.order, clock, event),
            );
            return;
        }
        let before = database.read_only;
        let Some(result) = database.execute(now, wall, &sent) else {
            return;
        };
        let opened = before && !database.read_only;
        self.note(|| {
            format!(
                "{idc}: {:?} of process {}: {result:?}",
                sent.statement, sent.process
            )
        });
        if opened {
            self.check_opened(&idc);
        }
        if let Some(delay) = self.delay(self.processes[sent.process].cut_from_database) {
            let event = Event::Database {
                id: sent.number,
                result,
            };
            self.later(delay, Happening::Answer(sent.process, Box::new(event)));
        }
    }

    /// Opened implies holds: etcd itself has this IDC as the primary of the current epoch.
    fn check_opened(&mut self, idc: &IdcName) {
        self.etcd.expire(self.now);
        let state = &self.etcd.state;
        let epoch = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        let holder = state.primary.as_ref().map(|primary| &primary.value);
        let holds = holder.is_some_and(|holder| holder.idc == *idc && Some(holder.epoch) == epoch);
        if !holds {
            self.violate(format!(
                "{idc} was opened, but etcd says {holder:?} in epoch {epoch:?}"
            ));
        }
    }

    pub fn thaw_process(&mut self, process: usize) {
        self.processes[process].frozen = false;
        for what in std::mem::take(&mut self.processes[process].backlog) {
            self.later(0, what);
        }
    }

    /// The newest process of an IDC that is alive.
    pub fn process_of(&self, idc: &IdcName) -> Option<usize> {
        (0..self.processes.len())
            .rev()
            .find(|process| self.processes[*process].alive && self.processes[*process].idc == *idc)
    }
}

fn addressee(what: &Happening) -> Option<usize> {
    match what {
        Happening::Wake(process)
        | Happening::KeepAliveDue(process)
        | Happening::ObserveDue(process)
        | Happening::ClaimAnswered(process, ..)
        | Happening::KeepAliveAnswered(process, ..)
        | Happening::Answer(process, _)
        | Happening::Push(process, _)
        | Happening::Observed(process, ..)
        | Happening::Restored(process) => Some(*process),
        _ => None,
    }
}
