//! Whether a Unit has passed preflight: what is wrong with its spec, or what its arbiters found.

use std::collections::BTreeSet;

use crds::Verdict;
use model::{IdcName, MemberStatus, Severity, UnitState};

use super::report::{Facts, sentence};
use super::validate::describe;

/// The condition.
pub fn preflight(facts: &Facts<'_>) -> Verdict {
    const PREFLIGHT: &str = "PreflightPassed";
    if let Some(first) = facts.problems.first() {
        return Verdict::no(PREFLIGHT, first.reason, describe(facts.problems));
    }
    if let Some(trouble) = &facts.view.trouble {
        return Verdict::unknown(PREFLIGHT, "EtcdUnreachable", trouble.clone());
    }
    let Some(state) = facts.state() else {
        return Verdict::unknown(PREFLIGHT, "Starting", "etcd has not been read yet.");
    };
    let (mut failures, mut waits, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for member in &facts.unit.spec.members {
        let idc = &member.idc;
        // Before the first primary, a member out of reach cannot take part either; afterwards it is
        // an outage, which the condition Degraded tells.
        let begun = state.epoch.is_some();
        let record = state.members.get(idc).map(|record| &record.value);
        let passed = record.map(|record| record.preflight_passed && (begun || record.reachable));
        let findings = facts.member(idc).map(findings).unwrap_or_default();
        match passed {
            // etcd tells of a passed preflight at once; what the arbiter said before is old then.
            Some(true) => warnings.extend(findings.warnings),
            _ if !findings.blocking.is_empty() => failures.extend(findings.blocking),
            Some(false) => failures.push(not_passed(facts, idc)),
            None => waits.push(waiting(facts, state, idc)),
        }
    }
    // What is wrong between two members is said by both their arbiters.
    for words in [&mut failures, &mut warnings] {
        let mut seen = BTreeSet::new();
        words.retain(|words: &String| seen.insert(words.clone()));
    }
    if !failures.is_empty() {
        failures.extend(waits);
        Verdict::no(PREFLIGHT, "PreflightFailed", failures.join(" "))
    } else if !waits.is_empty() {
        Verdict::unknown(PREFLIGHT, "Waiting", waits.join(" "))
    } else if warnings.is_empty() {
        Verdict::yes(PREFLIGHT, "Passed", "")
    } else {
        Verdict::yes(PREFLIGHT, "PassedWithWarnings", warnings.join(" "))
    }
}

#[derive(Default)]
struct Findings {
    blocking: Vec<String>,
    warnings: Vec<String>,
}

fn findings(member: &MemberStatus) -> Findings {
    let mut found = Findings::default();
    for finding in &member.findings {
        match finding.severity {
            Severity::Blocking => found.blocking.push(finding.to_string()),
            Severity::Warning => found.warnings.push(finding.to_string()),
        }
    }
    found
}

fn not_passed(facts: &Facts<'_>, idc: &IdcName) -> String {
    let said = facts
        .member(idc)
        .map(|said| said.message.clone())
        .unwrap_or_default();
    if said.is_empty() && facts.agreed.is_some() && facts.member(idc).is_none() {
        format!(
            "Member {idc} has not passed preflight: the Unit in the cluster of {idc} tells why."
        )
    } else if said.is_empty() {
        format!("Member {idc} has not passed preflight.")
    } else {
        format!("Member {idc} has not passed preflight: {}", sentence(&said))
    }
}

/// Why an arbiter has not told of its member yet.
fn waiting(facts: &Facts<'_>, state: &UnitState, idc: &IdcName) -> String {
    if !state.sessions.contains_key(idc) {
        return format!(
            "The arbiter of {idc} has no session in etcd yet: see `kubectl get idc {idc} -o wide`."
        );
    }
    match facts.words.get(idc) {
        Some(Some(Ok(Some(member)))) if !member.message.is_empty() => {
            format!("Member {idc}: {}", sentence(&member.message))
        }
        Some(Some(Err(error))) => format!("The arbiter of {idc} does not answer: {error}."),
        _ => format!("The arbiter of {idc} has not looked at its member yet."),
    }
}
