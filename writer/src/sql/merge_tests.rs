use std::collections::BTreeMap;

use change::{ColumnKind, RowFlags, TableSchema};
use proptest::prelude::*;

use super::*;
use crate::sql::plan::Expect;
use crate::target::table::{ForeignKeys, TargetTable, UniqueIndex, map, tests as tables};

fn schema() -> TableSchema {
    tables::source(&[("id", ColumnKind::Int), ("kind", ColumnKind::Enum)])
}

fn target() -> TargetTable {
    tables::target(&[("id", "int"), ("kind", "enum")])
}

fn mapping() -> Arc<Mapping> {
    Arc::new(map(&schema(), &target()).unwrap())
}

fn row(id: i64, kind: u16) -> Row {
    vec![Value::Int(id), Value::Enum(kind)]
}

fn insert(id: i64, kind: u16) -> RowChange {
    RowChange::Insert {
        after: row(id, kind),
    }
}

fn delete(id: i64) -> RowChange {
    RowChange::Delete { before: row(id, 1) }
}

fn update(id: i64, from: u16, to: u16) -> RowChange {
    RowChange::Update {
        before: row(id, from),
        after: row(id, to),
    }
}

fn change(rows: Vec<RowChange>) -> TableChange {
    TableChange {
        table: Arc::new(schema()),
        lenient: false,
        flags: RowFlags::default(),
        rows,
    }
}

fn planned_by(
    mapping: &Arc<Mapping>,
    changes: &[TableChange],
    engine: Engine,
) -> Vec<(String, Expect)> {
    let mut plan = Plan::new(false);
    let mut merge = Merge::new(engine);
    for change in changes {
        merge.change(&mut plan, change, mapping);
    }
    merge.finish(&mut plan);
    let requests = plan.finish();
    let statements = requests.iter().flat_map(|request| {
        let sql = String::from_utf8(request.sql.clone()).unwrap();
        let sqls: Vec<_> = sql.split(';').map(str::to_owned).collect();
        assert_eq!(sqls.len(), request.statements.len());
        sqls.into_iter()
            .zip(request.statements.iter().map(|it| it.expect))
    });
    statements.collect()
}

fn planned(rows: Vec<RowChange>) -> Vec<(String, Expect)> {
    planned_by(&mapping(), &[change(rows)], Engine::MariaDb)
}

fn sqls(planned: &[(String, Expect)]) -> Vec<&str> {
    planned.iter().map(|(sql, _)| sql.as_str()).collect()
}

#[test]
fn rows_of_several_transactions_share_statements() {
    let transaction = |id| {
        change(vec![
            update(id, 1, 2),
            delete(id + 10),
            insert(id + 10, 3),
            insert(id + 20, 1),
        ])
    };
    let changes = [transaction(2), transaction(1)];
    let planned = planned_by(&mapping(), &changes, Engine::MariaDb);
    assert_eq!(
        planned,
        [
            (
                "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,2),(2,2),(11,3),(12,3) \
                 ON DUPLICATE KEY UPDATE `kind`=VALUES(`kind`)"
                    .to_owned(),
                Expect::Rows(8)
            ),
            (
                "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (21,1),(22,1)".to_owned(),
                Expect::Rows(2)
            ),
        ]
    );
    let planned = planned_by(&mapping(), &changes, Engine::MySql);
    assert!(
        planned[0]
            .0
            .ends_with(" AS incoming ON DUPLICATE KEY UPDATE `kind`=incoming.`kind`"),
        "{planned:?}"
    );
}

#[test]
fn a_row_that_ends_as_it_began_is_written_both_times() {
    let rows = vec![
        update(1, 1, 2),
        update(2, 1, 2),
        update(3, 1, 2),
        update(1, 2, 1),
    ];
    let planned = planned(rows);
    assert_eq!(planned[0].1, Expect::Rows(6));
    assert_eq!(
        planned[1],
        (
            "UPDATE `shop`.`orders` SET `id`=1,`kind`=1 WHERE `id`=1".to_owned(),
            Expect::Rows(1)
        )
    );
}

#[test]
fn an_insert_that_is_deleted_again_still_asks_that_nothing_is_there() {
    let planned = planned(vec![insert(1, 1), delete(1)]);
    assert_eq!(
        sqls(&planned),
        [
            "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,1)",
            "DELETE FROM `shop`.`orders` WHERE (`id`=1)",
        ]
    );
}

#[test]
fn what_is_not_merged_keeps_its_place() {
    let key_change = RowChange::Update {
        before: row(1, 1),
        after: row(2, 1),
    };
    let planned = planned(vec![insert(1, 1), key_change, insert(1, 3)]);
    assert_eq!(
        sqls(&planned),
        [
            "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,1)",
            "UPDATE `shop`.`orders` SET `id`=2,`kind`=1 WHERE `id`=1",
            "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,3)",
        ]
    );
}

/// The statements for changes that come by these fits, in turn.
fn by_fits(changes: &[(TableChange, &Arc<Mapping>)]) -> String {
    let mut plan = Plan::new(false);
    let mut merge = Merge::new(Engine::MariaDb);
    for (change, mapping) in changes {
        merge.change(&mut plan, change, mapping);
    }
    merge.finish(&mut plan);
    let sql: Vec<_> = plan.finish().into_iter().map(|it| it.sql).collect();
    String::from_utf8(sql.concat()).unwrap()
}

#[test]
fn another_definition_of_a_table_comes_after_the_one_before() {
    let (first, mut other) = (mapping(), Mapping::clone(&mapping()));
    other.columns.reverse();
    let second = Arc::new(other);
    let changes = [
        (change(vec![insert(1, 1)]), &first),
        (change(vec![delete(1)]), &second),
        (change(vec![insert(1, 2)]), &first),
    ];
    assert_eq!(
        by_fits(&changes),
        "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,1);\
         DELETE FROM `shop`.`orders` WHERE (`id`=1);\
         INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,2)"
    );
}

#[test]
fn rows_of_tables_that_go_to_one_share_statements_and_keys() {
    let (first, second) = (mapping(), mapping());
    let changes = [
        (change(vec![insert(1, 1)]), &first),
        (change(vec![insert(2, 1)]), &second),
        (change(vec![insert(1, 2)]), &second),
        (change(vec![insert(3, 1)]), &first),
    ];
    // The second row of key 1 is not lost in the first: it is for the server to refuse.
    assert_eq!(
        by_fits(&changes),
        "INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,1),(2,1);\
         INSERT INTO `shop`.`orders` (`id`,`kind`) VALUES (1,2),(3,1)"
    );
}

#[test]
fn only_tables_whose_rows_stand_alone_are_merged() {
    let merges = |change: &dyn Fn(&mut TargetTable)| {
        let mut target = target();
        change(&mut target);
        map(&schema(), &target).unwrap().merges
    };
    assert!(merges(&|_| {}));
    assert!(!merges(&|target| target.foreign = ForeignKeys {
        any: true,
        ..ForeignKeys::default()
    }));
    assert!(!merges(&|target| target.unique.push(UniqueIndex {
        name: "kind".into(),
        columns: vec![Some("kind".into())],
        nullable: true,
    })));
    assert!(!merges(&|target| {
        let mut extra = target.columns[0].clone();
        extra.name = "of_its_own".into();
        target.columns.push(extra);
    }));
    assert!(!merges(
        &|target| target.unique[0].columns = vec![Some("kind".into())]
    ));
}

/// What a server would do, in a model that reads the statements back; what each must report.
fn run(planned: &[(String, Expect)], table: &mut BTreeMap<i64, i64>) -> Result<(), String> {
    for (sql, expect) in planned {
        let numbers: Vec<i64> = sql
            .split(|c: char| !c.is_ascii_digit())
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().unwrap())
            .collect();
        let mut affected = 0;
        if sql.contains("ON DUPLICATE KEY UPDATE") {
            for pair in numbers.chunks(2) {
                let before = table.insert(pair[0], pair[1]);
                affected += if before.is_some_and(|kind| kind != pair[1]) {
                    2
                } else {
                    1
                };
            }
        } else if sql.starts_with("INSERT") {
            for pair in numbers.chunks(2) {
                if table.insert(pair[0], pair[1]).is_some() {
                    return Err(format!("duplicate: {sql}"));
                }
                affected += 1;
            }
        } else if sql.starts_with("UPDATE") {
            if table.remove(&numbers[2]).is_some() {
                if table.insert(numbers[0], numbers[1]).is_some() {
                    return Err(format!("duplicate: {sql}"));
                }
                affected = 1;
            }
        } else {
            assert!(sql.starts_with("DELETE"), "{sql}");
            affected = numbers
                .iter()
                .filter(|id| table.remove(id).is_some())
                .count() as u64;
        }
        if *expect != Expect::Rows(affected) {
            return Err(format!("{affected} rows: {sql}"));
        }
    }
    Ok(())
}

/// A history that a source with these rows can have had, in transactions.
fn history(
    held: &BTreeMap<i64, i64>,
    steps: &[(i64, i64, u16)],
) -> (Vec<TableChange>, BTreeMap<i64, i64>) {
    let mut source = held.clone();
    let kind_of = |kind: i64| u16::try_from(kind).unwrap();
    let mut changes = Vec::new();
    for transaction in steps.chunks(3) {
        let mut rows = Vec::new();
        for (id, to, kind) in transaction {
            let Some(held) = source.get(id).copied() else {
                source.insert(*id, i64::from(*kind));
                rows.push(insert(*id, *kind));
                continue;
            };
            if to % 3 == 0 {
                source.remove(id);
                rows.push(RowChange::Delete {
                    before: row(*id, kind_of(held)),
                });
            } else if to == id || source.contains_key(to) || to % 3 == 1 {
                source.insert(*id, i64::from(*kind));
                rows.push(update(*id, kind_of(held), *kind));
            } else {
                source.remove(id);
                source.insert(*to, i64::from(*kind));
                rows.push(RowChange::Update {
                    before: row(*id, kind_of(held)),
                    after: row(*to, *kind),
                });
            }
        }
        changes.push(change(rows));
    }
    (changes, source)
}

proptest! {
    /// Whatever a source did, the merged statements lead to the same rows and report what they must.
    #[test]
    fn merged_statements_lead_to_what_the_source_had(
        held in prop::collection::btree_map(0i64..8, 1i64..4, 0..6),
        steps in prop::collection::vec((0i64..8, 0i64..8, 1u16..4), 0..60),
    ) {
        let (changes, source) = history(&held, &steps);
        let mut target = held.clone();
        let planned = planned_by(&mapping(), &changes, Engine::MariaDb);
        prop_assert_eq!(run(&planned, &mut target), Ok(()));
        prop_assert_eq!(target, source);
    }

    /// A target in which one of the rows is missing, or one too many is there, is noticed exactly if
    /// it would have been noticed one by one.
    #[test]
    fn what_would_be_noticed_one_by_one_is_noticed(
        held in prop::collection::btree_map(0i64..8, 1i64..4, 0..6),
        steps in prop::collection::vec((0i64..8, 0i64..8, 1u16..4), 0..30),
        wrong in 0i64..8,
    ) {
        let (changes, _) = history(&held, &steps);
        let mut target = held.clone();
        if target.remove(&wrong).is_none() {
            target.insert(wrong, 1);
        }
        let mut one_by_one = Plan::new(true);
        for change in &changes {
            one_by_one.change(change, &mapping());
        }
        let one_by_one: Vec<_> = one_by_one
            .finish()
            .iter()
            .map(|request| (String::from_utf8(request.sql.clone()).unwrap(), request.statements[0].expect))
            .collect();
        let alone = run(&one_by_one, &mut target.clone());
        let merged = planned_by(&mapping(), &changes, Engine::MariaDb);
        let together = run(&merged, &mut target);
        prop_assert_eq!(alone.is_err(), together.is_err(), "{:?} and {:?}", alone, together);
    }
}
