//! Rows of several source tables in one table of the target, while they are copied.
//!
//! The copy of a table puts rows whatever is there ([`crate::sql::plan`] has the argument), since
//! what is there can only be an older state of the same row. That is not so where rows of another
//! source table may be there. So for such a table `multiactive.routed` holds, until the copy ends,
//! which rows of each source table are at the target: a digest of the source table and the key, for
//! each row that a chunk or the stream has put, written in the transaction that puts it. By that
//! every change of a table that is being copied becomes one that asks the target for exactly what it
//! must find:
//! - an insert is an insert: the source had no row there before, so the target has none of this table
//!   either;
//! - an update of a row that is here is one, otherwise it inserts the row, ahead of the copy;
//! - a delete of a row that is here is one, otherwise there is nothing to do;
//! - of a chunk, rows that are here were put by the stream and are put again; all others are inserted.
//!
//! Where any of these finds a row in its way, it is another source table's, and the link halts. Once
//! a table is copied its changes are as strict anyhow.

use std::collections::HashSet;
use std::sync::Arc;

use change::{Row, RowChange, RowFlags, TableChange, TableSchema};
use sha2::{Digest as _, Sha256};

use super::Applier;
use crate::checkpoint::to_hex;
use crate::conflict::key;
use crate::error::{Conflict, ConflictKind, WriterError};
use crate::sql::plan::{Expect, Plan};
use crate::target::lookup::quote;
use crate::target::table::Mapping;

/// Which row of which source table it is.
type Place = [u8; 32];

/// So many digests go into one statement.
const PLACES: usize = 500;
/// So many rows are forgotten at a time.
const FORGOTTEN: u64 = 10_000;

/// The rows of one source table that are at the target, as far as some changes touch them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Here(HashSet<Place>);

impl Here {
    /// Whether the row with this key is.
    pub(crate) fn has(&self, table: &TableSchema, mapping: &Mapping, row: &Row) -> bool {
        self.0.contains(&place(table, mapping, row))
    }
}

impl Applier {
    /// Which of these rows of a source table are at the target.
    pub(crate) async fn here(
        &mut self,
        table: &TableSchema,
        mapping: &Mapping,
        rows: impl Iterator<Item = &Row>,
    ) -> Result<Here, WriterError> {
        let places: Vec<Place> = rows.map(|row| place(table, mapping, row)).collect();
        let mut here = Here::default();
        for places in places.chunks(PLACES) {
            let at = self.at(places);
            let sql = format!("SELECT place FROM multiactive.routed WHERE {at}");
            let found: Vec<Vec<u8>> = self.target.all("reading multiactive.routed", &sql).await?;
            here.0
                .extend(found.into_iter().filter_map(|it| Place::try_from(it).ok()));
        }
        Ok(here)
    }

    /// Applies the changes of a table that is being copied, in the open transaction.
    pub(super) async fn put_shared(
        &mut self,
        change: &TableChange,
        mapping: &Arc<Mapping>,
        gtid: &str,
    ) -> Result<(), WriterError> {
        let images = change.rows.iter().flat_map(|row| {
            let (before, after) = images(row);
            before.into_iter().chain(after)
        });
        let before = self.here(&change.table, mapping, images).await?;
        let mut after = before.clone();
        let exact = TableChange {
            table: Arc::clone(&change.table),
            lenient: false,
            // Rows that they refer to may still be missing.
            flags: RowFlags {
                no_foreign_key_checks: true,
                ..change.flags
            },
            rows: exact(change, mapping, &mut after),
        };
        let mut plan = Plan::new(true);
        plan.change(&exact, mapping);
        self.plan_here(&mut plan, &before, &after);
        for request in plan.finish() {
            let ran = self.run_known(&request, gtid).await;
            ran.map_err(|error| clash(error, mapping))?;
        }
        Ok(())
    }

    /// Adds the rows of a chunk, and that they are at the target.
    pub(crate) fn plan_shared_chunk(
        &self,
        plan: &mut Plan,
        (table, rows): (&TableSchema, &[Row]),
        mapping: &Arc<Mapping>,
        here: &Here,
    ) {
        let (known, new): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|row| here.has(table, mapping, row));
        let known: Vec<Row> = known.into_iter().cloned().collect();
        plan.put_rows(&known, mapping);
        plan.insert_rows(&new, mapping);
        let mut after = here.clone();
        after
            .0
            .extend(new.into_iter().map(|row| place(table, mapping, row)));
        self.plan_here(plan, here, &after);
    }

    /// Adds what has changed of which rows are at the target.
    fn plan_here(&self, plan: &mut Plan, before: &Here, after: &Here) {
        let (mut gone, mut new): (Vec<Place>, Vec<Place>) = (
            before.0.difference(&after.0).copied().collect(),
            after.0.difference(&before.0).copied().collect(),
        );
        gone.sort_unstable();
        new.sort_unstable();
        let link = quote(&self.config.link.to_string());
        for places in gone.chunks(PLACES) {
            let sql = format!("DELETE FROM multiactive.routed WHERE {}", self.at(places));
            plan.housekeeping(Expect::Rows(places.len() as u64), sql.as_bytes());
        }
        for places in new.chunks(PLACES) {
            let rows: Vec<String> = places
                .iter()
                .map(|place| format!("({link},x'{}')", to_hex(place)))
                .collect();
            let sql = format!(
                "INSERT INTO multiactive.routed (link, place) VALUES {}",
                rows.join(",")
            );
            plan.housekeeping(Expect::Rows(places.len() as u64), sql.as_bytes());
        }
    }

    /// The condition that finds these of the link.
    fn at(&self, places: &[Place]) -> String {
        let places: Vec<String> = places
            .iter()
            .map(|place| format!("x'{}'", to_hex(place)))
            .collect();
        let link = quote(&self.config.link.to_string());
        format!("link={link} AND place IN ({})", places.join(","))
    }

    /// Forgets which rows are at the target: the copy begins, or has ended.
    pub(crate) async fn forget_routed(&mut self) -> Result<(), WriterError> {
        if self.mappings.routes().all().is_empty() {
            return Ok(());
        }
        let link = quote(&self.config.link.to_string());
        let any = format!("SELECT 1 FROM multiactive.routed WHERE link={link} LIMIT 1");
        let delete = format!("DELETE FROM multiactive.routed WHERE link={link} LIMIT {FORGOTTEN}");
        loop {
            let left: Option<u8> = self
                .target
                .first("reading multiactive.routed", &any)
                .await?;
            if left.is_none() {
                return Ok(());
            }
            self.target
                .execute("writing to multiactive.routed", delete.as_bytes())
                .await?;
        }
    }
}

/// What the changes ask of the target, by which rows are there; those change with them.
fn exact(change: &TableChange, mapping: &Mapping, here: &mut Here) -> Vec<RowChange> {
    let place = |row| place(&change.table, mapping, row);
    let mut rows = Vec::with_capacity(change.rows.len());
    for row in &change.rows {
        let (before, after) = images(row);
        let was_here = before.is_some_and(|before| here.0.remove(&place(before)));
        here.0.extend(after.map(place));
        match (row, after) {
            (RowChange::Update { .. }, Some(after)) if !was_here => {
                let after = after.clone();
                rows.push(RowChange::Insert { after });
            }
            (RowChange::Delete { .. }, _) if !was_here => {}
            _ => rows.push(row.clone()),
        }
    }
    rows
}

fn images(row: &RowChange) -> (Option<&Row>, Option<&Row>) {
    match row {
        RowChange::Insert { after } => (None, Some(after)),
        RowChange::Update { before, after } => (Some(before), Some(after)),
        RowChange::Delete { before } => (Some(before), None),
    }
}

fn place(table: &TableSchema, mapping: &Mapping, row: &Row) -> Place {
    let mut digest = Sha256::new();
    for part in [
        table.database.as_bytes(),
        table.table.as_bytes(),
        &key(row, mapping),
    ] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// A row in the way is another source table's, which the general advice on conflicts is wrong about:
/// who makes room for one of the two loses the other.
pub(crate) fn clash(error: WriterError, mapping: &Mapping) -> WriterError {
    match error {
        WriterError::Conflict(Conflict {
            kind: ConflictKind::InsertExists | ConflictKind::UniqueClash,
            table,
            key,
            gtid,
            detail,
        }) => WriterError::RowsOfTwoTables {
            told: table,
            table: format!("{}.{}", mapping.database, mapping.table),
            key,
            gtid,
            detail,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use change::{ColumnKind, Value};

    use super::*;
    use crate::target::table::map;
    use crate::target::table::tests::{source, target};

    #[test]
    fn changes_ask_for_what_is_there_of_their_own_table() {
        let table = Arc::new(source(&[("id", ColumnKind::Int), ("v", ColumnKind::Int)]));
        let mapping = map(&table, &target(&[("id", "int"), ("v", "int")])).unwrap();
        let row = |id, v| vec![Value::Int(id), Value::Int(v)];
        let update = |from: (i64, i64), to: (i64, i64)| RowChange::Update {
            before: row(from.0, from.1),
            after: row(to.0, to.1),
        };
        let change = TableChange {
            table: Arc::clone(&table),
            lenient: true,
            flags: RowFlags::default(),
            rows: vec![
                update((1, 1), (1, 2)),
                update((2, 1), (3, 1)),
                update((3, 1), (3, 2)),
                RowChange::Delete { before: row(4, 1) },
                RowChange::Delete { before: row(1, 2) },
                RowChange::Insert { after: row(4, 2) },
            ],
        };
        let place = |id| place(&table, &mapping, &row(id, 0));
        let mut here = Here(HashSet::from([place(1)]));
        let asked = exact(&change, &mapping, &mut here);
        assert_eq!(
            asked,
            [
                update((1, 1), (1, 2)),
                RowChange::Insert { after: row(3, 1) },
                update((3, 1), (3, 2)),
                RowChange::Delete { before: row(1, 2) },
                RowChange::Insert { after: row(4, 2) },
            ]
        );
        assert_eq!(here.0, HashSet::from([place(3), place(4)]));
    }
}
