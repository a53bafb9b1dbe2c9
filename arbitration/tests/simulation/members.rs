//! The processes and the databases: statements, looks, signals.

use std::collections::BTreeMap;

use arbitration::{DatabaseCommand, DatabaseResult, Event, Moment, Sign};
use model::{Epoch, Generation, IdcName, Signal};

use crate::chaos::Fault;
use crate::database::{Sent, ServerRule, Statement};
use crate::world::{Happening, World};

const DATABASE_TIMEOUT: u64 = 1_000;
const OBSERVE_EVERY: u64 = 500;
const SIGNALS_EVERY: u64 = 500;

impl World {
    pub fn send_statement(&mut self, process: usize, id: u64, command: DatabaseCommand) {
        self.check_open_sent(process, &command);
        self.freeze_before_open(process, &command);
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
            read_at: self.reading(process),
            statement: Statement::Run(command),
        };
        // A process that is gone refuses at once, and what is lost on its way to a server never
        // arrives, which an arbiter knows of where it could not even connect.
        let alive = self.databases[&self.processes[process].idc].alive;
        let delay = self.delay(self.processes[process].cut_from_database);
        let reason = "no answer in time".to_owned();
        let result = match delay.filter(|_| alive) {
            Some(delay) => {
                self.later(delay, Happening::Arrives(Box::new(sent)));
                DatabaseResult::Failed { reason }
            }
            None => DatabaseResult::NotSent { reason },
        };
        let event = Event::Database { id, result };
        self.later(
            DATABASE_TIMEOUT,
            Happening::Answer(process, Box::new(event)),
        );
    }

    /// Where `open` does not look at its deadline, statements often wait in the socket of a server that
    /// freezes just then: in other worlds that is too rare to be met.
    fn freeze_before_open(&mut self, process: usize, command: &DatabaseCommand) {
        let opens = matches!(command, DatabaseCommand::Open { .. });
        let asked = self.plan.without == Some(ServerRule::OpensInside);
        if opens && asked && self.rng.percent(40) {
            let place = self.processes[process].idc.clone();
            self.begin_fault(Fault::FreezeDatabase(place));
        }
    }

    fn generation(&self, process: usize) -> Generation {
        self.processes[process].generation
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

    fn reading(&self, process: usize) -> u64 {
        self.processes[process]
            .mapping
            .map_or(0, |(server, _)| server)
    }

    pub fn observe_due(&mut self, process: usize) {
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
                statement: {
                    let core = &self.processes[process].core;
                    Statement::Observe(core.heartbeat().0, core.etcd_mark())
                },
                deadline: 0,
                read_at: self.processes[process].clock.read(self.now),
            };
            self.later(there, Happening::Arrives(Box::new(sent)));
            self.later(DATABASE_TIMEOUT, Happening::Restored(process));
        } else {
            let event = vec![Event::Unreachable];
            self.later(
                DATABASE_TIMEOUT,
                Happening::Observed(process, order, None, event),
            );
        }
    }

    pub fn observed(&mut self, process: usize, order: u64, clock: Option<u64>, events: Vec<Event>) {
        self.processes[process].observing = false;
        // A look from before the newest command is dropped: the worker does one after the other.
        if order < self.processes[process].order_floor {
            return;
        }
        if let Some(server) = clock {
            let local = self.processes[process].clock.read(self.now);
            self.processes[process].mapping = Some((server, local));
        }
        let told_at = self.now;
        for event in events {
            if let Event::Signalled {
                of,
                sign: Sign::Replicated { epoch },
            } = &event
            {
                let place = &self.processes[process].idc;
                let written = self.databases[place]
                    .heartbeats
                    .get(of)
                    .map_or(0, |it| it.0);
                self.processes[process]
                    .told
                    .insert(of.clone(), (told_at, written, *epoch));
            }
            self.step(process, event);
        }
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
        if let Statement::Observe(epoch, mark) = sent.statement {
            database.tick(now);
            let clock = Some(database.clock.read(now));
            let heartbeats = database.heartbeats.clone();
            let seen = database.observe(now, sent.generation, followed.as_ref(), (epoch, mark));
            let asked_at = Moment(sent.read_at);
            let mut events = vec![Event::Observed { asked_at, seen }];
            events.extend(self.arrived(sent.process, &heartbeats));
            self.later(
                sent.number,
                Happening::Observed(sent.process, sent.order, clock, events),
            );
            return;
        }
        if matches!(
            sent.statement,
            Statement::Run(DatabaseCommand::Fence { .. })
        ) && database.slow_fence > 0
        {
            // It waits for somebody's lock; others go on committing meanwhile.
            let wait = std::mem::take(&mut database.slow_fence);
            self.later(wait, Happening::Arrives(Box::new(sent)));
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
        if let (true, Statement::Run(DatabaseCommand::Open { epoch, .. })) =
            (opened, &sent.statement)
        {
            self.check_opened(&idc, *epoch);
        }
        if let Some(delay) = self.delay(self.processes[sent.process].cut_from_database) {
            let event = Event::Database {
                id: sent.number,
                result,
            };
            self.later(delay, Happening::Answer(sent.process, Box::new(event)));
        }
    }

    pub fn thaw_process(&mut self, process: usize) {
        self.processes[process].frozen = false;
        self.processes[process].doubt.thawed_at = Some(self.now);
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

    /// The heartbeats that are newer than those this process was told of.
    fn arrived(&self, process: usize, heartbeats: &BTreeMap<IdcName, (u64, Epoch)>) -> Vec<Event> {
        let told = &self.processes[process].told;
        let mut events = Vec::new();
        for (of, (written, epoch)) in heartbeats {
            if told.get(of).is_none_or(|(_, known, _)| written > known) {
                events.push(Event::Signalled {
                    of: of.clone(),
                    sign: Sign::Replicated { epoch: *epoch },
                });
            }
        }
        events
    }

    /// The SQL heartbeats: of this IDC's member by a write, of the others by a read.
    pub fn signals_due(&mut self, process: usize) {
        self.later(SIGNALS_EVERY, Happening::SignalsDue(process));
        let place = self.processes[process].idc.clone();
        for of in self.plan.members.clone() {
            let own = of == place;
            let database = &self.databases[&of];
            let cut = if own {
                self.processes[process].cut_from_database
            } else {
                self.cuts.contains(&(place.clone(), of.clone()))
                    || self.cuts.contains(&(of.clone(), place.clone()))
            };
            let well = database.answers() && (!own || (!database.read_only && !database.full));
            let answer = if cut || !well {
                None
            } else {
                self.delay(false)
            };
            let (delay, sign) = match answer {
                Some(delay) if delay < DATABASE_TIMEOUT => (delay, Sign::Answered(Signal::Sql)),
                _ => (
                    DATABASE_TIMEOUT,
                    Sign::Failed(Signal::Sql, "no answer in time".to_owned()),
                ),
            };
            let event = Box::new(Event::Signalled { of, sign });
            self.later(delay, Happening::Told(process, event));
        }
    }
}
