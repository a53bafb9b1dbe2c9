//! `link` and what is below it.

use clap::{ArgGroup, Args, Subcommand};
use jiff::SignedDuration;

use super::OutputArgs;
use super::common::positive_duration;
use crate::names::LinkArg;

/// `link`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mactl link list
  mactl link ledger orders-sh-bj
  mactl link skip orders-sh-bj --gtid 0-1-4711 --reason 'the row is not wanted in bj'
  mactl link held orders-sh-bj --gtid 0-1-4711
  mactl link settle orders-sh-bj --gtid 0-1-4711 --reason 'put right by mactl repair'
  mactl link suspend orders-sh-bj")]
pub struct LinkArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: LinkCommand,
}

/// What to do with a link.
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// List links, where they stand and how far behind they are
    List(LinkListArgs),
    /// Show how far a link is behind, and at which positions it is
    Lag(LinkNameArgs),
    /// Show where each change went that a link has read, and whether that adds up
    Ledger(LinkNameArgs),
    /// Have a halted link leave out the transaction that it stands at, and file it whole
    Skip(LinkSkipArgs),
    /// List what a link has left out, or show one of it with every row
    Held(LinkHeldArgs),
    /// Say that nothing waits any more for transactions that a link has left out
    Settle(LinkSettleArgs),
    /// Stop a link; it goes on later from where it was
    Suspend(LinkHoldArgs),
    /// Let a suspended link go on
    Resume(LinkHoldArgs),
}

/// `link list`.
#[derive(Debug, Args)]
pub struct LinkListArgs {
    /// Those of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `link lag` and `link ledger`.
#[derive(Debug, Args)]
#[command(after_help = "\
The figures are those that the operator has put into the status of the SyncLink last, at most every
ten seconds and only when they moved by a fifth. How old they are is said; what a link did this second
is in its metrics.

link ledger ends with exit code 1 if the figures do not add up.")]
pub struct LinkNameArgs {
    /// The SyncLink, as NAME or NAMESPACE/NAME.
    pub link: LinkArg,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `link skip`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("what").required(true).args(["gtid", "withdraw"])),
    after_help = "\
Only for a link that is halted at exactly this transaction: its rows do not fit at the target, or it
is a statement (ALTER, CREATE, ...) that failed there or that no link carries. The writer then does not
apply it, but files it whole at the target, with who asked and why, in the same transaction of the
target that moves the link past it; mactl link held shows it. Nothing else is left out. The target
lacks those changes from then on, also after it becomes primary, unless somebody makes them there by
hand; later changes of the same rows may halt the link again. mactl repair finds what differs.

It cannot be done where the halt is not about one transaction: a table that is missing or defined
otherwise, an account that may not, a position that the source does not have any more. Nor for the
beginning or end of an epoch.

The database is reached from this machine, by the endpoint in the Unit, with the password of its
Secret."
)]
pub struct LinkSkipArgs {
    /// The SyncLink, as NAME or NAMESPACE/NAME.
    pub link: LinkArg,
    /// The transaction, as the halt's message names it.
    #[arg(long, value_name = "GTID", requires = "reason")]
    pub gtid: Option<String>,
    /// Why, for whoever looks later.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// Take back what was asked for and not carried out yet.
    #[arg(long, conflicts_with_all = ["gtid", "reason"])]
    pub withdraw: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Stop waiting for the writer after this time (exit code 4); the wish stands.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = positive_duration)]
    pub timeout: SignedDuration,
    /// Output format; `name` prints the GTID.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `link held`.
#[derive(Debug, Args)]
pub struct LinkHeldArgs {
    /// The SyncLink, as NAME or NAMESPACE/NAME.
    pub link: LinkArg,
    /// Show every change of this transaction.
    #[arg(long, value_name = "GTID")]
    pub gtid: Option<String>,
    /// Those that are settled too, with who settled them and why.
    #[arg(long, conflicts_with = "gtid")]
    pub settled: bool,
    /// Output format; `name` prints GTIDs.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `link settle`.
#[derive(Debug, Args)]
#[command(after_help = "\
For transactions that mactl link held lists: their rows were put right at the target, by mactl repair
or by hand, or it was decided that the target is to stay without them. Until then the SyncLink and its
Unit are Degraded with TransactionsSkipped, and mactl switchover and failover say what the target
lacks.

No row of the Unit is written, compared or read: that the target is right is taken from whoever says
so. Who settled each, when and why is kept beside it in the target; mactl link held --settled lists
it, and it can still be shown whole. All that are named are settled, or none; those that were settled
before stay as they were.

The database is reached from this machine, by the endpoint in the Unit, with the password of its
Secret.")]
pub struct LinkSettleArgs {
    /// The SyncLink, as NAME or NAMESPACE/NAME.
    pub link: LinkArg,
    /// A transaction, as `link held` names it; may be given several times.
    #[arg(long, value_name = "GTID", required = true)]
    pub gtid: Vec<String>,
    /// Why nothing waits for them any more, for whoever looks later.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Output format; `name` prints GTIDs.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `link suspend` and `link resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Sets spec.suspended of the SyncLink and nothing else; also of the links of a Unit's mesh, where the
operator leaves that field alone. While a link is suspended neither its syncer nor its writer runs, and
the copy falls behind: it is not promoted without --allow-data-loss once it is further behind than
failover.maxLag. The source must keep its binlogs for as long.")]
pub struct LinkHoldArgs {
    /// The SyncLink, as NAME or NAMESPACE/NAME.
    pub link: LinkArg,
    /// Stop waiting for the operator after this time (exit code 4); what was asked for stands.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = positive_duration)]
    pub timeout: SignedDuration,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What the table holds: some text, at most so many characters.
fn reason(text: &str) -> Result<String, String> {
    const MOST: usize = 1000;
    let text = text.trim();
    if text.is_empty() {
        return Err("say why, for whoever looks later".to_owned());
    }
    if text.chars().count() > MOST {
        return Err(format!("write at most {MOST} characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something() {
        assert_eq!(reason(" wide ").unwrap(), "wide");
        assert!(reason("  ").is_err());
        assert!(reason(&"é".repeat(1000)).is_ok());
        assert!(reason(&"é".repeat(1001)).is_err());
    }
}
