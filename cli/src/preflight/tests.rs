use std::collections::BTreeMap;

use model::{Finding, Severity};

use super::*;
use crate::fixtures::idc;
use crate::snapshot::assert_snapshot;
use crate::terminal::Paint;

fn units(text: &str) -> Vec<Unit> {
    let mut manifest = Manifest::default();
    manifest.add("unit.yaml", text, "shop").unwrap();
    manifest.units
}

fn unit(name: &str, hosts: (&str, &str)) -> String {
    format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Unit\nmetadata: {{name: {name}}}\nspec:\n  \
         databases: [{name}]\n  members:\n  - {{idc: sh, endpoint: {{host: {}}}, credentialsSecret: s}}\n  \
         - {{idc: bj, endpoint: {{host: {}}}, credentialsSecret: s}}\n---\n",
        hosts.0, hosts.1
    )
}

fn secret(values: &[(&str, &str)]) -> SecretSource {
    let values: BTreeMap<String, String> = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    SecretSource::Found(Box::new(k8s_openapi::api::core::v1::Secret {
        string_data: Some(values),
        ..Default::default()
    }))
}

#[test]
fn a_server_that_two_units_name_is_refused_in_both() {
    let both = units(&(unit("orders", ("a", "b")) + &unit("stock", ("c", "b"))));
    let found = shared_servers(&both, &both);
    assert_eq!(found.len(), 2);
    let text = found
        .values()
        .flatten()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(text.contains("b:3306") && text.contains("Unit shop/orders names the same server"));
}

#[test]
fn a_unit_does_not_collide_with_its_own_older_self() {
    let (new, old) = (
        units(&unit("orders", ("a", "b"))),
        units(&unit("orders", ("b", "a"))),
    );
    assert_eq!(shared_servers(&new, &old), BTreeMap::new());
}

#[test]
fn a_member_whose_idc_is_not_there_gets_the_yaml_that_makes_it() {
    let unit = units(&unit("orders", ("a", "b"))).remove(0);
    let found = unknown_idcs(&unit, &["sh".to_owned()]);
    assert_eq!(found.len(), 1);
    assert!(found[0].fix.contains("kind: Idc\nmetadata: {name: bj}"));
}

#[test]
fn credentials_come_from_the_secret_or_a_finding_says_what_to_do() {
    let unit = units(&unit("orders", ("a", "b"))).remove(0);
    let member = &unit.spec.members[0];
    let read = |source: &SecretSource| credentials(member, "shop", source, None);
    let good = read(&secret(&[("username", "app"), ("password", "")])).unwrap();
    assert_eq!(
        (good.username.as_str(), good.password.as_str()),
        ("app", "")
    );
    let text = |source| read(&source).unwrap_err().to_string();
    assert!(text(secret(&[("username", "app")])).contains("Secret shop/s has no key \"password\""));
    assert!(text(SecretSource::Missing).contains("kubectl -n shop create secret generic s"));
    assert!(text(SecretSource::Unknown("it is down".to_owned())).contains("it is down"));
}

fn finding(severity: Severity, object: &str, message: &str, fix: &str) -> Finding {
    Finding {
        severity,
        check: "Check".to_owned(),
        object: object.to_owned(),
        message: message.to_owned(),
        fix: fix.to_owned(),
    }
}

fn member(name: &str, server: Option<&str>, findings: Vec<Finding>) -> MemberReport {
    MemberReport {
        idc: idc(name),
        endpoint: format!("mysql.{name}:3306"),
        server: server.map(str::to_owned),
        findings,
    }
}

#[test]
fn the_report_reads_well() {
    let key: UnitKey = "shop/orders".parse().unwrap();
    let good = UnitReport {
        unit: key.clone(),
        findings: Vec::new(),
        members: vec![member("sh", Some("MySQL 9.7.4"), Vec::new())],
    };
    let bad = UnitReport {
        unit: key,
        findings: vec![finding(
            Severity::Blocking,
            "member wt",
            "there is no Idc wt.",
            "kind: Idc\nmetadata: {name: wt}",
        )],
        members: vec![
            member(
                "sh",
                Some("MariaDB 10.11.19"),
                vec![
                    finding(
                        Severity::Blocking,
                        "table orders.log",
                        "it has no key.",
                        "ALTER TABLE orders.log ADD PRIMARY KEY (id);",
                    ),
                    finding(
                        Severity::Warning,
                        "member sh (mysql.sh:3306)",
                        "sync_binlog is 0.",
                        "SET GLOBAL sync_binlog = 1;",
                    ),
                ],
            ),
            member(
                "bj",
                None,
                vec![finding(
                    Severity::Blocking,
                    "member bj (mysql.bj:3306)",
                    "cannot reach it.",
                    "",
                )],
            ),
        ],
    };
    let reports = [
        Report {
            findings: Vec::new(),
            units: vec![good],
        },
        Report {
            findings: Vec::new(),
            units: vec![bad],
        },
    ];
    assert_eq!(reports.each_ref().map(Report::blocking), [0, 3]);
    let text: Vec<String> = reports
        .iter()
        .map(|report| render(report, Paint::PLAIN))
        .collect();
    assert_snapshot("preflight", &text.join("\n"));
}
