//! What every controller works with, and how its reconciles are run.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crds::Unit;
use futures::StreamExt;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use model::{SpecHash, UnitKey};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use topology::{CommitError, TopologyError};

use crate::agreement::{self, Bell, UnitAgreement};
use crate::cluster::{Cluster, ClusterError};
use crate::coordination::Coordination;
use crate::metrics::Metrics;
use crate::options::Settings;
use crate::pace::Pace;
use crate::queues::requests;
use crate::reports::Reports;
use crate::resolve::Resolver;
use crate::stores::Stores;

/// What a reconcile may look at and write to.
pub struct Context {
    /// The cluster, for writes.
    pub cluster: Cluster,
    /// The cluster, as seen.
    pub stores: Stores,
    /// etcd, as seen and for writes.
    pub coordination: Coordination,
    /// What processes say of themselves.
    pub reports: Reports,
    /// Addresses of database servers.
    pub resolver: Resolver,
    /// The installation.
    pub settings: Settings,
    /// When figures may be written.
    pub pace: Pace,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row, by kind and object.
    pub failures: Failures,
    /// Asks for a look at what the clusters agree on.
    pub bell: Bell,
}

impl Context {
    /// What is known of a Unit where each IDC has a cluster of its own; `None` where one cluster
    /// spans all, and while etcd was never seen.
    pub fn agreement(&self, key: &UnitKey) -> Option<UnitAgreement> {
        let here = self.settings.idc.as_ref()?;
        self.coordination.agreement(here, key)
    }

    /// A Unit with the spec that is in force.
    pub fn in_force(&self, unit: &Arc<Unit>, key: &UnitKey) -> Result<Arc<Unit>, ReconcileError> {
        let agreed = self.agreement(key).and_then(|found| found.agreed);
        agreement::in_force(unit, agreed.as_ref())
    }
}

/// Why a reconcile did not come to its end. It is tried again, ever more slowly.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The Kubernetes API.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// etcd, reading.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// etcd, writing.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A name in a custom resource that the schema should have refused.
    #[error(transparent)]
    Identity(#[from] model::InvalidIdentity),
    /// A document of ours that cannot be written.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        /// Which.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A spec that clusters have agreed on and that this operator cannot read.
    #[error(
        "spec {hash}, which the clusters have agreed on, cannot be read by this version of the \
         operator: {source}. Upgrade it to that of the other clusters"
    )]
    Agreed {
        /// Of the spec.
        hash: SpecHash,
        /// Why.
        source: serde_json::Error,
    },
}

impl ReconcileError {
    /// A stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Cluster(error) => error.category(),
            Self::Topology(error) | Self::Commit(CommitError::Unknown(error)) => error.category(),
            Self::Commit(CommitError::Lost { .. }) => "lost",
            Self::Identity(_) => "identity",
            Self::Json { .. } => "json",
            Self::Agreed { .. } => "agreed",
        }
    }
}

/// The pause after so many failures of one object in a row: 1 s, doubled each time, at most 2 min.
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(7)).min(Duration::from_secs(120))
}

/// Failures in a row, by kind and object.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    counts: Arc<Mutex<HashMap<(String, String), u32>>>,
}

impl Failures {
    fn key<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
        let namespace = object.namespace().unwrap_or_default();
        (
            K::kind(&()).into_owned(),
            format!("{namespace}/{}", object.name_any()),
        )
    }

    fn failed<K: Resource<DynamicType = ()>>(&self, object: &K) -> Duration {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(Self::key(object)).or_default();
        *count += 1;
        pause(*count)
    }

    fn succeeded<K: Resource<DynamicType = ()>>(&self, object: &K) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&Self::key(object));
    }
}

/// How many objects of one kind are looked at at the same time.
const CONCURRENCY: u16 = 16;

/// Runs one controller until the token is cancelled; reconciles that have begun come to their end.
pub async fn run<K, F, R>(
    context: Arc<Context>,
    store: Store<K>,
    inbox: UnboundedReceiver<ObjectRef<K>>,
    shutdown: CancellationToken,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let queue = requests(inbox).take_until(shutdown.cancelled_owned());
    let step = move |object: Arc<K>, context: Arc<Context>| {
        Box::pin(counted(object, context, reconcile.clone()))
    };
    let config = Config::default().concurrency(CONCURRENCY);
    // The stream's items are what `counted` has dealt with already, or tell of an object that is
    // gone; neither needs anything more.
    applier(
        step,
        |object, _, context| retry(&*object, &context),
        context,
        store,
        queue,
        config,
    )
    .for_each(|_| async {})
    .await;
}

async fn counted<K, F, R>(
    object: Arc<K>,
    context: Arc<Context>,
    reconcile: F,
) -> Result<Action, ReconcileError>
where
    K: Resource<DynamicType = ()> + Clone,
    F: Fn(Arc<K>, Arc<Context>) -> R,
    R: Future<Output = Result<Action, ReconcileError>>,
{
    let began = Instant::now();
    let kind = K::kind(&());
    let result = reconcile(Arc::clone(&object), Arc::clone(&context)).await;
    match &result {
        Ok(_) => {
            context.failures.succeeded(&*object);
            context
                .metrics
                .reconciled(&kind, began.elapsed().as_secs_f64());
        }
        Err(error) => {
            context.metrics.failed(&kind, error.category());
            tracing::warn!(
                kind = %kind,
                namespace = object.namespace().unwrap_or_default(),
                name = object.name_any(),
                %error,
                "a reconcile failed and is tried again"
            );
        }
    }
    result
}

fn retry<K: Resource<DynamicType = ()>>(object: &K, context: &Context) -> Action {
    Action::requeue(context.failures.failed(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_two_minutes() {
        let pauses: Vec<u64> = (1..=10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
    }

    #[test]
    fn each_object_has_its_own_pause() {
        let failures = Failures::default();
        let object = |name: &str| {
            crds::Idc::new(
                name,
                crds::IdcSpec {
                    role: crds::IdcRole::Data,
                    scheduling: None,
                },
            )
        };
        assert_eq!(failures.failed(&object("sh")), Duration::from_secs(1));
        assert_eq!(failures.failed(&object("sh")), Duration::from_secs(2));
        assert_eq!(failures.failed(&object("bj")), Duration::from_secs(1));
        failures.succeeded(&object("sh"));
        assert_eq!(failures.failed(&object("sh")), Duration::from_secs(1));
    }
}
