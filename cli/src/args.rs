//! The command tree: the one definition from which help, completions and `docs/mactl.md` come.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use model::IdcName;

use crate::names::UnitArg;

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
    /// Hold the automation of one Unit, or of every Unit of the namespace
    Pause(PauseArgs),
    /// Let the automation of paused Units go on
    Resume(PauseArgs),
    /// Say that somebody has looked, and let automation go on after a failover or a restored etcd
    Ack(AckArgs),
    /// Check Units against their real databases; changes nothing
    Preflight(PreflightArgs),
    /// Look at what a failover left behind, and settle it
    Stranded(StrandedArgs),
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

/// `pause` and `resume`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// One Unit, as NAME or NAMESPACE/NAME; otherwise every Unit of the namespace.
    pub unit: Option<UnitArg>,
    /// Units of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "unit")]
    pub all_namespaces: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
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

/// `stranded`.
#[derive(Debug, Args)]
#[command(after_help = "\
When a primary is lost, transactions that it had acknowledged may not have reached any other member.
Once it is back they are set aside, whole, in the database of the member that took over, and taken
back in the old primary. They wait there for a person.

The databases are reached from this machine, by the endpoints in the Unit, with the passwords of its
Secrets.

Examples:
  mactl stranded list orders
  mactl stranded show orders 0-1-4711
  mactl stranded discard orders")]
pub struct StrandedArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: StrandedCommand,
}

/// What to do with what is set aside.
#[derive(Debug, Subcommand)]
pub enum StrandedCommand {
    /// List the transactions that are set aside
    List(StrandedListArgs),
    /// Show every change of one transaction, with the rows before and after
    Show(StrandedShowArgs),
    /// Say that transactions are not wanted; they stay readable, and nothing waits for them any more
    Discard(StrandedDiscardArgs),
}

/// `stranded list`.
#[derive(Debug, Args)]
pub struct StrandedListArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// Those that were settled too.
    #[arg(long)]
    pub settled: bool,
    /// Output format; `name` prints GTIDs.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `stranded show`.
#[derive(Debug, Args)]
pub struct StrandedShowArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// The transaction, as `list` names it.
    pub gtid: String,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `stranded discard`.
#[derive(Debug, Args)]
pub struct StrandedDiscardArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// Only this transaction, as `list` names it; otherwise all that are not settled.
    pub gtid: Option<String>,
    /// Do not ask for their number.
    #[arg(short, long)]
    pub yes: bool,
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

/// Reads `10s`, `500ms`, `2m`; refuses zero and less.
fn positive_duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "write it with a unit, for example 500ms, 10s or 2m".to_owned())?;
    if duration.is_positive() {
        Ok(duration)
    } else {
        Err("it must be longer than zero".to_owned())
    }
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
