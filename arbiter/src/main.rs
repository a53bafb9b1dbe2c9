//! The arbiter of one IDC: the shell around the decision core in `arbitration/`.
//!
//! - `standby` waits while another process of the IDC holds its session.
//! - `keeper` holds the IDC's session in etcd: one lease for all Units.
//! - `supervisor` watches etcd and the credentials folder, and runs one task a Unit.
//! - `unit` steps one Unit's core and sends its transactions.
//! - `watcher` looks at another IDC's member, for the votes.
//! - `promises` asks other IDCs' arbiters, and is asked, while etcd is out of reach.
//! - `worker` owns the sessions with that Unit's database in this IDC: it looks, beats, and carries
//!   out the core's commands, one at a time and in order.
//!
//! # Invariants
//! - Nothing is decided here: what the shell does to a database or to etcd is a command of the core,
//!   except looks, heartbeats, and the making of our own schema.
//! - What a command's outcome cannot be known to be is reported as failed or unknown, never as done.
//! - On SIGTERM nothing is fenced or revoked: a successor takes the same lease over without a pause,
//!   and if none comes, the guard in the database keeps the promise.

mod application;
mod clock;
mod credentials;
mod execute;
mod fallen;
mod keeper;
mod metrics;
mod options;
mod promises;
mod servers;
mod standby;
mod status;
mod supervisor;
mod translate;
mod unit;
mod watcher;
mod worker;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use topology::Topology;

use crate::options::Options;
use crate::supervisor::End;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the arbiter ends");
            eprintln!("arbiter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    options.check()?;
    let process = process::Process::start(&options.process, "arbiter").await?;
    let topology = Topology::connect(&options.etcd()).await.context("etcd")?;
    let metrics = process.registry(metrics::Metrics::register);
    let statuses = status::Statuses::new(options.idc.clone());
    let published = statuses.clone();
    process.publish_status(move || published.snapshot());
    let (health, shutdown) = (process.health(), process.shutdown());
    let claim = options.claim();
    let book = promises::Book::default();
    let answering = options.serve.zip(options.tls.clone()).map(|(serve, tls)| {
        let (idc, book) = (options.idc.clone(), book.clone());
        tokio::spawn(promises::serve(idc, serve, tls, book, shutdown.clone()))
    });
    let outcome = loop {
        // A standby is as ready as it can be: a rollout waits for it before it ends the active one.
        health.set_ready();
        if !standby::wait(&topology, &claim, &metrics, &shutdown).await {
            break Ok(());
        }
        let supervisor = supervisor::Supervisor::new(
            &options,
            topology.clone(),
            metrics.clone(),
            statuses.clone(),
            health.clone(),
            book.clone(),
        );
        match supervisor.run(&shutdown).await {
            Ok(End::Superseded) => statuses.forget_all(),
            Ok(End::Shutdown) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Some(answering) = answering {
        answering.abort();
    }
    process.finish().await;
    outcome
}
