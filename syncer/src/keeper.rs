//! The source of a link without a Unit, looked after by its syncer: see [`mysql::link_end`].

use std::time::Duration;

use model::{LinkConfig, Severity};
use mysql::link_end::{Heart, prepare, subject};
use mysql::preflight::{MemberFacts, MemberReport, Subject};
use mysql::session::SessionOptions;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::status::StatusBoard;

const BEAT: Duration = Duration::from_secs(1);
/// A server that nothing stands against is looked at again after this time: settings can be changed.
const AGAIN: Duration = Duration::from_secs(60);
/// One that something stands against.
const SOON_AGAIN: Duration = Duration::from_secs(3);

/// What the last look at the source came to.
#[derive(Debug, Clone)]
pub struct Looked(watch::Receiver<Option<MemberReport>>);

impl Looked {
    /// What the server says of itself, where nothing stands against it; else why it is not served.
    pub fn passed(&self) -> Result<MemberFacts, String> {
        let report = self.0.borrow();
        let Some(report) = report.as_ref() else {
            return Err("the source has not been looked at yet".to_owned());
        };
        let passed = report.passed();
        report.facts.clone().filter(|_| passed).ok_or_else(|| {
            let words = Severity::Blocking.words(&report.findings);
            format!("the source has not passed preflight: {words}")
        })
    }

    /// Waits until something stands against the source. That it does not answer does not: the stream
    /// itself tells that.
    pub async fn refused(&self) -> String {
        let mut looks = self.0.clone();
        let reached = |look: &Option<MemberReport>| {
            let look = look.as_ref();
            look.is_some_and(|report| report.facts.is_some() && !report.passed())
        };
        if looks.wait_for(reached).await.is_err() {
            // Nobody looks any more: the process ends.
            std::future::pending::<()>().await;
        }
        self.passed().err().unwrap_or_default()
    }
}

/// Looks after the source until it is stopped.
pub fn start(
    config: &LinkConfig,
    options: SessionOptions,
    status: StatusBoard,
    stop: CancellationToken,
) -> Looked {
    let (sender, receiver) = watch::channel(None);
    let keeper = Keeper {
        subject: subject(config, &config.source),
        options,
        status,
        looked: sender,
    };
    let task = tokio::spawn(keeper.run());
    tokio::spawn(async move {
        let abort = task.abort_handle();
        tokio::select! {
            () = stop.cancelled() => abort.abort(),
            // Without it nothing would be served, and nobody told why.
            Err(error) = task => {
                tracing::error!(%error, "nobody looks after the source any more");
                stop.cancel();
            }
        }
    });
    Looked(receiver)
}

struct Keeper {
    subject: Subject,
    options: SessionOptions,
    status: StatusBoard,
    looked: watch::Sender<Option<MemberReport>>,
}

impl Keeper {
    async fn run(self) -> std::convert::Infallible {
        loop {
            let report = prepare(&self.options, &self.subject).await;
            let passed = report.passed();
            self.status.found(report.findings.clone());
            self.tell(&report);
            self.looked.send_replace(Some(report));
            if passed {
                self.beat_for(AGAIN).await;
            } else {
                tokio::time::sleep(SOON_AGAIN).await;
            }
        }
    }

    fn tell(&self, report: &MemberReport) {
        let before = self.looked.borrow();
        let known = before.as_ref().map(|before| &before.findings);
        if known == Some(&report.findings) {
            return;
        }
        for finding in &report.findings {
            tracing::warn!(check = finding.check, severity = ?finding.severity, "{finding}");
        }
    }

    /// A server that does not take heartbeats is looked at again.
    async fn beat_for(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut ticks = tokio::time::interval(BEAT);
        let idc = self.subject.idc.clone();
        let mut heart = match Heart::connect(&self.options, idc).await {
            Ok(heart) => heart,
            Err(error) => {
                tracing::warn!(%error, "no session for heartbeats");
                return tokio::time::sleep(SOON_AGAIN).await;
            }
        };
        while Instant::now() < until {
            ticks.tick().await;
            if let Err(error) = heart.beat().await {
                tracing::warn!(%error, "no heartbeat was written");
                return tokio::time::sleep(BEAT).await;
            }
        }
    }
}
