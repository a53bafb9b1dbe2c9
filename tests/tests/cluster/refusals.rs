//! Each rule of the custom resources, by a manifest that breaks it: the real API server must refuse
//! it with the sentence that says what to change.

use anyhow::{Context as _, Result, bail, ensure};
use harness::World;
use harness::product::{NAMESPACE, Product, SYSTEM};
use harness::{images, shell};

const MANIFESTS: &str = include_str!("refusals.yaml");

const SH: &str =
    "{idc: sh, endpoint: {host: mysql.sh.example}, credentialsSecret: orders-sh, priority: 100}";
const BJ: &str = "{idc: bj, endpoint: {host: mysql.bj.example}, credentialsSecret: orders-bj}";

/// What the API server says to a manifest: `Ok` if it takes it, and the refusal otherwise.
fn offer(world: &World, verb: &[&str], manifest: &str) -> Result<Result<String, String>> {
    let mut kubectl = world.kubectl()?;
    kubectl.args(["--namespace", NAMESPACE]).args(verb);
    kubectl.args(["--validate=strict", "--filename=-"]);
    Ok(shell::text_with_input(&mut kubectl, manifest).map_err(|error| format!("{error:#}")))
}

const TRY: [&str; 2] = ["create", "--dry-run=server"];

#[test]
fn each_rule_is_told_in_its_sentence() {
    let world = tests::cluster().unwrap();
    let mut tried = 0;
    let mut wrong = Vec::new();
    for document in MANIFESTS.split("\n---\n").skip(1) {
        let Some(sentence) = document
            .lines()
            .find_map(|line| line.strip_prefix("# says: "))
        else {
            panic!("a manifest without its sentence:\n{document}");
        };
        let manifest = document.replace("{{sh}}", SH).replace("{{bj}}", BJ);
        tried += 1;
        match offer(&world, &TRY, &manifest).unwrap() {
            Ok(_) => wrong.push(format!(
                "accepted, but should say {sentence:?}:\n{document}"
            )),
            Err(said) if !said.contains(sentence) => {
                wrong.push(format!("should say {sentence:?}, but says:\n{said}"));
            }
            Err(_) => {}
        }
    }
    assert!(tried > 40, "only {tried} manifests were found");
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// The members that the manifests above are made from are refused for nothing of their own.
#[test]
fn the_valid_manifest_is_taken() {
    let world = tests::cluster().unwrap();
    let unit = format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Unit\nmetadata: {{name: good}}\n\
         spec: {{databases: [orders], members: [{SH}, {BJ}]}}\n"
    );
    offer(&world, &TRY, &unit).unwrap().unwrap();
}

/// What runs once cannot be changed afterwards.
#[test]
fn the_spec_of_what_runs_once_cannot_be_changed() {
    let world = tests::cluster().unwrap();
    let switchover = |to: &str| {
        format!(
            "apiVersion: multiactive.dev/v1alpha1\nkind: Switchover\nmetadata: {{name: fixed}}\n\
             spec: {{unit: there-is-none, to: {to}}}\n"
        )
    };
    let repair = |mode: &str| {
        format!(
            "apiVersion: multiactive.dev/v1alpha1\nkind: DataRepair\nmetadata: {{name: fixed}}\n\
             spec: {{unit: there-is-none, mode: {mode}}}\n"
        )
    };
    let cases = [
        (
            switchover("bj"),
            switchover("sh"),
            "the spec of a Switchover cannot be changed",
        ),
        (
            repair("Verify"),
            repair("Repair"),
            "the spec of a DataRepair cannot be changed",
        ),
    ];
    for (first, second, sentence) in cases {
        offer(&world, &["apply"], &first).unwrap().unwrap();
        let said = offer(&world, &["apply"], &second).unwrap();
        assert!(
            said.as_ref().is_err_and(|said| said.contains(sentence)),
            "{said:?}"
        );
    }
    let product = Product::of(&world);
    for object in ["switchover/fixed", "datarepair/fixed"] {
        product.kubectl(&["delete", object]).unwrap();
    }
}

/// What only the operator can judge: it says so in a condition, and starts nothing.
#[test]
fn what_needs_a_look_at_other_objects_becomes_a_condition() {
    let world = tests::cluster().unwrap();
    let product = Product::of(&world);
    if let Err(error) = conditions(&product) {
        panic!("{error:?}\n{}", product.describe());
    }
}

fn conditions(product: &Product<'_>) -> Result<()> {
    reinstall(product)?;
    let unit = format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Unit\n\
         metadata: {{name: lost, namespace: {NAMESPACE}}}\n\
         spec:\n  databases: [orders]\n  members:\n  \
         - {{idc: atlantis, endpoint: {{host: 192.0.2.1}}, credentialsSecret: no-such-secret}}\n  \
         - {{idc: lemuria, endpoint: {{host: 127.0.0.1}}, credentialsSecret: no-such-secret}}\n  \
         linkTemplate: {{compression: Lz4, apply: {{workers: 4}}}}\n"
    );
    product.apply(&unit)?;
    says(
        product,
        "unit/lost",
        "PreflightPassed",
        &[
            "there is no Idc of that name",
            "atlantis",
            &format!("Secret {NAMESPACE}/no-such-secret does not exist"),
            "127.0.0.1",
            "compression Lz4 is not supported yet",
            "apply.workers 4 is not supported yet",
        ],
    )?;
    let link = format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: SyncLink\n\
         metadata: {{name: lost, namespace: {NAMESPACE}}}\n\
         spec: {{unit: no-such-unit, source: {{idc: sh}}, target: {{idc: bj}}, relay: true}}\n"
    );
    product.apply(&link)?;
    says(
        product,
        "synclink/lost",
        "Ready",
        &["no-such-unit", "relay true hands on what other links bring"],
    )?;
    requests(product)?;
    let made = "deployments,services,configmaps,endpointslices";
    let label = "--selector=app.kubernetes.io/managed-by=multiactive";
    let started = product.kubectl(&["get", made, label, "--output=name"])?;
    ensure!(started.trim().is_empty(), "started half-way: {started}");
    for object in [
        "unit/lost",
        "synclink/lost",
        "switchover/lost",
        "datarepair/lost",
    ] {
        product
            .kubectl(&["delete", object, "--timeout=60s"])
            .context(object)?;
    }
    Ok(())
}

/// Run-once objects for a Unit that has no primary.
fn requests(product: &Product<'_>) -> Result<()> {
    let switchover = format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Switchover\n\
         metadata: {{name: lost, namespace: {NAMESPACE}}}\nspec: {{unit: lost, to: nowhere}}\n"
    );
    product.apply(&switchover)?;
    says(
        product,
        "switchover/lost",
        "Ready",
        &["has no member in IDC nowhere; it has atlantis, lemuria"],
    )?;
    let repair = format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: DataRepair\n\
         metadata: {{name: lost, namespace: {NAMESPACE}}}\nspec: {{unit: lost}}\n"
    );
    product.apply(&repair)?;
    says(
        product,
        "datarepair/lost",
        "Ready",
        &["Unit shop/lost has no primary"],
    )
}

/// Another test of this suite ends with the product uninstalled, and the order is not ours.
pub(crate) fn reinstall(product: &Product<'_>) -> Result<()> {
    let operator = "deployment/multiactive-operator";
    let namespace = format!("--namespace={SYSTEM}");
    let found = [
        "get",
        operator,
        &namespace,
        "--ignore-not-found",
        "--output=name",
    ];
    if product.kubectl(&found)?.is_empty() {
        let images: Vec<_> = images::PROCESSES
            .into_iter()
            .map(images::process)
            .collect::<Result<_>>()?;
        product.install(&images)?;
    }
    Ok(())
}

fn says(product: &Product<'_>, object: &str, condition: &str, words: &[&str]) -> Result<()> {
    tests::eventually(
        &format!("{object}: {condition}=False says {words:?}"),
        || {
            let path = format!(".status.conditions[?(@.type==\"{condition}\")]");
            let status = product.field(object, &format!("{path}.status"))?;
            let message = product.field(object, &format!("{path}.message"))?;
            if status != "False" {
                bail!("{status:?}: {message}");
            }
            for word in words {
                ensure!(message.contains(word), "{word:?} is not in: {message}");
            }
            Ok(())
        },
    )
}
