//! The client: one connection an endpoint, one endpoint in use, every request bounded in time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::sync::watch;

use crate::certificates::{Files, Renewal};
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

    /// A client for each endpoint, with these certificates. Nothing is sent yet.
    async fn clients(&self, files: Option<&Files>) -> Result<Vec<Client>, TopologyError> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(self.connect_timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some(files) = files {
            connect = connect.with_tls(files.options());
        }
        let mut clients = Vec::new();
        for url in &self.endpoints {
            let client = Client::connect([url.as_str()], Some(connect.clone()))
                .await
                .map_err(|error| TopologyError::Options {
                    option: "endpoints",
                    cause: format!("{url:?} cannot be used: {error}"),
                })?;
            clients.push(client);
        }
        Ok(clients)
    }
}

struct Inner {
    keys: Keys,
    options: EtcdOptions,
    /// One for each endpoint, with the certificates of last.
    clients: RwLock<Vec<Client>>,
    renewal: Option<Renewal>,
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
        let renewal = match &options.tls {
            Some(folder) => Some(Renewal::begin(folder).await?),
            None => None,
        };
        let clients = match &renewal {
            Some(renewal) => options.clients(Some(&renewal.files().await)).await?,
            None => options.clients(None).await?,
        };
        let inner = Inner {
            keys: Keys::new(&options.prefix),
            options: options.clone(),
            clients: RwLock::new(clients),
            renewal,
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
        &self.inner.options.endpoints[self.current()]
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    pub(crate) fn endpoint_count(&self) -> usize {
        self.inner.options.endpoints.len()
    }

    pub(crate) fn current(&self) -> usize {
        self.inner.current.load(Ordering::Relaxed)
    }

    /// The client of the endpoint with this number, counted on from the first.
    pub(crate) fn client(&self, number: usize) -> (String, Client) {
        let number = number % self.endpoint_count();
        // Only whole values are assigned, so a poisoned lock holds sound data.
        let clients = self.inner.clients.read();
        let clients = clients.unwrap_or_else(PoisonError::into_inner);
        let url = self.inner.options.endpoints[number].clone();
        (url, clients[number].clone())
    }

    /// Takes up certificates that were renewed on disk, for all connections made from now on. What
    /// cannot be used, for example because the files are being replaced one by one, leaves those in
    /// use that were.
    pub(crate) async fn renew(&self) {
        let Some(renewal) = &self.inner.renewal else {
            return;
        };
        let Some(mut turn) = renewal.turn() else {
            return;
        };
        let Some(files) = turn.changed().await else {
            return;
        };
        match self.inner.options.clients(Some(&files)).await {
            Ok(clients) => {
                let last = self.inner.clients.write();
                *last.unwrap_or_else(PoisonError::into_inner) = clients;
                turn.took(files);
            }
            Err(error) => turn.refused(files, &error),
        }
    }

    /// Tells when another endpoint comes into use: streams on the old one should follow.
    pub(crate) fn moves(&self) -> watch::Receiver<usize> {
        self.inner.moved.subscribe()
    }

    /// Leaves an endpoint that failed for the next one, unless somebody did so already.
    pub(crate) fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.inner.options.endpoints.len();
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
        let number = number % self.inner.options.endpoints.len();
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
        self.renew().await;
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
