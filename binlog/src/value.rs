//! Values as row events hold them.
//!
//! Formats: `sql/field.cc` (`pack`), `strings/decimal.cc` (`decimal2bin`) and
//! `sql-common/my_time.cc` (`*_to_binary`) of MySQL, the same in MariaDB.

use bytes::Bytes;
use change::{Column, ColumnKind, Date, DateTime, Value};

use crate::input::{Defect, Input};
use crate::json;

/// Digits that each group of a DECIMAL holds, and the bytes that a shorter group takes.
const DIGITS_PER_GROUP: usize = 9;
const BYTES_OF_DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// How a column's values are laid out in row images: all that is needed to pass over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// So many bytes.
    Fixed(u8),
    /// As many bytes as the number before them says, which itself has so many bytes.
    Counted(u8),
}

/// Reads one value that is not NULL.
pub fn decode(column: &Column, layout: Layout, input: &mut Input) -> Result<Value, Defect> {
    use ColumnKind as Kind;
    Ok(match column.kind {
        Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt => {
            integer(column, input)?
        }
        Kind::Float => Value::Float(input.f32()?.into()),
        Kind::Double => Value::Double(input.f64()?.into()),
        Kind::Decimal => Value::Decimal(decimal(
            column.length as usize,
            column.decimals.into(),
            input,
        )?),
        Kind::Year => Value::Year(match input.u8()? {
            0 => 0,
            since_1900 => 1900 + u16::from(since_1900),
        }),
        Kind::Date => Value::Date(date(input.little(3)?)),
        Kind::Time => Value::Time(time(column.decimals, input)?),
        Kind::DateTime => Value::DateTime(datetime(column.decimals, input)?),
        Kind::Timestamp => Value::Timestamp(timestamp(column.decimals, input)?),
        Kind::Char | Kind::VarChar | Kind::Text => Value::Text(counted(layout, input)?),
        Kind::VarBinary | Kind::Blob | Kind::Vector => Value::Bytes(counted(layout, input)?),
        Kind::Binary => Value::Bytes(pad(counted(layout, input)?, column.length as usize)),
        Kind::Geometry => Value::Geometry(counted(layout, input)?),
        Kind::Json => Value::Json(json::to_text(&counted(layout, input)?)?.into()),
        Kind::Bit => Value::Bit(input.big(width(layout)?)?),
        Kind::Set => Value::Set(input.little(width(layout)?)?),
        Kind::Enum => {
            let index = input.little(width(layout)?)?;
            Value::Enum(u16::try_from(index).map_err(|_| Defect::from("an ENUM above 65535"))?)
        }
    })
}

/// Passes over one value that is not NULL.
pub fn skip(layout: Layout, input: &mut Input) -> Result<(), Defect> {
    let length = match layout {
        Layout::Fixed(bytes) => bytes.into(),
        Layout::Counted(bytes) => length(bytes, input)?,
    };
    input.skip(length)
}

fn width(layout: Layout) -> Result<usize, Defect> {
    match layout {
        Layout::Fixed(bytes) if bytes <= 8 => Ok(bytes.into()),
        other => Err(Defect(format!("a number laid out as {other:?}"))),
    }
}

fn length(bytes: u8, input: &mut Input) -> Result<usize, Defect> {
    usize::try_from(input.little(bytes.into())?).map_err(|_| Defect::from("a length is too large"))
}

fn counted(layout: Layout, input: &mut Input) -> Result<Bytes, Defect> {
    let Layout::Counted(bytes) = layout else {
        return Err(Defect(format!("a string laid out as {layout:?}")));
    };
    let length = length(bytes, input)?;
    input.take(length)
}

/// The servers cut the zeros at the end of a BINARY off.
fn pad(bytes: Bytes, length: usize) -> Bytes {
    if bytes.len() >= length {
        return bytes;
    }
    let mut padded = bytes.to_vec();
    padded.resize(length, 0);
    padded.into()
}

fn integer(column: &Column, input: &mut Input) -> Result<Value, Defect> {
    use ColumnKind as Kind;
    if column.unsigned {
        return Ok(Value::UInt(match column.kind {
            Kind::TinyInt => input.u8()?.into(),
            Kind::SmallInt => input.u16()?.into(),
            Kind::MediumInt => input.little(3)?,
            Kind::Int => input.u32()?.into(),
            _ => input.u64()?,
        }));
    }
    Ok(Value::Int(match column.kind {
        Kind::TinyInt => input.i8()?.into(),
        Kind::SmallInt => input.i16()?.into(),
        Kind::MediumInt => {
            let raw = input.little(3)?.cast_signed();
            if raw >= 1 << 23 { raw - (1 << 24) } else { raw }
        }
        Kind::Int => input.i32()?.into(),
        _ => input.i64()?,
    }))
}

/// How many bytes a DECIMAL takes.
pub fn decimal_bytes(precision: usize, scale: usize) -> usize {
    let group =
        |digits: usize| digits / DIGITS_PER_GROUP * 4 + BYTES_OF_DIGITS[digits % DIGITS_PER_GROUP];
    group(precision.saturating_sub(scale)) + group(scale)
}

/// Big-endian groups of nine digits, the partial group of the integer part first and that of the
/// fraction last. The first bit is inverted; below zero all bits are.
pub fn decimal(precision: usize, scale: usize, input: &mut Input) -> Result<String, Defect> {
    let mut raw = input.take(decimal_bytes(precision, scale))?.to_vec();
    let first = raw
        .first_mut()
        .ok_or_else(|| Defect::from("a DECIMAL without digits"))?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        for byte in &mut raw {
            *byte = !*byte;
        }
    }
    let mut raw = Input(raw.into());
    let mut digits = String::with_capacity(precision + 2);
    let mut group = |digits: &mut String, count: usize| {
        let number = raw.big(BYTES_OF_DIGITS[count])?;
        if count > 0 {
            digits.push_str(&format!("{number:0count$}"));
        }
        Ok::<_, Defect>(())
    };
    let whole = precision.saturating_sub(scale);
    group(&mut digits, whole % DIGITS_PER_GROUP)?;
    for _ in 0..whole / DIGITS_PER_GROUP {
        group(&mut digits, DIGITS_PER_GROUP)?;
    }
    let integer = digits.trim_start_matches('0');
    let mut text = String::with_capacity(precision + 3);
    text.push_str(if integer.is_empty() { "0" } else { integer });
    if scale > 0 {
        text.push('.');
        for _ in 0..scale / DIGITS_PER_GROUP {
            group(&mut text, DIGITS_PER_GROUP)?;
        }
        group(&mut text, scale % DIGITS_PER_GROUP)?;
    }
    // A negative zero is not a number of its own: both engines print it without a sign.
    if negative && text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        text.insert(0, '-');
    }
    Ok(text)
}

fn date(packed: u64) -> Date {
    Date {
        year: (packed >> 9 & 0x7fff) as u16,
        month: (packed >> 5 & 15) as u8,
        day: (packed & 31) as u8,
    }
}

/// How many bytes fractional seconds take.
pub fn fraction_bytes(decimals: u8) -> usize {
    usize::from(decimals.div_ceil(2))
}

/// Fractional seconds in microseconds.
fn fraction(decimals: u8, input: &mut Input) -> Result<u32, Defect> {
    let bytes = fraction_bytes(decimals);
    let raw = u32::try_from(input.big(bytes)?).map_err(|_| Defect::from("a fraction too large"))?;
    Ok(raw * [1_000_000, 10_000, 100, 1][bytes.min(3)])
}

fn timestamp(decimals: u8, input: &mut Input) -> Result<i64, Defect> {
    let seconds = input.big(4)?.cast_signed();
    Ok(seconds * 1_000_000 + i64::from(fraction(decimals, input)?))
}

fn datetime(decimals: u8, input: &mut Input) -> Result<DateTime, Defect> {
    let packed = input.big(5)?.checked_sub(0x80_0000_0000);
    let packed = packed.ok_or_else(|| Defect::from("a DATETIME below zero"))?;
    Ok(unpack_datetime(packed, fraction(decimals, input)?))
}

/// 17 bits of clock, 5 of day, the rest is 13 times the year plus the month.
pub fn unpack_datetime(packed: u64, micros: u32) -> DateTime {
    let (days, clock) = (packed >> 17, packed & 0x1_ffff);
    let months = days >> 5;
    DateTime {
        date: Date {
            year: ((months / 13) & 0xffff) as u16,
            month: (months % 13) as u8,
            day: (days & 31) as u8,
        },
        hour: (clock >> 12 & 0x1f) as u8,
        minute: (clock >> 6 & 63) as u8,
        second: (clock & 63) as u8,
        micros,
    }
}

/// One number of 3 bytes and the fraction's, offset by half its range; below zero it is the
/// negative of the whole, fraction included.
fn time(decimals: u8, input: &mut Input) -> Result<i64, Defect> {
    let bytes = fraction_bytes(decimals);
    let bits = 8 * bytes;
    let raw = input.big(3 + bytes)?.cast_signed() - (0x80_0000_i64 << bits);
    let size = raw.unsigned_abs();
    let scale = [1_000_000, 10_000, 100, 1][bytes.min(3)];
    let fraction = i64::try_from(size & ((1 << bits) - 1)).unwrap_or(0) * scale;
    let micros = unpack_clock(size >> bits) + fraction;
    Ok(if raw < 0 { -micros } else { micros })
}

/// 10 bits of hours, 6 of minutes, 6 of seconds, as microseconds.
pub fn unpack_clock(packed: u64) -> i64 {
    let seconds = (packed >> 12 & 0x3ff) * 3600 + (packed >> 6 & 63) * 60 + (packed & 63);
    seconds.cast_signed() * 1_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Input {
        let byte = |index: usize| u8::from_str_radix(&text[index..index + 2], 16).unwrap();
        Input(
            (0..text.len())
                .step_by(2)
                .map(byte)
                .collect::<Vec<_>>()
                .into(),
        )
    }

    #[test]
    fn decimals_as_the_manual_lays_them_out() {
        // The example of `decimal2bin` in strings/decimal.cc.
        let text = "1234567890.1234";
        assert_eq!(decimal(14, 4, &mut hex("810dfb38d204d2")).unwrap(), text);
        let text = "-1234567890.1234";
        assert_eq!(decimal(14, 4, &mut hex("7ef204c72dfb2d")).unwrap(), text);
        assert_eq!(decimal(5, 5, &mut hex("800000")).unwrap(), "0.00000");
        assert_eq!(
            decimal(3, 0, &mut hex("7fff")).unwrap(),
            "0",
            "there is no negative zero"
        );
    }

    #[test]
    fn times_below_zero_are_the_negative_of_the_whole() {
        let cases = [
            (0, "800000", 0),
            (0, "800001", 1_000_000),
            (0, "7fffff", -1_000_000),
            // -00:00:00.01, -00:00:01.01 and -00:00:00.000001
            (2, "7fffffff", -10_000),
            (2, "7ffffeff", -1_010_000),
            (6, "7fffffffffff", -1),
            (0, "b46efb", 3_020_399_000_000),
        ];
        for (decimals, bytes, micros) in cases {
            assert_eq!(time(decimals, &mut hex(bytes)).unwrap(), micros, "{bytes}");
        }
    }

    /// How the server lays out the integer groups, written down independently.
    fn encode(number: u64, negative: bool) -> Input {
        // DECIMAL(18, 0): two groups of nine digits.
        let groups = [number / 1_000_000_000, number % 1_000_000_000];
        let mut bytes: Vec<u8> = groups
            .iter()
            .flat_map(|group| u32::try_from(*group).unwrap().to_be_bytes())
            .collect();
        if negative {
            for byte in &mut bytes {
                *byte = !*byte;
            }
        }
        bytes[0] ^= 0x80;
        Input(bytes.into())
    }

    proptest! {
        #[test]
        fn decimals_read_back(number in 0u64..1_000_000_000_000_000_000, negative: bool) {
            let text = decimal(18, 0, &mut encode(number, negative)).unwrap();
            let sign = if negative && number > 0 { "-" } else { "" };
            prop_assert_eq!(text, format!("{sign}{number}"));
        }

        #[test]
        fn rubbish_is_an_error_and_nothing_worse(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            precision in 0usize..80,
            scale in 0usize..80,
            decimals in 0u8..=255,
        ) {
            let _ = decimal(precision, scale, &mut Input(bytes.clone().into()));
            let _ = time(decimals.min(6), &mut Input(bytes.clone().into()));
            let _ = json::to_text(&bytes.into());
        }
    }
}
