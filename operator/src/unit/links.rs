//! The SyncLinks of a Unit: those of its mesh, a pure function of its spec, and what they say.

use crds::names::mesh_link;
use crds::{LinkLayout, LinkSource, LinkTarget, SyncLink, SyncLinkSpec, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use model::{LinkKey, UnitKey};

use super::report::LinkFacts;
use crate::context::Context;
use crate::link::left_for_a_person;
use crate::resources::{MANAGED_BY, labels, owner};

/// A SyncLink from each member to each other one.
pub fn plan(unit: &Unit, key: &UnitKey) -> Vec<SyncLink> {
    if unit.spec.links == LinkLayout::None {
        return Vec::new();
    }
    let members = &unit.spec.members;
    let pairs = members.iter().flat_map(|source| {
        members
            .iter()
            .filter(move |target| target.idc != source.idc)
            .map(move |target| (&source.idc, &target.idc))
    });
    pairs
        .map(|(source, target)| SyncLink {
            metadata: ObjectMeta {
                name: Some(mesh_link(key.name(), source, target)),
                namespace: Some(key.namespace().to_owned()),
                labels: Some(labels([
                    MANAGED_BY,
                    ("app.kubernetes.io/name", "multiactive"),
                    ("multiactive.dev/unit", key.name()),
                ])),
                owner_references: Some(vec![owner(unit)]),
                ..ObjectMeta::default()
            },
            spec: SyncLinkSpec {
                unit: Some(key.name().to_owned()),
                source: LinkSource {
                    idc: source.clone(),
                    endpoint: None,
                    credentials_secret: None,
                },
                target: LinkTarget {
                    idc: Some(target.clone()),
                    endpoint: None,
                    credentials_secret: None,
                    kafka: None,
                },
                options: unit.spec.link_template.clone().unwrap_or_default(),
                // Left out of what is applied, so that a person may suspend a link of a mesh.
                suspended: false,
            },
            status: None,
        })
        .collect()
}

/// The Unit's links as they are, and those of its mesh that are about to be made.
pub fn facts(unit: &Unit, key: &UnitKey, context: &Context) -> Vec<LinkFacts> {
    let links = context.stores.links_of(key.namespace(), key.name());
    let mut facts: Vec<LinkFacts> = links
        .iter()
        .map(|link| LinkFacts::of(link, context))
        .collect();
    for wanted in plan(unit, key) {
        let name = wanted.name_any();
        if facts.iter().all(|fact| fact.name != name) {
            facts.push(LinkFacts {
                name,
                ends: None,
                streams: None,
                begun: false,
                phase: None,
                ready: None,
                left: Vec::new(),
            });
        }
    }
    facts.sort_by(|one, other| one.name.cmp(&other.name));
    facts
}

impl LinkFacts {
    fn of(link: &SyncLink, context: &Context) -> Self {
        let status = link.status.clone().unwrap_or_default();
        let key = LinkKey::new(link.namespace().unwrap_or_default(), link.name_any()).ok();
        let word = key.and_then(|key| context.reports.writer(&key));
        let target = link.spec.target.idc.clone();
        Self {
            name: link.name_any(),
            ends: target.map(|target| (link.spec.source.idc.clone(), target)),
            streams: match word {
                Some(Ok(said))
                    if said.phase == model::LinkPhase::Streaming && said.error.is_empty() =>
                {
                    said.lag_millis
                }
                _ => None,
            },
            begun: status.ledger.is_some(),
            phase: status.phase,
            ready: crds::condition(&status.conditions, "Ready").map(|ready| {
                (
                    ready.status == "True",
                    ready.reason.clone(),
                    ready.message.clone(),
                )
            }),
            left: left_for_a_person(link, status.conflicts_held, status.skipped_open),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{assert_snapshot, key, unit};

    #[test]
    fn a_mesh_joins_each_pair_both_ways() {
        let links = plan(&unit(), &key());
        let names: Vec<String> = links.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["orders-sh-bj", "orders-bj-sh"]);
        assert_snapshot("mesh-link", &links[0]);
    }

    #[test]
    fn no_links_where_none_are_wanted() {
        let mut unit = unit();
        unit.spec.links = LinkLayout::None;
        assert!(plan(&unit, &key()).is_empty());
    }
}
