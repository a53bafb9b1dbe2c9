//! The owner's side of a sandbox.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::protocol::{Finished, PartSpec, PartState, Reply, Request, Signal};
use super::{guardian, socket};
use crate::{paths, programs, shell};

/// How long a command in the sandbox may take if nothing else is said.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A running sandbox: owned, and then it ends with this value, or attached to.
pub struct Sandbox {
    run: PathBuf,
    owned: Option<Owned>,
}

struct Owned {
    guardian: Child,
    pipe: Option<ChildStdin>,
}

impl Sandbox {
    /// Starts a sandbox whose files are in `run`, which must not hold a living one
    /// (see [`super::alive`]).
    pub fn start(run: &Path) -> Result<Self> {
        let log = File::create(run.join("guardian.log"))?;
        let mut guardian = Command::new(supervisor()?)
            .args([super::SUBCOMMAND, "guardian"])
            .arg(run)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the world's guardian")?;
        let pipe = guardian.stdin.take();
        let mut sandbox = Self {
            run: run.to_path_buf(),
            owned: Some(Owned { guardian, pipe }),
        };
        shell::poll("the world's agent answers", Duration::from_secs(15), || {
            let log = run.join("guardian.log");
            if let Some(owned) = &mut sandbox.owned
                && let Some(status) = owned.guardian.try_wait()?
            {
                bail!("the guardian ended with {status}: {}", shell::tail(&log));
            }
            // The agent may be quicker than the guardian's note of who is first.
            sandbox.init_process()?;
            sandbox
                .states()
                .map(drop)
                .with_context(|| shell::tail(&log))
        })?;
        Ok(sandbox)
    }

    /// Speaks to a sandbox that another process has started.
    pub fn attach(run: &Path) -> Result<Self> {
        let sandbox = Self {
            run: run.to_path_buf(),
            owned: None,
        };
        sandbox.states()?;
        Ok(sandbox)
    }

    /// Lets the sandbox outlive this process.
    pub fn keep(&mut self) -> Result<()> {
        if let Some(mut owned) = self.owned.take()
            && let Some(pipe) = &mut owned.pipe
        {
            pipe.write_all(guardian::KEEP)
                .context("the world's guardian is gone")?;
        }
        Ok(())
    }

    /// The sandbox's first process, as the host counts it.
    pub fn init_process(&self) -> Result<u32> {
        guardian::init_process(&self.run).context("the guardian has recorded no first process")
    }

    /// Where the log of a part is.
    pub fn log(&self, name: &str) -> PathBuf {
        self.run.join("logs").join(format!("{name}.log"))
    }

    /// Defines a part and starts it in the background.
    pub fn spawn(&self, name: &str, spec: PartSpec) -> Result<()> {
        self.done(&Request::Spawn {
            name: name.to_owned(),
            spec,
            log: self.log(name),
        })
    }

    /// Starts a part again; nothing happens if it runs.
    pub fn start_part(&self, name: &str) -> Result<()> {
        self.done(&Request::Start {
            name: name.to_owned(),
        })
    }

    /// Signals a part. For those signals that end it, waits until it has ended.
    pub fn signal(&self, name: &str, signal: Signal, wait: Duration) -> Result<()> {
        let wait_ms = u64::try_from(wait.as_millis())?;
        self.done(&Request::Signal {
            name: name.to_owned(),
            signal,
            wait_ms,
        })
    }

    /// How all parts are.
    pub fn states(&self) -> Result<BTreeMap<String, PartState>> {
        match self.ask(&Request::States)? {
            Reply::States(states) => Ok(states),
            other => bail!("an answer to another question: {other:?}"),
        }
    }

    /// Fails, with the end of its log, if a part has ended.
    pub fn check_running(&self, name: &str) -> Result<()> {
        if let Some(ended) = self
            .states()?
            .get(name)
            .and_then(|state| state.ended.clone())
        {
            let log = self.log(name);
            let tail = shell::tail(&log);
            let said = format!("{name} has ended ({ended}); {}:\n{tail}", log.display());
            return Err(shell::Final(said).into());
        }
        Ok(())
    }

    /// Runs a command to its end and returns whatever came of it.
    pub fn run(&self, spec: PartSpec, stdin: &str, limit: Duration) -> Result<Finished> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        let request = Request::Run {
            spec,
            stdin: stdin.to_owned(),
            limit_ms,
        };
        match self.ask(&request)? {
            Reply::Finished(finished) => Ok(finished),
            other => bail!("an answer to another question: {other:?}"),
        }
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn check(&self, spec: PartSpec) -> Result<String> {
        self.check_with_input(spec, "")
    }

    /// The same with something on its standard input.
    pub fn check_with_input(&self, spec: PartSpec, stdin: &str) -> Result<String> {
        let line = spec.argv.join(" ");
        let finished = self.run(spec, stdin, RUN_LIMIT)?;
        if finished.code != Some(0) {
            let code = finished
                .code
                .map_or("a signal".to_owned(), |code| format!("code {code}"));
            bail!(
                "`{line}` ended with {code}: {}{}",
                finished.stdout,
                finished.stderr.trim()
            );
        }
        Ok(finished.stdout)
    }

    fn done(&self, request: &Request) -> Result<()> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => bail!("an answer to another question: {other:?}"),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        let mut stream = socket::connect(&self.run)?;
        let mut text = serde_json::to_string(request)?;
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(Reply::Failed(error)) => bail!("{error}"),
            Ok(reply) => Ok(reply),
            Err(_) => bail!("the world's agent closed the connection: is the world down?"),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(mut owned) = self.owned.take() {
            drop(owned.pipe.take());
            // The guardian clears up and ends; there is nobody left to tell if it does not.
            drop(owned.guardian.wait());
        }
    }
}

/// The binary that can become the guardian. Test binaries cannot, so it is always xtask: named by
/// `MULTIACTIVE_XTASK` if `cargo xtask` runs the tests, else built here.
fn supervisor() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MULTIACTIVE_XTASK") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    if own.file_stem().is_some_and(|name| name == "xtask") {
        return Ok(own);
    }
    shell::run(&mut programs::cargo(&[
        "build",
        "--quiet",
        "--package",
        "xtask",
    ]))?;
    let built = paths::target().join("debug").join("xtask");
    fs::metadata(&built).with_context(|| format!("no {} after its build", built.display()))?;
    Ok(built)
}
