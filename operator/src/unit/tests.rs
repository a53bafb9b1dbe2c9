//! What a Unit's status says in the situations of its life.

use std::collections::BTreeMap;

use crds::{LinkPhase, UnitPhase, UnitStatus, condition};
use jiff::Timestamp;
use model::{Finding, MemberRole, MemberStatus, PositionText, Severity, UnitState};

use super::report::{Facts, LinkFacts, notices, status, worth_writing};
use super::{Problem, UnitView};
use crate::samples::{self, idc_name, key};
use crate::transport::{Certificates, Expiry};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn said(lag: Option<u64>) -> MemberStatus {
    MemberStatus {
        role: MemberRole::Replica,
        writable: false,
        reachable: true,
        epoch: model::Epoch(1),
        position: Some(PositionText("0-1-5".to_owned())),
        lag_millis: lag,
        findings: Vec::new(),
        message: String::new(),
        failover: model::FailoverStatus {
            ready: true,
            ..model::FailoverStatus::default()
        },
        stranded: 0,
        filed: 0,
        crowded: None,
        full: String::new(),
        hindrances: None,
        application: String::new(),
    }
}

struct World {
    unit: crds::Unit,
    state: Option<UnitState>,
    trouble: Option<String>,
    room: Option<topology::Room>,
    problems: Vec<Problem>,
    replica: MemberStatus,
    doubts: Vec<model::FailoverStatus>,
    links: Vec<LinkFacts>,
    certificates: Certificates,
}

impl World {
    fn well() -> Self {
        let link = |name: &str, source: &str, target: &str| LinkFacts {
            name: name.to_owned(),
            ends: Some((idc_name(source), idc_name(target))),
            streams: Some(2),
            begun: true,
            phase: Some(LinkPhase::Streaming),
            ready: Some((true, "Streaming".to_owned(), String::new())),
            left: Vec::new(),
        };
        Self {
            unit: samples::unit(),
            state: Some(samples::state()),
            trouble: None,
            room: Some(topology::Room::Enough),
            problems: Vec::new(),
            replica: said(Some(40)),
            doubts: Vec::new(),
            links: vec![
                link("orders-bj-sh", "bj", "sh"),
                link("orders-sh-bj", "sh", "bj"),
            ],
            certificates: Certificates::default(),
        }
    }

    fn status(&self, now: Timestamp) -> UnitStatus {
        let holder = MemberStatus {
            writable: true,
            lag_millis: None,
            ..said(None)
        };
        let facts = Facts {
            unit: &self.unit,
            key: &key(),
            problems: &self.problems,
            parting: None,
            failure: None,
            view: UnitView {
                state: self.state.clone(),
                trouble: self.trouble.clone(),
                room: self.room,
            },
            words: BTreeMap::from([
                (idc_name("sh"), Some(Ok(Some(holder)))),
                (idc_name("bj"), Some(Ok(Some(self.replica.clone())))),
            ]),
            doubts: self.doubts.clone(),
            links: self.links.clone(),
            receipt: None,
            unresolved: Vec::new(),
            agreed: None,
            certificates: self.certificates.clone(),
        };
        status(&facts, now)
    }

    fn says(&self, kind: &str) -> (String, String, String) {
        let status = self.status(at(10));
        let found = condition(&status.conditions, kind).unwrap();
        (
            found.status.clone(),
            found.reason.clone(),
            found.message.clone(),
        )
    }
}

#[test]
fn a_unit_that_is_well() {
    let world = World::well();
    samples::assert_snapshot("unit-status-well", &world.status(at(10)));
}

#[test]
fn what_was_written_once_is_not_written_again() {
    let mut world = World::well();
    let first = world.status(at(10));
    world.unit.status = Some(first.clone());
    // Later, with everything as it was but for figures that always move.
    world.replica.position = Some(PositionText("0-1-99".to_owned()));
    world.replica.lag_millis = Some(70);
    let second = world.status(at(500));
    assert!(!worth_writing(&first, &second, true));
    assert_eq!(notices(&first, &second), []);
}

#[test]
fn figures_are_written_when_their_time_has_come_and_words_at_once() {
    let mut world = World::well();
    let first = world.status(at(10));
    world.unit.status = Some(first.clone());
    world.replica.lag_millis = Some(3_000);
    let lagging = world.status(at(11));
    assert!(!worth_writing(&first, &lagging, false));
    assert!(worth_writing(&first, &lagging, true));
    // That it is over, or not known, is no figure.
    assert!(worth_writing(&lagging, &first, false));
    world.replica.lag_millis = None;
    assert!(worth_writing(&first, &world.status(at(11)), false));
    world.state.as_mut().unwrap().primary = None;
    assert!(worth_writing(&first, &world.status(at(12)), false));
}

#[test]
fn a_problem_is_told_and_nothing_else_is_claimed() {
    let mut world = World::well();
    world.problems = vec![Problem::new(
        "MissingSecret",
        "Secret shop/orders-sh does not exist.",
    )];
    let (status, reason, message) = world.says("Ready");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "MissingSecret")
    );
    assert!(
        message.ends_with("The last valid spec stays in force."),
        "{message}"
    );
    assert_eq!(world.says("PreflightPassed").1, "MissingSecret");
    world.state.as_mut().unwrap().unit = None;
    assert!(
        world
            .says("TopologyAgreed")
            .2
            .starts_with("Nothing is in force yet.")
    );
}

#[test]
fn findings_of_an_arbiter_are_told_whole() {
    let mut world = World::well();
    let state = world.state.as_mut().unwrap();
    state.primary = None;
    state.epoch = None;
    state
        .members
        .get_mut(&idc_name("bj"))
        .unwrap()
        .value
        .preflight_passed = false;
    world.replica.findings = vec![Finding {
        severity: Severity::Blocking,
        check: "BinlogFormat".to_owned(),
        object: "member bj (192.0.2.2:3306)".to_owned(),
        message: "binlog_format is STATEMENT.".to_owned(),
        fix: "SET GLOBAL binlog_format = 'ROW'".to_owned(),
    }];
    let expected = "member bj (192.0.2.2:3306): binlog_format is STATEMENT. Fix: SET GLOBAL \
                    binlog_format = 'ROW'";
    assert_eq!(world.says("PreflightPassed").2, expected);
    assert_eq!(world.says("Ready").2, expected);
}

#[test]
fn a_lost_primary_is_told_with_the_way_out() {
    let mut world = World::well();
    let state = world.state.as_mut().unwrap();
    state.primary = None;
    let sh = state.members.get_mut(&idc_name("sh")).unwrap();
    sh.value.reachable = false;
    assert_eq!(world.status(at(1)).phase, Some(UnitPhase::NoPrimary));
    let (status, reason, message) = world.says("Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoPrimary"));
    assert!(
        message.contains("`mactl failover orders --to bj -n shop`"),
        "{message}"
    );
    assert_eq!(world.says("Degraded").1, "MemberUnreachable");
    assert_eq!(world.says("Fenced").0, "Unknown");
}

#[test]
fn etcd_out_of_reach_is_unknown_and_takes_nothing_back() {
    let mut world = World::well();
    world.unit.status = Some(world.status(at(10)));
    world.trouble = Some("no etcd".to_owned());
    world.state = None;
    let status = world.status(at(20));
    assert_eq!(status.primary, Some(idc_name("sh")));
    assert_eq!(status.phase, Some(UnitPhase::Ready));
    assert_eq!(world.says("Ready").0, "Unknown");
}

#[test]
fn a_member_that_is_not_fenced_is_named() {
    let mut world = World::well();
    let members = &mut world.state.as_mut().unwrap().members;
    let bj = members.get_mut(&idc_name("bj")).unwrap();
    bj.value.fenced = false;
    bj.revision = model::Revision(8);
    let (status, reason, message) = world.says("Fenced");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotFenced"));
    assert!(message.ends_with("bj."), "{message}");
}

#[test]
fn what_preflight_finds_later_is_told_too_but_an_outage_is_none_of_its() {
    let mut world = World::well();
    let finding = Finding {
        severity: Severity::Blocking,
        check: "TableWithoutKey".to_owned(),
        object: "table orders.keyless".to_owned(),
        message: "has no key.".to_owned(),
        fix: String::new(),
    };
    world.replica.findings = vec![finding];
    let passed = |world: &mut World, passed| {
        let members = &mut world.state.as_mut().unwrap().members;
        let bj = members.get_mut(&idc_name("bj")).unwrap();
        bj.value.preflight_passed = passed;
    };
    passed(&mut world, false);
    assert_eq!(world.says("PreflightPassed").0, "False");
    // etcd tells at once that it was mended, the arbiter when it is asked again.
    passed(&mut world, true);
    assert_eq!(world.says("PreflightPassed").0, "True");
    world.replica.findings.clear();
    let bj = |world: &mut World, reachable| {
        let members = &mut world.state.as_mut().unwrap().members;
        members.get_mut(&idc_name("bj")).unwrap().value.reachable = reachable;
    };
    bj(&mut world, false);
    assert_eq!(world.says("PreflightPassed").0, "True", "an outage");
    world.state.as_mut().unwrap().epoch = None;
    assert_eq!(world.says("PreflightPassed").0, "False", "never begun");
}

#[test]
fn a_halted_link_degrades_and_says_why() {
    let mut world = World::well();
    world.links[0].phase = Some(LinkPhase::Halted);
    world.links[0].ready = Some((false, "Halted".to_owned(), "row 7 differs".to_owned()));
    let (status, reason, message) = world.says("Degraded");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "LinkHalted"));
    assert_eq!(message, "SyncLink orders-bj-sh: row 7 differs.");
}

#[test]
fn a_server_without_connections_to_spare_degrades() {
    let mut world = World::well();
    assert_eq!(world.says("Degraded").0, "False");
    world.replica.crowded = Some(151);
    let (status, reason, message) = world.says("Degraded");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Crowded"));
    assert!(message.contains("bj") && message.contains("max_connections = 151"));
}

#[test]
fn an_account_that_passes_read_only_by_degrades_with_the_statement_to_revoke_it() {
    let mut world = World::well();
    world.replica.findings.push(Finding {
        severity: Severity::Warning,
        check: "PassesReadOnly".to_owned(),
        object: "member bj (db:3306)".to_owned(),
        message: "the account 'app'@'%' holds SUPER".to_owned(),
        fix: "REVOKE SUPER ON *.* FROM 'app'@'%';".to_owned(),
    });
    let (status, reason, message) = world.says("Degraded");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "PassesReadOnly")
    );
    assert!(
        message.contains("REVOKE SUPER ON *.* FROM 'app'@'%';"),
        "{message}"
    );
    // Whatever else is warned of stays where it is.
    world.replica.findings[0].check = "Xa".to_owned();
    assert_eq!(world.says("Degraded").0, "False");
}

#[test]
fn a_full_disk_degrades() {
    let mut world = World::well();
    world.replica.full = "The table 'heartbeat' is full".to_owned();
    let (status, reason, message) = world.says("Degraded");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "DiskFull"));
    assert!(message.contains("bj") && message.contains("PURGE BINARY LOGS"));
}

#[test]
fn certificates_that_end_are_told_and_so_is_what_they_take_with_them() {
    let ends = |reason, over| Expiry {
        reason,
        over,
        message: format!("{reason}: renew it."),
    };
    let mut world = World::well();
    world.unit.spec.failover.mode = crds::Automation::Automatic;
    world.unit.spec.failover.failsafe = true;
    world.certificates.transport = Some(ends("CertificateExpiring", false));
    let (status, reason, _) = world.says("Degraded");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "CertificateExpiring")
    );
    assert!(
        !world
            .says("FailoverReady")
            .2
            .contains("promises are not to be had")
    );
    world.certificates.transport = Some(ends("CertificateExpired", true));
    let (_, _, message) = world.says("FailoverReady");
    assert!(message.contains("promises are not to be had"), "{message}");
    world.certificates.etcd = Some(ends("EtcdCertificateExpired", true));
    assert_eq!(world.says("Degraded").1, "EtcdCertificateExpired");
}

#[test]
fn a_moved_primary_is_an_event() {
    let mut world = World::well();
    let before = world.status(at(10));
    let state = world.state.as_mut().unwrap();
    for record in [
        &mut state.primary.as_mut().unwrap().value.idc,
        &mut state.epoch.as_mut().unwrap().value.idc,
    ] {
        *record = idc_name("bj");
    }
    state.primary.as_mut().unwrap().value.epoch = model::Epoch(2);
    state.epoch.as_mut().unwrap().value.epoch = model::Epoch(2);
    let told = notices(&before, &world.status(at(11)));
    assert_eq!(told[0].reason, "PrimaryOpen");
    assert_eq!(told[0].note, "bj takes the writes, epoch 2.");
}

/// What `bj` is shown as right after the primary moved there, whatever its arbiter said before.
#[test]
fn a_move_is_shown_at_once_and_nothing_older_than_it() {
    let mut world = World::well();
    let state = world.state.as_mut().unwrap();
    let bj = idc_name("bj");
    let epoch = &mut state.epoch.as_mut().unwrap().value;
    (epoch.idc, epoch.epoch) = (bj.clone(), model::Epoch(2));
    let primary = state.primary.as_mut().unwrap();
    (primary.value.idc, primary.value.epoch) = (bj.clone(), model::Epoch(2));
    primary.revision = model::Revision(9);
    let shown = |world: &World| {
        let status = world.status(at(11));
        [0, 1].map(|place| {
            let member = &status.members[place];
            (member.role, member.writable, member.lag)
        })
    };
    // `sh` has been fenced, with proof, but its record does not say so yet, and neither does what
    // its arbiter said in the epoch before: that is not known, rather than writable.
    let [sh, now_primary] = shown(&world);
    assert_eq!(sh, (crds::MemberRole::Replica, None, None));
    assert_eq!(now_primary, (crds::MemberRole::Primary, Some(true), None));
    assert_eq!(world.says("Fenced").0, "Unknown");
    let state = world.state.as_mut().unwrap();
    let sh = state.members.get_mut(&idc_name("sh")).unwrap();
    sh.value.fenced = true;
    assert_eq!(shown(&world)[0].1, Some(false));
    assert_eq!(world.says("Fenced").0, "True");
    // A primary that has seen itself fenced since is not writable.
    let state = world.state.as_mut().unwrap();
    state.members.get_mut(&bj).unwrap().revision = model::Revision(10);
    assert_eq!(shown(&world)[1].1, Some(false));
}

#[test]
fn what_an_arbiter_said_before_the_member_came_back_is_not_repeated() {
    let mut world = World::well();
    world.replica.reachable = false;
    world.replica.message = "cannot reach the database".to_owned();
    assert_eq!(world.status(at(11)).members[1].message, None);
    let members = &mut world.state.as_mut().unwrap().members;
    members.get_mut(&idc_name("bj")).unwrap().value.reachable = false;
    let shown = &world.status(at(11)).members[1];
    assert_eq!((shown.writable, shown.reachable), (None, Some(false)));
    assert_eq!(shown.message.as_deref(), Some("cannot reach the database"));
}

#[test]
fn the_lag_that_people_see_is_the_link_s_while_heartbeats_arrive() {
    let mut world = World::well();
    let lag = |world: &World| world.status(at(11)).lag.map(crds::Duration::as_millis);
    world.replica.lag_millis = Some(995);
    assert_eq!(lag(&world), Some(2));
    // The link says it streams, but nothing has come through it for a while.
    world.replica.lag_millis = Some(8_500);
    assert_eq!(lag(&world), Some(8_500));
    // Nobody knows the link's own.
    world.replica.lag_millis = Some(995);
    world.links[1].streams = None;
    assert_eq!(lag(&world), Some(1_000), "no more than a heartbeat");
    world.replica.lag_millis = Some(1_400);
    assert_eq!(lag(&world), Some(1_400));
}

#[test]
fn a_unit_whose_links_do_not_follow_yet_says_so_until_they_do() {
    let mut world = World::well();
    let pending = |name: &str| LinkFacts {
        name: name.to_owned(),
        ends: None,
        streams: None,
        begun: false,
        phase: None,
        ready: None,
        left: Vec::new(),
    };
    world.links = vec![pending("orders-bj-sh"), pending("orders-sh-bj")];
    world.links[1].phase = Some(LinkPhase::Snapshotting);
    let words = "1 of 2 tables are copied.".to_owned();
    world.links[1].ready = Some((false, "Snapshotting".to_owned(), words));
    assert_eq!(world.says("Ready").0, "True");
    let expected = "SyncLink orders-bj-sh is about to be started, and copies nothing yet. SyncLink \
                    orders-sh-bj is Snapshotting: 1 of 2 tables are copied.";
    for kind in ["Degraded", "Progressing"] {
        let (status, reason, message) = world.says(kind);
        assert_eq!(
            (status.as_str(), reason.as_str(), message.as_str()),
            ("True", "LinksStarting", expected),
            "{kind}"
        );
    }
    world.links = World::well().links;
    assert_eq!(world.says("Degraded").0, "False");
    assert_eq!(world.says("Progressing").1, "Settled");
}

#[test]
fn a_copy_that_has_received_nothing_is_no_candidate() {
    let mut world = World::well();
    world.replica.lag_millis = None;
    let (status, reason, message) = world.says("FailoverReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoCandidate"));
    assert!(message.contains("bj has received nothing"), "{message}");
}

#[test]
fn an_etcd_that_runs_full_is_told_before_and_after() {
    let mut world = World::well();
    world.room = Some(topology::Room::Little {
        size: 85 << 20,
        quota: 100 << 20,
    });
    let (status, reason, message) = world.says("Degraded");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "EtcdNearlyFull")
    );
    assert!(message.contains("85 % of its quota"), "{message}");
    assert_eq!(world.says("FailoverReady").0, "True");
    world.room = Some(topology::Room::None);
    let (status, reason, message) = world.says("FailoverReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "EtcdFull"));
    assert!(message.contains("etcdctl alarm disarm"), "{message}");
}

#[test]
fn a_witness_that_does_not_believe_etcd_is_heard() {
    let mut world = World::well();
    world.doubts = vec![model::FailoverStatus {
        ready: false,
        reason: model::FailoverStatus::ETCD_WENT_BACK.to_owned(),
        message: "etcd shows less".to_owned(),
    }];
    let (status, reason, message) = world.says("FailoverReady");
    assert_eq!(
        (status.as_str(), reason.as_str(), message.as_str()),
        ("False", "EtcdWentBack", "etcd shows less.")
    );
}

#[test]
fn what_a_link_left_out_is_told_while_it_goes_on() {
    let mut world = World::well();
    let lacks = "Transactions that bj lacks: 1.".to_owned();
    world.links[1].left = vec![(crds::TRANSACTIONS_SKIPPED, lacks)];
    let (status, reason, message) = world.says("Degraded");
    assert_eq!(
        (status.as_str(), reason.as_str(), message.as_str()),
        (
            "True",
            "TransactionsSkipped",
            "SyncLink orders-sh-bj: Transactions that bj lacks: 1."
        )
    );
    // It is no reason not to move there.
    assert_eq!(world.says("FailoverReady").0, "True");
    world.links[1].phase = Some(LinkPhase::Halted);
    world.links[1].ready = Some((false, "Halted".to_owned(), "A row is missing".to_owned()));
    let (_, reason, message) = world.says("Degraded");
    assert_eq!(reason, "LinkHalted");
    assert!(message.ends_with("bj lacks: 1."), "{message}");
}
