//! Forced: the primary is believed lost. Still through fencing and the lease.

use model::{IdcName, Severity};

use super::{
    Check, Decision, Plan, Verdict, candidate_checks, lacks, member, not_begun, under_way,
};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::render::millis;
use crate::view::{MemberView, RequestView, UnitView};

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct FailoverRequest<'a> {
    /// The IDC that takes over; `None`: the rules choose.
    pub to: Option<&'a IdcName>,
    /// Promote even if writes may be missing.
    pub allow_data_loss: bool,
    /// Refuse if there is a primary.
    pub expect_no_primary: bool,
}

/// Decides what to do about a failover.
///
/// # Errors
/// No member there, or a primary where none was expected. Checks that failed are in the plan, so
/// that a dry run can show them all.
pub fn failover(
    unit: &UnitView,
    request: FailoverRequest<'_>,
    call: &Invocation,
) -> Result<Decision, Failure> {
    let target = request
        .to
        .map(|to| member(unit, to, false, call))
        .transpose()?;
    if let (true, Some(primary)) = (request.expect_no_primary, &unit.primary) {
        return Err(Failure::refused(
            not_begun(&unit.unit, false, request.to),
            format!(
                "it was expected to have no primary, but {primary} is it (epoch {})",
                unit.epoch
            ),
        )
        .next(call.own(&format!("status {}", unit.unit))));
    }
    let in_flight = under_way(unit, false, request.allow_data_loss, request.to, call)?;
    let plan = plan(unit, target, request, call);
    if let Some(request) = in_flight {
        return Ok(Decision::Follow(request, plan));
    }
    if let Some(target) = target
        && unit.primary.as_ref() == Some(&target.idc)
        && target.writable == Some(true)
        && target.reachable != Some(false)
    {
        return Ok(Decision::AlreadySo(format!(
            "Unit {} has its primary in {} already, and it takes writes (epoch {}). Nothing to do.",
            unit.unit, target.idc, unit.epoch
        )));
    }
    Ok(Decision::Begin(plan))
}

fn plan(
    unit: &UnitView,
    target: Option<&MemberView>,
    request: FailoverRequest<'_>,
    call: &Invocation,
) -> Plan {
    let candidates: Vec<&MemberView> = match target {
        Some(target) => vec![target],
        None => unit
            .members
            .iter()
            .filter(|member| !is_primary(unit, member))
            .collect(),
    };
    let mut checks = vec![old_primary_check(unit, call)];
    checks.extend(unit.under_way.iter().map(replaced_check));
    // The lost primary alone makes it fail, so it is only told.
    checks.extend(unit.complaint("PreflightPassed").map(|complaint| {
        Check::unknown(format!(
            "preflight of the Unit has not passed: {}",
            complaint.message
        ))
    }));
    if let Some(target) = target {
        checks.extend(candidate_checks(unit, target, call));
        checks.push(lag_check(unit, target, request.allow_data_loss, call));
    } else {
        checks.push(any_candidate_check(
            unit,
            &candidates,
            request.allow_data_loss,
            call,
        ));
    }
    Plan {
        unit: unit.unit.clone(),
        planned: false,
        from: unit.primary.clone(),
        to: request.to.cloned(),
        epoch: unit.epoch,
        allow_data_loss: request.allow_data_loss,
        expect_no_primary: request.expect_no_primary,
        checks,
        sentences: sentences(unit, target),
        loss: Some(loss(unit, &candidates, request.allow_data_loss)),
        lacks: lacks(unit, candidates.iter().map(|member| &member.idc), call),
        predicted_pause: None,
    }
}

fn is_primary(unit: &UnitView, member: &MemberView) -> bool {
    unit.primary.as_ref() == Some(&member.idc)
}

fn sentences(unit: &UnitView, target: Option<&MemberView>) -> Vec<String> {
    let new = target.map_or_else(
        || "The most advanced copy".to_owned(),
        |target| target.idc.to_string(),
    );
    let first = match &unit.primary {
        Some(old) => format!(
            "{old} is fenced; if it cannot be reached, its lease and its guard's deadline are \
             waited for."
        ),
        None => "The Unit has no primary, so nothing has to be fenced.".to_owned(),
    };
    vec![
        first,
        format!("{new} then takes writes under epoch {}.", unit.epoch.next()),
    ]
}

/// A primary that is well should be switched over instead; that is a warning, not a refusal, since
/// whoever asks may know more than the arbiters.
fn old_primary_check(unit: &UnitView, call: &Invocation) -> Check {
    let Some(primary) = &unit.primary else {
        return Check::passed("the Unit has no primary");
    };
    let member = unit.member(primary);
    let well = member
        .is_some_and(|member| member.writable == Some(true) && member.reachable != Some(false));
    if well {
        let to = unit
            .idcs()
            .find(|idc| *idc != primary)
            .map_or("IDC", IdcName::as_str);
        return Check::new(
            Verdict::Unknown,
            format!("the primary {primary} looks healthy; a switchover would lose nothing"),
        )
        .next(call.own(&format!("switchover {} --to {to}", unit.unit)));
    }
    Check::passed(format!("the primary {primary} does not take writes"))
}

/// A request that this one takes the place of.
fn replaced_check(request: &RequestView) -> Check {
    let what = if request.planned {
        "switchover"
    } else {
        "failover"
    };
    let to = request
        .to
        .as_ref()
        .map(|to| format!(" to {to}"))
        .unwrap_or_default();
    Check::unknown(format!(
        "a {what}{to} is under way ({}); this failover takes its place",
        request.id
    ))
}

fn lag_check(unit: &UnitView, target: &MemberView, loss_allowed: bool, call: &Invocation) -> Check {
    let (idc, bound) = (&target.idc, unit.max_lag_millis);
    match target.lag_millis {
        Some(lag) if lag <= bound => Check::passed(format!(
            "{idc} is {} behind (maxLag {})",
            millis(lag),
            millis(bound)
        )),
        Some(lag) if loss_allowed => Check::unknown(format!(
            "{idc} is {} behind, more than maxLag {}; that is allowed by --allow-data-loss",
            millis(lag),
            millis(bound)
        )),
        Some(lag) => Check::failed(format!(
            "{idc} is {} behind, more than the Unit's maxLag of {}",
            millis(lag),
            millis(bound)
        ))
        .next(call.own(&format!(
            "failover {} --to {idc} --allow-data-loss --dry-run",
            unit.unit
        ))),
        None => Check::unknown(format!(
            "how far {idc} is behind is not known here; its arbiter judges it"
        )),
    }
}

pub(super) fn eligible(
    unit: &UnitView,
    member: &MemberView,
    loss_allowed: bool,
) -> Result<(), String> {
    if member.fence_order.is_some() {
        return Err(format!("{} was fenced by a person", member.idc));
    }
    if member.reachable == Some(false) {
        return Err(format!("{} does not answer", member.idc));
    }
    let blocked = member
        .findings
        .iter()
        .any(|finding| finding.severity == Severity::Blocking);
    if blocked || member.preflight_passed == Some(false) {
        return Err(format!("{} does not pass preflight", member.idc));
    }
    match member.lag_millis {
        Some(lag) if lag > unit.max_lag_millis && !loss_allowed => {
            Err(format!("{} is {} behind", member.idc, millis(lag)))
        }
        _ => Ok(()),
    }
}

fn any_candidate_check(
    unit: &UnitView,
    candidates: &[&MemberView],
    loss_allowed: bool,
    call: &Invocation,
) -> Check {
    let (mut able, mut unable) = (Vec::new(), Vec::new());
    for member in candidates {
        match eligible(unit, member, loss_allowed) {
            Ok(()) => able.push(member.idc.as_str()),
            Err(reason) => unable.push(reason),
        }
    }
    if able.is_empty() {
        Check::failed(format!("no copy can take over: {}", unable.join(", ")))
            .next(call.own(&format!("status {} -o wide", unit.unit)))
    } else {
        Check::passed(format!("can take over: {}", able.join(", ")))
    }
}

/// What may be lost, in plain words.
fn loss(unit: &UnitView, candidates: &[&MemberView], allowed: bool) -> String {
    let old = unit
        .primary
        .as_ref()
        .map_or_else(|| "the last primary".to_owned(), ToString::to_string);
    let worst = candidates
        .iter()
        .map(|member| member.lag_millis)
        .max_by_key(|lag| {
            // Not knowing is worse than any lag.
            lag.map_or(u64::MAX, |lag| lag)
        });
    let how_much = match worst.flatten() {
        Some(lag) => format!(
            "Writes that {old} acknowledged in about its last {} may be missing",
            millis(lag)
        ),
        None => format!(
            "Writes that {old} acknowledged last may be missing, how many is not known here"
        ),
    };
    let limit = if allowed {
        "--allow-data-loss: the new primary is promoted however far it is behind".to_owned()
    } else {
        format!(
            "a copy more than {} behind is not promoted",
            millis(unit.max_lag_millis)
        )
    };
    format!(
        "{how_much}; {limit}. What is missing stays in the database of {old} and is not merged by \
         itself."
    )
}
