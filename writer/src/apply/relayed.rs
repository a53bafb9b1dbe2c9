//! Applying what the source hands on of a third member's transactions: the target lacks them, and the
//! source's epoch builds upon them.
//!
//! **Why the rows come out right.** The target has what that member wrote up to P, and nothing after
//! it. A transaction of the source's holds what the member wrote between two positions L and R, all of
//! it, as the source applied it. Where L = P it could be applied like any other. Where L < P < R the
//! target has a part of it, and it is not told which; but every row that it touches is as it was at P,
//! and every other row is the same at P and at R. So the rows that it touches are *put* as they are at
//! R, whatever they are now: all of them are removed and those that are there at R are inserted, which
//! no unique key stands against, as what is there at R are rows of one state. (What is done in the
//! order of the changes could meet a value that a later row has already.) Which rows are there at R: an
//! image that a change left and that no later change in the transaction begins with.
//!
//! The position of the link from that member becomes R in the same transaction, so this is done once,
//! and that link's writer, should it be alive, finds its row changed and begins anew from there. Under
//! the locks of a promotion it is looked again whether the target still lacks it: what it had gone on
//! without meanwhile must not come.

use std::collections::BTreeMap;

use change::{
    Body, Position, Row, RowChange, RowFlags, Stretch, TableChange, Transaction, encode_row,
};

use super::Applier;
use crate::batch::is_whole_rows;
use crate::bookkeeping;
use crate::checkpoint::{Record, Snapshot};
use crate::epoch::EpochRow;
use crate::epoch::way::Way;
use crate::error::WriterError;
use crate::explain;
use crate::failpoint::{self, Point};
use crate::sql::plan::Plan;
use crate::target::lookup::quote;

/// What became of a transaction that was handed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// It is here now, or was already.
    Here,
    /// Nothing of it is lacking any more, or something else stands in the way first.
    Moved,
    /// It cannot be applied here, and why.
    Cannot(String),
}

/// The row of the link that brings a member's transactions.
struct Link {
    name: String,
    position: Option<Position>,
    record: Record,
}

impl Applier {
    /// How much the target has of a member's, where one link brings it and its copy is done.
    async fn link_from(&mut self, of: &str) -> Result<Result<Link, String>, WriterError> {
        let sql = format!(
            "SELECT CAST(link AS CHAR), CAST(position AS CHAR), CAST(snapshot AS CHAR), \
             CAST(ledger AS CHAR) FROM multiactive.applied WHERE source={}",
            quote(of)
        );
        type Columns = (String, Option<String>, Option<String>, Option<String>);
        let mut rows: Vec<Columns> = self.target.all("reading multiactive.applied", &sql).await?;
        let (Some((name, position, snapshot, ledger)), true) = (rows.pop(), rows.is_empty()) else {
            return Ok(Err(format!("not one link alone comes from {of}")));
        };
        if Snapshot::parse(snapshot.as_deref())?.is_under_way() {
            return Ok(Err(format!("the tables are still being copied from {of}")));
        }
        let position = position.filter(|text| !text.is_empty());
        let record = ledger.as_deref().map(Record::parse).transpose()?;
        Ok(Ok(Link {
            name,
            position: position.map(|text| text.parse()).transpose()?,
            record: record.unwrap_or_default(),
        }))
    }

    /// How much the target has of a member's that could be handed on to it; else why not.
    pub(crate) async fn has_of(
        &mut self,
        of: &str,
    ) -> Result<Result<Option<Position>, String>, WriterError> {
        if self.settled.snapshot.is_under_way() {
            return Ok(Err("the tables are still being copied".to_owned()));
        }
        Ok(self.link_from(of).await?.map(|link| link.position))
    }

    /// Applies a transaction that the source hands on, unless it is here.
    pub(crate) async fn relayed(
        &mut self,
        row: &EpochRow,
        of: &str,
        transaction: &Transaction,
    ) -> Result<Relayed, WriterError> {
        let doing = "beginning to apply what is handed on";
        self.target.execute(doing, b"START TRANSACTION").await?;
        let relayed = self.relay_in_transaction(row, of, transaction).await;
        match relayed {
            Ok(Some(Relayed::Here)) => {
                self.commit().await?;
                Ok(Relayed::Here)
            }
            Ok(other) => {
                self.target.roll_back().await?;
                Ok(other.unwrap_or(Relayed::Here))
            }
            // Whoever is told rolls back.
            Err(error) => Err(error),
        }
    }

    /// `None` where it was here already.
    async fn relay_in_transaction(
        &mut self,
        row: &EpochRow,
        of: &str,
        transaction: &Transaction,
    ) -> Result<Option<Relayed>, WriterError> {
        match self.look_at_way(row, true).await? {
            Way::Behind { idc, .. } if idc == of => {}
            _ => return Ok(Some(Relayed::Moved)),
        }
        let link = match self.link_from(of).await? {
            Ok(link) => link,
            Err(why) => return Ok(Some(Relayed::Cannot(why))),
        };
        let cannot = |why: &str| Ok(Some(Relayed::Cannot(format!("{} {why}", transaction.gtid))));
        let Some(stretch) = Stretch::of(transaction)? else {
            return cannot(
                "does not say what it holds (it is a statement, or a part of a large one)",
            );
        };
        let here = link.position.as_ref();
        if here.is_some_and(|has| has.contains(&stretch.after)) {
            return Ok(None);
        }
        let goes_on = here.is_none_or(|has| stretch.after.contains(has));
        if stretch.source != of || !stretch.joins(here) || !goes_on {
            return cannot("does not go on from what is here");
        }
        if !is_whole_rows(transaction) || bookkeeping::newest_epoch(transaction).is_some() {
            return cannot("is too large, or begins an epoch");
        }
        let Body::Rows(changes) = &transaction.body else {
            return cannot("is a statement");
        };
        let changes: Vec<&TableChange> = changes
            .iter()
            .filter(|change| !bookkeeping::is_ours(&change.table.database))
            .collect();
        for change in &changes {
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            if mapping.foreign.cascades_below && !change.flags.logs_cascades {
                return cannot(
                    "changes rows whose foreign keys cascade to others, which are not in it",
                );
            }
        }
        let mut plan = Plan::new(false);
        let states = states(&changes);
        for change in &states {
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            let after = change.rows.iter().filter_map(RowChange::after);
            explain::losses(after, &mapping, &transaction.gtid)?;
            plan.change(change, &mapping);
        }
        for request in plan.finish() {
            self.run_known(&request, &transaction.gtid).await?;
        }
        failpoint::pass(Point::AfterRow);
        self.move_link(link, &stretch, transaction.change_count())
            .await?;
        Ok(Some(Relayed::Here))
    }

    /// The link from that member goes on behind these; its writer finds its row changed.
    async fn move_link(
        &mut self,
        link: Link,
        stretch: &Stretch,
        changes: u64,
    ) -> Result<(), WriterError> {
        let theirs = Record::parse(&stretch.ledger)?;
        let mut record = link.record;
        record.engine = theirs.engine;
        record.epoch = theirs.epoch;
        record.newest = theirs.newest;
        record.serial += 1;
        record.ledger.read += changes;
        record.ledger.applied += changes;
        let sql = format!(
            "UPDATE multiactive.applied SET position={}, ledger={}, at=UTC_TIMESTAMP(6) WHERE link={}",
            quote(&stretch.after.to_string()),
            quote(&record.text()?),
            quote(&link.name)
        );
        let doing = "moving a link on behind what was handed on";
        self.target.execute(doing, sql.as_bytes()).await
    }
}

/// All rows that these changes touch as they are in the end, for each table: first the images that
/// went, then those that are there. Lenient, so that rows are put whatever is there.
fn states(changes: &[&TableChange]) -> Vec<TableChange> {
    let mut tables: Vec<(&TableChange, Vec<&Row>, BTreeMap<Vec<u8>, &Row>)> = Vec::new();
    for change in changes {
        let known = tables
            .iter()
            .position(|(first, ..)| first.table == change.table);
        let index = known.unwrap_or_else(|| {
            tables.push((change, Vec::new(), BTreeMap::new()));
            tables.len() - 1
        });
        let (_, gone, there) = &mut tables[index];
        for row in &change.rows {
            let (before, after) = match row {
                RowChange::Insert { after } => (None, Some(after)),
                RowChange::Update { before, after } => (Some(before), Some(after)),
                RowChange::Delete { before } => (Some(before), None),
            };
            if let Some(before) = before {
                there.remove(&encoded(before));
                gone.push(before);
            }
            if let Some(after) = after {
                there.insert(encoded(after), after);
            }
        }
    }
    let state = |(change, gone, there): (&TableChange, Vec<&Row>, BTreeMap<Vec<u8>, &Row>)| {
        let there: Vec<Row> = there.into_values().cloned().collect();
        // All go before the first comes.
        let gone = gone.into_iter().chain(&there).cloned();
        let gone: Vec<RowChange> = gone.map(|before| RowChange::Delete { before }).collect();
        let there = there.into_iter().map(|after| RowChange::Insert { after });
        TableChange {
            table: std::sync::Arc::clone(&change.table),
            lenient: true,
            flags: RowFlags::default(),
            rows: gone.into_iter().chain(there).collect(),
        }
    };
    tables.into_iter().map(state).collect()
}

fn encoded(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_row(row, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use change::{Column, ColumnKind, TableSchema, Value};
    use proptest::prelude::*;

    use super::*;

    type Table = BTreeMap<i64, (i64, i64)>;

    /// What a member does to a row: its key, a value, and one that no two rows share.
    #[derive(Debug, Clone)]
    enum Step {
        Put(i64, i64, i64),
        Move(i64, i64),
        Remove(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..5_i64, 0..3_i64, 0..5_i64).prop_map(|(key, v, u)| Step::Put(key, v, u)),
            1 => (0..5_i64, 0..5_i64).prop_map(|(key, to)| Step::Move(key, to)),
            1 => (0..5_i64).prop_map(Step::Remove),
        ]
    }

    fn image(key: i64, (v, u): (i64, i64)) -> Row {
        vec![Value::Int(key), Value::Int(v), Value::Int(u)]
    }

    /// Does it if the keys allow it, and says what a binlog would.
    fn change(table: &mut Table, step: &Step) -> Option<RowChange> {
        let free = |table: &Table, u: i64, but: i64| {
            table.iter().all(|(key, row)| *key == but || row.1 != u)
        };
        match *step {
            Step::Put(key, v, u) if free(table, u, key) => {
                let after = image(key, (v, u));
                Some(match table.insert(key, (v, u)) {
                    Some(before) => RowChange::Update {
                        before: image(key, before),
                        after,
                    },
                    None => RowChange::Insert { after },
                })
            }
            Step::Move(key, to) if table.contains_key(&key) && !table.contains_key(&to) => {
                let row = table.remove(&key)?;
                table.insert(to, row);
                Some(RowChange::Update {
                    before: image(key, row),
                    after: image(to, row),
                })
            }
            Step::Remove(key) => table.remove(&key).map(|row| RowChange::Delete {
                before: image(key, row),
            }),
            _ => None,
        }
    }

    fn number(value: &Value) -> i64 {
        match value {
            Value::Int(number) => *number,
            other => panic!("{other:?}"),
        }
    }

    /// As the target does lenient changes: what is there of a key goes, and then the row comes, in
    /// the order of the changes.
    fn put(table: &mut Table, changes: &[TableChange]) {
        for row in changes.iter().flat_map(|change| &change.rows) {
            let (RowChange::Insert { after: image } | RowChange::Delete { before: image }) = row
            else {
                panic!("{row:?}");
            };
            table.remove(&number(&image[0]));
            if row.after().is_some() {
                let (v, u) = (number(&image[1]), number(&image[2]));
                assert!(table.values().all(|it| it.1 != u), "a clash at {u}");
                table.insert(number(&image[0]), (v, u));
            }
        }
    }

    fn schema() -> Arc<TableSchema> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: ColumnKind::BigInt,
            unsigned: false,
            nullable: false,
            collation: 0,
            length: 0,
            decimals: 0,
            members: Vec::new(),
        };
        Arc::new(TableSchema {
            database: "d".to_owned(),
            table: "t".to_owned(),
            columns: ["k", "v", "u"].map(column).to_vec(),
            primary_key: vec![0],
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Wherever the target is within the transaction, it ends where the source does.
        #[test]
        fn rows_are_as_they_are_in_the_end(
            before in prop::collection::vec(step(), 0..8),
            within in prop::collection::vec(step(), 1..12),
        ) {
            let mut table = Table::new();
            for step in &before {
                change(&mut table, step);
            }
            let mut moments = vec![table.clone()];
            let mut rows = Vec::new();
            for step in &within {
                rows.extend(change(&mut table, step));
                moments.push(table.clone());
            }
            let change = TableChange {
                table: schema(),
                lenient: false,
                flags: RowFlags::default(),
                rows,
            };
            let states = states(&[&change]);
            for mut target in moments {
                put(&mut target, &states);
                prop_assert_eq!(&target, &table);
            }
        }
    }
}
