//! What the account may do, and which other accounts pass the fence by.

use std::collections::{BTreeMap, BTreeSet};

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::Subject;
use super::roles::{self, ByRole};
use crate::control::literal;
use crate::session::{Engine, Session};

/// Needed everywhere on MySQL, each with what it is for. Tried one by one on 9.7.4.
const MYSQL: &[(&str, &str)] = &[
    ("PROCESS", "to see sessions, guards and open transactions"),
    ("REPLICATION SLAVE", "to read the binlog"),
    (
        "CONNECTION_ADMIN",
        "to pass read_only and offline_mode by, and to end sessions",
    ),
    (
        "SYSTEM_VARIABLES_ADMIN",
        "to set read_only, offline_mode and sql_log_bin",
    ),
    (
        "PERSIST_RO_VARIABLES_ADMIN",
        "to make the server start with read_only",
    ),
    (
        "REPLICATION_APPLIER",
        "to give applied statements the GTIDs of their source",
    ),
    (
        "TRANSACTION_GTID_TAG",
        "to mark applied transactions with their origin",
    ),
    ("XA_RECOVER_ADMIN", "to see prepared XA transactions"),
];
/// Needed everywhere on MariaDB, each with what it is for. Tried one by one on 10.11.19.
const MARIADB: &[(&str, &str)] = &[
    ("PROCESS", "to see sessions, guards and open transactions"),
    ("REPLICATION SLAVE", "to read the binlog"),
    (
        "CONNECTION ADMIN",
        "to get in when connections have run out, to keep others out, and to end sessions",
    ),
    ("READ_ONLY ADMIN", "to set read_only and to pass it by"),
    ("BINLOG ADMIN", "to set sql_log_bin"),
    (
        "BINLOG REPLAY",
        "to mark applied transactions with their origin (gtid_domain_id)",
    ),
];
/// Whoever holds it on MariaDB gets in where `init_connect` keeps ordinary sessions out.
const ENTERS: &str = "CONNECTION ADMIN";
/// Needed on the schema of our own.
const OWN: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EXECUTE",
];
/// Needed on each database of the Unit: to copy rows and statements, and to see what the checks
/// look for (triggers and events show only to those who may change them).
const DATA: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "INDEX",
    "REFERENCES",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "TRIGGER",
    "EVENT",
];
/// Accounts that the servers make for themselves.
const SYSTEM_ACCOUNTS: [&str; 4] = [
    "'mysql.session'@",
    "'mysql.infoschema'@",
    "'mysql.sys'@",
    "'mariadb.sys'@",
];

/// What `SHOW GRANTS` says, by where it holds: `*` for everywhere, else the database as a pattern
/// of the server's (`%`, `_`, `\`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grants(BTreeMap<String, BTreeSet<String>>);

impl Grants {
    /// Reads one line of `SHOW GRANTS`. Grants on single tables and routines are left out, as are
    /// roles (their own grants are in lines of their own).
    pub(super) fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("GRANT ") else {
            return;
        };
        let Some((privileges, rest)) = rest.split_once(" ON ") else {
            return;
        };
        let Some((object, _)) = rest.split_once(" TO ") else {
            return;
        };
        let Some(scope) = scope(object) else { return };
        let held = self.0.entry(scope).or_default();
        for privilege in outside_parentheses(privileges) {
            held.insert(privilege.trim().to_ascii_uppercase());
        }
    }

    pub(super) fn holds(&self, privilege: &str, database: Option<&str>) -> bool {
        self.0.iter().any(|(scope, held)| {
            let reaches = scope == "*" || database.is_some_and(|database| matches(scope, database));
            // ALL on everything holds the static ones only on MySQL, where the dynamic ones are
            // listed beside it; on MariaDB the others are part of ALL.
            reaches && (held.contains(privilege) || held.contains("ALL PRIVILEGES"))
        })
    }
}

/// `*.*` becomes `*`, and `` `name`.* `` the name.
fn scope(object: &str) -> Option<String> {
    let database = object.strip_suffix(".*")?;
    if database == "*" {
        return Some("*".to_owned());
    }
    let name = database.strip_prefix('`')?.strip_suffix('`')?;
    Some(name.replace("``", "`"))
}

fn outside_parentheses(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, character) in list.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    // A grant on columns is not the privilege.
    parts.retain(|part| !part.contains('('));
    parts
}

/// Whether a database's name fits the pattern of a grant.
fn matches(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('%', rest)) => (0..=name.len()).any(|from| fits(rest, &name[from..])),
            Some(('\\', rest)) if !rest.is_empty() => {
                name.first() == rest.first() && fits(&rest[1..], &name[1..])
            }
            Some(('_', rest)) => !name.is_empty() && fits(rest, &name[1..]),
            Some((first, rest)) => name.first() == Some(first) && fits(rest, &name[1..]),
        }
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    fits(&chars(pattern), &chars(name))
}

/// Reads the account's grants, those of its active roles included, and says what is missing.
pub(super) async fn missing(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let engine = session.engine();
    let account: Option<(String, Option<String>)> = session
        .conn
        .query_first("SELECT CURRENT_USER(), CURRENT_ROLE()")
        .await?;
    let (account, role) = account.unwrap_or_default();
    let role = role.filter(|role| !role.is_empty() && role != "NONE");
    let show = match (engine, role) {
        // MariaDB lists the current role's grants by itself.
        (Engine::MySql, Some(role)) => format!("SHOW GRANTS FOR CURRENT_USER() USING {role}"),
        _ => "SHOW GRANTS".to_owned(),
    };
    let lines: Vec<String> = session.conn.query(show).await?;
    let mut grants = Grants::default();
    for line in &lines {
        grants.add(line);
    }
    Ok(judge(engine, subject, &account, &grants))
}

fn judge(engine: Engine, subject: &Subject, account: &str, grants: &Grants) -> Vec<Finding> {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    let account = format!("'{user}'@'{host}'");
    let lack = |privilege: &str, on: &str, purpose: &str| Finding {
        severity: Severity::Blocking,
        check: "Privilege".to_owned(),
        object: subject.to_string(),
        message: format!("the account {account} lacks {privilege} on {on}, {purpose}"),
        fix: format!("GRANT {privilege} ON {on} TO {account};"),
    };
    let global = match engine {
        Engine::MySql => MYSQL,
        Engine::MariaDb => MARIADB,
    };
    let mut findings: Vec<Finding> = global
        .iter()
        .filter(|(privilege, _)| !grants.holds(privilege, None))
        .map(|(privilege, purpose)| lack(privilege, "*.*", purpose))
        .collect();
    let data = subject
        .databases
        .iter()
        .map(|database| (database.as_str(), DATA));
    for (database, needed) in [("multiactive", OWN)].into_iter().chain(data) {
        let on = format!("`{}`.*", database.replace('`', "``"));
        let missing: Vec<&str> = needed
            .iter()
            .copied()
            .filter(|privilege| !grants.holds(privilege, Some(database)))
            .collect();
        if missing.len() == needed.len() {
            let nothing = Finding {
                message: format!(
                    "the account {account} holds nothing on {on}; or the database is called \
                     otherwise, and spec.databases is wrong"
                ),
                ..lack(&needed.join(", "), &on, "")
            };
            findings.push(nothing);
        } else {
            let purpose = "to copy what is in it, or to keep books there";
            findings.extend(
                missing
                    .iter()
                    .map(|privilege| lack(privilege, &on, purpose)),
            );
        }
    }
    let definer = match engine {
        Engine::MySql => "SET_ANY_DEFINER",
        Engine::MariaDb => "SET USER",
    };
    if !grants.holds(definer, None) {
        findings.push(Finding {
            severity: Severity::Warning,
            message: format!(
                "the account {account} lacks {definer}: a link halts when it meets the statement \
                 that makes a view, trigger or routine of another account"
            ),
            ..lack(definer, "*.*", "")
        });
    }
    findings
}

/// The accounts, other than ours, that `read_only` does not stop. Nobody who administers the
/// server on its own machine as `root` (or, in Debian's MariaDB, as `mysql`) is named.
pub(super) async fn bypassing(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let privileges = match session.engine() {
        Engine::MySql => &["SUPER", "CONNECTION_ADMIN"][..],
        // SUPER implied the second one until 10.10. The third one passes `init_connect` by.
        Engine::MariaDb => &["SUPER", "READ_ONLY ADMIN", ENTERS][..],
    };
    let literals: Vec<String> = privileges.iter().copied().map(literal).collect();
    let list = literals.join(", ");
    let accounts: Vec<(String, String)> = session
        .conn
        .query(format!(
            "SELECT grantee, GROUP_CONCAT(privilege_type ORDER BY privilege_type SEPARATOR ', ') \
             FROM information_schema.user_privileges WHERE privilege_type IN ({list}) \
             GROUP BY grantee ORDER BY grantee"
        ))
        .await?;
    let own: Option<String> = session
        .conn
        .query_first("SELECT CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')")
        .await?;
    let own = own.unwrap_or_default();
    let sees_all: Option<u64> = session
        .conn
        .query_first("SELECT COUNT(DISTINCT grantee) > 1 FROM information_schema.user_privileges")
        .await?;
    if sees_all != Some(1) {
        return Ok(vec![Finding {
            severity: Severity::Warning,
            check: "AccountsNotSeen".to_owned(),
            object: subject.to_string(),
            message: format!(
                "the account {own} may not see other accounts' privileges, so it is not known \
                 whether applications can write past read_only"
            ),
            fix: format!("GRANT SELECT ON `mysql`.* TO {own};"),
        }]);
    }
    let by_role = match session.engine() {
        // Roles are accounts there, and listed with what they hold.
        Engine::MySql => Vec::new(),
        Engine::MariaDb => roles::holding(session, privileges).await?,
    };
    let direct = accounts
        .into_iter()
        .filter(|(account, _)| *account != own && !is_expected(account))
        .map(|(account, held)| {
            let revoke = format!("REVOKE {held} ON *.* FROM {account};");
            let who = format!("the account {account} holds {held}");
            passes(subject, &who, &held, &revoke)
        });
    let through = by_role
        .iter()
        .filter(|found| found.account != own && !is_expected(&found.account))
        .map(|found| {
            let ByRole {
                account,
                role,
                held,
            } = found;
            let revoke = if account == role {
                format!("REVOKE {held} ON *.* FROM {role};")
            } else {
                let role = format!("`{}`", role.replace('`', "``"));
                format!("REVOKE {role} FROM {account}; or REVOKE {held} ON *.* FROM {role};")
            };
            let who = format!("the account {account} holds {held} through the role {role}");
            passes(subject, &who, held, &revoke)
        });
    Ok(direct.chain(through).collect())
}

fn passes(subject: &Subject, who: &str, held: &str, revoke: &str) -> Finding {
    let message = if held == ENTERS {
        format!(
            "{who}: it gets in while the server is being closed, so while a long statement is \
             rolled back it may write what is never seen by the others"
        )
    } else {
        format!(
            "{who}: read_only does not stop it, so what it writes on a fenced member is never seen \
             by the others"
        )
    };
    Finding {
        severity: Severity::Warning,
        check: "PassesReadOnly".to_owned(),
        object: subject.to_string(),
        message,
        fix: format!("{revoke} if an application uses it, else see to it that only people do"),
    }
}

fn is_expected(account: &str) -> bool {
    SYSTEM_ACCOUNTS
        .iter()
        .any(|system| account.starts_with(system))
        || ["localhost", "127.0.0.1", "::1"].iter().any(|host| {
            account == format!("'root'@'{host}'") || account == format!("'mysql'@'{host}'")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Role;
    use model::{Endpoint, IdcName, TlsSettings};

    fn grants(lines: &[&str]) -> Grants {
        let mut grants = Grants::default();
        for line in lines {
            grants.add(line);
        }
        grants
    }

    fn subject() -> Subject {
        Subject {
            idc: IdcName::new("sh").unwrap(),
            endpoint: Endpoint {
                host: "db".into(),
                port: 3306,
                tls: TlsSettings::default(),
            },
            databases: vec!["orders".into()],
            members: 2,
            role: Role::Member {
                max_lag_millis: 5_000,
                unit: None,
            },
        }
    }

    #[test]
    fn grants_are_read_as_servers_print_them() {
        let held = grants(&[
            "GRANT PROCESS, REPLICATION SLAVE ON *.* TO `n`@`%` IDENTIFIED BY PASSWORD '*6F'",
            "GRANT SELECT, INSERT (`a`, `b`), UPDATE ON `ord\\_rs`.* TO `n`@`%`",
            "GRANT SELECT ON `x`.`t` TO `n`@`%`",
            "GRANT `role`@`%` TO `n`@`%`",
        ]);
        assert!(held.holds("PROCESS", None) && held.holds("REPLICATION SLAVE", Some("any")));
        assert!(held.holds("UPDATE", Some("ord_rs")) && !held.holds("UPDATE", Some("orders")));
        assert!(
            !held.holds("INSERT", Some("ord_rs")),
            "a grant on columns was taken for more"
        );
        assert!(!held.holds("SELECT", Some("x")) && !held.holds("SELECT", None));
    }

    #[test]
    fn patterns_fit_as_in_the_server() {
        assert!(matches("orders", "orders") && !matches("orders", "orders2"));
        assert!(matches("shop%", "shop") && matches("shop%", "shop_eu") && matches("a_c", "abc"));
        assert!(!matches("a\\_c", "abc") && matches("a\\_c", "a_c"));
    }

    #[test]
    fn each_missing_privilege_comes_with_its_statement() {
        let all = grants(&[
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, \
             CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, TRIGGER, EVENT, \
             PROCESS ON *.* TO `n`@`%`",
            "GRANT CONNECTION_ADMIN,SYSTEM_VARIABLES_ADMIN,PERSIST_RO_VARIABLES_ADMIN,\
             REPLICATION_APPLIER,TRANSACTION_GTID_TAG,XA_RECOVER_ADMIN,SET_ANY_DEFINER \
             ON *.* TO `n`@`%`",
        ]);
        let found = judge(Engine::MySql, &subject(), "n@%", &all);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].fix, "GRANT REPLICATION SLAVE ON *.* TO 'n'@'%';");
        let none = judge(Engine::MariaDb, &subject(), "n@%", &Grants::default());
        // One for each database on which nothing is granted, so that it is one statement to run.
        assert_eq!(none.len(), MARIADB.len() + 2 + 1);
        let of = |start: &str| none.iter().any(|finding| finding.fix.starts_with(start));
        assert!(
            of("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX"),
            "{none:?}"
        );
        let some = grants(&["GRANT SELECT ON `orders`.* TO `n`@`%`"]);
        let some = judge(Engine::MariaDb, &subject(), "n@%", &some);
        assert!(
            some.iter()
                .any(|f| f.fix == "GRANT TRIGGER ON `orders`.* TO 'n'@'%';")
        );
    }

    #[test]
    fn all_privileges_are_all() {
        let all = grants(&["GRANT ALL PRIVILEGES ON *.* TO `n`@`%` WITH GRANT OPTION"]);
        assert_eq!(judge(Engine::MariaDb, &subject(), "n@%", &all), vec![]);
    }
}
