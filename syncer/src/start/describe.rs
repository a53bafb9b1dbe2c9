//! How the source's tables are made, and whether two descriptions agree.

use change::SnapshotTable;
use mysql::tables::TableInfo;

use crate::error::PullError;
use crate::source::Source;

/// Describes tables.
pub(super) async fn how_made(
    source: &mut Source,
    tables: &[&TableInfo],
) -> Result<Vec<SnapshotTable>, PullError> {
    let mut made = Vec::with_capacity(tables.len());
    for table in tables {
        // One that is gone by now is met again as a DROP in the stream.
        made.extend(source.how_made(table).await?);
    }
    Ok(made)
}

/// Whether two descriptions are the same but for counters that move with every row.
pub(super) fn same(left: &[SnapshotTable], right: &[SnapshotTable]) -> bool {
    let key = |table: &SnapshotTable| {
        let statement = without_counter(&table.create_statement);
        (
            table.database.clone(),
            table.table.clone(),
            statement,
            table.create_database.clone(),
        )
    };
    left.iter().map(key).eq(right.iter().map(key))
}

/// Without the table option `AUTO_INCREMENT=n`, which stands behind the last parenthesis of the
/// columns, on the last line or the one of the options.
fn without_counter(statement: &str) -> String {
    let options = statement.rfind("\n)").unwrap_or(0);
    let (columns, options) = statement.split_at(options);
    match options.split_once(" AUTO_INCREMENT=") {
        None => statement.to_owned(),
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{columns}{before}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_a_table_is_not_a_change_of_it() {
        let table = |n| {
            format!(
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB AUTO_INCREMENT={n} DEFAULT CHARSET=utf8mb4"
            )
        };
        assert_eq!(without_counter(&table(5)), without_counter(&table(77)));
        let commented =
            "CREATE TABLE `t` (\n  `a` int COMMENT ' AUTO_INCREMENT=5'\n) ENGINE=InnoDB";
        assert_eq!(without_counter(commented), commented);
    }
}
