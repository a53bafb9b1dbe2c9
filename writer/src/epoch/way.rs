//! What stands before the row of a new epoch, where there are three copies or more. Pure.
//!
//! The row of an epoch comes over the link from its holder, the *source*, and behind it what was
//! written under that epoch. It builds upon what the source had: everything of the epoch that it
//! `follows`, up to H (`ended`) of that one's holder. A member that has less must get the rest first,
//! over the link from that holder; one that has more has what the new primary lacks.
//!
//! **What is kept.** Let a member's *line* be the data of each epoch that it knows of, in order. A
//! row is let in only where the member's line up to then is the source's: so by induction over the
//! rows two members that know of the same newest epoch have the same line up to it, and what
//! either has of that epoch is a prefix of what its holder wrote. The step, for a row that follows
//! k, at a member whose newest epoch is m, whose line up to m is that of m's holder:
//! - k > m: rows that the source knew are not here yet. They come over the links of their holders,
//!   and before them what they follow: wait.
//! - k = m: source and member have the same line up to m, and each a prefix of what m's holder X
//!   wrote. The source's ends at H. The member's is that prefix exactly if the link from X has
//!   brought the newest data of H (`needs`), and the newest data that it brought is within H. Data,
//!   since X goes on writing heartbeats when it is fenced, of which one has more than the other for
//!   ever once X is gone. Where X is the source
//!   itself everything came over this link, in order. Where X is the member, what H lacks is taken
//!   back first ([`crate::undo`]).
//! - k < m: the source never knew of m. Where m is the member's own epoch, what it wrote is taken
//!   back, and what it had ended of k's holder must be what the source had ended too. Where m is a
//!   third member's, this one has gone on with a line that is no part of the source's: halt.
//!
//! The check is made again under a lock on the rows in `multiactive.applied` of the other links into
//! this member, in the transaction that inserts the epoch's row, so none of them brings more in
//! between; what they bring later is judged by the new row ([`super::Epochs::fate`]).

use change::{Gtid, Position};

use super::{EpochRow, Epochs};

/// What a link from another member has brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    /// Where from.
    pub idc: String,
    /// Up to where, including what was left out and set aside; `None` before the first, and while the
    /// tables are being copied.
    pub position: Option<Position>,
    /// The newest data of it that is here.
    pub newest: Option<NewestData>,
}

/// A bound of the data of one member that is at another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewestData {
    /// Nothing of a later epoch is here.
    pub epoch: u64,
    /// Nothing outside of this is here.
    pub within: Position,
}

/// A transaction that was set aside here, or taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// Who committed it.
    pub idc: String,
    /// Which it is.
    pub gtid: Gtid,
    /// The epoch that it was committed under.
    pub epoch: u64,
    /// The epoch that ended that one here.
    pub ended_by: u64,
}

/// What stands before the row of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing.
    Clear,
    /// There is something here that the source may lack, and that is to be taken back first.
    TakeBack(Excess),
    /// The row of an epoch that it follows is not here yet.
    Unknown { follows: u64 },
    /// What this member committed is not here up to where the source has it. `alone`: nothing else
    /// was written here since, so what is lacking would follow what is here.
    Behind {
        idc: String,
        needs: Position,
        alone: bool,
    },
    /// The target went on without something that the source builds upon: this transaction of this
    /// member's was set aside or taken back here.
    Forked { idc: String, gtid: String },
    /// More than one member has written here what the source lacks, or others than the source have
    /// held what it builds upon: in which order that would be taken back cannot be told.
    Entangled,
}

/// What the source of an epoch may lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The target was the primary of an epoch that the source did not build upon whole.
    pub own: bool,
    /// There is more here of third members than the source had.
    pub thirds: Vec<Ahead>,
}

/// How much there is of a third member's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// The member.
    pub idc: String,
    /// Everything that is here of it is within this.
    pub newest: Position,
    /// What will be here once the excess was taken back.
    pub left: NewestData,
}

impl Epochs {
    /// What stands before a row of `source` at `target`. Of `aside` those of the source matter, and
    /// those of the holder of the epoch that the row follows.
    pub(crate) fn way(
        &self,
        row: &EpochRow,
        source: &str,
        target: &str,
        brought: &[Brought],
        aside: &[Aside],
    ) -> Way {
        let newest = self.newest();
        if row.epoch <= newest || newest == 0 {
            return Way::Clear;
        }
        let Some(follows) = row.follows else {
            let own = self.holder() == Some(target);
            return Way::after(own, Vec::new());
        };
        if self.holder_of(follows).is_none() {
            return Way::Unknown { follows };
        }
        let Some(parting) = self.parting(row, source) else {
            return Way::Entangled;
        };
        let third = |idc: &str| idc != source && idc != target;
        if let Some(behind) = parting.behind(brought, third, newest) {
            return behind;
        }
        let kept = |one: &&Aside| {
            // The source has taken nothing of its own back for an epoch that it did not know.
            (one.idc == source && one.ended_by > parting.follows)
                || (one.idc != source && parting.has(one))
        };
        if let Some(one) = aside.iter().find(kept) {
            return Way::Forked {
                idc: one.idc.clone(),
                gtid: one.gtid.to_string(),
            };
        }
        let thirds = brought.iter().filter(|one| third(&one.idc));
        let ahead: Vec<Ahead> = thirds.filter_map(|one| parting.ahead(one)).collect();
        let mut line = self.line();
        let own = line.any(|it| it.epoch >= parting.follows && it.idc == target);
        if ahead.len() + usize::from(own) > 1 {
            return Way::Entangled;
        }
        Way::after(own, ahead)
    }

    /// The newest epoch that the source of this row and the target both build upon, and whose it was;
    /// `None` where that does not matter or cannot be told.
    pub(crate) fn parts_at(&self, row: &EpochRow, source: &str) -> Option<(u64, String)> {
        let parting = self.parting(row, source)?;
        Some((parting.follows, parting.holder.to_owned()))
    }

    /// The newest epoch and those that it follows. Rows that came late, of epochs that others had
    /// passed over, are not among them.
    fn line(&self) -> impl Iterator<Item = &EpochRow> {
        let before = |row: &&EpochRow| {
            let follows = row.follows.or(row.epoch.checked_sub(1))?;
            self.0.iter().rev().find(|it| it.epoch <= follows)
        };
        std::iter::successors(self.0.last(), before)
    }

    /// Where the line of a row's source leaves the one that is known here. `None` where that cannot
    /// be told, since others than the source held what it follows.
    fn parting<'a>(&'a self, row: &'a EpochRow, source: &str) -> Option<Parting<'a>> {
        let mut first = row;
        loop {
            let follows = first.follows?;
            let before = self.0.iter().find(|it| it.epoch == follows)?;
            if self.line().any(|it| it.epoch == follows) {
                return Some(Parting {
                    follows,
                    holder: &before.idc,
                    ended: first.ended.as_ref(),
                    needs: first.needs.as_ref().or(first.ended.as_ref()),
                });
            }
            if before.idc != source {
                return None;
            }
            first = before;
        }
    }
}

impl Way {
    fn after(own: bool, thirds: Vec<Ahead>) -> Self {
        if own || !thirds.is_empty() {
            Self::TakeBack(Excess { own, thirds })
        } else {
            Self::Clear
        }
    }
}

/// The newest epoch that source and target both build upon.
struct Parting<'a> {
    follows: u64,
    /// Whose it was.
    holder: &'a str,
    /// How much of it the source builds upon.
    ended: Option<&'a Position>,
    /// What of it has to be here.
    needs: Option<&'a Position>,
}

impl Parting<'_> {
    /// Whether it is a transaction of that epoch, and the source builds upon it.
    fn has(&self, one: &Aside) -> bool {
        let ended = self.ended.filter(|_| one.epoch == self.follows);
        one.idc == self.holder && ended.is_some_and(|ended| ended.contains_gtid(&one.gtid))
    }

    /// Whether the holder's transactions are not here as far as the source has them.
    fn behind(
        &self,
        brought: &[Brought],
        third: impl Fn(&str) -> bool,
        newest: u64,
    ) -> Option<Way> {
        let needs = self.needs.filter(|_| third(self.holder))?;
        let mut links = brought
            .iter()
            .filter(|one| one.idc == self.holder)
            .peekable();
        let through = |one: &Brought| one.position.as_ref().is_some_and(|it| it.contains(needs));
        let behind = links.peek().is_none() || !links.all(through);
        behind.then(|| Way::Behind {
            idc: self.holder.to_owned(),
            needs: needs.clone(),
            alone: self.follows == newest,
        })
    }

    /// Whether a third member has brought more than the source builds upon.
    fn ahead(&self, one: &Brought) -> Option<Ahead> {
        let newest = one.newest.as_ref()?;
        let ended = self.ended.filter(|_| self.holder == one.idc);
        let kept = ended.is_some_and(|it| it.contains(&newest.within));
        let of_it = newest.epoch == self.follows && self.holder == one.idc;
        let ahead = newest.epoch > self.follows || (of_it && !kept);
        ahead.then(|| Ahead {
            idc: one.idc.clone(),
            newest: newest.within.clone(),
            left: self.left(one, &newest.within),
        })
    }

    /// What is left of a member's once the excess was taken back: of the epoch's holder what the
    /// source has, or nothing of that epoch; of others at most what they had written before.
    fn left(&self, one: &Brought, newest: &Position) -> NewestData {
        let holder = self.holder == one.idc;
        let none = holder && self.ended.is_none();
        NewestData {
            epoch: self.follows - u64::from(none && self.follows > 0),
            within: self.ended.filter(|_| holder).unwrap_or(newest).clone(),
        }
    }
}

#[cfg(test)]
mod tests;
