//! Names, numbers and positions that identify things, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that was refused, with the value and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct InvalidIdentity {
    /// What the value was to be, for example `IDC name`.
    pub what: &'static str,
    /// The value as it was given.
    pub value: String,
    /// The rule, as a sentence that says what would be valid.
    pub rule: &'static str,
}

const DNS_LABEL: &str = "use 1 to 63 lower-case letters, digits and '-', starting with a letter or digit and not ending with '-'";
const IDC_LABEL: &str = "use 1 to 32 lower-case letters, digits and '-', starting with a letter and not ending with '-'";

fn is_dns_label(value: &str, longest: usize) -> bool {
    let bytes = value.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !bytes.is_empty()
        && bytes.len() <= longest
        && bytes.iter().all(inner)
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// The name of an IDC: a lower-case label of at most 32 characters that starts with a letter.
///
/// It becomes part of object names, etcd keys and MySQL GTID tags (with `-` written as `_`, since
/// a tag allows letters, digits and `_` only, at most 32), which is where the limits come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdcName(String);

impl IdcName {
    /// Checks and wraps a name.
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidIdentity> {
        let value = value.into();
        let starts_with_letter = value
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase());
        if is_dns_label(&value, 32) && starts_with_letter {
            Ok(Self(value))
        } else {
            Err(InvalidIdentity {
                what: "IDC name",
                value,
                rule: IDC_LABEL,
            })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A namespaced object: `namespace/name`, both DNS labels.
macro_rules! namespaced_key {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            namespace: String,
            name: String,
        }

        impl $name {
            /// Checks both parts and joins them.
            pub fn new(
                namespace: impl Into<String>,
                name: impl Into<String>,
            ) -> Result<Self, InvalidIdentity> {
                let (namespace, name) = (namespace.into(), name.into());
                for part in [&namespace, &name] {
                    if !is_dns_label(part, 63) {
                        return Err(InvalidIdentity {
                            what: $what,
                            value: format!("{namespace}/{name}"),
                            rule: DNS_LABEL,
                        });
                    }
                }
                Ok(Self { namespace, name })
            }

            /// The namespace.
            pub fn namespace(&self) -> &str {
                &self.namespace
            }

            /// The name within the namespace.
            pub fn name(&self) -> &str {
                &self.name
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }

        impl FromStr for $name {
            type Err = InvalidIdentity;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text.split_once('/') {
                    Some((namespace, name)) => Self::new(namespace, name),
                    None => Err(InvalidIdentity {
                        what: $what,
                        value: text.to_owned(),
                        rule: "write it as namespace/name",
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidIdentity;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(key: $name) -> String {
                key.to_string()
            }
        }
    };
}

namespaced_key! {
    /// A Unit, `namespace/name`.
    UnitKey, "Unit name"
}
namespaced_key! {
    /// A `SyncLink`, `namespace/name`.
    LinkKey, "SyncLink name"
}

impl UnitKey {
    /// The name of the file that holds one member's credentials in an arbiter pod:
    /// `namespace.unit.idc`. None of the three parts can hold a dot, so it is unambiguous.
    pub fn credentials_file(&self, idc: &IdcName) -> String {
        format!("{}.{}.{idc}", self.namespace, self.name)
    }
}

impl fmt::Display for IdcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IdcName {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for IdcName {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<IdcName> for String {
    fn from(name: IdcName) -> String {
        name.0
    }
}

/// The epoch of a Unit: one more at each change of its primary, never less. 0 means that the Unit
/// never had a primary.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch before the first primary.
    pub const NONE: Epoch = Epoch(0);

    /// The epoch that follows this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the arbiter processes that have held one IDC's session, so that a command of an earlier
/// one (a thawed process) can be told from the current one's.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// Which database server this is: the UUID in `multiactive.identity`, a row of ours that is written
/// outside the binlog and so belongs to one data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerIdentity(pub String);

/// Which start of a database server this is: its start time as the server tells it, in seconds
/// since 1970 (UTC). Another value means that the server was restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerBoot(pub i64);

/// A replication position in its canonical text: a MySQL GTID set (tags included) or a MariaDB
/// GTID list. Only the `change` crate reads into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PositionText(pub String);

impl fmt::Display for PositionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idc_names_are_labels() {
        assert!(IdcName::new("sh").is_ok());
        assert!(IdcName::new("eu-west-1").is_ok());
        for bad in ["", "SH", "1a", "a.b", "a_b", "-a", "a-", &"a".repeat(33)] {
            assert!(IdcName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn keys_read_back_what_they_write() {
        let key = UnitKey::new("shop", "orders").unwrap();
        assert_eq!(key.to_string().parse::<UnitKey>().unwrap(), key);
        assert!("orders".parse::<UnitKey>().is_err());
        assert!("shop/or.ders".parse::<UnitKey>().is_err());
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, "\"shop/orders\"");
        assert_eq!(serde_json::from_str::<UnitKey>(&json).unwrap(), key);
    }
}
