//! A load that is not ours: sysbench, in the network of a data centre, as the application.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::database::{Database, Engine, SCHEMA};
use crate::sandbox::{PartSpec, Sandbox, Signal};

/// What is run: one of sysbench's scripts over its own tables `sbtest1` and following.
#[derive(Clone, Copy, Debug)]
pub struct LoadSpec {
    /// The script.
    pub script: &'static str,
    /// The schema with the tables; the application may use it.
    pub schema: &'static str,
    /// Tables.
    pub tables: u32,
    /// Rows in each.
    pub rows: u32,
    /// Connections.
    pub threads: u32,
    /// Transactions a second in total; 0 for as many as possible.
    pub rate: u32,
    /// The longest it may run, in seconds, if nobody stops it.
    pub seconds: u32,
    /// It ends by itself after so many transactions; 0 for never.
    pub events: u32,
}

impl LoadSpec {
    /// A small one.
    pub const USUAL: Self = Self {
        script: "oltp_write_only",
        schema: SCHEMA,
        tables: 2,
        rows: 1000,
        threads: 4,
        rate: 0,
        seconds: 3600,
        events: 0,
    };
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self::USUAL
    }
}

/// A load that runs in the background, until it is stopped or this value is dropped.
pub struct Load<'a> {
    sandbox: &'a Sandbox,
    name: String,
    stopped: bool,
}

/// What a load has done, summed over sysbench's one-second reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Seconds that were reported on.
    pub seconds: u32,
    /// Transactions that were committed, to within sysbench's rounding.
    pub transactions: f64,
    /// Transactions that failed with an error and were tried again.
    pub errors: f64,
    /// Times that the load lost its connections and was started again.
    pub restarts: u32,
}

/// Creates and fills the tables. The server must take writes.
pub(crate) fn prepare(sandbox: &Sandbox, run: &Path, at: &Database, spec: LoadSpec) -> Result<()> {
    let directory = keys(run, at)?;
    let part = part(at, spec, &at.idc, "prepare").in_directory(directory);
    sandbox.check(part).map(drop)
}

/// Runs the load against `at`, from its own network, until it has committed the transactions that
/// `spec` asks for.
pub(crate) fn run(sandbox: &Sandbox, run: &Path, at: &Database, spec: LoadSpec) -> Result<()> {
    if spec.events == 0 {
        bail!("a load without a number of transactions has no end");
    }
    let directory = keys(run, at)?;
    let part = part(at, spec, &at.idc, "run").in_directory(directory);
    let limit = Duration::from_secs(spec.seconds.into());
    let finished = sandbox.run(part, "", limit)?;
    if finished.code != Some(0) {
        bail!(
            "sysbench did not commit {} transactions in {limit:?}: {}{}",
            spec.events,
            finished.stdout,
            finished.stderr
        );
    }
    Ok(())
}

/// Starts the load against `at` from the network of the data centre `from`.
pub(crate) fn start<'a>(
    sandbox: &'a Sandbox,
    run: &Path,
    at: &Database,
    from: &str,
    spec: LoadSpec,
) -> Result<Load<'a>> {
    let directory = keys(run, at)?;
    let name = format!("load-{from}-{}", at.idc);
    // Each load of this name has a log of its own, which is its report.
    drop(fs::remove_file(sandbox.log(&name)));
    let mut part = part(at, spec, from, "run").in_directory(directory);
    let mut argv = ["sh", "-c", AGAIN].map(str::to_owned).to_vec();
    argv.push(spec.seconds.to_string());
    argv.append(&mut part.argv);
    part.argv = argv;
    sandbox.spawn(&name, part)?;
    Ok(Load {
        sandbox,
        name,
        stopped: false,
    })
}

/// sysbench 1.0 on MariaDB's client library crashes when it connects again after a lost connection.
/// An application would go on, so it is started again. Arguments: $0 seconds, then the command.
const AGAIN: &str = "\
    ulimit -c 0; end=$(($(date +%s) + $0)); \
    while [ $(date +%s) -lt $end ]; do \"$@\"; echo \"sysbench ended: $?\"; sleep 0.2; done";

/// MySQL's accounts need TLS, for which sysbench wants three files of fixed names where it runs.
fn keys(run: &Path, at: &Database) -> Result<std::path::PathBuf> {
    let directory = run.join("database").join(&at.idc).join("sysbench");
    fs::create_dir_all(&directory)?;
    if at.engine == Engine::MySql {
        let data = run.join("database").join(&at.idc).join("data");
        let files = [
            ("ca.pem", "cacert.pem"),
            ("client-cert.pem", "client-cert.pem"),
            ("client-key.pem", "client-key.pem"),
        ];
        for (theirs, its) in files {
            fs::copy(data.join(theirs), directory.join(its))
                .with_context(|| format!("{} has made no {theirs}", at.engine.name()))?;
        }
    }
    Ok(directory)
}

fn part(at: &Database, spec: LoadSpec, from: &str, command: &str) -> PartSpec {
    let mut words = vec![
        "sysbench".to_owned(),
        spec.script.to_owned(),
        "--db-driver=mysql".to_owned(),
        format!("--mysql-host={}", at.host),
        format!("--mysql-port={}", at.port),
        format!("--mysql-user={}", at.app_user),
        format!("--mysql-password={}", at.app_password),
        format!("--mysql-db={}", spec.schema),
        // What a fence does to an application is no reason to end: it tries again.
        "--mysql-ignore-errors=all".to_owned(),
        // Servers of several members generate keys with gaps.
        "--auto-inc=off".to_owned(),
        format!("--tables={}", spec.tables),
        format!("--table-size={}", spec.rows),
        format!("--threads={}", spec.threads),
        format!("--rate={}", spec.rate),
        format!("--time={}", spec.seconds),
        format!("--events={}", spec.events),
        "--report-interval=1".to_owned(),
    ];
    if at.engine == Engine::MySql {
        words.push("--mysql-ssl=on".to_owned());
    }
    words.push(command.to_owned());
    PartSpec::new(words).in_netns(from)
}

impl Load<'_> {
    /// What it has done so far.
    pub fn report(&self) -> Result<LoadReport> {
        let log = self.sandbox.log(&self.name);
        let text = fs::read_to_string(&log)
            .with_context(|| format!("no report of the load at {}", log.display()))?;
        let report = parse(&text);
        if report.seconds == 0
            && report.restarts > 1
            && let Some(line) = text.lines().find(|line| line.starts_with("FATAL"))
        {
            bail!(
                "the load {} has failed: {line}; see {}",
                self.name,
                log.display()
            );
        }
        Ok(report)
    }

    /// Fails if the load has ended by itself.
    pub fn check_running(&self) -> Result<()> {
        self.sandbox.check_running(&self.name)
    }

    /// Ends it and says what it has done.
    pub fn stop(mut self) -> Result<LoadReport> {
        self.end()?;
        self.report()
    }

    fn end(&mut self) -> Result<()> {
        self.stopped = true;
        self.sandbox
            .signal(&self.name, Signal::Kill, Duration::from_secs(10))
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if !self.stopped {
            // If the world is gone, so is the load.
            drop(self.end());
        }
    }
}

fn parse(log: &str) -> LoadReport {
    let restarts = log
        .lines()
        .filter(|line| line.starts_with("sysbench ended:"))
        .count();
    let restarts = u32::try_from(restarts).unwrap_or(u32::MAX);
    let mut report = LoadReport {
        restarts,
        ..LoadReport::default()
    };
    for line in log.lines().filter(|line| line.starts_with("[ ")) {
        let after = |label: &str| {
            let (_, rest) = line.split_once(label)?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        };
        if let (Some(tps), Some(errors)) = (after(" tps: "), after("err/s: ")) {
            report.seconds += 1;
            report.transactions += tps;
            report.errors += errors;
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::{LoadReport, parse};

    #[test]
    fn the_reports_of_each_second_are_summed() {
        let log = "Threads started!\n\n\
            [ 1s ] thds: 4 tps: 100.50 qps: 603.00 (r/w/o: 0.00/402.00/201.00) lat (ms,95%): 9.0 \
            err/s: 1.00 reconn/s: 0.00\n\
            [ 2s ] thds: 4 tps: 99.50 qps: 603.00 (r/w/o: 0.00/402.00/201.00) lat (ms,95%): 9.0 \
            err/s: 2.00 reconn/s: 3.00\n\
            sysbench ended: 139\n";
        let expected = LoadReport {
            seconds: 2,
            transactions: 200.0,
            errors: 3.0,
            restarts: 1,
        };
        assert_eq!(parse(log), expected);
    }
}
