//! Whether a database that an object names can be reached with what it names: pure functions.

use std::collections::BTreeMap;

use crds::{Endpoint, Member};
use model::IdcName;

use crate::unit::Problem;

/// Secrets of one namespace: for each that exists, its keys and whether there is anything under them.
pub type Secrets = BTreeMap<String, BTreeMap<String, bool>>;

/// A database as an object names it.
pub struct End<'a> {
    /// Where in the object, for example `spec.members[0]`.
    pub place: &'a str,
    /// Its IDC.
    pub idc: &'a IdcName,
    /// Its address.
    pub endpoint: &'a Endpoint,
    /// The Secret with its account.
    pub account: &'a str,
}

impl<'a> End<'a> {
    /// A Unit's member.
    pub fn of(place: &'a str, member: &'a Member) -> Self {
        Self {
            place,
            idc: &member.idc,
            endpoint: &member.endpoint,
            account: &member.credentials_secret,
        }
    }
}

/// What is wrong with the Secrets that it names.
pub fn check(end: &End<'_>, namespace: &str, known: &Secrets, problems: &mut Vec<Problem>) {
    let End {
        place,
        idc,
        account,
        ..
    } = end;
    match known.get(*account) {
        None => problems.push(Problem::new(
            "MissingSecret",
            format!(
                "Secret {namespace}/{account} does not exist; {place} ({idc}) takes its account from \
                 it. Create it: kubectl create secret generic {account} --namespace {namespace} \
                 --from-literal=username=... --from-literal=password=..."
            ),
        )),
        Some(keys) => {
            for wanted in ["username", "password"] {
                if !keys.get(wanted).copied().unwrap_or(false) {
                    problems.push(missing_key(namespace, account, wanted, keys));
                }
            }
        }
    }
    let Some(ca) = &end.endpoint.tls.ca_secret else {
        return;
    };
    match known.get(ca) {
        None => problems.push(Problem::new(
            "MissingSecret",
            format!(
                "Secret {namespace}/{ca} does not exist; {place}.endpoint.tls.caSecret ({idc}) names \
                 it. Create it: kubectl create secret generic {ca} --namespace {namespace} \
                 --from-file=ca.crt"
            ),
        )),
        Some(keys) if !keys.get("ca.crt").copied().unwrap_or(false) => {
            problems.push(missing_key(namespace, ca, "ca.crt", keys));
        }
        Some(_) => {}
    }
}

fn missing_key(
    namespace: &str,
    secret: &str,
    wanted: &str,
    keys: &BTreeMap<String, bool>,
) -> Problem {
    let present: Vec<&str> = keys.keys().map(String::as_str).collect();
    let state = if keys.contains_key(wanted) {
        format!("Secret {namespace}/{secret} has nothing under the key {wanted}")
    } else {
        let present = if present.is_empty() {
            "none".to_owned()
        } else {
            present.join(", ")
        };
        format!("Secret {namespace}/{secret} has no key {wanted} (it has: {present})")
    };
    Problem::new("InvalidSecret", format!("{state}: put it in."))
}

/// Kubernetes refuses such addresses in EndpointSlices, and in a pod they mean the pod itself.
pub fn check_routable(end: &End<'_>, problems: &mut Vec<Problem>) {
    let host = &end.endpoint.host;
    let local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| {
            address.is_loopback() || address.is_unspecified() || is_link_local(address)
        });
    if local {
        problems.push(Problem::new(
            "LocalEndpoint",
            format!(
                "{}.endpoint.host is {host:?}, which means each pod itself and not a server of IDC \
                 {}: give an address that pods of every IDC reach.",
                end.place, end.idc
            ),
        ));
    }
}

fn is_link_local(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
