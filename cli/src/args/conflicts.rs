//! `conflicts` and what is below it.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use model::IdcName;

use super::OutputArgs;
use crate::names::UnitArg;

/// `conflicts`.
#[derive(Debug, Args)]
#[command(after_help = "\
A link with conflicts.detect BeforeImage compares each row at its target with what it was at the
source before it changes it. Every row that differs is recorded in the target's database, and what
the link's policy does not settle waits there for a person.

The databases are reached from this machine, by the endpoints in the Unit or in the SyncLink, with the
passwords of its Secrets.

Examples:
  mactl conflicts list orders
  mactl conflicts list sh-bj --link
  mactl conflicts show orders bj/17
  mactl conflicts resolve orders bj/17 --take source")]
pub struct ConflictsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ConflictsCommand,
}

/// What to do with conflicts.
#[derive(Debug, Subcommand)]
pub enum ConflictsCommand {
    /// List the changes that are held, or all conflicts
    List(ConflictsListArgs),
    /// Show one conflict with the source's change and the target's row
    Show(ConflictsShowArgs),
    /// Settle a change that is held
    Resolve(ConflictsResolveArgs),
}

/// `conflicts list`.
#[derive(Debug, Args)]
pub struct ConflictsListArgs {
    /// The Unit, or with --link the SyncLink, as NAME or NAMESPACE/NAME.
    pub name: UnitArg,
    /// The name is that of a SyncLink, which may have no Unit: both its ends are asked.
    #[arg(long)]
    pub link: bool,
    /// Those that are settled too, by a person or by the link's policy.
    #[arg(long)]
    pub settled: bool,
    /// Output format; `name` prints what `show` and `resolve` take.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `conflicts show`.
#[derive(Debug, Args)]
pub struct ConflictsShowArgs {
    /// The Unit, or with --link the SyncLink, as NAME or NAMESPACE/NAME.
    pub name: UnitArg,
    /// The name is that of a SyncLink, which may have no Unit: both its ends are asked.
    #[arg(long)]
    pub link: bool,
    /// The conflict, as `list` names it.
    pub conflict: ConflictArg,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `conflicts resolve`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --take source the source's row is put at the target, as the link would have put it. With --take
target the target's row is written at the source, which has to be the primary, as an application's
write, and reaches every copy through the links. Either is done only where the rows are still what
they were when the conflict was met. With --take neither the change is discarded: the rows stay as
they are, and stay different.

A link without a Unit has --take source and neither: where another one runs the other way, its
conflict of the same row has the other row to take. If counters are added up (Delta) both rows are
made right by hand, each after SET SESSION sql_log_bin = 0, and --take neither settles it.

Of several changes of one row that are held only the newest can be settled, and the older ones are
settled with it.")]
pub struct ConflictsResolveArgs {
    /// The Unit, or with --link the SyncLink, as NAME or NAMESPACE/NAME.
    pub name: UnitArg,
    /// The name is that of a SyncLink, which may have no Unit: both its ends are asked.
    #[arg(long)]
    pub link: bool,
    /// The conflict, as `list` names it.
    pub conflict: ConflictArg,
    /// Whose row both sides get.
    #[arg(long)]
    pub take: Take,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// Whose row both sides get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Take {
    /// The row as the source's change left it
    Source,
    /// The row that the target had
    Target,
    /// No row is written
    Neither,
}

/// A conflict as it is typed: the IDC of the link's target and its number there, `bj/17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictArg {
    /// Where it is recorded.
    pub idc: IdcName,
    /// Its number there.
    pub number: u64,
}

impl FromStr for ConflictArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no conflict: write IDC/NUMBER, for example bj/17");
        let (idc, number) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self {
            idc: IdcName::new(idc).map_err(|error| error.to_string())?,
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}

impl std::fmt::Display for ConflictArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.idc, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_named_by_idc_and_number() {
        let named: ConflictArg = "bj/17".parse().unwrap();
        assert_eq!((named.idc.as_str(), named.number), ("bj", 17));
        assert_eq!(named.to_string(), "bj/17");
        for wrong in ["17", "bj", "bj/", "bj/x", "B_J/1"] {
            assert!(wrong.parse::<ConflictArg>().is_err(), "{wrong}");
        }
    }
}
