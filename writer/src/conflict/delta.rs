//! Counters that several sites add to. Pure.
//!
//! A change of a row says by how much it changed each counter. That is added to what is there, so
//! sites that add at the same time end with the same sum: additions commute, a link applies each
//! change once, and a change that finds its row as it was before adds the same by being applied.
//!
//! The row's other columns are judged as under `Hold`. A change that leaves them as they were touches
//! nothing but counters, whatever somebody else has written into them meanwhile: theirs stay. One that
//! writes them is applied where they are as they were before it and is held anywhere else, its
//! additions too: half of a change would be neither site's. That two sites have written the same into
//! them is no exception, unless the whole row is the same and nothing was added: one of the two may
//! write the former value again, and would meet what it expects.
//!
//! Rows that are put, moved or removed at both ends are held, unless they tell that nothing was added
//! ([`may_be_both`]).
//!
//! Of a column that holds a time the later value stays, whose order commutes as well: most tables have
//! one that every write moves on, and no change would touch nothing but counters otherwise. Where an
//! application sets such a time back, the ends may come to differ in it.
//!
//! `tests` tries it with two sites in every order.

use std::collections::{BTreeMap, BTreeSet};

use change::{ColumnKind, Row, RowChange, TableSchema, Value};

use super::NoOrder;
use super::order::moment;

/// Which columns are counters, by database and table of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Counters {
    /// # Errors
    /// Which of the names is none, as a sentence.
    pub(crate) fn parse(names: &[String]) -> Result<Self, String> {
        let mut counters = Self::default();
        for name in names {
            let parts: Vec<&str> = name.split('.').collect();
            let [database, table, column] = parts[..] else {
                return Err(format!(
                    "conflicts.counters has {name:?}, which is not database.table.column"
                ));
            };
            let tables = counters.0.entry(database.to_owned()).or_default();
            let columns = tables.entry(table.to_owned()).or_default();
            columns.insert(column.to_owned());
        }
        Ok(counters)
    }

    /// Where a table has its counters.
    ///
    /// # Errors
    /// If one of them is no column of it that holds an integer or a time.
    pub(crate) fn of(&self, table: &TableSchema) -> Result<Vec<usize>, NoOrder> {
        let tables = self.0.get(&table.database);
        let named = tables.and_then(|tables| tables.get(&table.table));
        let named = named.into_iter().flatten();
        let find = |column: &String| {
            let mut columns = table.columns.iter();
            let at = columns.position(|it| it.name.eq_ignore_ascii_case(column));
            at.filter(|at| range(table, *at).is_some() || is_time(table, *at))
                .ok_or_else(|| NoOrder::NoCounter {
                    table: table.to_string(),
                    column: column.clone(),
                })
        };
        named.map(find).collect()
    }
}

/// What becomes of the row that is there by a change from `before` to `after`; `None` if a person has
/// to say so.
pub(super) fn sum(
    table: &TableSchema,
    counters: &[usize],
    (before, after): (&Row, &Row),
    there: &Row,
) -> Option<Row> {
    let same = |left: &Row, right: &Row| {
        let mut others = (0..table.columns.len()).filter(|at| !counters.contains(at));
        others.all(|at| left[at] == right[at])
    };
    let adds = counters
        .iter()
        .any(|at| before[*at] != after[*at] && !is_time(table, *at));
    let mut row = if same(before, after) {
        there.clone()
    } else if same(there, before) {
        after.clone()
    } else if there == after && !adds {
        return Some(after.clone());
    } else {
        return None;
    };
    for at in counters {
        row[*at] = add(table, *at, (&before[*at], &after[*at]), &there[*at])?;
    }
    Some(row)
}

/// Whether a change whose result is at the target already may be one of two that both count: each end
/// put the row with a number in it, or moved it and added to it. And whether a removal that finds no row
/// may be of another row than the one that was removed here, which has been put anew meanwhile: rows
/// are told from each other by all of their columns, and times that are counters tell nothing.
pub(super) fn may_be_both(table: &TableSchema, counters: &[usize], change: &RowChange) -> bool {
    let mut numbers = counters.iter().filter(|at| !is_time(table, **at));
    match change {
        RowChange::Insert { after } => {
            numbers.any(|at| number(&after[*at]).is_some_and(|number| number != 0))
        }
        RowChange::Update { before, after } => numbers.any(|at| before[*at] != after[*at]),
        RowChange::Delete { .. } => !counters.is_empty(),
    }
}

fn add(
    table: &TableSchema,
    at: usize,
    (before, after): (&Value, &Value),
    there: &Value,
) -> Option<Value> {
    if before == after {
        return Some(there.clone());
    }
    if before == there {
        return Some(after.clone());
    }
    if is_time(table, at) {
        let later = moment(after) > moment(there);
        return Some(if later { after } else { there }.clone());
    }
    let sum = number(there)? + number(after)? - number(before)?;
    let fits = range(table, at)?.contains(&sum);
    match (fits, there) {
        (true, Value::Int(_)) => i64::try_from(sum).ok().map(Value::Int),
        (true, Value::UInt(_)) => u64::try_from(sum).ok().map(Value::UInt),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::UInt(number) => Some(i128::from(*number)),
        _ => None,
    }
}

fn is_time(table: &TableSchema, at: usize) -> bool {
    use ColumnKind as K;
    matches!(table.columns[at].kind, K::DateTime | K::Timestamp | K::Date)
}

/// What an integer column can hold; `None` for other columns.
fn range(table: &TableSchema, at: usize) -> Option<std::ops::RangeInclusive<i128>> {
    let column = &table.columns[at];
    let bits = match column.kind {
        ColumnKind::TinyInt => 8,
        ColumnKind::SmallInt => 16,
        ColumnKind::MediumInt => 24,
        ColumnKind::Int => 32,
        ColumnKind::BigInt => 64,
        _ => return None,
    };
    Some(if column.unsigned {
        0..=(1_i128 << bits) - 1
    } else {
        -(1_i128 << (bits - 1))..=(1_i128 << (bits - 1)) - 1
    })
}

#[cfg(test)]
mod tests;
