//! One Kubernetes cluster for each IDC (`--idc`): each operator says what its cluster holds, and what
//! a majority of IDCs sees takes effect. Observe, [`plan`], carry out.

mod decide;
mod difference;
mod plan;
mod told;

use std::sync::Arc;
use std::time::Duration;

use crds::Unit;
use kube::ResourceExt;
use model::{IdcName, LinkKey, Revision, SeenSpec, SpecHash, UnitKey};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use topology::{Basis, CommitError, TopologyState};

use crate::context::{Context, ReconcileError};
use crate::covers::hash;
use crate::{idc, unit};
use plan::{Local, Shared, Step, plan};

pub use plan::{Held, electorate, values};
pub use told::{IdcAgreement, UnitAgreement};

/// Views are looked at this often also when nothing seems to have changed; nothing is written then.
const EVERY: Duration = Duration::from_secs(3);
/// What is applied together is looked at together.
const TOGETHER: Duration = Duration::from_millis(50);

/// Asks for another look at what is to be said and put in force.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Something has changed.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// A spec without what differs between clusters.
pub fn seen(unit: &Unit) -> Result<SeenSpec, ReconcileError> {
    let json = |source| ReconcileError::Json {
        what: "a Unit's spec",
        source,
    };
    let spec = serde_json::to_value(&unit.spec).map_err(json)?;
    Ok(SeenSpec {
        hash: SpecHash(hash(&spec)),
        spec: spec.to_string(),
    })
}

/// The Unit with the spec that is in force; as it is where there is none.
pub fn in_force(unit: &Arc<Unit>, agreed: Option<&SeenSpec>) -> Result<Arc<Unit>, ReconcileError> {
    let Some(agreed) = agreed else {
        return Ok(Arc::clone(unit));
    };
    let spec = serde_json::from_str(&agreed.spec).map_err(|source| ReconcileError::Agreed {
        hash: agreed.hash.clone(),
        source,
    })?;
    Ok(Arc::new(Unit {
        spec,
        ..(**unit).clone()
    }))
}

/// A Unit as this cluster holds it, by what was found wrong with it.
pub fn held(unit: &Unit, well: bool) -> Held {
    if unit.metadata.deletion_timestamp.is_some() {
        return Held::Deleting;
    }
    match seen(unit) {
        Ok(spec) if well => Held::Spec(spec),
        _ => Held::Invalid,
    }
}

fn local(here: &IdcName, context: &Context) -> Local {
    let stores = &context.stores;
    let units = stores.units.state().into_iter().filter_map(|unit| {
        let key = UnitKey::new(unit.namespace()?, unit.name_any()).ok()?;
        let well = unit::problems(&unit, &key, context).is_empty();
        Some((key, held(&unit, well)))
    });
    let links = stores.links.state().into_iter();
    Local {
        idc: here.clone(),
        idcs: idc::held(context),
        units: units.collect(),
        links: links
            .filter_map(|link| LinkKey::new(link.namespace()?, link.name_any()).ok())
            .collect(),
    }
}

/// Says what this cluster holds and puts in force what is agreed on, until the token is cancelled.
pub async fn run(context: Arc<Context>, here: IdcName, shutdown: CancellationToken) {
    let mut written = Revision::ABSENT;
    loop {
        let rung = tokio::select! {
            () = shutdown.cancelled() => return,
            () = context.bell.0.notified() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        tokio::time::sleep(TOGETHER).await;
        let (Some(state), None) = context.coordination.everything() else {
            continue;
        };
        if rung && state.revision < written {
            // What was written last is not seen yet, and would only be written again.
            continue;
        }
        let steps = plan(&local(&here, &context), &Shared::of(&state));
        for step in steps {
            if shutdown.is_cancelled() {
                return;
            }
            match carry_out(&step, &here, &state, &context).await {
                Ok(revision) => {
                    tracing::info!(step = step.describe(), %revision, "done in etcd");
                    written = revision;
                }
                // What it was decided from has changed, and is decided about anew.
                Err(ReconcileError::Commit(CommitError::Lost { doing })) => {
                    tracing::debug!(doing, "somebody else came first");
                }
                Err(error) => {
                    tracing::warn!(%error, "what the clusters agree on was not written; tried again");
                    break;
                }
            }
        }
    }
}

/// Forgets a Unit that a majority has deleted, as it was when that was seen. One that is not in force
/// any more is forgotten already.
pub async fn forget(
    key: &UnitKey,
    agreement: &UnitAgreement,
    context: &Context,
) -> Result<(), CommitError> {
    let (Some(state), _) = context.coordination.everything() else {
        return Ok(());
    };
    if !agreement.in_force {
        return Ok(());
    }
    let by = agreement.deleted_by();
    let basis = Basis::of_unit(&state, key, &by);
    let topology = context.coordination.topology();
    topology
        .agree_to_forget(key, &state, &basis)
        .await
        .map(|_| ())
}

async fn carry_out(
    step: &Step,
    here: &IdcName,
    state: &TopologyState,
    context: &Context,
) -> Result<Revision, ReconcileError> {
    context
        .cluster
        .check_leader("write what this cluster sees")?;
    let topology = context.coordination.topology();
    let revision = match step {
        Step::SayIdcs(set) => topology.say_idcs(here, set.as_ref()).await?,
        Step::SayUnit(unit, seen) => topology.say_unit(here, unit, seen).await?,
        Step::UnsayUnit(unit) => topology.unsay_unit(here, unit).await?,
        Step::EnforceIdcs(set, by) => {
            let basis = Basis::of_idcs(state, by);
            topology.agree_idcs(state, &basis, set).await?
        }
        Step::EnforceUnit(key, spec, by) => {
            let basis = Basis::of_unit(state, key, by);
            let document = document(key, spec, state, context)?;
            topology
                .agree_unit(key, state, &basis, spec, &document)
                .await?
        }
        Step::ForgetUnit(key, by) => {
            let basis = Basis::of_unit(state, key, by);
            topology.agree_to_forget(key, state, &basis).await?
        }
        Step::UnsaySyncer(link) => topology.say_syncer(link, None).await?,
    };
    Ok(revision)
}

/// The document of a spec that takes effect. Its uid stays while the Unit lives, by which arbiters
/// tell it from one that was made anew; each change is another generation of it.
fn document(
    key: &UnitKey,
    spec: &SeenSpec,
    state: &TopologyState,
    context: &Context,
) -> Result<model::UnitDoc, ReconcileError> {
    let known = state.unit(key).unit.map(|known| known.value);
    let parsed: crds::UnitSpec =
        serde_json::from_str(&spec.spec).map_err(|source| ReconcileError::Agreed {
            hash: spec.hash.clone(),
            source,
        })?;
    let own = || context.stores.unit(key).and_then(|unit| unit.uid());
    let (uid, generation) = known.map_or_else(
        || (own().unwrap_or_default(), 1),
        |known| (known.uid, known.generation.saturating_add(1)),
    );
    Ok(parsed.document(&uid, generation))
}
