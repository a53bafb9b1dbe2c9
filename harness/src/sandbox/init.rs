//! The first process of the sandbox's process namespace. It adopts what loses its parent (each
//! container's shim does), and when it ends the kernel ends all the others.

use std::io::Read as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, WaitOptions};

pub(super) fn main(run: &str) -> Result<()> {
    if std::process::id() != 1 {
        bail!("not the first process of a namespace: start it through the guardian");
    }
    let agent = Command::new(std::env::current_exe()?)
        .args([super::SUBCOMMAND, "agent", run])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the agent")?;
    let agent = i32::try_from(agent.id()).ok().and_then(Pid::from_raw);

    // The guardian never writes: reading ends when it is gone.
    std::thread::spawn(|| {
        let mut byte = [0_u8; 1];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        std::process::exit(0);
    });

    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == agent => {
                bail!("the agent has ended: {status:?}");
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("cannot wait for orphans: {error}"),
        }
    }
}
