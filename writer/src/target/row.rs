//! Rows of the target as they are now, in the canonical codec.

use change::{Row, TableSchema, Value};
use mysql_async::prelude::Queryable as _;

use super::session::{Target, failed};
use super::table::Mapping;
use crate::error::WriterError;
use crate::sql::literal;
use crate::sql::plan::{by_key, describe_row};

/// The row with a key, locked, in the canonical codec.
pub(crate) async fn locked(
    target: &mut Target,
    table: &TableSchema,
    mapping: &Mapping,
    place: &Row,
) -> Result<Option<Row>, WriterError> {
    let doing = format!("reading and locking a row of {table}");
    let mut sql = b"SELECT ".to_vec();
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(mysql::values::expression)
        .collect();
    sql.extend_from_slice(columns.join(",").as_bytes());
    sql.extend_from_slice(b" FROM ");
    literal::table(&mut sql, &mapping.database, &mapping.table);
    sql.extend_from_slice(b" WHERE ");
    by_key(&mut sql, place, mapping);
    sql.extend_from_slice(b" FOR UPDATE");
    // Strings come as they are stored; numbers and times exactly, by the binary protocol.
    target
        .execute(&doing, b"SET character_set_results=NULL")
        .await?;
    let answer: Result<Option<mysql_async::Row>, _> = target.conn().exec_first(sql, ()).await;
    target
        .execute(&doing, b"SET character_set_results=utf8mb4")
        .await?;
    let Some(row) = answer.map_err(|error| failed(&doing, error))? else {
        return Ok(None);
    };
    let values = table.columns.iter().zip(row.unwrap());
    values
        .map(|(column, value)| mysql::values::value(column, value))
        .collect::<Result<Row, _>>()
        .map(Some)
        .map_err(|misfit| WriterError::Unsupported(format!("{doing}: {misfit}")))
}

/// A row for people.
pub(crate) fn show(row: Option<&Row>, mapping: &Mapping) -> String {
    row.map_or("no row".to_owned(), |row: &Vec<Value>| {
        describe_row(row, mapping, false)
    })
}
