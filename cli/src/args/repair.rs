//! `repair` and what is below it.

use clap::{Args, Subcommand, ValueEnum};
use crds::RepairStrategy;
use jiff::SignedDuration;
use model::IdcName;

use super::OutputArgs;
use super::common::positive_duration;
use crate::names::UnitArg;

/// `repair`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Compares the copies of a Unit with its primary, row by row, while both take writes, and with
--repair writes the primary's rows over what differs. With --rebuild whole tables of one copy, or
all of them, are emptied and copied anew, while the Unit and the link go on. It runs in the cluster,
as a DataRepair: ^C only stops following it.

Exit code 1 if rows differ that are not mended, or if not everything could be compared.

Examples:
  mactl repair orders
  mactl repair orders --tables 'orders.item*' --dry-run
  mactl repair orders-sh-bj --link --repair --quota 100
  mactl repair orders --schedule '0 3 * * *'
  mactl repair orders --rebuild --idc bj --tables orders.items,orders.prices
  mactl repair pause orders-verify-x7k2p"
)]
pub struct RepairArgs {
    /// What to do with one that there is; without it, another one is begun.
    #[command(subcommand)]
    pub command: Option<RepairCommand>,
    /// What to begin.
    #[command(flatten)]
    pub begin: RepairBeginArgs,
}

/// What to do with a `DataRepair`.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// List verifications and repairs
    List(RepairListArgs),
    /// Show how far one is, and follow it to its end
    Status(RepairStatusArgs),
    /// Hold one where it is
    Pause(RepairNameArgs),
    /// Let a paused one go on
    Resume(RepairNameArgs),
    /// End one; what it mended stays mended
    Stop(RepairNameArgs),
    /// Show what one has found, table by table
    Report(RepairNameArgs),
    /// Give the rows that one mended the values back that they had before
    Undo(RepairUndoArgs),
}

/// What to begin.
#[derive(Debug, Args)]
pub struct RepairBeginArgs {
    /// The Unit, or with --link the SyncLink, as NAME or NAMESPACE/NAME.
    #[arg(required = true)]
    pub name: Option<UnitArg>,
    /// The name is that of a SyncLink: only its target is compared.
    #[arg(long)]
    pub link: bool,
    /// Only the copy in this IDC.
    #[arg(long, value_name = "IDC", conflicts_with = "link")]
    pub idc: Option<IdcName>,
    /// What is done about what differs.
    #[command(flatten)]
    pub mode: RepairModeArgs,
    /// Only these tables: DATABASE.TABLE, with * for any characters, separated by commas.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub tables: Vec<String>,
    /// With --repair or --dry-run: who wins where rows differ; otherwise the primary.
    #[arg(long, value_name = "WHO", value_enum)]
    pub strategy: Option<Strategy>,
    /// With more rows than this that differ it stops.
    #[arg(long, value_name = "ROWS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub quota: u64,
    /// The part of the time in which it reads, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub percent: u32,
    /// Repeat it at these times, cron's five fields in UTC. It is not followed then.
    #[arg(long, value_name = "CRON")]
    pub schedule: Option<String>,
    /// Following it.
    #[command(flatten)]
    pub follow: RepairFollowArgs,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format; `name` prints the DataRepair's name.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What is done about what differs.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct RepairModeArgs {
    /// Only compare; this is the default.
    #[arg(long, conflicts_with_all = ["repair", "dry_run", "rebuild"])]
    pub verify: bool,
    /// Write the primary's rows over what differs.
    #[arg(long)]
    pub repair: bool,
    /// Keep the statements that would mend it, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Empty the tables of one copy and have its link copy them anew; needs --idc or --link. Without
    /// --tables it is every table that the link carries.
    #[arg(long, conflicts_with_all = ["repair", "dry_run"])]
    pub rebuild: bool,
}

impl RepairModeArgs {
    /// Whether it is mended, or would be.
    pub fn mends(self) -> bool {
        self.repair || self.dry_run
    }

    /// Whether rows are written.
    pub fn writes(self) -> bool {
        self.rebuild || self.repair && !self.dry_run
    }
}

/// Who wins where rows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// The Unit's primary.
    Primary,
    /// Nobody: a person decides, row by row.
    Hold,
}

impl From<Strategy> for RepairStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Primary => Self::Primary,
            Strategy::Hold => Self::Hold,
        }
    }
}

/// Whether and how long it is followed.
#[derive(Debug, Clone, Args)]
pub struct RepairFollowArgs {
    /// Follow it until it has ended; not with --wait=false.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    pub wait: bool,
    /// Stop following after this time (exit code 4); it goes on.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub timeout: Option<SignedDuration>,
}

/// `repair list`.
#[derive(Debug, Args)]
pub struct RepairListArgs {
    /// Those of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `repair status`.
#[derive(Debug, Args)]
pub struct RepairStatusArgs {
    /// The `DataRepair`.
    pub name: String,
    /// Following it.
    #[command(flatten)]
    pub follow: RepairFollowArgs,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `repair pause`, `resume`, `stop` and `report`.
#[derive(Debug, Args)]
pub struct RepairNameArgs {
    /// The `DataRepair`.
    pub name: String,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `repair undo`.
#[derive(Debug, Args)]
pub struct RepairUndoArgs {
    /// The `DataRepair` whose last run is taken back.
    pub name: String,
    /// Following it.
    #[command(flatten)]
    pub follow: RepairFollowArgs,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}
