//! Which links a run goes along, or why it is refused. Pure.

use crds::{DataRepairPhase, LinkPhase, LinkRepair, RepairMode, SyncLink, Unit};
use kube::ResourceExt;
use model::{IdcName, UnitKey, UnitState};

use super::Facts;

/// The links to compare, and a sentence on those that another cluster has to; or why it is refused.
pub(super) fn targets(
    facts: &Facts<'_>,
    state: &UnitState,
) -> Result<(Vec<LinkRepair>, String), String> {
    let spec = &facts.repair.spec;
    let namespace = facts.repair.namespace().unwrap_or_default();
    let named = spec.link.as_deref().map(|name| {
        let found = facts.links.iter().find(|link| link.name_any() == name);
        let exists = facts.known[1].iter().any(|known| known == name);
        found.ok_or_else(|| match facts.unit {
            _ if !exists => unknown("SyncLink", "link", name, &namespace, &facts.known[1]),
            Some((key, _)) => format!(
                "SyncLink {namespace}/{name} is no link of Unit {key}: name one of its links in a new \
                 DataRepair, or leave spec.link out."
            ),
            None => format!(
                "SyncLink {namespace}/{name} has no Unit, so applications may write at both of its ends, \
                 and a row that differs may be newer at its target: only links of a Unit are compared \
                 and mended."
            ),
        })
    });
    let named = named.transpose()?;
    let Some((key, unit)) = facts.unit else {
        let name = spec.unit.clone().or_else(|| named?.spec.unit.clone());
        let name = name.unwrap_or_default();
        return Err(unknown("Unit", "unit", &name, &namespace, &facts.known[0]));
    };
    let Some(primary) = state.primary.as_ref().map(|primary| &primary.value.idc) else {
        return Err(format!(
            "Unit {key} has no primary, so there is nothing to compare its copies with. See `mactl \
             status {key}`, and create another DataRepair when it has one."
        ));
    };
    let links = match named {
        Some(link) if link.spec.source.idc != *primary => {
            return Err(format!(
                "SyncLink {namespace}/{} comes from {}, and the primary of Unit {key} is {primary}: \
                 name a link from {primary}, or spec.unit, in a new DataRepair.",
                link.name_any(),
                link.spec.source.idc
            ));
        }
        Some(link) => vec![link.as_ref()],
        None => from_primary(facts, key, unit, primary)?,
    };
    chosen(facts, &namespace, &links)
}

fn chosen(
    facts: &Facts<'_>,
    namespace: &str,
    links: &[&SyncLink],
) -> Result<(Vec<LinkRepair>, String), String> {
    let mut runs = Vec::new();
    let mut elsewhere = Vec::new();
    for link in links {
        let (name, source) = (link.name_any(), link.spec.source.idc.clone());
        let Some(target) = link.spec.target.idc.clone() else {
            return Err(format!(
                "SyncLink {namespace}/{name} has no spec.target.idc: only copies in databases can be \
                 compared."
            ));
        };
        if !(facts.here)(&target) {
            elsewhere.push(format!("{name} (to {target})"));
            continue;
        }
        let may_begin = if facts.repair.spec.mode == RepairMode::Rebuild {
            is_there(namespace, link)
        } else {
            streams(namespace, link)
        };
        // A member that is down is no reason not to look at the others.
        let (phase, message) = match may_begin {
            Ok(()) => (DataRepairPhase::Pending, String::new()),
            Err(why) => (DataRepairPhase::Refused, why),
        };
        runs.push(LinkRepair {
            link: name,
            source,
            target,
            phase,
            message,
            remaining: None,
            counts: crds::RepairCounts::default(),
            tables: Vec::new(),
            statements: Vec::new(),
        });
    }
    let others = elsewhere.join(", ");
    if runs.is_empty() {
        return Err(format!(
            "Links {others} end in other clusters, and what compares them runs there: create the \
             DataRepair in the cluster of the copy."
        ));
    }
    if runs.iter().all(|run| run.phase.is_over()) {
        return Err(runs.swap_remove(0).message);
    }
    let note = if others.is_empty() {
        String::new()
    } else {
        format!(" Not from here, but from the clusters of the copies: {others}.")
    };
    Ok((runs, note))
}

fn streams(namespace: &str, link: &SyncLink) -> Result<(), String> {
    let phase = link.status.as_ref().and_then(|status| status.phase);
    match phase {
        Some(LinkPhase::Streaming | LinkPhase::CatchingUp) => Ok(()),
        other => {
            let phase = other.map_or("not started".to_owned(), |phase| format!("{phase:?}"));
            Err(format!(
                "SyncLink {namespace}/{} is {phase}, not Streaming: its ends cannot be compared \
                 before it is. Its conditions tell why; create another DataRepair when it streams.",
                link.name_any()
            ))
        }
    }
}

/// To copy a table anew may be what a halted link needs; only one that nobody runs cannot do it.
fn is_there(namespace: &str, link: &SyncLink) -> Result<(), String> {
    let phase = link.status.as_ref().and_then(|status| status.phase);
    let phase = match phase {
        Some(LinkPhase::Suspended) => "Suspended",
        None | Some(LinkPhase::Pending) => "not started",
        Some(_) => return Ok(()),
    };
    Err(format!(
        "SyncLink {namespace}/{} is {phase}, and it is the link that copies tables anew: let it run, \
         and create another DataRepair.",
        link.name_any()
    ))
}

/// The IDCs whose copies are meant.
fn copies<'a>(
    facts: &Facts<'_>,
    key: &UnitKey,
    unit: &'a Unit,
    primary: &IdcName,
) -> Result<Vec<&'a IdcName>, String> {
    let members: Vec<&IdcName> = unit.spec.members.iter().map(|it| &it.idc).collect();
    let Some(wanted) = &facts.repair.spec.idc else {
        let others = members.into_iter().filter(|idc| *idc != primary);
        return Ok(others.collect());
    };
    let told = |idcs: &[&IdcName]| {
        let names: Vec<&str> = idcs.iter().map(|idc| idc.as_str()).collect();
        names.join(", ")
    };
    let Some(found) = members.iter().find(|idc| **idc == wanted) else {
        return Err(format!(
            "spec.idc is {:?}, but Unit {key} has no member there (there are: {}). Correct it in a new \
             DataRepair.",
            wanted.as_str(),
            told(&members)
        ));
    };
    if wanted == primary {
        let others: Vec<&IdcName> = members
            .iter()
            .copied()
            .filter(|it| *it != primary)
            .collect();
        return Err(format!(
            "spec.idc is {:?}, which is the primary of Unit {key}: what it holds is what the others \
             are copies of, and nothing is written into it. Name a copy ({}) in a new DataRepair, or \
             move the primary first (mactl switchover).",
            wanted.as_str(),
            told(&others)
        ));
    }
    Ok(vec![*found])
}

fn from_primary<'a>(
    facts: &Facts<'a>,
    key: &UnitKey,
    unit: &Unit,
    primary: &IdcName,
) -> Result<Vec<&'a SyncLink>, String> {
    copies(facts, key, unit, primary)?
        .into_iter()
        .map(|idc| {
            let joins = |link: &SyncLink| {
                link.spec.source.idc == *primary && link.spec.target.idc.as_ref() == Some(idc)
            };
            let found = facts.links.iter().find(|link| joins(link));
            found.map(AsRef::as_ref).ok_or_else(|| {
                format!("Unit {key} has no SyncLink from its primary {primary} to {idc}.")
            })
        })
        .collect()
}

fn unknown(kind: &str, field: &str, name: &str, namespace: &str, known: &[String]) -> String {
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    format!(
        "spec.{field} is {name:?}, but there is no {kind} of that name in namespace {namespace} \
         (there are: {known}). Correct it in a new DataRepair."
    )
}
