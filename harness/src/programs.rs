//! Cargo, as xtask and tests run it, and the product's programs for tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::{paths, shell, tools};

/// The writer with failpoints, and what builds it: a shipped writer has none.
const WRITER: &str = "writer-failpoints";
const FAILPOINTS: [&str; 2] = ["--features", "writer/failpoints"];

/// Cargo with these arguments, in the workspace.
///
/// Whoever runs under cargo has been told of his own package in the environment. That must not be
/// passed on: build scripts (ring's) look at it, so they would run again whenever somebody else
/// calls, and everything that stands on them be compiled again.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = shell::command(cargo, arguments);
    command.current_dir(paths::workspace());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Cargo for static release binaries: images and tests share what it compiles.
pub fn cargo_static(subcommand: &str) -> Command {
    let mut command = cargo(&[subcommand, "--release", "--target", tools::MUSL_TARGET]);
    // C libraries are compiled against the same libc as the Rust code.
    command.env("CC_x86_64_unknown_linux_musl", "musl-gcc");
    command
}

/// A program of the product, of the same profile and target as the test that asks. `cargo xtask` has
/// built it before the tests; otherwise it is built from what the source is now.
pub fn beside_test(binary: &str) -> Result<PathBuf> {
    built(binary, &[], std::env::var_os("MULTIACTIVE_XTASK").is_none())
}

/// The writer that can be told to crash, in the same way.
pub fn writer_with_failpoints() -> Result<PathBuf> {
    built(
        WRITER,
        &FAILPOINTS,
        std::env::var_os("MULTIACTIVE_XTASK").is_none(),
    )
}

/// Builds that writer for the suites that `cargo xtask` runs.
pub fn writer_with_failpoints_static() -> Result<()> {
    let mut build = cargo_static("build");
    build.args(["--workspace", "--bin", WRITER]);
    shell::run_visible(build.args(FAILPOINTS))
}

fn built(binary: &str, options: &[&str], build: bool) -> Result<PathBuf> {
    // Tests are threads of one process, and each of them asks.
    static DONE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The test is target[/<target>]/<profile>/deps/<name>.
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("no folder")?;
    let path = folder.join(binary);
    if build && !done.iter().any(|name| name == binary) {
        let is_static = folder == paths::release("");
        let mut command = if is_static {
            cargo_static("build")
        } else {
            cargo(&["build"])
        };
        // The whole workspace: what packages are named decides the features of what they stand on.
        command.args(["--quiet", "--workspace", "--bin", binary]);
        if folder.ends_with("release") && !is_static {
            command.arg("--release");
        }
        shell::run(command.args(options))?;
        done.push(binary.to_owned());
    }
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}
