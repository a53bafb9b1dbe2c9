use change::{ColumnKind, RowFlags, TableSchema};

use super::*;
use crate::target::table::{ForeignKeys, map, tests as tables};

fn schema() -> TableSchema {
    tables::source(&[("id", ColumnKind::Int), ("kind", ColumnKind::Enum)])
}

fn mapping(foreign: ForeignKeys) -> Arc<Mapping> {
    let mut target = tables::target(&[("id", "int"), ("kind", "enum")]);
    target.foreign = foreign;
    Arc::new(map(&schema(), &target).unwrap())
}

fn row(id: i64, kind: u16) -> Row {
    vec![Value::Int(id), Value::Enum(kind)]
}

fn insert(id: i64) -> RowChange {
    RowChange::Insert { after: row(id, 1) }
}

fn delete(id: i64) -> RowChange {
    RowChange::Delete { before: row(id, 1) }
}

fn update(id: i64, to: i64) -> RowChange {
    RowChange::Update {
        before: row(id, 1),
        after: row(to, 2),
    }
}

fn change(rows: Vec<RowChange>, lenient: bool, no_foreign_key_checks: bool) -> TableChange {
    TableChange {
        table: Arc::new(schema()),
        lenient,
        flags: RowFlags {
            no_foreign_key_checks,
            ..RowFlags::default()
        },
        rows,
    }
}

fn planned(one_by_one: bool, foreign: ForeignKeys, change: &TableChange) -> Vec<(String, Expect)> {
    let mut plan = Plan::new(one_by_one);
    plan.change(change, &mapping(foreign));
    let mut all = Vec::new();
    for request in plan.finish() {
        let sql = String::from_utf8(request.sql).unwrap();
        let sqls: Vec<_> = sql.split(';').map(str::to_owned).collect();
        assert_eq!(sqls.len(), request.statements.len());
        all.extend(
            sqls.into_iter()
                .zip(request.statements.iter().map(|s| s.expect)),
        );
    }
    all
}

const NONE: ForeignKeys = ForeignKeys {
    any: false,
    referred_to: false,
    to_itself: false,
    cascades_here: false,
    cascades_below: false,
};

#[test]
fn neighbours_share_a_statement_and_order_is_kept() {
    let rows = vec![
        insert(1),
        insert(2),
        update(2, 3),
        delete(1),
        delete(3),
        insert(1),
    ];
    let planned = planned(false, NONE, &change(rows, false, false));
    let expected = [
        (
            "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,1),(2,1)",
            2,
        ),
        ("UPDATE `shop`.`orders` SET `id`=3,`kind`=2 WHERE `id`=2", 1),
        ("DELETE FROM `shop`.`orders` WHERE `id` IN (1,3)", 2),
        ("INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,1)", 1),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(sql, rows)| ((*sql).to_owned(), Expect::Rows(*rows)))
        .collect();
    assert_eq!(planned, expected);
}

#[test]
fn one_by_one_names_each_row() {
    let mut plan = Plan::new(true);
    plan.change(
        &change(vec![insert(1), insert(2)], false, false),
        &mapping(NONE),
    );
    let requests = plan.finish();
    assert_eq!(requests.len(), 2);
    let Subject::Rows {
        verb: Verb::Insert,
        key,
        ..
    } = &requests[1].statements[0].subject
    else {
        panic!("{requests:?}")
    };
    assert_eq!(key.as_deref(), Some("id=2"));
}

#[test]
fn lenient_changes_put_rows_whatever_is_there() {
    let planned = planned(
        false,
        NONE,
        &change(
            vec![update(1, 2), delete(5), insert(6), update(2, 3)],
            true,
            false,
        ),
    );
    let sqls: Vec<_> = planned.iter().map(|(sql, _)| sql.as_str()).collect();
    assert_eq!(
        sqls,
        [
            "DELETE FROM `shop`.`orders` WHERE `id` IN (1,2,5,6)",
            "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (2,2),(6,1)",
            "DELETE FROM `shop`.`orders` WHERE `id` IN (2,3)",
            "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (3,2)",
        ]
    );
    assert_eq!(planned[0].1, Expect::Success);
}

#[test]
fn a_repair_checks_no_foreign_key_of_which_nobody_knew() {
    let mut plan = Plan::new(true).without_foreign_keys();
    plan.change(&change(vec![delete(1)], false, true), &mapping(NONE));
    let requests = plan.finish();
    let sqls: Vec<_> = requests
        .iter()
        .map(|request| String::from_utf8_lossy(&request.sql))
        .collect();
    assert_eq!(sqls.first().unwrap(), "SET foreign_key_checks=0");
    assert_eq!(sqls.last().unwrap(), "SET foreign_key_checks=1");
    assert_eq!(sqls.len(), 3, "{sqls:?}");
}

#[test]
fn foreign_keys_are_checked_as_the_source_did() {
    let keys = ForeignKeys {
        any: true,
        to_itself: true,
        ..ForeignKeys::default()
    };
    let planned_ = planned(
        false,
        keys,
        &change(vec![delete(1), delete(2)], false, true),
    );
    let sqls: Vec<_> = planned_.iter().map(|(sql, _)| sql.as_str()).collect();
    assert_eq!(
        sqls,
        [
            "SET foreign_key_checks=0",
            "DELETE FROM `shop`.`orders` WHERE (`id`=1)",
            "DELETE FROM `shop`.`orders` WHERE (`id`=2)",
            "SET foreign_key_checks=1",
        ]
    );
    // Checked at the source: checked here, so that cascades happen here as they did there.
    let checked = change(vec![delete(1)], false, false);
    assert_eq!(planned(false, keys, &checked).len(), 1);
    // They are in the binlog by themselves: not here.
    let parent = ForeignKeys {
        referred_to: true,
        ..keys
    };
    let logged = |foreign, rows| {
        let mut change = change(rows, false, false);
        change.flags.logs_cascades = true;
        let planned = planned(false, foreign, &change);
        planned[0].0 == "SET foreign_key_checks=0"
    };
    assert!(logged(parent, vec![delete(1), insert(1)]));
    assert!(logged(parent, vec![update(1, 2)]));
    // What refers to a row that is not there is still found out.
    assert!(!logged(parent, vec![insert(1)]));
    assert!(!logged(keys, vec![delete(1)]));
}

#[test]
fn a_row_may_come_before_its_parent_while_tables_are_copied() {
    let keys = ForeignKeys {
        any: true,
        referred_to: true,
        cascades_below: true,
        ..ForeignKeys::default()
    };
    let unchecked = |change: &TableChange, copying| {
        let mut plan = Plan::new(false).while_copying(copying);
        let mut mapping = Mapping::clone(&mapping(keys));
        mapping.cascading = vec![0];
        plan.change(change, &Arc::new(mapping));
        let sql = String::from_utf8(plan.finish().remove(0).sql).unwrap();
        sql.starts_with("SET foreign_key_checks=0;")
    };
    let of = |row| change(vec![row], false, false);
    assert!(!unchecked(&of(insert(1)), false));
    assert!(unchecked(&of(insert(1)), true));
    assert!(unchecked(&of(update(1, 1)), true));
    // What the target has to do to other rows, it still does, unless the binlog says it.
    assert!(!unchecked(&of(delete(1)), true));
    assert!(!unchecked(&of(update(1, 2)), true));
    let mut logged = of(delete(1));
    logged.flags.logs_cascades = true;
    assert!(unchecked(&logged, true));
}

#[test]
fn the_error_value_of_an_enum_is_written_in_lax_mode() {
    let rows = vec![insert(1), RowChange::Insert { after: row(2, 0) }, insert(3)];
    let mut plan = Plan::new(false);
    plan.change(&change(rows, false, false), &mapping(NONE));
    let requests = plan.finish();
    let warnings: Vec<_> = requests[0].statements.iter().map(|s| s.warnings).collect();
    assert_eq!(warnings, [0, 0, 1, 0, 0]);
    assert!(!String::from_utf8_lossy(&requests[0].sql).ends_with(LAX_MODE));
}

#[test]
fn requests_stay_small() {
    let rows: Vec<_> = (0..100_000).map(insert).collect();
    let mut plan = Plan::new(false);
    plan.change(&change(rows, false, false), &mapping(NONE));
    let requests = plan.finish();
    assert!(requests.len() > 1);
    let rows: u64 = requests
        .iter()
        .flat_map(|request| &request.statements)
        .map(|statement| match statement.expect {
            Expect::Rows(rows) => rows,
            _ => 0,
        })
        .sum();
    assert_eq!(rows, 100_000);
    assert!(
        requests
            .iter()
            .all(|request| request.sql.len() <= REQUEST_BYTES + 1)
    );
}

mod order {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What the planned statements would do to a table, in a model that reads them back.
    fn run(planned: &[(String, Expect)], table: &mut BTreeMap<i64, i64>) {
        for (sql, expect) in planned {
            let numbers: Vec<i64> = sql
                .split(|c: char| !(c.is_ascii_digit()))
                .filter(|text| !text.is_empty())
                .map(|text| text.parse().unwrap())
                .collect();
            let affected = if sql.starts_with("INSERT") {
                for pair in numbers.chunks(2) {
                    assert!(table.insert(pair[0], pair[1]).is_none(), "{sql}");
                }
                numbers.len() / 2
            } else if sql.starts_with("UPDATE") {
                assert!(table.remove(&numbers[2]).is_some(), "{sql}");
                assert!(table.insert(numbers[0], numbers[1]).is_none(), "{sql}");
                1
            } else {
                numbers
                    .iter()
                    .filter(|id| table.remove(id).is_some())
                    .count()
            };
            if let Expect::Rows(rows) = expect {
                assert_eq!(affected as u64, *rows, "{sql}");
            }
        }
    }

    proptest! {
        /// Whatever a source did, the statements lead to the same rows and report what they must.
        #[test]
        fn statements_lead_to_what_the_source_had(
            held in prop::collection::btree_set(0i64..12, 0..8),
            copied in prop::collection::btree_set(0i64..12, 0..8),
            steps in prop::collection::vec((0i64..12, 0i64..12), 0..60),
            one_by_one: bool,
            lenient: bool,
        ) {
            let mut source: BTreeMap<i64, i64> = held.iter().map(|id| (*id, 1)).collect();
            // While a table is copied, the target holds any part of what the source has.
            let mut target = source.clone();
            if lenient {
                target.retain(|id, _| copied.contains(id));
            }
            let mut rows = Vec::new();
            for (id, to) in steps {
                if !source.contains_key(&id) {
                    source.insert(id, 1);
                    rows.push(insert(id));
                } else if id == to || !source.contains_key(&to) {
                    source.remove(&id);
                    source.insert(to, 2);
                    rows.push(RowChange::Update { before: row(id, 1), after: row(to, 2) });
                } else {
                    source.remove(&id);
                    rows.push(delete(id));
                }
            }
            let planned = planned(one_by_one, NONE, &change(rows, lenient, false));
            run(&planned, &mut target);
            prop_assert!(target.iter().all(|(id, kind)| source.get(id) == Some(kind)));
            if !lenient {
                prop_assert_eq!(target, source);
            }
        }
    }
}
