//! Lengths of time as people write them: `500ms`, `5s`, `10m`, `2h`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time: a whole number and one of `ms`, `s`, `m`, `h`.
///
/// Written back, it takes the largest unit that holds it exactly, so that `60s` reads `1m`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Duration {
    millis: u64,
}

/// A text that is no [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: write a whole number of at most six digits and one of ms, s, m, h, \
     for example 500ms, 5s or 10m"
)]
pub struct InvalidDuration(
    /// The text.
    pub String,
);

const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;
const SECOND: u64 = 1_000;

impl Duration {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self {
            millis: seconds * SECOND,
        }
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.millis
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.millis)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.millis {
            0 => f.write_str("0s"),
            millis if millis % HOUR == 0 => write!(f, "{}h", millis / HOUR),
            millis if millis % MINUTE == 0 => write!(f, "{}m", millis / MINUTE),
            millis if millis % SECOND == 0 => write!(f, "{}s", millis / SECOND),
            millis => write!(f, "{millis}ms"),
        }
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = match unit {
            "ms" => 1,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => return Err(invalid()),
        };
        if !(1..=10).contains(&digits) {
            return Err(invalid());
        }
        let number: u64 = number.parse().map_err(|_| invalid())?;
        Ok(Self {
            millis: number * scale,
        })
    }
}

impl TryFrom<String> for Duration {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> String {
        duration.to_string()
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 12,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[0-9]{1,6}(ms|s|m|h)$')",
                "messageExpression": "\"'\" + self + \"' is not a duration: write a whole number of at most six digits and one of ms, s, m, h, for example 500ms, 5s or 10m\"",
                "message": "write a whole number of at most six digits and one of ms, s, m, h, for example 500ms, 5s or 10m"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, millis, back) in [
            ("500ms", 500, "500ms"),
            ("1500ms", 1500, "1500ms"),
            ("5s", 5_000, "5s"),
            ("60s", 60_000, "1m"),
            ("10m", 600_000, "10m"),
            ("168h", 604_800_000, "168h"),
            ("0s", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.as_millis(), millis, "{text}");
            assert_eq!(duration.to_string(), back);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_value() {
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s",
            "5S",
            "1m30s",
            "99999999999s",
            "5d",
        ] {
            let error = bad.parse::<Duration>().unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
