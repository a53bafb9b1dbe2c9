//! Where a run is in a table: by which columns it compares, which row comes next, and what was put off.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mysql::tables::TableInfo;
use writer::{Unfit, WriterError};

use crate::error::RepairError;
use crate::judge::{Suspect, finding};
use crate::pair::{Key, Pair, shape};
use crate::record::Fate;
use crate::run::{Halt, Run};
use crate::verdict::Images;

impl Run<'_> {
    /// What was compared by other columns or another key says nothing of the table as it is now: it is
    /// compared from its first row.
    pub(crate) fn begin_in_shape(&mut self, pair: &Pair) {
        let before = self
            .state
            .shapes
            .insert(pair.name.clone(), pair.shape.clone());
        if before.is_none_or(|before| before == pair.shape) {
            return;
        }
        self.state.set_cursor(&pair.name, None);
        self.state.set_deferred(&pair.name, &[]);
        let report = self.state.table(&pair.name);
        let rows = std::mem::take(&mut report.rows);
        report.chunks = 0;
        self.state.report.rows = self.state.report.rows.saturating_sub(rows);
    }

    /// Refuses to go on by a description that the table has outgrown at either end: a row would be put
    /// without what a new column holds, and what differs in it not be seen.
    pub(crate) async fn check_shape(&mut self, pair: &Pair) -> Result<(), RepairError> {
        let (database, table) = (pair.database(), pair.table());
        let now = [
            self.ends.source.describe(database, table).await?,
            self.ends.target.describe(database, table).await?,
        ];
        match now {
            [Some(source), Some(target)] if shape([&source, &target]) == pair.shape => Ok(()),
            _ => Err(RepairError::Changed(pair.name.clone())),
        }
    }

    /// Looks again at a table that only the source has, once the link has brought whatever made it:
    /// the descriptions, if there is something to compare now. If not, it is told.
    pub(crate) async fn still_missing(
        &mut self,
        name: &str,
        [database, table]: [&str; 2],
    ) -> Result<Option<[Option<TableInfo>; 2]>, RepairError> {
        let patience = Duration::from_millis(self.config.consistency_timeout_millis);
        let fence = self.ends.fence.raise().await?;
        let passed = self.ends.fence.wait(&fence, Instant::now() + patience);
        let passed = passed.await?;
        let now = [
            self.ends.source.describe(database, table).await?,
            self.ends.target.describe(database, table).await?,
        ];
        match &now {
            [_, Some(_)] => return Ok(Some(now)),
            [Some(_), None] if !passed => {
                let why = format!(
                    "table {name} is not at the target yet, and the link did not catch up within \
                     consistencyTimeout: {}",
                    self.ends.fence.waited_for
                );
                self.refuse(name, why).await?;
            }
            [Some(source), None] if let Some(why) = self.there_otherwise(source).await? => {
                self.refuse(name, why).await?;
            }
            [source, None] => {
                let report = self.state.table(name);
                report.table_missing = source.is_some();
                report.done = true;
                tracing::warn!(
                    table = name,
                    there = source.is_some(),
                    "the target lacks a table"
                );
                self.keep().await?;
            }
        }
        Ok(None)
    }

    /// What is at the target under the name of a table that is not described there, if something is: a
    /// view, or a table of another kind.
    async fn there_otherwise(&mut self, source: &TableInfo) -> Result<Option<String>, RepairError> {
        let Ok(schema) = source.schema() else {
            return Ok(None);
        };
        match self.ends.writer.fit(&schema).await {
            Ok(_) | Err(WriterError::Unfit(Unfit::Missing { .. })) => Ok(None),
            Err(WriterError::Unfit(unfit)) => Ok(Some(unfit.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// What was put off in earlier chunks of this table.
    pub(crate) fn deferred(&self, pair: &Pair) -> Result<Vec<Suspect>, RepairError> {
        let mut suspects = Vec::new();
        for cursor in self.state.deferred(&pair.name)? {
            let key = pair
                .read_cursor(cursor)
                .map_err(|error| unreadable(pair, &error))?;
            suspects.extend(key.map(Suspect::new));
        }
        Ok(suspects)
    }

    pub(crate) fn place(&self, pair: &Pair) -> Result<Option<Key>, RepairError> {
        let Some(cursor) = self.state.cursor(&pair.name)? else {
            return Ok(None);
        };
        // If the table has another key now, it is compared from its first row.
        let key = pair.read_cursor(cursor);
        key.map_err(|error| unreadable(pair, &error))
    }

    /// Judges once more what was put off, as long as that gets on: where a value was taken by
    /// another row, that may have been mended meanwhile. Rows that hold values of each other are
    /// mended together then. If the run shall halt meanwhile, nothing is said of what is left: where
    /// it goes on, the chunk is compared again.
    pub(crate) async fn settle_deferred(
        &mut self,
        pair: &Pair,
        mut deferred: Vec<Suspect>,
    ) -> Result<Option<Halt>, RepairError> {
        let mut gets_on = true;
        loop {
            if deferred.is_empty() {
                return Ok(None);
            }
            // Also behind the last look, which a shutdown cuts short.
            if let Some(halt) = self.may_go_on().await? {
                return Ok(Some(halt));
            }
            if !gets_on {
                break;
            }
            let before = deferred.len();
            let keys = deferred.into_iter().map(|it| it.key).collect();
            deferred = self.judge(pair, keys).await?;
            if deferred.len() >= before {
                deferred = match self.mend_swapped(pair, deferred).await? {
                    ControlFlow::Continue(left) => left,
                    ControlFlow::Break(halt) => return Ok(Some(halt)),
                };
            }
            gets_on = deferred.len() < before;
        }
        // A pause may have been long.
        self.check_shape(pair).await?;
        let mut unjudged = 0;
        for suspect in deferred {
            if suspect.reason.is_empty() {
                unjudged += 1;
            } else {
                self.fail(pair, suspect).await?;
            }
        }
        if unjudged > 0 {
            self.state.table(&pair.name).unjudged += unjudged;
            let waited_for = match self.ends.fence.waited_for.as_str() {
                "" => "they changed each time that they were looked at",
                waited_for => waited_for,
            };
            self.state.message = format!(
                "{unjudged} rows of {} could not be judged within consistencyTimeout: {waited_for}",
                pair.name
            );
        }
        Ok(None)
    }

    /// Records a row that could not be mended, with what it looks like now.
    async fn fail(&mut self, pair: &Pair, suspect: Suspect) -> Result<(), RepairError> {
        let keys = [suspect.key];
        let ends = &mut self.ends;
        let source = ends.source_points(pair, &keys).await?.pop().flatten();
        let target = ends.target.points(pair, &keys, "").await?.pop().flatten();
        let images = Images { source, target };
        let change = images.change(|row| pair.widen(row));
        if let (Some(kind), Some(change)) = (images.kind(), change) {
            let finding = finding(pair, kind, &images, &change, Fate::Failed, &suspect.reason);
            self.found.push(finding);
        }
        Ok(())
    }
}

fn unreadable(pair: &Pair, reason: &impl std::fmt::Display) -> RepairError {
    RepairError::Unreadable {
        what: format!(
            "the run's place in {} in multiactive.repair_runs",
            pair.name
        ),
        reason: reason.to_string(),
    }
}
