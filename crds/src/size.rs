//! Amounts of memory as people write them: `4MiB`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An amount of memory: a whole number and one of `KiB`, `MiB`, `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize {
    bytes: u64,
}

/// A text that is no [`ByteSize`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a size: write a whole number of at most six digits and one of KiB, MiB, GiB, for example 4MiB"
)]
pub struct InvalidSize(
    /// The text.
    pub String,
);

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    /// So many times 1,048,576 bytes.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self {
            bytes: mebibytes << 20,
        }
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every value was made of one of the units, so that the smallest always divides it.
        let (unit, scale) = UNITS
            .into_iter()
            .find(|(_, scale)| self.bytes >= *scale && self.bytes.is_multiple_of(*scale))
            .unwrap_or(UNITS[2]);
        write!(f, "{}{unit}", self.bytes / scale)
    }
}

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSize(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, scale) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(invalid)?;
        if !(1..=6).contains(&digits) {
            return Err(invalid());
        }
        let number: u64 = number.parse().map_err(|_| invalid())?;
        Ok(Self {
            bytes: number * scale,
        })
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 12,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[0-9]{1,6}(KiB|MiB|GiB)$')",
                "messageExpression": "\"'\" + self + \"' is not a size: write a whole number of at most six digits and one of KiB, MiB, GiB, for example 4MiB\"",
                "message": "write a whole number of at most six digits and one of KiB, MiB, GiB, for example 4MiB"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [
            ("4MiB", 4 << 20),
            ("512KiB", 512 << 10),
            ("1GiB", 1 << 30),
            ("0KiB", 0),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.as_bytes(), bytes);
            assert_eq!(size.to_string(), text);
        }
        for bad in ["", "4", "4MB", "4mib", "-1KiB", "1234567KiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?} was accepted");
        }
    }
}
