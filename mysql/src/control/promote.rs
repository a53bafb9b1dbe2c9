//! Promotion (rule 8): the transaction that ends one epoch and begins the next.
//!
//! A writer's transaction first changes its link's row in `applied`, then locks the newest row of
//! `epoch` in share mode. Promotion locks the same rows in the same order, exclusively: so the
//! position that it reads contains every transaction that was applied, and none is applied later.
//!
//! The new row says which epoch it `follows`, the newest that this server knew of, and how far the
//! transactions of that one's holder had been applied here (`ended`). etcd may have seen an epoch in
//! between whose holder was never promoted, or nothing of which has come here: of that one nothing
//! is here, so there is nothing to say of it. `needs` is the newest of them that changed data, since a
//! heartbeat that only this server got must keep nobody waiting. Other members judge by this what
//! they may go on with (`writer/src/epoch`).

use std::time::Duration;

use model::{Epoch, IdcName, PositionText};

use super::checkpoints::{APPLIED_ROWS, Checkpoint, newest};
use super::hindrances::lacks_tables;
use super::row::Answer;
use super::{ControlError, ControlSession, literal};

const DOING: &str = "promote";
/// Of a promotion that collides with writers.
const TRIES: u32 = 3;
/// A writer that has something to apply begins it within this time after the transaction before: it
/// locks its link's row first, so that a promotion waits for it.
const STILL_FOR: Duration = Duration::from_millis(50);

/// Which epoch to begin.
#[derive(Debug, Clone)]
pub struct PromotionOrder {
    /// The new epoch.
    pub epoch: Epoch,
    /// The IDC of this server.
    pub idc: IdcName,
    /// Whose epoch ends in etcd, if there was a holder. Where the server knows of an epoch, its
    /// holder counts.
    pub from: Option<IdcName>,
    /// Whether a person has said that what is missing here may be lost: tables whose copy has not
    /// ended.
    pub lossy: bool,
}

/// An epoch that began here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// How far the previous holder's transactions had been applied here, in its own positions;
    /// `None` where there was none, it was this member itself, or nothing had been applied.
    pub applied: Option<PositionText>,
    /// Whether this call wrote the epoch; false if an earlier call already had.
    pub written: bool,
}

/// What an attempt came to.
enum Attempt {
    Promoted(Promotion),
    /// These checkpoints are not those that were to be found; nothing was written.
    Moved(Vec<Checkpoint>),
}

impl ControlSession {
    /// Begins an epoch in the database, which stays as fenced as it is. Doing it again for the same
    /// epoch and IDC changes nothing and returns the same position.
    ///
    /// # Errors
    /// [`ControlError::EpochPassed`] if the database has seen this epoch under another IDC, or a
    /// higher one; [`ControlError::CopiesTables`] while a link copies tables to it, unless the order
    /// says that they may be lost. Any error leaves nothing behind, other than a time-out, after which it is not
    /// known; call it again.
    pub async fn promote(&mut self, order: &PromotionOrder) -> Result<Promotion, ControlError> {
        loop {
            // With nothing expected, whatever is found will do.
            if let Attempt::Promoted(promotion) = self.attempt(order, None).await? {
                return Ok(promotion);
            }
        }
    }

    /// The same, unless links bring something from the former holder just now: `None` then, and
    /// nothing has changed. What they still bring once the epoch has begun is set aside.
    ///
    /// # Errors
    /// Those of [`ControlSession::promote`].
    pub async fn promote_if_still(
        &mut self,
        order: &PromotionOrder,
    ) -> Result<Option<Promotion>, ControlError> {
        match self.attempt(order, Some(&[])).await? {
            Attempt::Promoted(promotion) => Ok(Some(promotion)),
            Attempt::Moved(found) => {
                tokio::time::sleep(STILL_FOR).await;
                match self.attempt(order, Some(&found)).await? {
                    Attempt::Promoted(promotion) => Ok(Some(promotion)),
                    Attempt::Moved(_) => Ok(None),
                }
            }
        }
    }

    /// Promotes if the former holder's links have applied what is expected, if anything is.
    async fn attempt(
        &mut self,
        order: &PromotionOrder,
        expected: Option<&[Checkpoint]>,
    ) -> Result<Attempt, ControlError> {
        let mut tries = 1;
        loop {
            let outcome = self.promote_in_transaction(order, expected).await;
            let Err(error) = &outcome else {
                return outcome;
            };
            // ER_LOCK_DEADLOCK: a writer locked the same rows, and this one was rolled back.
            if error.server_code() != Some(1213) || tries == TRIES {
                // A transaction of ours must not stay open behind an error.
                self.session = None;
                return outcome;
            }
            tries += 1;
        }
    }

    /// Begins the transaction: the checkpoints, the newest epoch, and what links are copying.
    async fn lock_rows(&mut self) -> Result<Vec<Vec<mysql_async::Row>>, ControlError> {
        // The read of the newest epoch that follows the locks sees what the locks waited for.
        // The locking read orders by the key and takes the gap above the newest row, so that a
        // writer's share lock on "the newest row" and this one exclude each other.
        self.execute(
            DOING,
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION",
        )
        .await?;
        self.query(
            DOING,
            &format!(
                "{APPLIED_ROWS} FOR UPDATE; SELECT epoch, idc, ended FROM multiactive.epoch \
                 ORDER BY epoch DESC LIMIT 1 FOR UPDATE; \
                 SELECT CAST(link AS CHAR), CAST(snapshot AS CHAR) FROM multiactive.applied \
                 ORDER BY link FOR UPDATE"
            ),
        )
        .await
    }

    async fn promote_in_transaction(
        &mut self,
        order: &PromotionOrder,
        expected: Option<&[Checkpoint]>,
    ) -> Result<Attempt, ControlError> {
        let mut sets = self.lock_rows().await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut follows = None;
        if let Some(mut newest) = sets.get_mut(1).and_then(Vec::pop) {
            let epoch: u64 = answer.value(&mut newest, 0, "epoch")?;
            let idc: String = answer.value(&mut newest, 1, "IDC")?;
            let ended: Option<String> = answer.value(&mut newest, 2, "position")?;
            if epoch == order.epoch.0 && idc == order.idc.as_str() {
                self.execute(DOING, "ROLLBACK").await?;
                return Ok(Attempt::Promoted(Promotion {
                    applied: ended.map(PositionText),
                    written: false,
                }));
            }
            if epoch >= order.epoch.0 {
                return Err(ControlError::EpochPassed {
                    endpoint: self.endpoint.clone(),
                    epoch: order.epoch.0,
                    newest: epoch,
                });
            }
            let idc = IdcName::new(idc).map_err(|_| answer.missing("name of an IDC".to_owned()))?;
            follows = Some((epoch, idc));
        }
        let holder = follows.as_ref().map(|(_, idc)| idc);
        let others = holder.or(order.from.as_ref());
        let others = others.filter(|from| **from != order.idc);
        // What a member has whose epoch is the newest is what the others are copies of.
        if !order.lossy && holder != Some(&order.idc) {
            self.check_whole(sets.pop().unwrap_or_default())?;
        }
        let checkpoints = match others {
            Some(from) => {
                let rows = sets.first_mut().map(std::mem::take);
                self.checkpoints(rows.unwrap_or_default(), from)?
            }
            None => Vec::new(),
        };
        if expected.is_some_and(|expected| expected != checkpoints) {
            self.execute(DOING, "ROLLBACK").await?;
            return Ok(Attempt::Moved(checkpoints));
        }
        let applied = match others {
            Some(from) => self.applied_of(&checkpoints, from)?,
            None => None,
        };
        let follows = follows.map(|(epoch, _)| epoch);
        let needs = newest(&checkpoints);
        self.insert_epoch(order, follows, applied.as_ref(), needs)
            .await?;
        Ok(Attempt::Promoted(Promotion {
            applied,
            written: true,
        }))
    }

    /// Refuses a member to which tables are still copied. The rows are locked, so no writer begins
    /// to copy one anew before this promotion has ended, and then it finds the epoch over.
    fn check_whole(&self, rows: Vec<mysql_async::Row>) -> Result<(), ControlError> {
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        for mut row in rows {
            let link: String = answer.value(&mut row, 0, "link")?;
            let snapshot: Option<String> = answer.value(&mut row, 1, "snapshot")?;
            if snapshot.is_some_and(|snapshot| lacks_tables(&snapshot)) {
                let endpoint = self.endpoint.clone();
                return Err(ControlError::CopiesTables { endpoint, link });
            }
        }
        Ok(())
    }

    /// Writes the row, and ends the transaction.
    async fn insert_epoch(
        &mut self,
        order: &PromotionOrder,
        follows: Option<u64>,
        applied: Option<&PositionText>,
        needs: Option<String>,
    ) -> Result<(), ControlError> {
        let null = || "NULL".to_owned();
        let insert = format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at, follows, needs) \
             VALUES ({}, {}, {}, SYSDATE(6), {}, {}); COMMIT",
            order.epoch,
            literal(order.idc.as_str()),
            applied.map_or_else(null, |text| literal(&text.0)),
            follows.map_or_else(null, |epoch| epoch.to_string()),
            needs.map_or_else(null, |text| literal(&text))
        );
        self.execute(DOING, &insert).await
    }
}
