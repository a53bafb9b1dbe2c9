//! What is to be tried.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use harness::Engine;

use crate::faults::Fault;
use crate::parts::THIRD;

/// The trials of the suite, where nothing else is asked for: each kind of fault, and some twice.
const TRIALS: u32 = 36;

/// A Unit's members: in which IDCs there is a copy, and of which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// What it is called.
    pub name: &'static str,
    /// IDC and engine, the one that is preferred first.
    pub members: &'static [(&'static str, Engine)],
}

/// All of them.
pub const COPIES: [Copies; 4] = [
    Copies {
        name: "mariadb",
        members: &[("sh", Engine::MariaDb), ("bj", Engine::MariaDb)],
    },
    Copies {
        name: "mysql",
        members: &[("sh", Engine::MySql), ("bj", Engine::MySql)],
    },
    Copies {
        name: "mixed",
        members: &[("sh", Engine::MySql), ("bj", Engine::MariaDb)],
    },
    Copies {
        name: "three",
        members: &[
            ("sh", Engine::MySql),
            ("bj", Engine::MariaDb),
            (THIRD, Engine::MySql),
        ],
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
    /// The members, of which each setting takes its share of the trials.
    pub copies: Vec<Copies>,
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
            copies: COPIES.to_vec(),
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
                "--engine" => options.copies = copies(value()?)?,
                "--fault" => options.fault = Some(Fault::named(value()?)?),
                "--binaries" => options.binaries = Some(value()?.into()),
                "--no-standby" => options.standby = false,
                "--ask" => options.ask = true,
                // What cargo's test command may add.
                "--nocapture" | "--show-output" | "--quiet" => {}
                other => bail!(
                    "no option {other}; there are --trials N, --seed S, --json FILE, --engine \
                     mariadb|mysql|mixed|three|all, --fault KIND, --binaries DIR, --no-standby, --ask. \
                     Kinds: {}",
                    Fault::names()
                ),
            }
        }
        Ok(options)
    }

    /// The options that repeat one trial.
    pub fn replay(&self, seed: u64, copies: Copies, fault: Fault) -> String {
        let mut words = format!(
            "--trials 1 --seed {seed} --engine {} --fault {}",
            copies.name,
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

fn copies(name: &str) -> Result<Vec<Copies>> {
    if name == "all" {
        return Ok(COPIES.to_vec());
    }
    let found = COPIES.into_iter().find(|copies| copies.name == name);
    let found = found.with_context(|| {
        format!("--engine is mariadb, mysql, mixed, three or all, not `{name}`")
    })?;
    Ok(vec![found])
}
