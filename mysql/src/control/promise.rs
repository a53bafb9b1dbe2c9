//! Promises not to take the Unit (rule 11), recorded in the server that they are about: whoever would
//! open it finds them there, whichever process of its IDC gave them.
//!
//! The table has one row, and is never logged. A promise is recorded only while no later generation
//! was adopted here (see [`ControlSession::adopt`]): the row that says so is locked meanwhile, so
//! whoever adopts a later one afterwards sees the promise, and from then on none of an earlier one is
//! recorded.

use model::{Epoch, Generation, IdcName};

use super::procedures::CLOCK;
use super::row::Answer;
use super::{ControlError, ControlSession, literal};

const DOING: &str = "record a promise";

/// What to promise.
#[derive(Debug, Clone)]
pub struct PromiseOrder {
    /// The epoch of the holder to whom it is given.
    pub epoch: Epoch,
    /// The holder's IDC, for people.
    pub to: IdcName,
    /// For how long from now on, by the server's clock, in milliseconds.
    pub for_millis: u64,
    /// The generation of the arbiter that gives it.
    pub generation: Generation,
}

/// A promise as it was recorded last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromiseRow {
    /// The epoch of the holder to whom it was given.
    pub epoch: Epoch,
    /// For how long, in milliseconds.
    pub for_millis: u64,
}

/// What became of an order to record a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromiseOutcome {
    /// It is committed.
    Recorded,
    /// It is not: a later generation acts here, or the server accepts writes.
    Refused,
}

impl ControlSession {
    /// Records a promise, in place of the one before.
    ///
    /// # Errors
    /// Any means *not known*: it may have been recorded, which binds nobody to more than waiting.
    pub async fn promise(&mut self, order: &PromiseOrder) -> Result<PromiseOutcome, ControlError> {
        let PromiseOrder {
            epoch,
            to,
            for_millis,
            generation,
        } = order;
        let statements = format!(
            "START TRANSACTION; \
             SELECT generation FROM multiactive.control WHERE id = 1 LOCK IN SHARE MODE; \
             REPLACE INTO multiactive.promise (id, generation, epoch, holder, for_millis, `until`) \
             SELECT 1, {generation}, {epoch}, {to}, {for_millis}, {CLOCK} + 1000 * {for_millis} \
             FROM multiactive.control \
             WHERE id = 1 AND generation <= {generation} AND @@GLOBAL.read_only = 1; \
             SET @multiactive_recorded = ROW_COUNT(); COMMIT",
            generation = generation.0,
            to = literal(to.as_str()),
        );
        self.unlogged(DOING, &statements).await?;
        let mut sets = self
            .query(DOING, "SELECT @multiactive_recorded > 0")
            .await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        let recorded: Option<u8> = answer.value(&mut row, 0, "count of promises")?;
        Ok(if recorded == Some(1) {
            PromiseOutcome::Recorded
        } else {
            PromiseOutcome::Refused
        })
    }

    /// Takes promises away that were given to holders of epochs below this one: they are over.
    ///
    /// # Errors
    /// Any means *not known*; call it again.
    pub async fn end_promises(&mut self, below: Epoch) -> Result<(), ControlError> {
        if below == Epoch::NONE {
            return Ok(());
        }
        self.unlogged(
            "end promises that are over",
            &format!("DELETE FROM multiactive.promise WHERE epoch < {below}"),
        )
        .await
    }
}
