//! Changes that must not be applied any more, and what a person can do about them.

use std::fmt;

use change::Transaction;

use crate::bookkeeping;

/// Transactions of an epoch that has ended at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// How many whole ones, of those received so far.
    pub transactions: u64,
    /// Their row changes and DDL statements.
    pub changes: u64,
    /// The first one's GTID.
    pub gtid: String,
    /// The source's position after the last one that is counted; `None` while the end of the first
    /// has not been received.
    pub through: Option<String>,
    /// The link.
    pub link: String,
    /// Where they were committed.
    pub source_idc: String,
    /// Their epoch.
    pub epoch: u64,
    /// The newest epoch at the target.
    pub newest: u64,
}

impl Stranded {
    /// Counts another transaction, or another part of one, if it is stranded too.
    pub(crate) fn add(&mut self, transaction: &Transaction) {
        if transaction.epoch >= self.newest || !bookkeeping::is_data(transaction) {
            return;
        }
        self.changes += transaction.change_count();
        if let Some(position) = &transaction.position {
            self.transactions += 1;
            self.through = Some(position.to_string());
        }
    }
}

impl std::error::Error for Stranded {}

impl fmt::Display for Stranded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transactions,
            changes,
            gtid,
            through,
            link,
            source_idc,
            epoch,
            newest,
        } = self;
        write!(
            f,
            "{transactions} transaction(s) with {changes} change(s), the first {gtid}, were \
             committed in {source_idc} under epoch {epoch}, which ended when epoch {newest} began: \
             they are stranded. Nothing of them was applied here, and nothing is lost: they are in \
             the binlog and the tables of {source_idc}. Carry over by hand what of them is to be \
             kept, and bring those rows of {source_idc} back in line"
        )?;
        match through {
            Some(position) => write!(
                f,
                ". Then let the link pass them by running at the target: UPDATE multiactive.applied \
                 SET position='{position}' WHERE link='{link}'"
            ),
            None => f.write_str(". The end of the first has not been received yet; look again"),
        }
    }
}
