//! The options of the operator.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;
use model::IdcName;

use crate::transport::Lifetimes;

// The name differs from `process::Options`, since clap names a group after each.
/// Turns Idcs, Units, SyncLinks and Switchovers into pods, routing and the topology in etcd.
#[derive(Debug, Clone, Parser)]
#[command(name = "operator", version)]
pub struct Arguments {
    /// The coordination etcd: URLs of its members, separated by commas.
    #[arg(
        long,
        env = "MULTIACTIVE_ETCD_ENDPOINTS",
        value_delimiter = ',',
        required = true
    )]
    pub etcd_endpoints: Vec<String>,
    /// What all keys of this installation begin with.
    #[arg(long, env = "MULTIACTIVE_ETCD_PREFIX", default_value = "/multiactive/")]
    pub etcd_prefix: String,
    /// A directory with ca.crt, tls.crt and tls.key for etcd.
    #[arg(long, env = "MULTIACTIVE_ETCD_TLS")]
    pub etcd_tls: Option<PathBuf>,
    /// The Secret in the operator's namespace with the same files, mounted into arbiters.
    #[arg(long, env = "MULTIACTIVE_ETCD_TLS_SECRET", requires = "etcd_tls")]
    pub etcd_tls_secret: Option<String>,
    /// One cluster an IDC: the IDC that this cluster is.
    #[arg(long, env = "MULTIACTIVE_IDC")]
    pub idc: Option<IdcName>,
    /// With --idc, the type of the Services at which other clusters reach syncers: `LoadBalancer`, or
    /// `ClusterIP` where the pods of one cluster reach those of another by their addresses.
    #[arg(
        long,
        env = "MULTIACTIVE_SYNCER_SERVICE",
        value_enum,
        default_value = "LoadBalancer",
        ignore_case = true
    )]
    pub syncer_service: SyncerService,
    /// Annotations of these Services, as a JSON object.
    #[arg(
        long,
        env = "MULTIACTIVE_SYNCER_SERVICE_ANNOTATIONS",
        default_value = "{}",
        value_parser = annotations
    )]
    pub syncer_service_annotations: Annotations,
    /// The namespace that the operator and the arbiters run in.
    #[arg(
        long,
        env = "MULTIACTIVE_NAMESPACE",
        default_value = "multiactive-system"
    )]
    pub namespace: String,
    /// A JSON file that names the images of arbiter, syncer and writer.
    #[arg(long, env = "MULTIACTIVE_IMAGES")]
    pub images: PathBuf,
    /// How long a primary may be out of touch with etcd.
    #[arg(long, env = "MULTIACTIVE_LEASE_DURATION", default_value = "6s")]
    pub lease_duration: crds::Duration,
    /// How many arbiters an IDC has; all but one stand by.
    #[arg(long, env = "MULTIACTIVE_ARBITER_REPLICAS", default_value = "2",
        value_parser = clap::value_parser!(i32).range(1..=5))]
    pub arbiter_replicas: i32,
    /// The Secret in the operator's namespace with the certificate of the links' mutual TLS.
    #[arg(
        long,
        env = "MULTIACTIVE_TRANSPORT_SECRET",
        default_value = "multiactive-transport"
    )]
    pub transport_secret: String,
    /// Make and renew the certificate in that Secret; without this, its user does.
    #[arg(long, env = "MULTIACTIVE_ISSUE_TRANSPORT")]
    pub issue_transport: bool,
    /// How long a certificate lives that is made here; it is renewed when a third is left.
    #[arg(
        long,
        env = "MULTIACTIVE_TRANSPORT_CERTIFICATE_LIFETIME",
        default_value = "2160h"
    )]
    pub transport_certificate_lifetime: crds::Duration,
    /// How long its CA lives; it is replaced when two lives of a certificate are left.
    #[arg(
        long,
        env = "MULTIACTIVE_TRANSPORT_CA_LIFETIME",
        default_value = "87600h"
    )]
    pub transport_ca_lifetime: crds::Duration,
    /// The name of this process in leader election and in Events.
    #[arg(long, env = "MULTIACTIVE_HOLDER", default_value_t = default_holder())]
    pub holder: String,
    /// What every process takes.
    #[command(flatten)]
    pub process: process::Options,
}

/// The shortest lease that leaves room for a fence, and for a standby to come before it: that of the
/// arbiters, which refuse a shorter one.
const SHORTEST_LEASE: crds::Duration = crds::Duration::from_secs(5);

/// The shortest life of a certificate: a third of it has to be enough to reach every pod.
const SHORTEST_CERTIFICATE: crds::Duration = crds::Duration::from_secs(3600);

/// Options that cannot work together, or not yet.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// See the message.
    #[error(
        "--lease-duration {0} is too short: a fence has to fit into it, and a standby \
         has to come before that, so give at least 5s \
         (Helm value arbiter.leaseDuration)"
    )]
    LeaseTooShort(crds::Duration),
    /// See the message.
    #[error(
        "--transport-certificate-lifetime {0} is too short: pods take up to two minutes to see a \
         renewed one, so give at least 1h (Helm value transport.certificateLifetime)"
    )]
    CertificateTooShort(crds::Duration),
    /// See the message.
    #[error(
        "--transport-ca-lifetime {ca} is too short for certificates of {certificate}: give at \
         least four times as much (Helm values transport.caLifetime and \
         transport.certificateLifetime)"
    )]
    CaTooShort {
        /// That of the CA.
        ca: crds::Duration,
        /// That of certificates.
        certificate: crds::Duration,
    },
    /// See the message.
    #[error(
        "--idc {0} with --issue-transport: the operator of each cluster would make a CA of its own, \
         and no link between clusters would be trusted. Make one Secret with ca.crt, tls.crt and \
         tls.key of one CA for all clusters and name it (Helm value transport.tlsSecret)"
    )]
    OwnCa(IdcName),
}

impl Arguments {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.lease_duration < SHORTEST_LEASE {
            return Err(OptionsError::LeaseTooShort(self.lease_duration));
        }
        let (certificate, ca) = (
            self.transport_certificate_lifetime,
            self.transport_ca_lifetime,
        );
        if certificate < SHORTEST_CERTIFICATE {
            return Err(OptionsError::CertificateTooShort(certificate));
        }
        if ca.as_millis() < certificate.as_millis().saturating_mul(4) {
            return Err(OptionsError::CaTooShort { ca, certificate });
        }
        match &self.idc {
            Some(idc) if self.issue_transport => Err(OptionsError::OwnCa(idc.clone())),
            _ => Ok(()),
        }
    }

    /// What is needed to build pods.
    pub fn settings(&self, images: Images) -> Settings {
        Settings {
            namespace: self.namespace.clone(),
            etcd_endpoints: self.etcd_endpoints.clone(),
            etcd_prefix: self.etcd_prefix.clone(),
            etcd_tls_secret: self.etcd_tls_secret.clone(),
            lease_duration: self.lease_duration,
            arbiter_replicas: self.arbiter_replicas,
            transport_secret: self.transport_secret.clone(),
            issue_transport: self.issue_transport.then_some(Lifetimes {
                certificate: self.transport_certificate_lifetime,
                ca: self.transport_ca_lifetime,
            }),
            images,
            idc: self.idc.clone(),
            syncer_service: self.syncer_service,
            syncer_annotations: self.syncer_service_annotations.0.clone(),
        }
    }
}

/// How other clusters reach a syncer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum SyncerService {
    /// At what a load balancer in front of it is given.
    LoadBalancer,
    /// At its pod's own address: the pod network is routed between clusters.
    #[value(name = "ClusterIP")]
    ClusterIp,
}

/// Annotations from the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(pub BTreeMap<String, String>);

fn annotations(text: &str) -> Result<Annotations, String> {
    serde_json::from_str(text)
        .map(Annotations)
        .map_err(|error| format!("not a JSON object of strings: {error}"))
}

/// What plans need to know of the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of operator and arbiters.
    pub namespace: String,
    /// Members of etcd.
    pub etcd_endpoints: Vec<String>,
    /// Prefix of all keys.
    pub etcd_prefix: String,
    /// The Secret with etcd's client certificate.
    pub etcd_tls_secret: Option<String>,
    /// The lease time of arbiters.
    pub lease_duration: crds::Duration,
    /// How many arbiters an IDC has.
    pub arbiter_replicas: i32,
    /// The Secret with the links' certificate.
    pub transport_secret: String,
    /// How long the certificates in it live that the operator makes; `None`: its user makes them.
    pub issue_transport: Option<Lifetimes>,
    /// Images.
    pub images: Images,
    /// The IDC that this cluster is, where each IDC has a cluster of its own.
    pub idc: Option<IdcName>,
    /// How other clusters reach syncers.
    pub syncer_service: SyncerService,
    /// Annotations of the Services at which they do.
    pub syncer_annotations: BTreeMap<String, String>,
}

impl Settings {
    /// Whether what belongs into this IDC runs in this cluster.
    pub fn here(&self, idc: &IdcName) -> bool {
        self.idc.as_ref().is_none_or(|here| here == idc)
    }
}

/// Which image each process is. The chart writes the file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// The arbiter's.
    pub arbiter: String,
    /// The syncer's.
    pub syncer: String,
    /// The writer's.
    pub writer: String,
    /// That of what compares and mends.
    pub repair: String,
    /// When they are pulled.
    pub pull_policy: String,
    /// Secrets to pull them with; they must exist in the namespaces of links too.
    #[serde(default)]
    pub pull_secrets: Vec<String>,
}

impl Images {
    /// Reads the file.
    pub fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        use anyhow::Context;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the images file {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("the images file {} cannot be understood", path.display()))
    }
}

/// The pod's name where there is one.
fn default_holder() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| format!("operator-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Arguments {
        let base = [
            "operator",
            "--etcd-endpoints=http://a:2379,http://b:2379",
            "--images=/x",
        ];
        Arguments::parse_from(base.iter().chain(arguments))
    }

    #[test]
    fn the_options_are_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_value() {
        assert_eq!(parse(&[]).check(), Ok(()));
        assert_eq!(parse(&[]).etcd_endpoints.len(), 2);
        let short = parse(&["--lease-duration=4s"]).check().unwrap_err();
        assert!(short.to_string().contains("--lease-duration 4s"), "{short}");
        let brief = parse(&["--transport-certificate-lifetime=59m"])
            .check()
            .unwrap_err();
        assert!(brief.to_string().contains("at least 1h"), "{brief}");
        let both = [
            "--transport-certificate-lifetime=10h",
            "--transport-ca-lifetime=39h",
        ];
        let ca = parse(&both).check().unwrap_err();
        assert!(ca.to_string().contains("39h"), "{ca}");
        assert_eq!(parse(&["--idc=sh"]).check(), Ok(()));
        let own = parse(&["--idc=sh", "--issue-transport"])
            .check()
            .unwrap_err();
        assert!(own.to_string().contains("transport.tlsSecret"), "{own}");
        let reached = parse(&[
            "--syncer-service=ClusterIP",
            "--syncer-service-annotations={\"a\":\"b\"}",
        ]);
        assert_eq!(reached.syncer_service, SyncerService::ClusterIp);
        assert_eq!(reached.syncer_service_annotations.0["a"], "b");
    }
}
