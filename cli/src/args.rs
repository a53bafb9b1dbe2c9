//! The command tree: the one definition from which help, completions and `docs/mactl.md` come.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use model::IdcName;

mod common;
mod conflicts;
mod link;
mod orders;
mod repair;
mod stranded;
mod transition;

use crate::names::UnitArg;

pub use common::{EtcdArgs, KubeArgs, Output, OutputArgs};
pub use conflicts::{
    ConflictArg, ConflictsArgs, ConflictsCommand, ConflictsListArgs, ConflictsResolveArgs,
    ConflictsShowArgs, Take,
};
pub use link::{
    LinkArgs, LinkCommand, LinkHeldArgs, LinkHoldArgs, LinkListArgs, LinkNameArgs, LinkSettleArgs,
    LinkSkipArgs,
};
pub use orders::{FenceArgs, PauseArgs, UnfenceArgs};
pub use repair::{
    RepairArgs, RepairBeginArgs, RepairCommand, RepairFollowArgs, RepairListArgs, RepairModeArgs,
    RepairNameArgs, RepairStatusArgs, RepairUndoArgs, Strategy,
};
pub use stranded::{
    StrandedArgs, StrandedCommand, StrandedDiscardArgs, StrandedListArgs, StrandedReplayArgs,
    StrandedShowArgs,
};
pub use transition::{FailoverArgs, FollowArgs, SwitchoverArgs};

/// See and move the primaries of multiactive Units.
#[derive(Debug, Parser)]
#[command(
    name = "mactl",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub struct Cli {
    /// How the Kubernetes API is reached.
    #[command(flatten)]
    pub kube: KubeArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is not valid
  3  refused, because it would not be safe
  4  timed out while still under way; the command that follows it up was printed";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show IDCs, Units, primaries and lag, what is wrong, and what to do about it
    Status(StatusArgs),
    /// Move a Unit's primary to another IDC; nothing is lost, and it is rolled back if it cannot be
    /// done
    Switchover(SwitchoverArgs),
    /// Give a Unit a new primary after its own was lost
    Failover(FailoverArgs),
    /// List how a Unit's primaries came about
    History(HistoryArgs),
    /// Show one transition in full: who decided, on what, how long each step took
    Receipt(ReceiptArgs),
    /// Take a member out: it is closed, and neither elected nor opened before it is let in again
    Fence(FenceArgs),
    /// Let a member in again that was taken out
    Unfence(UnfenceArgs),
    /// Hold the automation of one Unit, or of every Unit of the namespace
    Pause(PauseArgs),
    /// Let the automation of paused Units go on
    Resume(PauseArgs),
    /// Say that somebody has looked, and let automation go on after a failover or a restored etcd
    Ack(AckArgs),
    /// Check Units against their real databases; changes nothing
    Preflight(PreflightArgs),
    /// Compare the copies of a Unit with its primary, and mend what differs
    Repair(Box<RepairArgs>),
    /// Look at the links between members, stop them, or have one skip a transaction
    Link(LinkArgs),
    /// Look at what a failover left behind, and settle it
    Stranded(StrandedArgs),
    /// Look at rows that a link found changed at its target, and settle them
    Conflicts(ConflictsArgs),
    /// Take the schema multiactive out of the databases of Units that were deleted
    Uninstall(UninstallArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print the versions of client, operator and arbiters, and whether they go together
    Version(VersionArgs),
    /// Print this reference as Markdown.
    #[command(name = "__reference", hide = true)]
    Reference,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One Unit, as NAME or NAMESPACE/NAME; otherwise every Unit of the namespace.
    pub unit: Option<UnitArg>,
    /// Units of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "unit")]
    pub all_namespaces: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// Output format; `name` prints epochs.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// `receipt`.
#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// The epoch that the transition began, as `history` lists it.
    pub epoch: u64,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Direct access to etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// `uninstall`.
#[derive(Debug, Args)]
#[command(after_help = "\
Deleting a Unit leaves its databases as they are, with the schema multiactive in each: its guard,
what was applied, and what a failover left behind. This drops that schema, and nothing else. It is
left alone where a Unit, a guard or a link still uses it.

Example:
  kubectl delete -f orders.yaml; mactl uninstall -f orders.yaml")]
pub struct UninstallArgs {
    /// The manifest with the Units that were deleted, and perhaps their Secrets; - for standard
    /// input.
    #[arg(short, long, required = true, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Only the member in this IDC.
    #[arg(long, value_name = "IDC")]
    pub idc: Option<IdcName>,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `ack`.
#[derive(Debug, Args)]
#[command(after_help = "\
After an automatic failover the primary does not move by itself again before failover.cooldown is
over, and arbiters do nothing by themselves once etcd shows less than it did before. Both end when
somebody has looked at each member and says so.

Example:
  mactl ack orders")]
pub struct AckArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
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

/// `preflight`.
#[derive(Debug, Args)]
#[command(after_help = "\
The databases are reached from this machine, by the endpoints in the Units. Passwords come from the
Secrets in the manifest, otherwise from those in the cluster.

Exit code 1 if anything blocks.")]
pub struct PreflightArgs {
    /// One Unit, as NAME or NAMESPACE/NAME; otherwise every Unit of the namespace or the manifest.
    pub unit: Option<UnitArg>,
    /// Check the Units of this manifest instead of those in the cluster; `-` reads standard input.
    #[arg(short, long = "filename", value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Units of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["unit", "filename"])]
    pub all_namespaces: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(mactl completion bash)
  mactl completion zsh > \"${fpath[1]}/_mactl\"
  mactl completion fish > ~/.config/fish/completions/mactl.fish")]
pub struct CompletionArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// The client's version only; nothing is asked of the cluster.
    #[arg(long)]
    pub client: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The command tree under the name it was called by: `mactl`, or `kubectl ma` when the file is
/// called `kubectl-ma` (which is how kubectl finds its plugins).
pub fn command(program: &str) -> clap::Command {
    use clap::CommandFactory;
    let rename = |text: &clap::builder::StyledStr| {
        text.to_string().replace("mactl ", &format!("{program} "))
    };
    let mut root = Cli::command()
        .bin_name(program.to_owned())
        .display_name(program.to_owned());
    let names: Vec<String> = root
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        root = root.mut_subcommand(name, |command| match command.get_after_help().map(rename) {
            Some(text) => command.after_help(text),
            None => command,
        });
    }
    root
}

/// The name users call this program by, from `argv[0]`.
pub fn program_name(argv0: Option<&std::ffi::OsStr>) -> &'static str {
    let stem = argv0
        .map(std::path::Path::new)
        .and_then(std::path::Path::file_stem);
    if stem.is_some_and(|stem| stem == "kubectl-ma") {
        "kubectl ma"
    } else {
        "mactl"
    }
}

#[cfg(test)]
mod tests;
