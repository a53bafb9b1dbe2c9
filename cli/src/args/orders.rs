//! What people order, and lift again.

use clap::Args;
use jiff::SignedDuration;
use model::IdcName;

use super::common::positive_duration;
use super::{EtcdArgs, OutputArgs};
use crate::names::UnitArg;

/// `fence`.
#[derive(Debug, Args)]
#[command(after_help = "\
The member's arbiter closes it, with proof, and it stays closed through restarts and failovers. Links
go on: it goes on receiving. If it is the primary, it gives that up, and another member takes over as
after a failure: by itself where the Unit says so, otherwise by mactl failover. To move a primary that
is well, use switchover first.

Examples:
  mactl fence orders sh --dry-run
  mactl fence orders sh --reason 'its disk is to be replaced'
  mactl unfence orders sh")]
pub struct FenceArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// The IDC whose member is taken out.
    pub idc: IdcName,
    /// Why, for whoever looks later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Only print what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Stop waiting for a primary to be closed after this time (exit code 4); the order stands.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = positive_duration)]
    pub timeout: SignedDuration,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// `unfence`.
#[derive(Debug, Args)]
pub struct UnfenceArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// The IDC whose member is let in again.
    pub idc: IdcName,
    /// Only print what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// `pause` and `resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
By the Kubernetes API, pause sets spec.paused of the Unit, which manifests may set as well. With
--etcd-endpoints it puts an order into etcd, and leaves the spec alone. Either holds the automation by
itself. resume lifts both by the Kubernetes API, and with --etcd-endpoints the order.")]
pub struct PauseArgs {
    /// One Unit, as NAME or NAMESPACE/NAME; otherwise every Unit of the namespace.
    pub unit: Option<UnitArg>,
    /// Units of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "unit")]
    pub all_namespaces: bool,
    /// Why, for whoever looks later; kept with --etcd-endpoints.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}
