//! The life of a request, from each thing that can be seen of it.

use model::{EpochRecord, ServerIdentity};

use super::*;
use crate::samples::{self, idc_name, versioned};

fn switchover(spec: &str) -> Switchover {
    samples::object(&format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Switchover\n\
         metadata: {{name: move, namespace: shop}}\nspec: {{unit: orders, {spec}}}\n"
    ))
}

fn now() -> Timestamp {
    Timestamp::from_second(1000).unwrap()
}

fn decided(switchover: &Switchover, state: &UnitState) -> Decision {
    let unit = samples::unit();
    let facts = Facts {
        switchover,
        key: &samples::key(),
        unit: Some(&unit),
        units: vec!["orders".to_owned()],
        state,
        findings: Vec::new(),
    };
    decide(&facts, now())
}

fn refused(spec: &str, state: &UnitState) -> String {
    match decided(&switchover(spec), state) {
        Decision::Report(status) if status.phase == Some(SwitchoverPhase::Refused) => {
            status.message.unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_asked() {
    let state = samples::state();
    assert_eq!(
        refused("to: xx", &state),
        "Unit shop/orders has no member in IDC xx; it has bj, sh."
    );
    assert!(refused("to: sh", &state).contains("sh is the primary of Unit shop/orders already"));
    let expected = refused("to: bj, expectedPrimary: gz", &state);
    assert!(
        expected.contains("expected to be gz, but it is sh"),
        "{expected}"
    );
    let none = refused("to: bj, kind: Forced, expectNoPrimary: true", &state);
    assert!(
        none.contains("expected to have no primary, but sh is it, epoch 1"),
        "{none}"
    );
    let mut empty = samples::state();
    empty.primary = None;
    let planned = refused("to: bj", &empty);
    assert!(
        planned.contains("`mactl failover orders --to bj -n shop`"),
        "{planned}"
    );
    empty.unit = None;
    assert!(refused("to: bj", &empty).contains("is not in force yet"));
}

#[test]
fn a_request_is_asked_with_what_was_seen_and_asked_the_same_again() {
    let state = samples::state();
    let mut object = switchover("to: bj");
    let Decision::Ask { status, intent } = decided(&object, &state) else {
        panic!()
    };
    assert_eq!(intent.expected_primary, Some(idc_name("sh")));
    assert_eq!(intent.expected_epoch, Epoch(1));
    assert_eq!(intent.id, "uid-1");

    // Written, but nobody knows whether the intent was: meanwhile the epoch went on.
    object.status = Some(status);
    let mut later = samples::state();
    later.epoch = Some(versioned(EpochRecord {
        epoch: Epoch(2),
        idc: idc_name("bj"),
        identity: ServerIdentity("identity-bj".to_owned()),
        failed_over: Epoch::NONE,
        candidates: Vec::new(),
        highest: Epoch::NONE,
        noted: None,
        boots_fenced: true,
    }));
    later.primary.as_mut().unwrap().value.idc = idc_name("bj");
    let Decision::Ask { intent, .. } = decided(&object, &later) else {
        panic!()
    };
    assert_eq!(
        intent.expected_epoch,
        Epoch(1),
        "etcd refuses it, so it happens once"
    );
    assert_eq!(intent.expected_primary, Some(idc_name("sh")));
}

fn with_intent(phase: IntentPhase) -> UnitState {
    let mut state = samples::state();
    state.intent = Some(versioned(Intent {
        id: "uid-1".to_owned(),
        kind: IntentKind::Planned,
        to: Some(idc_name("bj")),
        expected_primary: Some(idc_name("sh")),
        expected_epoch: Epoch(1),
        allow_data_loss: false,
        requested_at: now(),
        phase,
    }));
    state
}

#[test]
fn a_request_is_followed_to_its_end() {
    let object = switchover("to: bj");
    let state = with_intent(IntentPhase::TargetReady { lag_millis: 3 });
    let Decision::Report(status) = decided(&object, &state) else {
        panic!()
    };
    assert_eq!(status.phase, Some(SwitchoverPhase::TargetReady));

    let state = with_intent(IntentPhase::Done { epoch: Epoch(2) });
    let Decision::Conclude { status, receipt } = decided(&object, &state) else {
        panic!()
    };
    assert_eq!(
        (status.phase, receipt),
        (Some(SwitchoverPhase::Succeeded), Some(Epoch(2)))
    );

    let reason = "bj is 7 s behind".to_owned();
    let state = with_intent(IntentPhase::Refused {
        reason: reason.clone(),
    });
    let Decision::Conclude { status, receipt } = decided(&object, &state) else {
        panic!()
    };
    assert_eq!(status.phase, Some(SwitchoverPhase::Refused));
    assert_eq!((status.message, receipt), (Some(reason), None));
}

#[test]
fn a_finished_request_is_left_alone_until_its_time_is_over() {
    let mut object = switchover("to: bj, ttlAfterFinished: 10m");
    object.status = Some(finish(
        &SwitchoverStatus::default(),
        SwitchoverPhase::Refused,
        String::new(),
        now(),
    ));
    let delete_at = Timestamp::from_second(1600).unwrap();
    assert_eq!(
        decided(&object, &samples::state()),
        Decision::Finished { delete_at }
    );
}

#[test]
fn a_dry_run_asks_nothing() {
    let Decision::Report(status) = decided(&switchover("to: bj, dryRun: true"), &samples::state())
    else {
        panic!()
    };
    assert_eq!(status.phase, Some(SwitchoverPhase::Checked));
    assert_eq!(
        status.message.unwrap(),
        "Dry run: the writes of Unit shop/orders would move from sh to bj."
    );
}

#[test]
fn a_failover_may_meet_the_end_of_a_lease_unless_it_expects_something() {
    let state = samples::state();
    let mut gone = samples::state();
    gone.primary = None;
    let aimed = |spec: &str, before: &UnitState, after: &UnitState| {
        let object = switchover(spec);
        let Decision::Ask { status, .. } = decided(&object, before) else {
            panic!("{spec} is not asked");
        };
        aimed_again(&object.spec, &status, after)
    };
    let forced = "to: bj, kind: Forced";
    let again = aimed(forced, &state, &gone).unwrap();
    assert_eq!((again.from, again.expected_epoch), (None, Some(1)));
    assert_eq!(aimed(forced, &state, &state), None, "nothing has changed");
    let mut later = gone.clone();
    later.epoch.as_mut().unwrap().value.epoch = Epoch(2);
    assert_eq!(aimed(forced, &state, &later), None, "another epoch");
    let none = format!("{forced}, expectNoPrimary: true");
    assert_eq!(aimed(&none, &gone, &state), None, "the primary came back");
    let sh = format!("{forced}, expectedPrimary: sh");
    assert_eq!(aimed(&sh, &state, &gone), None, "it is gone");
    assert_eq!(aimed("to: bj", &state, &gone), None, "planned");
}
