//! Addresses of database servers. Names are resolved in the background, so that a slow name server
//! never holds up routing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::queues::{Queues, Target};
use crate::stores::Stores;

/// How often names are resolved anew.
const REFRESH: Duration = Duration::from_secs(15);
/// How soon a name that was just asked for is resolved.
const LOOK: Duration = Duration::from_millis(200);
/// A name server that takes longer has not answered.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Its addresses, in order.
    Addresses(BTreeSet<IpAddr>),
    /// It was asked for just now.
    Pending,
    /// The name server's answer, where there has never been a better one.
    Failed(String),
}

/// The known hosts.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    hosts: Arc<RwLock<BTreeMap<String, Resolution>>>,
}

impl Resolver {
    /// The addresses of a host. One that is not known yet is looked up soon, and the Units that
    /// use it are looked at again then.
    pub fn addresses(&self, host: &str) -> Resolution {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Resolution::Addresses(BTreeSet::from([address]));
        }
        let known = self
            .hosts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(host)
            .cloned();
        known.unwrap_or_else(|| {
            let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
            hosts
                .entry(host.to_owned())
                .or_insert(Resolution::Pending)
                .clone()
        })
    }

    /// Resolves until the token is cancelled.
    pub async fn run(self, stores: Stores, queues: Queues, shutdown: CancellationToken) {
        let mut rounds: u32 = 0;
        loop {
            let refresh = rounds.is_multiple_of(75);
            for host in self.due(refresh, &stores) {
                let found = resolve(&host).await;
                if self.learn(&host, found) {
                    queues.send(users(&host, &stores));
                }
            }
            rounds = rounds.wrapping_add(1);
            debug_assert_eq!(LOOK * 75, REFRESH);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Hosts to be looked up: those just asked for, or all that are still in use.
    fn due(&self, refresh: bool, stores: &Stores) -> Vec<String> {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if refresh {
            hosts.retain(|host, _| !users(host, stores).is_empty());
            return hosts.keys().cloned().collect();
        }
        let pending = hosts
            .iter()
            .filter(|(_, known)| **known == Resolution::Pending);
        pending.map(|(host, _)| host.clone()).collect()
    }

    /// Takes in an answer; whether it is news. A failure never replaces addresses: a name server
    /// that is down must not take a working Service away.
    fn learn(&self, host: &str, found: Resolution) -> bool {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let known = hosts.entry(host.to_owned()).or_insert(Resolution::Pending);
        let keep = matches!(
            (&*known, &found),
            (Resolution::Addresses(_), Resolution::Failed(_))
        );
        if keep || *known == found {
            return false;
        }
        *known = found;
        true
    }
}

async fn resolve(host: &str) -> Resolution {
    match tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(found)) => {
            let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
            if addresses.is_empty() {
                Resolution::Failed(format!("the name {host} has no address"))
            } else {
                Resolution::Addresses(addresses)
            }
        }
        Ok(Err(error)) => {
            Resolution::Failed(format!("the name {host} cannot be resolved: {error}"))
        }
        Err(_) => Resolution::Failed(format!("no name server has answered for {host}")),
    }
}

fn users(host: &str, stores: &Stores) -> Vec<Target> {
    let units = stores.units.state_filter(|unit| {
        unit.spec
            .members
            .iter()
            .any(|member| member.endpoint.host == host)
    });
    units
        .iter()
        .map(|unit| {
            use kube::ResourceExt;
            Target::Unit(unit.namespace().unwrap_or_default(), unit.name_any())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Resolution {
        Resolution::Addresses(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_name_server_that_is_down_takes_nothing_away() {
        let resolver = Resolver::default();
        assert_eq!(resolver.addresses("db.example"), Resolution::Pending);
        assert!(resolver.learn("db.example", Resolution::Failed("no".to_owned())));
        assert!(resolver.learn("db.example", addresses(&["192.0.2.1"])));
        assert!(!resolver.learn("db.example", Resolution::Failed("no".to_owned())));
        assert!(!resolver.learn("db.example", addresses(&["192.0.2.1"])));
        assert!(resolver.learn("db.example", addresses(&["192.0.2.2"])));
        assert_eq!(resolver.addresses("db.example"), addresses(&["192.0.2.2"]));
    }

    #[test]
    fn an_address_needs_no_name_server() {
        let resolver = Resolver::default();
        assert_eq!(resolver.addresses("192.0.2.7"), addresses(&["192.0.2.7"]));
        assert_eq!(
            resolver.addresses("2001:db8::1"),
            addresses(&["2001:db8::1"])
        );
    }
}
