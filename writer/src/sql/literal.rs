//! Values as SQL literals that store exactly the value that was read.

use std::io::Write as _;

use change::Value;

use super::{charset, json};

/// How the literals of one column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Numbers, dates and everything else that is its own text.
    Plain,
    /// Characters in this character set.
    Characters(&'static str),
    /// A document for a JSON column of MySQL.
    Json,
    /// A floating-point number for a column that keeps so many digits behind the point.
    Rounded(u8),
}

/// Appends an identifier in backticks.
pub(crate) fn identifier(out: &mut Vec<u8>, name: &str) {
    out.push(b'`');
    for byte in name.bytes() {
        if byte == b'`' {
            out.push(b'`');
        }
        out.push(byte);
    }
    out.push(b'`');
}

/// Appends `database`.`table`.
pub(crate) fn table(out: &mut Vec<u8>, database: &str, table: &str) {
    identifier(out, database);
    out.push(b'.');
    identifier(out, table);
}

/// Appends bytes in quotes. The session's `sql_mode` has no `NO_BACKSLASH_ESCAPES`.
///
/// The server looks for the closing quote in the client's character set, utf8mb4. No byte of a
/// multi-byte character there is below 128, so bytes of any other character set, escaped one by
/// one, end where they should.
pub(crate) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'\'');
    let mut rest = bytes;
    while let Some(at) = rest
        .iter()
        .position(|byte| matches!(byte, b'\'' | b'\\' | 0))
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            0 => out.extend_from_slice(b"\\0"),
            byte => out.extend_from_slice(&[b'\\', byte]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// Appends a text of ours in quotes.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    quoted(out, text.as_bytes());
}

/// Appends a value.
pub(crate) fn value(out: &mut Vec<u8>, value: &Value, form: Form) {
    match value {
        Value::Null => out.extend_from_slice(b"NULL"),
        Value::Int(number) => display(out, number),
        Value::UInt(number) | Value::Bit(number) | Value::Set(number) => display(out, number),
        Value::Enum(number) | Value::Year(number) => display(out, number),
        // A FLOAT is written as the DOUBLE of the same value: it stores the same FLOAT, and, unlike
        // the shorter text, it is equal to the stored one in a WHERE clause.
        Value::Float(number) => real(out, f64::from(number.get())),
        Value::Double(number) => real(out, number.get()),
        Value::Decimal(text) => out.extend_from_slice(text.as_bytes()),
        Value::Text(text) | Value::Json(text) if form == Form::Json => json::document(out, text),
        Value::Text(bytes) => characters(out, bytes, form),
        Value::Json(bytes) => characters(out, bytes, Form::Characters("utf8mb4")),
        Value::Bytes(bytes) | Value::Geometry(bytes) => {
            out.extend_from_slice(b"_binary");
            quoted(out, bytes);
        }
        Value::Date(date) => display_quoted(out, date),
        Value::DateTime(moment) => display_quoted(out, moment),
        Value::Time(micros) => time(out, *micros),
        Value::Timestamp(micros) => timestamp(out, *micros),
    }
}

fn characters(out: &mut Vec<u8>, bytes: &[u8], form: Form) {
    let Form::Characters(charset) = form else {
        // Text of a column without a character set: its bytes are what counts.
        out.extend_from_slice(b"_binary");
        quoted(out, bytes);
        return;
    };
    if !(charset::holds_ascii(charset) && bytes.is_ascii()) {
        out.push(b'_');
        out.extend_from_slice(charset::introducer(charset).as_bytes());
    }
    quoted(out, bytes);
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a Vec cannot fail.
    let _infallible = write!(out, "{value}");
}

fn display_quoted(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    display(out, format_args!("'{value}'"));
}

/// The shortest text that reads back as the same DOUBLE, always with an exponent: without one the
/// server would take it for a DECIMAL, with its limits.
fn real(out: &mut Vec<u8>, number: f64) {
    display(out, format_args!("{number:e}"));
}

fn time(out: &mut Vec<u8>, micros: i64) {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    display(
        out,
        format_args!("'{sign}{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}'"),
    );
}

/// The session's time zone is `+00:00`.
fn timestamp(out: &mut Vec<u8>, micros: i64) {
    if micros == 0 {
        out.extend_from_slice(b"'0000-00-00 00:00:00'");
        return;
    }
    let (days, rest) = (
        micros.div_euclid(86_400_000_000),
        micros.rem_euclid(86_400_000_000),
    );
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    display(
        out,
        format_args!(
            "'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}'"
        ),
    );
}

/// Days since 1970-01-01 as a Gregorian date: the year is counted from March, so that the leap day
/// is a year's last one, in cycles of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use change::{Date, DateTime};
    use proptest::prelude::*;

    use super::*;

    fn written(value_: &Value, form: Form) -> String {
        let mut out = Vec::new();
        value(&mut out, value_, form);
        String::from_utf8(out).unwrap()
    }

    fn plain(value: &Value) -> String {
        written(value, Form::Plain)
    }

    /// What the server makes of a literal in quotes.
    fn unquote(literal: &[u8]) -> Vec<u8> {
        assert_eq!((literal[0], literal[literal.len() - 1]), (b'\'', b'\''));
        let mut bytes = literal[1..literal.len() - 1].iter();
        let mut read = Vec::new();
        while let Some(&byte) = bytes.next() {
            assert_ne!(byte, b'\'', "a quote inside ends the literal");
            read.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b'0') => 0,
                    Some(&escaped) => escaped,
                    None => panic!("the closing quote is escaped"),
                },
                byte => byte,
            });
        }
        read
    }

    #[test]
    fn values_are_written_as_the_server_reads_them() {
        let date = Date {
            year: 2023,
            month: 2,
            day: 31,
        };
        for (value, expected) in [
            (Value::Null, "NULL"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Bit(u64::MAX), "18446744073709551615"),
            (Value::Enum(0), "0"),
            (Value::Float(0.1f32.into()), "1.0000000149011612e-1"),
            (Value::Double(5e-324.into()), "5e-324"),
            (Value::Double((-0.0).into()), "-0e0"),
            (Value::Double(f64::MAX.into()), "1.7976931348623157e308"),
            (Value::Decimal("-0.50".into()), "-0.50"),
            (Value::Date(Date::default()), "'0000-00-00'"),
            (Value::Date(date), "'2023-02-31'"),
            (
                Value::DateTime(DateTime {
                    date,
                    hour: 1,
                    minute: 2,
                    second: 3,
                    micros: 4,
                }),
                "'2023-02-31 01:02:03.000004'",
            ),
            (Value::Time(-3_020_398_999_999), "'-838:59:58.999999'"),
            (Value::Time(-1), "'-00:00:00.000001'"),
            (Value::Timestamp(0), "'0000-00-00 00:00:00'"),
            (Value::Timestamp(1), "'1970-01-01 00:00:00.000001'"),
            (
                Value::Timestamp(1_709_208_000_500_000),
                "'2024-02-29 12:00:00.500000'",
            ),
            (
                Value::Timestamp(4_294_967_295_000_000),
                "'2106-02-07 06:28:15.000000'",
            ),
            (
                Value::Bytes(Bytes::from_static(b"a'b\\\0")),
                "_binary'a\\'b\\\\\\0'",
            ),
            (Value::Json(Bytes::from_static(b"{}")), "'{}'"),
        ] {
            assert_eq!(plain(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn characters_are_announced_in_their_charset() {
        let text = |bytes: &'static [u8]| Value::Text(Bytes::from_static(bytes));
        let write = |bytes, charset| {
            let mut out = Vec::new();
            value(&mut out, &text(bytes), Form::Characters(charset));
            out
        };
        assert_eq!(write(b"abc", "latin1"), b"'abc'");
        assert_eq!(write(b"\xe9", "latin1"), b"_latin1'\xe9'");
        assert_eq!(write(b"\xe5\\", "gbk"), b"_gbk'\xe5\\\\'");
        assert_eq!(write("中".as_bytes(), "utf8mb3"), "_utf8mb4'中'".as_bytes());
        assert_eq!(write(b"\0a", "ucs2"), b"_utf16'\\0a'");
    }

    #[test]
    fn identifiers_are_quoted() {
        let mut out = Vec::new();
        table(&mut out, "my db", "a`b😀");
        assert_eq!(String::from_utf8(out).unwrap(), "`my db`.`a``b😀`");
    }

    proptest! {
        #[test]
        fn quoted_bytes_read_back(bytes: Vec<u8>) {
            let mut out = Vec::new();
            quoted(&mut out, &bytes);
            prop_assert_eq!(unquote(&out), bytes);
        }

        #[test]
        fn reals_read_back(bits: u64, small: u32) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            let read: f64 = plain(&Value::Double(number.into())).parse().unwrap();
            prop_assert_eq!(read.to_bits(), bits);
            let number = f32::from_bits(small);
            prop_assume!(number.is_finite());
            let read: f64 = plain(&Value::Float(number.into())).parse().unwrap();
            #[allow(clippy::cast_possible_truncation)]
            let stored = read as f32;
            prop_assert_eq!(stored.to_bits(), small);
            prop_assert_eq!(read.to_bits(), f64::from(number).to_bits());
        }

        #[test]
        fn days_follow_each_other(days in -700_000i64..3_000_000) {
            let (year, month, day) = civil(days);
            let (next_year, next_month, next_day) = civil(days + 1);
            let follows = (next_year, next_month, next_day) == (year, month, day + 1)
                || (next_day == 1 && day >= 28 && (
                    (next_year, next_month) == (year, month + 1)
                    || (month, next_month, next_year) == (12, 1, year + 1)));
            prop_assert!(follows, "{:?} then {:?}", (year, month, day), (next_year, next_month, next_day));
            prop_assert_eq!(civil(0), (1970, 1, 1));
        }
    }
}
