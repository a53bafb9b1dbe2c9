//! A process tree in its own network, process and mount namespaces, ruled over a socket.
//!
//! Four processes, each with one duty:
//!
//! | process | namespace | duty |
//! |---|---|---|
//! | owner | host | a test, the demo, or `cargo xtask cluster up`; holds the write end of a pipe |
//! | guardian | host | sees that pipe end, ends the rest, and clears away what the kernel does not |
//! | init | sandbox | first process there: adopts orphans, and ends when the guardian is gone |
//! | agent | sandbox | starts, signals and watches the parts as the owner says |
//!
//! Every link of that chain is a pipe whose write end only the process above holds, so the death
//! of any of them, by whatever signal, ends everything below it.

mod agent;
mod client;
mod guardian;
mod init;
mod protocol;
mod socket;

pub use client::Sandbox;
pub use guardian::{LINK, alive, claim, end_kept, sweep_dead, sweep_run};
pub use protocol::{Finished, PartSpec, PartState, Signal};

use anyhow::{Result, bail};

/// The hidden subcommand under which a binary that uses this crate becomes one of the processes
/// above.
pub const SUBCOMMAND: &str = "__world";

/// Runs as guardian, init or agent. `arguments` are those after [`SUBCOMMAND`].
pub fn main(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["guardian", run] => guardian::main(run.as_ref()),
        ["init", run] => init::main(run),
        ["agent", run] => agent::main(run.as_ref()),
        _ => bail!("{SUBCOMMAND} is started by the harness only, not by hand"),
    }
}
