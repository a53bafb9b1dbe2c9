//! What several commands take: how to reach what they ask, and how to print.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

/// How the Kubernetes API is reached; the same flags as kubectl's.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubeArgs {
    /// The kubeconfig file; otherwise $KUBECONFIG, otherwise ~/.kube/config, otherwise the pod's
    /// own service account.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of Units that are given without one.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The user to act as.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// How long one request to the Kubernetes API, etcd or an arbiter may take.
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s",
          value_parser = positive_duration)]
    pub request_timeout: SignedDuration,
}

/// Direct access to the coordination etcd, for when the Kubernetes API is down.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Without the Kubernetes API")]
pub struct EtcdArgs {
    /// Work directly against these etcd endpoints (comma-separated URLs), without the Kubernetes
    /// API.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd_endpoints: Vec<String>,
    /// The installation's prefix in etcd.
    #[arg(long, value_name = "PREFIX", default_value = "/multiactive/")]
    pub etcd_prefix: String,
    /// The CA of etcd's certificates, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["etcd_cert", "etcd_key"],
          alias = "etcd-cacert")]
    pub etcd_ca: Option<PathBuf>,
    /// The certificate to show to etcd, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"])]
    pub etcd_cert: Option<PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_cert"])]
    pub etcd_key: Option<PathBuf>,
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For people, with everything that is known.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names only.
    Name,
}

impl Output {
    /// Whether programs read it: then nothing else goes to standard output.
    pub fn is_for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Yaml | Self::Name)
    }
}

/// The output flag.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// How the result is printed.
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = false
    )]
    pub output: Output,
}

/// Reads `10s`, `500ms`, `2m`; refuses zero and less.
pub(super) fn positive_duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "write it with a unit, for example 500ms, 10s or 2m".to_owned())?;
    if duration.is_positive() {
        Ok(duration)
    } else {
        Err("it must be longer than zero".to_owned())
    }
}
