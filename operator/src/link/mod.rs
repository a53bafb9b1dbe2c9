//! SyncLinks: a syncer and a writer each.

mod alone;
mod around;
mod kept;
mod left;
mod plan;
mod reach;
mod report;
mod validate;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::SyncLink;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use model::{IdcName, LinkKey, SyncerAddress, UnitKey};

pub use left::left_for_a_person;
pub use plan::{Names, config, config_volume, credentials_volume};
pub use report::WAITING;
pub use validate::{Ends, not_converging, unsupported_options};

use crate::cluster::ClusterError;
use crate::context::{Context, ReconcileError};
use crate::options::SyncerService;
use crate::stores::find;
use crate::transport::certificates;
use crate::unit::Problem;
use around::surroundings;
use plan::{Inputs, LinkPlan};
use report::Facts;
use validate::validate;
use waits::waits;

/// The field manager of this controller.
const MANAGER: &str = "multiactive-link";
/// Objects that are in the way are not watched, so they are looked for again after this time.
const FOREIGN_AGAIN: Duration = Duration::from_secs(15);

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
    let unit = match unit_name {
        Some(name) => in_force(&key, name, &context)?,
        None => None,
    };
    let transport = find(
        &context.stores.secrets,
        &context.settings.namespace,
        &context.settings.transport_secret,
    );
    let around = surroundings(&link, &key, unit.as_deref(), transport.as_deref(), &context);
    let sides = Sides::of(&link, &context);
    let (mut facts, look_at) = known(&link, &key, &sides, &context);
    let mut again = None;
    let mut failed = None;
    let mut problems = Vec::new();
    match validate(&link, &key, &around) {
        Err(found) => {
            problems = found;
            let certificate = certificate(transport.as_deref());
            if let Err(error) = kept::keep(&link, &key, &certificate, &context).await {
                facts.failure = Some(error.to_string());
                failed = Some(error.into());
            }
        }
        Ok(ends) => {
            facts.waits = waits(&ends, &key, &sides, &context);
            let acted = act(
                &link,
                &key,
                &ends,
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

/// What is known of a link before anything is done, and when to look again.
fn known<'a>(
    link: &'a SyncLink,
    key: &LinkKey,
    sides: &Sides,
    context: &Context,
) -> (Facts<'a>, Option<Duration>) {
    let held = certificates(&context.stores, &context.settings);
    let facts = Facts {
        link,
        sides: sides.clone(),
        certificate: held.transport,
        problems: &[],
        waits: Vec::new(),
        failure: None,
        started: sides.started(key, context),
        syncer: context.reports.syncer(key),
        writer: context.reports.writer(key),
        rate: context.reports.rate(key),
    };
    (facts, held.look_at)
}

/// The Unit with the spec that is in force.
fn in_force(
    key: &LinkKey,
    name: &str,
    context: &Context,
) -> Result<Option<Arc<crds::Unit>>, ReconcileError> {
    let unit = UnitKey::new(key.namespace(), name)?;
    let found = context.stores.unit(&unit);
    found
        .map(|found| context.in_force(&found, &unit))
        .transpose()
}

/// Which ends of a link run in this cluster: both, where one cluster spans all IDCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// The syncer, which belongs into the source's IDC.
    pub syncer: bool,
    /// The writer, which belongs into the target's.
    pub writer: bool,
    /// The target's IDC, in whose cluster the writer runs.
    pub target: Option<IdcName>,
}

impl Sides {
    fn of(link: &SyncLink, context: &Context) -> Self {
        let target = link.spec.target.idc.clone();
        Self {
            syncer: context.settings.here(&link.spec.source.idc),
            writer: target.as_ref().is_none_or(|idc| context.settings.here(idc)),
            target,
        }
    }

    /// Whether what belongs here was made. What does not is neither made nor waited for.
    fn started(&self, key: &LinkKey, context: &Context) -> bool {
        let names = Names::of(key.name());
        let made = |name: &str| find(&context.stores.deployments, key.namespace(), name).is_some();
        match (self.writer, self.syncer) {
            (true, _) => made(&names.writer),
            (false, true) => made(&names.syncer),
            (false, false) => false,
        }
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
    ends: &Ends,
    facts: &mut Facts<'_>,
    transport: Option<&Secret>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let sides = facts.sides.clone();
    let elsewhere = !sides.syncer && !sides.writer;
    if elsewhere || (!facts.started && !facts.waits.is_empty()) {
        return Ok(());
    }
    facts.started = true;
    let idc = |name: &IdcName| context.stores.idc(name);
    let (source, target) = (idc(&ends.source.idc), idc(&ends.target.idc));
    let inputs = Inputs {
        link,
        key,
        ends,
        source: source.as_deref(),
        target: target.as_deref(),
        certificate: certificate(transport),
        settings: &context.settings,
        syncer_at: context.coordination.syncer(key).map(|found| found.address),
        sides,
    };
    let plan = plan::plan(&inputs).map_err(|source| ReconcileError::Json {
        what: "a link's settings",
        source,
    })?;
    Box::pin(apply(Box::new(plan), context)).await?;
    if inputs.sides.syncer && context.settings.idc.is_some() {
        publish_syncer(link, key, context).await?;
    }
    Ok(())
}

/// What syncer and writer prove to each other who they are with.
fn certificate(transport: Option<&Secret>) -> BTreeMap<String, ByteString> {
    let all = transport.and_then(|secret| secret.data.clone());
    let mut all = all.unwrap_or_default();
    all.retain(|name, _| ["ca.crt", "tls.crt", "tls.key"].contains(&name.as_str()));
    all
}

/// Tells the cluster of the target where the syncer is reached. What was told before stays while
/// nothing is known, as when its pod is being replaced.
async fn publish_syncer(
    link: &SyncLink,
    key: &LinkKey,
    context: &Context,
) -> Result<(), ReconcileError> {
    let names = Names::of(key.name());
    let stores = &context.stores;
    let found = match context.settings.syncer_service {
        SyncerService::LoadBalancer => find(&stores.services, key.namespace(), &names.reach)
            .and_then(|service| reach::balanced(&service)),
        SyncerService::ClusterIp => {
            let slices = stores.slices.state_filter(|slice| {
                slice.namespace().as_deref() == Some(key.namespace())
                    && slice.labels().get("kubernetes.io/service-name") == Some(&names.syncer)
            });
            reach::routed(slices.iter().map(AsRef::as_ref))
        }
    };
    let (_, trouble) = context.coordination.everything();
    let Some(address) = found.filter(|_| trouble.is_none()) else {
        return Ok(());
    };
    let wanted = SyncerAddress {
        idc: link.spec.source.idc.clone(),
        address,
    };
    if context.coordination.syncer(key).as_ref() == Some(&wanted) {
        return Ok(());
    }
    context
        .cluster
        .check_leader("tell where a syncer is reached")?;
    let topology = context.coordination.topology();
    topology.say_syncer(key, Some(&wanted)).await?;
    tracing::info!(link = %key, address = wanted.address, "told where its syncer is reached");
    Ok(())
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
