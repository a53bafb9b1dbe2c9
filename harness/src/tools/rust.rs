//! The Rust target for static binaries.

use anyhow::{Context as _, Result};

use super::MUSL_TARGET;
use crate::{paths, report, shell};

pub(super) fn install() -> Result<()> {
    let sysroot = shell::text(
        shell::command("rustc", ["--print", "sysroot"]).current_dir(paths::workspace()),
    )?;
    let target = std::path::Path::new(&sysroot)
        .join("lib/rustlib")
        .join(MUSL_TARGET);
    if target.is_dir() {
        return Ok(());
    }
    report::step(&format!("Rust target {MUSL_TARGET}"), || {
        let mut add = shell::command("rustup", ["target", "add", MUSL_TARGET]);
        shell::run(add.current_dir(paths::workspace()))
            .context("the Rust toolchain here lacks the target for static binaries")
    })
}
