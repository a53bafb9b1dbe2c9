//! What stands against a member: what preflight found on its server, between its server and the
//! others', and another Unit that has the same server.

use std::collections::BTreeMap;

use model::{Finding, IdcName, Severity};
use mysql::preflight::{MemberFacts, Subject, across};

/// Which member, and what its server says of itself.
pub type MemberAccount = (Subject, MemberFacts);

/// Everything found so far.
#[derive(Debug, Default)]
pub struct Findings {
    /// By preflight of the own member.
    pub own: Vec<Finding>,
    /// Whether that has run and nothing of it blocks.
    pub passed: bool,
    /// The own server, of the last preflight that reached it.
    pub account: Option<MemberAccount>,
    /// The other members' servers, each when it was last reached.
    pub others: BTreeMap<IdcName, MemberAccount>,
    /// Another Unit that has the own server.
    pub rival: Option<Finding>,
}

impl Findings {
    /// All of them, and whether none blocks.
    pub fn judge(&self) -> (Vec<Finding>, bool) {
        let between = self.account.iter().flat_map(|own| {
            self.others.values().flat_map(move |other| {
                let mut pair = [own.clone(), other.clone()];
                // Both arbiters say it in the same words, so that it is shown once.
                pair.sort_by(|one, other| one.0.idc.cmp(&other.0.idc));
                across(&pair)
            })
        });
        let all: Vec<Finding> = self
            .own
            .iter()
            .cloned()
            .chain(between)
            .chain(self.rival.clone())
            .collect();
        let blocked = all
            .iter()
            .any(|finding| finding.severity == Severity::Blocking);
        (all, self.passed && !blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Endpoint, TlsSettings};
    use mysql::session::{Engine, ServerVersion};

    fn account(idc: &str, server_id: u64) -> MemberAccount {
        let subject = Subject {
            idc: IdcName::new(idc).unwrap(),
            endpoint: Endpoint {
                host: format!("{idc}.example"),
                port: 3306,
                tls: TlsSettings::default(),
            },
            databases: vec!["orders".to_owned()],
            members: 2,
        };
        let facts = MemberFacts {
            version: ServerVersion {
                engine: Engine::MariaDb,
                number: (10, 11, 6),
            },
            server_id,
            server_uuid: String::new(),
            identity: Some(idc.to_owned()),
            auto_increment_increment: 2,
            auto_increment_offset: server_id,
            lower_case_table_names: 0,
            defaults: BTreeMap::new(),
        };
        (subject, facts)
    }

    #[test]
    fn a_clash_with_another_member_blocks_both_in_the_same_words() {
        let of = |own: &str, other: &str, server_id| Findings {
            passed: true,
            account: Some(account(own, 7)),
            others: [(IdcName::new(other).unwrap(), account(other, server_id))].into(),
            ..Findings::default()
        };
        assert_eq!(of("sh", "bj", 8).judge(), (Vec::new(), true));
        let (found, passed) = of("sh", "bj", 7).judge();
        assert!(!passed && found[0].check == "SameServerId", "{found:?}");
        assert_eq!(of("bj", "sh", 7).judge().0, found);
    }
}
