//! The configuration files of a one-node cluster that runs without systemd, on either version of
//! control groups, and without the right to lower a process's OOM score.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::pki::Pki;
use crate::network::Network;

/// The image of the process that holds a pod's namespaces open.
pub const PAUSE_IMAGE: &str = "docker.io/multiactive/pause:dev";

/// Writes all of them to `directory`.
pub(super) fn write(directory: &Path, run: &Path, network: Network, pki: &Pki) -> Result<()> {
    fs::create_dir_all(directory.join("cni"))?;
    let files = [
        ("containerd.toml", containerd(directory, run)),
        ("cni/10-pods.conflist", cni(network)),
        ("kubelet.yaml", kubelet(network, pki)),
        ("kube-proxy.yaml", kube_proxy(network, pki)),
        ("Corefile", corefile(pki)),
        (
            "resolv.conf",
            "# No name of the outside world can be resolved here.\n".to_owned(),
        ),
    ];
    for (name, content) in files {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn containerd(directory: &Path, run: &Path) -> String {
    let (directory, run) = (directory.display(), run.display());
    format!(
        r#"version = 2
root = "{run}/containerd"
state = "/run/containerd"
# Lowering it takes a capability that containers often lack.
oom_score = 0
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Without CAP_SYS_RESOURCE a negative score makes every sandbox die as it starts.
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"
"#
    )
}

fn cni(network: Network) -> String {
    let pods = network.pods();
    format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {{
      "type": "ptp",
      "ipMasq": false,
      "ipam": {{
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{{"subnet": "{pods}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }}
  ]
}}
"#
    )
}

fn kubelet(network: Network, pki: &Pki) -> String {
    let (authority, dns) = (pki.path("ca.crt"), network.service(10));
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\n\
         kind: KubeletConfiguration\n\
         authentication:\n\
         \x20 anonymous: {{enabled: false}}\n\
         \x20 webhook: {{enabled: true}}\n\
         \x20 x509: {{clientCAFile: \"{authority}\"}}\n\
         authorization: {{mode: Webhook}}\n\
         containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n\
         clusterDNS: [\"{dns}\"]\n\
         clusterDomain: cluster.local\n\
         resolvConf: /run/multiactive/resolv.conf\n\
         failCgroupV1: false\n\
         cgroupDriver: cgroupfs\n\
         cgroupsPerQOS: false\n\
         enforceNodeAllocatable: []\n\
         failSwapOn: false\n\
         oomScoreAdj: 0\n\
         readOnlyPort: 0\n\
         maxPods: 250\n\
         volumePluginDir: /run/kubelet/volume-plugins\n\
         podLogsDir: /var/log/pods\n\
         nodeStatusUpdateFrequency: 4s\n\
         imageMaximumGCAge: 0s\n\
         imageGCHighThresholdPercent: 100\n\
         imageGCLowThresholdPercent: 99\n\
         evictionHard: {{memory.available: \"1Mi\", nodefs.available: \"1%\", imagefs.available: \"1%\", nodefs.inodesFree: \"0%\", imagefs.inodesFree: \"0%\"}}\n"
    )
}

fn kube_proxy(network: Network, pki: &Pki) -> String {
    let (kubeconfig, pods) = (pki.kubeconfig("kube-proxy"), network.pods());
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         kind: KubeProxyConfiguration\n\
         mode: nftables\n\
         clusterCIDR: \"{pods}\"\n\
         hostnameOverride: local\n\
         oomScoreAdj: 0\n\
         clientConnection: {{kubeconfig: \"{kubeconfig}\"}}\n\
         # The machine's own limits belong to the machine.\n\
         conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n\
         nftables: {{minSyncPeriod: 200ms, syncPeriod: 30s}}\n"
    )
}

fn corefile(pki: &Pki) -> String {
    let kubeconfig = pki.kubeconfig("coredns");
    // Two blocks, because within one the template would come before the cluster's own names.
    format!(
        "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{\n\
         \x20   errors\n\
         \x20   ready 127.0.0.1:8181\n\
         \x20   kubernetes cluster.local in-addr.arpa ip6.arpa {{\n\
         \x20       kubeconfig {kubeconfig} multiactive\n\
         \x20       pods insecure\n\
         \x20       ttl 5\n\
         \x20   }}\n\
         }}\n\
         .:53 {{\n\
         \x20   template ANY ANY . {{\n\
         \x20       rcode NXDOMAIN\n\
         \x20   }}\n\
         }}\n"
    )
}
