//! The sessions with one Unit's database in this IDC. One thing after the other: a look and a
//! heartbeat each interval, the core's commands in between. A newer command stops what runs, and
//! the connection it ran on is given up with it.

mod claim;
mod contact;

use std::time::Duration;

use arbitration::{DatabaseCommand, DatabaseResult, Moment};
use model::{Epoch, EtcdMark, Finding, Generation, HeartbeatCheck, IdcName, ServerIdentity};
use mysql::control::{ControlError, ControlSession, GuardHandle, Hindrances, Observation};
use mysql::preflight::{MemberReport, Subject};
use mysql::session::SessionOptions;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::credentials::Access;
use crate::execute::{self, Hands};
use crate::metrics::Metrics;
use crate::unit::MemberAccount;

pub use claim::Claim;

/// How old what stands against a switchover may be when somebody asks for one.
const HINDRANCES_EVERY: Duration = Duration::from_secs(3);
/// While something stands in the way.
const HINDRANCES_AGAIN: Duration = Duration::from_secs(1);
const PREFLIGHT_AGAIN: Duration = Duration::from_secs(600);
/// Before the first election, so that a mistake made or mended meanwhile is seen, and while something
/// stands against the member: somebody is waiting in front of a terminal.
const PREFLIGHT_SOON_AGAIN: Duration = Duration::from_secs(5);

/// What the worker is told by the unit.
#[derive(Debug)]
pub enum Order {
    /// Do this, in place of what runs.
    Command {
        /// The command's number.
        id: u64,
        /// The command.
        command: DatabaseCommand,
    },
    /// The member can be reached like this from now on, or not.
    Access(Access),
    /// The Unit as far as it concerns this member.
    Member(MemberSettings),
    /// What heartbeats say and looks ask for.
    Context(Context),
}

/// The Unit as far as it concerns this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSettings {
    /// Which member it is.
    pub subject_endpoint: model::Endpoint,
    /// The Unit's databases.
    pub databases: Vec<String>,
    /// How many members the Unit has.
    pub members: usize,
    /// Its `failover.maxLag`, in milliseconds.
    pub max_lag_millis: u64,
    /// How often to look, and what counts as no answer.
    pub heartbeat: HeartbeatCheck,
}

/// What heartbeats say and looks ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The epoch.
    pub epoch: Epoch,
    /// Whether this member is open in it.
    pub writable: bool,
    /// Whose heartbeats tell how far this member is behind.
    pub followed: Option<IdcName>,
    /// The generation of this process's session, once it has one.
    pub generation: Option<Generation>,
    /// How far etcd is known to be, for the server to remember.
    pub etcd: Option<EtcdMark>,
}

/// What the worker tells the unit.
#[derive(Debug)]
pub enum Report {
    /// A look succeeded.
    Seen {
        /// When it was asked for.
        asked_at: Moment,
        /// What it showed.
        observation: Box<Observation>,
        /// Whether the Unit's databases hold any row.
        has_data: bool,
    },
    /// A look failed.
    Unseen {
        /// Why.
        reason: String,
        /// Whether so many failed in a row that the member counts as down.
        down: bool,
        /// Whether the server said that it has no room for what was written.
        full: bool,
    },
    /// A command ended.
    Done {
        /// Its number.
        id: u64,
        /// How.
        result: DatabaseResult,
    },
    /// Whether the server is known to come up fenced after a restart.
    Boots(bool),
    /// What stands against a planned switchover now.
    Hindrances(Hindrances),
    /// Preflight ran, or could not.
    Preflight {
        /// What was found.
        findings: Vec<Finding>,
        /// Whether nothing blocks.
        passed: bool,
        /// What the server says of itself, if it was reached.
        account: Option<Box<MemberAccount>>,
    },
}

/// Why a look failed.
#[derive(Debug)]
pub(crate) struct Failed {
    reason: String,
    /// The server said that it has no room.
    full: bool,
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self {
            reason,
            full: false,
        }
    }
}

impl From<&ControlError> for Failed {
    fn from(error: &ControlError) -> Self {
        Self {
            reason: error.to_string(),
            full: error.is_for_want_of_room(),
        }
    }
}

/// The worker's own state; `run` keeps the channel of orders beside it, so that both can be used
/// at the same time.
pub struct Worker {
    idc: IdcName,
    claim: Claim,
    metrics: Metrics,
    reports: mpsc::UnboundedSender<Report>,
    access: Option<SessionOptions>,
    missing: Option<Finding>,
    settings: Option<MemberSettings>,
    context: Context,
    session: Option<ControlSession>,
    guard: Option<GuardHandle>,
    identity: Option<ServerIdentity>,
    has_data: bool,
    failures: u32,
    /// Whether the last try to connect succeeded.
    connects: bool,
    passed: bool,
    boots: Option<Finding>,
    findings: Vec<Finding>,
    preflight: JoinSet<(Subject, MemberReport)>,
    account: Option<MemberAccount>,
    preflight_at: Instant,
    look_at: Instant,
    hindrances_at: Instant,
}

impl Worker {
    /// A worker that has not been told anything yet.
    pub fn new(claim: Claim, metrics: Metrics, reports: mpsc::UnboundedSender<Report>) -> Self {
        let context = Context {
            epoch: Epoch::NONE,
            writable: false,
            followed: None,
            generation: None,
            etcd: None,
        };
        Self {
            idc: claim.owner.idc.clone(),
            claim,
            metrics,
            reports,
            access: None,
            missing: None,
            settings: None,
            context,
            session: None,
            guard: None,
            identity: None,
            has_data: false,
            failures: 0,
            connects: false,
            passed: false,
            boots: None,
            findings: Vec::new(),
            preflight: JoinSet::new(),
            account: None,
            preflight_at: Instant::now(),
            look_at: Instant::now(),
            hindrances_at: Instant::now(),
        }
    }

    /// Works until the orders end. Cancel it at any time: nothing is fenced or ended thereby.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut next: Option<Order> = None;
        loop {
            if let Some(order) = next.take() {
                next = self.follow(order, &mut orders).await;
                continue;
            }
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => next = Some(order),
                    None => return,
                },
                Some(report) = self.preflight.join_next() => self.take_preflight(report),
                () = tokio::time::sleep_until(wake_at) => {
                    self.start_preflight();
                    if Instant::now() >= self.look_at {
                        next = self.look_unless_interrupted(&mut orders).await;
                    }
                }
            }
        }
    }

    fn wake_at(&self) -> Instant {
        if self.preflight.is_empty() {
            self.look_at.min(self.preflight_at)
        } else {
            self.look_at
        }
    }

    /// Carries an order out; returns a newer one that stopped it.
    async fn follow(
        &mut self,
        order: Order,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<Order> {
        match order {
            Order::Command { id, command } => self.command(id, &command, orders).await,
            other => {
                self.note(other);
                None
            }
        }
    }

    fn note(&mut self, order: Order) {
        match order {
            Order::Access(Access::Granted(options)) => {
                self.access = Some(*options);
                self.missing = None;
                self.session = None;
                self.preflight_at = Instant::now();
                self.look_at = Instant::now();
            }
            Order::Access(Access::Missing(finding)) => {
                // A session that exists goes on: losing a Secret must not stop a business.
                self.missing = Some(*finding);
                self.passed = false;
                self.findings.clear();
                self.report_findings();
            }
            Order::Member(settings) => {
                self.settings = Some(settings);
                self.preflight_at = Instant::now();
            }
            Order::Context(context) => {
                // Routing and links wait for what the heartbeat says of a change.
                if context.epoch != self.context.epoch || context.writable != self.context.writable
                {
                    self.look_at = Instant::now();
                }
                self.context = context;
            }
            Order::Command { .. } => {}
        }
    }

    async fn command(
        &mut self,
        id: u64,
        command: &DatabaseCommand,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<Order> {
        let mut aside = Vec::new();
        let mut sent = false;
        let stopped = {
            let executing = self.execute(command, &mut sent);
            tokio::pin!(executing);
            loop {
                tokio::select! {
                    biased;
                    order = orders.recv() => match order {
                        Some(newer @ Order::Command { .. }) => break Err(Some(newer)),
                        Some(other) => aside.push(other),
                        None => break Err(None),
                    },
                    result = &mut executing => break Ok(result),
                }
            }
        };
        let newer = match stopped {
            Ok(result) => {
                let succeeded = result.failure().is_none();
                self.metrics.command(execute::name(command), succeeded);
                // The unit is gone only when this worker is about to be.
                let _ = self.reports.send(Report::Done { id, result });
                None
            }
            Err(newer) => {
                // What it was in the middle of is not known, a transaction may be open.
                self.session = None;
                self.metrics.command(execute::name(command), false);
                if !sent {
                    let reason = "it gave way to a newer command".to_owned();
                    let result = DatabaseResult::NotSent { reason };
                    let _ = self.reports.send(Report::Done { id, result });
                }
                newer
            }
        };
        for order in aside {
            self.note(order);
        }
        newer
    }

    /// Sets `sent` before anything is sent that the command would come about by.
    async fn execute(&mut self, command: &DatabaseCommand, sent: &mut bool) -> DatabaseResult {
        let not_sent = |reason: String| DatabaseResult::NotSent { reason };
        let (Some(generation), Some(identity)) = (self.context.generation, self.identity.clone())
        else {
            return not_sent("the database has not been looked at yet".to_owned());
        };
        if let Err(error) = self.ensure_session().await {
            self.count_failure(&error);
            return not_sent(error);
        }
        let (Some(session), Some(options)) = (self.session.as_mut(), self.access.as_ref()) else {
            return not_sent("there is no account to connect with".to_owned());
        };
        let mut hands = Hands {
            session,
            options,
            guard: &mut self.guard,
            sent,
            idc: &self.idc,
            epoch: self.context.epoch,
            generation,
            identity: &identity,
        };
        let result = hands.run(command).await;
        let lost = !self.session.as_ref().is_some_and(ControlSession::is_usable);
        if let (true, Some(reason)) = (lost, result.failure()) {
            self.count_failure(reason);
        }
        result
    }

    /// A command that did not reach the server says as much as a look that did not, and commands
    /// that are tried again and again leave no time for looks. It counts once an interval, as they
    /// do.
    fn count_failure(&mut self, reason: &str) {
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + self.interval();
            self.report_look(Err(reason.to_owned().into()));
        }
    }

    fn interval(&self) -> Duration {
        let settings = self.settings.as_ref();
        let millis = settings.map_or(1_000, |it| it.heartbeat.interval_millis);
        Duration::from_millis(millis.max(50))
    }

    async fn look_unless_interrupted(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<Order> {
        self.look_at = Instant::now() + self.interval();
        if self.access.is_none() || self.settings.is_none() {
            return None;
        }
        let looked = {
            let looking = self.look();
            tokio::pin!(looking);
            tokio::select! {
                biased;
                order = orders.recv() => Err(order),
                looked = &mut looking => Ok(looked),
            }
        };
        match looked {
            Ok(looked) => {
                self.report_look(looked);
                None
            }
            Err(order) => {
                if !self.session.as_ref().is_some_and(ControlSession::is_usable) {
                    self.session = None;
                }
                self.look_at = Instant::now();
                order
            }
        }
    }

    fn report_look(&mut self, looked: Result<(Moment, Observation), Failed>) {
        let report = match looked {
            Ok((asked_at, observation)) => {
                self.failures = 0;
                self.identity = Some(observation.identity.clone());
                Report::Seen {
                    asked_at,
                    observation: Box::new(observation),
                    has_data: self.has_data,
                }
            }
            Err(Failed { reason, full }) => {
                self.failures = self.failures.saturating_add(1);
                let bound = self.settings.as_ref().map_or(3, |it| it.heartbeat.failures);
                Report::Unseen {
                    reason,
                    down: self.failures >= bound,
                    full,
                }
            }
        };
        let _ = self.reports.send(report);
    }
}
