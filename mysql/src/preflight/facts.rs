//! What a server says of itself, and what must differ between servers of one Unit.

use std::collections::BTreeMap;

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::{Role, Subject, clock};
use crate::clock::ClockReading;
use crate::session::{Engine, ServerVersion, Session};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What a table of each of the Unit's databases gets if its statement does not say.
    pub defaults: BTreeMap<String, TextDefaults>,
    /// Its clock, as it is from where this was read.
    #[serde(skip)]
    pub clock: ClockReading,
}

/// What a table gets if the statement that makes it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextDefaults {
    /// The character set.
    pub charset: String,
    /// The collation.
    pub collation: String,
}

/// Reads them.
pub(super) async fn read(
    session: &mut Session,
    subject: &Subject,
) -> Result<MemberFacts, mysql_async::Error> {
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
        defaults: text_defaults(session, subject).await?,
        clock: clock::read(session).await?,
    })
}

async fn text_defaults(
    session: &mut Session,
    subject: &Subject,
) -> Result<BTreeMap<String, TextDefaults>, mysql_async::Error> {
    let rows: Vec<(String, String, String)> = session
        .conn
        .query(
            "SELECT schema_name, default_character_set_name, default_collation_name \
             FROM information_schema.schemata",
        )
        .await?;
    Ok(rows
        .into_iter()
        .filter(|(name, ..)| subject.databases.contains(name))
        .map(|(name, charset, collation)| (name, TextDefaults { charset, collation }))
        .collect())
}

/// What must differ, differs, and what must be the same is.
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
    let mut findings = compare_identities(&object, left_facts, right_facts);
    findings.extend(compare_settings(&object, left_facts, right_facts));
    findings.extend(compare_offsets(
        &object,
        &left.role,
        left_facts,
        right_facts,
    ));
    // Two ends of a link read their clocks in two places, and nobody is elected by their lag.
    if let (
        Role::Member { max_lag_millis, .. },
        Role::Member {
            max_lag_millis: other,
            ..
        },
    ) = (&left.role, &right.role)
    {
        findings.extend(clock::compare(
            &object,
            (&left.idc, left_facts.clock),
            (&right.idc, right_facts.clock),
            *max_lag_millis.min(other),
        ));
    }
    for (database, one) in &left_facts.defaults {
        if let Some(other) = right_facts.defaults.get(database) {
            findings.extend(compare_defaults(&object, database, one, other));
        }
    }
    findings
}

fn blocking(object: &str, check: &str, message: String, fix: &str) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: check.to_owned(),
        object: object.to_owned(),
        message,
        fix: fix.to_owned(),
    }
}

fn compare_identities(
    object: &str,
    left_facts: &MemberFacts,
    right_facts: &MemberFacts,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(identity) = &left_facts.identity
        && left_facts.identity == right_facts.identity
    {
        findings.push(blocking(
            object,
            "SameServer",
            format!("both have the identity {identity}: they are one server, or one was copied"),
            "name two servers; on a server whose data directory was copied from \
             another run: SET SESSION sql_log_bin = 0; DELETE FROM multiactive.identity; (a new \
             identity is made at the next look)",
        ));
    }
    if !left_facts.server_uuid.is_empty() && left_facts.server_uuid == right_facts.server_uuid {
        findings.push(blocking(
            object,
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
            object,
            "SameServerId",
            format!("both have server_id = {}", left_facts.server_id),
            "SET GLOBAL server_id = <another number>; and the same in the server's configuration",
        ));
    }
    findings
}

fn compare_settings(
    object: &str,
    left_facts: &MemberFacts,
    right_facts: &MemberFacts,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (left_case, right_case) = (
        left_facts.lower_case_table_names,
        right_facts.lower_case_table_names,
    );
    if left_case != right_case {
        findings.push(blocking(
            object,
            "LowerCaseTableNames",
            format!(
                "they have lower_case_table_names = {left_case} and {right_case}, so that one name \
                 can mean two tables on one side and one on the other"
            ),
            "set the same lower_case_table_names in both configurations (MySQL takes it only when \
             the data directory is made)",
        ));
    }
    findings
}

fn compare_offsets(
    object: &str,
    role: &Role,
    left_facts: &MemberFacts,
    right_facts: &MemberFacts,
) -> Option<Finding> {
    let offset = left_facts.auto_increment_offset;
    let consequence = match role {
        Role::Member { .. } => {
            "after a failover an id that was lost with the old primary can be given out again"
        }
        Role::LinkEnd => "if applications write to both, both give out the same ids",
    };
    (offset == right_facts.auto_increment_offset).then(|| Finding {
        severity: Severity::Warning,
        ..blocking(
            object,
            "SameAutoIncrementOffset",
            format!("both have auto_increment_offset = {offset}: {consequence}"),
            "give each its own: SET GLOBAL auto_increment_offset = <1, 2, ...>; and the same in its \
             configuration",
        )
    })
}

/// `CREATE TABLE` travels as it was written; what it leaves out is filled in on each server.
fn compare_defaults(
    object: &str,
    database: &str,
    one: &TextDefaults,
    other: &TextDefaults,
) -> Option<Finding> {
    if one == other {
        return None;
    }
    let fix = |set: &str| {
        format!(
            "run on the server that is to change: ALTER DATABASE `{}` {set}; (tables that exist \
             keep theirs)",
            database.replace('`', "``")
        )
    };
    let finding = if one.charset == other.charset {
        Finding {
            severity: Severity::Warning,
            check: "DefaultCollation".to_owned(),
            object: object.to_owned(),
            message: format!(
                "the database {database} has the default collations {} and {}: a table made \
                 without naming one may order and compare text differently on each side, in unique \
                 keys too",
                one.collation, other.collation
            ),
            fix: fix("COLLATE <one that both servers know, for example utf8mb4_general_ci>"),
        }
    } else {
        Finding {
            severity: Severity::Blocking,
            check: "DefaultCharset".to_owned(),
            object: object.to_owned(),
            message: format!(
                "the database {database} has the default character sets {} and {}: a table made \
                 without naming one could not hold the same text on each side",
                one.charset, other.charset
            ),
            fix: fix("CHARACTER SET <the other's>"),
        }
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Endpoint, IdcName, TlsSettings};

    fn defaults(charset: &str, collation: &str) -> TextDefaults {
        TextDefaults {
            charset: charset.to_owned(),
            collation: collation.to_owned(),
        }
    }

    #[test]
    fn a_table_gets_the_same_character_set_on_both() {
        let mut other = member("bj", 2);
        let to = |other: &mut (Subject, MemberFacts), charset: &str, collation: &str| {
            let defaults = defaults(charset, collation);
            other.1.defaults.insert("orders".to_owned(), defaults);
        };
        to(&mut other, "latin1", "latin1_swedish_ci");
        let found = compare(&[member("sh", 1), other.clone()]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Blocking);
        assert!(found[0].message.contains("utf8mb4 and latin1"), "{found:?}");
        to(&mut other, "utf8mb4", "utf8mb4_general_ci");
        let found = compare(&[member("sh", 1), other]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Warning);
    }

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
            role: Role::Member {
                max_lag_millis: 5_000,
                unit: None,
            },
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
            defaults: BTreeMap::from([("orders".to_owned(), defaults("utf8mb4", "utf8mb4_bin"))]),
            clock: ClockReading::default(),
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
