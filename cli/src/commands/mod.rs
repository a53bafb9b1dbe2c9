//! The commands: reading, asking and printing around the pure functions.

mod ack;
mod conflicts;
mod databases;
mod evacuate;
mod fence;
mod history;
mod link;
mod pause;
mod preflight;
mod repair;
mod status;
mod stranded;
mod transition;
mod uninstall;
mod version;

use std::io::Write;
use std::process::ExitCode;

use clap::FromArgMatches;
use model::{Order, UnitKey};

use crate::args::{self, Cli, Command, EtcdArgs, KubeArgs, Output};
use crate::failure::{Exit, Failure};
use crate::invocation::Invocation;
use crate::names::UnitArg;
use crate::terminal::Paint;
use crate::{reference, render};
pub(crate) use conflicts::ListedConflict;
pub(crate) use link::{LedgerReport, LinkReport};
pub(crate) use stranded::{Listed, ReplayReport};

/// What every command needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// How to write commands that people can type.
    pub call: Invocation,
    /// How the Kubernetes API is reached.
    pub kube: KubeArgs,
    /// Colours of standard output.
    pub out: Paint,
    /// Colours of standard error.
    pub err: Paint,
}

impl Context {
    fn new(program: &str, kube: KubeArgs, etcd: Option<&EtcdArgs>) -> Self {
        let call = Invocation::new(program, &kube, etcd);
        Self {
            call,
            kube,
            out: Paint::for_stdout(),
            err: Paint::for_stderr(),
        }
    }
}

/// Runs the command line and answers with the process's exit code.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = arguments.into_iter().collect();
    let program = args::program_name(arguments.first().map(AsRef::as_ref));
    let parsed = args::command(program)
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help is no error; clap prints either to where it belongs and knows the exit code.
            let _printed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    match run(program, cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            let paint = Paint::for_stderr();
            let _written = write!(std::io::stderr(), "{}", explained(&failure, paint));
            ExitCode::from(failure.exit.code())
        }
    }
}

/// The failure as it is printed.
fn explained(failure: &Failure, paint: Paint) -> String {
    let word = match failure.exit {
        Exit::Refused => paint.bad("refused:"),
        Exit::StillUnderWay => paint.warn("still under way:"),
        _ => paint.bad("error:"),
    };
    let mut text = format!("{word} {}: {}\n", failure.tried, failure.returned);
    for step in &failure.next {
        text.push_str(&render::next_step(step, "  ", paint));
    }
    text
}

fn run(program: &str, cli: Cli) -> Result<Exit, Failure> {
    let Cli { kube, command } = cli;
    let context = |etcd: Option<&EtcdArgs>| Context::new(program, kube.clone(), etcd);
    match command {
        Command::Status(args) => block_on(status::run(&context(Some(&args.etcd)), &args)),
        Command::Switchover(args) => {
            block_on(transition::switchover(&context(Some(&args.etcd)), &args))
        }
        Command::Failover(args) => {
            block_on(transition::failover(&context(Some(&args.etcd)), &args))
        }
        Command::History(args) => block_on(history::run(&context(Some(&args.etcd)), &args)),
        Command::Receipt(args) => block_on(history::receipt(&context(Some(&args.etcd)), &args)),
        Command::Fence(args) => block_on(fence::run(&context(Some(&args.etcd)), &args)),
        Command::Unfence(args) => block_on(fence::lift(&context(Some(&args.etcd)), &args)),
        Command::Pause(args) => block_on(pause::run(&context(Some(&args.etcd)), &args, true)),
        Command::Resume(args) => block_on(pause::run(&context(Some(&args.etcd)), &args, false)),
        Command::Ack(args) => block_on(ack::run(&context(Some(&args.etcd)), &args)),
        Command::Preflight(args) => block_on(preflight::run(&context(None), &args)),
        Command::Repair(args) => block_on(repair::run(&context(None), &args)),
        Command::Link(args) => block_on(link::run(&context(None), &args)),
        Command::Stranded(args) => block_on(stranded::run(&context(None), &args)),
        Command::Conflicts(args) => block_on(conflicts::run(&context(None), &args)),
        Command::Uninstall(args) => block_on(uninstall::run(&context(None), &args)),
        Command::Version(args) => block_on(version::run(&context(None), &args)),
        Command::Completion(args) => {
            let file = if program == "mactl" {
                "mactl"
            } else {
                "kubectl-ma"
            };
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut args::command(program), file, &mut script);
            print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
        Command::Reference => {
            print(&reference::markdown())?;
            Ok(Exit::Done)
        }
    }
}

/// Runs a command that waits for the network. One thread is enough, and starts at once.
fn block_on<F: Future<Output = Result<Exit, Failure>>>(command: F) -> Result<Exit, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("the command was not started", error.to_string()))?
        .block_on(command)
}

/// An order by whoever runs this, now.
pub(crate) fn order(reason: &str) -> Order {
    let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    Order {
        by: named("USER")
            .or_else(|| named("LOGNAME"))
            .unwrap_or_else(|| "somebody".to_owned()),
        at: jiff::Timestamp::now(),
        reason: reason.to_owned(),
    }
}

/// The Unit that was typed.
pub(crate) fn key(unit: &UnitArg, namespace: &str) -> Result<UnitKey, Failure> {
    unit.key(namespace).map_err(|error| {
        Failure::usage("the Unit was not looked for", error.to_string())
            .next("give the namespace with -n, or write NAMESPACE/NAME")
    })
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(
            "the result was not written",
            error.to_string(),
        )),
        _ => Ok(()),
    }
}

/// Writes to standard error, where nobody may be reading.
pub(crate) fn note(text: &str) {
    let _written = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints the document in the format that was asked for; `people` makes the text for people,
/// `names` the lines of `-o name`.
pub(crate) fn show<T: serde::Serialize>(
    output: Output,
    document: &T,
    people: impl FnOnce(bool) -> String,
    names: impl FnOnce() -> Vec<String>,
) -> Result<(), Failure> {
    let text = match output {
        Output::Table => people(false),
        Output::Wide => people(true),
        Output::Json => render::json(document)?,
        Output::Yaml => render::yaml(document)?,
        Output::Name => names().into_iter().map(|name| name + "\n").collect(),
    };
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_printed_with_its_next_steps() {
        let failure = Failure::refused(
            "Unit shop/orders was not switched over to bj",
            "bj is behind",
        )
        .next("mactl status shop/orders")
        .next("-- run this\nSET GLOBAL x = 1;");
        assert_eq!(
            explained(&failure, Paint::PLAIN),
            "refused: Unit shop/orders was not switched over to bj: bj is behind\n  \
             next: mactl status shop/orders\n  next: -- run this\n        SET GLOBAL x = 1;\n"
        );
    }
}
