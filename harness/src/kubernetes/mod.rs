//! A Kubernetes cluster of one node, from the real parts.

mod alone;
mod config;
mod pki;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::images::{self, Image};
use crate::network::{IDCS, Network};
use crate::sandbox::{PartSpec, Sandbox};
use crate::{paths, shell};

pub use alone::{ApiServer, start_api_servers};
pub use config::PAUSE_IMAGE;

use pki::Pki;

/// The name of the only node.
pub const NODE: &str = "local";
const READY: Duration = Duration::from_secs(120);

/// A cluster that runs.
pub struct Cluster {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

/// Starts everything and returns when the node is ready and names are resolved.
pub fn start(sandbox: &Sandbox, network: Network, run: &Path) -> Result<Cluster> {
    let directory = run.join("kubernetes");
    let pki = Pki::make(&directory.join("certificates"), network, PORT)?;
    config::write(&directory, run, network, &pki)?;
    mounts(sandbox, run, &directory)?;
    control_plane(sandbox, network, run, &pki)?;
    node(sandbox, network, &directory, &pki)?;
    let kubeconfig = run.join("kubeconfig");
    fs::copy(pki.kubeconfig("admin"), &kubeconfig)?;
    let cluster = Cluster { kubeconfig };
    // While the API server comes up.
    for image in [images::pause()?, images::toolbox()?] {
        import(sandbox, &image)?;
    }
    cluster.wait_for_api(sandbox)?;
    cluster.install(sandbox, network, &directory)?;
    cluster.wait_for_node(sandbox)?;
    wait_for_dns(sandbox, network)?;
    Ok(cluster)
}

/// Uses a cluster that is there already, if it answers.
pub fn check(kubeconfig: &Path) -> Result<Cluster> {
    let cluster = Cluster {
        kubeconfig: kubeconfig.to_path_buf(),
    };
    cluster
        .kubectl(&["get", "--raw=/readyz"])
        .context("the cluster does not answer: unset KUBECONFIG to have one started here")?;
    Ok(cluster)
}

/// Fixed paths of the kubelet and of CNI, private to the sandbox.
fn mounts(sandbox: &Sandbox, run: &Path, directory: &Path) -> Result<()> {
    for subdirectory in ["kubelet", "containerd", "var-log"] {
        fs::create_dir_all(run.join(subdirectory))?;
    }
    let script = format!(
        "mkdir -p /run/kubelet /run/multiactive /var/lib/cni\n\
         mount --bind '{run}/kubelet' /run/kubelet\n\
         mount --bind '{run}/var-log' /var/log\n\
         mount -t tmpfs tmpfs /var/lib/cni\n\
         cp '{directory}/resolv.conf' /run/multiactive/resolv.conf\n",
        run = run.display(),
        directory = directory.display(),
    );
    sandbox
        .check_with_input(PartSpec::new(["sh", "-eu"]), &script)
        .map(drop)
}

fn tool(name: &str, arguments: impl IntoIterator<Item = String>) -> PartSpec {
    let mut argv = vec![paths::tool(name).display().to_string()];
    argv.extend(arguments);
    PartSpec::new(argv)
}

/// Where the API server's etcd listens.
const CLIENT: &str = "http://127.0.0.1:12379";
const PEER: &str = "http://127.0.0.1:12380";

/// Where the API server listens.
const PORT: u16 = 6443;

/// Starts the API server's etcd.
fn storage(sandbox: &Sandbox, run: &Path) -> Result<()> {
    let data = run.join("etcd").join("kubernetes");
    let etcd = [
        "--name=kubernetes".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--initial-cluster=kubernetes={PEER}"),
        format!("--initial-advertise-peer-urls={PEER}"),
        format!("--listen-peer-urls={PEER}"),
        format!("--advertise-client-urls={CLIENT}"),
        format!("--listen-client-urls={CLIENT}"),
        // The cluster does not outlive a crash of the machine, so nothing has to reach the disk.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    sandbox.spawn("kubernetes-etcd", tool("etcd", etcd))
}

fn control_plane(sandbox: &Sandbox, network: Network, run: &Path, pki: &Pki) -> Result<()> {
    storage(sandbox, run)?;
    sandbox.spawn("kube-apiserver", apiserver(network, pki, PORT, "/registry"))?;
    let controllers = [
        format!("--kubeconfig={}", pki.kubeconfig("controller-manager")),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!(
            "--service-account-private-key-file={}",
            pki.path("service-accounts.key")
        ),
        format!("--root-ca-file={}", pki.path("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki.path("ca.crt")),
        format!("--cluster-signing-key-file={}", pki.path("ca.key")),
    ];
    sandbox.spawn(
        "kube-controller-manager",
        tool("kube-controller-manager", controllers),
    )?;
    let scheduler = [
        format!("--kubeconfig={}", pki.kubeconfig("scheduler")),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ];
    sandbox.spawn("kube-scheduler", tool("kube-scheduler", scheduler))
}

fn apiserver(network: Network, pki: &Pki, port: u16, prefix: &str) -> PartSpec {
    let arguments = [
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={}", network.node()),
        format!("--secure-port={port}"),
        format!("--etcd-servers={CLIENT}"),
        format!("--etcd-prefix={prefix}"),
        format!("--service-cluster-ip-range={}", network.services()),
        format!("--client-ca-file={}", pki.path("ca.crt")),
        format!("--tls-cert-file={}", pki.path("apiserver.crt")),
        format!("--tls-private-key-file={}", pki.path("apiserver.key")),
        format!("--token-auth-file={}", pki.path("tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!(
            "--service-account-key-file={}",
            pki.path("service-accounts.pub")
        ),
        format!(
            "--service-account-signing-key-file={}",
            pki.path("service-accounts.key")
        ),
        format!(
            "--kubelet-client-certificate={}",
            pki.path("apiserver-to-kubelet.crt")
        ),
        format!(
            "--kubelet-client-key={}",
            pki.path("apiserver-to-kubelet.key")
        ),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ];
    tool("kube-apiserver", arguments)
}

fn node(sandbox: &Sandbox, network: Network, directory: &Path, pki: &Pki) -> Result<()> {
    let config = |file: &str| directory.join(file).display().to_string();
    let containerd = [
        "containerd".to_owned(),
        format!("--config={}", config("containerd.toml")),
    ];
    sandbox.spawn("containerd", PartSpec::new(containerd))?;
    // One node stands for the nodes of all data centres.
    let labels = IDCS
        .map(|idc| format!("multiactive.dev/idc-{idc}=true"))
        .join(",");
    let kubelet = [
        format!("--config={}", config("kubelet.yaml")),
        format!("--kubeconfig={}", pki.kubeconfig("kubelet")),
        "--root-dir=/run/kubelet".to_owned(),
        format!("--node-ip={}", network.node()),
        format!("--hostname-override={NODE}"),
        format!("--node-labels={labels}"),
    ];
    shell::poll("containerd answers", Duration::from_secs(30), || {
        sandbox.check_running("containerd")?;
        sandbox.check(ctr(&["version"])).map(drop)
    })?;
    sandbox.spawn("kubelet", tool("kubelet", kubelet))?;
    let proxy = [format!("--config={}", config("kube-proxy.yaml"))];
    sandbox.spawn("kube-proxy", tool("kube-proxy", proxy))
}

fn ctr(arguments: &[&str]) -> PartSpec {
    let words = [
        "ctr",
        "--address=/run/containerd/containerd.sock",
        "--namespace=k8s.io",
    ];
    PartSpec::new(words.into_iter().chain(arguments.iter().copied()))
}

/// Makes an image known to the node, under its own tag and as `dev`.
pub fn import(sandbox: &Sandbox, image: &Image) -> Result<()> {
    let archive = image.archive.display().to_string();
    sandbox.check(ctr(&["images", "import", "--no-unpack", &archive]))?;
    let dev = format!("{}:dev", image.repository);
    sandbox
        .check(ctr(&["images", "tag", "--force", &image.reference(), &dev]))
        .map(drop)
}

/// Waits for something that these parts bring about; fails at once when one of them has ended.
fn wait_for(
    sandbox: &Sandbox,
    what: &str,
    parts: &[&str],
    probe: impl Fn() -> Result<()>,
) -> Result<()> {
    shell::poll(what, READY, || {
        for part in parts {
            sandbox.check_running(part)?;
        }
        probe()
    })
    .map_err(|error| {
        if error.is::<shell::Final>() {
            return error;
        }
        let logs: Vec<String> = parts
            .iter()
            .map(|part| sandbox.log(part))
            .map(|log| format!("{}:\n{}", log.display(), shell::tail(&log)))
            .collect();
        error.context(logs.join("\n"))
    })
}

impl Cluster {
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = shell::command(paths::tool("kubectl"), arguments);
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        shell::text(command.arg("--request-timeout=10s"))
    }

    fn wait_for_api(&self, sandbox: &Sandbox) -> Result<()> {
        let parts = ["kubernetes-etcd", "kube-apiserver"];
        wait_for(sandbox, "the API server is ready", &parts, || {
            self.kubectl(&["get", "--raw=/readyz"]).map(drop)
        })
    }

    fn install(&self, sandbox: &Sandbox, network: Network, directory: &Path) -> Result<()> {
        let objects = include_str!("objects.yaml")
            .replace("DNS_SERVICE", &network.service(10))
            .replace("NODE", &network.node());
        let path = directory.join("objects.yaml");
        fs::write(&path, objects)?;
        self.kubectl(&["apply", "-f", &path.display().to_string()])?;
        let corefile = directory.join("Corefile").display().to_string();
        sandbox.spawn("coredns", tool("coredns", ["-conf".to_owned(), corefile]))
    }

    fn wait_for_node(&self, sandbox: &Sandbox) -> Result<()> {
        let parts = [
            "containerd",
            "kubelet",
            "kube-controller-manager",
            "kube-scheduler",
        ];
        wait_for(sandbox, "the node is ready", &parts, || {
            let path = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let ready = self.kubectl(&["get", "node", NODE, path])?;
            if ready != "True" {
                bail!("its condition Ready is `{ready}`");
            }
            // Pods are refused until their namespace has this account.
            self.kubectl(&["get", "serviceaccount", "default", "--namespace=default"])
                .map(drop)
        })
    }
}

/// How often kube-proxy may end before that is a failure.
const PROXY_ENDS: u32 = 5;

/// Resolves a name as a pod would: through the Service's address.
///
/// Starts kube-proxy again meanwhile, as the node of an ordinary cluster does. It can die of its
/// own start: Kubernetes 1.36.3 registers the handlers of nodes (`pkg/proxy/config/config.go`,
/// `NewNodeConfig`) with an informer that runs already, and reads the list while it grows.
fn wait_for_dns(sandbox: &Sandbox, network: Network) -> Result<()> {
    let ends = Cell::new(0);
    wait_for(sandbox, "cluster DNS answers", &["coredns"], || {
        if let Err(ended) = sandbox.check_running("kube-proxy") {
            ends.set(ends.get() + 1);
            if ends.get() == PROXY_ENDS {
                return Err(ended);
            }
            eprintln!("kube-proxy is started again: {ended:#}");
            sandbox.start_part("kube-proxy")?;
        }
        let name = "kubernetes.default.svc.cluster.local";
        let server = network.service(10);
        let spec = PartSpec::new(["busybox", "timeout", "2", "busybox", "nslookup", name]);
        let mut spec = spec.in_netns(IDCS[0]);
        spec.argv.push(server);
        let answer = sandbox.check(spec)?;
        if !answer.contains(&network.service(1)) {
            bail!("{name} is not {}: {answer}", network.service(1));
        }
        Ok(())
    })
}
