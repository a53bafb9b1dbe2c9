//! How many source transactions share one target transaction. Pure.

use std::collections::VecDeque;

use change::{Body, Frame, RowChange, Transaction};

use crate::bookkeeping::newest_epoch;

/// A batch takes at most so many bytes of values, unless one transaction has more.
const BATCH_BYTES: usize = 32 << 20;

/// How far a queue has been looked through for a batch.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    seen: usize,
    rows: u64,
    bytes: usize,
}

impl Gauge {
    /// Whether nothing that is queued behind it could join the batch that a queue begins with. The
    /// queue has only grown since it was looked at last.
    pub(crate) fn is_full(&mut self, queue: &VecDeque<Frame>, max_rows: u64) -> bool {
        for frame in queue.iter().skip(self.seen) {
            let Some(transaction) = joins(frame) else {
                return true;
            };
            self.seen += 1;
            self.rows += transaction.change_count();
            self.bytes += weight(transaction);
            if self.rows >= max_rows || self.bytes >= BATCH_BYTES {
                return true;
            }
        }
        false
    }
}

/// Whole source transactions that will share a target transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub transactions: Vec<Transaction>,
    rows: u64,
    bytes: usize,
}

impl Batch {
    /// Begins with a transaction, whatever its size.
    pub(crate) fn of(first: Transaction) -> Self {
        let (rows, bytes) = (first.change_count(), weight(&first));
        Self {
            transactions: vec![first],
            rows,
            bytes,
        }
    }

    /// The batch that a queue begins with; `None` if it begins with something else.
    pub(crate) fn take(queue: &mut VecDeque<Frame>, max_rows: u64) -> Option<Self> {
        joins(queue.front()?)?;
        let Some(Frame::Transaction(first)) = queue.pop_front() else {
            return None;
        };
        let mut batch = Self::of(first);
        batch.fill(queue, max_rows);
        Some(batch)
    }

    /// Moves transactions from the queue while they fit. Says whether the batch is full, that is,
    /// whether the queue's head may not join.
    pub(crate) fn fill(&mut self, queue: &mut VecDeque<Frame>, max_rows: u64) -> bool {
        while let Some(frame) = queue.front() {
            let Some(transaction) = joins(frame) else {
                return true;
            };
            let (rows, bytes) = (transaction.change_count(), weight(transaction));
            if self.rows + rows > max_rows || self.bytes + bytes > BATCH_BYTES {
                return true;
            }
            self.rows += rows;
            self.bytes += bytes;
            if let Some(Frame::Transaction(transaction)) = queue.pop_front() {
                self.transactions.push(transaction);
            }
        }
        self.rows >= max_rows
    }
}

/// The transaction, if it may share a target transaction with others.
fn joins(frame: &Frame) -> Option<&Transaction> {
    match frame {
        Frame::Transaction(transaction) => {
            let joins = is_whole_rows(transaction) && !begins_epoch(transaction);
            joins.then_some(transaction)
        }
        _ => None,
    }
}

/// Whether a transaction is here whole and changes rows.
pub(crate) fn is_whole_rows(transaction: &Transaction) -> bool {
    transaction.part == 0 && transaction.is_last() && matches!(transaction.body, Body::Rows(_))
}

/// Whether a transaction brings the row of an epoch. What comes after it is judged by that epoch, so
/// it stands alone.
pub(crate) fn begins_epoch(transaction: &Transaction) -> bool {
    newest_epoch(transaction).is_some()
}

fn weight(transaction: &Transaction) -> usize {
    let Body::Rows(changes) = &transaction.body else {
        return 0;
    };
    let images = changes
        .iter()
        .flat_map(|change| &change.rows)
        .flat_map(|row| match row {
            RowChange::Insert { after: image } | RowChange::Delete { before: image } => {
                [Some(image), None]
            }
            RowChange::Update { before, after } => [Some(before), Some(after)],
        });
    images.flatten().flatten().map(change::Value::weight).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use change::{ColumnKind, Progress, RowFlags, TableChange, Value};

    use super::*;
    use crate::target::table::tests::source;

    fn transaction(number: u64, rows: i64) -> Transaction {
        let change = TableChange {
            table: Arc::new(source(&[("id", ColumnKind::Int)])),
            lenient: false,
            flags: RowFlags::default(),
            rows: (0..rows)
                .map(|id| RowChange::Insert {
                    after: vec![Value::Int(id)],
                })
                .collect(),
        };
        Transaction {
            gtid: format!("0-1-{number}"),
            origin: "sh".into(),
            epoch: 1,
            committed_micros: 0,
            part: 0,
            position: Some(format!("0-1-{number}").parse().unwrap()),
            filtered: 0,
            body: Body::Rows(vec![change]),
        }
    }

    fn queue(rows: &[i64]) -> VecDeque<Frame> {
        (2..)
            .zip(rows)
            .map(|(number, rows)| Frame::Transaction(transaction(number, *rows)))
            .collect()
    }

    fn taken(rows: &[i64], max_rows: u64) -> (usize, bool, usize) {
        let mut queue = queue(rows);
        let mut batch = Batch::of(transaction(1, 10));
        let full = batch.fill(&mut queue, max_rows);
        (batch.transactions.len(), full, queue.len())
    }

    #[test]
    fn transactions_join_while_they_fit() {
        assert_eq!(taken(&[], 100), (1, false, 0));
        assert_eq!(taken(&[10, 10], 100), (3, false, 0));
        assert_eq!(taken(&[10, 81], 100), (2, true, 1));
        assert_eq!(taken(&[90], 100), (2, true, 0));
        assert_eq!(taken(&[1], 5), (1, true, 1));
    }

    #[test]
    fn a_gauge_says_when_a_batch_is_full_however_its_frames_come() {
        for (rows, max_rows) in [
            (&[10, 10, 80, 1][..], 100),
            (&[10, 10, 81], 100),
            (&[10, 10], 100),
            (&[200, 1], 100),
            (&[], 100),
        ] {
            let (mut came, mut gauge) = (VecDeque::new(), Gauge::default());
            let said: Vec<bool> = queue(rows)
                .into_iter()
                .map(|frame| {
                    came.push_back(frame);
                    gauge.is_full(&came, max_rows)
                })
                .collect();
            let is_full = |count: usize| {
                let mut queue = queue(&rows[..count]);
                let Some(Frame::Transaction(first)) = queue.pop_front() else {
                    return false;
                };
                Batch::of(first).fill(&mut queue, max_rows)
            };
            // It may say so once what is behind the batch is here; never before the batch is.
            for (at, said) in said.iter().enumerate() {
                assert_eq!(*said, is_full(at + 1), "{rows:?} at {at}");
            }
        }
    }

    #[test]
    fn what_is_not_a_whole_row_transaction_stands_alone() {
        for change in [
            &(|transaction: &mut Transaction| transaction.position = None)
                as &dyn Fn(&mut Transaction),
            &|transaction: &mut Transaction| transaction.part = 1,
        ] {
            let mut other = transaction(2, 1);
            change(&mut other);
            let mut queue = VecDeque::from([Frame::Transaction(other)]);
            assert!(Batch::of(transaction(1, 1)).fill(&mut queue, 100));
            assert_eq!(queue.len(), 1);
        }
        let progress = Progress {
            position: "0-1-9".parse().unwrap(),
            epoch: 1,
            gtid: String::new(),
            source_micros: 0,
            filtered: 0,
        };
        let mut queue = VecDeque::from([Frame::Progress(progress)]);
        assert!(Batch::of(transaction(1, 1)).fill(&mut queue, 100));
    }
}
