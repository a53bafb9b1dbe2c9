//! Idcs: an arbiter each, and their documents in etcd.

mod credentials;
mod plan;
mod report;

use std::sync::Arc;

use crds::{Idc, IdcRole};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use model::{IdcName, IdcSet, UnitKey};

pub use plan::arbiter_name;

use crate::context::{Context, ReconcileError};
use crate::stores::find;
use crate::unit::Problem;
use plan::IdcPlan;
use report::Facts;

/// The field manager of this controller.
const MANAGER: &str = "multiactive-idc";
/// Holds an Idc until its document in etcd is gone.
const FINALIZER: &str = "multiactive.dev/topology";

/// Brings one Idc to where it should be.
pub async fn reconcile(idc: Arc<Idc>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let name = IdcName::new(idc.name_any())?;
    context.bell.ring();
    if idc.metadata.deletion_timestamp.is_some() {
        return delete(&idc, &name, &context).await;
    }
    let outcome = act(&idc, &name, &context).await;
    let problem = outcome.as_ref().err().map(ToString::to_string);
    report(&idc, &name, &context, problem).await?;
    outcome.map(|()| Action::await_change())
}

async fn act(idc: &Idc, name: &IdcName, context: &Context) -> Result<(), ReconcileError> {
    if witness_with_copies(idc, name, context).is_some() {
        // The role in force stays; the report tells why.
        return Ok(());
    }
    context.cluster.set_finalizer(idc, FINALIZER, true).await?;
    if context.settings.here(name) {
        arbiter(idc, name, context).await?;
    }
    // Last, since an arbiter is needed also while etcd is out of this operator's reach. Where each
    // IDC has a cluster, this one alone puts nothing in force.
    if context.settings.idc.is_some() || !context.coordination.clusters().is_empty() {
        return Ok(());
    }
    publish(idc, name, context).await
}

/// The arbiter of an IDC whose pods run in this cluster, with the accounts of all members of all
/// Units: by its own one it acts, and at the others it looks.
async fn arbiter(idc: &Idc, name: &IdcName, context: &Context) -> Result<(), ReconcileError> {
    let secret = find(
        &context.stores.secrets,
        &context.settings.namespace,
        &plan::secret_name(name),
    );
    let (published, _) = context.coordination.everything();
    let units = context.stores.units.state().into_iter().map(|unit| {
        let key = UnitKey::new(unit.namespace().unwrap_or_default(), unit.name_any())?;
        context.in_force(&unit, &key)
    });
    let credentials = credentials::collect(
        &units.collect::<Result<Vec<_>, _>>()?,
        published.as_ref(),
        |namespace, name| find(&context.stores.secrets, namespace, name),
        secret.as_deref(),
    );
    apply(
        Box::new(plan::plan(idc, name, &context.settings, &credentials)),
        context,
    )
    .await?;
    hurry(name, context).await
}

/// The kubelet brings a changed Secret into a running pod within a minute or two, or at once when
/// the pod itself changes, which an annotation is enough for. It names the Secret's version: a hash
/// of what is in it would be an invitation to guess passwords.
async fn hurry(name: &IdcName, context: &Context) -> Result<(), ReconcileError> {
    let secret = find(
        &context.stores.secrets,
        &context.settings.namespace,
        &plan::secret_name(name),
    );
    let Some(version) = secret.and_then(|secret| secret.resource_version()) else {
        // The watch of Secrets will show it, and this Idc is looked at again then.
        return Ok(());
    };
    let of_this_idc = |pod: &Pod| {
        pod.labels().get("multiactive.dev/idc").map(String::as_str) == Some(name.as_str())
            && pod.metadata.deletion_timestamp.is_none()
    };
    for pod in context.stores.arbiters.state_filter(of_this_idc) {
        context
            .cluster
            .annotate(&*pod, "multiactive.dev/credentials", &version)
            .await?;
    }
    Ok(())
}

async fn apply(plan: Box<IdcPlan>, context: &Context) -> Result<(), ReconcileError> {
    let IdcPlan {
        account,
        secret,
        service,
        deployment,
    } = *plan;
    let (cluster, stores) = (&context.cluster, &context.stores);
    cluster.apply(&stores.accounts, account, MANAGER).await?;
    cluster.apply(&stores.secrets, secret, MANAGER).await?;
    cluster.apply(&stores.services, service, MANAGER).await?;
    cluster
        .apply(&stores.deployments, deployment, MANAGER)
        .await?;
    Ok(())
}

async fn publish(idc: &Idc, name: &IdcName, context: &Context) -> Result<(), ReconcileError> {
    let document = idc.spec.document();
    let (state, trouble) = context.coordination.everything();
    if trouble.is_some() {
        // Once etcd is followed again, every object is looked at again.
        return Ok(());
    }
    let known = state.as_ref().and_then(|state| state.idcs.get(name));
    if known.is_some_and(|known| known.value == document) {
        return Ok(());
    }
    context.cluster.check_leader("publish an IDC")?;
    context
        .coordination
        .topology()
        .publish_idc(name, &document)
        .await?;
    Ok(())
}

async fn report(
    idc: &Idc,
    name: &IdcName,
    context: &Context,
    problem: Option<String>,
) -> Result<(), ReconcileError> {
    let (state, trouble) = context.coordination.everything();
    let deployment = find(
        &context.stores.deployments,
        &context.settings.namespace,
        &arbiter_name(name),
    );
    let facts = Facts {
        name,
        state: state.as_ref(),
        etcd_trouble: trouble,
        word: context.reports.arbiter(name),
        deployment: deployment.as_deref(),
        problem: witness_with_copies(idc, name, context)
            .map(|message| ("WitnessWithCopies", message))
            .or_else(|| {
                let known: Vec<String> = names(context);
                let found =
                    not_here(context.settings.idc.as_ref(), &known).or_else(|| alone(context))?;
                Some((found.reason, found.message))
            })
            .or_else(|| problem.map(|message| ("Failed", message))),
        here: context.settings.here(name),
        agreed: context
            .settings
            .idc
            .as_ref()
            .and_then(|here| context.coordination.idc_agreement(here, held(context)))
            .map(|agreement| agreement.verdict()),
    };
    let status = report::status(idc, &facts, jiff::Timestamp::now());
    if idc.status.as_ref() != Some(&status) {
        context.cluster.write_status(idc, &status, MANAGER).await?;
    }
    for notice in report::notices(idc.status.as_ref(), &status) {
        context.cluster.event(idc, &notice).await;
    }
    Ok(())
}

fn names(context: &Context) -> Vec<String> {
    let mut names: Vec<String> = context
        .stores
        .idcs
        .state()
        .iter()
        .map(|idc| idc.name_any())
        .collect();
    names.sort();
    names
}

/// The operator is told to be of an IDC that this cluster does not know.
pub fn not_here(here: Option<&IdcName>, known: &[String]) -> Option<Problem> {
    let here = here.filter(|here| known.iter().all(|name| name != here.as_str()))?;
    let mut known = known.to_vec();
    known.sort();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Some(Problem::new(
        "UnknownIdc",
        format!(
            "The operator of this cluster runs with --idc {here} (Helm value idc), but there is no \
             Idc {here} here (there are: {known}): apply the Idc {here}, or correct the value."
        ),
    ))
}

/// An operator without `--idc` beside some that have one would put in force whatever it alone sees.
pub fn not_alone(clusters: &[IdcName]) -> Option<Problem> {
    if clusters.is_empty() {
        return None;
    }
    let clusters: Vec<&str> = clusters.iter().map(IdcName::as_str).collect();
    Some(Problem::new(
        "ClusterPerIdc",
        format!(
            "Operators of the IDCs {} share this etcd prefix, each in a cluster of its own, and the \
             operator of this cluster runs without --idc: set the Helm value idc to the IDC that \
             this cluster is, or etcd.prefix to one of its own.",
            clusters.join(", ")
        ),
    ))
}

fn alone(context: &Context) -> Option<Problem> {
    match context.settings.idc {
        Some(_) => None,
        None => not_alone(&context.coordination.clusters()),
    }
}

/// The IDCs that this cluster holds; `None` where something is wrong about one. One that is being
/// deleted while Units have members in it is still held.
pub fn held(context: &Context) -> Option<IdcSet> {
    let mut set = IdcSet::default();
    for idc in context.stores.idcs.state() {
        let name = IdcName::new(idc.name_any()).ok()?;
        if witness_with_copies(&idc, &name, context).is_some() {
            return None;
        }
        if idc.metadata.deletion_timestamp.is_none() || !users(&name, context).is_empty() {
            set.idcs.insert(name, idc.spec.document());
        }
    }
    Some(set)
}

/// A data IDC that is to become a witness while Units still have copies there.
fn witness_with_copies(idc: &Idc, name: &IdcName, context: &Context) -> Option<String> {
    let users = users(name, context);
    let first = users.first()?;
    (idc.spec.role == IdcRole::Witness && was_data(name, context)).then(|| {
        format!(
            "Idc {name}: spec.role is Witness, but Unit {first} has a member here{}. Remove the \
             member first, or set spec.role back to Data; the role Data stays in force",
            and_more(&users)
        )
    })
}

fn was_data(name: &IdcName, context: &Context) -> bool {
    let (state, _) = context.coordination.everything();
    state
        .and_then(|state| state.idcs.get(name).map(|doc| doc.value.role))
        .is_some_and(|role| role == model::IdcRole::Data)
}

fn and_more(users: &[UnitKey]) -> String {
    match users.len() {
        0 | 1 => String::new(),
        more => format!(" (and {} more Units)", more - 1),
    }
}

/// Units with a member in this IDC.
fn users(name: &IdcName, context: &Context) -> Vec<UnitKey> {
    let mut users: Vec<UnitKey> = context
        .stores
        .units
        .state()
        .iter()
        .filter(|unit| unit.spec.member(name).is_some())
        .filter_map(|unit| UnitKey::new(unit.namespace().unwrap_or_default(), unit.name_any()).ok())
        .collect();
    users.sort();
    users
}

/// An Idc goes once no Unit has a member in it: without its arbiter such a member would be fenced
/// within seconds.
async fn delete(idc: &Idc, name: &IdcName, context: &Context) -> Result<Action, ReconcileError> {
    if !idc.finalizers().iter().any(|present| present == FINALIZER) {
        return Ok(Action::await_change());
    }
    let users = users(name, context);
    if let Some(first) = users.first() {
        let message = format!(
            "Idc {name} is being deleted, but Unit {first} has a member here{}. It goes once no \
             Unit has: delete those Units, or take the member out of them",
            and_more(&users)
        );
        report(idc, name, context, Some(message)).await?;
        return Ok(Action::await_change());
    }
    if context.settings.idc.is_some() {
        // It goes once the clusters have agreed that it does; that is told when it happens.
        let (state, trouble) = context.coordination.everything();
        if trouble.is_some() || state.is_none_or(|state| state.idcs.contains_key(name)) {
            report(idc, name, context, None).await?;
            return Ok(Action::await_change());
        }
    } else {
        context.cluster.check_leader("delete an IDC from etcd")?;
        context.coordination.topology().delete_idc(name).await?;
    }
    context.cluster.set_finalizer(idc, FINALIZER, false).await?;
    Ok(Action::await_change())
}
