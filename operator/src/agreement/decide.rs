//! What takes effect of what the clusters of all IDCs see: pure functions.
//!
//! # Why two things can never take effect at once
//! 1. *One winner.* The electorate is a set, and each IDC in it sees one thing. Two things that are
//!    each seen by more than half of it would share an IDC that sees both. So at any revision of etcd
//!    at most one thing wins.
//! 2. *At that very instant.* Whoever puts the winner in force compares, in the same transaction, the
//!    revisions of the electorate, of what was in force and of each view that was counted
//!    ([`topology::Basis`]). So when it takes effect it is still seen by that majority of the IDCs
//!    that are in force then, and of two operators that decide at the same time one comes first and
//!    the other loses its comparison.
//! 3. *Nothing else changes it.* Without a winner, and where the winner is in force already,
//!    [`decide`] keeps what is in force. A cluster that is cut off, or that has not been given the
//!    new manifests yet, therefore changes nothing, however long it takes.
//! 4. *Ending needs words.* A cluster that says nothing counts for nothing: what is in force ends only
//!    when a majority says that it was deleted. A lost manifest, an IDC that has just joined, or
//!    views that etcd has lost can take nothing away.
//!
//! The set of IDCs is decided in the same way by those of the old set, so that an IDC joins or leaves
//! only if a majority of those before wants it. The very first set has nobody before it: there a
//! majority of those that it names itself has to see it, and it names two at the least, since a set
//! of one would be agreed on by whoever applies the first manifest.

use std::collections::{BTreeMap, BTreeSet};

use model::{IdcName, IdcSet};

/// What one cluster says of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It is there, like this.
    This(T),
    /// It was deleted.
    Gone,
}

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// What is in force stays.
    Keep,
    /// This takes effect, seen by these.
    Enforce(T, BTreeSet<IdcName>),
    /// What is in force ends, deleted by these.
    Forget(BTreeSet<IdcName>),
}

/// How many of so many are more than half.
pub fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// Decides about one thing. See the module's documentation for the argument.
pub fn decide<T: Clone + Eq>(
    electorate: &BTreeSet<IdcName>,
    views: &BTreeMap<IdcName, Seen<T>>,
    in_force: Option<&T>,
) -> Outcome<T> {
    let needed = majority(electorate.len());
    let counted = || views.iter().filter(|(idc, _)| electorate.contains(*idc));
    for (_, seen) in counted() {
        let by: BTreeSet<IdcName> = counted()
            .filter(|(_, other)| *other == seen)
            .map(|(idc, _)| idc.clone())
            .collect();
        if by.len() < needed {
            continue;
        }
        return match seen {
            Seen::This(this) if in_force == Some(this) => Outcome::Keep,
            Seen::This(this) => Outcome::Enforce(this.clone(), by),
            Seen::Gone => Outcome::Forget(by),
        };
    }
    Outcome::Keep
}

/// Decides about the set of IDCs.
pub fn decide_idcs(in_force: &IdcSet, views: &BTreeMap<IdcName, IdcSet>) -> Outcome<IdcSet> {
    if !in_force.idcs.is_empty() {
        let electorate = in_force.idcs.keys().cloned().collect();
        let views = views
            .iter()
            .map(|(idc, set)| (idc.clone(), Seen::This(set.clone())))
            .collect();
        return decide(&electorate, &views, Some(in_force));
    }
    for set in views.values().filter(|set| set.idcs.len() >= 2) {
        let by: BTreeSet<IdcName> = views
            .iter()
            .filter(|(idc, other)| *other == set && set.idcs.contains_key(*idc))
            .map(|(idc, _)| idc.clone())
            .collect();
        if by.len() >= majority(set.idcs.len()) {
            return Outcome::Enforce(set.clone(), by);
        }
    }
    Outcome::Keep
}

#[cfg(test)]
mod tests {
    use model::{IdcDoc, IdcRole};

    use super::*;
    use crate::samples::idc_name;

    const NAMES: [&str; 5] = ["bj", "gz", "hz", "sh", "wh"];

    fn electorate(size: usize) -> BTreeSet<IdcName> {
        NAMES[..size].iter().map(|name| idc_name(name)).collect()
    }

    /// Every way in which five clusters can each say nothing, "gone", or one of three things.
    fn every_view() -> impl Iterator<Item = BTreeMap<IdcName, Seen<u8>>> {
        (0..5_usize.pow(5)).map(|number| {
            let mut rest = number;
            let mut views = BTreeMap::new();
            for name in NAMES {
                let said = rest % 5;
                rest /= 5;
                let seen = match said {
                    0 => continue,
                    1 => Seen::Gone,
                    this => Seen::This(u8::try_from(this).unwrap()),
                };
                views.insert(idc_name(name), seen);
            }
            views
        })
    }

    /// Counted anew, by the definition: more than half of the electorate say this.
    fn wins(
        electorate: &BTreeSet<IdcName>,
        views: &BTreeMap<IdcName, Seen<u8>>,
        this: &Seen<u8>,
    ) -> bool {
        let votes = electorate
            .iter()
            .filter(|idc| views.get(*idc) == Some(this));
        votes.count() * 2 > electorate.len()
    }

    #[test]
    fn whatever_happens_has_its_majority_and_what_has_one_happens() {
        for size in 0..=5 {
            let electorate = electorate(size);
            for views in every_view() {
                for in_force in [None, Some(2), Some(3)] {
                    let this = |this: u8| wins(&electorate, &views, &Seen::This(this));
                    match decide(&electorate, &views, in_force.as_ref()) {
                        Outcome::Enforce(what, by) => {
                            assert!(this(what) && in_force != Some(what));
                            assert!(by.is_subset(&electorate) && by.len() * 2 > size);
                            assert!(by.iter().all(|idc| views[idc] == Seen::This(what)));
                        }
                        Outcome::Forget(by) => {
                            assert!(wins(&electorate, &views, &Seen::Gone));
                            assert!(by.iter().all(|idc| views[idc] == Seen::Gone));
                        }
                        Outcome::Keep => {
                            assert!(!wins(&electorate, &views, &Seen::Gone));
                            assert!((2..5).all(|it| !this(it) || in_force == Some(it)));
                        }
                    }
                }
            }
        }
    }

    /// From any point on, whichever single cluster changes what it says: two different things are
    /// never in force one after the other without a cluster of the first's majority having changed.
    #[test]
    fn what_a_majority_sees_stays_until_one_of_it_sees_something_else() {
        let electorate = electorate(3);
        for views in every_view() {
            let Outcome::Enforce(what, by) = decide(&electorate, &views, None) else {
                continue;
            };
            for (idc, seen) in [
                ("bj", Seen::Gone),
                ("gz", Seen::This(9)),
                ("hz", Seen::This(8)),
            ] {
                if by.contains(&idc_name(idc)) {
                    continue;
                }
                let mut later = views.clone();
                later.insert(idc_name(idc), seen);
                assert_eq!(decide(&electorate, &later, Some(&what)), Outcome::Keep);
            }
        }
    }

    fn set(names: &[&str]) -> IdcSet {
        let document = IdcDoc {
            role: IdcRole::Data,
        };
        IdcSet {
            idcs: names
                .iter()
                .map(|name| (idc_name(name), document.clone()))
                .collect(),
        }
    }

    fn views(seen: &[(&str, &[&str])]) -> BTreeMap<IdcName, IdcSet> {
        seen.iter()
            .map(|(idc, names)| (idc_name(idc), set(names)))
            .collect()
    }

    const THREE: &[&str] = &["bj", "hz", "sh"];

    #[test]
    fn the_first_idcs_need_a_majority_of_those_they_name() {
        let nothing = IdcSet::default();
        let alone = views(&[("sh", THREE)]);
        assert_eq!(decide_idcs(&nothing, &alone), Outcome::Keep);
        // Whoever is not named has no say, and one alone is no agreement.
        let stranger = views(&[("sh", THREE), ("xx", THREE), ("bj", &["bj"])]);
        assert_eq!(decide_idcs(&nothing, &stranger), Outcome::Keep);
        let two = views(&[("sh", THREE), ("bj", THREE)]);
        assert!(
            matches!(decide_idcs(&nothing, &two), Outcome::Enforce(found, _) if found == set(THREE))
        );
    }

    #[test]
    fn idcs_join_and_leave_by_a_majority_of_those_before() {
        let before = set(THREE);
        let four: &[&str] = &["bj", "gz", "hz", "sh"];
        // The newcomers do not count.
        let joins = views(&[("sh", four), ("gz", four)]);
        assert_eq!(decide_idcs(&before, &joins), Outcome::Keep);
        let joins = views(&[("sh", four), ("bj", four)]);
        assert!(
            matches!(decide_idcs(&before, &joins), Outcome::Enforce(found, _) if found == set(four))
        );
        let ends = views(&[("sh", &[]), ("bj", &[]), ("hz", THREE)]);
        assert!(
            matches!(decide_idcs(&before, &ends), Outcome::Enforce(found, _) if found == set(&[]))
        );
    }
}
