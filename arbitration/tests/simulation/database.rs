//! A database server: its own clock, guards that fence at their deadline, statements that may
//! wait in a socket while the server is frozen.

use std::collections::BTreeMap;

use arbitration::{Applied, DatabaseCommand, DatabaseResult, Observation, PromiseSeen};
use jiff::Timestamp;
use model::{
    Epoch, EtcdMark, FenceProof, Generation, IdcName, PositionText, ServerBoot, ServerIdentity,
};

/// A guard that sees its clock jump further than this between two ticks fences.
const LONGEST_TICK: u64 = 1_000;
/// A deadline is reckoned from a reading of the server's clock that is no older than this.
const OLDEST_READING: u64 = 800;

/// A clock that runs a little too fast or too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clock {
    pub offset: u64,
    /// Parts per 10,000 faster (or slower) than true time.
    pub drift: i64,
}

impl Clock {
    pub fn read(self, now: u64) -> u64 {
        let skew = i64::try_from(now).unwrap() * self.drift / 10_000;
        self.offset
            .checked_add(now)
            .unwrap()
            .checked_add_signed(skew)
            .unwrap()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// A look, together with this arbiter's heartbeat: what of the epoch it knows, and of etcd.
    Observe(Epoch, Option<EtcdMark>),
    /// Deadlines inside are in this server's clock by now.
    Run(DatabaseCommand),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sent {
    pub process: usize,
    pub number: u64,
    pub generation: Generation,
    /// In the order of sending, over all processes: a fence ends the sessions of what came before.
    pub order: u64,
    pub statement: Statement,
    /// The deadline of a guard or an open, in the server's clock.
    pub deadline: u64,
    /// The server's clock as it was read to reckon the deadline by.
    pub read_at: u64,
}

/// What the server sees to itself. Taken out one at a time, to see that it is needed; see `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerRule {
    /// Rule 3: `open` looks at its deadline, the guard and the boot when it runs.
    OpensInside,
    /// Rule 4: it comes up `read_only`.
    BootsFenced,
    /// Rule 12: it obeys no generation below the highest that it has seen, and tells which that is.
    Generations,
    /// Rules 5 and 12: who fences it has it obey its generation first, so that no earlier process opens
    /// it afterwards.
    FencesAdopt,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that can be wrong with it"
)]
pub struct Database {
    pub idc: IdcName,
    pub clock: Clock,
    pub alive: bool,
    pub frozen: bool,
    pub read_only: bool,
    pub boot: i64,
    /// Deadlines of the guards that run, in this server's clock.
    pub guards: Vec<u64>,
    generation: Generation,
    /// The promise that was recorded last: to the holder of which epoch, how long it was, and until
    /// when it runs on this server's clock.
    promise: Option<(PromiseSeen, u64)>,
    /// `open` does not look at promises: not how it is built, see `main`.
    pub opens_despite_promise: bool,
    pub without: Option<ServerRule>,
    fenced_order: u64,
    pub epoch: Epoch,
    /// The epoch that it was promoted in last.
    promoted_in: Option<Epoch>,
    /// Writes accepted here, and how many of each other member's have been applied here.
    pub writes: u64,
    pub applied: BTreeMap<IdcName, u64>,
    /// True time at which this member's newest heartbeat was written, and the epoch in it.
    pub beat: Option<(u64, Epoch)>,
    /// The newest heartbeat of each other member that was applied here.
    pub heartbeats: BTreeMap<IdcName, (u64, Epoch)>,
    /// How far etcd was, as the arbiter wrote it with its heartbeat.
    pub remembers: Option<EtcdMark>,
    /// The disk is full: ordinary writes fail.
    pub full: bool,
    /// A backup holds its lock: an event would not tick.
    pub locked: bool,
    /// The guard is an event of the server, which is not how it is built; see `main`.
    pub guard_is_event: bool,
    /// A fence waits so long for somebody's statement, while others go on committing.
    pub slow_fence: u64,
    /// The clock at the last tick; a guard that sees it jump fences.
    last_tick: Option<u64>,
    pub waiting: Vec<Sent>,
}

impl Database {
    /// It dies, and will come back fenced.
    pub fn stop(&mut self) {
        self.alive = false;
        self.read_only = true;
        self.guards.clear();
        self.waiting.clear();
    }

    pub fn new(idc: IdcName, clock: Clock, read_only: bool) -> Self {
        Self {
            idc,
            clock,
            alive: true,
            frozen: false,
            read_only,
            boot: 1,
            guards: Vec::new(),
            generation: Generation(0),
            promise: None,
            opens_despite_promise: false,
            without: None,
            fenced_order: 0,
            epoch: Epoch::NONE,
            promoted_in: None,
            writes: 0,
            applied: BTreeMap::new(),
            beat: None,
            heartbeats: BTreeMap::new(),
            remembers: None,
            full: false,
            locked: false,
            guard_is_event: false,
            slow_fence: 0,
            last_tick: None,
            waiting: Vec::new(),
        }
    }

    pub fn writable(&self) -> bool {
        self.alive && !self.frozen && !self.read_only && !self.full
    }

    pub fn answers(&self) -> bool {
        self.alive && !self.frozen
    }

    /// Kill and start again: it comes up fenced, and its guards and sessions are gone.
    pub fn restart(&mut self) {
        self.boot += 1;
        self.read_only = self.without != Some(ServerRule::BootsFenced);
        self.guards.clear();
        self.waiting.clear();
        self.alive = true;
        self.frozen = false;
        self.last_tick = None;
        self.locked = false;
    }

    /// The guards' tick.
    pub fn tick(&mut self, now: u64) {
        if !self.answers() || (self.locked && self.guard_is_event) {
            return;
        }
        let clock = self.clock.read(now);
        let jumped = self
            .last_tick
            .is_some_and(|last| clock < last || clock > last + LONGEST_TICK);
        self.last_tick = Some(clock);
        let over = self.guards.iter().any(|deadline| *deadline <= clock);
        if over || (jumped && !self.guards.is_empty()) {
            self.read_only = true;
            self.guards.clear();
        }
    }

    /// `None`: the session was ended, and nobody gets an answer.
    pub fn execute(&mut self, now: u64, wall: Timestamp, sent: &Sent) -> Option<DatabaseResult> {
        if sent.order < self.fenced_order {
            return None;
        }
        self.tick(now);
        let Statement::Run(command) = &sent.statement else {
            return None;
        };
        Some(match command {
            DatabaseCommand::Fence { .. } => self.fence(wall, sent),
            // Its links bring something just then, now and then.
            DatabaseCommand::Promote {
                drain_until: Some(until),
                ..
            } if now < until.0 && now.is_multiple_of(4) => DatabaseResult::StillApplies,
            DatabaseCommand::Promote {
                epoch, from, over, ..
            } => {
                self.epoch = self.epoch.max(*epoch);
                self.promoted_in = Some(*epoch);
                self.promise.take_if(|(promise, _)| promise.epoch < *over);
                let applied = from.as_ref().and_then(|from| self.applied.get(from));
                let applied = applied.map(|applied| PositionText(applied.to_string()));
                DatabaseResult::Promoted { applied }
            }
            DatabaseCommand::StartGuard { .. } => {
                let clock = self.clock.read(now);
                if self.is_outranked(sent) || sent.deadline <= clock {
                    return Some(failed("the guard's deadline has passed, or it is not ours"));
                }
                if !self.is_fresh(now, sent) {
                    return Some(failed(
                        "the server's clock was read too long ago, or was set",
                    ));
                }
                self.generation = self.generation.max(sent.generation);
                self.guards = vec![sent.deadline];
                self.last_tick = Some(clock);
                DatabaseResult::GuardRuns
            }
            DatabaseCommand::Open { identity, boot, .. } => self.open(now, sent, identity, *boot),
            DatabaseCommand::CheckApplied { source, position } => {
                let wanted: u64 = position.0.parse().unwrap();
                DatabaseResult::Applied(self.applied.get(source).copied().unwrap_or(0) >= wanted)
            }
            DatabaseCommand::Promise {
                epoch, for_millis, ..
            } => {
                if sent.generation < self.generation || !self.read_only || self.full {
                    return Some(failed("the server records no promise"));
                }
                let seen = PromiseSeen {
                    epoch: *epoch,
                    for_millis: *for_millis,
                };
                self.promise = Some((seen, self.clock.read(now) + for_millis));
                DatabaseResult::Promised
            }
            DatabaseCommand::Leave => {
                if !self.is_outranked(sent) {
                    self.guards.clear();
                }
                DatabaseResult::Left
            }
        })
    }

    fn fence(&mut self, wall: Timestamp, sent: &Sent) -> DatabaseResult {
        if self.is_outranked(sent) {
            return failed("a later arbiter has acted here");
        }
        if self.without != Some(ServerRule::FencesAdopt) {
            self.generation = self.generation.max(sent.generation);
        }
        self.read_only = true;
        self.guards.clear();
        self.fenced_order = sent.order;
        DatabaseResult::Fenced(FenceProof::Fenced {
            identity: self.identity(),
            boot: ServerBoot(self.boot),
            position: PositionText(self.writes.to_string()),
            at: wall,
        })
    }

    fn open(
        &mut self,
        now: u64,
        sent: &Sent,
        identity: &ServerIdentity,
        boot: ServerBoot,
    ) -> DatabaseResult {
        let in_time = self.clock.read(now) < sent.deadline && self.is_fresh(now, sent);
        let current = !self.is_outranked(sent);
        let same = *identity == self.identity() && boot.0 == self.boot;
        // Without rule 2 there is no guard to look for, which `guard: false` stands for.
        let guarded = !self.guards.is_empty() || sent.deadline == u64::MAX;
        let promised = self
            .promise
            .is_some_and(|(_, until)| self.clock.read(now) < until);
        let free = self.opens_despite_promise || !promised;
        let inside = self.without == Some(ServerRule::OpensInside) || (in_time && same && guarded);
        if !(inside && current && free) {
            return failed("the server refuses to open");
        }
        self.read_only = false;
        DatabaseResult::Opened
    }

    /// Sent by a process of before the one that this server has obeyed last.
    fn is_outranked(&self, sent: &Sent) -> bool {
        sent.generation < self.generation && self.without != Some(ServerRule::Generations)
    }

    /// A deadline reckoned from a reading of this clock that is not old, and before which it was
    /// not set back: it is late by less than the guard's budget then.
    fn is_fresh(&self, now: u64, sent: &Sent) -> bool {
        let clock = self.clock.read(now);
        (sent.read_at..sent.read_at + OLDEST_READING).contains(&clock)
    }

    /// The highest epoch that it knows of, and whether it was promoted in that one.
    pub fn last_word(&self) -> (Epoch, bool) {
        (self.epoch, self.promoted_in == Some(self.epoch))
    }

    fn identity(&self) -> ServerIdentity {
        ServerIdentity(format!("server-{}", self.idc))
    }

    /// A look by an arbiter of this generation, and the heartbeat that is written with it.
    pub fn observe(
        &mut self,
        now: u64,
        generation: Generation,
        followed: Option<&IdcName>,
        (epoch, mark): (Epoch, Option<EtcdMark>),
    ) -> Observation {
        let remembered = self.remembers;
        // What cannot be written is not there afterwards.
        if !self.full {
            // A process that was superseded knows less.
            if generation >= self.generation {
                self.generation = generation;
                self.remembers = mark.or(self.remembers);
                self.beat = Some((now, epoch));
            }
        }
        let heartbeat = followed.and_then(|idc| self.heartbeats.get(idc));
        let applied = followed.and_then(|idc| self.applied.get(idc)).copied();
        Observation {
            identity: self.identity(),
            boot: ServerBoot(self.boot),
            read_only: self.read_only,
            // The simulated fence is done or not done; `half_fenced.txt` has the rest.
            offline: false,
            guard_running: !self.guards.is_empty(),
            lag_millis: heartbeat.map(|(written, _)| now - written),
            has_data: self.writes > 0,
            highest_epoch: self.epoch,
            held_highest: self.last_word().1,
            applied: applied.map(|sequence| Applied {
                sequence,
                position: PositionText(sequence.to_string()),
            }),
            own_sequence: Some(self.writes),
            boots_fenced: true,
            etcd: remembered,
            generation: match self.without {
                Some(ServerRule::Generations) => generation,
                _ => self.generation,
            },
            promise: self.promise.map(|(promise, _)| promise),
        }
    }
}

fn failed(reason: &str) -> DatabaseResult {
    DatabaseResult::Failed {
        reason: reason.to_owned(),
    }
}
