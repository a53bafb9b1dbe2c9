//! Following the stream of one session: which frames are taken together, what is written when.

mod batches;
mod hold;
mod relay;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use change::{Body, Frame, Halt, Progress, Transaction};
use model::HaltedAt;
use tokio_util::sync::CancellationToken;

use crate::alone::Against;
use crate::apply::Applier;
use crate::batch::{Batch, is_whole_rows};
use crate::bookkeeping::epoch_row;
use crate::cascades::Cascades;
use crate::checkpoint::{Checkpoint, Last};
use crate::error::WriterError;
use crate::lag;
use crate::rebuild::Step;
use crate::skip;
use crate::status::Done;
use crate::stream::Stream;

/// While nothing comes, the session shows so often that it lives, well within the time after which
/// the server drops it.
const BEAT: Duration = Duration::from_secs(15);
/// Progress that leaves out changes of others is written this long after it came, if no change
/// takes it along first.
const STORE_AFTER: Duration = Duration::from_millis(250);
/// Progress that leaves out nothing is mostly the echo of a checkpoint, ours or the opposite
/// link's. Were it written at once, the two links would answer each other for ever.
const STORE_ECHO_AFTER: Duration = Duration::from_secs(3600);
/// When an error is still told and nothing has come for so long, it is past.
const QUIET: Duration = Duration::from_secs(3);

/// So often it looks whether a table is to be copied anew.
const LOOK_FOR_WISHES: Duration = Duration::from_secs(1);
/// So often it looks whether more was filed of a target that was in line, and for triggers there.
const LOOK_FOR_FILED: Duration = Duration::from_secs(10);

/// Follows the stream of one session.
pub(crate) struct Follower<'a> {
    applier: Applier,
    stream: Stream,
    queue: VecDeque<Frame>,
    /// Why nothing follows what is queued.
    failed: Option<WriterError>,
    shutdown: CancellationToken,
    /// The last batch was full: the link is behind, and waiting a little for more pays.
    full: bool,
    /// Since when the checkpoint is behind what is settled, and whether changes were left out.
    unstored: Option<(Instant, bool)>,
    last_use: Instant,
    /// When something came last.
    last_frame: Instant,
    /// When to look next for what was filed of the target's.
    look_at: Instant,
    /// When to look next for tables that are to be copied anew, or to go on emptying one.
    anew_at: Instant,
    progressed: &'a mut bool,
    cascades: Cascades<'a>,
    /// Of a link without a Unit.
    pub(crate) against: Option<Against>,
}

impl<'a> Follower<'a> {
    /// `progressed` becomes true as soon as anything was settled.
    pub(crate) fn new(
        applier: Applier,
        stream: Stream,
        shutdown: CancellationToken,
        cascades: Cascades<'a>,
        progressed: &'a mut bool,
    ) -> Self {
        Self {
            applier,
            stream,
            queue: VecDeque::new(),
            failed: None,
            shutdown,
            full: false,
            unstored: None,
            last_use: Instant::now(),
            last_frame: Instant::now(),
            look_at: Instant::now(),
            anew_at: Instant::now(),
            progressed,
            cascades,
            against: None,
        }
    }

    /// Follows until an error, or until the process shall end.
    pub(crate) async fn follow(&mut self) -> Result<(), WriterError> {
        self.applier.count_stranded().await?;
        self.applier.count_conflicts_held().await?;
        self.applier.count_skipped_open().await?;
        if self.applier.settled.snapshot.lacks_end() {
            self.end_snapshot().await?;
        }
        match self.follow_frames().await {
            Ok(()) => self.finish().await,
            Err(error) => Err(error),
        }
    }

    /// The transaction that it has halted at, if it is one.
    pub(crate) fn halted_at(&self) -> Option<HaltedAt> {
        self.applier.halted_at.clone()
    }

    /// Ends the session with the target.
    pub(crate) async fn close(self) {
        self.applier.target.close().await;
    }

    async fn follow_frames(&mut self) -> Result<(), WriterError> {
        while let Some(frame) = self.next().await? {
            self.handle(frame).await?;
            self.last_use = Instant::now();
            self.last_frame = self.last_use;
        }
        Ok(())
    }

    /// The next frame; `None` if the process shall end.
    async fn next(&mut self) -> Result<Option<Frame>, WriterError> {
        loop {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            let between = !self.applier.is_open();
            if let Some(against) = self.against.as_ref().filter(|_| between) {
                against.check()?;
            }
            // First: what is filed late and cannot be taken back halts the link, and the copy is what
            // settles it.
            if self.anew_at <= Instant::now() && between {
                self.anew().await?;
            }
            if self.look_at <= Instant::now() && between {
                self.look().await?;
            }
            let keys_at = self.cascades.look_at();
            if keys_at.is_some_and(|at| at <= Instant::now()) && between {
                self.compare_keys().await?;
            }
            if let Some(frame) = self.queue.pop_front() {
                return Ok(Some(frame));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let wake = self.wake();
            tokio::select! {
                frames = self.stream.next() => self.queue.extend(frames?),
                () = self.shutdown.cancelled() => {}
                () = Against::found(self.against.as_ref()), if between => {}
                () = tokio::time::sleep_until(wake.into()) => self.chores().await?,
            }
        }
    }

    /// Looks for what was filed of the target's since it was brought in line. Not before the tables
    /// were copied: rows that are not there yet would be taken for changed ones, and what the copy
    /// brings settles it.
    async fn look(&mut self) -> Result<(), WriterError> {
        if self.applier.settled.snapshot.done {
            match self.applier.look_for_filed(&self.stream).await {
                // The stream itself tells whether the syncer is there.
                Err(error @ WriterError::Syncer { .. }) => {
                    // It may have come in the middle of taking a transaction back.
                    self.applier.target.roll_back().await?;
                    tracing::warn!(%error, "what was set aside of the target's is looked for later");
                }
                looked => looked?,
            }
        }
        // A person may have settled some meanwhile.
        self.applier.count_stranded().await?;
        self.applier.count_conflicts_held().await?;
        self.applier.count_skipped_open().await?;
        self.applier.forget_passed_wish().await?;
        self.applier.forget_tombstones().await?;
        // Nothing that comes by the link tells of a trigger that somebody makes at the target.
        let Applier {
            mappings, target, ..
        } = &mut self.applier;
        mappings.check_triggers(target).await?;
        self.look_at = Instant::now() + LOOK_FOR_FILED;
        Ok(())
    }

    async fn compare_keys(&mut self) -> Result<(), WriterError> {
        let Applier {
            target,
            config,
            settled,
            ..
        } = &mut self.applier;
        let position = settled.position.as_ref();
        self.cascades
            .look(config, &self.stream, target, position)
            .await
    }

    /// Begins what a person wants copied anew, and empties such tables, a little each time: what
    /// comes for other tables is applied in between.
    async fn anew(&mut self) -> Result<(), WriterError> {
        let began = Instant::now();
        let outcome = self.applier.rebuild().await;
        if let Ok(Step::Wrote) | Err(WriterError::CopiesAnew { .. }) = &outcome {
            self.unstored = None;
            self.last_use = Instant::now();
            *self.progressed = true;
        }
        let pause = match outcome? {
            Step::Nothing => LOOK_FOR_WISHES,
            // Half of the time is the stream's.
            Step::Wrote => began.elapsed(),
        };
        self.anew_at = Instant::now() + pause;
        Ok(())
    }

    /// Every table was copied; nobody says so again to a writer that ended before it had written that
    /// down.
    async fn end_snapshot(&mut self) -> Result<(), WriterError> {
        // A copy of some tables anew says nothing of the others.
        if !self.applier.settled.snapshot.again {
            self.applier.settle_by_copy(&self.stream).await?;
        }
        self.applier.snapshot_end().await?;
        self.done();
        Ok(())
    }

    fn store_at(&self) -> Option<Instant> {
        let (since, left_out) = self.unstored?;
        Some(
            since
                + if left_out {
                    STORE_AFTER
                } else {
                    STORE_ECHO_AFTER
                },
        )
    }

    fn wake(&self) -> Instant {
        let beat = self.last_use + BEAT;
        // While a transaction is open the checkpoint is written with its end.
        let store = self.store_at().filter(|_| !self.applier.is_open());
        let look = self.look_at.min(self.anew_at);
        let between = !self.applier.is_open();
        let look = between.then_some(look);
        let keys = self.cascades.look_at().filter(|_| between);
        [store, self.quiet_at(), look, keys]
            .into_iter()
            .flatten()
            .fold(beat, Instant::min)
    }

    fn quiet_at(&self) -> Option<Instant> {
        let may_be_past = !self.applier.is_open()
            && self.applier.settled.position.is_some()
            && self.applier.status.tells_error();
        may_be_past.then(|| self.last_frame + QUIET)
    }

    async fn chores(&mut self) -> Result<(), WriterError> {
        let now = Instant::now();
        if self.quiet_at().is_some_and(|at| at <= now) {
            self.applier.status.quiet(&self.applier.settled);
            self.last_frame = now;
        }
        if !self.applier.is_open() && self.store_at().is_some_and(|at| at <= now) {
            self.applier.store(false).await?;
            self.unstored = None;
            self.last_use = now;
        }
        if self.last_use + BEAT <= now {
            self.applier
                .target
                .execute("showing that the session lives", b"DO 1")
                .await?;
            self.last_use = now;
        }
        Ok(())
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), WriterError> {
        if self.applier.is_open() && !matches!(frame, Frame::Transaction(_) | Frame::Halt(_)) {
            return Err(WriterError::Unexpected {
                what: "something else between the parts of a transaction".to_owned(),
                fix: "run the same release of syncer and writer".to_owned(),
            });
        }
        match frame {
            Frame::Transaction(transaction) => self.transaction(transaction).await,
            Frame::Progress(progress) => {
                self.progress(&progress);
                Ok(())
            }
            Frame::SnapshotBegin(begin) => {
                self.applier.snapshot_begin(&begin).await?;
                self.unstored = None;
                // One that goes on is no progress yet: what halted it before may halt it again.
                if !begin.resumed {
                    self.done();
                }
                Ok(())
            }
            Frame::SnapshotChunk(chunk) => {
                self.applier.snapshot_chunk(&chunk).await?;
                self.done();
                Ok(())
            }
            Frame::SnapshotEnd => self.end_snapshot().await,
            Frame::Halt(halt) if halt.reason == Halt::SOURCE_WENT_BACK => {
                Err(self.applier.went_back(halt.message).await)
            }
            Frame::Halt(halt) => Err(WriterError::SyncerHalted {
                reason: halt.reason,
                message: halt.message,
            }),
        }
    }

    /// Something was committed: whatever failed before is past.
    fn done(&mut self) {
        self.unstored = None;
        self.applier.careful = false;
        *self.progressed = true;
    }

    async fn transaction(&mut self, transaction: Transaction) -> Result<(), WriterError> {
        if self.applier.settled.position.is_none() {
            return Err(WriterError::Unexpected {
                what: format!(
                    "transaction {} before the beginning of the snapshot",
                    transaction.gtid
                ),
                fix: "run the same release of syncer and writer".to_owned(),
            });
        }
        if is_whole_rows(&transaction) && !self.applier.is_open() {
            let batch = if let Some(row) = epoch_row(&transaction)? {
                self.hold(&row).await?;
                Batch::of(transaction)
            } else {
                self.fill(transaction).await
            };
            return self.batches(batch).await;
        }
        match &transaction.body {
            Body::Ddl(ddl) => {
                self.applier.check_not_renamed(ddl, &transaction.gtid)?;
                let ran = self.applier.ddl(&transaction, ddl).await;
                if let Err(error) = &ran {
                    self.applier.halted_at = skip::halted_at(&transaction, error);
                }
                ran?;
                self.cascades.statement();
                self.done();
            }
            Body::Rows(_) => {
                self.applier.part(&transaction).await?;
                if transaction.is_last() {
                    self.done();
                }
            }
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) {
        let settled = &mut self.applier.settled;
        settled.arrive(&progress.position, progress.epoch, Last::told(progress));
        settled.record.ledger.filtered += progress.filtered;
        settled.record.ledger.read += progress.filtered;
        let (since, left_out) = self.unstored.unwrap_or((Instant::now(), false));
        let begins = progress.filtered > 0 && !left_out;
        let since = if begins { Instant::now() } else { since };
        self.unstored = Some((since, left_out || progress.filtered > 0));
        let done = Done {
            settled: progress.filtered,
            lag_millis: Some(lag::since_millis(progress.source_micros)),
            ..Done::default()
        };
        self.applier.status.settled(&self.applier.settled, done);
        *self.progressed = true;
    }

    /// The process ends: what is settled is written, an open transaction is rolled back.
    async fn finish(&mut self) -> Result<(), WriterError> {
        if self.applier.is_open() {
            self.applier.target.roll_back().await?;
        } else if matches!(self.unstored, Some((_, true))) {
            self.applier.store(false).await?;
        }
        let Checkpoint { position, .. } = &self.applier.stored;
        let position = position
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::info!(%position, "the link's session ends");
        Ok(())
    }
}
