//! Writing one row: compare and set, in one transaction with its record.
//!
//! The transaction holds the lock of the newest epoch from its first statement on, as each of the
//! writer's does (`writer/src/epoch.rs`): a promotion either waits for it or comes before it, and
//! then it finds another epoch and does nothing.

use std::sync::Arc;

use change::{
    Body, Row, RowChange, RowFlags, TableChange, TableSchema, Transaction, encode_stored,
};
use writer::{ConflictKind, WriterError};

use crate::error::RepairError;
use crate::judge::finding;
use crate::pair::{End, Key, Pair};
use crate::record::{self, Fate, State};
use crate::run::Run;
use crate::side::{at, own_row};
use crate::verdict::{Images, Kind};

/// What writing a row has come to.
#[derive(Debug)]
pub(crate) enum Mended {
    /// It is what the source has, and recorded.
    Done,
    /// Something moved meanwhile.
    Again(String),
    /// It cannot be, as long as other rows are as they are.
    Later(String),
    /// It cannot be, as long as another row has a unique value of it.
    Clash(String),
}

impl Mended {
    /// Why it was not mended; empty if it was.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Done => String::new(),
            Self::Again(reason) | Self::Later(reason) | Self::Clash(reason) => reason,
        }
    }
}

impl Run<'_> {
    /// Makes the target's row what the source's is, if it still is what it was seen to be. To be
    /// called in a still moment of that row.
    pub(crate) async fn mend(
        &mut self,
        pair: &Pair,
        kind: Kind,
        images: &Images,
        change: &RowChange,
    ) -> Result<Mended, RepairError> {
        let before = self.state.clone();
        let outcome = self.mend_in_transaction(pair, kind, images, change).await;
        self.conclude(before, outcome).await
    }

    /// Commits what was mended, or takes it back and goes on from the state of before.
    pub(crate) async fn conclude(
        &mut self,
        before: State,
        outcome: Result<Mended, RepairError>,
    ) -> Result<Mended, RepairError> {
        match outcome {
            Ok(Mended::Done) => {
                self.ends.writer.commit().await?;
                self.status.publish(&self.state);
                Ok(Mended::Done)
            }
            Ok(other) => {
                self.state = before;
                self.ends.writer.roll_back().await?;
                Ok(other)
            }
            Err(error) => {
                self.state = before;
                self.ends.writer.roll_back().await?;
                match &error {
                    error if error.is_collision() => Ok(Mended::Again(error.to_string())),
                    RepairError::Write(WriterError::Conflict(conflict)) => {
                        Ok(match conflict.kind {
                            // What the link would do about it is not for whoever reads this.
                            ConflictKind::UniqueClash => Mended::Clash(conflict.detail.clone()),
                            kind => Mended::Later(format!("{kind}: {}", conflict.detail)),
                        })
                    }
                    _ => Err(error),
                }
            }
        }
    }

    async fn mend_in_transaction(
        &mut self,
        pair: &Pair,
        kind: Kind,
        images: &Images,
        change: &RowChange,
    ) -> Result<Mended, RepairError> {
        self.begin().await?;
        let place = images.target.as_ref().or(images.source.as_ref());
        let Some(place) = place.map(|row| pair.key_of(row)) else {
            return Ok(Mended::Done);
        };
        let own_before = self.own(pair, &place).await?;
        if own_before.as_ref().map(|row| pair.of_target(row)) != images.target {
            return Ok(Mended::Again("the target's row has changed".to_owned()));
        }
        let writer = &mut self.ends.writer;
        writer.change(&pair.source, &pair.fit, change).await?;
        let place = images.source.as_ref().map_or(place, |row| pair.key_of(row));
        let own_after = self.own(pair, &place).await?;
        if own_after.as_ref().map(|row| pair.of_target(row)) != images.source {
            return Ok(Mended::Later(
                "the target stored another value than the source has".to_owned(),
            ));
        }
        let mut finding = finding(pair, kind, images, change, Fate::Repaired, "");
        let done = own_change(own_before, own_after).into_iter().collect();
        finding.body = body(&pair.target, done, &self.link.source.idc)?;
        self.state.count(&pair.name, kind, Fate::Repaired);
        let (run, conn) = (&self.config.run, self.ends.writer.conn());
        record::add(conn, run, pair, &finding).await?;
        record::save(conn, run, &self.state).await?;
        tracing::info!(table = %pair.name, row = %finding.row, %kind, "a row was mended");
        Ok(Mended::Done)
    }

    /// Begins a transaction under the epoch that the run began under.
    pub(crate) async fn begin(&mut self) -> Result<(), RepairError> {
        loop {
            match self.ends.writer.begin().await? {
                Some(epoch) if epoch == self.state.epoch => return Ok(()),
                Some(found) => {
                    self.ends.writer.roll_back().await?;
                    return Err(RepairError::EpochMoved {
                        begun: self.state.epoch,
                        found,
                    });
                }
                // A promotion went on between the two reads; it is over now.
                None => self.ends.writer.roll_back().await?,
            }
        }
    }

    /// The target's row with a key in its own columns, locked.
    pub(crate) async fn own(&mut self, pair: &Pair, key: &Key) -> Result<Option<Row>, RepairError> {
        let condition = at(pair, End::Target, key)?;
        own_row(self.ends.writer.conn(), &pair.target, &condition).await
    }
}

/// What was done to a row, by its images in the target's own columns.
pub(crate) fn own_change(before: Option<Row>, after: Option<Row>) -> Option<RowChange> {
    Some(match (before, after) {
        (None, Some(after)) => RowChange::Insert { after },
        (Some(before), Some(after)) => RowChange::Update { before, after },
        (Some(before), None) => RowChange::Delete { before },
        (None, None) => return None,
    })
}

/// What was done to rows of the target, for [`crate::undo`]; all of it is taken back together.
pub(crate) fn body(
    table: &Arc<TableSchema>,
    rows: Vec<RowChange>,
    origin: &model::IdcName,
) -> Result<Option<Vec<u8>>, RepairError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let transaction = Transaction {
        gtid: String::new(),
        origin: origin.to_string(),
        epoch: 0,
        committed_micros: 0,
        part: 0,
        position: None,
        filtered: 0,
        body: Body::Rows(vec![TableChange {
            table: Arc::clone(table),
            lenient: false,
            flags: RowFlags::default(),
            rows,
        }]),
    };
    encode_stored(&transaction)
        .map(Some)
        .map_err(|error| RepairError::Refused(format!("a row of {table} cannot be kept: {error}")))
}
