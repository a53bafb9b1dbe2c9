//! The guardian: outlives its owner for as long as it takes to end the sandbox and to clear away
//! the little that the kernel keeps of it (directories of control groups, files).

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::shell;

/// What the owner writes to make the sandbox outlive it.
pub(super) const KEEP: &[u8] = b"k";
const FILE: &str = "guardian.json";
/// Holds the name of the host's link into the sandbox.
pub const LINK: &str = "link";
/// Subdirectories of a run that are worth nothing once its processes are gone.
const BULK: [&str; 7] = [
    "containerd",
    "kubelet",
    "etcd",
    "etcd-saved",
    "database",
    "var-log",
    "certificates",
];

/// A process, told from a later one with the same id by the time it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: u32,
    /// In clock ticks since boot, field 22 of /proc/PID/stat.
    started: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    guardian: Identity,
    /// The process that ends when the last one of the sandbox has ended.
    sandbox: Identity,
    /// The sandbox's first process.
    init: Identity,
}

impl Identity {
    fn of(pid: u32) -> Option<Self> {
        let (_, started) = parent_and_start(pid)?;
        Some(Self { pid, started })
    }

    fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

pub(super) fn main(run: &Path) -> Result<()> {
    // Out of the owner's session: ^C and a closing terminal are meant for the owner, whose end the
    // pipe tells.
    rustix::process::setsid().context("cannot leave the session of the owner")?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(run.join("guardian.log"))?;
    let mut sandbox = Command::new("unshare")
        .args(["--net", "--pid", "--mount", "--ipc", "--uts"])
        .args(["--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args([super::SUBCOMMAND, "init"])
        .arg(run)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start `unshare` (is util-linux installed, is this root?)")?;
    let init = shell::poll(
        "the sandbox's first process",
        Duration::from_secs(10),
        || {
            if let Some(status) = sandbox.try_wait()? {
                bail!(
                    "unshare ended with {status}: {}",
                    shell::tail(&run.join("guardian.log"))
                );
            }
            child_of(sandbox.id()).context("unshare has not forked yet")
        },
    )?;
    record(run, sandbox.id(), init)?;

    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(wait_for_owner()));
    loop {
        if sandbox.try_wait()?.is_some() {
            break;
        }
        match receive.recv_timeout(Duration::from_millis(100)) {
            Ok(Keep::No) => {
                // init reads the other end, and takes the namespace with it.
                drop(sandbox.stdin.take());
                end(&mut sandbox)?;
                break;
            }
            // Kept: from now on only the sandbox's own end, or a signal, ends the guardian.
            Ok(Keep::Yes) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    unlink(run);
    sweep_run(run);
    Ok(())
}

/// Removes the host's link into a sandbox that has just ended. The kernel does it as well, when it
/// gets round to freeing the namespace at the other end.
fn unlink(run: &Path) {
    if let Ok(name) = fs::read_to_string(run.join(LINK)) {
        drop(shell::run(&mut shell::command(
            "ip",
            ["link", "del", name.trim()],
        )));
    }
}

enum Keep {
    Yes,
    No,
}

fn wait_for_owner() -> Keep {
    let mut byte = [0_u8; 1];
    match std::io::stdin().read(&mut byte) {
        Ok(1) if byte == KEEP => Keep::Yes,
        _ => Keep::No,
    }
}

fn end(sandbox: &mut std::process::Child) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while sandbox.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            sandbox.kill()?;
            sandbox.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn record(run: &Path, sandbox: u32, init: u32) -> Result<()> {
    let identity = |pid| Identity::of(pid).with_context(|| format!("process {pid} is gone"));
    let record = Record {
        guardian: identity(std::process::id())?,
        sandbox: identity(sandbox)?,
        init: identity(init)?,
    };
    // Renamed into place, so that a reader never sees half of it.
    let part = run.join("guardian.json.part");
    File::create(&part)?.write_all(serde_json::to_string(&record)?.as_bytes())?;
    fs::rename(part, run.join(FILE))?;
    Ok(())
}

fn read_record(run: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(run.join(FILE)).ok()?).ok()
}

/// The host's process id of the sandbox's first process, once the guardian has started it.
pub(super) fn init_process(run: &Path) -> Option<u32> {
    read_record(run).map(|record| record.init.pid)
}

/// True if a sandbox of an earlier command still runs in this directory.
pub fn alive(run: &Path) -> bool {
    read_record(run).is_some_and(|record| record.guardian.alive() || record.sandbox.alive())
}

/// Ends a kept sandbox. The processes are those recorded, or, if their ids have gone to others
/// since, none. Returns false if there was nothing to end.
pub fn end_kept(run: &Path) -> Result<bool> {
    let Some(record) = read_record(run) else {
        return Ok(false);
    };
    let lived = record.guardian.alive() || record.sandbox.alive();
    for process in [record.guardian, record.sandbox] {
        if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw)
            && process.alive()
        {
            // Its pipe to init closes with it, which ends the namespace.
            kill_process(pid, Signal::KILL)
                .with_context(|| format!("cannot end process {}", process.pid))?;
        }
    }
    shell::poll(
        "all processes of the sandbox gone",
        Duration::from_secs(20),
        || {
            if record.sandbox.alive() || record.init.alive() {
                bail!(
                    "process {} or {} still runs",
                    record.sandbox.pid,
                    record.init.pid
                );
            }
            Ok(())
        },
    )?;
    unlink(run);
    sweep_run(run);
    Ok(lived)
}

/// The right to start a sandbox in this directory, or to clear it; held by the value returned.
/// Waits for whoever has it, and for the guardian of a sandbox that has just ended.
pub fn claim(run: &Path) -> Result<File> {
    let file = lock_file(run)?;
    file.lock()?;
    shell::poll(
        "the last world's guardian done",
        Duration::from_secs(30),
        || match read_record(run) {
            Some(record) if record.guardian.alive() && !record.sandbox.alive() => {
                bail!("process {} is clearing up", record.guardian.pid)
            }
            _ => Ok(()),
        },
    )?;
    Ok(file)
}

fn lock_file(run: &Path) -> Result<File> {
    let path = run.with_extension("lock");
    File::create(&path).with_context(|| format!("cannot open {}", path.display()))
}

/// Clears away what dead sandboxes under `runs` have left. Logs stay until their run's name is used
/// again.
pub fn sweep_dead(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let run = entry.path();
        // One that is being started looks dead until its guardian has written who it is.
        if run.is_dir()
            && let Ok(lock) = lock_file(&run)
            && lock.try_lock().is_ok()
            && !alive(&run)
        {
            sweep_run(&run);
        }
    }
}

/// Clears away the files and control groups of one run whose processes are gone.
pub fn sweep_run(run: &Path) {
    // What cannot be removed now is removed by the next start: this is tidiness, not safety.
    remove_groups(run);
    for directory in BULK {
        drop(fs::remove_dir_all(run.join(directory)));
    }
    for file in [FILE, LINK, "control.sock"] {
        drop(fs::remove_file(run.join(file)));
    }
}

/// Removes the control groups of the run's containers. containerd puts them all in one directory
/// named for its namespace, each under the container's id, whichever world it is of.
fn remove_groups(run: &Path) {
    let state = run.join("containerd").join("io.containerd.grpc.v1.cri");
    let ids: Vec<_> = ["sandboxes", "containers"]
        .iter()
        .flat_map(|kind| {
            fs::read_dir(state.join(kind))
                .into_iter()
                .flatten()
                .flatten()
        })
        .map(|entry| entry.file_name())
        .collect();
    if ids.is_empty() {
        return;
    }
    // Version 2 has one hierarchy, version 1 one a controller.
    let root = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![root.to_path_buf()];
    hierarchies.extend(
        fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path()),
    );
    for hierarchy in hierarchies {
        let all = hierarchy.join("k8s.io");
        for id in &ids {
            remove_group(&all.join(id));
        }
        // Succeeds only if no other world has a container.
        drop(fs::remove_dir(&all));
    }
}

/// A control group's files vanish with it, and cannot be removed one by one.
fn remove_group(top: &Path) {
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    drop(fs::remove_dir(top));
}

fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|pid| parent_and_start(*pid).is_some_and(|(of, _)| of == parent))
}

fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, which may hold spaces and brackets itself.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if *fields.first()? == "Z" {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}
