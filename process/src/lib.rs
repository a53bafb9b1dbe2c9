//! What every process of multiactive has: structured logs, `/healthz`, `/readyz`, `/metrics` and
//! `/status`, and a shutdown that lets work end.
//!
//! ```no_run
//! # async fn example(options: process::Options) -> Result<(), process::ProcessError> {
//! let process = process::Process::start(&options, "syncer").await?;
//! process.registry(|registry| { let _ = registry; });
//! process.health().set_ready();
//! let shutdown = process.shutdown();
//! tokio::select! {
//!     () = shutdown.cancelled() => {}
//!     // the work
//! }
//! process.finish().await;
//! # Ok(())
//! # }
//! ```

pub mod fetch;
mod http;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The version all processes report: that of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The options that every process takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address of the HTTP endpoint: /healthz, /readyz, /metrics, /status.
    #[arg(long, env = "MULTIACTIVE_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How log lines look.
    #[arg(long, env = "MULTIACTIVE_LOG", default_value = "json", value_enum)]
    pub log: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a tracing filter such as `info,arbiter=debug`.
    #[arg(long, env = "MULTIACTIVE_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading in a terminal.
    Text,
}

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log filter cannot be read.
    #[error("--log-level {value:?} cannot be read: {reason}")]
    LogLevel {
        /// The value given.
        value: String,
        /// What the parser said.
        reason: String,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address given by `--listen`.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The system refused to deliver signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// A liveness deadline: a process whose main loop is silent for longer is restarted.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

type StatusSource = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

struct Shared {
    readiness: Result<(), String>,
    last_beat: Option<Instant>,
    status: Option<StatusSource>,
    registry: Registry,
}

/// What the endpoints answer; cheap to clone and hand to whoever knows.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Mutex<Shared>>,
}

impl Health {
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // Every critical section only assigns or reads, so a poisoned lock holds sound data.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `/readyz` answers 200 from now on.
    pub fn set_ready(&self) {
        self.lock().readiness = Ok(());
    }

    /// `/readyz` answers 503 with this reason from now on.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.lock().readiness = Err(reason.into());
    }

    /// Says that the main loop goes round. A process that has said so once and then falls silent
    /// for a minute fails `/healthz`; one that never says so is not judged by it.
    pub fn beat(&self) {
        self.lock().last_beat = Some(Instant::now());
    }

    fn live(&self) -> Result<(), String> {
        match self.lock().last_beat {
            Some(beat) if beat.elapsed() > SILENCE_LIMIT => Err(format!(
                "the main loop has been silent for {} s",
                beat.elapsed().as_secs()
            )),
            _ => Ok(()),
        }
    }
}

/// A running process: its endpoints are served, its logs are set up, SIGTERM and SIGINT cancel
/// [`Process::shutdown`].
pub struct Process {
    health: Health,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Process {
    /// Sets up logs, starts to serve the endpoints and to listen for signals. Not ready yet.
    pub async fn start(options: &Options, name: &'static str) -> Result<Self, ProcessError> {
        start_logs(options)?;
        let mut registry = Registry::with_prefix("multiactive");
        let info = Family::<Vec<(&str, &str)>, Gauge>::default();
        info.get_or_create(&vec![("process", name), ("version", VERSION)])
            .set(1);
        registry.register("build_info", "Which software this is", info);
        let health = Health {
            shared: Arc::new(Mutex::new(Shared {
                readiness: Err("starting".to_owned()),
                last_beat: None,
                status: None,
                registry,
            })),
        };
        let listener =
            TcpListener::bind(options.listen)
                .await
                .map_err(|source| ProcessError::Listen {
                    address: options.listen,
                    source,
                })?;
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).map_err(ProcessError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ProcessError::Signals)?;
        let on_signal = shutdown.clone();
        let signals = tokio::spawn(async move {
            let received = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = on_signal.cancelled() => return,
            };
            tracing::info!(signal = received, "shutting down");
            on_signal.cancel();
        });
        let server = http::serve(listener, health.clone(), shutdown.clone());
        tracing::info!(process = name, version = VERSION, listen = %options.listen, "started");
        Ok(Self {
            health,
            shutdown,
            tasks: vec![signals, server],
        })
    }

    /// What the endpoints answer.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Cancelled when the process shall end. Whoever holds work stops at the next safe point.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Adds metrics. Names get the prefix `multiactive_`.
    pub fn registry<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.health.lock().registry)
    }

    /// What `/status` answers from now on. The closure must be quick and must not block.
    pub fn publish_status<S: serde::Serialize>(
        &self,
        status: impl Fn() -> S + Send + Sync + 'static,
    ) {
        let source: StatusSource = Box::new(move || {
            serde_json::to_value(status())
                .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
        });
        self.health.lock().status = Some(source);
    }

    /// Ends the endpoints; call it when the work has ended.
    pub async fn finish(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the process ended badly");
            }
        }
        tracing::info!("stopped");
    }
}

fn start_logs(options: &Options) -> Result<(), ProcessError> {
    let filter =
        EnvFilter::try_new(&options.log_level).map_err(|error| ProcessError::LogLevel {
            value: options.log_level.clone(),
            reason: error.to_string(),
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first one's logs.
    let _already_set = match options.log {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    Ok(())
}
