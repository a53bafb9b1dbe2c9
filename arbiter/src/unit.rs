//! One Unit: its core is stepped here, its transactions are sent from here, its worker is told from
//! here what to do.

mod findings;
mod promising;
mod senses;
mod strandings;
mod telling;
mod transactions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arbitration::{
    Applied, Command, Core, DatabaseCommand, Event, Features, Moment, Outcome, PromiseSeen,
    Purpose, Rules, Settings,
};
use model::{
    Finding, Generation, IdcName, MemberHindrances, MemberStatus, PositionText, ServerIdentity,
    UnitKey, UnitState,
};
use mysql::control::Owner;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use topology::Topology;

use crate::application::Application;
use crate::credentials::CredentialsFile;
use crate::metrics::Metrics;
use crate::promises::{Book, Peers};
use crate::servers::{self, Servers};
use crate::status::Statuses;
use crate::watcher::{Sight, Watched};
use crate::worker::{Claim, Context, MemberSettings, Order, Report, Worker};
use crate::{clock, execute};
use findings::Findings;
use promising::Promising;
use senses::{Room, born_here};
use strandings::Strandings;

pub use findings::MemberAccount;

const CREDENTIALS_EVERY: Duration = Duration::from_secs(2);

/// What all units share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// This IDC.
    pub idc: IdcName,
    /// etcd.
    pub topology: Topology,
    /// Metrics.
    pub metrics: Metrics,
    /// What `/status` answers.
    pub statuses: Statuses,
    /// Whose each server is.
    pub servers: Servers,
    /// The lease time that is asked for, in milliseconds.
    pub lease_millis: u64,
    /// Whom to ask for promises; `None` where none are asked for or given.
    pub peers: Option<Peers>,
    /// Who answers such asks.
    pub book: Book,
    /// Asks for a session of a later generation than this.
    pub claim_above: Arc<watch::Sender<Generation>>,
}

impl Shared {
    /// Has the session claimed again, above this generation.
    pub fn claim_above(&self, above: Generation) {
        self.claim_above.send_if_modified(|asked| {
            let later = above > *asked;
            *asked = above.max(*asked);
            later
        });
    }
}

/// One Unit's task.
pub struct Unit {
    key: UnitKey,
    shared: Shared,
    core: Core,
    inputs: mpsc::UnboundedReceiver<Event>,
    reports: mpsc::UnboundedReceiver<Report>,
    orders: mpsc::UnboundedSender<Order>,
    transactions: JoinSet<(u64, Purpose, Outcome)>,
    promising: Promising,
    credentials: CredentialsFile,
    settings: Option<MemberSettings>,
    context: Option<Context>,
    folder: PathBuf,
    watched: Vec<Watched>,
    watchers: JoinSet<()>,
    sights: mpsc::UnboundedReceiver<Sight>,
    sight_sender: mpsc::UnboundedSender<Sight>,
    /// The number of each member's newest heartbeat that has arrived here.
    beats: BTreeMap<IdcName, u64>,
    strandings: Strandings,
    /// Nearly all of the server's connections are in use; so many are allowed.
    crowded: Option<u64>,
    room: Room,
    /// What stands against a planned switchover from here.
    hindrances: Option<MemberHindrances>,
    application: Application,
    idcs: Vec<IdcName>,
    boots_fenced: bool,
    findings: Findings,
    /// When the members' clocks are compared next.
    clocks_at: Instant,
    /// What was said of them last.
    told: Vec<Finding>,
    position: Option<PositionText>,
    lag_millis: Option<u64>,
    reached: bool,
    unreached: String,
    last_status: Option<MemberStatus>,
    credentials_at: Instant,
    generation: Option<model::Generation>,
    /// etcd was asked how far it is, once the database had said what it remembers.
    compared: bool,
    /// Asking it.
    asking: JoinSet<Option<Event>>,
    worker: JoinHandle<()>,
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Unit {
    /// A unit and its worker, which is started.
    pub fn new(
        key: UnitKey,
        shared: Shared,
        credentials: &Path,
        inputs: mpsc::UnboundedReceiver<Event>,
    ) -> Self {
        let (report_sender, reports) = mpsc::unbounded_channel();
        let (orders, order_receiver) = mpsc::unbounded_channel();
        let (sight_sender, sights) = mpsc::unbounded_channel();
        let promising = Promising::new(shared.book.enter(&key));
        let owner = Owner {
            installation: shared.topology.keys().prefix().to_owned(),
            unit: key.clone(),
            idc: shared.idc.clone(),
        };
        let claim = Claim::new(owner, shared.servers.clone());
        let worker = Worker::new(claim, shared.metrics.clone(), report_sender);
        Self {
            core: Core::new(
                shared.idc.clone(),
                settings(shared.lease_millis, shared.peers.is_some()),
                Rules::ALL,
            ),
            credentials: CredentialsFile::new(credentials, &key, &shared.idc),
            key,
            shared,
            inputs,
            reports,
            orders,
            transactions: JoinSet::new(),
            promising,
            settings: None,
            context: None,
            folder: credentials.to_owned(),
            watched: Vec::new(),
            watchers: JoinSet::new(),
            sights,
            sight_sender,
            strandings: Strandings::default(),
            crowded: None,
            room: Room::default(),
            hindrances: None,
            application: Application::default(),
            beats: BTreeMap::new(),
            idcs: Vec::new(),
            boots_fenced: false,
            findings: Findings::default(),
            clocks_at: Instant::now(),
            told: Vec::new(),
            position: None,
            lag_millis: None,
            reached: false,
            unreached: String::new(),
            last_status: None,
            credentials_at: Instant::now(),
            generation: None,
            compared: false,
            asking: JoinSet::new(),
            worker: tokio::spawn(worker.run(order_receiver)),
        }
    }

    /// Runs until nothing is left to do here: the Unit is gone, or has no member in this IDC.
    /// Cancel it at any time: nothing is fenced thereby.
    ///
    /// # Errors
    /// The worker ended: a mistake of this program, and nothing is done to the database any more.
    pub async fn run(mut self) -> Result<UnitKey, JoinError> {
        let mut wake = Moment(0);
        loop {
            let event = tokio::select! {
                Some(event) = self.inputs.recv() => Some(event),
                Some(report) = self.reports.recv() => {
                    self.take_signals(&report).await;
                    self.take_report(report)
                }
                Some(sight) = self.sights.recv() => Some(self.take_sight(sight).await),
                Some(asked) = self.promising.asks.recv() => Some(self.promising.asked(asked)),
                Some(answered) = self.promising.asking.join_next() => {
                    answered.ok().and_then(|answered| self.promising.answered(answered))
                }
                Some(done) = self.transactions.join_next() => self.take_outcome(done),
                Some(seen) = self.asking.join_next() => seen.ok().flatten(),
                () = self.application.changed() => None,
                // It ends in good order only after this has.
                Err(error) = &mut self.worker => return Err(error),
                () = tokio::time::sleep_until(self.credentials_at) => {
                    self.read_credentials().await;
                    None
                }
                () = sleep_until(wake) => Some(Event::Tick),
            };
            if let Some(event) = event {
                let reached = matches!(event, Event::Observed { .. }) && !self.compared;
                self.step(event).await;
                if reached {
                    self.ask_etcd();
                }
            }
            self.publish();
            if self.core.has_left() {
                tracing::info!(unit = %self.key, "the unit has no member here any more");
                self.shared.statuses.without_member(&self.key, None);
                self.shared.metrics.forget(&self.key);
                self.shared.servers.forget(&self.key);
                return Ok(self.key.clone());
            }
            wake = self.core.wake_at(clock::now());
        }
    }

    async fn step(&mut self, event: Event) {
        match &event {
            Event::State(state) => {
                self.promising.note_addresses(state);
                self.take_settings(state).await;
            }
            Event::SessionClaimed(session) => self.generation = Some(session.generation),
            Event::KeepAlive { .. } => self.promising.needs_none(),
            _ => {}
        }
        let commands = self.core.step(clock::now(), event);
        self.tell_context();
        for command in commands {
            match command {
                Command::Commit(transaction) => self.commit(&transaction),
                Command::Database { id, command } => self.order(id, command),
                Command::ClaimAgain { above } => {
                    tracing::warn!(unit = %self.key, above = above.0,
                        "the session is claimed again: etcd has forgotten a later one, or shows less than before");
                    self.shared.claim_above(above);
                }
                Command::AskPromise { of, ask } => {
                    let peers = self.shared.peers.as_ref();
                    self.promising
                        .ask((&self.key, &self.shared.idc), peers, of, ask);
                }
                Command::AnswerPromise {
                    to,
                    number,
                    promised,
                } => self.promising.answer(&self.key, &to, number, promised),
            }
        }
    }

    fn order(&self, id: u64, command: DatabaseCommand) {
        let name = execute::name(&command);
        match &command {
            DatabaseCommand::StartGuard { .. } | DatabaseCommand::CheckApplied { .. } => {
                tracing::debug!(unit = %self.key, command = name, "to the database");
            }
            _ => tracing::info!(unit = %self.key, command = name, "to the database"),
        }
        // The worker lives as long as this unit; were it gone, no answer would come and nothing
        // would be concluded.
        let _ = self.orders.send(Order::Command { id, command });
    }

    fn take_report(&mut self, report: Report) -> Option<Event> {
        match report {
            Report::Seen {
                asked_at,
                observation,
                has_data,
            } => {
                if !self.reached {
                    tracing::info!(unit = %self.key, identity = %observation.identity.0,
                        read_only = observation.read_only, "the database answers");
                }
                self.reached = true;
                self.position = Some(observation.position.clone());
                self.lag_millis = self.lag_of(&observation);
                let seen = self.in_terms_of_the_core(&observation, has_data);
                Some(Event::Observed { asked_at, seen })
            }
            Report::Unseen { reason, down, .. } => {
                if self.unreached != reason || self.reached {
                    tracing::warn!(unit = %self.key, reason, "a look at the database failed");
                    self.unreached = reason;
                }
                self.reached = false;
                down.then_some(Event::Unreachable)
            }
            Report::Done { id, result } => {
                if let Some(reason) = result.failure() {
                    tracing::warn!(unit = %self.key, reason, "a command to the database failed");
                }
                Some(Event::Database { id, result })
            }
            Report::Preflight {
                findings,
                passed,
                account,
            } => {
                self.findings.own = findings;
                self.findings.passed = passed;
                if account.is_some() {
                    self.findings.account = account.map(|account| *account);
                }
                Some(self.judge_findings())
            }
            Report::Boots(fenced) => {
                self.boots_fenced = fenced;
                None
            }
            // Taken with the signals.
            Report::Hindrances(_) => None,
        }
    }

    fn in_terms_of_the_core(
        &self,
        observation: &mysql::control::Observation,
        has_data: bool,
    ) -> arbitration::Observation {
        let held_by = observation.highest_epoch_of.as_ref();
        arbitration::Observation {
            identity: observation.identity.clone(),
            boot: observation.boot,
            read_only: observation.read_only && !observation.offline,
            offline: observation.offline,
            guard_running: !observation.guards.is_empty(),
            lag_millis: self.lag_millis,
            has_data,
            highest_epoch: observation.highest_epoch,
            held_highest: held_by == Some(&self.shared.idc),
            applied: observation.applied.clone().and_then(|position| {
                let sequence = born_here(&position, &self.idcs)?;
                Some(Applied { sequence, position })
            }),
            own_sequence: born_here(&observation.position, &self.idcs),
            boots_fenced: self.boots_fenced,
            etcd: observation.etcd,
            generation: observation.generation,
            promise: observation.promise.map(|promise| PromiseSeen {
                epoch: promise.epoch,
                for_millis: promise.for_millis,
            }),
        }
    }

    /// A server that belongs to another Unit blocks like any other finding.
    async fn look_for_rivals(&mut self, identity: &ServerIdentity) {
        let (epoch, _) = self.core.heartbeat();
        let other = self.shared.servers.seen(identity, &self.key, epoch);
        let rival = other.map(|other| {
            let object = format!("member {} of unit {}", self.shared.idc, self.key);
            servers::finding(object, identity, &other)
        });
        if rival != self.findings.rival {
            self.findings.rival = rival;
            let event = self.judge_findings();
            self.step(event).await;
        }
    }

    fn judge_findings(&mut self) -> Event {
        let (all, passed) = self.findings.judge();
        for finding in all.iter().filter(|finding| !self.told.contains(finding)) {
            tracing::warn!(unit = %self.key, check = finding.check, "{finding}");
        }
        self.told = all;
        Event::Preflight(passed)
    }

    async fn take_settings(&mut self, state: &UnitState) {
        let Some(doc) = &state.unit else { return };
        self.idcs = doc.value.members.iter().map(|it| it.idc.clone()).collect();
        self.watch_members(&doc.value);
        let Some(member) = doc.value.member(&self.shared.idc) else {
            return;
        };
        self.application
            .watch(doc.value.application.as_ref(), &self.shared.idc);
        let settings = MemberSettings {
            subject_endpoint: member.endpoint.clone(),
            databases: doc.value.databases.clone(),
            members: doc.value.members.len(),
            max_lag_millis: doc.value.failover.max_lag_millis,
            heartbeat: doc.value.heartbeat.clone(),
        };
        if self.settings.as_ref() != Some(&settings) {
            self.settings = Some(settings.clone());
            let _ = self.orders.send(Order::Member(settings));
            self.read_credentials().await;
        }
    }

    async fn read_credentials(&mut self) {
        self.credentials_at = Instant::now() + CREDENTIALS_EVERY;
        let Some(settings) = &self.settings else {
            return;
        };
        let endpoint = settings.subject_endpoint.clone();
        if let Some(access) = self.credentials.changed(&endpoint).await {
            let _ = self.orders.send(Order::Access(access));
        }
    }

    fn tell_context(&mut self) {
        let (epoch, writable) = self.core.heartbeat();
        let followed = self.core.followed().cloned();
        let context = Context {
            epoch,
            writable,
            followed,
            generation: self.generation,
            etcd: self.core.etcd_mark(),
        };
        if self.context.as_ref() != Some(&context) {
            self.context = Some(context.clone());
            let _ = self.orders.send(Order::Context(context));
        }
    }
}

/// What this arbiter takes part in.
fn settings(lease_millis: u64, failsafe: bool) -> Settings {
    Settings {
        longest_promise: lease_millis,
        features: Features {
            votes: true,
            failsafe,
            memory: true,
        },
        ..Settings::default()
    }
}

async fn sleep_until(moment: Moment) {
    let left = moment.since(clock::now().at);
    tokio::time::sleep(Duration::from_millis(left)).await;
}
