//! What the operator of one IDC has to say and to put in force now: a pure function of what its
//! cluster holds and of what etcd holds.

use std::collections::{BTreeMap, BTreeSet};

use model::{IdcName, IdcSet, LinkKey, SeenSpec, SpecHash, UnitKey, UnitSighting};
use topology::TopologyState;

use super::decide::{Outcome, Seen, decide, decide_idcs};

/// A Unit as this cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// With this spec.
    Spec(SeenSpec),
    /// With something wrong about it: what was said of it before stays.
    Invalid,
    /// It is being deleted.
    Deleting,
}

/// What this cluster holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The IDC that it is.
    pub idc: IdcName,
    /// Its Idcs; `None` where something is wrong about one, so that what was said before stays.
    pub idcs: Option<IdcSet>,
    /// Its Units.
    pub units: BTreeMap<UnitKey, Held>,
    /// Its links.
    pub links: BTreeSet<LinkKey>,
}

/// What etcd holds, as far as agreeing is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shared {
    /// The IDCs in force.
    pub idcs: IdcSet,
    /// What each cluster says of them.
    pub idc_views: BTreeMap<IdcName, IdcSet>,
    /// What each cluster says of each Unit.
    pub unit_views: BTreeMap<UnitKey, BTreeMap<IdcName, UnitSighting>>,
    /// The Units in force; the hash is not known of one that a single operator has published.
    pub units: BTreeMap<UnitKey, Option<SpecHash>>,
    /// Whose syncers are told to be reached somewhere.
    pub syncers: BTreeMap<LinkKey, IdcName>,
}

impl Shared {
    /// Takes it out of everything.
    pub fn of(state: &TopologyState) -> Self {
        let agreement = &state.agreement;
        let in_force = |key: &&UnitKey| state.unit(key).unit.is_some();
        let units = state.unit_keys().filter(in_force).map(|key| {
            let agreed = agreement.units.get(key);
            (key.clone(), agreed.map(|spec| spec.value.hash.clone()))
        });
        Self {
            idcs: electorate(state),
            idc_views: values(&agreement.idc_views),
            unit_views: agreement
                .unit_views
                .iter()
                .map(|(key, views)| (key.clone(), values(views)))
                .collect(),
            units: units.collect(),
            syncers: agreement
                .syncers
                .iter()
                .map(|(link, found)| (link.clone(), found.value.idc.clone()))
                .collect(),
        }
    }
}

/// The IDCs in force.
pub fn electorate(state: &TopologyState) -> IdcSet {
    IdcSet {
        idcs: values(&state.idcs),
    }
}

/// Documents without their revisions.
pub fn values<T: Clone>(found: &BTreeMap<IdcName, model::Versioned<T>>) -> BTreeMap<IdcName, T> {
    let found = found.iter();
    found
        .map(|(idc, it)| (idc.clone(), it.value.clone()))
        .collect()
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Say which IDCs this cluster holds, or say no more.
    SayIdcs(Option<IdcSet>),
    /// Say what it holds of a Unit.
    SayUnit(UnitKey, UnitSighting),
    /// Say no more of a Unit.
    UnsayUnit(UnitKey),
    /// The set takes effect, seen by these.
    EnforceIdcs(IdcSet, BTreeSet<IdcName>),
    /// The spec takes effect, seen by these.
    EnforceUnit(UnitKey, SeenSpec, BTreeSet<IdcName>),
    /// The Unit ends, deleted by these, and no object of it is here that would tell what the end
    /// has to wait for.
    ForgetUnit(UnitKey, BTreeSet<IdcName>),
    /// The syncer of a link that is gone is reached nowhere any more.
    UnsaySyncer(LinkKey),
}

impl Step {
    /// In words, for the log.
    pub fn describe(&self) -> String {
        match self {
            Self::SayIdcs(Some(set)) => format!("says that it holds {} IDCs", set.idcs.len()),
            Self::SayIdcs(None) => "says no more of IDCs".to_owned(),
            Self::SayUnit(unit, UnitSighting::Spec(spec)) => {
                format!("says that it sees {} of unit {unit}", spec.hash)
            }
            Self::SayUnit(unit, UnitSighting::Gone) => format!("says that unit {unit} is deleted"),
            Self::UnsayUnit(unit) => format!("says no more of unit {unit}"),
            Self::EnforceIdcs(set, _) => format!("puts {} IDCs in force", set.idcs.len()),
            Self::EnforceUnit(unit, spec, _) => {
                format!("puts {} of unit {unit} in force", spec.hash)
            }
            Self::ForgetUnit(unit, _) => format!("forgets unit {unit}"),
            Self::UnsaySyncer(link) => format!("says no more of the syncer of {link}"),
        }
    }
}

/// What a Unit's views come to.
pub fn decide_unit(
    electorate: &IdcSet,
    views: &BTreeMap<IdcName, UnitSighting>,
    in_force: Option<&SpecHash>,
) -> Outcome<SpecHash> {
    let electorate = electorate.idcs.keys().cloned().collect();
    let views = views.iter().map(|(idc, sighting)| {
        let seen = match sighting {
            UnitSighting::Spec(spec) => Seen::This(spec.hash.clone()),
            UnitSighting::Gone => Seen::Gone,
        };
        (idc.clone(), seen)
    });
    decide(&electorate, &views.collect(), in_force)
}

/// Everything to be done now. What is said is said before anything is put in force, and what takes
/// effect is put in force only by those who see it.
pub fn plan(local: &Local, shared: &Shared) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(say_idcs(local, shared));
    let mentioned = shared.unit_views.iter();
    let mentioned = mentioned
        .filter(|(_, views)| views.contains_key(&local.idc))
        .map(|(key, _)| key);
    let keys: BTreeSet<&UnitKey> = local.units.keys().chain(mentioned).collect();
    for key in &keys {
        steps.extend(say_unit(local, shared, key));
    }
    if let Outcome::Enforce(set, by) = decide_idcs(&shared.idcs, &shared.idc_views)
        && by.contains(&local.idc)
    {
        steps.push(Step::EnforceIdcs(set, by));
    }
    for key in keys {
        steps.extend(enforce_unit(local, shared, key));
    }
    let gone = shared
        .syncers
        .iter()
        .filter(|(link, idc)| **idc == local.idc && !local.links.contains(*link));
    steps.extend(gone.map(|(link, _)| Step::UnsaySyncer(link.clone())));
    steps
}

fn say_idcs(local: &Local, shared: &Shared) -> Option<Step> {
    let said = shared.idc_views.get(&local.idc);
    let held = local.idcs.as_ref()?;
    if held.idcs.is_empty() && shared.idcs.idcs.is_empty() {
        return said.map(|_| Step::SayIdcs(None));
    }
    // A cluster to which nothing was ever applied deletes nothing.
    if held.idcs.is_empty() && said.is_none() {
        return None;
    }
    (said != Some(held)).then(|| Step::SayIdcs(Some(held.clone())))
}

fn say_unit(local: &Local, shared: &Shared, key: &UnitKey) -> Option<Step> {
    let views = shared.unit_views.get(key);
    let said = views.and_then(|views| views.get(&local.idc));
    let in_force = shared.units.contains_key(key);
    match (local.units.get(key), said) {
        (Some(Held::Spec(spec)), Some(UnitSighting::Spec(said))) if said == spec => None,
        (Some(Held::Spec(spec)), _) => {
            Some(Step::SayUnit(key.clone(), UnitSighting::Spec(spec.clone())))
        }
        (Some(Held::Deleting), None)
        | (Some(Held::Deleting) | None, Some(UnitSighting::Spec(_)))
            if in_force =>
        {
            Some(Step::SayUnit(key.clone(), UnitSighting::Gone))
        }
        (Some(Held::Invalid), _) | (Some(Held::Deleting) | None, None) => None,
        // It was never in force, or is not any more.
        (Some(Held::Deleting) | None, Some(UnitSighting::Spec(_))) => {
            Some(Step::UnsayUnit(key.clone()))
        }
        // Kept as long as others hold it: by this they know that it has ended.
        (Some(Held::Deleting) | None, Some(UnitSighting::Gone)) => {
            let held_elsewhere = views.is_some_and(|views| {
                views
                    .values()
                    .any(|seen| matches!(seen, UnitSighting::Spec(_)))
            });
            (!in_force && !held_elsewhere).then(|| Step::UnsayUnit(key.clone()))
        }
    }
}

fn enforce_unit(local: &Local, shared: &Shared, key: &UnitKey) -> Option<Step> {
    let views = shared.unit_views.get(key)?;
    let in_force = shared.units.get(key);
    let hash = in_force.and_then(Option::as_ref);
    match decide_unit(&shared.idcs, views, hash) {
        Outcome::Enforce(_, by) if by.contains(&local.idc) => match views.get(&local.idc)? {
            UnitSighting::Spec(spec) => Some(Step::EnforceUnit(key.clone(), spec.clone(), by)),
            UnitSighting::Gone => None,
        },
        Outcome::Forget(by) if in_force.is_some() && !local.units.contains_key(key) => {
            Some(Step::ForgetUnit(key.clone(), by))
        }
        Outcome::Enforce(..) | Outcome::Forget(_) | Outcome::Keep => None,
    }
}

#[cfg(test)]
mod tests;
