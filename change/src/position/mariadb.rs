//! MariaDB's GTIDs: `domain-server-number`, and the last of each domain as a position.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Flavor, InvalidPosition};

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MariaDbGtid {
    /// Replication domain.
    pub domain: u32,
    /// The server it was first committed on.
    pub server: u32,
    /// Number within the domain; grows with every transaction (`gtid_strict_mode`).
    pub sequence: u64,
}

/// The last transaction of each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GtidList {
    domains: BTreeMap<u32, (u32, u64)>,
}

impl GtidList {
    /// Whether no domain has a transaction.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Whether the transaction's domain has got that far.
    pub fn contains(&self, gtid: &MariaDbGtid) -> bool {
        self.domains
            .get(&gtid.domain)
            .is_some_and(|(_, sequence)| *sequence >= gtid.sequence)
    }

    /// Whether each domain of `other` has got as far here.
    pub fn contains_list(&self, other: &Self) -> bool {
        other.iter().all(|gtid| self.contains(&gtid))
    }

    /// Moves the domain on to the transaction. An older one changes nothing.
    pub fn add(&mut self, gtid: MariaDbGtid) {
        let last = self
            .domains
            .entry(gtid.domain)
            .or_insert((gtid.server, gtid.sequence));
        if last.1 < gtid.sequence {
            *last = (gtid.server, gtid.sequence);
        }
    }

    /// Moves each domain on to the further of both.
    pub fn union(&mut self, other: &Self) {
        for gtid in other.iter() {
            self.add(gtid);
        }
    }

    /// The last transaction of each domain, by domain.
    pub fn iter(&self) -> impl Iterator<Item = MariaDbGtid> + '_ {
        self.domains
            .iter()
            .map(|(&domain, &(server, sequence))| MariaDbGtid {
                domain,
                server,
                sequence,
            })
    }

    /// The domains that `keep` accepts.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(u32) -> bool) -> Self {
        let mut kept = self.clone();
        kept.domains.retain(|domain, _| keep(*domain));
        kept
    }

    /// The list before the last `count` numbers of each domain that `of` accepts.
    #[must_use]
    pub fn without_last(&self, count: u64, mut of: impl FnMut(u32) -> bool) -> Self {
        let mut kept = self.clone();
        kept.domains.retain(|domain, (_, sequence)| {
            if of(*domain) {
                *sequence = sequence.saturating_sub(count);
            }
            *sequence > 0
        });
        kept
    }
}

impl fmt::Display for MariaDbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl fmt::Display for GtidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, gtid) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for MariaDbGtid {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidPosition::Text {
            text: text.to_owned(),
            flavor: Flavor::MariaDb,
            reason,
        };
        let mut parts = text.trim().splitn(3, '-');
        let (Some(domain), Some(server), Some(sequence)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("a GTID is written domain-server-number"));
        };
        Ok(Self {
            domain: domain
                .parse()
                .map_err(|_| invalid("the domain is not a 32-bit number"))?,
            server: server
                .parse()
                .map_err(|_| invalid("the server is not a 32-bit number"))?,
            sequence: sequence
                .parse()
                .map_err(|_| invalid("the last part is not a number"))?,
        })
    }
}

impl FromStr for GtidList {
    type Err = InvalidPosition;

    /// Reads a list; where a domain is named twice (as `gtid_binlog_state` does, once a server),
    /// the further one counts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut list = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            list.add(part.parse()?);
        }
        Ok(list)
    }
}
