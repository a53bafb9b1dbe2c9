//! The canonical encoding of values and rows: one encoding a value, so that equal rows have equal
//! bytes.
//!
//! A row is its number of columns, then each value: a tag byte and, by tag, nothing, a number or
//! bytes. Numbers are LEB128 varints (signed ones in zigzag form), reals are their bits in little
//! endian, bytes are preceded by their length.

use bytes::{Buf, BufMut, Bytes};

use crate::{Date, DateTime, Real32, Real64, Row, Value};

/// Bytes that are not a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a row.
    #[error("the encoded row ends too early")]
    Short,
    /// A tag of a later version, or rubbish.
    #[error("the encoded row holds a value of the unknown type {0}")]
    UnknownTag(u8),
    /// A number that is too large for its place.
    #[error("the encoded row holds a number that is out of range")]
    Number,
    /// A DECIMAL that is not text.
    #[error("the encoded row holds a DECIMAL that is not text")]
    Decimal,
    /// More rows, or bytes after the last.
    #[error("the encoded rows are followed by {0} bytes that belong to none")]
    Trailing(usize),
}

mod tag {
    pub const NULL: u8 = 0;
    pub const INT: u8 = 1;
    pub const UINT: u8 = 2;
    pub const FLOAT: u8 = 3;
    pub const DOUBLE: u8 = 4;
    pub const DECIMAL: u8 = 5;
    pub const TEXT: u8 = 6;
    pub const BYTES: u8 = 7;
    pub const BIT: u8 = 8;
    pub const ENUM: u8 = 9;
    pub const SET: u8 = 10;
    pub const YEAR: u8 = 11;
    pub const DATE: u8 = 12;
    pub const TIME: u8 = 13;
    pub const DATETIME: u8 = 14;
    pub const TIMESTAMP: u8 = 15;
    pub const JSON: u8 = 16;
    pub const GEOMETRY: u8 = 17;
}

/// Appends a row.
pub fn encode_row(row: &[Value], out: &mut Vec<u8>) {
    put_number(row.len() as u64, out);
    for value in row {
        encode_value(value, out);
    }
}

/// Reads one row and moves `input` behind it. Long values share `input`'s memory.
pub fn decode_row(input: &mut Bytes) -> Result<Row, CodecError> {
    let columns = usize::try_from(get_number(input)?).map_err(|_| CodecError::Number)?;
    // Each value takes at least one byte, which bounds what a wrong count can allocate.
    if columns > input.len() {
        return Err(CodecError::Short);
    }
    (0..columns).map(|_| decode_value(input)).collect()
}

/// Reads exactly `count` rows.
pub fn decode_rows(mut input: Bytes, count: usize) -> Result<Vec<Row>, CodecError> {
    let mut rows = Vec::with_capacity(count.min(input.len()));
    for _ in 0..count {
        rows.push(decode_row(&mut input)?);
    }
    if input.is_empty() {
        Ok(rows)
    } else {
        Err(CodecError::Trailing(input.len()))
    }
}

/// The encoding of a key, alone: what a snapshot's cursor is made of.
pub fn encode_key(key: &[Value]) -> Bytes {
    let mut out = Vec::new();
    encode_row(key, &mut out);
    out.into()
}

/// Reads what [`encode_key`] wrote.
pub fn decode_key(mut key: Bytes) -> Result<Vec<Value>, CodecError> {
    let values = decode_row(&mut key)?;
    if key.is_empty() {
        Ok(values)
    } else {
        Err(CodecError::Trailing(key.len()))
    }
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    let mut number = |tag, number| {
        out.put_u8(tag);
        put_number(number, out);
    };
    match value {
        Value::Null => out.put_u8(tag::NULL),
        Value::Int(int) => number(tag::INT, zigzag(*int)),
        Value::UInt(int) => number(tag::UINT, *int),
        Value::Bit(bits) => number(tag::BIT, *bits),
        Value::Enum(index) => number(tag::ENUM, u64::from(*index)),
        Value::Set(bits) => number(tag::SET, *bits),
        Value::Year(year) => number(tag::YEAR, u64::from(*year)),
        Value::Date(date) => number(tag::DATE, pack_date(*date)),
        Value::Time(micros) => number(tag::TIME, zigzag(*micros)),
        Value::DateTime(time) => number(tag::DATETIME, pack_datetime(*time)),
        Value::Timestamp(micros) => number(tag::TIMESTAMP, zigzag(*micros)),
        Value::Float(real) => {
            out.put_u8(tag::FLOAT);
            out.put_u32_le(real.bits());
        }
        Value::Double(real) => {
            out.put_u8(tag::DOUBLE);
            out.put_u64_le(real.bits());
        }
        Value::Decimal(text) => put_bytes(tag::DECIMAL, text.as_bytes(), out),
        Value::Text(bytes) => put_bytes(tag::TEXT, bytes, out),
        Value::Bytes(bytes) => put_bytes(tag::BYTES, bytes, out),
        Value::Json(bytes) => put_bytes(tag::JSON, bytes, out),
        Value::Geometry(bytes) => put_bytes(tag::GEOMETRY, bytes, out),
    }
}

fn decode_value(input: &mut Bytes) -> Result<Value, CodecError> {
    if !input.has_remaining() {
        return Err(CodecError::Short);
    }
    Ok(match input.get_u8() {
        tag::NULL => Value::Null,
        tag::INT => Value::Int(unzigzag(get_number(input)?)),
        tag::UINT => Value::UInt(get_number(input)?),
        tag::BIT => Value::Bit(get_number(input)?),
        tag::ENUM => Value::Enum(get_small(input)?),
        tag::SET => Value::Set(get_number(input)?),
        tag::YEAR => Value::Year(get_small(input)?),
        tag::DATE => Value::Date(unpack_date(get_number(input)?)?),
        tag::TIME => Value::Time(unzigzag(get_number(input)?)),
        tag::DATETIME => Value::DateTime(unpack_datetime(get_number(input)?)?),
        tag::TIMESTAMP => Value::Timestamp(unzigzag(get_number(input)?)),
        tag::FLOAT => {
            need(input, 4)?;
            Value::Float(Real32::from(f32::from_bits(input.get_u32_le())))
        }
        tag::DOUBLE => {
            need(input, 8)?;
            Value::Double(Real64::from(f64::from_bits(input.get_u64_le())))
        }
        tag::DECIMAL => {
            let text = get_bytes(input)?;
            let text = std::str::from_utf8(&text).map_err(|_| CodecError::Decimal)?;
            Value::Decimal(text.to_owned())
        }
        tag::TEXT => Value::Text(get_bytes(input)?),
        tag::BYTES => Value::Bytes(get_bytes(input)?),
        tag::JSON => Value::Json(get_bytes(input)?),
        tag::GEOMETRY => Value::Geometry(get_bytes(input)?),
        other => return Err(CodecError::UnknownTag(other)),
    })
}

fn need(input: &Bytes, count: usize) -> Result<(), CodecError> {
    if input.len() < count {
        Err(CodecError::Short)
    } else {
        Ok(())
    }
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8((number & 0x7f) as u8);
}

fn get_number(input: &mut Bytes) -> Result<u64, CodecError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        if !input.has_remaining() {
            return Err(CodecError::Short);
        }
        let byte = input.get_u8();
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(CodecError::Number);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(CodecError::Number)
}

fn get_small(input: &mut Bytes) -> Result<u16, CodecError> {
    u16::try_from(get_number(input)?).map_err(|_| CodecError::Number)
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u8(tag);
    put_number(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn get_bytes(input: &mut Bytes) -> Result<Bytes, CodecError> {
    let length = usize::try_from(get_number(input)?).map_err(|_| CodecError::Number)?;
    need(input, length)?;
    Ok(input.split_to(length))
}

#[expect(
    clippy::cast_sign_loss,
    reason = "zigzag maps the signed range onto the unsigned one"
)]
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

#[expect(clippy::cast_possible_wrap, reason = "the inverse of zigzag")]
fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Mixed radix: 32 days, 16 months, then years.
fn pack_date(date: Date) -> u64 {
    (u64::from(date.year) << 9) | (u64::from(date.month & 15) << 5) | u64::from(date.day & 31)
}

fn unpack_date(packed: u64) -> Result<Date, CodecError> {
    Ok(Date {
        year: u16::try_from(packed >> 9).map_err(|_| CodecError::Number)?,
        month: (packed >> 5 & 15) as u8,
        day: (packed & 31) as u8,
    })
}

/// The date, then 5 bits of hour, 6 of minute, 6 of second, 20 of microseconds.
fn pack_datetime(time: DateTime) -> u64 {
    let clock = (u64::from(time.hour & 31) << 32)
        | (u64::from(time.minute & 63) << 26)
        | (u64::from(time.second & 63) << 20)
        | u64::from(time.micros & 0xf_ffff);
    (pack_date(time.date) << 37) | clock
}

fn unpack_datetime(packed: u64) -> Result<DateTime, CodecError> {
    Ok(DateTime {
        date: unpack_date(packed >> 37)?,
        hour: (packed >> 32 & 31) as u8,
        minute: (packed >> 26 & 63) as u8,
        second: (packed >> 20 & 63) as u8,
        micros: (packed & 0xf_ffff) as u32,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn date() -> impl Strategy<Value = Date> {
        (0u16..10_000, 0u8..13, 0u8..32).prop_map(|(year, month, day)| Date { year, month, day })
    }

    pub(super) fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            any::<f32>().prop_map(|real| Value::Float(real.into())),
            any::<f64>().prop_map(|real| Value::Double(real.into())),
            "-?[0-9]{1,40}(\\.[0-9]{1,30})?".prop_map(Value::Decimal),
            bytes().prop_map(Value::Text),
            bytes().prop_map(Value::Bytes),
            any::<u64>().prop_map(Value::Bit),
            any::<u16>().prop_map(Value::Enum),
            any::<u64>().prop_map(Value::Set),
            (0u16..2156).prop_map(Value::Year),
            date().prop_map(Value::Date),
            any::<i64>().prop_map(Value::Time),
            (date(), 0u8..24, 0u8..60, 0u8..60, 0u32..1_000_000).prop_map(
                |(date, hour, minute, second, micros)| Value::DateTime(DateTime {
                    date,
                    hour,
                    minute,
                    second,
                    micros
                })
            ),
            any::<i64>().prop_map(Value::Timestamp),
            bytes().prop_map(Value::Json),
            bytes().prop_map(Value::Geometry),
        ]
    }

    proptest! {
        #[test]
        fn rows_read_back(rows in proptest::collection::vec(proptest::collection::vec(value(), 0..12), 0..6)) {
            let mut out = Vec::new();
            for row in &rows {
                encode_row(row, &mut out);
            }
            prop_assert_eq!(decode_rows(out.into(), rows.len()).unwrap(), rows);
        }

        #[test]
        fn equal_bytes_mean_equal_values(left in value(), right in value()) {
            let key = |value| encode_key(std::slice::from_ref(value));
            prop_assert_eq!(key(&left) == key(&right), left == right);
        }

        #[test]
        fn rubbish_is_an_error_and_nothing_worse(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_rows(input.clone().into(), 3);
            let _ = decode_key(input.into());
        }

        #[test]
        fn a_row_cut_short_is_refused(row in proptest::collection::vec(value(), 1..8), cut in any::<prop::sample::Index>()) {
            let whole = encode_key(&row);
            let cut = cut.index(whole.len());
            prop_assert!(decode_key(whole.slice(..cut)).is_err());
        }
    }

    #[test]
    fn zeros_of_both_signs_differ() {
        let minus = Value::Double((-0.0).into());
        assert_ne!(minus, Value::Double(0.0.into()));
        assert_ne!(
            encode_key(&[minus]),
            encode_key(&[Value::Double(0.0.into())])
        );
    }
}
