//! Where views are read and requests are made: the Kubernetes API, or etcd when that is down.

mod etcd;
mod etcd_access;
mod etcd_view;
mod judge;
mod kube;
mod kube_carried;
mod kube_errors;
mod kube_link;
mod kube_repair;
mod kube_view;

#[cfg(test)]
mod tests;

pub use self::kube::KubeBackend;
pub use etcd::EtcdBackend;
pub use kube_view::idc as idc_view;

use std::time::Duration;

use futures::stream::LocalBoxStream;
use jiff::Timestamp;
use model::{AckRecord, Epoch, OrderRequest, UnitKey};

use crate::args::{EtcdArgs, KubeArgs};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::names;
use crate::plan::Plan;
use crate::view::{IdcView, Progress, ReceiptView, UnitView};

/// Which Units are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of every namespace.
    All,
    /// Those of one namespace.
    Namespace(String),
    /// One, which must exist.
    Unit(UnitKey),
}

impl Scope {
    /// Whether a Unit belongs to it.
    pub fn contains(&self, unit: &UnitKey) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => unit.namespace() == namespace,
            Self::Unit(key) => unit == key,
        }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Every IDC.
    pub idcs: Vec<IdcView>,
    /// The Units in scope.
    pub units: Vec<UnitView>,
    /// How many Units there are outside the scope, as far as that is known.
    pub hidden: usize,
    /// When the operator gave its last sign of life, as far as that may be read.
    pub operator_seen: Option<Timestamp>,
    /// What could not be read, as sentences.
    pub notes: Vec<String>,
}

/// The Kubernetes API or etcd.
#[derive(Debug)]
pub enum Backend {
    /// The Kubernetes API.
    Kube(Box<KubeBackend>),
    /// etcd.
    Etcd(Box<EtcdBackend>),
}

impl Backend {
    /// etcd if its endpoints were given, otherwise the Kubernetes API.
    pub async fn connect(
        kube: &KubeArgs,
        etcd: &EtcdArgs,
        call: &Invocation,
    ) -> Result<Self, Failure> {
        if etcd.etcd_endpoints.is_empty() {
            Ok(Self::Kube(Box::new(
                KubeBackend::connect(kube, call).await?,
            )))
        } else {
            let timeout = Duration::try_from(kube.request_timeout).unwrap_or(Duration::MAX);
            Ok(Self::Etcd(Box::new(
                EtcdBackend::connect(etcd, timeout).await?,
            )))
        }
    }

    /// Where views come from, for people.
    pub fn source(&self) -> String {
        match self {
            Self::Kube(kube) => kube.source(),
            Self::Etcd(etcd) => etcd.source(),
        }
    }

    /// The IDCs, and the Units in scope.
    pub async fn snapshot(&self, scope: &Scope, call: &Invocation) -> Result<Snapshot, Failure> {
        match self {
            Self::Kube(kube) => kube.snapshot(scope, call).await,
            Self::Etcd(etcd) => etcd.snapshot(scope, call).await,
        }
    }

    /// The IDCs and one Unit.
    pub async fn unit(
        &self,
        unit: &UnitKey,
        call: &Invocation,
    ) -> Result<(Vec<IdcView>, UnitView), Failure> {
        let Snapshot { idcs, units, .. } = self.snapshot(&Scope::Unit(unit.clone()), call).await?;
        match units.into_iter().next() {
            Some(unit) => Ok((idcs, unit)),
            None => Err(unknown_unit(unit, &[], &self.source(), call)),
        }
    }

    /// The receipts of a Unit, the newest first.
    pub async fn receipts(
        &self,
        unit: &UnitKey,
        call: &Invocation,
    ) -> Result<Vec<ReceiptView>, Failure> {
        match self {
            Self::Kube(kube) => kube.receipts(unit, call).await,
            Self::Etcd(etcd) => etcd.receipts(unit, call).await,
        }
    }

    /// Asks for what the plan says. Answers with the request's name.
    pub async fn begin(&self, plan: &Plan, call: &Invocation) -> Result<String, Failure> {
        match self {
            Self::Kube(kube) => kube.begin(plan, call).await,
            Self::Etcd(etcd) => etcd.begin(plan, call).await,
        }
    }

    /// Notes that somebody has looked at the Unit in this epoch, so that automation may go on.
    pub async fn acknowledge(
        &self,
        unit: &UnitKey,
        record: &AckRecord,
        call: &Invocation,
    ) -> Result<(), Failure> {
        match self {
            Self::Kube(kube) => kube.acknowledge(unit, record).await,
            Self::Etcd(etcd) => etcd.acknowledge(unit, record, call).await,
        }
    }

    /// Gives or lifts an order.
    pub async fn order(
        &self,
        unit: &UnitKey,
        request: &OrderRequest,
        call: &Invocation,
    ) -> Result<(), Failure> {
        match self {
            Self::Kube(kube) => kube.order(unit, request).await,
            Self::Etcd(etcd) => etcd.order(unit, request, call).await,
        }
    }

    /// The phases of a request from now on. Ends after a final one.
    pub fn follow(
        &self,
        unit: &UnitKey,
        id: &str,
    ) -> LocalBoxStream<'_, Result<Progress, Failure>> {
        match self {
            Self::Kube(kube) => kube.follow(unit, id),
            Self::Etcd(etcd) => etcd.follow(unit, id),
        }
    }

    /// The receipt of a request that is done.
    pub async fn receipt(
        &self,
        unit: &UnitKey,
        id: &str,
        epoch: Option<Epoch>,
    ) -> Result<Option<ReceiptView>, Failure> {
        match (self, epoch) {
            (Self::Kube(kube), _) => kube.receipt(unit, id).await,
            (Self::Etcd(etcd), Some(epoch)) => etcd.receipt(unit, epoch).await,
            (Self::Etcd(_), None) => Ok(None),
        }
    }
}

/// The failure for a Unit that is not there, with those that may have been meant.
fn unknown_unit(wanted: &UnitKey, known: &[UnitKey], source: &str, call: &Invocation) -> Failure {
    let failure = Failure::failed(
        format!("Unit {wanted} was not found"),
        format!("{source} has no such Unit"),
    );
    let similar = names::similar_units(wanted, known);
    if similar.is_empty() {
        return failure.next(format!("list all Units: {}", call.own("status -A")));
    }
    let names: Vec<String> = similar.into_iter().map(ToString::to_string).collect();
    failure.next(format!("did you mean {}?", names.join(" or ")))
}
