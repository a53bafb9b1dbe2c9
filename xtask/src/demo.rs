//! The product at work, from nothing.

use anyhow::{Result, bail};

/// Shows the product at work.
pub fn run(_options: &[&str]) -> Result<()> {
    bail!("the demo is not there yet")
}
