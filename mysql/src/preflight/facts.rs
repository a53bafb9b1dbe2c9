//! What a server says of itself, and what must differ between servers of one Unit.

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::Subject;
use crate::session::{Engine, ServerVersion, Session};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFacts {
    /// Engine and version.
    pub version: ServerVersion,
    /// `@@server_id`.
    pub server_id: u64,
    /// MySQL's `@@server_uuid`; empty on MariaDB.
    pub server_uuid: String,
    /// The identity in `multiactive.identity`; `None` while the schema is not installed.
    pub identity: Option<String>,
    /// `@@auto_increment_increment`.
    pub auto_increment_increment: u64,
    /// `@@auto_increment_offset`.
    pub auto_increment_offset: u64,
    /// `@@lower_case_table_names`.
    pub lower_case_table_names: u64,
}

/// Reads them.
pub(super) async fn read(session: &mut Session) -> Result<MemberFacts, mysql_async::Error> {
    let uuid = match session.engine() {
        Engine::MySql => "@@GLOBAL.server_uuid",
        Engine::MariaDb => "''",
    };
    let row: Option<(u64, String, u64, u64, u64)> = session
        .conn
        .query_first(format!(
            "SELECT @@GLOBAL.server_id, {uuid}, @@GLOBAL.auto_increment_increment, \
             @@GLOBAL.auto_increment_offset, @@GLOBAL.lower_case_table_names"
        ))
        .await?;
    let (
        server_id,
        server_uuid,
        auto_increment_increment,
        auto_increment_offset,
        lower_case_table_names,
    ) = row.unwrap_or_default();
    let identity = session
        .conn
        .query_first("SELECT MAX(uuid) FROM multiactive.identity")
        .await;
    let identity = match identity {
        Ok(identity) => identity.flatten(),
        // ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE, and ER_TABLEACCESS_DENIED_ERROR, which another check
        // reports: not installed yet, or not to be seen.
        Err(mysql_async::Error::Server(error)) if matches!(error.code, 1049 | 1146 | 1142) => None,
        Err(error) => return Err(error),
    };
    Ok(MemberFacts {
        version: session.version(),
        server_id,
        server_uuid,
        identity,
        auto_increment_increment,
        auto_increment_offset,
        lower_case_table_names,
    })
}

/// What must differ, differs.
pub(super) fn compare(members: &[(Subject, MemberFacts)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, (left, left_facts)) in members.iter().enumerate() {
        for (right, right_facts) in &members[index + 1..] {
            findings.extend(compare_two(left, left_facts, right, right_facts));
        }
    }
    findings
}

fn compare_two(
    left: &Subject,
    left_facts: &MemberFacts,
    right: &Subject,
    right_facts: &MemberFacts,
) -> Vec<Finding> {
    let object = format!("{left} and {right}");
    let blocking = |check: &str, message: String, fix: &str| Finding {
        severity: Severity::Blocking,
        check: check.to_owned(),
        object: object.clone(),
        message,
        fix: fix.to_owned(),
    };
    let mut findings = Vec::new();
    if let Some(identity) = &left_facts.identity
        && left_facts.identity == right_facts.identity
    {
        findings.push(blocking(
            "SameServer",
            format!("both have the identity {identity}: they are one server, or one was copied"),
            "name two servers in spec.members; on a server whose data directory was copied from \
             another run: SET SESSION sql_log_bin = 0; DELETE FROM multiactive.identity; (a new \
             identity is made at the next look)",
        ));
    }
    if !left_facts.server_uuid.is_empty() && left_facts.server_uuid == right_facts.server_uuid {
        findings.push(blocking(
            "SameServerUuid",
            format!(
                "both have server_uuid = {}, so their GTIDs clash",
                left_facts.server_uuid
            ),
            "stop the copied server, delete auto.cnf in its data directory, start it again",
        ));
    }
    if left_facts.server_id == right_facts.server_id {
        findings.push(blocking(
            "SameServerId",
            format!("both have server_id = {}", left_facts.server_id),
            "SET GLOBAL server_id = <another number>; and the same in the server's configuration",
        ));
    }
    let (left_case, right_case) = (
        left_facts.lower_case_table_names,
        right_facts.lower_case_table_names,
    );
    if left_case != right_case {
        findings.push(blocking(
            "LowerCaseTableNames",
            format!(
                "they have lower_case_table_names = {left_case} and {right_case}, so that one name \
                 can mean two tables on one side and one on the other"
            ),
            "set the same lower_case_table_names in both configurations (MySQL takes it only when \
             the data directory is made)",
        ));
    }
    if left_facts.auto_increment_offset == right_facts.auto_increment_offset {
        findings.push(Finding {
            severity: Severity::Warning,
            ..blocking(
                "SameAutoIncrementOffset",
                format!(
                    "both have auto_increment_offset = {}: after a failover an id that was lost \
                     with the old primary can be given out again",
                    left_facts.auto_increment_offset
                ),
                "give each member its own: SET GLOBAL auto_increment_offset = <1, 2, ...>; and the \
                 same in its configuration",
            )
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Endpoint, IdcName, TlsSettings};

    fn member(idc: &str, number: u64) -> (Subject, MemberFacts) {
        let subject = Subject {
            idc: IdcName::new(idc).unwrap(),
            endpoint: Endpoint {
                host: format!("{idc}.example"),
                port: 3306,
                tls: TlsSettings::default(),
            },
            databases: vec![],
            members: 2,
        };
        let facts = MemberFacts {
            version: ServerVersion {
                engine: Engine::MySql,
                number: (9, 7, 4),
            },
            server_id: number,
            server_uuid: format!("uuid-{number}"),
            identity: Some(format!("identity-{number}")),
            auto_increment_increment: 2,
            auto_increment_offset: number,
            lower_case_table_names: 0,
        };
        (subject, facts)
    }

    #[test]
    fn servers_that_differ_are_accepted() {
        assert_eq!(
            compare(&[member("sh", 1), member("bj", 2), member("gz", 3)]),
            vec![]
        );
    }

    #[test]
    fn one_server_under_two_names_is_found() {
        let mut other = member("bj", 2);
        other.1 = member("sh", 1).1;
        let found = compare(&[member("sh", 1), other]);
        let checks: Vec<&str> = found.iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(
            checks,
            [
                "SameServer",
                "SameServerUuid",
                "SameServerId",
                "SameAutoIncrementOffset"
            ]
        );
        assert!(
            found[0]
                .object
                .contains("member sh (sh.example:3306) and member bj")
        );
    }

    #[test]
    fn names_must_mean_the_same_on_both() {
        let mut other = member("bj", 2);
        other.1.lower_case_table_names = 1;
        let found = compare(&[member("sh", 1), other]);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("= 0 and 1"), "{found:?}");
    }

    #[test]
    fn without_a_schema_nothing_is_said_of_identities() {
        let (mut left, mut right) = (member("sh", 1), member("bj", 2));
        (left.1.identity, right.1.identity) = (None, None);
        assert_eq!(compare(&[left, right]), vec![]);
    }
}
