//! The operator: custom resources in, pods and topology out.

mod accounts;
mod agreement;
mod cluster;
mod context;
mod coordination;
mod covers;
mod http;
mod idc;
mod leader;
mod link;
mod metrics;
mod options;
mod pace;
mod queues;
mod repair;
mod reports;
mod resolve;
mod resources;
#[cfg(test)]
mod samples;
mod stores;
mod switchover;
mod transport;
mod triggers;
mod unit;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use kube::Client;
use process::Process;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use topology::{EtcdOptions, Topology};

use crate::agreement::Bell;
use crate::cluster::Cluster;
use crate::context::{Context, Failures, run};
use crate::coordination::Coordination;
use crate::leader::{Candidate, Leadership};
use crate::metrics::Metrics;
use crate::options::{Arguments, Images, Settings};
use crate::pace::Pace;
use crate::queues::queues;
use crate::reports::Reports;
use crate::resolve::Resolver;
use crate::stores::Stores;

/// How long a new leader looks around before it acts, if somebody does not answer.
const FIRST_LOOK: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Arguments::parse();
    let process = Process::start(&options.process, "operator").await?;
    let result = work(&options, &process).await;
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "the operator ends");
    }
    process.finish().await;
    result
}

async fn work(options: &Arguments, process: &Process) -> anyhow::Result<()> {
    options.check()?;
    let settings = options.settings(Images::read(&options.images)?);
    let client = Client::try_default()
        .await
        .context("no way to the Kubernetes API: neither a service account nor a kubeconfig")?;
    let etcd = EtcdOptions::new(
        options.etcd_endpoints.clone(),
        &options.etcd_prefix,
        options.etcd_tls.clone(),
    );
    let topology = Topology::connect(&etcd).await?;
    let metrics = Metrics::new();
    process.registry(|registry| metrics.register(registry));
    let leadership = Leadership::new();
    let mut candidate = Candidate::new(
        client.clone(),
        &settings.namespace,
        &options.holder,
        leadership.clone(),
    );
    let shutdown = process.shutdown();
    process.health().set_ready();

    while candidate.win(&shutdown).await {
        tracing::info!(holder = options.holder, "leads");
        metrics.leader(true);
        let cluster = Cluster::new(
            client.clone(),
            leadership.clone(),
            &options.holder,
            metrics.clone(),
        );
        let term = shutdown.child_token();
        let work = lead(
            &client,
            cluster,
            topology.clone(),
            &settings,
            &metrics,
            &term,
        );
        let mut work = std::pin::pin!(work);
        tokio::select! {
            () = candidate.keep(&shutdown) => {}
            () = &mut work => {}
        }
        // Whatever has begun comes to its end; a write of it that comes too late is refused.
        term.cancel();
        work.await;
        metrics.leader(false);
        if shutdown.is_cancelled() {
            break;
        }
    }
    candidate.release().await;
    Ok(())
}

/// Everything that only the leader does, until the token is cancelled.
async fn lead(
    client: &Client,
    cluster: Cluster,
    topology: Topology,
    settings: &Settings,
    metrics: &Metrics,
    term: &CancellationToken,
) {
    let (queues, inboxes) = queues();
    let (stores, mut tasks) = Stores::watch(
        client,
        &settings.namespace,
        triggers::Certificates {
            namespace: settings.namespace.clone(),
            transport: settings.transport_secret.clone(),
            etcd: settings.etcd_tls_secret.clone(),
        },
        &queues,
        term,
    );
    let context = Arc::new(Context {
        cluster,
        stores: stores.clone(),
        coordination: Coordination::new(topology),
        reports: Reports::default(),
        resolver: Resolver::default(),
        settings: settings.clone(),
        pace: Pace::default(),
        metrics: metrics.clone(),
        failures: Failures::default(),
        bell: Bell::default(),
    });
    let listed = tokio::select! {
        ready = stores.ready() => ready,
        () = term.cancelled() => false,
    };
    if listed {
        look(&context, &queues, &mut tasks, term);
        if let Some(lives) = settings.issue_transport {
            tasks.spawn(transport::run(
                context.cluster.clone(),
                stores.clone(),
                settings.clone(),
                lives,
                term.clone(),
            ));
        }
        // Statuses that are written before the first look around would say that nothing is known,
        // and be written again a moment later.
        let looked = async { tokio::join!(context.coordination.tried(), context.reports.asked()) };
        tokio::select! {
            _ = looked => {}
            () = tokio::time::sleep(FIRST_LOOK) => {}
            () = term.cancelled() => {}
        }
        start(&context, inboxes, &mut tasks, term);
        if let Some(here) = &settings.idc {
            let context = Arc::clone(&context);
            tasks.spawn(agreement::run(context, here.clone(), term.clone()));
        }
        queues.send(stores.everything());
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task ended badly; the others are ended too");
            term.cancel();
        }
    }
}

/// Follows everything outside the Kubernetes API.
fn look(
    context: &Arc<Context>,
    queues: &queues::Queues,
    tasks: &mut JoinSet<()>,
    term: &CancellationToken,
) {
    let stores = || context.stores.clone();
    let (queues, stop) = (|| queues.clone(), || term.clone());
    let coordination = context.coordination.clone();
    let reports = context.reports.clone();
    tasks.spawn(coordination.follow(
        stores(),
        queues(),
        reports.clone(),
        context.metrics.clone(),
        stop(),
    ));
    let coordination = context.coordination.clone();
    tasks.spawn(coordination.watch_room(stores(), queues(), stop()));
    tasks.spawn(reports.run(context.settings.clone(), stores(), queues(), stop()));
    let resolver = context.resolver.clone();
    tasks.spawn(resolver.run(stores(), queues(), stop()));
}

/// Starts the controllers.
fn start(
    context: &Arc<Context>,
    inboxes: queues::Inboxes,
    tasks: &mut JoinSet<()>,
    term: &CancellationToken,
) {
    let queues::Inboxes {
        idcs,
        units,
        links,
        switchovers,
        repairs,
    } = inboxes;
    let stores = &context.stores;
    let (here, stop) = (|| Arc::clone(context), || term.clone());
    tasks.spawn(run(
        here(),
        stores.idcs.clone(),
        idcs,
        stop(),
        idc::reconcile,
    ));
    tasks.spawn(run(
        here(),
        stores.units.clone(),
        units,
        stop(),
        unit::reconcile,
    ));
    tasks.spawn(run(
        here(),
        stores.links.clone(),
        links,
        stop(),
        link::reconcile,
    ));
    tasks.spawn(run(
        here(),
        stores.switchovers.clone(),
        switchovers,
        stop(),
        switchover::reconcile,
    ));
    tasks.spawn(run(
        here(),
        stores.repairs.clone(),
        repairs,
        stop(),
        repair::reconcile,
    ));
}
