//! A source transaction that comes in parts, since it does not fit into memory.

use change::{Body, Position, Transaction};

use super::judged::Tally;
use super::{Applier, Attempt, LOCK_APPLIED, LOCK_EPOCH, READ_EPOCH, rows_of};
use crate::bookkeeping;
use crate::checkpoint::{self, Checkpoint};
use crate::epoch::Fate;
use crate::error::WriterError;
use crate::failpoint::{self, Point};
use crate::lag;
use crate::skip;
use crate::sql::plan::{Expect, Plan};
use crate::status::Done;
use crate::stranded;

/// The target transaction of a source transaction of which parts are still to come.
pub(crate) struct OpenTransaction {
    /// Whether it is gone through row by row.
    careful: bool,
    tally: Tally,
    gtid: String,
    next_part: u32,
    changes: u64,
    plan: Plan,
    /// What becomes of it: applied, stranded or held.
    fate: Fate,
    /// How many pieces of it were filed, if it is filed rather than applied.
    pieces: u32,
}

impl OpenTransaction {
    pub(super) fn of(transaction: &Transaction, careful: bool, copying: bool) -> Self {
        Self {
            careful,
            tally: Tally::default(),
            gtid: transaction.gtid.clone(),
            next_part: 0,
            changes: 0,
            plan: Plan::new(careful).while_copying(copying),
            fate: Fate::Applied,
            pieces: 0,
        }
    }
}

impl Applier {
    /// Whether a source transaction is open of which parts are still to come.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Applies a part of a source transaction that does not fit into memory. All parts share one
    /// target transaction, committed with the last.
    pub(crate) async fn part(&mut self, part: &Transaction) -> Result<(), WriterError> {
        let copying = self.settled.snapshot.is_under_way();
        let mut open = match self.open.take() {
            None if part.part == 0 => OpenTransaction::of(part, self.careful, copying),
            Some(open) if open.gtid == part.gtid && open.next_part == part.part => open,
            _ => {
                return Err(WriterError::Unexpected {
                    what: format!("part {} of {} out of turn", part.part, part.gtid),
                    fix: "run the same release of syncer and writer".to_owned(),
                });
            }
        };
        match self.attempt_part(&mut open, part).await {
            Ok(()) => {
                if !part.is_last() {
                    open.next_part += 1;
                    self.open = Some(open);
                }
                Ok(())
            }
            Err(Attempt::Known(error) | Attempt::Suspect(error)) => {
                self.forget_epochs();
                let _gone_otherwise = self.target.roll_back().await;
                // Otherwise the next session, row by row, says whether it is this transaction.
                if self.careful {
                    self.halted_at = skip::halted_at(part, &error);
                }
                Err(error)
            }
        }
    }

    pub(super) async fn attempt_part(
        &mut self,
        open: &mut OpenTransaction,
        part: &Transaction,
    ) -> Result<(), Attempt> {
        if part.part == 0 {
            self.begin_parts(open, part).await?;
        }
        match open.fate {
            Fate::Stranded { ended_by } => {
                open.pieces = stranded::plan(&mut open.plan, part, ended_by, open.pieces)?;
            }
            Fate::Held => {
                open.pieces = self.plan_held_pieces(&mut open.plan, part, open.pieces)?;
            }
            // Only one that is filed comes here: no epoch begins anew, no wish goes unseen.
            _ if matches!(part.body, Body::Ddl(_)) => return Err(WriterError::EpochMoved.into()),
            Fate::Applied | Fate::Lacking { .. } => self.apply_part(open, part).await?,
        }
        open.changes += part.change_count();
        let next = part
            .position
            .as_ref()
            .map(|position| self.after_parts(open, part, position));
        if let Some(next) = &next {
            let update = self.update_statement(next, false)?;
            open.plan.checkpoint(Expect::Rows(1), &update);
            open.plan.usual_state();
        }
        self.run_open(open, &part.gtid).await?;
        failpoint::pass(Point::AfterPart);
        if let Some(next) = next {
            self.commit().await?;
            self.stored = next;
            self.settled = self.stored.clone();
            let (stranded, held) = self.tell_all_filed(std::slice::from_ref(part), &[open.fate]);
            let done = Done {
                transactions: 1 - stranded - held,
                changes: open.changes,
                settled: open.changes + part.filtered,
                stranded,
                held,
                lag_millis: part.position.as_ref().map(|position| {
                    lag::of_batch(
                        std::slice::from_ref(part),
                        position,
                        &self.config.source.idc,
                    )
                }),
            };
            self.status.committed(&self.stored, done);
            self.status.conflicts(&open.tally.ended);
        }
        Ok(())
    }

    /// Applies the rows of a part; compared first, where the link has a policy for conflicts.
    async fn apply_part(
        &mut self,
        open: &mut OpenTransaction,
        part: &Transaction,
    ) -> Result<(), Attempt> {
        let rows = rows_of(part);
        // After a change that is held, what others cascade to is looked at row by row.
        let judged = open.careful || open.tally.held > 0;
        let as_is = self.policy.is_none() || (!judged && self.is_as_expected(rows.iter()).await?);
        if as_is {
            return Ok(self
                .plan_changes(&mut open.plan, rows, &part.gtid, None)
                .await?);
        }
        // What is judged row by row begins with a session in its usual state.
        open.plan.usual_state();
        self.run_open(open, &part.gtid).await?;
        Ok(self.judge_rows(part, rows, &mut open.tally).await?)
    }

    async fn run_open(&mut self, open: &mut OpenTransaction, gtid: &str) -> Result<(), Attempt> {
        for request in open.plan.drain() {
            self.run(&request, gtid, open.careful).await?;
        }
        Ok(())
    }

    /// The checkpoint after the last part.
    fn after_parts(
        &self,
        open: &OpenTransaction,
        part: &Transaction,
        position: &Position,
    ) -> Checkpoint {
        let mut next = self.after(std::slice::from_ref(part), &[open.fate], position);
        // The parts before this one count too.
        let earlier = open.changes - part.change_count();
        let ledger = &mut next.record.ledger;
        match open.fate {
            Fate::Stranded { .. } => ledger.stranded += earlier,
            Fate::Held => ledger.held += earlier,
            Fate::Applied | Fate::Lacking { .. } => ledger.applied += earlier,
        }
        ledger.read += earlier;
        ledger.applied -= open.tally.left;
        ledger.conflicts += open.tally.left;
        next
    }

    /// Opens the target transaction, and decides whether the whole is applied or filed.
    async fn begin_parts(
        &mut self,
        open: &mut OpenTransaction,
        part: &Transaction,
    ) -> Result<(), Attempt> {
        bookkeeping::check_origin(part, &self.config)?;
        open.plan
            .housekeeping(Expect::Success, b"START TRANSACTION");
        let row = bookkeeping::epoch_row(part)?;
        if row.is_some() {
            open.plan.housekeeping(Expect::Success, LOCK_APPLIED);
        }
        let lock = checkpoint::lock(&self.config.link, &self.stored.record);
        open.plan.checkpoint(Expect::Answer(1), &lock);
        let fate = self.fate(part).await?;
        // What the parts after this one hold is not known yet.
        let checks_epoch = bookkeeping::is_data(part) || !part.is_last();
        if checks_epoch {
            self.epochs().await?;
            open.plan.epoch(LOCK_EPOCH);
            open.plan.epoch(READ_EPOCH);
        }
        let (mut judged, mut epochs) = (!checks_epoch, Vec::new());
        let head = open.plan.drain();
        self.run_all(head, &part.gtid, open.careful, &mut judged, &mut epochs)
            .await?;
        if let Some(row) = row {
            self.check_way(&row).await?;
        }
        open.fate = fate;
        match fate {
            Fate::Applied | Fate::Stranded { .. } => Ok(()),
            Fate::Held => Ok(self.plan_held(&mut open.plan, part)?),
            Fate::Lacking { ended_by, known } => {
                Err(self.lacking(part, ended_by, known).await.into())
            }
        }
    }
}
