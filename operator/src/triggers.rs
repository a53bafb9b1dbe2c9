//! Which custom resources a change concerns.

use std::collections::BTreeSet;

use crds::{DataRepair, Idc, Switchover, SyncLink, Unit};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Resource, ResourceExt};
use model::{IdcName, UnitKey};
use topology::{Changes, TopologyState};

use crate::queues::Target;
use crate::stores::Stores;

fn place(object: &impl ResourceExt) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// An Idc concerns itself, and the Units and links that name it.
pub fn idc(idc: &Idc, stores: &Stores) -> Vec<Target> {
    let name = idc.name_any();
    let mut targets = vec![Target::Idc(name.clone())];
    for unit in stores.units.state() {
        if unit
            .spec
            .members
            .iter()
            .any(|member| member.idc.as_str() == name)
        {
            targets.extend(unit_and_links(&unit, stores));
        }
    }
    targets.extend(alone(stores));
    targets
}

/// A Unit concerns itself, its links, requests about it, its IDCs (for the credentials and for
/// their deletion), and Units that use the same server.
pub fn unit(unit: &Unit, stores: &Stores) -> Vec<Target> {
    let (namespace, name) = place(unit);
    let mut targets = unit_and_links(unit, stores);
    targets.extend(
        unit.spec
            .members
            .iter()
            .map(|member| Target::idc(&member.idc)),
    );
    targets.extend(switchovers_of(&namespace, &name, stores));
    targets.extend(repairs_of(&namespace, &name, stores));
    // Their servers may be this Unit's from now on, or no longer.
    targets.extend(alone(stores));
    for other in stores.units.state() {
        if shares_server(unit, &other) {
            let (namespace, name) = place(&*other);
            targets.push(Target::Unit(namespace, name));
        }
    }
    targets
}

fn shares_server(unit: &Unit, other: &Unit) -> bool {
    unit.spec.members.iter().any(|member| {
        other.spec.members.iter().any(|theirs| {
            theirs.endpoint.host == member.endpoint.host
                && theirs.endpoint.port == member.endpoint.port
        })
    })
}

fn unit_and_links(unit: &Unit, stores: &Stores) -> Vec<Target> {
    let (namespace, name) = place(unit);
    let links = stores.links_of(&namespace, &name);
    let mut targets = vec![Target::Unit(namespace.clone(), name)];
    targets.extend(
        links
            .iter()
            .map(|link| Target::Link(namespace.clone(), link.name_any())),
    );
    targets
}

fn switchovers_of(namespace: &str, unit: &str, stores: &Stores) -> Vec<Target> {
    let found = stores.switchovers.state_filter(|switchover| {
        switchover.namespace().as_deref() == Some(namespace) && switchover.spec.unit == unit
    });
    found
        .iter()
        .map(|switchover| Target::Switchover(namespace.to_owned(), switchover.name_any()))
        .collect()
}

/// Those that are not through: the others are not concerned by anything any more.
fn repairs_of(namespace: &str, unit: &str, stores: &Stores) -> Vec<Target> {
    let links = stores.links_of(namespace, unit);
    let found = stores.repairs.state_filter(|repair| {
        let spec = &repair.spec;
        let named = |link: &str| links.iter().any(|it| it.name_any() == link);
        let status = repair.status.as_ref();
        repair.namespace().as_deref() == Some(namespace)
            && status.is_none_or(|status| status.completion_time.is_none())
            && (spec.unit.as_deref() == Some(unit) || spec.link.as_deref().is_some_and(named))
    });
    let found = found.iter();
    found
        .map(|repair| Target::Repair(namespace.to_owned(), repair.name_any()))
        .collect()
}

/// A SyncLink concerns itself and its Unit, whose health it is part of. One without a Unit concerns
/// every other such link: those that join the same servers are judged together.
pub fn link(link: &SyncLink, stores: &Stores) -> Vec<Target> {
    let (namespace, name) = place(link);
    let unit = link
        .spec
        .unit
        .clone()
        .map(|unit| Target::Unit(namespace.clone(), unit));
    if unit.is_none() {
        return alone(stores)
            .chain([Target::Link(namespace, name)])
            .collect();
    }
    let mut targets = vec![Target::Link(namespace, name)];
    targets.extend(unit);
    targets
}

/// The links without a Unit.
fn alone(stores: &Stores) -> impl Iterator<Item = Target> {
    let found = stores.links.state_filter(|link| link.spec.unit.is_none());
    found
        .into_iter()
        .map(|link| Target::Link(link.namespace().unwrap_or_default(), link.name_any()))
}

/// A Switchover concerns itself.
pub fn switchover(switchover: &Switchover, _: &Stores) -> Vec<Target> {
    let (namespace, name) = place(switchover);
    vec![Target::Switchover(namespace, name)]
}

/// A DataRepair concerns itself.
pub fn repair(repair: &DataRepair, _: &Stores) -> Vec<Target> {
    let (namespace, name) = place(repair);
    vec![Target::Repair(namespace, name)]
}

/// What we made concerns whom it was made for.
pub fn owned<K: Resource>(object: &K, _: &Stores) -> Vec<Target> {
    Target::owner_of(object).into_iter().collect()
}

/// An EndpointSlice of ours concerns whom it was made for; one that Kubernetes has made for a
/// syncer's Service, whose labels it carries, concerns the link.
pub fn slice(slice: &EndpointSlice, stores: &Stores) -> Vec<Target> {
    let mut targets = owned(slice, stores);
    if let Some(link) = slice.labels().get("multiactive.dev/link") {
        let namespace = slice.namespace().unwrap_or_default();
        targets.push(Target::Link(namespace, link.clone()));
    }
    targets
}

/// An arbiter's pod concerns its Idc.
pub fn arbiter_pod(pod: &Pod, _: &Stores) -> Vec<Target> {
    pod.labels()
        .get("multiactive.dev/idc")
        .cloned()
        .map(Target::Idc)
        .into_iter()
        .collect()
}

/// A Secret concerns the Units that name it and their arbiters; those with certificates of the
/// installation concern all Units, which say when one ends, and the transport's all links.
pub fn secret(secret: &Secret, stores: &Stores, certificates: &Certificates) -> Vec<Target> {
    let (namespace, name) = place(secret);
    if let Some(owner) = Target::owner_of(secret) {
        return vec![owner];
    }
    if namespace == certificates.namespace {
        let units = stores.units.state();
        let units = units.iter().map(|unit| {
            let (namespace, name) = place(&**unit);
            Target::Unit(namespace, name)
        });
        if name == certificates.transport {
            let links = stores.links.state();
            let links = links
                .iter()
                .map(|link| Target::Link(link.namespace().unwrap_or_default(), link.name_any()));
            return links.chain(units).collect();
        }
        if Some(&name) == certificates.etcd.as_ref() {
            return units.collect();
        }
    }
    let users = stores.units.state_filter(|unit| {
        unit.namespace().as_deref() == Some(namespace.as_str()) && uses(unit, &name)
    });
    let mut targets: Vec<Target> = alone(stores).collect();
    for unit in users {
        targets.extend(unit_and_links(&unit, stores));
        targets.extend(
            unit.spec
                .members
                .iter()
                .map(|member| Target::idc(&member.idc)),
        );
    }
    targets
}

/// The Secrets with certificates of the installation.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The operator's namespace, where they are.
    pub namespace: String,
    /// That of links and promises.
    pub transport: String,
    /// That for etcd.
    pub etcd: Option<String>,
}

fn uses(unit: &Unit, secret: &str) -> bool {
    unit.spec.members.iter().any(|member| {
        member.credentials_secret == secret
            || member.endpoint.tls.ca_secret.as_deref() == Some(secret)
    })
}

/// A change in etcd concerns the Units it speaks of, their links, requests and IDCs; a change of
/// sessions concerns every Unit, since its members' arbiters came or went.
pub fn etcd(changes: &Changes, state: &TopologyState, stores: &Stores) -> BTreeSet<Target> {
    let mut targets = BTreeSet::new();
    if changes.listed.is_some() || changes.agreed_idcs {
        targets.extend(stores.everything());
    }
    if changes.idcs || changes.sessions || changes.listed.is_some() {
        targets.extend(
            stores
                .idcs
                .state()
                .iter()
                .map(|idc| Target::Idc(idc.name_any())),
        );
    }
    if changes.sessions {
        targets.extend(state.unit_keys().map(Target::unit));
    }
    targets.extend(changes.syncers.iter().map(Target::link));
    for key in changes.units.union(&changes.agreed_units) {
        targets.extend(unit_by_key(key, stores));
    }
    targets
}

fn unit_by_key(key: &UnitKey, stores: &Stores) -> Vec<Target> {
    let mut targets = vec![Target::unit(key)];
    let links = stores.links_of(key.namespace(), key.name());
    targets.extend(
        links
            .iter()
            .map(|link| Target::Link(key.namespace().to_owned(), link.name_any())),
    );
    targets.extend(switchovers_of(key.namespace(), key.name(), stores));
    targets.extend(repairs_of(key.namespace(), key.name(), stores));
    if let Some(unit) = stores.unit(key) {
        targets.extend(
            unit.spec
                .members
                .iter()
                .map(|member| Target::idc(&member.idc)),
        );
    }
    targets
}

/// A new word from an arbiter concerns its Idc and the Units with a member there.
pub fn arbiter(idc: &IdcName, stores: &Stores) -> Vec<Target> {
    let mut targets = vec![Target::idc(idc)];
    for unit in stores.units.state() {
        if unit.spec.member(idc).is_some() {
            targets.extend(unit_and_links(&unit, stores));
        } else {
            // It votes, or says why it does not.
            let (namespace, name) = place(&*unit);
            targets.push(Target::Unit(namespace, name));
        }
    }
    targets
}
