//! Foreign keys that change rows by themselves.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error as DriverError};

use crate::session::Engine;

/// A foreign key with CASCADE, SET NULL or SET DEFAULT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActingKey {
    /// Database and table that have it.
    pub from: (String, String),
    /// Those that it refers to.
    pub to: (String, String),
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

/// All such keys of a server.
///
/// # Errors
/// The server's.
pub async fn acting(conn: &mut Conn) -> Result<Vec<ActingKey>, DriverError> {
    let keys: Vec<(String, String, String, String)> = conn
        .query(
            "SELECT CAST(constraint_schema AS CHAR), CAST(table_name AS CHAR), \
             CAST(unique_constraint_schema AS CHAR), CAST(referenced_table_name AS CHAR) \
             FROM information_schema.referential_constraints \
             WHERE delete_rule NOT IN ('RESTRICT', 'NO ACTION') \
             OR update_rule NOT IN ('RESTRICT', 'NO ACTION')",
        )
        .await?;
    let key = |(database, table, to_database, to_table)| ActingKey {
        from: (database, table),
        to: (to_database, to_table),
    };
    Ok(keys.into_iter().map(key).collect())
}
