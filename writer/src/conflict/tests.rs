use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::target::table::tests::source;

/// `id`, the time of the last write, and something that is never the same twice.
fn schema() -> TableSchema {
    source(&[
        ("id", ColumnKind::Int),
        ("at", ColumnKind::BigInt),
        ("v", ColumnKind::BigInt),
    ])
}

fn row(at: i64, v: i64) -> Row {
    vec![Value::Int(1), Value::Int(at), Value::Int(v)]
}

fn policy(resolve: ConflictResolution) -> Policy {
    let settings = ConflictSettings {
        detect: ConflictDetection::BeforeImage,
        resolve,
    };
    Policy::of(&settings).unwrap().unwrap()
}

fn last(source_priority: u32, target_priority: u32) -> Policy {
    policy(ConflictResolution::LastWriteWins {
        column: "AT".to_owned(),
        source_priority,
        target_priority,
    })
}

fn decide(policy: &Policy, change: &RowChange, there: Option<&Row>) -> Decision {
    let (old, new) = match change {
        RowChange::Insert { .. } => (None, there),
        RowChange::Delete { .. } => (there, None),
        RowChange::Update { .. } => (there, there),
    };
    policy
        .decide(&schema(), change, Found { old, new }, false)
        .unwrap()
}

fn change(before: Option<&Row>, after: Option<&Row>) -> Option<RowChange> {
    Some(match (before.cloned(), after.cloned()) {
        (None, Some(after)) => RowChange::Insert { after },
        (Some(before), Some(after)) => RowChange::Update { before, after },
        (Some(before), None) => RowChange::Delete { before },
        (None, None) => return None,
    })
}

/// A site with one row, and what it has written that the other has not got.
#[derive(Default)]
struct Site {
    row: Option<Row>,
    sent: VecDeque<RowChange>,
}

impl Site {
    fn write(&mut self, after: Option<Row>) {
        if let Some(change) = change(self.row.as_ref(), after.as_ref()) {
            self.sent.push_back(change);
            self.row = after;
        }
    }

    /// Applies a change of the other; says whether it was held.
    fn take(&mut self, policy: &Policy, change: &RowChange) -> bool {
        match decide(policy, change, self.row.as_ref()) {
            Decision::Apply => self.row = change.after().cloned(),
            Decision::Settled(_, Outcome::SourceWon(put)) => self.row = put.after().cloned(),
            Decision::Settled(_, Outcome::Held) => return true,
            Decision::Settled(_, Outcome::Same | Outcome::TargetWon) => {}
            Decision::Halt(kind) => panic!("halted by {kind}"),
        }
        false
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The site writes; the clock moves on by so much before.
    Write(usize, i64),
    Remove(usize),
    /// What the site sent first arrives.
    Arrive(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..2, 0_i64..3).prop_map(|(site, later)| Step::Write(site, later)),
        1 => (0_usize..2).prop_map(Step::Remove),
        4 => (0_usize..2).prop_map(Step::Arrive),
    ];
    prop::collection::vec(step, 1..24)
}

/// What came of it: both rows, and how many changes were held.
struct End {
    rows: [Option<Row>; 2],
    held: usize,
}

/// Runs two sites; `policies` are those of the links that end in them. Nothing returns: no content
/// is written twice, and a row is removed once at most, if it was there in the beginning.
fn run(policies: &[Policy; 2], begun: bool, steps: &[Step], strictly: bool) -> End {
    let mut sites = [Site::default(), Site::default()];
    let (mut clock, mut v) = (0, 0);
    let mut may_remove = begun;
    if begun {
        sites[0].row = Some(row(0, 0));
        sites[1].row = Some(row(0, 0));
    }
    let mut held = 0;
    let mut arrive = |sites: &mut [Site; 2], from: usize| {
        if let Some(change) = sites[from].sent.pop_front() {
            let to = 1 - from;
            held += usize::from(sites[to].take(&policies[to], &change));
        }
    };
    for step in steps {
        match *step {
            Step::Write(site, later) => {
                clock += later + i64::from(strictly);
                v += 1;
                // Bytes that go neither with the clock nor with the site.
                sites[site].write(Some(row(clock, v * 7919 % 1009)));
            }
            Step::Remove(site) if may_remove && sites[site].row.is_some() => {
                may_remove = false;
                sites[site].write(None);
            }
            Step::Remove(_) => {}
            Step::Arrive(from) => arrive(&mut sites, from),
        }
    }
    for from in 0..2 {
        while !sites[from].sent.is_empty() {
            arrive(&mut sites, from);
        }
    }
    End {
        rows: sites.map(|site| site.row),
        held,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn where_one_site_wins_both_end_equal(steps in steps(), begun: bool, first: bool) {
        let pairs = [
            [policy(ConflictResolution::TargetWins), policy(ConflictResolution::SourceWins)],
            [
                policy(ConflictResolution::IdcPriority { source_priority: 50, target_priority: 100 }),
                policy(ConflictResolution::IdcPriority { source_priority: 100, target_priority: 50 }),
            ],
        ];
        for [winner, loser] in pairs {
            let policies = if first { [winner, loser] } else { [loser, winner] };
            let end = run(&policies, begun, &steps, false);
            prop_assert_eq!(end.held, 0);
            prop_assert_eq!(&end.rows[0], &end.rows[1]);
        }
    }

    /// With priorities the clock may stand still between writes, as a column of whole seconds does.
    #[test]
    fn where_the_last_write_wins_both_end_equal_or_something_is_held(
        steps in steps(), begun: bool, first: bool
    ) {
        let (a, b) = if first { (100, 50) } else { (50, 100) };
        let end = run(&[last(b, a), last(a, b)], begun, &steps, false);
        prop_assert!(end.held > 0 || end.rows[0] == end.rows[1], "{:?}", end.rows);
    }

    /// Without, it must move on.
    #[test]
    fn where_the_last_write_wins_by_bytes_both_end_equal_or_something_is_held(
        steps in steps(), begun: bool
    ) {
        let end = run(&[last(7, 7), last(7, 7)], begun, &steps, true);
        prop_assert!(end.held > 0 || end.rows[0] == end.rows[1], "{:?}", end.rows);
    }

    #[test]
    fn without_removals_the_last_write_wins_and_nothing_is_held(steps in steps(), begun: bool) {
        let steps: Vec<Step> = steps
            .into_iter()
            .filter(|step| !matches!(step, Step::Remove(_)))
            .collect();
        let end = run(&[last(1, 2), last(2, 1)], begun, &steps, false);
        prop_assert_eq!(end.held, 0);
        prop_assert_eq!(&end.rows[0], &end.rows[1]);
    }

    /// What nobody decides makes nothing equal, and what is not held does not differ.
    #[test]
    fn what_is_held_is_all_that_differs(steps in steps(), begun: bool) {
        let hold = || policy(ConflictResolution::Hold);
        let end = run(&[hold(), hold()], begun, &steps, false);
        prop_assert!(end.held > 0 || end.rows[0] == end.rows[1], "{:?}", end.rows);
    }
}

/// The limit of every comparison of rows, told in the head of the module: A's row returns to what
/// it was, so that B's change meets the row that it expects there, while B has A's.
#[test]
fn a_row_that_returns_is_not_seen_to_have_changed() {
    let policies = [
        policy(ConflictResolution::TargetWins),
        policy(ConflictResolution::SourceWins),
    ];
    let start = row(0, 0);
    let site = || Site {
        row: Some(start.clone()),
        sent: VecDeque::new(),
    };
    let (mut a, mut b) = (site(), site());
    a.write(Some(row(1, 1)));
    a.write(Some(start.clone()));
    b.write(Some(row(2, 2)));
    assert!(!a.take(&policies[0], &b.sent[0]));
    for change in &a.sent {
        assert!(!b.take(&policies[1], change));
    }
    assert_eq!((a.row, b.row), (Some(row(2, 2)), Some(start)));
}

#[test]
fn each_kind_is_told_and_each_policy_acts_on_it() {
    use ConflictKind as K;
    use Outcome as O;
    let (before, after, other) = (row(1, 1), row(2, 2), row(3, 3));
    let insert = change(None, Some(&after)).unwrap();
    let update = change(Some(&before), Some(&after)).unwrap();
    let delete = change(Some(&before), None).unwrap();
    let cases: [(&RowChange, Option<&Row>, K, Option<RowChange>); 7] = [
        (
            &insert,
            Some(&other),
            K::InsertExists,
            change(Some(&other), Some(&after)),
        ),
        (&update, None, K::UpdateMissing, change(None, Some(&after))),
        (
            &update,
            Some(&other),
            K::UpdateDiffers,
            change(Some(&other), Some(&after)),
        ),
        (
            &delete,
            Some(&other),
            K::DeleteDiffers,
            change(Some(&other), None),
        ),
        // Both sides came to the same.
        (&insert, Some(&after), K::InsertExists, None),
        (&update, Some(&after), K::UpdateDiffers, None),
        (&delete, None, K::DeleteMissing, None),
    ];
    for (change, there, kind, put) in cases {
        let settled = |resolve| match decide(&policy(resolve), change, there) {
            Decision::Settled(of, outcome) => {
                assert_eq!(of, kind);
                outcome
            }
            other => panic!("{other:?}"),
        };
        let won = put.map_or(O::Same, O::SourceWon);
        let same = won == O::Same;
        let or_same = |outcome: O| if same { O::Same } else { outcome };
        assert_eq!(settled(ConflictResolution::SourceWins), won);
        assert_eq!(
            settled(ConflictResolution::TargetWins),
            or_same(O::TargetWon)
        );
        assert_eq!(settled(ConflictResolution::Hold), or_same(O::Held));
        assert_eq!(
            decide(&policy(ConflictResolution::Halt), change, there),
            Decision::Halt(kind)
        );
    }
    for (change, there) in [
        (&insert, None),
        (&update, Some(&before)),
        (&delete, Some(&before)),
    ] {
        let hold = policy(ConflictResolution::Hold);
        assert_eq!(decide(&hold, change, there), Decision::Apply);
    }
}

#[test]
fn what_concerns_two_rows_is_held() {
    let (before, after, other) = (row(1, 1), row(2, 2), row(3, 3));
    let moved = change(Some(&before), Some(&after)).unwrap();
    for resolve in [
        ConflictResolution::SourceWins,
        ConflictResolution::TargetWins,
    ] {
        let policy = policy(resolve);
        let found = Found {
            old: Some(&other),
            new: None,
        };
        let decision = policy.decide(&schema(), &moved, found, true).unwrap();
        let held = Decision::Settled(ConflictKind::UpdateDiffers, Outcome::Held);
        assert_eq!(decision, held);
        let held = Decision::Settled(ConflictKind::UniqueClash, Outcome::Held);
        assert_eq!(policy.clash(), held);
    }
    let halt = policy(ConflictResolution::Halt);
    assert_eq!(halt.clash(), Decision::Halt(ConflictKind::UniqueClash));
}

#[test]
fn ties_end_by_priority_and_then_by_bytes() {
    let (low, high) = (row(5, 1), row(5, 2));
    let outcome = |policy: &Policy, source: &Row, target: &Row| {
        let insert = change(None, Some(source)).unwrap();
        match decide(policy, &insert, Some(target)) {
            Decision::Settled(_, Outcome::SourceWon(_)) => Side::Source,
            Decision::Settled(_, Outcome::TargetWon) => Side::Target,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome(&last(9, 1), &low, &high), Side::Source);
    assert_eq!(outcome(&last(1, 9), &high, &low), Side::Target);
    // Equal ones: the greater bytes, whichever side they are on.
    assert_eq!(outcome(&last(1, 1), &high, &low), Side::Source);
    assert_eq!(outcome(&last(1, 1), &low, &high), Side::Target);
    // NULL is before every time, and a later time before any priority.
    let never = vec![Value::Int(1), Value::Null, Value::Int(9)];
    assert_eq!(outcome(&last(9, 1), &never, &low), Side::Target);
    assert_eq!(outcome(&last(9, 1), &row(4, 1), &low), Side::Target);
}

#[test]
fn times_are_ordered_as_time_goes() {
    use change::{Date, DateTime};
    let date = |year, month, day| Date { year, month, day };
    let at = |date, hour, micros| {
        Value::DateTime(DateTime {
            date,
            hour,
            micros,
            ..DateTime::default()
        })
    };
    let ordered = [
        Value::Null,
        at(date(2025, 12, 31), 23, 0),
        at(date(2026, 1, 1), 0, 1),
        at(date(2026, 1, 1), 0, 2),
        at(date(2026, 1, 1), 1, 0),
        at(date(2026, 1, 2), 0, 0),
    ];
    assert!(
        ordered
            .windows(2)
            .all(|pair| moment(&pair[0]) < moment(&pair[1]))
    );
    assert!(moment(&Value::Int(-1)) < moment(&Value::Int(0)));
    assert!(moment(&Value::UInt(u64::MAX)) > moment(&Value::UInt(1)));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |detect, resolve| Policy::of(&ConflictSettings { detect, resolve }).unwrap_err();
    let by_key = refused(ConflictDetection::Key, ConflictResolution::SourceWins);
    assert!(by_key.contains("detect BeforeImage"), "{by_key}");
    let even = ConflictResolution::IdcPriority {
        source_priority: 100,
        target_priority: 100,
    };
    let even = refused(ConflictDetection::BeforeImage, even);
    assert!(even.contains("different priorities"), "{even}");
    assert_eq!(Policy::of(&ConflictSettings::default()), Ok(None));
    let last = |column: &str| {
        let column = column.to_owned();
        let policy = policy(ConflictResolution::LastWriteWins {
            column,
            source_priority: 1,
            target_priority: 2,
        });
        let table = source(&[("id", ColumnKind::Int), ("note", ColumnKind::VarChar)]);
        policy.fits(&table)
    };
    assert_eq!(last("ID"), Ok(()));
    assert!(matches!(last("note"), Err(NoOrder::Kind { .. })));
    assert!(matches!(last("gone"), Err(NoOrder::Missing { .. })));
}
