//! Programs that Debian packages.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{paths, report, shell};

/// Each package with a program that proves its presence, however it got there.
const PACKAGES: [(&str, &str); 17] = [
    ("buildah", "buildah"),
    ("busybox-static", "busybox"),
    ("conntrack", "conntrack"),
    ("containerd", "containerd"),
    ("gcc", "gcc"),
    ("iproute2", "ip"),
    ("mariadb-client", "mariadb"),
    ("mariadb-server", "mariadbd"),
    ("mmdebstrap", "mmdebstrap"),
    ("musl-tools", "musl-gcc"),
    ("nftables", "nft"),
    ("openssl", "openssl"),
    ("procps", "ps"),
    ("protobuf-compiler", "protoc"),
    ("runc", "runc"),
    ("sysbench", "sysbench"),
    ("util-linux", "unshare"),
];

/// Packages without a program on the path, each with a file of it.
const FILES: [(&str, &str); 2] = [
    ("containernetworking-plugins", "/usr/lib/cni/ptp"),
    // What the compiler of protocol buffers imports; Debian only recommends it with the compiler.
    (
        "libprotobuf-dev",
        "/usr/include/google/protobuf/descriptor.proto",
    ),
];
/// While this file says 101, installing a package starts no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub(super) fn install() -> Result<()> {
    let programs = PACKAGES
        .iter()
        .filter(|(_, program)| !shell::installed(program));
    let files = FILES.iter().filter(|(_, file)| !Path::new(file).is_file());
    let missing: Vec<&str> = programs.chain(files).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("Debian packages: {}", missing.join(" "));
    report::long_step(&what, "half a minute", || {
        without_services(|| apt(&missing))
    })
}

fn apt(packages: &[&str]) -> Result<()> {
    let logs = paths::tools().join("logs");
    let mut update = shell::command("apt-get", ["update", "-q"]);
    shell::run_logged(&mut update, &logs.join("apt-update.log")).context(
        "cannot read the package lists: this needs Debian 12 or a relative, and a mirror",
    )?;
    let mut install = shell::command(
        "apt-get",
        ["install", "-y", "-q", "--no-install-recommends"],
    );
    install
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    shell::run_logged(&mut install, &logs.join("apt-install.log"))
}

/// The database and containerd packages come with services; only their programs are wanted.
fn without_services(work: impl FnOnce() -> Result<()>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    // A policy that the machine's owner has set stays as it is.
    if Path::new(POLICY).exists() {
        return work();
    }
    fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
    fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
    let result = work();
    fs::remove_file(POLICY)?;
    result
}
