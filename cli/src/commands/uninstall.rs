//! `uninstall`: takes the product's schema out of databases that it does not keep any more.

use std::time::Duration;

use crds::Unit;
use model::{IdcName, UnitKey};
use mysql::control::{ControlSession, InUse, Uninstalled};
use serde::Serialize;

use super::Context;
use super::preflight::{Cluster, read, session_options};
use crate::args::UninstallArgs;
use crate::backend::{KubeBackend, Scope};
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::preflight::{self, Manifest};

const TRIED: &str = "the schema multiactive was not taken away everywhere";
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of one member's server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    unit: UnitKey,
    idc: IdcName,
    endpoint: String,
    /// Whether nothing of ours is left there.
    gone: bool,
    message: String,
}

pub(super) async fn run(context: &Context, args: &UninstallArgs) -> Result<Exit, Failure> {
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    let mut manifest = Manifest::default();
    for file in &args.filename {
        manifest.add(&file.display().to_string(), &read(file)?, &namespace)?;
    }
    let cluster: Cluster = KubeBackend::connect(&context.kube, &context.call).await;
    let kept = match &cluster {
        Ok(cluster) => cluster.units(&Scope::All).await,
        Err(failure) => Err(failure.clone()),
    };
    let kept = kept.map_err(|failure| {
        Failure::refused(
            "nothing was taken away",
            format!(
                "whether the Units are deleted is not known: {}",
                failure.returned
            ),
        )
    })?;
    let mut members = Vec::new();
    for unit in &manifest.units {
        let Some(key) = preflight::key(unit) else {
            continue;
        };
        refuse_if_kept(&key, unit, &kept, context)?;
        let wanted = |idc: &IdcName| args.idc.as_ref().is_none_or(|wanted| wanted == idc);
        members.extend(
            unit.spec
                .members
                .iter()
                .filter(|member| wanted(&member.idc))
                .map(|member| (key.clone(), member)),
        );
    }
    if members.is_empty() {
        return Err(Failure::failed(
            "nothing was taken away",
            "the manifest has no such member of a Unit",
        ));
    }
    for (unit, member) in &members {
        let server = member.endpoint.document();
        super::note(&format!("Unit {unit}, member {} ({server})\n", member.idc));
    }
    confirm::obtain(
        args.yes,
        "Drop the schema multiactive there? The databases of the Units stay as they are.",
        "nothing was taken away",
        &context.call.own("uninstall -f FILE"),
    )?;
    let mut outcomes = Vec::new();
    for (unit, member) in members {
        let (gone, message) = match one(&unit, member, &manifest, &cluster).await {
            Ok(uninstalled) => told(uninstalled),
            Err(reason) => (false, reason),
        };
        outcomes.push(Outcome {
            unit,
            idc: member.idc.clone(),
            endpoint: member.endpoint.document().to_string(),
            gone,
            message,
        });
    }
    finish(args, &outcomes)
}

/// A Unit that is there is kept, and so is a server that another Unit has by now.
fn refuse_if_kept(
    key: &UnitKey,
    unit: &Unit,
    kept: &[Unit],
    context: &Context,
) -> Result<(), Failure> {
    let servers = |unit: &Unit| -> Vec<String> {
        let members = unit.spec.members.iter();
        members
            .map(|member| member.endpoint.document().to_string())
            .collect()
    };
    let ours = servers(unit);
    let holder = kept.iter().find(|other| {
        preflight::key(other).as_ref() == Some(key)
            || servers(other).iter().any(|server| ours.contains(server))
    });
    let Some(holder) = holder.and_then(preflight::key) else {
        return Ok(());
    };
    Err(Failure::refused(
        "nothing was taken away",
        format!("Unit {holder} is there and needs it"),
    )
    .next(context.call.kubectl(&format!(
        "-n {} delete unit {}",
        holder.namespace(),
        holder.name()
    ))))
}

async fn one(
    unit: &UnitKey,
    member: &crds::Member,
    manifest: &Manifest,
    cluster: &Cluster,
) -> Result<Uninstalled, String> {
    let options = session_options(unit.namespace(), member, manifest, cluster).await?;
    let session = ControlSession::connect(&options, PATIENCE).await;
    let mut session = session.map_err(|error| error.to_string())?;
    session.uninstall().await.map_err(|error| error.to_string())
}

/// Whether nothing is left there, and the sentence.
fn told(uninstalled: Uninstalled) -> (bool, String) {
    match uninstalled {
        Uninstalled::Gone => (true, "the schema multiactive is gone".to_owned()),
        Uninstalled::NotThere => (true, "there was no schema multiactive".to_owned()),
        Uninstalled::InUse(InUse::Guard) => (
            false,
            "a guard runs there: an arbiter holds this server. Delete its Unit first".to_owned(),
        ),
        Uninstalled::InUse(InUse::Heartbeat(age)) => (
            false,
            format!(
                "a heartbeat was written there {age} s ago: an arbiter or a link is at work. Wait \
                 until the Unit's pods are gone, then ask again"
            ),
        ),
        Uninstalled::InUse(InUse::Stranded(number)) => (
            false,
            format!(
                "{} that a failover left behind are set aside there and nowhere else. Settle them \
                 first: mactl stranded",
                crate::render::count(number, "transaction")
            ),
        ),
        Uninstalled::InUse(InUse::Held(number)) => (
            false,
            format!(
                "{} that links were made to skip are filed there, in multiactive.held, and not \
                 settled. Save what is wanted of it, and run there: DELETE FROM multiactive.held",
                crate::render::count(number, "transaction")
            ),
        ),
    }
}

fn finish(args: &UninstallArgs, outcomes: &[Outcome]) -> Result<Exit, Failure> {
    let line = |one: &Outcome| {
        let mark = if one.gone { "✓" } else { "✗" };
        format!(
            "{mark} Unit {}, member {} ({}): {}\n",
            one.unit, one.idc, one.endpoint, one.message
        )
    };
    super::show(
        args.output.output,
        &outcomes,
        |_| outcomes.iter().map(line).collect(),
        || {
            let gone = outcomes.iter().filter(|one| one.gone);
            gone.map(|one| one.idc.to_string()).collect()
        },
    )?;
    let left: Vec<String> = outcomes
        .iter()
        .filter(|one| !one.gone)
        .map(|one| one.endpoint.clone())
        .collect();
    if left.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::refused(
        TRIED,
        format!("it is left in {}", left.join(", ")),
    ))
}
