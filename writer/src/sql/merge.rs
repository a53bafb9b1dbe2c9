//! The changes of source transactions that share a target transaction, brought down to one change
//! a row, so that many rows share a statement. Pure.
//!
//! Nobody sees the inside of a target transaction, so for its readers only what it leads to counts.
//! Between two changes of different rows the order matters only where something ties the rows
//! together: a foreign key, a second unique key, a trigger. Tables with any of these are left to
//! [`Plan::change`], which writes strictly in the source's order (triggers are refused altogether);
//! see [`Mapping::merges`] for what the others are. Rows of those are collected by key over the
//! whole batch. Keys are integers only, since those are equal for the server exactly if they are
//! equal here; no collation and no padding has a say.
//!
//! **What is noticed stays what it was.** The first change of a row tells whether the target must
//! have it: an insert that finds it, an update or a delete that does not, fails as it would have
//! one by one, and then the transactions are gone through one by one. So two changes are merged
//! only if their sum asks the same of the target as the first does: an insert that is deleted again
//! would ask nothing, and so is not merged, but written out before the delete. Nor is a row that ends
//! as it began: the target would log nothing of it, and what it hands on to a third member would not
//! say that the row had been something else in between ([`crate::apply`], `states`).
//!
//! **Updates of many rows** are `INSERT ... ON DUPLICATE KEY UPDATE`. Where the primary key is the
//! only unique one, that touches the row of the key and no other. The server counts 2 for each row
//! that it found and changed, 1 for one that it had to insert or that held the new values already.
//! So only if all were found and changed is the count twice the number of rows, which is what is
//! asked for; whatever else comes out is rolled back and gone through one by one. A change that
//! leaves its row as it was is therefore left to a statement of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use change::{Row, RowChange, TableChange, Value};
use mysql::session::Engine;

use super::plan::{Plan, Verb, error_values};
use crate::target::table::Mapping;

/// A row's key: integers of any width, signed or not.
type Key = Vec<i128>;

/// What becomes of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Net<'a> {
    /// It was not there and is.
    Inserted(&'a Row),
    /// It was there and is.
    Updated { before: &'a Row, after: &'a Row },
    /// It was there and is not.
    Deleted(&'a Row),
}

impl<'a> Net<'a> {
    fn of(change: &'a RowChange) -> Self {
        match change {
            RowChange::Insert { after } => Self::Inserted(after),
            RowChange::Update { before, after } => Self::Updated { before, after },
            RowChange::Delete { before } => Self::Deleted(before),
        }
    }

    /// Both changes as one; `None` where one change would ask less of the target or leave nothing to
    /// log, or where the second cannot follow the first.
    fn then(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Inserted(_), Self::Updated { after, .. }) => Some(Self::Inserted(after)),
            (Self::Updated { before, .. }, Self::Updated { after, .. })
            | (Self::Deleted(before), Self::Inserted(after)) => {
                (before != after).then_some(Self::Updated { before, after })
            }
            (Self::Updated { before, .. }, Self::Deleted(_)) => Some(Self::Deleted(before)),
            (Self::Inserted(_), Self::Inserted(_) | Self::Deleted(_))
            | (Self::Updated { .. }, Self::Inserted(_))
            | (Self::Deleted(_), Self::Updated { .. } | Self::Deleted(_)) => None,
        }
    }
}

/// The rows of one table, in the order of their keys.
#[derive(Debug)]
struct Table<'a> {
    mapping: Arc<Mapping>,
    /// Of other source tables that go there and are written alike.
    alike: Vec<Arc<Mapping>>,
    /// Another definition of the table has come since: nothing more is collected here.
    left: bool,
    rows: BTreeMap<Key, Net<'a>>,
}

/// Collects the changes of one target transaction.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    engine: Engine,
    tables: Vec<Table<'a>>,
    /// Places in `tables` by the mappings' addresses, which the table keeps alive.
    places: HashMap<usize, usize>,
}

impl<'a> Merge<'a> {
    /// An empty one for a target of this engine.
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            tables: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Adds the changes of a table; what cannot be merged goes into the plan at once.
    pub(crate) fn change(
        &mut self,
        plan: &mut Plan,
        change: &'a TableChange,
        mapping: &Arc<Mapping>,
    ) {
        if !mapping.merges {
            plan.change(change, mapping);
            return;
        }
        let place = self.place(plan, mapping);
        let has_error_values = || {
            let mut images = change.rows.iter().map(|row| match row {
                RowChange::Insert { after } | RowChange::Update { after, .. } => after,
                RowChange::Delete { before } => before,
            });
            images.any(|image| error_values(image, &mapping.columns) > 0)
        };
        if change.lenient || has_error_values() {
            self.write(plan, place);
            plan.change(change, mapping);
            return;
        }
        for row in &change.rows {
            self.row(plan, place, row);
        }
    }

    fn row(&mut self, plan: &mut Plan, place: usize, row: &'a RowChange) {
        let mapping = Arc::clone(&self.tables[place].mapping);
        let Some(key) = key_of(row, &mapping) else {
            self.write(plan, place);
            plan.row(row, &mapping);
            return;
        };
        let latest = Net::of(row);
        let known = self.tables[place].rows.get(&key).copied();
        let net = match known.map(|before| before.then(latest)) {
            None => latest,
            Some(Some(both)) => both,
            Some(None) => {
                self.write(plan, place);
                latest
            }
        };
        self.tables[place].rows.insert(key, net);
    }

    /// Where the rows of a table are collected. Should a table come with another definition, or
    /// another source table with other columns go there, what was collected before is written first.
    fn place(&mut self, plan: &mut Plan, mapping: &Arc<Mapping>) -> usize {
        let address = Arc::as_ptr(mapping).addr();
        if let Some(place) = self.places.get(&address) {
            return *place;
        }
        let same_table = |table: &Table<'_>| {
            table.mapping.table == mapping.table && table.mapping.database == mapping.database
        };
        let others: Vec<usize> = (0..self.tables.len())
            .filter(|place| same_table(&self.tables[*place]))
            .collect();
        for other in others {
            if self.tables[other].mapping.writes_like(mapping) && !self.tables[other].left {
                self.tables[other].alike.push(Arc::clone(mapping));
                self.places.insert(address, other);
                return other;
            }
            self.write(plan, other);
            // The next rows of its definitions are met as those of one that was not seen yet.
            self.tables[other].left = true;
            self.places.retain(|_, place| *place != other);
        }
        let place = self.tables.len();
        self.tables.push(Table {
            mapping: Arc::clone(mapping),
            alike: Vec::new(),
            left: false,
            rows: BTreeMap::new(),
        });
        self.places.insert(address, place);
        place
    }

    /// Writes what is collected of a table.
    fn write(&mut self, plan: &mut Plan, place: usize) {
        let table = &mut self.tables[place];
        let (mut inserts, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
        for net in std::mem::take(&mut table.rows).into_values() {
            match net {
                Net::Inserted(row) => inserts.push(row),
                Net::Updated { before, after } => updates.push((before, after)),
                Net::Deleted(row) => deletes.push(row),
            }
        }
        plan.deletes(&mut deletes, &table.mapping);
        let (same, changed): (Vec<_>, Vec<_>) = updates
            .into_iter()
            .partition(|(before, after)| before == after);
        if let [(before, after)] = changed.as_slice() {
            plan.update(before, after, &table.mapping);
        } else {
            let changed: Vec<&Row> = changed.into_iter().map(|(_, after)| after).collect();
            plan.update_many(&changed, &table.mapping, self.engine);
        }
        for (before, after) in same {
            plan.update(before, after, &table.mapping);
        }
        plan.inserts(&mut inserts, &table.mapping, Verb::Insert);
    }

    /// Writes all that is collected.
    pub(crate) fn finish(mut self, plan: &mut Plan) {
        for place in 0..self.tables.len() {
            self.write(plan, place);
        }
    }
}

/// The key of a changed row; `None` if it changes its key, or the key is not made of integers.
fn key_of(row: &RowChange, mapping: &Mapping) -> Option<Key> {
    match row {
        RowChange::Insert { after: image } | RowChange::Delete { before: image } => {
            key(image, mapping)
        }
        RowChange::Update { before, after } => {
            let key_before = key(before, mapping)?;
            (key(after, mapping)? == key_before).then_some(key_before)
        }
    }
}

fn key(row: &Row, mapping: &Mapping) -> Option<Key> {
    let number = |value: &Value| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::UInt(number) => Some(i128::from(*number)),
        _ => None,
    };
    let columns = mapping.key.iter();
    columns.map(|column| number(&row[column.index])).collect()
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
