//! What is wrong with a Unit that only a look at other objects shows: a pure function.

use std::collections::BTreeMap;

use crds::{IdcRole, Member, Unit};
use jiff::Timestamp;
use kube::ResourceExt;
use model::{IdcName, UnitKey};

use crate::accounts::{self, End};
use crate::link::{not_converging, unsupported_options};

/// Something that keeps a Unit from being started, or its changed spec from taking effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// One CamelCase word.
    pub reason: &'static str,
    /// The object, the value and the fix.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// All problems in one text.
pub fn describe(problems: &[Problem]) -> String {
    let messages: Vec<&str> = problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    messages.join(" ")
}

/// Another Unit, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub key: UnitKey,
    /// When it was made: the older Unit keeps a server that both name.
    pub created: Option<Timestamp>,
    /// Its servers.
    pub servers: Vec<(String, u16)>,
}

/// What other objects there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The Idcs.
    pub idcs: BTreeMap<IdcName, IdcRole>,
    /// The other Units.
    pub units: Vec<Neighbour>,
    /// The servers of links without a Unit that are older than this one, as hosts in small letters, with
    /// one such link each.
    pub links: BTreeMap<(String, u16), String>,
    /// The Secrets of the Unit's namespace that it names: for each that exists, its keys and
    /// whether there is anything under them.
    pub secrets: BTreeMap<String, BTreeMap<String, bool>>,
}

/// Every problem of a Unit, in the order of its spec.
pub fn validate(unit: &Unit, key: &UnitKey, around: &Surroundings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (place, member) in unit.spec.members.iter().enumerate() {
        idc(place, member, around, &mut problems);
        server(unit, key, member, around, &mut problems);
        let place = format!("spec.members[{place}]");
        let end = End::of(&place, member);
        accounts::check(&end, key.namespace(), &around.secrets, &mut problems);
        if unit.spec.routing.service {
            accounts::check_routable(&end, &mut problems);
        }
    }
    if let Some(template) = &unit.spec.link_template {
        for field in unsupported_options(template) {
            problems.push(Problem::new(
                "NotSupportedYet",
                format!("spec.linkTemplate.{field}"),
            ));
        }
        for field in not_converging(template) {
            problems.push(Problem::new(
                "CannotConverge",
                format!("spec.linkTemplate.{field}"),
            ));
        }
    }
    problems
}

fn idc(place: usize, member: &Member, around: &Surroundings, problems: &mut Vec<Problem>) {
    match around.idcs.get(&member.idc) {
        Some(IdcRole::Data) => {}
        Some(IdcRole::Witness) => problems.push(Problem::new(
            "WitnessAsMember",
            format!(
                "spec.members[{place}].idc is {:?}, but Idc {} has spec.role Witness and holds no \
                 copies: choose a data IDC, or set the Idc's spec.role to Data.",
                member.idc.as_str(),
                member.idc
            ),
        )),
        None => {
            let known: Vec<&str> = around.idcs.keys().map(IdcName::as_str).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            problems.push(Problem::new(
                "UnknownIdc",
                format!(
                    "spec.members[{place}].idc is {:?}, but there is no Idc of that name (there \
                     are: {known}): correct the name, or apply an Idc {}.",
                    member.idc.as_str(),
                    member.idc
                ),
            ));
        }
    }
}

fn server(
    unit: &Unit,
    key: &UnitKey,
    member: &Member,
    around: &Surroundings,
    problems: &mut Vec<Problem>,
) {
    let ours = (member.endpoint.host.clone(), member.endpoint.port);
    if let Some(link) = around.links.get(&(ours.0.to_ascii_lowercase(), ours.1)) {
        problems.push(Problem::new(
            "ServerInUse",
            format!(
                "member {} has the server {}:{}, which SyncLink {link} joins without a Unit, and so \
                 past this Unit's fence: delete that link, or give this member another endpoint.",
                member.idc, ours.0, ours.1
            ),
        ));
    }
    let age = |created: Option<Timestamp>, key: &UnitKey| (created, key.clone());
    let created = unit.creation_timestamp().map(|time| time.0);
    for other in &around.units {
        let older = age(other.created, &other.key) < age(created, key);
        if older && other.servers.contains(&ours) {
            problems.push(Problem::new(
                "ServerInUse",
                format!(
                    "member {} has the server {}:{}, which Unit {} owns already. read_only is a \
                     setting of a whole server, so each Unit needs servers of its own: give this \
                     member another endpoint, or add the databases to Unit {}.",
                    member.idc, ours.0, ours.1, other.key, other.key
                ),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{idc_name, key, member, object, unit};

    fn around() -> Surroundings {
        let keys = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), true)).collect();
        Surroundings {
            idcs: BTreeMap::from([
                (idc_name("sh"), IdcRole::Data),
                (idc_name("bj"), IdcRole::Data),
                (idc_name("gz"), IdcRole::Witness),
            ]),
            units: Vec::new(),
            links: BTreeMap::new(),
            secrets: BTreeMap::from([
                ("orders-sh".to_owned(), keys(&["username", "password"])),
                ("orders-bj".to_owned(), keys(&["username", "password"])),
                ("ca".to_owned(), keys(&["ca.crt"])),
            ]),
        }
    }

    fn told(unit: &Unit, around: &Surroundings) -> Vec<(&'static str, String)> {
        let problems = validate(unit, &key(), around);
        problems
            .into_iter()
            .map(|problem| (problem.reason, problem.message))
            .collect()
    }

    #[test]
    fn a_sound_unit_has_no_problem() {
        assert_eq!(told(&unit(), &around()), []);
    }

    #[test]
    fn an_idc_must_exist_and_hold_copies() {
        let mut unit = unit();
        member(&mut unit, 1).idc = idc_name("gz");
        let found = told(&unit, &around());
        assert_eq!(found[0].0, "WitnessAsMember");
        member(&mut unit, 1).idc = idc_name("xx");
        let found = told(&unit, &around());
        assert_eq!(found[0].0, "UnknownIdc");
        assert!(
            found[0].1.contains("(there are: bj, gz, sh)"),
            "{}",
            found[0].1
        );
    }

    #[test]
    fn secrets_are_named_with_namespace_and_key() {
        let mut around = around();
        around.secrets.remove("orders-sh");
        around
            .secrets
            .get_mut("orders-bj")
            .unwrap()
            .remove("password");
        around
            .secrets
            .get_mut("ca")
            .unwrap()
            .insert("ca.crt".to_owned(), false);
        let found = told(&unit(), &around);
        assert!(
            found[0]
                .1
                .starts_with("Secret shop/orders-sh does not exist; spec.members[0] (sh)")
        );
        assert!(
            found[1]
                .1
                .starts_with("Secret shop/orders-bj has no key password (it has: username)")
        );
        assert!(
            found[2]
                .1
                .starts_with("Secret shop/ca has nothing under the key ca.crt")
        );
    }

    #[test]
    fn of_two_units_on_one_server_the_older_one_keeps_it() {
        let neighbour = |name: &str, created: i64| Neighbour {
            key: UnitKey::new("shop", name).unwrap(),
            created: Timestamp::from_second(created).ok(),
            servers: vec![("192.0.2.1".to_owned(), 3307)],
        };
        let mut unit = unit();
        unit.metadata.creation_timestamp =
            serde_json::from_str("\"1970-01-01T00:01:40Z\"").unwrap();
        let with = |other: Neighbour| Surroundings {
            units: vec![other],
            ..around()
        };
        assert_eq!(
            told(&unit, &with(neighbour("bills", 99)))[0].0,
            "ServerInUse"
        );
        assert_eq!(
            told(&unit, &with(neighbour("bills", 100)))[0].0,
            "ServerInUse"
        );
        assert_eq!(told(&unit, &with(neighbour("zebra", 100))), []);
        assert_eq!(told(&unit, &with(neighbour("bills", 101))), []);
    }

    #[test]
    fn what_cannot_be_routed_or_is_not_built_is_refused() {
        let unit: Unit = object(
            &crate::samples::UNIT
                .replace("192.0.2.1", "127.0.0.1")
                .replace(
                    "databases: [orders]",
                    "databases: [orders]\n  linkTemplate: {ddl: Halt, compression: Lz4}",
                ),
        );
        let found = told(&unit, &around());
        let reasons: Vec<_> = found.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, ["LocalEndpoint", "NotSupportedYet"]);
        assert!(
            found[1].1.starts_with("spec.linkTemplate.compression Lz4"),
            "{}",
            found[1].1
        );
    }
}
