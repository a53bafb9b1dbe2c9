//! Leader election by a Lease. Being the leader is never a remembered boolean: each write asks
//! [`Leadership::holds`], which compares the clock with the end of what was acknowledged.

mod decision;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use decision::{LEASE, Memory, RENEW_EVERY, Seen, Step, deadline, decide};

/// The name of the Lease.
pub const LEASE_NAME: &str = "multiactive-operator";

/// A request that takes longer counts as failed, so that a hanging one cannot outlive the lease.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Whether this process may write.
#[derive(Debug, Clone)]
pub struct Leadership {
    start: Instant,
    /// Milliseconds after `start` until which this process may act; 0 where it may not.
    until: Arc<AtomicU64>,
}

impl Leadership {
    /// Nobody's yet.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            until: Arc::default(),
        }
    }

    /// Whether this process may write at this moment.
    pub fn holds(&self) -> bool {
        self.now().as_millis() < u128::from(self.until.load(Ordering::Acquire))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn set(&self, until: Duration) {
        let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(millis, Ordering::Release);
    }

    fn clear(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Holds for the given time, for tests of what asks.
    #[cfg(test)]
    pub fn for_tests(held: bool) -> Self {
        let leadership = Self::new();
        if held {
            leadership.set(Duration::from_secs(3600));
        }
        leadership
    }
}

/// One process's part in the election.
pub struct Candidate {
    api: Api<Lease>,
    holder: String,
    leadership: Leadership,
    memory: Option<Memory>,
}

impl Candidate {
    /// A candidate for the Lease in a namespace.
    pub fn new(client: Client, namespace: &str, holder: &str, leadership: Leadership) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            holder: holder.to_owned(),
            leadership,
            memory: None,
        }
    }

    /// Returns once this process leads; `false` if it shall end before that.
    pub async fn win(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            match self.round().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the Lease cannot be read or taken"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
        }
    }

    /// Keeps the Lease until it is lost or the process shall end, and then gives it up.
    pub async fn keep(&mut self, shutdown: &CancellationToken) {
        while self.leadership.holds() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            match self.round().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => tracing::warn!(%error, "the Lease cannot be renewed"),
            }
        }
        self.leadership.clear();
        tracing::warn!(lease = LEASE_NAME, "no longer the leader");
    }

    /// Gives the Lease up, so that another one need not wait. Call it when all work has ended.
    pub async fn release(&mut self) {
        let held = self.leadership.holds();
        self.leadership.clear();
        if !held {
            return;
        }
        let released = async {
            let Some(mut lease) = self.api.get_opt(LEASE_NAME).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.holder) {
                spec.holder_identity = Some(String::new());
                self.api
                    .replace(LEASE_NAME, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<(), kube::Error>(())
        };
        if let Err(error) = bounded(released).await {
            tracing::warn!(%error, "the Lease was not released and has to run out");
        }
    }

    /// One look and what follows from it; whether this process leads afterwards.
    async fn round(&mut self) -> Result<bool, LeaseError> {
        let found = bounded(self.api.get_opt(LEASE_NAME)).await?;
        let step = decide(
            &self.holder,
            found.as_ref().map(seen),
            &mut self.memory,
            self.leadership.now(),
        );
        let sent = self.leadership.now();
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create => {
                let lease = self.lease(None, None);
                bounded(self.api.create(&PostParams::default(), &lease)).await
            }
            Step::Renew { resource_version } | Step::Take { resource_version } => {
                let lease = self.lease(Some(resource_version), found.as_ref());
                bounded(self.api.replace(LEASE_NAME, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(_) => {
                self.leadership.set(deadline(sent));
                Ok(true)
            }
            // Somebody else was faster, which only the next look can judge.
            Err(LeaseError::Kube(kube::Error::Api(status))) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lease(&self, resource_version: Option<String>, found: Option<&Lease>) -> Lease {
        let old = found
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(&self.holder);
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                resource_version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone()),
                lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
                acquire_time: if ours {
                    old.acquire_time
                } else {
                    Some(now.clone())
                },
                renew_time: Some(now),
                lease_transitions: Some(
                    old.lease_transitions.unwrap_or(0) + i32::from(!ours && found.is_some()),
                ),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: seconds.map_or(LEASE, Duration::from_secs),
    }
}

/// Why the Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("the Lease {LEASE_NAME}: {0}")]
    Kube(#[from] kube::Error),
    #[error(
        "the API server did not answer about the Lease {LEASE_NAME} within {REQUEST_TIMEOUT:?}"
    )]
    Timeout,
}

async fn bounded<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, LeaseError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(LeaseError::Timeout),
    }
}
