//! What the owner and the agent say to each other: one JSON document a line, one request a
//! connection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A program to run in the sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PartSpec {
    /// The network namespace below the sandbox's own, or the sandbox's own.
    pub netns: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the agent's environment.
    pub env: Vec<(String, String)>,
    /// Where it runs; the agent's own directory if not given.
    pub cwd: Option<PathBuf>,
}

impl PartSpec {
    /// A program with arguments, in the sandbox's own network namespace.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same in the network namespace of a data centre.
    #[must_use]
    pub fn in_netns(mut self, netns: &str) -> Self {
        self.netns = Some(netns.to_owned());
        self
    }

    /// The same in another directory.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cwd = Some(directory.into());
        self
    }
}

/// The signals that tests send to parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// Asks to end.
    Terminate,
    /// Ends at once, as a crash does.
    Kill,
    /// Freezes.
    Stop,
    /// Thaws.
    Continue,
}

/// What the agent knows of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// Its process id inside the sandbox.
    pub pid: u32,
    /// How it ended, if it did.
    pub ended: Option<String>,
}

impl PartState {
    /// True while the process exists, frozen or not.
    pub fn running(&self) -> bool {
        self.ended.is_none()
    }
}

/// The result of a command that was run to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The exit code, or none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Defines a part and starts it; its output is appended to `log`.
    Spawn {
        name: String,
        spec: PartSpec,
        log: PathBuf,
    },
    /// Starts a part again that has ended.
    Start { name: String },
    /// Sends a signal to a part and, for those that end it, waits until it has ended.
    Signal {
        name: String,
        signal: Signal,
        wait_ms: u64,
    },
    /// Says how all parts are.
    States,
    /// Runs a command to its end.
    Run {
        spec: PartSpec,
        stdin: String,
        limit_ms: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    States(BTreeMap<String, PartState>),
    Finished(Finished),
    Failed(String),
}
