//! What a transaction that a writer applied says of itself in the binlog of the server that it was
//! applied on: each changes the row of its link in `multiactive.applied`, from where the link was to
//! where it is after the transaction. So a third member can be told which of the origin's transactions
//! it holds.

use crate::{Body, InvalidPosition, Position, Row, RowChange, TableChange, Transaction, Value};

/// A stretch of one member's transactions, as a writer applied them in one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The IDC that they were born in.
    pub source: String,
    /// The position in front of them; `None`: where the link began, which may be anywhere.
    pub before: Option<Position>,
    /// The position after them.
    pub after: Position,
    /// The counts and marks that the writer keeps beside the position, as it found them.
    pub ledger_before: String,
    /// And as it wrote them.
    pub ledger: String,
    /// How far the copy of the tables was.
    pub snapshot: String,
}

impl Stretch {
    /// Whether these are the rows in which links keep how far they are.
    pub fn is_kept_in(change: &TableChange) -> bool {
        change.table.database == "multiactive" && change.table.table == "applied"
    }

    /// What a transaction holds; `None` where it changes no such row.
    ///
    /// # Errors
    /// If a position cannot be read.
    pub fn of(transaction: &Transaction) -> Result<Option<Self>, InvalidPosition> {
        let Body::Rows(changes) = &transaction.body else {
            return Ok(None);
        };
        let mut stretch: Option<Self> = None;
        for change in changes.iter().filter(|change| Self::is_kept_in(change)) {
            for row in &change.rows {
                let (before, after) = match row {
                    RowChange::Insert { after } => (None, after),
                    RowChange::Update { before, after } => (Some(before), after),
                    RowChange::Delete { .. } => continue,
                };
                let Some(end) = position(change, after)? else {
                    continue;
                };
                let (begin, ledger_before) = match (stretch.take(), before) {
                    (Some(earlier), _) => (earlier.before, earlier.ledger_before),
                    (None, Some(before)) => {
                        (position(change, before)?, text(change, before, "ledger"))
                    }
                    (None, None) => (None, String::new()),
                };
                stretch = Some(Self {
                    source: text(change, after, "source"),
                    before: begin,
                    after: end,
                    ledger_before,
                    ledger: text(change, after, "ledger"),
                    snapshot: text(change, after, "snapshot"),
                });
            }
        }
        Ok(stretch)
    }

    /// Whether nothing lies between these and what `applied` holds. Where they have no beginning,
    /// nobody knows.
    pub fn joins(&self, applied: &Position) -> bool {
        self.before
            .as_ref()
            .is_some_and(|before| applied.contains(before))
    }
}

fn position(change: &TableChange, row: &Row) -> Result<Option<Position>, InvalidPosition> {
    match text(change, row, "position").as_str() {
        "" => Ok(None),
        written => written.parse().map(Some),
    }
}

/// A column's text; empty where it is NULL or not there.
fn text(change: &TableChange, row: &Row, name: &str) -> String {
    let columns = &change.table.columns;
    let index = columns.iter().position(|column| column.name == name);
    match index.and_then(|index| row.get(index)) {
        Some(Value::Text(bytes) | Value::Bytes(bytes) | Value::Json(bytes)) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => String::new(),
    }
}
