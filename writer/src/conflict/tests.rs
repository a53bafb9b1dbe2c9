use change::{ColumnKind, Value};

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

pub(super) fn row(at: i64, v: i64) -> Row {
    vec![Value::Int(1), Value::Int(at), Value::Int(v)]
}

/// A policy of a link whose both ends take writes.
pub(super) fn policy(resolve: ConflictResolution) -> Policy {
    let settings = ConflictSettings {
        detect: ConflictDetection::BeforeImage,
        resolve,
        both_write: true,
    };
    Policy::of(&settings).unwrap().unwrap()
}

pub(super) fn last(source_priority: u32, target_priority: u32) -> Policy {
    policy(ConflictResolution::LastWriteWins {
        column: "AT".to_owned(),
        source_priority,
        target_priority,
    })
}

fn decide(policy: &Policy, change: &RowChange, there: Option<&Row>) -> Decision {
    decide_at(policy, change, there, false)
}

pub(super) fn decide_at(
    policy: &Policy,
    change: &RowChange,
    there: Option<&Row>,
    disputed: bool,
) -> Decision {
    let (old, new) = match change {
        RowChange::Insert { .. } => (None, there),
        RowChange::Delete { .. } => (there, None),
        RowChange::Update { .. } => (there, there),
    };
    policy
        .decide(&schema(), change, Found { old, new }, false, disputed)
        .unwrap()
}

pub(super) fn change(before: Option<&Row>, after: Option<&Row>) -> Option<RowChange> {
    Some(match (before.cloned(), after.cloned()) {
        (None, Some(after)) => RowChange::Insert { after },
        (Some(before), Some(after)) => RowChange::Update { before, after },
        (Some(before), None) => RowChange::Delete { before },
        (None, None) => return None,
    })
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
        let decision = policy
            .decide(&schema(), &moved, found, true, false)
            .unwrap();
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
            .all(|pair| order::moment(&pair[0]) < order::moment(&pair[1]))
    );
    assert!(order::moment(&Value::Int(-1)) < order::moment(&Value::Int(0)));
    assert!(order::moment(&Value::UInt(u64::MAX)) > order::moment(&Value::UInt(1)));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |detect, resolve| {
        let settings = ConflictSettings {
            detect,
            resolve,
            both_write: false,
        };
        Policy::of(&settings).unwrap_err()
    };
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

#[test]
fn what_both_ends_write_is_refused_where_it_cannot_become_equal() {
    let idcs = |names: &[&str]| -> Vec<IdcName> {
        names
            .iter()
            .map(|name| IdcName::new(*name).unwrap())
            .collect()
    };
    let two = idcs(&["sh", "bj"]);
    for both in [
        policy(ConflictResolution::TargetWins),
        policy(ConflictResolution::SourceWins),
        last(1, 2),
    ] {
        assert_eq!(both.suits(&two, SnapshotMode::Never), Ok(()));
        assert_eq!(both.suits_epochs(None), Ok(()));
        let three = idcs(&["sh", "bj", "gz"]);
        let told = both.suits(&three, SnapshotMode::Never).unwrap_err();
        assert!(told.contains("from sh, bj, gz"), "{told}");
        let told = both.suits(&two, SnapshotMode::IfEmpty).unwrap_err();
        assert!(told.contains("set snapshot.mode: Never"), "{told}");
        let told = both.suits_epochs(Some((3, "sh"))).unwrap_err();
        assert!(told.contains("primary is sh (epoch 3"), "{told}");
    }
    // Under a Unit, whose links say nothing of both ends.
    let settings = ConflictSettings {
        detect: ConflictDetection::BeforeImage,
        resolve: ConflictResolution::SourceWins,
        both_write: false,
    };
    let source = Policy::of(&settings).unwrap().unwrap();
    for one in [source, policy(ConflictResolution::Hold)] {
        assert!(!one.remembers());
        assert_eq!(one.suits(&two, SnapshotMode::IfEmpty), Ok(()));
        assert_eq!(one.suits_epochs(Some((3, "sh"))), Ok(()));
    }
}
