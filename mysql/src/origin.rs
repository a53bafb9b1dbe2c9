//! Origin marks: how a transaction tells in which IDC it was born.
//!
//! What a writer applies is marked on the target: on MySQL 8.3 and later by a GTID tag, on MariaDB
//! by a GTID domain. What has no mark was born on the server that it is read from.

use std::collections::{BTreeMap, BTreeSet};

use change::{Gtid, OriginMark, Position};
use model::IdcName;

/// What the tags of ours begin with; other tags are an application's own and mean nothing here.
const TAG_PREFIX: &str = "ma_";

/// The GTID tag of transactions that were born in an IDC: `ma_` and the name, with `-` written
/// `_`, cut to the 32 characters a tag may have (names that then agree are refused by
/// [`Origins::new`]).
pub fn origin_tag(idc: &IdcName) -> String {
    let mut tag = format!("{TAG_PREFIX}{}", idc.as_str().replace('-', "_"));
    tag.truncate(32);
    tag
}

/// The GTID domain of transactions that were born in an IDC: 32 bits of FNV-1a over the name,
/// never 0, which is the domain of servers that nobody gave another.
///
/// It is written into binlogs and positions, so it must never change.
pub fn origin_domain(idc: &IdcName) -> u32 {
    let hash = idc.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.max(1)
}

/// How many of a position's transactions were born on the server that it is a position of, where
/// `idcs` are the IDCs with a member. It grows by one with each of them, so between positions of
/// one server it tells which is further, and by how much.
pub fn born_here(position: &Position, idcs: &[IdcName]) -> u64 {
    let marks: BTreeSet<u32> = idcs.iter().map(origin_domain).collect();
    match position {
        Position::MySql(set) => set
            .iter()
            .filter(|(_, tag, _)| !tag.starts_with(TAG_PREFIX))
            .flat_map(|(_, _, intervals)| intervals)
            .map(|(first, last)| last - first + 1)
            .sum(),
        Position::MariaDb(list) => list
            .iter()
            .filter(|gtid| !marks.contains(&gtid.domain))
            .map(|gtid| gtid.sequence)
            .sum(),
    }
}

/// The part of a server's position that was born on it, where `idcs` are the IDCs with a member.
pub fn only_born_here(position: &Position, idcs: &[IdcName]) -> Position {
    let marks: BTreeSet<u32> = idcs.iter().map(origin_domain).collect();
    position.retain(|mark| match mark {
        OriginMark::MySql { tag, .. } => !tag.starts_with(TAG_PREFIX),
        OriginMark::MariaDb { domain } => !marks.contains(&domain),
    })
}

/// The IDCs that a transaction on one server can have been born in.
#[derive(Debug, Clone)]
pub struct Origins {
    own: IdcName,
    tags: BTreeMap<String, IdcName>,
    domains: BTreeMap<u32, IdcName>,
}

/// Why an origin cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Two names with one mark.
    #[error("the IDCs {0} and {1} have the same origin mark; rename one of them")]
    Collision(IdcName, IdcName),
    /// A mark of nobody.
    #[error("transaction {gtid} bears the origin mark {mark:?}, which no IDC of the Unit has")]
    Unknown {
        /// The transaction.
        gtid: Gtid,
        /// Its mark.
        mark: String,
    },
    /// A transaction that came back to where it was born.
    #[error("transaction {gtid} was born in {idc} and came back to it")]
    Returned {
        /// The transaction.
        gtid: Gtid,
        /// The IDC.
        idc: IdcName,
    },
}

impl Origins {
    /// The origins on the server of `own`, where `all` are the IDCs with a member (`own` may be
    /// among them).
    pub fn new(own: &IdcName, all: &[IdcName]) -> Result<Self, OriginError> {
        let mut origins = Self {
            own: own.clone(),
            tags: BTreeMap::new(),
            domains: BTreeMap::new(),
        };
        for idc in all.iter().chain([own]) {
            let of_tag = origins.tags.insert(origin_tag(idc), idc.clone());
            let of_domain = origins.domains.insert(origin_domain(idc), idc.clone());
            for other in [of_tag, of_domain].into_iter().flatten() {
                if other != *idc {
                    return Err(OriginError::Collision(other, idc.clone()));
                }
            }
        }
        Ok(origins)
    }

    /// The IDC of the server itself.
    pub fn own(&self) -> &IdcName {
        &self.own
    }

    /// Whether a transaction bears the mark of this IDC.
    pub fn is_of(&self, gtid: &Gtid, idc: &IdcName) -> bool {
        match gtid {
            Gtid::MySql(gtid) => gtid.tag == origin_tag(idc),
            Gtid::MariaDb(gtid) => gtid.domain == origin_domain(idc),
        }
    }

    /// Where a transaction on this server was born.
    pub fn of(&self, gtid: &Gtid) -> Result<&IdcName, OriginError> {
        let (found, mark) = match gtid {
            Gtid::MySql(mysql) if !mysql.tag.starts_with(TAG_PREFIX) => return Ok(&self.own),
            Gtid::MySql(mysql) => (self.tags.get(&mysql.tag), mysql.tag.clone()),
            // A domain that is not ours is a setting of the server's own: domains have no prefix
            // that would tell a mark of an unknown IDC.
            Gtid::MariaDb(mariadb) => match self.domains.get(&mariadb.domain) {
                None => return Ok(&self.own),
                found => (found, mariadb.domain.to_string()),
            },
        };
        match found {
            Some(idc) if *idc == self.own => Err(OriginError::Returned {
                gtid: gtid.clone(),
                idc: idc.clone(),
            }),
            Some(idc) => Ok(idc),
            None => Err(OriginError::Unknown {
                gtid: gtid.clone(),
                mark,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idc(name: &str) -> IdcName {
        IdcName::new(name).unwrap()
    }

    fn origins() -> Origins {
        Origins::new(&idc("sh"), &[idc("sh"), idc("bj"), idc("eu-west-1")]).unwrap()
    }

    #[test]
    fn what_was_applied_from_elsewhere_is_not_counted() {
        let idcs = [idc("sh"), idc("bj")];
        let count = |text: &str| born_here(&text.parse().unwrap(), &idcs);
        assert_eq!(count(&format!("{UUID}:1-5:8:ma_bj:1-100")), 6);
        assert_eq!(count(&format!("{UUID}:1-5:own:1-2")), 7);
        assert_eq!(
            count(&format!("0-1-42,{}-1-7", origin_domain(&idc("bj")))),
            42
        );
    }

    #[test]
    fn what_was_applied_from_elsewhere_is_left_out() {
        let idcs = [idc("sh"), idc("bj")];
        let own = |text: &str| only_born_here(&text.parse().unwrap(), &idcs).to_string();
        assert_eq!(
            own(&format!("{UUID}:1-5:own:1-2:ma_bj:1-100")),
            format!("{UUID}:1-5:own:1-2")
        );
        let domain = origin_domain(&idc("bj"));
        assert_eq!(own(&format!("0-1-42,{domain}-1-7")), "0-1-42");
    }

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn of(gtid: &str) -> Result<String, OriginError> {
        origins()
            .of(&gtid.parse().unwrap())
            .map(ToString::to_string)
    }

    #[test]
    fn marks_never_change() {
        assert_eq!(origin_tag(&idc("eu-west-1")), "ma_eu_west_1");
        assert_eq!(origin_domain(&idc("sh")), 0x3f52_0f5e);
        assert_eq!(origin_domain(&idc("bj")), 0x472b_b81d);
    }

    #[test]
    fn what_bears_no_mark_was_born_here() {
        assert_eq!(of(&format!("{UUID}:7")).unwrap(), "sh");
        assert_eq!(of(&format!("{UUID}:payroll:7")).unwrap(), "sh");
        assert_eq!(of("0-1-7").unwrap(), "sh");
    }

    #[test]
    fn a_mark_tells_the_origin() {
        assert_eq!(of(&format!("{UUID}:ma_bj:7")).unwrap(), "bj");
        assert_eq!(of(&format!("{UUID}:ma_eu_west_1:7")).unwrap(), "eu-west-1");
        assert_eq!(
            of(&format!("{}-1-7", origin_domain(&idc("bj")))).unwrap(),
            "bj"
        );
    }

    #[test]
    fn strange_marks_are_errors() {
        let unknown = of(&format!("{UUID}:ma_gz:7"));
        assert!(
            matches!(unknown, Err(OriginError::Unknown { .. })),
            "{unknown:?}"
        );
        for gtid in [
            format!("{UUID}:ma_sh:7"),
            format!("{}-1-7", origin_domain(&idc("sh"))),
        ] {
            let returned = of(&gtid);
            assert!(
                matches!(returned, Err(OriginError::Returned { .. })),
                "{returned:?}"
            );
        }
        let alike = Origins::new(
            &idc("a-b"),
            &[
                idc("abcdefghijklmnopqrstuvwxyz-12345"),
                idc("abcdefghijklmnopqrstuvwxyz-12346"),
            ],
        );
        assert!(matches!(alike, Err(OriginError::Collision(..))));
    }
}
