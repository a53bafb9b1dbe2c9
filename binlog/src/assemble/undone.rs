//! What did not stay, or is not known yet to stay: transactions that are rolled back, whole or to a
//! savepoint, and those of XA.

use change::TableChange;

use super::{Assembler, Open};
use crate::decode::Decoder;
use crate::error::BinlogError;
use crate::event::XaStep;

/// A place in a transaction that it may be rolled back to.
pub(super) struct Mark {
    /// The savepoint's name; empty: the beginning.
    name: String,
    /// The epoch there.
    epoch: u64,
    /// How many parts were sent before it.
    part: u32,
    /// How many changes of tables there were, and how many rows the last of them had.
    tables: usize,
    rows: usize,
    weight: usize,
}

impl Open {
    pub(super) fn mark(&self, name: String, epoch: u64) -> Mark {
        Mark {
            name,
            epoch,
            part: self.part,
            tables: self.changes.len(),
            rows: self.changes.last().map_or(0, |last| last.rows.len()),
            weight: self.weight,
        }
    }

    /// Whether an epoch of the member's own has begun in it; `now`: the newest.
    pub(super) fn changes_epoch(&self, now: u64) -> bool {
        self.marks.first().is_some_and(|begin| begin.epoch != now)
    }

    /// Forgets what came behind a mark. It counts as left out, like all that was read and is not sent.
    fn forget_behind(&mut self, mark: &Mark) {
        let count = |changes: &[TableChange]| -> u64 {
            changes.iter().map(|change| change.rows.len() as u64).sum()
        };
        let before = count(&self.changes);
        self.changes.truncate(mark.tables);
        if let Some(last) = self.changes.last_mut() {
            last.rows.truncate(mark.rows);
        }
        self.weight = mark.weight;
        self.filtered += before - count(&self.changes);
        self.bookkeeping = false;
    }
}

impl Assembler {
    /// A table without transactions took part, which no link copies, so none of the rows that were
    /// collected has stayed at the source.
    pub(super) fn rollback(&mut self, decoder: &mut Decoder) -> Result<(), BinlogError> {
        self.rollback_to("", decoder)?;
        // Nor has anything else that would have had to be carried.
        self.open(decoder)?.refused = None;
        self.commit(decoder)
    }

    pub(super) fn savepoint(&mut self, name: String, decoder: &Decoder) -> Result<(), BinlogError> {
        let epoch = self.epoch;
        let open = self.open(decoder)?;
        // A savepoint takes the place of an older one of its name.
        open.marks.retain(|mark| mark.name != name);
        let mark = open.mark(name, epoch);
        open.marks.push(mark);
        Ok(())
    }

    pub(super) fn rollback_to(&mut self, name: &str, decoder: &Decoder) -> Result<(), BinlogError> {
        let open = self.open(decoder)?;
        let Some(at) = open.marks.iter().position(|mark| mark.name == name) else {
            return Err(decoder.malformed(
                "ROLLBACK TO",
                format!("the transaction has no savepoint {name}"),
            ));
        };
        open.marks.truncate(at + 1);
        let mark = open.marks.remove(at);
        if mark.part != open.part {
            return Err(decoder.refused(
                "RolledBack",
                "a transaction was rolled back, or a part of it, and is in the binlog all the same \
                 since it changed a table whose engine has no transactions; parts of what was rolled \
                 back were sent already",
                "Nothing of it is applied. Use InnoDB for every table that is changed together with \
                 the link's, then let the link copy its tables anew",
            ));
        }
        open.forget_behind(&mark);
        let epoch = mark.epoch;
        open.marks.push(mark);
        self.epoch = epoch;
        Ok(())
    }

    /// XA transactions pass where nothing of theirs is the link's. That is known of those that were
    /// prepared while this reader read; the rows of another one may lie before its place.
    pub(super) fn xa(&mut self, step: XaStep, decoder: &mut Decoder) -> Result<(), BinlogError> {
        let open = self.open(decoder)?;
        open.bookkeeping = false;
        match step {
            XaStep::Start(name) => {
                open.begun = true;
                open.xa = Some(name);
                Ok(())
            }
            XaStep::End => Ok(()),
            XaStep::Rollback(name) => {
                self.prepared.remove(&name);
                self.commit(decoder)
            }
            XaStep::Commit(name) => {
                if open.birth.local && !self.prepared.remove(&name) {
                    return Err(decoder.xa("whose rows were logged before the link came there"));
                }
                self.commit(decoder)
            }
            XaStep::Other => Err(decoder.xa("in a form that is not known")),
        }
    }

    pub(super) fn xa_prepared(
        &mut self,
        one_phase: bool,
        decoder: &mut Decoder,
    ) -> Result<(), BinlogError> {
        /// No server is known to keep nearly as many.
        const MOST_PREPARED: usize = 100_000;
        let open = self.open(decoder)?;
        let Some(name) = open.xa.take() else {
            return Err(decoder.xa("that was not begun"));
        };
        if !one_phase {
            if self.prepared.len() >= MOST_PREPARED {
                return Err(decoder.xa("while too many others are prepared"));
            }
            self.prepared.insert(name);
        }
        self.commit(decoder)
    }
}
