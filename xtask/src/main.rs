//! Developer commands: `cargo xtask`.

mod cluster;
mod demo;
mod suites;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask COMMAND

  tools                install or build every tool that the rest needs, once (target/tools)
  images               build the processes as static binaries and container images (target/images)
  cluster up           start a local world: Kubernetes, etcd in three IDCs, databases in two
      --engine E         mariadb (default), mysql, or mixed (MySQL in sh, MariaDB in bj)
      --no-databases     without database servers
      --no-kubernetes    without the Kubernetes cluster
      --name NAME        a second world beside the first (default: local)
  cluster down         end it; --name as above
  cluster env          print the lines that set KUBECONFIG, ETCD and PATH for a shell
  codegen [--check]    write the generated files, or fail if they are not up to date
  test [SUITE]         unit, model, harness, engines, partition, cluster, way, or all (default);
                       repair: of engines, what compares and mends copies
  soak                 trials with faults drawn from a seed, while applications write on every side
      --trials N         how many (default: 36)
      --seed S           the seed of the first; each further one has the next number (default: 1)
      --engine E         mariadb, mysql, mixed, three (copies), or all (default), one after the other
      --fault KIND       this kind only (default: all in turn)
      --json FILE        the table and every trial, for machines
      --binaries DIR     programs from elsewhere, not the static build
      --no-standby       one arbiter in each IDC, not two
      --ask              manual failover, asked for by the trial where the primary is gone
  fuzz                 damaged binlogs and packets, seeds from one on
      --seconds N        for so long, each of both (default: 60)
      --seed S           the first seed (default: 1)
  bench                the data plane's speed beside that of the server's own replication
      --only NAME[,NAME] these works only: bulk, oltp, lag, syncer, large
      --engine E         mariadb, mysql, or all (default), one after the other
      --rounds N         how often each work is done by both (default: 3)
      --scale PART       the part of the full sizes that is done, to try it (default: 1)
      --json FILE        the table for machines
      --binaries DIR     programs from elsewhere, not the static build
  demo                 the product at work, from nothing
      --engine E         mariadb (default), mysql, or mixed (MySQL in sh, MariaDB in bj)
      --keep             leave it running
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.first() == Some(&harness::sandbox::SUBCOMMAND) {
        return code(harness::sandbox::main(&arguments[1..]));
    }
    let started = Instant::now();
    let result = run(&words);
    if result.is_ok() && !words.is_empty() && words != ["cluster", "env"] {
        harness::report::line(
            started.elapsed(),
            &format!("in all: cargo xtask {}", words.join(" ")),
        );
    }
    code(result)
}

fn code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        ["tools"] => harness::tools::install(),
        ["images"] => suites::images(),
        ["cluster", "up", options @ ..] => cluster::up(options),
        ["cluster", "down", options @ ..] => cluster::down(options),
        ["cluster", "env", options @ ..] => cluster::environment(options),
        ["codegen"] => suites::codegen(false),
        ["codegen", "--check"] => suites::codegen(true),
        ["test"] => suites::test("all"),
        ["test", suite] => suites::test(suite),
        ["soak", options @ ..] => suites::program("partition", options),
        ["fuzz", options @ ..] => suites::fuzz(options),
        ["bench", options @ ..] => suites::program("bench", options),
        ["demo", options @ ..] => demo::run(options),
        _ => bail!("no such command: {}\n\n{USAGE}", words.join(" ")),
    }
}
