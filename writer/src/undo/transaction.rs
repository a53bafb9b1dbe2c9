//! One transaction taken back: its pieces, the newest change first, and the word that it was.

use change::sync::FiledPiece;
use change::{Body, decode_stored};
use model::IdcName;

use super::inverse::Inverse;
use crate::aftermath::Aftermath;
use crate::apply::Applier;
use crate::bookkeeping;
use crate::error::WriterError;
use crate::failpoint::{self, Point};
use crate::target::lookup::quote;

/// A transaction that was set aside at the source.
#[derive(Debug, Clone)]
pub(super) struct Set {
    /// Who committed it.
    pub(super) of: IdcName,
    pub(super) gtid: String,
    /// The epoch that it was committed under, and the one that ended that.
    pub(super) epoch: u64,
    pub(super) ended_by: u64,
}

impl Set {
    pub(super) fn of(of: &IdcName, piece: &FiledPiece) -> Self {
        Self {
            of: of.clone(),
            gtid: piece.gtid.clone(),
            epoch: piece.epoch,
            ended_by: piece.ended_by,
        }
    }
}

/// A transaction that is being taken back.
pub(super) struct Open {
    pub(super) set: Set,
    /// It had been before, and it is written down that this source need not ask for it again.
    pub(super) done: bool,
    /// Its rows were taken back before, for another source that had set it aside.
    pub(super) is_back: bool,
    pub(super) changes: u64,
}

/// An earlier release of the syncer does not tell.
fn number(epoch: u64) -> String {
    if epoch == 0 {
        return "NULL".to_owned();
    }
    epoch.to_string()
}

impl Applier {
    pub(super) async fn open_transaction(&mut self, set: Set) -> Result<Open, WriterError> {
        let sql = format!(
            "SELECT COUNT(*), COALESCE(SUM(filed_in={}), 0) FROM multiactive.undone WHERE gtid={}",
            quote(self.config.source.idc.as_str()),
            quote(&set.gtid)
        );
        let known: Option<(u64, u64)> = self
            .target
            .first("reading multiactive.undone", &sql)
            .await?;
        let (anywhere, here) = known.unwrap_or_default();
        let done = here > 0;
        if !done {
            let doing = "beginning to take a transaction back";
            self.target.execute(doing, b"START TRANSACTION").await?;
        }
        Ok(Open {
            set,
            done,
            is_back: anywhere > 0,
            changes: 0,
        })
    }

    pub(super) async fn close_transaction(
        &mut self,
        open: Option<Open>,
    ) -> Result<(), WriterError> {
        let Some(open) = open.filter(|open| !open.done) else {
            return Ok(());
        };
        self.write_undone(&open.set, open.changes).await?;
        self.commit().await
    }

    /// Writes down, in the open transaction, that this one is taken back with it.
    pub(super) async fn write_undone(
        &mut self,
        set: &Set,
        changes: u64,
    ) -> Result<(), WriterError> {
        let sql = self.undone_statement(set, "Inverse", changes);
        self.target
            .execute("writing to multiactive.undone", sql.as_bytes())
            .await?;
        tracing::warn!(gtid = %set.gtid, of = %set.of, changes, "a transaction is taken back");
        Ok(())
    }

    pub(super) fn undone_statement(&self, set: &Set, how: &str, changes: u64) -> String {
        let source = if set.of == self.config.target.idc {
            "NULL".to_owned()
        } else {
            quote(set.of.as_str())
        };
        format!(
            "INSERT INTO multiactive.undone (filed_in, gtid, how, changes, at, source, epoch, ended_by) \
             VALUES ({},{},'{how}',{changes},UTC_TIMESTAMP(6),{source},{},{})",
            quote(self.config.source.idc.as_str()),
            quote(&set.gtid),
            number(set.epoch),
            number(set.ended_by)
        )
    }

    /// What a person runs at the target to say that a transaction's rows are in line there.
    pub(super) fn pass_statement(&self, set: &Set) -> String {
        format!(
            "SET sql_log_bin=0; {}",
            self.undone_statement(set, "Hand", 0)
        )
    }

    pub(super) async fn take_piece_back(
        &mut self,
        set: &Set,
        piece: FiledPiece,
    ) -> Result<u64, WriterError> {
        let filed = decode_stored(piece.body)?;
        let changes = match &filed.body {
            Body::Rows(changes) => changes,
            Body::Ddl(ddl) => {
                return Err(Box::new(Aftermath::NeedsCopy {
                    target_idc: self.config.target.idc.to_string(),
                    gtid: filed.gtid.clone(),
                    what: format!("{:?}", ddl.told()),
                    link: self.config.link.to_string(),
                    pass: self.pass_statement(set),
                })
                .into());
            }
        };
        for change in changes.iter().rev() {
            if bookkeeping::is_ours(&change.table.database) {
                continue;
            }
            if let Some(route) = self.mappings.routes().all().first() {
                // What was written here has the target's names, which routes are not about.
                return Err(WriterError::Unsupported(format!(
                    "SyncLink {}: {} has filed transaction {} of {}, which is to be taken back here, and \
                     the link has tables.routes (from {} to {}); remove the routes",
                    self.config.link,
                    self.config.source.idc,
                    filed.gtid,
                    self.config.target.idc,
                    route.from,
                    route.to
                )));
            }
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            for row in change.rows.iter().rev() {
                let inverse = Inverse::of(row);
                let acts = inverse.wanted.is_some() && mapping.foreign.cascades_below;
                if acts && !change.flags.logs_cascades {
                    return Err(self.cascaded(set, &change.table.to_string()));
                }
                self.take_back(set, change, &mapping, &inverse).await?;
                failpoint::pass(Point::AfterRow);
            }
        }
        Ok(filed.change_count())
    }

    /// What a cascade did with the rows of other tables is not in the binlog of every server.
    fn cascaded(&self, set: &Set, table: &str) -> WriterError {
        let version = self.target.version();
        Box::new(Aftermath::NeedsCopy {
            target_idc: self.config.target.idc.to_string(),
            gtid: set.gtid.clone(),
            what: format!(
                "a change of {table}, whose foreign keys cascade to tables of which {version} logs \
                 nothing then"
            ),
            link: self.config.link.to_string(),
            pass: self.pass_statement(set),
        })
        .into()
    }
}
