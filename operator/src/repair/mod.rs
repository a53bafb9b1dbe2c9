//! `DataRepair`s: for each link of a run one pod that compares, followed to its end. A pod is made
//! only for what the object's status says is under way, and is taken away only once the status says
//! how it ended, so whoever begins in the middle finds all there is to know in the object.

mod decide;
mod plan;
mod report;

use std::sync::Arc;
use std::time::Duration;

use crds::{DataRepair, DataRepairStatus, SyncLink, Unit, merge_conditions};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use model::{IdcName, LinkKey, UnitKey};

use crate::cluster::Owned;
use crate::context::{Context, ReconcileError};
use crate::link::Ends;
use decide::{Decision, Facts, control, decide, under_way};
use plan::{Inputs, WorkerPlan, plan};

/// The field manager of this controller.
const MANAGER: &str = "multiactive-repair";
/// Figures are written at most so often.
const FIGURES: Duration = Duration::from_secs(5);

/// Brings one `DataRepair` further.
pub async fn reconcile(
    repair: Arc<DataRepair>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if repair.metadata.deletion_timestamp.is_some() {
        // What was made for it goes by its owner references.
        return Ok(Action::await_change());
    }
    let around = Around::of(&repair, &context)?;
    Box::pin(apply(&repair, &around, &context)).await?;
    match decided(&repair, &around, &context) {
        Decision::Finished { delete_at } => finished(&repair, delete_at, &context).await,
        Decision::Report(status, again) => {
            write(&repair, *status, &context).await?;
            Ok(again.map_or_else(Action::await_change, Action::requeue))
        }
    }
}

fn decided(repair: &DataRepair, around: &Around, context: &Context) -> Decision {
    let uid = repair.uid().unwrap_or_default();
    let unit = around.unit.as_ref();
    let view = unit.map(|(key, _)| context.coordination.unit(key));
    let state = view.as_ref().and_then(|view| view.state.as_ref());
    let empty = model::UnitState::default();
    let facts = Facts {
        repair,
        unit: unit.map(|(key, unit)| (key, unit.as_ref())),
        known: around.known.clone(),
        links: &around.links,
        // Without a Unit there is nothing to wait for.
        state: if unit.is_some() { state } else { Some(&empty) },
        here: &|idc| context.settings.here(idc),
        word: &|link| context.reports.repair(link, &repair.name_any()),
        moved_for: &|| context.pace.since("DataRepair", &uid),
    };
    decide(&facts, Timestamp::now())
}

/// What a request is about.
struct Around {
    unit: Option<(UnitKey, Arc<Unit>)>,
    links: Vec<Arc<SyncLink>>,
    known: [Vec<String>; 2],
}

impl Around {
    fn of(repair: &DataRepair, context: &Context) -> Result<Self, ReconcileError> {
        let namespace = repair.namespace().unwrap_or_default();
        let stores = &context.stores;
        let all = stores
            .links
            .state_filter(|link| link.namespace().as_deref() == Some(namespace.as_str()));
        let of_link = repair.spec.link.as_ref().and_then(|name| {
            let found = all.iter().find(|link| link.name_any() == *name)?;
            found.spec.unit.clone()
        });
        let unit = match repair.spec.unit.clone().or(of_link) {
            Some(name) => {
                let key = UnitKey::new(&namespace, &name)?;
                let found = stores.unit(&key);
                let found = found
                    .map(|unit| context.in_force(&unit, &key))
                    .transpose()?;
                found.map(|unit| (key, unit))
            }
            None => None,
        };
        let units = stores
            .units
            .state_filter(|unit| unit.namespace().as_deref() == Some(namespace.as_str()));
        let mut known = [
            units.iter().map(|unit| unit.name_any()).collect::<Vec<_>>(),
            all.iter().map(|link| link.name_any()).collect(),
        ];
        for names in &mut known {
            names.sort();
        }
        let of_unit = |link: &Arc<SyncLink>| {
            let name = unit.as_ref().map(|(key, _)| key.name());
            name.is_some() && link.spec.unit.as_deref() == name
        };
        Ok(Self {
            links: all.iter().filter(|link| of_unit(link)).cloned().collect(),
            unit,
            known,
        })
    }
}

/// The worker of one link, if all that it needs is there.
fn planned(
    repair: &DataRepair,
    run: &str,
    link: &str,
    around: &Around,
    context: &Context,
) -> Result<Option<WorkerPlan>, ReconcileError> {
    let Some((unit_key, unit)) = &around.unit else {
        return Ok(None);
    };
    let Some(link) = around.links.iter().find(|it| it.name_any() == link) else {
        return Ok(None);
    };
    let member = |idc: &IdcName| unit.spec.member(idc);
    let target = link.spec.target.idc.as_ref();
    let (Some(source), Some(target)) = (member(&link.spec.source.idc), target.and_then(member))
    else {
        return Ok(None);
    };
    let key = LinkKey::new(unit_key.namespace(), link.name_any())?;
    let idc = context.stores.idc(&target.idc);
    let inputs = Inputs {
        repair,
        run,
        control: control(repair).0,
        link,
        key: &key,
        unit: unit_key,
        ends: Ends::of_unit(unit_key.clone(), unit, source, target),
        target: idc.as_deref(),
        settings: &context.settings,
    };
    let plan = plan(&inputs).map_err(|source| ReconcileError::Json {
        what: "a repair's settings",
        source,
    })?;
    Ok(Some(plan))
}

/// Makes what the status says is under way, and takes away everything else that was made for it.
async fn apply(
    repair: &DataRepair,
    around: &Around,
    context: &Context,
) -> Result<(), ReconcileError> {
    let status = repair.status.clone().unwrap_or_default();
    let run = status.run.clone().unwrap_or_default();
    let mut plans = Vec::new();
    if under_way(&status) {
        for link in status.links.iter().filter(|link| !link.phase.is_over()) {
            plans.extend(planned(repair, &run, &link.link, around, context)?);
        }
    }
    let mut names = [const { Vec::new() }; 4];
    let (cluster, stores) = (&context.cluster, &context.stores);
    for plan in plans {
        let WorkerPlan {
            config,
            account,
            service,
            deployment,
        } = plan;
        names[0].push(config.name_any());
        names[1].push(account.name_any());
        names[2].push(service.name_any());
        names[3].push(deployment.name_any());
        cluster.apply(&stores.config_maps, config, MANAGER).await?;
        cluster.apply(&stores.accounts, account, MANAGER).await?;
        cluster.apply(&stores.services, service, MANAGER).await?;
        cluster
            .apply(&stores.deployments, deployment, MANAGER)
            .await?;
    }
    let [configs, accounts, services, deployments] = names;
    keep(repair, &stores.deployments, &deployments, context).await?;
    keep(repair, &stores.services, &services, context).await?;
    keep(repair, &stores.accounts, &accounts, context).await?;
    keep(repair, &stores.config_maps, &configs, context).await
}

/// Deletes what was made for it, but for these names.
async fn keep<K: Owned>(
    repair: &DataRepair,
    store: &Store<K>,
    names: &[String],
    context: &Context,
) -> Result<(), ReconcileError> {
    let namespace = repair.namespace().unwrap_or_default();
    let uid = repair.uid().unwrap_or_default();
    let ours = store.state_filter(|object| {
        object.namespace().as_deref() == Some(namespace.as_str())
            && object.owner_references().iter().any(|it| it.uid == uid)
            && !names.contains(&object.name_any())
    });
    for object in ours {
        let name = object.name_any();
        context
            .cluster
            .delete(store, &namespace, &name, &uid)
            .await?;
    }
    Ok(())
}

async fn finished(
    repair: &DataRepair,
    delete_at: Timestamp,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let left = delete_at.duration_since(Timestamp::now());
    if left.is_positive() {
        return Ok(Action::requeue(
            left.unsigned_abs() + Duration::from_secs(1),
        ));
    }
    context.cluster.delete_object(repair).await?;
    Ok(Action::await_change())
}

/// Writes a status with its conditions, if it differs enough, and tells what people should know.
async fn write(
    repair: &DataRepair,
    mut status: DataRepairStatus,
    context: &Context,
) -> Result<(), ReconcileError> {
    let old = repair.status.clone().unwrap_or_default();
    let generation = repair.metadata.generation;
    status.observed_generation = generation;
    let verdicts = report::verdicts(repair, &status);
    status.conditions = merge_conditions(&old.conditions, &verdicts, generation, Timestamp::now());
    let uid = repair.uid().unwrap_or_default();
    let due = context.pace.due_after("DataRepair", &uid, FIGURES);
    if !report::worth_writing(&old, &status, due) {
        return Ok(());
    }
    context
        .cluster
        .write_status(repair, &status, MANAGER)
        .await?;
    context.pace.wrote("DataRepair", &uid);
    if status.completion_time.is_some() && old.completion_time != status.completion_time {
        let phase = format!("{:?}", status.phase.unwrap_or(crds::DataRepairPhase::Done));
        let counts = status.counts.unwrap_or_default();
        context.metrics.repair_ended(&phase, &counts);
    }
    for notice in report::notices(&old, &status) {
        context.cluster.event(repair, &notice).await;
    }
    Ok(())
}
