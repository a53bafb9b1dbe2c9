//! Tables that a person wants copied anew, while the link goes on.
//!
//! The wish stands in `multiactive.rebuilds` of the target ([`wishes`]); this carries it out. Where a
//! table is, its entry in the link's row of `multiactive.applied` says ([`Anew`]), and each step is
//! one transaction that changes that row and the wish together, so a writer that dies anywhere finds
//! where it was:
//! 1. *Emptying*. From here on changes of the table are left out, and its rows are removed, a few
//!    thousand in each transaction, between what is applied for other tables. Each such transaction
//!    holds the lock of the newest epoch, as every one of the writer does: a promotion comes before
//!    it or after it. That is why the table is not truncated, which commits by itself and could wait
//!    behind a promotion.
//! 2. *Copying*. The table is empty at this place of the stream, and the next session asks the syncer
//!    for a copy of it from here, as at the beginning of a link. The argument why that is right is in
//!    [`crate::sql::plan`]: rows are only missing, never wrong, which an empty table fulfils. Why
//!    changes may be left out before: they are of rows of which none is kept.
//! 3. Done, with the table's last chunk.
//!
//! A table that is not there at the target has nothing to be emptied, and is made with the beginning of
//! its copy. Whoever asks again for a table begins it again from the first step, whatever halted it.

pub mod wishes;

use change::{Ddl, SnapshotChunk, TableChange};
use model::Routes;

use crate::apply::{Applier, LOCK_EPOCH, READ_EPOCH};
use crate::checkpoint::{self, Anew, Checkpoint, SourceEngine};
use crate::epoch::{self, Seen, Verdict};
use crate::error::WriterError;
use crate::failpoint::{self, Point};
use crate::snapshot::epochs_read;
use crate::sql::literal;
use crate::sql::plan::{Expect, Plan, Subject};
use crate::status::Done;
use crate::target::lookup::look_up;
use crate::target::session::{Cause, Failure};
use wishes::Asked;

/// So many rows are removed in one transaction.
const ROWS: u64 = 5_000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is nothing to do.
    Nothing,
    /// Something was committed, and there may be more to do.
    Wrote,
}

/// What became of a transaction.
enum Guarded {
    /// It is ready to be committed; the first values of its result sets.
    Ready(Vec<Option<u64>>),
    /// This is not the member or not the epoch for it; it was rolled back.
    Barred(WriterError),
}

impl Applier {
    /// Does the next step, if a table is to be copied anew.
    ///
    /// # Errors
    /// [`WriterError::CopiesAnew`] where the session must begin again, so that the syncer learns of
    /// it.
    pub(crate) async fn rebuild(&mut self) -> Result<Step, WriterError> {
        // What the link has not begun with is copied anyway.
        if self.settled.position.is_none() {
            return Ok(Step::Nothing);
        }
        let mut emptying = self.settled.snapshot.tables_anew(Anew::Emptying);
        let next = emptying.next().map(|(d, t)| (d.to_owned(), t.to_owned()));
        drop(emptying);
        if let Some((database, table)) = next {
            return self.empty_some(&database, &table).await;
        }
        match wishes::next(&mut self.target, &self.config.link).await? {
            Some(asked) => self.begin(&asked).await,
            None => Ok(Step::Nothing),
        }
    }

    /// Whether a change is of a table that is being emptied, and so is left out.
    pub(crate) fn is_being_emptied(&self, change: &TableChange) -> bool {
        let (database, table) = (&change.table.database, &change.table.table);
        self.settled.snapshot.anew(database, table) == Some(Anew::Emptying)
    }

    /// Refuses a statement that gives a table another name while it is emptied: what comes for that
    /// name has been left out so far.
    pub(crate) fn check_not_renamed(&self, ddl: &Ddl, gtid: &str) -> Result<(), WriterError> {
        let renames =
            ddl.verb == "RENAME TABLE" || (ddl.verb == "ALTER TABLE" && ddl.objects.len() > 1);
        let mut emptying = self.settled.snapshot.tables_anew(Anew::Emptying);
        let met = emptying.find(|(database, table)| {
            let is = |name: Option<&String>| name.is_some_and(|name| name == table);
            let mut objects = ddl.objects.iter();
            objects.any(|object| object.database == *database && is(object.name.as_ref()))
        });
        match met {
            Some((database, table)) if renames => Err(WriterError::RenamedWhileEmptied {
                table: format!("{database}.{table}"),
                gtid: gtid.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Begins what was asked for, or says why not.
    async fn begin(&mut self, asked: &Asked) -> Result<Step, WriterError> {
        let Asked {
            database, table, ..
        } = asked;
        let there = match self.refusal(asked).await? {
            Ok(there) => there,
            Err(reason) => return self.refuse(asked, &reason).await,
        };
        let before = self.settled.snapshot.tables.get(database);
        let before = before.and_then(|tables| tables.get(table));
        let is_copied = before.is_some_and(|copy| !copy.done);
        let state = if there { Anew::Emptying } else { Anew::Missing };
        let mut next: Checkpoint = self.settled.clone();
        next.record.serial = self.stored.record.serial + 1;
        next.snapshot.begin_anew(database, table, state);
        let mut plan = self.guarded(Some(&next))?;
        let link = &self.config.link;
        let position = next.position.as_ref().map(ToString::to_string);
        let wish = wishes::begun(link, asked, there, &position.unwrap_or_default());
        plan.housekeeping(Expect::Rows(1), wish.as_bytes());
        match self.try_guarded(plan, database, table).await? {
            Guarded::Barred(error @ WriterError::EpochMoved) => return Err(error),
            Guarded::Barred(error) => {
                let why = self.barred(&format!("{database}.{table}"), &error);
                return self.refuse(asked, &why).await;
            }
            Guarded::Ready(_) => self.commit().await?,
        }
        self.now_at(next);
        tracing::info!(%database, %table, run = asked.run, there, "the table is copied anew");
        if there && !is_copied {
            return Ok(Step::Wrote);
        }
        // The syncer copies it already, from where that had got to; or must be told to.
        Err(WriterError::CopiesAnew {
            table: format!("{database}.{table}"),
        })
    }

    /// Why this is not the member, or not the link, by which a table is copied anew.
    fn barred(&self, table: &str, error: &WriterError) -> String {
        let (source, target) = (&self.config.source.idc, &self.config.target.idc);
        match error {
            WriterError::CopyIntoPrimary { .. } => format!(
                "{target} holds the newest epoch and takes the writes, so what it has in {table} is \
                 what the others are copies of: rebuild the table in a copy"
            ),
            WriterError::CopyOfEndedEpoch { epoch, newest, .. } => format!(
                "{source} is the source of epoch {epoch}, which ended here when epoch {newest} began: \
                 rebuild {table} through the link from the new primary"
            ),
            other => other.to_string(),
        }
    }

    /// Whether the table is at the target, or why it cannot be copied anew.
    async fn refusal(&mut self, asked: &Asked) -> Result<Result<bool, String>, WriterError> {
        let Asked {
            database, table, ..
        } = asked;
        let (name, link) = (format!("{database}.{table}"), &self.config.link);
        let refuse = |why: String| Ok(Err(why));
        if self.config.unit.is_none() {
            return refuse(format!(
                "link {link} belongs to no Unit, so nothing says that {} takes no writes of its own, \
                 which would be removed with the rest of {name}",
                self.config.target.idc
            ));
        }
        if !mysql::select::Selection::of(&self.config).has_table(database, table) {
            return refuse(format!("link {link} does not carry table {name}"));
        }
        if let Some(route) = Routes::of(&self.config).met_by(database, Some(table)) {
            return refuse(format!(
                "tables.routes (from {} to {}) meets {name}, and what has another name at the target, \
                 or is there together with other tables, is not copied anew: empty the link's tables \
                 at the target, remove its row from multiactive.applied there, and let it copy them",
                route.from, route.to
            ));
        }
        let Some(found) = look_up(&mut self.target, database, table).await? else {
            return Ok(Ok(false));
        };
        if !found.kind.eq_ignore_ascii_case("BASE TABLE") {
            return refuse(format!("{name} is a {} at the target", found.kind));
        }
        let from_mariadb = self.settled.record.engine == Some(SourceEngine::MariaDb);
        if from_mariadb && (found.foreign.cascades_here || found.foreign.cascades_below) {
            return refuse(cascades(&name));
        }
        Ok(Ok(true))
    }

    async fn refuse(&mut self, asked: &Asked, reason: &str) -> Result<Step, WriterError> {
        tracing::warn!(table = asked.table, reason, "a table is not copied anew");
        let sql = wishes::refused(&self.config.link, asked, reason);
        self.target.execute(wishes::WRITING, sql.as_bytes()).await?;
        Ok(Step::Wrote)
    }

    /// Removes some rows of a table; when there are none left, its copy begins.
    async fn empty_some(&mut self, database: &str, table: &str) -> Result<Step, WriterError> {
        let mut delete = b"DELETE FROM ".to_vec();
        literal::table(&mut delete, database, table);
        delete.extend_from_slice(format!(" LIMIT {ROWS}").as_bytes());
        let mut plan = self.guarded(None)?;
        plan.housekeeping(Expect::Success, b"SET foreign_key_checks=0");
        plan.housekeeping(Expect::Success, &delete);
        plan.housekeeping(Expect::Success, b"SELECT ROW_COUNT()");
        plan.housekeeping(Expect::Success, b"SET foreign_key_checks=1");
        let removed = match self.try_guarded(plan, database, table).await {
            Ok(Guarded::Ready(answers)) => {
                self.commit().await?;
                answers.into_iter().rev().nth(1).flatten().unwrap_or(0)
            }
            // It takes the writes now: what it holds is what others are copies of.
            Ok(Guarded::Barred(error @ WriterError::CopyIntoPrimary { .. })) => {
                tracing::warn!(%error, "the table is not emptied");
                return Ok(Step::Nothing);
            }
            // It was dropped at the source, and so here.
            Err(WriterError::Target {
                source: mysql_async::Error::Server(error),
                ..
            }) if matches!(error.code, 1146 | 1049) => {
                self.target.roll_back().await?;
                0
            }
            Ok(Guarded::Barred(error)) | Err(error) => return Err(error),
        };
        failpoint::pass(Point::WhileEmptying);
        if removed == ROWS {
            return Ok(Step::Wrote);
        }
        let mut next: Checkpoint = self.settled.clone();
        next.record.serial = self.stored.record.serial + 1;
        next.snapshot.begin_anew(database, table, Anew::Copying);
        let mut plan = self.guarded(Some(&next))?;
        let wish = wishes::emptied(&self.config.link, database, table);
        plan.housekeeping(Expect::Success, wish.as_bytes());
        match self.try_guarded(plan, database, table).await? {
            Guarded::Barred(error) => return Err(error),
            Guarded::Ready(_) => self.commit().await?,
        }
        self.now_at(next);
        failpoint::pass(Point::AfterEmptying);
        Err(WriterError::CopiesAnew {
            table: format!("{database}.{table}"),
        })
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
        plan: Plan,
        database: &str,
        table: &str,
    ) -> Result<Guarded, WriterError> {
        let (mut all, mut epochs) = (Vec::new(), Vec::new());
        for request in plan.finish() {
            let failure = match self.target.run(&request).await {
                Ok(answers) => {
                    epochs.extend(epochs_read(&request, &answers));
                    all.extend(answers);
                    continue;
                }
                Err(failure) => failure,
            };
            let Failure { index, cause } = failure;
            let subject = &request.statements[index].subject;
            let error = match cause {
                Cause::Driver(source) => {
                    let doing = format!("emptying {database}.{table} to copy it anew");
                    let _gone_otherwise = self.target.roll_back().await;
                    return Err(WriterError::Target { doing, source });
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
            Verdict::Current => return Ok(Guarded::Ready(all)),
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

    fn now_at(&mut self, next: Checkpoint) {
        self.stored = next;
        self.settled = self.stored.clone();
        self.forget_epochs();
        self.status.settled(&self.stored, Done::default());
    }

    /// Whether a chunk is of a table that is copied anew.
    pub(crate) fn is_copied_anew(&self, chunk: &SnapshotChunk) -> bool {
        let (database, table) = (&chunk.table.database, &chunk.table.table);
        self.settled.snapshot.anew(database, table).is_some()
    }

    /// What the wish says after a chunk.
    pub(crate) fn copied_statement(&self, chunk: &SnapshotChunk) -> Vec<u8> {
        let names = (chunk.table.database.as_str(), chunk.table.table.as_str());
        wishes::copied(&self.config.link, names, chunk.rows_so_far, chunk.done).into_bytes()
    }

    /// Says of tables whose copy has ended without a last chunk that they are not there any more.
    pub(crate) async fn tell_dropped(
        &mut self,
        dropped: &[(String, String)],
    ) -> Result<(), WriterError> {
        for (database, table) in dropped {
            let sql = wishes::dropped(&self.config.link, database, table);
            self.target.execute(wishes::WRITING, sql.as_bytes()).await?;
        }
        Ok(())
    }
}

/// Why a table is not copied anew whose rows foreign keys change unseen.
pub fn cascades(table: &str) -> String {
    format!(
        "table {table} has a foreign key with CASCADE, SET NULL or SET DEFAULT, or is referred to by \
         one, and the source leaves what such a key does out of its binlog, so rows could be copied \
         that are gone meanwhile, or stay that must go: mactl repair --repair mends it row by row"
    )
}
