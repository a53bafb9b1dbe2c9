//! One Kubernetes cluster for each IDC: three API servers, three operators, one etcd. The same
//! manifests are applied to one cluster after the other, and what a majority of them holds takes
//! effect.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::kubernetes::{ApiServer, start_api_servers};
use harness::product::{NAMESPACE, SYSTEM, secret};
use harness::sandbox::{PartSpec, Signal};
use harness::{World, WorldSpec, coordination, paths, shell};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use tests::eventually;

const IDCS: [&str; 3] = ["sh", "bj", "hz"];
const DOCUMENT: &str = "/multiactive/topology/units/shop/orders";

/// The clusters, their operators and the etcd that they share.
struct Clusters {
    world: World,
    servers: Vec<ApiServer>,
}

impl Clusters {
    fn up() -> Result<Self> {
        let world = World::up(&WorldSpec {
            etcd: true,
            ..WorldSpec::empty("suite-clusters")
        })?;
        let servers = start_api_servers(&world, &IDCS)?;
        let clusters = Self { world, servers };
        let mut chart = shell::command(paths::tool("helm"), ["template", "crds"]);
        chart.arg(paths::workspace().join("charts/multiactive-crds"));
        let definitions = shell::text(&mut chart)?;
        let transport = transport()?;
        for idc in IDCS {
            clusters.apply(idc, &definitions)?;
            for namespace in [SYSTEM, NAMESPACE] {
                clusters.kubectl(idc, &["create", "namespace", namespace])?;
            }
            clusters.apply(idc, &transport)?;
            let established = ["wait", "crd", "--all", "--for=condition=Established"];
            clusters.kubectl(idc, &established)?;
        }
        Ok(clusters)
    }

    /// Starts the operator of a cluster, for an IDC that should be the cluster's.
    fn start_operator(&self, cluster: &str, idc: &str) -> Result<()> {
        let directory = &self.world.info().directory;
        // Each its own: another operator may be reading while this is written.
        let images = directory.join(format!("images-{cluster}-{idc}.json"));
        let names = r#"{"arbiter":"a:1","syncer":"s:1","writer":"w:1","repair":"r:1","pullPolicy":"Never"}"#;
        std::fs::write(&images, names)?;
        let mut spec = PartSpec::new([
            paths::release("operator").display().to_string(),
            format!("--idc={idc}"),
            format!("--etcd-endpoints={}", self.world.info().etcd.join(",")),
            format!("--images={}", images.display()),
            "--transport-secret=links".to_owned(),
            // All share the node's address.
            "--listen=127.0.0.1:0".to_owned(),
            format!("--holder=operator-{idc}"),
        ]);
        let kubeconfig = &self.server(cluster)?.kubeconfig;
        spec.env
            .push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));
        self.world.sandbox().spawn(&format!("operator-{idc}"), spec)
    }

    fn server(&self, idc: &str) -> Result<&ApiServer> {
        let mut servers = self.servers.iter();
        servers
            .find(|server| server.name == idc)
            .with_context(|| format!("no cluster {idc}"))
    }

    fn kubectl(&self, idc: &str, arguments: &[&str]) -> Result<String> {
        shell::text(self.server(idc)?.kubectl().args(arguments))
    }

    fn apply(&self, idc: &str, manifests: &str) -> Result<()> {
        let mut kubectl = self.server(idc)?.kubectl();
        kubectl.args(["apply", "--server-side", "--filename=-"]);
        shell::text_with_input(&mut kubectl, manifests).map(drop)
    }

    /// A key of the shared etcd as JSON; `None` if there is none.
    fn etcd(&self, key: &str) -> Result<Option<Value>> {
        let mut get =
            coordination::etcdctl(&self.world.info().etcd, &["get", "--print-value-only", key]);
        let text = shell::text(&mut get)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(text.trim())?))
    }

    fn keys(&self, prefix: &str) -> Result<BTreeSet<String>> {
        let arguments = ["get", "--prefix", "--keys-only", prefix];
        let text = shell::text(&mut coordination::etcdctl(
            &self.world.info().etcd,
            &arguments,
        ))?;
        let lines = text.lines().filter(|line| !line.is_empty());
        Ok(lines.map(ToOwned::to_owned).collect())
    }

    /// The revision of the shared etcd: every write counts it up.
    fn revision(&self) -> Result<i64> {
        let arguments = ["get", "--write-out=json", "/multiactive/"];
        let text = shell::text(&mut coordination::etcdctl(
            &self.world.info().etcd,
            &arguments,
        ))?;
        let answer: Value = serde_json::from_str(&text)?;
        answer["header"]["revision"].as_i64().context("no revision")
    }

    /// Waits until the condition `TopologyAgreed` of an object is of this status and reason, and its
    /// message holds all the words.
    fn agreed(&self, idc: &str, object: &str, wanted: (&str, &str), words: &[&str]) -> Result<()> {
        let what = format!("{object} in {idc} says {wanted:?} {words:?}");
        eventually(&what, || {
            let path = "jsonpath={.status.conditions[?(@.type==\"TopologyAgreed\")]}";
            let namespace = format!("--namespace={NAMESPACE}");
            let text = self.kubectl(idc, &["get", object, &namespace, "--output", path])?;
            let found: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            let message = found["message"].as_str().unwrap_or_default();
            ensure!(
                (&found["status"], &found["reason"]) == (&wanted.0.into(), &wanted.1.into())
                    && words.iter().all(|word| message.contains(word)),
                "{found}"
            );
            Ok(())
        })
    }

    fn deployments(&self, idc: &str, namespace: &str) -> Result<BTreeSet<String>> {
        let namespace = format!("--namespace={namespace}");
        let path = "jsonpath={.items[*].metadata.name}";
        let text = self.kubectl(idc, &["get", "deployments", &namespace, "--output", path])?;
        Ok(text.split_whitespace().map(ToOwned::to_owned).collect())
    }

    /// Waits until a cluster has these Deployments and no others.
    fn has(&self, idc: &str, namespace: &str, wanted: &[&str]) -> Result<()> {
        eventually(&format!("{idc} has {wanted:?} in {namespace}"), || {
            let found = self.deployments(idc, namespace)?;
            let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
    }

    fn priority(&self) -> Result<Option<i64>> {
        let Some(document) = self.etcd(DOCUMENT)? else {
            return Ok(None);
        };
        let members = document["members"].as_array().context("no members")?;
        let bj = members.iter().find(|member| member["idc"] == "bj");
        Ok(bj.and_then(|bj| bj["priority"].as_i64()))
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for idc in IDCS {
            let log = self.world.sandbox().log(&format!("operator-{idc}"));
            text.push_str(&format!("--- operator of {idc}\n{}\n", shell::tail(&log)));
        }
        text
    }
}

/// The Secret that all clusters share: a certificate of one CA.
fn transport() -> Result<String> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["transport.multiactive".to_owned()])?;
    let leaf = leaf.signed_by(&key, &ca)?;
    let data = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "links", "namespace": SYSTEM},
        "stringData": {
            "ca.crt": ca.as_ref().pem(),
            "tls.crt": leaf.pem(),
            "tls.key": key.serialize_pem(),
        },
    });
    Ok(data.to_string())
}

fn idcs() -> String {
    let one = |(idc, role): (&str, &str)| {
        format!(
            "apiVersion: multiactive.dev/v1alpha1\nkind: Idc\nmetadata: {{name: {idc}}}\n\
             spec: {{role: {role}}}\n---\n"
        )
    };
    [("sh", "Data"), ("bj", "Data"), ("hz", "Witness")]
        .map(one)
        .concat()
}

fn unit(priority: u32) -> String {
    let secrets = ["sh", "bj"].map(|idc| secret(idc, "multiactive", "secret"));
    format!(
        "{}apiVersion: multiactive.dev/v1alpha1\nkind: Unit\n\
         metadata: {{name: orders, namespace: {NAMESPACE}}}\n\
         spec:\n  databases: [orders]\n  members:\n  \
         - {{idc: sh, endpoint: {{host: 192.0.2.1}}, credentialsSecret: orders-sh, priority: 100}}\n  \
         - {{idc: bj, endpoint: {{host: 192.0.2.2}}, credentialsSecret: orders-bj, \
         priority: {priority}}}\n",
        secrets.concat()
    )
}

#[test]
fn what_a_majority_of_clusters_sees_takes_effect() {
    let clusters = Clusters::up().unwrap();
    let result = idcs_agree(&clusters)
        .and_then(|()| unit_agrees(&clusters))
        .and_then(|()| unit_changes(&clusters))
        .and_then(|()| links_start(&clusters))
        .and_then(|()| silent(&clusters))
        .and_then(|()| unit_ends(&clusters))
        .and_then(|()| wrong_name(&clusters));
    if let Err(error) = result {
        panic!("{error:?}\n{}", clusters.describe());
    }
}

fn idcs_agree(clusters: &Clusters) -> Result<()> {
    for idc in IDCS {
        clusters.start_operator(idc, idc)?;
    }
    clusters.apply("sh", &idcs())?;
    let waits = ["Nothing is heard from bj and hz", "2 of 3"];
    clusters.agreed("sh", "idc/sh", ("False", "IdcsDiffer"), &waits)?;
    ensure!(clusters.keys("/multiactive/topology/idcs/")?.is_empty());
    for idc in ["bj", "hz"] {
        clusters.apply(idc, &idcs())?;
    }
    for idc in IDCS {
        clusters.agreed(idc, "idc/hz", ("True", "Agreed"), &[])?;
        clusters.has(idc, SYSTEM, &[&format!("arbiter-{idc}")])?;
    }
    let found = clusters.keys("/multiactive/topology/idcs/")?;
    ensure!(found.len() == 3, "{found:?}");
    Ok(())
}

fn unit_agrees(clusters: &Clusters) -> Result<()> {
    clusters.apply("sh", &unit(50))?;
    let waits = [
        "bj has not seen this Unit",
        "hz has not seen this Unit",
        "2 of 3",
    ];
    clusters.agreed("sh", "unit/orders", ("False", "NotAgreed"), &waits)?;
    ensure!(clusters.priority()?.is_none(), "in force by one alone");
    clusters.apply("bj", &unit(50))?;
    for idc in ["sh", "bj"] {
        let lags = ["hz has not seen this Unit"];
        clusters.agreed(idc, "unit/orders", ("True", "Agreed"), &lags)?;
    }
    ensure!(clusters.priority()? == Some(50));
    clusters.apply("hz", &unit(50))?;
    clusters.agreed("hz", "unit/orders", ("True", "Agreed"), &[])
}

fn unit_changes(clusters: &Clusters) -> Result<()> {
    let uid = |clusters: &Clusters| -> Result<Value> {
        Ok(clusters.etcd(DOCUMENT)?.context("not in force")?["uid"].clone())
    };
    let before = uid(clusters)?;
    clusters.apply("sh", &unit(60))?;
    let still = ["bj still sees priority 50 of member bj (not 60)", "2 of 3"];
    clusters.agreed("sh", "unit/orders", ("False", "SpecDiffers"), &still)?;
    ensure!(clusters.priority()? == Some(50), "changed by one alone");
    clusters.agreed("bj", "unit/orders", ("True", "Agreed"), &["sh sees"])?;
    clusters.apply("bj", &unit(60))?;
    clusters.agreed(
        "sh",
        "unit/orders",
        ("True", "Agreed"),
        &["hz sees priority 50"],
    )?;
    clusters.agreed(
        "hz",
        "unit/orders",
        ("False", "SpecDiffers"),
        &["sh still sees priority 60"],
    )?;
    ensure!(clusters.priority()? == Some(60));
    ensure!(
        uid(clusters)? == before,
        "the Unit lives on under another uid"
    );
    clusters.apply("hz", &unit(60))?;
    clusters.agreed("hz", "unit/orders", ("True", "Agreed"), &[])
}

/// No arbiter runs here, so the test says in their place that the members are well.
fn links_start(clusters: &Clusters) -> Result<()> {
    let record = r#"{"identity":null,"boot":null,"reachable":true,"fenced":true,"preflightPassed":true,"hasData":false}"#;
    for idc in ["sh", "bj"] {
        let key = format!("/multiactive/units/shop/orders/members/{idc}");
        let mut put = coordination::etcdctl(&clusters.world.info().etcd, &["put", &key, record]);
        shell::text(&mut put)?;
    }
    clusters.has("sh", NAMESPACE, &["orders-sh-bj-syncer"])?;
    clusters.has("bj", NAMESPACE, &["orders-bj-sh-syncer"])?;
    // What a load balancer's controller would say.
    for (idc, link, address) in [
        ("sh", "orders-sh-bj", "198.51.100.1"),
        ("bj", "orders-bj-sh", "198.51.100.2"),
    ] {
        let service = format!("service/{link}-reach");
        let patch =
            format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{address}"}}]}}}}}}"#);
        let namespace = format!("--namespace={NAMESPACE}");
        let (subresource, patch) = ("--subresource=status", format!("--patch={patch}"));
        clusters.kubectl(idc, &["patch", &service, &namespace, subresource, &patch])?;
    }
    clusters.has(
        "sh",
        NAMESPACE,
        &["orders-bj-sh-writer", "orders-sh-bj-syncer"],
    )?;
    clusters.has(
        "bj",
        NAMESPACE,
        &["orders-bj-sh-syncer", "orders-sh-bj-writer"],
    )?;
    clusters.has("hz", NAMESPACE, &[])?;
    let namespace = format!("--namespace={NAMESPACE}");
    let path = "jsonpath={.spec.template.spec.containers[0].args}";
    let writer = [
        "get",
        "deployment",
        "orders-sh-bj-writer",
        &namespace,
        "--output",
        path,
    ];
    let arguments = clusters.kubectl("bj", &writer)?;
    ensure!(
        arguments.contains("--syncer=198.51.100.1:7443"),
        "{arguments}"
    );
    Ok(())
}

/// While nothing changes, nothing is written, neither to etcd nor to any API server.
fn silent(clusters: &Clusters) -> Result<()> {
    let versions = || -> Result<Vec<String>> {
        let mut all = vec![clusters.revision()?.to_string()];
        for idc in IDCS {
            let kinds = "idcs,units,synclinks,deployments,services,secrets,configmaps";
            let path = "jsonpath={.items[*].metadata.resourceVersion}";
            all.push(clusters.kubectl(idc, &["get", kinds, "--all-namespaces", "--output", path])?);
        }
        Ok(all)
    };
    let mut before = versions()?;
    eventually("nothing is written for eight seconds", || {
        std::thread::sleep(Duration::from_secs(8));
        let now = versions()?;
        if now != before {
            before = now;
            bail!("still moving");
        }
        Ok(())
    })
}

fn unit_ends(clusters: &Clusters) -> Result<()> {
    let namespace = format!("--namespace={NAMESPACE}");
    let delete = ["delete", "unit/orders", &namespace, "--wait=false"];
    clusters.kubectl("sh", &delete)?;
    let still = ["bj and hz still see it", "2 of 3"];
    clusters.agreed("sh", "unit/orders", ("False", "DeletionNotAgreed"), &still)?;
    ensure!(clusters.priority()? == Some(60), "ended by one alone");
    clusters.has(
        "sh",
        NAMESPACE,
        &["orders-bj-sh-writer", "orders-sh-bj-syncer"],
    )?;
    clusters.kubectl("bj", &delete)?;
    eventually("the Unit is not in force any more", || {
        ensure!(clusters.priority()?.is_none(), "it is");
        Ok(())
    })?;
    for idc in ["sh", "bj"] {
        eventually(&format!("the object in {idc} is gone"), || {
            let left = clusters.kubectl(idc, &["get", "units", &namespace, "--output=name"])?;
            ensure!(left.trim().is_empty(), "{left}");
            Ok(())
        })?;
    }
    let by = ["bj and sh have deleted this Unit"];
    clusters.agreed("hz", "unit/orders", ("False", "Deleted"), &by)?;
    eventually("hz holds no links of it any more", || {
        let left = clusters.kubectl("hz", &["get", "synclinks", &namespace, "--output=name"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })?;
    clusters.kubectl("hz", &["delete", "unit/orders", &namespace])?;
    eventually("nothing is said of it any more", || {
        let keys = clusters.keys("/multiactive/topology/")?;
        let left: Vec<_> = keys
            .iter()
            .filter(|key| key.contains("orders") && !key.contains("/syncers/"))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

/// An operator of an IDC that its cluster does not know says so, and goes on running.
fn wrong_name(clusters: &Clusters) -> Result<()> {
    let sandbox = clusters.world.sandbox();
    sandbox.signal("operator-hz", Signal::Terminate, Duration::from_secs(30))?;
    clusters.start_operator("hz", "xx")?;
    eventually("the operator says that there is no Idc xx", || {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
        let said = clusters.kubectl("hz", &["get", "idc/hz", "--output", path])?;
        let words = ["--idc xx", "(there are: bj, hz, sh)", "apply the Idc xx"];
        ensure!(words.iter().all(|word| said.contains(word)), "{said}");
        sandbox.check_running("operator-xx")
    })
}
