//! Transactions that no link can carry. What is sent of one is why, and the writer halts there: it
//! knows what came before, so a person may do at the target what is wanted there and have it
//! skipped. Nothing behind it is lost meanwhile.

use std::collections::BTreeSet;

use bytes::Bytes;
use change::{Ddl, DdlObject, DdlSession, Refused};

use super::{Assembler, Refusal, TableUse, refuse, rows_follow, statement};
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
        let stands_for_it = statement(query, verb, objects);
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
        let object = DdlObject {
            database: database.clone(),
            name: Some(table.clone()),
        };
        let stands_for_them = Ddl {
            database: database.clone(),
            statement: Bytes::from(format!("(rows of {database}.{table})")),
            verb: String::new(),
            objects: vec![object],
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
        // Parts are with the writer already, as rows that are still to be committed; and of a prepared
        // transaction nobody knows yet what becomes of it.
        if open.part > 0 || open.xa.is_some() {
            return Err(refuse(decoder, refusal));
        }
        self.tell(&stands_for_it);
        let open = self.open(decoder)?;
        open.weight = 0;
        open.bookkeeping = false;
        if let Some(refusing) = &mut open.refused {
            refusing.more += 1;
            for object in stands_for_it.objects {
                refusing.goes_with_it(object.to_string());
            }
            return Ok(());
        }
        let Refusal { reason, what, fix } = refusal;
        let mut refusing = Refusing {
            stands_for_it,
            refused: Refused {
                reason: reason.to_owned(),
                what,
                fix,
            },
            with_it: BTreeSet::new(),
            more: 0,
        };
        for change in std::mem::take(&mut open.changes) {
            open.filtered += change.rows.len() as u64;
            refusing.goes_with_it(change.table.to_string());
        }
        open.refused = Some(refusing);
        Ok(())
    }
}

/// What is said of so many tables that a refused transaction changed.
const TABLES: usize = 20;

/// An open transaction of which nothing is sent but why.
pub(super) struct Refusing {
    stands_for_it: Ddl,
    refused: Refused,
    /// What else it changed of the link's.
    with_it: BTreeSet<String>,
    /// So many more reasons there were.
    more: u64,
}

impl Refusing {
    /// Rows of a table go with it.
    pub(super) fn goes_with_it(&mut self, table: String) {
        let mut told = self.stands_for_it.objects.iter().map(DdlObject::to_string);
        if !told.any(|told| told == table) {
            self.with_it.insert(table);
        }
    }

    /// What is sent: the first reason, and what else the transaction did.
    pub(super) fn told(self) -> Ddl {
        let Self {
            stands_for_it,
            mut refused,
            with_it,
            more,
        } = self;
        if more > 0 {
            let text = format!("; {more} more changes of the transaction cannot be carried either");
            refused.what.push_str(&text);
        }
        if !with_it.is_empty() {
            let named: Vec<&str> = with_it.iter().take(TABLES).map(String::as_str).collect();
            let others = match with_it.len().saturating_sub(TABLES) {
                0 => String::new(),
                others => format!(" and {others} others"),
            };
            refused.what.push_str(&format!(
                "; with it goes what the transaction did to {}{others}",
                named.join(", ")
            ));
        }
        Ddl {
            refused: Some(Box::new(refused)),
            ..stands_for_it
        }
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
    let shown = query.shown();
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
