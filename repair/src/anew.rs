//! Whole tables, copied anew by the link while it goes on: the run asks for one after the other and
//! follows each to its end. What the link's writer does about it is in [`writer::rebuild`].

use std::time::{Duration, Instant};

use model::{RepairControl, RepairPhase};
use mysql::foreign_keys;
use mysql::tables::TableInfo;
use writer::WriterError;
use writer::rebuild::cascades;
use writer::rebuild::wishes::{self, State};

use crate::error::RepairError;
use crate::record;
use crate::run::{Halt, Run, name_of};

/// So often it looks how far a table is.
const LOOK: Duration = Duration::from_millis(300);
/// So often it keeps that, and looks whether the primary has moved.
const KEEP: Duration = Duration::from_secs(1);

/// A link that has not got to a moment of the source within so long is behind.
const BEHIND: Duration = Duration::from_secs(5);

/// When a table has not moved for so long, the others are asked for too.
const STILL: Duration = Duration::from_secs(5);

/// A table of the run.
struct Wanted {
    /// `database.table`.
    name: String,
    database: String,
    table: String,
}

/// What looking at a wish has come to.
enum Looked {
    /// The table's end.
    Over,
    /// It is to be asked for again, once the run goes on.
    TakenBack,
    Halt(Halt),
}

impl Run<'_> {
    /// Has all tables of the run copied anew; `None` if the process shall end before that.
    pub(crate) async fn copy_anew(&mut self) -> Result<Option<RepairPhase>, RepairError> {
        self.check_epoch().await?;
        self.ends.fence.check_begun().await?;
        let mut wanted = Vec::new();
        for (name, ends) in self.tables().await? {
            if self.state.table(&name).done || !self.state.table(&name).refused.is_empty() {
                continue;
            }
            if let Some(why) = self.unfit_for_a_copy(&name, &ends).await? {
                self.refuse(&name, why).await?;
                continue;
            }
            let [database, table] = name_of(&ends);
            wanted.push(Wanted {
                name,
                database,
                table,
            });
        }
        for (index, table) in wanted.iter().enumerate() {
            match self.table_anew(table, &wanted[index..]).await? {
                None => {}
                Some(Halt::Shutdown) => return Ok(None),
                Some(Halt::Stopped) => return Ok(Some(RepairPhase::Stopped)),
            }
        }
        let outcome = self.state.outcome();
        if outcome == RepairPhase::Incomplete {
            "some tables were not copied; the report says which and why"
                .clone_into(&mut self.state.message);
        }
        Ok(Some(outcome))
    }

    /// Why a table cannot be copied anew, as far as the source tells.
    async fn unfit_for_a_copy(
        &mut self,
        name: &str,
        [source, there]: &[Option<TableInfo>; 2],
    ) -> Result<Option<String>, RepairError> {
        let Some(source) = source else {
            return Ok(Some(format!(
                "table {name} is only at the target, so there is nothing to copy; drop it there if it \
                 is not wanted"
            )));
        };
        match source.schema() {
            Err((column, declared)) => {
                return Ok(Some(format!(
                    "column {column} of table {name} has the type {declared}, which links do not carry"
                )));
            }
            Ok(schema) if schema.primary_key.is_empty() => {
                return Ok(Some(format!(
                    "table {name} has no primary key at the source, by whose order it would be copied: \
                     add one"
                )));
            }
            Ok(_) => {}
        }
        if self.cascades_unseen(source).await? {
            let by_hand = if there.is_none() {
                ". Make it at the target first, empty and as it is at the source"
            } else {
                ""
            };
            return Ok(Some(cascades(name) + by_hand));
        }
        if there.is_none() {
            return Ok(None);
        }
        self.unfit_for_rows(source).await
    }

    /// Why the rows of a table would not fit into the one that is at the target. A link that is behind
    /// may bring yet what makes them fit; one that stands still brings nothing.
    async fn unfit_for_rows(&mut self, source: &TableInfo) -> Result<Option<String>, RepairError> {
        let Some(unfit) = self.unfit(source).await? else {
            return Ok(None);
        };
        let fence = self.ends.fence.raise().await?;
        let deadline = Instant::now() + BEHIND;
        let before = self.ends.fence.through().await?;
        if self.ends.fence.wait(&fence, deadline).await? {
            return self.unfit(source).await;
        }
        if self.ends.fence.through().await? == before {
            return Ok(Some(format!(
                "{unfit} (the link stands still, so nothing that is on its way makes the table fit: its \
                 status tells why)"
            )));
        }
        tracing::info!(unfit, "the link is behind, so this may pass");
        Ok(None)
    }

    async fn unfit(&mut self, source: &TableInfo) -> Result<Option<String>, RepairError> {
        let Ok(schema) = source.schema() else {
            return Ok(None);
        };
        match self.ends.writer.fit(&schema).await {
            Ok(_) => Ok(None),
            Err(WriterError::Unfit(unfit)) => Ok(Some(unfit.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether foreign keys from or to a table change rows without a word in the source's binlog.
    async fn cascades_unseen(&mut self, table: &TableInfo) -> Result<bool, RepairError> {
        let session = &mut self.ends.source.session;
        let failed =
            |error| RepairError::driver("reading the foreign keys at the source", None, error);
        let engine = session.engine();
        let logged = foreign_keys::are_logged(&mut session.conn, engine).await;
        if logged.map_err(failed)? {
            return Ok(false);
        }
        let keys = foreign_keys::acting(&mut session.conn, &self.link.databases).await;
        let is = |(database, name): &(String, String)| {
            *database == table.database && *name == table.table
        };
        let mut keys = keys.map_err(failed)?.into_iter();
        Ok(keys.any(|key| is(&key.from) || is(&key.to)))
    }

    /// Has one table copied anew; `left` begins with it.
    async fn table_anew(
        &mut self,
        table: &Wanted,
        left: &[Wanted],
    ) -> Result<Option<Halt>, RepairError> {
        loop {
            // An earlier process of this run may have asked before a person stopped or paused it.
            let begun = if self.control().await? == RepairControl::Run {
                Vec::new()
            } else {
                self.withdraw().await?
            };
            if let Some(halt) = self.may_go_on().await? {
                if halt == Halt::Shutdown {
                    // The next process asks again, if there is one.
                    self.withdraw().await?;
                }
                if halt == Halt::Stopped && !begun.is_empty() {
                    self.state.message = stopped_within(&begun);
                }
                return Ok(Some(halt));
            }
            if !self.ask(table).await? {
                let why = format!("{} is not at the source any more", table.name);
                self.refuse(&table.name, why).await?;
                return Ok(None);
            }
            match self.follow(table, left).await? {
                Looked::Over => return Ok(None),
                Looked::TakenBack => {}
                Looked::Halt(halt) => return Ok(Some(halt)),
            }
        }
    }

    /// Asks for a table; false if the source has none of this name any more, so that what the target
    /// has is all that there is.
    async fn ask(&mut self, table: &Wanted) -> Result<bool, RepairError> {
        let source = &mut self.ends.source;
        let there = source.describe(&table.database, &table.table).await?;
        if there.is_none() {
            return Ok(false);
        }
        let (link, run) = (&self.link.link, &self.config.run);
        let conn = self.ends.writer.conn();
        wishes::ask(conn, link, run, (&table.database, &table.table))
            .await
            .map_err(failed("writing to"))?;
        Ok(true)
    }

    /// What a person wants.
    async fn control(&mut self) -> Result<RepairControl, RepairError> {
        let control = record::control(self.ends.writer.conn(), &self.config.run).await?;
        Ok(control.max(self.config.control))
    }

    /// Takes back what nobody has begun with; returns the tables that were begun and have not ended.
    async fn withdraw(&mut self) -> Result<Vec<String>, RepairError> {
        let (link, run) = (&self.link.link, &self.config.run);
        let conn = self.ends.writer.conn();
        let taken = wishes::take_back(conn, link, run).await;
        taken.map_err(failed("writing to"))?;
        let begun = wishes::begun_for(conn, link, run).await;
        begun.map_err(failed("reading"))
    }

    async fn follow(&mut self, table: &Wanted, left: &[Wanted]) -> Result<Looked, RepairError> {
        let mut kept = Instant::now();
        let mut moved = (Instant::now(), None);
        loop {
            if self.shutdown.is_cancelled() {
                // The next process asks again, if there is one.
                self.withdraw().await?;
                self.keep().await?;
                return Ok(Looked::Halt(Halt::Shutdown));
            }
            let (link, run) = (&self.link.link, &self.config.run);
            let conn = self.ends.writer.conn();
            let wish = wishes::look(conn, link, (&table.database, &table.table)).await;
            let Some(wish) = wish.map_err(failed("reading"))? else {
                return Ok(Looked::TakenBack);
            };
            let name = &table.name;
            if wish.run != *run {
                let why = format!("run {} has asked for table {name} since", wish.run);
                self.refuse(name, why).await?;
                return Ok(Looked::Over);
            }
            if moved.1 != Some((wish.state, wish.copied)) {
                moved = (Instant::now(), Some((wish.state, wish.copied)));
                // It waits no longer.
                self.state.message.clear();
            }
            self.count(name, wish.copied);
            match wish.state {
                State::Done => {
                    self.state.table(name).done = true;
                    self.keep().await?;
                    return Ok(Looked::Over);
                }
                State::Refused => {
                    self.refuse(name, wish.reason).await?;
                    return Ok(Looked::Over);
                }
                State::Asked | State::Emptying | State::Copying => {}
            }
            if let Some(looked) = self.heed(name, wish.state).await? {
                return Ok(looked);
            }
            if moved.0.elapsed() >= STILL {
                // The link may have halted at a table whose turn comes later.
                moved.0 = Instant::now();
                self.state.message = format!(
                    "{name} waits for link {}, which copies nothing now: see its status",
                    self.link.link
                );
                for table in left {
                    // One that is gone is refused when its turn comes.
                    let _asked = self.ask(table).await?;
                }
            }
            if kept.elapsed() >= KEEP {
                kept = Instant::now();
                self.check_epoch().await?;
                self.keep().await?;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// What a person wants meanwhile. What was not begun is taken back; what was begun goes on to its
    /// end by itself, since the table would stay without rows.
    async fn heed(&mut self, name: &str, state: State) -> Result<Option<Looked>, RepairError> {
        let control = self.control().await?;
        if control == RepairControl::Run {
            return Ok(None);
        }
        let begun = self.withdraw().await?;
        if state == State::Asked {
            // Where it was begun just now, the next look says so.
            return Ok((!begun.iter().any(|it| it == name)).then_some(Looked::TakenBack));
        }
        if control == RepairControl::Stop {
            self.state.message = stopped_within(&begun);
            return Ok(Some(Looked::Halt(Halt::Stopped)));
        }
        Ok(None)
    }

    fn count(&mut self, name: &str, copied: u64) {
        self.state.table(name).rows = copied;
        self.state.report.rows = self.state.report.total().rows;
        self.status.publish(&self.state);
    }
}

fn stopped_within(begun: &[String]) -> String {
    if begun.is_empty() {
        return "a person stopped it".to_owned();
    }
    format!(
        "a person stopped it; the link goes on copying {} to the end, since what was there was removed \
         for that",
        begun.join(", ")
    )
}

fn failed(doing: &'static str) -> impl Fn(mysql_async::Error) -> RepairError {
    move |error| {
        let doing = format!("{doing} multiactive.rebuilds at the target");
        RepairError::driver(doing, None, error)
    }
}
