//! Which of two rows was written last: by a column, then by the priority of their IDCs, then by their
//! bytes. Pure.

use std::cmp::Ordering;

use change::{ColumnKind, Row, TableSchema, Value, encode_row};

use super::Side;

/// Why rows cannot be put in order by a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoOrder {
    #[error("table {table} has no column {column}, by which the last write is to win")]
    Missing { table: String, column: String },
    #[error(
        "column {column} of table {table} is neither a time nor an integer, so it does not tell \
         which write was the last"
    )]
    Kind { table: String, column: String },
    #[error(
        "column {column} of table {table} is to be a counter, and is no column of it that holds an integer \
         or a time"
    )]
    NoCounter { table: String, column: String },
}

/// The side of the higher priority.
pub(super) fn higher(source: u32, target: u32) -> Option<Side> {
    match source.cmp(&target) {
        Ordering::Greater => Some(Side::Source),
        Ordering::Less => Some(Side::Target),
        Ordering::Equal => None,
    }
}

/// Whose row is the later one.
pub(super) fn last(
    table: &TableSchema,
    column: &str,
    tie: Option<Side>,
    source: &Row,
    target: &Row,
) -> Result<Side, NoOrder> {
    let at = column_index(table, column)?;
    let order = moment(&source[at]).cmp(&moment(&target[at]));
    Ok(match (order, tie) {
        (Ordering::Greater, _) => Side::Source,
        (Ordering::Less, _) => Side::Target,
        (Ordering::Equal, Some(side)) => side,
        (Ordering::Equal, None) => {
            let bytes = |row: &Row| {
                let mut bytes = Vec::new();
                encode_row(row, &mut bytes);
                bytes
            };
            if bytes(source) > bytes(target) {
                Side::Source
            } else {
                Side::Target
            }
        }
    })
}

/// The column by which rows are ordered.
pub(super) fn column_index(table: &TableSchema, column: &str) -> Result<usize, NoOrder> {
    use ColumnKind as K;
    let named = |of_table: &change::Column| of_table.name.eq_ignore_ascii_case(column);
    let (table_name, column) = (table.to_string(), column.to_owned());
    let Some(at) = table.columns.iter().position(named) else {
        return Err(NoOrder::Missing {
            table: table_name,
            column,
        });
    };
    match table.columns[at].kind {
        K::TinyInt
        | K::SmallInt
        | K::MediumInt
        | K::Int
        | K::BigInt
        | K::DateTime
        | K::Timestamp
        | K::Date => Ok(at),
        _ => Err(NoOrder::Kind {
            table: table_name,
            column,
        }),
    }
}

/// A value of such a column in an order in which `NULL` comes before everything. Values of one
/// column are of one kind, so kinds are never compared.
pub(super) fn moment(value: &Value) -> (u16, u8, u8, i128) {
    match value {
        Value::Int(number) | Value::Timestamp(number) => (0, 0, 0, i128::from(*number)),
        Value::UInt(number) => (0, 0, 0, i128::from(*number)),
        Value::Date(day) => (day.year, day.month, day.day, 0),
        Value::DateTime(time) => {
            let clock = (u64::from(time.hour) * 60 + u64::from(time.minute)) * 60;
            let micros = (clock + u64::from(time.second)) * 1_000_000 + u64::from(time.micros);
            (
                time.date.year,
                time.date.month,
                time.date.day,
                i128::from(micros),
            )
        }
        _ => (0, 0, 0, i128::MIN),
    }
}
