//! Planned: nothing may be lost.

use crds::LinkPhase;
use model::IdcName;

use super::{
    Check, Decision, Plan, candidate_checks, lacks, member, not_begun, predicted_pause, under_way,
};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::render::millis;
use crate::view::{IdcView, MemberView, ReceiptView, UnitView};

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct SwitchoverRequest<'a> {
    /// The IDC that takes over.
    pub to: &'a IdcName,
    /// The primary that whoever asks believes there is.
    pub expected_primary: Option<&'a IdcName>,
}

/// Decides what to do about a planned switchover.
///
/// # Errors
/// No member there, another primary than expected, no primary at all, or another request under
/// way. Checks that failed are in the plan, so that a dry run can show them all.
pub fn switchover(
    unit: &UnitView,
    idcs: &[IdcView],
    receipts: &[ReceiptView],
    request: SwitchoverRequest<'_>,
    call: &Invocation,
) -> Result<Decision, Failure> {
    let to = request.to;
    let target = member(unit, to, true, call)?;
    if let Some(expected) = request.expected_primary
        && unit.primary.as_ref() != Some(expected)
    {
        let seen = unit
            .primary
            .as_ref()
            .map_or("it has none".to_owned(), |idc| format!("it is {idc}"));
        return Err(Failure::refused(
            not_begun(&unit.unit, true, Some(to)),
            format!(
                "its primary was expected to be {expected}, but {seen} (epoch {})",
                unit.epoch
            ),
        )
        .next(call.own(&format!("status {}", unit.unit))));
    }
    let in_flight = under_way(unit, true, false, Some(to), call)?;
    let plan = plan(unit, idcs, receipts, target, call);
    if let Some(request) = in_flight {
        return Ok(Decision::Follow(request, plan));
    }
    let Some(from) = &unit.primary else {
        return Err(Failure::refused(
            not_begun(&unit.unit, true, Some(to)),
            "it has no primary, so there is nothing to hand over",
        )
        .next(call.own(&format!("failover {} --to {to} --dry-run", unit.unit))));
    };
    if from == to {
        return Ok(Decision::AlreadySo(format!(
            "Unit {} has its primary in {to} already (epoch {}). Nothing to do.",
            unit.unit, unit.epoch
        )));
    }
    Ok(Decision::Begin(plan))
}

fn plan(
    unit: &UnitView,
    idcs: &[IdcView],
    receipts: &[ReceiptView],
    target: &MemberView,
    call: &Invocation,
) -> Plan {
    let to = &target.idc;
    let from = unit.primary.clone();
    let old = from
        .as_ref()
        .map_or_else(|| "the primary".to_owned(), ToString::to_string);
    let mut checks = Vec::new();
    checks.extend(
        from.iter()
            .chain([to])
            .map(|idc| arbiter_check(idcs, idc, call)),
    );
    checks.extend(
        unit.primary
            .as_ref()
            .and_then(|idc| unit.member(idc))
            .map(primary_check),
    );
    let primary = unit.primary.as_ref().and_then(|idc| unit.member(idc));
    checks.extend(primary.into_iter().flat_map(hindrance_checks));
    checks.extend(candidate_checks(unit, target, call));
    checks.push(lag_check(unit, target, call));
    checks.extend(preflight_check(unit, call));
    checks.extend(target.stranded.map(|number| stranded_check(to, number)));
    if let Some(from) = &from {
        // Both ways: one carries what is left, the other goes on from the hand-over.
        checks.push(link_check(unit, from, to, call));
        checks.push(link_check(unit, to, from, call));
    }
    Plan {
        unit: unit.unit.clone(),
        planned: true,
        to: Some(to.clone()),
        epoch: unit.epoch,
        allow_data_loss: false,
        expect_no_primary: false,
        checks,
        sentences: vec![
            format!("{to} catches up while {old} still takes writes."),
            format!("{old} is fenced: sessions that write there are cut, further writes refused."),
            format!(
                "{to} applies the rest and takes writes under epoch {}.",
                unit.epoch.next()
            ),
            format!("If {to} cannot catch up in time, {old} takes writes again. Nothing is lost."),
        ],
        loss: None,
        lacks: lacks(unit, [to], call),
        predicted_pause: predicted_pause(target.lag_millis, receipts),
        from,
    }
}

fn arbiter_check(idcs: &[IdcView], idc: &IdcName, call: &Invocation) -> Check {
    let alive = idcs
        .iter()
        .find(|view| view.name == *idc)
        .and_then(|view| view.arbiter_alive);
    match alive {
        Some(true) => Check::passed(format!("the arbiter of {idc} is alive")),
        Some(false) => {
            Check::failed(format!("the arbiter of {idc} is silent")).next(call.own("status"))
        }
        None => Check::unknown(format!(
            "whether the arbiter of {idc} is alive is not known"
        )),
    }
}

fn primary_check(primary: &MemberView) -> Check {
    let idc = &primary.idc;
    match (primary.reachable, primary.writable) {
        (Some(false), _) => Check::failed(format!(
            "the database of the primary {idc} ({}) does not answer its arbiter",
            primary.endpoint
        )),
        (_, Some(true)) => Check::passed(format!("the primary {idc} takes writes")),
        (_, Some(false)) => Check::failed(format!("the primary {idc} takes no writes now")),
        (_, None) => Check::unknown(format!(
            "whether the primary {idc} takes writes is not known"
        )),
    }
}

/// What a fence there would have to wait for, or to cut.
fn hindrance_checks(primary: &MemberView) -> Vec<Check> {
    let idc = &primary.idc;
    match &primary.hindrances {
        Some(found) if found.is_empty() => vec![Check::passed(format!(
            "nothing on {idc} holds a fence up: no XA transaction prepared, no ALTER or backup seen"
        ))],
        Some(found) => found
            .iter()
            .map(|what| Check::failed(format!("on the primary {idc}, {what}")))
            .collect(),
        None => vec![Check::unknown(format!(
            "whether an XA transaction, an ALTER or a backup holds a fence of {idc} up is not known \
             here; its arbiter looks before anything is fenced"
        ))],
    }
}

fn lag_check(unit: &UnitView, target: &MemberView, call: &Invocation) -> Check {
    let (idc, bound) = (&target.idc, unit.max_lag_millis);
    match target.lag_millis {
        Some(lag) if lag <= bound => Check::passed(format!(
            "{idc} is {} behind (bound {})",
            millis(lag),
            millis(bound)
        )),
        Some(lag) => Check::failed(format!(
            "{idc} is {} behind, more than the Unit's maxLag of {}",
            millis(lag),
            millis(bound)
        ))
        .next(call.own(&format!("status {} -o wide", unit.unit))),
        None => Check::unknown(format!(
            "how far {idc} is behind is not known here; its arbiter looks before anything is fenced"
        )),
    }
}

/// The condition of the whole Unit: a planned move can wait until it is mended.
fn preflight_check(unit: &UnitView, call: &Invocation) -> Option<Check> {
    let complaint = unit.complaint("PreflightPassed")?;
    Some(
        Check::failed(format!(
            "preflight of the Unit has not passed: {}",
            complaint.message
        ))
        .next(call.own(&format!("preflight {}", unit.unit))),
    )
}

fn stranded_check(idc: &IdcName, number: u64) -> Check {
    match number {
        0 => Check::passed(format!("{idc} holds no stranded transactions")),
        number => Check::failed(format!(
            "{idc} holds {} that no other copy has",
            crate::render::count(number, "stranded transaction")
        )),
    }
}

fn link_check(unit: &UnitView, source: &IdcName, target: &IdcName, call: &Invocation) -> Check {
    let name = format!("link {source} → {target}");
    let Some(link) = unit.link(source, target) else {
        return Check::unknown(format!("how the {name} does is not known here"));
    };
    let describe = call.kubectl(&format!(
        "-n {} describe synclink {}",
        unit.unit.namespace(),
        link.name
    ));
    match link.phase {
        _ if link.suspended => Check::failed(format!("the {name} is suspended")).next(describe),
        Some(LinkPhase::Streaming | LinkPhase::CatchingUp) if link.message.is_empty() => {
            Check::passed(format!("the {name} is streaming"))
        }
        Some(phase) => Check::failed(format!(
            "the {name} is {phase:?}{}",
            super::remark(&link.message)
        ))
        .next(describe),
        None => Check::failed(format!("the {name} has reported nothing yet")).next(describe),
    }
}
