//! Filing transactions that must not be applied any more (see [`crate::epoch`]) in
//! `multiactive.stranded`: whole, with their images, in the order of the source.
//!
//! A row of that table holds a transaction, or a piece of one that is larger than [`PIECE_BYTES`],
//! as [`change::encode_stored`] makes it. It is written in the transaction that moves the link's
//! checkpoint past it.

use change::{Body, RowChange, TableChange, Transaction, Value, encode_stored};

use crate::apply::Applier;
use crate::error::WriterError;
use crate::sql::literal;
use crate::sql::plan::{Expect, Plan};
use crate::target::lookup::quote;

/// So many characters of a statement are told beside the transaction; all of it is in the body.
const TOLD: usize = 1000;
/// About how many bytes of values one piece holds; one row may exceed it.
const PIECE_BYTES: usize = 4 << 20;

impl Applier {
    /// Counts what is set aside of the link's source and not settled, for `/status`.
    pub(crate) async fn count_stranded(&mut self) -> Result<(), WriterError> {
        let sql = format!(
            "SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded WHERE state='Held' AND source={}",
            quote(self.config.source.idc.as_str())
        );
        let count: Option<u64> = self
            .target
            .first("counting in multiactive.stranded", &sql)
            .await?;
        self.status.set_stranded(count.unwrap_or(0));
        Ok(())
    }

    /// Counts what is held as conflicts of the link and not settled, for `/status`.
    pub(crate) async fn count_conflicts_held(&mut self) -> Result<(), WriterError> {
        let sql = format!(
            "SELECT COUNT(*) FROM multiactive.conflicts WHERE state='Held' AND link={}",
            quote(&self.config.link.to_string())
        );
        let count: Result<Option<u64>, _> = self
            .target
            .first("counting in multiactive.conflicts", &sql)
            .await;
        let count = match count {
            // Made by an arbiter of an earlier release, which a link without a policy can do with.
            Err(WriterError::Schema { .. }) if !self.has_policy() => None,
            other => other?,
        };
        self.status.set_conflicts_held(count.unwrap_or(0));
        Ok(())
    }
}

/// Adds the filing of a transaction, or of a part of one. `first` is the number of its first piece;
/// returns the number after its last.
pub(crate) fn plan(
    plan: &mut Plan,
    transaction: &Transaction,
    ended_by: u64,
    first: u32,
) -> Result<u32, WriterError> {
    let mut number = first;
    for piece in pieces(transaction) {
        let sql = insert(&piece, ended_by, number)?;
        plan.housekeeping(Expect::Rows(1), &sql);
        number += 1;
    }
    Ok(number)
}

fn insert(piece: &Transaction, ended_by: u64, number: u32) -> Result<Vec<u8>, WriterError> {
    let ended_by = ended_by.to_string();
    filing("stranded", "ended_by", ended_by.as_bytes(), piece, number)
}

/// The statement that files a piece in one of our tables: the columns that each such table has, and
/// `columns` with `values`, which are its own.
pub(crate) fn filing(
    table: &str,
    columns: &str,
    values: &[u8],
    piece: &Transaction,
    number: u32,
) -> Result<Vec<u8>, WriterError> {
    let mut sql = format!(
        "INSERT INTO multiactive.{table} (source, gtid, part, epoch, {columns}, committed, changes, \
         `tables`, body, filed) VALUES ("
    )
    .into_bytes();
    literal::text(&mut sql, &piece.origin);
    sql.push(b',');
    literal::text(&mut sql, &piece.gtid);
    sql.extend_from_slice(format!(",{number},{},", piece.epoch).as_bytes());
    sql.extend_from_slice(values);
    let (seconds, micros) = (
        piece.committed_micros / 1_000_000,
        piece.committed_micros % 1_000_000,
    );
    let numbers = format!(
        ",FROM_UNIXTIME({seconds}.{micros:06}),{},",
        piece.change_count()
    );
    sql.extend_from_slice(numbers.as_bytes());
    literal::text(&mut sql, &subjects(piece));
    sql.extend_from_slice(b",_binary");
    literal::quoted(&mut sql, &encode_stored(piece)?);
    sql.extend_from_slice(b",UTC_TIMESTAMP(6))");
    Ok(sql)
}

/// What it touches, for people: `orders.lines (3), orders.orders (1)`, or the statement.
fn subjects(transaction: &Transaction) -> String {
    let changes = match &transaction.body {
        Body::Ddl(ddl) => return change::shown(ddl.told().as_bytes(), TOLD),
        Body::Rows(changes) => changes,
    };
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for change in changes {
        *counts.entry(change.table.to_string()).or_default() += change.rows.len();
    }
    let texts: Vec<String> = counts
        .iter()
        .map(|(table, count)| format!("{table} ({count})"))
        .collect();
    texts.join(", ")
}

/// The transaction in pieces as they are filed.
pub(crate) fn pieces(transaction: &Transaction) -> Vec<Transaction> {
    pieces_of(transaction, PIECE_BYTES)
}

/// The transaction in pieces of at most so many bytes, each at least one row, nothing left out and
/// nothing reordered.
fn pieces_of(transaction: &Transaction, most: usize) -> Vec<Transaction> {
    let Body::Rows(changes) = &transaction.body else {
        return vec![transaction.clone()];
    };
    let mut pieces: Vec<Vec<TableChange>> = Vec::new();
    let mut bytes = usize::MAX;
    for change in changes {
        let empty = |change: &TableChange| TableChange {
            table: std::sync::Arc::clone(&change.table),
            rows: Vec::new(),
            ..*change
        };
        let mut begun = false;
        for row in &change.rows {
            let weight = weight(row);
            if bytes.saturating_add(weight) > most {
                pieces.push(Vec::new());
                (bytes, begun) = (0, false);
            }
            let Some(piece) = pieces.last_mut() else {
                continue;
            };
            if !begun {
                piece.push(empty(change));
                begun = true;
            }
            if let Some(last) = piece.last_mut() {
                last.rows.push(row.clone());
            }
            bytes += weight;
        }
    }
    let piece = |changes| Transaction {
        body: Body::Rows(changes),
        position: None,
        filtered: 0,
        gtid: transaction.gtid.clone(),
        origin: transaction.origin.clone(),
        ..*transaction
    };
    pieces.into_iter().map(piece).collect()
}

fn weight(row: &RowChange) -> usize {
    let of = |image: &[Value]| image.iter().map(Value::weight).sum::<usize>();
    match row {
        RowChange::Insert { after: image } | RowChange::Delete { before: image } => of(image),
        RowChange::Update { before, after } => of(before) + of(after),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use change::{ColumnKind, RowFlags};
    use proptest::prelude::*;

    use super::*;
    use crate::target::table::tests::source;

    pub(crate) fn transaction(counts: &[u16]) -> Transaction {
        let mut id = 0;
        let changes = counts.iter().map(|count| TableChange {
            table: Arc::new(source(&[("id", ColumnKind::Int)])),
            lenient: false,
            flags: RowFlags::default(),
            rows: (0..*count)
                .map(|_| {
                    id += 1;
                    RowChange::Insert {
                        after: vec![Value::Int(id)],
                    }
                })
                .collect(),
        });
        Transaction {
            gtid: "0-1-7".into(),
            origin: "sh".into(),
            epoch: 1,
            committed_micros: 1_700_000_000_000_001,
            part: 0,
            position: Some("0-1-7".parse().unwrap()),
            filtered: 3,
            body: Body::Rows(changes.collect()),
        }
    }

    fn rows(transaction: &Transaction) -> Vec<RowChange> {
        match &transaction.body {
            Body::Rows(changes) => changes.iter().flat_map(|it| it.rows.clone()).collect(),
            Body::Ddl(_) => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn pieces_hold_every_row_once_in_order(
            counts in prop::collection::vec(0_u16..9, 0..6), most in 1_usize..400
        ) {
            let whole = transaction(&counts);
            let pieces = pieces_of(&whole, most);
            let joined: Vec<RowChange> = pieces.iter().flat_map(rows).collect();
            prop_assert_eq!(joined, rows(&whole));
            for piece in &pieces {
                let rows = rows(piece);
                prop_assert!(!rows.is_empty());
                let bytes: usize = rows.iter().map(weight).sum();
                prop_assert!(bytes <= most || rows.len() == 1);
            }
        }
    }

    #[test]
    fn a_piece_says_what_it_is_of() {
        let whole = transaction(&[2, 1]);
        let sql = insert(&whole, 2, 5).unwrap();
        let sql = String::from_utf8_lossy(&sql);
        for part in [
            "'sh','0-1-7',5,1,2,FROM_UNIXTIME(1700000000.000001),3,",
            "(3)",
        ] {
            assert!(sql.contains(part), "{part} is not in {sql}");
        }
    }
}
