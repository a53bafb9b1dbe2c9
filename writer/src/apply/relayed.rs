//! Applying what the source hands on of a third member's transactions: the target lacks them, and the
//! source's epoch builds upon them.
//!
//! Why the rows come out right is said in [`super::states`].
//!
//! The position of the link from that member becomes R in the same transaction, so this is done once,
//! and that link's writer, should it be alive, finds its row changed and begins anew from there. Under
//! the locks of a promotion it is looked again whether the target still lacks it: what it had gone on
//! without meanwhile must not come.

use change::{Position, RowChange, Stretch, TableChange, Transaction};
use model::DdlPolicy;

use super::beside::Beside;
use super::states::states;
use super::{Applier, rows_of};
use crate::batch::is_whole_rows;
use crate::bookkeeping;
use crate::checkpoint::{Record, Snapshot};
use crate::epoch::EpochRow;
use crate::epoch::way::Way;
use crate::error::WriterError;
use crate::explain;
use crate::failpoint::{self, Point};
use crate::selection::Selection;
use crate::sql::plan::Plan;

/// What became of a transaction that was handed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// It is here now, or was already.
    Here,
    /// Nothing of it is lacking any more, or something else stands in the way first.
    Moved,
    /// It cannot be applied here, and why.
    Cannot(String),
}

impl Applier {
    /// How much the target has of a member's, where one link brings it and its copy is done.
    async fn link_from(
        &mut self,
        of: &str,
    ) -> Result<Result<(Beside, Position), String>, WriterError> {
        let mut links = self.beside(false).await?;
        links.retain(|link| link.idc == of);
        let (Some(link), true) = (links.pop(), links.is_empty()) else {
            return Ok(Err(format!("not one link alone comes from {of}")));
        };
        let Some(position) = link.position.clone().filter(|_| !link.copies) else {
            return Ok(Err(format!("the tables are still to be copied from {of}")));
        };
        if link.record.went_back.is_some() {
            return Ok(Err(format!(
                "the link from {of} has halted: {of} went back"
            )));
        }
        Ok(Ok((link, position)))
    }

    /// How much the target has of a member's that could be handed on to it; else why not.
    pub(crate) async fn has_of(
        &mut self,
        of: &str,
    ) -> Result<Result<Position, String>, WriterError> {
        if self.settled.snapshot.is_under_way() {
            return Ok(Err("the tables are still being copied".to_owned()));
        }
        Ok(self.link_from(of).await?.map(|(_, position)| position))
    }

    /// Applies a transaction that the source hands on, unless it is here.
    pub(crate) async fn relayed(
        &mut self,
        row: &EpochRow,
        of: &str,
        transaction: &Transaction,
    ) -> Result<Relayed, WriterError> {
        let doing = "beginning to apply what is handed on";
        self.target.execute(doing, b"START TRANSACTION").await?;
        let relayed = self.relay_in_transaction(row, of, transaction).await?;
        match relayed {
            Relayed::Here => self.commit().await?,
            Relayed::Moved | Relayed::Cannot(_) => self.target.roll_back().await?,
        }
        Ok(relayed)
    }

    async fn relay_in_transaction(
        &mut self,
        row: &EpochRow,
        of: &str,
        transaction: &Transaction,
    ) -> Result<Relayed, WriterError> {
        match self.look_at_way(row, true).await? {
            Way::Behind { idc, alone, .. } if idc == of && alone => {}
            _ => return Ok(Relayed::Moved),
        }
        let (link, here) = match self.link_from(of).await? {
            Ok(link) => link,
            Err(why) => return Ok(Relayed::Cannot(why)),
        };
        let cannot = |why: &str| Ok(Relayed::Cannot(format!("{} {why}", transaction.gtid)));
        let Some(stretch) = Stretch::of(transaction)? else {
            return cannot("does not say what it holds: it is a statement, or was not applied");
        };
        if stretch.source == of && here.contains(&stretch.after) {
            return Ok(Relayed::Here);
        }
        let changes = rows_of(transaction).iter();
        let ours = |change: &&TableChange| bookkeeping::is_ours(&change.table.database);
        let changes: Vec<&TableChange> = changes.filter(|change| !ours(change)).collect();
        if stretch.source != of || !stretch.joins(&here) || !stretch.after.contains(&here) {
            return cannot("does not go on from what is here");
        }
        if let Some(why) = self.unfit(&link, &stretch, transaction, changes.is_empty())? {
            return cannot(why);
        }
        let mut touched = Vec::new();
        for change in changes {
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            if mapping.foreign.cascades_below && !change.flags.logs_cascades {
                return cannot(
                    "changes rows whose foreign keys cascade to others, which are not in it",
                );
            }
            if !mapping.whole {
                return cannot("changes a table that has more columns here");
            }
            let key = mapping.key.iter().map(|column| column.index).collect();
            touched.push((change, key));
        }
        let count = touched.iter().map(|(change, _)| change.rows.len() as u64);
        let count = count.sum();
        let mut plan = Plan::new(false);
        for change in &states(&touched) {
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            let after = change.rows.iter().filter_map(RowChange::after);
            explain::losses(after, &mapping, &transaction.gtid)?;
            plan.change(change, &mapping);
        }
        for request in plan.finish() {
            self.run_known(&request, &transaction.gtid).await?;
        }
        failpoint::pass(Point::AfterRow);
        self.move_link(link, &stretch, count).await?;
        Ok(Relayed::Here)
    }

    /// Why a transaction cannot be applied here, whatever its rows are. `empty`: it has none.
    fn unfit(
        &self,
        link: &Beside,
        stretch: &Stretch,
        transaction: &Transaction,
        empty: bool,
    ) -> Result<Option<&'static str>, WriterError> {
        if !is_whole_rows(transaction) || bookkeeping::newest_epoch(transaction).is_some() {
            return Ok(Some("is too large, or begins an epoch"));
        }
        let snapshot = Some(stretch.snapshot.as_str()).filter(|text| !text.is_empty());
        if Snapshot::parse(snapshot)?.is_under_way() {
            return Ok(Some(
                "was applied while the tables were being copied there, and may lack rows",
            ));
        }
        let theirs = Record::parse(&stretch.ledger)?;
        let before = Record::parse(&stretch.ledger_before)?;
        // A statement is logged by itself, and this says that it was done.
        if empty && theirs.newest != before.newest {
            return Ok(Some("stands for a statement"));
        }
        let left_out = |record: &Record| {
            let ledger = &record.ledger;
            (ledger.conflicts, ledger.stranded, ledger.held)
        };
        if left_out(&theirs) != left_out(&before) {
            return Ok(Some("left out something that was set aside there"));
        }
        let carries = |record: &Record| record.ddl.is_some_and(|ddl| ddl != DdlPolicy::Ignore);
        if !carries(&theirs) || !carries(&before) {
            return Ok(Some("is of a time in which statements were left out there"));
        }
        let own = Some(Selection::of(&self.config));
        if theirs.selection != link.record.selection || theirs.selection != own {
            return Ok(Some("is of a link that carries other tables"));
        }
        Ok(None)
    }

    /// The link from that member goes on behind these.
    async fn move_link(
        &mut self,
        mut link: Beside,
        stretch: &Stretch,
        changes: u64,
    ) -> Result<(), WriterError> {
        let theirs = Record::parse(&stretch.ledger)?;
        link.position = Some(stretch.after.clone());
        link.record.engine = theirs.engine;
        link.record.epoch = theirs.epoch;
        link.record.last = theirs.last;
        link.record.newest = theirs.newest;
        link.record.ledger.read += changes;
        link.record.ledger.applied += changes;
        let doing = "moving a link on behind what was handed on";
        self.move_beside(doing, link).await
    }
}
