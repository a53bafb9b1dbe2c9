//! Running other programs, with errors that say which command failed and how it ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How much of a log goes into an error message.
const TAIL_LINES: usize = 25;

/// A command line as a person would type it.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Runs to the end with captured output; anything but success is an error holding that output.
pub fn output(command: &mut Command) -> Result<Output> {
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    check(command, result)
}

/// Like [`output`], as text without the last newline.
pub fn text(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Like [`output`], for its effect only.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs with `input` on standard input, and returns the standard output as text.
pub fn text_with_input(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    // Written by a thread of its own: both sides may fill their pipes.
    let pipe = child.stdin.take();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
    let result = child.wait_with_output()?;
    // A program that fails early closes its input; its own message is the better one.
    drop(writer.join());
    let output = check(command, result)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs with the terminal's own output, for commands whose progress a person follows.
pub fn run_visible(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs with both outputs in `log`; the error holds the log's tail and its path.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !status.success() {
        bail!(
            "`{}` ended with {status}; the end of {}:\n{}",
            describe(command),
            log.display(),
            tail(log)
        );
    }
    Ok(())
}

/// The last lines of a log, or why there are none.
pub fn tail(log: &Path) -> String {
    let Ok(bytes) = fs::read(log) else {
        return format!("(no log at {})", log.display());
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// An error that waiting cannot mend: [`poll`] gives up at once when it sees one.
#[derive(Debug)]
pub struct Final(pub String);

impl std::fmt::Display for Final {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Final {}

/// Calls `probe` until it succeeds or `limit` has passed; the error is the last one seen.
pub fn poll<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match probe() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if error.is::<Final>() {
            return Err(error.context(format!("{what}: never")));
        }
        if Instant::now() >= deadline {
            return Err(error.context(format!("{what}: not so after {} s", limit.as_secs())));
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// True if a program of this name is on the PATH or in one of the system's directories.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

/// A command for `program` with `arguments`, so that call sites read as one line.
pub fn command<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn check(command: &Command, result: Output) -> Result<Output> {
    if result.status.success() {
        return Ok(result);
    }
    let mut said = String::from_utf8_lossy(&result.stderr).trim().to_owned();
    if said.is_empty() {
        String::from_utf8_lossy(&result.stdout)
            .trim()
            .clone_into(&mut said);
    }
    bail!(
        "`{}` ended with {}: {said}",
        describe(command),
        result.status
    );
}
