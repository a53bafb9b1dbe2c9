//! Row changes as statements, grouped into requests, each statement with what it must report.
//!
//! Rows are written strictly in the order they were changed in at the source; only neighbours of
//! one kind in one table share a statement. So whatever the source passed through, the target
//! passes through too: a swap of unique values, which the source can only do through a third
//! value, comes out right, and a key that changes is an UPDATE as it was there. Nothing is merged
//! here (where it may be, [`super::merge`] does it) and no row is removed to be put again, since
//! that would take its children along.
//!
//! The exception are lenient changes, of a table whose copy is under way. Why putting such rows
//! blindly is right (the argument is `DBLog`'s, arXiv 2010.12597): the copy of a chunk is sent at a
//! point P of the stream, without the rows that were changed between the low mark, which lies
//! before the chunk was read, and P. A row of the chunk was therefore the same all the time between
//! the mark and P: the chunk holds what the source held at P. A lenient change leaves its row as
//! the source had it after that change. So at each point of the stream every row that is at the
//! target is as the source had it at that point; rows are only missing, never wrong. From this
//! follows that an insert that finds its row finds an older state of the same row or the same one
//! (a chunk that brings a row which the stream has put before), that an update or delete that
//! misses its row was ahead of the copy, and that two rows of the target never clash on a unique
//! value, for they are both in the source at that point. A clash is therefore still an error.
//! Removing the row first and then inserting it needs no knowledge of what is there, and takes no
//! child along since foreign keys are not checked meanwhile. Changes of which no two touch the same
//! key share statements: at the end of such a run each of its rows is as the source had it at that
//! point, since nothing of the run changed it again, and so is every other row.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use change::{Row, RowChange, TableChange, Value, encode_key};
use mysql::session::Engine;

use super::literal::{self, Form};
use crate::target::session::{LAX_MODE, STRICT_MODE};
use crate::target::table::{MappedColumn, Mapping};

/// A request is sent when it is larger than this many bytes; one row may exceed it.
const REQUEST_BYTES: usize = 512 << 10;
/// Rows in one INSERT.
const INSERT_ROWS: usize = 500;
/// Keys in one DELETE or SELECT. With more, the servers would no longer look up each one.
pub(crate) const DELETE_KEYS: usize = 100;

/// What a statement is about, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Settings, marks, locks.
    Housekeeping,
    /// The link's row in `multiactive.applied`.
    Checkpoint,
    /// Locking or reading the newest epoch.
    Epoch,
    /// The link's row in `multiactive.skips`.
    Wish,
    /// Rows of a table.
    Rows {
        verb: Verb,
        table: Arc<Mapping>,
        key: Option<String>,
    },
}

/// What a statement does with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Insert,
    Update,
    Delete,
    /// Part of putting a row whatever is there.
    Put,
}

/// What a statement must report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Anything but an error.
    Success,
    /// So many rows found (the session counts found rows, not changed ones).
    Rows(u64),
    /// A result set whose first value is this number.
    Answer(u64),
}

/// One statement of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub subject: Subject,
    pub expect: Expect,
    /// Warnings that belong to the values themselves: one for each ENUM that holds the error value.
    pub warnings: u16,
}

/// Statements that travel together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub sql: Vec<u8>,
    pub statements: Vec<Statement>,
}

/// Collects the statements of one target transaction.
#[allow(
    clippy::struct_excessive_bools,
    reason = "four independent facts, each named"
)]
#[derive(Debug)]
pub(crate) struct Plan {
    requests: Vec<Request>,
    /// One row a statement and one statement a request, so that an error names its row.
    one_by_one: bool,
    /// Tables are being copied, so a row may come before the one that it refers to.
    parents_may_lack: bool,
    foreign_key_checks: bool,
    strict: bool,
}

impl Request {
    /// Adds a statement.
    pub(crate) fn push(&mut self, subject: Subject, expect: Expect, sql: &[u8]) {
        self.push_with_warnings(subject, expect, 0, sql);
    }

    /// Adds the statements of another one.
    pub(crate) fn append(&mut self, other: Request) {
        if !self.sql.is_empty() && !other.sql.is_empty() {
            self.sql.push(b';');
        }
        self.sql.extend_from_slice(&other.sql);
        self.statements.extend(other.statements);
    }

    fn push_with_warnings(&mut self, subject: Subject, expect: Expect, warnings: u16, sql: &[u8]) {
        if !self.sql.is_empty() {
            self.sql.push(b';');
        }
        self.sql.extend_from_slice(sql);
        self.statements.push(Statement {
            subject,
            expect,
            warnings,
        });
    }
}

impl Plan {
    /// An empty plan for a session in its usual state: strict, foreign keys checked.
    pub(crate) fn new(one_by_one: bool) -> Self {
        Self {
            requests: Vec::new(),
            one_by_one,
            parents_may_lack: false,
            foreign_key_checks: true,
            strict: true,
        }
    }

    /// The same while tables are being copied, if they are: the row that one refers to may be of a
    /// table whose copy comes later, also where the row's own table is copied already.
    pub(crate) fn while_copying(mut self, copying: bool) -> Self {
        self.parents_may_lack = copying;
        self
    }

    /// The same without checking foreign keys, also such as came after the tables were looked up.
    pub(crate) fn without_foreign_keys(mut self) -> Self {
        self.set_foreign_key_checks(false);
        self
    }

    /// Adds a statement of our own.
    pub(crate) fn housekeeping(&mut self, expect: Expect, sql: &[u8]) {
        self.add(Subject::Housekeeping, expect, 0, sql);
    }

    /// Adds a statement on the link's row in `multiactive.applied`.
    pub(crate) fn checkpoint(&mut self, expect: Expect, sql: &[u8]) {
        self.add(Subject::Checkpoint, expect, 0, sql);
    }

    /// Adds a statement on the link's row in `multiactive.skips`.
    pub(crate) fn wish(&mut self, expect: Expect, sql: &[u8]) {
        self.add(Subject::Wish, expect, 0, sql);
    }

    /// Adds a read of the newest epoch.
    pub(crate) fn epoch(&mut self, sql: &[u8]) {
        self.add(Subject::Epoch, Expect::Success, 0, sql);
    }

    /// Adds the check that the newest epoch is not this IDC's.
    pub(crate) fn not_held_by(&mut self, idc: &str) {
        let mut sql = b"SELECT COUNT(*) FROM multiactive.epoch WHERE epoch=\
                        (SELECT MAX(epoch) FROM multiactive.epoch) AND idc="
            .to_vec();
        literal::text(&mut sql, idc);
        self.add(Subject::Epoch, Expect::Answer(0), 0, &sql);
    }

    /// Adds a row that replaces the one with its key. For tables of ours, which have one key only:
    /// with a second one this could change another row.
    pub(crate) fn upsert(&mut self, row: &Row, mapping: &Arc<Mapping>) {
        let mut sql = insert_head(mapping);
        tuple(&mut sql, row, &mapping.columns);
        sql.extend_from_slice(b" ON DUPLICATE KEY UPDATE ");
        separated(&mut sql, b",", &mapping.columns, |sql, column| {
            assignment(sql, row, column);
        });
        self.add(Subject::Housekeeping, Expect::Success, 0, &sql);
    }

    /// Adds a row of `multiactive.epoch` if it is not there, and the check that it is this IDC's.
    pub(crate) fn put_epoch(
        &mut self,
        row: &Row,
        epoch: &Value,
        idc: &Value,
        mapping: &Arc<Mapping>,
    ) {
        let mut sql = insert_head(mapping);
        tuple(&mut sql, row, &mapping.columns);
        sql.extend_from_slice(b" ON DUPLICATE KEY UPDATE epoch=");
        literal::value(&mut sql, epoch, Form::Plain);
        self.add(Subject::Housekeeping, Expect::Success, 0, &sql);
        let mut sql = b"SELECT COUNT(*) FROM multiactive.epoch WHERE epoch=".to_vec();
        literal::value(&mut sql, epoch, Form::Plain);
        sql.extend_from_slice(b" AND idc=");
        literal::value(&mut sql, idc, Form::Characters("utf8mb4"));
        self.add(Subject::Housekeeping, Expect::Answer(1), 0, &sql);
    }

    /// Adds the removal of a row that need not be there.
    pub(crate) fn remove_if_there(&mut self, row: &Row, mapping: &Arc<Mapping>) {
        self.remove(&[row], mapping, Verb::Put, Expect::Success);
    }

    /// Adds the changes of a table.
    pub(crate) fn change(&mut self, change: &TableChange, mapping: &Arc<Mapping>) {
        if change.lenient {
            self.check_foreign_keys(mapping, false);
            self.put_changes(&change.rows, mapping);
            return;
        }
        let check = is_checked(change, mapping)
            && (!self.parents_may_lack || acts_on_others(change, mapping));
        self.check_foreign_keys(mapping, check);
        let mut inserts: Vec<&Row> = Vec::new();
        let mut deletes: Vec<&Row> = Vec::new();
        for row in &change.rows {
            match row {
                RowChange::Insert { after } => {
                    self.deletes(&mut deletes, mapping);
                    inserts.push(after);
                }
                RowChange::Delete { before } => {
                    self.inserts(&mut inserts, mapping, Verb::Insert);
                    deletes.push(before);
                }
                RowChange::Update { before, after } => {
                    self.inserts(&mut inserts, mapping, Verb::Insert);
                    self.deletes(&mut deletes, mapping);
                    self.update(before, after, mapping);
                }
            }
        }
        self.inserts(&mut inserts, mapping, Verb::Insert);
        self.deletes(&mut deletes, mapping);
    }

    /// Adds the change of one row, of a table without foreign keys.
    pub(super) fn row(&mut self, row: &RowChange, mapping: &Arc<Mapping>) {
        match row {
            RowChange::Insert { after } => self.inserts(&mut vec![after], mapping, Verb::Insert),
            RowChange::Update { before, after } => self.update(before, after, mapping),
            RowChange::Delete { before } => self.deletes(&mut vec![before], mapping),
        }
    }

    /// Adds new states of rows that are there with other values; [`super::merge`] has the argument
    /// and the tables for which this is right.
    pub(super) fn update_many(&mut self, rows: &[&Row], mapping: &Arc<Mapping>, engine: Engine) {
        let tail = update_tail(mapping, engine);
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            let mut sql = insert_head(mapping);
            let mut count = 0;
            while let Some(row) = rows.next_if(|_| count < INSERT_ROWS && sql.len() < REQUEST_BYTES)
            {
                if count > 0 {
                    sql.push(b',');
                }
                tuple(&mut sql, row, &mapping.columns);
                count += 1;
            }
            sql.extend_from_slice(&tail);
            self.set_strict(true);
            let subject = Subject::Rows {
                verb: Verb::Update,
                table: Arc::clone(mapping),
                key: None,
            };
            self.add(subject, Expect::Rows(2 * count as u64), 0, &sql);
        }
    }

    /// Adds rows of a snapshot chunk: puts them whatever is there.
    pub(crate) fn put_rows(&mut self, rows: &[Row], mapping: &Arc<Mapping>) {
        self.check_foreign_keys(mapping, false);
        for rows in rows.chunks(if self.one_by_one { 1 } else { DELETE_KEYS }) {
            let rows: Vec<&Row> = rows.iter().collect();
            self.remove(&rows, mapping, Verb::Put, Expect::Success);
            self.inserts(&mut rows.clone(), mapping, Verb::Put);
        }
    }

    /// Adds rows of a snapshot chunk that must not be there.
    pub(crate) fn insert_rows(&mut self, rows: &[&Row], mapping: &Arc<Mapping>) {
        self.check_foreign_keys(mapping, false);
        self.inserts(&mut rows.to_vec(), mapping, Verb::Insert);
    }

    /// The requests, leaving the session in its usual state.
    pub(crate) fn finish(mut self) -> Vec<Request> {
        self.usual_state();
        self.requests
    }

    /// Takes the requests that are full, for a transaction that is longer than memory.
    pub(crate) fn drain(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Brings the session back into its usual state.
    pub(crate) fn usual_state(&mut self) {
        self.set_foreign_key_checks(true);
        self.set_strict(true);
    }

    fn check_foreign_keys(&mut self, mapping: &Mapping, check: bool) {
        // A table without foreign keys does not care, which saves the statement.
        if mapping.foreign.any {
            self.set_foreign_key_checks(check);
        }
    }

    fn set_foreign_key_checks(&mut self, check: bool) {
        if self.foreign_key_checks != check {
            self.foreign_key_checks = check;
            let sql: &[u8] = if check {
                b"SET foreign_key_checks=1"
            } else {
                b"SET foreign_key_checks=0"
            };
            self.housekeeping(Expect::Success, sql);
        }
    }

    fn set_strict(&mut self, strict: bool) {
        if self.strict != strict {
            self.strict = strict;
            let mode = if strict { STRICT_MODE } else { LAX_MODE };
            self.housekeeping(Expect::Success, format!("SET sql_mode='{mode}'").as_bytes());
        }
    }

    /// Puts rows whatever is there, in runs in which no key comes twice: what a run touches is
    /// removed, then what it leads to is put.
    fn put_changes(&mut self, rows: &[RowChange], mapping: &Arc<Mapping>) {
        let mut touched = HashSet::new();
        let (mut gone, mut put) = (Vec::new(), Vec::new());
        for row in rows {
            let (before, after) = match row {
                RowChange::Insert { after } => (None, Some(after)),
                RowChange::Update { before, after } => (Some(before), Some(after)),
                RowChange::Delete { before } => (Some(before), None),
            };
            let images: Vec<&Row> = before.into_iter().chain(after).collect();
            let keys: Vec<_> = images.iter().map(|row| key_of(row, mapping)).collect();
            let meets = keys.iter().any(|key| touched.contains(key));
            if meets || self.one_by_one || gone.len() >= INSERT_ROWS {
                self.put_run(&mut gone, &mut put, mapping);
                touched.clear();
            }
            touched.extend(keys);
            gone.extend(images);
            put.extend(after);
        }
        self.put_run(&mut gone, &mut put, mapping);
    }

    fn put_run(&mut self, gone: &mut Vec<&Row>, put: &mut Vec<&Row>, mapping: &Arc<Mapping>) {
        for rows in std::mem::take(gone).chunks(DELETE_KEYS) {
            self.remove(rows, mapping, Verb::Put, Expect::Success);
        }
        self.inserts(put, mapping, Verb::Put);
    }

    pub(super) fn inserts(&mut self, rows: &mut Vec<&Row>, mapping: &Arc<Mapping>, verb: Verb) {
        let mut rows = std::mem::take(rows).into_iter().peekable();
        let most = if self.one_by_one { 1 } else { INSERT_ROWS };
        while let Some(first) = rows.next() {
            let mut sql = insert_head(mapping);
            let lax = error_values(first, &mapping.columns) > 0;
            let mut warnings = 0;
            let mut count = 0;
            let mut next = Some(first);
            while let Some(row) = next {
                if count > 0 {
                    sql.push(b',');
                }
                tuple(&mut sql, row, &mapping.columns);
                warnings += error_values(row, &mapping.columns);
                count += 1;
                let fits = count < most && sql.len() < REQUEST_BYTES;
                next = rows.next_if(|row| fits && (error_values(row, &mapping.columns) > 0) == lax);
            }
            self.set_strict(!lax);
            let key = self.one_by_one.then(|| describe_key(first, mapping));
            let subject = Subject::Rows {
                verb,
                table: Arc::clone(mapping),
                key,
            };
            self.add(subject, Expect::Rows(count as u64), warnings, &sql);
        }
    }

    pub(super) fn deletes(&mut self, rows: &mut Vec<&Row>, mapping: &Arc<Mapping>) {
        // A row may refer to another one of the same statement, which the server removes in an
        // order of its own.
        let alone = self.one_by_one || mapping.foreign.to_itself;
        let rows = std::mem::take(rows);
        for rows in rows.chunks(if alone { 1 } else { DELETE_KEYS }) {
            self.remove(rows, mapping, Verb::Delete, Expect::Rows(rows.len() as u64));
        }
    }

    fn remove(&mut self, rows: &[&Row], mapping: &Arc<Mapping>, verb: Verb, expect: Expect) {
        let [first, ..] = rows else { return };
        let mut sql = b"DELETE FROM ".to_vec();
        literal::table(&mut sql, &mapping.database, &mapping.table);
        sql.extend_from_slice(b" WHERE ");
        at_keys(&mut sql, rows, mapping);
        let key = self.one_by_one.then(|| describe_key(first, mapping));
        let subject = Subject::Rows {
            verb,
            table: Arc::clone(mapping),
            key,
        };
        self.add(subject, expect, 0, &sql);
    }

    pub(super) fn update(&mut self, before: &Row, after: &Row, mapping: &Arc<Mapping>) {
        let mut sql = b"UPDATE ".to_vec();
        literal::table(&mut sql, &mapping.database, &mapping.table);
        // All columns are set, not only those that changed: one that is left out might be set by
        // the server itself (ON UPDATE CURRENT_TIMESTAMP).
        sql.extend_from_slice(b" SET ");
        separated(&mut sql, b",", &mapping.columns, |sql, column| {
            assignment(sql, after, column);
        });
        sql.extend_from_slice(b" WHERE ");
        by_key(&mut sql, before, mapping);
        let warnings = error_values(after, &mapping.columns);
        self.set_strict(warnings == 0);
        let key = self.one_by_one.then(|| describe_key(before, mapping));
        let subject = Subject::Rows {
            verb: Verb::Update,
            table: Arc::clone(mapping),
            key,
        };
        self.add(subject, Expect::Rows(1), warnings, &sql);
    }

    fn add(&mut self, subject: Subject, expect: Expect, warnings: u16, sql: &[u8]) {
        let fits =
            |request: &Request| !self.one_by_one && request.sql.len() + sql.len() < REQUEST_BYTES;
        if !self.requests.last().is_some_and(fits) {
            self.requests.push(Request::default());
        }
        if let Some(request) = self.requests.last_mut() {
            request.push_with_warnings(subject, expect, warnings, sql);
        }
    }
}

fn key_of(row: &Row, mapping: &Mapping) -> Bytes {
    let values = mapping.key.iter().map(|column| row[column.index].clone());
    encode_key(&values.collect::<Vec<_>>())
}

fn insert_head(mapping: &Mapping) -> Vec<u8> {
    let mut sql = b"INSERT INTO ".to_vec();
    literal::table(&mut sql, &mapping.database, &mapping.table);
    sql.extend_from_slice(b" (");
    separated(&mut sql, b",", &mapping.columns, |sql, column| {
        literal::identifier(sql, &column.name);
    });
    sql.extend_from_slice(b") VALUES ");
    sql
}

/// What makes an INSERT an update of the rows that are there. MySQL warns of the function VALUES,
/// MariaDB does not know the row's alias.
fn update_tail(mapping: &Mapping, engine: Engine) -> Vec<u8> {
    let mut sql = match engine {
        Engine::MySql => b" AS incoming".to_vec(),
        Engine::MariaDb => Vec::new(),
    };
    sql.extend_from_slice(b" ON DUPLICATE KEY UPDATE ");
    let others: Vec<&MappedColumn> = mapping
        .columns
        .iter()
        .filter(|column| !mapping.key.contains(column))
        .collect();
    separated(&mut sql, b",", &others, |sql, column| {
        literal::identifier(sql, &column.name);
        match engine {
            Engine::MySql => {
                sql.extend_from_slice(b"=incoming.");
                literal::identifier(sql, &column.name);
            }
            Engine::MariaDb => {
                sql.extend_from_slice(b"=VALUES(");
                literal::identifier(sql, &column.name);
                sql.push(b')');
            }
        }
    });
    sql
}

/// How many values of a row are ENUM's error value, for which the server warns each time.
pub(super) fn error_values(row: &Row, columns: &[MappedColumn]) -> u16 {
    let count = columns
        .iter()
        .filter(|column| row[column.index] == Value::Enum(0))
        .count();
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn separated<T>(
    sql: &mut Vec<u8>,
    separator: &[u8],
    items: &[T],
    mut write: impl FnMut(&mut Vec<u8>, &T),
) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            sql.extend_from_slice(separator);
        }
        write(sql, item);
    }
}

fn tuple(sql: &mut Vec<u8>, row: &Row, columns: &[MappedColumn]) {
    sql.push(b'(');
    separated(sql, b",", columns, |sql, column| {
        literal::value(sql, &row[column.index], column.form);
    });
    sql.push(b')');
}

fn assignment(sql: &mut Vec<u8>, row: &Row, column: &MappedColumn) {
    literal::identifier(sql, &column.name);
    sql.push(b'=');
    literal::value(sql, &row[column.index], column.form);
}

pub(crate) fn by_key(sql: &mut Vec<u8>, row: &Row, mapping: &Mapping) {
    separated(sql, b" AND ", &mapping.key, |sql, column| {
        assignment(sql, row, column);
    });
}

/// The condition that finds the rows with the keys of these.
pub(crate) fn at_keys(sql: &mut Vec<u8>, rows: &[&Row], mapping: &Mapping) {
    if let ([column], [_, _, ..]) = (mapping.key.as_slice(), rows) {
        literal::identifier(sql, &column.name);
        sql.extend_from_slice(b" IN (");
        separated(sql, b",", rows, |sql, row| {
            literal::value(sql, &row[column.index], column.form);
        });
        sql.push(b')');
    } else {
        separated(sql, b" OR ", rows, |sql, row| {
            sql.push(b'(');
            by_key(sql, row, mapping);
            sql.push(b')');
        });
    }
}

/// The key of a row for people, cut where it is long.
fn describe_key(row: &Row, mapping: &Mapping) -> String {
    describe_row(row, mapping, true)
}

/// A row, or its key, for people, cut where it is long.
pub(crate) fn describe_row(row: &Row, mapping: &Mapping, key_only: bool) -> String {
    let columns = if key_only {
        &mapping.key
    } else {
        &mapping.columns
    };
    let mut text = Vec::new();
    separated(&mut text, b", ", columns, |text, column| {
        text.extend_from_slice(column.name.as_bytes());
        text.push(b'=');
        literal::value(text, &row[column.index], column.form);
    });
    change::shown(&text, change::SHOWN)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

/// Whether foreign keys are checked as rows are written, and act on other rows.
fn is_checked(change: &TableChange, mapping: &Mapping) -> bool {
    let flags = change.flags;
    let removes = |row: &RowChange| !matches!(row, RowChange::Insert { .. });
    // What refers to a row that goes or changes has been dealt with by changes of its own.
    let is_done =
        flags.logs_cascades && mapping.foreign.referred_to && change.rows.iter().any(removes);
    !flags.no_foreign_key_checks && !is_done
}

/// Whether the target itself has to do to other rows what the foreign keys did to them at the source,
/// which its binlog leaves out: then they must be in force.
fn acts_on_others(change: &TableChange, mapping: &Mapping) -> bool {
    !change.flags.logs_cascades && change.rows.iter().any(|row| mapping.reaches(row))
}
