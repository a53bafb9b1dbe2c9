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

use change::{Flavor, Position};
use model::{Epoch, IdcName, PositionText};

use super::hindrances::lacks_tables;
use super::row::Answer;
use super::{ControlError, ControlSession, literal};

const DOING: &str = "promote";
/// Of a promotion that collides with writers.
const TRIES: u32 = 3;

/// The checkpoint of every link into this server.
pub(super) const APPLIED_ROWS: &str = "SELECT link, source, position, \
     JSON_UNQUOTE(JSON_EXTRACT(ledger, '$.newest.within')) FROM multiactive.applied ORDER BY link";

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

/// One link's row in `applied`.
struct Checkpoint {
    link: String,
    position: Position,
    /// What of it changed data last; `None` where nothing has, or that is not known.
    newest: Option<Position>,
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
        let mut tries = 1;
        loop {
            let outcome = self.promote_in_transaction(order).await;
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

    async fn promote_in_transaction(
        &mut self,
        order: &PromotionOrder,
    ) -> Result<Promotion, ControlError> {
        // The read of the newest epoch that follows the locks sees what the locks waited for.
        // The locking read orders by the key and takes the gap above the newest row, so that a
        // writer's share lock on "the newest row" and this one exclude each other.
        self.execute(
            DOING,
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION",
        )
        .await?;
        let mut sets = self
            .query(
                DOING,
                &format!(
                    "{APPLIED_ROWS} FOR UPDATE; SELECT epoch, idc, ended FROM multiactive.epoch \
                     ORDER BY epoch DESC LIMIT 1 FOR UPDATE; \
                     SELECT CAST(link AS CHAR), CAST(snapshot AS CHAR) FROM multiactive.applied \
                     ORDER BY link FOR UPDATE"
                ),
            )
            .await?;
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
                return Ok(Promotion {
                    applied: ended.map(PositionText),
                    written: false,
                });
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
        let applied = match others {
            Some(from) => self.applied_of(&checkpoints, from)?,
            None => None,
        };
        let follows = follows.map(|(epoch, _)| epoch);
        let needs = newest(&checkpoints);
        self.insert_epoch(order, follows, applied.as_ref(), needs)
            .await?;
        Ok(Promotion {
            applied,
            written: true,
        })
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

    /// Whether everything up to a position of another member has been applied here, by every link
    /// that comes from it. False where no link does.
    pub async fn applied_through(
        &mut self,
        source: &IdcName,
        position: &PositionText,
    ) -> Result<bool, ControlError> {
        const DOING: &str = "read what was applied";
        let mut sets = self.query(DOING, APPLIED_ROWS).await?;
        let rows = if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        };
        let checkpoints = self.checkpoints(rows, source)?;
        let Some(wanted) = self.parse(&position.0)? else {
            // Nothing was ever committed there.
            return Ok(true);
        };
        let through = checkpoints
            .iter()
            .all(|checkpoint| checkpoint.position.contains(&wanted));
        Ok(through && !checkpoints.is_empty())
    }

    /// What every link from an IDC has applied here, out of the rows of [`APPLIED_ROWS`]; `None`
    /// where that is nothing, or no position of one of them.
    pub(super) fn applied_from(
        &self,
        rows: Vec<mysql_async::Row>,
        source: &IdcName,
    ) -> Result<Option<PositionText>, ControlError> {
        let checkpoints = self.checkpoints(rows, source)?;
        Ok(least(&checkpoints)
            .filter(|position| !position.is_empty())
            .map(|position| PositionText(position.to_string())))
    }

    fn checkpoints(
        &self,
        rows: Vec<mysql_async::Row>,
        source: &IdcName,
    ) -> Result<Vec<Checkpoint>, ControlError> {
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut checkpoints = Vec::new();
        for mut row in rows {
            let link: String = answer.value(&mut row, 0, "link")?;
            let of: String = answer.value(&mut row, 1, "source")?;
            let text: Option<String> = answer.value(&mut row, 2, "position")?;
            if of != source.as_str() {
                continue;
            }
            // A link that has applied nothing counts with the empty position of either engine.
            let position = self
                .parse(text.as_deref().unwrap_or_default())?
                .unwrap_or_else(|| Position::empty(Flavor::MySql));
            let newest: Option<String> = answer.value(&mut row, 3, "newest data")?;
            let newest = self.parse(newest.as_deref().unwrap_or_default())?;
            checkpoints.push(Checkpoint {
                link,
                position,
                newest,
            });
        }
        Ok(checkpoints)
    }

    fn parse(&self, text: &str) -> Result<Option<Position>, ControlError> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|source| ControlError::Position {
                endpoint: self.endpoint.clone(),
                source,
            })
    }

    fn applied_of(
        &self,
        checkpoints: &[Checkpoint],
        source: &IdcName,
    ) -> Result<Option<PositionText>, ControlError> {
        match least(checkpoints) {
            Some(position) if position.is_empty() => Ok(None),
            Some(position) => Ok(Some(PositionText(position.to_string()))),
            None if checkpoints.is_empty() => Ok(None),
            None => Err(ControlError::CheckpointsDiverge {
                endpoint: self.endpoint.clone(),
                source_idc: source.to_string(),
                links: checkpoints
                    .iter()
                    .map(|c| c.link.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

/// The newest data that the link from a source has applied; `None` where there is none, or it is not
/// known: then all that was applied is needed.
fn newest(checkpoints: &[Checkpoint]) -> Option<String> {
    match checkpoints {
        [one] => one.newest.as_ref().map(ToString::to_string),
        _ => None,
    }
}

/// What every one of several links from one source has applied, if that is one of their positions.
fn least(checkpoints: &[Checkpoint]) -> Option<&Position> {
    checkpoints
        .iter()
        .map(|checkpoint| &checkpoint.position)
        .find(|position| {
            checkpoints
                .iter()
                .all(|other| other.position.contains(position))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(texts: &[&str]) -> Vec<Checkpoint> {
        let one = |text: &&str| Checkpoint {
            link: "a/b".to_owned(),
            position: if text.is_empty() {
                Position::empty(Flavor::MySql)
            } else {
                text.parse().unwrap()
            },
            newest: None,
        };
        texts.iter().map(one).collect()
    }

    #[test]
    fn the_least_of_several_links_counts() {
        let of = |texts: &[&str]| least(&checkpoints(texts)).map(ToString::to_string);
        assert_eq!(of(&["0-1-5"]).as_deref(), Some("0-1-5"));
        assert_eq!(of(&["0-1-5", "0-1-3"]).as_deref(), Some("0-1-3"));
        assert_eq!(of(&["0-1-5", ""]).as_deref(), Some(""));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["0-1-5,1-1-1", "0-1-3,1-1-2"]), None);
    }
}
