//! The syncer of one link: reads the source and serves its transactions.

mod ddl;
mod error;
mod filed;
mod filter;
mod keeper;
mod keys;
mod last;
mod metrics;
mod progress;
mod pull;
mod relay;
mod server;
mod snapshot;
mod source;
mod start;
mod status;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use model::{Credentials, LinkConfig};
use mysql::origin::Origins;
use mysql::select::Selection;
use mysql::session::{Program, SessionOptions};
use process::Process;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::filter::LinkFilter;
use crate::metrics::Metrics;
use crate::pull::Shared;
use crate::server::Service;
use crate::status::StatusBoard;

/// Reads one link's source and serves its transactions to the link's writer.
#[derive(Debug, Parser)]
#[command(name = "syncer", version)]
struct SyncerOptions {
    #[command(flatten)]
    process: process::Options,
    /// The link's settings, JSON.
    #[arg(long, env = "MULTIACTIVE_LINK")]
    link: PathBuf,
    /// Directory with the files username, password and perhaps ca.crt.
    #[arg(long, env = "MULTIACTIVE_CREDENTIALS")]
    credentials: PathBuf,
    /// Directory with ca.crt, tls.crt and tls.key for the transport.
    #[arg(long, env = "MULTIACTIVE_TLS")]
    tls: PathBuf,
    /// Address of the gRPC endpoint.
    #[arg(long, env = "MULTIACTIVE_SERVE", default_value = "0.0.0.0:7443")]
    serve: SocketAddr,
}

/// Rows are many small allocations, made by one thread and freed by another; the allocator of the
/// static C library takes one lock for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let options = SyncerOptions::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("syncer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &SyncerOptions) -> anyhow::Result<()> {
    let process = Process::start(&options.process, "syncer").await?;
    let mut shared = shared(options)?;
    let stop = process.shutdown();
    if shared.config.unit.is_none() {
        let (source, status) = (shared.source.clone(), shared.status.clone());
        shared.looked = Some(keeper::start(&shared.config, source, status, stop.clone()));
    }
    let shared = Arc::new(shared);
    process.registry(|registry| shared.metrics.register(registry));
    let status = shared.status.clone();
    process.publish_status(move || status.get());
    let (service, connections) = Service::new(shared, stop.clone()).into_server();
    let certificates = transport::Certificates::new(&options.tls)?;
    let connected = transport::listen(options.serve, certificates)
        .await
        .with_context(|| format!("cannot listen on {} (--serve)", options.serve))?;
    let server = Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(10)));
    tracing::info!(serve = %options.serve, "serving");
    process.health().set_ready();
    server
        .serve_with_incoming_shutdown(
            service,
            ReceiverStream::new(connected),
            stop.cancelled_owned(),
        )
        .await
        .context("the gRPC endpoint failed")?;
    connections.finish().await;
    process.finish().await;
    Ok(())
}

fn shared(options: &SyncerOptions) -> anyhow::Result<Shared> {
    let path = options.link.display();
    let text =
        std::fs::read(&options.link).with_context(|| format!("cannot read {path} (--link)"))?;
    let config: LinkConfig = serde_json::from_slice(&text)
        .with_context(|| format!("{path} (--link) does not hold a link's settings"))?;
    if config.relay && config.unit.is_some() {
        bail!(
            "{}: relay: true is for links without a Unit; a Unit's members are linked each with each",
            config.link
        );
    }
    let credentials = read_credentials(&options.credentials)?;
    let source = SessionOptions::new(&config.source.endpoint, &credentials, Program::Syncer)?;
    let origins = Origins::new(&config.source.idc, &config.origins)?;
    let filter = LinkFilter {
        origins: Arc::new(origins),
        selection: Arc::new(Selection::of(&config)),
        ddl: config.ddl,
        relay_to: config.relay.then(|| config.target.idc.clone()),
    };
    let status = StatusBoard::new(config.link.clone());
    Ok(Shared {
        config,
        filter,
        source,
        metrics: Metrics::default(),
        status,
        looked: None,
    })
}

/// An account from a mounted Secret.
fn read_credentials(directory: &Path) -> anyhow::Result<Credentials> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {} (--credentials)", path.display()))
    };
    let line = |text: String| text.trim_end_matches(['\r', '\n']).to_owned();
    let ca = directory
        .join("ca.crt")
        .exists()
        .then(|| read("ca.crt"))
        .transpose()?;
    Ok(Credentials {
        username: line(read("username")?),
        password: line(read("password")?),
        ca,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_are_sound() {
        super::SyncerOptions::command().debug_assert();
    }
}
