//! Applying: rows, checkpoint and epoch check in one transaction of the target.

pub(crate) mod ahead;
mod beside;
mod fates;
mod gate;
mod judged;
mod on;
mod parts;
mod relayed;
mod shared;
mod states;
mod tombstones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use change::{Body, Position, RowChange, SnapshotTable, TableChange, Transaction};
use model::{HaltedAt, LinkConfig};
use mysql::session::SessionOptions;

use crate::bookkeeping;
use crate::checkpoint::{self, Checkpoint, Newest};
use crate::conflict::Policy;
use crate::epoch::{Epochs, Fate};
use crate::error::{Class, WriterError};
use crate::explain;
use crate::failpoint::{self, Point};
use crate::lag;
use crate::rebuild::FIRST_ROWS;
use crate::skip::{self, Wish};
use crate::sql::merge::Merge;
use crate::sql::plan::{Expect, Plan, Request, Subject};
use crate::status::{Done, Status};
use crate::target::lookup::Mappings;
use crate::target::session::{Cause, Failure, Target};
use crate::target::table::Mapping;
use crate::undo::Filed;
use ahead::Ahead;
pub(crate) use on::reaches;
use parts::OpenTransaction;
pub(crate) use relayed::Relayed;
pub(crate) use shared::clash;

/// A collision with another transaction is tried again so often before everything starts anew.
const COLLISIONS: u32 = 6;

/// Before the row of an epoch, in the order in which a promotion locks them.
const LOCK_APPLIED: &[u8] = b"SELECT link FROM multiactive.applied ORDER BY link FOR UPDATE";
/// Locks the newest epoch, then reads it; see [`epoch`] for why twice.
pub(crate) const LOCK_EPOCH: &[u8] =
    b"SELECT epoch FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1 LOCK IN SHARE MODE";
pub(crate) const READ_EPOCH: &[u8] =
    b"SELECT epoch FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1";

/// Applies what comes, over the one session that holds the link's lock.
pub(crate) struct Applier {
    pub target: Target,
    pub mappings: Mappings,
    pub options: SessionOptions,
    pub config: Arc<LinkConfig>,
    pub status: Status,
    /// The row in `multiactive.applied`.
    pub stored: Checkpoint,
    /// What has been settled; ahead of `stored` by what had nothing to apply.
    pub settled: Checkpoint,
    /// One row a statement, one source transaction a target transaction: slow, and every error
    /// names its row.
    pub careful: bool,
    /// How rows are judged that are compared before they are changed; `None`: they are not.
    policy: Option<Policy>,
    /// Whether the link has tombstones; `None`: it is not known.
    tombstones: Option<bool>,
    /// The rows of `multiactive.epoch`; `None` if they are to be read again.
    epochs: Option<Epochs>,
    /// The open transaction of a source transaction that comes in parts.
    open: Option<OpenTransaction>,
    /// What of the target's the source has filed and is in line there.
    pub taken_back: Filed,
    /// What the target had when something was seen to be filed late.
    pub filed_late_by: Option<Position>,
    /// That a person wants the transaction left out at which the session before this one halted.
    pub wish: Option<Wish>,
    /// The transaction that this session has halted at, gone through row by row.
    pub halted_at: Option<HaltedAt>,
    /// How the source makes the tables that are not here and are to be copied anew, as long as no
    /// statement about them has come since it said so.
    pub described: BTreeMap<(String, String), SnapshotTable>,
    /// This server turned out to take the writes, so nothing is copied anew in this session.
    pub takes_writes: bool,
    /// So many rows of a table that is emptied are removed next.
    pub rows_a_step: u64,
}

/// How an attempt failed.
enum Attempt {
    /// Said already as well as can be.
    Known(WriterError),
    /// Something did not fit; going through it row by row tells what.
    Suspect(WriterError),
}

impl From<WriterError> for Attempt {
    fn from(error: WriterError) -> Self {
        Self::Known(error)
    }
}

impl Applier {
    /// # Errors
    /// [`WriterError::Unsupported`] for settings that cannot work.
    pub(crate) fn new(
        target: Target,
        options: SessionOptions,
        config: Arc<LinkConfig>,
        status: Status,
        stored: Checkpoint,
        careful: bool,
    ) -> Result<Self, WriterError> {
        let policy = Policy::of(&config.conflicts).map_err(WriterError::Unsupported)?;
        if let Some(policy) = &policy {
            let suits = policy.suits(&config.origins, config.snapshot.mode);
            suits.map_err(WriterError::Unsupported)?;
        }
        Ok(Self {
            policy,
            tombstones: None,
            target,
            mappings: Mappings::new(model::Routes::of(&config)),
            options,
            config,
            status,
            settled: stored.clone(),
            stored,
            careful,
            epochs: None,
            open: None,
            taken_back: Filed::default(),
            filed_late_by: None,
            wish: None,
            halted_at: None,
            described: BTreeMap::new(),
            takes_writes: false,
            rows_a_step: FIRST_ROWS,
        })
    }

    /// Applies whole source transactions, in order, in one target transaction; row by row if that
    /// fails, to name what does not fit. `ahead`: their rows, if they were planned already.
    pub(crate) async fn transactions(
        &mut self,
        batch: &[Transaction],
        ahead: Option<&Ahead>,
    ) -> Result<(), WriterError> {
        if !self.careful {
            match self.with_retries(batch, false, ahead).await {
                Ok(()) => return Ok(()),
                Err(Attempt::Known(error)) => return Err(error),
                Err(Attempt::Suspect(error)) => {
                    tracing::debug!(%error, "going through the transactions one by one");
                }
            }
        }
        for transaction in batch {
            match self
                .with_retries(std::slice::from_ref(transaction), true, None)
                .await
            {
                Ok(()) => {}
                Err(Attempt::Known(error) | Attempt::Suspect(error)) => {
                    self.halted_at = skip::halted_at(transaction, &error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn with_retries(
        &mut self,
        batch: &[Transaction],
        careful: bool,
        ahead: Option<&Ahead>,
    ) -> Result<(), Attempt> {
        let mut collisions = 0;
        loop {
            let failed = match self.attempt(batch, careful, ahead).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            self.forget_epochs();
            // Nothing may stay open; if this fails too, the session is gone and with it the
            // transaction.
            let rolled_back = self.target.roll_back().await;
            match &failed {
                Attempt::Known(error)
                    if error.class() == Class::Collision
                        && !matches!(error, WriterError::CheckpointMoved)
                        && rolled_back.is_ok()
                        && collisions < COLLISIONS =>
                {
                    collisions += 1;
                    self.status.stopped(error);
                    tokio::time::sleep(Duration::from_millis(2 << collisions)).await;
                }
                _ => return Err(failed),
            }
        }
    }

    async fn attempt(
        &mut self,
        batch: &[Transaction],
        careful: bool,
        ahead: Option<&Ahead>,
    ) -> Result<(), Attempt> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let Some(position) = &last.position else {
            return Ok(());
        };
        if careful && self.policy.is_some() {
            return self.attempt_judged(last).await;
        }
        let mut fates = Vec::with_capacity(batch.len());
        for transaction in batch {
            fates.push(self.fate(transaction).await?);
        }
        let next = self.after(batch, &fates, position);
        let mut plan = self.plan(careful);
        plan.housekeeping(Expect::Success, b"START TRANSACTION");
        let row = bookkeeping::epoch_row(last)?;
        if row.is_some() {
            plan.housekeeping(Expect::Success, LOCK_APPLIED);
        }
        let update = self.update_statement(&next, false)?;
        plan.checkpoint(Expect::Rows(1), &update);
        let checks_epoch = batch.iter().any(bookkeeping::is_data);
        if checks_epoch {
            plan.epoch(LOCK_EPOCH);
            plan.epoch(READ_EPOCH);
        }
        let mut judged = !checks_epoch;
        let mut epochs = Vec::new();
        if let Some(row) = row {
            self.run_all(plan.drain(), &last.gtid, careful, &mut judged, &mut epochs)
                .await?;
            self.check_way(&row).await?;
        }
        if self.policy.is_some() {
            self.run_all(plan.drain(), &last.gtid, careful, &mut judged, &mut epochs)
                .await?;
            self.compare_batch(batch, &fates).await?;
        }
        let requests = self.requests(plan, (batch, &fates), careful, ahead).await?;
        self.run_all(requests, &last.gtid, careful, &mut judged, &mut epochs)
            .await?;
        self.commit().await?;
        let changes = batch.iter().map(Transaction::change_count).sum();
        let settled = changes + batch.iter().map(|it| it.filtered).sum::<u64>();
        self.stored = next;
        self.settled = self.stored.clone();
        if batch
            .iter()
            .any(|it| bookkeeping::newest_epoch(it).is_some())
        {
            self.forget_epochs();
        }
        let (stranded, held) = self.tell_all_filed(batch, &fates);
        let lag_millis = Some(lag::of_batch(batch, position, &self.config.source.idc));
        let done = Done {
            transactions: batch.len() as u64 - stranded - held,
            changes,
            settled,
            stranded,
            held,
            lag_millis,
        };
        self.status.committed(&self.stored, done);
        Ok(())
    }

    /// Runs requests; as soon as the epochs are read, they are compared with those by which was
    /// judged.
    async fn run_all(
        &mut self,
        requests: Vec<Request>,
        gtid: &str,
        careful: bool,
        judged: &mut bool,
        epochs: &mut Vec<u64>,
    ) -> Result<(), Attempt> {
        for request in requests {
            epochs.extend(self.run(&request, gtid, careful).await?);
            if !*judged && epochs.len() >= 2 {
                *judged = true;
                self.check_epochs(epochs)?;
            }
        }
        Ok(())
    }

    /// The checkpoint after these transactions.
    fn after(&self, batch: &[Transaction], fates: &[Fate], position: &Position) -> Checkpoint {
        let mut next = self.settled.clone();
        if let Some(last) = batch.last() {
            next.arrive(position, last.epoch, Some(last.into()));
        }
        next.record.serial = self.stored.record.serial + 1;
        for (transaction, fate) in batch.iter().zip(fates) {
            let changes = transaction.change_count();
            match fate {
                Fate::Stranded { .. } => next.record.ledger.stranded += changes,
                Fate::Held => next.record.ledger.held += changes,
                _ => next.record.ledger.applied += changes,
            }
            next.record.ledger.filtered += transaction.filtered;
            next.record.ledger.read += changes + transaction.filtered;
            // The last part of a large one need not change data itself.
            let data = bookkeeping::is_data(transaction) || transaction.part > 0;
            if data && *fate == Fate::Applied {
                next.record.newest = Some(Newest::of(transaction));
            }
        }
        next
    }

    pub(crate) fn update_statement(
        &self,
        next: &Checkpoint,
        with_snapshot: bool,
    ) -> Result<Vec<u8>, WriterError> {
        checkpoint::update(&self.config.link, &self.stored.record, next, with_snapshot).map_err(
            |error| WriterError::CheckpointUnreadable {
                reason: error.to_string(),
            },
        )
    }

    /// Adds changes, merged with others of the batch where that is right and asked for.
    async fn plan_changes<'a>(
        &mut self,
        plan: &mut Plan,
        changes: &'a [TableChange],
        gtid: &str,
        mut merge: Option<&mut Merge<'a>>,
    ) -> Result<(), WriterError> {
        for change in changes {
            if self.is_left_out(change) {
                continue;
            }
            if bookkeeping::is_ours(&change.table.database) {
                bookkeeping::check(change, &self.config)?;
            }
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            let place = (gtid, &*self.config);
            plan_change(plan, change, &mapping, place, merge.as_deref_mut())?;
        }
        Ok(())
    }

    /// An empty plan for a session in its usual state.
    fn plan(&self, careful: bool) -> Plan {
        Plan::new(careful).while_copying(self.settled.snapshot.is_under_way())
    }

    /// Runs a request; the answers are those of the epoch reads, 0 where there is no row.
    async fn run(
        &mut self,
        request: &Request,
        gtid: &str,
        careful: bool,
    ) -> Result<Vec<u64>, Attempt> {
        match self.target.run(request).await {
            Ok(answers) => Ok(request
                .statements
                .iter()
                .zip(answers)
                .filter(|(statement, _)| statement.subject == Subject::Epoch)
                .map(|(_, answer)| answer.unwrap_or(0))
                .collect()),
            Err(failure) => self
                .failure(request, failure, gtid, careful)
                .await
                .map(|()| Vec::new()),
        }
    }

    /// Runs a request of which every failure is said as well as can be.
    pub(crate) async fn run_known(
        &mut self,
        request: &Request,
        gtid: &str,
    ) -> Result<(), WriterError> {
        match self.run(request, gtid, true).await {
            Ok(_) => Ok(()),
            Err(Attempt::Known(error) | Attempt::Suspect(error)) => Err(error),
        }
    }

    /// What a failure means. `Ok` if it means nothing: warnings that do not speak of values.
    async fn failure(
        &mut self,
        request: &Request,
        failure: Failure,
        gtid: &str,
        careful: bool,
    ) -> Result<(), Attempt> {
        let statement = &request.statements[failure.index];
        if statement.subject == Subject::Checkpoint
            && matches!(failure.cause, Cause::Rows { .. } | Cause::Answer)
        {
            return Err(WriterError::CheckpointMoved.into());
        }
        if statement.subject == Subject::Wish && matches!(failure.cause, Cause::Rows { .. }) {
            return Err(WriterError::SkipWithdrawn {
                gtid: gtid.to_owned(),
            }
            .into());
        }
        if let Cause::Driver(error) = failure.cause {
            let error = explain::driver(error, statement, gtid);
            return Err(match error.class() {
                Class::Halt if !careful => Attempt::Suspect(error),
                _ => Attempt::Known(error),
            });
        }
        if careful && matches!(failure.cause, Cause::Warnings) {
            return match self.target.warnings(statement.warnings).await? {
                Some(text) => Err(explain::warning(statement, gtid, &text).into()),
                None => Ok(()),
            };
        }
        let error = explain::mismatch(&failure.cause, statement, gtid);
        Err(if careful {
            Attempt::Known(error)
        } else {
            Attempt::Suspect(error)
        })
    }

    pub(crate) async fn commit(&mut self) -> Result<(), WriterError> {
        failpoint::pass(Point::BeforeCommit);
        self.target.execute("committing", b"COMMIT").await?;
        failpoint::pass(Point::AfterCommit);
        Ok(())
    }

    /// Keeps in the row of the link that the source lacks what was applied from it.
    pub(crate) async fn went_back(&mut self, message: String) -> WriterError {
        self.settled.record.went_back = Some(message.clone());
        match self.store(false).await {
            Ok(()) => WriterError::SourceWentBack {
                message,
                link: self.config.link.to_string(),
            },
            // It could not be kept, so it is met again before anything is applied.
            Err(error) => error,
        }
    }

    /// Writes what is settled into the row of the link, with nothing else.
    pub(crate) async fn store(&mut self, with_snapshot: bool) -> Result<(), WriterError> {
        self.store_with(with_snapshot, &[]).await
    }

    /// Writes what is settled into the row of the link, in one transaction with these statements.
    pub(crate) async fn store_with(
        &mut self,
        with_snapshot: bool,
        also: &[String],
    ) -> Result<(), WriterError> {
        let mut next = self.settled.clone();
        next.record.serial = self.stored.record.serial + 1;
        let sql = self.update_statement(&next, with_snapshot)?;
        let mut request = Request::default();
        if !also.is_empty() {
            request.push(Subject::Housekeeping, Expect::Success, b"START TRANSACTION");
        }
        request.push(Subject::Checkpoint, Expect::Rows(1), &sql);
        for sql in also {
            request.push(Subject::Housekeeping, Expect::Success, sql.as_bytes());
        }
        match self.target.run(&request).await {
            Ok(_) => {}
            Err(Failure {
                cause: Cause::Driver(source),
                ..
            }) => {
                return Err(WriterError::Target {
                    doing: "writing the checkpoint".to_owned(),
                    source,
                });
            }
            // The session ends with it, and what is open with the session.
            Err(_) => return Err(WriterError::CheckpointMoved),
        }
        if !also.is_empty() {
            self.commit().await?;
        }
        self.stored = next;
        self.settled = self.stored.clone();
        Ok(())
    }
}

/// Adds the changes of one table, merged with others of the batch where that is right and asked for.
/// `place`: the transaction, and the link that it came by.
fn plan_change<'a>(
    plan: &mut Plan,
    change: &'a TableChange,
    mapping: &Arc<Mapping>,
    place: (&str, &LinkConfig),
    merge: Option<&mut Merge<'a>>,
) -> Result<(), WriterError> {
    let (gtid, config) = place;
    if bookkeeping::is_ours(&change.table.database) {
        bookkeeping::check(change, config)?;
        return bookkeeping::plan(plan, change, mapping);
    }
    let after = change.rows.iter().filter_map(RowChange::after);
    explain::losses(after, mapping, gtid)?;
    match merge {
        Some(merge) => merge.change(plan, change, mapping),
        None => plan.change(change, mapping),
    }
    Ok(())
}

fn rows_of(transaction: &Transaction) -> &[TableChange] {
    match &transaction.body {
        Body::Rows(changes) => changes,
        Body::Ddl(_) => &[],
    }
}
