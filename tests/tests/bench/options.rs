//! What is to be measured.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use harness::Engine;

use crate::works::Work;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// The works.
    pub works: Vec<Work>,
    /// The engines, one after the other.
    pub engines: Vec<Engine>,
    /// How often each work is done by both.
    pub rounds: u32,
    /// The part of each work's full size that is done.
    pub scale: f64,
    /// Where the results are written for machines.
    pub json: Option<PathBuf>,
    /// Where the product's programs are; the static release build if not given.
    pub binaries: Option<PathBuf>,
}

impl Options {
    /// Reads the words of the command line.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self {
            works: Work::ALL.to_vec(),
            engines: vec![Engine::MariaDb, Engine::MySql],
            rounds: 3,
            scale: 1.0,
            json: None,
            binaries: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next();
                value.with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--only" => options.works = works(value()?)?,
                "--engine" => options.engines = engines(value()?)?,
                "--rounds" => options.rounds = value()?.parse().context("--rounds is a number")?,
                "--scale" => options.scale = value()?.parse().context("--scale is a number")?,
                "--json" => options.json = Some(value()?.into()),
                "--binaries" => options.binaries = Some(value()?.into()),
                other => bail!(
                    "no option {other}; there are --only NAME[,NAME] ({}), --engine \
                     mariadb|mysql|all, --rounds N, --scale PART, --json FILE, --binaries DIR",
                    Work::names()
                ),
            }
        }
        ensure!(options.rounds > 0, "--rounds is at least 1");
        ensure!(
            options.scale >= 0.001 && options.scale <= 100.0,
            "--scale is the part of the full size, between 0.001 and 100"
        );
        Ok(options)
    }

    /// So much of a full size.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are far below 2^32 and above zero"
    )]
    pub fn scaled(&self, full: u32) -> u32 {
        ((f64::from(full) * self.scale).round() as u32).max(1)
    }
}

fn works(names: &str) -> Result<Vec<Work>> {
    names.split(',').map(Work::named).collect()
}

fn engines(name: &str) -> Result<Vec<Engine>> {
    match name {
        "mariadb" => Ok(vec![Engine::MariaDb]),
        "mysql" => Ok(vec![Engine::MySql]),
        "all" => Ok(vec![Engine::MariaDb, Engine::MySql]),
        other => bail!("--engine is mariadb, mysql or all, not `{other}`"),
    }
}
