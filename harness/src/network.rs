//! The world's network: a namespace for the Kubernetes node, one for each data centre, all routed
//! through the node's, and one link to the host.
//!
//! ```text
//! host 10.N.0.1 ---- 10.N.0.2 node namespace (10.N.1.1 on a bridge; pods 10.N.64.0/22)
//!                              |-- 10.N.11.1 ---- 10.N.11.2 sh
//!                              |-- 10.N.12.1 ---- 10.N.12.2 bj
//!                              '-- 10.N.13.1 ---- 10.N.13.2 witness
//! ```
//!
//! Pods have links of their own to the node (CNI's `ptp`), not a bridge, so that every packet
//! between any two of pods, data centres and host passes the node's forwarding hook. That is where
//! partitions are made.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::sandbox::{PartSpec, Sandbox};
use crate::shell;

/// Values of N that are tried in turn.
const CANDIDATES: std::ops::RangeInclusive<u8> = 203..=218;

/// The data centres, in the order of their addresses. The last has no database.
pub const IDCS: [&str; 3] = ["sh", "bj", "witness"];

/// The addresses of one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The second octet of every address.
    pub octet: u8,
}

impl Network {
    /// The whole range, as routed by the host.
    pub fn range(self) -> String {
        format!("10.{}.0.0/16", self.octet)
    }

    /// The host's end of the link.
    pub fn host(self) -> String {
        format!("10.{}.0.1", self.octet)
    }

    fn uplink(self) -> String {
        format!("10.{}.0.2", self.octet)
    }

    /// The Kubernetes node.
    pub fn node(self) -> String {
        format!("10.{}.1.1", self.octet)
    }

    /// Where pods get their addresses.
    pub fn pods(self) -> String {
        format!("10.{}.64.0/22", self.octet)
    }

    /// Where Services get theirs.
    pub fn services(self) -> String {
        format!("10.{}.96.0/20", self.octet)
    }

    /// A Service's address by its number in the range.
    pub fn service(self, number: u8) -> String {
        format!("10.{}.96.{number}", self.octet)
    }

    /// The address of a data centre's etcd member and database.
    pub fn idc(self, idc: &str) -> Result<String> {
        Ok(format!("10.{}.{}.2", self.octet, index(idc)?))
    }

    fn gateway(self, idc: &str) -> Result<String> {
        Ok(format!("10.{}.{}.1", self.octet, index(idc)?))
    }

    /// The name of the host's end of the link.
    pub fn name(self) -> String {
        format!("multiactive-{}", self.octet)
    }
}

fn index(idc: &str) -> Result<usize> {
    match IDCS.iter().position(|known| *known == idc) {
        Some(position) => Ok(11 + position),
        None => bail!("no data centre {idc}; there are: {}", IDCS.join(", ")),
    }
}

/// Held while a range is chosen, so that two worlds that start together choose different ones.
fn lock() -> Result<File> {
    let path = PathBuf::from("/run/lock/multiactive-network.lock");
    fs::create_dir_all("/run/lock")?;
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.lock()?;
    Ok(file)
}

/// Chooses a free range and builds the network in the sandbox.
pub fn build(sandbox: &Sandbox) -> Result<Network> {
    let lock = lock()?;
    let network = choose()?;
    let init = sandbox.init_process()?.to_string();
    let name = network.name();
    let ip = |words: &str| shell::run(&mut shell::command("ip", words.split_whitespace()));
    ip(&format!(
        "link add {name} type veth peer name uplink netns {init}"
    ))?;
    ip(&format!("addr add {}/30 dev {name}", network.host()))?;
    ip(&format!("link set {name} up"))?;
    // The far end has to be up before the route is of use, but not before it can be added.
    ip(&format!(
        "route add {} via {}",
        network.range(),
        network.uplink()
    ))?;
    drop(lock);
    sandbox.check_with_input(PartSpec::new(["sh", "-eu"]), &script(network)?)?;
    Ok(network)
}

/// The commands that are run inside the sandbox.
fn script(network: Network) -> Result<String> {
    let mut script = String::from(
        "ip link set lo up\n\
         echo 1 > /proc/sys/net/ipv4/ip_forward\n\
         for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done\n\
         mkdir -p /run/netns\n",
    );
    writeln!(
        script,
        "ip addr add {}/30 dev uplink; ip link set uplink up",
        network.uplink()
    )?;
    // What is meant for the world outside is refused at once, rather than lost.
    writeln!(script, "ip route add unreachable default")?;
    writeln!(
        script,
        "ip link add knode type bridge; ip link set knode up"
    )?;
    writeln!(script, "ip addr add {}/24 dev knode", network.node())?;
    for idc in IDCS {
        let (address, gateway) = (network.idc(idc)?, network.gateway(idc)?);
        writeln!(script, "ip netns add {idc}")?;
        writeln!(
            script,
            "ip link add idc-{idc} type veth peer name eth0 netns {idc}"
        )?;
        writeln!(
            script,
            "ip addr add {gateway}/24 dev idc-{idc}; ip link set idc-{idc} up"
        )?;
        writeln!(script, "ip -n {idc} link set lo up")?;
        writeln!(script, "ip -n {idc} addr add {address}/24 dev eth0")?;
        writeln!(script, "ip -n {idc} link set eth0 up")?;
        writeln!(script, "ip -n {idc} route add default via {gateway}")?;
    }
    writeln!(script, "nft -f - <<'EOF'\n{}EOF", tables(network)?)?;
    Ok(script)
}

/// One set of addresses a data centre, and one set of cut pairs, filled by [`partition`]. The
/// connections of a cut pair do not end: their packets vanish, as in a real partition.
fn tables(network: Network) -> Result<String> {
    let mut table = String::from("table ip multiactive {\n");
    for idc in IDCS {
        let subnet = format!("10.{}.{}.0/24", network.octet, index(idc)?);
        writeln!(
            table,
            " set {idc} {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {subnet} }}; }}"
        )?;
    }
    // Before the service translation's own hooks have a say.
    table.push_str(" chain cut { type filter hook forward priority -200; }\n}\n");
    Ok(table)
}

fn nft(sandbox: &Sandbox, commands: &str) -> Result<String> {
    sandbox.check_with_input(PartSpec::new(["nft", "-a", "-f", "-"]), commands)
}

/// Drops every packet between two data centres, in both directions.
pub fn partition(sandbox: &Sandbox, one: &str, other: &str) -> Result<()> {
    one_way(sandbox, one, other)?;
    one_way(sandbox, other, one)
}

/// Drops packets from one data centre to another, and lets those of the other direction pass.
pub fn one_way(sandbox: &Sandbox, from: &str, to: &str) -> Result<()> {
    index(from)?;
    index(to)?;
    nft(
        sandbox,
        &format!(
            "add rule ip multiactive cut ip saddr @{from} ip daddr @{to} counter drop comment \
             \"{from}>{to}\"\n"
        ),
    )
    .map(drop)
}

/// Lets packets between two data centres pass again, both ways.
pub fn heal(sandbox: &Sandbox, one: &str, other: &str) -> Result<()> {
    index(one)?;
    index(other)?;
    let rules = nft(sandbox, "list chain ip multiactive cut\n")?;
    let mut deletions = String::new();
    for rule in rules.lines() {
        let ours = [format!("\"{one}>{other}\""), format!("\"{other}>{one}\"")];
        if let Some((_, handle)) = rule.rsplit_once("# handle ")
            && ours.iter().any(|comment| rule.contains(comment.as_str()))
        {
            writeln!(deletions, "delete rule ip multiactive cut handle {handle}")?;
        }
    }
    nft(sandbox, &deletions).map(drop)
}

/// Ends all partitions.
pub fn heal_all(sandbox: &Sandbox) -> Result<()> {
    nft(sandbox, "flush chain ip multiactive cut\n").map(drop)
}

/// Says which pods are in a data centre, so that partitions cut them too.
pub fn place_pods(sandbox: &Sandbox, network: Network, idc: &str, pods: &[String]) -> Result<()> {
    let mut elements = vec![format!("10.{}.{}.0/24", network.octet, index(idc)?)];
    elements.extend_from_slice(pods);
    let elements = elements.join(", ");
    nft(
        sandbox,
        &format!(
            "flush set ip multiactive {idc}\nadd element ip multiactive {idc} {{ {elements} }}\n"
        ),
    )
    .map(drop)
}

/// Drops what the processes of one account in a data centre send to a port, wherever that is; packets
/// that never leave the data centre too. So one process can be cut from one service.
pub fn cut_account(sandbox: &Sandbox, idc: &str, account: u32, port: u16) -> Result<()> {
    index(idc)?;
    let commands = format!(
        "add table ip accounts\n\
         add chain ip accounts cut {{ type filter hook output priority 0; }}\n\
         add rule ip accounts cut meta skuid {account} tcp dport {port} counter drop\n"
    );
    let nft = PartSpec::new(["nft", "-f", "-"]).in_netns(idc);
    sandbox.check_with_input(nft, &commands).map(drop)
}

/// Ends what [`cut_account`] has begun, in all data centres.
pub fn heal_accounts(sandbox: &Sandbox) -> Result<()> {
    for idc in IDCS {
        // Added first, since deleting what is not there is an error.
        let commands = "add table ip accounts\ndelete table ip accounts\n";
        let nft = PartSpec::new(["nft", "-f", "-"]).in_netns(idc);
        sandbox.check_with_input(nft, commands)?;
    }
    Ok(())
}

fn choose() -> Result<Network> {
    let used = used_octets()?;
    let clash = |octet: &u8| {
        used.iter()
            .find(|(low, high, _)| (low..=high).contains(&octet))
    };
    let mut clashes = Vec::new();
    for octet in CANDIDATES {
        match clash(&octet) {
            None => return Ok(Network { octet }),
            Some((_, _, what)) => clashes.push(format!("10.{octet}.0.0/16 with {what}")),
        }
    }
    bail!(
        "every address range that a world may use clashes with one in use on this machine: {}. \
         Take one of them down (`ip link del NAME`), or end other worlds",
        clashes.join("; ")
    )
}

/// What the host routes in 10.0.0.0/8: second octets from, to, and the name to show.
fn used_octets() -> Result<Vec<(u8, u8, String)>> {
    let mut used = Vec::new();
    let mut lines = shell::text(&mut shell::command(
        "ip",
        ["-4", "route", "show", "table", "all"],
    ))?;
    lines.push('\n');
    lines.push_str(&shell::text(&mut shell::command(
        "ip",
        ["-4", "-o", "addr"],
    ))?);
    for line in lines.lines() {
        let words = line.split_whitespace();
        let Some(range) = words.into_iter().find(|word| word.starts_with("10.")) else {
            continue;
        };
        let (address, bits) = range.split_once('/').unwrap_or((range, "32"));
        let Some(octet) = address
            .split('.')
            .nth(1)
            .and_then(|octet| octet.parse::<u8>().ok())
        else {
            continue;
        };
        let bits: u32 = bits.parse().unwrap_or(32);
        let spread = if bits >= 16 {
            0
        } else {
            (1_u16 << (16 - bits.max(8))) - 1
        };
        let high = u8::try_from(u16::from(octet) + spread).unwrap_or(u8::MAX);
        // A default route of 10.0.0.0/8 covers all of them; a longer one of ours still wins.
        if bits > 8 {
            used.push((octet, high, line.trim().to_owned()));
        }
    }
    Ok(used)
}
