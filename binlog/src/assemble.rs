//! From log events to transactions: where they were born, what of them is sent, in which epoch.
//!
//! **Epochs.** The epoch of a member at a place in its binlog is the highest epoch of the
//! `multiactive.epoch` rows *of local origin* before that place: promotion writes such a row in a
//! transaction of its own before the member is opened, so whatever is born here after it belongs
//! to that epoch, and what was born before it does not. The reader therefore needs the epoch at
//! the place where it starts. It comes from the writer, which keeps the epoch that came with the
//! position it keeps, in the same row: both are of the same place by construction. Only where no
//! position is kept is the epoch read from the table, together with the position (see the syncer's
//! `start`), so that no epoch row lies between the two.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use change::{
    Body, Ddl, DdlObject, Gtid, InvalidPosition, Position, Row, RowChange, TableChange,
    TableSchema, Transaction, Value,
};

use crate::decode::{Decoder, GtidStart, KnownTable, LogEvent};
use crate::error::BinlogError;
use crate::event::QueryEvent;
use crate::rows::RowsEvent;

mod refused;
mod undone;

use undone::Mark;

/// Where a transaction was born.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// The IDC.
    pub idc: String,
    /// It is sent: it was born on the server that is read, or is handed on by it.
    pub local: bool,
    /// It may have been applied on that server, by the writer of another link, and is handed on.
    pub relayed: bool,
}

/// What becomes of a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableUse {
    /// They are sent.
    Send,
    /// They are sent, and begin epochs: `multiactive.epoch`.
    Epoch,
    /// They are sent, and keep links moving while nothing else does: `multiactive.heartbeat`.
    Heartbeat,
    /// They are for the snapshot: `multiactive.watermark`.
    Watermark,
    /// They are not sent, and moving on for their sake alone is not worth a word: tables in which
    /// links keep their own books. If it were, two opposite links would answer each other for ever.
    Bookkeeping,
    /// As [`Self::Bookkeeping`], and each transaction that a writer applies changes one:
    /// `multiactive.applied`. What does and sends rows all the same was not born here, whatever
    /// its mark says.
    Checkpoint,
    /// They are not sent.
    Skip,
}

/// What becomes of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementUse {
    /// It is sent.
    Send {
        /// What is to be run: the text that was logged, without settings around it.
        statement: Bytes,
        /// Its first words.
        verb: String,
        /// What it touches.
        objects: Vec<DdlObject>,
    },
    /// No link can carry it, nor anything else of its transaction: why is sent in its place.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// Its first words, where they are known.
        verb: String,
        /// What it touches, as far as that is known.
        objects: Vec<DdlObject>,
    },
    /// It is not sent, and counted; who copies what it touches has to know of it.
    Leave {
        /// Its first words.
        verb: String,
        /// What it touches.
        objects: Vec<DdlObject>,
    },
    /// It is not sent, and counted.
    Skip,
}

/// Why a transaction stops the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One CamelCase word.
    pub reason: &'static str,
    /// What was met.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// Decides what is sent.
pub trait Filter: Send {
    /// Where a transaction was born.
    fn birth(&self, gtid: &Gtid) -> Result<Birth, Refusal>;
    /// What becomes of a table's rows.
    fn table(&self, database: &str, table: &str) -> TableUse;
    /// What becomes of a statement.
    fn statement(&self, query: &QueryEvent) -> StatementUse;
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A transaction to send, or a part of one.
    Transaction(Box<Transaction>),
    /// A transaction of which nothing is sent.
    Passed(Passed),
    /// Something seen in the transaction that comes next.
    Notice(Notice),
    /// The server has nothing to say and is there.
    Heartbeat,
}

/// A transaction of which nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Which.
    pub gtid: Gtid,
    /// The position after it.
    pub position: Position,
    /// When it was committed, microseconds since 1970.
    pub committed_micros: u64,
    /// How many changes it held.
    pub filtered: u64,
    /// It held nothing but the bookkeeping of links.
    pub bookkeeping: bool,
}

/// Something seen on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A row of `multiactive.watermark`, of local origin.
    Watermark(Arc<TableSchema>, Row),
    /// An epoch row that was born elsewhere: this member is not the primary any more.
    ForeignEpoch {
        /// The epoch.
        epoch: u64,
        /// Whose it is.
        idc: String,
    },
    /// A statement was met that touches these objects; it is sent with the transaction, or left out.
    Statement {
        /// Its first words.
        verb: String,
        /// What it touches.
        objects: Vec<DdlObject>,
    },
}

struct Open {
    start: GtidStart,
    birth: Birth,
    changes: Vec<TableChange>,
    weight: usize,
    part: u32,
    filtered: u64,
    bookkeeping: bool,
    /// It changes a writer's checkpoint.
    checkpoint: bool,
    /// What is sent in its place.
    refused: Option<refused::Refusing>,
    /// A BEGIN was seen, or the GTID said that rows follow.
    begun: bool,
    /// The XA transaction that it prepares.
    xa: Option<String>,
    /// Where it began, and its savepoints, oldest first.
    marks: Vec<Mark>,
}

/// Puts transactions together.
pub struct Assembler {
    filter: Box<dyn Filter>,
    position: Position,
    epoch: u64,
    part_bytes: usize,
    open: Option<Open>,
    /// XA transactions that were prepared and change nothing of the link's.
    prepared: BTreeSet<String>,
    ready: VecDeque<Output>,
}

impl Assembler {
    /// Starts behind `position`, in `epoch`. A transaction is cut into parts of about `part_bytes`.
    pub fn new(filter: Box<dyn Filter>, position: Position, epoch: u64, part_bytes: usize) -> Self {
        Self {
            filter,
            position,
            epoch,
            part_bytes,
            open: None,
            prepared: BTreeSet::new(),
            ready: VecDeque::new(),
        }
    }

    /// The position after the last whole transaction.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The epoch at that position.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What becomes of a table's rows.
    pub fn wants(&self, database: &str, table: &str) -> bool {
        !matches!(
            self.filter.table(database, table),
            TableUse::Skip | TableUse::Bookkeeping | TableUse::Checkpoint
        )
    }

    /// What is ready.
    pub fn pop(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }

    /// Takes the next event. `decoder` knows where it was.
    pub fn take(&mut self, event: LogEvent, decoder: &mut Decoder) -> Result<(), BinlogError> {
        match event {
            LogEvent::Nothing | LogEvent::EndOfStatement => {}
            LogEvent::Heartbeat => self.ready.push_back(Output::Heartbeat),
            LogEvent::Gtid(start) => self.begin(start, decoder)?,
            LogEvent::Begin => self.open(decoder)?.begun = true,
            LogEvent::Commit => self.commit(decoder)?,
            LogEvent::Rollback => self.rollback(decoder)?,
            LogEvent::Savepoint(name) => self.savepoint(name, decoder)?,
            LogEvent::RollbackTo(name) => self.rollback_to(&name, decoder)?,
            LogEvent::Xa(step) => self.xa(step, decoder)?,
            LogEvent::XaPrepared { one_phase } => self.xa_prepared(one_phase, decoder)?,
            LogEvent::Statement(query) => self.statement(query, decoder)?,
            LogEvent::Rows(table, rows) => self.rows(&table, &rows, decoder)?,
            LogEvent::PartialJson(table) => self.partial_json(&table, decoder)?,
        }
        Ok(())
    }

    fn open(&mut self, decoder: &Decoder) -> Result<&mut Open, BinlogError> {
        self.open.as_mut().ok_or_else(|| {
            decoder.malformed(
                "behind a commit",
                "it belongs to no transaction: no GTID precedes it",
            )
        })
    }

    fn begin(&mut self, start: GtidStart, decoder: &mut Decoder) -> Result<(), BinlogError> {
        if self.open.is_some() {
            return Err(decoder.malformed("GTID", "the transaction before it has no end"));
        }
        decoder.set_transaction(Some(start.gtid.clone()));
        if self.position.contains_gtid(&start.gtid) {
            return Err(repeated(&start.gtid, &self.position, decoder));
        }
        let birth = self
            .filter
            .birth(&start.gtid)
            .map_err(|refusal| refuse(decoder, refusal))?;
        let begun = start.gtid.flavor() == change::Flavor::MariaDb && !start.standalone;
        let mut open = Open {
            start,
            birth,
            changes: Vec::new(),
            weight: 0,
            part: 0,
            filtered: 0,
            bookkeeping: true,
            checkpoint: false,
            refused: None,
            begun,
            xa: None,
            marks: Vec::new(),
        };
        open.xa.clone_from(&open.start.prepares);
        open.marks.push(open.mark(String::new(), self.epoch));
        self.open = Some(open);
        Ok(())
    }

    fn commit(&mut self, decoder: &mut Decoder) -> Result<(), BinlogError> {
        self.open(decoder)?;
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let sends = !open.changes.is_empty() || open.part > 0 || open.refused.is_some();
        if open.checkpoint && sends && !open.birth.relayed {
            return Err(applied_here(&open.start.gtid, decoder));
        }
        if open.refused.is_some() && open.changes_epoch(self.epoch) {
            return Err(epoch_refused(&open.start.gtid, decoder));
        }
        decoder.set_transaction(None);
        self.move_on(&open.start.gtid, decoder)?;
        let output = if sends {
            let body = match open.refused.take() {
                Some(refused) => Body::Ddl(refused.told()),
                None => Body::Rows(std::mem::take(&mut open.changes)),
            };
            Output::Transaction(Box::new(self.transaction(&open, body, true)))
        } else {
            Output::Passed(self.passed(&open))
        };
        self.ready.push_back(output);
        Ok(())
    }

    fn move_on(&mut self, gtid: &Gtid, decoder: &Decoder) -> Result<(), BinlogError> {
        self.position
            .add(gtid)
            .map_err(|error: InvalidPosition| decoder.malformed("GTID", error))
    }

    fn passed(&self, open: &Open) -> Passed {
        Passed {
            gtid: open.start.gtid.clone(),
            position: self.position.clone(),
            committed_micros: open.start.committed_micros,
            filtered: open.filtered,
            bookkeeping: open.bookkeeping,
        }
    }

    fn transaction(&self, open: &Open, body: Body, last: bool) -> Transaction {
        Transaction {
            gtid: open.start.gtid.to_string(),
            origin: open.birth.idc.clone(),
            epoch: self.epoch,
            committed_micros: open.start.committed_micros,
            part: open.part,
            position: last.then(|| self.position.clone()),
            filtered: if last { open.filtered } else { 0 },
            body,
        }
    }

    fn statement(&mut self, query: QueryEvent, decoder: &mut Decoder) -> Result<(), BinlogError> {
        self.open(decoder)?;
        if self.open.as_ref().is_some_and(|open| !open.birth.local) {
            // It was a statement where it was born, and is looked at there.
            return self.leave_out(&query, decoder);
        }
        match self.filter.statement(&query) {
            StatementUse::Skip => self.leave_out(&query, decoder),
            StatementUse::Leave { verb, objects } => {
                let notice = Notice::Statement { verb, objects };
                self.ready.push_back(Output::Notice(notice));
                self.leave_out(&query, decoder)
            }
            StatementUse::Send {
                statement,
                verb,
                objects,
            } => {
                let query = QueryEvent { statement, ..query };
                self.ddl(query, verb, objects, decoder)
            }
            StatementUse::Refuse {
                refusal,
                verb,
                objects,
            } => self.refuse_statement(query, verb, objects, refusal, decoder),
        }
    }

    /// Passes over a statement; it is all of its transaction, unless rows are around it.
    fn leave_out(&mut self, query: &QueryEvent, decoder: &mut Decoder) -> Result<(), BinlogError> {
        let open = self.open(decoder)?;
        open.filtered += 1;
        open.bookkeeping = false;
        if open.begun || rows_follow(&query.statement) {
            Ok(())
        } else {
            self.commit(decoder)
        }
    }

    fn ddl(
        &mut self,
        query: QueryEvent,
        verb: String,
        objects: Vec<DdlObject>,
        decoder: &mut Decoder,
    ) -> Result<(), BinlogError> {
        if let Some(refusal) = refused::unfit(&query, self.open(decoder)?.begun) {
            return self.refuse_statement(query, verb, objects, refusal, decoder);
        }
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        decoder.set_transaction(None);
        self.move_on(&open.start.gtid, decoder)?;
        let ddl = statement(query, verb, objects);
        self.tell(&ddl);
        let transaction = self.transaction(&open, Body::Ddl(ddl), true);
        self.ready
            .push_back(Output::Transaction(Box::new(transaction)));
        Ok(())
    }

    /// Who copies hears of what comes with the transaction.
    fn tell(&mut self, ddl: &Ddl) {
        self.ready.push_back(Output::Notice(Notice::Statement {
            verb: ddl.verb.clone(),
            objects: ddl.objects.clone(),
        }));
    }

    fn rows(
        &mut self,
        table: &KnownTable,
        rows: &RowsEvent,
        decoder: &Decoder,
    ) -> Result<(), BinlogError> {
        let purpose = self.filter.table(&table.database, &table.table);
        let Some(open) = self.open.as_mut() else {
            return self.open(decoder).map(|_| ());
        };
        let local = open.birth.local;
        let sent = local
            && open.refused.is_none()
            && matches!(
                purpose,
                TableUse::Send | TableUse::Epoch | TableUse::Heartbeat
            );
        let looked_at = sent || matches!(purpose, TableUse::Epoch | TableUse::Watermark);
        if looked_at {
            if open.xa.is_some() {
                let which = format!("that changes {}.{}", table.database, table.table);
                return Err(decoder.xa(&which));
            }
            if !rows.is_complete() {
                self.partial_image(table, purpose, decoder)?;
                return self.count_filtered(table, rows, purpose, decoder);
            }
            let schema = table.map.schema.as_ref().ok_or_else(|| {
                decoder.malformed("rows", "the columns of a table that is sent were not read")
            })?;
            for change in rows.changes(schema, &table.map.layouts) {
                let change = change.map_err(|defect| {
                    let name = format!("rows of {schema}");
                    decoder.malformed(name, defect)
                })?;
                match purpose {
                    TableUse::Epoch => self.epoch_row(schema, &change, local),
                    TableUse::Watermark if local => self.watermark_row(schema, &change),
                    _ => {}
                }
                if sent {
                    self.push(schema, rows, change);
                }
            }
        }
        if !sent {
            self.count_filtered(table, rows, purpose, decoder)?;
        }
        Ok(())
    }

    /// An update with parts of JSON values cannot be sent, and need not be read where it is not.
    fn partial_json(&mut self, table: &KnownTable, decoder: &Decoder) -> Result<(), BinlogError> {
        let wanted = self.wants(&table.database, &table.table);
        if wanted && self.open(decoder)?.birth.local {
            self.refuse_rows(table, refused::partial_json(table), decoder)?;
        }
        let open = self.open(decoder)?;
        open.filtered += 1;
        open.bookkeeping = false;
        Ok(())
    }

    fn count_filtered(
        &mut self,
        table: &KnownTable,
        rows: &RowsEvent,
        purpose: TableUse,
        decoder: &Decoder,
    ) -> Result<(), BinlogError> {
        let count = if rows.is_complete() {
            rows.count(&table.map.layouts)
                .map_err(|defect| decoder.malformed("rows", defect))?
        } else {
            // Images with columns missing are not sent, so they need only be one change or more.
            1
        };
        if let Some(open) = &mut self.open {
            open.filtered += count;
            open.bookkeeping &= !matches!(purpose, TableUse::Send | TableUse::Skip);
            open.checkpoint |= purpose == TableUse::Checkpoint;
            if purpose == TableUse::Send
                && let Some(refused) = &mut open.refused
            {
                refused.goes_with_it(format!("{}.{}", table.database, table.table));
            }
        }
        Ok(())
    }

    fn push(&mut self, schema: &Arc<TableSchema>, rows: &RowsEvent, change: RowChange) {
        let Some(open) = &mut self.open else { return };
        open.weight += weight(&change);
        match open.changes.last_mut() {
            Some(last) if Arc::ptr_eq(&last.table, schema) && last.flags == rows.flags => {
                last.rows.push(change);
            }
            _ => open.changes.push(TableChange {
                table: Arc::clone(schema),
                lenient: false,
                flags: rows.flags,
                rows: vec![change],
            }),
        }
        if open.weight >= self.part_bytes {
            self.cut();
        }
    }

    /// Sends what there is of the open transaction as a part of it.
    fn cut(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let body = Body::Rows(std::mem::take(&mut open.changes));
        let part = self.transaction(&open, body, false);
        self.ready.push_back(Output::Transaction(Box::new(part)));
        open.part += 1;
        open.weight = 0;
        self.open = Some(open);
    }

    fn epoch_row(&mut self, schema: &TableSchema, change: &RowChange, local: bool) {
        let (RowChange::Insert { after } | RowChange::Update { after, .. }) = change else {
            return;
        };
        let epoch = match column(schema, after, "epoch") {
            Some(Value::UInt(epoch)) => *epoch,
            Some(Value::Int(epoch)) => u64::try_from(*epoch).unwrap_or(0),
            _ => 0,
        };
        if local {
            self.epoch = self.epoch.max(epoch);
        } else {
            let idc = match column(schema, after, "idc") {
                Some(Value::Text(idc) | Value::Bytes(idc)) => String::from_utf8_lossy(idc).into(),
                _ => String::new(),
            };
            self.ready
                .push_back(Output::Notice(Notice::ForeignEpoch { epoch, idc }));
        }
    }

    fn watermark_row(&mut self, schema: &Arc<TableSchema>, change: &RowChange) {
        if let RowChange::Insert { after } | RowChange::Update { after, .. } = change {
            let notice = Notice::Watermark(Arc::clone(schema), after.clone());
            self.ready.push_back(Output::Notice(notice));
        }
    }
}

fn column<'a>(schema: &TableSchema, row: &'a Row, name: &str) -> Option<&'a Value> {
    let index = schema
        .columns
        .iter()
        .position(|column| column.name.eq_ignore_ascii_case(name))?;
    row.get(index)
}

fn weight(change: &RowChange) -> usize {
    let row = |row: &Row| row.iter().map(Value::weight).sum::<usize>();
    match change {
        RowChange::Insert { after } => row(after),
        RowChange::Delete { before } => row(before),
        RowChange::Update { before, after } => row(before) + row(after),
    }
}

fn statement(query: QueryEvent, verb: String, objects: Vec<DdlObject>) -> Ddl {
    Ddl {
        database: query.database,
        statement: query.statement,
        verb,
        objects,
        session: query.session,
        refused: None,
    }
}

/// MySQL ends the first half of CREATE TABLE ... SELECT with this clause; rows and a commit follow.
fn rows_follow(statement: &[u8]) -> bool {
    statement
        .trim_ascii_end()
        .to_ascii_uppercase()
        .ends_with(b"START TRANSACTION")
}

fn refuse(decoder: &Decoder, refusal: Refusal) -> BinlogError {
    decoder.refused(refusal.reason, refusal.what, refusal.fix)
}

/// MySQL never sends what is in the position. MariaDB does where the numbers of a domain went back,
/// which `gtid_strict_mode` forbids: whatever position is kept, it does not tell what comes before
/// it from what comes after, and changes would be lost or applied twice.
fn repeated(gtid: &Gtid, position: &Position, decoder: &Decoder) -> BinlogError {
    decoder.refused(
        "GtidOrder",
        format!("transaction {gtid} follows a position that holds it already: {position}"),
        "SET GLOBAL gtid_strict_mode = ON (MariaDB), set gtid_seq_no nowhere, and let no two \
         servers give out numbers in one domain at a time; then let the link copy its tables anew",
    )
}

/// No epoch is ever left out.
fn epoch_refused(gtid: &Gtid, decoder: &Decoder) -> BinlogError {
    decoder.refused(
        "Epoch",
        format!("transaction {gtid} begins an epoch and does more that no link can carry"),
        "Nothing but multiactive may write to multiactive.epoch. Let the link copy its tables anew",
    )
}

fn applied_here(gtid: &Gtid, decoder: &Decoder) -> BinlogError {
    decoder.refused(
        "Origin",
        format!(
            "transaction {gtid} was applied here by a writer, since it changes \
             multiactive.applied, and its mark does not say where it was born: to send it on would \
             apply it twice"
        ),
        "Check that every IDC whose changes reach this server is a member of the Unit, or, without a \
         Unit, set relay: true on this link, which hands them on; and that the operator has given this \
         syncer its newest settings",
    )
}

#[cfg(test)]
mod tests;
