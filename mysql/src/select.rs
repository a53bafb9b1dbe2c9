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

    /// Whether every table that a database can have is copied, as far as the patterns alone tell.
    pub fn has_all_tables(&self, database: &str) -> bool {
        self.has_database(database) && self.tables.has_all(database)
    }

    /// Whether a table is copied.
    pub fn has_table(&self, database: &str, table: &str) -> bool {
        self.has_database(database) && self.tables.has(database, table)
    }
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
    fn exclude_wins_and_other_databases_are_out() {
        let selection = selection(&["orders.*", "other.*"], &["orders.tmp_*"]);
        assert!(selection.has_table("orders", "items"));
        assert!(!selection.has_table("orders", "tmp_items"));
        assert!(!selection.has_table("other", "items"));
        assert!(super::tests::selection(&[], &[]).has_table("orders", "items"));
    }
}
