//! Why rows cannot be applied to a table.

/// Why rows cannot be applied to a table. Each names the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The table is not there.
    #[error(
        "table {table} is not at the target; create it there as it is at the source, or exclude it \
         from the link"
    )]
    Missing {
        /// `database.table`.
        table: String,
    },
    /// Not an ordinary table.
    #[error(
        "{table} at the target is a {kind}, and only ordinary tables are copied; exclude it from \
         the link"
    )]
    Kind {
        /// `database.table`.
        table: String,
        /// As the catalogue names it.
        kind: String,
    },
    /// The table's rows would not share a transaction with the checkpoint.
    #[error(
        "table {table} at the target uses the engine {engine}, which cannot roll back together \
         with the link's checkpoint; run ALTER TABLE {table} ENGINE=InnoDB there"
    )]
    Engine {
        /// `database.table`.
        table: String,
        /// Its engine.
        engine: String,
    },
    /// Triggers would act a second time on what they did at the source already.
    #[error(
        "table {table} at the target has the trigger {trigger}, whose effects arrive from the \
         source as rows of their own and would happen twice; run DROP TRIGGER {trigger} at the \
         target, or exclude the table from the link"
    )]
    Trigger {
        /// `database.table`.
        table: String,
        /// One of its triggers.
        trigger: String,
    },
    /// No row can be found again.
    #[error(
        "table {table} has no primary key and no unique key without NULL at the target; add one on \
         both sides, or exclude the table from the link"
    )]
    NoKey {
        /// `database.table`.
        table: String,
    },
    /// A value has no place.
    #[error(
        "column {column} of table {table} is not at the target, so its values would be lost; add \
         it there as it is at the source"
    )]
    ColumnMissing {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// A new row would lack a value.
    #[error(
        "column {column} of table {table} is only at the target, has no default and does not allow \
         NULL; give it a default, or drop it"
    )]
    ColumnExtra {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// The values of a type that is not understood could change on their way.
    #[error(
        "column {column} of table {table} has the type {data_type} at the target and {kind} at the \
         source, between which values are not known to stay the same; give both the same type, or \
         exclude the table from the link"
    )]
    Type {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
        /// The target's type.
        data_type: String,
        /// The source's type.
        kind: String,
    },
    /// A character set that is not known.
    #[error(
        "column {column} of table {table} has the collation number {collation} at the source, which \
         this release does not know; change the column's collation"
    )]
    Collation {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
        /// Its collation's number.
        collation: u16,
    },
    /// Whether two values are the same cannot be told exactly.
    #[error(
        "column {column} of table {table} has the type {data_type} at the target and {kind} at the \
         source, whose values cannot be compared exactly, which conflicts.detect BeforeImage needs; \
         give it one type and character set on both sides, exclude the table from the link, or set \
         conflicts.detect: Key"
    )]
    Incomparable {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
        /// The target's type, with its character set.
        data_type: String,
        /// The source's type, with its character set.
        kind: String,
    },
    /// Rows would be changed without having been compared.
    #[error(
        "a row of table {table} was removed, or its key changed, and foreign keys of other tables \
         cascade from it at the target to rows that are not in the source's binlog, so that they \
         would be changed without having been compared, which conflicts.detect BeforeImage is for; \
         exclude the tables from the link, make their foreign keys RESTRICT on both sides, or set \
         conflicts.detect: Key"
    )]
    Cascades {
        /// `database.table`.
        table: String,
    },
    /// Rows that a held change may be about would be changed with another one.
    #[error(
        "a row of table {table} was removed, or its key changed, foreign keys of other tables cascade \
         from it, and a change of the same transaction would be held for a person, of {held}, which \
         may be such a row: make that row at the target what the source's binlog says, then the link \
         goes on"
    )]
    CascadesToHeld {
        /// `database.table`.
        table: String,
        /// The row whose change would be held.
        held: String,
    },
    /// The same, of a table that a route leads to.
    #[error("rows of {source_table} go to {table} by tables.routes: {why}")]
    Routed {
        /// The source's.
        source_table: String,
        /// The target's.
        table: String,
        /// Why they cannot.
        why: Box<Self>,
    },
}

impl Unfit {
    /// The table, as `database.table`.
    pub fn table(&self) -> &str {
        match self {
            Self::Missing { table, .. }
            | Self::Kind { table, .. }
            | Self::Engine { table, .. }
            | Self::Trigger { table, .. }
            | Self::NoKey { table, .. }
            | Self::ColumnMissing { table, .. }
            | Self::ColumnExtra { table, .. }
            | Self::Type { table, .. }
            | Self::Collation { table, .. }
            | Self::Incomparable { table, .. }
            | Self::Cascades { table, .. }
            | Self::CascadesToHeld { table, .. }
            | Self::Routed { table, .. } => table,
        }
    }
}

impl Unfit {
    /// With the route that the rows took, if their table has another name at the target.
    pub(crate) fn by_route(
        self,
        source: &change::TableSchema,
        database: &str,
        table: &str,
    ) -> Self {
        let table = format!("{database}.{table}");
        let source_table = source.to_string();
        if source_table == table {
            return self;
        }
        Self::Routed {
            source_table,
            table,
            why: Box::new(self),
        }
    }
}
