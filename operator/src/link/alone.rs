//! Links without a Unit: what they join, and what keeps one from being started. A pure function of all
//! such links, since two that run opposite ways have to be looked at together.
//!
//! Two opposite links may both run: their ends both take writes then, and a conflict waits for a person
//! at either. Policies that choose a row are not carried out yet: two writers that do not hear of each
//! other must choose alike from the first change to the last, also while the links begin and while the
//! policy is being changed. See `docs/decisions/0015-both-ends-write.md`.

mod conflicts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crds::{Member, SyncLink};
use kube::ResourceExt;
use model::{IdcName, LinkConfig, LinkKey, Routes, routes_problem};

use super::plan::config;
use super::validate::{Ends, Surroundings};
use crate::accounts::{self, End};
use crate::unit::Problem;
pub use conflicts::conflicts;
use conflicts::settles;

/// Where a server listens.
type Address = (String, u16);

fn address(member: &Member) -> Address {
    (
        member.endpoint.host.to_ascii_lowercase(),
        member.endpoint.port,
    )
}

/// What a link without a Unit joins, or `None` with the problems.
pub fn ends(
    link: &SyncLink,
    key: &LinkKey,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Ends> {
    let [source, target] = link.spec.own_ends()?;
    let databases = databases(link, problems);
    for (place, member) in [("spec.source", &source), ("spec.target", &target)] {
        let end = End::of(place, member);
        accounts::check(&end, key.namespace(), &around.secrets, problems);
        accounts::check_routable(&end, problems);
        in_a_unit(place, member, around, problems);
    }
    let mut others: Vec<Other> = around.alone.iter().filter_map(Other::of).collect();
    let joined = joined(&source, &target, &others);
    others.retain(|other| joined.iter().any(|(_, at)| *at == address(&other.source)));
    names_are_servers(&joined, problems);
    twins(link, key, &others, (&source, &target), problems);
    let opposite = others.iter().find(|other| {
        address(&other.source) == address(&target) && address(&other.target) == address(&source)
    });
    through(link, &others, (&source, &target), problems);
    settles(link, opposite, &databases, problems);
    let ends = Ends {
        unit: None,
        origins: vec![source.idc.clone(), target.idc.clone()],
        source,
        target,
        databases,
    };
    let config = config(link, key, &ends);
    if let Some(problem) = routes_problem(&config) {
        problems.push(Problem::new("CannotRoute", format!("spec.{problem}")));
    }
    come_together(link, &config, problems);
    Some(ends)
}

/// The databases that the patterns name.
fn databases(link: &SyncLink, problems: &mut Vec<Problem>) -> Vec<String> {
    let include = &link.spec.options.tables.include;
    if include.is_empty() {
        problems.push(Problem::new(
            "NoTables",
            "spec.tables.include is empty: without a Unit nothing else says which databases are \
             copied. Name them, for example include: [\"orders.*\"].",
        ));
    }
    let mut databases = BTreeSet::new();
    for pattern in include {
        let database = pattern.split('.').next().unwrap_or_default();
        if database.contains('*') {
            problems.push(Problem::new(
                "NoTables",
                format!(
                    "spec.tables.include has {pattern:?}: without a Unit each pattern names one \
                     database before its dot, for example \"orders.*\"."
                ),
            ));
        }
        databases.insert(database.to_owned());
    }
    databases.into_iter().collect()
}

fn in_a_unit(place: &str, member: &Member, around: &Surroundings<'_>, problems: &mut Vec<Problem>) {
    if let Some(unit) = around.servers.get(&address(member)) {
        let (host, port) = address(member);
        problems.push(Problem::new(
            "ServerInUse",
            format!(
                "{place} is the server {host}:{port}, which belongs to Unit {unit}, and a link that \
                 the Unit does not know of would write past its fence: set spec.unit if both ends \
                 are its members, or give the link servers of its own."
            ),
        ));
    }
}

/// Another link without a Unit.
struct Other<'a> {
    link: &'a SyncLink,
    name: String,
    source: Member,
    target: Member,
}

impl<'a> Other<'a> {
    fn of(link: &'a std::sync::Arc<SyncLink>) -> Option<Self> {
        let [source, target] = link.spec.own_ends()?;
        let namespace = link.namespace().unwrap_or_default();
        Some(Self {
            link,
            name: format!("{namespace}/{}", link.name_any()),
            source,
            target,
        })
    }
}

/// Every server that links lead to from these two, whichever way, with the IDC it goes by.
fn joined(source: &Member, target: &Member, others: &[Other<'_>]) -> BTreeSet<(IdcName, Address)> {
    let named = |member: &Member| (member.idc.clone(), address(member));
    let mut found = BTreeSet::from([named(source), named(target)]);
    loop {
        let before = found.len();
        for other in others {
            let ends = [named(&other.source), named(&other.target)];
            let known = |end: &(IdcName, Address)| found.iter().any(|(_, at)| *at == end.1);
            if ends.iter().any(known) {
                found.extend(ends);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Changes are marked with the IDC that they were born in, so among servers that links join each has
/// one name, and each name means one.
fn names_are_servers(joined: &BTreeSet<(IdcName, Address)>, problems: &mut Vec<Problem>) {
    let mut of_address: BTreeMap<&Address, &IdcName> = BTreeMap::new();
    let mut of_idc: BTreeMap<&IdcName, &Address> = BTreeMap::new();
    for (idc, address) in joined {
        let (host, port) = address;
        if let Some(other) = of_address.insert(address, idc) {
            problems.push(Problem::new(
                "AmbiguousIdc",
                format!(
                    "links call the server {host}:{port} both {other} and {idc}; changes are marked \
                     with that name, so they would not be known for its own when they come back: use \
                     one name in all of them."
                ),
            ));
        }
        if let Some((other, at)) = of_idc.insert(idc, address) {
            problems.push(Problem::new(
                "AmbiguousIdc",
                format!(
                    "links that are joined call both {other}:{at} and {host}:{port} {idc}; changes \
                     are marked with that name, so those of the two would be taken for one \
                     server's: give each a name of its own."
                ),
            ));
        }
    }
}

/// Two links in one direction would apply everything twice.
fn twins(
    link: &SyncLink,
    key: &LinkKey,
    others: &[Other<'_>],
    (source, target): (&Member, &Member),
    problems: &mut Vec<Problem>,
) {
    let age = |link: &SyncLink, name: &str| {
        let created = link.creation_timestamp().map(|time| time.0);
        (created, name.to_owned())
    };
    let own = age(link, &key.to_string());
    let twin = others.iter().find(|other| {
        address(&other.source) == address(source)
            && address(&other.target) == address(target)
            && age(other.link, &other.name) < own
    });
    if let Some(twin) = twin {
        problems.push(Problem::new(
            "DuplicateLink",
            format!(
                "SyncLink {} copies from {} to {} already: delete one of the two.",
                twin.name, source.idc, target.idc
            ),
        ));
    }
}

/// What one link brings to a server the next one has to hand on. Which changes have come from where is
/// told by the server that they came from last, so no change may come to a server in two ways: the
/// links, whichever way they run, have to join servers like a tree.
fn through(
    link: &SyncLink,
    others: &[Other<'_>],
    (source, target): (&Member, &Member),
    problems: &mut Vec<Problem>,
) {
    let (from, to) = (address(source), address(target));
    let relays = |link: &SyncLink| link.spec.options.relay;
    for other in others {
        let (begins, ends) = (address(&other.source), address(&other.target));
        // Which of the two has to hand on what the other one brings.
        let (server, name, relays) = if ends == from && begins != to {
            (source, "this one".to_owned(), relays(link))
        } else if begins == to && ends != from {
            (
                target,
                format!("SyncLink {}", other.name),
                relays(other.link),
            )
        } else {
            continue;
        };
        if !relays {
            problems.push(Problem::new(
                "LeftOut",
                format!(
                    "SyncLink {} and this one meet at {} ({}), and what is brought there {name} would \
                     leave out: set spec.relay: true in it, or remove one of the two.",
                    other.name, server.idc, server.endpoint.host
                ),
            ));
        }
    }
    let edge = |source: Address, target: Address| {
        if source < target {
            (source, target)
        } else {
            (target, source)
        }
    };
    let edges = others
        .iter()
        .map(|it| edge(address(&it.source), address(&it.target)));
    let edges: BTreeSet<_> = edges
        .filter(|it| *it != edge(from.clone(), to.clone()))
        .collect();
    let relays = relays(link) || others.iter().any(|it| relays(it.link));
    if let Some(way) = way(&edges, &from, &to).filter(|_| relays) {
        let hosts: Vec<&str> = way.iter().map(|(host, _)| host.as_str()).collect();
        problems.push(Problem::new(
            "ComesTwice",
            format!(
                "links lead from {} to {} in another way as well (by {}), and with relay: true a change \
                 would come there twice, or go round in circles: remove one of them.",
                from.0,
                to.0,
                hosts.join(", ")
            ),
        ));
    }
}

/// The servers between two that are joined, whichever way links run.
fn way(edges: &BTreeSet<(Address, Address)>, from: &Address, to: &Address) -> Option<Vec<Address>> {
    let mut came_from: BTreeMap<&Address, &Address> = BTreeMap::from([(from, from)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(at) = waiting.pop_front() {
        for (left, right) in edges {
            let next = match at {
                _ if at == left => right,
                _ if at == right => left,
                _ => continue,
            };
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                waiting.push_back(next);
            }
        }
    }
    let mut way = Vec::new();
    let mut at = *came_from.get(to)?;
    while at != from {
        way.push(at.clone());
        at = came_from[at];
    }
    way.reverse();
    Some(way)
}

/// The writer brings several tables into one, but not safely in every case: see
/// `docs/decisions/0016-routes.md`.
fn come_together(link: &SyncLink, config: &LinkConfig, problems: &mut Vec<Problem>) {
    let routes = Routes::of(config);
    let shared = link.spec.options.tables.routes.iter().find(|route| {
        let (database, table) = route.to.split_once('.').unwrap_or_default();
        routes.shares(database, table)
    });
    if let Some(route) = shared {
        problems.push(Problem::new(
            "NotSupportedYet",
            format!(
                "spec.tables.routes (from {} to {}) may bring several tables into one, which is not \
                 supported yet: name one table in from, and exclude the source's own {} if it has one.",
                route.from, route.to, route.to
            ),
        ));
    }
}

#[cfg(test)]
mod tests;
