//! The processes and etcd: sessions, keep-alives, transactions, news, and promises between IDCs.

use arbitration::{
    Command, DatabaseResult, Event, HeldSession, LOOK_EVERY, Moment, Now, Outcome, PromiseAsk,
    Purpose, Transaction,
};
use model::{EtcdMark, IdcName, Revision};

use crate::etcd::Renewal;
use crate::world::{Happening, LEASE, Process, World};

const ETCD_TIMEOUT: u64 = 2_000;
/// More than there are processes in a run.
const CALLERS: u64 = 10_000;
const KEEP_ALIVE_EVERY: u64 = 1_000;
const CLAIM_EVERY: u64 = 500;

impl World {
    pub fn local(&self, process: usize) -> Now {
        Now {
            at: Moment(self.processes[process].clock.read(self.now)),
            wall: self.wall(),
        }
    }

    pub fn local_of(&self, process: &Process) -> Now {
        Now {
            at: Moment(process.clock.read(self.now)),
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
        let observed = matches!(event, Event::Observed { .. });
        if let Event::State(state) = &event {
            self.sight_order(process, state);
        }
        let commands = self.processes[process].core.step(now, event);
        self.check_doubt(process, observed);
        if verbose && !commands.is_empty() {
            self.note(|| format!("process {process} on {words}: {commands:?}"));
        }
        let mut lost = false;
        for command in commands {
            match command {
                Command::Commit(transaction) => self.send_commit(process, transaction),
                Command::Database { id, command } => self.send_statement(process, id, command),
                Command::ClaimAgain { above } => {
                    self.processes[process].claim_above = above;
                    self.processes[process].session = None;
                    lost = true;
                }
                Command::AskPromise { of, ask } => self.ask_promise(process, of, ask),
                Command::AnswerPromise {
                    to,
                    number,
                    promised,
                } => self.answer_promise(process, &to, number, promised),
            }
        }
        // After what was asked for with it: what the next step asks for comes later.
        if lost {
            self.later(1, Happening::ClaimDue(process, false));
            self.step(process, Event::SessionLost);
        }
    }

    pub fn keep_alive_due(&mut self, process: usize) {
        self.later(KEEP_ALIVE_EVERY, Happening::KeepAliveDue(process));
        let cut = self.processes[process].reaches_no_etcd();
        let sent_at = self.local(process).at.0;
        let Some(session) = self.processes[process].session else {
            return;
        };
        if let Some(delay) = self.delay(cut) {
            self.later(
                delay,
                Happening::KeepAliveArrives(process, session, sent_at),
            );
        }
    }

    /// Sends a claim where there is no session: at once after a loss, and then again and again.
    pub fn claim_due(&mut self, process: usize, again: bool) {
        if again {
            self.later(CLAIM_EVERY, Happening::ClaimDue(process, true));
        }
        let cut = self.processes[process].reaches_no_etcd();
        let sent_at = self.local(process).at.0;
        if self.processes[process].session.is_some() {
            return;
        }
        if let Some(delay) = self.delay(cut) {
            let idc = &self.processes[process].idc;
            let seen = self
                .etcd
                .state
                .sessions
                .get(idc)
                .map(|session| session.revision);
            self.processes[process].claims += 1;
            let claim = self.processes[process].claims;
            let sent = (claim, sent_at);
            self.later(delay, Happening::ClaimArrives(process, seen, sent));
        }
    }

    pub fn claim_arrives(
        &mut self,
        process: usize,
        seen: Option<Revision>,
        (claim, sent_at): (u64, u64),
    ) {
        if self.etcd.leaderless {
            return;
        }
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
        let above = self.processes[process].claim_above;
        let session = self.etcd.claim(self.now, &idc, LEASE, above);
        self.note(|| format!("process {process} claims the session of {idc}: {session:?}"));
        self.push_all();
        let mark = self.etcd.mark();
        if let Some(delay) = self.delay(self.processes[process].deaf_to_etcd) {
            self.later(
                delay,
                Happening::ClaimAnswered(process, session, claim, sent_at, mark),
            );
        }
    }

    pub fn claim_answered(
        &mut self,
        process: usize,
        session: HeldSession,
        claim: u64,
        (sent_at, mark): (u64, EtcdMark),
    ) {
        if self.processes[process].session.is_none() && self.processes[process].claims == claim {
            self.processes[process].session = Some(session);
            self.processes[process].generation = session.generation;
            let sent_at = Moment(sent_at);
            self.step(process, Event::EtcdSeen { sent_at, mark });
            self.step(process, Event::SessionClaimed(session));
            let state = self.etcd.told();
            self.step(process, Event::State(Box::new(state)));
        }
    }

    pub fn keep_alive_arrives(&mut self, process: usize, session: HeldSession, sent_at: u64) {
        if self.etcd.leaderless {
            return;
        }
        let idc = self.processes[process].idc.clone();
        let answer = match self.etcd.keep_alive(self.now, &idc, session) {
            Renewal::Granted(granted) => Ok(granted),
            Renewal::Expired => Err(false),
            Renewal::Superseded => Err(true),
            Renewal::Forgotten => {
                self.processes[process].claim_above = session.generation;
                Err(false)
            }
        };
        if answer.is_ok() {
            self.push_all();
        }
        let mark = self.etcd.mark();
        if let Some(delay) = self.delay(self.processes[process].deaf_to_etcd) {
            let slow = self.processes[process].slow_replies;
            let delay = if slow {
                delay + self.rng.range(2_500, 3_500)
            } else {
                delay
            };
            self.later(
                delay,
                Happening::KeepAliveAnswered(process, session, sent_at, answer, mark),
            );
        }
    }

    pub fn keep_alive_answered(
        &mut self,
        process: usize,
        sent_at: u64,
        answer: Result<u64, bool>,
        mark: EtcdMark,
    ) {
        let sent_at = Moment(sent_at);
        self.step(process, Event::EtcdSeen { sent_at, mark });
        match answer {
            Ok(granted_millis) => {
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
                self.later(1, Happening::ClaimDue(process, false));
                self.step(process, Event::SessionLost);
            }
            // Superseded: it ends, and leaves everything to its successor.
            Err(true) => {
                self.note(|| format!("process {process} was superseded and ends"));
                self.processes[process].alive = false;
                // It is started again where nobody else is there, as a pod is.
                let place = self.processes[process].idc.clone();
                self.later(2_000, Happening::Replace(place));
            }
        }
    }

    fn send_commit(&mut self, process: usize, transaction: Transaction) {
        self.check_sent(process, &transaction);
        let cut = self.processes[process].reaches_no_etcd();
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

    pub fn commit_arrives(&mut self, process: usize, transaction: &Transaction) {
        if self.etcd.leaderless {
            return;
        }
        let before = self.etcd.state.clone();
        let idc = self.processes[process].idc.clone();
        let awaits = self.etcd.awaits(&idc);
        let made = self.etcd.commit(&idc, transaction);
        if let Some(text) = self.etcd.overwritten.take() {
            self.violate(text);
        }
        self.note(|| format!("etcd: {:?} of {idc}: {made:?}", transaction.purpose));
        if made.is_some() {
            self.count(transaction.purpose);
            self.check_commit(&idc, &before, transaction);
            self.check_wait(&idc, awaits, transaction.purpose);
            self.push_all();
        }
        let outcome = made.map_or(Outcome::Lost, Outcome::Done);
        if let Some(delay) = self.delay(self.processes[process].deaf_to_etcd) {
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
            Purpose::TakeElected => counts.elections += 1,
            Purpose::AskFailback => counts.failbacks += 1,
            _ => {}
        }
    }

    pub fn push_all(&mut self) {
        for process in 0..self.processes.len() {
            if !self.processes[process].alive || self.processes[process].session.is_none() {
                continue;
            }
            if self.etcd.leaderless
                || self.processes[process].reaches_no_etcd()
                || self.processes[process].deaf_to_etcd
            {
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
            if std::mem::take(&mut self.processes[process].lists) {
                let sent_at = Moment(self.now);
                let mark = self.etcd.mark();
                let seen = Box::new(Event::EtcdSeen { sent_at, mark });
                self.later(at - self.now, Happening::Answer(process, seen));
            }
            let state = Box::new(self.etcd.told());
            self.later(at - self.now, Happening::Push(process, state));
        }
    }

    pub fn answered(&mut self, process: usize, event: Event) {
        if let Event::Database { id, .. } = &event {
            let stale = self.processes[process].running != Some(*id);
            // What never left is told of a command that has given way too.
            if stale
                && !matches!(
                    event,
                    Event::Database {
                        result: DatabaseResult::NotSent { .. },
                        ..
                    }
                )
            {
                return;
            }
            if !stale {
                self.processes[process].running = None;
            }
        }
        self.step(process, event);
    }

    fn is_cut(&self, from: &IdcName, to: &IdcName) -> bool {
        self.cuts.contains(&(from.clone(), to.clone()))
    }

    fn ask_promise(&mut self, process: usize, of: IdcName, ask: PromiseAsk) {
        let by = self.processes[process].idc.clone();
        if let Some(delay) = self.delay(self.is_cut(&by, &of)) {
            self.later(delay, Happening::PromiseArrives(process, of, ask));
        }
    }

    /// The holder asks whom it knows, and that may be a process that does not know that it was
    /// superseded; or any process of the IDC that lives, as behind an address that both share.
    pub fn promise_arrives(&mut self, by: usize, of: &IdcName, ask: PromiseAsk) {
        let live = |process: &usize| {
            let process = &self.processes[*process];
            process.alive && process.idc == *of
        };
        let mut hear: Vec<usize> = (0..self.processes.len()).filter(live).collect();
        let known = self.processes[by].known.get(of).copied();
        let is_known = |process: &usize| {
            let session = self.processes[*process].session;
            session.map(|session| session.generation) == known
        };
        if hear.iter().any(is_known) && self.rng.percent(85) {
            hear.retain(is_known);
        }
        let Some(last) = u64::try_from(hear.len()).unwrap().checked_sub(1) else {
            return;
        };
        let process = hear[usize::try_from(self.rng.range(0, last + 1)).unwrap()];
        // The answer goes to the call that asked.
        let number = ask.number * CALLERS + u64::try_from(by).unwrap();
        let ask = PromiseAsk { number, ..ask };
        let by = self.processes[by].idc.clone();
        let event = Box::new(Event::PromiseAsked { by, ask });
        self.later(0, Happening::Told(process, event));
    }

    fn answer_promise(&mut self, process: usize, to: &IdcName, number: u64, promised: bool) {
        let by = self.processes[process].idc.clone();
        self.counts.promises += u64::from(promised);
        let asked_by = usize::try_from(number % CALLERS).unwrap();
        let number = number / CALLERS;
        if let Some(delay) = self.delay(self.is_cut(&by, to)) {
            let event = Event::PromiseAnswered {
                by,
                number,
                promised,
            };
            self.later(delay, Happening::Told(asked_by, Box::new(event)));
        }
    }

    /// The standby of an IDC looks at its session. It is a process of its own, which only an IDC that
    /// is cut off keeps from etcd.
    pub fn standby_due(&mut self, place: &IdcName) {
        self.later(LOOK_EVERY, Happening::StandbyDue(place.clone()));
        let active = self.process_of(place);
        let cut = active.is_some_and(|process| self.processes[process].cut_from_etcd);
        if self.etcd.leaderless || cut {
            return;
        }
        let found = self.etcd.standing(self.now, place);
        let Some(standby) = self.standbys.get_mut(place) else {
            return;
        };
        if standby.may_claim(found) {
            self.counts.standbys += 1;
            self.start_process(place);
        }
    }
}
