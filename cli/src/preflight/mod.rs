//! What preflight looks at and what it says; connecting is in `commands::preflight`.

pub mod inspect;
mod manifest;
mod report;
mod secrets;

#[cfg(test)]
mod tests;

pub use manifest::Manifest;
pub use report::{MemberReport, Report, UnitReport, render};
pub use secrets::{SecretSource, credentials};

use std::collections::BTreeMap;

use crds::Unit;
use kube::ResourceExt;
use model::{Finding, IdcName, Severity, UnitKey};

/// Members whose Idc is not there.
pub fn unknown_idcs(unit: &Unit, known: &[String]) -> Vec<Finding> {
    let missing = unit
        .spec
        .members
        .iter()
        .filter(|member| !known.iter().any(|idc| idc == member.idc.as_str()));
    missing
        .map(|member| {
            let idc = &member.idc;
            Finding {
                severity: Severity::Blocking,
                check: "IdcMissing".to_owned(),
                object: format!("member {idc}"),
                message: format!("there is no Idc {idc}, so nothing would run there."),
                fix: format!(
                    "apiVersion: multiactive.dev/v1alpha1\nkind: Idc\nmetadata: {{name: {idc}}}\nspec: {{role: Data}}"
                ),
            }
        })
        .collect()
}

/// Servers that two Units name: `read_only` is server-wide, so a Unit owns its servers.
///
/// `others` are Units that are not checked themselves, for example those in the cluster while a
/// manifest is checked.
pub fn shared_servers(units: &[Unit], others: &[Unit]) -> BTreeMap<UnitKey, Vec<Finding>> {
    let mut owners: BTreeMap<String, Vec<(UnitKey, IdcName)>> = BTreeMap::new();
    let checked: Vec<UnitKey> = units.iter().filter_map(key).collect();
    let others = others
        .iter()
        .filter(|unit| key(unit).is_none_or(|key| !checked.contains(&key)));
    for unit in units.iter().chain(others) {
        let Some(key) = key(unit) else { continue };
        for member in &unit.spec.members {
            let server = member.endpoint.document().to_string();
            owners
                .entry(server)
                .or_default()
                .push((key.clone(), member.idc.clone()));
        }
    }
    let mut findings: BTreeMap<UnitKey, Vec<Finding>> = BTreeMap::new();
    for (server, owners) in &owners {
        for (unit, idc) in owners.iter().filter(|(unit, _)| checked.contains(unit)) {
            let Some((other, _)) = owners.iter().find(|(other, _)| other != unit) else {
                continue;
            };
            findings.entry(unit.clone()).or_default().push(Finding {
                severity: Severity::Blocking,
                check: "ServerShared".to_owned(),
                object: format!("member {idc} ({server})"),
                message: format!(
                    "Unit {other} names the same server, and a Unit owns its servers: whoever is \
                     primary is decided for the whole server."
                ),
                fix: "give each Unit servers of its own, or list the databases of both in one Unit"
                    .to_owned(),
            });
        }
    }
    findings
}

/// The name of a Unit; `None` for one that the API server would refuse.
pub fn key(unit: &Unit) -> Option<UnitKey> {
    UnitKey::new(unit.namespace().unwrap_or_default(), unit.name_any()).ok()
}
