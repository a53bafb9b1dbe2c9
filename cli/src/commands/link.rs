//! `link`: where links stand, stopping them, and having one leave a transaction out.

mod hold;
mod settle;
mod skip;
mod view;

use jiff::Timestamp;
use model::LinkKey;

use super::Context;
use crate::args::{LinkArgs, LinkCommand, LinkListArgs, LinkNameArgs};
use crate::backend::KubeBackend;
use crate::failure::{Exit, Failure};
use crate::names::LinkArg;
use crate::render::link as render;

pub use view::{LedgerReport, LinkReport};

pub(super) async fn run(context: &Context, args: &LinkArgs) -> Result<Exit, Failure> {
    match &args.command {
        LinkCommand::List(args) => list(context, args).await,
        LinkCommand::Lag(args) => lag(context, args).await,
        LinkCommand::Ledger(args) => ledger(context, args).await,
        LinkCommand::Skip(args) => skip::run(context, args).await,
        LinkCommand::Held(args) => skip::held(context, args).await,
        LinkCommand::Settle(args) => settle::run(context, args).await,
        LinkCommand::Suspend(args) => hold::run(context, args, true).await,
        LinkCommand::Resume(args) => hold::run(context, args, false).await,
    }
}

async fn list(context: &Context, args: &LinkListArgs) -> Result<Exit, Failure> {
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    let kube = KubeBackend::connect(&context.kube, &context.call).await?;
    let wanted = (!args.all_namespaces).then_some(namespace.as_str());
    let links = kube.links(wanted).await?;
    let reports: Vec<LinkReport> = links.iter().filter_map(LinkReport::of).collect();
    super::show(
        args.output.output,
        &reports,
        |wide| render::list(&reports, args.all_namespaces, wide),
        || reports.iter().map(|report| name(&report.link)).collect(),
    )?;
    Ok(Exit::Done)
}

async fn lag(context: &Context, args: &LinkNameArgs) -> Result<Exit, Failure> {
    let (_, report) = read(context, &args.link).await?;
    super::show(
        args.output.output,
        &report,
        |_| render::lag(&report, Timestamp::now()),
        || vec![name(&report.link)],
    )?;
    Ok(Exit::Done)
}

async fn ledger(context: &Context, args: &LinkNameArgs) -> Result<Exit, Failure> {
    let (_, report) = read(context, &args.link).await?;
    super::show(
        args.output.output,
        &report,
        |_| render::ledger(&report, Timestamp::now()),
        || vec![name(&report.link)],
    )?;
    match report.ledger.filter(|ledger| !ledger.balanced) {
        None => Ok(Exit::Done),
        Some(ledger) => Err(Failure::failed(
            format!("the ledger of SyncLink {} does not add up", report.link),
            render::imbalance(&ledger),
        )
        .next(format!(
            "compare the two ends: {}",
            context
                .call
                .own(&format!("repair {} --link --verify", report.link))
        ))),
    }
}

/// The cluster, and what is known there of a link.
async fn read(context: &Context, link: &LinkArg) -> Result<(KubeBackend, LinkReport), Failure> {
    let key = key(context, link)?;
    let kube = KubeBackend::connect(&context.kube, &context.call).await?;
    let report = report(&kube, &key).await?;
    Ok((kube, report))
}

async fn report(kube: &KubeBackend, key: &LinkKey) -> Result<LinkReport, Failure> {
    let link = kube.link(key.namespace(), key.name()).await?;
    told(&link, key)
}

fn told(link: &crds::SyncLink, key: &LinkKey) -> Result<LinkReport, Failure> {
    LinkReport::of(link).ok_or_else(|| {
        Failure::failed(
            format!("SyncLink {key} was not read"),
            "the API answered with an object without its name",
        )
    })
}

/// The link that was typed.
fn key(context: &Context, link: &LinkArg) -> Result<LinkKey, Failure> {
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    link.key(&namespace).map_err(|error| {
        Failure::usage("the SyncLink was not looked for", error.to_string())
            .next("give the namespace with -n, or write NAMESPACE/NAME")
    })
}

fn name(link: &LinkKey) -> String {
    format!("synclink.multiactive.dev/{}", link.name())
}
