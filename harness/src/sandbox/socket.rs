//! The agent's socket. A path to a Unix socket may have 107 bytes only, and checkouts lie deep, so
//! it is named through a descriptor of its directory.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const NAME: &str = "control.sock";

fn short(run: &Path) -> Result<(File, PathBuf)> {
    let directory = File::open(run).with_context(|| format!("cannot open {}", run.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()));
    Ok((directory, path))
}

pub(super) fn listen(run: &Path) -> Result<UnixListener> {
    let (_directory, path) = short(run)?;
    UnixListener::bind(&path).with_context(|| format!("cannot listen at {}/{NAME}", run.display()))
}

pub(super) fn connect(run: &Path) -> Result<UnixStream> {
    let (_directory, path) = short(run)?;
    UnixStream::connect(&path)
        .with_context(|| format!("cannot reach the world's agent at {}/{NAME}", run.display()))
}
