//! Bringing the target in line, where it was the primary of an epoch that has ended: what it
//! committed and nobody else has is taken back there, so that it goes on as a copy without being
//! copied anew.
//!
//! The link to it is **held** before the first transaction of the next epoch, which is the one that
//! brings that epoch's row, until
//! 1. the target is fenced, and the source has applied or filed everything that the target had then
//!    ([`Ask::through`] contains the target's own position): so everything stranded is filed, and
//!    nothing is added to it;
//! 2. the inverse of each filed transaction was applied, the newest one first, by compare and set,
//!    each with its row in `multiactive.undone` in one transaction, marked with the link's origin
//!    (so that it is not sent on, and not stranded itself).
//!
//! Then the tables are what they were at the hand-over position, which is where the next epoch
//! begins. While the link is held the target has not seen the new epoch, and its arbiter publishes
//! that: such a member is not elected. That needs nobody to remember anything.
//!
//! What is filed later all the same (a server that was frozen and thawed, or rows that a person
//! wrote there without switching the binlog off) is found by looking again from time to time, and
//! taken back in the same way; see [`crate::follow`].
//!
//! Only the member that ended the target's epoch is asked, which is the source that sends the
//! epoch's row: what another survivor has filed, the new primary may have applied.
//!
//! With three copies the target may also have more than the source of what a third member committed;
//! that is taken back in the same way ([`third`]).

mod inverse;
mod row;
mod third;
mod transaction;

use std::collections::BTreeSet;

use change::Position;
use change::sync::{FiledPiece, FiledReply, FiledRequest};
use model::IdcName;
use mysql::session::Engine;

use crate::aftermath::Aftermath;
use crate::apply::Applier;
use crate::error::WriterError;
use crate::stream::Stream;
use crate::target::lookup::quote;
use transaction::{Open, Set};

/// What the source was asked.
struct Ask<'a> {
    stream: &'a Stream,
    link: String,
    /// Whose transactions.
    of: IdcName,
    target: IdcName,
}

impl Ask<'_> {
    async fn page(&self, below: u64, heads: bool) -> Result<FiledReply, WriterError> {
        let request = FiledRequest {
            link: self.link.clone(),
            below,
            heads,
            of: self.of.to_string(),
        };
        let reply = self.stream.filed(request).await?;
        // A syncer of an earlier release tells of the target's only, and does not say so.
        let untold = reply.of.is_empty() && self.of == self.target;
        if untold || reply.of == self.of.as_str() {
            return Ok(reply);
        }
        Err(WriterError::Unexpected {
            what: format!(
                "what it has set aside of {:?}, not of {}",
                reply.of, self.of
            ),
            fix: "run the same release of syncer and writer".to_owned(),
        })
    }
}

/// Whether every link from the target has got at least so far.
fn is_through(reply: &FiledReply, position: &Position) -> Result<bool, WriterError> {
    let mut through = !reply.through.is_empty();
    for link in &reply.through {
        through &= Position::try_from(link)?.contains(position);
    }
    Ok(through)
}

impl Applier {
    fn ask<'a>(&self, stream: &'a Stream) -> Ask<'a> {
        Ask {
            stream,
            link: self.config.link.to_string(),
            of: self.config.target.idc.clone(),
            target: self.config.target.idc.clone(),
        }
    }

    /// Everything that was born at the target, if it is fenced; nothing but heartbeats is added to
    /// it then. What was applied there is left out: the source sends it and does not wait for it.
    pub(crate) async fn fenced_position(&mut self) -> Result<Option<Position>, WriterError> {
        let position = match self.target.engine() {
            Engine::MySql => "REPLACE(@@GLOBAL.gtid_executed, '\n', '')",
            Engine::MariaDb => "@@GLOBAL.gtid_binlog_pos",
        };
        let sql = format!("SELECT @@GLOBAL.read_only, {position}");
        let row: Option<(u8, String)> = self
            .target
            .first("asking whether the target is fenced", &sql)
            .await?;
        let Some((1, text)) = row else {
            return Ok(None);
        };
        let flavor = match self.target.engine() {
            Engine::MySql => change::Flavor::MySql,
            Engine::MariaDb => change::Flavor::MariaDb,
        };
        let position = Position::parse(flavor, &text)?;
        let own = mysql::origin::only_born_here(&position, &self.config.origins);
        Ok(Some(own))
    }

    /// Whether the source has filed everything that the target has up to this position.
    ///
    /// # Errors
    /// [`Aftermath::Held`] while it has not.
    pub(crate) async fn check_filed(
        &mut self,
        stream: &Stream,
        epoch: u64,
        own: &Position,
    ) -> Result<(), WriterError> {
        let newest = self.ask(stream).page(0, true).await?;
        if !is_through(&newest, own)? {
            return Err(self.held(epoch, &newest));
        }
        self.check_partner(&newest).await
    }

    /// Takes back what the source has filed of the target's.
    ///
    /// # Errors
    /// If something cannot be taken back.
    pub(crate) async fn bring_in_line(&mut self, stream: &Stream) -> Result<(), WriterError> {
        let ask = self.ask(stream);
        let newest = ask.page(0, true).await?;
        self.take_all_back(&ask, &newest).await
    }

    /// Looks for what was filed of the target's after it was brought in line, and takes it back,
    /// once the source has filed all that the target had when that was first seen: of what is
    /// filed in part the newest is not the newest.
    pub(crate) async fn look_for_filed(&mut self, stream: &Stream) -> Result<(), WriterError> {
        let config = std::sync::Arc::clone(&self.config);
        self.forget_epochs();
        let epochs = self.epochs().await?;
        let (source, target) = (config.source.idc.as_str(), config.target.idc.as_str());
        let was_primary = epochs.0.iter().any(|row| row.idc == target);
        if !was_primary || epochs.holder() != Some(source) {
            return Ok(());
        }
        let ask = self.ask(stream);
        let newest = ask.page(0, true).await?;
        if self.is_taken_back(&ask, &newest).await? {
            self.filed_late_by = None;
            return Ok(());
        }
        let own = match self.filed_late_by.take() {
            Some(own) => own,
            None => match self.fenced_position().await? {
                Some(own) => own,
                None => return Ok(()),
            },
        };
        if !is_through(&newest, &own)? {
            self.filed_late_by = Some(own);
            return Ok(());
        }
        self.take_all_back(&ask, &newest).await
    }

    /// Whether nothing is filed that was not taken back, which is remembered.
    async fn is_taken_back(
        &mut self,
        ask: &Ask<'_>,
        newest: &FiledReply,
    ) -> Result<bool, WriterError> {
        let filed = Filed::of(newest);
        if self.taken_back != filed {
            if !self.are_undone(ask, newest).await? {
                return Ok(false);
            }
            self.taken_back = filed;
        }
        Ok(true)
    }

    async fn take_all_back(
        &mut self,
        ask: &Ask<'_>,
        newest: &FiledReply,
    ) -> Result<(), WriterError> {
        if self.is_taken_back(ask, newest).await? {
            return Ok(());
        }
        let filed = Filed::of(newest);
        tracing::warn!(
            filed = filed.transactions,
            source = %self.config.source.idc,
            "taking back transactions of an ended epoch that nobody else has"
        );
        let mut below = 0;
        let mut open: Option<Open> = None;
        loop {
            let page = ask.page(below, false).await?;
            let Some(last) = page.pieces.last() else {
                break;
            };
            below = last.number;
            for piece in page.pieces {
                self.take_next_back(&mut open, Set::of(&ask.of, &piece), piece)
                    .await?;
            }
        }
        self.close_transaction(open.take()).await?;
        self.taken_back = filed;
        Ok(())
    }

    /// Takes back the piece before the last one, which may be of the same transaction.
    async fn take_next_back(
        &mut self,
        open: &mut Option<Open>,
        set: Set,
        piece: FiledPiece,
    ) -> Result<(), WriterError> {
        if open.as_ref().is_none_or(|open| open.set.gtid != set.gtid) {
            self.close_transaction(open.take()).await?;
            *open = Some(self.open_transaction(set).await?);
        }
        if let Some(open) = open.as_mut().filter(|open| !open.done && !open.is_back) {
            open.changes += self.take_piece_back(&open.set, piece).await?;
        }
        Ok(())
    }

    /// Whether all of what is filed is in the target's list of what was taken back. That list may
    /// hold more, so counting would not tell.
    async fn are_undone(
        &mut self,
        ask: &Ask<'_>,
        newest: &FiledReply,
    ) -> Result<bool, WriterError> {
        let mut page = newest.pieces.clone();
        while let Some(last) = page.last() {
            let below = last.number;
            let gtids: BTreeSet<String> = page.iter().map(|piece| quote(&piece.gtid)).collect();
            let sql = format!(
                "SELECT COUNT(*) FROM multiactive.undone WHERE filed_in={} AND gtid IN ({})",
                quote(self.config.source.idc.as_str()),
                gtids
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(",")
            );
            let known: Option<usize> = self
                .target
                .first("reading multiactive.undone", &sql)
                .await?;
            if known != Some(gtids.len()) {
                return Ok(false);
            }
            page = ask.page(below, true).await?.pieces;
        }
        Ok(true)
    }

    /// The source may have been promoted with transactions that were set aside here and that it
    /// had not taken back (a failover that allowed loss). It has them, and this member never will.
    async fn check_partner(&mut self, reply: &FiledReply) -> Result<(), WriterError> {
        let source = self.config.source.idc.to_string();
        let sql = format!(
            "SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded WHERE source={} AND ended_by IN \
             (SELECT epoch FROM multiactive.epoch WHERE idc={})",
            quote(&source),
            quote(self.config.target.idc.as_str())
        );
        let filed: Option<u64> = self
            .target
            .first("counting in multiactive.stranded", &sql)
            .await?;
        let filed = filed.unwrap_or(0);
        if filed <= reply.undone {
            return Ok(());
        }
        Err(Box::new(Aftermath::PartnerKept {
            source_idc: source,
            target_idc: self.config.target.idc.to_string(),
            kept: filed - reply.undone,
            link: self.config.link.to_string(),
        })
        .into())
    }

    /// The link is held and the target is not fenced.
    pub(crate) fn not_fenced(&self, epoch: u64) -> WriterError {
        Box::new(Aftermath::Held {
            source_idc: self.config.source.idc.to_string(),
            target_idc: self.config.target.idc.to_string(),
            epoch,
            waits: "the target is not read_only yet".to_owned(),
        })
        .into()
    }

    fn held(&self, epoch: u64, reply: &FiledReply) -> WriterError {
        let through: Vec<String> = reply.through.iter().map(|link| link.text.clone()).collect();
        Box::new(Aftermath::Held {
            source_idc: self.config.source.idc.to_string(),
            target_idc: self.config.target.idc.to_string(),
            epoch,
            waits: match through.as_slice() {
                [] => "no link from there has begun".to_owned(),
                some => format!("it has got to {}", some.join(" and ")),
            },
        })
        .into()
    }

    /// The target's tables have been copied anew into empty ones: nothing that it had committed is
    /// there any more. Where it holds the newest epoch that it knows, nothing was copied.
    pub(crate) async fn settle_by_copy(&mut self, stream: &Stream) -> Result<(), WriterError> {
        let target = self.config.target.idc.clone();
        let nothing_copied = self.settled.snapshot.tables.is_empty();
        self.forget_epochs();
        if nothing_copied || self.epochs().await?.holder() == Some(target.as_str()) {
            return Ok(());
        }
        let ask = self.ask(stream);
        let mut below = 0;
        loop {
            let page = ask.page(below, true).await?;
            let Some(last) = page.pieces.last() else {
                return Ok(());
            };
            below = last.number;
            for piece in &page.pieces {
                let set = Set::of(&ask.of, piece);
                let mut sql = self.undone_statement(&set, "Copy", 0).into_bytes();
                sql.extend_from_slice(b" ON DUPLICATE KEY UPDATE filed_in=VALUES(filed_in)");
                self.target
                    .execute("writing to multiactive.undone", &sql)
                    .await?;
            }
        }
    }
}

/// How much the source had filed of the target's when all of it was in line last. Nothing that was
/// filed goes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Filed {
    transactions: u64,
    /// The number of the newest piece.
    newest: u64,
}

impl Filed {
    fn of(newest: &FiledReply) -> Self {
        Self {
            transactions: newest.transactions,
            newest: newest.pieces.first().map_or(0, |piece| piece.number),
        }
    }
}
