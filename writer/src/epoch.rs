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
//! - the promotion was first: the writer waits, then reads the new epoch and refuses the
//!   transaction, which H does not contain.
//!
//! In neither case is a transaction applied that H lacks, or counted in H and not applied. Reading
//! after locking matters: a locking read of "the newest row" that had to wait for a promotion
//! returns the row that was the newest when it began to wait. If the two differ, the transaction is
//! rolled back and tried again.
//!
//! A refused transaction stays where it is, in the source's binlog: the link halts, the checkpoint
//! stays before it, and the ledger counts it as in flight.

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
}
