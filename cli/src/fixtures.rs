//! A small topology for tests: Unit `shop/orders` with its primary in `sh` and a copy in `bj`.

use crds::LinkPhase;
use jiff::Timestamp;
use model::{
    Epoch, Finding, IdcName, IdcRole, MemberRole, Phase, PositionText, Receipt, Severity,
    TransitionKind,
};

use crate::args::KubeArgs;
use crate::invocation::Invocation;
use crate::view::{IdcView, LinkView, MemberView, ReceiptView, StatusView, UnitPhase, UnitView};

pub fn now() -> Timestamp {
    "2026-03-04T05:06:07Z".parse().unwrap()
}

pub fn idc(name: &str) -> IdcName {
    IdcName::new(name).unwrap()
}

pub fn call() -> Invocation {
    Invocation::new("mactl", &KubeArgs::default(), None)
}

pub fn member(name: &str, role: MemberRole) -> MemberView {
    let primary = role == MemberRole::Primary;
    MemberView {
        idc: idc(name),
        endpoint: format!("mysql.{name}.example:3306"),
        priority: if primary { 100 } else { 50 },
        role,
        writable: Some(primary),
        reachable: Some(true),
        lag_millis: (!primary).then_some(40),
        lag_at_most: false,
        position: Some(PositionText("0-1-4711".to_owned())),
        stranded: Some(0),
        hindrances: Some(Vec::new()),
        preflight_passed: None,
        fence_order: None,
        findings: Vec::new(),
        message: String::new(),
    }
}

pub fn link(source: &str, target: &str) -> LinkView {
    LinkView {
        name: format!("orders-{source}-{target}"),
        source: idc(source),
        target: idc(target),
        phase: Some(LinkPhase::Streaming),
        suspended: false,
        lag_millis: Some(35),
        conflicts: 0,
        conflicts_held: Some(0),
        skipped_open: Some(0),
        message: String::new(),
        since: None,
    }
}

pub fn unit() -> UnitView {
    UnitView {
        unit: "shop/orders".parse().unwrap(),
        phase: UnitPhase::Ready,
        primary: Some(idc("sh")),
        epoch: Epoch(7),
        paused: false,
        paused_by_spec: false,
        pause_order: None,
        max_lag_millis: 5_000,
        automatic_failover: true,
        automation_known: true,
        members: vec![
            member("sh", MemberRole::Primary),
            member("bj", MemberRole::Replica),
        ],
        links: vec![link("sh", "bj"), link("bj", "sh")],
        under_way: None,
        last_transition: Some(receipt(7)),
        complaints: Vec::new(),
    }
}

pub fn idcs() -> Vec<IdcView> {
    [
        ("sh", IdcRole::Data, 1),
        ("bj", IdcRole::Data, 0),
        ("wt", IdcRole::Witness, 0),
    ]
    .into_iter()
    .map(|(name, role, primaries)| IdcView {
        name: idc(name),
        role,
        arbiter_alive: Some(true),
        last_heartbeat: Some("2026-03-04T05:06:05Z".parse().unwrap()),
        version: Some("0.1.0".to_owned()),
        holder: Some(format!("arbiter-{name}-0")),
        message: String::new(),
        primaries,
    })
    .collect()
}

pub fn status() -> StatusView {
    StatusView {
        source: "the Kubernetes API at https://10.0.0.1:6443/".to_owned(),
        at: now(),
        operator_seen: Some("2026-03-04T05:06:04Z".parse().unwrap()),
        problems: Vec::new(),
        idcs: idcs(),
        units: vec![unit()],
    }
}

pub fn receipt(epoch: u64) -> ReceiptView {
    ReceiptView::from(&document(epoch))
}

pub fn document(epoch: u64) -> Receipt {
    let phase = |name: &str, millis| Phase {
        name: name.to_owned(),
        millis,
    };
    Receipt {
        epoch: Epoch(epoch),
        kind: TransitionKind::Switchover,
        from: Some(idc("bj")),
        to: idc("sh"),
        reason: "Requested".to_owned(),
        message: "a switchover to sh was asked for".to_owned(),
        started_at: "2026-03-04T04:00:00Z".parse().unwrap(),
        opened_at: "2026-03-04T04:00:01.2Z".parse().unwrap(),
        write_pause_millis: Some(312),
        proof: None,
        applied: Some(PositionText("0-1-4700".to_owned())),
        phases: vec![
            phase("Fence", 42),
            phase("CatchUp", 150),
            phase("HandOver", 20),
            phase("Promote", 100),
        ],
        automatic: false,
        votes: std::collections::BTreeMap::new(),
        may_be_lost_millis: Some(0),
        stranded: None,
    }
}

pub fn finding(severity: Severity) -> Finding {
    Finding {
        severity,
        check: "BinlogFormat".to_owned(),
        object: "member bj (mysql.bj.example:3306)".to_owned(),
        message: "binlog_format is STATEMENT.".to_owned(),
        fix: "SET PERSIST binlog_format = 'ROW';".to_owned(),
    }
}
