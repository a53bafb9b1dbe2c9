//! What becomes of a change whose row at the target is not what it was at the source before it.
//! Pure; what reads and writes rows is in [`crate::apply`].
//!
//! A change says what its row was before and is after. Where the target's row is as it was before,
//! the change is applied and there is no conflict. Anything else is one, and is judged **by itself,
//! by what is there**: nothing is remembered of changes of that row that were held before. A held
//! change leaves the target's row other than the next change of it expects, so the next one is in
//! conflict too, and goes on being so until somebody has made the row what it is at the source.
//!
//! **What converges, and why.** Two sites that both take writes, each applying the other's changes,
//! over rows whose contents do not return (no content twice; that there is *no row* may come again
//! and again). Then both sites end with the same row, or something of it is held at one of them and
//! a person told:
//!
//! - *One site wins always* (`SourceWins` on one link with `TargetWins` on the opposite one, or
//!   `IdcPriority` on both). Say A wins, and let y be what A itself wrote last. At B it is put
//!   whatever is there, and what B writes after that begins at y. At A every change of B that was
//!   made before y came there starts at something else than y, so it is in conflict and lost; every
//!   later one is in one chain that begins at y, so it is applied. Both have the end of that chain.
//!   If A writes nothing, both have the end of B's.
//! - *The last write wins*. What is compared is a column that the application writes, and no time
//!   of a server's or of a commit. Rows are then in one order: by the column, by the priority of
//!   the IDC that wrote them, by their bytes. Where two sites conflict, the target's row was written
//!   by the target: it is not in the chain of the source's changes that were applied in order. So
//!   both sites know who wrote which of the two, choose by the same order and have the greater.
//!   *Clocks that differ* make a site win that wrote earlier, but not two sites choose differently:
//!   each compares the same two values. All that is needed is that one site's own writes of a row
//!   do not go back (with equal priorities, that they move on), since then its last one is its
//!   greatest.
//! - *A removal beside a change*. Where one site wins, that site's does. Where the last write wins,
//!   a removal has no value in the column: the change wins at both sites (where the row is gone it
//!   is put again), since a row that was kept by mistake can be removed again.
//! - *What a removal leaves open.* That there is no row says nothing of who removed it, so a row
//!   that is put or removed at a key where a conflict was decided is held ([`tombstone`]).
//!
//! `convergence_tests.rs` tries this in every order of some steps, and in many longer ones, with
//! clocks that agree and that do not.
//!
//! A change of a row's key that is in conflict, and a clash of a unique value, concern two rows and
//! are held under every policy but `Halt`: whoever wins, one of two rows would be lost.
//!
//! Where a content does return (A sets a flag and clears it again while B changes the row), the
//! change meets the very row that it expects, and no comparison of rows can tell. The tests show
//! such a case. A column that each write moves on, such as a time in microseconds or a version,
//! keeps contents from returning; verification (the crate `repair`) finds the rest.

mod delta;
mod expected;
mod order;
pub(crate) mod record;
pub(crate) mod tombstone;

use change::{Row, RowChange, TableSchema};
use model::{ConflictDetection, ConflictResolution, ConflictSettings, IdcName, SnapshotMode};

use crate::error::ConflictKind;
use crate::replay::verdict::{Found, Kind, Verdict, judge};

use delta::{Counters, may_be_both, sum};
pub(crate) use expected::{Expected, is_move, key, only_written};
pub(crate) use order::NoOrder;
use order::{column_index, higher, last};

/// One of the two sites of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

/// Who decides a conflict, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// As the SyncLink names it.
    pub name: &'static str,
    rule: Rule,
    /// Both ends take writes, so the keys at which a conflict was decided are remembered.
    remembers: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Halt,
    Hold,
    Wins(Side),
    Last {
        column: String,
        /// Whose row stays where both columns are equal; `None`: the rows' bytes decide.
        tie: Option<Side>,
    },
    Add(Counters),
}

/// What becomes of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is no conflict: it is applied.
    Apply,
    /// The link halts.
    Halt(ConflictKind),
    /// It is a conflict, and this is its end.
    Settled(ConflictKind, Outcome),
}

impl Decision {
    /// Whether it is held because of a tombstone.
    pub(crate) fn is_disputed(&self) -> bool {
        matches!(self, Self::Settled(ConflictKind::Disputed, _))
    }
}

/// How a conflict ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Both sides have the same already; nothing is written.
    Same,
    /// The source's row is put by this change.
    SourceWon(RowChange),
    /// What the source added is added by this change; `None` where it has only moved a time on that is
    /// later at the target already. It is counted and not recorded.
    Added(Option<RowChange>),
    /// The target's row stays; nothing is written.
    TargetWon,
    /// A person decides; nothing is written.
    Held,
}

impl Outcome {
    /// The state of its record in `multiactive.conflicts`.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Same => "Same",
            Self::SourceWon(_) => "SourceWon",
            Self::Added(_) => "Added",
            Self::TargetWon => "TargetWon",
            Self::Held => "Held",
        }
    }

    /// Whether what the change leads to is at the target.
    pub(crate) fn is_applied(&self) -> bool {
        matches!(self, Self::Same | Self::SourceWon(_) | Self::Added(_))
    }

    /// The change that is written.
    pub(crate) fn put(&self) -> Option<&RowChange> {
        match self {
            Self::SourceWon(put) => Some(put),
            Self::Added(put) => put.as_ref(),
            Self::Same | Self::TargetWon | Self::Held => None,
        }
    }
}

impl Policy {
    /// The policy of a link, if its rows are compared before they are changed; else conflicts are
    /// noticed by the server's answers and halt it.
    ///
    /// # Errors
    /// What the settings ask for and cannot have, as a sentence.
    pub(crate) fn of(settings: &ConflictSettings) -> Result<Option<Self>, String> {
        let (name, rule) = match &settings.resolve {
            ConflictResolution::Halt => ("Halt", Rule::Halt),
            ConflictResolution::Hold => ("Hold", Rule::Hold),
            ConflictResolution::SourceWins => ("SourceWins", Rule::Wins(Side::Source)),
            ConflictResolution::TargetWins => ("TargetWins", Rule::Wins(Side::Target)),
            ConflictResolution::LastWriteWins {
                column,
                source_priority,
                target_priority,
            } => {
                let rule = Rule::Last {
                    column: column.clone(),
                    tie: higher(*source_priority, *target_priority),
                };
                ("LastWriteWins", rule)
            }
            ConflictResolution::Delta { counters } => {
                ("Delta", Rule::Add(Counters::parse(counters)?))
            }
            ConflictResolution::IdcPriority {
                source_priority,
                target_priority,
            } => match higher(*source_priority, *target_priority) {
                Some(side) => ("IdcPriority", Rule::Wins(side)),
                None => {
                    return Err(format!(
                        "conflicts.resolve IdcPriority needs two different priorities, and both are \
                         {source_priority}; give the members different ones"
                    ));
                }
            },
        };
        let remembers = match &rule {
            Rule::Halt | Rule::Hold | Rule::Add(_) => false,
            // Under a Unit the source alone writes, and its row always wins.
            Rule::Wins(Side::Source) if name == "SourceWins" => settings.both_write,
            Rule::Wins(_) | Rule::Last { .. } => true,
        };
        match (settings.detect, &rule) {
            (ConflictDetection::BeforeImage, _) => Ok(Some(Self {
                name,
                rule,
                remembers,
            })),
            (ConflictDetection::Key, Rule::Halt) => Ok(None),
            (ConflictDetection::Key, _) => Err(format!(
                "conflicts.resolve {name} needs conflicts.detect BeforeImage: by the key alone a row \
                 that was changed at the target is overwritten unseen"
            )),
        }
    }

    /// Whether rows of this table can be put in the order that the policy needs.
    pub(crate) fn fits(&self, table: &TableSchema) -> Result<(), NoOrder> {
        match &self.rule {
            Rule::Last { column, .. } => column_index(table, column).map(|_| ()),
            Rule::Add(counters) => counters.of(table).map(|_| ()),
            Rule::Halt | Rule::Hold | Rule::Wins(_) => Ok(()),
        }
    }

    /// Whether a link with these settings can have the policy.
    ///
    /// # Errors
    /// What of them stands against it, as a sentence.
    pub(crate) fn suits(&self, origins: &[IdcName], copies: SnapshotMode) -> Result<(), String> {
        let name = self.name;
        if !self.remembers {
            return Ok(());
        }
        if origins.len() > 2 {
            let origins: Vec<&str> = origins.iter().map(IdcName::as_str).collect();
            return Err(format!(
                "conflicts.resolve {name} is for two IDCs that both take writes, and changes can come \
                 here from {}: which of them wrote the target's row is not known; choose Hold or Halt",
                origins.join(", ")
            ));
        }
        if copies != SnapshotMode::Never {
            return Err(format!(
                "conflicts.resolve {name} is for a target that takes writes of its own, and \
                 snapshot.mode {copies:?} would put the source's rows over them: make both sides \
                 equal, then set snapshot.mode: Never"
            ));
        }
        Ok(())
    }

    /// Whether a target can have the policy where `newest` of its epochs is the newest one.
    ///
    /// # Errors
    /// Why it cannot, as a sentence: under a Unit one member takes writes, and the others' rows
    /// never reach it.
    pub(crate) fn suits_epochs(&self, newest: Option<(u64, &str)>) -> Result<(), String> {
        match newest {
            Some((epoch, idc)) if self.remembers || matches!(self.rule, Rule::Add(_)) => {
                Err(format!(
                    "conflicts.resolve {} is for two IDCs that both take writes, and the target belongs to \
                 a Unit whose primary is {idc} (epoch {epoch} in multiactive.epoch): a row that wins \
                 elsewhere would never reach it; choose SourceWins, Hold or Halt",
                    self.name
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether the keys at which a conflict was decided are remembered.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Whether what becomes of a change is remembered by its keys. `moves` as in [`Self::decide`].
    pub(crate) fn leaves_tombstone(
        &self,
        change: &RowChange,
        outcome: &Outcome,
        moves: bool,
    ) -> bool {
        let removes = moves || matches!(change, RowChange::Delete { .. });
        self.remembers
            && match outcome {
                Outcome::SourceWon(_) | Outcome::Added(_) | Outcome::TargetWon => true,
                // Each side has removed it by itself.
                Outcome::Same => removes,
                Outcome::Held => false,
            }
    }

    /// Decides a change by what is at its keys. `moves` says that it changes the row's key,
    /// `disputed` that a tombstone is kept for a key of it.
    pub(crate) fn decide(
        &self,
        table: &TableSchema,
        change: &RowChange,
        found: Found<'_>,
        moves: bool,
        disputed: bool,
    ) -> Result<Decision, NoOrder> {
        if disputed && (moves || ends_or_begins(change, found)) {
            return Ok(Decision::Settled(ConflictKind::Disputed, Outcome::Held));
        }
        if let Rule::Add(counters) = &self.rule
            && let RowChange::Update { before, after } = change
            && let Some(there) = found.old.filter(|there| !moves && *there != before)
        {
            let summed = sum(table, &counters.of(table)?, (before, after), there);
            let outcome = match summed {
                Some(row) if row == *there => Outcome::Added(None),
                Some(after) => Outcome::Added(Some(RowChange::Update {
                    before: there.clone(),
                    after,
                })),
                None => Outcome::Held,
            };
            return Ok(Decision::Settled(ConflictKind::UpdateDiffers, outcome));
        }
        let (kind, same) = match judge(change, found) {
            Verdict::Apply => return Ok(Decision::Apply),
            Verdict::AlreadyThere => (kind_where_same(change, found), true),
            Verdict::Held(kind) => (kind_of(kind), false),
        };
        if self.rule == Rule::Halt {
            return Ok(Decision::Halt(kind));
        }
        let twice = match &self.rule {
            Rule::Add(counters) => may_be_both(table, &counters.of(table)?, change),
            _ => false,
        };
        let outcome = if same && !twice {
            Outcome::Same
        } else if moves || same {
            Outcome::Held
        } else {
            self.outcome(table, change, found)?
        };
        Ok(Decision::Settled(kind, outcome))
    }

    /// What becomes of a change for which the server has said that another row has a unique value
    /// of it.
    pub(crate) fn clash(&self) -> Decision {
        match self.rule {
            Rule::Halt => Decision::Halt(ConflictKind::UniqueClash),
            _ => Decision::Settled(ConflictKind::UniqueClash, Outcome::Held),
        }
    }

    fn outcome(
        &self,
        table: &TableSchema,
        change: &RowChange,
        found: Found<'_>,
    ) -> Result<Outcome, NoOrder> {
        let there = found.old.or(found.new);
        let winner = match &self.rule {
            Rule::Halt | Rule::Hold | Rule::Add(_) => None,
            Rule::Wins(side) => Some(*side),
            Rule::Last { column, tie } => match (change.after(), there) {
                (Some(after), Some(there)) => Some(last(table, column, *tie, after, there)?),
                // A removal has no time, and loses nothing that could not be removed again.
                (Some(_), None) => Some(Side::Source),
                (None, _) => Some(Side::Target),
            },
        };
        Ok(match winner {
            None => Outcome::Held,
            Some(Side::Target) => Outcome::TargetWon,
            Some(Side::Source) => Outcome::SourceWon(put(change, there)),
        })
    }
}

/// Whether a change removes a row, or puts one where there is none.
fn ends_or_begins(change: &RowChange, found: Found<'_>) -> bool {
    match change {
        RowChange::Insert { .. } => found.new.is_none(),
        RowChange::Delete { .. } => true,
        RowChange::Update { .. } => false,
    }
}

/// The change that makes of what is there what the source has.
fn put(change: &RowChange, there: Option<&Row>) -> RowChange {
    match (there, change.after()) {
        (Some(there), Some(after)) => RowChange::Update {
            before: there.clone(),
            after: after.clone(),
        },
        (None, Some(after)) => RowChange::Insert {
            after: after.clone(),
        },
        (Some(there), None) => RowChange::Delete {
            before: there.clone(),
        },
        // Never asked for: there is nothing at either side.
        (None, None) => change.clone(),
    }
}

/// The kind of a conflict in which both sides came to the same.
fn kind_where_same(change: &RowChange, found: Found<'_>) -> ConflictKind {
    match change {
        RowChange::Insert { .. } => ConflictKind::InsertExists,
        RowChange::Delete { .. } => ConflictKind::DeleteMissing,
        RowChange::Update { .. } if found.old.is_none() => ConflictKind::UpdateMissing,
        RowChange::Update { .. } => ConflictKind::UpdateDiffers,
    }
}

fn kind_of(kind: Kind) -> ConflictKind {
    match kind {
        Kind::InsertExists => ConflictKind::InsertExists,
        Kind::UpdateMissing => ConflictKind::UpdateMissing,
        Kind::DeleteDiffers => ConflictKind::DeleteDiffers,
        Kind::UniqueClash => ConflictKind::UniqueClash,
        Kind::ForeignKey => ConflictKind::ForeignKey,
        Kind::ValueRefused | Kind::TableUnfit => ConflictKind::ValueRefused,
        // Rows alone are judged, so the last two are never met.
        Kind::UpdateDiffers | Kind::Cascade | Kind::Statement => ConflictKind::UpdateDiffers,
    }
}

#[cfg(test)]
mod convergence_tests;
#[cfg(test)]
mod tests;
