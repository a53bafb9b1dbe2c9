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
//! A table that is not there at the target has nothing to be emptied. It is made with the first chunk of
//! its copy, which lies behind what was under way when the source said how it is made: statements
//! about it that came before are in that already, and are left out as its changes are. If one comes
//! behind what the source said, the source is asked again.
//!
//! One table after the other; another one begins beside a copy only where the link has halted, and so
//! may never get to the copy's end. Whoever asks again for a table begins it again from the first step.

mod emptying;
pub mod wishes;

use change::{Ddl, DdlObject, SnapshotChunk, TableChange};
use model::Routes;

use crate::apply::Applier;
use crate::checkpoint::{Anew, Checkpoint, SourceEngine};
use crate::error::WriterError;
use crate::sql::plan::Expect;
use crate::status::Done;
use crate::target::lookup::look_up;
use crate::target::table::check_kind;
pub(crate) use emptying::FIRST_ROWS;
use emptying::Guarded;
use wishes::Asked;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is nothing to do.
    Nothing,
    /// Something was committed, and there may be more to do.
    Wrote,
}

impl Applier {
    /// Does the next step, if a table is to be copied anew.
    ///
    /// # Errors
    /// [`WriterError::CopiesAnew`] where the session must begin again, so that the syncer learns of
    /// it.
    pub(crate) async fn rebuild(&mut self) -> Result<Step, WriterError> {
        // What the link has not begun with is copied anyway.
        if self.settled.position.is_none() || self.takes_writes {
            return Ok(Step::Nothing);
        }
        self.look_for_missing().await?;
        let mut emptying = self.settled.snapshot.tables_anew(Anew::Emptying);
        let next = emptying.next().map(|(d, t)| (d.to_owned(), t.to_owned()));
        drop(emptying);
        if let Some((database, table)) = next {
            return self.empty_some(&database, &table).await;
        }
        let asked = wishes::asked(&mut self.target, &self.config.link).await?;
        match asked.iter().find(|asked| self.may_begin(asked)) {
            Some(asked) => self.begin(asked).await,
            None => Ok(Step::Nothing),
        }
    }

    /// Whether a table's turn has come: readers of the copy lack one table at a time. Where the link
    /// has halted nothing is copied before it goes on, so only the table that it has halted at is begun,
    /// beside another one too: what comes for that one is left out then.
    fn may_begin(&self, asked: &Asked) -> bool {
        let Asked {
            database, table, ..
        } = asked;
        let halted_at = self.status.has_halted_at(&format!("{database}.{table}"));
        let mut open = self.settled.snapshot.open();
        halted_at.unwrap_or_else(|| open.all(|other| other == (database, table)))
    }

    /// A table that was not here and is, was made by a person, or by a writer that died before it had
    /// written that down.
    async fn look_for_missing(&mut self) -> Result<(), WriterError> {
        let missing = self.settled.snapshot.tables_anew(Anew::Missing);
        let missing: Vec<_> = missing.map(|(d, t)| (d.to_owned(), t.to_owned())).collect();
        for (database, table) in missing {
            if look_up(&mut self.target, &database, &table)
                .await?
                .is_none()
            {
                continue;
            }
            let wish = wishes::found(&self.config.link, &database, &table);
            let step = (Anew::Emptying, wish.as_str(), Expect::Success);
            return match self.step(&database, &table, step).await? {
                Guarded::Barred(error) => Err(error),
                // The syncer is not to copy it before it is empty.
                Guarded::Ready => Err(WriterError::CopiesAnew {
                    table: format!("{database}.{table}"),
                }),
            };
        }
        Ok(())
    }

    /// Whether a change is of a table that is being emptied, or not made yet, and so is left out.
    pub(crate) fn is_left_out(&self, change: &TableChange) -> bool {
        let (database, table) = (&change.table.database, &change.table.table);
        let anew = self.settled.snapshot.anew(database, table);
        matches!(anew, Some(Anew::Emptying | Anew::Missing))
    }

    /// Whether a statement is about nothing but tables that are not here and are to be copied anew:
    /// how they will be made contains it, or the source is asked for that again.
    pub(crate) fn is_about_missing(&mut self, ddl: &Ddl) -> bool {
        let snapshot = &self.settled.snapshot;
        let is_missing = |object: &DdlObject| {
            let name = object.name.as_ref();
            name.is_some_and(|name| snapshot.anew(&object.database, name) == Some(Anew::Missing))
        };
        let all = !ddl.objects.is_empty() && ddl.objects.iter().all(is_missing);
        for object in &ddl.objects {
            let name = object.name.clone().unwrap_or_default();
            self.described.remove(&(object.database.clone(), name));
        }
        all
    }

    /// Makes a table that is not here, with the first chunk of its copy; says whether it has. No
    /// statement about the table lies between what the source said of it and the chunk.
    pub(crate) async fn make_missing(
        &mut self,
        chunk: &SnapshotChunk,
    ) -> Result<bool, WriterError> {
        let (database, table) = (&chunk.table.database, &chunk.table.table);
        if self.settled.snapshot.anew(database, table) != Some(Anew::Missing) {
            return Ok(false);
        }
        let name = (database.clone(), table.clone());
        let Some(described) = self.described.remove(&name) else {
            // Behind the statements, which were left out: they do not come again.
            self.store(false).await?;
            return Err(WriterError::CopiesAnew {
                table: format!("{database}.{table}"),
            });
        };
        self.make_table(&described).await?;
        self.mappings.clear();
        Ok(true)
    }

    /// Refuses a statement that gives a table another name while its changes are left out: so were
    /// those that came for the other name so far.
    pub(crate) fn check_not_renamed(&self, ddl: &Ddl, gtid: &str) -> Result<(), WriterError> {
        let renames =
            ddl.verb == "RENAME TABLE" || (ddl.verb == "ALTER TABLE" && ddl.objects.len() > 1);
        let snapshot = &self.settled.snapshot;
        let left_out = snapshot.tables_anew(Anew::Emptying);
        let mut left_out = left_out.chain(snapshot.tables_anew(Anew::Missing));
        let met = left_out.find(|(database, table)| {
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
        let position = self.settled.position.as_ref().map(ToString::to_string);
        let link = &self.config.link;
        let wish = wishes::begun(link, asked, there, &position.unwrap_or_default());
        let step = (state, wish.as_str(), Expect::Rows(1));
        match self.step(database, table, step).await? {
            Guarded::Barred(error @ WriterError::EpochMoved) => return Err(error),
            Guarded::Barred(error) => {
                let why = self.barred(&format!("{database}.{table}"), &error);
                return self.refuse(asked, &why).await;
            }
            Guarded::Ready => {}
        }
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
                "{target} holds the newest epoch that it knows of. Either it takes the writes, so that \
                 what it has in {table} is what the others are copies of: rebuild the table in a copy. \
                 Or the link is held before a later epoch: do first what its status says"
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
        if let Err(unfit) = check_kind(&name, &found) {
            return refuse(unfit.to_string());
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

    /// What the wishes say of tables whose copy has ended without a last chunk: they are not there any
    /// more.
    pub(crate) fn dropped_statements(&self, dropped: &[(String, String)]) -> Vec<String> {
        let link = &self.config.link;
        let says = |(database, table): &(String, String)| wishes::dropped(link, database, table);
        dropped.iter().map(says).collect()
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
