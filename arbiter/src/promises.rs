//! What arbiters ask each other when etcd is out of reach (rule 11), over gRPC with mutual TLS.
//!
//! The listening end belongs to the process, not to its session: a standby answers too, that it is not
//! the active one, which is an error and no refusal. A Unit's task puts itself into the [`Book`] and
//! answers for its core. The asking end keeps a connection an address, and gives up on any that fails:
//! no answer is no promise.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use change::arbiter::arbiter_client::ArbiterClient;
use change::arbiter::arbiter_server::{Arbiter, ArbiterServer};
use change::arbiter::{PromiseReply, PromiseRequest};
use model::{Epoch, IdcName, UnitKey};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use transport::{Certificates, TlsError};

/// Between two looks for certificates that are not there yet.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// An answer that takes longer is none; the holder asks again before.
const PATIENCE: Duration = Duration::from_millis(1_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An ask that has arrived.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub by: IdcName,
    /// The epoch that it holds.
    pub epoch: Epoch,
    /// For how long, in milliseconds.
    pub for_millis: u64,
    /// Where the answer goes; dropped, there is none.
    pub answer: oneshot::Sender<bool>,
}

/// Which Units are looked after here, by the active process.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Mutex<BTreeMap<UnitKey, mpsc::UnboundedSender<Asked>>>>);

impl Book {
    /// A Unit's task answers from now on, in place of an earlier one.
    pub fn enter(&self, unit: &UnitKey) -> mpsc::UnboundedReceiver<Asked> {
        let (sender, asks) = mpsc::unbounded_channel();
        // Only whole values are put in, so a poisoned lock holds sound data.
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of tasks that have ended nothing is kept.
        units.retain(|_, sender| !sender.is_closed());
        units.insert(unit.clone(), sender);
        asks
    }

    fn find(&self, unit: &UnitKey) -> Option<mpsc::UnboundedSender<Asked>> {
        let units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.get(unit).cloned()
    }
}

/// The listening end.
struct Service {
    idc: IdcName,
    book: Book,
}

#[tonic::async_trait]
impl Arbiter for Service {
    async fn promise(
        &self,
        request: Request<PromiseRequest>,
    ) -> Result<Response<PromiseReply>, Status> {
        transport::check_peer(&request)?;
        let asked = request.into_inner();
        let refused = |error: model::InvalidIdentity| Status::invalid_argument(error.to_string());
        let unit: UnitKey = asked.unit.parse().map_err(refused)?;
        let by = IdcName::new(asked.by).map_err(refused)?;
        if asked.of != self.idc.as_str() {
            return Err(Status::failed_precondition(format!(
                "this is the arbiter of IDC {}, and {} was asked",
                self.idc, asked.of
            )));
        }
        let nobody = || {
            Status::unavailable(format!(
                "no task of this process looks after unit {unit}: it is a standby, or has just begun"
            ))
        };
        let (answer, answered) = oneshot::channel();
        let ask = Asked {
            by,
            epoch: Epoch(asked.epoch),
            for_millis: asked.for_millis,
            answer,
        };
        let task = self.book.find(&unit).ok_or_else(nobody)?;
        task.send(ask).map_err(|_| nobody())?;
        let promised = answered.await.map_err(|_| nobody())?;
        Ok(Response::new(PromiseReply { promised }))
    }
}

/// Serves until shutdown. Where there are no certificates it waits for them, and says so.
pub async fn serve(
    idc: IdcName,
    address: SocketAddr,
    tls: PathBuf,
    book: Book,
    shutdown: CancellationToken,
) {
    let serving = async {
        loop {
            let accepted = match transport::listen(address, certificates(&tls).await).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(%address, %error, "cannot listen for asks for promises (--serve)");
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
            };
            let service = Service {
                idc: idc.clone(),
                book: book.clone(),
            };
            let server = Server::builder().add_service(ArbiterServer::new(service));
            let serving = server.serve_with_incoming(ReceiverStream::new(accepted));
            if let Err(error) = serving.await {
                tracing::error!(%error, "asks for promises are not answered for a moment");
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serving => {}
    }
}

async fn certificates(tls: &Path) -> Certificates {
    let mut told = false;
    loop {
        match Certificates::new(tls) {
            Ok(certificates) => return certificates,
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "no promises are given until there are certificates");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Our own certificates cannot be used, or the address is none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The other end cannot be reached.
    #[error("cannot reach the arbiter at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// It answered with an error.
    #[error("the arbiter at {address} does not say whether it promises: {reason}")]
    NoAnswer {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// The asking end.
#[derive(Debug, Clone)]
pub struct Peers {
    tls: PathBuf,
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl Peers {
    /// With the certificates in this directory, read anew for each connection.
    pub fn new(tls: PathBuf) -> Self {
        Self {
            tls,
            channels: Arc::default(),
        }
    }

    /// Asks the arbiter at an address; whether it promises.
    ///
    /// # Errors
    /// Any means that there is no promise.
    pub async fn ask(&self, address: &str, request: PromiseRequest) -> Result<bool, AskError> {
        let channel = self.channel(address).await?;
        let mut client = ArbiterClient::new(channel);
        let asking = client.promise(request);
        let reason = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner().promised),
            Ok(Err(status)) => format!("{}: {}", status.code(), status.message()),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        self.known().remove(address);
        let address = address.to_owned();
        Err(AskError::NoAnswer { address, reason })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn channel(&self, address: &str) -> Result<Channel, AskError> {
        if let Some(channel) = self.known().get(address) {
            return Ok(channel.clone());
        }
        let endpoint = transport::endpoint(address, &self.tls)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| AskError::Unreachable {
                address: address.to_owned(),
                reason: chain(&error),
            })?;
        self.known().insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// An error with all that it came from: the outermost says next to nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
