//! Holding a link before the row of a new epoch, until the target is in line with its source.

use std::time::{Duration, Instant};

use change::Position;

use super::Follower;
use super::relay::Asked;
use crate::epoch::EpochRow;
use crate::epoch::way::{Excess, Way};
use crate::error::WriterError;

/// While the link is held it looks so often whether it may go on.
const LOOK: Duration = Duration::from_millis(200);
/// So often a held link says what it waits for.
const TELL: Duration = Duration::from_secs(1);

impl Follower<'_> {
    /// Waits until nothing stands before this row any more.
    ///
    /// # Errors
    /// If it never can; and when the process shall end, what it waited for.
    pub(super) async fn hold(&mut self, row: &EpochRow) -> Result<(), WriterError> {
        let mut own = None;
        let mut asked = Asked::not_yet();
        let mut told = None;
        loop {
            let error = match self.look_at(row, &mut own, &mut asked).await {
                Ok(true) => return Ok(()),
                Ok(false) => WriterError::EpochMoved,
                Err(WriterError::Aftermath(aftermath)) if aftermath.passes() => aftermath.into(),
                Err(error) => {
                    let _gone_otherwise = self.applier.target.roll_back().await;
                    return Err(error);
                }
            };
            if told.is_none_or(|at: Instant| at.elapsed() >= TELL) {
                self.applier.status.stopped(&error);
                told = Some(Instant::now());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.shutdown.cancelled() => return Err(error),
            }
        }
    }

    /// Whether the row may come; false if something was done for it, and it is to be looked at again.
    async fn look_at(
        &mut self,
        row: &EpochRow,
        own: &mut Option<Position>,
        asked: &mut Asked,
    ) -> Result<bool, WriterError> {
        // A person may have removed the link's row, so that all is copied anew.
        self.applier.check_own_row().await?;
        let way = self.applier.way(row).await?;
        let excess = match &way {
            Way::Clear => return Ok(true),
            Way::TakeBack(excess) => excess,
            Way::Behind { idc, needs, alone } => {
                let mut way = way.clone();
                if *alone && self.relay(row, idc, needs, asked).await? {
                    way = self.applier.way(row).await?;
                }
                return match way {
                    Way::Clear => Ok(true),
                    Way::Behind { .. } => {
                        let why_not = asked.why_not.as_deref().unwrap_or_default();
                        Err(self.applier.stands_before(row.epoch, &way, why_not))
                    }
                    _ => Ok(false),
                };
            }
            _ => return Err(self.applier.stands_before(row.epoch, &way, "")),
        };
        // Nothing is taken back before the source has seen all of it.
        if excess.own {
            self.check_own(row.epoch, own).await?;
        }
        for ahead in &excess.thirds {
            self.applier
                .check_filed_of(&self.stream, row.epoch, ahead)
                .await?;
        }
        self.take_back(excess).await?;
        Ok(excess.thirds.is_empty())
    }

    /// The position that the target had when it was first seen fenced is the one that counts.
    async fn check_own(
        &mut self,
        epoch: u64,
        own: &mut Option<Position>,
    ) -> Result<(), WriterError> {
        if own.is_none() {
            *own = self.applier.fenced_position().await?;
        }
        match own {
            Some(own) => self.applier.check_filed(&self.stream, epoch, own).await,
            None => Err(self.applier.not_fenced(epoch)),
        }
    }

    async fn take_back(&mut self, excess: &Excess) -> Result<(), WriterError> {
        for ahead in &excess.thirds {
            self.applier.take_back_of(&self.stream, ahead).await?;
        }
        if excess.own {
            self.applier.bring_in_line(&self.stream).await?;
        }
        Ok(())
    }
}
