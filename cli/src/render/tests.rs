use crds::LinkPhase;
use model::{MemberRole, Severity};

use super::*;
use crate::diagnose;
use crate::fixtures::{self, call, idc, now};
use crate::plan::{self, Decision, FailoverRequest, Plan, SwitchoverRequest};
use crate::snapshot::assert_snapshot;
use crate::terminal::Paint;
use crate::view::{Complaint, Progress, RequestView, StatusView, UnitPhase};

const PLAIN: Paint = Paint::PLAIN;

fn diagnosed(mut view: StatusView) -> StatusView {
    view.problems = diagnose::problems(&view, &call());
    view
}

#[test]
fn all_is_well() {
    let view = diagnosed(fixtures::status());
    assert_eq!(view.problems, []);
    assert_snapshot("status-well", &status(&view, false, PLAIN));
    assert_snapshot("status-well-wide", &status(&view, true, PLAIN));
    assert_snapshot("status-well-json", &json(&view).unwrap());
    assert_snapshot("status-well-yaml", &yaml(&view).unwrap());
}

#[test]
fn nothing_there() {
    let view = StatusView {
        idcs: Vec::new(),
        units: Vec::new(),
        ..fixtures::status()
    };
    assert_snapshot("status-empty", &status(&diagnosed(view), false, PLAIN));
}

/// The database of the primary is gone; its copy is behind; a link has halted.
fn broken() -> StatusView {
    let mut view = fixtures::status();
    let unit = &mut view.units[0];
    unit.phase = UnitPhase::NoPrimary;
    unit.primary = None;
    unit.members[0].role = MemberRole::Replica;
    unit.members[0].reachable = Some(false);
    unit.members[0].writable = None;
    unit.members[0].lag_millis = None;
    unit.members[0].message = "connect to mysql.sh.example:3306: connection refused".to_owned();
    unit.members[1].lag_millis = Some(7_300);
    unit.members[1]
        .findings
        .push(fixtures::finding(Severity::Blocking));
    unit.links[0].phase = Some(LinkPhase::Halted);
    unit.links[0].message = "table orders.log has no key. Add one.".to_owned();
    unit.links[1].suspended = true;
    unit.links[1].skipped_open = None;
    unit.complaints.push(Complaint {
        condition: "TopologyAgreed".to_owned(),
        reason: "SpecDiffers".to_owned(),
        message: "the operators of sh and bj see different specs".to_owned(),
        since: Some("2026-03-04T05:01:07Z".parse().unwrap()),
    });
    view.idcs[1].arbiter_alive = Some(false);
    view.idcs[1].last_heartbeat = Some("2026-03-04T05:02:00Z".parse().unwrap());
    view.idcs[2].arbiter_alive = None;
    view.idcs[2].last_heartbeat = None;
    view
}

#[test]
fn much_is_wrong() {
    assert_snapshot("status-broken", &status(&diagnosed(broken()), false, PLAIN));
}

#[test]
fn a_primary_that_is_out_of_reach_or_closed() {
    let mut view = fixtures::status();
    view.units[0].members[0].reachable = Some(false);
    view.units[0].paused = true;
    view.units[0].phase = UnitPhase::Paused;
    let mut closed = fixtures::unit();
    closed.unit = "shop/stock".parse().unwrap();
    closed.members[0].writable = Some(false);
    closed.members[0].message = "waits for LOCK TABLES of session 17".to_owned();
    let mut twice = fixtures::unit();
    twice.unit = "shop/users".parse().unwrap();
    twice.members[1].writable = Some(true);
    twice.members[1].stranded = Some(3);
    view.units.extend([closed, twice]);
    view.idcs[0].arbiter_alive = Some(false);
    assert_snapshot(
        "status-primary-lost",
        &status(&diagnosed(view), false, PLAIN),
    );
}

#[test]
fn a_switchover_under_way_is_no_problem_by_itself() {
    let mut view = fixtures::status();
    let unit = &mut view.units[0];
    unit.phase = UnitPhase::SwitchingOver;
    unit.members[0].writable = Some(false);
    unit.under_way = Some(request(Progress::Fenced));
    let view = diagnosed(view);
    assert_eq!(view.problems, []);
    assert_snapshot("status-under-way", &status(&view, false, PLAIN));
}

fn request(progress: Progress) -> RequestView {
    RequestView {
        id: "orders-bj-x7k2p".to_owned(),
        planned: true,
        to: Some(idc("bj")),
        allow_data_loss: false,
        progress,
        requested_at: Some(now()),
    }
}

fn begun(decision: Decision) -> Plan {
    match decision {
        Decision::Begin(plan) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn before_during_and_after_a_switchover() {
    let to = idc("bj");
    let request = SwitchoverRequest {
        to: &to,
        expected_primary: None,
    };
    let unit = fixtures::unit();
    let plan = begun(plan::switchover(&unit, &fixtures::idcs(), &[], request, &call()).unwrap());
    let mut text = topology("Before", &unit, now(), PLAIN);
    text.push_str(&checks(&plan.checks, PLAIN));
    text.push_str(&announcement(&plan, PLAIN));
    let steps = [
        (0, Progress::Pending),
        (15, Progress::Requested),
        (
            120,
            Progress::TargetReady {
                lag_millis: Some(12),
            },
        ),
        (340, Progress::Fenced),
        (
            510,
            Progress::HandedOver {
                epoch: Some(model::Epoch(8)),
            },
        ),
        (
            640,
            Progress::Done {
                epoch: Some(model::Epoch(8)),
            },
        ),
        (
            640,
            Progress::Refused {
                reason: "bj is 12 s behind.".to_owned(),
            },
        ),
        (
            9_100,
            Progress::Cancelled {
                reason: "bj did not catch up within 5 s.".to_owned(),
            },
        ),
    ];
    for (elapsed, step) in steps {
        text.push_str(&progress(&plan, &step, elapsed, PLAIN));
    }
    text.push_str(&receipt_summary(&plan, &fixtures::receipt(8), PLAIN));
    assert_snapshot("switchover", &text);
}

#[test]
fn before_a_failover() {
    let to = idc("bj");
    let mut text = String::new();
    let mut lacking = fixtures::status();
    lacking.units[0].links[0].skipped_open = Some(2);
    lacking.units[0].links[0].conflicts_held = Some(1);
    for (to, view, allow_data_loss) in [
        (Some(&to), fixtures::status(), false),
        (Some(&to), lacking, false),
        (None, broken(), false),
        (Some(&to), broken(), true),
    ] {
        let request = FailoverRequest {
            to,
            allow_data_loss,
            expect_no_primary: false,
        };
        let plan = begun(plan::failover(&view.units[0], request, &call()).unwrap());
        text.push_str(&checks(&plan.checks, PLAIN));
        text.push_str(&announcement(&plan, PLAIN));
        text.push_str(&dry_run(&plan.unit, plan.refusal().is_none(), PLAIN));
        text.push('\n');
    }
    assert_snapshot("failover", &text);
}

#[test]
fn transitions_that_were_made() {
    let mut lost = fixtures::document(8);
    lost.kind = model::TransitionKind::Failover;
    lost.from = Some(idc("sh"));
    lost.to = idc("bj");
    lost.reason = "SessionLost".to_owned();
    lost.write_pause_millis = None;
    let mut first = fixtures::document(1);
    first.kind = model::TransitionKind::First;
    first.from = None;
    let receipts = [(&lost).into(), fixtures::receipt(7), (&first).into()];
    let mut text = history(&receipts, false, now());
    text.push_str(&history(&receipts, true, now()));
    for one in &receipts {
        text.push_str(&receipt(&"shop/orders".parse().unwrap(), one, PLAIN));
    }
    assert_snapshot("history", &text);
}

#[test]
fn colours_change_nothing_but_colours() {
    let view = diagnosed(broken());
    let coloured = status(&view, true, Paint::decide(true, None, None));
    let mut stripped = String::new();
    let mut in_code = false;
    for character in coloured.chars() {
        match character {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => stripped.push(character),
        }
    }
    assert_ne!(coloured, stripped);
    assert_eq!(stripped, status(&view, true, PLAIN));
}

#[test]
fn conditions_say_what_the_rest_has_not_said() {
    let complaint = |condition: &str, reason: &str, message: &str| Complaint {
        condition: condition.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: Some(now()),
    };
    let mut view = fixtures::status();
    view.units[0].complaints = vec![
        complaint("Ready", "EtcdUnreachable", "the operator cannot reach etcd"),
        complaint(
            "Degraded",
            "EtcdUnreachable",
            "the operator cannot reach etcd",
        ),
        complaint(
            "FailoverReady",
            "NoCandidate",
            "No member can take over: bj is too old.",
        ),
    ];
    let mut none = fixtures::unit();
    none.unit = "shop/stock".parse().unwrap();
    none.primary = None;
    none.phase = UnitPhase::NoPrimary;
    none.members
        .iter_mut()
        .for_each(|member| member.writable = Some(false));
    none.complaints = vec![
        complaint(
            "Ready",
            "NoPrimary",
            "Nobody takes the writes; sh did last.",
        ),
        complaint("Degraded", "MemberUnreachable", "said by the member"),
    ];
    let mut new = none.clone();
    new.unit = "shop/users".parse().unwrap();
    new.epoch = model::Epoch::NONE;
    new.complaints = vec![
        complaint("Ready", "SecretMissing", "Secret shop/users-bj is missing."),
        complaint(
            "PreflightPassed",
            "SecretMissing",
            "Secret shop/users-bj is missing.",
        ),
    ];
    let mut alone = fixtures::unit();
    alone.unit = "shop/wares".parse().unwrap();
    alone.complaints = vec![complaint("Degraded", "Lag", "The copy in bj is old.")];
    view.units.extend([none, new, alone]);
    assert_snapshot(
        "status-conditions",
        &problems(&diagnosed(view).problems, now(), PLAIN),
    );
}
