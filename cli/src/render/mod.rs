//! Views as text: pure functions, each covered by a snapshot.

pub mod conflicts;
mod history;
pub mod link;
pub mod repair;
mod status;
pub mod stranded;
mod table;
mod transition;

#[cfg(test)]
#[path = "tests.rs"]
mod snapshots;

pub use history::{history, receipt};
pub use status::{next_step, problems, status, unit};
pub use table::Table;
pub use transition::{announcement, checks, dry_run, lacks, progress, receipt_summary, topology};

use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

/// The document as JSON, indented.
pub fn json<T: Serialize>(document: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(document)
        .map(|text| text + "\n")
        .map_err(|error| Failure::failed("the result was not written as JSON", error.to_string()))
}

/// The document as YAML.
pub fn yaml<T: Serialize>(document: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(document)
        .map(|text| {
            if text.ends_with('\n') {
                text
            } else {
                text + "\n"
            }
        })
        .map_err(|error| Failure::failed("the result was not written as YAML", error.to_string()))
}

/// A time in milliseconds as people say it: `40 ms`, `1.2 s`, `3 min 5 s`, `2 h 10 min`.
pub fn millis(millis: u64) -> String {
    let seconds = millis / 1000;
    match millis {
        0..=999 => format!("{millis} ms"),
        1000..=9_999 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10_000..=119_999 => format!("{seconds} s"),
        120_000..=7_199_999 => two(seconds / 60, "min", seconds % 60, "s"),
        7_200_000..=172_799_999 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// How long ago something was; `just now` below a second, also where clocks disagree.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let passed = now.duration_since(then).as_millis();
    match u64::try_from(passed) {
        Ok(passed) if passed >= 1000 => format!("{} ago", millis(passed / 1000 * 1000)),
        _ => "just now".to_owned(),
    }
}

/// How long something has been so.
pub fn so_long(since: Timestamp, now: Timestamp) -> String {
    match ago(since, now).strip_suffix(" ago") {
        Some(time) => format!("for {time}"),
        None => "just now".to_owned(),
    }
}

/// A time as it is shown: UTC, whole seconds.
pub fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Counts things: `1 Unit`, `2 Units`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_249, "1.2 s"),
            (10_500, "10 s"),
            (185_000, "3 min 5 s"),
            (180_000, "3 min"),
            (7_800_000, "2 h 10 min"),
            (90_000_000_000, "1041 d 16 h"),
        ];
        for (value, text) in cases {
            assert_eq!(millis(value), text);
        }
    }

    #[test]
    fn a_time_ahead_of_our_clock_is_now() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let later: Timestamp = "2026-01-02T03:04:09Z".parse().unwrap();
        assert_eq!(ago(later, now), "just now");
        assert_eq!(ago(now, later), "4.0 s ago");
        assert_eq!(instant(now), "2026-01-02 03:04:05 UTC");
    }
}
