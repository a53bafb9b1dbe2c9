//! `stranded` and what is below it.

use clap::{Args, Subcommand};

use super::OutputArgs;
use crate::names::UnitArg;

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
  mactl stranded replay orders --dry-run
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
    /// Write transactions again, on the member that takes the writes now
    Replay(StrandedReplayArgs),
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

/// `stranded replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each transaction is written again whole or not at all, as an application's write on the primary, and
reaches the other members through the links. A row is only written where it is as it was before the
change; a row that is already as the change leaves it is left alone. A transaction that meets anything
else stays set aside, and its rows are shown: an id, for example, that was given out again.

The rehearsal locks the rows concerned while it runs.")]
pub struct StrandedReplayArgs {
    /// The Unit, as NAME or NAMESPACE/NAME.
    pub unit: UnitArg,
    /// Only this transaction, as `list` names it; otherwise all that are not settled.
    pub gtid: Option<String>,
    /// Rehearse: show what would become of each, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask after the rehearsal.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format; `name` prints the GTIDs of what is held.
    #[command(flatten)]
    pub output: OutputArgs,
}
