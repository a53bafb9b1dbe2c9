//! The options, as `docs/architecture.md` lists them.

use std::net::SocketAddr;
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
    /// Where other arbiters ask for promises while etcd is out of reach; needs --tls. Without it,
    /// none are asked for or given: with etcd out of reach the primary is fenced.
    #[arg(long, env = "MULTIACTIVE_SERVE", requires = "tls")]
    pub serve: Option<SocketAddr>,
    /// Directory with ca.crt, tls.crt and tls.key of the installation, for --serve. They may come
    /// later, and change.
    #[arg(long, env = "MULTIACTIVE_TLS")]
    pub tls: Option<PathBuf>,
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
            "--lease-duration {:?} is too short: a fence, the margin for drifting clocks, and a \
             standby that comes before it need {} s at least; 6s is the default",
            self.lease_duration,
            shortest.as_secs(),
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

    /// Where other arbiters reach --serve: on the host of --address.
    fn promises_at(&self) -> Option<String> {
        let (host, _) = self.address.rsplit_once(':')?;
        let serve = self.serve.filter(|_| self.tls.is_some())?;
        Some(format!("{host}:{}", serve.port()))
    }

    /// What to claim the session with.
    pub fn claim(&self) -> SessionClaim {
        SessionClaim {
            idc: self.idc.clone(),
            holder: self.holder.clone(),
            address: self.address.clone(),
            promises_at: self.promises_at().unwrap_or_default(),
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
        let refusal = parse("4s").unwrap().check().unwrap_err().to_string();
        assert!(refusal.contains("4s is too short"), "{refusal}");
        assert!(parse("1m").is_err());
    }

    #[test]
    fn promises_are_asked_for_on_the_host_of_the_address() {
        let with = |more: &[&str]| {
            let given = ["arbiter", "--idc=sh", "--etcd-endpoints=http://a:2379"];
            let rest = ["--credentials=/c", "--holder=h", "--address=10.1.0.7:8080"];
            let all = given.iter().chain(&rest).chain(more);
            Options::try_parse_from(all).map(|options| options.claim().promises_at)
        };
        assert_eq!(with(&[]).unwrap(), "");
        let serve = "--serve=0.0.0.0:7443";
        assert_eq!(with(&[serve, "--tls=/t"]).unwrap(), "10.1.0.7:7443");
        let refusal = with(&[serve]).unwrap_err().to_string();
        assert!(refusal.contains("--tls"), "{refusal}");
    }

    #[test]
    fn endpoints_are_a_list() {
        assert_eq!(
            parse("6s").unwrap().etcd().endpoints,
            ["http://a:2379", "http://b:2379"]
        );
    }
}
