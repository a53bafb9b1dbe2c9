//! Whole transactions, several to a target transaction. While the link is behind, the next batch is
//! gathered and its rows are planned while the server works on the one before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use change::{Frame, Transaction};

use super::Follower;
use crate::apply::ahead::Ahead;
use crate::batch::{Batch, Gauge};
use crate::error::WriterError;
use crate::stream::Stream;

/// A batch, and its rows if they were planned.
type Planned = (Batch, Option<Ahead>);

impl Follower<'_> {
    /// Applies a batch, and those that were gathered meanwhile.
    pub(super) async fn batches(&mut self, first: Batch) -> Result<(), WriterError> {
        let mut next = Some((first, None));
        while let Some((batch, ahead)) = next {
            if let Some(against) = &self.against {
                against.check()?;
            }
            next = self.apply(&batch, ahead.as_ref()).await?;
            self.done();
            self.last_use = Instant::now();
            self.last_frame = self.last_use;
        }
        Ok(())
    }

    /// Applies a batch, and plans the next one meanwhile; `None` if it is not here, or something else
    /// is to be done first.
    async fn apply(
        &mut self,
        batch: &Batch,
        ahead: Option<&Ahead>,
    ) -> Result<Option<Planned>, WriterError> {
        let now = Instant::now();
        let is_due = self.shutdown.is_cancelled() || self.look_at.min(self.anew_at) <= now;
        let planner = self.applier.planner();
        let planner = planner.filter(|_| self.full && !is_due && self.failed.is_none());
        let max_rows = self.max_rows();
        let applied = self.applier.transactions(&batch.transactions, ahead);
        let Some(planner) = planner else {
            return applied.await.map(|()| None);
        };
        tokio::pin!(applied);
        let gathered = tokio::select! {
            biased;
            done = &mut applied => return done.map(|()| None),
            next = gather(&mut self.stream, &mut self.queue, &mut self.failed, max_rows) => next,
        };
        let Some(next) = gathered else {
            return applied.await.map(|()| None);
        };
        let planning = tokio::task::spawn_blocking(move || {
            let ahead = planner.plan(&next.transactions);
            (next, ahead)
        });
        applied.await?;
        match planning.await {
            Ok(next) => Ok(Some(next)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Takes along what is here already. Latency comes first: only while the link is behind, which
    /// shows in full batches, does it wait for more.
    pub(super) async fn fill(&mut self, first: Transaction) -> Batch {
        let max_rows = self.max_rows();
        let linger = Duration::from_millis(self.applier.config.apply.linger_millis);
        let until = Instant::now() + if self.full { linger } else { Duration::ZERO };
        let mut batch = Batch::of(first);
        loop {
            if batch.fill(&mut self.queue, max_rows) {
                self.full = true;
                return batch;
            }
            // The queue is empty here.
            if let Some(frames) = self.stream.try_next() {
                if !take(&mut self.queue, &mut self.failed, frames) {
                    return batch;
                }
                continue;
            }
            let now = Instant::now();
            if now >= until {
                self.full = false;
                return batch;
            }
            tokio::select! {
                frames = self.stream.next() => if !take(&mut self.queue, &mut self.failed, frames) {
                    return batch;
                },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    fn max_rows(&self) -> u64 {
        u64::from(self.applier.config.apply.max_rows)
    }
}

/// Waits until the queue begins with a full batch, and takes that. `None` if it begins with something
/// else, or nothing follows. What was not taken stays in the queue, also where this is dropped.
async fn gather(
    stream: &mut Stream,
    queue: &mut VecDeque<Frame>,
    failed: &mut Option<WriterError>,
    max_rows: u64,
) -> Option<Batch> {
    let mut gauge = Gauge::default();
    while !gauge.is_full(queue, max_rows) {
        let frames = stream.next().await;
        if !take(queue, failed, frames) {
            return None;
        }
    }
    Batch::take(queue, max_rows)
}

/// Queues frames. False if there are none, and why is kept until what came before is applied.
fn take(
    queue: &mut VecDeque<Frame>,
    failed: &mut Option<WriterError>,
    frames: Result<Vec<Frame>, WriterError>,
) -> bool {
    match frames {
        Ok(frames) => {
            queue.extend(frames);
            true
        }
        Err(error) => {
            *failed = Some(error);
            false
        }
    }
}
