//! Idcs: an arbiter each, and their documents in etcd.

mod credentials;
mod plan;
mod report;

use std::sync::Arc;

use crds::{Idc, IdcRole};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use model::{IdcName, UnitKey};

pub use plan::arbiter_name;

use crate::context::{Context, ReconcileError};
use crate::stores::find;
use plan::IdcPlan;
use report::Facts;

/// The field manager of this controller.
const MANAGER: &str = "multiactive-idc";
/// Holds an Idc until its document in etcd is gone.
const FINALIZER: &str = "multiactive.dev/topology";

/// Brings one Idc to where it should be.
pub async fn reconcile(idc: Arc<Idc>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let name = IdcName::new(idc.name_any())?;
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
    let secret = find(
        &context.stores.secrets,
        &context.settings.namespace,
        &plan::secret_name(name),
    );
    let (published, _) = context.coordination.everything();
    let credentials = credentials::collect(
        &context.stores.units.state(),
        published.as_ref(),
        |namespace, name| find(&context.stores.secrets, namespace, name),
        secret.as_deref(),
    );
    apply(
        Box::new(plan::plan(idc, name, &context.settings, &credentials)),
        context,
    )
    .await?;
    hurry(name, context).await?;
    // Last, since an arbiter is needed also while etcd is out of this operator's reach.
    publish(idc, name, context).await
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
            .or_else(|| problem.map(|message| ("Failed", message))),
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
    context.cluster.check_leader("delete an IDC from etcd")?;
    context.coordination.topology().delete_idc(name).await?;
    context.cluster.set_finalizer(idc, FINALIZER, false).await?;
    Ok(Action::await_change())
}
