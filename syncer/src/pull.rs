//! One connection of a writer, from its request to its end.

use std::sync::Arc;
use std::time::Instant;

use binlog::{Output, ReadOptions, Reader};
use change::{Body, Ddl, Frame, PacketEncoder, Progress, SnapshotBegin, Transaction, sync::Packet};
use model::{LinkConfig, PositionText};
use mysql::select::Selection;
use mysql::session::SessionOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::PullError;
use crate::filter::LinkFilter;
use crate::keeper::Looked;
use crate::last;
use crate::metrics::Metrics;
use crate::progress::Stretch;
use crate::snapshot::Snapshot;
use crate::source::Source;
use crate::start::{self, Start, Wish};
use crate::status::StatusBoard;

/// A packet is sent when it has so many bytes, or when there is nothing more to say at the moment.
pub const PACKET_BYTES: usize = 256 << 10;
/// A transaction is cut into parts of about so many bytes, as it is held in memory.
const PART_BYTES: usize = 4 << 20;
/// How often the source says that it is there.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);
/// A source that says nothing for so long is taken for dead.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// What every connection of the process shares.
pub struct Shared {
    /// The link.
    pub config: LinkConfig,
    /// What of the binlog goes on it.
    pub filter: LinkFilter,
    /// The source.
    pub source: SessionOptions,
    /// Figures.
    pub metrics: Metrics,
    /// What `/status` tells.
    pub status: StatusBoard,
    /// Of a link without a Unit: what the last look at the source came to.
    pub looked: Option<Looked>,
}

/// Where packets go.
pub type Sender = mpsc::Sender<Result<Packet, tonic::Status>>;

/// Serves one connection until it ends; there is no good end but that the writer goes.
pub async fn serve(
    shared: &Shared,
    wish: Wish,
    sender: &Sender,
    stop: &CancellationToken,
) -> PullError {
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Err(PullError::Gone),
        () = sender.closed() => Err(PullError::Gone),
        why = refused(shared) => Err(PullError::NotYet(why)),
        outcome = run(shared, wish, sender) => outcome,
    };
    match outcome {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// What is found against the source of a link without a Unit while it is served ends that.
async fn refused(shared: &Shared) -> String {
    match &shared.looked {
        // It is asked before anything is served, too.
        Some(looked) if looked.passed().is_ok() => looked.refused().await,
        _ => std::future::pending().await,
    }
}

async fn run(
    shared: &Shared,
    wish: Wish,
    sender: &Sender,
) -> Result<std::convert::Infallible, PullError> {
    let Shared { config, filter, .. } = shared;
    if let Some(looked) = &shared.looked {
        looked.passed().map_err(PullError::NotYet)?;
    }
    let mut source = Source::connect(&shared.source).await?;
    let lifeline = source.lifeline().clone();
    let reads_refused = wish.reads_refused;
    let last = wish.last.clone();
    let start = lifeline
        .wait(start::resolve(&mut source, config, &filter.selection, wish))
        .await??;
    let Start {
        position,
        epoch,
        begin,
        copies,
        executed,
    } = start;
    let options = read_options(shared, "");
    if let Some(last) = last {
        let compare = last::check(&mut source, &options, &position, &last);
        lifeline.wait(compare).await??;
    }
    let reader = Reader::open(&options, position, epoch, Box::new(filter.clone())).await?;
    let snapshot = Snapshot::new(
        shared.source.clone(),
        config.link.to_string(),
        config.snapshot.chunk_bytes,
        copies,
        executed,
    );
    let compression = match config.compression {
        model::Compression::None => change::Compression::None,
        model::Compression::Zstd => change::Compression::Zstd,
    };
    let mut connection = Connection {
        shared,
        selection: Arc::clone(&filter.selection),
        sender,
        encoder: PacketEncoder::new(compression)?,
        reader,
        source,
        snapshot,
        stretch: Stretch::default(),
        in_parts: false,
        reads_refused,
    };
    connection.begin(begin)?;
    loop {
        if let Err(error) = connection.step().await {
            // What came before goes first: a person may be told to do at the target what the source
            // did after it.
            connection.flush().await?;
            return Err(error);
        }
    }
}

/// How the source's binlog is read for this link; `purpose` tells readers of one link apart.
pub fn read_options(shared: &Shared, purpose: &str) -> ReadOptions {
    ReadOptions {
        session: shared.source.clone(),
        // No link's name has a blank.
        server_id: server_id(format!("{} {purpose}", shared.config.link).trim_end()),
        heartbeat: HEARTBEAT,
        deadline: DEADLINE,
        part_bytes: PART_BYTES,
    }
}

/// The number of this link's reader among the source's replicas: stable, so that a new connection
/// ends the one before, and above what servers are usually given.
fn server_id(link: &str) -> u32 {
    let hash = link.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash | 0x8000_0000
}

struct Connection<'a> {
    shared: &'a Shared,
    selection: Arc<Selection>,
    sender: &'a Sender,
    encoder: PacketEncoder,
    reader: Reader,
    source: Source,
    snapshot: Snapshot,
    stretch: Stretch,
    /// A transaction was sent in part; nothing else comes before its end.
    in_parts: bool,
    /// Of an older writer not: it would run what it is told not to.
    reads_refused: bool,
}

impl Connection<'_> {
    fn begin(&mut self, begin: Option<SnapshotBegin>) -> Result<(), PullError> {
        let Some(begin) = begin else {
            // The writer knows that it has everything.
            self.snapshot.take_finished();
            return Ok(());
        };
        tracing::info!(
            position = %begin.position,
            epoch = begin.epoch,
            tables = begin.tables.len(),
            resumed = begin.resumed,
            "snapshot"
        );
        self.encoder.push(&Frame::SnapshotBegin(begin))?;
        self.end_snapshot()
    }

    fn end_snapshot(&mut self) -> Result<(), PullError> {
        if self.snapshot.take_finished() {
            tracing::info!("every table of the snapshot was copied");
            self.encoder.push(&Frame::SnapshotEnd)?;
        }
        Ok(())
    }

    /// Takes the next thing, or sends what there is if there is none at the moment.
    async fn step(&mut self) -> Result<(), PullError> {
        // A source that always has more must stop neither the copy nor the word of how far it is.
        self.snapshot.begin()?;
        let due = self.stretch.due(Instant::now()).filter(|_| !self.in_parts);
        if due.is_some_and(|due| due <= Instant::now()) {
            self.tell()?;
        }
        let pending = self.encoder.pending_bytes();
        if pending >= PACKET_BYTES {
            return self.flush().await;
        }
        let word = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            output = self.reader.next() => self.take(output?).await,
            () = std::future::ready(()), if pending > 0 => self.flush().await,
            read = self.snapshot.work() => read,
            // The next step tells it.
            () = word => Ok(()),
        }
    }

    async fn take(&mut self, output: Output) -> Result<(), PullError> {
        match output {
            Output::Heartbeat => Ok(()),
            Output::Passed(passed) => {
                self.shared.metrics.filtered.inc_by(passed.filtered);
                self.read(passed.committed_micros);
                self.snapshot.reach(&passed.position);
                self.stretch.pass(passed);
                self.end_snapshot()
            }
            Output::Notice(notice) => {
                if let Some(chunk) = self.snapshot.notice(&notice).await? {
                    self.shared
                        .metrics
                        .snapshot_rows
                        .inc_by(chunk.rows.len() as u64);
                    self.encoder.push(&Frame::SnapshotChunk(chunk))?;
                }
                self.end_snapshot()
            }
            Output::Transaction(transaction) => self.transaction(*transaction).await,
        }
    }

    async fn transaction(&mut self, mut transaction: Transaction) -> Result<(), PullError> {
        let Shared { metrics, .. } = self.shared;
        metrics.changes.inc_by(transaction.change_count());
        metrics.filtered.inc_by(transaction.filtered);
        self.snapshot.see(&mut transaction);
        self.in_parts = !transaction.is_last();
        if transaction.is_last() {
            metrics.transactions.inc();
            transaction.filtered += self.stretch.take_filtered(Instant::now());
            self.read(transaction.committed_micros);
        }
        if let Some(position) = &transaction.position {
            self.snapshot.reach(position);
        }
        let is_ddl = matches!(transaction.body, Body::Ddl(_));
        if let Body::Ddl(Ddl {
            refused: Some(refused),
            ..
        }) = &transaction.body
            && !self.reads_refused
        {
            let message = format!(
                "{}. Upgrade the writer, which is of an earlier release",
                refused.what
            );
            return Err(PullError::halt(&refused.reason, message));
        }
        self.encoder.push(&Frame::Transaction(transaction))?;
        if is_ddl {
            // What came of it must still be something that a link can carry; the binlog alone does
            // not tell each type.
            let Self {
                source, selection, ..
            } = self;
            let lifeline = source.lifeline().clone();
            let look = async {
                source.tables(selection).await?;
                source.check_outer_keys(selection).await
            };
            lifeline.wait(look).await??;
        }
        self.end_snapshot()
    }

    fn tell(&mut self) -> Result<(), PullError> {
        if let Some(last) = self.stretch.tell(Instant::now()) {
            let progress = Progress {
                position: last.position,
                epoch: self.reader.epoch(),
                gtid: last.gtid.to_string(),
                source_micros: last.committed_micros,
                filtered: last.filtered,
            };
            self.encoder.push(&Frame::Progress(progress))?;
        }
        Ok(())
    }

    fn read(&self, committed_micros: u64) {
        let seconds = i64::try_from(committed_micros / 1_000_000).unwrap_or(i64::MAX);
        self.shared.metrics.read_commit_seconds.set(seconds);
    }

    async fn flush(&mut self) -> Result<(), PullError> {
        if let Some(packet) = self.encoder.flush()? {
            self.shared
                .metrics
                .sent_bytes
                .inc_by(packet.frames.len() as u64);
            let position = PositionText(self.reader.position().to_string());
            self.shared.status.set_position(position);
            self.sender
                .send(Ok(packet))
                .await
                .map_err(|_| PullError::Gone)?;
        }
        Ok(())
    }
}
