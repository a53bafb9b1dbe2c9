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

/// A person decides.
#[derive(Debug, PartialEq)]
struct Held;

/// What an end makes of a change that comes to it.
fn take(
    policy: &Policy,
    table: &TableSchema,
    there: Option<&Row>,
    change: &RowChange,
) -> Result<Option<Row>, Held> {
    let found = Found {
        old: there,
        new: there,
    };
    match policy.decide(table, change, found, false, false).unwrap() {
        Decision::Apply => Ok(change.after().cloned()),
        Decision::Settled(_, Outcome::Same | Outcome::Added(None)) => Ok(there.cloned()),
        Decision::Settled(_, Outcome::Added(Some(put))) => Ok(put.after().cloned()),
        Decision::Settled(_, Outcome::Held) => Err(Held),
        other => panic!("{other:?}"),
    }
}

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
    take(policy, table, Some(there), &change).ok().flatten()
}

/// What an application does to the row.
#[derive(Debug, Clone)]
enum Write {
    /// So much is added, and that is written into the other column. Puts the row where there is none.
    Add(i64, Option<i64>),
    Remove,
}

/// Two ends, and what is under way from each.
#[derive(Debug, Default)]
struct Ends {
    rows: [Option<Row>; 2],
    under_way: [Vec<RowChange>; 2],
    held: bool,
}

impl Ends {
    fn write(&mut self, end: usize, write: &Write, now: i64) {
        let before = self.rows[end].clone();
        let after = match write {
            Write::Remove => None,
            Write::Add(by, name) => {
                let mut after = before.clone().unwrap_or_else(|| row(0, 0, 0));
                let Value::Int(c) = after[1] else { panic!() };
                after[1] = Value::Int((c + by).clamp(-128, 127));
                if let Some(name) = name {
                    after[2] = Value::Int(*name);
                }
                after[3] = Value::Timestamp(now);
                Some(after)
            }
        };
        let change = match (before, after.clone()) {
            (None, None) => return,
            (None, Some(after)) => RowChange::Insert { after },
            (Some(before), None) => RowChange::Delete { before },
            (Some(before), Some(after)) => RowChange::Update { before, after },
        };
        self.rows[end] = after;
        self.under_way[end].push(change);
    }

    fn hear(&mut self, policy: &Policy, table: &TableSchema, end: usize) {
        if self.under_way[1 - end].is_empty() {
            return;
        }
        let change = self.under_way[1 - end].remove(0);
        match take(policy, table, self.rows[end].as_ref(), &change) {
            Ok(row) => self.rows[end] = row,
            Err(Held) => self.held = true,
        }
    }
}

/// Both ends write and hear of each other in some order: `true` is the first one's turn, which writes, or
/// hears of the other. The clock of the second one is ahead by so much; no two moments are the same.
fn ends(ahead: i64, steps: &[(bool, Option<Write>)]) -> Ends {
    let table = table();
    let policy = policy(&table);
    let start = Some(row(0, 0, 0));
    let mut ends = Ends {
        rows: [start.clone(), start],
        ..Ends::default()
    };
    for (clock, (first, write)) in (1..).zip(steps) {
        let end = usize::from(!first);
        let now = if *first {
            2 * clock
        } else {
            2 * (clock + ahead) + 1
        };
        match write {
            Some(write) => ends.write(end, write, now),
            None => ends.hear(&policy, &table, end),
        }
    }
    while ends.under_way.iter().any(|waiting| !waiting.is_empty()) {
        ends.hear(&policy, &table, 0);
        ends.hear(&policy, &table, 1);
    }
    ends
}

fn added(write: Option<&Write>) -> i64 {
    match write {
        Some(Write::Add(by, _)) => *by,
        _ => 0,
    }
}

fn write(removes: bool) -> impl Strategy<Value = Write> {
    let add = (-3_i64..4, prop::option::of(0_i64..3)).prop_map(|(by, name)| Write::Add(by, name));
    // Near the end of what a TINYINT holds as well.
    let jump = prop_oneof![Just(120_i64), Just(-120)].prop_map(|by| Write::Add(by, None));
    let remove = if removes { 3 } else { 0 };
    prop_oneof![8 => add, 1 => jump, remove => Just(Write::Remove)]
}

/// One end removes the row and puts it again, the other one adds to the former row and removes it: what
/// it has added makes of the two one row, whose removal meets all that it expects.
#[test]
fn a_row_that_is_put_again_is_no_other_row() {
    let add = |by| Some(Write::Add(by, None));
    let steps = [
        (false, Some(Write::Remove)),
        (false, add(0)),
        (true, add(1)),
        (true, Some(Write::Remove)),
    ];
    let ends = ends(0, &steps);
    assert!(ends.held || ends.rows[0] == ends.rows[1], "{ends:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Both ends become equal, or something is held.
    #[test]
    fn ends_are_equal_or_something_is_held(
        ahead in 0_i64..4,
        steps in prop::collection::vec((any::<bool>(), prop::option::of(write(true))), 0..14)
    ) {
        let ends = ends(ahead, &steps);
        prop_assert!(ends.held || ends.rows[0] == ends.rows[1], "{ends:?}");
    }

    /// Where rows are only changed no addition is lost or counted twice, though other columns are held.
    #[test]
    fn what_is_not_held_is_counted_once(
        steps in prop::collection::vec((any::<bool>(), prop::option::of(write(false))), 0..14)
    ) {
        let ends = ends(0, &steps);
        let sum: i64 = steps.iter().map(|(_, write)| added(write.as_ref())).sum();
        let clamped = steps.iter().any(|(_, write)| added(write.as_ref()).abs() > 100);
        if !ends.held && !clamped {
            for end in ends.rows {
                prop_assert_eq!(&end.unwrap()[1], &Value::Int(sum));
            }
        }
    }

    /// Where nothing but counters is written nothing is held, and each addition counts once.
    #[test]
    fn counters_alone_are_never_held(
        steps in prop::collection::vec(
            (any::<bool>(), prop::option::of((-3_i64..4).prop_map(|by| Write::Add(by, None)))),
            0..14,
        )
    ) {
        let ends = ends(0, &steps);
        let sum: i64 = steps.iter().map(|(_, write)| added(write.as_ref())).sum();
        prop_assert!(!ends.held);
        for end in ends.rows {
            prop_assert_eq!(&end.unwrap()[1], &Value::Int(sum));
        }
    }
}

#[test]
fn rows_that_come_to_be_the_same_may_be_two() {
    let table = table();
    let policy = policy(&table);
    let put = |row: &Row| {
        let change = RowChange::Insert { after: row.clone() };
        take(&policy, &table, Some(row), &change)
    };
    assert_eq!(put(&row(1, 0, 5)), Err(Held), "each end has put one");
    assert_eq!(
        put(&row(0, 3, 5)),
        Ok(Some(row(0, 3, 5))),
        "nothing is counted"
    );
    let before = row(1, 0, 5);
    let gone = RowChange::Delete { before };
    assert_eq!(take(&policy, &table, None, &gone), Err(Held));
    // A row that was moved: what is at its new key is what it shall be.
    let moved = |before: Row, after: Row| {
        let change = RowChange::Update {
            before,
            after: after.clone(),
        };
        let found = Found {
            old: None,
            new: Some(&after),
        };
        policy.decide(&table, &change, found, true, false).unwrap()
    };
    let with_key = |key: i64, c: i64| {
        let mut row = row(c, 0, 5);
        row[0] = Value::Int(key);
        row
    };
    let outcome = |decision| match decision {
        Decision::Settled(_, outcome) => outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        outcome(moved(with_key(1, 5), with_key(2, 4))),
        Outcome::Held
    );
    assert_eq!(
        outcome(moved(with_key(1, 5), with_key(2, 5))),
        Outcome::Same
    );
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
