//! The sessions with one Unit's database in this IDC. One thing after the other: a look and a
//! heartbeat each interval, the core's commands in between. A newer command stops what runs, and
//! the connection it ran on is given up with it.

use std::time::Duration;

use arbitration::{DatabaseCommand, DatabaseResult};
use model::{Epoch, Finding, Generation, HeartbeatCheck, IdcName, ServerIdentity, Severity};
use mysql::control::{BootsFenced, ControlError, ControlSession, GuardHandle, Observation};
use mysql::preflight::{MemberReport, Subject};
use mysql::session::SessionOptions;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::credentials::Access;
use crate::execute::{self, Hands};
use crate::metrics::Metrics;

const PREFLIGHT_AGAIN: Duration = Duration::from_secs(600);
const PREFLIGHT_AGAIN_WHEN_FAILED: Duration = Duration::from_secs(60);

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
}

/// What the worker tells the unit.
#[derive(Debug)]
pub enum Report {
    /// A look succeeded.
    Seen {
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
    },
    /// A command ended.
    Done {
        /// Its number.
        id: u64,
        /// How.
        result: DatabaseResult,
    },
    /// Preflight ran, or could not.
    Preflight {
        /// What was found.
        findings: Vec<Finding>,
        /// Whether nothing blocks.
        passed: bool,
    },
}

/// The worker's own state; `run` keeps the channel of orders beside it, so that both can be used
/// at the same time.
pub struct Worker {
    idc: IdcName,
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
    preflight: JoinSet<MemberReport>,
    preflight_at: Instant,
    look_at: Instant,
}

impl Worker {
    /// A worker that has not been told anything yet.
    pub fn new(idc: IdcName, metrics: Metrics, reports: mpsc::UnboundedSender<Report>) -> Self {
        let context = Context {
            epoch: Epoch::NONE,
            writable: false,
            followed: None,
            generation: None,
        };
        Self {
            idc,
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
            preflight: JoinSet::new(),
            preflight_at: Instant::now(),
            look_at: Instant::now(),
        }
    }

    /// Works until the orders end. Cancel it at any time: nothing is fenced or ended thereby.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut next = None;
        loop {
            let wake_at = self.wake_at();
            let order = match next.take() {
                Some(order) => order,
                None => tokio::select! {
                    biased;
                    order = orders.recv() => match order {
                        Some(order) => order,
                        None => return,
                    },
                    Some(report) = self.preflight.join_next() => {
                        self.take_preflight(report);
                        continue;
                    }
                    () = tokio::time::sleep_until(wake_at) => {
                        self.start_preflight();
                        if Instant::now() >= self.look_at {
                            next = self.look_unless_interrupted(&mut orders).await;
                        }
                        continue;
                    }
                },
            };
            next = self.follow(order, &mut orders).await;
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
                self.report_findings(Vec::new());
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
        let stopped = {
            let executing = self.execute(command);
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
                let succeeded = !matches!(result, DatabaseResult::Failed { .. });
                self.metrics.command(execute::name(command), succeeded);
                // The unit is gone only when this worker is about to be.
                let _ = self.reports.send(Report::Done { id, result });
                None
            }
            Err(newer) => {
                // What it was in the middle of is not known, a transaction may be open.
                self.session = None;
                self.metrics.command(execute::name(command), false);
                newer
            }
        };
        aside.into_iter().for_each(|order| self.note(order));
        newer
    }

    async fn execute(&mut self, command: &DatabaseCommand) -> DatabaseResult {
        let failed = |reason: String| DatabaseResult::Failed { reason };
        let (Some(generation), Some(identity)) = (self.context.generation, self.identity.clone())
        else {
            return failed("the database has not been looked at yet".to_owned());
        };
        if let Err(error) = self.ensure_session().await {
            return failed(error);
        }
        let (Some(session), Some(options)) = (self.session.as_mut(), self.access.as_ref()) else {
            return failed("there is no account to connect with".to_owned());
        };
        let mut hands = Hands {
            session,
            options,
            guard: &mut self.guard,
            idc: &self.idc,
            epoch: self.context.epoch,
            generation,
            identity: &identity,
        };
        hands.run(command).await
    }

    async fn look_unless_interrupted(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<Order> {
        let interval = self
            .settings
            .as_ref()
            .map_or(1_000, |it| it.heartbeat.interval_millis);
        self.look_at = Instant::now() + Duration::from_millis(interval.max(50));
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

    fn report_look(&mut self, looked: Result<Observation, String>) {
        let report = match looked {
            Ok(observation) => {
                self.failures = 0;
                self.identity = Some(observation.identity.clone());
                Report::Seen {
                    observation: Box::new(observation),
                    has_data: self.has_data,
                }
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                let bound = self.settings.as_ref().map_or(3, |it| it.heartbeat.failures);
                Report::Unseen {
                    reason,
                    down: self.failures >= bound,
                }
            }
        };
        let _ = self.reports.send(report);
    }

    /// A heartbeat and a look, within the Unit's time-out once a session is there.
    async fn look(&mut self) -> Result<Observation, String> {
        self.ensure_session().await?;
        let Some(settings) = &self.settings else {
            return Err("no settings".to_owned());
        };
        let timeout = Duration::from_millis(settings.heartbeat.timeout_millis);
        let Some(session) = self.session.as_mut() else {
            return Err("no session".to_owned());
        };
        let context = &self.context;
        let (idc, writable) = (&self.idc, context.writable);
        let looking = async {
            session.heartbeat(idc, context.epoch, writable).await?;
            session.observe(context.followed.as_ref()).await
        };
        let looked = match tokio::time::timeout(timeout, looking).await {
            Ok(looked) => looked.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer to a heartbeat within {timeout:?}")),
        };
        // Only the very first election asks for it, and it may take a while.
        if looked.is_ok() && !self.has_data && self.context.epoch == Epoch::NONE {
            let databases = settings.databases.clone();
            self.has_data = session
                .has_data(&databases)
                .await
                .map_err(|error| error.to_string())?;
        }
        if !session.is_usable() {
            self.session = None;
        }
        looked
    }

    /// Connects if need be. The first contact makes our schema, once preflight has passed.
    async fn ensure_session(&mut self) -> Result<(), String> {
        if self.session.as_ref().is_some_and(ControlSession::is_usable) {
            return Ok(());
        }
        self.session = None;
        let Some(options) = &self.access else {
            return Err("there is no account to connect with".to_owned());
        };
        let timeout = self
            .settings
            .as_ref()
            .map_or(500, |it| it.heartbeat.timeout_millis);
        let patience = Duration::from_millis((2 * timeout).max(1_000));
        let mut session = match ControlSession::connect(options, patience).await {
            Ok(session) => session,
            Err(error) => {
                self.connects = false;
                return Err(error.to_string());
            }
        };
        if !self.connects {
            self.connects = true;
            if !self.passed {
                // What preflight found may have been mended.
                self.preflight_at = Instant::now();
            }
        }
        let prepared = if self.passed {
            session.install().await.map(drop)
        } else {
            Ok(())
        };
        let boots = match prepared {
            Ok(()) => session.boots_fenced().await,
            Err(error) => Err(error),
        };
        match boots {
            Ok(boots) => self.note_boots(boots),
            Err(ControlError::NotInstalled { .. }) if !self.passed => {
                return Err("our schema is made once preflight has passed".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
        self.session = Some(session);
        Ok(())
    }

    fn note_boots(&mut self, boots: BootsFenced) {
        let Some(settings) = &self.settings else {
            return;
        };
        let seen = match boots {
            BootsFenced::Yes => {
                self.boots = None;
                return;
            }
            BootsFenced::No => "the server comes up accepting writes after a restart",
            BootsFenced::NotKnown => {
                "whether the server comes up fenced after a restart is not known until its next one"
            }
        };
        self.boots = Some(Finding {
            severity: Severity::Warning,
            check: "BootsFenced".to_owned(),
            object: format!("member {} ({})", self.idc, settings.subject_endpoint),
            message: seen.to_owned(),
            fix: "put read_only=1 under [mysqld] into the server's configuration".to_owned(),
        });
    }

    fn start_preflight(&mut self) {
        if Instant::now() < self.preflight_at || !self.preflight.is_empty() {
            return;
        }
        self.preflight_at = Instant::now() + PREFLIGHT_AGAIN_WHEN_FAILED;
        let (Some(options), Some(settings)) = (self.access.clone(), &self.settings) else {
            return;
        };
        let subject = Subject {
            idc: self.idc.clone(),
            endpoint: settings.subject_endpoint.clone(),
            databases: settings.databases.clone(),
            members: settings.members,
        };
        self.preflight
            .spawn(async move { mysql::preflight::member(&options, &subject).await });
    }

    fn take_preflight(&mut self, report: Result<MemberReport, tokio::task::JoinError>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(%error, "preflight ended badly; it is run again");
                return;
            }
        };
        let passed = report.passed();
        if passed && !self.passed {
            self.look_at = Instant::now();
        }
        self.passed = passed && self.missing.is_none();
        let pause = if self.passed {
            PREFLIGHT_AGAIN
        } else {
            PREFLIGHT_AGAIN_WHEN_FAILED
        };
        self.preflight_at = Instant::now() + pause;
        self.report_findings(report.findings);
    }

    fn report_findings(&self, mut findings: Vec<Finding>) {
        findings.extend(self.missing.iter().chain(&self.boots).cloned());
        let _ = self.reports.send(Report::Preflight {
            findings,
            passed: self.passed,
        });
    }
}
