//! Frames in packets: encoded together, compressed together.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::Message;

use crate::sync;
use crate::wire;
use crate::{CodecError, Frame, InvalidPosition, TableSchema};

/// The version of the wire that this release speaks.
pub const PROTOCOL: u32 = 1;

/// The most that the frames of one packet may take before compression, in bytes. It is what one
/// row change may take at most, since a row change is never split.
pub const MAX_FRAMES_BYTES: usize = 256 << 20;

/// What both ends set as the largest gRPC message, in bytes.
pub const MAX_PACKET_BYTES: usize = MAX_FRAMES_BYTES + (1 << 20);

/// Frames smaller than this are not worth compressing.
const COMPRESS_FROM_BYTES: usize = 256;

/// Fast, and good enough: rows of one table resemble each other.
const ZSTD_LEVEL: i32 = 1;

/// So many table definitions are remembered on a connection before the numbering starts anew.
const MAX_TABLES: usize = 1 << 14;

/// Field 1 (`frames`) of the message `Frames`, length-delimited.
const FRAMES_FIELD: u8 = 1 << 3 | 2;

/// Something on the wire that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not the message it should be.
    #[error("a packet of the link cannot be decoded: {0}")]
    Message(#[from] prost::DecodeError),
    /// Compression failed.
    #[error("a packet of the link cannot be compressed or decompressed: {0}")]
    Zstd(#[from] std::io::Error),
    /// More than both ends agreed on.
    #[error(
        "{what} takes {bytes} bytes, more than the {MAX_FRAMES_BYTES} that a link carries in one \
         piece; exclude the table from the link or store the value elsewhere"
    )]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A row that cannot be read.
    #[error("a row of {table} on the link cannot be decoded: {error}")]
    Row {
        /// Its table.
        table: String,
        /// Why.
        error: CodecError,
    },
    /// A position that cannot be read.
    #[error("a position on the link cannot be read: {0}")]
    Position(#[from] InvalidPosition),
    /// Something that this release does not know, or that should be there and is not.
    #[error("the other end of the link sent {0}; run the same release of syncer and writer")]
    Unknown(String),
}

/// Compression of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// zstd, level 1.
    Zstd,
}

/// The sending side of one connection.
pub struct PacketEncoder {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    tables: TableIds,
    pending: Vec<u8>,
}

impl PacketEncoder {
    /// Begins a connection.
    pub fn new(compression: Compression) -> Result<Self, WireError> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd => Some(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        Ok(Self {
            zstd,
            tables: TableIds::default(),
            pending: Vec::new(),
        })
    }

    /// Adds a frame to the packet that [`Self::flush`] will give.
    pub fn push(&mut self, frame: &Frame) -> Result<(), WireError> {
        let Self {
            tables, pending, ..
        } = self;
        let message = wire::frame_to_wire(frame, &mut |table| {
            let (id, definition) = tables.id_of(table);
            if let Some(definition) = definition {
                append(pending, &definition);
            }
            id
        });
        append(pending, &message);
        Ok(())
    }

    /// How many bytes wait for [`Self::flush`].
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Makes a packet of the frames added since the last one; `None` if there are none.
    pub fn flush(&mut self) -> Result<Option<sync::Packet>, WireError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let frames = std::mem::take(&mut self.pending);
        let length = frames.len() as u64;
        if frames.len() > MAX_FRAMES_BYTES {
            return Err(WireError::TooLarge {
                what: "a row change".to_owned(),
                bytes: length,
            });
        }
        let compressed = match &mut self.zstd {
            Some(zstd) if frames.len() >= COMPRESS_FROM_BYTES => Some(zstd.compress(&frames)?),
            _ => None,
        };
        // What does not shrink travels as it is.
        let packet = match compressed.filter(|compressed| compressed.len() < frames.len()) {
            Some(compressed) => sync::Packet {
                compression: sync::Compression::Zstd.into(),
                length,
                frames: compressed.into(),
            },
            None => sync::Packet {
                compression: sync::Compression::None.into(),
                length,
                frames: frames.into(),
            },
        };
        Ok(Some(packet))
    }
}

fn append(pending: &mut Vec<u8>, frame: &sync::Frame) {
    let length = frame.encoded_len();
    pending.reserve(length + 11);
    pending.put_u8(FRAMES_FIELD);
    prost::encoding::encode_varint(length as u64, pending);
    frame.encode_raw(pending);
}

/// Numbers the table definitions of one connection.
#[derive(Default)]
struct TableIds {
    /// By address; the value keeps the definition alive, so that no other can get its address.
    ids: HashMap<usize, (u32, Arc<TableSchema>)>,
    next: u32,
}

impl TableIds {
    /// The table's number, and the frame that defines it if it is new.
    fn id_of(&mut self, table: &Arc<TableSchema>) -> (u32, Option<sync::Frame>) {
        let address = Arc::as_ptr(table).addr();
        if let Some((id, _)) = self.ids.get(&address) {
            return (*id, None);
        }
        if self.ids.len() >= MAX_TABLES {
            self.ids.clear();
            self.next = 0;
        }
        let id = self.next;
        self.next += 1;
        self.ids.insert(address, (id, Arc::clone(table)));
        (id, Some(wire::table_to_wire(id, table)))
    }
}

/// The receiving side of one connection.
pub struct PacketDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
    tables: HashMap<u32, Arc<TableSchema>>,
}

impl PacketDecoder {
    /// Begins a connection.
    pub fn new() -> Result<Self, WireError> {
        Ok(Self {
            zstd: zstd::bulk::Decompressor::new()?,
            tables: HashMap::new(),
        })
    }

    /// The frames of a packet. Long values share the packet's memory.
    pub fn decode(&mut self, packet: sync::Packet) -> Result<Vec<Frame>, WireError> {
        let too_large = |bytes| WireError::TooLarge {
            what: "a received packet".to_owned(),
            bytes,
        };
        let length = usize::try_from(packet.length).map_err(|_| too_large(packet.length))?;
        if length > MAX_FRAMES_BYTES || packet.frames.len() > MAX_PACKET_BYTES {
            return Err(too_large(packet.length.max(packet.frames.len() as u64)));
        }
        let frames: Bytes = match sync::Compression::try_from(packet.compression) {
            Ok(sync::Compression::None) => packet.frames,
            Ok(sync::Compression::Zstd) => self.zstd.decompress(&packet.frames, length)?.into(),
            Err(_) => {
                let number = packet.compression;
                return Err(WireError::Unknown(format!(
                    "a packet in the compression {number}"
                )));
            }
        };
        let mut decoded = Vec::new();
        for message in sync::Frames::decode(frames)?.frames {
            if let Some(sync::frame::Body::Table(table)) = message.body {
                let (id, schema) = wire::table_from_wire(table)?;
                self.tables.insert(id, Arc::new(schema));
            } else {
                decoded.push(wire::frame_from_wire(message, &self.tables)?);
            }
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Body, Column, ColumnKind, Ddl, DdlObject, DdlSession, Flavor, Halt, Position, Progress,
        RowChange, RowFlags, SnapshotBegin, SnapshotChunk, SnapshotTable, TableChange, Transaction,
        Value,
    };

    use super::*;

    fn table() -> Arc<TableSchema> {
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            kind,
            unsigned: false,
            nullable: true,
            collation: 45,
            length: 400,
            decimals: 3,
            members: vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")],
        };
        Arc::new(TableSchema {
            database: "shop".to_owned(),
            table: "orders".to_owned(),
            columns: vec![
                column("id", ColumnKind::BigInt),
                column("note", ColumnKind::VarChar),
            ],
            primary_key: vec![0],
        })
    }

    fn row(id: i64, text: &str) -> Vec<Value> {
        vec![
            Value::Int(id),
            Value::Text(Bytes::copy_from_slice(text.as_bytes())),
        ]
    }

    fn position() -> Position {
        Position::parse(Flavor::MariaDb, "0-1-5,7-2-9").unwrap()
    }

    fn transaction(table: &Arc<TableSchema>, rows: i64) -> Transaction {
        let change = |rows| TableChange {
            table: Arc::clone(table),
            lenient: true,
            flags: RowFlags {
                no_foreign_key_checks: true,
                relaxed_unique_checks: false,
                logs_cascades: true,
            },
            rows,
        };
        let text = "x".repeat(100);
        Transaction {
            gtid: "0-1-5".to_owned(),
            origin: "sh".to_owned(),
            epoch: 4,
            committed_micros: 1_700_000_000_000_001,
            part: 2,
            position: Some(position()),
            filtered: 3,
            body: Body::Rows(vec![
                change(
                    (0..rows)
                        .map(|id| RowChange::Insert {
                            after: row(id, &text),
                        })
                        .collect(),
                ),
                change(vec![RowChange::Update {
                    before: row(1, "a"),
                    after: row(1, "b"),
                }]),
                change(vec![RowChange::Delete {
                    before: row(1, "b"),
                }]),
            ]),
        }
    }

    fn ddl() -> Transaction {
        let ddl = Ddl {
            database: "shop".to_owned(),
            statement: Bytes::from_static(b"ALTER TABLE \xe9 ADD c INT"),
            verb: "ALTER TABLE".to_owned(),
            objects: vec![
                DdlObject {
                    database: "shop".to_owned(),
                    name: Some("t".to_owned()),
                },
                DdlObject {
                    database: "shop".to_owned(),
                    name: None,
                },
            ],
            session: DdlSession {
                sql_mode: 1 << 40,
                charset_client: 8,
                explicit_defaults_for_timestamp: Some(false),
                auto_increment: Some((2, 1)),
                ..DdlSession::default()
            },
            refused: Some(Box::new(crate::Refused {
                reason: "Ddl".to_owned(),
                what: "it was met".to_owned(),
                fix: "do it".to_owned(),
            })),
        };
        Transaction {
            body: Body::Ddl(ddl),
            position: None,
            ..transaction(&table(), 0)
        }
    }

    fn frames() -> Vec<Frame> {
        let table = table();
        vec![
            Frame::SnapshotBegin(SnapshotBegin {
                position: Position::empty(Flavor::MySql),
                epoch: 1,
                tables: vec![SnapshotTable {
                    database: "shop".to_owned(),
                    table: "orders".to_owned(),
                    create_database: "CREATE DATABASE ...".to_owned(),
                    create_statement: "CREATE TABLE ...".to_owned(),
                    rows_estimate: 12,
                }],
                resumed: true,
            }),
            Frame::SnapshotChunk(SnapshotChunk {
                table: Arc::clone(&table),
                rows: vec![row(1, "a"), vec![Value::Int(2), Value::Null]],
                cursor: crate::encode_key(&[Value::Int(2)]),
                done: true,
                rows_so_far: 2,
                rows_estimate: 12,
            }),
            Frame::SnapshotEnd,
            Frame::Transaction(transaction(&table, 50)),
            Frame::Transaction(ddl()),
            Frame::Progress(Progress {
                position: position(),
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

    #[test]
    fn frames_read_back() {
        for compression in [Compression::None, Compression::Zstd] {
            let mut encoder = PacketEncoder::new(compression).unwrap();
            let mut decoder = PacketDecoder::new().unwrap();
            // Twice, since the second time the tables are already known.
            for _ in 0..2 {
                let frames = frames();
                for frame in &frames {
                    encoder.push(frame).unwrap();
                }
                let packet = encoder.flush().unwrap().unwrap();
                assert_eq!(
                    packet.compression() == sync::Compression::Zstd,
                    compression == Compression::Zstd
                );
                let packet = sync::Packet::decode(packet.encode_to_vec().as_slice()).unwrap();
                assert_eq!(decoder.decode(packet).unwrap(), frames);
                assert!(encoder.flush().unwrap().is_none());
            }
        }
    }

    #[test]
    fn a_table_is_defined_once_a_connection() {
        let mut encoder = PacketEncoder::new(Compression::None).unwrap();
        let table = table();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            encoder
                .push(&Frame::Transaction(transaction(&table, 1)))
                .unwrap();
            sizes.push(encoder.flush().unwrap().unwrap().frames.len());
        }
        assert!(sizes[0] > sizes[1] && sizes[1] == sizes[2], "{sizes:?}");
    }

    #[test]
    fn a_packet_that_claims_too_much_is_refused_before_it_is_unpacked() {
        let packet = sync::Packet {
            compression: sync::Compression::Zstd.into(),
            length: u64::MAX,
            frames: Bytes::from_static(b"x"),
        };
        let error = PacketDecoder::new().unwrap().decode(packet).unwrap_err();
        assert!(matches!(error, WireError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn rows_of_an_undefined_table_are_refused() {
        let mut encoder = PacketEncoder::new(Compression::None).unwrap();
        let table = table();
        encoder
            .push(&Frame::Transaction(transaction(&table, 1)))
            .unwrap();
        encoder.flush().unwrap();
        encoder
            .push(&Frame::Transaction(transaction(&table, 1)))
            .unwrap();
        let packet = encoder.flush().unwrap().unwrap();
        let error = PacketDecoder::new().unwrap().decode(packet).unwrap_err();
        assert!(matches!(error, WireError::Unknown(_)), "{error}");
    }
}
