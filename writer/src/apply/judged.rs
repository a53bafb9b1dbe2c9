//! Rows compared before they are changed, for links that detect conflicts by before image.
//!
//! First all rows of a batch are read and locked; where they are what the source had, nothing can
//! be in conflict but unique values, and the batch is written as any other. Otherwise its
//! transactions are gone through one by one, each row read, locked, judged
//! ([`crate::conflict`]) and written or left, with a record of each conflict, all in the
//! transaction of the checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use change::{Row, RowChange, TableChange, Transaction};

use super::on::{On, reaches};
use super::parts::OpenTransaction;
use super::{Applier, Attempt, rows_of};
use crate::bookkeeping;
use crate::conflict::record::Record;
use crate::conflict::tombstone::{Place, Tombstone, looked_for, places};
use crate::conflict::{Decision, Expected, Outcome, is_move};
use crate::epoch::Fate;
use crate::error::{Conflict, ConflictKind, WriterError};
use crate::explain;
use crate::sql::plan::Plan;
use crate::target::row::{locked, locked_all};
use crate::target::table::Mapping;
use crate::target::unfit::Unfit;

/// So often a row is looked at again that somebody put between the look and the write.
const LOOKS: usize = 4;

/// The conflicts of one target transaction.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Changes that were not applied: held, or lost to the target's row.
    pub left: u64,
    /// Of those, held.
    pub held: u64,
    /// The last row whose change was held.
    held_row: String,
    /// All, by kind and by how they ended.
    pub ended: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    fn count(&mut self, kind: ConflictKind, outcome: &Outcome) {
        self.left += u64::from(!outcome.is_applied());
        self.held += u64::from(*outcome == Outcome::Held);
        *self
            .ended
            .entry((kind.name(), outcome.state()))
            .or_default() += 1;
    }
}

/// What came of writing a row.
enum Written {
    Done,
    /// Somebody has put a row at its key meanwhile.
    Taken(Conflict),
    /// Another row has a unique value of it.
    Clash(Conflict),
}

impl Applier {
    /// Whether rows are compared before they are changed.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// Looks whether a batch finds at the target what it expects; if not, its transactions are gone
    /// through one by one.
    pub(super) async fn compare_batch(
        &mut self,
        batch: &[Transaction],
        fates: &[Fate],
    ) -> Result<(), Attempt> {
        let applied = batch.iter().zip(fates);
        let applied = applied.filter(|(_, fate)| **fate == Fate::Applied);
        let changes = applied.flat_map(|(transaction, _)| rows_of(transaction));
        if self.is_as_expected(changes).await? {
            return Ok(());
        }
        let differs = Conflict {
            kind: ConflictKind::UpdateDiffers,
            table: self.config.databases.join(", "),
            key: "one of several rows".to_owned(),
            gtid: batch.last().map(|it| it.gtid.clone()).unwrap_or_default(),
            detail: "a row is not what it was at the source".to_owned(),
        };
        Err(Attempt::Suspect(differs.into()))
    }

    /// Applies a whole transaction row by row.
    pub(super) async fn attempt_judged(
        &mut self,
        transaction: &Transaction,
    ) -> Result<(), Attempt> {
        let copying = self.settled.snapshot.is_under_way();
        let mut open = OpenTransaction::of(transaction, true, copying);
        self.attempt_part(&mut open, transaction).await?;
        if bookkeeping::newest_epoch(transaction).is_some() {
            self.forget_epochs();
        }
        Ok(())
    }

    /// Whether every row that these changes touch is at the target as it was at the source, which
    /// stays so until the end of the open transaction, and no tombstone counts for them.
    pub(super) async fn is_as_expected<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a TableChange>,
    ) -> Result<bool, WriterError> {
        let mut tables: BTreeMap<(&str, &str), Expected<'_>> = BTreeMap::new();
        let has_tombstones = self.has_tombstones().await?;
        let mut disputable: BTreeSet<Place> = BTreeSet::new();
        for change in changes {
            if bookkeeping::is_ours(&change.table.database) || self.is_left_out(change) {
                continue;
            }
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            if change.lenient && mapping.shared {
                // Which rows are there is asked change by change.
                return Ok(false);
            }
            self.check_comparable(change, &mapping)?;
            let name = (change.table.database.as_str(), change.table.table.as_str());
            let expected = tables
                .entry(name)
                .or_insert_with(|| Expected::new(&change.table, &mapping));
            if *expected.table != *change.table {
                // Two definitions in one batch: their images are not compared with each other.
                return Ok(false);
            }
            expected.add(change);
            if has_tombstones && !change.lenient {
                let rows = change.rows.iter();
                disputable.extend(rows.flat_map(|row| looked_for(row, &mapping)));
            }
        }
        if self.tombstone(&disputable).await?.is_some() {
            return Ok(false);
        }
        for expected in tables.values() {
            let (table, mapping) = (&expected.table, &expected.mapping);
            let found = locked_all(&mut self.target, table, mapping, &expected.places).await?;
            if !expected.are(&found) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Applies the rows of a transaction, or of a part of one, one by one in the open transaction.
    pub(super) async fn judge_rows(
        &mut self,
        transaction: &Transaction,
        changes: &[TableChange],
        tally: &mut Tally,
    ) -> Result<(), WriterError> {
        let Some(policy) = self.policy.clone() else {
            return Ok(());
        };
        let config = Arc::clone(&self.config);
        for change in changes {
            if self.is_left_out(change) {
                continue;
            }
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            let after = change.rows.iter().filter_map(RowChange::after);
            if change.lenient && mapping.shared {
                explain::losses(after, &mapping, &transaction.gtid)?;
                self.put_shared(change, &mapping, &transaction.gtid).await?;
                continue;
            }
            if change.lenient || bookkeeping::is_ours(&change.table.database) {
                let mut plan = Plan::new(true);
                let one = std::slice::from_ref(change);
                self.plan_changes(&mut plan, one, &transaction.gtid, None)
                    .await?;
                for request in plan.finish() {
                    self.run_known(&request, &transaction.gtid).await?;
                }
                continue;
            }
            self.check_comparable(change, &mapping)?;
            explain::losses(after, &mapping, &transaction.gtid)?;
            let on = On {
                link: &config.link,
                transaction,
                change,
                mapping: &mapping,
                policy: &policy,
            };
            for row in &change.rows {
                self.judge_row(&on, row, tally).await?;
            }
        }
        Ok(())
    }

    async fn judge_row(
        &mut self,
        on: &On<'_>,
        row: &RowChange,
        tally: &mut Tally,
    ) -> Result<(), WriterError> {
        if tally.held > 0 && reaches(row, on.mapping) {
            // What the source's binlog says of the rows below may be what is held.
            return Err(Unfit::CascadesToHeld {
                table: on.change.table.to_string(),
                held: tally.held_row.clone(),
            }
            .into());
        }
        let moves = is_move(row, on.mapping);
        let disputed = self.tombstone(&looked_for(row, on.mapping)).await?;
        let mut looks = 0;
        loop {
            let (old, new) = self.look(on, row, moves).await?;
            let is_disputed = disputed.is_some();
            let decision = on.decide(row, old.as_ref(), new.as_ref(), moves, is_disputed)?;
            let written = match &decision {
                Decision::Apply => self.write_row(on, row).await?,
                Decision::Settled(_, outcome) => match outcome.put() {
                    Some(put) => self.write_row(on, put).await?,
                    None => Written::Done,
                },
                Decision::Halt(_) => Written::Done,
            };
            let there = old.as_ref().or(new.as_ref());
            let (decision, detail) = match (written, &disputed) {
                (Written::Done, Some(disputed)) if decision.is_disputed() => {
                    (decision, disputed.clone())
                }
                (Written::Done, _) => (decision, on.differences(row, there)),
                (Written::Clash(clash), _) => (on.policy.clash(), clash.detail),
                (Written::Taken(_), _) if looks < LOOKS => {
                    looks += 1;
                    continue;
                }
                (Written::Taken(taken), _) => return Err(taken.into()),
            };
            return match decision {
                Decision::Apply => Ok(()),
                Decision::Halt(kind) => Err(on.halt(kind, row, there, detail)),
                Decision::Settled(kind, outcome) => {
                    tally.count(kind, &outcome);
                    // There can be thousands a second, and nothing was lost or chosen.
                    if matches!(outcome, Outcome::Added(_)) {
                        return Ok(());
                    }
                    let detail = on.told(detail);
                    let record = on.record(row, (kind, &outcome), there, &detail);
                    if outcome == Outcome::Held {
                        tally.held_row = format!("{} of {}", record.describe(), on.change.table);
                    }
                    self.file(on, &record).await?;
                    Ok(())
                }
            };
        }
    }

    /// Writes the record of a conflict, and a tombstone where its policy keeps one.
    async fn file(&mut self, on: &On<'_>, record: &Record<'_>) -> Result<(), WriterError> {
        let sql = record.insert()?;
        let doing = "writing to multiactive.conflicts";
        self.target.execute(doing, &sql).await?;
        let moves = is_move(record.row, on.mapping);
        if !on
            .policy
            .leaves_tombstone(record.row, record.outcome, moves)
        {
            return Ok(());
        }
        let row = record.describe();
        let said = Tombstone {
            link: record.link,
            source: &on.transaction.origin,
            gtid: &on.transaction.gtid,
            mapping: on.mapping,
            row: &row,
            kind: record.kind.name(),
            state: record.outcome.state(),
        };
        let places = places(record.row, on.mapping, record.found);
        self.remember(&said, &places).await
    }

    /// What is at the keys of a change: of the row before, and of the row after.
    async fn look(
        &mut self,
        on: &On<'_>,
        row: &RowChange,
        moves: bool,
    ) -> Result<(Option<Row>, Option<Row>), WriterError> {
        let (before, after) = match row {
            RowChange::Insert { after } => (None, Some(after)),
            RowChange::Delete { before } => (Some(before), None),
            RowChange::Update { before, after } => (Some(before), moves.then_some(after)),
        };
        let table = &on.change.table;
        let mut found = (None, None);
        if let Some(before) = before {
            found.0 = locked(&mut self.target, table, on.mapping, before).await?;
        }
        if let Some(after) = after {
            found.1 = locked(&mut self.target, table, on.mapping, after).await?;
        }
        if let RowChange::Update { .. } = row
            && !moves
        {
            found.1.clone_from(&found.0);
        }
        Ok(found)
    }

    async fn write_row(&mut self, on: &On<'_>, row: &RowChange) -> Result<Written, WriterError> {
        let change = TableChange {
            table: Arc::clone(&on.change.table),
            rows: vec![row.clone()],
            ..*on.change
        };
        let mut plan = self.plan(true);
        plan.change(&change, on.mapping);
        let mut written = Written::Done;
        for request in plan.finish() {
            // What follows a statement that failed only brings the session back into its usual
            // state.
            match self.run_known(&request, &on.transaction.gtid).await {
                Ok(()) => {}
                Err(WriterError::Conflict(conflict)) => {
                    written = match conflict.kind {
                        ConflictKind::UniqueClash => Written::Clash(conflict),
                        ConflictKind::InsertExists => Written::Taken(conflict),
                        _ => return Err(conflict.into()),
                    };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Refuses what cannot be compared, or would change rows that were not.
    fn check_comparable(&self, change: &TableChange, mapping: &Mapping) -> Result<(), WriterError> {
        if let Some(unfit) = &mapping.incomparable {
            return Err(unfit.clone().into());
        }
        if let Some(policy) = &self.policy {
            policy
                .fits(&change.table)
                .map_err(|error| WriterError::Unsupported(format!("conflicts: {error}")))?;
        }
        let seen = change.flags.logs_cascades || change.flags.no_foreign_key_checks;
        if !seen && !change.lenient && change.rows.iter().any(|row| reaches(row, mapping)) {
            return Err(Unfit::Cascades {
                table: change.table.to_string(),
            }
            .into());
        }
        Ok(())
    }
}
