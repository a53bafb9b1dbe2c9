//! The product's processes as container images, and two small images of the harness's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::programs::cargo_static;
use crate::tools::MUSL_TARGET;
use crate::{paths, report, shell};

/// The processes that become images, each from the binary of its crate.
pub const PROCESSES: [&str; 5] = ["operator", "arbiter", "syncer", "writer", "repair"];

/// An image in an archive that container runtimes import.
#[derive(Clone, Debug)]
pub struct Image {
    /// The process.
    pub name: String,
    /// `docker.io/multiactive/NAME`.
    pub repository: String,
    /// Changes whenever the binary does, so that a deployment of it is rolled out.
    pub tag: String,
    /// The archive, with the image under its own tag. A world knows it as `dev` as well.
    pub archive: PathBuf,
}

impl Image {
    /// The name and tag by which pods ask for it.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Builds all static binaries in one run of cargo. Their paths are `paths::release(NAME)`.
pub fn build_binaries() -> Result<()> {
    // The whole workspace, as for the suites: what packages are named decides the features that
    // their dependencies are built with, and with others they would be built twice.
    let mut build = cargo_static("build");
    shell::run_visible(build.args(["--workspace", "--bins"]))
}

/// Builds the binaries and packs those that run in pods.
pub fn build() -> Result<Vec<Image>> {
    report::long_step(
        "static binaries",
        "some minutes the first time",
        build_binaries,
    )?;
    PROCESSES
        .into_iter()
        .map(|name| report::step(&format!("image multiactive/{name}"), || process(name)))
        .collect()
}

/// Packs the processes whose binaries are built already.
pub fn process(name: &str) -> Result<Image> {
    pack(
        name,
        &paths::release(name),
        &paths::workspace().join("images").join("Containerfile"),
    )
}

/// The image of the process that holds a pod's namespaces open.
pub(crate) fn pause() -> Result<Image> {
    let source = paths::workspace()
        .join("images")
        .join("pause")
        .join("pause.rs");
    let binary = paths::tools().join("bin").join("pause");
    if !newer(&binary, &source) {
        fs::create_dir_all(paths::tools().join("bin"))?;
        let mut build = shell::command("rustc", ["--edition=2024", "-O", "-Cstrip=symbols"]);
        build
            .args(["-Cpanic=abort", "--target", MUSL_TARGET, "-o"])
            .arg(&binary)
            .arg(&source);
        shell::run(build.current_dir(paths::workspace()))?;
    }
    pack(
        "pause",
        &binary,
        &paths::workspace().join("images").join("Containerfile"),
    )
}

/// An image with a shell and the usual small programs, for pods of tests:
/// `multiactive/toolbox:dev`.
pub(crate) fn toolbox() -> Result<Image> {
    let binary = Path::new("/bin/busybox");
    let file = paths::workspace()
        .join("images")
        .join("toolbox")
        .join("Containerfile");
    pack("toolbox", binary, &file)
}

fn newer(made: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    matches!((time(made), time(source)), (Some(made), Some(source)) if made >= source)
}

/// Packs `binary` unless an archive of the same content exists.
fn pack(name: &str, binary: &Path, containerfile: &Path) -> Result<Image> {
    let tag = digest(binary, containerfile)?;
    let repository = format!("docker.io/multiactive/{name}");
    let archive = paths::images().join(format!("{name}-{tag}.tar"));
    let image = Image {
        name: name.to_owned(),
        repository,
        tag,
        archive,
    };
    fs::create_dir_all(paths::images())?;
    let lock = fs::File::create(paths::images().join("lock"))?;
    lock.lock()?;
    if image.archive.is_file() {
        return Ok(image);
    }
    let context = paths::images().join("context");
    drop(fs::remove_dir_all(&context));
    fs::create_dir_all(&context)?;
    fs::copy(binary, context.join("program"))
        .with_context(|| format!("no binary {}: build it first", binary.display()))?;
    let own = image.reference();
    let mut bud = buildah(&["bud", "--isolation=chroot", "--quiet", "--layers=false"]);
    bud.args(["--tag", &own, "--file"])
        .arg(containerfile)
        .arg(&context);
    shell::run(&mut bud)?;
    let part = paths::images().join(format!("{name}.part"));
    drop(fs::remove_file(&part));
    let target = format!("docker-archive:{}:{own}", part.display());
    shell::run(&mut buildah(&["push", "--quiet", &own, &target]))?;
    shell::run(&mut buildah(&["rmi", "--force", &own]))?;
    retire(name)?;
    fs::rename(part, &image.archive)?;
    Ok(image)
}

/// Removes the archives of earlier builds, whose tags nothing will ask for again.
fn retire(name: &str) -> Result<()> {
    for entry in fs::read_dir(paths::images())?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let rest = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'));
        // A tag has no hyphen: what has one belongs to an image with a longer name.
        let tag = rest.and_then(|rest| rest.strip_suffix(".tar"));
        if tag.is_some_and(|tag| !tag.contains('-')) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Twelve hexadecimal digits of what an image is made from.
fn digest(binary: &Path, containerfile: &Path) -> Result<String> {
    let sums = shell::text(shell::command("sha256sum", [binary, containerfile]).env("LC_ALL", "C"))
        .with_context(|| format!("no binary {}: build it first", binary.display()))?;
    let sums: Vec<&str> = sums
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let both = shell::text_with_input(&mut Command::new("sha256sum"), &sums.join("\n"))?;
    Ok(both.chars().take(12).collect())
}

/// buildah with a storage of its own, and the driver that works on every file system.
fn buildah(arguments: &[&str]) -> Command {
    let storage = paths::tools().join("buildah");
    let mut command = Command::new("buildah");
    command.arg("--storage-driver=vfs");
    command
        .arg("--root")
        .arg(storage.join("root"))
        .arg("--runroot")
        .arg(storage.join("run"));
    command.args(arguments);
    command
}
