//! Removing the rows of a table, and the transactions in which that and each other step is done.

use std::time::{Duration, Instant};

use super::{Step, wishes};
use crate::apply::{Applier, LOCK_EPOCH, READ_EPOCH};
use crate::checkpoint::{self, Anew, Checkpoint};
use crate::epoch::{self, Seen, Verdict};
use crate::error::WriterError;
use crate::failpoint::{self, Point};
use crate::snapshot::epochs_read;
use crate::sql::literal;
use crate::sql::plan::{Expect, Plan, Request, Subject};
use crate::target::session::{Cause, Failure};

/// So many rows are removed in the first transaction of a session: how large they are is not known.
pub(crate) const FIRST_ROWS: u64 = 16;
/// So many at most.
const MOST_ROWS: u64 = 5_000;
/// What a transaction shall take at most: other tables wait for so long, and other members for what
/// it puts into the binlog.
const TIME: Duration = Duration::from_millis(500);

/// What became of a transaction.
pub(super) enum Guarded {
    /// It is ready to be committed.
    Ready,
    /// This is not the member or not the epoch for it; it was rolled back.
    Barred(WriterError),
}

impl Applier {
    /// Removes some rows of a table; when there are none left, its copy begins.
    pub(super) async fn empty_some(
        &mut self,
        database: &str,
        table: &str,
    ) -> Result<Step, WriterError> {
        let mut head = self.guarded(None)?;
        match self.try_guarded(head.drain(), database, table).await? {
            Guarded::Ready => {}
            // It takes the writes now: what it holds is what others are copies of.
            Guarded::Barred(error @ WriterError::CopyIntoPrimary { .. }) => {
                tracing::warn!(%error, "the table is not emptied");
                self.takes_writes = true;
                return Ok(Step::Nothing);
            }
            Guarded::Barred(error) => return Err(error),
        }
        let began = Instant::now();
        let rows = self.rows_a_step;
        let removed = self.remove(database, table, rows).await?;
        if removed.is_some() {
            self.commit().await?;
            self.rows_a_step = next_rows(rows, began.elapsed());
        }
        failpoint::pass(Point::WhileEmptying);
        let state = match removed {
            Some(removed) if removed >= rows => return Ok(Step::Wrote),
            Some(_) => Anew::Copying,
            None => Anew::Missing,
        };
        let wish = wishes::emptied(&self.config.link, database, table);
        let step = (state, wish.as_str(), Expect::Success);
        match self.step(database, table, step).await? {
            Guarded::Barred(error) => return Err(error),
            Guarded::Ready => {}
        }
        failpoint::pass(Point::AfterEmptying);
        Err(WriterError::CopiesAnew {
            table: format!("{database}.{table}"),
        })
    }

    /// Removes so many rows in the open transaction; says how many there were, `None` (and it is
    /// rolled back) if there is no such table any more: it was dropped at the source, and so here.
    async fn remove(
        &mut self,
        database: &str,
        table: &str,
        rows: u64,
    ) -> Result<Option<u64>, WriterError> {
        let mut delete = b"DELETE FROM ".to_vec();
        literal::table(&mut delete, database, table);
        delete.extend_from_slice(format!(" LIMIT {rows}").as_bytes());
        let mut request = Request::default();
        for sql in [
            b"SET foreign_key_checks=0".as_slice(),
            &delete,
            b"SELECT ROW_COUNT()",
            b"SET foreign_key_checks=1",
        ] {
            request.push(Subject::Housekeeping, Expect::Success, sql);
        }
        let cause = match self.target.run(&request).await {
            Ok(answers) => return Ok(Some(answers.into_iter().nth(2).flatten().unwrap_or(0))),
            Err(failure) => failure.cause,
        };
        match cause {
            Cause::Driver(mysql_async::Error::Server(error))
                if matches!(error.code, 1146 | 1049) =>
            {
                self.target.roll_back().await?;
                Ok(None)
            }
            Cause::Driver(source) => {
                let _gone_otherwise = self.target.roll_back().await;
                Err(emptying(source, database, table))
            }
            // None of the statements must report anything.
            _ => Err(WriterError::CheckpointMoved),
        }
    }

    /// Writes down a table's next state, with what its wish says then.
    pub(super) async fn step(
        &mut self,
        database: &str,
        table: &str,
        (state, wish, expect): (Anew, &str, Expect),
    ) -> Result<Guarded, WriterError> {
        let mut next: Checkpoint = self.settled.clone();
        next.record.serial = self.stored.record.serial + 1;
        next.snapshot.begin_anew(database, table, state);
        let mut plan = self.guarded(Some(&next))?;
        plan.housekeeping(expect, wish.as_bytes());
        let outcome = self.try_guarded(plan.finish(), database, table).await?;
        if matches!(outcome, Guarded::Ready) {
            self.commit().await?;
            self.now_at(next);
        }
        Ok(outcome)
    }

    /// The head of a transaction that needs this writer to be the link's, the source's epoch to be the
    /// newest, and the target not to hold it. `next`: what the link's row becomes.
    fn guarded(&self, next: Option<&Checkpoint>) -> Result<Plan, WriterError> {
        let mut plan = Plan::new(false);
        plan.housekeeping(Expect::Success, b"START TRANSACTION");
        if let Some(next) = next {
            let update = self.update_statement(next, true)?;
            plan.checkpoint(Expect::Rows(1), &update);
        } else {
            let lock = checkpoint::lock(&self.config.link, &self.stored.record);
            plan.checkpoint(Expect::Answer(1), &lock);
        }
        plan.epoch(LOCK_EPOCH);
        plan.epoch(READ_EPOCH);
        plan.not_held_by(self.config.target.idc.as_str());
        Ok(plan)
    }

    async fn try_guarded(
        &mut self,
        requests: Vec<Request>,
        database: &str,
        table: &str,
    ) -> Result<Guarded, WriterError> {
        let mut epochs = Vec::new();
        for request in requests {
            let failure = match self.target.run(&request).await {
                Ok(answers) => {
                    epochs.extend(epochs_read(&request, &answers));
                    continue;
                }
                Err(failure) => failure,
            };
            let Failure { index, cause } = failure;
            let subject = &request.statements[index].subject;
            let error = match cause {
                Cause::Driver(source) => {
                    let _gone_otherwise = self.target.roll_back().await;
                    return Err(emptying(source, database, table));
                }
                _ if *subject == Subject::Epoch => self.barred_by_primary(database, table),
                // The wish was taken back meanwhile, or the link's row is another's.
                _ => WriterError::CheckpointMoved,
            };
            self.target.roll_back().await?;
            return match error {
                WriterError::CheckpointMoved => Err(error),
                error => Ok(Guarded::Barred(error)),
            };
        }
        let [locked, read] = *epochs else {
            self.target.roll_back().await?;
            return Ok(Guarded::Barred(WriterError::EpochMoved));
        };
        let epoch = self.settled.record.epoch;
        let error = match epoch::judge(epoch, Seen { locked, read }) {
            Verdict::Current => return Ok(Guarded::Ready),
            Verdict::LookAgain => WriterError::EpochMoved,
            Verdict::Ended { newest } => WriterError::CopyOfEndedEpoch {
                table: format!("{database}.{table}"),
                source_idc: self.config.source.idc.to_string(),
                epoch,
                newest,
            },
        };
        self.target.roll_back().await?;
        Ok(Guarded::Barred(error))
    }

    fn barred_by_primary(&self, database: &str, table: &str) -> WriterError {
        WriterError::CopyIntoPrimary {
            table: format!("{database}.{table}"),
            source_idc: self.config.source.idc.to_string(),
            target_idc: self.config.target.idc.to_string(),
        }
    }
}

fn emptying(source: mysql_async::Error, database: &str, table: &str) -> WriterError {
    let doing = format!("emptying {database}.{table} to copy it anew");
    WriterError::Target { doing, source }
}

/// How many rows the next transaction removes, after one that took so long.
fn next_rows(rows: u64, took: Duration) -> u64 {
    let next = if took > TIME {
        rows / 2
    } else if took < TIME / 5 {
        rows * 4
    } else {
        rows
    };
    next.clamp(FIRST_ROWS, MOST_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_take_long_to_remove_are_removed_a_few_at_a_time() {
        let next = |rows, millis| next_rows(rows, Duration::from_millis(millis));
        assert_eq!(next(FIRST_ROWS, 5), 64);
        assert_eq!(next(4_096, 5), MOST_ROWS);
        assert_eq!(next(1_000, 300), 1_000);
        assert_eq!(next(1_000, 501), 500);
        assert_eq!(next(20, 9_000), FIRST_ROWS);
    }
}
