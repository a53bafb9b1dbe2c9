//! The writer's end of a connection, which keeps all it is told in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use change::sync::sync_client::SyncClient;
use change::sync::{KeysReply, KeysRequest, Last, Packet, PullRequest};
use change::{
    Body, Ddl, Frame, Halt, MAX_PACKET_BYTES, PacketDecoder, Position, Refused, Row, RowChange,
    SnapshotBegin, SnapshotState, TableChange, TableSchema, TargetTable, Transaction, Value,
    encode_key,
};
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::{LIMIT, Source};

/// Rows by table and key.
pub type Rows = BTreeMap<(String, Vec<u8>), (Arc<TableSchema>, Row)>;

/// One connection.
pub struct Pull {
    stream: Streaming<Packet>,
    decoder: PacketDecoder,
    waiting: VecDeque<Frame>,
    /// What a target would hold that applies all frames.
    pub target: Rows,
    /// Rows that chunks brought.
    pub copied: Rows,
    /// The last position told.
    pub position: Option<Position>,
    /// The last transaction there.
    pub last: Option<Last>,
    /// Changes that a strict target would have had to refuse.
    pub conflicts: Vec<String>,
    /// Transactions as they came, rows left out.
    pub transactions: Vec<Transaction>,
    /// Changes sent and changes said to be left out.
    pub counts: (u64, u64),
    /// Every table was copied.
    pub copied_all: bool,
    /// Beginnings of snapshots.
    pub snapshots: Vec<SnapshotBegin>,
    /// How many frames came.
    pub frames: u64,
    /// How many chunks came.
    pub chunks: u64,
    /// How far the copy of each table of `orders` is, as a writer would keep it.
    copying: BTreeMap<String, SnapshotState>,
    /// The epoch that came with the position.
    epoch: u64,
    /// Parts of a transaction have come and its end has not.
    in_transaction: bool,
}

fn key_of(table: &TableSchema, row: &Row) -> (String, Vec<u8>) {
    let key: Vec<Value> = table
        .primary_key
        .iter()
        .map(|&place| row[place].clone())
        .collect();
    (table.to_string(), encode_key(&key).to_vec())
}

fn last(gtid: &str, committed_micros: u64) -> Last {
    let gtid = gtid.to_owned();
    Last {
        gtid,
        committed_micros,
    }
}

async fn channel(source: &Source<'_>) -> Result<Channel> {
    let read = |name: &str| std::fs::read(source.directory.join("tls").join(name));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")?))
        .identity(Identity::from_pem(read("tls.crt")?, read("tls.key")?))
        .domain_name("transport.multiactive");
    let endpoint = Channel::from_shared(format!("https://{}", source.address))?.tls_config(tls)?;
    let started = std::time::Instant::now();
    // The syncer may still be starting.
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) if started.elapsed() > LIMIT => return Err(error.into()),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// Asks what the source's foreign keys do without a word in its binlog.
pub async fn keys(source: &Source<'_>) -> Result<KeysReply> {
    let link = "suite/read".to_owned();
    let mut client = SyncClient::new(channel(source).await?);
    Ok(client.keys(KeysRequest { link }).await?.into_inner())
}

async fn stream(source: &Source<'_>, request: PullRequest) -> Result<Streaming<Packet>> {
    let mut client =
        SyncClient::new(channel(source).await?).max_decoding_message_size(MAX_PACKET_BYTES);
    Ok(client.pull(request).await?.into_inner())
}

impl Pull {
    /// Connects as a writer with this checkpoint.
    pub async fn connect(source: &Source<'_>, checkpoint: Option<&Position>) -> Result<Self> {
        let request = PullRequest::of("suite/read".to_owned(), checkpoint, 1, &[]);
        Self::request(source, request).await
    }

    /// Sends a request as it is.
    pub async fn request(source: &Source<'_>, request: PullRequest) -> Result<Self> {
        Ok(Self {
            stream: stream(source, request).await?,
            decoder: PacketDecoder::new()?,
            waiting: VecDeque::new(),
            target: Rows::new(),
            copied: Rows::new(),
            position: None,
            last: None,
            conflicts: Vec::new(),
            transactions: Vec::new(),
            counts: (0, 0),
            copied_all: false,
            snapshots: Vec::new(),
            frames: 0,
            chunks: 0,
            copying: BTreeMap::new(),
            epoch: 1,
            in_transaction: false,
        })
    }

    /// Connects again, as a writer does that was killed between two of its commits.
    pub async fn again(&mut self, source: &Source<'_>) -> Result<()> {
        while self.in_transaction {
            self.next().await?;
        }
        let tables: Vec<TargetTable> = self
            .copying
            .iter()
            .map(|(table, state)| TargetTable {
                database: "orders".to_owned(),
                table: table.clone(),
                empty: false,
                snapshot: state.clone(),
            })
            .collect();
        let link = "suite/read".to_owned();
        let request = PullRequest {
            last: self.last.clone(),
            ..PullRequest::of(link, self.position.as_ref(), self.epoch, &tables)
        };
        self.stream = stream(source, request).await?;
        self.decoder = PacketDecoder::new()?;
        // What came and was not applied is lost with the connection.
        self.waiting.clear();
        Ok(())
    }

    /// The next frame, applied.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                self.apply(&frame)?;
                return Ok(frame);
            }
            let packet = tokio::time::timeout(LIMIT, self.stream.message())
                .await
                .context("nothing came")??
                .context("the stream ended")?;
            self.waiting = self.decoder.decode(packet)?.into();
        }
    }

    /// Takes frames until everything up to a position has come.
    pub async fn reach(&mut self, position: &Position) -> Result<()> {
        while !self
            .position
            .as_ref()
            .is_some_and(|here| here.contains(position))
        {
            if let Frame::Halt(halt) = self.next().await? {
                bail!("halted: {}: {}", halt.reason, halt.message);
            }
        }
        Ok(())
    }

    /// Takes frames until the syncer halts, or sends something at which the writer has to.
    pub async fn halt(&mut self) -> Result<Halt> {
        loop {
            match self.next().await? {
                Frame::Halt(halt) => return Ok(halt),
                Frame::Transaction(Transaction {
                    body:
                        Body::Ddl(Ddl {
                            refused: Some(refused),
                            ..
                        }),
                    ..
                }) => {
                    let Refused { reason, what, fix } = *refused;
                    let message = format!("{what}. {fix}");
                    return Ok(Halt { reason, message });
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, frame: &Frame) -> Result<()> {
        self.frames += 1;
        match frame {
            Frame::SnapshotBegin(begin) => {
                self.position = Some(begin.position.clone());
                self.last = self.last.take().filter(|_| begin.resumed);
                self.epoch = begin.epoch;
                self.snapshots.push(begin.clone());
                for table in begin.tables.iter().filter(|_| !begin.resumed) {
                    self.copying
                        .insert(table.table.clone(), SnapshotState::Pending);
                }
            }
            Frame::SnapshotEnd => {
                self.copied_all = true;
                self.copying
                    .values_mut()
                    .for_each(|state| *state = SnapshotState::Done);
            }
            Frame::Progress(progress) => {
                self.position = Some(progress.position.clone());
                self.last = Some(last(&progress.gtid, progress.source_micros));
                self.epoch = progress.epoch;
                self.counts.1 += progress.filtered;
            }
            Frame::SnapshotChunk(chunk) => {
                self.chunks += 1;
                let (cursor, rows) = (chunk.cursor.clone(), chunk.rows_so_far);
                let state = if chunk.done {
                    SnapshotState::Done
                } else {
                    SnapshotState::Running { cursor, rows }
                };
                self.copying.insert(chunk.table.table.clone(), state);
                for row in &chunk.rows {
                    let entry = (Arc::clone(&chunk.table), row.clone());
                    self.target.insert(key_of(&chunk.table, row), entry.clone());
                    self.copied.insert(key_of(&chunk.table, row), entry);
                }
            }
            Frame::Transaction(transaction) => {
                ensure!(transaction.is_last() == transaction.position.is_some());
                if let Some(position) = &transaction.position {
                    self.position = Some(position.clone());
                    self.last = Some(last(&transaction.gtid, transaction.committed_micros));
                    self.epoch = transaction.epoch;
                }
                self.in_transaction = !transaction.is_last();
                self.counts.0 += transaction.change_count();
                self.counts.1 += transaction.filtered;
                match &transaction.body {
                    Body::Rows(changes) => changes.iter().for_each(|change| self.change(change)),
                    Body::Ddl(ddl) => self.ddl(ddl),
                }
                let body = match &transaction.body {
                    Body::Rows(_) => Body::Rows(Vec::new()),
                    ddl @ Body::Ddl(_) => ddl.clone(),
                };
                self.transactions.push(Transaction {
                    body,
                    ..transaction.clone()
                });
            }
            Frame::Halt(_) => {}
        }
        Ok(())
    }

    fn change(&mut self, change: &TableChange) {
        let table = &change.table;
        for row in &change.rows {
            let (before, after) = match row {
                RowChange::Insert { after } => (None, Some(after)),
                RowChange::Update { before, after } => (Some(before), Some(after)),
                RowChange::Delete { before } => (Some(before), None),
            };
            if let Some(before) = before {
                let held = self.target.remove(&key_of(table, before));
                if !change.lenient && held.is_none_or(|(_, held)| held != *before) {
                    self.conflicts
                        .push(format!("{table}: not there as {before:?}"));
                }
            }
            if let Some(after) = after {
                let entry = (Arc::clone(table), after.clone());
                let held = self.target.insert(key_of(table, after), entry);
                if !change.lenient && held.is_some() {
                    self.conflicts
                        .push(format!("{table}: there already {after:?}"));
                }
            }
        }
    }

    /// Statements that remove rows.
    fn ddl(&mut self, ddl: &Ddl) {
        if ddl.verb == "DROP TABLE" || ddl.verb == "TRUNCATE TABLE" {
            let names: Vec<String> = ddl.objects.iter().map(ToString::to_string).collect();
            self.target.retain(|(table, _), _| !names.contains(table));
        }
    }

    /// The rows of the link's own tables.
    pub fn rows(&self) -> Rows {
        let ours = |name: &str| name.starts_with("multiactive.");
        self.target
            .iter()
            .filter(|((name, _), _)| !ours(name))
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }
}

/// Compares what was pulled with a copy of the tables at rest.
pub async fn is_at_rest(source: &Source<'_>, pull: &Pull) -> Result<()> {
    let mut still = source.pull(None).await?;
    while !still.copied_all {
        still.next().await?;
    }
    let differences = differences(&pull.rows(), &still.rows());
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// The differences between two sets of rows, as text; values only.
pub fn differences(left: &Rows, right: &Rows) -> Vec<String> {
    let mut found = Vec::new();
    for (key, (table, row)) in left {
        match right.get(key) {
            None => found.push(format!("only left: {table} {row:?}")),
            Some((_, other)) => {
                for (column, (one, two)) in table.columns.iter().zip(row.iter().zip(other)) {
                    if one != two {
                        found.push(format!("{table}.{}: {one:?} and {two:?}", column.name));
                    }
                }
            }
        }
    }
    for (key, (table, row)) in right {
        if !left.contains_key(key) {
            found.push(format!("only right: {table} {row:?}"));
        }
    }
    found
}
