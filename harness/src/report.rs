//! Tells a person what is being done and how long it took, a line a step, on standard error.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Runs one step and prints its time and name when it has succeeded.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let value = work().with_context(|| format!("step failed: {what}"))?;
    line(started.elapsed(), what);
    Ok(value)
}

/// Runs a step that can take minutes, and so says beforehand that it starts.
pub fn long_step<T>(what: &str, hint: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("          {what}: {hint}");
    step(what, work)
}

/// Prints a line for a step that has taken `elapsed`.
pub fn line(elapsed: Duration, what: &str) {
    eprintln!("{:>7.1} s {what}", elapsed.as_secs_f64());
}

/// Prints a remark that belongs to no step.
pub fn note(text: &str) {
    eprintln!("          {text}");
}
