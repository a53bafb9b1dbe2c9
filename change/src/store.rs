//! A transaction kept in a table: the bytes of a packet of its own, so that whoever can read the
//! wire can read it, and what is filed by one release is read by its neighbours.

use bytes::Bytes;
use prost::Message;

use crate::{
    Compression, Frame, PacketDecoder, PacketEncoder, Transaction, WireError, sync::Packet,
};

/// A transaction, or a part of one, as bytes that hold the definitions of its tables too.
///
/// # Errors
/// [`WireError::TooLarge`] for more than a link carries in one piece.
pub fn encode_stored(transaction: &Transaction) -> Result<Vec<u8>, WireError> {
    let mut encoder = PacketEncoder::new(Compression::Zstd)?;
    encoder.push(&Frame::Transaction(transaction.clone()))?;
    let packet = encoder
        .flush()?
        .ok_or_else(|| WireError::Unknown("nothing to store".to_owned()))?;
    Ok(packet.encode_to_vec())
}

/// What [`encode_stored`] made bytes of.
///
/// # Errors
/// Any [`WireError`] if the bytes are something else.
pub fn decode_stored(bytes: Bytes) -> Result<Transaction, WireError> {
    let frames = PacketDecoder::new()?.decode(Packet::decode(bytes)?)?;
    match <[Frame; 1]>::try_from(frames) {
        Ok([Frame::Transaction(transaction)]) => Ok(transaction),
        _ => Err(WireError::Unknown(
            "something else than one stored transaction".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Body, Column, ColumnKind, RowChange, RowFlags, TableChange, TableSchema, Value};

    #[test]
    fn a_stored_transaction_is_read_back_with_its_tables() {
        let column = Column {
            name: "id".into(),
            kind: ColumnKind::BigInt,
            unsigned: false,
            nullable: false,
            collation: 0,
            length: 0,
            decimals: 0,
            members: Vec::new(),
        };
        let table = Arc::new(TableSchema {
            database: "shop".into(),
            table: "orders".into(),
            columns: vec![column],
            primary_key: vec![0],
        });
        let transaction = Transaction {
            gtid: "0-1-5".into(),
            origin: "sh".into(),
            epoch: 3,
            committed_micros: 7,
            part: 2,
            position: None,
            filtered: 0,
            body: Body::Rows(vec![TableChange {
                table,
                lenient: false,
                flags: RowFlags::default(),
                rows: (0..100)
                    .map(|id| RowChange::Update {
                        before: vec![Value::Int(id)],
                        after: vec![Value::Int(id + 1)],
                    })
                    .collect(),
            }]),
        };
        let bytes = encode_stored(&transaction).unwrap();
        assert_eq!(decode_stored(bytes.into()).unwrap(), transaction);
        assert!(decode_stored(Bytes::from_static(b"\xff")).is_err());
        assert!(decode_stored(Bytes::new()).is_err());
    }
}
