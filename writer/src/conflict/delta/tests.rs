use std::collections::BTreeSet;

use model::{ConflictDetection, ConflictResolution, ConflictSettings};
use proptest::prelude::*;

use super::*;
use crate::conflict::{Decision, Outcome, Policy};
use crate::replay::verdict::Found;
use crate::target::table::tests::source;
use change::RowChange;

fn table() -> TableSchema {
    source(&[
        ("id", ColumnKind::Int),
        ("c", ColumnKind::TinyInt),
        ("name", ColumnKind::Int),
        ("at", ColumnKind::Timestamp),
    ])
}

fn counters(table: &TableSchema) -> Vec<String> {
    let of = |column: &str| format!("{}.{}.{column}", table.database, table.table);
    vec![of("c"), of("at")]
}

fn policy(table: &TableSchema) -> Policy {
    let settings = ConflictSettings {
        detect: ConflictDetection::BeforeImage,
        resolve: ConflictResolution::Delta {
            counters: counters(table),
        },
        both_write: false,
    };
    Policy::of(&settings).unwrap().unwrap()
}

fn row(c: i64, name: i64, at: i64) -> Row {
    vec![
        Value::Int(1),
        Value::Int(c),
        Value::Int(name),
        Value::Timestamp(at),
    ]
}

/// What an end makes of a change that comes to it; `None` where it is held.
fn come(
    policy: &Policy,
    table: &TableSchema,
    there: &Row,
    (before, after): &(Row, Row),
) -> Option<Row> {
    let change = RowChange::Update {
        before: before.clone(),
        after: after.clone(),
    };
    let found = Found {
        old: Some(there),
        new: Some(there),
    };
    match policy.decide(table, &change, found, false, false).unwrap() {
        Decision::Apply => Some(after.clone()),
        Decision::Settled(_, Outcome::Same) => Some(there.clone()),
        Decision::Settled(_, Outcome::Added(RowChange::Update { after, .. })) => Some(after),
        Decision::Settled(_, Outcome::Held) => None,
        other => panic!("{other:?}"),
    }
}

/// What an application does to the row: so much is added, that is written, or nothing.
type Write = (i64, Option<i64>);

/// Both ends write and hear of each other in some order: `true` is a write of the end's own, the next
/// `bool` says whose turn it is.
fn ends(steps: &[(bool, Option<Write>)]) -> (Vec<Row>, bool) {
    let table = table();
    let policy = policy(&table);
    let start = row(0, 0, 0);
    let mut rows = [start.clone(), start];
    let mut under_way: [Vec<(Row, Row)>; 2] = [Vec::new(), Vec::new()];
    let (mut held, mut clock) = (false, 0);
    let mut hear = |rows: &mut [Row; 2], under_way: &mut [Vec<(Row, Row)>; 2], end: usize| {
        if !under_way[1 - end].is_empty() {
            let change = under_way[1 - end].remove(0);
            match come(&policy, &table, &rows[end], &change) {
                Some(row) => rows[end] = row,
                None => held = true,
            }
        }
    };
    for (first, write) in steps {
        let end = usize::from(!first);
        clock += 1;
        let Some((by, name)) = write else {
            hear(&mut rows, &mut under_way, end);
            continue;
        };
        let before = rows[end].clone();
        let mut after = before.clone();
        let Value::Int(c) = before[1] else { panic!() };
        after[1] = Value::Int((c + by).clamp(-128, 127));
        if let Some(name) = name {
            after[2] = Value::Int(*name);
        }
        after[3] = Value::Timestamp(clock);
        rows[end] = after.clone();
        under_way[end].push((before, after));
    }
    while under_way.iter().any(|waiting| !waiting.is_empty()) {
        hear(&mut rows, &mut under_way, 0);
        hear(&mut rows, &mut under_way, 1);
    }
    (rows.to_vec(), held)
}

proptest! {
    /// Both ends become equal, or something is held.
    #[test]
    fn ends_are_equal_or_something_is_held(
        steps in prop::collection::vec(
            (any::<bool>(), prop::option::of((-3_i64..4, prop::option::of(0_i64..3)))),
            0..14,
        )
    ) {
        let (rows, held) = ends(&steps);
        prop_assert!(held || rows[0] == rows[1], "{rows:?}");
    }

    /// Where nothing but counters is written nothing is held, and each addition counts once.
    #[test]
    fn counters_alone_are_never_held(
        steps in prop::collection::vec((any::<bool>(), prop::option::of((-3_i64..4).prop_map(|by| (by, None)))), 0..14)
    ) {
        let (rows, held) = ends(&steps);
        let sum: i64 = steps.iter().filter_map(|(_, write)| write.map(|(by, _)| by)).sum();
        prop_assert!(!held);
        for end in rows {
            prop_assert_eq!(&end[1], &Value::Int(sum));
        }
    }
}

#[test]
fn additions_that_do_not_fit_and_other_columns_are_for_a_person() {
    let table = table();
    let policy = policy(&table);
    let come = |there: &Row, change: (Row, Row)| come(&policy, &table, there, &change);
    // Added, though both ends came to the same row.
    let both = (row(5, 1, 1), row(6, 1, 2));
    assert_eq!(come(&row(6, 1, 2), both.clone()), Some(row(7, 1, 2)));
    // What another one has written into other columns stays, and its later time.
    assert_eq!(come(&row(5, 9, 7), both), Some(row(6, 9, 7)));
    // Both write another column.
    assert_eq!(come(&row(5, 9, 7), (row(5, 1, 1), row(6, 2, 2))), None);
    // Even if it is the same, where something is added; else only if the whole row is the same.
    assert_eq!(come(&row(8, 2, 7), (row(5, 1, 1), row(6, 2, 2))), None);
    assert_eq!(come(&row(5, 2, 7), (row(5, 1, 1), row(5, 2, 2))), None);
    assert_eq!(
        come(&row(5, 2, 2), (row(5, 1, 1), row(5, 2, 2))),
        Some(row(5, 2, 2))
    );
    // A TINYINT ends at 127.
    assert_eq!(come(&row(127, 1, 1), (row(5, 1, 1), row(6, 1, 1))), None);
    assert_eq!(come(&row(-128, 1, 1), (row(6, 1, 1), row(5, 1, 1))), None);
    // NULL has no sum.
    let mut null = row(0, 1, 1);
    null[1] = Value::Null;
    assert_eq!(come(&null, (row(5, 1, 1), row(6, 1, 1))), None);
}

#[test]
fn counters_are_columns_that_can_be_added_up() {
    let mut table = table();
    let of = |names: &[String], table: &TableSchema| Counters::parse(names).unwrap().of(table);
    let names = counters(&table);
    assert_eq!(
        of(&names, &table)
            .unwrap()
            .into_iter()
            .collect::<BTreeSet<_>>(),
        [1, 3].into()
    );
    table.columns[1].kind = ColumnKind::VarChar;
    let text = of(&names, &table).unwrap_err().to_string();
    assert!(text.contains("column c of table"), "{text}");
    assert!(Counters::parse(&["stock.quantity".to_owned()]).is_err());
    // Another table has none.
    table.table = "other".to_owned();
    assert_eq!(of(&names, &table).unwrap(), Vec::<usize>::new());
}
