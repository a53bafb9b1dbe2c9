//! What is measured. Each work begins and ends with both targets running and equal to the source.

mod catch_up;
mod lag;
mod large;
mod reading;

use anyhow::{Context as _, Result};

use crate::figure::{Figure, Goal, Measured};
use crate::options::Options;
use crate::rig::Rig;

/// A work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Catching up with inserts, 100 rows a transaction.
    Bulk,
    /// Catching up with small mixed transactions.
    Oltp,
    /// From commit to visible.
    Lag,
    /// The syncer alone.
    Syncer,
    /// One transaction of five million rows.
    Large,
}

impl Work {
    /// All.
    pub const ALL: [Self; 5] = [Self::Bulk, Self::Oltp, Self::Lag, Self::Syncer, Self::Large];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Oltp => "oltp",
            Self::Lag => "lag",
            Self::Syncer => "syncer",
            Self::Large => "large",
        }
    }

    /// All names.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The one of this name.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|work| work.name() == name)
            .with_context(|| format!("no work `{name}`; there are {}", Self::names()))
    }

    /// Does it, as often as asked for.
    pub async fn measure(self, rig: &mut Rig, options: &Options) -> Result<Vec<Figure>> {
        match self {
            Self::Bulk => catch_up::bulk(rig, options).await,
            Self::Oltp => {
                let mut figures = catch_up::oltp(rig, options).await?;
                figures.push(not_built(rig));
                Ok(figures)
            }
            Self::Lag => lag::measure(rig, options).await,
            Self::Syncer => reading::measure(rig, options).await,
            Self::Large => large::measure(rig, options).await,
        }
    }
}

/// The goal for what is refused.
fn not_built(rig: &Rig) -> Figure {
    Figure {
        name: format!("catch up, oltp_write_only, Eventual, {}", rig.engine.name()),
        unit: "s",
        measured: Measured::Refused(
            "the operator refuses consistency: Eventual, which is not built",
        ),
        goal: Goal::TimesAsFast(2.5),
    }
}
