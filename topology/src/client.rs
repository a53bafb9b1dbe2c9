//! The client: one connection an endpoint, one endpoint in use, every request bounded in time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::watch;

use crate::{Keys, TopologyError};

/// etcd refuses clients that ping more often than every 5 s (its `--grpc-keepalive-min-time`).
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// URLs of its members, the nearest first. All are used, one at a time.
    pub endpoints: Vec<String>,
    /// What all keys of the installation begin with.
    pub prefix: String,
    /// A directory with `ca.crt`, `tls.crt` and `tls.key`; `None` without TLS.
    pub tls: Option<PathBuf>,
    /// An answer later than this counts as none.
    pub request_timeout: Duration,
    /// A connection that takes longer than this is given up.
    pub connect_timeout: Duration,
}

impl EtcdOptions {
    /// Options with the usual time-outs: 2 s for a request, 1 s to connect.
    pub fn new(endpoints: Vec<String>, prefix: &str, tls: Option<PathBuf>) -> Self {
        Self {
            endpoints,
            prefix: prefix.to_owned(),
            tls,
            request_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
        }
    }

    fn check(&self) -> Result<(), TopologyError> {
        if self.endpoints.is_empty() {
            return Err(TopologyError::Options {
                option: "endpoints",
                cause: "give at least one URL, such as https://etcd.sh.example:2379".to_owned(),
            });
        }
        let scheme = if self.tls.is_some() {
            "https://"
        } else {
            "http://"
        };
        for endpoint in &self.endpoints {
            if !endpoint.starts_with(scheme) {
                let cause = format!(
                    "{endpoint:?} should begin with {scheme}, since a TLS directory is {}given",
                    if self.tls.is_some() { "" } else { "not " }
                );
                return Err(TopologyError::Options {
                    option: "endpoints",
                    cause,
                });
            }
        }
        Ok(())
    }

    async fn tls_options(&self) -> Result<Option<TlsOptions>, TopologyError> {
        let Some(folder) = &self.tls else {
            return Ok(None);
        };
        let read = async |name: &str| {
            let path = folder.join(name);
            tokio::fs::read(&path)
                .await
                .map_err(|error| TopologyError::Options {
                    option: "tls",
                    cause: format!("{} cannot be read: {error}", path.display()),
                })
        };
        let identity = Identity::from_pem(read("tls.crt").await?, read("tls.key").await?);
        let ca = Certificate::from_pem(read("ca.crt").await?);
        Ok(Some(
            TlsOptions::new().ca_certificate(ca).identity(identity),
        ))
    }
}

struct Inner {
    keys: Keys,
    endpoints: Vec<(String, Client)>,
    current: AtomicUsize,
    moved: watch::Sender<usize>,
    request_timeout: Duration,
}

/// etcd, as multiactive uses it. Clones share the connections.
#[derive(Clone)]
pub struct Topology {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topology")
            .field("prefix", &self.inner.keys.prefix())
            .finish_non_exhaustive()
    }
}

impl Topology {
    /// Prepares a connection to each endpoint. Nothing is sent yet, so an etcd that is down is
    /// noticed by the first request.
    ///
    /// # Errors
    /// [`TopologyError::Options`] for options that cannot work.
    pub async fn connect(options: &EtcdOptions) -> Result<Self, TopologyError> {
        options.check()?;
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some(tls) = options.tls_options().await? {
            connect = connect.with_tls(tls);
        }
        let mut endpoints = Vec::new();
        for url in &options.endpoints {
            let client = Client::connect([url.as_str()], Some(connect.clone()))
                .await
                .map_err(|error| TopologyError::Options {
                    option: "endpoints",
                    cause: format!("{url:?} cannot be used: {error}"),
                })?;
            endpoints.push((url.clone(), client));
        }
        let inner = Inner {
            keys: Keys::new(&options.prefix),
            endpoints,
            current: AtomicUsize::new(0),
            moved: watch::Sender::new(0),
            request_timeout: options.request_timeout,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The keys of this installation.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// The endpoint in use.
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoints[self.current()].0
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    pub(crate) fn endpoint_count(&self) -> usize {
        self.inner.endpoints.len()
    }

    pub(crate) fn current(&self) -> usize {
        self.inner.current.load(Ordering::Relaxed)
    }

    /// The client of the endpoint with this number, counted on from the first.
    pub(crate) fn client(&self, number: usize) -> (String, Client) {
        let (url, client) = &self.inner.endpoints[number % self.inner.endpoints.len()];
        (url.clone(), client.clone())
    }

    /// Tells when another endpoint comes into use: streams on the old one should follow.
    pub(crate) fn moves(&self) -> watch::Receiver<usize> {
        self.inner.moved.subscribe()
    }

    /// Leaves an endpoint that failed for the next one, unless somebody did so already.
    pub(crate) fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.inner.endpoints.len();
        let exchanged =
            self.inner
                .current
                .compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
        if exchanged.is_ok() && next != failed {
            self.inner.moved.send_replace(next);
        }
    }

    /// Makes this endpoint the one in use: it answered where another did not.
    pub(crate) fn prefer(&self, number: usize) {
        let number = number % self.inner.endpoints.len();
        if self.inner.current.swap(number, Ordering::Relaxed) != number {
            self.inner.moved.send_replace(number);
        }
    }

    /// Sends one request to the endpoint in use and waits at most the request time-out.
    pub(crate) async fn once<T, Answer>(
        &self,
        doing: &str,
        request: impl FnOnce(Client) -> Answer,
    ) -> Result<T, TopologyError>
    where
        Answer: Future<Output = Result<T, etcd_client::Error>>,
    {
        let number = self.current();
        let (endpoint, client) = self.client(number);
        let cause = match tokio::time::timeout(self.inner.request_timeout, request(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => describe(&error),
            Err(_) => format!("no answer within {:?}", self.inner.request_timeout),
        };
        self.leave(number);
        Err(TopologyError::Unknown {
            doing: doing.to_owned(),
            endpoint,
            cause,
        })
    }

    /// As [`Self::once`], for requests that change nothing: each endpoint is tried in turn.
    pub(crate) async fn read<T, Answer>(
        &self,
        doing: &str,
        request: impl Fn(Client) -> Answer,
    ) -> Result<T, TopologyError>
    where
        Answer: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut tries = self.endpoint_count();
        loop {
            tries -= 1;
            match self.once(doing, &request).await {
                Err(TopologyError::Unknown { .. }) if tries > 0 => {}
                answer => return answer,
            }
        }
    }
}

/// An error with its causes, which tonic keeps one below the other.
pub(crate) fn describe(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            let mut text = format!("{:?}: {}", status.code(), status.message());
            let mut source = std::error::Error::source(status);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
        other => other.to_string(),
    }
}
