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
use crate::record::{self, Fate};
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

/// A row that is mended, by itself or together with others.
pub(crate) struct Member {
    pub kind: Kind,
    pub images: Images,
    pub change: RowChange,
}

/// The statements that carry several changes out together, so that none meets what another one is
/// about to give up: first what is there is removed, then what must be there is put.
pub(crate) fn steps(changes: &[RowChange]) -> Vec<RowChange> {
    if let [change] = changes {
        return vec![change.clone()];
    }
    let removed = changes.iter().filter_map(|change| match change {
        RowChange::Update { before, .. } | RowChange::Delete { before } => {
            let before = before.clone();
            Some(RowChange::Delete { before })
        }
        RowChange::Insert { .. } => None,
    });
    let put = changes.iter().filter_map(|change| match change {
        RowChange::Update { after, .. } | RowChange::Insert { after } => {
            let after = after.clone();
            Some(RowChange::Insert { after })
        }
        RowChange::Delete { .. } => None,
    });
    removed.chain(put).collect()
}

impl Run<'_> {
    /// Makes the target's rows what the source's are, in one transaction, if they still are what they
    /// were seen to be. To be called in a still moment of those rows.
    pub(crate) async fn mend(
        &mut self,
        pair: &Pair,
        members: &[Member],
    ) -> Result<Mended, RepairError> {
        let before = self.state.clone();
        let outcome = self.write(pair, members).await;
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

    async fn write(&mut self, pair: &Pair, members: &[Member]) -> Result<Mended, RepairError> {
        self.begin().await?;
        let mut own_before = Vec::with_capacity(members.len());
        for images in members.iter().map(|it| &it.images) {
            let Some(place) = images.target.as_ref().or(images.source.as_ref()) else {
                continue;
            };
            let own = self.own(pair, &pair.key_of(place)).await?;
            if own.as_ref().map(|row| pair.of_target(row)) != images.target {
                return Ok(Mended::Again("the target's row has changed".to_owned()));
            }
            own_before.push(own);
        }
        let changes: Vec<RowChange> = members.iter().map(|it| it.change.clone()).collect();
        for change in steps(&changes) {
            let writer = &mut self.ends.writer;
            writer.change(&pair.source, &pair.fit, &change).await?;
        }
        let mut done = Vec::with_capacity(members.len());
        for (images, before) in members.iter().map(|it| &it.images).zip(own_before) {
            let Some(place) = images.source.as_ref().or(images.target.as_ref()) else {
                continue;
            };
            let after = self.own(pair, &pair.key_of(place)).await?;
            if after.as_ref().map(|row| pair.of_target(row)) != images.source {
                return Ok(Mended::Later(
                    "the target stored another value than the source has".to_owned(),
                ));
            }
            done.extend(own_change(before, after));
        }
        self.record(pair, members, done).await?;
        Ok(Mended::Done)
    }

    /// Records each row. The last one holds the changes of all, since only together they can be taken
    /// back; the others are those recorded right before it.
    async fn record(
        &mut self,
        pair: &Pair,
        members: &[Member],
        done: Vec<RowChange>,
    ) -> Result<(), RepairError> {
        let count = members.len();
        let reason = match count {
            1 => String::new(),
            2 => "mended together with another one".to_owned(),
            _ => format!("mended together with {} others", count - 1),
        };
        let mut body = body(&pair.target, done, &self.link.source.idc)?;
        for (index, member) in members.iter().enumerate() {
            let Member {
                kind,
                images,
                change,
            } = member;
            let mut finding = finding(pair, *kind, images, change, Fate::Repaired, &reason);
            finding.body = if index + 1 == count {
                body.take()
            } else {
                None
            };
            self.state.count(&pair.name, *kind, Fate::Repaired);
            let (run, conn) = (&self.config.run, self.ends.writer.conn());
            record::add(conn, run, pair, &finding).await?;
            tracing::info!(table = %pair.name, row = %finding.row, %kind, reason, "a row was mended");
        }
        let (run, conn) = (&self.config.run, self.ends.writer.conn());
        record::save(conn, run, &self.state).await
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
    async fn own(&mut self, pair: &Pair, key: &Key) -> Result<Option<Row>, RepairError> {
        let condition = at(pair, End::Target, key)?;
        own_row(self.ends.writer.conn(), &pair.target, &condition).await
    }
}

/// What was done to a row, by its images in the target's own columns.
fn own_change(before: Option<Row>, after: Option<Row>) -> Option<RowChange> {
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

#[cfg(test)]
mod tests {
    use change::Value;

    use super::*;

    #[test]
    fn what_is_there_goes_before_anything_is_put() {
        let row = |number| vec![Value::Int(number)];
        let (update, insert, delete) = (
            RowChange::Update {
                before: row(1),
                after: row(2),
            },
            RowChange::Insert { after: row(1) },
            RowChange::Delete { before: row(2) },
        );
        let alone = [update.clone()];
        assert_eq!(steps(&alone), alone);
        assert_eq!(
            steps(&[insert.clone(), update, delete.clone()]),
            [
                RowChange::Delete { before: row(1) },
                delete,
                insert,
                RowChange::Insert { after: row(2) },
            ]
        );
    }
}
