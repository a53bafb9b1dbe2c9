//! What is wrong with a topology, and what to do about it: pure functions.

use crds::LinkPhase;
use jiff::{SignedDuration, Timestamp};
use model::{Epoch, IdcRole, Severity};

use crate::invocation::Invocation;
use crate::plan;
use crate::render::{ago, instant, millis};
use crate::view::{
    Complaint, Gravity, IdcView, MemberView, Problem, StatusView, UnitPhase, UnitView,
};

/// Everything that is wrong, worst first, otherwise in the order of the tree.
pub fn problems(view: &StatusView, call: &Invocation) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(operator_silent(view, call));
    if !view.idcs.is_empty() && view.idcs.iter().all(|idc| idc.arbiter_alive.is_none()) {
        found.push(no_operator(call));
    } else {
        found.extend(
            view.idcs
                .iter()
                .filter_map(|idc| idc_problem(idc, view, call)),
        );
    }
    for unit in &view.units {
        found.extend(unit_problems(unit, &view.idcs, call));
    }
    found.sort_by_key(|problem| problem.gravity);
    found
}

/// Without an operator, nothing is reported at all: one cause, told once.
fn no_operator(call: &Invocation) -> Problem {
    let what = "no operator has reported on any IDC: it does not run, or cannot write statuses.";
    problem(Gravity::Critical, "The operator", what).next(call.kubectl(OPERATORS))
}

/// An operator that renews its Lease every few seconds and has not for this long does not run; the
/// clocks of the cluster and of this machine may differ by some of it.
const SILENT: SignedDuration = SignedDuration::from_secs(45);

/// Without an operator, everything below is as old as its last word.
fn operator_silent(view: &StatusView, call: &Invocation) -> Option<Problem> {
    let at = view.operator_seen?;
    (view.at.duration_since(at) > SILENT).then(|| {
        let what = format!(
            "no operator runs since {}: everything below is as it was then. The arbiters go on \
             without it; etcd knows what is now.",
            instant(at)
        );
        problem(Gravity::Critical, "The operator", what)
            .since(at)
            .next(call.kubectl(OPERATORS))
            .next(call.own_by_etcd("status"))
    })
}

const OPERATORS: &str = "get deployments -A -l \
    app.kubernetes.io/name=multiactive,app.kubernetes.io/component=operator";

fn idc_problem(idc: &IdcView, view: &StatusView, call: &Invocation) -> Option<Problem> {
    let (what, gravity) = match idc.arbiter_alive {
        Some(true) if idc.message.is_empty() => return None,
        Some(true) => (idc.message.clone(), Gravity::Warning),
        alive => {
            let heard = idc
                .last_heartbeat
                .map(|at| format!(", last heard of {}", ago(at, view.at)));
            let state = if alive.is_some() {
                "is silent"
            } else {
                "has not reported yet"
            };
            let primaries = match (idc.primaries, idc.role) {
                (0, IdcRole::Data) => ". Nothing can be moved there",
                (0, IdcRole::Witness) => ". It cannot vote",
                _ => ". The Units that it is primary for lose their primary when its lease ends",
            };
            let remark = if idc.message.is_empty() {
                String::new()
            } else {
                format!(" It said last: {}", idc.message)
            };
            let gravity = if idc.primaries > 0 {
                Gravity::Critical
            } else {
                Gravity::Warning
            };
            let what = format!(
                "its arbiter {state}{}{primaries}.{remark}",
                heard.unwrap_or_default()
            );
            (what, gravity)
        }
    };
    let pods = "get pods -A -l app.kubernetes.io/component=arbiter -L multiactive.dev/idc";
    Some(problem(gravity, format!("IDC {}", idc.name), what).next(call.kubectl(pods)))
}

fn unit_problems(unit: &UnitView, idcs: &[IdcView], call: &Invocation) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(writable_elsewhere(unit, call));
    found.extend(primary_problem(unit, call));
    for member in &unit.members {
        found.extend(member_problems(unit, member, idcs, call));
    }
    found.extend(link_problems(unit, call));
    found.extend(left_problems(unit, call));
    if unit.paused {
        let by = unit.pause_order.as_ref();
        let by = by.map_or_else(String::new, |order| format!(" (held {order})"));
        let what = format!("it is paused: its primary is not replaced when it is lost{by}.");
        found.push(
            problem(Gravity::Warning, name(unit), what)
                .next(call.own(&format!("resume {}", unit.unit))),
        );
    }
    found.extend(complaints(unit, &found, call));
    found
}

/// A second writable copy is what must never be; while a primary moves, two looks at different
/// times can show it although it never was.
fn writable_elsewhere(unit: &UnitView, call: &Invocation) -> Option<Problem> {
    let elsewhere: Vec<&str> = unit
        .members
        .iter()
        .filter(|member| {
            member.writable == Some(true) && unit.primary.as_ref() != Some(&member.idc)
        })
        .map(|member| member.idc.as_str())
        .collect();
    if elsewhere.is_empty() || unit.under_way.is_some() {
        return None;
    }
    let primary = match &unit.primary {
        Some(primary) => format!("the primary is {primary}"),
        None => "the Unit has no primary".to_owned(),
    };
    let what = format!(
        "{} was seen to accept writes, but {primary}. If a second look shows the same, somebody has \
         opened that database by hand: close it with SET GLOBAL read_only = 1.",
        elsewhere.join(" and ")
    );
    Some(
        problem(Gravity::Critical, name(unit), what)
            .next(call.own(&format!("status {}", unit.unit)))
            .next(call.own(&format!("history {}", unit.unit))),
    )
}

fn primary_problem(unit: &UnitView, call: &Invocation) -> Option<Problem> {
    if unit.under_way.is_some() {
        return None;
    }
    let own = |words: &str| call.own(&format!("{words} {}", unit.unit));
    let Some(idc) = &unit.primary else {
        let preflight = unit.complaint("PreflightPassed").is_some();
        let what = match unit.phase {
            _ if unit.epoch == Epoch::NONE => {
                "it has not had a primary yet: nothing accepts its writes."
            }
            UnitPhase::Electing => "nothing accepts its writes; a primary is being found.",
            UnitPhase::Unknown => "nothing was reported about it yet.",
            _ => "it has no primary: nothing accepts its writes.",
        };
        // The operator knows why; what preflight says is told on its own.
        let why = unit
            .complaint("Ready")
            .filter(|_| !preflight)
            .map(|one| one.message.as_str());
        let what = why.map_or_else(|| what.to_owned(), |why| format!("{what} {why}"));
        let since = unit.complaint("Ready").and_then(|ready| ready.since);
        let found = problem(Gravity::Critical, name(unit), what).since(since);
        return Some(match unit.phase {
            _ if preflight => found.next(own("preflight")),
            _ if unit.epoch == Epoch::NONE => found.next(own("preflight")),
            UnitPhase::Electing | UnitPhase::Unknown => found.next(own("status")),
            _ if unit.paused => found.next(own("resume")),
            _ => found.next(own("failover") + " --dry-run"),
        });
    };
    let primary = unit.member(idc)?;
    let remark = if primary.message.is_empty() {
        String::new()
    } else {
        format!(" Its arbiter says: {}", primary.message)
    };
    if primary.reachable == Some(false) {
        let what = format!(
            "the database of its primary {idc} ({}) does not answer its arbiter.{remark}",
            primary.endpoint
        );
        let found = problem(Gravity::Critical, name(unit), what);
        return Some(found.next(own("failover") + " --dry-run"));
    }
    if primary.writable == Some(false) && unit.phase != UnitPhase::Electing {
        let what = format!("its primary {idc} does not accept writes.{remark}");
        return Some(problem(Gravity::Critical, name(unit), what).next(own("status") + " -o wide"));
    }
    None
}

fn fenced(unit: &UnitView, member: &MemberView, call: &Invocation) -> Option<Problem> {
    let order = member.fence_order.as_ref()?;
    let object = format!("{}, member {}", name(unit), member.idc);
    let what =
        format!("it was fenced {order}. It is neither elected nor opened before that is lifted.");
    let lift = call.own(&format!("unfence {} {}", unit.unit, member.idc));
    Some(problem(Gravity::Warning, object, what).next(lift))
}

fn member_problems(
    unit: &UnitView,
    member: &MemberView,
    idcs: &[IdcView],
    call: &Invocation,
) -> Vec<Problem> {
    let mut found = Vec::new();
    let object = format!("{}, member {}", name(unit), member.idc);
    for finding in &member.findings {
        let gravity = match finding.severity {
            Severity::Blocking => Gravity::Critical,
            Severity::Warning => Gravity::Warning,
        };
        // A finding about the member itself names it already, with its address.
        let mut one = if finding.object.starts_with("member ") {
            let object = format!("{}, {}", name(unit), finding.object);
            problem(gravity, object, finding.message.clone())
        } else {
            let what = format!("{}: {}", finding.object, finding.message);
            problem(gravity, object.clone(), what)
        };
        if !finding.fix.is_empty() {
            one = one.next(finding.fix.clone());
        }
        found.push(one);
    }
    found.extend(fenced(unit, member, call));
    if unit.primary.as_ref() == Some(&member.idc) {
        return found;
    }
    let silent = idcs
        .iter()
        .any(|idc| idc.name == member.idc && idc.arbiter_alive != Some(true));
    if member.reachable == Some(false) && silent {
        // Nobody looks at it; that its arbiter is silent is told of the IDC.
    } else if member.reachable == Some(false) {
        let remark = if member.message.is_empty() {
            String::new()
        } else {
            format!(" It says: {}", member.message)
        };
        let what = format!(
            "its database ({}) does not answer its arbiter, so nothing can be moved there.{remark}",
            member.endpoint
        );
        found.push(
            problem(Gravity::Warning, object, what)
                .next(call.own(&format!("preflight {}", unit.unit))),
        );
    } else if member.fence_order.is_some() {
        // What its arbiter says is what was told above.
    } else if !member.message.is_empty() && member.findings.is_empty() && !silent {
        found.push(problem(Gravity::Warning, object, member.message.clone()));
    } else if let Some(lag) = member.lag_millis.filter(|lag| *lag > unit.max_lag_millis) {
        let what = format!(
            "it is {} behind, more than maxLag {}: it would not be promoted.",
            millis(lag),
            millis(unit.max_lag_millis)
        );
        found.push(
            problem(Gravity::Warning, object, what)
                .next(call.kubectl(&format!("-n {} get synclinks", unit.unit.namespace()))),
        );
    }
    if let Some(number) = member.stranded.filter(|number| *number > 0) {
        let what = format!(
            "it holds {} that no other copy has, left behind by a failover.",
            crate::render::count(number, "transaction")
        );
        found.push(problem(
            Gravity::Warning,
            format!("{}, member {}", name(unit), member.idc),
            what,
        ));
    }
    found
}

fn link_problems(unit: &UnitView, call: &Invocation) -> Vec<Problem> {
    let mut found = Vec::new();
    for link in &unit.links {
        let object = format!("{}, link {} → {}", name(unit), link.source, link.target);
        let describe = call.kubectl(&format!(
            "-n {} describe synclink {}",
            unit.unit.namespace(),
            link.name
        ));
        let what = match link.phase {
            Some(LinkPhase::Halted) if link.message.is_empty() => {
                Some("it has halted without saying why.".to_owned())
            }
            Some(LinkPhase::Halted) => Some(format!("it has halted: {}", link.message)),
            _ if link.suspended => Some("it is suspended by its spec.".to_owned()),
            _ if !link.message.is_empty() => Some(link.message.clone()),
            Some(LinkPhase::CatchingUp) => Some(match link.lag_millis {
                Some(lag) => format!("it is catching up, {} behind.", millis(lag)),
                None => "it is catching up.".to_owned(),
            }),
            _ => None,
        };
        let gravity = match link.phase {
            Some(LinkPhase::Halted) => Gravity::Critical,
            _ => Gravity::Warning,
        };
        found.extend(what.map(|what| {
            let found = problem(gravity, object.clone(), what);
            found.since(link.since).next(describe)
        }));
    }
    found
}

/// What links leave to a person while they go on.
fn left_problems(unit: &UnitView, call: &Invocation) -> Vec<Problem> {
    let lacks = plan::lacks(unit, unit.idcs(), call).into_iter();
    let lacks = lacks.filter(plan::Lack::is_seen);
    lacks
        .map(|lack| Problem {
            gravity: Gravity::Warning,
            object: format!("{}, member {}", name(unit), lack.idc),
            message: format!("{}.", lack.message),
            since: None,
            next: lack.next,
        })
        .collect()
}

/// The conditions that say something the rest has not said.
fn complaints(unit: &UnitView, said: &[Problem], call: &Invocation) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    let (summaries, facts): (Vec<&Complaint>, Vec<&Complaint>) = unit
        .complaints
        .iter()
        .partition(|complaint| sums_up(complaint));
    for complaint in facts.into_iter().chain(summaries) {
        let mut others = said.iter().chain(&found);
        let silent = sums_up(complaint) && others.next().is_some();
        let repeats = said.iter().chain(&found).any(|problem| {
            !complaint.message.is_empty() && problem.message.contains(&complaint.message)
        });
        if silent || repeats || is_told_elsewhere(unit, complaint) {
            continue;
        }
        let text = if complaint.message.is_empty() {
            &complaint.reason
        } else {
            &complaint.message
        };
        let label = format!("{}: {}", complaint.condition, complaint.reason);
        let found_now = match complaint.condition.as_str() {
            "PreflightPassed" => {
                problem(Gravity::Critical, name(unit), format!("{text} ({label})"))
                    .next(call.own(&format!("preflight {}", unit.unit)))
            }
            condition => {
                let gravity = match condition {
                    "Ready" | "Fenced" => Gravity::Critical,
                    _ => Gravity::Warning,
                };
                let (namespace, name_only) = (unit.unit.namespace(), unit.unit.name());
                problem(gravity, name(unit), format!("{text} ({label})"))
                    .next(call.kubectl(&format!("-n {namespace} describe unit {name_only}")))
            }
        };
        found.push(found_now.since(complaint.since));
    }
    found
}

/// These conditions sum up what members and links say; alone, they are all there is. That etcd is
/// out of the operator's reach is said nowhere else.
fn sums_up(complaint: &Complaint) -> bool {
    matches!(complaint.condition.as_str(), "Ready" | "Degraded")
        && complaint.reason != "EtcdUnreachable"
}

fn is_told_elsewhere(unit: &UnitView, complaint: &Complaint) -> bool {
    match complaint.condition.as_str() {
        "FailoverReady" => unit.paused,
        // Told of the member; while the primary moves, two members are looked at at two times.
        "Fenced" => {
            unit.under_way.is_some()
                || unit.members.iter().any(|member| {
                    member.writable == Some(true) && unit.primary.as_ref() != Some(&member.idc)
                })
        }
        "Ready" => unit.under_way.is_some(),
        _ => false,
    }
}

fn name(unit: &UnitView) -> String {
    format!("Unit {}", unit.unit)
}

fn problem(gravity: Gravity, object: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem {
        gravity,
        object: object.into(),
        message: message.into(),
        since: None,
        next: Vec::new(),
    }
}

impl Problem {
    fn since(mut self, at: impl Into<Option<Timestamp>>) -> Self {
        self.since = at.into();
        self
    }

    fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}
