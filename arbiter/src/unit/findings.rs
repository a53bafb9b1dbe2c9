//! What stands against a member: what preflight found on its server, between its server and the
//! others', and another Unit that has the same server.

use std::collections::BTreeMap;

use model::{Finding, IdcName, Severity};
use mysql::clock::{ClockReading, clock_difference};
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
    /// The clock of the own server as it was read last, and of another member's.
    fn clocks(&self, of: &IdcName) -> Option<(ClockReading, ClockReading)> {
        let (own, other) = (self.account.as_ref()?, self.others.get(of)?);
        Some((own.1.clock, other.1.clock))
    }

    /// How old the newest heartbeat of another member is in the own server, in milliseconds, from
    /// what the own server's clock makes of it: at least. Where that is known to be behind the
    /// other's, it is as much older; where it is ahead, nothing is taken off, since a reading of
    /// before a freeze would take off too much, and a copy must not pass for younger than it is.
    pub fn lag_millis(&self, of: &IdcName, seen_micros: i64) -> u64 {
        let ahead = self
            .clocks(of)
            .map_or(0, |(own, other)| clock_difference(own, other).min(0));
        u64::try_from(seen_micros.saturating_sub(ahead) / 1_000).unwrap_or(0)
    }

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
    use mysql::preflight::Role;
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
            role: Role::Member {
                max_lag_millis: 5_000,
                unit: None,
            },
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
            clock: ClockReading::default(),
        };
        (subject, facts)
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_copy_younger() {
        let (own, other) = (account("bj", 2), account("sh", 1));
        let sh = IdcName::new("sh").unwrap();
        let mut findings = Findings {
            passed: true,
            account: Some(own),
            others: [(sh.clone(), other)].into(),
            ..Findings::default()
        };
        assert_eq!(findings.lag_millis(&sh, 1_500_000), 1_500);
        assert_eq!(findings.lag_millis(&sh, -400_000), 0);
        // Its clock is 3 s behind: what looks as if it were to come is 1 s old.
        if let Some((_, facts)) = &mut findings.account {
            facts.clock.ahead_micros = -3_000_000;
        }
        assert_eq!(findings.lag_millis(&sh, -2_000_000), 1_000);
        let (told, passed) = findings.judge();
        assert!(passed && told[0].check == "ClocksDiffer", "{told:?}");
        if let Some((_, facts)) = &mut findings.account {
            facts.clock.ahead_micros = -6_000_000;
        }
        assert!(!findings.judge().1);
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
