//! What is to be tried.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use harness::Engine;

use crate::faults::Fault;

/// The trials of the suite, where nothing else is asked for: each kind of fault, and some twice.
const TRIALS: u32 = 36;

/// The engines of a Unit's two members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// What it is called.
    pub name: &'static str,
    /// In `sh`.
    pub sh: Engine,
    /// In `bj`.
    pub bj: Engine,
}

/// All pairs.
pub const PAIRS: [Pair; 3] = [
    Pair {
        name: "mariadb",
        sh: Engine::MariaDb,
        bj: Engine::MariaDb,
    },
    Pair {
        name: "mysql",
        sh: Engine::MySql,
        bj: Engine::MySql,
    },
    Pair {
        name: "mixed",
        sh: Engine::MySql,
        bj: Engine::MariaDb,
    },
];

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many trials.
    pub trials: u32,
    /// The seed of the first; each further one has the next number.
    pub seed: u64,
    /// Where the results are written for machines.
    pub json: Option<PathBuf>,
    /// The pairs of engines, which share the trials.
    pub pairs: Vec<Pair>,
    /// This kind of fault only; all in turn if not given.
    pub fault: Option<Fault>,
    /// Where the product's programs are; the static release build if not given.
    pub binaries: Option<PathBuf>,
    /// A second arbiter in each IDC.
    pub standby: bool,
    /// No failover by itself: the suite asks for one where it sees no primary, as a person would.
    pub ask: bool,
}

impl Options {
    /// Reads the words of the command line.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self {
            trials: TRIALS,
            seed: 1,
            json: None,
            pairs: PAIRS.to_vec(),
            fault: None,
            binaries: None,
            standby: true,
            ask: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next();
                value.with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--trials" => options.trials = value()?.parse().context("--trials is a number")?,
                "--seed" => options.seed = value()?.parse().context("--seed is a number")?,
                "--json" => options.json = Some(value()?.into()),
                "--engine" => options.pairs = pairs(value()?)?,
                "--fault" => options.fault = Some(Fault::named(value()?)?),
                "--binaries" => options.binaries = Some(value()?.into()),
                "--no-standby" => options.standby = false,
                "--ask" => options.ask = true,
                // What cargo's test command may add.
                "--nocapture" | "--show-output" | "--quiet" => {}
                other => bail!(
                    "no option {other}; there are --trials N, --seed S, --json FILE, --engine \
                     mariadb|mysql|mixed|all, --fault KIND, --binaries DIR, --no-standby, --ask. \
                     Kinds: {}",
                    Fault::names()
                ),
            }
        }
        Ok(options)
    }

    /// The options that repeat one trial.
    pub fn replay(&self, seed: u64, pair: Pair, fault: Fault) -> String {
        let mut words = format!(
            "--trials 1 --seed {seed} --engine {} --fault {}",
            pair.name,
            fault.name()
        );
        for (set, word) in [(!self.standby, " --no-standby"), (self.ask, " --ask")] {
            if set {
                words.push_str(word);
            }
        }
        words
    }
}

fn pairs(name: &str) -> Result<Vec<Pair>> {
    if name == "all" {
        return Ok(PAIRS.to_vec());
    }
    let pair = PAIRS.into_iter().find(|pair| pair.name == name);
    let pair =
        pair.with_context(|| format!("--engine is mariadb, mysql, mixed or all, not `{name}`"))?;
    Ok(vec![pair])
}
