//! Three operators in a small world of their own: whatever they are given, and in whatever order they
//! come to act, nothing takes effect without a majority, and they come to rest.

use model::{IdcDoc, IdcRole};

use super::*;
use crate::agreement::decide::majority;
use crate::samples::{idc_name, key};

const NAMES: [&str; 3] = ["bj", "hz", "sh"];

fn spec(text: &str) -> SeenSpec {
    SeenSpec {
        hash: SpecHash(format!("hash of {text}")),
        spec: text.to_owned(),
    }
}

fn all() -> IdcSet {
    let document = IdcDoc {
        role: IdcRole::Data,
    };
    let idcs = NAMES.map(|name| (idc_name(name), document.clone()));
    IdcSet { idcs: idcs.into() }
}

fn cluster(name: &str) -> Local {
    Local {
        idc: idc_name(name),
        idcs: Some(IdcSet::default()),
        units: BTreeMap::new(),
        links: BTreeSet::new(),
    }
}

/// The clusters, and etcd.
struct World {
    clusters: Vec<Local>,
    etcd: Shared,
}

impl World {
    fn new() -> Self {
        Self {
            clusters: NAMES.iter().map(|name| cluster(name)).collect(),
            etcd: Shared::default(),
        }
    }

    fn with_idcs() -> Self {
        let mut world = Self::new();
        for cluster in &mut world.clusters {
            cluster.idcs = Some(all());
        }
        world.settle();
        assert_eq!(world.etcd.idcs, all());
        world
    }

    /// What the operator of one cluster does after a look at etcd as it was: etcd refuses what was
    /// decided from anything that has changed since.
    fn act(&mut self, number: usize, seen: &Shared) -> bool {
        let local = self.clusters[number].clone();
        let steps = plan(&local, seen);
        let mut acted = false;
        for step in steps {
            acted |= self.commit(&local, seen, step);
        }
        acted
    }

    fn commit(&mut self, local: &Local, seen: &Shared, step: Step) -> bool {
        let here = local.idc.clone();
        let etcd = &mut self.etcd;
        match step {
            Step::SayIdcs(Some(set)) => drop(etcd.idc_views.insert(here, set)),
            Step::SayIdcs(None) => drop(etcd.idc_views.remove(&here)),
            Step::SayUnit(key, sighting) => {
                etcd.unit_views
                    .entry(key)
                    .or_default()
                    .insert(here, sighting);
            }
            Step::UnsayUnit(key) => {
                let views = etcd.unit_views.entry(key.clone()).or_default();
                views.remove(&here);
                if views.is_empty() {
                    etcd.unit_views.remove(&key);
                }
            }
            Step::EnforceIdcs(set, by) => {
                let same = |idc: &IdcName| etcd.idc_views.get(idc) == seen.idc_views.get(idc);
                if etcd.idcs != seen.idcs || !by.iter().all(same) {
                    return false;
                }
                etcd.idcs = set;
            }
            Step::EnforceUnit(ref key, _, ref by) | Step::ForgetUnit(ref key, ref by) => {
                let view = |etcd: &Shared, idc: &IdcName| {
                    etcd.unit_views
                        .get(key)
                        .and_then(|views| views.get(idc))
                        .cloned()
                };
                let same = by.iter().all(|idc| view(etcd, idc) == view(seen, idc));
                if etcd.idcs != seen.idcs || etcd.units.get(key) != seen.units.get(key) || !same {
                    return false;
                }
                // The promise, at the very instant.
                let wanted = match &step {
                    Step::EnforceUnit(_, spec, _) => UnitSighting::Spec(spec.clone()),
                    _ => UnitSighting::Gone,
                };
                let electorate = etcd.idcs.idcs.keys();
                let votes = electorate.filter(|idc| view(etcd, idc).as_ref() == Some(&wanted));
                assert!(votes.count() >= majority(etcd.idcs.idcs.len()));
                match step {
                    Step::EnforceUnit(key, spec, _) => etcd.units.insert(key, Some(spec.hash)),
                    _ => etcd.units.remove(key),
                };
            }
            Step::UnsaySyncer(link) => drop(etcd.syncers.remove(&link)),
        }
        true
    }

    /// Everybody acts, each on what etcd holds then, until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            let mut acted = false;
            for number in 0..self.clusters.len() {
                let seen = self.etcd.clone();
                acted |= self.act(number, &seen);
            }
            if !acted {
                return;
            }
        }
        panic!("they do not come to rest: {:?}", self.etcd);
    }

    fn hold(&mut self, name: &str, held: Option<Held>) {
        let cluster = self
            .clusters
            .iter_mut()
            .find(|cluster| cluster.idc.as_str() == name)
            .unwrap();
        match held {
            Some(held) => drop(cluster.units.insert(key(), held)),
            None => drop(cluster.units.remove(&key())),
        }
    }

    fn in_force(&self) -> Option<&str> {
        let hash = self.etcd.units.get(&key())?.as_ref()?;
        Some(hash.0.trim_start_matches("hash of "))
    }
}

fn held(text: &str) -> Held {
    Held::Spec(spec(text))
}

#[test]
fn a_unit_takes_effect_changes_and_ends_by_majority() {
    let mut world = World::with_idcs();
    let mut after = |name: &str, holds: Option<Held>| {
        world.hold(name, holds);
        world.settle();
        world.in_force().map(str::to_owned)
    };
    assert_eq!(after("sh", Some(held("1"))), None);
    assert_eq!(after("bj", Some(held("1"))).as_deref(), Some("1"));
    assert_eq!(after("hz", Some(held("1"))).as_deref(), Some("1"));
    assert_eq!(after("sh", Some(held("2"))).as_deref(), Some("1"));
    assert_eq!(after("hz", Some(held("2"))).as_deref(), Some("2"));
    // Something wrong in one cluster leaves what it said.
    assert_eq!(after("bj", Some(held("2"))).as_deref(), Some("2"));
    assert_eq!(after("bj", Some(Held::Invalid)).as_deref(), Some("2"));
    assert_eq!(after("sh", Some(Held::Deleting)).as_deref(), Some("2"));
    // Also an object that somebody took away by force is known to be gone.
    assert_eq!(after("sh", None).as_deref(), Some("2"));
    assert_eq!(after("hz", None), None);
    assert_eq!(after("bj", None), None);
    assert!(world.etcd.unit_views.is_empty(), "nothing is left behind");
}

#[test]
fn an_operator_that_finds_nothing_said_ends_nothing() {
    let mut world = World::with_idcs();
    // A Unit that one operator has published for all, before there were clusters for each.
    world.etcd.units.insert(key(), None);
    world.settle();
    assert!(world.etcd.units.contains_key(&key()));
    world.hold("sh", Some(held("1")));
    world.hold("bj", Some(held("1")));
    world.settle();
    assert_eq!(world.in_force(), Some("1"));
}

#[test]
fn a_syncer_of_a_link_that_is_gone_is_reached_nowhere() {
    let mut world = World::with_idcs();
    let link = LinkKey::new("shop", "orders-sh-bj").unwrap();
    world.etcd.syncers.insert(link, idc_name("sh"));
    world.settle();
    assert!(world.etcd.syncers.is_empty());
}

/// Numbers that look random; the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Manifests arrive and go in any order; operators act on etcd as it was some steps ago. The promise
/// is checked with each commit, above.
#[test]
fn whatever_the_order_nothing_takes_effect_without_its_majority() {
    for seed in 0..2_000 {
        let mut numbers = Numbers(seed);
        let mut world = World::new();
        let mut past = vec![world.etcd.clone()];
        for _ in 0..60 {
            let number = numbers.below(3);
            match numbers.below(6) {
                0 => world.clusters[number].idcs = Some(all()),
                1 => {
                    let text = ["1", "2"][numbers.below(2)];
                    world.clusters[number]
                        .units
                        .insert(key(), Held::Spec(spec(text)));
                }
                2 => drop(world.clusters[number].units.insert(key(), Held::Deleting)),
                3 => drop(world.clusters[number].units.remove(&key())),
                _ => {
                    let back = numbers.below(past.len().min(4));
                    let seen = past[past.len() - 1 - back].clone();
                    world.act(number, &seen);
                    past.push(world.etcd.clone());
                }
            }
        }
        // All are given the same at last, and agree on it.
        for cluster in &mut world.clusters {
            cluster.idcs = Some(all());
            cluster.units.insert(key(), Held::Spec(spec("last")));
        }
        world.settle();
        assert_eq!(world.in_force(), Some("last"), "seed {seed}");
    }
}
