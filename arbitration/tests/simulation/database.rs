//! A database server: its own clock, guards that fence at their deadline, statements that may
//! wait in a socket while the server is frozen.

use std::collections::BTreeMap;

use arbitration::{DatabaseCommand, DatabaseResult, Observation};
use jiff::Timestamp;
use model::{Epoch, FenceProof, Generation, IdcName, PositionText, ServerBoot, ServerIdentity};

/// A clock that runs a little too fast or too slow.
#[derive(Debug, Clone, Copy)]
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

#[derive(Debug, Clone)]
pub enum Statement {
    Observe,
    /// Deadlines inside are in this server's clock by now.
    Run(DatabaseCommand),
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub process: usize,
    pub number: u64,
    pub generation: Generation,
    /// In the order of sending, over all processes: a fence ends the sessions of what came before.
    pub order: u64,
    pub statement: Statement,
    /// The deadline of a guard or an open, in the server's clock.
    pub deadline: u64,
}

#[derive(Debug)]
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
    fenced_order: u64,
    pub epoch: Epoch,
    /// Writes accepted here, and how many of each other member's have been applied here.
    pub writes: u64,
    pub applied: BTreeMap<IdcName, u64>,
    /// True time at which the newest applied heartbeat of another member was written.
    pub heartbeats: BTreeMap<IdcName, u64>,
    pub waiting: Vec<Sent>,
}

impl Database {
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
            fenced_order: 0,
            epoch: Epoch::NONE,
            writes: 0,
            applied: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    pub fn writable(&self) -> bool {
        self.alive && !self.frozen && !self.read_only
    }

    pub fn answers(&self) -> bool {
        self.alive && !self.frozen
    }

    /// Kill and start again: it comes up fenced, and its guards and sessions are gone.
    pub fn restart(&mut self) {
        self.boot += 1;
        self.read_only = true;
        self.guards.clear();
        self.waiting.clear();
        self.alive = true;
        self.frozen = false;
    }

    /// The guards' tick.
    pub fn tick(&mut self, now: u64) {
        let clock = self.clock.read(now);
        if self.answers() && self.guards.iter().any(|deadline| *deadline <= clock) {
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
        self.generation = self.generation.max(sent.generation);
        let Statement::Run(command) = &sent.statement else {
            return None;
        };
        Some(match command {
            DatabaseCommand::Fence { .. } => {
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
            DatabaseCommand::Promote { epoch, from } => {
                self.epoch = self.epoch.max(*epoch);
                let applied = from.as_ref().and_then(|from| self.applied.get(from));
                let applied = applied.map(|applied| PositionText(applied.to_string()));
                DatabaseResult::Promoted { applied }
            }
            DatabaseCommand::StartGuard { .. } => {
                if sent.generation < self.generation || sent.deadline <= self.clock.read(now) {
                    return Some(failed("the guard's deadline has passed, or it is not ours"));
                }
                self.guards = vec![sent.deadline];
                DatabaseResult::GuardRuns
            }
            DatabaseCommand::Open { identity, boot, .. } => self.open(now, sent, identity, *boot),
            DatabaseCommand::CheckApplied { source, position } => {
                let wanted: u64 = position.0.parse().unwrap();
                DatabaseResult::Applied(self.applied.get(source).copied().unwrap_or(0) >= wanted)
            }
            DatabaseCommand::Leave => {
                self.guards.clear();
                DatabaseResult::Left
            }
        })
    }

    fn open(
        &mut self,
        now: u64,
        sent: &Sent,
        identity: &ServerIdentity,
        boot: ServerBoot,
    ) -> DatabaseResult {
        let in_time = self.clock.read(now) < sent.deadline;
        let current = sent.generation >= self.generation;
        let same = *identity == self.identity() && boot.0 == self.boot;
        // Without rule 2 there is no guard to look for, which `guard: false` stands for.
        let guarded = !self.guards.is_empty() || sent.deadline == u64::MAX;
        if !(in_time && current && same && guarded) {
            return failed("the server refuses to open");
        }
        self.read_only = false;
        DatabaseResult::Opened
    }

    fn identity(&self) -> ServerIdentity {
        ServerIdentity(format!("server-{}", self.idc))
    }

    pub fn observe(&self, now: u64, followed: Option<&IdcName>) -> Observation {
        let heartbeat = followed.and_then(|idc| self.heartbeats.get(idc));
        Observation {
            identity: self.identity(),
            boot: ServerBoot(self.boot),
            read_only: self.read_only,
            guard_running: !self.guards.is_empty(),
            lag_millis: heartbeat.map(|written| now - written),
            has_data: self.writes > 0,
            highest_epoch: self.epoch,
        }
    }
}

fn failed(reason: &str) -> DatabaseResult {
    DatabaseResult::Failed {
        reason: reason.to_owned(),
    }
}
