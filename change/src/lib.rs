//! The change model: positions, values, rows, transactions and their wire format.
//!
//! Everything that carries data between two databases speaks these types: the binlog reader and
//! the snapshot produce them, the wire carries them, the writer applies them. One codec for
//! values means that "equal" has one meaning everywhere.

mod codec;
mod frame;
mod packet;
mod position;
mod relay;
mod schema;
mod shown;
mod store;
mod transaction;
mod value;
mod wire;

pub use codec::{CodecError, decode_key, decode_row, decode_rows, encode_key, encode_row};
pub use frame::{
    Frame, Halt, Progress, SnapshotBegin, SnapshotChunk, SnapshotState, SnapshotTable, TargetTable,
};
pub use packet::{
    Compression, MAX_FRAMES_BYTES, MAX_PACKET_BYTES, PROTOCOL, PacketDecoder, PacketEncoder,
    WireError,
};
pub use position::{
    Flavor, Gtid, GtidList, GtidSet, InvalidPosition, MariaDbGtid, MySqlGtid, OriginMark, Position,
    ServerUuid,
};
pub use relay::Stretch;
pub use schema::{BINARY_COLLATION, Column, ColumnKind, TableSchema};
pub use shown::{SHOWN, shown};
pub use store::{decode_stored, encode_stored};
pub use transaction::{
    Body, Ddl, DdlObject, DdlSession, Refused, Row, RowChange, RowFlags, TableChange, Transaction,
};
pub use value::{Date, DateTime, Real32, Real64, Value};

/// The generated messages, client and server of the service `Sync`.
pub mod sync {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("multiactive.sync.v1");
}

/// The generated messages, client and server of the service `Arbiter`.
pub mod arbiter {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("multiactive.arbiter.v1");
}
