//! What stands before the row of a new epoch, by what is in the target: see [`crate::epoch::way`].

use std::sync::Arc;

use super::Applier;
use super::beside::Beside;
use crate::aftermath::Aftermath;
use crate::checkpoint;
use crate::epoch::EpochRow;
use crate::epoch::way::{Aside, Brought, NewestData, Way};
use crate::error::WriterError;
use crate::target::lookup::quote;

impl Applier {
    /// What stands before the row of an epoch, by what is there now: the target may have been
    /// promoted since it was read last, by its arbiter and not through this link.
    pub(crate) async fn way(&mut self, row: &EpochRow) -> Result<Way, WriterError> {
        self.look_at_way(row, false).await
    }

    /// The same under the locks of the transaction that will insert the row, until its end.
    ///
    /// # Errors
    /// [`WriterError::EpochMoved`] if something has come in its way since [`Applier::way`].
    pub(super) async fn check_way(&mut self, row: &EpochRow) -> Result<(), WriterError> {
        match self.look_at_way(row, true).await? {
            Way::Clear => Ok(()),
            // What the target committed itself was taken back, and it is fenced.
            Way::TakeBack(excess) if excess.thirds.is_empty() => Ok(()),
            _ => Err(WriterError::EpochMoved),
        }
    }

    pub(super) async fn look_at_way(
        &mut self,
        row: &EpochRow,
        lock: bool,
    ) -> Result<Way, WriterError> {
        let config = Arc::clone(&self.config);
        let (source, target) = (config.source.idc.as_str(), config.target.idc.as_str());
        let brought = self.brought(lock).await?;
        self.forget_epochs();
        let parted = self.epochs().await?.parts_at(row, source);
        let aside = match parted {
            Some((epoch, holder)) => self.aside(epoch, &holder).await?,
            None => Vec::new(),
        };
        let epochs = self.epochs().await?;
        Ok(epochs.way(row, source, target, &brought, &aside))
    }

    /// Whether the link's own row is still what this writer wrote last.
    ///
    /// # Errors
    /// [`WriterError::CheckpointMoved`] if it is not.
    pub(crate) async fn check_own_row(&mut self) -> Result<(), WriterError> {
        let sql = checkpoint::lock(&self.config.link, &self.stored.record);
        let sql = String::from_utf8_lossy(&sql).into_owned();
        let doing = "reading the link's own row";
        let there: Option<u8> = self.target.first(doing, &sql).await?;
        there.map(drop).ok_or(WriterError::CheckpointMoved)
    }

    /// What the other links have brought.
    pub(crate) async fn brought(&mut self, lock: bool) -> Result<Vec<Brought>, WriterError> {
        let links = self.beside(lock).await?;
        links.into_iter().map(brought_by).collect()
    }

    /// What was set aside here or taken back, so far as it can matter to a row whose source and the
    /// target both build upon this epoch.
    async fn aside(&mut self, epoch: u64, holder: &str) -> Result<Vec<Aside>, WriterError> {
        let (source, holder) = (quote(self.config.source.idc.as_str()), quote(holder));
        let matters = |of: &str| {
            format!("({of}={source} AND ended_by>{epoch}) OR ({of}={holder} AND epoch={epoch})")
        };
        let own = format!(
            "COALESCE(source,{})",
            quote(self.config.target.idc.as_str())
        );
        let sql = format!(
            "SELECT DISTINCT CAST(source AS CHAR), CAST(gtid AS CHAR), epoch, ended_by \
             FROM multiactive.stranded WHERE {} UNION \
             SELECT CAST({own} AS CHAR), CAST(gtid AS CHAR), epoch, ended_by \
             FROM multiactive.undone WHERE ended_by IS NOT NULL AND ({})",
            matters("source"),
            matters(&own)
        );
        let doing = "reading what was set aside";
        let rows: Vec<(String, String, u64, u64)> = self.target.all(doing, &sql).await?;
        let aside = |(idc, gtid, epoch, ended_by): (String, String, u64, u64)| {
            Ok(Aside {
                idc,
                gtid: gtid.parse()?,
                epoch,
                ended_by,
            })
        };
        rows.into_iter().map(aside).collect()
    }

    /// The link waits before the row of an epoch.
    pub(crate) fn waits(&self, epoch: u64, what: String) -> WriterError {
        Box::new(Aftermath::Waits {
            source_idc: self.config.source.idc.to_string(),
            epoch,
            what,
        })
        .into()
    }

    fn forked(&self, epoch: u64, what: String) -> WriterError {
        Box::new(Aftermath::Forked {
            source_idc: self.config.source.idc.to_string(),
            target_idc: self.config.target.idc.to_string(),
            epoch,
            what,
        })
        .into()
    }

    /// What the row of an epoch waits for, or why it cannot be let in. `why_not`: why the source could
    /// not hand it on, if it was asked.
    pub(crate) fn stands_before(&self, epoch: u64, way: &Way, why_not: &str) -> WriterError {
        let target = &self.config.target.idc;
        let source = &self.config.source.idc;
        match way {
            Way::Unknown { follows } => self.waits(
                epoch,
                format!(
                    "{target} first needs the beginning of epoch {follows}, which {source} builds \
                     upon; the link from that epoch's holder brings it"
                ),
            ),
            Way::Behind { idc, needs, .. } => self.waits(
                epoch,
                format!(
                    "{target} first needs what {idc} had committed up to {needs}, which {source} \
                     has; the link from {idc} to {target} brings it{}",
                    match why_not {
                        "" => String::new(),
                        why => format!(", and {source} cannot hand it on: {why}"),
                    }
                ),
            ),
            Way::Forked { idc, gtid } => self.forked(
                epoch,
                format!(
                    "builds upon transaction {gtid} of {idc}, which {target} has set aside or taken \
                     back, since it had gone on with an epoch that {source} never knew"
                ),
            ),
            Way::Entangled => self.forked(
                epoch,
                format!(
                    "lacks changes here of more than one member, or builds upon epochs of others \
                     that {target} had passed over: what is to be taken back in which order cannot \
                     be told"
                ),
            ),
            Way::Clear | Way::TakeBack(_) => WriterError::EpochMoved,
        }
    }
}

fn brought_by(link: Beside) -> Result<Brought, WriterError> {
    let Beside {
        idc,
        position,
        copies,
        record,
        ..
    } = link;
    // An earlier release did not say what was the newest data: everything may be.
    let whole = position.clone().filter(|_| record.ledger.applied > 0);
    let newest = match &record.newest {
        Some(newest) => Some(newest.bound()?),
        None => whole.map(|within| NewestData {
            epoch: record.epoch,
            within,
        }),
    };
    Ok(Brought {
        idc,
        position: position.filter(|_| !copies),
        newest,
    })
}
