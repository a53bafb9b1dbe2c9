//! All tables of a run, chunk by chunk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{
    LinkConfig, RepairConfig, RepairControl, RepairMode, RepairPhase, Routes, TableSelection,
};
use mysql::select::Selection;
use mysql::tables::TableInfo;
use mysql_async::prelude::Queryable as _;
use tokio_util::sync::CancellationToken;
use writer::WriterError;

use crate::error::RepairError;
use crate::pair::{Key, Pair, pair};
use crate::record::{self, Finding, Settings, State};
use crate::side::{Range, Read};
use crate::sizer::Sizer;
use crate::status::Status;
use crate::still::Ends;
use crate::throttle::{Load, must_wait, rest};

/// So often it looks what the servers are busy with.
const LOOK_AT_LOAD: Duration = Duration::from_secs(1);
/// So often it keeps how far it is, if nothing was found.
const KEEP: Duration = Duration::from_secs(1);
/// The target's side of a chunk may have so many rows more than the source's, and twice as many.
const SLACK: u64 = 64;
/// A table that is changed by DDL while it is compared is begun anew so often.
const BEGINNINGS: u32 = 5;

/// One run, with its sessions.
pub(crate) struct Run<'a> {
    pub link: &'a LinkConfig,
    pub config: &'a RepairConfig,
    pub ends: Ends,
    pub state: State,
    pub status: &'a Status,
    pub shutdown: &'a CancellationToken,
    /// What was found in this chunk and not mended; kept with the chunk's end.
    pub found: Vec<Finding>,
    pub looked_at_load: Option<Instant>,
    pub kept: Instant,
}

/// Database and table of one of the ends that have it.
pub(crate) fn name_of(ends: &[Option<TableInfo>; 2]) -> [String; 2] {
    let info = ends.iter().flatten().next();
    info.map(|info| [info.database.clone(), info.table.clone()])
        .unwrap_or_default()
}

/// What comparing a range has come to.
struct Compared {
    /// Where the next one begins; `None`: this was the last.
    next: Option<Key>,
    suspects: Vec<Key>,
    rows: u64,
    bytes: u64,
}

/// Why a run does not go on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    Stopped,
    Shutdown,
}

impl Run<'_> {
    /// Compares everything; `None` if the process shall end before that.
    pub(crate) async fn compare(&mut self) -> Result<Option<RepairPhase>, RepairError> {
        if self.link.unit.is_none() {
            return Err(RepairError::Refused(format!(
                "link {} has no Unit, so applications may write at both ends, and a row that differs may \
                 be newer at its target than at its source: such links are not compared or mended yet",
                self.link.link
            )));
        }
        self.ends.fence.check_streams().await?;
        for (name, ends) in self.tables().await? {
            if self.state.table(&name).done || !self.state.table(&name).refused.is_empty() {
                continue;
            }
            match self.table(&name, ends).await? {
                None => {}
                Some(Halt::Shutdown) => return Ok(None),
                Some(Halt::Stopped) => return Ok(Some(RepairPhase::Stopped)),
            }
        }
        let outcome = self.state.outcome();
        if outcome == RepairPhase::Incomplete && self.state.message.is_empty() {
            "some tables or rows could not be judged; the report says which and why"
                .clone_into(&mut self.state.message);
        }
        Ok(Some(outcome))
    }

    /// The tables of both ends, by name.
    pub(crate) async fn tables(
        &mut self,
    ) -> Result<BTreeMap<String, [Option<TableInfo>; 2]>, RepairError> {
        let of_link = Selection::of(self.link);
        let of_run = Selection::new(
            self.link.databases.clone(),
            TableSelection {
                include: self.config.tables.clone(),
                ..TableSelection::default()
            },
        );
        let mut tables: BTreeMap<String, [Option<TableInfo>; 2]> = BTreeMap::new();
        let databases = &self.link.databases;
        let sides = [
            self.ends.source.tables(databases).await?,
            self.ends.target.tables(databases).await?,
        ];
        for (end, infos) in sides.into_iter().enumerate() {
            for info in infos {
                if of_link.has_table(&info.database, &info.table)
                    && of_run.has_table(&info.database, &info.table)
                {
                    let name = info.full_name();
                    tables.entry(name).or_default()[end] = Some(info);
                }
            }
        }
        if tables.is_empty() && !self.config.tables.is_empty() {
            return Err(RepairError::Refused(format!(
                "no table of link {} matches {:?}; name tables as database.table, with * for any \
                 characters",
                self.link.link, self.config.tables
            )));
        }
        let estimate = |[source, _]: &[Option<TableInfo>; 2]| {
            source.as_ref().map_or(0, |info| info.rows_estimate)
        };
        self.state.report.rows_estimate = tables.values().map(estimate).sum();
        Ok(tables)
    }

    async fn table(
        &mut self,
        name: &str,
        mut ends: [Option<TableInfo>; 2],
    ) -> Result<Option<Halt>, RepairError> {
        let [database, table] = name_of(&ends);
        if let Some(route) = Routes::of(self.link).met_by(&database, Some(&table)) {
            let why = format!(
                "tables.routes (from {} to {}) meets {name}, and what has another name at the target, \
                 or is there together with other tables, is not compared yet",
                route.from, route.to
            );
            self.refuse(name, why).await?;
            return Ok(None);
        }
        if let [Some(_), None] = ends {
            ends = match self.still_missing(name, [&database, &table]).await? {
                Some(ends) => ends,
                None => return Ok(None),
            };
        }
        for _ in 0..BEGINNINGS {
            let pair = match self.pair(name, ends).await? {
                Ok(pair) => pair,
                Err(why) => {
                    self.refuse(name, why).await?;
                    return Ok(None);
                }
            };
            match self.chunks(&pair).await {
                Err(RepairError::Changed(what)) => {
                    tracing::info!(what, "the table is looked at anew");
                    tokio::time::sleep(KEEP).await;
                    let (database, table) = (pair.database(), pair.table());
                    ends = [
                        self.ends.source.describe(database, table).await?,
                        self.ends.target.describe(database, table).await?,
                    ];
                }
                other => return other,
            }
        }
        let why = format!(
            "table {name} was changed by DDL again and again while it was compared; start another \
             run when that is over"
        );
        self.refuse(name, why).await?;
        Ok(None)
    }

    pub(crate) async fn refuse(&mut self, name: &str, why: String) -> Result<(), RepairError> {
        tracing::warn!(table = name, why, "the table is left alone");
        self.state.table(name).refused = why;
        self.state.set_cursor(name, None);
        self.keep().await
    }

    async fn pair(
        &mut self,
        name: &str,
        ends: [Option<TableInfo>; 2],
    ) -> Result<Result<Pair, String>, RepairError> {
        let (source, target) = match ends {
            [Some(source), Some(target)] => (source, target),
            [None, _] => return Ok(Err(format!("table {name} is only at the target"))),
            [_, None] => return Ok(Err(format!("table {name} is only at the source"))),
        };
        let schema = match source.schema() {
            Ok(schema) => schema,
            Err((column, declared)) => {
                return Ok(Err(format!(
                    "column {column} of table {name} has the type {declared}, which links do not \
                     carry"
                )));
            }
        };
        match self.ends.writer.fit(&schema).await {
            Ok(fit) => Ok(pair(&source, &target, fit)),
            Err(WriterError::Unfit(unfit)) => Ok(Err(unfit.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    async fn chunks(&mut self, pair: &Pair) -> Result<Option<Halt>, RepairError> {
        self.begin_in_shape(pair);
        let mut cursor = self.place(pair)?;
        let mut sizer = Sizer::new(self.config.max_batch_bytes, pair.row_bytes);
        self.found.clear();
        let mut deferred = self.deferred(pair)?;
        loop {
            if let Some(halt) = self.may_go_on().await? {
                return Ok(Some(halt));
            }
            let started = Instant::now();
            let compared = self.chunk(pair, cursor.as_ref(), &sizer).await?;
            let read_in = started.elapsed();
            let (rows, bytes) = (compared.rows, compared.bytes);
            deferred.extend(self.judge(pair, compared.suspects).await?);
            self.check_shape(pair).await?;
            let last = compared.next.is_none();
            if last {
                let put_off = std::mem::take(&mut deferred);
                if let Some(halt) = self.settle_deferred(pair, put_off).await? {
                    if halt == Halt::Stopped {
                        // Nobody compares this chunk again.
                        self.keep_found(pair).await?;
                    }
                    return Ok(Some(halt));
                }
            }
            let put_off: Vec<Bytes> = deferred.iter().map(|it| pair.cursor(&it.key)).collect();
            self.state.set_deferred(&pair.name, &put_off);
            self.end_chunk(pair, compared.next.as_ref(), rows).await?;
            if let Some(halt) = self.over_quota() {
                return Ok(Some(halt));
            }
            if last {
                return Ok(None);
            }
            cursor = compared.next;
            sizer.took(rows, bytes, read_in);
            let pause = rest(started.elapsed(), &self.config.throttle);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// Compares the rows behind `after`.
    async fn chunk(
        &mut self,
        pair: &Pair,
        after: Option<&Key>,
        sizer: &Sizer,
    ) -> Result<Compared, RepairError> {
        let Ends { source, target, .. } = &mut self.ends;
        let digests = crate::digest::query(pair, crate::pair::End::Source).is_some();
        self.state.table(&pair.name).digests = digests;
        if !digests {
            return self.rows(pair, after, None, sizer).await;
        }
        let until = source.chunk_end(pair, after, sizer.rows()).await?;
        let range = Range {
            after: after.cloned(),
            until: until.clone(),
        };
        let (one, other) = tokio::join!(source.digest(pair, &range), target.digest(pair, &range));
        if let (Some(one), Some(other)) = (one?, other?)
            && one.proves_equal(&other)
        {
            return Ok(Compared {
                next: until,
                suspects: Vec::new(),
                rows: one.rows,
                bytes: one.rows * pair.row_bytes,
            });
        }
        let mut whole = Compared {
            next: after.cloned(),
            suspects: Vec::new(),
            rows: 0,
            bytes: 0,
        };
        loop {
            let part = self
                .rows(pair, whole.next.as_ref(), until.as_ref(), sizer)
                .await?;
            whole.suspects.extend(part.suspects);
            whole.rows += part.rows;
            whole.bytes += part.bytes;
            let through = part.next.is_none() || part.next == until;
            whole.next = part.next;
            if through {
                return Ok(whole);
            }
        }
    }

    /// Compares rows behind `after`, up to `until` or to where the chunk is full at either end.
    /// Whatever lies in the range at either end has been looked at.
    async fn rows(
        &mut self,
        pair: &Pair,
        after: Option<&Key>,
        until: Option<&Key>,
        sizer: &Sizer,
    ) -> Result<Compared, RepairError> {
        let ends = &mut self.ends;
        let (limit, bytes) = (sizer.rows(), sizer.most_bytes());
        let mut range = Range {
            after: after.cloned(),
            until: until.cloned(),
        };
        let mut sources = ends.source_rows(pair, &range, limit, bytes).await?;
        if sources.more {
            range.until = sources.rows.last().map(|row| pair.key_of(row));
        }
        let most = limit * 2 + SLACK;
        let targets = ends
            .target
            .rows(pair, &range, most, bytes.saturating_mul(2))
            .await?;
        if targets.more {
            // Many rows that only the target has: its own rows end the chunk. The source has fewer
            // in so much less.
            range.until = targets.rows.last().map(|row| pair.key_of(row));
            sources = ends.source_rows(pair, &range, u64::MAX, usize::MAX).await?;
        }
        Ok(Compared {
            next: range.until,
            suspects: different(pair, &sources, &targets),
            rows: sources.rows.len() as u64,
            bytes: sources.bytes,
        })
    }

    /// Keeps what a chunk has come to.
    async fn end_chunk(
        &mut self,
        pair: &Pair,
        next: Option<&Key>,
        rows: u64,
    ) -> Result<(), RepairError> {
        let report = self.state.table(&pair.name);
        report.rows += rows;
        report.chunks += 1;
        report.done = next.is_none();
        self.state.report.rows += rows;
        let cursor: Option<Bytes> = next.map(|key| pair.cursor(key));
        self.state.set_cursor(&pair.name, cursor.as_ref());
        if !self.found.is_empty() {
            return self.keep_found(pair).await;
        }
        self.status.publish(&self.state);
        if next.is_none() || self.kept.elapsed() >= KEEP {
            self.keep().await?;
        }
        Ok(())
    }

    /// Keeps the rows of a chunk that differ and were not mended, and how far it is.
    async fn keep_found(&mut self, pair: &Pair) -> Result<(), RepairError> {
        self.begin().await?;
        for finding in std::mem::take(&mut self.found) {
            self.state.count(&pair.name, finding.kind, finding.fate);
            if self.state.recorded < self.config.row_quota {
                self.state.recorded += 1;
                let conn = self.ends.writer.conn();
                record::add(conn, &self.config.run, pair, &finding).await?;
            }
            self.state.tell(&finding);
        }
        self.keep().await?;
        Ok(self.ends.writer.commit().await?)
    }

    /// Keeps how far it is.
    pub(crate) async fn keep(&mut self) -> Result<(), RepairError> {
        self.kept = Instant::now();
        self.status.publish(&self.state);
        record::save(self.ends.writer.conn(), &self.config.run, &self.state).await
    }

    fn over_quota(&mut self) -> Option<Halt> {
        let total = self.state.report.total();
        let differ = total.missing + total.extra + total.differing;
        (differ > self.config.row_quota).then(|| {
            self.state.message = format!(
                "{differ} rows differ, and rowQuota is {}: raise it, or let the link copy the \
                 tables anew",
                self.config.row_quota
            );
            Halt::Stopped
        })
    }

    /// Waits while a person or the load wants it to.
    pub(crate) async fn may_go_on(&mut self) -> Result<Option<Halt>, RepairError> {
        let mut waits = false;
        loop {
            if self.shutdown.is_cancelled() {
                self.keep().await?;
                return Ok(Some(Halt::Shutdown));
            }
            let control = record::control(self.ends.writer.conn(), &self.config.run).await?;
            let (phase, why) = match control.max(self.config.control) {
                RepairControl::Stop => {
                    "a person stopped it".clone_into(&mut self.state.message);
                    return Ok(Some(Halt::Stopped));
                }
                RepairControl::Pause => {
                    (RepairPhase::Paused, Some("a person paused it".to_owned()))
                }
                // A link that has halted, and so is behind, may be what the copy is for.
                RepairControl::Run if self.config.mode == RepairMode::Rebuild => {
                    (RepairPhase::Running, None)
                }
                RepairControl::Run => (RepairPhase::Running, self.load().await?),
            };
            let Some(why) = why else {
                if waits {
                    self.state.message.clear();
                    self.state.phase = RepairPhase::Running;
                    self.keep().await?;
                }
                return Ok(None);
            };
            let told = waits && self.state.phase == phase;
            waits = true;
            self.state.phase = phase;
            self.state.message = why;
            self.status.publish(&self.state);
            if !told {
                // For those who wait for the link.
                self.keep().await?;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AT_LOAD) => {}
                () = self.shutdown.cancelled() => {}
            }
            self.looked_at_load = None;
        }
    }

    async fn load(&mut self) -> Result<Option<String>, RepairError> {
        let fresh = |at: Instant| at.elapsed() < LOOK_AT_LOAD;
        if self.looked_at_load.is_some_and(fresh) {
            return Ok(None);
        }
        self.looked_at_load = Some(Instant::now());
        self.check_epoch().await?;
        let ends = &mut self.ends;
        let load = Load {
            lag: ends.fence.lag().await?,
            threads: [
                ends.source.threads_running().await?,
                ends.target.threads_running().await?,
            ],
        };
        Ok(must_wait(load, &self.config.throttle))
    }

    /// Refuses to go on under another epoch than the run began under, at either end.
    pub(crate) async fn check_epoch(&mut self) -> Result<(), RepairError> {
        let found = epoch(&mut self.ends, self.link).await?;
        if found == self.state.epoch {
            return Ok(());
        }
        Err(RepairError::EpochMoved {
            begun: self.state.epoch,
            found,
        })
    }
}

/// The newest epoch, which the source must hold and both ends must know; 0 where there is none.
pub(crate) async fn epoch(ends: &mut Ends, link: &LinkConfig) -> Result<u64, RepairError> {
    let sql = "SELECT epoch, CAST(idc AS CHAR) FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1";
    let mut known = Vec::new();
    for side in [&mut ends.source, &mut ends.target] {
        let doing = format!("reading multiactive.epoch at the {}", side.end.name());
        let row: Option<(u64, String)> = side
            .session
            .conn
            .query_first(sql)
            .await
            .map_err(|error| RepairError::driver(doing, None, error))?;
        known.push(row);
    }
    let newest = known.iter().flatten().max_by_key(|(epoch, _)| *epoch);
    let Some((epoch, holder)) = newest else {
        return Ok(0);
    };
    if holder != link.source.idc.as_str() {
        return Err(RepairError::Refused(format!(
            "epoch {epoch} is held by {holder}, so link {} does not come from the primary, and \
             nothing in {holder} is compared with it or overwritten: name the link from {holder}",
            link.link
        )));
    }
    if known
        .iter()
        .any(|row| row.as_ref().map(|(epoch, _)| epoch) != Some(epoch))
    {
        return Err(RepairError::Refused(format!(
            "epoch {epoch} of {holder} is not known at both ends of link {} yet; wait until the \
             link streams, and if it is held before that epoch, do first what its status says",
            link.link
        )));
    }
    Ok(*epoch)
}

/// The run's state as it was left, or that of a new one.
pub(crate) async fn state(
    ends: &mut Ends,
    link: &LinkConfig,
    config: &RepairConfig,
) -> Result<State, RepairError> {
    let found = epoch(ends, link).await?;
    let settings = Settings::of(&link.link.to_string(), config);
    let kept = record::read(ends.writer.conn(), &config.run).await?;
    let undoes = config.mode == model::RepairMode::Undo;
    let Some(mut state) = kept else {
        if undoes {
            return Err(RepairError::Refused(format!(
                "there is no run {} at the target, so nothing can be undone",
                config.run
            )));
        }
        return Ok(State::new(settings, found));
    };
    if state.settings.link != settings.link || (!undoes && state.settings != settings) {
        return Err(RepairError::Refused(format!(
            "run {} was begun with other settings ({:?}, now {settings:?}); give this one another \
             name",
            config.run, state.settings
        )));
    }
    if undoes {
        state.epoch = found;
    }
    Ok(state)
}

/// The keys of rows that are not the same at both ends.
fn different(pair: &Pair, sources: &Read, targets: &Read) -> Vec<Key> {
    let by_key = |read: &Read| -> HashMap<Bytes, usize> {
        let keys = read.rows.iter().enumerate();
        keys.map(|(index, row)| (pair.cursor(&pair.key_of(row)), index))
            .collect()
    };
    let (one, other) = (by_key(sources), by_key(targets));
    let names: BTreeSet<&Bytes> = one.keys().chain(other.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let source = one.get(name).map(|&index| &sources.rows[index]);
            let target = other.get(name).map(|&index| &targets.rows[index]);
            (source != target)
                .then(|| source.or(target).map(|row| pair.key_of(row)))
                .flatten()
        })
        .collect()
}
