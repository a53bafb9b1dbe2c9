//! The coordination cluster: an etcd member in each data centre.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::network::{IDCS, Network};
use crate::sandbox::{PartSpec, Sandbox, Signal};
use crate::{paths, shell};

/// The name of the part that is a data centre's etcd member.
pub fn part(idc: &str) -> String {
    format!("etcd-{idc}")
}

/// The URL at which the clients of a data centre's member reach it.
pub fn endpoint(network: Network, idc: &str) -> Result<String> {
    Ok(format!("http://{}:2379", network.idc(idc)?))
}

/// Starts the three members and returns, with their endpoints, when they have a leader.
pub fn start(sandbox: &Sandbox, network: Network, run: &Path) -> Result<Vec<String>> {
    let cluster = cluster(network)?;
    let mut endpoints = Vec::new();
    for idc in IDCS {
        let peer = peer(network, idc)?;
        let client = endpoint(network, idc)?;
        let data = run.join("etcd").join(idc);
        let spec = PartSpec::new([
            paths::tool("etcd").display().to_string(),
            format!("--name={idc}"),
            format!("--data-dir={}", data.display()),
            format!("--initial-cluster={cluster}"),
            "--initial-cluster-token=multiactive".to_owned(),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--listen-peer-urls={peer}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-client-urls={client},http://127.0.0.1:2379"),
            // The defaults, stated: what failover times are measured against.
            "--heartbeat-interval=100".to_owned(),
            "--election-timeout=1000".to_owned(),
            // As the README asks for.
            "--auto-compaction-retention=1h".to_owned(),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ]);
        sandbox.spawn(&part(idc), spec.in_netns(idc))?;
        endpoints.push(client);
    }
    wait(sandbox, &endpoints)?;
    Ok(endpoints)
}

fn peer(network: Network, idc: &str) -> Result<String> {
    Ok(format!("http://{}:2380", network.idc(idc)?))
}

/// All members, as etcd's `--initial-cluster` wants them.
fn cluster(network: Network) -> Result<String> {
    let member = |idc: &str| Ok(format!("{idc}={}", peer(network, idc)?));
    let members: Result<Vec<String>> = IDCS.into_iter().map(member).collect();
    Ok(members?.join(","))
}

/// Returns when every endpoint answers a linearizable read, which needs a leader.
pub fn wait(sandbox: &Sandbox, endpoints: &[String]) -> Result<()> {
    shell::poll("etcd has a leader", Duration::from_secs(30), || {
        for idc in IDCS {
            sandbox.check_running(&part(idc))?;
        }
        let mut health = etcdctl(endpoints, &["endpoint", "health", "--command-timeout=2s"]);
        let output = shell::text(&mut health)?;
        if output.contains("unhealthy") {
            bail!("{output}");
        }
        Ok(())
    })
}

/// A command of etcd's own client, on the host.
pub fn etcdctl(endpoints: &[String], arguments: &[&str]) -> std::process::Command {
    let mut command = shell::command(paths::tool("etcdctl"), arguments);
    command.arg(format!("--endpoints={}", endpoints.join(",")));
    command
}

/// What `etcdctl endpoint status` says of one member; the rest is left out.
#[derive(Deserialize)]
struct EndpointStatus {
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(rename = "Status")]
    status: MemberStatus,
}

#[derive(Deserialize)]
struct MemberStatus {
    header: Header,
    /// Left out by one that knows of none.
    #[serde(default)]
    leader: u64,
}

#[derive(Deserialize)]
struct Header {
    member_id: u64,
}

/// The data centre of the member that leads, by the word of those that answer; while they elect one,
/// the next.
pub fn leader(network: Network, endpoints: &[String]) -> Result<String> {
    let limit = Duration::from_secs(10);
    let leading = shell::poll("a member of etcd leads", limit, || leading(endpoints))?;
    for idc in IDCS {
        if endpoint(network, idc)? == leading {
            return Ok(idc.to_owned());
        }
    }
    bail!("{leading} is no data centre's")
}

/// The endpoint of the member that leads.
fn leading(endpoints: &[String]) -> Result<String> {
    let arguments = [
        "endpoint",
        "status",
        "--write-out=json",
        "--command-timeout=2s",
    ];
    // It fails when one member is gone, and prints what the others say.
    let said = etcdctl(endpoints, &arguments).output()?;
    let members: Vec<EndpointStatus> = serde_json::from_slice(&said.stdout).with_context(|| {
        format!(
            "etcdctl endpoint status: {}",
            String::from_utf8_lossy(&said.stderr)
        )
    })?;
    let mut members = members.into_iter();
    let leads = members.find(|member| member.status.leader == member.status.header.member_id);
    let leads = leads.context("each knows of another one or of none")?;
    Ok(leads.endpoint)
}

/// Kills all members, puts their data where [`restore`] finds it, and starts them again. Killed,
/// since one that is asked to end waits for its clients to close their watches.
pub fn save(sandbox: &Sandbox, endpoints: &[String], run: &Path) -> Result<()> {
    restart_on(sandbox, endpoints, || {
        replace(&run.join("etcd"), &run.join("etcd-saved"))
    })
}

/// Kills all members and starts them on the data of the last [`save`]: as when somebody restores
/// snapshots of their disks. Everything that etcd acknowledged since then is gone.
pub fn restore(sandbox: &Sandbox, endpoints: &[String], run: &Path) -> Result<()> {
    restart_on(sandbox, endpoints, || {
        replace(&run.join("etcd-saved"), &run.join("etcd"))
    })
}

/// Kills all members and makes them anew from the data of the last [`save`] with etcd's own tool, which
/// gives the cluster another identity: as its documentation has it after a disaster.
pub fn restore_anew(
    sandbox: &Sandbox,
    network: Network,
    endpoints: &[String],
    run: &Path,
) -> Result<()> {
    let cluster = cluster(network)?;
    let saved = run.join("etcd-saved").join(IDCS[0]);
    restart_on(sandbox, endpoints, || {
        for idc in IDCS {
            let data = run.join("etcd").join(idc);
            std::fs::remove_dir_all(&data)
                .with_context(|| format!("cannot clear {}", data.display()))?;
            let mut restore = shell::command(paths::tool("etcdutl"), ["snapshot", "restore"]);
            restore
                .arg(saved.join("member/snap/db"))
                // It was copied, not written by `etcdctl snapshot save`, which adds a hash.
                .arg("--skip-hash-check")
                .arg(format!("--name={idc}"))
                .arg(format!("--initial-cluster={cluster}"))
                .arg("--initial-cluster-token=restored")
                .arg(format!(
                    "--initial-advertise-peer-urls={}",
                    peer(network, idc)?
                ))
                .arg(format!("--data-dir={}", data.display()));
            shell::run(&mut restore)?;
        }
        Ok(())
    })
}

/// Kills all members and starts them on empty disks, under the same names: as when somebody makes a
/// lost etcd anew.
pub fn forget(sandbox: &Sandbox, endpoints: &[String], run: &Path) -> Result<()> {
    restart_on(sandbox, endpoints, || {
        let data = run.join("etcd");
        std::fs::remove_dir_all(&data).with_context(|| format!("cannot clear {}", data.display()))
    })
}

fn restart_on(
    sandbox: &Sandbox,
    endpoints: &[String],
    disks: impl FnOnce() -> Result<()>,
) -> Result<()> {
    for idc in IDCS {
        sandbox.signal(&part(idc), Signal::Kill, Duration::from_secs(30))?;
    }
    disks()?;
    for idc in IDCS {
        sandbox.start_part(&part(idc))?;
    }
    wait(sandbox, endpoints)
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("cannot clear {}", to.display()))?;
    }
    shell::run(shell::command("cp", ["-a", "--sparse=always"]).args([from, to]))
}
