//! Which tables a link copies.

use model::{LinkConfig, TableSelection};

/// The schema of our own.
pub const OWN_SCHEMA: &str = "multiactive";

/// The databases and table patterns of a link.
#[derive(Debug, Clone)]
pub struct Selection {
    databases: Vec<String>,
    tables: TableSelection,
}

impl Selection {
    /// What the link's settings say.
    pub fn of(config: &LinkConfig) -> Self {
        Self::new(config.databases.clone(), config.tables.clone())
    }

    /// Some databases, and which of their tables.
    pub fn new(databases: Vec<String>, tables: TableSelection) -> Self {
        Self { databases, tables }
    }

    /// The link's databases.
    pub fn databases(&self) -> &[String] {
        &self.databases
    }

    /// Whether a database is one of the link's.
    pub fn has_database(&self, database: &str) -> bool {
        self.databases.iter().any(|selected| selected == database)
    }

    /// Whether a table is copied.
    pub fn has_table(&self, database: &str, table: &str) -> bool {
        if !self.has_database(database) {
            return false;
        }
        let name = format!("{database}.{table}");
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, &name));
        let TableSelection {
            include,
            exclude,
            routes: _,
        } = &self.tables;
        (include.is_empty() || any(include)) && !any(exclude)
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters, also none.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Selection {
            databases: vec!["orders".to_owned()],
            tables: TableSelection {
                include: owned(include),
                exclude: owned(exclude),
                routes: vec![],
            },
        }
    }

    #[test]
    fn patterns_match_as_written() {
        let cases = [
            ("orders.*", "orders.items", true),
            ("orders.*", "other.items", false),
            ("orders.tmp_*", "orders.tmp_1", true),
            ("orders.tmp_*", "orders.items", false),
            ("orders.items", "orders.items", true),
            ("orders.items", "orders.items2", false),
            ("*.log_*_old", "orders.log_a_b_old", true),
            ("*.log_*_old", "orders.log_old", false),
            ("*", "orders.x", true),
            ("a*a", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn exclude_wins_and_other_databases_are_out() {
        let selection = selection(&["orders.*", "other.*"], &["orders.tmp_*"]);
        assert!(selection.has_table("orders", "items"));
        assert!(!selection.has_table("orders", "tmp_items"));
        assert!(!selection.has_table("other", "items"));
        assert!(super::tests::selection(&[], &[]).has_table("orders", "items"));
    }
}
