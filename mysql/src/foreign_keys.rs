//! Foreign keys that change rows by themselves.

use std::fmt;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error as DriverError, params};

use crate::session::Engine;

/// A foreign key with CASCADE, SET NULL or SET DEFAULT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActingKey {
    /// Database and table that have it.
    pub from: (String, String),
    /// Those that it refers to.
    pub to: (String, String),
    /// Its columns and those that they refer to, in order and in small letters.
    pub columns: Vec<(String, String)>,
    /// What it does when a row is deleted: `NO ACTION` where that is nothing.
    pub on_delete: String,
    /// What it does when a row's key changes.
    pub on_update: String,
}

impl fmt::Display for ActingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((database, table), (to_database, to_table)) = (&self.from, &self.to);
        let columns: Vec<&str> = self.columns.iter().map(|(own, _)| own.as_str()).collect();
        let referred: Vec<&str> = self.columns.iter().map(|(_, to)| to.as_str()).collect();
        write!(
            f,
            "{database}.{table} ({}) to {to_database}.{to_table} ({}) ON DELETE {} ON UPDATE {}",
            columns.join(", "),
            referred.join(", "),
            self.on_delete,
            self.on_update
        )
    }
}

/// Whether a server's binlog holds what such keys do to other rows: on MySQL where foreign keys are the
/// SQL layer's work, from 9.6 on, unless `innodb_native_foreign_keys` is on; on MariaDB never.
///
/// # Errors
/// The server's.
pub async fn are_logged(conn: &mut Conn, engine: Engine) -> Result<bool, DriverError> {
    if engine == Engine::MariaDb {
        return Ok(false);
    }
    let native: Option<String> = conn
        .query_first(
            "SELECT CAST(variable_value AS CHAR) FROM performance_schema.global_variables \
             WHERE variable_name = 'innodb_native_foreign_keys'",
        )
        .await?;
    Ok(native.as_deref() == Some("OFF"))
}

/// One column of such a key.
struct Part {
    name: String,
    database: String,
    table: String,
    to_database: String,
    to_table: String,
    on_delete: String,
    on_update: String,
    own: String,
    referred: String,
}

/// All such keys of the tables of some databases. MariaDB opens each of these tables for it.
///
/// # Errors
/// The server's.
pub async fn acting(conn: &mut Conn, databases: &[String]) -> Result<Vec<ActingKey>, DriverError> {
    let mut keys = Vec::new();
    for database in databases {
        let parts = parts(conn, database).await?;
        let same =
            |one: &Part, other: &Part| (&one.table, &one.name) == (&other.table, &other.name);
        keys.extend(parts.chunk_by(same).filter_map(key_of));
    }
    Ok(keys)
}

/// A unique key may have the name of a foreign one, and refers to nothing.
async fn parts(conn: &mut Conn, database: &str) -> Result<Vec<Part>, DriverError> {
    conn.exec_map(
        "SELECT CAST(r.table_name AS CHAR), CAST(r.constraint_name AS CHAR), \
         CAST(r.unique_constraint_schema AS CHAR), CAST(r.referenced_table_name AS CHAR), \
         CAST(r.delete_rule AS CHAR), CAST(r.update_rule AS CHAR), \
         CAST(k.column_name AS CHAR), CAST(k.referenced_column_name AS CHAR) \
         FROM information_schema.referential_constraints r \
         JOIN information_schema.key_column_usage k ON k.table_name = r.table_name \
         AND k.constraint_name = r.constraint_name \
         WHERE r.constraint_schema = :database AND k.table_schema = :database \
         AND k.referenced_column_name IS NOT NULL \
         AND (r.delete_rule NOT IN ('RESTRICT', 'NO ACTION') \
         OR r.update_rule NOT IN ('RESTRICT', 'NO ACTION')) \
         ORDER BY 1, 2, k.ordinal_position",
        params! { "database" => database },
        |(table, name, to_database, to_table, on_delete, on_update, own, referred)| Part {
            name,
            database: database.to_owned(),
            table,
            to_database,
            to_table,
            on_delete,
            on_update,
            own,
            referred,
        },
    )
    .await
}

fn key_of(parts: &[Part]) -> Option<ActingKey> {
    let key = parts.first()?;
    let column = |part: &Part| (part.own.to_lowercase(), part.referred.to_lowercase());
    // The two differ in nothing on these engines.
    let rule = |rule: &str| rule.replace("RESTRICT", "NO ACTION");
    Some(ActingKey {
        from: (key.database.clone(), key.table.clone()),
        to: (key.to_database.clone(), key.to_table.clone()),
        columns: parts.iter().map(column).collect(),
        on_delete: rule(&key.on_delete),
        on_update: rule(&key.on_update),
    })
}
