//! Partitions, deaths and freezes, against the product's own processes, while applications write on
//! every side; and a checker that knows every write.
//!
//! A program of its own rather than a row of tests: `cargo xtask test partition` runs it as it is,
//! `cargo xtask soak` with options, and it is also the applications that it starts. What cannot be
//! started makes it fail; nothing is skipped.
//!
//! The map: [`trial`] is the course of one trial, [`faults`] what is done to the rig, [`rig`] the
//! rig, [`strand`] how its end is settled, `tests::history` what is wrong with it, [`table`] the
//! results.

mod application;
mod evidence;
mod faults;
mod journal;
mod keeper;
mod options;
mod parts;
mod person;
mod random;
mod rig;
mod sight;
mod steady;
mod strand;
mod table;
mod trial;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use faults::Fault;
use options::Options;
use random::Random;
use rig::Rig;
use trial::Trial;

/// So many rigs in a row that do not start end the run.
const STARTS: u32 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [word, file] if word == application::SUBCOMMAND => application::main(file),
        _ => Options::parse(&words).and_then(|options| run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut trials = Vec::new();
    let outcome = runtime.block_on(all(options, &mut trials));
    println!("\n{}", table::table(&trials));
    if let Some(path) = &options.json {
        table::write_json(path, &trials)?;
    }
    outcome?;
    let failed: Vec<&Trial> = trials.iter().filter(|trial| !trial.passed()).collect();
    ensure!(
        trials.len() == options.trials as usize,
        "not all trials were run"
    );
    if let Some(first) = failed.first() {
        bail!(
            "{} of {} trials failed; the first again: cargo xtask soak {}",
            failed.len(),
            trials.len(),
            first.replay
        );
    }
    Ok(())
}

/// All trials, those of one setting of members after the other.
async fn all(options: &Options, trials: &mut Vec<Trial>) -> Result<()> {
    // Every kind once before any comes again, in an order that the seed gives.
    let mut kinds = Fault::ALL.to_vec();
    kinds.retain(|kind| !kind.wants_three());
    Random::new(options.seed).shuffle(&mut kinds);
    let settings = u32::try_from(options.copies.len())?;
    for (place, copies) in (0..).zip(&options.copies) {
        let mut rig: Option<Rig> = None;
        for number in (0..options.trials).filter(|number| number % settings == place) {
            // Each round begins one further on, so that a kind comes to other engines.
            let round = number as usize / kinds.len();
            let kind = kinds[(number as usize + round) % kinds.len()];
            // What wants three copies comes first there.
            let mut special = Fault::ALL.iter().filter(|kind| kind.wants_three());
            let turn = (number / settings) as usize;
            let special = special.nth(turn).filter(|_| copies.members.len() == 3);
            let fault = options.fault.unwrap_or(*special.unwrap_or(&kind));
            let current = match rig.take() {
                Some(rig) => rig,
                None => start(options, *copies).await?,
            };
            let seed = options.seed.wrapping_add(u64::from(number));
            let trial = trial::run(&current, number, seed, fault).await;
            println!("{}", table::line(number + 1, options.trials, &trial));
            // One that is stuck, or lies, spoils nothing but itself.
            if trial.passed() {
                rig = Some(current);
            } else {
                match current.keep_evidence(&trial).await {
                    Ok(directory) => println!("        kept: {}", directory.display()),
                    Err(error) => println!("        logs and tables were not kept: {error:#}"),
                }
            }
            trials.push(trial);
        }
    }
    Ok(())
}

async fn start(options: &Options, copies: options::Copies) -> Result<Rig> {
    let mut tries = 0;
    loop {
        tries += 1;
        match Rig::start(options, copies).await {
            Ok(rig) => return Ok(rig),
            Err(error) if tries >= STARTS => return Err(error.context("the rig did not start")),
            Err(error) => println!("the rig did not start, and is started once more: {error:#}"),
        }
    }
}
