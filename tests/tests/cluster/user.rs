//! What a tired user gets to read: each mistake is told with the object, the value and the next
//! step, and ends with the exit code that belongs to it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::product::{NAMESPACE, Product};
use serde_json::{Value, json};

use crate::refusals::reinstall;

#[test]
fn mistakes_at_the_command_line_are_told_with_the_way_out() {
    let world = tests::cluster().unwrap();
    let product = Product::of(&world);
    if let Err(error) = mistakes(&world, &product) {
        panic!("{error:?}\n{}", product.describe());
    }
}

fn mistakes(world: &World, product: &Product<'_>) -> Result<()> {
    reinstall(product)?;
    // Nothing is ever started for it: neither its IDCs nor its Secrets are there.
    product.apply(&format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Unit\n\
         metadata: {{name: billing, namespace: {NAMESPACE}}}\n\
         spec:\n  databases: [billing]\n  members:\n  \
         - {{idc: atlantis, endpoint: {{host: 192.0.2.1}}, credentialsSecret: none}}\n  \
         - {{idc: lemuria, endpoint: {{host: 192.0.2.2}}, credentialsSecret: none}}\n"
    ))?;
    let told = each_is_told(world, product);
    product.kubectl(&["delete", "unit/billing", "--timeout=60s"])?;
    told
}

/// Arguments, the exit code, and words of what is said.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

fn each_is_told(world: &World, product: &Product<'_>) -> Result<()> {
    names(product)?;
    dangers(product)?;
    access(world, product)
}

fn names(product: &Product<'_>) -> Result<()> {
    let cases: [Case<'_>; 7] = [
        (
            &["status", "biling"],
            1,
            &[
                "Unit shop/biling was not found",
                "did you mean shop/billing?",
            ],
        ),
        (
            &["status", "nowhere/billing"],
            1,
            &[
                "Unit nowhere/billing was not found",
                "did you mean shop/billing?",
            ],
        ),
        (
            &["switchover", "billing", "--to", "atlants"],
            1,
            &[
                "Unit shop/billing was not switched over to atlants",
                "its members are in atlantis, lemuria",
                "--to atlantis",
            ],
        ),
        (&["switchover", "billing"], 2, &["--to <IDC>"]),
        (&["switchover", "--to", "sh"], 2, &["<UNIT|--all>"]),
        (
            &["switchover", "--all", "--from", "narnia", "--to", "sh"],
            1,
            &["narnia was not evacuated to sh", "there is no IDC narnia"],
        ),
        (
            &["failover", "billing", "--to", "SH"],
            2,
            &["\"SH\"", "lower-case"],
        ),
    ];
    check(product, &cases)
}

fn dangers(product: &Product<'_>) -> Result<()> {
    let cases: [Case<'_>; 4] = [
        (
            &["ack", "billing"],
            3,
            &["shop/billing was not acknowledged", "no primary yet"],
        ),
        (
            &["switchover", "billing", "--to", "lemuria"],
            3,
            &[
                "it has no primary",
                "mactl failover shop/billing --to lemuria",
            ],
        ),
        (
            &["failover", "billing", "--to", "lemuria"],
            3,
            &["was not failed over to lemuria", "no terminal", "--yes"],
        ),
        (
            // One Unit by its name is paused as asked; all of a namespace might be a slip.
            &["pause"],
            3,
            &["shop/billing", "no terminal", "--yes"],
        ),
    ];
    check(product, &cases)
}

fn access(world: &World, product: &Product<'_>) -> Result<()> {
    let stranger = changed_kubeconfig(world, product, "stranger", |config| {
        config["users"][0]["user"] = json!({"token": "ended-long-ago"});
    })?;
    let down = changed_kubeconfig(world, product, "down", |config| {
        config["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:9");
    })?;
    let cases: [Case<'_>; 3] = [
        (
            &["status", "--kubeconfig", "/no/such/file"],
            1,
            &["/no/such/file", "--kubeconfig FILE"],
        ),
        (
            &["status", "--kubeconfig", &stranger],
            1,
            &["Units of namespace shop", "Unauthorized", "log in again"],
        ),
        (
            &["status", "--kubeconfig", &down],
            1,
            &["https://127.0.0.1:9", "does not answer", "--etcd-endpoints"],
        ),
    ];
    check(product, &cases)
}

fn check(product: &Product<'_>, cases: &[Case<'_>]) -> Result<()> {
    for (arguments, code, words) in cases {
        let answer = product.mactl_output(arguments)?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        let command = format!("mactl {}", arguments.join(" "));
        ensure!(
            answer.status.code() == Some(*code),
            "{command}: {}, not {code}: {said}",
            answer.status
        );
        for word in *words {
            ensure!(said.contains(word), "{command}: {word:?} is not in: {said}");
        }
    }
    Ok(())
}

/// The cluster's kubeconfig with something changed, as a file of its own.
fn changed_kubeconfig(
    world: &World,
    product: &Product<'_>,
    name: &str,
    change: impl FnOnce(&mut Value),
) -> Result<String> {
    let text = product.kubectl(&["config", "view", "--raw", "--output=json"])?;
    let mut config: Value = serde_json::from_str(&text).context("kubectl config view")?;
    change(&mut config);
    let path = world.info().directory.join(format!("kubeconfig-{name}"));
    fs::write(&path, config.to_string())?;
    Ok(path.display().to_string())
}
