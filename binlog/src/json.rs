//! MySQL's binary JSON as the text the server prints for it.
//!
//! Format: `sql-common/json_binary.h`; text: `Json_wrapper::to_string` in `sql-common/json_dom.cc`
//! and `my_gcvt` in `strings/dtoa.cc` of MySQL. The snapshot reads the server's own text, so both
//! must agree to the byte; a test against a real server holds them together.

use std::fmt::Write;

use base64::Engine;
use bytes::Bytes;
use change::DateTime;

use crate::input::{Defect, Input};
use crate::value;

/// The server's limit on nesting.
const MAX_DEPTH: usize = 100;

/// The text of a JSON value. No bytes at all are how the server stores a JSON null that it put in
/// place of a missing value.
pub fn to_text(binary: &Bytes) -> Result<String, Defect> {
    let mut out = String::with_capacity(binary.len() * 2);
    match binary.split_first() {
        None => out.push_str("null"),
        Some((kind, _)) => print(*kind, &binary.slice(1..), &mut out, 0)?,
    }
    Ok(out)
}

fn unsupported(what: &str, number: impl std::fmt::Display) -> Defect {
    Defect(format!("JSON holds {what} {number}, which is not known"))
}

fn print(kind: u8, data: &Bytes, out: &mut String, depth: usize) -> Result<(), Defect> {
    if depth > MAX_DEPTH {
        return Err(Defect::from("JSON is nested too deeply"));
    }
    let mut input = Input(data.clone());
    match kind {
        0x00 => container(data, true, 2, out, depth),
        0x01 => container(data, true, 4, out, depth),
        0x02 => container(data, false, 2, out, depth),
        0x03 => container(data, false, 4, out, depth),
        0x04 => literal(input.u8()?, out),
        0x05 => number(input.i16()?, out),
        0x06 => number(input.u16()?, out),
        0x07 => number(input.i32()?, out),
        0x08 => number(input.u32()?, out),
        0x09 => number(input.i64()?, out),
        0x0a => number(input.u64()?, out),
        0x0b => {
            out.push_str(&double(input.f64()?));
            Ok(())
        }
        0x0c => {
            let text = string(&mut input)?;
            let text = std::str::from_utf8(&text);
            quote(
                text.map_err(|_| Defect::from("a JSON string is not UTF-8"))?,
                out,
            );
            Ok(())
        }
        0x0f => opaque(&mut input, out),
        other => Err(unsupported("a value of the type", other)),
    }
}

fn number(number: impl std::fmt::Display, out: &mut String) -> Result<(), Defect> {
    write!(out, "{number}").map_err(|_| Defect::from("a number cannot be printed"))
}

fn literal(literal: u8, out: &mut String) -> Result<(), Defect> {
    out.push_str(match literal {
        0 => "null",
        1 => "true",
        2 => "false",
        other => return Err(unsupported("the literal", other)),
    });
    Ok(())
}

/// Length in groups of seven bits, then the bytes.
fn string(input: &mut Input) -> Result<Bytes, Defect> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = input.u8()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return input.take(length);
        }
    }
    Err(Defect::from(
        "the length of a JSON string has too many bytes",
    ))
}

/// Objects and arrays: count and size, keys' places and lengths, values' types and places (or the
/// values themselves, if small), each number in `wide` bytes.
fn container(
    data: &Bytes,
    object: bool,
    wide: usize,
    out: &mut String,
    depth: usize,
) -> Result<(), Defect> {
    let mut input = Input(data.clone());
    let at = |place: u64, length: Option<usize>| {
        let start = usize::try_from(place).unwrap_or(usize::MAX);
        let end = length.map_or(Some(data.len()), |length| start.checked_add(length));
        match end {
            Some(end) if start <= end && end <= data.len() => Ok(data.slice(start..end)),
            _ => Err(Defect::from("JSON points outside itself")),
        }
    };
    let count = usize::try_from(input.little(wide)?).unwrap_or(usize::MAX);
    let _size = input.little(wide)?;
    // Each element takes at least three bytes, which bounds what a wrong count can allocate.
    if count > data.len() {
        return Err(Defect::from("JSON has more elements than bytes"));
    }
    let mut keys = Vec::with_capacity(if object { count } else { 0 });
    if object {
        for _ in 0..count {
            let place = input.little(wide)?;
            let length = input.u16()?;
            keys.push(at(place, Some(length.into()))?);
        }
    }
    out.push(if object { '{' } else { '[' });
    for index in 0..count {
        if index > 0 {
            out.push_str(", ");
        }
        if let Some(key) = keys.get(index) {
            let key =
                std::str::from_utf8(key).map_err(|_| Defect::from("a JSON key is not UTF-8"))?;
            quote(key, out);
            out.push_str(": ");
        }
        let kind = input.u8()?;
        let inline = input.take(wide)?;
        let is_inline = matches!(kind, 0x04..=0x06) || (wide == 4 && matches!(kind, 0x07 | 0x08));
        if is_inline {
            print(kind, &inline, out, depth + 1)?;
        } else {
            print(
                kind,
                &at(Input(inline).little(wide)?, None)?,
                out,
                depth + 1,
            )?;
        }
    }
    out.push(if object { '}' } else { ']' });
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let code = u32::from(control);
                out.push_str("\\u00");
                out.extend(
                    [code >> 4, code & 15].map(|digit| char::from_digit(digit, 16).unwrap_or('0')),
                );
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Values of SQL types inside JSON. Dates and decimals print as such; the rest as base64.
fn opaque(input: &mut Input, out: &mut String) -> Result<(), Defect> {
    const DATE: u8 = 10;
    const TIME: u8 = 11;
    const DATETIME: u8 = 12;
    const TIMESTAMP: u8 = 7;
    const DECIMAL: u8 = 246;
    let kind = input.u8()?;
    let data = string(input)?;
    let mut input = Input(data.clone());
    match kind {
        DECIMAL => {
            let (precision, scale) = (input.u8()?, input.u8()?);
            out.push_str(&value::decimal(precision.into(), scale.into(), &mut input)?);
        }
        DATE | DATETIME | TIMESTAMP => {
            let packed = input.u64()?;
            let time: DateTime = value::unpack_datetime(packed >> 24, (packed & 0xff_ffff) as u32);
            if kind == DATE {
                quote(&time.date.to_string(), out);
            } else {
                quote(&time.to_string(), out);
            }
        }
        TIME => {
            let packed = input.i64()?;
            let size = packed.unsigned_abs();
            let seconds = value::unpack_clock(size >> 24) / 1_000_000;
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let sign = if packed < 0 { "-" } else { "" };
            let micros = size & 0xff_ffff;
            quote(
                &format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"),
                out,
            );
        }
        other => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&data);
            // The server breaks its base64 into lines of 76 characters and prints the breaks as
            // they are, escaped like any other character of a JSON string.
            let lines: Vec<String> = encoded
                .as_bytes()
                .chunks(76)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            quote(&format!("base64:type{other}:{}", lines.join("\n")), out);
        }
    }
    Ok(())
}

/// The shortest digits that read back as the same number, of several such the nearest and of two
/// equally near the even one, in the layout that the server chooses: with an exponent below 1e-15
/// and for whole numbers from 1e15 on, else plain. A whole number in plain layout ends in `.0`.
pub fn double(number: f64) -> String {
    const MOST_PLAIN_DIGITS: i32 = 15;
    if number == 0.0 {
        return if number.is_sign_negative() {
            "-0.0"
        } else {
            "0.0"
        }
        .to_owned();
    }
    // Rust prints the shortest digits too, as d.ddde±x.
    let size = number.abs();
    let mut scientific = format!("{size:e}");
    // Of two that are equally near it prints the greater; rounding to so many digits gives the
    // even one.
    let digits_behind = scientific.find('e').unwrap_or(1).saturating_sub(2);
    let rounded = format!("{size:.digits_behind$e}");
    if rounded.parse() == Ok(size) {
        scientific = rounded;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa
        .chars()
        .filter(|character| *character != '.')
        .collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Where the point is, counted from the first digit.
    let point = exponent + 1;
    let count = i32::try_from(digits.len()).unwrap_or(MOST_PLAIN_DIGITS);
    let tiny = point <= -MOST_PLAIN_DIGITS;
    let huge = point > MOST_PLAIN_DIGITS && point >= count;
    let body = if tiny || huge {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{exponent}")
    } else if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point < count {
        let (whole, rest) = digits.split_at(point.unsigned_abs() as usize);
        format!("{whole}.{rest}")
    } else {
        format!(
            "{digits}{}.0",
            "0".repeat((point - count).unsigned_abs() as usize)
        )
    };
    if number < 0.0 {
        format!("-{body}")
    } else {
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MySQL 9.7 prints them.
    #[test]
    #[expect(
        clippy::unreadable_literal,
        clippy::excessive_precision,
        reason = "the digits are compared with printed ones, and one is halfway between two"
    )]
    fn doubles_look_as_the_server_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1e15"),
            (1e14, "100000000000000.0"),
            (1e20, "1e20"),
            (1e-20, "1e-20"),
            (-6.257273961156123e-5, "-0.00006257273961156123"),
            (3.245378534372523e-15, "0.000000000000003245378534372523"),
            (-4356555228559223.5, "-4356555228559223.5"),
            (1234567890123456.0, "1.234567890123456e15"),
            (999999999999999.9, "999999999999999.9"),
            // Exactly in the middle between ...79.2 and ...79.3.
            (2102824507937979.25, "2102824507937979.2"),
            (1.2345678901234567e-15, "0.0000000000000012345678901234568"),
            (1.2345678901234567e-16, "1.2345678901234568e-16"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5e-324"),
        ];
        for (number, expected) in cases {
            assert_eq!(double(number), expected);
        }
    }
}
