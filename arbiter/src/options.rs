//! The options, as `docs/architecture.md` lists them.

use std::path::PathBuf;
use std::time::Duration;

use arbitration::Settings;
use clap::Parser;
use model::{Generation, IdcName};
use topology::{EtcdOptions, SessionClaim};

/// The arbiter of one IDC: holds its session in etcd, and makes and keeps at most one member of
/// each Unit writable.
#[derive(Debug, Parser)]
#[command(name = "arbiter", version)]
#[group(skip)]
pub struct Options {
    /// The IDC that this arbiter acts for.
    #[arg(long, env = "MULTIACTIVE_IDC")]
    pub idc: IdcName,
    /// URLs of the coordination etcd's members, the nearest first.
    #[arg(
        long,
        env = "MULTIACTIVE_ETCD_ENDPOINTS",
        value_delimiter = ',',
        required = true
    )]
    etcd_endpoints: Vec<String>,
    /// What all keys of the installation begin with.
    #[arg(long, env = "MULTIACTIVE_ETCD_PREFIX", default_value = "/multiactive/")]
    etcd_prefix: String,
    /// Directory with ca.crt, tls.crt and tls.key for etcd; without it, no TLS.
    #[arg(long, env = "MULTIACTIVE_ETCD_TLS")]
    etcd_tls: Option<PathBuf>,
    /// The lease time of the IDC's session: how long a dead or isolated IDC keeps what it holds.
    #[arg(long, env = "MULTIACTIVE_LEASE_DURATION", default_value = "6s", value_parser = seconds)]
    lease_duration: Duration,
    /// Directory in which the file <namespace>.<unit>.<idc> holds the account of each member.
    #[arg(long, env = "MULTIACTIVE_CREDENTIALS")]
    pub credentials: PathBuf,
    /// A name of this process that no other has: the pod's name.
    #[arg(long, env = "MULTIACTIVE_HOLDER")]
    holder: String,
    /// host:port at which other processes reach this one's HTTP endpoint.
    #[arg(long, env = "MULTIACTIVE_ADDRESS")]
    address: String,
    #[command(flatten)]
    pub process: process::Options,
}

/// Reads whole seconds, written `6s` or `6`: etcd grants leases in seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    digits
        .parse()
        .map(Duration::from_secs)
        .map_err(|_| format!("{text:?} is not a lease time: write whole seconds, for example 6s"))
}

impl Options {
    /// Refuses a lease time within which no member could be held.
    pub fn check(&self) -> anyhow::Result<()> {
        let shortest = Duration::from_millis(Settings::default().shortest_lease());
        anyhow::ensure!(
            self.lease_duration >= shortest,
            "--lease-duration {:?} is too short: a fence, the margin for drifting clocks and a \
             keep-alive need {} s at least; 6s is the default",
            self.lease_duration,
            shortest.as_secs() + 1,
        );
        Ok(())
    }

    /// How to reach etcd.
    pub fn etcd(&self) -> EtcdOptions {
        EtcdOptions::new(
            self.etcd_endpoints.clone(),
            &self.etcd_prefix,
            self.etcd_tls.clone(),
        )
    }

    /// What to claim the session with.
    pub fn claim(&self) -> SessionClaim {
        SessionClaim {
            idc: self.idc.clone(),
            holder: self.holder.clone(),
            address: self.address.clone(),
            version: process::VERSION.to_owned(),
            lease_time: self.lease_duration,
            above: Generation(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lease: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from([
            "arbiter",
            "--idc=sh",
            "--etcd-endpoints=http://a:2379,http://b:2379",
            "--credentials=/c",
            "--holder=h",
            "--address=h:8080",
            &format!("--lease-duration={lease}"),
        ])
    }

    #[test]
    fn the_options_are_sound() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
    }

    #[test]
    fn a_lease_that_is_too_short_is_refused() {
        parse("6s").unwrap().check().unwrap();
        let refusal = parse("3s").unwrap().check().unwrap_err().to_string();
        assert!(refusal.contains("3s is too short"), "{refusal}");
        assert!(parse("1m").is_err());
    }

    #[test]
    fn endpoints_are_a_list() {
        assert_eq!(
            parse("6s").unwrap().etcd().endpoints,
            ["http://a:2379", "http://b:2379"]
        );
    }
}
