//! The writer of one link: applies transactions to the target exactly once.

use anyhow::Context as _;
use clap::Parser as _;
use writer::options::{WriterOptions, read_link};
use writer::{Status, Writer};

/// Rows are many small allocations, made by one thread and freed by another; the allocator of the
/// static C library takes one lock for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = WriterOptions::parse();
    let config = read_link(&options.link).context("--link")?;
    let process = process::Process::start(&options.process, "writer").await?;
    #[cfg(feature = "failpoints")]
    if let Some(at) = options.crash_at {
        writer::arm(at);
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
