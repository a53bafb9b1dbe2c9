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
    /// The position in front of them; `None`: the beginning.
    pub before: Option<Position>,
    /// The position after them.
    pub after: Position,
    /// The counts and marks that the writer keeps beside the position, as it wrote them.
    pub ledger: String,
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
                let begin = match (&stretch, before) {
                    (Some(earlier), _) => earlier.before.clone(),
                    (None, Some(before)) => position(change, before)?,
                    (None, None) => None,
                };
                stretch = Some(Self {
                    source: text(change, after, "source").unwrap_or_default(),
                    before: begin,
                    after: end,
                    ledger: text(change, after, "ledger").unwrap_or_default(),
                });
            }
        }
        Ok(stretch)
    }

    /// Whether nothing lies between these and what `applied` holds.
    pub fn joins(&self, applied: Option<&Position>) -> bool {
        match (&self.before, applied) {
            (None, _) => true,
            (Some(before), Some(applied)) => applied.contains(before),
            (Some(_), None) => false,
        }
    }
}

fn position(change: &TableChange, row: &Row) -> Result<Option<Position>, InvalidPosition> {
    let written = text(change, row, "position");
    // Empty: the beginning.
    let written = written.filter(|text| !text.is_empty());
    written.map(|text| text.parse()).transpose()
}

fn text(change: &TableChange, row: &Row, name: &str) -> Option<String> {
    let columns = &change.table.columns;
    let index = columns.iter().position(|column| column.name == name)?;
    match row.get(index)? {
        Value::Text(bytes) | Value::Bytes(bytes) | Value::Json(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    }
}
