//! The Unit's databases: what in them cannot be copied, or not safely.

use std::collections::BTreeSet;

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::Subject;
use crate::control::{identifier, literal};
use crate::session::{Engine, Session};
use crate::tables::{TableInfo, sequences, tables, versioned};

/// Databases that are the servers' or ours.
const RESERVED: [&str; 5] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "multiactive",
];

/// Looks at every table of the Unit's databases that there is now.
pub(super) async fn check(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let mut findings = databases(session, subject).await?;
    for table in tables(&mut session.conn, &subject.databases).await? {
        findings.extend(of_table(&table));
    }
    for (database, name) in sequences(&mut session.conn, &subject.databases).await? {
        findings.push(Finding {
            severity: Severity::Blocking,
            check: "Sequence".to_owned(),
            object: format!("sequence {database}.{name}"),
            message: "links do not carry sequences yet".to_owned(),
            fix: format!(
                "use AUTO_INCREMENT in its place, then DROP SEQUENCE {}; or move it to a database \
                 outside the Unit, on each member with a start and an increment of its own",
                quoted(&database, &name)
            ),
        });
    }
    for (database, name) in versioned(&mut session.conn, &subject.databases).await? {
        findings.push(Finding {
            severity: Severity::Blocking,
            check: "SystemVersioning".to_owned(),
            object: format!("table {database}.{name}"),
            message: "it is made WITH SYSTEM VERSIONING, and links do not carry former rows"
                .to_owned(),
            fix: format!(
                "ALTER TABLE {} DROP SYSTEM VERSIONING; or move it to a database outside the Unit",
                quoted(&database, &name)
            ),
        });
    }
    findings.extend(triggers(session, subject).await?);
    findings.extend(cascades(session, subject).await?);
    findings.extend(events(session, subject).await?);
    Ok(findings)
}

fn quoted(database: &str, name: &str) -> String {
    format!("{}.{}", identifier(database), identifier(name))
}

/// The databases as a list for `IN (...)`. The literal escapes a backslash, which sessions of other
/// SQL modes would read otherwise, but no database that a Unit may name holds one.
fn list(subject: &Subject) -> String {
    let names: Vec<String> = subject.databases.iter().map(|name| literal(name)).collect();
    if names.is_empty() {
        "''".to_owned()
    } else {
        names.join(", ")
    }
}

async fn databases(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let there: Vec<String> = session
        .conn
        .query(format!(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN ({})",
            list(subject)
        ))
        .await?;
    let there: BTreeSet<String> = there.into_iter().collect();
    let mut findings = Vec::new();
    for database in &subject.databases {
        if RESERVED.contains(&database.to_ascii_lowercase().as_str()) {
            findings.push(Finding {
                severity: Severity::Blocking,
                check: "ReservedDatabase".to_owned(),
                object: format!("database {database}"),
                message: "it belongs to the server or to multiactive and cannot be copied"
                    .to_owned(),
                fix: "take it out of the Unit's spec.databases".to_owned(),
            });
        } else if !there.contains(database) {
            findings.push(Finding {
                severity: Severity::Warning,
                check: "DatabaseMissing".to_owned(),
                object: format!("database {database} on {subject}"),
                message: "it is not there, or the account may not see it; a link makes it when it \
                          copies the first table"
                    .to_owned(),
                fix: format!(
                    "if the name is wrong, correct the Unit's spec.databases; else nothing, or \
                     CREATE DATABASE {};",
                    identifier(database)
                ),
            });
        }
    }
    Ok(findings)
}

/// What can be told of a table by itself. Pure.
fn of_table(table: &TableInfo) -> Vec<Finding> {
    let quoted = quoted(&table.database, &table.table);
    let blocking = |check: &str, message: String, fix: String| Finding {
        severity: Severity::Blocking,
        check: check.to_owned(),
        object: format!("table {}", table.full_name()),
        message,
        fix,
    };
    let mut findings = Vec::new();
    if !table.engine.eq_ignore_ascii_case("InnoDB") {
        findings.push(blocking(
            "TableEngine",
            format!("its engine is {}, which has no transactions", table.engine),
            format!("ALTER TABLE {quoted} ENGINE = InnoDB;"),
        ));
    }
    if table.key.is_empty() {
        findings.push(blocking(
            "TableWithoutKey",
            "it has no primary key and no unique key without NULL, so its rows cannot be told apart"
                .to_owned(),
            format!(
                "ALTER TABLE {quoted} ADD PRIMARY KEY (<columns>); or ALTER TABLE {quoted} ADD \
                 COLUMN id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY;"
            ),
        ));
    }
    for column in &table.columns {
        if column.column.is_err() {
            findings.push(blocking(
                "ColumnType",
                format!(
                    "its column {} has the type {}, which links do not carry yet",
                    column.name, column.declared
                ),
                format!(
                    "change the column's type: ALTER TABLE {quoted} MODIFY {} <type>; or move the \
                     table to a database outside the Unit",
                    identifier(&column.name)
                ),
            ));
        }
    }
    findings
}

async fn triggers(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let rows: Vec<(String, String, String)> = session
        .conn
        .query(format!(
            "SELECT event_object_schema, event_object_table, trigger_name \
             FROM information_schema.triggers WHERE event_object_schema IN ({}) \
             ORDER BY 1, 2, 3",
            list(subject)
        ))
        .await?;
    let finding = |(database, table, trigger): (String, String, String)| Finding {
        severity: Severity::Blocking,
        check: "Trigger".to_owned(),
        object: format!("table {database}.{table}"),
        message: format!(
            "it has the trigger {trigger}, whose effects arrive from the primary as rows of their \
             own and would happen a second time when those rows are applied here"
        ),
        fix: format!(
            "DROP TRIGGER {}; and do its work in the application",
            quoted(&database, &trigger)
        ),
    };
    Ok(rows.into_iter().map(finding).collect())
}

/// Cascades are carried by the stream, but a snapshot cannot see those that the binlog leaves out:
/// MariaDB always, MySQL until 9.5 (there the engine carries them out below the binlog).
async fn cascades(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let version = session.version();
    if version.engine == Engine::MySql && version.number >= (9, 6, 0) {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, String, String)> = session
        .conn
        .query(format!(
            "SELECT constraint_schema, table_name, constraint_name \
             FROM information_schema.referential_constraints WHERE constraint_schema IN ({}) \
             AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL')) \
             ORDER BY 1, 2, 3",
            list(subject)
        ))
        .await?;
    let finding = |(database, table, key): (String, String, String)| Finding {
        severity: Severity::Warning,
        check: "CascadingForeignKey".to_owned(),
        object: format!("table {database}.{table}"),
        message: format!(
            "its foreign key {key} has CASCADE or SET NULL, and {version} leaves what that does out \
             of its binlog: changes are carried, but rows that exist already cannot be copied while \
             they change"
        ),
        fix: format!(
            "ALTER TABLE {} DROP FOREIGN KEY {}; and add it again without CASCADE and SET NULL; or \
             copy the table's rows by hand while nothing is written",
            quoted(&database, &table),
            identifier(&key)
        ),
    };
    Ok(rows.into_iter().map(finding).collect())
}

/// What is wrong with an event that is enabled.
const EVENT: &str = "it is enabled here, and links do not see to it that an event runs on the \
     primary only: enabled on several members it runs on each (read_only stops it, unless its \
     definer passes that by), enabled on one it stops with that member; and it is no session that \
     could be kept out, so while a fence waits for a long statement to be taken back it may write \
     what the other members never see";

async fn events(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let rows: Vec<(String, String)> = session
        .conn
        .query(format!(
            "SELECT event_schema, event_name FROM information_schema.events \
             WHERE event_schema IN ({}) AND status = 'ENABLED' ORDER BY 1, 2",
            list(subject)
        ))
        .await?;
    let finding = |(database, event): (String, String)| Finding {
        severity: Severity::Warning,
        check: "ServerEvent".to_owned(),
        object: format!("event {database}.{event}"),
        message: EVENT.to_owned(),
        fix: format!(
            "run it from outside the server against the Unit's write address; or SET SESSION \
             sql_log_bin = 0; ALTER EVENT {} DISABLE; on all members but one",
            quoted(&database, &event)
        ),
    };
    Ok(rows.into_iter().map(finding).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::ColumnInfo;

    #[test]
    fn a_table_is_told_everything_that_is_wrong_with_it() {
        let mut table = TableInfo {
            database: "orders".into(),
            table: "log".into(),
            engine: "MyISAM".into(),
            rows_estimate: 0,
            row_bytes_estimate: 0,
            columns: vec![ColumnInfo {
                column: Err("inet6".into()),
                name: "from".into(),
                character_set: String::new(),
                declared: "inet6".into(),
                generated: false,
            }],
            key: vec![],
            key_is_primary: false,
        };
        let found = of_table(&table);
        let checks: Vec<&str> = found.iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(checks, ["TableEngine", "TableWithoutKey", "ColumnType"]);
        assert_eq!(found[0].fix, "ALTER TABLE `orders`.`log` ENGINE = InnoDB;");
        assert!(found[2].message.contains("inet6") && found[2].fix.contains("`from`"));
        table.engine = "InnoDB".into();
        table.key = vec![0];
        table.columns.clear();
        assert_eq!(of_table(&table), vec![]);
    }
}
