//! Where things are kept: everything below the workspace's `target`.

use std::path::{Path, PathBuf};

/// The root of the workspace, known from where this crate was compiled.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's target directory, as `CARGO_TARGET_DIR` or the workspace says.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// Installed and built tools, kept between runs.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// A program among the tools that are built rather than installed by the system.
pub fn tool(name: &str) -> PathBuf {
    tools().join("bin").join(name)
}

/// Container images as archives.
pub fn images() -> PathBuf {
    target().join("images")
}

/// The directory of all runs, one below it for each world.
pub fn runs() -> PathBuf {
    target().join("run")
}

/// The statically linked binaries that images and tests use.
pub fn release(binary: &str) -> PathBuf {
    target()
        .join(crate::tools::MUSL_TARGET)
        .join("release")
        .join(binary)
}
