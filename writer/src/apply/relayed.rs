//! Applying what the source hands on of a third member's transactions: the target lacks them, and the
//! source's epoch builds upon them.
//!
//! Why the rows come out right is said in [`super::states`].
//!
//! The position of the link from that member becomes R in the same transaction, so this is done once,
//! and that link's writer, should it be alive, finds its row changed and begins anew from there. Under
//! the locks of a promotion it is looked again whether the target still lacks it: what it had gone on
//! without meanwhile must not come.

use change::{Body, Position, RowChange, Stretch, TableChange, Transaction};

use super::Applier;
use super::states::states;
use crate::batch::is_whole_rows;
use crate::bookkeeping;
use crate::checkpoint::{Record, Snapshot};
use crate::epoch::EpochRow;
use crate::epoch::way::Way;
use crate::error::WriterError;
use crate::explain;
use crate::failpoint::{self, Point};
use crate::sql::plan::Plan;
use crate::target::lookup::quote;

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

/// Name, position, snapshot and ledger of a link, as texts.
type Columns = (String, Option<String>, Option<String>, Option<String>);

/// The row of the link that brings a member's transactions.
struct Link {
    name: String,
    position: Option<Position>,
    record: Record,
}

impl Applier {
    /// How much the target has of a member's, where one link brings it and its copy is done.
    async fn link_from(&mut self, of: &str) -> Result<Result<Link, String>, WriterError> {
        let sql = format!(
            "SELECT CAST(link AS CHAR), CAST(position AS CHAR), CAST(snapshot AS CHAR), \
             CAST(ledger AS CHAR) FROM multiactive.applied WHERE source={}",
            quote(of)
        );
        let mut rows: Vec<Columns> = self.target.all("reading multiactive.applied", &sql).await?;
        let (Some((name, position, snapshot, ledger)), true) = (rows.pop(), rows.is_empty()) else {
            return Ok(Err(format!("not one link alone comes from {of}")));
        };
        if Snapshot::parse(snapshot.as_deref())?.is_under_way() {
            return Ok(Err(format!("the tables are still being copied from {of}")));
        }
        let position = position.filter(|text| !text.is_empty());
        let record = ledger.as_deref().map(Record::parse).transpose()?;
        Ok(Ok(Link {
            name,
            position: position.map(|text| text.parse()).transpose()?,
            record: record.unwrap_or_default(),
        }))
    }

    /// How much the target has of a member's that could be handed on to it; else why not.
    pub(crate) async fn has_of(
        &mut self,
        of: &str,
    ) -> Result<Result<Option<Position>, String>, WriterError> {
        if self.settled.snapshot.is_under_way() {
            return Ok(Err("the tables are still being copied".to_owned()));
        }
        Ok(self.link_from(of).await?.map(|link| link.position))
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
        let relayed = self.relay_in_transaction(row, of, transaction).await;
        match relayed {
            Ok(Some(Relayed::Here)) => {
                self.commit().await?;
                Ok(Relayed::Here)
            }
            Ok(other) => {
                self.target.roll_back().await?;
                Ok(other.unwrap_or(Relayed::Here))
            }
            // Whoever is told rolls back.
            Err(error) => Err(error),
        }
    }

    /// `None` where it was here already.
    async fn relay_in_transaction(
        &mut self,
        row: &EpochRow,
        of: &str,
        transaction: &Transaction,
    ) -> Result<Option<Relayed>, WriterError> {
        match self.look_at_way(row, true).await? {
            Way::Behind { idc, .. } if idc == of => {}
            _ => return Ok(Some(Relayed::Moved)),
        }
        let link = match self.link_from(of).await? {
            Ok(link) => link,
            Err(why) => return Ok(Some(Relayed::Cannot(why))),
        };
        let cannot = |why: &str| Ok(Some(Relayed::Cannot(format!("{} {why}", transaction.gtid))));
        let Some(stretch) = Stretch::of(transaction)? else {
            return cannot(
                "does not say what it holds (it is a statement, or a part of a large one)",
            );
        };
        let here = link.position.as_ref();
        if here.is_some_and(|has| has.contains(&stretch.after)) {
            return Ok(None);
        }
        let goes_on = here.is_none_or(|has| stretch.after.contains(has));
        if stretch.source != of || !stretch.joins(here) || !goes_on {
            return cannot("does not go on from what is here");
        }
        if !is_whole_rows(transaction) || bookkeeping::newest_epoch(transaction).is_some() {
            return cannot("is too large, or begins an epoch");
        }
        let Body::Rows(changes) = &transaction.body else {
            return cannot("is a statement");
        };
        let changes: Vec<&TableChange> = changes
            .iter()
            .filter(|change| !bookkeeping::is_ours(&change.table.database))
            .collect();
        for change in &changes {
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            if mapping.foreign.cascades_below && !change.flags.logs_cascades {
                return cannot(
                    "changes rows whose foreign keys cascade to others, which are not in it",
                );
            }
        }
        let mut plan = Plan::new(false);
        let states = states(&changes);
        for change in &states {
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            let after = change.rows.iter().filter_map(RowChange::after);
            explain::losses(after, &mapping, &transaction.gtid)?;
            plan.change(change, &mapping);
        }
        for request in plan.finish() {
            self.run_known(&request, &transaction.gtid).await?;
        }
        failpoint::pass(Point::AfterRow);
        self.move_link(link, &stretch, transaction.change_count())
            .await?;
        Ok(Some(Relayed::Here))
    }

    /// The link from that member goes on behind these; its writer finds its row changed.
    async fn move_link(
        &mut self,
        link: Link,
        stretch: &Stretch,
        changes: u64,
    ) -> Result<(), WriterError> {
        let theirs = Record::parse(&stretch.ledger)?;
        let mut record = link.record;
        record.engine = theirs.engine;
        record.epoch = theirs.epoch;
        record.newest = theirs.newest;
        record.serial += 1;
        record.ledger.read += changes;
        record.ledger.applied += changes;
        let sql = format!(
            "UPDATE multiactive.applied SET position={}, ledger={}, at=UTC_TIMESTAMP(6) WHERE link={}",
            quote(&stretch.after.to_string()),
            quote(&record.text()?),
            quote(&link.name)
        );
        let doing = "moving a link on behind what was handed on";
        self.target.execute(doing, sql.as_bytes()).await
    }
}
