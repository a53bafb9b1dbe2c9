//! What people are told about what the clusters agree on: the condition `TopologyAgreed`, a pure
//! function.

use std::collections::BTreeMap;

use crds::Verdict;
use model::{IdcName, IdcSet, SeenSpec, UnitSighting};
use serde_json::Value;

use super::decide::majority;
use super::difference::differences;
use super::plan::Held;

const AGREED: &str = "TopologyAgreed";

/// What is known of one Unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitAgreement {
    /// The IDC that this cluster is.
    pub idc: IdcName,
    /// The IDCs in force.
    pub electorate: IdcSet,
    /// What each cluster says.
    pub views: BTreeMap<IdcName, UnitSighting>,
    /// Whether the Unit is in force.
    pub in_force: bool,
    /// The spec in force; `None` also for one that a single operator has published.
    pub agreed: Option<SeenSpec>,
}

impl UnitAgreement {
    /// The IDCs in force that say so.
    fn who(&self, says: impl Fn(&UnitSighting) -> bool) -> Vec<&str> {
        let electorate = self.electorate.idcs.keys();
        let found = electorate.filter(|idc| self.views.get(*idc).is_some_and(&says));
        found.map(IdcName::as_str).collect()
    }

    /// Whether a majority has deleted the Unit.
    pub fn deleted(&self) -> bool {
        let gone = self.who(|seen| *seen == UnitSighting::Gone).len();
        !self.electorate.idcs.is_empty() && gone >= self.needed()
    }

    /// The IDCs in force that have deleted it.
    pub fn deleted_by(&self) -> Vec<IdcName> {
        let electorate = self.electorate.idcs.keys();
        electorate
            .filter(|idc| self.views.get(*idc) == Some(&UnitSighting::Gone))
            .cloned()
            .collect()
    }

    fn needed(&self) -> usize {
        majority(self.electorate.idcs.len())
    }

    fn of(&self) -> String {
        format!("{} of {} IDCs", self.needed(), self.electorate.idcs.len())
    }

    /// What each cluster sees, as compared with this spec.
    fn compared(&self, with: Option<&SeenSpec>) -> String {
        let told = self
            .electorate
            .idcs
            .keys()
            .map(|idc| match self.views.get(idc) {
                None => format!("{idc} has not seen this Unit"),
                Some(UnitSighting::Gone) => format!("{idc} has deleted it"),
                Some(UnitSighting::Spec(theirs)) => match with {
                    Some(ours) if ours.hash != theirs.hash => format!(
                        "{idc} still sees {} ({})",
                        differences(&json(theirs), &json(ours)),
                        theirs.hash
                    ),
                    _ => format!("{idc} sees {}", theirs.hash),
                },
            });
        told.collect::<Vec<_>>().join("; ")
    }

    /// What a Unit that is being deleted here waits for.
    pub fn deletion(&self) -> String {
        let still = self.who(|seen| matches!(seen, UnitSighting::Spec(_)));
        format!(
            "The Unit is deleted in this cluster ({}); {}. It stays in force until it is deleted in \
             {}: delete it there too. It cannot be taken back here, but applied anew once this \
             object is gone: `kubectl annotate` it with multiactive.dev/forget=now for that.",
            self.idc,
            if still.is_empty() {
                "the others have not seen it".to_owned()
            } else {
                format!("{} still see it", still.join(" and "))
            },
            self.of()
        )
    }

    /// The condition.
    pub fn verdict(&self, held: &Held) -> Verdict {
        if self.electorate.idcs.is_empty() {
            let message = "No IDCs are in force yet: the condition TopologyAgreed of each Idc tells \
                           what they wait for (`kubectl get idcs -o yaml`).";
            return Verdict::no(AGREED, "IdcsNotAgreed", message);
        }
        let mine = match held {
            Held::Deleting if self.in_force && !self.deleted() => {
                return Verdict::no(AGREED, "DeletionNotAgreed", self.deletion());
            }
            Held::Deleting => return Verdict::yes(AGREED, "Deleting", ""),
            Held::Spec(spec) => Some(spec),
            Held::Invalid => match self.views.get(&self.idc) {
                Some(UnitSighting::Spec(spec)) => Some(spec),
                _ => None,
            },
        };
        let Some(mine) = mine else {
            let message = "Something is wrong with the spec, as the condition Ready tells, so this \
                           cluster does not ask for it to take effect.";
            return Verdict::no(AGREED, "NotProposed", message);
        };
        match &self.agreed {
            Some(agreed) if agreed.hash == mine.hash && self.in_force => self.agreed(mine),
            _ if !self.in_force && self.deleted() => Verdict::no(
                AGREED,
                "Deleted",
                format!(
                    "{} have deleted this Unit, and it is not in force any more: delete it here \
                     too, or apply it there again.",
                    self.who(|seen| *seen == UnitSighting::Gone).join(" and ")
                ),
            ),
            _ if self.in_force => Verdict::no(
                AGREED,
                "SpecDiffers",
                format!(
                    "This cluster ({}) sees {}, and {} is in force: {}. A spec takes effect when {} \
                     see the same one: apply the same manifest in their clusters.",
                    self.idc,
                    mine.hash,
                    self.agreed
                        .as_ref()
                        .map_or_else(|| "another spec".to_owned(), |it| it.hash.to_string()),
                    self.compared(Some(mine)),
                    self.of()
                ),
            ),
            _ => Verdict::no(
                AGREED,
                "NotAgreed",
                format!(
                    "Nothing is in force yet: {}. A spec takes effect when {} see the same one: \
                     apply the same manifest in their clusters.",
                    self.compared(Some(mine)),
                    self.of()
                ),
            ),
        }
    }

    /// What is in force is what this cluster sees; others may lag behind.
    fn agreed(&self, mine: &SeenSpec) -> Verdict {
        let all = self.electorate.idcs.keys().all(|idc| {
            let seen = self.views.get(idc);
            matches!(seen, Some(UnitSighting::Spec(spec)) if spec.hash == mine.hash)
        });
        let message = if all {
            String::new()
        } else {
            format!(
                "{} is in force; {}.",
                mine.hash,
                self.compared(Some(mine)).replace("still sees", "sees")
            )
        };
        Verdict::yes(AGREED, "Agreed", message)
    }
}

fn json(spec: &SeenSpec) -> Value {
    // A text of another version that is no JSON is told as a whole.
    serde_json::from_str(&spec.spec).unwrap_or_else(|_| Value::String(spec.spec.clone()))
}

/// What is known of the set of IDCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdcAgreement {
    /// The IDC that this cluster is.
    pub idc: IdcName,
    /// The IDCs in force.
    pub electorate: IdcSet,
    /// What each cluster says.
    pub views: BTreeMap<IdcName, IdcSet>,
    /// What this cluster holds; `None` where something is wrong about it.
    pub held: Option<IdcSet>,
}

fn names(set: &IdcSet) -> String {
    if set.idcs.is_empty() {
        return "none".to_owned();
    }
    let names = set.idcs.iter().map(|(idc, document)| match document.role {
        model::IdcRole::Data => idc.to_string(),
        model::IdcRole::Witness => format!("{idc} (witness)"),
    });
    names.collect::<Vec<_>>().join(", ")
}

impl IdcAgreement {
    /// The condition of each Idc in this cluster.
    pub fn verdict(&self) -> Verdict {
        let Some(held) = &self.held else {
            let message = "Something is wrong with an Idc, as its condition Ready tells, so what \
                           this cluster held before counts.";
            return Verdict::no(AGREED, "NotProposed", message);
        };
        let others: Vec<String> = self
            .views
            .iter()
            .filter(|(idc, set)| **idc != self.idc && *set != held)
            .map(|(idc, set)| format!("{idc} holds {}", names(set)))
            .collect();
        let others = others.join("; ");
        if *held == self.electorate {
            return Verdict::yes(AGREED, "Agreed", others);
        }
        let (present, voters) = if self.electorate.idcs.is_empty() {
            ("none are in force yet".to_owned(), held)
        } else {
            let names = names(&self.electorate);
            (format!("in force are {names}"), &self.electorate)
        };
        let silent: Vec<&str> = voters
            .idcs
            .keys()
            .filter(|idc| **idc != self.idc && !self.views.contains_key(*idc))
            .map(IdcName::as_str)
            .collect();
        let mut message = format!(
            "This cluster ({}) holds the IDCs {}; {present}.",
            self.idc,
            names(held)
        );
        if !others.is_empty() {
            message.push_str(&format!(" {others}."));
        }
        if !silent.is_empty() {
            message.push_str(&format!(" Nothing is heard from {}.", silent.join(" and ")));
        }
        message.push_str(&format!(
            " A set takes effect when {} of {} hold the same: apply the same Idcs in all clusters.",
            majority(voters.idcs.len()),
            voters.idcs.len()
        ));
        Verdict::no(AGREED, "IdcsDiffer", message)
    }
}

#[cfg(test)]
mod tests {
    use model::{IdcDoc, IdcRole, SpecHash};

    use super::*;
    use crate::samples::idc_name;

    fn spec(priority: u32) -> SeenSpec {
        SeenSpec {
            hash: SpecHash(format!("{priority:08}ffff")),
            spec: format!(r#"{{"members": [{{"idc": "bj", "priority": {priority}}}]}}"#),
        }
    }

    fn set(names: &[&str]) -> IdcSet {
        let document = IdcDoc {
            role: IdcRole::Data,
        };
        let idcs = names.iter().map(|name| (idc_name(name), document.clone()));
        IdcSet {
            idcs: idcs.collect(),
        }
    }

    fn agreement(views: &[(&str, UnitSighting)], agreed: Option<SeenSpec>) -> UnitAgreement {
        let views = views.iter().cloned();
        UnitAgreement {
            idc: idc_name("sh"),
            electorate: set(&["bj", "hz", "sh"]),
            views: views.map(|(idc, seen)| (idc_name(idc), seen)).collect(),
            in_force: agreed.is_some(),
            agreed,
        }
    }

    fn seen(priority: u32) -> UnitSighting {
        UnitSighting::Spec(spec(priority))
    }

    #[test]
    fn who_sees_what_is_told_with_what_differs() {
        let told = agreement(&[("sh", seen(60)), ("bj", seen(50))], Some(spec(50)))
            .verdict(&Held::Spec(spec(60)));
        assert_eq!(
            (told.status, told.reason.as_str()),
            (Some(false), "SpecDiffers")
        );
        assert_eq!(
            told.message,
            "This cluster (sh) sees #00000060, and #00000050 is in force: bj still sees priority 50 \
             of member bj (not 60) (#00000050); hz has not seen this Unit; sh sees #00000060. A spec \
             takes effect when 2 of 3 IDCs see the same one: apply the same manifest in their \
             clusters."
        );
    }

    #[test]
    fn what_is_in_force_is_agreed_on_though_one_lags_behind() {
        let views = [("sh", seen(60)), ("bj", seen(60)), ("hz", seen(50))];
        let told = agreement(&views, Some(spec(60))).verdict(&Held::Spec(spec(60)));
        assert_eq!((told.status, told.reason.as_str()), (Some(true), "Agreed"));
        assert!(
            told.message.contains("hz sees priority 50 of member bj"),
            "{}",
            told.message
        );
        let views = [("sh", seen(60)), ("bj", seen(60)), ("hz", seen(60))];
        let told = agreement(&views, Some(spec(60))).verdict(&Held::Spec(spec(60)));
        assert_eq!(told.message, "");
    }

    #[test]
    fn an_end_that_is_not_agreed_on_says_who_still_sees_the_unit() {
        let views = [
            ("sh", UnitSighting::Gone),
            ("bj", seen(60)),
            ("hz", seen(60)),
        ];
        let told = agreement(&views, Some(spec(60))).verdict(&Held::Deleting);
        assert_eq!(told.reason, "DeletionNotAgreed");
        assert!(
            told.message.contains("bj and hz still see it"),
            "{}",
            told.message
        );
        let views = [
            ("sh", seen(60)),
            ("bj", UnitSighting::Gone),
            ("hz", UnitSighting::Gone),
        ];
        let told = agreement(&views, None).verdict(&Held::Spec(spec(60)));
        assert_eq!(told.reason, "Deleted");
    }

    #[test]
    fn of_idcs_it_is_told_who_is_silent() {
        let held = set(&["bj", "hz", "sh"]);
        let told = IdcAgreement {
            idc: idc_name("sh"),
            electorate: IdcSet::default(),
            views: BTreeMap::from([(idc_name("sh"), held.clone())]),
            held: Some(held),
        }
        .verdict();
        assert_eq!(
            told.message,
            "This cluster (sh) holds the IDCs bj, hz, sh; none are in force yet. Nothing is heard \
             from bj and hz. A set takes effect when 2 of 3 hold the same: apply the same Idcs in all \
             clusters."
        );
    }
}
