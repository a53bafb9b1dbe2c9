//! Whether a transaction may still be applied: rule 8 of the arbitration. Pure.
//!
//! A Unit's epoch ends at a member when a newer row arrives in its `multiactive.epoch`. What a
//! source committed under an epoch that has ended here must not be applied any more: somebody else
//! was promoted without it, and wrote on.
//!
//! **Why this neither loses nor doubles.** Each transaction of the writer first changes the link's
//! row in `multiactive.applied`, then locks the newest row of `multiactive.epoch` in share mode,
//! then reads the newest epoch, and keeps both locks until it commits. A promotion takes the same
//! locks exclusively, reads the applied positions H, inserts its epoch and commits. So the two are
//! in one order:
//! - the writer was first: the promotion waits, and H contains the transaction;
//! - the promotion was first: the writer waits, then reads the new epoch and does not apply the
//!   transaction, which H does not contain.
//!
//! In neither case is a transaction applied that H lacks, or counted in H and not applied. Reading
//! after locking matters: a locking read of "the newest row" that had to wait for a promotion
//! returns the row that was the newest when it began to wait. If the two differ, the transaction is
//! rolled back and tried again.
//!
//! **What becomes of a transaction that is not applied** ([`Epochs::fate`]). It is filed in
//! `multiactive.stranded`, in the transaction that moves the checkpoint past it, so it is filed
//! exactly as often as it would have been applied: once. Filing is right only if the new primary
//! has not got it either, else this member would quietly lack what the primary holds:
//! - this member's own promotion ended the epoch: H was read here, under the lock. A transaction
//!   that arrives now was not applied before, so H lacks it: stranded. It does not matter what H
//!   says; that what is past the checkpoint was not applied is true of every checkpoint.
//! - another member's promotion did, and its row says that it follows the transaction's epoch, which
//!   was this source's: H tells. What H lacks is stranded; what H contains the primary has, and this
//!   member does not: the link halts. It does not come to that where rows of epochs wait for what
//!   they follow ([`way`]).
//! - another member's promotion did that knew of no epoch as new as the transaction's: that one's row
//!   comes before all its transactions, so the primary has none of them: stranded.
//! - else it is not known who has it: the link halts.
//!
//! Rows of `multiactive.epoch` are never changed, so they are read once and remembered. Under the
//! lock only the newest number is compared; if it is another one, all are read again.

pub(crate) mod way;

use change::{Gtid, Position};

/// What a transaction found in `multiactive.epoch` of the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The newest epoch by the locking read; 0 if there is none.
    pub locked: u64,
    /// The newest epoch by the read after it.
    pub read: u64,
}

/// What to do with a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Apply it.
    Current,
    /// A promotion went in between; look again.
    LookAgain,
    /// Its epoch has ended.
    Ended {
        /// The newest epoch at the target.
        newest: u64,
    },
}

/// Judges a transaction that changes data under `epoch`.
pub(crate) fn judge(epoch: u64, seen: Seen) -> Verdict {
    if seen.locked != seen.read {
        return Verdict::LookAgain;
    }
    if epoch < seen.read {
        return Verdict::Ended { newest: seen.read };
    }
    Verdict::Current
}

/// A row of `multiactive.epoch` at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EpochRow {
    pub epoch: u64,
    /// Whose it is.
    pub idc: String,
    /// How far the transactions of the holder of the epoch that it follows had been applied where it
    /// was promoted.
    pub ended: Option<Position>,
    /// The newest epoch that was known where it was promoted; `None` if there was none, or an
    /// earlier release did not say.
    pub follows: Option<u64>,
    /// The newest data within `ended`; `None` if that is not known.
    pub needs: Option<Position>,
}

/// Every row of `multiactive.epoch` at the target, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs(pub Vec<EpochRow>);

/// What becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is applied.
    Applied,
    /// It is set aside; nobody has it but its source.
    Stranded {
        /// The epoch that ended the transaction's.
        ended_by: u64,
    },
    /// The primary may have it, and this member does not.
    Lacking {
        /// The epoch that ended the transaction's.
        ended_by: u64,
        /// Whether it is known that the primary has it.
        known: bool,
    },
    /// It is set aside, since a person named it (see [`crate::skip`]); the source keeps it.
    Held,
}

impl Epochs {
    /// The newest epoch; 0 if there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.0.last().map_or(0, |row| row.epoch)
    }

    /// The holder of an epoch.
    pub(crate) fn holder_of(&self, epoch: u64) -> Option<&str> {
        let found = self.0.iter().find(|row| row.epoch == epoch);
        found.map(|row| row.idc.as_str())
    }

    /// The holder of the newest epoch.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.0.last().map(|row| row.idc.as_str())
    }

    /// What becomes of a data transaction that `source` committed under `epoch` and that has not
    /// been applied at `target`. The argument is at the head of this file.
    pub(crate) fn fate(&self, epoch: u64, gtid: &Gtid, source: &str, target: &str) -> Fate {
        let after = self.0.partition_point(|row| row.epoch <= epoch);
        let Some(ending) = self.0.get(after) else {
            return Fate::Applied;
        };
        let ended_by = ending.epoch;
        if ending.idc == target {
            return Fate::Stranded { ended_by };
        }
        if ending.idc != source && ending.follows.is_some_and(|follows| follows < epoch) {
            return Fate::Stranded { ended_by };
        }
        // Where an earlier release did not say what it follows: without a gap nobody else was
        // elected in between, so H is about the source.
        let follows = ending.follows.unwrap_or(ended_by - 1);
        if ending.idc == source || self.holder_of(epoch) != Some(source) || follows != epoch {
            return Fate::Lacking {
                ended_by,
                known: false,
            };
        }
        let has = ending
            .ended
            .as_ref()
            .is_some_and(|ended| ended.contains_gtid(gtid));
        if has {
            Fate::Lacking {
                ended_by,
                known: true,
            }
        } else {
            Fate::Stranded { ended_by }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_of_an_ended_epoch_is_refused() {
        let seen = |epoch| Seen {
            locked: epoch,
            read: epoch,
        };
        assert_eq!(judge(0, seen(0)), Verdict::Current);
        assert_eq!(judge(3, seen(0)), Verdict::Current);
        assert_eq!(judge(3, seen(3)), Verdict::Current);
        assert_eq!(judge(3, seen(4)), Verdict::Ended { newest: 4 });
        assert_eq!(judge(0, seen(1)), Verdict::Ended { newest: 1 });
    }

    #[test]
    fn a_promotion_between_lock_and_read_is_noticed() {
        assert_eq!(judge(3, Seen { locked: 3, read: 4 }), Verdict::LookAgain);
        assert_eq!(judge(9, Seen { locked: 3, read: 4 }), Verdict::LookAgain);
    }

    /// `(epoch, idc, ended)`, as an earlier release wrote them.
    fn epochs(rows: &[(u64, &str, &str)]) -> Epochs {
        let row = |(epoch, idc, ended): &(u64, &str, &str)| EpochRow {
            epoch: *epoch,
            idc: (*idc).to_owned(),
            ended: (!ended.is_empty()).then(|| ended.parse().unwrap()),
            follows: None,
            needs: None,
        };
        Epochs(rows.iter().map(row).collect())
    }

    fn fate(rows: &[(u64, &str, &str)], epoch: u64, target: &str) -> Fate {
        epochs(rows).fate(epoch, &"0-1-7".parse().unwrap(), "sh", target)
    }

    const STRANDED: Fate = Fate::Stranded { ended_by: 2 };

    fn lacking(ended_by: u64, known: bool) -> Fate {
        Fate::Lacking { ended_by, known }
    }

    #[test]
    fn what_is_of_the_newest_epoch_or_later_is_applied() {
        assert_eq!(fate(&[], 0, "gz"), Fate::Applied);
        assert_eq!(fate(&[(1, "sh", "")], 1, "gz"), Fate::Applied);
        assert_eq!(fate(&[(1, "sh", "")], 2, "gz"), Fate::Applied);
        assert_eq!(
            fate(&[(1, "sh", ""), (2, "gz", "0-1-6")], 2, "gz"),
            Fate::Applied
        );
    }

    #[test]
    fn where_the_epoch_was_ended_whatever_comes_after_is_stranded() {
        for ended in ["", "0-1-6", "0-1-9"] {
            let rows = [(1, "sh", ""), (2, "gz", ended)];
            assert_eq!(fate(&rows, 1, "gz"), STRANDED);
            assert_eq!(fate(&rows, 0, "gz"), lacking(1, false));
        }
        // Also when it has long since been ended again.
        let rows = [(1, "sh", ""), (2, "gz", "0-1-6"), (3, "bj", "9-9-9")];
        assert_eq!(fate(&rows, 1, "gz"), STRANDED);
    }

    #[test]
    fn what_an_epoch_follows_tells_whom_its_end_is_about() {
        let fate = |rows: &[(u64, &str, &str)], follows| {
            let mut epochs = epochs(rows);
            epochs.0.last_mut().unwrap().follows = Some(follows);
            epochs.fate(2, &"0-1-7".parse().unwrap(), "sh", "bj")
        };
        let rows = |ended| [(2, "sh", ""), (5, "gz", ended)];
        let stranded = Fate::Stranded { ended_by: 5 };
        assert_eq!(fate(&rows("0-1-6"), 2), stranded);
        assert_eq!(fate(&rows("0-1-7"), 2), lacking(5, true));
        // It is about an epoch before, so nothing of this one was there.
        assert_eq!(fate(&rows("0-1-9"), 1), stranded);
        // It is about an epoch in between of which nothing is known here.
        assert_eq!(fate(&rows("0-1-6"), 4), lacking(5, false));
        let again = [(2, "sh", ""), (5, "sh", "0-1-6")];
        assert_eq!(fate(&again, 1), lacking(5, false));
    }

    #[test]
    fn elsewhere_only_what_the_new_primary_is_known_to_lack_is_stranded() {
        let rows = |ended| [(1, "sh", ""), (2, "gz", ended)];
        assert_eq!(fate(&rows("0-1-6"), 1, "bj"), STRANDED);
        assert_eq!(fate(&rows(""), 1, "bj"), STRANDED);
        assert_eq!(fate(&rows("0-1-7"), 1, "bj"), lacking(2, true));
        // Epoch 2 was somebody's who was never promoted: H may be about somebody else.
        let skipped = [(1, "sh", ""), (3, "gz", "0-1-6")];
        assert_eq!(fate(&skipped, 1, "bj"), lacking(3, false));
        // The epoch was not the source's.
        let foreign = [(1, "tj", ""), (2, "gz", "0-1-6")];
        assert_eq!(fate(&foreign, 1, "bj"), lacking(2, false));
        // The source is the primary of the next epoch itself, and has what it wrote.
        let again = [(1, "sh", ""), (2, "sh", "")];
        assert_eq!(fate(&again, 1, "bj"), lacking(2, false));
    }
}
