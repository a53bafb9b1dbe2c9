//! Where applications are led: a pure function from what etcd holds to Services and their
//! endpoints. `-rw` leads to a primary that has said of the current epoch that it is open, or
//! nowhere.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::{Member, Unit};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{IdcName, UnitKey, UnitState};

use crate::resolve::Resolution;
use crate::resources::{MANAGED_BY, labels, owner};

/// The port of both Services. The servers' own ports are in the slices.
const SERVICE_PORT: u16 = 3306;
/// By this name the Service's port and the slices' find each other.
const PORT_NAME: &str = "mysql";

/// What leads applications to a Unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoutingPlan {
    /// `<unit>-rw` and `<unit>-ro`.
    pub services: Vec<Service>,
    /// Their endpoints.
    pub slices: Vec<EndpointSlice>,
    /// Names of servers that cannot be led to, with the reason.
    pub unresolved: Vec<String>,
}

/// The primary that applications may write to: it holds the current epoch and says it is open.
pub fn open_primary(state: &UnitState) -> Option<&IdcName> {
    let primary = &state.primary.as_ref()?.value;
    let epoch = &state.epoch.as_ref()?.value;
    (primary.open && primary.epoch == epoch.epoch && primary.idc == epoch.idc)
        .then_some(&primary.idc)
}

/// The name of the Service for writers or for readers.
pub fn service_name(key: &UnitKey, purpose: &str) -> String {
    format!("{}-{purpose}", key.name())
}

/// Plans routing. `too_old` tells of copies that are too old to be read.
pub fn plan(
    unit: &Unit,
    key: &UnitKey,
    state: &UnitState,
    resolve: impl Fn(&str) -> Resolution,
    too_old: &BTreeSet<IdcName>,
) -> RoutingPlan {
    let mut plan = RoutingPlan::default();
    if !unit.spec.routing.service {
        return plan;
    }
    plan.services = ["rw", "ro"]
        .map(|purpose| service(unit, key, purpose))
        .to_vec();
    let primary = open_primary(state).and_then(|idc| unit.spec.member(idc));
    let writers = service_name(key, "rw");
    plan.add(unit, key, &writers, &writers, primary, &resolve);

    let readable = readers(unit, state, primary, too_old);
    let readers = service_name(key, "ro");
    for member in &unit.spec.members {
        // Ports may differ between members, and a slice has one port for all its endpoints.
        let slice = format!("{readers}-{}", member.idc);
        let chosen = readable.contains(&member.idc).then_some(member);
        plan.add(unit, key, &readers, &slice, chosen, &resolve);
    }
    plan
}

/// Healthy copies; the primary itself where there are none.
fn readers(
    unit: &Unit,
    state: &UnitState,
    primary: Option<&Member>,
    too_old: &BTreeSet<IdcName>,
) -> BTreeSet<IdcName> {
    let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
    let healthy = |idc: &IdcName| {
        state.members.get(idc).is_some_and(|record| {
            record.value.reachable && record.value.fenced && record.value.preflight_passed
        })
    };
    let copies: BTreeSet<IdcName> = unit
        .spec
        .members
        .iter()
        .map(|member| member.idc.clone())
        .filter(|idc| Some(idc) != holder && healthy(idc) && !too_old.contains(idc))
        .collect();
    if copies.is_empty() {
        primary
            .map(|member| member.idc.clone())
            .into_iter()
            .collect()
    } else {
        copies
    }
}

impl RoutingPlan {
    /// Adds a slice for each family of addresses. The IPv4 one is always there, empty where nothing
    /// is led to; an IPv6 one only where it leads somewhere.
    fn add(
        &mut self,
        unit: &Unit,
        key: &UnitKey,
        service: &str,
        slice: &str,
        member: Option<&Member>,
        resolve: &impl Fn(&str) -> Resolution,
    ) {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        if let Some(member) = member {
            match resolve(&member.endpoint.host) {
                Resolution::Addresses(addresses) => {
                    for address in addresses {
                        match address {
                            IpAddr::V4(_) => four.push(address),
                            IpAddr::V6(_) => six.push(address),
                        }
                    }
                }
                Resolution::Pending => {}
                Resolution::Failed(reason) => {
                    self.unresolved
                        .push(format!("member {}: {reason}", member.idc));
                }
            }
        }
        let port = member.map_or(SERVICE_PORT, |member| member.endpoint.port);
        self.slices
            .push(endpoints(unit, key, service, slice, "IPv4", &four, port));
        if !six.is_empty() {
            let slice = format!("{slice}-v6");
            self.slices
                .push(endpoints(unit, key, service, &slice, "IPv6", &six, port));
        }
    }
}

fn metadata(unit: &Unit, key: &UnitKey, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(key.namespace().to_owned()),
        labels: Some(labels([
            MANAGED_BY,
            ("app.kubernetes.io/name", "multiactive"),
            ("multiactive.dev/unit", key.name()),
        ])),
        owner_references: Some(vec![owner(unit)]),
        ..ObjectMeta::default()
    }
}

fn service(unit: &Unit, key: &UnitKey, purpose: &str) -> Service {
    Service {
        metadata: metadata(unit, key, &service_name(key, purpose)),
        // Without a selector: the slices are ours to write.
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: i32::from(SERVICE_PORT),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn endpoints(
    unit: &Unit,
    key: &UnitKey,
    service: &str,
    name: &str,
    family: &str,
    addresses: &[IpAddr],
    port: u16,
) -> EndpointSlice {
    let mut metadata = metadata(unit, key, name);
    let extra = labels([
        ("kubernetes.io/service-name", service),
        (
            "endpointslice.kubernetes.io/managed-by",
            "operator.multiactive.dev",
        ),
    ]);
    metadata.labels.get_or_insert_default().extend(extra);
    let endpoint = |address: &IpAddr| Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    };
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        endpoints: Some(addresses.iter().map(endpoint).collect()),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(i32::from(port)),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::ResourceExt;
    use model::Epoch;

    use super::*;
    use crate::samples::{assert_snapshot, idc_name, key, member, state, unit};

    fn resolve(host: &str) -> Resolution {
        match host.parse() {
            Ok(address) => Resolution::Addresses(BTreeSet::from([address])),
            Err(_) if host == "two.example" => Resolution::Addresses(
                ["192.0.2.7", "2001:db8::7"]
                    .iter()
                    .map(|text| text.parse().unwrap())
                    .collect(),
            ),
            Err(_) => Resolution::Failed("no such name".to_owned()),
        }
    }

    /// Addresses by slice.
    fn led(unit: &Unit, state: &UnitState, too_old: &[&str]) -> BTreeMap<String, Vec<String>> {
        let too_old = too_old.iter().map(|idc| idc_name(idc)).collect();
        let plan = plan(unit, &key(), state, resolve, &too_old);
        let addresses = |slice: &EndpointSlice| {
            let endpoints = slice.endpoints.clone().unwrap();
            endpoints
                .into_iter()
                .flat_map(|endpoint| endpoint.addresses)
                .collect()
        };
        plan.slices
            .iter()
            .map(|slice| (slice.name_any(), addresses(slice)))
            .collect()
    }

    fn writers(state: &UnitState) -> Vec<String> {
        led(&unit(), state, &[])["orders-rw"].clone()
    }

    #[test]
    fn routing_as_it_is_applied() {
        let plan = plan(&unit(), &key(), &state(), resolve, &BTreeSet::new());
        assert_snapshot("routing", &(plan.services, plan.slices));
    }

    #[test]
    fn writers_are_led_to_an_open_primary_of_the_current_epoch_or_nowhere() {
        assert_eq!(writers(&state()), ["192.0.2.1"]);
        let mut closed = state();
        closed.primary.as_mut().unwrap().value.open = false;
        assert!(writers(&closed).is_empty());
        let mut ended = state();
        ended.epoch.as_mut().unwrap().value.epoch = Epoch(2);
        assert!(writers(&ended).is_empty());
        let mut gone = state();
        gone.primary = None;
        assert!(writers(&gone).is_empty());
        let mut unknown = state();
        unknown.epoch = None;
        assert!(writers(&unknown).is_empty());
    }

    #[test]
    fn readers_are_led_to_healthy_copies_and_else_to_the_primary() {
        let readers = |state: &UnitState, too_old: &[&str]| {
            let led = led(&unit(), state, too_old);
            [led["orders-ro-sh"].clone(), led["orders-ro-bj"].clone()].concat()
        };
        assert_eq!(readers(&state(), &[]), ["192.0.2.2"]);
        assert_eq!(readers(&state(), &["bj"]), ["192.0.2.1"]);
        let mut broken = state();
        broken
            .members
            .get_mut(&idc_name("bj"))
            .unwrap()
            .value
            .reachable = false;
        assert_eq!(readers(&broken, &[]), ["192.0.2.1"]);
        broken.primary = None;
        assert!(readers(&broken, &[]).is_empty());
    }

    #[test]
    fn names_lead_to_all_their_addresses_and_failures_are_told() {
        let mut unit = unit();
        member(&mut unit, 0).endpoint.host = "two.example".to_owned();
        let led = led(&unit, &state(), &[]);
        assert_eq!(led["orders-rw"], ["192.0.2.7"]);
        assert_eq!(led["orders-rw-v6"], ["2001:db8::7"]);
        member(&mut unit, 0).endpoint.host = "none.example".to_owned();
        let plan = plan(&unit, &key(), &state(), resolve, &BTreeSet::new());
        assert_eq!(plan.unresolved, ["member sh: no such name"]);
    }

    #[test]
    fn no_services_where_none_are_wanted() {
        let mut unit = unit();
        unit.spec.routing.service = false;
        let plan = plan(&unit, &key(), &state(), resolve, &BTreeSet::new());
        assert_eq!(plan, RoutingPlan::default());
    }
}
