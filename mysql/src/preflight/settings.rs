//! The server's settings: a pure judgement of its global variables.

use std::collections::BTreeMap;

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::{Role, Subject};
use crate::session::{Engine, ServerVersion, Session};

/// Global variables by lower-case name.
type Variables = BTreeMap<String, String>;

/// A variable that must or should have a value.
struct Rule {
    variable: &'static str,
    engine: Option<Engine>,
    value: &'static str,
    severity: Severity,
    check: &'static str,
    /// Whether `SET` can change it while the server runs.
    at_run_time: bool,
    /// What happens otherwise.
    otherwise: &'static str,
}

const fn must(
    check: &'static str,
    variable: &'static str,
    value: &'static str,
    otherwise: &'static str,
) -> Rule {
    let severity = Severity::Blocking;
    Rule {
        variable,
        engine: None,
        value,
        severity,
        check,
        at_run_time: true,
        otherwise,
    }
}

/// The check of a setting without which a server would not come up fenced.
const BOOTS: &str = "PersistedSettings";

/// The checks of the settings by which a server keeps what it has acknowledged.
const KEEPS: [&str; 2] = ["SyncBinlog", "InnodbFlush"];

/// The check of how names of tables are kept.
const NAMES: &str = "LowerCaseTableNames";

const RULES: &[Rule] = &[
    Rule {
        at_run_time: false,
        ..must(
            "LogBin",
            "log_bin",
            "ON",
            "there is nothing that a link could read",
        )
    },
    Rule {
        at_run_time: false,
        ..must(
            NAMES,
            "lower_case_table_names",
            "0",
            "the server takes Orders and orders for one name while links take them for two, since \
             its binlog has statements as their writers spelled them, so a statement on a copied \
             table could be passed over",
        )
    },
    must(
        "BinlogFormat",
        "binlog_format",
        "ROW",
        "changes would be logged as statements",
    ),
    must(
        "BinlogRowImage",
        "binlog_row_image",
        "FULL",
        "changed rows would be logged in part",
    ),
    must(
        "BinlogRowMetadata",
        "binlog_row_metadata",
        "FULL",
        "rows would be logged without column names and signs",
    ),
    Rule {
        engine: Some(Engine::MySql),
        ..must(
            "GtidMode",
            "gtid_mode",
            "ON",
            "transactions would have no identity",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        ..must(
            "GtidConsistency",
            "enforce_gtid_consistency",
            "ON",
            "statements without a GTID would be accepted",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        ..must(
            "PartialJson",
            "binlog_row_value_options",
            "",
            "changed JSON values would be logged in part",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        at_run_time: false,
        ..must(
            "PerformanceSchema",
            "performance_schema",
            "ON",
            "a running guard could not be seen, since the process list is read there",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        ..must(
            "SuperReadOnly",
            "super_read_only",
            "OFF",
            "nobody could write, the product itself included",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        at_run_time: false,
        ..must(
            BOOTS,
            "persisted_globals_load",
            "ON",
            "the server would start writable after a crash, whatever is persisted",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        severity: Severity::Warning,
        ..must(
            "BinlogOrderCommits",
            "binlog_order_commits",
            "ON",
            "rows can become visible before their place in the binlog, and a snapshot is refused",
        )
    },
    Rule {
        engine: Some(Engine::MySql),
        severity: Severity::Warning,
        at_run_time: false,
        ..must(
            "LogReplicaUpdates",
            "log_replica_updates",
            "ON",
            "what native replication brings here goes no further",
        )
    },
    Rule {
        engine: Some(Engine::MariaDb),
        severity: Severity::Warning,
        at_run_time: false,
        ..must(
            "LogReplicaUpdates",
            "log_slave_updates",
            "ON",
            "what native replication brings here goes no further",
        )
    },
    Rule {
        engine: Some(Engine::MariaDb),
        severity: Severity::Warning,
        ..must(
            "GtidStrictMode",
            "gtid_strict_mode",
            "ON",
            "transactions can be logged out of order within a domain",
        )
    },
    must(
        KEEPS[0],
        "sync_binlog",
        "1",
        "a crash of the machine can lose transactions that were acknowledged and that others already \
         have, the server then gives out their numbers again, and links from here halt",
    ),
    must(
        KEEPS[1],
        "innodb_flush_log_at_trx_commit",
        "1",
        "a crash of the machine can lose transactions that were acknowledged",
    ),
];

const OTHERS: [&str; 6] = [
    "server_id",
    "auto_increment_increment",
    "offline_mode",
    "gtid_domain_id",
    "event_scheduler",
    "read_only",
];

/// Reads the variables and judges them.
pub(super) async fn check(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let names: Vec<String> = RULES
        .iter()
        .map(|rule| rule.variable)
        .chain(OTHERS)
        .map(|name| format!("'{name}'"))
        .collect();
    let rows: Vec<(String, String)> = session
        .conn
        .query(format!(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})",
            names.join(", ")
        ))
        .await?;
    let variables = rows
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut findings = version(session.version(), subject);
    findings.extend(judge(session.engine(), &variables, subject));
    Ok(findings)
}

fn version(version: ServerVersion, subject: &Subject) -> Vec<Finding> {
    let (oldest, name) = match version.engine {
        Engine::MySql => ((8, 4, 0), "MySQL 8.4"),
        Engine::MariaDb => ((10, 6, 0), "MariaDB 10.6"),
    };
    if version.number >= oldest {
        return Vec::new();
    }
    vec![Finding {
        severity: Severity::Blocking,
        check: "Version".to_owned(),
        object: subject.to_string(),
        message: format!("the server is {version}; supported is {name} and later"),
        fix: format!("upgrade the server to {name} or later"),
    }]
}

fn judge(engine: Engine, variables: &Variables, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, check: &str, message: String, fix: String| {
        let (check, object) = (check.to_owned(), subject.to_string());
        findings.push(Finding {
            severity,
            check,
            object,
            message,
            fix,
        });
    };
    for rule in RULES {
        // A variable that a newer version no longer has, has the value that it was last allowed.
        let Some(value) = variables.get(rule.variable) else {
            continue;
        };
        if rule.engine.is_some_and(|of| of != engine) || is(value, rule.value) {
            continue;
        }
        let severity = match (subject.role == Role::LinkEnd, rule.check) {
            // Nobody fences an end of a link.
            (true, BOOTS) => continue,
            // Its links notice what is lost; a primary would open again without it.
            (true, check) if KEEPS.contains(&check) => Severity::Warning,
            _ => rule.severity,
        };
        let Rule {
            variable,
            otherwise,
            ..
        } = rule;
        let shown = if value.is_empty() { "''" } else { value };
        let message = format!("{variable} is {shown}: {otherwise}");
        find(severity, rule.check, message, fix(engine, rule, value));
    }
    let number = |name: &str| {
        variables
            .get(name)
            .and_then(|value| value.parse::<u64>().ok())
    };
    if number("server_id") == Some(0) {
        let message = "server_id is 0: the server lets nobody read its binlog".to_owned();
        let fix = set(engine, "server_id", "<a number of its own>");
        find(Severity::Blocking, "ServerId", message, fix);
    }
    let step = number("auto_increment_increment").unwrap_or(0);
    if usize::try_from(step).is_ok_and(|step| step < subject.members) {
        let consequence = match subject.role {
            Role::Member { .. } => {
                "after a failover an id that was lost with the old primary can be given out again"
            }
            Role::LinkEnd => "if applications write to more than one, they give out the same ids",
        };
        let message = format!(
            "auto_increment_increment is {step}, and {} servers have these tables: {consequence}",
            subject.members
        );
        let fix = set(
            engine,
            "auto_increment_increment",
            &subject.members.to_string(),
        );
        find(Severity::Warning, "AutoIncrement", message, fix);
    }
    findings
}

fn is(value: &str, wanted: &str) -> bool {
    let plain = |text: &str| match text.to_ascii_uppercase().as_str() {
        "1" | "YES" => "ON".to_owned(),
        "0" | "NO" => "OFF".to_owned(),
        other => other.to_owned(),
    };
    plain(value) == plain(wanted)
}

fn fix(engine: Engine, rule: &Rule, value: &str) -> String {
    if rule.variable == "gtid_mode" {
        // The server takes one step at a time.
        let steps = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
        let from = steps
            .iter()
            .position(|step| step.eq_ignore_ascii_case(value))
            .unwrap_or(0);
        let steps: Vec<String> = steps
            .iter()
            .skip(from + 1)
            .map(|step| format!("SET PERSIST gtid_mode = {step};"))
            .collect();
        return format!(
            "SET PERSIST enforce_gtid_consistency = ON; {}",
            steps.join(" ")
        );
    }
    if rule.check == NAMES && engine == Engine::MySql {
        // The server refuses to start with another value than its data folder was made with.
        return "dump the databases, make the server's data folder anew (mysqld --initialize) with \
                lower_case_table_names = 0 under [mysqld] in its configuration, and load them"
            .to_owned();
    }
    if rule.at_run_time {
        let value = if rule.value.is_empty() {
            "''"
        } else {
            rule.value
        };
        return set(engine, rule.variable, value);
    }
    let option = if rule.variable == "log_bin" {
        "log_bin".to_owned()
    } else {
        format!("{} = {}", rule.variable, rule.value)
    };
    format!("put {option} under [mysqld] in the server's configuration and restart it")
}

/// The statement that sets a variable for now and for later.
fn set(engine: Engine, variable: &str, value: &str) -> String {
    match engine {
        Engine::MySql => format!("SET PERSIST {variable} = {value};"),
        Engine::MariaDb => format!(
            "SET GLOBAL {variable} = {value}; and {variable} = {value} under [mysqld] in the \
             server's configuration. Sessions that are open keep the old value: restart \
             applications' connections"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Endpoint, IdcName, TlsSettings};

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

    fn good(engine: Engine) -> Variables {
        let mut variables: Variables = RULES
            .iter()
            .filter(|rule| rule.engine.is_none_or(|of| of == engine))
            .map(|rule| (rule.variable.to_owned(), rule.value.to_owned()))
            .collect();
        variables.insert("server_id".into(), "7".into());
        variables.insert("auto_increment_increment".into(), "2".into());
        variables
    }

    #[test]
    fn a_server_as_it_should_be_has_no_finding() {
        for engine in [Engine::MySql, Engine::MariaDb] {
            assert_eq!(judge(engine, &good(engine), &subject()), vec![]);
        }
    }

    #[test]
    fn each_setting_is_found_by_itself_with_value_and_fix() {
        for engine in [Engine::MySql, Engine::MariaDb] {
            for rule in RULES
                .iter()
                .filter(|rule| rule.engine.is_none_or(|of| of == engine))
            {
                let mut variables = good(engine);
                variables.insert(rule.variable.to_owned(), "STRANGE".to_owned());
                let found = judge(engine, &variables, &subject());
                assert_eq!(found.len(), 1, "{}: {found:?}", rule.variable);
                assert!(found[0].message.contains("STRANGE"), "{found:?}");
                assert!(found[0].fix.contains(rule.variable), "{found:?}");
            }
        }
    }

    #[test]
    fn a_member_of_a_unit_must_keep_what_it_acknowledged() {
        let end = Subject {
            role: Role::LinkEnd,
            ..subject()
        };
        for variable in ["sync_binlog", "innodb_flush_log_at_trx_commit"] {
            for engine in [Engine::MySql, Engine::MariaDb] {
                let mut variables = good(engine);
                variables.insert(variable.to_owned(), "0".to_owned());
                let severity = |subject: &Subject| judge(engine, &variables, subject)[0].severity;
                assert_eq!(severity(&subject()), Severity::Blocking, "{variable}");
                assert_eq!(severity(&end), Severity::Warning, "{variable}");
            }
        }
    }

    #[test]
    fn gtid_mode_is_reached_step_by_step() {
        let mut variables = good(Engine::MySql);
        variables.insert("gtid_mode".into(), "OFF_PERMISSIVE".into());
        let found = judge(Engine::MySql, &variables, &subject());
        assert_eq!(
            found[0].fix,
            "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = ON_PERMISSIVE; \
             SET PERSIST gtid_mode = ON;"
        );
    }

    #[test]
    fn names_without_case_are_refused() {
        for engine in [Engine::MySql, Engine::MariaDb] {
            for value in ["1", "2"] {
                let mut variables = good(engine);
                variables.insert("lower_case_table_names".into(), value.into());
                let found = judge(engine, &variables, &subject());
                assert_eq!(found.len(), 1);
                assert_eq!(found[0].severity, Severity::Blocking);
                let told = format!("lower_case_table_names is {value}");
                assert!(found[0].message.contains(&told), "{found:?}");
                assert!(
                    found[0].fix.contains("lower_case_table_names = 0"),
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_judged() {
        let mut variables = good(Engine::MariaDb);
        variables.insert("server_id".into(), "0".into());
        variables.insert("auto_increment_increment".into(), "1".into());
        let found = judge(Engine::MariaDb, &variables, &subject());
        let checks: Vec<&str> = found.iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(checks, ["ServerId", "AutoIncrement"]);
        assert!(
            found[1]
                .fix
                .starts_with("SET GLOBAL auto_increment_increment = 2;"),
            "{found:?}"
        );
    }

    #[test]
    fn old_versions_are_refused() {
        let of = |engine, number| version(ServerVersion { engine, number }, &subject());
        assert!(
            of(Engine::MySql, (8, 4, 0)).is_empty() && of(Engine::MariaDb, (10, 6, 1)).is_empty()
        );
        assert!(
            of(Engine::MySql, (8, 0, 40))[0]
                .message
                .contains("MySQL 8.0.40")
        );
        assert_eq!(
            of(Engine::MariaDb, (10, 5, 9))[0].severity,
            Severity::Blocking
        );
    }
}
