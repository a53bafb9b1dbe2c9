//! What a dry run checks: everything that is known without asking the arbiters to begin.

use crds::{LinkPhase, SwitchoverKind, SwitchoverSpec, Unit};
use kube::ResourceExt;
use model::{IdcName, MemberHindrances, MemberStatus, UnitKey, UnitState};

use crate::context::Context;

/// What is wrong, one sentence each. Empty: it would be tried.
pub fn findings(
    spec: &SwitchoverSpec,
    key: &UnitKey,
    unit: Option<&Unit>,
    state: &UnitState,
    context: &Context,
) -> Vec<String> {
    let (Some(unit), true) = (unit, spec.dry_run) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if let Some(intent) = state
        .intent
        .as_ref()
        .filter(|intent| !intent.value.phase.is_final())
    {
        findings.push(format!("Request {} is still under way.", intent.value.id));
    }
    let Some(to) = &spec.to else { return findings };
    target(to, state, &mut findings);
    let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
    if let Some(from) = holder
        && spec.kind == SwitchoverKind::Planned
    {
        for (source, target) in [(from, to), (to, from)] {
            link(key, source, target, context, &mut findings);
        }
        lag(unit, key, to, context, &mut findings);
        hindrances(key, from, context, &mut findings);
    }
    findings
}

fn target(to: &IdcName, state: &UnitState, findings: &mut Vec<String>) {
    match state.members.get(to).map(|record| &record.value) {
        None => findings.push(format!("The arbiter of {to} has no session in etcd.")),
        Some(record) if !record.reachable => {
            findings.push(format!("The arbiter of {to} does not reach its member."));
        }
        Some(record) if !record.preflight_passed => {
            findings.push(format!("Member {to} has not passed preflight."));
        }
        Some(_) => {}
    }
}

fn link(
    key: &UnitKey,
    source: &IdcName,
    target: &IdcName,
    context: &Context,
    findings: &mut Vec<String>,
) {
    let links = context.stores.links_of(key.namespace(), key.name());
    let found = links.iter().find(|link| {
        link.spec.source.idc == *source && link.spec.target.idc.as_ref() == Some(target)
    });
    let Some(found) = found else {
        findings.push(format!("There is no SyncLink from {source} to {target}."));
        return;
    };
    let phase = found.status.as_ref().and_then(|status| status.phase);
    if phase != Some(LinkPhase::Streaming) {
        let phase = phase.map_or("not started".to_owned(), |phase| format!("{phase:?}"));
        findings.push(format!(
            "SyncLink {} is {phase}, not Streaming.",
            found.name_any()
        ));
    }
}

fn lag(unit: &Unit, key: &UnitKey, to: &IdcName, context: &Context, findings: &mut Vec<String>) {
    let Some(Ok(mut status)) = context.reports.arbiter(to) else {
        return;
    };
    let lag = status
        .units
        .remove(key)
        .and_then(|member| member.lag_millis);
    let limit = unit.spec.failover.max_lag;
    if let Some(lag) = lag.filter(|lag| *lag > limit.as_millis()) {
        findings.push(format!(
            "The copy in {to} is {lag} ms behind, more than spec.failover.maxLag ({limit})."
        ));
    }
}

/// What a fence of the primary would have to wait for, or to cut.
fn hindrances(key: &UnitKey, from: &IdcName, context: &Context, findings: &mut Vec<String>) {
    let said = match context.reports.arbiter(from) {
        Some(Ok(mut status)) => status.units.remove(key),
        _ => None,
    };
    findings.extend(said.iter().flat_map(|member| of_member(from, member)));
}

fn of_member(from: &IdcName, member: &MemberStatus) -> Vec<String> {
    let found = member
        .hindrances
        .iter()
        .flat_map(MemberHindrances::sentences);
    found
        .map(|what| format!("On the primary {from}, {what}."))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_fence_up_is_told_of_the_primary() {
        let mut member = crate::samples::primary_status(3);
        let from = IdcName::new("sh").unwrap();
        assert!(of_member(&from, &member).is_empty());
        member.hindrances = Some(MemberHindrances {
            prepared_xa: 1,
            backup_lock: Some(true),
            ..MemberHindrances::default()
        });
        let told = of_member(&from, &member);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].starts_with("On the primary sh, a lock is held there for a backup"));
    }
}
