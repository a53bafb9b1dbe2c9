//! What becomes of transactions that are rolled back in part, and of what no link sends.

use bytes::Bytes;
use change::{Flavor, RowFlags};

use super::*;
use crate::event::XaStep;
use crate::input::Input;
use crate::rows::RowsKind;

/// Sends what is in `shop`; leaves statements out and tells of them.
struct OfShop;

impl Filter for OfShop {
    fn birth(&self, _gtid: &Gtid) -> Result<Birth, Refusal> {
        Ok(Birth {
            idc: "sh".to_owned(),
            local: true,
            relayed: false,
        })
    }

    fn table(&self, database: &str, _table: &str) -> TableUse {
        match database {
            "shop" => TableUse::Send,
            _ => TableUse::Skip,
        }
    }

    fn statement(&self, query: &QueryEvent) -> StatementUse {
        StatementUse::Leave {
            verb: String::from_utf8_lossy(&query.statement).into_owned(),
            objects: Vec::new(),
        }
    }
}

struct Bench {
    assembler: Assembler,
    decoder: Decoder,
    schema: Arc<TableSchema>,
    rows: RowsEvent,
}

impl Bench {
    fn new(part_bytes: usize) -> Self {
        let position = Position::empty(Flavor::MariaDb);
        let schema = TableSchema {
            database: "shop".into(),
            table: "t".into(),
            columns: Vec::new(),
            primary_key: Vec::new(),
        };
        // Table 7, the end of a statement, no more header, one column, which is there.
        let rows = [7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1];
        let rows = Input(Bytes::copy_from_slice(&rows));
        let rows = RowsEvent::read(RowsKind::Insert, 2, false, rows).unwrap();
        assert_eq!(rows.flags, RowFlags::default());
        let mut bench = Self {
            assembler: Assembler::new(Box::new(OfShop), position, 1, part_bytes),
            decoder: Decoder::new(Flavor::MariaDb),
            schema: Arc::new(schema),
            rows,
        };
        let start = GtidStart {
            gtid: "0-1-1".parse().unwrap(),
            committed_micros: 0,
            standalone: false,
            prepares: None,
        };
        bench.take(LogEvent::Gtid(start)).unwrap();
        bench
    }

    fn begin(&mut self, number: u64, prepares: Option<&str>) {
        let start = GtidStart {
            gtid: format!("0-1-{number}").parse().unwrap(),
            committed_micros: 0,
            standalone: false,
            prepares: prepares.map(str::to_owned),
        };
        self.take(LogEvent::Gtid(start)).unwrap();
    }

    fn rows_of(&mut self, database: &str) -> Result<(), BinlogError> {
        let rows = self.rows.clone();
        self.take(LogEvent::Rows(table(database), rows))
    }

    fn take(&mut self, event: LogEvent) -> Result<(), BinlogError> {
        self.assembler.take(event, &mut self.decoder)
    }

    fn insert(&mut self, id: u64) {
        let after = vec![Value::UInt(id)];
        self.assembler
            .push(&self.schema, &self.rows, RowChange::Insert { after });
    }

    /// The ids that were sent, and how many changes were left out.
    fn sent(&mut self) -> (Vec<u64>, u64) {
        let (mut ids, mut filtered) = (Vec::new(), 0);
        while let Some(output) = self.assembler.pop() {
            match output {
                Output::Transaction(transaction) => {
                    filtered += transaction.filtered;
                    let Body::Rows(changes) = transaction.body else {
                        panic!("no statement was sent");
                    };
                    for change in changes.iter().flat_map(|change| &change.rows) {
                        match change {
                            RowChange::Insert { after } => match after[0] {
                                Value::UInt(id) => ids.push(id),
                                ref other => panic!("{other:?}"),
                            },
                            other => panic!("{other:?}"),
                        }
                    }
                }
                Output::Passed(passed) => filtered += passed.filtered,
                other => panic!("{other:?}"),
            }
        }
        (ids, filtered)
    }
}

fn savepoint(name: &str) -> LogEvent {
    LogEvent::Savepoint(name.to_owned())
}

fn back_to(name: &str) -> LogEvent {
    LogEvent::RollbackTo(name.to_owned())
}

#[test]
fn what_was_rolled_back_to_a_savepoint_is_not_sent() {
    let mut bench = Bench::new(1 << 20);
    bench.insert(1);
    bench.take(savepoint("a")).unwrap();
    bench.insert(2);
    bench.take(savepoint("b")).unwrap();
    bench.insert(3);
    bench.take(back_to("b")).unwrap();
    bench.insert(4);
    bench.take(back_to("b")).unwrap();
    bench.take(back_to("a")).unwrap();
    bench.insert(5);
    bench.take(LogEvent::Commit).unwrap();
    assert_eq!(bench.sent(), (vec![1, 5], 3));
    assert_eq!(bench.assembler.position().to_string(), "0-1-1");
}

#[test]
fn a_savepoint_takes_the_place_of_one_of_its_name_and_ends_with_an_earlier_one() {
    let mut bench = Bench::new(1 << 20);
    bench.take(savepoint("a")).unwrap();
    bench.insert(1);
    bench.take(savepoint("b")).unwrap();
    bench.insert(2);
    bench.take(savepoint("b")).unwrap();
    bench.take(back_to("b")).unwrap();
    bench.take(back_to("a")).unwrap();
    let error = bench.take(back_to("b")).unwrap_err();
    assert!(error.is_permanent(), "{error}");
}

#[test]
fn a_transaction_that_was_rolled_back_passes() {
    let mut bench = Bench::new(1 << 20);
    bench.insert(1);
    bench.insert(2);
    bench.take(LogEvent::Rollback).unwrap();
    assert_eq!(bench.sent(), (vec![], 2));
    assert_eq!(bench.assembler.position().to_string(), "0-1-1");
}

#[test]
fn what_was_sent_already_cannot_be_rolled_back() {
    let mut bench = Bench::new(1);
    bench.insert(1);
    let error = bench.take(LogEvent::Rollback).unwrap_err();
    assert_eq!(error.category(), "RolledBack");
    let mut bench = Bench::new(1);
    bench.insert(1);
    bench.take(savepoint("a")).unwrap();
    bench.take(back_to("a")).unwrap();
    bench.take(LogEvent::Commit).unwrap();
    assert_eq!(bench.sent(), (vec![1], 0));
}

fn table(database: &str) -> Arc<KnownTable> {
    known(database, "t")
}

fn known(database: &str, table: &str) -> Arc<KnownTable> {
    Arc::new(KnownTable {
        database: database.into(),
        table: table.into(),
        map: crate::table_map::TableMap {
            schema: None,
            layouts: Vec::new(),
        },
    })
}

#[test]
fn parts_of_json_halt_only_where_they_are_the_link_s() {
    let mut bench = Bench::new(1 << 20);
    bench.take(LogEvent::PartialJson(table("other"))).unwrap();
    bench.insert(1);
    bench.take(LogEvent::Commit).unwrap();
    assert_eq!(bench.sent(), (vec![1], 1));
    bench.begin(2, None);
    bench.insert(1);
    bench.insert(2);
    bench.take(LogEvent::PartialJson(table("shop"))).unwrap();
    // What follows is not sent either, nor are other reasons told.
    bench.rows_of("shop").unwrap();
    bench.rows_of("other").unwrap();
    bench.take(LogEvent::PartialJson(table("shop"))).unwrap();
    // Who copies hears of it.
    assert!(matches!(bench.assembler.pop(), Some(Output::Notice(_))));
    assert!(matches!(bench.assembler.pop(), Some(Output::Notice(_))));
    assert!(bench.assembler.pop().is_none());
    bench.take(LogEvent::Commit).unwrap();
    let Some(Output::Transaction(sent)) = bench.assembler.pop() else {
        panic!("nothing was sent");
    };
    assert!(sent.is_last() && bench.assembler.pop().is_none());
    // Two rows that were collected, and two updates; of none followed a row that has a column.
    assert_eq!((sent.gtid.as_str(), sent.filtered), ("0-1-2", 4));
    let Body::Ddl(Ddl {
        refused: Some(refused),
        ..
    }) = sent.body
    else {
        panic!("{:?}", sent.body);
    };
    assert_eq!(refused.reason, "PartialJson");
    assert!(refused.what.contains("shop.t"), "{refused:?}");
    assert!(refused.what.contains("1 more changes"), "{refused:?}");
}

#[test]
fn what_goes_with_a_refused_change_is_named() {
    let mut bench = Bench::new(1 << 20);
    bench.insert(1);
    bench
        .take(LogEvent::PartialJson(known("shop", "u")))
        .unwrap();
    bench.take(LogEvent::Commit).unwrap();
    let told = std::iter::from_fn(|| bench.assembler.pop()).find_map(|output| match output {
        Output::Transaction(sent) => match sent.body {
            Body::Ddl(ddl) => ddl.refused,
            Body::Rows(_) => None,
        },
        _ => None,
    });
    let what = told.unwrap().what;
    assert!(what.starts_with("an update of shop.u was logged"), "{what}");
    assert!(
        what.ends_with("what the transaction did to shop.t"),
        "{what}"
    );
}

#[test]
fn what_was_rolled_back_is_refused_by_nobody() {
    let mut bench = Bench::new(1 << 20);
    bench.take(LogEvent::PartialJson(table("shop"))).unwrap();
    assert!(matches!(bench.assembler.pop(), Some(Output::Notice(_))));
    bench.take(LogEvent::Rollback).unwrap();
    assert_eq!(bench.sent(), (vec![], 1));
}

#[test]
fn what_is_prepared_is_not_refused_by_itself() {
    let mut bench = Bench::new(1 << 20);
    bench
        .take(LogEvent::Xa(XaStep::Start(NAME.into())))
        .unwrap();
    let error = bench
        .take(LogEvent::PartialJson(table("shop")))
        .unwrap_err();
    assert_eq!(error.category(), "PartialJson");
}

#[test]
fn what_was_sent_in_part_cannot_be_refused_any_more() {
    let mut bench = Bench::new(1);
    bench.insert(1);
    let error = bench
        .take(LogEvent::PartialJson(table("shop")))
        .unwrap_err();
    assert_eq!(error.category(), "PartialJson");
}

#[test]
fn no_epoch_is_refused_with_what_is_around_it() {
    let mut bench = Bench::new(1 << 20);
    bench.take(LogEvent::PartialJson(table("shop"))).unwrap();
    bench.assembler.epoch = 2;
    let error = bench.take(LogEvent::Commit).unwrap_err();
    assert_eq!(error.category(), "Epoch");
}

#[test]
fn who_copies_is_told_of_a_statement_that_is_left_out() {
    let mut bench = Bench::new(1 << 20);
    let query = QueryEvent {
        database: "shop".into(),
        statement: Bytes::from_static(b"DROP TABLE t"),
        error: 0,
        session: change::DdlSession::default(),
        unknown_setting: None,
    };
    bench.take(LogEvent::Statement(query)).unwrap();
    let told = bench.assembler.pop();
    let Some(Output::Notice(Notice::Statement { verb, .. })) = told else {
        panic!("{told:?}");
    };
    assert_eq!(verb, "DROP TABLE t");
}

const NAME: &str = "X'78',X'',1";

#[test]
fn xa_transactions_of_others_pass() {
    let mut bench = Bench::new(1 << 20);
    // As MySQL says it, then as MariaDB does.
    bench
        .take(LogEvent::Xa(XaStep::Start(NAME.into())))
        .unwrap();
    bench.rows_of("other").unwrap();
    bench.take(LogEvent::Xa(XaStep::End)).unwrap();
    bench
        .take(LogEvent::XaPrepared { one_phase: false })
        .unwrap();
    bench.begin(2, None);
    bench
        .take(LogEvent::Xa(XaStep::Commit(NAME.into())))
        .unwrap();
    bench.begin(3, Some(NAME));
    bench.rows_of("other").unwrap();
    bench
        .take(LogEvent::XaPrepared { one_phase: false })
        .unwrap();
    bench.begin(4, None);
    bench
        .take(LogEvent::Xa(XaStep::Rollback(NAME.into())))
        .unwrap();
    bench.begin(5, Some(NAME));
    bench
        .take(LogEvent::XaPrepared { one_phase: true })
        .unwrap();
    assert_eq!(bench.sent(), (vec![], 0));
    assert_eq!(bench.assembler.position().to_string(), "0-1-5");
    // What was prepared and is over does not speak for another one of its name.
    bench.begin(6, None);
    let error = bench.take(LogEvent::Xa(XaStep::Commit(NAME.into())));
    assert_eq!(error.unwrap_err().category(), "Xa");
}

#[test]
fn xa_transactions_of_the_link_halt_it() {
    let mut bench = Bench::new(1 << 20);
    bench
        .take(LogEvent::Xa(XaStep::Start(NAME.into())))
        .unwrap();
    let error = bench.rows_of("shop").unwrap_err();
    assert_eq!(error.category(), "Xa");
    assert!(error.to_string().contains("shop.t"), "{error}");
}
