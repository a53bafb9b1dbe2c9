//! Which transactions are applied and which are filed, in one target transaction.

use std::sync::Arc;

use change::{Body, Transaction};

use super::{Applier, Attempt};
use crate::aftermath::Aftermath;
use crate::bookkeeping;
use crate::epoch::{EpochRow, Epochs, Fate, Seen};
use crate::error::WriterError;
use crate::skip::{self, Wish};
use crate::sql::merge::Merge;
use crate::sql::plan::Plan;
use crate::stranded;
use crate::target::session::Target;

impl Applier {
    /// Adds what becomes of each transaction of a batch.
    pub(super) async fn plan_batch(
        &mut self,
        plan: &mut Plan,
        batch: &[Transaction],
        fates: &[Fate],
        careful: bool,
    ) -> Result<(), Attempt> {
        let mut merge = (!careful).then(|| Merge::new(self.target.engine()));
        for (transaction, fate) in batch.iter().zip(fates) {
            bookkeeping::check_origin(transaction, &self.config)?;
            match (*fate, &transaction.body) {
                (Fate::Stranded { ended_by }, _) => {
                    stranded::plan(plan, transaction, ended_by, 0)?;
                }
                (Fate::Lacking { ended_by, known }, _) => {
                    let error = self.lacking(transaction, ended_by, known).await;
                    // What came before it is still to be applied, so one by one.
                    return Err(match batch.len() {
                        1 => Attempt::Known(error),
                        _ => Attempt::Suspect(error),
                    });
                }
                (Fate::Held, _) => {
                    self.plan_held(plan, transaction)?;
                    self.plan_held_pieces(plan, transaction, 0)?;
                }
                (Fate::Applied, Body::Rows(changes)) => {
                    self.plan_changes(plan, changes, &transaction.gtid, merge.as_mut())
                        .await?;
                }
                // Only one that is filed comes here: no epoch begins anew, no wish goes unseen.
                (Fate::Applied, Body::Ddl(_)) => return Err(WriterError::EpochMoved.into()),
            }
        }
        if let Some(merge) = merge {
            merge.finish(plan);
        }
        Ok(())
    }

    /// The wish by which a transaction is left out.
    fn wish_for(&self, transaction: &Transaction) -> Result<&Wish, WriterError> {
        let named = |wish: &&Wish| wish.gtid == transaction.gtid;
        let gone = || WriterError::SkipWithdrawn {
            gtid: transaction.gtid.clone(),
        };
        self.wish.as_ref().filter(named).ok_or_else(gone)
    }

    /// Adds, once for a transaction that is left out, the removal of the wish.
    pub(super) fn plan_held(
        &self,
        plan: &mut Plan,
        transaction: &Transaction,
    ) -> Result<(), WriterError> {
        skip::plan_removal(plan, &self.config.link, self.wish_for(transaction)?);
        Ok(())
    }

    /// Adds the filing of a transaction that is left out, or of a part of one. Returns the number
    /// after its last piece.
    pub(super) fn plan_held_pieces(
        &self,
        plan: &mut Plan,
        transaction: &Transaction,
        first: u32,
    ) -> Result<u32, WriterError> {
        let wish = self.wish_for(transaction)?;
        skip::plan_filing(plan, transaction, &self.config.link, wish, first)
    }

    /// Says of each transaction that was filed; returns how many were stranded, and how many held.
    pub(super) fn tell_all_filed(&mut self, batch: &[Transaction], fates: &[Fate]) -> (u64, u64) {
        let (mut stranded, mut held) = (0, 0);
        for (transaction, fate) in batch.iter().zip(fates) {
            match fate {
                Fate::Stranded { .. } => stranded += 1,
                Fate::Held => held += 1,
                Fate::Applied | Fate::Lacking { .. } => continue,
            }
            self.tell_filed(transaction, *fate);
        }
        (stranded, held)
    }

    /// Says that a transaction was filed, and forgets the wish that was carried out.
    pub(super) fn tell_filed(&mut self, transaction: &Transaction, fate: Fate) {
        let (wish, into) = match fate {
            Fate::Held => (
                self.wish.take(),
                "a person has it skipped; filed in multiactive.held",
            ),
            _ => (None, "its epoch has ended; filed in multiactive.stranded"),
        };
        tracing::warn!(
            gtid = %transaction.gtid,
            epoch = transaction.epoch,
            changes = transaction.change_count(),
            source = %self.config.source.idc,
            by = wish.as_ref().map(|wish| wish.by.as_str()),
            reason = wish.as_ref().map(|wish| wish.reason.as_str()),
            "a transaction was not applied: {into}"
        );
    }

    /// Reads the epochs again before they are used next.
    pub(crate) fn forget_epochs(&mut self) {
        self.epochs = None;
    }

    /// The rows of `multiactive.epoch`, as they were read last.
    pub(crate) async fn epochs(&mut self) -> Result<&Epochs, WriterError> {
        if self.epochs.is_none() {
            let epochs = read_epochs(&mut self.target).await?;
            if let Some(policy) = &self.policy {
                let newest = epochs.holder().map(|idc| (epochs.newest(), idc));
                let suits = policy.suits_epochs(newest);
                suits.map_err(WriterError::Unsupported)?;
            }
            self.epochs = Some(epochs);
        }
        Ok(self.epochs.get_or_insert_default())
    }

    /// What becomes of a transaction, by the epochs as they were read last.
    pub(crate) async fn fate(&mut self, transaction: &Transaction) -> Result<Fate, WriterError> {
        if !bookkeeping::is_data(transaction) {
            return Ok(Fate::Applied);
        }
        let config = Arc::clone(&self.config);
        let gtid = transaction.gtid.parse()?;
        let (source, target) = (config.source.idc.as_str(), config.target.idc.as_str());
        let epochs = self.epochs().await?;
        let fate = epochs.fate(transaction.epoch, &gtid, source, target);
        let named = |wish: &Wish| wish.gtid == transaction.gtid;
        Ok(match fate {
            Fate::Applied if self.wish.as_ref().is_some_and(named) => Fate::Held,
            fate => fate,
        })
    }

    /// Compares what was read under the locks with the epochs by which was judged.
    pub(crate) fn check_epochs(&self, answers: &[u64]) -> Result<(), WriterError> {
        let seen = Seen {
            locked: answers[0],
            read: answers[1],
        };
        let newest = self.epochs.as_ref().map(Epochs::newest);
        if seen.locked != seen.read || newest != Some(seen.read) {
            return Err(WriterError::EpochMoved);
        }
        Ok(())
    }

    pub(crate) async fn lacking(
        &mut self,
        transaction: &Transaction,
        ended_by: u64,
        known: bool,
    ) -> WriterError {
        // The new primary may have handed it on meanwhile, which moves the link's row.
        if let Err(error) = self.check_own_row().await {
            return error;
        }
        Box::new(Aftermath::Lacking {
            gtid: transaction.gtid.clone(),
            source_idc: self.config.source.idc.to_string(),
            target_idc: self.config.target.idc.to_string(),
            epoch: transaction.epoch,
            ended_by,
            who: if known {
                "the primary of that epoch has it"
            } else {
                "whether the primary of that epoch has it is not known here"
            },
            link: self.config.link.to_string(),
        })
        .into()
    }
}

/// Epoch, holder, how much it builds upon, which epoch it follows, what of it is needed.
type Row = (u64, String, Option<String>, Option<u64>, Option<String>);

/// Reads every row of `multiactive.epoch`.
async fn read_epochs(target: &mut Target) -> Result<Epochs, WriterError> {
    let sql = "SELECT epoch, CAST(idc AS CHAR), CAST(ended AS CHAR), follows, \
               CAST(needs AS CHAR) FROM multiactive.epoch ORDER BY epoch";
    let rows: Vec<Row> = target.all("reading multiactive.epoch", sql).await?;
    let position = |text: Option<String>| {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| text.parse()).transpose()
    };
    let row = |(epoch, idc, ended, follows, needs): Row| {
        Ok(EpochRow {
            epoch,
            idc,
            ended: position(ended)?,
            follows,
            needs: position(needs)?,
        })
    };
    rows.into_iter()
        .map(row)
        .collect::<Result<_, WriterError>>()
        .map(Epochs)
}
