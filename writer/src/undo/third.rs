//! What a third member committed, the target has applied, and the source of a new epoch never got.
//!
//! The source files it when it comes there, by the epoch that it began itself; so once it has seen
//! the newest that is here, what it has filed is what is here too much.

use std::collections::BTreeSet;

use change::Position;
use change::sync::FiledPiece;
use model::IdcName;

use super::Ask;
use super::transaction::{Open, Set};
use crate::apply::Applier;
use crate::checkpoint::{Newest, Record};
use crate::epoch::way::Ahead;
use crate::error::WriterError;
use crate::stream::Stream;
use crate::target::lookup::quote;

impl Applier {
    fn ask_of<'a>(&self, stream: &'a Stream, of: &IdcName) -> Ask<'a> {
        Ask {
            of: of.clone(),
            ..self.ask(stream)
        }
    }

    /// Whether the source has seen the newest of a third member's that is here.
    ///
    /// # Errors
    /// [`Aftermath::Waits`](crate::aftermath::Aftermath::Waits) while it has not.
    pub(crate) async fn check_filed_of(
        &mut self,
        stream: &Stream,
        epoch: u64,
        ahead: &Ahead,
    ) -> Result<(), WriterError> {
        let of = IdcName::new(ahead.idc.as_str()).map_err(unreadable)?;
        let reply = self.ask_of(stream, &of).page(0, true).await?;
        let mut through = !reply.through.is_empty();
        for link in &reply.through {
            through &= Position::try_from(link)?.contains(&ahead.newest);
        }
        if through {
            return Ok(());
        }
        let source = &self.config.source.idc;
        Err(self.waits(
            epoch,
            format!(
                "{} has changes of {of} up to {} that {source} had not when it was promoted; they \
                 are taken back once the link from {of} to {source} has brought them there too",
                self.config.target.idc, ahead.newest
            ),
        ))
    }

    /// Takes back what the source has filed of a third member's and what is here.
    ///
    /// # Errors
    /// If something cannot be taken back.
    pub(crate) async fn take_back_of(
        &mut self,
        stream: &Stream,
        ahead: &Ahead,
    ) -> Result<(), WriterError> {
        let of = IdcName::new(ahead.idc.as_str()).map_err(unreadable)?;
        let ask = self.ask_of(stream, &of);
        tracing::warn!(
            %of,
            source = %self.config.source.idc,
            "taking back transactions that the new primary never got"
        );
        let brought = self.brought(false).await?;
        let links = brought.iter().filter(|link| link.idc == ahead.idc);
        let positions: Vec<&Position> = links.filter_map(|link| link.position.as_ref()).collect();
        let mut below = 0;
        let mut open: Option<Open> = None;
        loop {
            let page = ask.page(below, false).await?;
            let Some(last) = page.pieces.last() else {
                break;
            };
            below = last.number;
            let here = self.applied_of(&of, &positions, &page.pieces).await?;
            for piece in page.pieces {
                if here.contains(&piece.gtid) {
                    self.take_next_back(&mut open, Set::of(&of, &piece), piece)
                        .await?;
                }
            }
        }
        self.close_transaction(open.take()).await?;
        self.lower_newest(ahead).await
    }

    /// Which of these were applied here: those that the link has brought, and not set aside.
    async fn applied_of(
        &mut self,
        of: &IdcName,
        positions: &[&Position],
        pieces: &[FiledPiece],
    ) -> Result<BTreeSet<String>, WriterError> {
        let mut here = BTreeSet::new();
        for piece in pieces {
            let gtid = piece.gtid.parse()?;
            if positions.iter().any(|it| it.contains_gtid(&gtid)) {
                here.insert(piece.gtid.clone());
            }
        }
        let list: Vec<String> = here.iter().map(|gtid| quote(gtid)).collect();
        if list.is_empty() {
            return Ok(here);
        }
        let sql = format!(
            "SELECT DISTINCT CAST(gtid AS CHAR) FROM multiactive.stranded WHERE source={} AND gtid IN ({})",
            quote(of.as_str()),
            list.join(",")
        );
        let aside: Vec<String> = self
            .target
            .all("reading multiactive.stranded", &sql)
            .await?;
        for gtid in aside {
            here.remove(&gtid);
        }
        Ok(here)
    }

    /// Writes down what is left of a third member's, unless more of it has come meanwhile. Its
    /// writer finds its row changed, and begins anew.
    async fn lower_newest(&mut self, ahead: &Ahead) -> Result<(), WriterError> {
        let doing = "writing down what was taken back";
        self.target.execute(doing, b"START TRANSACTION").await?;
        let sql = format!(
            "SELECT CAST(link AS CHAR), CAST(ledger AS CHAR) FROM multiactive.applied \
             WHERE source={} FOR UPDATE",
            quote(&ahead.idc)
        );
        let links: Vec<(String, Option<String>)> = self.target.all(doing, &sql).await?;
        for (link, ledger) in links {
            let mut record = Record::parse(ledger.as_deref())?;
            let newest = record.newest.as_ref().map(Newest::bound).transpose()?;
            if newest.is_none_or(|newest| newest.within != ahead.newest) {
                continue;
            }
            record.newest = Some(Newest::from(&ahead.left));
            record.serial += 1;
            let update = format!(
                "UPDATE multiactive.applied SET ledger={} WHERE link={}",
                quote(&record.text()?),
                quote(&link)
            );
            self.target.execute(doing, update.as_bytes()).await?;
        }
        self.commit().await
    }
}

fn unreadable(error: impl std::fmt::Display) -> WriterError {
    WriterError::CheckpointUnreadable {
        reason: error.to_string(),
    }
}
