//! Installs or builds every program that is needed, once.
//!
//! Each tool has a stamp under `target/tools/stamps` that holds what it was made from; a tool whose
//! stamp says the same is left alone.

mod debian;
mod go;
mod rust;
mod servers;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::paths;

pub use servers::mysql_root;

/// The target of everything that goes into an image.
pub const MUSL_TARGET: &str = "x86_64-unknown-linux-musl";

/// Installs all tools; does nothing, in well under a second, if all are there.
pub fn install() -> Result<()> {
    require_root()?;
    fs::create_dir_all(paths::tools().join("stamps"))?;
    debian::install()?;
    rust::install()?;
    // The one waits for the network and the other for the processor.
    std::thread::scope(|scope| {
        let servers = scope.spawn(servers::install);
        go::install()?;
        match servers.join() {
            Ok(result) => result,
            Err(_) => bail!("installing the database servers panicked"),
        }
    })
}

/// Namespaces, mounts and package installation need root.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "namespaces and mounts need root: run it again as root, for example with \
         `sudo --preserve-env=PATH,HOME cargo xtask ...`"
    )
}

/// Compares and keeps what a tool was made from.
struct Stamp {
    path: PathBuf,
    content: String,
}

impl Stamp {
    fn new(tool: &str, content: String) -> Self {
        Self {
            path: paths::tools().join("stamps").join(tool),
            content,
        }
    }

    fn fits(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|content| content == self.content)
    }

    fn set(&self) -> Result<()> {
        fs::write(&self.path, &self.content)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
