//! Settling what is held in `multiactive.conflicts`, for a person: the source's row is put at the
//! target, or the target's row at the source, by compare and set; or neither.
//!
//! **The source's row** is put as the writer would have put it: marked as born in the source, so
//! that no link carries it on, under the lock of the newest epoch, in the transaction that settles
//! the record, and only where the row still is what was found or what it was at the source before.
//! Without a Unit the target may have won at the source meanwhile, so the source has to have the row
//! still, as it is put.
//!
//! **The target's row** is written at the source, as an application's write there, since whatever
//! else is done to it at the target the primary would never get: only if the source takes the writes
//! and still has the row as the change left it, and the target the row that was found. The links
//! bring it to the target, which has it already.
//!
//! **One decision a row.** Of several changes of one row that are held, the newest says what the
//! source has now, so only that one is settled; the older ones are settled with it. All of this
//! may be done again where it broke off: a row that is as it must be is left alone.

use std::sync::Arc;

use change::{Row, RowChange, TableChange};
use model::IdcName;
use mysql::conflicts::{ConflictsError, Recorded};
use mysql::session::SessionOptions;

use crate::apply::{LOCK_EPOCH, READ_EPOCH, reaches};
use crate::conflict::only_written;
use crate::error::{Class, WriterError};
use crate::explain;
use crate::replay::{HeldRow, ReplayError, Replayer};
use crate::sql::plan::Plan;
use crate::target::lookup::{fit, quote};
use crate::target::row::{differences, locked};
use crate::target::session::{Cause, Target};
use crate::target::table::Mapping;

/// A collision with an application's transaction is tried again so often.
const COLLISIONS: u32 = 4;

/// Why a conflict was not settled. Nothing was changed, but where the target's row was put at the
/// source before something failed at the target; doing it again finds that.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// It is settled already.
    #[error("it does not wait to be settled: its state is {0}")]
    NotHeld(String),
    /// There is a newer one of the same row.
    #[error("conflict {0} is a newer one of the same row, and says what the source has now")]
    Newer(u64),
    /// The row is not what it was when the conflict was met.
    #[error("the row has changed since at the {at}: {detail}")]
    Changed {
        /// `source` or `target`.
        at: &'static str,
        /// How.
        detail: String,
    },
    /// It concerns two rows, so it is not said what the target's row is.
    #[error(
        "another row has a unique value of this one, and which of the two is to go cannot be said \
         here: change one of them at the source"
    )]
    TwoRows,
    /// It would change other rows besides.
    #[error(
        "foreign keys of other tables would change rows there by themselves: change the row by hand, \
         look at those, and discard the conflict"
    )]
    Cascades,
    /// A promotion goes on.
    #[error("the target's epoch changes just now: try again")]
    EpochMoved,
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] ConflictsError),
    /// The source's answer.
    #[error(transparent)]
    Source(#[from] ReplayError),
    /// The target's answer.
    #[error(transparent)]
    Target(#[from] WriterError),
}

/// Settles conflicts in one target.
#[derive(Debug)]
pub struct Settler<'a> {
    /// How the target is reached.
    pub target: &'a SessionOptions,
    /// The link's source, which the source's row is marked with.
    pub source: &'a IdcName,
    /// Who settles them.
    pub by: &'a str,
}

/// The state of a record that a person has settled.
#[derive(Debug, Clone, Copy)]
enum Taken {
    Source,
    Target,
}

impl Settler<'_> {
    /// Puts the source's row at the target. `has_it` is a source that has to have it; it is `None` under
    /// a Unit, whose primary says what the row is.
    ///
    /// # Errors
    /// Any [`SettleError`]; nothing was changed then, unless the connection broke while it was
    /// committed.
    pub async fn take_source(
        &self,
        recorded: &Recorded,
        has_it: Option<&SessionOptions>,
    ) -> Result<(), SettleError> {
        let mut collisions = 0;
        loop {
            let held = match has_it {
                Some(options) => Some(held_at_source(options, recorded).await?),
                None => None,
            };
            let mut target = Target::connect(self.target, self.source).await?;
            let done = self.put_at_target(&mut target, recorded).await;
            target.close().await;
            if let Some(source) = held {
                source.close().await;
            }
            collisions += 1;
            match done {
                Err(SettleError::Target(error))
                    if error.class() == Class::Collision && collisions < COLLISIONS => {}
                other => return other,
            }
        }
    }

    /// Puts the target's row at the source. `onto` is a session with the source, which has to take
    /// the writes.
    ///
    /// # Errors
    /// Any [`SettleError`].
    pub async fn take_target(
        &self,
        recorded: &Recorded,
        onto: &mut Replayer,
    ) -> Result<(), SettleError> {
        if recorded.conflict.kind == "unique_clash" {
            return Err(SettleError::TwoRows);
        }
        let mut target = Target::connect(self.target, self.source).await?;
        let done = self.put_at_source(&mut target, recorded, onto).await;
        target.close().await;
        done
    }

    async fn put_at_target(
        &self,
        target: &mut Target,
        recorded: &Recorded,
    ) -> Result<(), SettleError> {
        self.begin(target, recorded).await?;
        let mapping = mapping(target, recorded).await?;
        let images = Images::of(recorded, &mapping);
        let there = images.look(target, recorded, &mapping).await?;
        if let Some(change) = images.put(there.as_ref(), &mapping)? {
            if reaches(&change, &mapping) {
                return Err(SettleError::Cascades);
            }
            write(target, recorded, change, &mapping).await?;
        }
        self.settle(target, recorded, Taken::Source).await?;
        target.execute("committing", b"COMMIT").await?;
        Ok(())
    }

    async fn put_at_source(
        &self,
        target: &mut Target,
        recorded: &Recorded,
        onto: &mut Replayer,
    ) -> Result<(), SettleError> {
        self.begin(target, recorded).await?;
        let mapping = mapping(target, recorded).await?;
        let images = Images::of(recorded, &mapping);
        let there = images.look(target, recorded, &mapping).await?;
        if there != images.found {
            return Err(images.changed("target", there.as_ref(), &mapping));
        }
        let rows = back(recorded.row().after(), recorded.found.as_ref());
        let change = TableChange {
            table: Arc::clone(&recorded.change.table),
            rows: rows.into_iter().collect(),
            ..recorded.change
        };
        if let Some(HeldRow { detail, .. }) = onto.set(&recorded.conflict.gtid, &change).await? {
            let at = "source";
            return Err(SettleError::Changed { at, detail });
        }
        self.settle(target, recorded, Taken::Target).await?;
        target.execute("committing", b"COMMIT").await?;
        Ok(())
    }

    /// Begins a transaction under the lock of the newest epoch, and locks the record in it.
    async fn begin(&self, target: &mut Target, recorded: &Recorded) -> Result<(), SettleError> {
        target
            .execute("beginning a transaction", b"START TRANSACTION")
            .await?;
        let text = String::from_utf8_lossy;
        let doing = "reading multiactive.epoch";
        let locked: Option<u64> = target.first(doing, &text(LOCK_EPOCH)).await?;
        let read: Option<u64> = target.first(doing, &text(READ_EPOCH)).await?;
        if locked != read {
            return Err(SettleError::EpochMoved);
        }
        let number = recorded.conflict.number;
        let doing = "reading multiactive.conflicts";
        let state = format!(
            "SELECT CAST(state AS CHAR) FROM multiactive.conflicts WHERE seq={number} FOR UPDATE"
        );
        let state: Option<String> = target.first(doing, &state).await?;
        let state = state.unwrap_or_else(|| "unknown".to_owned());
        if state != "Held" {
            return Err(SettleError::NotHeld(state));
        }
        let newest = format!(
            "SELECT MAX(other.seq) FROM multiactive.conflicts AS other \
             JOIN multiactive.conflicts AS this ON this.place=other.place AND this.link=other.link \
             WHERE this.seq={number} AND other.state='Held'"
        );
        let newest: Option<Option<u64>> = target.first(doing, &newest).await?;
        match newest.flatten() {
            Some(newer) if newer > number => Err(SettleError::Newer(newer)),
            _ => Ok(()),
        }
    }

    /// Settles the record, and with it the older ones of its row.
    async fn settle(
        &self,
        target: &mut Target,
        recorded: &Recorded,
        taken: Taken,
    ) -> Result<(), WriterError> {
        let state = match taken {
            Taken::Source => "TookSource",
            Taken::Target => "TookTarget",
        };
        let (number, by) = (recorded.conflict.number, quote(self.by));
        let older = format!(
            "UPDATE multiactive.conflicts AS older JOIN multiactive.conflicts AS this \
             ON this.place=older.place AND this.link=older.link \
             SET older.state=IF(older.seq={number}, '{state}', 'Superseded'), \
             older.settled=UTC_TIMESTAMP(6), older.settled_by={by} \
             WHERE this.seq={number} AND older.seq<={number} AND older.state='Held'"
        );
        let doing = "writing to multiactive.conflicts";
        target.execute(doing, older.as_bytes()).await
    }
}

/// A session in which the source's row is locked, which is as the change left it.
async fn held_at_source(
    options: &SessionOptions,
    recorded: &Recorded,
) -> Result<Target, SettleError> {
    let mut source = Target::connect_local(options).await?;
    source
        .execute("beginning a transaction", b"START TRANSACTION")
        .await?;
    let schema = &recorded.change.table;
    let mapping = fit(&mut source, schema, &schema.database, &schema.table).await?;
    let images = Images::of(recorded, &mapping);
    let there = images.look(&mut source, recorded, &mapping).await?;
    if there != images.after {
        let at = "source";
        let told = images.after.as_ref().zip(there.as_ref());
        let detail = match told {
            Some((after, there)) => differences((Some(after), None), there, &mapping),
            None if there.is_none() => "there is no such row".to_owned(),
            None => "there is a row now".to_owned(),
        };
        return Err(SettleError::Changed { at, detail });
    }
    Ok(source)
}

/// The images of a record, as far as they are compared.
struct Images {
    before: Option<Row>,
    after: Option<Row>,
    found: Option<Row>,
}

impl Images {
    fn of(recorded: &Recorded, mapping: &Mapping) -> Self {
        let (before, after) = match recorded.row() {
            RowChange::Insert { after } => (None, Some(after)),
            RowChange::Update { before, after } => (Some(before), Some(after)),
            RowChange::Delete { before } => (Some(before), None),
        };
        let compared = |row: Option<&Row>| row.map(|row| only_written(row, mapping));
        Self {
            before: compared(before),
            after: compared(after),
            found: compared(recorded.found.as_ref()),
        }
    }

    /// The row at the target, locked: at the key that it had at the source before, or has after.
    async fn look(
        &self,
        target: &mut Target,
        recorded: &Recorded,
        mapping: &Mapping,
    ) -> Result<Option<Row>, WriterError> {
        let table = &recorded.change.table;
        for place in [&self.before, &self.after].into_iter().flatten() {
            if let Some(row) = locked(target, table, mapping, place).await? {
                return Ok(Some(only_written(&row, mapping)));
            }
        }
        Ok(None)
    }

    /// The change that puts the source's row where the row is as it was found, or as it was at the
    /// source before; `None` if it is there.
    fn put(&self, is: Option<&Row>, mapping: &Mapping) -> Result<Option<RowChange>, SettleError> {
        if is == self.after.as_ref() {
            return Ok(None);
        }
        if is != self.found.as_ref() && is != self.before.as_ref() {
            return Err(self.changed("target", is, mapping));
        }
        Ok(back(is, self.after.as_ref()))
    }

    fn changed(&self, at: &'static str, there: Option<&Row>, mapping: &Mapping) -> SettleError {
        let detail = match (there, self.found.as_ref()) {
            (None, _) => "there is no such row".to_owned(),
            (Some(there), found) => {
                let told = differences((found, None), there, mapping);
                if told.is_empty() {
                    "there is a row now".to_owned()
                } else {
                    told
                }
            }
        };
        SettleError::Changed { at, detail }
    }
}

/// The change from one image to another; `None` if both are no row.
fn back(from: Option<&Row>, to: Option<&Row>) -> Option<RowChange> {
    Some(match (from.cloned(), to.cloned()) {
        (None, Some(after)) => RowChange::Insert { after },
        (Some(before), Some(after)) => RowChange::Update { before, after },
        (Some(before), None) => RowChange::Delete { before },
        (None, None) => return None,
    })
}

/// The fit into the target's table, which the record names: the link may give it another name than
/// the source has.
async fn mapping(target: &mut Target, recorded: &Recorded) -> Result<Arc<Mapping>, WriterError> {
    let source = &recorded.change.table;
    let (database, table) = match recorded.conflict.table.split_once('.') {
        Some(named) if recorded.conflict.table != source.to_string() => named,
        _ => (source.database.as_str(), source.table.as_str()),
    };
    Ok(Arc::new(fit(target, source, database, table).await?))
}

/// Writes one row as the writer would, in the open transaction.
async fn write(
    target: &mut Target,
    recorded: &Recorded,
    row: RowChange,
    mapping: &Arc<Mapping>,
) -> Result<(), WriterError> {
    let change = TableChange {
        table: Arc::clone(&recorded.change.table),
        rows: vec![row],
        ..recorded.change
    };
    let mut plan = Plan::new(true);
    plan.change(&change, mapping);
    let gtid = &recorded.conflict.gtid;
    for request in plan.finish() {
        let Err(failure) = target.run(&request).await else {
            continue;
        };
        let statement = &request.statements[failure.index];
        match failure.cause {
            Cause::Driver(error) => return Err(explain::driver(error, statement, gtid)),
            Cause::Warnings => {
                if let Some(text) = target.warnings(statement.warnings).await? {
                    return Err(explain::warning(statement, gtid, &text));
                }
            }
            cause => return Err(explain::mismatch(&cause, statement, gtid)),
        }
    }
    Ok(())
}
