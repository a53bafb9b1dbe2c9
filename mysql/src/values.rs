//! Selected values in the same form as the binlog gives them.
//!
//! Rows are read by the binary protocol, which carries numbers and times exactly (a FLOAT as text
//! has six digits), with `character_set_results = NULL`, so that strings come as they are stored.

use bytes::Bytes;
use change::{Column, ColumnKind, Date, DateTime, Value};
use mysql_async::Value as Sql;

/// How a column is selected.
pub fn expression(column: &Column) -> String {
    let name = format!("`{}`", column.name.replace('`', "``"));
    match column.kind {
        // As text they would be the members; the cast gives index and bits exactly.
        ColumnKind::Enum | ColumnKind::Set => format!("CAST({name} AS UNSIGNED)"),
        _ => name,
    }
}

/// A value of a type that does not fit its column; names both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of kind {kind:?} was read as {found}")]
pub struct Misfit {
    column: String,
    kind: ColumnKind,
    found: String,
}

/// A selected value in canonical form.
///
/// # Errors
/// [`Misfit`] if the server answered with another type than the column's.
pub fn value(column: &Column, sql: Sql) -> Result<Value, Misfit> {
    use ColumnKind as Kind;
    let misfit = |sql: &Sql| Misfit {
        column: column.name.clone(),
        kind: column.kind,
        found: match sql {
            Sql::Bytes(bytes) => format!("{} bytes", bytes.len()),
            other => format!("{other:?}"),
        },
    };
    Ok(match (column.kind, sql) {
        (_, Sql::NULL) => Value::Null,
        (Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt, sql) => {
            if column.unsigned {
                Value::UInt(unsigned(&sql).ok_or_else(|| misfit(&sql))?)
            } else {
                Value::Int(signed(&sql).ok_or_else(|| misfit(&sql))?)
            }
        }
        (Kind::Float, Sql::Float(real)) => Value::Float(real.into()),
        (Kind::Double, Sql::Double(real)) => Value::Double(real.into()),
        (Kind::Decimal, Sql::Bytes(text)) => {
            let text = String::from_utf8(text);
            Value::Decimal(decimal(&text.map_err(|_| misfit(&Sql::NULL))?))
        }
        (Kind::Bit, Sql::Bytes(bytes)) if bytes.len() <= 8 => Value::Bit(
            bytes
                .iter()
                .fold(0, |bits, byte| bits << 8 | u64::from(*byte)),
        ),
        (Kind::Year, sql) => Value::Year(small(&sql).ok_or_else(|| misfit(&sql))?),
        (Kind::Enum, sql) => Value::Enum(small(&sql).ok_or_else(|| misfit(&sql))?),
        (Kind::Set, sql) => Value::Set(unsigned(&sql).ok_or_else(|| misfit(&sql))?),
        (Kind::Date, Sql::Date(year, month, day, ..)) => Value::Date(Date { year, month, day }),
        (Kind::DateTime, Sql::Date(year, month, day, hour, minute, second, micros)) => {
            Value::DateTime(DateTime {
                date: Date { year, month, day },
                hour,
                minute,
                second,
                micros,
            })
        }
        (Kind::Timestamp, Sql::Date(year, month, day, hour, minute, second, micros)) => {
            let date = Date { year, month, day };
            Value::Timestamp(instant(DateTime {
                date,
                hour,
                minute,
                second,
                micros,
            }))
        }
        (Kind::Time, Sql::Time(negative, days, hours, minutes, seconds, micros)) => {
            let hours = i64::from(days) * 24 + i64::from(hours);
            let seconds = (hours * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
            let size = seconds * 1_000_000 + i64::from(micros);
            Value::Time(if negative { -size } else { size })
        }
        (Kind::Char | Kind::VarChar | Kind::Text, Sql::Bytes(bytes)) => Value::Text(bytes.into()),
        (Kind::Binary | Kind::VarBinary | Kind::Blob | Kind::Vector, Sql::Bytes(bytes)) => {
            Value::Bytes(bytes.into())
        }
        (Kind::Json, Sql::Bytes(text)) => Value::Json(text.into()),
        (Kind::Geometry, Sql::Bytes(bytes)) => Value::Geometry(Bytes::from(bytes)),
        (_, sql) => return Err(misfit(&sql)),
    })
}

fn unsigned(sql: &Sql) -> Option<u64> {
    match sql {
        Sql::UInt(number) => Some(*number),
        Sql::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn small(sql: &Sql) -> Option<u16> {
    unsigned(sql).and_then(|number| u16::try_from(number).ok())
}

fn signed(sql: &Sql) -> Option<i64> {
    match sql {
        Sql::Int(number) => Some(*number),
        Sql::UInt(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

/// ZEROFILL puts zeros in front, which are not part of the number.
fn decimal(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let trimmed = digits.trim_start_matches('0');
    let zero = if trimmed.is_empty() || trimmed.starts_with('.') {
        "0"
    } else {
        ""
    };
    let sign = if digits.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        sign
    } else {
        ""
    };
    format!("{sign}{zero}{trimmed}")
}

/// Days since 1970 of a day in the Gregorian calendar; months from March on, so that the leap day
/// ends the year.
fn days(date: Date) -> i64 {
    let month = i64::from(date.month);
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(date.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A TIMESTAMP, read with `time_zone = '+00:00'`, as microseconds since 1970. The zero timestamp
/// has no day at all.
fn instant(time: DateTime) -> i64 {
    if time.date == Date::default() {
        return 0;
    }
    let clock = (i64::from(time.hour) * 60 + i64::from(time.minute)) * 60 + i64::from(time.second);
    (days(time.date) * 86_400 + clock) * 1_000_000 + i64::from(time.micros)
}

/// A TIMESTAMP in microseconds since 1970 as date and time in UTC.
pub fn utc(micros: i64) -> DateTime {
    if micros == 0 {
        return DateTime::default();
    }
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    // Every part is in range by construction; the defaults are never taken.
    let small = |part: i64| u8::try_from(part).unwrap_or_default();
    DateTime {
        date: Date {
            year: u16::try_from(year).unwrap_or_default(),
            month: small(month),
            day: small(day_of_year - (153 * from_march + 2) / 5 + 1),
        },
        hour: small(clock / 3600),
        minute: small(clock / 60 % 60),
        second: small(clock % 60),
        micros: u32::try_from(fraction).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_lose_only_what_is_not_theirs() {
        let cases = [
            ("00012.50", "12.50"),
            ("-0.50", "-0.50"),
            ("000.00", "0.00"),
            ("-0.00", "0.00"),
            ("0", "0"),
            (".5", "0.5"),
        ];
        for (text, expected) in cases {
            assert_eq!(decimal(text), expected);
        }
    }

    #[test]
    fn known_instants() {
        assert_eq!(
            utc(1_000_000_000_000_001).to_string(),
            "2001-09-09 01:46:40.000001"
        );
        assert_eq!(
            utc(1_709_164_800_000_000).to_string(),
            "2024-02-29 00:00:00.000000"
        );
        assert_eq!(utc(0).to_string(), "0000-00-00 00:00:00.000000");
    }

    proptest! {
        #[test]
        fn instants_read_back(micros in 1i64..4_294_967_295_999_999) {
            prop_assert_eq!(instant(utc(micros)), micros);
        }
    }
}
