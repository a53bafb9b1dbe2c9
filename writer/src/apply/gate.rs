//! What stands before the row of a new epoch, by what is in the target: see [`crate::epoch::way`].

use std::sync::Arc;

use change::Position;

use super::Applier;
use crate::aftermath::Aftermath;
use crate::checkpoint::{Newest, Record};
use crate::epoch::EpochRow;
use crate::epoch::way::{Aside, Brought, Way};
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

    async fn look_at_way(&mut self, row: &EpochRow, lock: bool) -> Result<Way, WriterError> {
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

    /// What the other links have brought.
    pub(crate) async fn brought(&mut self, lock: bool) -> Result<Vec<Brought>, WriterError> {
        let sql = format!(
            "SELECT CAST(source AS CHAR), CAST(position AS CHAR), CAST(ledger AS CHAR) \
             FROM multiactive.applied WHERE source<>{}{}",
            quote(self.config.source.idc.as_str()),
            if lock { " FOR UPDATE" } else { "" }
        );
        let rows: Vec<(String, Option<String>, Option<String>)> =
            self.target.all("reading multiactive.applied", &sql).await?;
        let brought = |(idc, position, ledger): (String, Option<String>, Option<String>)| {
            let record = Record::parse(ledger.as_deref())?;
            let position = position.filter(|text| !text.is_empty());
            Ok(Brought {
                idc,
                position: position.map(|text| text.parse::<Position>()).transpose()?,
                newest: record.newest.as_ref().map(Newest::bound).transpose()?,
            })
        };
        rows.into_iter().map(brought).collect()
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

    /// What the row of an epoch waits for, or why it cannot be let in.
    pub(crate) fn stands_before(&self, epoch: u64, way: &Way) -> WriterError {
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
            Way::Behind { idc, ended } => self.waits(
                epoch,
                format!(
                    "{target} first needs what {idc} had committed up to {ended}, which {source} \
                     has; the link from {idc} to {target} brings it"
                ),
            ),
            Way::Forked { idc, gtid } => Box::new(Aftermath::Forked {
                source_idc: source.to_string(),
                target_idc: target.to_string(),
                epoch,
                what: match gtid {
                    Some(gtid) => format!("transaction {gtid} of {idc}"),
                    None => format!("changes before that of {idc}"),
                },
            })
            .into(),
            Way::Clear | Way::TakeBack(_) => WriterError::EpochMoved,
        }
    }
}
