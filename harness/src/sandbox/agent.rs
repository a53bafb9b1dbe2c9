//! The agent: starts, signals and watches parts inside the sandbox.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, kill_process_group};

use super::protocol::{Finished, PartSpec, PartState, Reply, Request, Signal};
use super::socket;

struct Part {
    spec: PartSpec,
    log: PathBuf,
    child: Child,
}

type Parts = Arc<Mutex<BTreeMap<String, Part>>>;

pub(super) fn main(run: &Path) -> Result<()> {
    let listener = socket::listen(run)?;
    let parts = Parts::default();
    for stream in listener.incoming() {
        let (stream, parts) = (stream?, Arc::clone(&parts));
        std::thread::spawn(move || {
            // The owner sees a closed connection; the agent's own log says why.
            if let Err(error) = serve(&stream, &parts) {
                eprintln!("request failed: {error:#}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: &UnixStream, parts: &Parts) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line).context("cannot read the request")?;
    let reply = answer(request, parts).unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    Ok(())
}

fn answer(request: Request, parts: &Parts) -> Result<Reply> {
    match request {
        Request::Spawn { name, spec, log } => {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(part) = parts.get_mut(&name)
                && part.child.try_wait()?.is_none()
            {
                bail!(
                    "part {name} is running already, as process {}",
                    part.child.id()
                );
            }
            let child = spawn(&spec, &log).with_context(|| format!("cannot start part {name}"))?;
            parts.insert(name, Part { spec, log, child });
            Ok(Reply::Done)
        }
        Request::Start { name } => {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            let part = known(&mut parts, &name)?;
            if part.child.try_wait()?.is_some() {
                part.child = spawn(&part.spec, &part.log)?;
            }
            Ok(Reply::Done)
        }
        Request::Signal {
            name,
            signal,
            wait_ms,
        } => {
            send(parts, &name, signal, Duration::from_millis(wait_ms))?;
            Ok(Reply::Done)
        }
        Request::States => {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            let mut states = BTreeMap::new();
            for (name, part) in parts.iter_mut() {
                let ended = part.child.try_wait()?.map(|status| status.to_string());
                states.insert(
                    name.clone(),
                    PartState {
                        pid: part.child.id(),
                        ended,
                    },
                );
            }
            Ok(Reply::States(states))
        }
        Request::Run {
            spec,
            stdin,
            limit_ms,
        } => run(&spec, &stdin, Duration::from_millis(limit_ms)).map(Reply::Finished),
    }
}

fn known<'a>(parts: &'a mut BTreeMap<String, Part>, name: &str) -> Result<&'a mut Part> {
    let names: Vec<String> = parts.keys().cloned().collect();
    parts
        .get_mut(name)
        .ok_or_else(|| anyhow!("there is no part {name}; there are: {}", names.join(", ")))
}

fn command(spec: &PartSpec) -> Result<Command> {
    let (program, arguments) = spec.argv.split_first().context("an empty command line")?;
    // nsenter replaces itself by the program, so that its process id is the program's.
    let mut command = match &spec.netns {
        Some(netns) => {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net=/run/netns/{netns}"))
                .arg("--")
                .arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(arguments)
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    Ok(command)
}

fn spawn(spec: &PartSpec, log: &Path) -> Result<Child> {
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    command(spec)?
        // A part may be a script: a signal is for all of it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start `{}`", spec.argv.join(" ")))
}

fn send(parts: &Parts, name: &str, signal: Signal, wait: Duration) -> Result<()> {
    let signalled = {
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = known(&mut parts, name)?;
        if let Some(status) = part.child.try_wait()? {
            if matches!(signal, Signal::Terminate | Signal::Kill) {
                return Ok(());
            }
            bail!("part {name} is not running ({status}): start it first");
        }
        // The child has not been waited for, so its id cannot have gone to another process.
        let pid = i32::try_from(part.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("part {name} has no process id"))?;
        kill_process_group(pid, number(signal))
            .with_context(|| format!("cannot signal part {name}"))?;
        part.child.id()
    };
    if matches!(signal, Signal::Stop | Signal::Continue) {
        return Ok(());
    }
    let deadline = Instant::now() + wait;
    loop {
        {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            let child = &mut known(&mut parts, name)?.child;
            // Somebody may have started it again already, as another process.
            if child.id() != signalled || child.try_wait()?.is_some() {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            bail!(
                "part {name} still runs {} ms after {signal:?}",
                wait.as_millis()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn number(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    }
}

fn run(spec: &PartSpec, stdin: &str, limit: Duration) -> Result<Finished> {
    let mut child = command(spec)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", spec.argv.join(" ")))?;
    let input = child.stdin.take();
    let stdin = stdin.to_owned();
    // A program that does not read its input closes the pipe, which is no error of ours.
    std::thread::spawn(move || input.map(|mut pipe| pipe.write_all(stdin.as_bytes())));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!(
                "`{}` was ended after {} s",
                spec.argv.join(" "),
                limit.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let text = |handle: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&handle.join().unwrap_or_default()).into_owned()
    };
    let mut stderr = text(stderr);
    if let Some(signal) = status.signal() {
        stderr.push_str(&format!("\n(ended by signal {signal})"));
    }
    Ok(Finished {
        code: status.code(),
        stdout: text(stdout),
        stderr,
    })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}
