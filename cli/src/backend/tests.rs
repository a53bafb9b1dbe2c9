//! Both sources give the same views.

use std::collections::BTreeMap;

use crds::{Idc, LinkPhase, Switchover, SyncLink, Unit};
use model::{
    ArbiterStatus, Epoch, EpochRecord, Intent, IntentKind, IntentPhase, MemberRecord, MemberRole,
    MemberStatus, PrimaryRecord, Revision, ServerIdentity, UnitKey, UnitState, Versioned,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::idc;
use crate::view::UnitPhase;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn key() -> UnitKey {
    "shop/orders".parse().unwrap()
}

fn unit(status: &Value) -> Unit {
    let member = |idc: &str, priority: u32| {
        json!({"idc": idc, "endpoint": {"host": format!("mysql.{idc}.example")},
               "credentialsSecret": format!("orders-{idc}"), "priority": priority})
    };
    object(json!({
        "apiVersion": "multiactive.dev/v1alpha1", "kind": "Unit",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"databases": ["orders"], "members": [member("sh", 100), member("bj", 50)]},
        "status": status,
    }))
}

fn ready() -> Value {
    json!({
        "phase": "Ready", "primary": "sh", "epoch": 7,
        "members": [
            {"idc": "sh", "role": "Primary", "writable": true, "position": "0-1-4711"},
            {"idc": "bj", "role": "Replica", "writable": false, "lag": "40ms"},
        ],
        "lastTransition": {"kind": "Failover", "from": "bj", "to": "sh", "epoch": 7,
            "reason": "SessionLost", "message": "m", "at": "2026-03-04T05:00:00Z",
            "receipt": "mactl receipt orders 7"},
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Open", "message": "",
             "lastTransitionTime": "2026-03-04T05:00:00Z"},
            {"type": "FailoverReady", "status": "False", "reason": "Lag", "message": "bj is behind",
             "lastTransitionTime": "2026-03-04T05:00:00Z"},
        ],
    })
}

fn an_idc(name: &str, state: &str, reachable: bool) -> Idc {
    object(json!({
        "apiVersion": "multiactive.dev/v1alpha1", "kind": "Idc", "metadata": {"name": name},
        "spec": {"role": "Data"},
        "status": {"arbiter": {"state": state, "version": "0.1.0"}, "primaries": 1,
                   "members": [{"unit": "shop/orders", "reachable": reachable}]},
    }))
}

fn request(name: &str, created: &str, status: &Value) -> Switchover {
    object(json!({
        "apiVersion": "multiactive.dev/v1alpha1", "kind": "Switchover",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created},
        "spec": {"unit": "orders", "to": "bj"}, "status": status,
    }))
}

#[test]
fn a_custom_resource_becomes_a_view() {
    let idcs = [an_idc("sh", "Active", true), an_idc("bj", "Lost", false)];
    let link: SyncLink = object(json!({
        "apiVersion": "multiactive.dev/v1alpha1", "kind": "SyncLink",
        "metadata": {"name": "orders-sh-bj", "namespace": "shop"},
        "spec": {"unit": "orders", "source": {"idc": "sh"}, "target": {"idc": "bj"}},
        "status": {"phase": "Halted", "conditions": [{"type": "Ready", "status": "False",
            "reason": "NoKey", "message": "table orders.log has no key",
            "lastTransitionTime": "2026-03-04T05:00:00Z"}]},
    }));
    let requests = [
        request(
            "old",
            "2026-03-04T04:00:00Z",
            &json!({"phase": "Succeeded"}),
        ),
        request("new", "2026-03-04T05:00:00Z", &json!({"phase": "Fenced"})),
    ];
    let view = kube_view::unit(&unit(&ready()), &[link], &requests, &idcs).unwrap();
    assert_eq!(
        (view.unit, view.phase, view.epoch),
        (key(), UnitPhase::Ready, Epoch(7))
    );
    assert_eq!(view.members[1].endpoint, "mysql.bj.example:3306");
    assert_eq!(view.members[1].lag_millis, Some(40));
    assert_eq!(
        (view.members[0].reachable, view.members[1].reachable),
        (Some(true), Some(false))
    );
    assert_eq!(view.links[0].phase, Some(LinkPhase::Halted));
    assert_eq!(view.links[0].message, "table orders.log has no key");
    assert_eq!(view.under_way.unwrap().id, "new");
    assert_eq!(view.complaints.len(), 1);
    assert_eq!(view.complaints[0].condition, "FailoverReady");
    let idcs: Vec<_> = idcs.iter().filter_map(kube_view::idc).collect();
    assert_eq!(
        (idcs[0].arbiter_alive, idcs[1].arbiter_alive),
        (Some(true), Some(false))
    );
}

#[test]
fn what_is_left_for_a_person_does_not_stand_in_the_way_of_a_link() {
    let link = |figures: &Value, reason: &str| {
        let mut status = json!({"phase": "Streaming", "conditions": [
            {"type": "Ready", "status": "True", "reason": "Streaming", "message": "",
             "lastTransitionTime": "2026-03-04T05:00:00Z"},
            {"type": "Degraded", "status": "True", "reason": reason, "message": "bj lacks some.",
             "lastTransitionTime": "2026-03-04T05:00:00Z"}]});
        for (key, value) in figures.as_object().unwrap() {
            status[key] = value.clone();
        }
        let link: SyncLink = object(json!({
            "apiVersion": "multiactive.dev/v1alpha1", "kind": "SyncLink",
            "metadata": {"name": "orders-sh-bj", "namespace": "shop"},
            "spec": {"unit": "orders", "source": {"idc": "sh"}, "target": {"idc": "bj"}},
            "status": status,
        }));
        let view = kube_view::unit(&unit(&ready()), &[link], &[], &[]).unwrap();
        view.links[0].clone()
    };
    let counted = json!({"conflictsHeld": 0, "skippedOpen": 2});
    let skipped = link(&counted, "TransactionsSkipped");
    assert_eq!(
        (skipped.skipped_open, skipped.message.as_str()),
        (Some(2), "")
    );
    assert_eq!(link(&counted, "CatchingUp").message, "bj lacks some.");
    // The operator of an earlier release has no figures, so its words are all there is.
    let uncounted = link(&json!({}), "ConflictsHeld");
    assert_eq!(uncounted.skipped_open, None);
    assert_eq!(uncounted.message, "bj lacks some.");
}

#[test]
fn nothing_reported_yet_is_nothing_known() {
    let view = kube_view::unit(&unit(&Value::Null), &[], &[], &[]).unwrap();
    assert_eq!(
        (view.phase, view.primary, view.epoch),
        (UnitPhase::Unknown, None, Epoch::NONE)
    );
    assert!(view.members.iter().all(|member| member.writable.is_none()));
    assert!(
        view.members
            .iter()
            .all(|member| member.role == MemberRole::Unknown)
    );
}

#[test]
fn every_phase_of_a_request_is_told() {
    let told = |phase: &str| {
        let status = json!({"phase": phase, "epoch": 8, "message": "because"});
        kube_view::progress(&request("r", "2026-03-04T05:00:00Z", &status))
    };
    assert_eq!(told("Pending"), Progress::Pending);
    assert_eq!(
        told("HandedOver"),
        Progress::HandedOver {
            epoch: Some(Epoch(8))
        }
    );
    assert_eq!(
        told("Succeeded"),
        Progress::Done {
            epoch: Some(Epoch(8))
        }
    );
    assert_eq!(
        told("Refused"),
        Progress::Refused {
            reason: "because".to_owned()
        }
    );
    assert_eq!(
        told("Cancelled"),
        Progress::Cancelled {
            reason: "because".to_owned()
        }
    );
    let new = request("r", "2026-03-04T05:00:00Z", &Value::Null);
    assert_eq!(kube_view::progress(&new), Progress::Pending);
}

#[test]
fn receipts_of_requests_and_the_last_transition_make_one_list() {
    let receipt = |epoch: u64| {
        json!({"phase": "Succeeded", "from": "sh", "to": "bj", "epoch": epoch, "writePause": "312ms",
            "receipt": {"epoch": epoch, "kind": "Switchover", "reason": "Requested", "message": "m",
                "startedAt": "2026-03-04T04:00:00Z", "openedAt": "2026-03-04T04:00:01Z",
                "phases": [{"name": "Fence", "duration": "40ms"}]}})
    };
    let requests = [
        request("a", "2026-03-04T04:00:00Z", &receipt(5)),
        request("b", "2026-03-04T04:30:00Z", &receipt(6)),
    ];
    let list = kube_view::receipts(&unit(&ready()), &requests);
    let epochs: Vec<u64> = list.iter().map(|receipt| receipt.epoch.0).collect();
    assert_eq!(epochs, [7, 6, 5]);
    assert_eq!(list[1].write_pause_millis, Some(312));
    assert_eq!(list[1].phases[0].millis, 40);
    // The last transition is there once, with its full receipt.
    let again = kube_view::receipts(
        &unit(&ready()),
        &[request("c", "2026-03-04T05:00:00Z", &receipt(7))],
    );
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].phases.len(), 1);
}

fn versioned<T>(value: T) -> Versioned<T> {
    Versioned {
        value,
        revision: Revision(3),
        lease: None,
    }
}

fn identity(name: &str) -> ServerIdentity {
    ServerIdentity(name.to_owned())
}

fn record(reachable: bool, fenced: bool, preflight_passed: bool) -> Versioned<MemberRecord> {
    versioned(object(json!({
        "identity": "i", "boot": 1, "reachable": reachable, "fenced": fenced,
        "preflightPassed": preflight_passed, "hasData": true,
    })))
}

fn state() -> UnitState {
    let spec = unit(&Value::Null).spec;
    UnitState {
        unit: Some(versioned(spec.document("uid", 1))),
        epoch: Some(versioned(EpochRecord {
            epoch: Epoch(7),
            idc: idc("sh"),
            identity: identity("i"),
            failed_over: Epoch::NONE,
            candidates: Vec::new(),
            highest: Epoch::NONE,
            noted: None,
            boots_fenced: true,
        })),
        primary: Some(versioned(PrimaryRecord {
            idc: idc("sh"),
            epoch: Epoch(7),
            identity: identity("i"),
            open: true,
        })),
        members: BTreeMap::from([
            (idc("sh"), record(true, false, true)),
            (idc("bj"), record(true, true, true)),
        ]),
        ..UnitState::default()
    }
}

fn of_etcd(state: &UnitState) -> UnitView {
    etcd_view::unit(&key(), state, &BTreeMap::new()).unwrap()
}

#[test]
fn etcd_gives_the_same_view_as_far_as_it_knows() {
    let view = of_etcd(&state());
    assert_eq!(
        (view.phase, view.primary.clone(), view.epoch),
        (UnitPhase::Ready, Some(idc("sh")), Epoch(7))
    );
    assert_eq!(view.members[0].role, MemberRole::Primary);
    assert_eq!(view.members[0].writable, Some(true));
    assert_eq!(view.members[1].writable, Some(false));
    assert_eq!(view.members[1].lag_millis, None);
    assert_eq!(view.max_lag_millis, 5_000);
    let gone = UnitState {
        unit: None,
        ..state()
    };
    assert_eq!(etcd_view::unit(&key(), &gone, &BTreeMap::new()), None);
}

#[test]
fn an_arbiter_that_answers_adds_what_etcd_does_not_hold() {
    let status = MemberStatus {
        role: MemberRole::Replica,
        writable: false,
        reachable: true,
        epoch: Epoch(7),
        position: None,
        lag_millis: Some(12),
        findings: Vec::new(),
        message: "waits".to_owned(),
        failover: model::FailoverStatus::default(),
        stranded: 0,
        filed: 0,
        crowded: None,
        full: String::new(),
        hindrances: None,
        application: String::new(),
    };
    let report = ArbiterStatus {
        idc: idc("bj"),
        version: "0.1.0".to_owned(),
        session: true,
        last_keep_alive: None,
        units: BTreeMap::from([(key(), status)]),
        doubts: BTreeMap::new(),
    };
    let mut reports = BTreeMap::from([(idc("bj"), report.clone())]);
    let view = etcd_view::unit(&key(), &state(), &reports).unwrap();
    assert_eq!(view.members[1].lag_millis, Some(12));
    assert_eq!(view.members[1].message, "waits");
    assert!(view.complaints.is_empty(), "{:?}", view.complaints);
    // A witness takes no part and nobody else says why.
    let doubt = model::FailoverStatus {
        ready: false,
        reason: model::FailoverStatus::ETCD_WENT_BACK.to_owned(),
        message: "etcd shows less".to_owned(),
    };
    let witness = ArbiterStatus {
        idc: idc("witness"),
        units: BTreeMap::new(),
        doubts: BTreeMap::from([(key(), doubt)]),
        ..report
    };
    reports.insert(idc("witness"), witness);
    let view = etcd_view::unit(&key(), &state(), &reports).unwrap();
    assert_eq!(view.complaints[0].message, "etcd shows less.");
}

#[test]
fn the_phase_follows_from_what_etcd_holds() {
    let phase = |change: fn(&mut UnitState)| {
        let mut state = state();
        change(&mut state);
        of_etcd(&state).phase
    };
    assert_eq!(
        phase(|state| state.primary.as_mut().unwrap().value.open = false),
        UnitPhase::Electing
    );
    assert_eq!(phase(|state| state.primary = None), UnitPhase::Electing);
    assert_eq!(
        phase(|state| (state.primary, state.members) = (None, BTreeMap::new())),
        UnitPhase::NoPrimary
    );
    assert_eq!(
        phase(|state| state.unit.as_mut().unwrap().value.paused = true),
        UnitPhase::Paused
    );
    assert_eq!(
        phase(|state| state.intent = Some(versioned(intent(IntentPhase::Requested)))),
        UnitPhase::SwitchingOver
    );
    assert_eq!(
        phase(|state| state.intent = Some(versioned(intent(IntentPhase::Done { epoch: Epoch(7) })))),
        UnitPhase::Ready
    );
}

fn intent(phase: IntentPhase) -> Intent {
    Intent {
        id: "i".to_owned(),
        kind: IntentKind::Planned,
        to: Some(idc("bj")),
        expected_primary: Some(idc("sh")),
        expected_epoch: Epoch(7),
        allow_data_loss: false,
        requested_at: crate::fixtures::now(),
        phase,
    }
}

#[test]
fn a_member_whose_arbiter_is_gone_is_not_called_writable() {
    let mut state = state();
    state.members.remove(&idc("bj"));
    let view = of_etcd(&state);
    assert_eq!(
        (view.members[1].writable, view.members[1].reachable),
        (None, None)
    );
    assert!(
        view.members[1]
            .message
            .contains("arbiter of bj has no session")
    );
    state.members.insert(idc("bj"), record(false, false, true));
    assert_eq!(
        of_etcd(&state).members[1].writable,
        None,
        "out of reach, the last look is old"
    );
}

#[test]
fn an_unknown_unit_is_answered_with_what_may_have_been_meant() {
    let known = [key()];
    let wanted: UnitKey = "shop/odrers".parse().unwrap();
    let text = unknown_unit(&wanted, &known, "etcd", &crate::fixtures::call()).to_string();
    assert!(text.contains("did you mean shop/orders?"), "{text}");
    let stranger: UnitKey = "shop/zebra".parse().unwrap();
    let text = unknown_unit(&stranger, &known, "etcd", &crate::fixtures::call()).to_string();
    assert!(text.contains("mactl status -A"), "{text}");
}
