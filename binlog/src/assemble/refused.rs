//! Transactions that no link can carry. What is sent of one is why, and the writer halts there: it
//! knows what came before, so a person may do at the target what is wanted there and have it
//! skipped. Nothing behind it is lost meanwhile.

use bytes::Bytes;
use change::{Ddl, DdlObject, DdlSession, Refused};

use super::{Assembler, Notice, Refusal, TableUse, refuse, rows_follow};
use crate::decode::{Decoder, KnownTable};
use crate::error::BinlogError;
use crate::event::QueryEvent;

impl Assembler {
    /// Refuses the open transaction for a statement, which is all of it unless rows are around it.
    pub(super) fn refuse_statement(
        &mut self,
        query: QueryEvent,
        verb: String,
        objects: Vec<DdlObject>,
        refusal: Refusal,
        decoder: &mut Decoder,
    ) -> Result<(), BinlogError> {
        let goes_on = self.open(decoder)?.begun || rows_follow(&query.statement);
        self.ready
            .push_back(super::Output::Notice(Notice::Statement {
                verb: verb.clone(),
                objects: objects.clone(),
            }));
        let stands_for_it = Ddl {
            database: query.database,
            statement: query.statement,
            verb,
            objects,
            session: query.session,
            refused: None,
        };
        self.refuse(stands_for_it, refusal, decoder)?;
        if goes_on {
            Ok(())
        } else {
            self.commit(decoder)
        }
    }

    /// Refuses the open transaction for rows of a table.
    pub(super) fn refuse_rows(
        &mut self,
        table: &KnownTable,
        refusal: Refusal,
        decoder: &Decoder,
    ) -> Result<(), BinlogError> {
        let KnownTable {
            database, table, ..
        } = table;
        let stands_for_them = Ddl {
            database: database.clone(),
            statement: Bytes::from(format!("(rows of {database}.{table})")),
            verb: String::new(),
            objects: Vec::new(),
            session: DdlSession::default(),
            refused: None,
        };
        self.refuse(stands_for_them, refusal, decoder)
    }

    /// Rows without all of their columns.
    pub(super) fn partial_image(
        &mut self,
        table: &KnownTable,
        purpose: TableUse,
        decoder: &Decoder,
    ) -> Result<(), BinlogError> {
        let KnownTable {
            database,
            table: name,
            ..
        } = table;
        let refusal = Refusal {
            reason: "RowImage",
            what: format!("a change of {database}.{name} was logged without all of its columns"),
            fix: format!(
                "SET GLOBAL binlog_row_image = 'FULL', also in the session that set it otherwise. {}",
                mend(&format!("{database}.{name}"))
            ),
        };
        match purpose {
            TableUse::Send => self.refuse_rows(table, refusal, decoder),
            // A link's own rows cannot be done without.
            _ => Err(refuse(decoder, refusal)),
        }
    }

    /// What was collected is left out, and what follows of it. The first reason is the one that is
    /// told.
    fn refuse(
        &mut self,
        stands_for_it: Ddl,
        refusal: Refusal,
        decoder: &Decoder,
    ) -> Result<(), BinlogError> {
        let open = self.open(decoder)?;
        // Parts are with the writer already, as rows that are still to be committed.
        if open.part > 0 {
            return Err(refuse(decoder, refusal));
        }
        let rows = |change: &change::TableChange| change.rows.len() as u64;
        open.filtered += open.changes.drain(..).map(|it| rows(&it)).sum::<u64>();
        open.weight = 0;
        open.bookkeeping = false;
        if open.refused.is_none() {
            let Refusal { reason, what, fix } = refusal;
            open.refused = Some(Ddl {
                refused: Some(Box::new(Refused {
                    reason: reason.to_owned(),
                    what,
                    fix,
                })),
                ..stands_for_it
            });
        }
        Ok(())
    }
}

/// How rows that were not carried get to the target.
fn mend(table: &str) -> String {
    format!("Skip the transaction, then let mactl repair bring what it did to {table}")
}

/// An update that was logged with parts of JSON values.
pub(super) fn partial_json(table: &KnownTable) -> Refusal {
    let name = format!("{}.{}", table.database, table.table);
    Refusal {
        reason: "PartialJson",
        what: format!("an update of {name} was logged with a part of its JSON only"),
        fix: format!(
            "SET GLOBAL binlog_row_value_options = '', also in sessions that set it. {}",
            mend(&name)
        ),
    }
}

/// Why a DDL statement of the link's tables cannot be carried, by what surrounds it; `begun`: rows are
/// around it.
pub(super) fn unfit(query: &QueryEvent, begun: bool) -> Option<Refusal> {
    let shown = String::from_utf8_lossy(&query.statement);
    if begun || rows_follow(&query.statement) {
        return Some(Refusal {
            reason: "DdlWithRows",
            what: format!("a statement that makes a table and fills it was met: {shown}"),
            fix: "Links do not carry CREATE TABLE ... SELECT: make the table first, then INSERT ... \
                  SELECT. Make the same table at the target by hand, skip the transaction, then let \
                  mactl repair bring its rows"
                .to_owned(),
        });
    }
    if let Some(number) = query.unknown_setting {
        return Some(Refusal {
            reason: "UnknownSetting",
            what: format!(
                "a statement was met that depends on the session setting number {number}, which is \
                 not known: {shown}"
            ),
            fix:
                "Use a version of multiactive that knows this version of the server, or do at the \
                  target by hand what it did and skip it"
                    .to_owned(),
        });
    }
    (query.error != 0).then(|| Refusal {
        reason: "DdlFailed",
        what: format!(
            "a statement that ended in error {} may have been done in part: {shown}",
            query.error
        ),
        fix: "Bring the table into the same state at the target by hand, then skip the statement"
            .to_owned(),
    })
}
