//! The process.

use anyhow::Context as _;
use clap::Parser as _;

use crate::options::{WriterOptions, read_link};
use crate::{Status, Writer};

/// Reads the command line, and runs until the process is asked to end.
///
/// # Errors
/// What is wrong with the command line's files, or keeps the process from serving.
pub async fn main() -> anyhow::Result<()> {
    let options = WriterOptions::parse();
    let config = read_link(&options.link).context("--link")?;
    let process = process::Process::start(&options.process, "writer").await?;
    #[cfg(feature = "failpoints")]
    if let Some(at) = options.crash_at {
        crate::failpoint::arm(at);
    }
    let status = Status::new(&config);
    process.registry(|registry| status.register(registry));
    let published = status.clone();
    process.publish_status(move || published.get());
    let writer = Writer {
        config,
        credentials: options.credentials,
        tls: options.tls,
        syncer: options.syncer,
        status,
        health: process.health(),
        shutdown: process.shutdown(),
    };
    writer.run().await;
    process.finish().await;
    Ok(())
}
