//! Looks at another IDC's member, through a session of its own: whether it answers is one of the
//! signals on which this IDC votes.
//!
//! It only reads. What it cannot find out, it reports as a failure with the cause; what that means
//! is the core's to judge.

use std::path::Path;
use std::time::Duration;

use model::{HeartbeatCheck, IdcName, UnitKey};
use mysql::control::{ControlError, ControlSession, FiledCounts};
use mysql::preflight::{Subject, facts};
use mysql::session::SessionOptions;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::credentials::{Access, CredentialsFile};
use crate::unit::MemberAccount;

/// How often it is asked what is set aside there.
const FILED_EVERY: Duration = Duration::from_secs(2);
const CREDENTIALS_EVERY: Duration = Duration::from_secs(2);
/// How often a server's account of itself is asked for again: a mistake that was mended counts as
/// mended after this time at most.
const ACCOUNT_AGAIN: Duration = Duration::from_secs(15);
const ACCOUNT_SOON_AGAIN: Duration = Duration::from_secs(2);

/// What one look came to.
#[derive(Debug)]
pub struct Sight {
    /// Whose member was looked at.
    pub of: IdcName,
    /// The cause, for people, if it did not answer.
    pub failure: Option<String>,
    /// What its server says of itself, when that was asked for.
    pub account: Option<Box<MemberAccount>>,
    /// What it has set aside of this IDC's member; `None` where that was not asked or is not known.
    pub filed: Option<FiledCounts>,
}

/// Which member to look at, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Whose, where, and what for.
    pub subject: Subject,
    /// The IDC of this arbiter.
    pub me: IdcName,
    /// How often to look, and what counts as no answer.
    pub heartbeat: HeartbeatCheck,
}

/// Looks at one member until its task is ended.
pub struct Watcher {
    watched: Watched,
    credentials: CredentialsFile,
    credentials_at: Instant,
    access: Option<SessionOptions>,
    missing: String,
    session: Option<ControlSession>,
    account_at: Instant,
    filed_at: Instant,
}

impl Watcher {
    /// A watcher that has not begun.
    pub fn new(watched: Watched, credentials: &Path, unit: &UnitKey) -> Self {
        Self {
            credentials: CredentialsFile::new(credentials, unit, &watched.subject.idc),
            watched,
            credentials_at: Instant::now(),
            access: None,
            missing: String::new(),
            session: None,
            account_at: Instant::now(),
            filed_at: Instant::now(),
        }
    }

    /// Looks again and again. Cancel it at any time.
    pub async fn run(mut self, sights: mpsc::UnboundedSender<Sight>) {
        let interval = Duration::from_millis(self.watched.heartbeat.interval_millis.max(50));
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = self.look().await;
            if self.access.is_none() {
                // Nobody has looked, which says nothing of the member: it must not become a vote.
                continue;
            }
            let account = match looked {
                Ok(_) => self.account().await,
                Err(_) => None,
            };
            let (failure, filed) = match looked {
                Ok(filed) => (None, filed),
                Err(failure) => (Some(failure), None),
            };
            let sight = Sight {
                of: self.watched.subject.idc.clone(),
                failure,
                account,
                filed,
            };
            if sights.send(sight).is_err() {
                return;
            }
        }
    }

    async fn look(&mut self) -> Result<Option<FiledCounts>, String> {
        if Instant::now() >= self.credentials_at {
            self.credentials_at = Instant::now() + CREDENTIALS_EVERY;
            match self
                .credentials
                .changed(&self.watched.subject.endpoint)
                .await
            {
                Some(Access::Granted(options)) => {
                    self.access = Some(*options);
                    self.session = None;
                }
                Some(Access::Missing(finding)) => {
                    self.missing = finding.to_string();
                    tracing::warn!(missing = self.missing, "a member is not looked at");
                }
                None => {}
            }
        }
        let timeout = Duration::from_millis(self.watched.heartbeat.timeout_millis);
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect(timeout).await?,
        };
        let looked = session.peek(&self.watched.subject.idc).await;
        let mut filed = None;
        if looked.is_ok() && Instant::now() >= self.filed_at {
            self.filed_at = Instant::now() + FILED_EVERY;
            // That it answers is one thing; what it has filed is asked again soon.
            match session
                .filed_of(&self.watched.me, &self.watched.subject.idc)
                .await
            {
                Ok(counts) => filed = Some(counts),
                Err(error) => tracing::debug!(%error, "what is set aside there is not known"),
            }
        }
        if session.is_usable() {
            self.session = Some(session);
        }
        match looked {
            // Its own arbiter has not been there yet; it answers all the same.
            Ok(_) | Err(ControlError::NotInstalled { .. }) => Ok(filed),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the server says of itself, now and then. Whether it answers is judged by looks alone.
    async fn account(&mut self) -> Option<Box<MemberAccount>> {
        if Instant::now() < self.account_at {
            return None;
        }
        let (options, subject) = (self.access.as_ref()?, &self.watched.subject);
        let timeout = Duration::from_millis(self.watched.heartbeat.timeout_millis);
        let asked = tokio::time::timeout(timeout, facts(options, subject)).await;
        let found = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(finding)) => {
                tracing::debug!(%finding, "it does not say what it is");
                self.account_at = Instant::now() + ACCOUNT_SOON_AGAIN;
                return None;
            }
            Err(_) => return None,
        };
        self.account_at = Instant::now() + ACCOUNT_AGAIN;
        Some(Box::new((subject.clone(), found)))
    }

    async fn connect(&self, timeout: Duration) -> Result<ControlSession, String> {
        let Some(options) = &self.access else {
            return Err(self.missing.clone());
        };
        ControlSession::connect(options, timeout)
            .await
            .map_err(|error| error.to_string())
    }
}
