//! Units: their documents in etcd, their links, routing and status.

mod acknowledge;
mod candidates;
mod carried;
mod conditions;
mod degraded;
mod ending;
mod links;
mod orders;
mod parting;
mod preflight;
mod report;
pub mod routing;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::{SyncLink, Unit};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use model::{IdcName, Receipt, UnitKey, UnitState};

pub use report::{kind_name, lag_class, sentence};
pub use validate::{Problem, describe};

use crate::agreement::{self, UnitAgreement};
use crate::cluster::ClusterError;
use crate::context::{Context, ReconcileError};
use crate::coordination::UnitView;
use crate::idc;
use crate::stores::{Stores, find};
use crate::transport::certificates;
use ending::{Parting, delete};
use report::Facts;
use routing::RoutingPlan;
use validate::{Neighbour, Surroundings, validate};

/// The field manager of this controller.
const MANAGER: &str = "multiactive-unit";
/// Holds a Unit until its part of etcd is gone.
const FINALIZER: &str = "multiactive.dev/topology";
/// A receipt is written after the primary is open; it is looked for again after this time.
const RECEIPT_AGAIN: Duration = Duration::from_secs(2);
/// Objects that are in the way are not watched, so they are looked for again after this time.
const FOREIGN_AGAIN: Duration = Duration::from_secs(15);
/// How soon it is looked again whether arbiters have let go of the members of a deleted Unit.
const LET_GO_AGAIN: Duration = Duration::from_millis(300);
/// How soon it is looked again whether a deleted Unit can go.
const PART_AGAIN: Duration = Duration::from_secs(2);

/// Brings one Unit to where it should be.
pub async fn reconcile(own: Arc<Unit>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = UnitKey::new(own.namespace().unwrap_or_default(), own.name_any())?;
    context.bell.ring();
    let agreement = context.agreement(&key);
    // Everything that is made follows the spec in force, which is not always this object's own.
    let unit = context.in_force(&own, &key)?;
    let mut parting = None;
    if unit.metadata.deletion_timestamp.is_some() {
        match delete(&unit, &key, &context).await? {
            Parting::Gone => return Ok(Action::await_change()),
            Parting::LettingGo => return Ok(Action::requeue(LET_GO_AGAIN)),
            Parting::Waits(what) => parting = Some(what),
        }
    }
    let view = context.coordination.unit(&key);
    let mut problems = problems(&own, &key, &context);
    let mut unresolved = Vec::new();
    let mut again = parting.as_ref().map(|_| PART_AGAIN);
    let mut failed = None;
    let in_force = problems.is_empty() && parting.is_none();
    let wanted = Wanted::of(in_force, agreement.as_ref());
    match act(&unit, &key, &view, wanted, &context).await {
        Ok(names) => unresolved = names,
        Err(ReconcileError::Cluster(error @ ClusterError::Foreign { .. })) => {
            problems.push(Problem::new("NameTaken", format!("{error}.")));
            again = Some(FOREIGN_AGAIN);
        }
        Err(error) => failed = Some(error),
    }
    if let Err(error) = acknowledge::carry(&unit, &key, &view, &context).await {
        failed = failed.or(Some(error));
    }
    if let Err(error) = orders::carry(&unit, &key, &view, &context).await {
        failed = failed.or(Some(error));
    }
    let receipt = receipt(&unit, &key, view.state.as_ref(), &context).await;
    if matches!(receipt, Ok(Looked::Missing)) {
        again = Some(RECEIPT_AGAIN);
    }
    let certificates = certificates(&context.stores, &context.settings);
    again = again.into_iter().chain(certificates.look_at).min();
    let facts = Facts {
        unit: &unit,
        key: &key,
        problems: &problems,
        parting,
        failure: failed.as_ref().map(ToString::to_string),
        words: words(&unit, &key, &context),
        doubts: doubts(&key, &context),
        links: links::facts(&unit, &key, &context),
        receipt: match receipt {
            Ok(Looked::Found(receipt)) => Some(*receipt),
            Ok(Looked::Known | Looked::Missing) | Err(_) => None,
        },
        unresolved,
        agreed: agreement.map(|found| found.verdict(&agreement::held(&own, problems.is_empty()))),
        certificates,
        view,
    };
    write(&unit, &facts, &context).await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(again.map_or_else(Action::await_change, Action::requeue)),
    }
}

async fn write(unit: &Unit, facts: &Facts<'_>, context: &Context) -> Result<(), ReconcileError> {
    let new = report::status(facts, jiff::Timestamp::now());
    let old = unit.status.clone().unwrap_or_default();
    let pace = context.pace.due("Unit", &facts.key.to_string());
    if report::worth_writing(&old, &new, pace) {
        context.cluster.write_status(unit, &new, MANAGER).await?;
        context.pace.wrote("Unit", &facts.key.to_string());
        for notice in report::notices(&old, &new) {
            context.cluster.event(unit, &notice).await;
        }
    }
    Ok(())
}

/// What is to be made of a Unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Nothing new: its own spec is not valid, or it is being deleted.
    AsIs,
    /// Its own spec is in force, or is to be published.
    Own,
    /// The spec that the clusters have agreed on.
    Agreed,
    /// Nothing is in force yet.
    Nothing,
    /// A majority of the clusters has deleted it: what was made for it here goes too.
    Gone,
}

impl Wanted {
    fn of(valid: bool, agreement: Option<&UnitAgreement>) -> Self {
        match agreement {
            None if valid => Self::Own,
            Some(agreement) if agreement.in_force && agreement.agreed.is_some() => Self::Agreed,
            Some(agreement) if !agreement.in_force && agreement.deleted() => Self::Gone,
            // One that a single operator has published before goes on as it is.
            Some(agreement) if !agreement.in_force && valid => Self::Nothing,
            _ => Self::AsIs,
        }
    }
}

/// Routing first, since a primary that moved must not wait; then, if the spec is valid, the
/// document in etcd and the links. Returns servers that cannot be led to.
async fn act(
    unit: &Unit,
    key: &UnitKey,
    view: &UnitView,
    wanted: Wanted,
    context: &Context,
) -> Result<Vec<String>, ReconcileError> {
    let mut unresolved = Vec::new();
    // While etcd was never seen, nothing is known, and the routes stay as they are.
    if let Some(state) = &view.state
        && (wanted == Wanted::Own || state.unit.is_some())
    {
        let resolve = |host: &str| context.resolver.addresses(host);
        let stale = stale_copies(unit, key, context);
        let plan = routing::plan(unit, key, state, resolve, &stale);
        unresolved.clone_from(&plan.unresolved);
        route(unit, key, plan, context).await?;
    }
    // Once etcd is followed again, every object is looked at again.
    let etcd_well = view.state.is_some() && view.trouble.is_none();
    if !etcd_well || wanted == Wanted::AsIs {
        return Ok(unresolved);
    }
    if unit.metadata.deletion_timestamp.is_none() {
        context.cluster.set_finalizer(unit, FINALIZER, true).await?;
    }
    match wanted {
        Wanted::Own => {
            publish(unit, key, view, context).await?;
            mesh(unit, key, links::plan(unit, key), context).await?;
        }
        Wanted::Agreed => mesh(unit, key, links::plan(unit, key), context).await?,
        Wanted::Gone => mesh(unit, key, Vec::new(), context).await?,
        Wanted::Nothing | Wanted::AsIs => {}
    }
    Ok(unresolved)
}

async fn route(
    unit: &Unit,
    key: &UnitKey,
    plan: RoutingPlan,
    context: &Context,
) -> Result<(), ReconcileError> {
    let RoutingPlan {
        services,
        slices,
        unresolved: _,
    } = plan;
    let (cluster, stores) = (&context.cluster, &context.stores);
    let uid = unit.uid().unwrap_or_default();
    let wanted: BTreeSet<String> = slices.iter().map(ResourceExt::name_any).collect();
    // Slices that lead nowhere come first: away from an old primary before towards a new one.
    let (empty, leading): (Vec<_>, Vec<_>) = slices.into_iter().partition(leads_nowhere);
    for slice in empty {
        cluster.apply(&stores.slices, slice, MANAGER).await?;
    }
    let ours = |slice: &EndpointSlice| {
        slice.namespace().as_deref() == Some(key.namespace())
            && slice
                .owner_references()
                .iter()
                .any(|owner| owner.uid == uid)
    };
    for slice in stores.slices.state_filter(ours) {
        let name = slice.name_any();
        if !wanted.contains(&name) {
            cluster
                .delete(&stores.slices, key.namespace(), &name, &uid)
                .await?;
        }
    }
    for slice in leading {
        cluster.apply(&stores.slices, slice, MANAGER).await?;
    }
    if services.is_empty() {
        for purpose in ["rw", "ro"] {
            let name = routing::service_name(key, purpose);
            cluster
                .delete(&stores.services, key.namespace(), &name, &uid)
                .await?;
        }
    }
    for service in services {
        cluster.apply(&stores.services, service, MANAGER).await?;
    }
    Ok(())
}

fn leads_nowhere(slice: &EndpointSlice) -> bool {
    slice.endpoints.as_ref().is_none_or(Vec::is_empty)
}

async fn publish(
    unit: &Unit,
    key: &UnitKey,
    view: &UnitView,
    context: &Context,
) -> Result<(), ReconcileError> {
    let uid = unit.uid().unwrap_or_default();
    let document = unit
        .spec
        .document(&uid, unit.metadata.generation.unwrap_or_default());
    let known = view.state.as_ref().and_then(|state| state.unit.as_ref());
    if known.is_some_and(|known| known.value == document) {
        return Ok(());
    }
    context.cluster.check_leader("publish a Unit")?;
    context
        .coordination
        .topology()
        .publish_unit(key, &document)
        .await?;
    tracing::info!(unit = %key, generation = document.generation, "published");
    Ok(())
}

async fn mesh(
    unit: &Unit,
    key: &UnitKey,
    wanted: Vec<SyncLink>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let names: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    let uid = unit.uid().unwrap_or_default();
    for link in context.stores.links_of(key.namespace(), key.name()) {
        let name = link.name_any();
        if !names.contains(&name) {
            context
                .cluster
                .delete(&context.stores.links, key.namespace(), &name, &uid)
                .await?;
        }
    }
    for link in wanted {
        context
            .cluster
            .apply(&context.stores.links, link, MANAGER)
            .await?;
    }
    Ok(())
}

/// Everything that is wrong with the spec of a Unit of this cluster.
pub fn problems(unit: &Unit, key: &UnitKey, context: &Context) -> Vec<Problem> {
    let mut problems = validate(unit, key, &surroundings(unit, key, context));
    let known = context.stores.idcs.state().into_iter();
    let known: Vec<String> = known.map(|idc| idc.name_any()).collect();
    problems.extend(idc::not_here(context.settings.idc.as_ref(), &known));
    if context.settings.idc.is_none() {
        problems.extend(idc::not_alone(&context.coordination.clusters()));
    }
    problems
}

fn surroundings(unit: &Unit, key: &UnitKey, context: &Context) -> Surroundings {
    let stores = &context.stores;
    let idcs = stores
        .idcs
        .state()
        .into_iter()
        .filter_map(|idc| Some((IdcName::new(idc.name_any()).ok()?, idc.spec.role)));
    let units = stores.units.state().into_iter().filter_map(|other| {
        let other_key = UnitKey::new(other.namespace()?, other.name_any()).ok()?;
        (other_key != *key).then(|| Neighbour {
            key: other_key,
            created: other.creation_timestamp().map(|time| time.0),
            servers: other
                .spec
                .members
                .iter()
                .map(|member| (member.endpoint.host.clone(), member.endpoint.port))
                .collect(),
        })
    });
    let mut secrets = BTreeMap::new();
    for member in &unit.spec.members {
        let names = [
            Some(&member.credentials_secret),
            member.endpoint.tls.ca_secret.as_ref(),
        ];
        for name in names.into_iter().flatten() {
            if let Some(secret) = find(&stores.secrets, key.namespace(), name) {
                let data = secret.data.clone().unwrap_or_default();
                let keys = data
                    .into_iter()
                    .map(|(key, value)| (key, !value.0.is_empty()));
                secrets.insert(name.clone(), keys.collect());
            }
        }
    }
    Surroundings {
        idcs: idcs.collect(),
        units: units.collect(),
        links: servers_of_links(unit, stores),
        secrets,
    }
}

/// The servers that older links without a Unit join. A younger one is refused itself.
fn servers_of_links(unit: &Unit, stores: &Stores) -> BTreeMap<(String, u16), String> {
    let older = |link: &SyncLink| link.creation_timestamp() < unit.creation_timestamp();
    let links = stores
        .links
        .state_filter(|link| link.spec.unit.is_none() && older(link));
    let mut servers = BTreeMap::new();
    for link in links {
        let name = format!(
            "{}/{}",
            link.namespace().unwrap_or_default(),
            link.name_any()
        );
        for end in link.spec.own_ends().into_iter().flatten() {
            let host = end.endpoint.host.to_ascii_lowercase();
            servers.insert((host, end.endpoint.port), name.clone());
        }
    }
    servers
}

/// What each member's arbiter says of it: `None` where the arbiter was not asked yet.
fn words(unit: &Unit, key: &UnitKey, context: &Context) -> BTreeMap<IdcName, report::MemberWord> {
    let words = unit.spec.members.iter().map(|member| {
        let word = context.reports.arbiter(&member.idc);
        let word = word.map(|said| {
            said.map(|mut status| status.units.remove(key))
                .map_err(|error| error.to_string())
        });
        (member.idc.clone(), word)
    });
    words.collect()
}

/// What arbiters without a member of the Unit say of etcd, where they do not believe it.
fn doubts(key: &UnitKey, context: &Context) -> Vec<model::FailoverStatus> {
    let idcs = context.stores.idcs.state();
    let names = idcs
        .iter()
        .filter_map(|idc| IdcName::new(idc.name_any()).ok());
    let said = names.filter_map(|idc| context.reports.arbiter(&idc)?.ok());
    said.filter_map(|mut status| status.doubts.remove(key))
        .collect()
}

/// Copies that are older than the Unit allows for reading.
fn stale_copies(unit: &Unit, key: &UnitKey, context: &Context) -> BTreeSet<IdcName> {
    let limit = report::readable_lag(unit);
    let too_old = |word: &report::MemberWord| match word {
        Some(Ok(Some(member))) => member.lag_millis.is_some_and(|lag| lag > limit.as_millis()),
        // What nobody can tell is left to etcd's record of the member.
        _ => false,
    };
    let words = words(unit, key, context).into_iter();
    words
        .filter(|(_, word)| too_old(word))
        .map(|(idc, _)| idc)
        .collect()
}

/// What a look for a receipt came to.
enum Looked {
    /// It is in the status already, or there is none to look for.
    Known,
    /// Here it is.
    Found(Box<Receipt>),
    /// It is not written yet.
    Missing,
}

async fn receipt(
    unit: &Unit,
    key: &UnitKey,
    state: Option<&UnitState>,
    context: &Context,
) -> Result<Looked, ReconcileError> {
    let Some(state) = state else {
        return Ok(Looked::Known);
    };
    let Some(epoch) = state.epoch.as_ref().map(|epoch| epoch.value.epoch) else {
        return Ok(Looked::Known);
    };
    let known = unit
        .status
        .as_ref()
        .and_then(|status| status.last_transition.as_ref());
    if known.is_some_and(|known| known.epoch == epoch.0) || routing::open_primary(state).is_none() {
        return Ok(Looked::Known);
    }
    let found = context.coordination.topology().receipt(key, epoch).await?;
    Ok(found.map_or(Looked::Missing, |receipt| Looked::Found(Box::new(receipt))))
}
