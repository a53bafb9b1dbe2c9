//! The stream of frames from the syncer.

use std::path::Path;
use std::time::Duration;

use change::sync::sync_client::SyncClient;
use std::collections::VecDeque;

use change::sync::{
    DescribeRequest, FiledReply, FiledRequest, KeysReply, KeysRequest, PullRequest, RelayRequest,
};
use change::{Frame, MAX_PACKET_BYTES, PacketDecoder, TargetTable, Transaction};
use model::LinkConfig;
use mysql::link_end::Brings;
use mysql::preflight::MemberFacts;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::checkpoint::Checkpoint;
use crate::error::WriterError;
use crate::options::{TRANSPORT_NAME, read};

/// So many packets are decoded ahead of what is applied.
const AHEAD: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The link's syncer, connected.
pub(crate) struct Syncer {
    address: String,
    client: SyncClient<Channel>,
}

impl Syncer {
    /// Certificates are read anew each time, so that renewed ones are used.
    pub(crate) async fn connect(address: &str, tls: &Path) -> Result<Self, WriterError> {
        let failed = |reason: String| WriterError::Syncer {
            address: address.to_owned(),
            reason,
        };
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&tls.join("ca.crt"))?))
            .identity(Identity::from_pem(
                read(&tls.join("tls.crt"))?,
                read(&tls.join("tls.key"))?,
            ))
            .domain_name(TRANSPORT_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(config))
            .map_err(|error| failed(chain(&error)))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| failed(chain(&error)))?;
        Ok(Self {
            client: SyncClient::new(channel).max_decoding_message_size(MAX_PACKET_BYTES),
            address: address.to_owned(),
        })
    }

    /// Asks what the source's server says of itself, and which links bring changes to it.
    pub(crate) async fn describe(
        &mut self,
        config: &LinkConfig,
    ) -> Result<(MemberFacts, Vec<Brings>), WriterError> {
        let failed = |reason: String| WriterError::Syncer {
            address: self.address.clone(),
            reason,
        };
        let request = DescribeRequest {
            link: config.link.to_string(),
        };
        let reply = self.client.describe(request).await;
        let reply = reply
            .map_err(|status| failed(refusal(&status)))?
            .into_inner();
        let facts = serde_json::from_slice(&reply.facts);
        let facts = facts.map_err(|error| failed(error.to_string()))?;
        if reply.relays != config.relay {
            // An earlier release does not know the setting.
            let text =
                "it has not got the newest setting of relay yet, or is of an earlier release";
            return Err(failed(text.to_owned()));
        }
        let brings = reply.brings.into_iter().map(|told| Brings {
            from: told.from,
            begun: told.begun,
            copies: told.copies,
            counters: told.adds.then_some(told.counters),
        });
        Ok((facts, brings.collect()))
    }
}

/// A running stream. Dropping it ends it.
pub(crate) struct Stream {
    frames: mpsc::Receiver<Result<Vec<Frame>, WriterError>>,
    task: JoinHandle<()>,
    address: String,
    client: SyncClient<Channel>,
}

impl Stream {
    /// Asks for everything from the checkpoint on.
    pub(crate) async fn open(
        syncer: Syncer,
        request: PullRequest,
        on_receive: impl Fn(&[Frame]) + Send + 'static,
    ) -> Result<Self, WriterError> {
        let Syncer {
            mut client,
            address,
        } = syncer;
        let packets = client.pull(request).await;
        let packets = packets.map_err(|status| WriterError::Syncer {
            address: address.clone(),
            reason: refusal(&status),
        })?;
        let decoder = PacketDecoder::new()?;
        let (sender, frames) = mpsc::channel(AHEAD);
        let task = tokio::spawn(receive(
            packets.into_inner(),
            decoder,
            sender,
            address.clone(),
            on_receive,
        ));
        Ok(Self {
            frames,
            task,
            address,
            client,
        })
    }

    /// Asks what the source has set aside of the target's.
    pub(crate) async fn filed(&self, request: FiledRequest) -> Result<FiledReply, WriterError> {
        let reply = self.client.clone().filed(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| WriterError::Syncer {
                address: self.address.clone(),
                reason: refusal(&status),
            })
    }

    /// Asks for what the source's foreign keys do; `None` where the syncer is of a release that does
    /// not tell.
    pub(crate) async fn keys(
        &self,
        request: KeysRequest,
    ) -> Result<Option<KeysReply>, WriterError> {
        match self.client.clone().keys(request).await {
            Ok(reply) => Ok(Some(reply.into_inner())),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            Err(status) => Err(WriterError::Syncer {
                address: self.address.clone(),
                reason: refusal(&status),
            }),
        }
    }

    /// Asks for what the source has applied of a third member's.
    pub(crate) async fn relay(&self, request: RelayRequest) -> Result<Relayed, WriterError> {
        let packets = self.client.clone().relay(request).await;
        let packets = packets.map_err(|status| WriterError::Syncer {
            address: self.address.clone(),
            reason: refusal(&status),
        })?;
        Ok(Relayed {
            packets: packets.into_inner(),
            decoder: PacketDecoder::new()?,
            frames: VecDeque::new(),
            address: self.address.clone(),
        })
    }

    /// The next frames.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub(crate) async fn next(&mut self) -> Result<Vec<Frame>, WriterError> {
        match self.frames.recv().await {
            Some(frames) => frames,
            None => Err(WriterError::Syncer {
                address: self.address.clone(),
                reason: "the stream ended".to_owned(),
            }),
        }
    }

    /// The next frames, if they are here already.
    pub(crate) fn try_next(&mut self) -> Option<Result<Vec<Frame>, WriterError>> {
        self.frames.try_recv().ok()
    }
}

/// A third member's transactions, as the source has them.
pub(crate) struct Relayed {
    packets: Streaming<change::sync::Packet>,
    decoder: PacketDecoder,
    frames: VecDeque<Frame>,
    address: String,
}

impl Relayed {
    /// The next one; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Transaction>, WriterError> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                let Frame::Transaction(transaction) = frame else {
                    return Err(WriterError::Unexpected {
                        what: "something else than a transaction that is handed on".to_owned(),
                        fix: "run the same release of syncer and writer".to_owned(),
                    });
                };
                return Ok(Some(transaction));
            }
            let packet = self.packets.message().await;
            let packet = packet.map_err(|status| WriterError::Syncer {
                address: self.address.clone(),
                reason: refusal(&status),
            })?;
            match packet {
                Some(packet) => self.frames.extend(self.decoder.decode(packet)?),
                None => return Ok(None),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    mut packets: Streaming<change::sync::Packet>,
    mut decoder: PacketDecoder,
    sender: mpsc::Sender<Result<Vec<Frame>, WriterError>>,
    address: String,
    on_receive: impl Fn(&[Frame]),
) {
    loop {
        let frames = match packets.message().await {
            Ok(Some(packet)) => decoder.decode(packet).map_err(WriterError::from),
            Ok(None) => return,
            Err(status) => Err(WriterError::Syncer {
                address: address.clone(),
                reason: refusal(&status),
            }),
        };
        if let Ok(frames) = &frames {
            on_receive(frames);
        }
        let last = frames.is_err();
        if sender.send(frames).await.is_err() || last {
            return;
        }
    }
}

/// What is asked of the syncer.
pub(crate) fn request(
    config: &LinkConfig,
    checkpoint: &Checkpoint,
    tables: &[TargetTable],
) -> PullRequest {
    let position = checkpoint.position.as_ref();
    let epoch = checkpoint.record.epoch;
    let last = checkpoint.record.last.as_ref();
    PullRequest {
        relay: config.relay,
        last: last.map(|last| change::sync::Last {
            gtid: last.gtid.clone(),
            committed_micros: last.micros,
        }),
        ..PullRequest::of(config.link.to_string(), position, epoch, tables)
    }
}

/// A status of the syncer as a sentence.
fn refusal(status: &tonic::Status) -> String {
    let cause = std::error::Error::source(status).map(|source| format!(": {}", chain(source)));
    format!(
        "{} ({:?}){}",
        status.message(),
        status.code(),
        cause.unwrap_or_default()
    )
}

/// An error with everything that caused it; the transport's own words are in its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
