//! A syncer that plays a script: it serves what follows the writer's checkpoint, as the real one
//! does, and takes part in nothing else.

#![allow(
    clippy::expect_used,
    reason = "what the script itself makes is sound; otherwise the test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use change::sync::sync_server::{Sync, SyncServer};
use change::sync::{
    ActingKey, DescribeReply, DescribeRequest, FiledPiece, FiledReply, FiledRequest, KeysReply,
    KeysRequest, Last, RelayRequest, TableName,
};
use change::{
    Body, Column, ColumnKind, Ddl, DdlObject, DdlSession, Flavor, Frame, Halt, MAX_PACKET_BYTES,
    PacketEncoder, Position, RowChange, RowFlags, SnapshotBegin, SnapshotChunk, SnapshotTable,
    TableChange, TableSchema, Transaction, Value,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// When its transactions were committed.
const COMMITTED_MICROS: u64 = 1_700_000_000_000_000;

/// The source that the script plays.
#[derive(Clone)]
pub struct Source {
    pub idc: String,
    pub flavor: Flavor,
    pub epoch: u64,
    /// Its server id where it plays a MariaDB, part of its UUID where it plays a MySQL. Each source
    /// is another server, since targets remember GTIDs.
    server: u32,
    state: Arc<Mutex<State>>,
    grown: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// The frames of each transaction; the first is number 1.
    transactions: Vec<Vec<Frame>>,
    /// What a writer is told in place of everything else.
    halt: Option<Halt>,
    /// It has said that it went back; what was last before is forgotten with that.
    went_back: bool,
    /// What is copied for a writer without a checkpoint.
    copy: Option<SnapshotChunk>,
    /// What the source has set aside, and whose it is, in order.
    filed: Vec<(String, FiledPiece)>,
    /// Through where the source has got with a member's transactions.
    through: BTreeMap<String, Position>,
    /// How much of what the target has filed the source says it has taken back.
    undone: u64,
    /// How often it was asked for a page.
    asked: u64,
    /// In which epoch it is where a link begins, if that is another one.
    begins_in: Option<u64>,
    /// What it has applied of a third member's and hands on.
    handed_on: Vec<Transaction>,
    /// What its foreign keys do without a word in its binlog; an earlier release does not tell.
    keys: Option<Vec<ActingKey>>,
}

impl Source {
    pub fn new(idc: &str, flavor: Flavor) -> Self {
        static SERVERS: AtomicU32 = AtomicU32::new(1000);
        let server = SERVERS.fetch_add(1, Ordering::Relaxed);
        let (grown, _) = watch::channel(());
        Self {
            idc: idc.to_owned(),
            flavor,
            epoch: 1,
            server,
            state: Arc::default(),
            grown,
        }
    }

    /// Its server UUID where it plays a MySQL.
    pub fn uuid(&self) -> String {
        format!("3e11fa47-71ca-11e1-9e33-c80aa942{:04}", self.server)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links begin in this epoch.
    pub fn begin_in(&self, epoch: u64) {
        self.state().begins_in = Some(epoch);
    }

    /// What it has applied of a third member's, as its binlog has it.
    pub fn hand_on(&self, transactions: Vec<Transaction>) {
        self.state().handed_on = transactions;
    }

    /// What its foreign keys do.
    pub fn act(&self, keys: Vec<ActingKey>) {
        self.state().keys = Some(keys);
    }

    pub fn gtid(&self, number: usize) -> String {
        match self.flavor {
            Flavor::MySql => format!("{}:{number}", self.uuid()),
            Flavor::MariaDb => format!("9-{}-{number}", self.server),
        }
    }

    pub fn position(&self, number: usize) -> Position {
        let text = match (self.flavor, number) {
            (_, 0) => String::new(),
            (Flavor::MySql, _) => format!("{}:1-{number}", self.uuid()),
            (Flavor::MariaDb, _) => self.gtid(number),
        };
        Position::parse(self.flavor, &text).expect("a position")
    }

    /// Commits a transaction at the source.
    pub fn commit(&self, changes: Vec<TableChange>) -> String {
        self.commit_parts(vec![changes])
    }

    /// Commits a transaction that travels in several parts.
    pub fn commit_parts(&self, parts: Vec<Vec<TableChange>>) -> String {
        let bodies = parts.into_iter().map(Body::Rows).collect();
        self.add(bodies)
    }

    /// Runs a DDL statement at the source.
    pub fn ddl(&self, verb: &str, object: &str, statement: &str) -> String {
        let ddl = Ddl {
            database: "orders".to_owned(),
            statement: Bytes::copy_from_slice(statement.as_bytes()),
            verb: verb.to_owned(),
            objects: vec![DdlObject {
                database: "orders".to_owned(),
                name: Some(object.to_owned()),
            }],
            session: DdlSession {
                // STRICT_TRANS_TABLES and NO_ENGINE_SUBSTITUTION.
                sql_mode: 1 << 21 | 1 << 30,
                charset_client: 45,
                collation_connection: 45,
                collation_server: 45,
                foreign_key_checks: true,
                unique_checks: true,
                ..DdlSession::default()
            },
            refused: None,
        };
        self.add(vec![Body::Ddl(ddl)])
    }

    fn add(&self, bodies: Vec<Body>) -> String {
        let mut state = self.state();
        let number = state.transactions.len() + 1;
        let gtid = self.gtid(number);
        let last = bodies.len() - 1;
        let frames = bodies.into_iter().enumerate().map(|(part, body)| {
            Frame::Transaction(Transaction {
                gtid: gtid.clone(),
                origin: self.idc.clone(),
                epoch: self.epoch,
                committed_micros: COMMITTED_MICROS,
                part: u32::try_from(part).expect("few parts"),
                position: (part == last).then(|| self.position(number)),
                filtered: 0,
                body,
            })
        });
        state.transactions.push(frames.collect());
        drop(state);
        self.grown.send_replace(());
        gtid
    }

    /// Changes a transaction before anybody reads it.
    pub fn edit(&self, number: usize, mut change: impl FnMut(&mut Transaction)) {
        for frame in &mut self.state().transactions[number - 1] {
            if let Frame::Transaction(transaction) = frame {
                change(transaction);
            }
        }
    }

    /// Halts each connection from now on, or lets them be served again.
    pub fn halt(&self, reason: Option<&str>) {
        self.state().went_back |= reason == Some(Halt::SOURCE_WENT_BACK);
        self.state().halt = reason.map(|reason| Halt {
            reason: reason.to_owned(),
            message: format!("the script says {reason}"),
        });
        self.grown.send_replace(());
    }

    /// Copies these rows of `orders.t` for a writer without a checkpoint.
    pub fn copy(&self, rows: Vec<Vec<Value>>) {
        self.copy_of(rows, true);
    }

    /// The same, and there is more, which does not come.
    pub fn copy_in_part(&self, rows: Vec<Vec<Value>>) {
        self.copy_of(rows, false);
    }

    fn copy_of(&self, rows: Vec<Vec<Value>>, done: bool) {
        self.state().copy = Some(SnapshotChunk {
            table: table(),
            rows_so_far: rows.len() as u64,
            rows_estimate: rows.len() as u64,
            rows,
            cursor: Bytes::from_static(b"1"),
            done,
        });
    }

    /// The frames for a writer without a checkpoint.
    fn snapshot(&self) -> Vec<Frame> {
        let copy = self.state().copy.clone();
        let described = copy.iter().map(|chunk| SnapshotTable {
            database: chunk.table.database.clone(),
            table: chunk.table.table.clone(),
            create_database: String::new(),
            create_statement: String::new(),
            rows_estimate: chunk.rows_estimate,
        });
        let begin = Frame::SnapshotBegin(SnapshotBegin {
            position: self.position(0),
            epoch: self.state().begins_in.unwrap_or(self.epoch),
            tables: described.collect(),
            resumed: false,
        });
        let whole = copy.as_ref().is_none_or(|chunk| chunk.done);
        let chunk = copy.map(Frame::SnapshotChunk);
        [Some(begin), chunk, whole.then_some(Frame::SnapshotEnd)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Files transactions of other members.
    pub fn file(&self, transactions: &[Transaction]) {
        let mut state = self.state();
        for transaction in transactions {
            let piece = FiledPiece {
                number: state.filed.len() as u64 + 1,
                gtid: transaction.gtid.clone(),
                part: transaction.part,
                body: change::encode_stored(transaction).expect("a body").into(),
                epoch: transaction.epoch,
                ended_by: transaction.epoch + 1,
            };
            state.filed.push((transaction.origin.clone(), piece));
        }
    }

    /// The source has applied or filed everything of this member's up to here.
    pub fn reach(&self, of: &str, position: Position) {
        self.state().through.insert(of.to_owned(), position);
    }

    /// The source says that it has taken back so many of its transactions.
    pub fn says_undone(&self, undone: u64) {
        self.state().undone = undone;
    }

    /// How often it was asked what is filed.
    pub fn asked(&self) -> u64 {
        self.state().asked
    }

    /// How many transactions there are.
    pub fn length(&self) -> usize {
        self.state().transactions.len()
    }

    /// The frames that a writer with this checkpoint is served, and how many transactions that is.
    fn after(&self, checkpoint: Option<&Position>, sent: &mut usize) -> Vec<Frame> {
        let state = self.state();
        let mut frames = Vec::new();
        for (index, transaction) in state.transactions.iter().enumerate().skip(*sent) {
            let is_applied = checkpoint.is_some_and(|at| at.contains(&self.position(index + 1)));
            if !is_applied {
                frames.extend(transaction.iter().cloned());
            }
        }
        *sent = state.transactions.len();
        frames
    }

    /// A writer knows the last transaction of its checkpoint, unless it has just begun.
    fn check_last(&self, checkpoint: Option<&Position>, last: Option<&Last>) -> Result<(), Status> {
        let committed = self.state().transactions.len();
        let number = (0..=committed).rfind(|number| Some(&self.position(*number)) == checkpoint);
        let expected = number.filter(|number| *number > 0).map(|number| Last {
            gtid: self.gtid(number),
            committed_micros: COMMITTED_MICROS,
        });
        if last == expected.as_ref() || (last.is_none() && self.state().went_back) {
            return Ok(());
        }
        let text = format!("the writer is at {checkpoint:?} and tells {last:?} for {expected:?}");
        Err(Status::internal(text))
    }

    /// Serves until the token is cancelled; must be called within a runtime.
    pub fn serve(self, tls: &Path, stop: CancellationToken) -> Result<SocketAddr> {
        let read = |name: &str| std::fs::read(tls.join(name));
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("tls.crt")?, read("tls.key")?))
            .client_ca_root(Certificate::from_pem(read("ca.crt")?));
        let listener = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse()?)?;
        let address = listener.local_addr()?;
        let service = SyncServer::new(self).max_encoding_message_size(MAX_PACKET_BYTES);
        let server = Server::builder().tls_config(config)?;
        tokio::spawn(async move {
            let _ended_with_the_test = server
                .serve_with_incoming_shutdown(service, listener, stop.cancelled_owned())
                .await;
        });
        Ok(address)
    }
}

#[tonic::async_trait]
impl Sync for Source {
    async fn describe(
        &self,
        _: Request<DescribeRequest>,
    ) -> Result<Response<DescribeReply>, Status> {
        Err(Status::unimplemented("a scripted source has no server"))
    }

    async fn filed(&self, request: Request<FiledRequest>) -> Result<Response<FiledReply>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.asked += 1;
        let filed = state.filed.iter().rev();
        let filed: Vec<&FiledPiece> = filed
            .filter(|(of, _)| *of == request.of)
            .map(|(_, piece)| piece)
            .collect();
        let gtids: BTreeSet<&str> = filed.iter().map(|it| it.gtid.as_str()).collect();
        // Pages of two, so that transactions lie across them.
        let pieces = filed.iter();
        let pieces = pieces.filter(|it| request.below == 0 || it.number < request.below);
        Ok(Response::new(FiledReply {
            through: state
                .through
                .get(&request.of)
                .map(Into::into)
                .into_iter()
                .collect(),
            transactions: gtids.len() as u64,
            undone: state.undone,
            pieces: pieces.take(2).map(|piece| (*piece).clone()).collect(),
            of: request.of.clone(),
        }))
    }

    type PullStream = Pin<Box<dyn Stream<Item = Result<change::sync::Packet, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<change::sync::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let request = request.into_inner();
        let checkpoint: Option<Position> = match &request.checkpoint {
            Some(position) => Some(
                position
                    .try_into()
                    .map_err(|e: change::WireError| Status::internal(e.to_string()))?,
            ),
            None => None,
        };
        self.check_last(checkpoint.as_ref(), request.last.as_ref())?;
        let (sender, receiver) = mpsc::channel(1);
        let source = self.clone();
        let mut grown = self.grown.subscribe();
        tokio::spawn(async move {
            let mut encoder = PacketEncoder::new(change::Compression::Zstd).expect("an encoder");
            let mut sent = 0;
            let mut frames = Vec::new();
            if checkpoint.is_none() {
                frames.extend(source.snapshot());
            }
            loop {
                let halt = source.state().halt.clone();
                match halt {
                    Some(halt) => frames = vec![Frame::Halt(halt)],
                    None => frames.extend(source.after(checkpoint.as_ref(), &mut sent)),
                }
                for frame in frames.drain(..) {
                    encoder.push(&frame).expect("a frame");
                    let packet = encoder.flush().expect("a packet").expect("not empty");
                    if sender.send(Ok(packet)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = grown.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn keys(&self, _: Request<KeysRequest>) -> Result<Response<KeysReply>, Status> {
        let keys = self.state().keys.clone();
        let keys = keys.ok_or_else(|| Status::unimplemented("of an earlier release"))?;
        let named = |key: &ActingKey| TableName {
            database: key.database.clone(),
            table: key.table.clone(),
        };
        Ok(Response::new(KeysReply {
            logged: false,
            at: Some((&self.position(self.length())).into()),
            tables: keys.iter().map(named).collect(),
            keys,
        }))
    }

    type RelayStream = Self::PullStream;

    async fn relay(&self, _: Request<RelayRequest>) -> Result<Response<Self::RelayStream>, Status> {
        let transactions = self.state().handed_on.clone();
        if transactions.is_empty() {
            return Err(Status::failed_precondition("it has nothing of that"));
        }
        let mut encoder = PacketEncoder::new(change::Compression::Zstd).expect("an encoder");
        let packets: Vec<_> = transactions
            .into_iter()
            .map(|transaction| {
                encoder
                    .push(&Frame::Transaction(transaction))
                    .expect("a frame");
                Ok(encoder.flush().expect("a packet").expect("not empty"))
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(packets))))
    }
}

/// A column that may be NULL, in utf8mb4.
pub fn column(name: &str, kind: ColumnKind) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        unsigned: false,
        nullable: true,
        collation: if matches!(kind, ColumnKind::VarChar | ColumnKind::Text) {
            45
        } else {
            0
        },
        length: 0,
        decimals: 0,
        members: Vec::new(),
    }
}

/// `orders.t (id INT PRIMARY KEY, v INT, u INT UNIQUE)`.
pub fn table() -> Arc<TableSchema> {
    Arc::new(TableSchema {
        database: "orders".to_owned(),
        table: "t".to_owned(),
        columns: ["id", "v", "u"]
            .map(|name| column(name, ColumnKind::Int))
            .to_vec(),
        primary_key: vec![0],
    })
}

/// A row of `orders.t`.
pub fn row(id: i64, v: i64, u: Option<i64>) -> Vec<Value> {
    vec![
        Value::Int(id),
        Value::Int(v),
        u.map_or(Value::Null, Value::Int),
    ]
}

pub fn changes(table: &Arc<TableSchema>, rows: Vec<RowChange>) -> TableChange {
    TableChange {
        table: Arc::clone(table),
        lenient: false,
        flags: RowFlags::default(),
        rows,
    }
}

pub fn insert(id: i64, v: i64, u: Option<i64>) -> RowChange {
    RowChange::Insert {
        after: row(id, v, u),
    }
}

pub fn update(before: Vec<Value>, after: Vec<Value>) -> RowChange {
    RowChange::Update { before, after }
}

pub fn delete(before: Vec<Value>) -> RowChange {
    RowChange::Delete { before }
}

/// `multiactive.heartbeat` as the arbiter makes it.
pub fn heartbeat(idc: &str, seq: u64) -> TableChange {
    let mut name = column("idc", ColumnKind::VarChar);
    // ascii_bin.
    name.collation = 65;
    let unsigned = |name: &str| Column {
        unsigned: true,
        ..column(name, ColumnKind::BigInt)
    };
    let mut at = column("at", ColumnKind::DateTime);
    at.decimals = 6;
    let table = TableSchema {
        database: "multiactive".to_owned(),
        table: "heartbeat".to_owned(),
        columns: vec![
            name,
            unsigned("epoch"),
            column("writable", ColumnKind::TinyInt),
            unsigned("seq"),
            at,
        ],
        primary_key: vec![0],
    };
    let moment = change::DateTime {
        date: change::Date {
            year: 2024,
            month: 2,
            day: 29,
        },
        hour: 12,
        minute: 0,
        second: 0,
        micros: 1,
    };
    let after = vec![
        Value::Text(Bytes::copy_from_slice(idc.as_bytes())),
        Value::UInt(1),
        Value::Int(1),
        Value::UInt(seq),
        Value::DateTime(moment),
    ];
    let before = after.clone();
    changes(&Arc::new(table), vec![update(before, after)])
}

/// A row of `multiactive.epoch`, as an earlier release wrote it.
pub fn epoch_row(epoch: u64, idc: &str) -> TableChange {
    epoch_row_after(epoch, idc, None)
}

/// A row of `multiactive.epoch`: which epoch it follows, and how much of that one it builds upon.
pub fn epoch_row_after(epoch: u64, idc: &str, follows: Option<(u64, &str)>) -> TableChange {
    let ascii = |name: &str, kind| Column {
        collation: 65,
        ..column(name, kind)
    };
    let mut at = column("at", ColumnKind::DateTime);
    at.decimals = 6;
    let table = TableSchema {
        database: "multiactive".to_owned(),
        table: "epoch".to_owned(),
        columns: vec![
            Column {
                unsigned: true,
                ..column("epoch", ColumnKind::BigInt)
            },
            ascii("idc", ColumnKind::VarChar),
            ascii("ended", ColumnKind::Text),
            at,
            Column {
                unsigned: true,
                ..column("follows", ColumnKind::BigInt)
            },
        ],
        primary_key: vec![0],
    };
    let after = vec![
        Value::UInt(epoch),
        Value::Text(Bytes::copy_from_slice(idc.as_bytes())),
        follows.map_or(Value::Null, |(_, ended)| {
            Value::Text(Bytes::copy_from_slice(ended.as_bytes()))
        }),
        Value::DateTime(change::DateTime {
            date: change::Date {
                year: 2024,
                month: 1,
                day: 1,
            },
            ..change::DateTime::default()
        }),
        follows.map_or(Value::Null, |(epoch, _)| Value::UInt(epoch)),
    ];
    changes(&Arc::new(table), vec![RowChange::Insert { after }])
}

/// The row of the link from a member in `multiactive.applied`, which goes on from one position and
/// ledger to another.
pub fn applied(source: &str, before: (&str, &str), after: (&str, &str)) -> TableChange {
    let mut columns = ["link", "source", "position", "ledger"].map(|name| {
        let mut text = column(name, ColumnKind::Text);
        // ascii_bin.
        text.collation = 65;
        text
    });
    columns[3].collation = 46;
    let table = TableSchema {
        database: "multiactive".to_owned(),
        table: "applied".to_owned(),
        columns: columns.to_vec(),
        primary_key: vec![0],
    };
    let row = |(position, ledger): (&str, &str)| {
        ["suite/elsewhere", source, position, ledger]
            .map(|text| Value::Text(Bytes::copy_from_slice(text.as_bytes())))
            .to_vec()
    };
    let rows = vec![update(row(before), row(after))];
    changes(&Arc::new(table), rows)
}
