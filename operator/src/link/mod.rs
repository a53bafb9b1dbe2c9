//! SyncLinks: a syncer and a writer each.

mod plan;
mod report;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use crds::SyncLink;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use model::{IdcName, LinkKey, UnitKey, UnitState};

pub use plan::Names;
pub use report::WAITING;
pub use validate::unsupported_options;

use crate::cluster::ClusterError;
use crate::context::{Context, ReconcileError};
use crate::stores::find;
use crate::transport::{Expiry, expiry};
use crate::unit::Problem;
use plan::{Inputs, LinkPlan};
use report::Facts;
use validate::{Ends, Surroundings, validate};

/// The field manager of this controller.
const MANAGER: &str = "multiactive-link";
/// Objects that are in the way are not watched, so they are looked for again after this time.
const FOREIGN_AGAIN: Duration = Duration::from_secs(15);
/// The links' certificate is looked at again after this time, also if it lives longer.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);

/// Brings one SyncLink to where it should be.
pub async fn reconcile(
    link: Arc<SyncLink>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if link.metadata.deletion_timestamp.is_some() {
        // What was made for it goes by its owner references.
        return Ok(Action::await_change());
    }
    let key = LinkKey::new(link.namespace().unwrap_or_default(), link.name_any())?;
    let unit_name = link.spec.unit.as_deref();
    let unit = unit_name.and_then(|unit| find(&context.stores.units, key.namespace(), unit));
    let transport = find(
        &context.stores.secrets,
        &context.settings.namespace,
        &context.settings.transport_secret,
    );
    let around = surroundings(&link, &key, unit.as_deref(), transport.as_deref(), &context);
    let (certificate, look_at) = certificate(transport.as_deref(), &context);
    let mut facts = Facts {
        link: &link,
        certificate,
        problems: &[],
        waits: Vec::new(),
        failure: None,
        started: started(&key, &context),
        syncer: context.reports.syncer(&key),
        writer: context.reports.writer(&key),
        rate: context.reports.rate(&key),
    };
    let mut again = None;
    let mut failed = None;
    let mut problems = Vec::new();
    match validate(&link, &key, &around) {
        Err(found) => problems = found,
        Ok(ends) => {
            facts.waits = waits(&ends, &key, &context);
            let acted = act(
                &link,
                &key,
                ends,
                &mut facts,
                transport.as_deref(),
                &context,
            );
            match Box::pin(acted).await {
                Ok(()) => {}
                Err(ReconcileError::Cluster(error @ ClusterError::Foreign { .. })) => {
                    problems.push(Problem::new("NameTaken", format!("{error}.")));
                    again = Some(FOREIGN_AGAIN);
                }
                Err(error) => {
                    facts.failure = Some(error.to_string());
                    failed = Some(error);
                }
            }
        }
    }
    facts.problems = &problems;
    write(&link, &key, &facts, &context).await?;
    let again = again.into_iter().chain(look_at).min();
    match failed {
        Some(error) => Err(error),
        None => Ok(again.map_or_else(Action::await_change, Action::requeue)),
    }
}

/// What is wrong with the links' certificate, and when that has to be looked at again: that it ends
/// is a change that nobody tells of.
fn certificate(
    transport: Option<&Secret>,
    context: &Context,
) -> (Option<Expiry>, Option<Duration>) {
    let Some(secret) = transport else {
        return (None, None);
    };
    let settings = &context.settings;
    let name = format!("{}/{}", settings.namespace, settings.transport_secret);
    let now = jiff::Timestamp::now();
    let (found, next) = expiry(secret, &name, settings.issue_transport.is_some(), now);
    let wait = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    // Timers are not made for years.
    (found, wait.map(|wait| wait.min(LOOK_AT_CERTIFICATE)))
}

fn surroundings<'a>(
    link: &SyncLink,
    key: &LinkKey,
    unit: Option<&'a crds::Unit>,
    transport: Option<&Secret>,
    context: &Context,
) -> Surroundings<'a> {
    let settings = &context.settings;
    Surroundings {
        unit,
        units: names_of_units(key, context),
        twins: twins(link, key, context),
        transport: (
            format!("{}/{}", settings.namespace, settings.transport_secret),
            transport.map(keys),
        ),
    }
}

async fn write(
    link: &SyncLink,
    key: &LinkKey,
    facts: &Facts<'_>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let new = report::status(facts, jiff::Timestamp::now());
    let old = link.status.clone().unwrap_or_default();
    let name = key.to_string();
    if report::worth_writing(&old, &new, context.pace.due("SyncLink", &name)) {
        context.cluster.write_status(link, &new, MANAGER).await?;
        context.pace.wrote("SyncLink", &name);
        for notice in report::notices(&old, &new) {
            context.cluster.event(link, &notice).await;
        }
    }
    Ok(())
}

/// Nothing is started before both members have passed preflight. What runs goes on running when a
/// member fails it later, since the link itself halts at what it cannot do.
async fn act(
    link: &SyncLink,
    key: &LinkKey,
    ends: Ends<'_>,
    facts: &mut Facts<'_>,
    transport: Option<&Secret>,
    context: &Context,
) -> Result<(), ReconcileError> {
    if !facts.started && !facts.waits.is_empty() {
        return Ok(());
    }
    facts.started = true;
    let unit = UnitKey::new(key.namespace(), ends.unit.name_any())?;
    let idc = |name: &IdcName| context.stores.idc(name);
    let (source, target) = (idc(&ends.source.idc), idc(&ends.target.idc));
    let certificate = transport
        .and_then(|secret| secret.data.clone())
        .unwrap_or_default();
    let inputs = Inputs {
        link,
        key,
        unit: &unit,
        ends,
        source: source.as_deref(),
        target: target.as_deref(),
        certificate: certificate
            .into_iter()
            .filter(|(name, _)| ["ca.crt", "tls.crt", "tls.key"].contains(&name.as_str()))
            .collect(),
        settings: &context.settings,
    };
    let plan = plan::plan(&inputs).map_err(|source| ReconcileError::Json {
        what: "a link's settings",
        source,
    })?;
    Box::pin(apply(Box::new(plan), context)).await
}

async fn apply(plan: Box<LinkPlan>, context: &Context) -> Result<(), ReconcileError> {
    let LinkPlan {
        config,
        transport,
        accounts,
        services,
        deployments,
    } = *plan;
    let (cluster, stores) = (&context.cluster, &context.stores);
    cluster.apply(&stores.config_maps, config, MANAGER).await?;
    cluster.apply(&stores.secrets, transport, MANAGER).await?;
    for account in accounts {
        cluster.apply(&stores.accounts, account, MANAGER).await?;
    }
    for service in services {
        cluster.apply(&stores.services, service, MANAGER).await?;
    }
    for deployment in deployments {
        cluster
            .apply(&stores.deployments, deployment, MANAGER)
            .await?;
    }
    Ok(())
}

fn started(key: &LinkKey, context: &Context) -> bool {
    let writer = Names::of(key.name()).writer;
    find(&context.stores.deployments, key.namespace(), &writer).is_some()
}

/// What has to happen before the link may be started.
fn waits(ends: &Ends<'_>, key: &LinkKey, context: &Context) -> Vec<String> {
    let Ok(unit) = UnitKey::new(key.namespace(), ends.unit.name_any()) else {
        return Vec::new();
    };
    let view = context.coordination.unit(&unit);
    let Some(state) = view.state else {
        return vec!["etcd has not been read yet.".to_owned()];
    };
    if state.unit.is_none() {
        return vec![format!(
            "Unit {unit} is not in force yet: its conditions tell why."
        )];
    }
    [&ends.source.idc, &ends.target.idc]
        .into_iter()
        .filter(|idc| !passed(&state, idc))
        .map(|idc| {
            format!(
                "Member {idc} of Unit {unit} has not passed preflight: the Unit's condition \
                 PreflightPassed tells why."
            )
        })
        .collect()
}

/// A member that was never reached has nothing to start a link on, whatever was found before.
/// A member that was never reached has nothing to start a link on, whatever was found before.
fn passed(state: &UnitState, idc: &IdcName) -> bool {
    let record = state.members.get(idc).map(|record| &record.value);
    record.is_some_and(|record| record.preflight_passed && record.reachable)
}

fn names_of_units(key: &LinkKey, context: &Context) -> Vec<String> {
    let here = |unit: &crds::Unit| unit.namespace().as_deref() == Some(key.namespace());
    let units = context.stores.units.state_filter(here);
    let mut names: Vec<String> = units.iter().map(|unit| unit.name_any()).collect();
    names.sort();
    names
}

fn twins(
    link: &SyncLink,
    key: &LinkKey,
    context: &Context,
) -> Vec<(String, Option<jiff::Timestamp>)> {
    let Some(unit) = &link.spec.unit else {
        return Vec::new();
    };
    let links = context.stores.links_of(key.namespace(), unit);
    let twins = links.iter().filter(|other| {
        other.name_any() != key.name()
            && other.metadata.deletion_timestamp.is_none()
            && other.spec.source.idc == link.spec.source.idc
            && other.spec.target.idc == link.spec.target.idc
    });
    twins
        .map(|other| {
            (
                other.name_any(),
                other.creation_timestamp().map(|time| time.0),
            )
        })
        .collect()
}

fn keys(secret: &Secret) -> std::collections::BTreeMap<String, bool> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter()
        .map(|(key, value)| (key, !value.0.is_empty()))
        .collect()
}
