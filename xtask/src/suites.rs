//! The suites of tests, and what they are run on.

use std::process::Command;

use anyhow::{Result, bail, ensure};
use harness::programs::{self, cargo};
use harness::{images, paths, report, shell, tools};

/// Builds the images.
pub fn images() -> Result<()> {
    tools::install()?;
    for image in images::build()? {
        println!("{} {}", image.reference(), image.archive.display());
    }
    Ok(())
}

/// Writes the generated files, or checks them.
pub fn codegen(check: bool) -> Result<()> {
    let what = if check {
        "generated files are up to date"
    } else {
        "generated files"
    };
    report::step(what, || {
        let mut generate = cargo(&[
            "run",
            "--quiet",
            "--package",
            "crds",
            "--bin",
            "crds-codegen",
            "--",
        ]);
        if check {
            generate.arg("--check");
        }
        shell::run_visible(&mut generate)?;
        reference(check)
    })
}

/// The reference of `mactl`, which comes from the same definition as its help.
fn reference(check: bool) -> Result<()> {
    let mut print = cargo(&[
        "run",
        "--quiet",
        "--package",
        "cli",
        "--bin",
        "mactl",
        "--",
        "__reference",
    ]);
    let wanted = shell::text(&mut print)? + "\n";
    let path = paths::workspace().join("docs/mactl.md");
    if !check {
        return Ok(std::fs::write(&path, wanted)?);
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    if present != wanted {
        bail!(
            "docs/mactl.md is not what mactl says of itself: run `cargo xtask codegen` and commit \
             the result"
        );
    }
    Ok(())
}

/// Runs a suite.
pub fn test(suite: &str) -> Result<()> {
    match suite {
        "unit" => unit(),
        "model" => model(),
        "harness" => harness_itself(),
        "engines" => engines(),
        "repair" => repair(),
        "partition" => real("partition"),
        "cluster" => real("cluster"),
        "way" => real("way"),
        "all" => {
            unit()?;
            model()?;
            harness_itself()?;
            engines()?;
            real("partition")?;
            real("cluster")?;
            real("way")
        }
        _ => bail!(
            "no suite `{suite}`; there are unit, model, harness, engines, repair, partition, cluster, way, and all"
        ),
    }
}

/// What needs no server, but the compilers and helm.
fn unit() -> Result<()> {
    report::step("formatting", || {
        shell::run_visible(&mut cargo(&["fmt", "--all", "--check"]))
    })?;
    tools::install()?;
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ];
    report::step("clippy", || shell::run_visible(&mut cargo(&clippy)))?;
    codegen(true)?;
    report::step("helm lint", helm_lint)?;
    // The suites that need servers are other targets of the package `tests`; what its library checks
    // histories with needs none.
    let test = [
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--test",
        "scenarios",
        "--test",
        "fuzz",
    ];
    report::step("unit tests", || shell::run_visible(&mut cargo(&test)))
}

/// Damaged binlogs and packets, for longer than the suite `unit` does.
pub fn fuzz(options: &[&str]) -> Result<()> {
    let (mut seconds, mut seed) = ("60", "1");
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match (*option, options.next()) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = value,
            (other, _) => bail!("fuzz: {other} is not an option with a value"),
        }
    }
    for package in ["binlog", "change"] {
        let mut test = cargo(&["test", "--release", "--package", package, "--test", "fuzz"]);
        test.args(["--", "--nocapture"]);
        test.env("MULTIACTIVE_FUZZ_SECONDS", seconds);
        test.env("MULTIACTIVE_FUZZ_SEED", seed);
        report::step(&format!("fuzz {package}"), || shell::run_visible(&mut test))?;
    }
    Ok(())
}

/// The arbitration core by scripts, by simulation and by exhaustive exploration.
fn model() -> Result<()> {
    let mut test = cargo(&["test", "--package", "arbitration", "--tests"]);
    report::step("suite model", || shell::run_visible(&mut test))
}

/// A chart with values that its user must give has examples of them in its folder `ci`, as
/// chart-testing has it. Without such a folder it must do as it is.
fn helm_lint() -> Result<()> {
    for chart in std::fs::read_dir(paths::workspace().join("charts"))? {
        let chart = chart?.path();
        if !chart.join("Chart.yaml").is_file() {
            continue;
        }
        let lint = || {
            let mut lint = shell::command(paths::tool("helm"), ["lint", "--strict", "--quiet"]);
            lint.arg(&chart);
            lint
        };
        let examples: Vec<_> = std::fs::read_dir(chart.join("ci"))
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        for example in &examples {
            shell::run(lint().arg("--values").arg(example.path()))?;
        }
        if examples.is_empty() {
            shell::run(&mut lint())?;
        }
    }
    Ok(())
}

/// The harness tried by itself: if this fails, no failure of a later suite means anything.
fn harness_itself() -> Result<()> {
    tools::install()?;
    let mut test = cargo(&["test", "--package", "harness", "--test", "world"]);
    test.env("MULTIACTIVE_XTASK", std::env::current_exe()?);
    report::step("suite harness", || shell::run_visible(&mut test))
}

/// A suite on real parts, with the static binaries that also go into the images.
///
/// It uses the cluster of `KUBECONFIG` if that is set, in place of a local one. That cluster must
/// reach the addresses of this machine's world (the databases and etcd are still started here) and
/// must be able to pull or already have the images, so in practice it is on this machine.
fn real(suite: &str) -> Result<()> {
    prepare_real()?;
    let mut test = real_test(suite)?;
    report::step(&format!("suite {suite}"), || shell::run_visible(&mut test))
}

/// A suite that is a program of its own (`partition` for `soak`, `bench`), with the static binaries.
/// The words are its options; it refuses what it does not know.
pub fn program(suite: &str, words: &[&str]) -> Result<()> {
    ensure!(
        !words.iter().any(|word| matches!(*word, "--help" | "-h")),
        "see `cargo xtask help`"
    );
    prepare_real()?;
    shell::run_visible(real_test(suite)?.arg("--").args(words))
}

/// What suites on real parts need.
fn prepare_real() -> Result<()> {
    tools::install()?;
    report::long_step(
        "static binaries",
        "some minutes the first time",
        images::build_binaries,
    )
}

/// The command that runs a suite on real parts.
fn real_test(suite: &str) -> Result<Command> {
    let mut test = programs::cargo_static("test");
    test.args(["--workspace", "--test", suite]);
    // Test binaries cannot become the guardian of their world; this one can.
    test.env("MULTIACTIVE_XTASK", std::env::current_exe()?);
    Ok(test)
}

/// All that the engines' suite runs. What is compiled while tests run takes the cores from arbiters
/// that have deadlines to keep.
fn prepare_engines() -> Result<()> {
    prepare_real()?;
    let mut build = real_test("engines")?;
    report::step("building the suite", || {
        shell::run_visible(build.arg("--no-run"))?;
        programs::writer_with_failpoints_static()
    })
}

/// The part of the engines' suite that compares and mends copies.
fn repair() -> Result<()> {
    prepare_engines()?;
    let mut test = real_test("engines")?;
    test.args(["--", "--test-threads=1", "repair::"]);
    report::step("suite repair", || shell::run_visible(&mut test))
}

/// The suite with the most tests. Those of one world take turns at it and mostly wait for disks
/// and clocks, so two worlds at a time keep two cores busy; with more of them arbiters would miss
/// their deadlines for want of a core. The halves take about the same time.
fn engines() -> Result<()> {
    const FIRST: [&str; 5] = [
        "apply::",
        "read::",
        "control::",
        "matrix::",
        "repair::rebuilds_",
    ];
    prepare_engines()?;
    let (mut first, mut rest) = (real_test("engines")?, real_test("engines")?);
    first.args(["--", "--test-threads=1"]).args(FIRST);
    rest.args(["--", "--test-threads=1"]);
    for module in FIRST {
        rest.args(["--skip", module]);
    }
    // Shown once it has ended: two reports that are written at once cannot be read.
    let log = paths::target().join("engines.log");
    report::step("suite engines", || {
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| shell::run_logged(&mut rest, &log));
            let first = shell::run_visible(&mut first);
            let rest = beside.join();
            eprint!("{}", std::fs::read_to_string(&log)?);
            match rest {
                Ok(rest) => first.and(rest),
                Err(_) => bail!("running the tests panicked; what it said is above"),
            }
        })
    })
}
