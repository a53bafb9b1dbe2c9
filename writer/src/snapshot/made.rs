//! The statements by which the source's server prints its tables, under other names. Pure.

use model::Routes;

/// A printed statement that cannot be run under the names of the routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotMade {
    /// What a foreign key does depends on which table it is between.
    #[error(
        "its foreign key to {to} is between tables of which tables.routes gives one another name, or \
         brings several together"
    )]
    ForeignKey {
        /// `database.table`, at the source.
        to: String,
    },
    /// The statement begins otherwise than servers print it.
    #[error("its definition does not begin with its name in backticks")]
    Unreadable,
}

/// The statement with the name of what it makes replaced. Only the first name is: whatever else it
/// says is as it was.
pub(super) fn renamed(statement: &str, from: &str, to: &str) -> Result<String, NotMade> {
    if from == to {
        return Ok(statement.to_owned());
    }
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let (before, after) = statement.split_once('`').ok_or(NotMade::Unreadable)?;
    let after = format!("`{after}");
    let after = after
        .strip_prefix(&quoted(from))
        .ok_or(NotMade::Unreadable)?;
    Ok(format!("{before}{}{after}", quoted(to)))
}

/// Refuses a table with a foreign key that would be another one at the target.
pub(super) fn check_keys(
    statement: &str,
    (database, table): (&str, &str),
    routes: &Routes,
) -> Result<(), NotMade> {
    let moved = routes.moves(database, table).is_some();
    for (to_database, to_table) in referred_to(statement, database)? {
        if moved || routes.met_by(&to_database, Some(&to_table)).is_some() {
            return Err(NotMade::ForeignKey {
                to: format!("{to_database}.{to_table}"),
            });
        }
    }
    Ok(())
}

/// The tables that a printed definition's foreign keys refer to. Each key is printed on a line of its
/// own.
fn referred_to(statement: &str, database: &str) -> Result<Vec<(String, String)>, NotMade> {
    let lines = statement.lines().map(str::trim_start);
    let keys = lines.filter(|line| line.starts_with("CONSTRAINT `"));
    let mut tables = Vec::new();
    for key in keys {
        let Some((_, after)) = key.split_once(") REFERENCES ") else {
            // A CHECK.
            continue;
        };
        let (first, rest) = name(after).ok_or(NotMade::Unreadable)?;
        tables.push(match rest.strip_prefix('.').and_then(name) {
            Some((second, _)) => (first, second),
            None => (database.to_owned(), first),
        });
    }
    Ok(tables)
}

/// The name in backticks that a text begins with, and what follows.
fn name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text.strip_prefix('`')?;
    loop {
        let end = rest.find('`')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_what_is_made_is_replaced() {
        let printed = "CREATE TABLE `a``b` (\n  `a``b` int\n)";
        assert_eq!(
            renamed(printed, "a`b", "c`d").unwrap(),
            "CREATE TABLE `c``d` (\n  `a``b` int\n)"
        );
        let database = "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shard_1` /*!40100 DEFAULT ... */";
        assert!(
            renamed(database, "shard_1", "all")
                .unwrap()
                .contains("*/ `all` /*")
        );
        assert_eq!(renamed(printed, "other", "c"), Err(NotMade::Unreadable));
        assert_eq!(
            renamed("CREATE TABLE a (b int)", "a", "c"),
            Err(NotMade::Unreadable)
        );
    }

    #[test]
    fn the_tables_of_foreign_keys_are_read() {
        let printed = "CREATE TABLE `t` (\n  `id` int COMMENT ') REFERENCES `x`',\n  \
                       CONSTRAINT `k` FOREIGN KEY (`a`) REFERENCES `p``q` (`id`) ON DELETE CASCADE,\n  \
                       CONSTRAINT `l` FOREIGN KEY (`b`) REFERENCES `other`.`r` (`id`),\n  \
                       CONSTRAINT `m` CHECK (`a` > 0)\n)";
        let expected = [("db", "p`q"), ("other", "r")];
        let expected = expected.map(|(database, table)| (database.to_owned(), table.to_owned()));
        assert_eq!(referred_to(printed, "db").unwrap(), expected);
    }
}
