//! One look at a server, in one round trip.

use model::{
    ClusterId, Epoch, EtcdMark, Generation, IdcName, PositionText, Revision, ServerBoot,
    ServerIdentity,
};
use mysql_async::Row;

use super::checkpoints::APPLIED_ROWS;
use super::procedures::{CLOCK, boot};
use super::processes::{guards_of, guards_statement};
use super::promise::PromiseRow;
use super::row::Answer;
use super::{ControlError, ControlSession, RunningGuard, door, identifier, literal};
use crate::clock::{ClockReading, reader_micros};
use crate::session::Engine;

const DOING: &str = "look at the server";

/// What one look at a server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Which server it is.
    pub identity: ServerIdentity,
    /// Which start of it.
    pub boot: ServerBoot,
    /// Whether accounts without a bypass are refused: the fence proper.
    pub read_only: bool,
    /// MySQL's `super_read_only`: then our own account is refused too, and nothing works.
    pub super_read_only: bool,
    /// Ordinary sessions are refused altogether. A guard or a fence that could not end left it so;
    /// the next fence lifts it.
    pub offline: bool,
    /// What the server has in its binlog or could have: everything that was committed here, born
    /// here or applied. See [`position_expression`] for the choice.
    pub position: PositionText,
    /// Age of the primary's newest heartbeat here, in microseconds, by this server's clock against
    /// the primary's: below 0 where this one is behind. `None` where no primary was named or none of
    /// its has arrived.
    pub lag_micros: Option<i64>,
    /// This server's clock against ours.
    pub clock: ClockReading,
    /// The highest epoch that a promotion, here or elsewhere, has written; 0 where none has.
    pub highest_epoch: Epoch,
    /// Whose epoch that is.
    pub highest_epoch_of: Option<IdcName>,
    /// The highest generation of an arbiter that has acted here.
    pub generation: Generation,
    /// The server's clock, in UTC microseconds since 1970.
    pub clock_micros: i64,
    /// The guards that run.
    pub guards: Vec<RunningGuard>,
    /// The newest heartbeat of every IDC that has arrived here, this server's own included.
    pub heartbeats: Vec<HeartbeatRow>,
    /// How far the named primary's transactions have been applied here, in its own positions;
    /// `None` where nothing was, or where its links disagree.
    pub applied: Option<PositionText>,
    /// How far etcd was, as this server remembers it.
    pub etcd: Option<EtcdMark>,
    /// The promise that was recorded last, read no earlier than the generation.
    pub promise: Option<PromiseRow>,
}

/// A row of `multiactive.heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRow {
    /// Whose.
    pub idc: IdcName,
    /// The epoch that its arbiter knew.
    pub epoch: Epoch,
    /// Whether its arbiter believed it open.
    pub writable: bool,
    /// One more at each heartbeat.
    pub seq: u64,
}

/// What a look at another IDC's server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// Whether it refuses writes.
    pub read_only: bool,
    /// The epoch of its own last heartbeat; `None` before its first.
    pub epoch: Option<Epoch>,
    /// The number of its own last heartbeat.
    pub seq: Option<u64>,
}

fn mark(answer: &Answer<'_>, row: &mut Row) -> Result<Option<EtcdMark>, ControlError> {
    let cluster: Option<u64> = answer.value(row, 10, "etcd cluster")?;
    let revision: Option<i64> = answer.value(row, 11, "etcd revision")?;
    Ok(cluster.zip(revision).map(|(cluster, revision)| EtcdMark {
        cluster: ClusterId(cluster),
        revision: Revision(revision),
    }))
}

fn promise(answer: &Answer<'_>, row: &mut Row) -> Result<Option<PromiseRow>, ControlError> {
    let epoch: Option<u64> = answer.value(row, 12, "epoch of the promise")?;
    let for_millis: Option<u64> = answer.value(row, 13, "length of the promise")?;
    Ok(epoch.zip(for_millis).map(|(epoch, for_millis)| PromiseRow {
        epoch: Epoch(epoch),
        for_millis,
    }))
}

fn idc_named(answer: &Answer<'_>, name: String) -> Result<IdcName, ControlError> {
    IdcName::new(name).map_err(|_| answer.missing("name of an IDC".to_owned()))
}

fn heartbeats_of(answer: &Answer<'_>, rows: Vec<Row>) -> Result<Vec<HeartbeatRow>, ControlError> {
    let read = |mut row: Row| {
        let name: String = answer.value(&mut row, 0, "IDC")?;
        Ok(HeartbeatRow {
            idc: idc_named(answer, name)?,
            epoch: Epoch(answer.value(&mut row, 1, "epoch")?),
            writable: answer.value::<u8>(&mut row, 2, "writable")? != 0,
            seq: answer.value(&mut row, 3, "number of the heartbeat")?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// The server's position as SQL.
///
/// MySQL: `gtid_executed`, tags included. MariaDB: `gtid_binlog_pos`, the last GTID of each domain
/// in this server's binlog. What is born here and what a writer applies (an ordinary session to the
/// server) both go there, and it is what a syncer can stream from; `gtid_current_pos` would add
/// domains of an earlier life as a native replica that no binlog here contains.
pub(super) fn position_expression(engine: Engine) -> &'static str {
    match engine {
        // The server prints a line break after each comma.
        Engine::MySql => "REPLACE(@@GLOBAL.gtid_executed, '\\n', '')",
        Engine::MariaDb => "@@GLOBAL.gtid_binlog_pos",
    }
}

impl ControlSession {
    /// Looks at the server. `primary` is whose heartbeat the lag is read from.
    pub async fn observe(
        &mut self,
        primary: Option<&IdcName>,
    ) -> Result<Observation, ControlError> {
        let statements = self.observe_statements(primary);
        let asked = reader_micros();
        let mut sets = self.query(DOING, &statements).await?;
        let answered = reader_micros();
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let row = &mut row;
        let clock_micros = answer.value(row, 9, "clock")?;
        let mut observation = Observation {
            identity: ServerIdentity(answer.value(row, 0, "identity")?),
            boot: ServerBoot(answer.value(row, 1, "boot")?),
            read_only: answer.value::<u8>(row, 2, "read_only")? != 0,
            super_read_only: answer.value::<u8>(row, 3, "super_read_only")? != 0,
            offline: answer.value::<u8>(row, 4, "offline_mode")? != 0,
            position: PositionText(answer.value(row, 5, "position")?),
            lag_micros: answer.value(row, 6, "lag")?,
            clock: ClockReading::new(clock_micros, asked, answered),
            highest_epoch: Epoch(answer.value(row, 7, "epoch")?),
            highest_epoch_of: answer
                .value::<Option<String>>(row, 14, "IDC of the epoch")?
                .map(|name| idc_named(&answer, name))
                .transpose()?,
            generation: Generation(answer.value(row, 8, "generation")?),
            clock_micros,
            etcd: mark(&answer, row)?,
            promise: promise(&answer, row)?,
            guards: Vec::new(),
            heartbeats: Vec::new(),
            applied: None,
        };
        let mut rest = sets.into_iter().skip(1);
        observation.guards = rest.next().map(guards_of).unwrap_or_default();
        observation.heartbeats = heartbeats_of(&answer, rest.next().unwrap_or_default())?;
        if let Some(primary) = primary {
            let rows = rest.next().unwrap_or_default();
            observation.applied = self.applied_from(rows, primary)?;
        }
        if observation.guards.is_empty() && !observation.read_only {
            // It may have been between two sleeps; a writable member without a guard is worth a
            // second look before it is fenced for it.
            observation.guards = self.guards_running().await?;
        }
        Ok(observation)
    }

    fn observe_statements(&self, primary: Option<&IdcName>) -> String {
        let more = match self.engine {
            Engine::MySql => "@@GLOBAL.super_read_only",
            Engine::MariaDb => "0",
        };
        let offline = door::is_shut(self.engine);
        let lag = match primary {
            Some(idc) => format!(
                "(SELECT TIMESTAMPDIFF(MICROSECOND, at, SYSDATE(6)) FROM multiactive.heartbeat \
                 WHERE idc = {})",
                literal(idc.as_str())
            ),
            None => "NULL".to_owned(),
        };
        format!(
            "SELECT (SELECT MAX(uuid) FROM multiactive.identity), {boot}, @@GLOBAL.read_only, \
             {more}, {offline}, {position}, {lag}, \
             (SELECT COALESCE(MAX(epoch), 0) FROM multiactive.epoch), \
             (SELECT COALESCE(MAX(generation), 0) FROM multiactive.control), {CLOCK}, \
             (SELECT MAX(etcd_cluster) FROM multiactive.memory), \
             (SELECT MAX(etcd_revision) FROM multiactive.memory), \
             (SELECT MAX(epoch) FROM multiactive.promise), \
             (SELECT MAX(for_millis) FROM multiactive.promise), \
             (SELECT idc FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1); {guards}; \
             SELECT idc, epoch, writable, seq FROM multiactive.heartbeat; {APPLIED_ROWS}",
            boot = boot(self.engine),
            position = position_expression(self.engine),
            guards = guards_statement(self.engine),
        )
    }

    /// Looks at the server of another IDC, by reading only: what it says of itself.
    ///
    /// # Errors
    /// [`ControlError::NotInstalled`] where its own arbiter has not made our schema yet: it answers
    /// all the same.
    pub async fn peek(&mut self, of: &IdcName) -> Result<Peek, ControlError> {
        const DOING: &str = "look at another IDC's server";
        let statement = format!(
            "SELECT @@GLOBAL.read_only, (SELECT epoch FROM multiactive.heartbeat WHERE idc = {idc}), \
             (SELECT seq FROM multiactive.heartbeat WHERE idc = {idc})",
            idc = literal(of.as_str())
        );
        let mut sets = self.query(DOING, &statement).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let epoch: Option<u64> = answer.value(&mut row, 1, "epoch")?;
        Ok(Peek {
            read_only: answer.value::<u8>(&mut row, 0, "read_only")? != 0,
            epoch: epoch.map(Epoch),
            seq: answer.value(&mut row, 2, "number of the heartbeat")?,
        })
    }

    /// Remembers in the server how far etcd is, unless an arbiter of a later generation has acted
    /// here: a process that was cut off and superseded would put its older word in place of the
    /// newer one. Not logged.
    pub async fn remember(
        &mut self,
        generation: Generation,
        mark: EtcdMark,
    ) -> Result<(), ControlError> {
        let (cluster, revision) = (mark.cluster.0, mark.revision.0);
        self.unlogged(
            "remember how far etcd is",
            &format!(
                "INSERT INTO multiactive.memory (id, etcd_cluster, etcd_revision) \
             SELECT 1, {cluster}, {revision} FROM multiactive.control \
             WHERE id = 1 AND generation <= {generation} LOCK IN SHARE MODE \
             ON DUPLICATE KEY UPDATE etcd_cluster = {cluster}, etcd_revision = {revision}",
                generation = generation.0,
            ),
        )
        .await
    }

    /// Whether any table of these databases holds a row. Exact, and it stops at the first row;
    /// the figures in `information_schema` are estimates that can be 0 for a table with rows.
    pub async fn has_data(&mut self, databases: &[String]) -> Result<bool, ControlError> {
        const DOING: &str = "look for rows";
        if databases.is_empty() {
            return Ok(false);
        }
        let names: Vec<String> = databases.iter().map(|name| literal(name)).collect();
        let list = format!(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE table_type = 'BASE TABLE' AND table_schema IN ({})",
            names.join(", ")
        );
        let mut sets = self.query(DOING, &list).await?;
        let rows = if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        };
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut tables = Vec::with_capacity(rows.len());
        for mut row in rows {
            let database: String = answer.value(&mut row, 0, "database")?;
            let table: String = answer.value(&mut row, 1, "table")?;
            tables.push(format!("{}.{}", identifier(&database), identifier(&table)));
        }
        for some in tables.chunks(50) {
            let checks: Vec<String> = some
                .iter()
                .map(|table| format!("EXISTS (SELECT 1 FROM {table})"))
                .collect();
            let mut sets = self
                .query(DOING, &format!("SELECT {}", checks.join(" OR ")))
                .await?;
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            let mut row = answer.row(&mut sets, 0)?;
            if answer.value::<u8>(&mut row, 0, "answer")? != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The server's clock, in UTC microseconds since 1970. A deadline `V` of the caller's own
    /// clock, which read `r` just after this returned, is `n + (V - r)` in the server's (rule 2).
    pub async fn clock_micros(&mut self) -> Result<i64, ControlError> {
        const DOING: &str = "read the server's clock";
        let mut sets = self.query(DOING, &format!("SELECT {CLOCK}")).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        answer.value(&mut row, 0, "clock")
    }
}
