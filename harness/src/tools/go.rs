//! Programs that are built from Go modules: Kubernetes, etcd, `CoreDNS`, helm. `tools/go` pins them.
//!
//! One module for all of them: what they have in common, which is most of it, is compiled once.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::Stamp;
use crate::{paths, report, shell};

/// Each program and the package it is built from.
const PROGRAMS: [(&str, &str); 11] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
    ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    (
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("helm", "helm.sh/helm/v4/cmd/helm"),
    ("coredns", "multiactive.dev/tools/coredns"),
];
const FLAGS: [&str; 3] = ["-mod=readonly", "-trimpath", "-buildvcs=false"];

pub(super) fn install() -> Result<()> {
    let module = module();
    let link_flags = link_flags()?;
    let mut made_from = format!("{} {link_flags}\n", FLAGS.join(" "));
    for file in ["go.mod", "go.sum", "coredns/main.go"] {
        let path = module.join(file);
        made_from.push_str(
            &fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        );
    }
    let stamp = Stamp::new("go", made_from);
    if stamp.fits() && PROGRAMS.iter().all(|(name, _)| paths::tool(name).is_file()) {
        return Ok(());
    }
    if !shell::installed("go") {
        bail!("no `go` on the PATH: install Go 1.26 or later");
    }
    report::long_step(
        "Kubernetes, etcd, CoreDNS and helm from their sources",
        "about ten minutes the first time on two cores",
        || build(&link_flags),
    )?;
    stamp.set()
}

fn module() -> PathBuf {
    paths::workspace().join("tools").join("go")
}

/// Without a version of its own Kubernetes says it is 0.0.0, which every chart refuses.
fn link_flags() -> Result<String> {
    let go_mod = fs::read_to_string(module().join("go.mod"))?;
    let version = |module: &str| {
        let line = go_mod
            .lines()
            .find_map(|line| line.trim().strip_prefix(module));
        // What follows the version is a remark.
        line.and_then(|rest| Some(rest.split_whitespace().next()?.to_owned()))
            .with_context(|| format!("tools/go/go.mod does not require {module}"))
    };
    let (kubernetes, helm) = (version("k8s.io/kubernetes ")?, version("helm.sh/helm/v4 ")?);
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("0"));
    let mut flags = format!("-s -w -X helm.sh/helm/v4/internal/version.version={helm}");
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        flags.push_str(&format!(
            " -X {package}.gitVersion={kubernetes} -X {package}.gitMajor={major} -X \
             {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
        ));
    }
    Ok(flags)
}

fn build(link_flags: &str) -> Result<()> {
    // All in one command, so that links of one program overlap with compilation of others.
    let fresh = paths::tools().join("bin.part");
    drop(fs::remove_dir_all(&fresh));
    fs::create_dir_all(&fresh)?;
    let mut build = shell::command("go", ["build"]);
    build
        .args(FLAGS)
        .arg("-ldflags")
        .arg(link_flags)
        .arg("-o")
        .arg(&fresh)
        .args(PROGRAMS.map(|(_, package)| package));
    build
        .current_dir(module())
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        // The compiler spends a quarter of its time collecting garbage that it could leave.
        .env("GOGC", "400");
    shell::run_logged(
        &mut build,
        &paths::tools().join("logs").join("go-build.log"),
    )?;
    // Go names a program after the last part of its package that is not a version.
    fs::rename(fresh.join("server"), fresh.join("etcd"))?;
    let bin = paths::tools().join("bin");
    fs::create_dir_all(&bin)?;
    for (name, _) in PROGRAMS {
        // Replaced rather than written over: a world of an earlier build may still run it.
        fs::rename(fresh.join(name), bin.join(name))
            .with_context(|| format!("the build has made no {name}"))?;
    }
    fs::remove_dir_all(&fresh)?;
    Ok(())
}
