use std::sync::Arc;

use super::*;
use crate::link::validate::tests::around;
use crate::samples;

fn link(from: &str, to: &str, options: &str) -> SyncLink {
    let host = |idc: &str| format!("{idc}.example");
    samples::object(&format!(
        "{{apiVersion: multiactive.dev/v1alpha1, kind: SyncLink,\
          metadata: {{name: {from}-{to}, namespace: shop}},\
          spec: {{source: {{idc: {from}, endpoint: {{host: {}}}, credentialsSecret: account}},\
                  target: {{idc: {to}, endpoint: {{host: {}}}, credentialsSecret: account}},\
                  tables: {{include: ['orders.*']}}, {options}}}}}",
        host(from),
        host(to)
    ))
}

fn found(link: &SyncLink, others: Vec<SyncLink>) -> (Option<Ends>, String) {
    let mut around = around(None);
    let keys = ["username", "password"].map(|key| (key.to_owned(), true));
    around.secrets = BTreeMap::from([("account".to_owned(), BTreeMap::from(keys))]);
    around.alone = others.into_iter().map(Arc::new).collect();
    let key = LinkKey::new("shop", link.name_any()).unwrap();
    let mut problems = Vec::new();
    let ends = ends(link, &key, &around, &mut problems);
    let words: Vec<String> = problems.into_iter().map(|it| it.message).collect();
    (ends, words.join("\n"))
}

fn resolves(resolve: &str) -> String {
    format!("conflicts: {{detect: BeforeImage, resolve: {resolve}}}")
}

#[test]
fn one_link_alone_joins_what_it_names() {
    let (ends, problems) = found(&link("sh", "bj", ""), Vec::new());
    let ends = ends.unwrap();
    assert_eq!(problems, "");
    assert_eq!(ends.databases, ["orders"]);
    assert_eq!(ends.origins, ["sh", "bj"].map(samples::idc_name));
}

#[test]
fn a_conflict_waits_for_a_person_where_both_ends_write() {
    let told = |own: &str| {
        let opposite = link("bj", "sh", "");
        found(&link("sh", "bj", &resolves(own)), vec![opposite]).1
    };
    assert_eq!(told("Halt"), "");
    assert_eq!(told("Hold"), "");
    for own in ["SourceWins", "TargetWins", "IdcPriority"] {
        let told = told(own);
        assert!(
            told.contains("SyncLink shop/bj-sh runs the other way"),
            "{own}: {told}"
        );
    }
    let alone = |own: &str| found(&link("sh", "bj", &resolves(own)), Vec::new()).1;
    assert_eq!(alone("SourceWins"), "");
    assert!(alone("TargetWins").contains("not supported yet"));
    let by_key = "conflicts: {detect: Key, resolve: Halt}";
    assert_eq!(found(&link("sh", "bj", by_key), Vec::new()).1, "");
    let told = found(&link("sh", "bj", by_key), vec![link("bj", "sh", "")]).1;
    assert!(told.contains("set detect: BeforeImage"), "{told}");
}

#[test]
fn counters_are_added_up_at_both_ends_or_at_neither() {
    let delta = |counters: &str| {
        format!("conflicts: {{detect: BeforeImage, resolve: Delta, counters: [{counters}]}}")
    };
    let with = |own: &str, other: &str| {
        let other = link("bj", "sh", other);
        found(&link("sh", "bj", own), vec![other]).1
    };
    let quantity = delta("orders.stock.quantity");
    assert_eq!(found(&link("sh", "bj", &quantity), Vec::new()).1, "");
    assert_eq!(with(&quantity, &quantity), "");
    let told = with(&quantity, "");
    assert!(
        told.contains("orders.stock.quantity, and SyncLink shop/bj-sh"),
        "{told}"
    );
    let told = with(&resolves("Hold"), &quantity);
    assert!(told.contains("the counters none"), "{told}");
    let told = with(
        &quantity,
        &delta("orders.stock.quantity, orders.stock.sold"),
    );
    assert!(told.contains("with the same counters"), "{told}");
    let elsewhere = delta("shop.stock.quantity");
    let told = found(&link("sh", "bj", &elsewhere), Vec::new()).1;
    assert!(told.contains("no table of database shop"), "{told}");
}

#[test]
fn links_meet_where_they_begin_or_end_or_hand_on_what_comes() {
    let joined = |own: &str, others: &[(&str, &str, &str)]| {
        let others = others
            .iter()
            .map(|(from, to, options)| link(from, to, options));
        found(&link("sh", "bj", own), others.collect()).1
    };
    let relay = "relay: true";
    for others in [
        &[("sh", "gz", "")][..],
        &[("gz", "bj", "")],
        &[("gz", "wh", "")],
        // Two to two: nothing is handed on.
        &[("sh", "gz", ""), ("wh", "gz", ""), ("wh", "bj", "")],
        // A star around bj, which has to hand on what comes from sh.
        &[("bj", "gz", relay), ("gz", "bj", ""), ("bj", "sh", relay)],
        // Another tree is none of its business.
        &[("a", "b", relay), ("b", "c", relay)],
    ] {
        assert_eq!(joined("", others), "", "{others:?}");
    }
    let told = joined("", &[("gz", "sh", "")]);
    assert!(
        told.contains("meet at sh") && told.contains("this one would leave out"),
        "{told}"
    );
    assert_eq!(joined(relay, &[("gz", "sh", "")]), "");
    let told = joined("", &[("bj", "gz", "")]);
    assert!(
        told.contains("meet at bj") && told.contains("SyncLink shop/bj-gz would leave out"),
        "{told}"
    );
    // Ways that come together, and a ring.
    for others in [
        &[("sh", "gz", ""), ("gz", "bj", relay)][..],
        &[("bj", "gz", relay), ("gz", "sh", relay)],
        &[
            ("sh", "gz", relay),
            ("gz", "wh", relay),
            ("wh", "bj", relay),
        ],
    ] {
        let told = joined(relay, others);
        assert!(
            told.contains("in another way as well"),
            "{others:?}: {told}"
        );
    }
    let told = joined(
        relay,
        &[
            ("sh", "gz", relay),
            ("gz", "wh", relay),
            ("wh", "bj", relay),
        ],
    );
    assert!(told.contains("(by gz.example, wh.example)"), "{told}");
}

#[test]
fn one_name_means_one_server_among_those_that_are_joined() {
    let mut other = link("bj", "gz", "");
    other.spec.source.idc = samples::idc_name("beijing");
    let told = found(&link("sh", "bj", ""), vec![other]).1;
    assert!(told.contains("both beijing and bj"), "{told}");
    let mut other = link("bj", "sh", "");
    let elsewhere = other.spec.target.endpoint.as_mut().unwrap();
    elsewhere.host = "other.example".to_owned();
    let told = found(&link("sh", "bj", ""), vec![other]).1;
    assert!(told.contains("taken for one server's"), "{told}");
    let apart = link("wh", "gz", "");
    assert_eq!(found(&link("sh", "bj", ""), vec![apart]).1, "");
}

#[test]
fn routes_lead_one_way() {
    let routed = |route: &str| {
        let mut link = link("sh", "bj", "");
        let tables = format!("{{include: ['orders.*'], routes: [{route}]}}");
        link.spec.options.tables = serde_saphyr::from_str(&tables).unwrap();
        link
    };
    let renamed = || routed("{from: orders.log, to: copies.log}");
    assert_eq!(found(&renamed(), Vec::new()).1, "");
    let told = found(&renamed(), vec![link("bj", "sh", "")]).1;
    assert!(told.contains("would bring them back"), "{told}");
    let shards = routed("{from: 'orders.log_*', to: orders.log}");
    let told = found(&shards, Vec::new()).1;
    assert!(told.contains("several tables into one"), "{told}");
    let ours = routed("{from: orders.log, to: multiactive.applied}");
    let told = found(&ours, Vec::new()).1;
    assert!(
        told.contains("spec.tables.routes (from orders.log to"),
        "{told}"
    );
}

#[test]
fn tables_and_secrets_are_asked_for() {
    let mut nothing = link("sh", "bj", "");
    nothing.spec.options.tables.include.clear();
    nothing.spec.source.credentials_secret = Some("other".to_owned());
    let told = found(&nothing, Vec::new()).1;
    assert!(told.contains("spec.tables.include is empty"), "{told}");
    assert!(
        told.contains("Secret shop/other does not exist; spec.source (sh)"),
        "{told}"
    );
    let mut all = link("sh", "bj", "");
    all.spec.options.tables.include = vec!["*.orders".to_owned()];
    assert!(found(&all, Vec::new()).1.contains("\"*.orders\""));
    let twin = link("sh", "bj", "");
    let mut link = link("sh", "bj", "");
    link.metadata.name = Some("z".to_owned());
    assert!(
        found(&link, vec![twin])
            .1
            .contains("SyncLink shop/sh-bj copies from sh to bj")
    );
}
