//! One change of a table as its rows are gone through: how each is decided, and what is said of it.

use std::sync::Arc;

use change::{Row, RowChange, TableChange, Transaction};
use model::LinkKey;

use crate::conflict::record::Record;
use crate::conflict::{Decision, Outcome, Policy, only_written};
use crate::error::{Conflict, ConflictKind, WriterError};
use crate::replay::verdict::Found;
use crate::sql::plan::describe_row;
use crate::target::row::differences;
use crate::target::table::Mapping;

/// A change of a table that is gone through row by row.
pub(super) struct On<'a> {
    pub link: &'a LinkKey,
    pub transaction: &'a Transaction,
    pub change: &'a TableChange,
    pub mapping: &'a Arc<Mapping>,
    pub policy: &'a Policy,
}

/// Whether a change of a row would change rows of other tables.
pub(crate) fn reaches(row: &RowChange, mapping: &Mapping) -> bool {
    mapping.reaches(row)
}

impl On<'_> {
    pub(super) fn decide(
        &self,
        row: &RowChange,
        old: Option<&Row>,
        new: Option<&Row>,
        moves: bool,
        disputed: bool,
    ) -> Result<Decision, WriterError> {
        let compared = |row: &Row| only_written(row, self.mapping);
        let row = match row {
            RowChange::Insert { after } => RowChange::Insert {
                after: compared(after),
            },
            RowChange::Update { before, after } => RowChange::Update {
                before: compared(before),
                after: compared(after),
            },
            RowChange::Delete { before } => RowChange::Delete {
                before: compared(before),
            },
        };
        let (old, new) = (old.map(compared), new.map(compared));
        let found = Found {
            old: old.as_ref(),
            new: new.as_ref(),
        };
        let table = &self.change.table;
        let decision = self.policy.decide(table, &row, found, moves, disputed);
        let decision = decision.map_err(|error| WriterError::Unsupported(error.to_string()))?;
        Ok(match decision {
            // What it would change besides has not been compared.
            Decision::Settled(kind, outcome)
                if outcome.put().is_some_and(|put| reaches(put, self.mapping)) =>
            {
                Decision::Settled(kind, Outcome::Held)
            }
            other => other,
        })
    }

    pub(super) fn record<'b>(
        &'b self,
        row: &'b RowChange,
        (kind, outcome): (ConflictKind, &'b Outcome),
        found: Option<&'b Row>,
        detail: &'b str,
    ) -> Record<'b> {
        Record {
            link: self.link,
            transaction: self.transaction,
            change: self.change,
            row,
            mapping: self.mapping,
            kind,
            policy: self.policy.name,
            outcome,
            found,
            detail,
        }
    }

    pub(super) fn differences(&self, row: &RowChange, there: Option<&Row>) -> String {
        let Some(there) = there else {
            return "there is no such row".to_owned();
        };
        let images = match row {
            RowChange::Insert { after } => (None, Some(after)),
            RowChange::Update { before, after } => (Some(before), Some(after)),
            RowChange::Delete { before } => (Some(before), None),
        };
        differences(images, there, self.mapping)
    }

    /// A detail for `multiactive.conflicts`, whose table is the target's.
    pub(super) fn told(&self, detail: String) -> String {
        let mapping = self.mapping;
        if mapping.told == format!("{}.{}", mapping.database, mapping.table) {
            return detail;
        }
        format!("{}: {detail}", mapping.told)
    }

    /// The error of a conflict that halts the link. The row of another source table that is the very
    /// same cannot be told from this one any more, if this one is left out.
    pub(super) fn halt(
        &self,
        kind: ConflictKind,
        row: &RowChange,
        there: Option<&Row>,
        detail: String,
    ) -> WriterError {
        let written = |row: &Row| only_written(row, self.mapping);
        let same = row.after().map(written) == there.map(written);
        let is_twice = self.mapping.shared && kind == ConflictKind::InsertExists && same;
        let detail = if is_twice {
            "a row like it is there".to_owned()
        } else {
            detail
        };
        let error = self.conflict(kind, row, detail).into();
        if is_twice {
            return super::clash(error, self.mapping);
        }
        error
    }

    pub(super) fn conflict(&self, kind: ConflictKind, row: &RowChange, detail: String) -> Conflict {
        let (RowChange::Insert { after: at }
        | RowChange::Update { before: at, .. }
        | RowChange::Delete { before: at }) = row;
        Conflict {
            kind,
            table: self.mapping.told.clone(),
            key: describe_row(at, self.mapping, true),
            gtid: self.transaction.gtid.clone(),
            detail,
        }
    }
}
