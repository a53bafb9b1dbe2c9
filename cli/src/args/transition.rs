//! What asks for a transition.

use clap::Args;
use jiff::SignedDuration;
use model::IdcName;

use super::common::positive_duration;
use super::{EtcdArgs, OutputArgs};
use crate::names::UnitArg;

/// Whether and how long a transition is followed.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Follow it until it has ended; with --wait=false only ask for it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    pub wait: bool,
    /// Stop following after this time (exit code 4); the transition itself goes on.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = positive_duration)]
    pub timeout: SignedDuration,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// `switchover`.
#[derive(Debug, Args)]
#[command(after_help = "\
While it runs, ^C only stops following; the same command again takes up following it.

Examples:
  mactl switchover orders --to bj --dry-run
  mactl switchover shop/orders --to bj --expected-primary sh --yes
  mactl switchover --all --from sh --to bj")]
#[command(group = clap::ArgGroup::new("which").required(true).args(["unit", "all"]))]
pub struct SwitchoverArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: Option<UnitArg>,
    /// Every Unit of the namespace whose primary is in --from: evacuates that IDC.
    #[arg(long, requires = "from", conflicts_with = "expected_primary")]
    pub all: bool,
    /// With --all: the IDC to leave.
    #[arg(long, value_name = "IDC", requires = "all", conflicts_with = "unit")]
    pub from: Option<IdcName>,
    /// With --all: Units of all namespaces.
    #[arg(short = 'A', long, requires = "all", conflicts_with = "unit")]
    pub all_namespaces: bool,
    /// With --all: how many Units move at a time. After one that fails no further one is begun.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, requires = "all",
          conflicts_with = "unit",
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub parallel: u16,
    /// The IDC that takes over.
    #[arg(long, value_name = "IDC")]
    pub to: IdcName,
    /// Refuse unless this IDC is primary now.
    #[arg(long, value_name = "IDC")]
    pub expected_primary: Option<IdcName>,
    /// Only print the checks, and what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Following it.
    #[command(flatten)]
    pub follow: FollowArgs,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// `failover`.
#[derive(Debug, Args)]
#[command(after_help = "\
A failover never takes over from a primary that lives and cannot be fenced: it waits for the proof
that nothing can be written there any more. While the primary is healthy, use switchover.

Examples:
  mactl failover orders --dry-run
  mactl failover orders --to bj --expect-no-primary --yes")]
pub struct FailoverArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// The IDC that takes over; otherwise the rules choose: the most advanced, then the highest
    /// priority.
    #[arg(long, value_name = "IDC")]
    pub to: Option<IdcName>,
    /// Promote even if the new primary may lack writes that the old one had acknowledged.
    #[arg(long)]
    pub allow_data_loss: bool,
    /// Refuse if the Unit has a primary, also one that comes back while this is asked for.
    #[arg(long)]
    pub expect_no_primary: bool,
    /// Only print the checks, and what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Following it.
    #[command(flatten)]
    pub follow: FollowArgs,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}
