//! MySQL's GTID sets, with the tags of MySQL 8.3 and later.
//!
//! Text form as the server prints it: `uuid:1-5:7:tag:1-3,uuid:9`. Intervals before the first tag
//! are untagged; UUIDs and tags are in ascending order, the untagged ones first.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Flavor, InvalidPosition};

/// The largest number a GTID may have; the server's own limit.
const LARGEST: u64 = i64::MAX as u64 - 1;

/// The UUID of a MySQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerUuid(pub [u8; 16]);

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MySqlGtid {
    /// The server that gave it its number.
    pub uuid: ServerUuid,
    /// Tag in lower case; empty: none.
    pub tag: String,
    /// Number, from 1.
    pub number: u64,
}

/// A set of transactions: for each (server, tag) disjoint intervals in ascending order, both ends
/// included, none adjacent to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GtidSet {
    groups: BTreeMap<(ServerUuid, String), Vec<(u64, u64)>>,
}

impl GtidSet {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether it holds the transaction.
    pub fn contains(&self, gtid: &MySqlGtid) -> bool {
        self.intervals(gtid.uuid, &gtid.tag)
            .is_some_and(|held| covers(held, gtid.number, gtid.number))
    }

    /// Whether it holds every transaction of `other`.
    pub fn contains_set(&self, other: &Self) -> bool {
        other.iter().all(|(uuid, tag, wanted)| {
            self.intervals(uuid, tag).is_some_and(|held| {
                wanted
                    .iter()
                    .all(|&(first, last)| covers(held, first, last))
            })
        })
    }

    /// Adds a transaction.
    pub fn add(&mut self, gtid: &MySqlGtid) {
        // The usual case, the number after the last one, needs no new key.
        if let Some(held) = self.groups.get_mut(&(gtid.uuid, gtid.tag.clone())) {
            insert(held, gtid.number, gtid.number);
        } else {
            self.groups.insert(
                (gtid.uuid, gtid.tag.clone()),
                vec![(gtid.number, gtid.number)],
            );
        }
    }

    /// The set without one transaction.
    #[must_use]
    pub fn without(&self, gtid: &MySqlGtid) -> Self {
        let (before, after) = (gtid.number.saturating_sub(1), gtid.number.saturating_add(1));
        let mut kept = self.clone();
        if let Some(held) = kept.groups.get_mut(&(gtid.uuid, gtid.tag.clone())) {
            let pieces = held
                .iter()
                .flat_map(|&(first, last)| [(first, last.min(before)), (first.max(after), last)]);
            *held = pieces.filter(|(first, last)| first <= last).collect();
        }
        kept.groups.retain(|_, held| !held.is_empty());
        kept
    }

    /// Adds every transaction of another set.
    pub fn union(&mut self, other: &Self) {
        for (uuid, tag, intervals) in other.iter() {
            let held = self.groups.entry((uuid, tag.to_owned())).or_default();
            for &(first, last) in intervals {
                insert(held, first, last);
            }
        }
    }

    /// The groups by server and tag, each with its intervals, both ends included.
    pub fn iter(&self) -> impl Iterator<Item = (ServerUuid, &str, &[(u64, u64)])> + '_ {
        self.groups
            .iter()
            .map(|((uuid, tag), intervals)| (*uuid, tag.as_str(), intervals.as_slice()))
    }

    /// The groups that `keep` accepts.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(ServerUuid, &str) -> bool) -> Self {
        let mut kept = self.clone();
        kept.groups.retain(|(uuid, tag), _| keep(*uuid, tag));
        kept
    }

    /// The set before the last `count` numbers of each group that `of` accepts.
    #[must_use]
    pub fn without_last(&self, count: u64, mut of: impl FnMut(ServerUuid, &str) -> bool) -> Self {
        let mut kept = self.clone();
        for ((uuid, tag), held) in &mut kept.groups {
            if !of(*uuid, tag) {
                continue;
            }
            let end = held.last().map_or(0, |last| last.1.saturating_sub(count));
            held.retain(|interval| interval.0 <= end);
            if let Some(last) = held.last_mut() {
                last.1 = last.1.min(end);
            }
        }
        kept.groups.retain(|_, held| !held.is_empty());
        kept
    }

    fn intervals(&self, uuid: ServerUuid, tag: &str) -> Option<&[(u64, u64)]> {
        self.groups.get(&(uuid, tag.to_owned())).map(Vec::as_slice)
    }
}

fn covers(held: &[(u64, u64)], first: u64, last: u64) -> bool {
    let after = held.partition_point(|interval| interval.0 <= first);
    after > 0 && held[after - 1].1 >= last
}

/// Adds an interval and joins what it touches.
fn insert(held: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    let begin = held.partition_point(|interval| interval.1.saturating_add(1) < first);
    let end = held.partition_point(|interval| interval.0 <= last.saturating_add(1));
    if begin == end {
        held.insert(begin, (first, last));
    } else {
        let joined = (held[begin].0.min(first), held[end - 1].1.max(last));
        held.splice(begin..end, [joined]);
    }
}

impl fmt::Display for ServerUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MySqlGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tag.is_empty() {
            write!(f, "{}:{}", self.uuid, self.number)
        } else {
            write!(f, "{}:{}:{}", self.uuid, self.tag, self.number)
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = None;
        for (uuid, tag, intervals) in self.iter() {
            if previous != Some(uuid) {
                let separator = if previous.is_some() { "," } else { "" };
                write!(f, "{separator}{uuid}")?;
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for &(first, last) in intervals {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
            previous = Some(uuid);
        }
        Ok(())
    }
}

fn invalid(text: &str, reason: &'static str) -> InvalidPosition {
    InvalidPosition::Text {
        text: text.to_owned(),
        flavor: Flavor::MySql,
        reason,
    }
}

impl FromStr for ServerUuid {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a server UUID has 32 hexadecimal digits in groups of 8-4-4-4-12";
        let bytes = text.as_bytes();
        let dash_at = |index: usize| matches!(index, 8 | 13 | 18 | 23);
        if bytes.len() != 36 {
            return Err(invalid(text, FORM));
        }
        let mut digits = [0u8; 32];
        let mut count = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if dash_at(index) {
                if *byte != b'-' {
                    return Err(invalid(text, FORM));
                }
            } else {
                let digit = char::from(*byte)
                    .to_digit(16)
                    .ok_or_else(|| invalid(text, FORM))?;
                digits[count] = u8::try_from(digit).map_err(|_| invalid(text, FORM))?;
                count += 1;
            }
        }
        let mut uuid = [0u8; 16];
        for (index, byte) in uuid.iter_mut().enumerate() {
            *byte = digits[2 * index] << 4 | digits[2 * index + 1];
        }
        Ok(Self(uuid))
    }
}

fn number(text: &str) -> Result<u64, InvalidPosition> {
    text.parse()
        .ok()
        .filter(|number| (1..=LARGEST).contains(number))
        .ok_or_else(|| invalid(text, "a transaction number lies between 1 and 2^63 - 2"))
}

fn tag(text: &str) -> Result<String, InvalidPosition> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if text.len() <= 32 && starts_well && text.bytes().all(inner) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(invalid(
            text,
            "a tag has 1 to 32 letters, digits or '_' and starts with no digit",
        ))
    }
}

impl FromStr for MySqlGtid {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.trim().split(':').map(str::trim).collect();
        let (uuid, tag, number) = match parts.as_slice() {
            [uuid, last] => (uuid.parse()?, String::new(), number(last)?),
            [uuid, name, last] => (uuid.parse()?, tag(name)?, number(last)?),
            _ => {
                return Err(invalid(
                    text,
                    "a GTID is written uuid:number or uuid:tag:number",
                ));
            }
        };
        Ok(Self { uuid, tag, number })
    }
}

impl FromStr for GtidSet {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = Self::default();
        for group in text
            .split(',')
            .map(str::trim)
            .filter(|group| !group.is_empty())
        {
            let mut parts = group.split(':').map(str::trim);
            let uuid: ServerUuid = parts.next().unwrap_or_default().parse()?;
            let mut current = String::new();
            let mut any = false;
            for part in parts {
                if part.starts_with(|first: char| first.is_ascii_digit()) {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    let (first, last) = (number(first.trim())?, number(last.trim())?);
                    if first > last {
                        return Err(invalid(part, "an interval ends before it starts"));
                    }
                    insert(
                        set.groups.entry((uuid, current.clone())).or_default(),
                        first,
                        last,
                    );
                    any = true;
                } else {
                    current = tag(part)?;
                }
            }
            if !any {
                return Err(invalid(group, "a server without a transaction number"));
            }
        }
        Ok(set)
    }
}
