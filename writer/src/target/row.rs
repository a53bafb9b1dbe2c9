//! Rows of the target as they are now, in the canonical codec.

use change::{Row, TableSchema, Value};
use mysql_async::prelude::Queryable as _;

use super::session::{Target, failed};
use super::table::Mapping;
use crate::error::WriterError;
use crate::sql::literal::{self, Form};
use crate::sql::plan::{DELETE_KEYS, at_keys, describe_row};

/// Longer values are cut.
const LONGEST: usize = 80;

/// The row with a key, locked, in the canonical codec.
pub(crate) async fn locked(
    target: &mut Target,
    table: &TableSchema,
    mapping: &Mapping,
    place: &Row,
) -> Result<Option<Row>, WriterError> {
    let rows = locked_all(target, table, mapping, &[place]).await?;
    Ok(rows.into_iter().next())
}

/// All rows that have the key of one of these, each once and in no order, locked, in the canonical
/// codec.
pub(crate) async fn locked_all(
    target: &mut Target,
    table: &TableSchema,
    mapping: &Mapping,
    places: &[&Row],
) -> Result<Vec<Row>, WriterError> {
    let doing = format!("reading and locking rows of {table}");
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(mysql::values::expression)
        .collect();
    let mut head = b"SELECT ".to_vec();
    head.extend_from_slice(columns.join(",").as_bytes());
    head.extend_from_slice(b" FROM ");
    literal::table(&mut head, &mapping.database, &mapping.table);
    head.extend_from_slice(b" WHERE ");
    // Strings come as they are stored; numbers and times exactly, by the binary protocol.
    target
        .execute(&doing, b"SET character_set_results=NULL")
        .await?;
    let mut answers = Ok(Vec::new());
    for places in places.chunks(DELETE_KEYS) {
        let mut sql = head.clone();
        at_keys(&mut sql, places, mapping);
        sql.extend_from_slice(b" FOR UPDATE");
        let answer: Result<Vec<mysql_async::Row>, _> = target.conn().exec(sql, ()).await;
        match (&mut answers, answer) {
            (Ok(rows), Ok(more)) => rows.extend(more),
            (_, Err(error)) => {
                answers = Err(error);
                break;
            }
            (Err(_), Ok(_)) => {}
        }
    }
    target
        .execute(&doing, b"SET character_set_results=utf8mb4")
        .await?;
    let rows: Vec<mysql_async::Row> = answers.map_err(|error| failed(&doing, error))?;
    rows.into_iter()
        .map(|row| {
            let values = table.columns.iter().zip(row.unwrap());
            values
                .map(|(column, value)| mysql::values::value(column, value))
                .collect::<Result<Row, _>>()
                .map_err(|misfit| WriterError::Unsupported(format!("{doing}: {misfit}")))
        })
        .collect()
}

/// A row for people.
pub(crate) fn show(row: Option<&Row>, mapping: &Mapping) -> String {
    row.map_or("no row".to_owned(), |row: &Vec<Value>| {
        describe_row(row, mapping, false)
    })
}

/// The columns in which a row is not what it was before a change or became by it, each with its
/// values, for people.
pub(crate) fn differences(
    (before, after): (Option<&Row>, Option<&Row>),
    there: &Row,
    mapping: &Mapping,
) -> String {
    let columns = mapping.columns.iter().filter(|column| {
        let differs = |image: Option<&Row>| {
            image.is_some_and(|image| image[column.index] != there[column.index])
        };
        differs(before) || differs(after)
    });
    let told = columns.map(|column| {
        let text = |row: &Row| text(&row[column.index], column.form);
        let was = before.map(|row| format!("was {}, ", text(row)));
        let became = after.map(|row| format!("became {}, ", text(row)));
        format!(
            "{}: {}{}is {}",
            column.name,
            was.unwrap_or_default(),
            became.unwrap_or_default(),
            text(there)
        )
    });
    told.collect::<Vec<_>>().join("; ")
}

/// A value for people, cut where it is long.
fn text(value: &Value, form: Form) -> String {
    let mut text = Vec::new();
    literal::value(&mut text, value, form);
    change::shown(&text, LONGEST)
}
