//! Replication positions of both engines.

mod mariadb;
mod mysql;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use mariadb::{GtidList, MariaDbGtid};
pub use mysql::{GtidSet, MySqlGtid, ServerUuid};

/// Which engine's positions are meant; an empty text alone does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MySQL: sets of `uuid:tag:number`.
    MySql,
    /// MariaDB: the last `domain-server-number` of each domain.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// A text that is not a position, or two positions of different engines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPosition {
    /// Not the text form of a position.
    #[error("{text:?} is not a {flavor} position: {reason}")]
    Text {
        /// The part that is wrong.
        text: String,
        /// Whose position it was to be.
        flavor: Flavor,
        /// What is wrong.
        reason: &'static str,
    },
    /// Two positions that cannot be compared or joined.
    #[error("a {left} position was met where the other one is of {right}")]
    Mixed {
        /// One side.
        left: Flavor,
        /// The other.
        right: Flavor,
    },
    /// An empty text where only the text can tell the engine.
    #[error("an empty text does not tell whether the position is MySQL's or MariaDB's")]
    Empty,
}

/// What a server has executed, or what of it was read or applied.
///
/// Its text form is canonical: equal positions have equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// A GTID set, tags included.
    MySql(GtidSet),
    /// A GTID list by domain.
    MariaDb(GtidList),
}

/// The identity of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gtid {
    /// `uuid:number` or `uuid:tag:number`.
    MySql(MySqlGtid),
    /// `domain-server-number`.
    MariaDb(MariaDbGtid),
}

impl Position {
    /// The position before the first transaction.
    pub fn empty(flavor: Flavor) -> Self {
        match flavor {
            Flavor::MySql => Self::MySql(GtidSet::default()),
            Flavor::MariaDb => Self::MariaDb(GtidList::default()),
        }
    }

    /// Reads a position in any form the engine prints it; white space does not matter.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Self, InvalidPosition> {
        Ok(match flavor {
            Flavor::MySql => Self::MySql(text.parse()?),
            Flavor::MariaDb => Self::MariaDb(text.parse()?),
        })
    }

    /// Whose position it is.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::MySql(_) => Flavor::MySql,
            Self::MariaDb(_) => Flavor::MariaDb,
        }
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(set) => set.is_empty(),
            Self::MariaDb(list) => list.is_empty(),
        }
    }

    /// Whether every transaction of `other` is in this one. Positions of different engines
    /// contain nothing of each other, unless `other` is empty.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(this), Self::MySql(that)) => this.contains_set(that),
            (Self::MariaDb(this), Self::MariaDb(that)) => this.contains_list(that),
            _ => other.is_empty(),
        }
    }

    /// Whether one transaction is in it. On MariaDB: whether its domain has got that far.
    pub fn contains_gtid(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::MySql(set), Gtid::MySql(gtid)) => set.contains(gtid),
            (Self::MariaDb(list), Gtid::MariaDb(gtid)) => list.contains(gtid),
            _ => false,
        }
    }

    /// Adds one transaction.
    pub fn add(&mut self, gtid: &Gtid) -> Result<(), InvalidPosition> {
        match (self, gtid) {
            (Self::MySql(set), Gtid::MySql(gtid)) => set.add(gtid),
            (Self::MariaDb(list), Gtid::MariaDb(gtid)) => list.add(*gtid),
            (this, gtid) => {
                return Err(InvalidPosition::Mixed {
                    left: this.flavor(),
                    right: gtid.flavor(),
                });
            }
        }
        Ok(())
    }

    /// Adds every transaction of another position.
    pub fn union(&mut self, other: &Self) -> Result<(), InvalidPosition> {
        match (self, other) {
            (Self::MySql(this), Self::MySql(that)) => this.union(that),
            (Self::MariaDb(this), Self::MariaDb(that)) => this.union(that),
            (this, that) => {
                return Err(InvalidPosition::Mixed {
                    left: this.flavor(),
                    right: that.flavor(),
                });
            }
        }
        Ok(())
    }

    /// The transactions whose MySQL tag or MariaDB domain `keep` accepts: with it the part of one
    /// origin is told from the rest. The tag of an untagged transaction is empty.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(OriginMark<'_>) -> bool) -> Self {
        match self {
            Self::MySql(set) => {
                Self::MySql(set.retain(|uuid, tag| keep(OriginMark::MySql { uuid, tag })))
            }
            Self::MariaDb(list) => {
                Self::MariaDb(list.retain(|domain| keep(OriginMark::MariaDb { domain })))
            }
        }
    }

    /// What it was before its last transaction. `None` where `last` cannot be that: it is not there,
    /// or on MariaDB not the last of its domain.
    #[must_use]
    pub fn before(&self, last: &Gtid) -> Option<Self> {
        match (self, last) {
            (Self::MySql(set), Gtid::MySql(of)) => {
                set.contains(of).then(|| Self::MySql(set.without(of)))
            }
            (Self::MariaDb(domains), Gtid::MariaDb(of)) => {
                let is_last = domains.iter().any(|it| it == *of);
                is_last
                    .then(|| Self::MariaDb(domains.without_last(1, |domain| domain == of.domain)))
            }
            _ => None,
        }
    }

    /// What it was before the last `count` transactions of each group whose mark `of` accepts.
    #[must_use]
    pub fn without_last(&self, count: u64, mut of: impl FnMut(OriginMark<'_>) -> bool) -> Self {
        match self {
            Self::MySql(set) => Self::MySql(
                set.without_last(count, |uuid, tag| of(OriginMark::MySql { uuid, tag })),
            ),
            Self::MariaDb(list) => {
                Self::MariaDb(list.without_last(count, |domain| of(OriginMark::MariaDb { domain })))
            }
        }
    }
}

/// What a position tells of where a group of its transactions was born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginMark<'a> {
    /// The server that committed it, and its tag (empty: none).
    MySql {
        /// Committing server.
        uuid: ServerUuid,
        /// Tag.
        tag: &'a str,
    },
    /// The replication domain.
    MariaDb {
        /// Domain id.
        domain: u32,
    },
}

impl Gtid {
    /// Whose GTID it is.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::MySql(_) => Flavor::MySql,
            Self::MariaDb(_) => Flavor::MariaDb,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(list) => list.fmt(f),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(gtid) => gtid.fmt(f),
            Self::MariaDb(gtid) => gtid.fmt(f),
        }
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    /// Reads a position that is not empty; a `:` tells MySQL's from MariaDB's.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err(InvalidPosition::Empty);
        }
        Self::parse(
            if text.contains(':') {
                Flavor::MySql
            } else {
                Flavor::MariaDb
            },
            text,
        )
    }
}

impl FromStr for Gtid {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            text.parse().map(Self::MySql)
        } else {
            text.parse().map(Self::MariaDb)
        }
    }
}
