//! The IDC's session: claimed, kept alive, claimed again when it was lost.

use std::time::Duration;

use model::{EtcdMark, Generation};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use topology::{CommitError, KeepAlive, Session, SessionClaim, Topology};

use crate::metrics::Metrics;

const CLAIM_AGAIN_AFTER: Duration = Duration::from_millis(300);
/// After a keep-alive that failed, the next one does not wait for its turn: an election in etcd may
/// end at any moment, and time is short.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What became of the session.
#[derive(Debug, Clone)]
pub enum SessionNews {
    /// It was claimed.
    Claimed(Session),
    /// A keep-alive was acknowledged.
    Acknowledged {
        /// When it was sent, in milliseconds since boot.
        sent_at: u64,
        /// The lease time granted with the answer, in milliseconds.
        granted_millis: u64,
        /// How far etcd was then or later.
        mark: EtcdMark,
        /// Whether etcd had room to record it.
        recorded: bool,
    },
    /// The lease expired.
    Lost,
    /// etcd was put back to before the session was claimed.
    Forgotten {
        /// When it was asked, in milliseconds since boot.
        sent_at: u64,
        /// How far etcd was then or later.
        mark: EtcdMark,
    },
    /// Another process of this IDC claimed it; this one has nothing left to do.
    Superseded,
}

/// Holds the session until the receiver goes away or another process claims it. Cancel it at any
/// time: the lease is not revoked.
///
/// `above` asks for a later generation than the session has: it is claimed again then.
pub async fn keep(
    topology: Topology,
    mut claim: SessionClaim,
    metrics: Metrics,
    news: mpsc::UnboundedSender<SessionNews>,
    mut above: watch::Receiver<Generation>,
) {
    let mut forgotten = Generation(0);
    loop {
        claim.above = forgotten.max(*above.borrow_and_update());
        let session = claim_session(&topology, &claim, &metrics).await;
        tracing::info!(
            lease = %session.lease,
            generation = session.generation.0,
            "claimed the session of this IDC"
        );
        if news.send(SessionNews::Claimed(session.clone())).is_err() {
            return;
        }
        let end = tokio::select! {
            end = keep_alive(&topology, &claim, &session, &metrics, &news) => end,
            () = later_than(&mut above, session.generation) => continue,
        };
        let superseded = matches!(end, SessionNews::Superseded);
        if matches!(end, SessionNews::Forgotten { .. }) {
            forgotten = session.generation;
        }
        if news.send(end).is_err() || superseded {
            return;
        }
    }
}

/// Waits until a generation later than this one is asked for.
async fn later_than(above: &mut watch::Receiver<Generation>, generation: Generation) {
    // The sender lives as long as the supervisor, which ends this task with itself.
    if above.wait_for(|asked| *asked >= generation).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn claim_session(topology: &Topology, claim: &SessionClaim, metrics: &Metrics) -> Session {
    loop {
        match topology.claim_session(claim).await {
            Ok(session) => return session,
            Err(CommitError::Lost { .. }) => {
                tracing::warn!("another process claims this IDC's session at the same time");
            }
            Err(CommitError::Unknown(error)) => {
                metrics.etcd_error(&error);
                tracing::warn!(%error, "the session could not be claimed");
            }
        }
        tokio::time::sleep(CLAIM_AGAIN_AFTER).await;
    }
}

/// Returns how the session ended.
async fn keep_alive(
    topology: &Topology,
    claim: &SessionClaim,
    session: &Session,
    metrics: &Metrics,
    news: &mpsc::UnboundedSender<SessionNews>,
) -> SessionNews {
    // Six tries within one lease time: some may be lost before anything has to be fenced.
    let mut ticks = tokio::time::interval_at(Instant::now(), claim.lease_time / 6);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match topology.keep_alive(session).await {
            Ok(KeepAlive::Acknowledged {
                sent_at,
                granted_millis,
                mark,
                recorded,
            }) => {
                metrics.kept_alive();
                if news
                    .send(SessionNews::Acknowledged {
                        sent_at,
                        granted_millis,
                        mark,
                        recorded,
                    })
                    .is_err()
                {
                    return SessionNews::Superseded;
                }
            }
            Ok(KeepAlive::Expired) => {
                tracing::error!(lease = %session.lease, "the lease of this IDC's session expired");
                return SessionNews::Lost;
            }
            Ok(KeepAlive::Superseded) => return SessionNews::Superseded,
            Ok(KeepAlive::Forgotten { sent_at, mark }) => {
                tracing::error!(
                    generation = session.generation.0,
                    "etcd names an earlier arbiter of this IDC: it was put back to an older state"
                );
                return SessionNews::Forgotten { sent_at, mark };
            }
            Err(error) => {
                metrics.etcd_error(&error);
                tracing::warn!(%error, "a keep-alive was not acknowledged");
                ticks.reset_after(TRY_AGAIN_AFTER);
            }
        }
    }
}
