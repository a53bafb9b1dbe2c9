//! Single rows of a target, for whoever changes them beside the link: each with the link's origin
//! mark, under the same check of the epoch, written by the same statements.

use std::sync::Arc;

use change::{RowChange, RowFlags, TableChange, TableSchema};
use model::IdcName;
use mysql::session::{Engine, SessionOptions};
use mysql_async::Conn;

use crate::apply::{LOCK_EPOCH, READ_EPOCH};
use crate::error::WriterError;
use crate::explain;
use crate::sql::plan::{Plan, describe_row};
use crate::target::lookup::fit;
use crate::target::session::{Cause, Target};
use crate::target::table::Mapping;

/// A session with a target whose changes are marked as born in the link's source.
#[derive(Debug)]
pub struct RowTarget {
    target: Target,
}

/// How the rows of a source table fit into the target's table of the same name.
#[derive(Debug, Clone)]
pub struct Fit(Arc<Mapping>);

impl Fit {
    /// The indexes, in the source's row, of the columns that are written: all but those that the
    /// target computes itself.
    pub fn written(&self) -> Vec<usize> {
        self.0.columns.iter().map(|column| column.index).collect()
    }

    /// The indexes, in the source's row, of the columns of the target's key.
    pub fn key(&self) -> Vec<usize> {
        self.0.key.iter().map(|column| column.index).collect()
    }

    /// Whether the target has nothing of a row but what the source has, so that one that is removed and
    /// put again is what it was.
    pub fn is_whole(&self) -> bool {
        self.0.whole
    }

    /// A row's key for people.
    pub fn describe_key(&self, row: &change::Row) -> String {
        describe_row(row, &self.0, true)
    }

    /// A change as SQL, for people: it is run as shown, with foreign keys unchecked.
    pub fn statement(&self, schema: &Arc<TableSchema>, change: &RowChange) -> String {
        let requests = plan(schema, &self.0, change);
        let texts: Vec<_> = requests
            .iter()
            .map(|request| String::from_utf8_lossy(&request.sql).into_owned())
            .filter(|sql| !sql.starts_with("SET "))
            .collect();
        texts.join("; ")
    }
}

impl RowTarget {
    /// Opens the session.
    ///
    /// # Errors
    /// [`WriterError::NoOriginMarks`] where the server has none; others if it cannot be reached.
    pub async fn connect(options: &SessionOptions, origin: &IdcName) -> Result<Self, WriterError> {
        Ok(Self {
            target: Target::connect(options, origin).await?,
        })
    }

    /// The server's engine.
    pub fn engine(&self) -> Engine {
        self.target.engine()
    }

    /// The driver's connection. Its settings must be as before when it is given back.
    pub fn conn(&mut self) -> &mut Conn {
        self.target.conn()
    }

    /// Runs a statement of ours; `doing` says what for.
    pub async fn execute(&mut self, doing: &str, sql: &str) -> Result<(), WriterError> {
        self.target.execute(doing, sql.as_bytes()).await
    }

    /// Fits a source table to the target's table of the same name.
    ///
    /// # Errors
    /// [`WriterError::Unfit`] with the reason and the fix.
    pub async fn fit(&mut self, source: &TableSchema) -> Result<Fit, WriterError> {
        let (database, table) = (&source.database, &source.table);
        let mapping = fit(&mut self.target, source, database, table).await?;
        Ok(Fit(Arc::new(mapping)))
    }

    /// Begins a transaction and locks the newest epoch in it as each transaction of the writer
    /// does, so that it is over before a promotion begins, or begins after it. Returns the epoch,
    /// 0 if there is none; `None` if a promotion went on just now: roll back, and begin again.
    pub async fn begin(&mut self) -> Result<Option<u64>, WriterError> {
        self.execute("beginning a transaction", "START TRANSACTION")
            .await?;
        let text = String::from_utf8_lossy;
        let doing = "reading multiactive.epoch";
        let locked: Option<u64> = self.target.first(doing, &text(LOCK_EPOCH)).await?;
        let read: Option<u64> = self.target.first(doing, &text(READ_EPOCH)).await?;
        Ok((locked == read).then(|| read.unwrap_or(0)))
    }

    /// Commits.
    pub async fn commit(&mut self) -> Result<(), WriterError> {
        self.execute("committing", "COMMIT").await
    }

    /// Rolls back.
    pub async fn roll_back(&mut self) -> Result<(), WriterError> {
        self.target.roll_back().await
    }

    /// Changes one row, found by its key, in the open transaction. Foreign keys are not checked, so
    /// nothing cascades: each row is set by itself to what it must be. Nothing but the row that is
    /// meant is changed, or it is an error.
    pub async fn change(
        &mut self,
        schema: &Arc<TableSchema>,
        fit: &Fit,
        change: &RowChange,
    ) -> Result<(), WriterError> {
        for request in plan(schema, &fit.0, change) {
            let Err(failure) = self.target.run(&request).await else {
                continue;
            };
            let statement = &request.statements[failure.index];
            match failure.cause {
                Cause::Driver(error) => return Err(explain::driver(error, statement, "(repair)")),
                Cause::Warnings => {
                    if let Some(text) = self.target.warnings(statement.warnings).await? {
                        return Err(explain::warning(statement, "(repair)", &text));
                    }
                }
                cause => return Err(explain::mismatch(&cause, statement, "(repair)")),
            }
        }
        Ok(())
    }
}

fn plan(
    schema: &Arc<TableSchema>,
    mapping: &Arc<Mapping>,
    change: &RowChange,
) -> Vec<crate::sql::plan::Request> {
    let flags = RowFlags {
        no_foreign_key_checks: true,
        ..RowFlags::default()
    };
    let change = TableChange {
        table: Arc::clone(schema),
        lenient: false,
        flags,
        rows: vec![change.clone()],
    };
    let mut plan = Plan::new(true).without_foreign_keys();
    plan.change(&change, mapping);
    plan.finish()
}

/// A document as the expression that the writer stores it by at a MySQL; what that prints is what a
/// copy of it looks like there.
pub fn document(text: &[u8]) -> Vec<u8> {
    let mut sql = Vec::new();
    crate::sql::json::document(&mut sql, text);
    sql
}
