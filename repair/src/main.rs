//! Compares the two ends of a link row by row, and mends what differs.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use model::RepairPhase;
use repair::options::{RepairOptions, read_link, read_repair};
use repair::{Status, Worker};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = RepairOptions::parse();
    let link = read_link(&options.link).context("--link")?;
    let config = read_repair(&options.repair).context("--repair")?;
    let process = process::Process::start(&options.process, "repair").await?;
    let status = Status::new(&link.link, &config.run);
    process.registry(|registry| status.register(registry));
    let published = status.clone();
    process.publish_status(move || published.get());
    let worker = Worker {
        link,
        config,
        source: options.source_credentials,
        target: options.target_credentials,
        status: status.clone(),
        health: process.health(),
        shutdown: process.shutdown(),
    };
    worker.run().await;
    if !options.exit_when_done {
        process.shutdown().cancelled().await;
    }
    process.finish().await;
    Ok(match (options.exit_when_done, status.get().phase) {
        (false, _) | (true, RepairPhase::Done) => ExitCode::SUCCESS,
        (true, _) => ExitCode::FAILURE,
    })
}
