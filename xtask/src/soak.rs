//! `cargo xtask soak`: as many trials of the suite `partition` as one likes.

use anyhow::{Result, ensure};
use harness::{images, report, shell, tools};

/// Builds the static binaries and runs the trials with them. The words are those of the suite's
/// program, which refuses what it does not know.
pub fn run(words: &[&str]) -> Result<()> {
    ensure!(
        !words.iter().any(|word| matches!(*word, "--help" | "-h")),
        "see `cargo xtask help`"
    );
    tools::install()?;
    report::long_step(
        "static binaries",
        "some minutes the first time",
        images::build_binaries,
    )?;
    let mut trials = images::cargo_static("test");
    trials.args(["--workspace", "--test", "partition", "--"]);
    trials.args(words);
    // Test binaries cannot become the guardian of their world; this one can.
    trials.env("MULTIACTIVE_XTASK", std::env::current_exe()?);
    shell::run_visible(&mut trials)
}
