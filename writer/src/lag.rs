//! How old the newest change is when it is applied.

use change::{Body, Flavor, Position, RowChange, Transaction, Value};
use jiff::tz::TimeZone;
use model::IdcName;

use crate::bookkeeping;

/// The wall clock, in microseconds since 1970 (UTC).
pub(crate) fn now_micros() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)
}

/// The age of the newest of these transactions of a source, in milliseconds. The clocks of the two sides may
/// differ; an age below zero counts as zero.
///
/// MariaDB tells a commit's time in whole seconds, so what it tells is taken for the end of that
/// second; a heartbeat carries its own time in microseconds, which is better on both engines.
pub(crate) fn of_batch(batch: &[Transaction], position: &Position, source: &IdcName) -> u64 {
    let flavor = position.flavor();
    let newest = batch
        .iter()
        .map(|transaction| {
            heartbeat_micros(transaction, source).unwrap_or_else(|| match flavor {
                Flavor::MySql => transaction.committed_micros,
                Flavor::MariaDb => transaction.committed_micros + 999_999,
            })
        })
        .max()
        .unwrap_or(0);
    since_millis(newest)
}

/// How long ago a moment was, in milliseconds.
pub(crate) fn since_millis(micros: u64) -> u64 {
    now_micros().saturating_sub(micros) / 1000
}

/// The time of the source's own heartbeat; those that a link hands on tell of other links' lag.
fn heartbeat_micros(transaction: &Transaction, source: &IdcName) -> Option<u64> {
    let Body::Rows(changes) = &transaction.body else {
        return None;
    };
    changes
        .iter()
        .filter(|change| {
            bookkeeping::is_ours(&change.table.database) && change.table.table == "heartbeat"
        })
        .flat_map(|change| change.rows.iter().map(move |row| (change, row)))
        .filter_map(|(change, row)| match row {
            RowChange::Insert { after } | RowChange::Update { after, .. } => {
                let idc = bookkeeping::value(change, after, "idc").and_then(bookkeeping::text)?;
                if idc != source.as_str() {
                    return None;
                }
                moment_micros(bookkeeping::value(change, after, "at")?)
            }
            RowChange::Delete { .. } => None,
        })
        .max()
}

fn moment_micros(value: &Value) -> Option<u64> {
    match value {
        Value::Timestamp(micros) => u64::try_from(*micros).ok(),
        Value::DateTime(moment) => {
            let small = |number: u8| i8::try_from(number).ok();
            let moment = jiff::civil::DateTime::new(
                i16::try_from(moment.date.year).ok()?,
                small(moment.date.month)?,
                small(moment.date.day)?,
                small(moment.hour)?,
                small(moment.minute)?,
                small(moment.second)?,
                i32::try_from(moment.micros).ok()? * 1000,
            )
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()?;
            u64::try_from(moment.timestamp().as_microsecond()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use change::{Date, DateTime};

    use super::*;

    #[test]
    fn a_heartbeat_s_time_is_utc() {
        let date = Date {
            year: 2024,
            month: 2,
            day: 29,
        };
        let moment = DateTime {
            date,
            hour: 12,
            minute: 0,
            second: 0,
            micros: 500_000,
        };
        assert_eq!(
            moment_micros(&Value::DateTime(moment)),
            Some(1_709_208_000_500_000)
        );
        assert_eq!(moment_micros(&Value::DateTime(DateTime::default())), None);
    }
}
