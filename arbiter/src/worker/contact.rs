//! How the worker gets in touch with the database: sessions, looks, preflight.

use std::time::Duration;

use arbitration::Moment;
use model::{Epoch, Finding, Severity};
use mysql::control::{BootsFenced, ControlError, ControlSession, Observation};
use mysql::preflight::{MemberReport, Role, Subject};
use tokio::time::Instant;

use crate::clock;

use super::{
    Failed, HINDRANCES_AGAIN, HINDRANCES_EVERY, PREFLIGHT_AGAIN, PREFLIGHT_SOON_AGAIN, Report,
    Worker,
};
use crate::translate::hindrances;

impl Worker {
    /// A heartbeat and a look, within the Unit's time-out once a session is there.
    pub(super) async fn look(&mut self) -> Result<(Moment, Observation), Failed> {
        self.ensure_session().await?;
        let Some(settings) = &self.settings else {
            return Err("no settings".to_owned().into());
        };
        let timeout = Duration::from_millis(settings.heartbeat.timeout_millis);
        match tokio::time::timeout(timeout, self.claim_again()).await {
            Ok(claimed) => claimed?,
            Err(_) => return Err(format!("the server was not claimed within {timeout:?}").into()),
        }
        let (Some(session), Some(settings)) = (self.session.as_mut(), &self.settings) else {
            return Err("no session".to_owned().into());
        };
        let context = &self.context;
        let (idc, writable) = (&self.idc, context.writable);
        let asked_at = clock::now().at;
        let looking = async {
            // Without a session it is nobody's word.
            let generation = context.generation.unwrap_or_default();
            session
                .heartbeat(generation, idc, context.epoch, writable)
                .await?;
            if let (Some(generation), Some(mark)) = (context.generation, context.etcd) {
                session.remember(generation, mark).await?;
            }
            let seen = session.observe(context.followed.as_ref()).await?;
            if let Some(generation) = context.generation.filter(|own| seen.generation < *own) {
                // From now on no earlier process of this IDC promises or opens anything here, and
                // the next look shows what they have promised.
                session.adopt(generation).await?;
            }
            Ok(seen)
        };
        let looked = match tokio::time::timeout(timeout, looking).await {
            Ok(Ok(looked)) => Ok(looked),
            Ok(Err(error)) => {
                // Somebody dropped our schema: the next contact makes it anew.
                let dropped = matches!(error, ControlError::NotInstalled { .. });
                if dropped {
                    self.session = None;
                }
                return Err(Failed::from(&error));
            }
            Err(_) => Err(format!("no answer to a heartbeat within {timeout:?}").into()),
        };
        // Only the very first election asks for it, and it may take a while.
        if looked.is_ok() && !self.has_data && self.context.epoch == Epoch::NONE {
            let databases = settings.databases.clone();
            self.has_data = session
                .has_data(&databases)
                .await
                .map_err(|error| Failed::from(&error))?;
        }
        if looked.is_ok() && Instant::now() >= self.hindrances_at {
            self.hindrances_at = Instant::now() + HINDRANCES_EVERY;
            match session.hindrances().await {
                Ok(found) => {
                    // Who has just cleared it away is not to be told of it again.
                    if !hindrances(&found).is_empty() {
                        self.hindrances_at = Instant::now() + HINDRANCES_AGAIN;
                    }
                    let _ = self.reports.send(Report::Hindrances(found));
                }
                Err(error) => {
                    tracing::warn!(%error, "what stands against a switchover is not known");
                }
            }
        }
        if !session.is_usable() {
            self.session = None;
        }
        looked.map(|observation| (asked_at, observation))
    }

    /// Connects if need be. The first contact makes our schema, once preflight has passed.
    pub(super) async fn ensure_session(&mut self) -> Result<(), String> {
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
        let whose = self.look_whose(&mut session).await;
        whose.map_err(|failed| failed.reason)?;
        match self.prepare(&mut session).await {
            Ok(boots) => self.note_boots(boots),
            Err(ControlError::NotInstalled { .. }) if !self.passed => {
                return Err("our schema is made once preflight has passed".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
        self.session = Some(session);
        Ok(())
    }

    /// Nothing is changed on a server before preflight has passed there once.
    async fn prepare(&self, session: &mut ControlSession) -> Result<BootsFenced, ControlError> {
        if self.passed {
            session.install().await?;
        } else {
            session.observe(None).await?;
        }
        session.boots_fenced().await
    }

    fn note_boots(&mut self, boots: BootsFenced) {
        let Some(settings) = &self.settings else {
            return;
        };
        let _ = self
            .reports
            .send(Report::Boots(matches!(boots, BootsFenced::Yes)));
        let before = self.boots.take();
        let seen = match boots {
            BootsFenced::Yes => {
                if before.is_some() {
                    self.report_findings();
                }
                return;
            }
            BootsFenced::No => "the server comes up accepting writes after a restart",
            BootsFenced::NotKnown => {
                "whether the server comes up fenced after a restart is not known until its next one"
            }
        };
        // What is not known keeps the primary from moving by itself. A server that is known to come
        // up writable is never opened: as a copy it would take writes after every restart.
        let severity = match boots {
            BootsFenced::No => Severity::Blocking,
            _ => Severity::Warning,
        };
        self.boots = Some(Finding {
            severity,
            check: "BootsFenced".to_owned(),
            object: format!("member {} ({})", self.idc, settings.subject_endpoint),
            message: seen.to_owned(),
            fix: "put read_only=1 (on MySQL persisted_globals_load=ON) under [mysqld] into the \
                  server's configuration, and restart it with that, not with --no-defaults"
                .to_owned(),
        });
        if self.boots != before {
            self.report_findings();
        }
    }

    pub(super) fn start_preflight(&mut self) {
        if Instant::now() < self.preflight_at || !self.preflight.is_empty() {
            return;
        }
        self.preflight_at = Instant::now() + PREFLIGHT_SOON_AGAIN;
        let (Some(options), Some(settings)) = (self.access.clone(), &self.settings) else {
            return;
        };
        let subject = Subject {
            idc: self.idc.clone(),
            endpoint: settings.subject_endpoint.clone(),
            databases: settings.databases.clone(),
            members: settings.members,
            role: Role::Member {
                max_lag_millis: settings.max_lag_millis,
                unit: None,
            },
        };
        self.preflight.spawn(async move {
            let report = mysql::preflight::member(&options, &subject).await;
            (subject, report)
        });
    }

    pub(super) fn take_preflight(
        &mut self,
        report: Result<(Subject, MemberReport), tokio::task::JoinError>,
    ) {
        let (subject, report) = match report {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(%error, "preflight ended badly; it is run again");
                return;
            }
        };
        let passed = report.passed();
        if passed && !self.passed {
            // The next contact makes our schema, or brings one of an earlier release up to date.
            self.session = None;
            self.look_at = Instant::now();
        }
        self.passed = passed && self.missing.is_none();
        let pause = if self.passed && self.context.epoch != Epoch::NONE {
            PREFLIGHT_AGAIN
        } else {
            PREFLIGHT_SOON_AGAIN
        };
        self.preflight_at = Instant::now() + pause;
        self.findings = report.findings;
        self.account = report.facts.map(|facts| (subject, facts));
        self.report_findings();
    }

    /// Tells what preflight found last, and what was found beside it.
    pub(super) fn report_findings(&self) {
        let beside = self.missing.iter().chain(&self.boots);
        let beside = beside.chain(self.claim.refused());
        let findings = self.findings.iter().chain(beside).cloned().collect();
        let blocks = |finding: &Finding| finding.severity == Severity::Blocking;
        let boots_writable = self.boots.as_ref().is_some_and(blocks);
        let _ = self.reports.send(Report::Preflight {
            findings,
            passed: self.passed && !boots_writable,
            account: self.account.clone().map(Box::new),
        });
    }
}
