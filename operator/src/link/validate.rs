//! What keeps a SyncLink from being started: a pure function.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{
    Compression, ConflictDetection, ConflictResolution, Consistency, DdlPolicy, LinkOptions,
    Member, SyncLink, Transport, Unit,
};
use jiff::Timestamp;
use kube::ResourceExt;
use model::{IdcName, LinkKey, UnitKey};

use super::alone;
use crate::accounts::Secrets;
use crate::unit::Problem;

/// What other objects there are.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// The Unit that the link names, if it exists.
    pub unit: Option<&'a Unit>,
    /// Every Unit of the namespace, for messages.
    pub units: Vec<String>,
    /// Other links of the same Unit in the same direction: name and age.
    pub twins: Vec<(String, Option<Timestamp>)>,
    /// The Secret of the links' certificate: `namespace/name`, and its keys if it exists.
    pub transport: (String, Option<BTreeMap<String, bool>>),
    /// Of a link without a Unit: the other such links, of all namespaces.
    pub alone: Vec<Arc<SyncLink>>,
    /// Of a link without a Unit: the servers of Units.
    pub servers: BTreeMap<(String, u16), UnitKey>,
    /// Of a link without a Unit: the Secrets of its namespace.
    pub secrets: Secrets,
}

/// What a valid link joins.
#[derive(Debug, Clone, PartialEq)]
pub struct Ends {
    /// The Unit, if it is of one.
    pub unit: Option<UnitKey>,
    /// The source.
    pub source: Member,
    /// The target.
    pub target: Member,
    /// Where transactions that are met can have been born.
    pub origins: Vec<IdcName>,
    /// The databases that are copied, in part or whole.
    pub databases: Vec<String>,
}

impl Ends {
    /// Two members of a Unit.
    pub fn of_unit(key: UnitKey, unit: &Unit, source: &Member, target: &Member) -> Self {
        let spec = &unit.spec;
        let members = spec.members.iter();
        Self {
            unit: Some(key),
            source: source.clone(),
            target: target.clone(),
            origins: members.map(|member| member.idc.clone()).collect(),
            databases: spec.databases.clone(),
        }
    }
}

/// The two ends of a link, or every problem.
pub fn validate(
    link: &SyncLink,
    key: &LinkKey,
    around: &Surroundings<'_>,
) -> Result<Ends, Vec<Problem>> {
    let mut problems: Vec<Problem> = unsupported(link)
        .into_iter()
        .map(|field| Problem::new("NotSupportedYet", format!("spec.{field}")))
        .collect();
    transport(around, &mut problems);
    let ends = if link.spec.unit.is_some() {
        for field in not_converging(&link.spec.options) {
            problems.push(Problem::new("CannotConverge", format!("spec.{field}")));
        }
        twins(link, key, around, &mut problems);
        ends(link, key, around, &mut problems)
    } else {
        alone::ends(link, key, around, &mut problems)
    };
    match ends {
        Some(ends) if problems.is_empty() => Ok(ends),
        _ => Err(problems),
    }
}

/// Each field of a link that asks for what is not built yet, with the way out.
fn unsupported(link: &SyncLink) -> Vec<String> {
    let mut fields = Vec::new();
    if link.spec.target.kafka.is_some() {
        fields.push("target.kafka is not supported yet: remove it and set target.idc.".to_owned());
    }
    fields.extend(unsupported_options(&link.spec.options));
    fields
}

/// The same for what a Unit's linkTemplate can hold.
pub fn unsupported_options(options: &LinkOptions) -> Vec<String> {
    let mut fields = Vec::new();
    let mut not_yet = |field: &str, fix: &str| {
        fields.push(format!("{field} is not supported yet: {fix}."));
    };
    match options.transport {
        Transport::Direct => {}
        Transport::Kafka => not_yet("transport Kafka", "set transport: Direct and remove kafka"),
    }
    match options.compression {
        Compression::None | Compression::Zstd => {}
        Compression::Lz4 => not_yet("compression Lz4", "choose Zstd or None"),
    }
    match options.apply.consistency {
        Consistency::Transactional => {}
        Consistency::Eventual => not_yet("apply.consistency Eventual", "choose Transactional"),
    }
    if let Some(workers) = options.apply.workers.filter(|workers| *workers > 1) {
        let field = format!("apply.workers {workers}");
        not_yet(
            &field,
            "remove it or set it to 1; changes are applied one batch after the other",
        );
    }
    match options.ddl {
        DdlPolicy::Apply | DdlPolicy::Ignore | DdlPolicy::Halt => {}
    }
    if !options.classes.is_empty() {
        not_yet("classes", "remove it");
    }
    fields
}

/// What the links of a Unit cannot have, since its copies would stay different, with the way out.
pub fn not_converging(options: &LinkOptions) -> Vec<String> {
    [unsettled(options), routed(options), relayed(options)]
        .into_iter()
        .flatten()
        .collect()
}

/// The members of a Unit are copies of each other, and its links go both ways: the application would
/// find its tables under other names after a failover, the link back would carry the table `to` to a
/// table of that name, and rows of several tables are not taken apart again.
fn routed(options: &LinkOptions) -> Option<String> {
    let route = options.tables.routes.first()?;
    Some(format!(
        "tables.routes (from {} to {}) gives tables of a Unit another name at one member, so that \
         after a failover the application would not find them and the link back would not bring them \
         home: remove it; routes are for links without a Unit.",
        route.from, route.to
    ))
}

/// A Unit's members are linked each with each, so what one handed on would come twice.
fn relayed(options: &LinkOptions) -> Option<String> {
    options.relay.then(|| {
        "relay true hands on what other links bring to the source, and a Unit links its members each \
         with each, so it would come twice: remove it; it is for links without a Unit."
            .to_owned()
    })
}

/// What the conflicts of a Unit's links cannot be settled by.
///
/// Only the primary's writes are carried: what was written at another member is stranded and never
/// reaches the primary. A policy by which the target's row may win would therefore leave that row
/// other than the primary's for good. `SourceWins` on the links of both directions is no
/// contradiction, since only one of them carries changes at a time: the primary's.
fn unsettled(options: &LinkOptions) -> Option<String> {
    let conflicts = options.conflicts.as_ref()?;
    match conflicts.resolve {
        ConflictResolution::Halt | ConflictResolution::Hold | ConflictResolution::SourceWins => {
            if conflicts.resolve == ConflictResolution::Halt
                || conflicts.detect == ConflictDetection::BeforeImage
            {
                return None;
            }
            Some(format!(
                "conflicts.resolve {:?} with conflicts.detect Key would overwrite, unseen, a row that \
                 was changed at the target: set conflicts.detect: BeforeImage, or conflicts.resolve: \
                 Halt.",
                conflicts.resolve
            ))
        }
        ConflictResolution::Delta => Some(
            "conflicts.resolve Delta adds up what several members have written, and under a Unit one \
             takes writes at a time: choose SourceWins (the primary's row is put), Hold (a person \
             decides) or Halt."
                .to_owned(),
        ),
        ConflictResolution::TargetWins
        | ConflictResolution::LastWriteWins
        | ConflictResolution::IdcPriority => Some(format!(
            "conflicts.resolve {:?} may let the target's row win, and under a Unit that row never \
             reaches the primary, so the two would stay different: choose SourceWins (the primary's \
             row is put), Hold (a person decides) or Halt.",
            conflicts.resolve
        )),
    }
}

fn transport(around: &Surroundings<'_>, problems: &mut Vec<Problem>) {
    let (name, keys) = &around.transport;
    let advice = "the operator makes it, and its log tells why it has not; or the Helm value \
                  transport.tlsSecret names yours.";
    let Some(keys) = keys else {
        problems.push(Problem::new(
            "MissingSecret",
            format!("Secret {name} with the links' certificate does not exist: {advice}"),
        ));
        return;
    };
    for wanted in ["ca.crt", "tls.crt", "tls.key"] {
        if !keys.get(wanted).copied().unwrap_or(false) {
            problems.push(Problem::new(
                "InvalidSecret",
                format!(
                    "Secret {name} with the links' certificate has nothing under {wanted}: {advice}"
                ),
            ));
        }
    }
}

/// Two links in one direction would apply everything twice.
fn twins(link: &SyncLink, key: &LinkKey, around: &Surroundings<'_>, problems: &mut Vec<Problem>) {
    let created = link.creation_timestamp().map(|time| time.0);
    let age = (created, key.name());
    let older = around
        .twins
        .iter()
        .find(|(name, created)| (*created, name.as_str()) < age);
    if let Some((name, _)) = older {
        problems.push(Problem::new(
            "DuplicateLink",
            format!(
                "SyncLink {}/{name} copies from {} to {} for this Unit already: delete one of the \
                 two, or set spec.links: None on the Unit to write all its links yourself.",
                key.namespace(),
                link.spec.source.idc,
                link.spec.target.idc.as_ref().map_or("", IdcName::as_str)
            ),
        ));
    }
}

fn ends(
    link: &SyncLink,
    key: &LinkKey,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Ends> {
    let name = link.spec.unit.as_ref()?;
    let Some(unit) = around.unit else {
        let known = if around.units.is_empty() {
            "none".to_owned()
        } else {
            around.units.join(", ")
        };
        problems.push(Problem::new(
            "UnknownUnit",
            format!(
                "spec.unit is {name:?}, but there is no Unit of that name in namespace {} (there \
                 are: {known}): correct the name, or apply the Unit.",
                key.namespace()
            ),
        ));
        return None;
    };
    let mut member = |field: &str, idc: &IdcName| {
        let found = unit.spec.member(idc);
        if found.is_none() {
            let known: Vec<&str> = unit
                .spec
                .members
                .iter()
                .map(|member| member.idc.as_str())
                .collect();
            problems.push(Problem::new(
                "UnknownMember",
                format!(
                    "spec.{field}.idc is {:?}, but Unit {}/{name} has no member in IDC {idc}; it \
                     has {}.",
                    idc.as_str(),
                    key.namespace(),
                    known.join(", ")
                ),
            ));
        }
        found
    };
    let source = member("source", &link.spec.source.idc);
    let target = link
        .spec
        .target
        .idc
        .as_ref()
        .and_then(|idc| member("target", idc));
    let unit_key = UnitKey::new(key.namespace(), name.as_str()).ok()?;
    Some(Ends::of_unit(unit_key, unit, source?, target?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::samples;

    pub fn around(unit: Option<&Unit>) -> Surroundings<'_> {
        let keys = ["ca.crt", "tls.crt", "tls.key"].map(|key| (key.to_owned(), true));
        Surroundings {
            unit,
            units: vec!["orders".to_owned()],
            twins: Vec::new(),
            transport: (
                "multiactive-system/t".to_owned(),
                Some(BTreeMap::from(keys)),
            ),
            ..Surroundings::default()
        }
    }

    fn problems(link: &SyncLink, around: &Surroundings<'_>) -> Vec<String> {
        let key = LinkKey::new("shop", "orders-sh-bj").unwrap();
        match validate(link, &key, around) {
            Ok(_) => Vec::new(),
            Err(problems) => problems
                .into_iter()
                .map(|problem| problem.message)
                .collect(),
        }
    }

    #[test]
    fn what_is_not_built_yet_is_refused_field_by_field() {
        let unit = samples::unit();
        assert!(problems(&samples::link(), &around(Some(&unit))).is_empty());
        let link: SyncLink = samples::object(
            "{apiVersion: multiactive.dev/v1alpha1, kind: SyncLink,\
              metadata: {name: orders-sh-bj, namespace: shop},\
              spec: {unit: orders, source: {idc: sh}, target: {idc: bj},\
                     compression: Lz4, apply: {consistency: Eventual, workers: 4}, transport: Kafka,\
                     kafka: {bootstrapServers: k, topic: changes},\
                     classes: [{tables: [a.b]}]}}",
        );
        let told = problems(&link, &around(Some(&unit))).join("\n");
        for field in [
            "spec.transport Kafka is not",
            "spec.compression Lz4 is not",
            "spec.apply.consistency Eventual is not",
            "spec.apply.workers 4 is not",
            "spec.classes is not",
        ] {
            assert!(told.contains(field), "{field} is missing in:\n{told}");
        }
    }

    #[test]
    fn routes_are_refused_under_a_unit() {
        let unit = samples::unit();
        let mut link = samples::link();
        link.spec.options.tables.routes = vec![crds::Route {
            from: "orders.log_*".to_owned(),
            to: "orders.log".to_owned(),
        }];
        let key = LinkKey::new("shop", "orders-sh-bj").unwrap();
        let problems = validate(&link, &key, &around(Some(&unit))).unwrap_err();
        assert_eq!(problems[0].reason, "CannotConverge");
        let told = &problems[0].message;
        assert!(told.starts_with("spec.tables.routes (from orders.log_* to orders.log) gives"));
        assert!(
            told.contains("remove it; routes are for links without a Unit"),
            "{told}"
        );
    }

    #[test]
    fn a_policy_that_leaves_copies_different_is_refused() {
        let unit = samples::unit();
        let told = |detect, resolve| {
            let mut link = samples::link();
            link.spec.options.conflicts = Some(crds::Conflicts {
                detect,
                resolve,
                column: None,
                counters: Vec::new(),
            });
            problems(&link, &around(Some(&unit))).join("\n")
        };
        let (key, image) = (ConflictDetection::Key, ConflictDetection::BeforeImage);
        for (detect, resolve) in [
            (key, ConflictResolution::Halt),
            (image, ConflictResolution::Halt),
            (image, ConflictResolution::Hold),
            (image, ConflictResolution::SourceWins),
        ] {
            assert_eq!(told(detect, resolve), "");
        }
        for resolve in [
            ConflictResolution::TargetWins,
            ConflictResolution::LastWriteWins,
            ConflictResolution::IdcPriority,
        ] {
            let told = told(image, resolve);
            assert!(told.contains("never reaches the primary"), "{told}");
        }
        let told = told(key, ConflictResolution::SourceWins);
        assert!(told.contains("set conflicts.detect: BeforeImage"), "{told}");
    }

    #[test]
    fn an_unknown_unit_or_member_is_told_with_those_there_are() {
        let told = problems(&samples::link(), &around(None));
        assert!(
            told[0].contains("there is no Unit of that name in namespace shop (there are: orders)")
        );
        let unit = samples::unit();
        let mut link = samples::link();
        link.spec.target.idc = Some(samples::idc_name("gz"));
        let told = problems(&link, &around(Some(&unit)));
        assert_eq!(
            told,
            [
                "spec.target.idc is \"gz\", but Unit shop/orders has no member in IDC gz; it has sh, bj."
            ]
        );
    }

    #[test]
    fn a_missing_certificate_is_named_with_its_namespace() {
        let unit = samples::unit();
        let mut surroundings = around(Some(&unit));
        surroundings.transport.1 = None;
        let told = problems(&samples::link(), &surroundings);
        assert!(
            told[0].starts_with("Secret multiactive-system/t with the links' certificate does not")
        );
    }

    #[test]
    fn of_two_links_in_one_direction_the_older_one_stays() {
        let unit = samples::unit();
        let mut surroundings = around(Some(&unit));
        surroundings.twins = vec![("a-link".to_owned(), None)];
        assert!(
            problems(&samples::link(), &surroundings)[0].contains("SyncLink shop/a-link copies")
        );
        surroundings.twins = vec![("z-link".to_owned(), None)];
        assert!(problems(&samples::link(), &surroundings).is_empty());
    }
}
