//! The gRPC service.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use change::sync::sync_server::{Sync, SyncServer};
use change::sync::{
    Brings, DescribeReply, DescribeRequest, FiledReply, FiledRequest, KeysReply, KeysRequest,
    Packet, PullRequest, RelayRequest,
};
use change::{Compression, Frame, Halt, MAX_PACKET_BYTES, PacketEncoder};
use futures::Stream;
use mysql::link_end;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::error::PullError;
use crate::filed;
use crate::keys;
use crate::metrics::Reason;
use crate::pull::{self, Sender, Shared};
use crate::relay;
use crate::start::{self, Wish};

/// So many packets may wait for the network.
const PACKETS_AHEAD: usize = 4;

/// The foreign keys are read within this time; the writer applies nothing meanwhile.
const KEYS_WITHIN: Duration = Duration::from_secs(10);

/// A page of what is filed is read within this time.
const FILED_WITHIN: Duration = Duration::from_secs(30);

fn told(link: link_end::Brings) -> Brings {
    Brings {
        from: link.from,
        begun: link.begun,
        copies: link.copies,
        adds: link.counters.is_some(),
        counters: link.counters.unwrap_or_default(),
    }
}

/// Serves the one writer of a link.
pub struct Service {
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// The connection that is served; a newer one ends it.
    current: Arc<Mutex<Option<Current>>>,
}

struct Current {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Service {
    /// A service that ends its connections when `stop` is cancelled.
    pub fn new(shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self {
            shared,
            stop,
            current: Arc::default(),
        }
    }

    fn check_link(&self, asked: &str) -> Result<(), Status> {
        let served = self.shared.config.link.to_string();
        if asked == served {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "the writer asks for the link {asked} and this syncer serves {served}; check the \
             writer's --syncer"
        )))
    }

    /// The service with its limits, and what [`finish`] awaits.
    pub fn into_server(self) -> (SyncServer<Self>, Connections) {
        let connections = Connections {
            current: Arc::clone(&self.current),
        };
        let server = SyncServer::new(self)
            .max_decoding_message_size(MAX_PACKET_BYTES)
            .max_encoding_message_size(MAX_PACKET_BYTES);
        (server, connections)
    }
}

/// The connections of a service, to be awaited at the end.
pub struct Connections {
    current: Arc<Mutex<Option<Current>>>,
}

impl Connections {
    /// Ends the connection that is served, if one is, and waits for it.
    pub async fn finish(&self) {
        end(&mut *self.current.lock().await).await;
    }
}

async fn end(current: &mut Option<Current>) {
    if let Some(Current { stop, task }) = current.take() {
        stop.cancel();
        if let Err(error) = task.await {
            tracing::error!(%error, "a connection ended badly");
        }
    }
}

#[tonic::async_trait]
impl Sync for Service {
    type PullStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        transport::check_peer(&request)?;
        let wish = start::read_wish(request.into_inner(), &self.shared.config)
            .map_err(Status::invalid_argument)?;
        let (sender, receiver) = mpsc::channel(PACKETS_AHEAD);
        let mut current = self.current.lock().await;
        end(&mut current).await;
        let stop = self.stop.child_token();
        let task = tokio::spawn(connection(
            Arc::clone(&self.shared),
            wish,
            sender,
            stop.clone(),
        ));
        *current = Some(Current { stop, task });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeReply>, Status> {
        transport::check_peer(&request)?;
        self.check_link(&request.into_inner().link)?;
        let Some(looked) = &self.shared.looked else {
            return Err(Status::failed_precondition(
                "the link belongs to a Unit here, and to none for the writer; both read link.json",
            ));
        };
        let facts = looked.passed().map_err(Status::unavailable)?;
        let brings = link_end::brings(&self.shared.source).await;
        let brings = brings.map_err(Status::unavailable)?.into_iter();
        let facts = serde_json::to_vec(&facts);
        let facts = facts.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(DescribeReply {
            facts: facts.into(),
            brings: brings.map(told).collect(),
            relays: self.shared.config.relay,
        }))
    }

    async fn keys(&self, request: Request<KeysRequest>) -> Result<Response<KeysReply>, Status> {
        transport::check_peer(&request)?;
        self.check_link(&request.into_inner().link)?;
        let reply = tokio::time::timeout(KEYS_WITHIN, keys::read(&self.shared))
            .await
            .map_err(|_| Status::unavailable("the source did not answer in time"))?;
        reply
            .map(Response::new)
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn filed(&self, request: Request<FiledRequest>) -> Result<Response<FiledReply>, Status> {
        transport::check_peer(&request)?;
        let request = request.into_inner();
        self.check_link(&request.link)?;
        let read = filed::read(&self.shared, &request);
        let reply = tokio::time::timeout(FILED_WITHIN, read)
            .await
            .map_err(|_| Status::unavailable("the source did not answer in time"))?;
        reply
            .map(Response::new)
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    type RelayStream = Self::PullStream;

    async fn relay(
        &self,
        request: Request<RelayRequest>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        transport::check_peer(&request)?;
        let request = request.into_inner();
        self.check_link(&request.link)?;
        let wish = relay::read_wish(&request, &self.shared).map_err(Status::invalid_argument)?;
        let (sender, receiver) = mpsc::channel(PACKETS_AHEAD);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.child_token());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
                served = relay::serve(&shared, &wish, &sender) => {
                    let status = match served {
                        Ok(()) | Err(PullError::Gone) => return,
                        Err(PullError::Halted(halt)) => Status::failed_precondition(halt.message),
                        Err(error) => Status::unavailable(error.to_string()),
                    };
                    tracing::warn!(%status, "what the target lacks cannot be handed on");
                    tell(&sender, Err(status), &stop).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn connection(shared: Arc<Shared>, wish: Wish, sender: Sender, stop: CancellationToken) {
    tracing::info!(checkpoint = ?wish.checkpoint.as_ref().map(|(p, _)| p.to_string()), "writer connected");
    shared.status.connect();
    shared.metrics.connected.set(1);
    let error = pull::serve(&shared, wish, &sender, &stop).await;
    shared.metrics.connected.set(0);
    shared
        .metrics
        .ends
        .get_or_create(&Reason::of(error.category()))
        .inc();
    match error {
        PullError::Gone => {
            tracing::info!("writer disconnected");
            shared.status.disconnect(String::new());
        }
        PullError::Halted(halt) => {
            tracing::error!(reason = halt.reason, "{}", halt.message);
            shared.status.disconnect(halt.message.clone());
            let last = match halt_packet(halt) {
                Ok(Some(packet)) => Ok(packet),
                Ok(None) => return,
                Err(error) => Err(Status::internal(error.to_string())),
            };
            tell(&sender, last, &stop).await;
        }
        error => {
            let message = error.to_string();
            tracing::warn!(category = error.category(), "{message}");
            shared.status.disconnect(message.clone());
            tell(&sender, Err(Status::unavailable(message)), &stop).await;
        }
    }
}

/// Says a last thing, unless the writer does not listen or the process ends.
async fn tell(sender: &Sender, last: Result<Packet, Status>, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        // A writer that is gone learns it from its next connection.
        _gone = sender.send(last) => {}
    }
}

fn halt_packet(halt: Halt) -> Result<Option<Packet>, change::WireError> {
    let mut encoder = PacketEncoder::new(Compression::None)?;
    encoder.push(&Frame::Halt(halt))?;
    encoder.flush()
}
