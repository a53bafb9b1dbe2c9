//! Damaged packets, stored transactions, rows and positions are errors and nothing worse: no panic,
//! no endless loop, and no more memory than the bytes can be worth.
//!
//! Packets of every kind of frame are changed at random and decoded. A failure prints the seed that
//! replays it. `cargo xtask fuzz --seconds 600` runs longer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what is wrong here fails the test"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cap::Cap;
use change::sync::Packet;
use change::{
    Body, Column, ColumnKind, Compression, Date, DateTime, Ddl, DdlObject, DdlSession, Flavor,
    Frame, Gtid, Halt, PacketDecoder, PacketEncoder, Position, Progress, RowChange, RowFlags,
    SnapshotBegin, SnapshotChunk, SnapshotTable, TableChange, TableSchema, Transaction, Value,
    decode_key, decode_rows, decode_stored, encode_key, encode_stored,
};
use prost::Message;

#[global_allocator]
static MEMORY: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// What decoding may take beside what it is given.
const SLACK: usize = 4 << 20;
/// How many bytes one byte that is decoded may become: a NULL is one byte and becomes a value of some
/// forty, in a vector that may have grown to twice its size; an empty frame is two.
const GROWTH: usize = 300;

/// Sebastiano Vigna's `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }
}

/// A value of every kind, each with the kind of column that holds it.
fn values() -> Vec<(ColumnKind, Value)> {
    use ColumnKind as Kind;
    let text = Bytes::from_static(b"some text \xff\0");
    let date = Date {
        year: 2024,
        month: 2,
        day: 29,
    };
    let moment = DateTime {
        date,
        hour: 23,
        minute: 59,
        second: 58,
        micros: 999_999,
    };
    vec![
        (Kind::BigInt, Value::Int(-5)),
        (Kind::BigInt, Value::UInt(u64::MAX)),
        (Kind::Float, Value::Float(0.1.into())),
        (Kind::Double, Value::Double((-0.0).into())),
        (Kind::Decimal, Value::Decimal("-12.50".to_owned())),
        (Kind::VarChar, Value::Text(text.clone())),
        (Kind::Blob, Value::Bytes(text.clone())),
        (Kind::Bit, Value::Bit(511)),
        (Kind::Enum, Value::Enum(2)),
        (Kind::Set, Value::Set(1 << 63)),
        (Kind::Year, Value::Year(2155)),
        (Kind::Date, Value::Date(date)),
        (Kind::Time, Value::Time(-1)),
        (Kind::DateTime, Value::DateTime(moment)),
        (Kind::Timestamp, Value::Timestamp(1)),
        (Kind::Json, Value::Json(Bytes::from_static(b"{\"a\": 1}"))),
        (Kind::Geometry, Value::Geometry(text)),
        (Kind::Int, Value::Null),
    ]
}

fn table() -> Arc<TableSchema> {
    let column = |(number, (kind, _)): (usize, (ColumnKind, Value))| Column {
        name: format!("c{number}"),
        kind,
        unsigned: number % 2 == 1,
        nullable: true,
        collation: 45,
        length: 40,
        decimals: 3,
        members: vec![Bytes::from_static(b"m"), Bytes::from_static(b"n")],
    };
    Arc::new(TableSchema {
        database: "orders".to_owned(),
        table: "all".to_owned(),
        columns: values().into_iter().enumerate().map(column).collect(),
        primary_key: vec![0],
    })
}

fn row() -> Vec<Value> {
    values().into_iter().map(|(_, value)| value).collect()
}

fn transaction(body: Body) -> Transaction {
    Transaction {
        gtid: "0-1-5".to_owned(),
        origin: "sh".to_owned(),
        epoch: 4,
        committed_micros: 1_700_000_000_000_001,
        part: 0,
        position: Some(Position::parse(Flavor::MariaDb, "0-1-5,7-2-9").expect("a position")),
        filtered: 1,
        body,
    }
}

fn changes() -> Vec<TableChange> {
    let change = |rows| TableChange {
        table: table(),
        lenient: false,
        flags: RowFlags::default(),
        rows,
    };
    let update = || RowChange::Update {
        before: row(),
        after: row(),
    };
    vec![
        change(vec![RowChange::Insert { after: row() }; 5]),
        change(vec![update(), update()]),
        change(vec![RowChange::Delete { before: row() }]),
    ]
}

fn frames() -> Vec<Frame> {
    let ddl = Ddl {
        database: "orders".to_owned(),
        statement: Bytes::from_static(b"ALTER TABLE t ADD c INT"),
        verb: "ALTER TABLE".to_owned(),
        objects: vec![DdlObject {
            database: "orders".to_owned(),
            name: Some("t".to_owned()),
        }],
        session: DdlSession::default(),
        refused: None,
    };
    vec![
        Frame::SnapshotBegin(SnapshotBegin {
            position: Position::parse(
                Flavor::MySql,
                "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:t:7",
            )
            .expect("a position"),
            epoch: 1,
            tables: vec![SnapshotTable {
                database: "orders".to_owned(),
                table: "all".to_owned(),
                create_database: "CREATE DATABASE ...".to_owned(),
                create_statement: "CREATE TABLE ...".to_owned(),
                rows_estimate: 12,
            }],
            resumed: false,
        }),
        Frame::SnapshotChunk(SnapshotChunk {
            table: table(),
            rows: vec![row(); 20],
            cursor: encode_key(&[Value::Int(2)]),
            done: true,
            rows_so_far: 20,
            rows_estimate: 20,
        }),
        Frame::SnapshotEnd,
        Frame::Transaction(transaction(Body::Rows(changes()))),
        Frame::Transaction(transaction(Body::Ddl(ddl))),
        Frame::Progress(Progress {
            position: Position::empty(Flavor::MySql),
            epoch: 4,
            gtid: "0-1-7".to_owned(),
            source_micros: 5,
            filtered: 6,
        }),
        Frame::Halt(Halt {
            reason: "Purged".to_owned(),
            message: "why".to_owned(),
        }),
    ]
}

/// What is damaged, and how it is read.
enum Input {
    Packet(Vec<u8>),
    /// The frames of a packet, which no compression hides.
    Frames(Vec<u8>),
    Stored(Vec<u8>),
    Rows(Vec<u8>),
    Position(Vec<u8>),
}

impl Input {
    fn bytes(&mut self) -> &mut Vec<u8> {
        let (Self::Packet(bytes)
        | Self::Frames(bytes)
        | Self::Stored(bytes)
        | Self::Rows(bytes)
        | Self::Position(bytes)) = self;
        bytes
    }

    /// Reads it; whether it was readable, and how many bytes that was.
    fn read(self) -> (bool, usize) {
        let mut decoder = PacketDecoder::new().expect("a decoder");
        match self {
            Self::Packet(bytes) => match Packet::decode(&bytes[..]) {
                Ok(packet) => {
                    // Compressed bytes are worth what they claim, up to the limit of a packet.
                    let claimed = usize::try_from(packet.length).unwrap_or(usize::MAX);
                    let size = bytes.len() + claimed.min(change::MAX_FRAMES_BYTES);
                    (decoder.decode(packet).is_ok(), size)
                }
                Err(_) => (false, bytes.len()),
            },
            Self::Frames(bytes) => {
                let size = bytes.len();
                let packet = Packet {
                    compression: change::sync::Compression::None.into(),
                    length: size as u64,
                    frames: bytes.into(),
                };
                (decoder.decode(packet).is_ok(), size)
            }
            Self::Stored(bytes) => {
                let size = bytes.len();
                (decode_stored(bytes.into()).is_ok(), size * 100)
            }
            Self::Rows(bytes) => {
                let size = bytes.len();
                let rows = decode_rows(bytes.clone().into(), 20).is_ok();
                let _ = decode_key(bytes.into());
                (rows, size)
            }
            Self::Position(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let read = [Flavor::MySql, Flavor::MariaDb]
                    .map(|flavor| Position::parse(flavor, &text).is_ok());
                let _ = text.parse::<Gtid>();
                (read.contains(&true), bytes.len())
            }
        }
    }
}

fn whole(compression: Compression) -> Packet {
    let mut encoder = PacketEncoder::new(compression).expect("an encoder");
    for frame in frames() {
        encoder.push(&frame).expect("a frame");
    }
    encoder.flush().expect("a packet").expect("not empty")
}

fn input(kind: usize) -> Input {
    match kind {
        0 => Input::Packet(whole(Compression::Zstd).encode_to_vec()),
        1 => Input::Stored(encode_stored(&transaction(Body::Rows(changes()))).expect("bytes")),
        2 => {
            let mut rows = Vec::new();
            (0..20).for_each(|_| change::encode_row(&row(), &mut rows));
            Input::Rows(rows)
        }
        3 => Input::Position(
            b"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:tag:7-9,4e11fa47-71ca-11e1-9e33-c80aa9429562:1"
                .to_vec(),
        ),
        4 => Input::Position(b"0-1-5,7-2-18446744073709551615".to_vec()),
        _ => Input::Frames(whole(Compression::None).frames.to_vec()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "random bytes")]
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        // The longest varints.
        2 => {
            bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
        }
        3 => {
            bytes.splice(
                at..=at,
                [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            );
        }
        4 => bytes.truncate(at),
        5 => {
            let end = (at + 1 + random.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {
            let end = (at + random.below(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

fn attempt(seed: u64) {
    let mut random = Random(seed);
    let mut input = input(random.below(12));
    for _ in 0..=random.below(3) {
        damage(&mut random, input.bytes());
    }
    let (peak, now) = (MEMORY.max_allocated(), MEMORY.allocated());
    let (_, worth) = input.read();
    let most = peak.max(now + SLACK + GROWTH.saturating_mul(worth));
    assert!(
        MEMORY.max_allocated() <= most,
        "what is worth {worth} bytes took {} bytes of memory",
        MEMORY.max_allocated()
    );
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// One test, since what others allocate at the same time would count.
#[test]
fn damaged_bytes_are_errors_and_nothing_worse() {
    for kind in 0..6 {
        assert!(input(kind).read().0, "kind {kind} is readable");
    }
    let first = variable("MULTIACTIVE_FUZZ_SEED").unwrap_or(1);
    let seconds = variable("MULTIACTIVE_FUZZ_SECONDS");
    let started = Instant::now();
    let mut seed = first;
    let goes_on = |seed: u64| match seconds {
        Some(seconds) => started.elapsed() < Duration::from_secs(seconds),
        None => seed < first + 6_000,
    };
    while goes_on(seed) {
        let run = std::panic::catch_unwind(|| attempt(seed));
        assert!(
            run.is_ok(),
            "replay with MULTIACTIVE_FUZZ_SEED={seed} cargo test --package change --test fuzz"
        );
        seed += 1;
    }
    println!("{} damaged inputs", seed - first);
}
