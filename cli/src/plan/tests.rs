use crds::LinkPhase;
use model::{MemberRole, Severity};

use super::*;
use crate::failure::Exit;
use crate::fixtures::{self, call, idc};
use crate::view::{Complaint, Progress};

fn switch(unit: &UnitView, to: &str, expected: Option<&str>) -> Result<Decision, Failure> {
    let (to, expected) = (idc(to), expected.map(idc));
    let request = SwitchoverRequest {
        to: &to,
        expected_primary: expected.as_ref(),
    };
    switchover(unit, &fixtures::idcs(), &[], request, &call())
}

fn fail(unit: &UnitView, to: Option<&str>, expect_no_primary: bool) -> Result<Decision, Failure> {
    let to = to.map(idc);
    let request = FailoverRequest {
        to: to.as_ref(),
        allow_data_loss: false,
        expect_no_primary,
    };
    failover(unit, request, &call())
}

fn plan(decision: Result<Decision, Failure>) -> Plan {
    match decision.unwrap() {
        Decision::Begin(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn refused(unit: &UnitView) -> String {
    let refusal = plan(switch(unit, "bj", None))
        .refusal()
        .expect("nothing stands against it");
    assert_eq!(refusal.exit, Exit::Refused);
    refusal.to_string()
}

#[test]
fn a_switchover_carries_what_was_seen_so_that_it_is_void_when_that_has_changed() {
    let plan = plan(switch(&fixtures::unit(), "bj", None));
    assert_eq!(plan.refusal(), None);
    assert_eq!(
        (plan.from, plan.to, plan.epoch),
        (Some(idc("sh")), Some(idc("bj")), Epoch(7))
    );
}

#[test]
fn an_idc_without_a_member_is_told_with_those_there_are() {
    let failure = switch(&fixtures::unit(), "bk", None).unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    let text = failure.to_string();
    assert!(
        text.contains("no member in IDC bk; its members are in sh, bj"),
        "{text}"
    );
    assert!(
        text.contains("mactl switchover shop/orders --to bj"),
        "{text}"
    );
}

#[test]
fn another_primary_than_expected_refuses() {
    let failure = switch(&fixtures::unit(), "bj", Some("bj")).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(
        failure
            .to_string()
            .contains("expected to be bj, but it is sh")
    );
    let mut none = fixtures::unit();
    none.primary = None;
    assert!(
        switch(&none, "bj", Some("sh"))
            .unwrap_err()
            .to_string()
            .contains("it has none")
    );
}

#[test]
fn the_primary_itself_needs_no_switchover() {
    assert!(matches!(
        switch(&fixtures::unit(), "sh", None),
        Ok(Decision::AlreadySo(_))
    ));
}

#[test]
fn without_a_primary_a_failover_is_named_instead() {
    let mut unit = fixtures::unit();
    unit.primary = None;
    let failure = switch(&unit, "bj", None).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(
        failure
            .to_string()
            .contains("mactl failover shop/orders --to bj --dry-run")
    );
}

#[test]
fn each_thing_that_stands_against_a_switchover_refuses_it() {
    type Break = fn(&mut UnitView);
    let cases: [(&str, Break); 9] = [
        ("does not answer its arbiter", |unit| {
            unit.members[1].reachable = Some(false);
        }),
        ("takes no writes now", |unit| {
            unit.members[0].writable = Some(false);
        }),
        ("more than the Unit's maxLag", |unit| {
            unit.members[1].lag_millis = Some(5_001);
        }),
        (
            "on the primary sh, 2 XA transactions are prepared",
            |unit| {
                unit.members[0].hindrances =
                    Some(vec!["2 XA transactions are prepared there".to_owned()]);
            },
        ),
        ("stranded transaction", |unit| {
            unit.members[1].stranded = Some(1);
        }),
        ("binlog_format is STATEMENT", |unit| {
            unit.members[1]
                .findings
                .push(fixtures::finding(Severity::Blocking));
        }),
        ("preflight of bj has not passed", |unit| {
            unit.members[1].preflight_passed = Some(false);
        }),
        ("link bj → sh is Halted", |unit| {
            unit.links[1].phase = Some(LinkPhase::Halted);
        }),
        ("link sh → bj is suspended", |unit| {
            unit.links[0].suspended = true;
        }),
    ];
    for (words, break_it) in cases {
        let mut unit = fixtures::unit();
        break_it(&mut unit);
        let text = refused(&unit);
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn a_silent_arbiter_on_either_side_refuses_a_switchover() {
    for silent in [0, 1] {
        let mut idcs = fixtures::idcs();
        idcs[silent].arbiter_alive = Some(false);
        let to = idc("bj");
        let request = SwitchoverRequest {
            to: &to,
            expected_primary: None,
        };
        let plan = plan(switchover(&fixtures::unit(), &idcs, &[], request, &call()));
        assert!(
            plan.refusal().is_some(),
            "the arbiter of {} is silent",
            idcs[silent].name
        );
    }
}

#[test]
fn what_is_not_known_is_left_to_the_arbiters() {
    let mut unit = fixtures::unit();
    unit.links.clear();
    for member in &mut unit.members {
        (member.lag_millis, member.reachable, member.writable) = (None, None, None);
    }
    let plan = plan(switch(&unit, "bj", None));
    assert_eq!(plan.refusal(), None);
    assert!(
        plan.checks
            .iter()
            .filter(|check| check.verdict == Verdict::Unknown)
            .count()
            >= 4
    );
    assert_eq!(plan.predicted_pause, None);
}

#[test]
fn the_same_request_is_followed_and_another_one_is_in_the_way() {
    let mut unit = fixtures::unit();
    unit.under_way = Some(RequestView {
        id: "orders-bj-x".to_owned(),
        planned: true,
        to: Some(idc("bj")),
        allow_data_loss: false,
        progress: Progress::Fenced,
        requested_at: None,
    });
    assert!(matches!(
        switch(&unit, "bj", None),
        Ok(Decision::Follow(..))
    ));
    let failure = switch(&unit, "sh", None).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(
        failure
            .to_string()
            .contains("a switchover to bj is under way (orders-bj-x)")
    );
    // A failover is the way out of what is stuck.
    let plan = plan(fail(&unit, Some("bj"), false));
    assert!(
        plan.checks
            .iter()
            .any(|check| check.message.contains("takes its place"))
    );
}

#[test]
fn only_a_failover_to_a_named_idc_does_without_the_primary_that_was_seen() {
    let unit = fixtures::unit();
    assert_eq!(
        plan(switch(&unit, "bj", None)).expected_primary(),
        Some(idc("sh"))
    );
    assert_eq!(
        plan(fail(&unit, None, false)).expected_primary(),
        Some(idc("sh"))
    );
    assert_eq!(
        plan(fail(&unit, Some("bj"), false)).expected_primary(),
        None
    );
}

/// The lost primary's key goes with its lease, which is no reason to begin anew, unless somebody
/// said what they expect.
#[test]
fn only_a_failover_that_expects_nothing_takes_any_primary() {
    let mut unit = fixtures::unit();
    assert!(plan(fail(&unit, Some("bj"), false)).takes_any_primary());
    assert!(!plan(fail(&unit, None, false)).takes_any_primary());
    assert!(!plan(switch(&unit, "bj", None)).takes_any_primary());
    unit.primary = None;
    let request = FailoverRequest {
        to: Some(&idc("bj")),
        allow_data_loss: false,
        expect_no_primary: true,
    };
    let expecting = plan(failover(&unit, request, &call()));
    assert!(!expecting.takes_any_primary());
    assert_eq!(expecting.expected_primary(), None);
    assert!(expecting.command().ends_with("--to bj --expect-no-primary"));
}

#[test]
fn allowing_data_loss_is_another_request_than_not_allowing_it() {
    let mut unit = fixtures::unit();
    unit.under_way = Some(RequestView {
        id: "orders-bj-x".to_owned(),
        planned: false,
        to: Some(idc("bj")),
        allow_data_loss: false,
        progress: Progress::Requested,
        requested_at: None,
    });
    assert!(matches!(
        fail(&unit, Some("bj"), false),
        Ok(Decision::Follow(..))
    ));
    let to = idc("bj");
    let request = FailoverRequest {
        to: Some(&to),
        allow_data_loss: true,
        expect_no_primary: false,
    };
    assert!(matches!(
        failover(&unit, request, &call()),
        Ok(Decision::Begin(_))
    ));
}

#[test]
fn what_has_ended_is_neither_followed_nor_in_the_way() {
    let mut unit = fixtures::unit();
    unit.under_way = Some(RequestView {
        id: "orders-bj-x".to_owned(),
        planned: true,
        to: Some(idc("bj")),
        allow_data_loss: false,
        progress: Progress::Cancelled {
            reason: String::new(),
        },
        requested_at: None,
    });
    assert!(matches!(switch(&unit, "bj", None), Ok(Decision::Begin(_))));
}

#[test]
fn a_failover_that_expects_no_primary_is_refused_where_there_is_one() {
    let failure = fail(&fixtures::unit(), None, true).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    let mut unit = fixtures::unit();
    unit.primary = None;
    assert!(fail(&unit, None, true).is_ok());
}

#[test]
fn a_candidate_too_far_behind_needs_allow_data_loss() {
    let mut unit = fixtures::unit();
    unit.members[1].lag_millis = Some(60_000);
    let refusal = plan(fail(&unit, Some("bj"), false)).refusal().unwrap();
    assert!(
        refusal.to_string().contains("--allow-data-loss --dry-run"),
        "{refusal}"
    );
    let to = idc("bj");
    let request = FailoverRequest {
        to: Some(&to),
        allow_data_loss: true,
        expect_no_primary: false,
    };
    let plan = plan(failover(&unit, request, &call()));
    assert_eq!(plan.refusal(), None);
    assert!(plan.loss.unwrap().contains("its last 60 s"));
}

#[test]
fn a_failover_without_a_target_needs_one_copy_that_can_take_over() {
    let mut unit = fixtures::unit();
    unit.members[0].reachable = Some(false);
    assert_eq!(plan(fail(&unit, None, false)).refusal(), None);
    unit.members[1].preflight_passed = Some(false);
    let refusal = plan(fail(&unit, None, false))
        .refusal()
        .unwrap()
        .to_string();
    assert!(refusal.contains("bj does not pass preflight"), "{refusal}");
}

#[test]
fn the_condition_of_the_unit_stops_a_switchover_but_not_a_failover() {
    let mut unit = fixtures::unit();
    unit.complaints.push(Complaint {
        condition: "PreflightPassed".to_owned(),
        reason: "Unreachable".to_owned(),
        message: "cannot reach sh".to_owned(),
        since: Some(fixtures::now()),
    });
    assert!(refused(&unit).contains("cannot reach sh"));
    assert_eq!(plan(fail(&unit, Some("bj"), false)).refusal(), None);
}

#[test]
fn a_primary_whose_database_died_may_be_failed_over_to_itself() {
    let mut unit = fixtures::unit();
    assert!(matches!(
        fail(&unit, Some("sh"), false),
        Ok(Decision::AlreadySo(_))
    ));
    unit.members[0].writable = Some(false);
    assert!(matches!(
        fail(&unit, Some("sh"), false),
        Ok(Decision::Begin(_))
    ));
    assert_eq!(unit.members[0].role, MemberRole::Primary);
}

#[test]
fn the_prediction_rests_on_this_units_own_switchovers_first() {
    let of = |millis| ReceiptView {
        write_pause_millis: Some(millis),
        ..fixtures::receipt(7)
    };
    let predicted = |receipts: &[ReceiptView]| predicted_pause(Some(40), receipts).unwrap();
    assert_eq!(predicted(&[]).millis, 540);
    assert_eq!(predicted(&[of(300)]).millis, 300);
    let three = predicted(&[of(900), of(300), of(400)]);
    assert_eq!(
        (three.millis, three.basis.contains("last 3 switchovers")),
        (400, true)
    );
    let failover = ReceiptView {
        kind: "Failover".to_owned(),
        ..of(9_000)
    };
    assert_eq!(predicted(&[failover]).millis, 540);
}

#[test]
fn what_the_new_primary_lacks_is_told_and_refuses_nothing() {
    let mut unit = fixtures::unit();
    unit.links[0].skipped_open = Some(2);
    unit.links[0].conflicts_held = Some(1);
    let plans = [
        plan(switch(&unit, "bj", None)),
        plan(fail(&unit, Some("bj"), false)),
        // The rules choose, and bj is all there is to choose from.
        plan(fail(&unit, None, false)),
    ];
    for plan in plans {
        assert_eq!(plan.refusal(), None);
        assert_eq!(plan.lacks.len(), 1, "{:?}", plan.lacks);
        assert_eq!(plan.lacks[0].idc, idc("bj"));
        let document = serde_json::to_value(&plan).unwrap();
        let lacks = &document["lacks"][0];
        assert_eq!(
            (lacks["skipped"].as_u64(), lacks["conflicts"].as_u64()),
            (Some(2), Some(1))
        );
    }
    // By etcd no links are known.
    unit.links.clear();
    let plan = plan(switch(&unit, "bj", None));
    assert!(plan.lacks.len() == 1 && !plan.lacks[0].is_seen());
}
