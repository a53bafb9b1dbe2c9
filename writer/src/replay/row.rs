//! One change replayed: its row read and locked, judged, and set.

use std::sync::Arc;

use change::{Row, RowChange, RowFlags, TableChange};

use super::HeldRow;
use super::verdict::{Found, Kind, Verdict, judge};
use crate::error::{Conflict, ConflictKind, WriterError};
use crate::explain;
use crate::sql::plan::{Plan, Request, describe_row};
use crate::target::row::{differences, locked};
use crate::target::session::{Cause, Target};
use crate::target::table::Mapping;

/// A change, and where it goes.
pub(super) struct One<'a> {
    pub gtid: &'a str,
    pub change: &'a TableChange,
    pub mapping: &'a Arc<Mapping>,
    pub row: &'a RowChange,
}

/// What became of a change.
pub(super) enum Done {
    Applied,
    AlreadyThere,
    Held(HeldRow),
}

impl One<'_> {
    pub(super) async fn replay(&self, target: &mut Target) -> Result<Done, WriterError> {
        let (before, after) = match self.row {
            RowChange::Insert { after } => (None, Some(after)),
            RowChange::Delete { before } => (Some(before), None),
            RowChange::Update { before, after } => (Some(before), Some(after)),
        };
        let old = self.look(target, before).await?;
        let new = self.look(target, after).await?;
        let found = Found {
            old: old.as_ref(),
            new: new.as_ref(),
        };
        match judge(self.row, found) {
            Verdict::AlreadyThere => Ok(Done::AlreadyThere),
            Verdict::Held(kind) => Ok(Done::Held(self.held(kind, (before, after), found))),
            Verdict::Apply if self.cascades() => Ok(Done::Held(self.row_held(
                Kind::Cascade,
                "foreign keys of other tables would change rows there by themselves: change this \
                 row by hand, and look at those"
                    .to_owned(),
            ))),
            Verdict::Apply => self.apply(target).await,
        }
    }

    async fn look(
        &self,
        target: &mut Target,
        at: Option<&Row>,
    ) -> Result<Option<Row>, WriterError> {
        let Some(place) = at else {
            return Ok(None);
        };
        locked(target, &self.change.table, self.mapping, place).await
    }

    fn cascades(&self) -> bool {
        match self.row {
            RowChange::Insert { .. } => false,
            RowChange::Delete { .. } => self.mapping.foreign.cascades_below,
            RowChange::Update { before, after } => self
                .mapping
                .cascading
                .iter()
                .any(|index| before[*index] != after[*index]),
        }
    }

    async fn apply(&self, target: &mut Target) -> Result<Done, WriterError> {
        // The server checks everything, as it does for an application.
        let change = TableChange {
            table: Arc::clone(&self.change.table),
            lenient: false,
            flags: RowFlags::default(),
            rows: vec![self.row.clone()],
        };
        let mut plan = Plan::new(true);
        plan.change(&change, self.mapping);
        plan.usual_state();
        let mut held = None;
        for request in plan.finish() {
            // What follows only brings the session back into its usual state.
            if let Err(error) = self.run(target, &request).await {
                match error {
                    WriterError::Conflict(conflict) => held = Some(conflict),
                    error => return Err(error),
                }
            }
        }
        Ok(held.map_or(Done::Applied, |conflict| {
            Done::Held(self.row_held(kind_of(&conflict), conflict.detail))
        }))
    }

    async fn run(&self, target: &mut Target, request: &Request) -> Result<(), WriterError> {
        let Err(failure) = target.run(request).await else {
            return Ok(());
        };
        let statement = &request.statements[failure.index];
        Err(match failure.cause {
            Cause::Driver(error) => explain::driver(error, statement, self.gtid),
            Cause::Warnings => match target.warnings(statement.warnings).await? {
                Some(text) => explain::warning(statement, self.gtid, &text),
                None => return Ok(()),
            },
            cause => explain::mismatch(&cause, statement, self.gtid),
        })
    }

    fn held(&self, kind: Kind, images: (Option<&Row>, Option<&Row>), found: Found<'_>) -> HeldRow {
        let detail = match found.old.or(found.new) {
            Some(there) => differences(images, there, self.mapping),
            None => "there is no such row".to_owned(),
        };
        self.row_held(kind, detail)
    }

    fn row_held(&self, kind: Kind, detail: String) -> HeldRow {
        let (RowChange::Insert { after: place }
        | RowChange::Update { before: place, .. }
        | RowChange::Delete { before: place }) = self.row;
        HeldRow {
            kind,
            table: self.change.table.to_string(),
            key: describe_row(place, self.mapping, true),
            detail,
        }
    }
}

fn kind_of(conflict: &Conflict) -> Kind {
    match conflict.kind {
        ConflictKind::InsertExists => Kind::InsertExists,
        ConflictKind::UpdateMissing | ConflictKind::DeleteMissing => Kind::UpdateMissing,
        // Links alone keep tombstones, so the second is never met.
        ConflictKind::UpdateDiffers | ConflictKind::Disputed => Kind::UpdateDiffers,
        ConflictKind::DeleteDiffers => Kind::DeleteDiffers,
        ConflictKind::UniqueClash => Kind::UniqueClash,
        ConflictKind::ForeignKey => Kind::ForeignKey,
        ConflictKind::ValueRefused => Kind::ValueRefused,
    }
}
