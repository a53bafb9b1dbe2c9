//! Still moments: what is true of rows at both ends at once.
//!
//! 1. The source's rows are locked in share mode (where there is none, the gap in which it would
//!    be). Nobody changes them from here on; whoever changed them before has committed.
//! 2. A fence is raised after that, and the target's checkpoint seen to pass it. So whatever the
//!    source ever did to these rows has been applied, and nothing more is under way.
//! 3. What the target shows of these rows now, it shows for good: only the link and this run write
//!    there. If it is not what the source has, the two have diverged, and no lag explains it. What
//!    is written to the target now meets no change of the same row that is still to come.
//! 4. The locks are let go.
//!
//! An application that wants to change one of these rows, or to insert beside one that the source
//! lacks, waits meanwhile. So only rows come here that looked different in several looks, a few at a time, and
//! a moment that does not come about within [`PATIENCE`] is given up and tried again.

use std::time::{Duration, Instant};

use change::{Row, Value};
use model::LinkConfig;
use mysql::session::SessionOptions;
use mysql_async::prelude::Queryable as _;
use writer::rows::RowTarget;

use crate::error::RepairError;
use crate::fence::Fence;
use crate::pair::{End, Key, Pair};
use crate::side::{Range, Read, Side};

/// So many rows share a still moment.
pub(crate) const ROWS: usize = 32;
/// How long rows of the source are kept locked until the link has caught up. An idle link tells
/// its position once a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The sessions with both ends.
pub(crate) struct Ends {
    /// Reads the source.
    pub source: Side,
    /// Reads the target.
    pub target: Side,
    /// Locks rows of the source.
    locks: Side,
    pub fence: Fence,
    /// Writes to the target.
    pub writer: RowTarget,
}

impl Ends {
    /// Opens all sessions.
    pub(crate) async fn connect(
        source: &SessionOptions,
        target: &SessionOptions,
        link: &LinkConfig,
    ) -> Result<Self, RepairError> {
        let mut writer = RowTarget::connect(target, &link.source.idc).await?;
        // Nobody may wait for long behind a still moment, and the session is silent for as long as
        // rows are looked at.
        let settings = "SET SESSION innodb_lock_wait_timeout=1, wait_timeout=3600";
        writer.execute("preparing the session", settings).await?;
        Ok(Self {
            source: Side::connect(source, End::Source).await?,
            target: Side::connect(target, End::Target).await?,
            locks: Side::connect(source, End::Source).await?,
            fence: Fence::connect(source, target, link).await?,
            writer,
        })
    }

    /// Begins a still moment of the rows with these keys and returns the source's; `None` if it
    /// did not come about. [`Self::release`] must follow.
    pub(crate) async fn hold(
        &mut self,
        pair: &Pair,
        keys: &[Key],
    ) -> Result<Option<Vec<Option<Row>>>, RepairError> {
        self.locks_do("START TRANSACTION").await?;
        let mut rows = match self.locks.points(pair, keys, " LOCK IN SHARE MODE").await {
            Ok(rows) => rows,
            Err(error) if error.is_collision() => return Ok(None),
            Err(error) => return Err(error),
        };
        self.parse(pair, rows.iter_mut().flatten()).await?;
        let fence = self.fence.raise().await?;
        let passed = self.fence.wait(&fence, Instant::now() + PATIENCE).await?;
        Ok(passed.then_some(rows))
    }

    /// The source's row with each key.
    pub(crate) async fn source_points(
        &mut self,
        pair: &Pair,
        keys: &[Key],
    ) -> Result<Vec<Option<Row>>, RepairError> {
        let mut rows = self.source.points(pair, keys, "").await?;
        self.parse(pair, rows.iter_mut().flatten()).await?;
        Ok(rows)
    }

    /// Rows of the source; see [`Side::rows`].
    pub(crate) async fn source_rows(
        &mut self,
        pair: &Pair,
        range: &Range,
        limit: u64,
        most_bytes: usize,
    ) -> Result<Read, RepairError> {
        let mut read = self.source.rows(pair, range, limit, most_bytes).await?;
        self.parse(pair, read.rows.iter_mut()).await?;
        Ok(read)
    }

    /// Brings texts of the source into the form that the target's JSON prints in.
    async fn parse<'a>(
        &mut self,
        pair: &Pair,
        rows: impl Iterator<Item = &'a mut Row>,
    ) -> Result<(), RepairError> {
        let columns = pair.parsed();
        if columns.is_empty() {
            return Ok(());
        }
        let doing = format!("reading JSON of {} as the target does", pair.name);
        for row in rows {
            for &index in &columns {
                let Some(Value::Text(text)) = row.get(index).cloned() else {
                    continue;
                };
                // As the writer stores it, which is not always as the server reads the text.
                let document = writer::rows::document(&text);
                let sql = [b"SELECT CAST(".as_slice(), &document, b" AS JSON)"].concat();
                let printed: Option<String> = self
                    .target
                    .session
                    .conn
                    .query_first(sql)
                    .await
                    .map_err(|error| RepairError::driver(doing.clone(), None, error))?;
                row[index] = Value::Json(printed.unwrap_or_default().into());
            }
        }
        Ok(())
    }

    /// Lets the source's rows go.
    pub(crate) async fn release(&mut self) -> Result<(), RepairError> {
        self.locks_do("ROLLBACK").await
    }

    async fn locks_do(&mut self, sql: &str) -> Result<(), RepairError> {
        let done = self.locks.session.conn.query_drop(sql).await;
        done.map_err(|error| RepairError::driver("locking rows of the source", None, error))
    }
}
