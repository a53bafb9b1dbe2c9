//! What was measured, for people and for machines.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::options::Options;

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The server's own time is at least so many times ours.
    TimesAsFast(f64),
    /// Ours is at most so many times the server's own.
    RatioAtMost(f64),
    /// Ours is at least this.
    AtLeast(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Shown only.
    None,
}

/// What was measured of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// Ours, one value a round.
    Alone(Vec<f64>),
    /// Ours and the server's own, a pair a round.
    Pairs(Vec<(f64, f64)>),
    /// Nothing, and why.
    Refused(&'static str),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is, with the engine.
    pub name: String,
    /// Of the values, not of the ratio.
    pub unit: &'static str,
    pub measured: Measured,
    pub goal: Goal,
}

/// The middle one; of an even number the lower of the two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

impl Figure {
    fn ours(&self) -> Option<f64> {
        match &self.measured {
            Measured::Alone(values) => median(values.clone()),
            Measured::Pairs(pairs) => median(pairs.iter().map(|pair| pair.0).collect()),
            Measured::Refused(_) => None,
        }
    }

    fn theirs(&self) -> Option<f64> {
        match &self.measured {
            Measured::Pairs(pairs) => median(pairs.iter().map(|pair| pair.1).collect()),
            Measured::Alone(_) | Measured::Refused(_) => None,
        }
    }

    /// The ratio of each round, as the goal counts it: how many times as fast, or how many times
    /// as much.
    fn ratios(&self) -> Vec<f64> {
        let Measured::Pairs(pairs) = &self.measured else {
            return Vec::new();
        };
        let ratio = |&(ours, theirs): &(f64, f64)| match self.goal {
            Goal::TimesAsFast(_) => theirs / ours,
            _ => ours / theirs,
        };
        pairs.iter().map(ratio).collect()
    }

    fn ratio(&self) -> Option<f64> {
        median(self.ratios())
    }

    fn reached(&self) -> Option<bool> {
        match self.goal {
            Goal::TimesAsFast(goal) => self.ratio().map(|ratio| ratio >= goal),
            Goal::RatioAtMost(goal) => self.ratio().map(|ratio| ratio <= goal),
            Goal::AtLeast(goal) => self.ours().map(|ours| ours >= goal),
            Goal::AtMost(goal) => self.ours().map(|ours| ours <= goal),
            Goal::None => None,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::TimesAsFast(goal) => format!("{goal} times as fast"),
            Goal::RatioAtMost(goal) => format!("at most {goal} times"),
            Goal::AtLeast(goal) => format!("at least {goal} {}", self.unit),
            Goal::AtMost(goal) => format!("at most {goal} {}", self.unit),
            Goal::None => "-".to_owned(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let amount = |value: Option<f64>| {
            value.map_or("-".to_owned(), |value| {
                let digits = if value >= 1000.0 { 0 } else { 2 };
                format!("{value:.digits$} {}", self.unit)
            })
        };
        let ratios = self.ratios();
        let spread = match ratios.len() {
            0 | 1 => "-".to_owned(),
            _ => {
                let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
                let most = ratios.iter().copied().fold(0.0, f64::max);
                format!("{least:.2} to {most:.2}")
            }
        };
        let verdict = match (&self.measured, self.reached()) {
            (Measured::Refused(why), _) => format!("not measured: {why}"),
            (_, Some(true)) => "reached".to_owned(),
            (_, Some(false)) => "MISSED".to_owned(),
            (_, None) => "-".to_owned(),
        };
        [
            self.name.clone(),
            amount(self.ours()),
            amount(self.theirs()),
            self.ratio()
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            spread,
            self.goal(),
            verdict,
        ]
    }

    fn json(&self) -> serde_json::Value {
        let refused = match self.measured {
            Measured::Refused(why) => Some(why),
            Measured::Alone(_) | Measured::Pairs(_) => None,
        };
        serde_json::json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours(),
            "theirs": self.theirs(),
            "ratio": self.ratio(),
            "ratios": self.ratios(),
            "goal": self.goal(),
            "reached": self.reached(),
            "notMeasured": refused,
        })
    }
}

/// All figures of a run.
#[derive(Debug)]
pub struct Report {
    scale: f64,
    rounds: u32,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty one.
    pub fn new(options: &Options) -> Self {
        Self {
            scale: options.scale,
            rounds: options.rounds,
            figures: Vec::new(),
        }
    }

    /// Adds figures, and shows them at once.
    pub fn add(&mut self, figures: Vec<Figure>) {
        for figure in &figures {
            println!("{}", figure.cells().join(" | "));
        }
        self.figures.extend(figures);
    }

    /// The table. Values are medians over the rounds, as is the ratio; its spread is beside it.
    pub fn table(&self) -> String {
        let heads = [
            "work",
            "multiactive",
            "server's own",
            "ratio",
            "spread",
            "goal",
            "",
        ];
        let mut rows = vec![heads.map(str::to_owned)];
        rows.extend(self.figures.iter().map(Figure::cells));
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        let mut text = format!(
            "scale {} of the full sizes, {} rounds; medians, and the spread of the ratios\n",
            self.scale, self.rounds
        );
        for row in rows {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// Writes the same for machines.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        let document = serde_json::json!({
            "scale": self.scale, "rounds": self.rounds, "figures": figures,
        });
        std::fs::write(path, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
