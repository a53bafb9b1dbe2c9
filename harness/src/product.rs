//! The product as its users handle it: `helm install`, `kubectl apply`, `mactl`. The demo and the
//! suites share this; nothing in it knows how the product works inside.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::images::Image;
use crate::world::World;
use crate::{paths, shell};

/// The namespace that the chart is installed into.
pub const SYSTEM: &str = "multiactive-system";
/// The namespace of the Unit.
pub const NAMESPACE: &str = "shop";
/// The Unit's name.
pub const UNIT: &str = "orders";

/// The product in a world's cluster.
pub struct Product<'a> {
    world: &'a World,
}

impl<'a> Product<'a> {
    /// Speaks of the product in a world; nothing is installed yet.
    pub fn of(world: &'a World) -> Self {
        Self { world }
    }

    /// Makes the images known to the node and installs both charts, waiting until the operator is
    /// ready.
    pub fn install(&self, images: &[Image]) -> Result<()> {
        for image in images {
            self.world.import(image)?;
        }
        self.apply(&namespace(SYSTEM, "restricted"))?;
        self.apply(&namespace(NAMESPACE, "restricted"))?;
        self.helm(&[
            "upgrade",
            "--install",
            "multiactive-crds",
            "charts/multiactive-crds",
        ])?;
        let mut arguments = vec![
            "upgrade".to_owned(),
            "--install".to_owned(),
            "multiactive".to_owned(),
            "charts/multiactive".to_owned(),
            "--wait".to_owned(),
            "--timeout=120s".to_owned(),
            format!(
                "--set=etcd.endpoints={{{}}}",
                self.world.info().etcd.join(",")
            ),
        ];
        for image in images {
            arguments.push(format!(
                "--set=images.{}.repository={}",
                image.name, image.repository
            ));
            arguments.push(format!("--set=images.{}.tag={}", image.name, image.tag));
        }
        self.helm(&arguments)
    }

    /// Upgrades what is installed with some values changed, waiting until the operator is ready.
    pub fn upgrade(&self, values: &[&str]) -> Result<()> {
        let mut arguments = vec![
            "upgrade".to_owned(),
            "multiactive".to_owned(),
            "charts/multiactive".to_owned(),
            "--reuse-values".to_owned(),
            "--wait".to_owned(),
            "--timeout=120s".to_owned(),
        ];
        arguments.extend(values.iter().map(|value| format!("--set={value}")));
        self.helm(&arguments)
    }

    /// Uninstalls the product's chart; the custom resources stay defined.
    pub fn uninstall(&self) -> Result<()> {
        self.helm(&["uninstall", "multiactive", "--wait", "--timeout=120s"])
    }

    fn helm<S: AsRef<str>>(&self, arguments: &[S]) -> Result<()> {
        let mut helm = self.world.helm()?;
        helm.args(["--namespace", SYSTEM])
            .args(arguments.iter().map(AsRef::as_ref));
        shell::run(helm.current_dir(paths::workspace()))
    }

    /// `kubectl apply` of manifests; the error holds what the API server said.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let mut kubectl = self.world.kubectl()?;
        kubectl.args(["apply", "--server-side", "--filename=-"]);
        shell::text_with_input(&mut kubectl, manifests)
    }

    /// `kubectl` with arguments, in the Unit's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.world.kubectl()?;
        shell::text(kubectl.args(["--namespace", NAMESPACE]).args(arguments))
    }

    /// `mactl` with arguments, in the Unit's namespace.
    pub fn mactl(&self, arguments: &[&str]) -> Result<Command> {
        let Some(kubeconfig) = &self.world.info().kubeconfig else {
            bail!(
                "the world `{}` has no Kubernetes cluster",
                self.world.info().name
            );
        };
        let mut command = Command::new(paths::release("mactl"));
        command.env("KUBECONFIG", kubeconfig);
        command.args(["--namespace", NAMESPACE]).args(arguments);
        Ok(command)
    }

    /// Runs `mactl` and returns what it printed, whatever it ended with.
    pub fn mactl_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.mactl(arguments)?;
        command
            .stdin(Stdio::null())
            .output()
            .context("cannot run mactl")
    }

    /// Waits for a condition of an object and returns; on a time-out the error holds the status.
    pub fn wait(&self, object: &str, condition: &str, limit: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let condition = format!("--for={condition}");
        self.kubectl(&["wait", object, &condition, &timeout])
            .map(drop)
            .with_context(|| {
                let status = self.kubectl(&["get", object, "--output=jsonpath={.status}"]);
                format!("{object} did not become {condition}; its status: {status:?}")
            })
    }

    /// One field of an object, by `JSONPath`; empty where it is not set.
    pub fn field(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, &format!("--output=jsonpath={{{path}}}")])
    }

    /// What is worth reading after a failure: objects, events, and the logs of our pods.
    pub fn describe(&self) -> String {
        let mut text = Vec::new();
        let logs = |namespace: &'static str| -> [&str; 5] {
            [
                "logs",
                namespace,
                "--selector=app.kubernetes.io/name=multiactive",
                "--prefix",
                "--tail=100",
            ]
        };
        let (system, unit) = (
            logs("--namespace=multiactive-system"),
            logs("--namespace=shop"),
        );
        let queries: [&[&str]; 5] = [
            &["get", "pods", "--all-namespaces", "--output=wide"],
            &["get", "multiactive", "--all-namespaces", "--output=yaml"],
            &[
                "get",
                "events",
                "--all-namespaces",
                "--sort-by=.lastTimestamp",
            ],
            &system,
            &unit,
        ];
        for query in queries {
            let answer = self
                .kubectl(query)
                .unwrap_or_else(|error| format!("{error:#}"));
            // Writing to memory cannot fail.
            drop(writeln!(text, "--- kubectl {}\n{answer}", query.join(" ")));
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn namespace(name: &str, level: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: {level}\n---\n"
    )
}

/// One Idc for each data centre of the world; the last is the witness.
pub fn idcs(world: &World) -> String {
    let mut manifests = String::new();
    for idc in &world.info().idcs {
        let role = if idc == "witness" { "Witness" } else { "Data" };
        manifests.push_str(&format!(
            "apiVersion: multiactive.dev/v1alpha1\n\
             kind: Idc\n\
             metadata: {{name: {idc}}}\n\
             spec:\n  \
               role: {role}\n  \
               scheduling: {{nodeSelector: {{multiactive.dev/idc-{idc}: \"true\"}}}}\n\
             ---\n"
        ));
    }
    manifests
}

/// The Secret with a member's account.
pub fn secret(idc: &str, username: &str, password: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Secret\n\
         metadata: {{name: {UNIT}-{idc}, namespace: {NAMESPACE}}}\n\
         stringData: {{username: {username}, password: {password}}}\n\
         ---\n"
    )
}

/// The Secrets of all members.
pub fn secrets(world: &World) -> String {
    let databases = &world.info().databases;
    databases
        .iter()
        .map(|at| secret(&at.idc, &at.user, &at.password))
        .collect()
}

/// The Unit with a member in each data centre that has a database, the first with the highest
/// priority.
pub fn unit(world: &World) -> String {
    let mut manifest = format!(
        "apiVersion: multiactive.dev/v1alpha1\n\
         kind: Unit\n\
         metadata: {{name: {UNIT}, namespace: {NAMESPACE}}}\n\
         spec:\n  \
           databases: [orders]\n  \
           members:\n"
    );
    for (place, database) in world.info().databases.iter().enumerate() {
        manifest.push_str(&format!(
            "  - idc: {idc}\n    \
                 endpoint: {{host: {host}, port: {port}}}\n    \
                 credentialsSecret: {UNIT}-{idc}\n    \
                 priority: {priority}\n",
            idc = database.idc,
            host = database.host,
            port = database.port,
            priority = 100 - 10 * place,
        ));
    }
    manifest
}
