//! One transaction taken back: its pieces, the newest change first, and the word that it was.

use change::sync::FiledPiece;
use change::{Body, Transaction, decode_stored};

use super::inverse::Inverse;
use crate::aftermath::Aftermath;
use crate::apply::Applier;
use crate::bookkeeping;
use crate::error::WriterError;
use crate::failpoint::{self, Point};
use crate::target::lookup::quote;

/// A transaction that is being taken back.
pub(super) struct Open {
    pub(super) gtid: String,
    /// It had been before.
    pub(super) done: bool,
    pub(super) changes: u64,
}

impl Applier {
    pub(super) async fn open_transaction(&mut self, gtid: &str) -> Result<Open, WriterError> {
        let sql = format!(
            "SELECT COUNT(*) FROM multiactive.undone WHERE filed_in={} AND gtid={}",
            quote(self.config.source.idc.as_str()),
            quote(gtid)
        );
        let known: Option<u64> = self
            .target
            .first("reading multiactive.undone", &sql)
            .await?;
        let done = known != Some(0);
        if !done {
            let doing = "beginning to take a transaction back";
            self.target.execute(doing, b"START TRANSACTION").await?;
        }
        Ok(Open {
            gtid: gtid.to_owned(),
            done,
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
        let sql = self.undone_statement(&open.gtid, "Inverse", open.changes);
        self.target
            .execute("writing to multiactive.undone", sql.as_bytes())
            .await?;
        self.commit().await?;
        tracing::warn!(gtid = %open.gtid, changes = open.changes, "a transaction was taken back");
        Ok(())
    }

    pub(super) fn undone_statement(&self, gtid: &str, how: &str, changes: u64) -> String {
        format!(
            "INSERT INTO multiactive.undone (filed_in, gtid, how, changes, at) \
             VALUES ({},{},'{how}',{changes},UTC_TIMESTAMP(6))",
            quote(self.config.source.idc.as_str()),
            quote(gtid)
        )
    }

    /// What a person runs at the target to say that a transaction's rows are in line there.
    pub(super) fn pass_statement(&self, gtid: &str) -> String {
        format!(
            "SET sql_log_bin=0; {}",
            self.undone_statement(gtid, "Hand", 0)
        )
    }

    pub(super) async fn take_piece_back(&mut self, piece: FiledPiece) -> Result<u64, WriterError> {
        let filed = decode_stored(piece.body)?;
        let changes = match &filed.body {
            Body::Rows(changes) => changes,
            Body::Ddl(ddl) => {
                return Err(Box::new(Aftermath::NeedsCopy {
                    target_idc: self.config.target.idc.to_string(),
                    gtid: filed.gtid.clone(),
                    what: format!("{:?}", ddl.statement_lossy()),
                    link: self.config.link.to_string(),
                    pass: self.pass_statement(&filed.gtid),
                })
                .into());
            }
        };
        for change in changes.iter().rev() {
            if bookkeeping::is_ours(&change.table.database) {
                continue;
            }
            let mapping = self.mappings.get(&mut self.target, &change.table).await?;
            for row in change.rows.iter().rev() {
                let inverse = Inverse::of(row);
                let acts = inverse.wanted.is_some() && mapping.foreign.cascades_below;
                if acts && !change.flags.logs_cascades {
                    return Err(self.cascaded(&filed, &change.table.to_string()));
                }
                self.take_back(&filed, change, &mapping, &inverse).await?;
                failpoint::pass(Point::AfterRow);
            }
        }
        Ok(filed.change_count())
    }

    /// What a cascade did with the rows of other tables is not in the binlog of every server.
    fn cascaded(&self, filed: &Transaction, table: &str) -> WriterError {
        let version = self.target.version();
        Box::new(Aftermath::NeedsCopy {
            target_idc: self.config.target.idc.to_string(),
            gtid: filed.gtid.clone(),
            what: format!(
                "a change of {table}, whose foreign keys cascade to tables of which {version} logs \
                 nothing then"
            ),
            link: self.config.link.to_string(),
            pass: self.pass_statement(&filed.gtid),
        })
        .into()
    }
}
