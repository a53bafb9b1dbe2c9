//! What a third member committed, the target has applied, and the source of a new epoch never got.
//!
//! The source files it when it comes there, by the epoch that it began itself; so once it has seen
//! the newest that is here, what it has filed is what is here too much.

use std::collections::BTreeSet;

use change::Position;
use change::sync::FiledPiece;
use model::IdcName;

use super::transaction::Set;
use super::{Ask, is_through};
use crate::apply::Applier;
use crate::checkpoint::{Newest, unreadable};
use crate::epoch::way::{Ahead, NewestData};
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
        if is_through(&reply, &ahead.newest)? {
            return Ok(());
        }
        let source = &self.config.source.idc;
        Err(self.waits(
            epoch,
            format!(
                "{} may have changes of {of} up to {} that {source} had not when it was promoted; they \
                 are taken back once the link from {of} to {source} has brought them there too",
                self.config.target.idc, ahead.newest
            ),
        ))
    }

    /// Takes back what the source has filed of a third member's and what is here, all in one
    /// transaction, in which the link from that member brings nothing: what it brought meanwhile
    /// would be the newer, and go back after the older.
    ///
    /// # Errors
    /// If something cannot be taken back; then nothing was.
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
        let doing = "beginning to take transactions back";
        self.target.execute(doing, b"START TRANSACTION").await?;
        let brought = self.brought(true).await?;
        let links: Vec<_> = brought
            .iter()
            .filter(|link| link.idc == ahead.idc)
            .collect();
        let same = |newest: &NewestData| newest.within == ahead.newest;
        let newest = links.iter().filter_map(|link| link.newest.as_ref());
        if !newest.clone().all(same) {
            // More has come; it is to be seen at the source first.
            return Err(WriterError::EpochMoved);
        }
        let positions: Vec<&Position> = links
            .iter()
            .filter_map(|link| link.position.as_ref())
            .collect();
        let (mut below, mut last): (u64, Option<(Set, u64)>) = (0, None);
        loop {
            let page = ask.page(below, false).await?;
            let Some(oldest) = page.pieces.last() else {
                break;
            };
            below = oldest.number;
            let here = self.applied_of(&of, &positions, &page.pieces).await?;
            for piece in page.pieces {
                if !here.contains(&piece.gtid) {
                    continue;
                }
                let set = Set::of(&of, &piece);
                if last.as_ref().is_none_or(|(last, _)| last.gtid != set.gtid) {
                    if let Some((set, changes)) = last.take() {
                        self.write_undone(&set, changes).await?;
                    }
                    last = Some((set.clone(), 0));
                }
                let changes = self.take_piece_back(&set, piece).await?;
                last = last.map(|(set, before)| (set, before + changes));
            }
        }
        if let Some((set, changes)) = last {
            self.write_undone(&set, changes).await?;
        }
        self.lower_newest(ahead).await?;
        self.commit().await
    }

    /// Which of these are here: those that the link has brought, and that were neither set aside nor
    /// taken back.
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
            "SELECT CAST(gtid AS CHAR) FROM multiactive.stranded WHERE source={of} AND gtid IN ({list}) \
             UNION SELECT CAST(gtid AS CHAR) FROM multiactive.undone \
             WHERE source={of} AND gtid IN ({list})",
            of = quote(of.as_str()),
            list = list.join(",")
        );
        let doing = "reading what was set aside and taken back";
        let aside: Vec<String> = self.target.all(doing, &sql).await?;
        for gtid in aside {
            here.remove(&gtid);
        }
        Ok(here)
    }

    /// Writes down what is left of a third member's.
    async fn lower_newest(&mut self, ahead: &Ahead) -> Result<(), WriterError> {
        let links = self.beside(false).await?.into_iter();
        for mut link in links.filter(|link| link.idc == ahead.idc) {
            link.record.newest = Some(Newest::from(&ahead.left));
            self.move_beside("writing down what was taken back", link)
                .await?;
        }
        Ok(())
    }
}
