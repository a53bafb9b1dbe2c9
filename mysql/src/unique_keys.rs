//! What makes rows of a table keep out others: its unique keys.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error as DriverError};

use crate::control::identifier;

/// A unique key that is not the primary one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UniqueKey {
    /// Its parts in their order: a column, and how many characters of it count where not all do.
    pub parts: Vec<(String, Option<u64>)>,
    /// A part is an expression, so that which values it holds cannot be told from the columns.
    pub computed: bool,
}

impl UniqueKey {
    /// The condition for rows that hold the same values of this key, given as literals of its columns.
    /// `None`: it cannot be told.
    pub fn held(&self, literals: &[String]) -> Option<String> {
        if self.computed || self.parts.is_empty() || literals.len() != self.parts.len() {
            return None;
        }
        let parts = self.parts.iter().zip(literals);
        let parts: Vec<String> = parts
            .map(|((column, prefix), literal)| {
                let name = identifier(column);
                match prefix {
                    Some(length) => begins_alike(&name, literal, *length),
                    None => format!("{name} = {literal}"),
                }
            })
            .collect();
        Some(parts.join(" AND "))
    }
}

/// The condition for a column's values that begin as a literal does. The server finds them by the key
/// with the first half of it, which alone knows no characters that count as several (`ß` as `ss`).
fn begins_alike(name: &str, literal: &str, length: u64) -> String {
    let begin = format!("LEFT({literal}, {length})");
    let escaped = ["|", "%", "_"].iter().fold(begin.clone(), |text, special| {
        format!("REPLACE({text}, '{special}', '|{special}')")
    });
    format!("{name} LIKE CONCAT({escaped}, '%') ESCAPE '|' AND LEFT({name}, {length}) = {begin}")
}

/// The unique keys of a table but the primary one.
///
/// # Errors
/// The server's.
pub async fn of(
    conn: &mut Conn,
    database: &str,
    table: &str,
) -> Result<Vec<UniqueKey>, DriverError> {
    let parts: Vec<(String, Option<String>, Option<u64>)> = conn
        .exec(
            "SELECT CAST(index_name AS CHAR), CAST(column_name AS CHAR), \
             CAST(sub_part AS UNSIGNED) FROM information_schema.statistics \
             WHERE table_schema = ? AND table_name = ? AND non_unique = 0 \
             AND index_name <> 'PRIMARY' ORDER BY index_name, seq_in_index",
            (database, table),
        )
        .await?;
    let mut keys: Vec<(String, UniqueKey)> = Vec::new();
    for (name, column, prefix) in parts {
        if keys.last().is_none_or(|(last, _)| *last != name) {
            keys.push((name, UniqueKey::default()));
        }
        let Some((_, key)) = keys.last_mut() else {
            continue;
        };
        match column {
            Some(column) => key.parts.push((column, prefix)),
            None => key.computed = true,
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_where_all_its_parts_are_equal() {
        let key = |parts: &[(&str, Option<u64>)]| UniqueKey {
            parts: parts
                .iter()
                .map(|(name, of)| ((*name).to_owned(), *of))
                .collect(),
            computed: false,
        };
        let literals = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            key(&[("a", None), ("b", Some(3))]).held(&literals(&["1", "'xyz'"])),
            Some(
                "`a` = 1 AND `b` LIKE CONCAT(REPLACE(REPLACE(REPLACE(LEFT('xyz', 3), '|', '||'), '%', \
                 '|%'), '_', '|_'), '%') ESCAPE '|' AND LEFT(`b`, 3) = LEFT('xyz', 3)"
                    .to_owned()
            )
        );
        assert_eq!(key(&[("a", None)]).held(&[]), None);
        let computed = UniqueKey {
            computed: true,
            ..key(&[("a", None)])
        };
        assert_eq!(computed.held(&literals(&["1"])), None);
    }
}
