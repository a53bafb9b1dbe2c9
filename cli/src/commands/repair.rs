//! `repair`: begins verifications and repairs, follows them, holds them, and tells what they found.

mod wanted;

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use crds::{DataRepair, DataRepairPhase, DataRepairSpec, RepairMode};
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use model::{RepairControl, UnitKey};
use serde::Serialize;
use tokio::time::Instant;

use super::{Context, note};
use crate::args::{
    Output, RepairArgs, RepairBeginArgs, RepairCommand, RepairFollowArgs, RepairNameArgs,
    RepairUndoArgs,
};
use crate::backend::{KubeBackend, Scope};
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::render::repair::{self as render, Speed};
use wanted::{command, into_primary, object, plain, rebuilds, wanted};

/// A `DataRepair`, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    name: String,
    namespace: String,
    spec: &'a DataRepairSpec,
    status: Option<&'a crds::DataRepairStatus>,
}

impl<'a> Told<'a> {
    fn of(repair: &'a DataRepair) -> Self {
        Self {
            name: repair.name_any(),
            namespace: repair.namespace().unwrap_or_default(),
            spec: &repair.spec,
            status: repair.status.as_ref(),
        }
    }
}

pub(super) async fn run(context: &Context, args: &RepairArgs) -> Result<Exit, Failure> {
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    let kube = KubeBackend::connect(&context.kube, &context.call).await?;
    match &args.command {
        None => begin(context, &kube, &namespace, &args.begin).await,
        Some(RepairCommand::List(args)) => {
            let namespace = (!args.all_namespaces).then_some(namespace.as_str());
            let repairs = kube.repairs(namespace).await?;
            let told: Vec<Told<'_>> = repairs.iter().map(Told::of).collect();
            super::show(
                args.output.output,
                &told,
                |_| render::list(&repairs, args.all_namespaces),
                || repairs.iter().map(name).collect(),
            )?;
            Ok(Exit::Done)
        }
        Some(RepairCommand::Status(args)) => {
            let repair = kube.repair(&namespace, &args.name).await?;
            if args.follow.wait && !over(&repair) {
                return follow(context, &kube, &repair, &args.follow, args.output.output).await;
            }
            told(&repair, args.output.output)?;
            Ok(Exit::Done)
        }
        Some(RepairCommand::Pause(args)) => {
            control(context, &kube, &namespace, args, RepairControl::Pause).await
        }
        Some(RepairCommand::Resume(args)) => {
            control(context, &kube, &namespace, args, RepairControl::Run).await
        }
        Some(RepairCommand::Stop(args)) => {
            control(context, &kube, &namespace, args, RepairControl::Stop).await
        }
        Some(RepairCommand::Report(args)) => {
            told(
                &kube.repair(&namespace, &args.name).await?,
                args.output.output,
            )?;
            Ok(Exit::Done)
        }
        Some(RepairCommand::Undo(args)) => undo(context, &kube, &namespace, args).await,
    }
}

fn name(repair: &DataRepair) -> String {
    format!("datarepair.multiactive.dev/{}", repair.name_any())
}

fn told(repair: &DataRepair, output: Output) -> Result<(), Failure> {
    super::show(
        output,
        &Told::of(repair),
        |_| render::report(repair),
        || vec![name(repair)],
    )
}

/// Whether the run has ended: of a schedule, the last one.
fn over(repair: &DataRepair) -> bool {
    let status = repair.status.as_ref();
    status.is_some_and(|status| {
        status.phase.is_some_and(DataRepairPhase::is_over) && status.completion_time.is_some()
    })
}

async fn begin(
    context: &Context,
    kube: &KubeBackend,
    namespace: &str,
    args: &RepairBeginArgs,
) -> Result<Exit, Failure> {
    const TRIED: &str = "nothing was begun";
    let Some(named) = &args.name else {
        return Err(Failure::usage(
            TRIED,
            "name a Unit, or with --link a SyncLink",
        ));
    };
    let key = super::key(named, namespace)?;
    let mends = args.mode.mends();
    if args.strategy.is_some() && !mends {
        return Err(Failure::usage(
            TRIED,
            "--strategy goes with --repair or --dry-run",
        ));
    }
    if args.mode.rebuild && !args.link && args.idc.is_none() {
        return Err(Failure::usage(
            TRIED,
            "--rebuild empties the tables of one copy: name its IDC with --idc, or the link to it with \
             --link",
        ));
    }
    if args.mode.rebuild && args.schedule.is_some() {
        return Err(Failure::usage(
            TRIED,
            "--rebuild happens once: leave out --schedule",
        ));
    }
    if let Some(schedule) = &args.schedule {
        let parsed = schedule.parse::<crds::Schedule>();
        parsed.map_err(|error| Failure::usage(TRIED, format!("--schedule {error}")))?;
    }
    announce(kube, &key, args).await?;
    if args.mode.writes() {
        let kind = if args.link { "link" } else { "Unit" };
        let question = if args.mode.rebuild {
            // What it does was just said.
            "Empty these tables of the copy, and copy them anew?".to_owned()
        } else {
            format!("Write rows into the copies of {kind} {key}?")
        };
        confirm::obtain(
            args.yes,
            &question,
            TRIED,
            &context.call.own(&command(&key, args)),
        )?;
    }
    let created = kube.create_repair(&wanted(&key, args)).await?;
    begun(context, kube, &created, &args.follow, args.output.output).await
}

/// Says what will happen, of something that must be there.
async fn announce(
    kube: &KubeBackend,
    key: &UnitKey,
    args: &RepairBeginArgs,
) -> Result<(), Failure> {
    let what = if args.link {
        let link = kube.link(key.namespace(), key.name()).await?;
        let target = link.spec.target.idc.as_ref();
        let target = target.map_or_else(|| "?".to_owned(), ToString::to_string);
        let source = &link.spec.source.idc;
        format!("The copy in {target} is compared with {source} through SyncLink {key}.")
    } else {
        let units = kube.units(&Scope::Unit(key.clone())).await?;
        let primary = units
            .first()
            .and_then(|unit| unit.status.as_ref()?.primary.clone());
        let holder = primary.as_ref().map(ToString::to_string);
        let primary = primary.map_or("its primary".to_owned(), |primary| {
            format!("its primary {primary}")
        });
        if args.mode.rebuild
            && args.idc.as_ref().map(ToString::to_string).as_ref() == holder.as_ref()
        {
            return Err(into_primary(key, args));
        }
        match &args.idc {
            Some(idc) => format!("The copy in {idc} of Unit {key} is compared with {primary}."),
            None => format!("The copies of Unit {key} are compared with {primary}."),
        }
    };
    if args.mode.rebuild {
        note(&format!("{}\n", rebuilds(key, args)));
        return Ok(());
    }
    let then = match (args.mode.repair, args.mode.dry_run) {
        (_, true) => "Statements that would mend what differs are kept, and nothing is written.",
        (true, false) => "What differs in the copies is overwritten with the primary's rows.",
        (false, false) => "Nothing is written.",
    };
    let then = match args.strategy {
        Some(crate::args::Strategy::Hold) => "What differs is held for a person.",
        _ => then,
    };
    note(&format!("{what} {then}\n"));
    Ok(())
}

async fn undo(
    context: &Context,
    kube: &KubeBackend,
    namespace: &str,
    args: &RepairUndoArgs,
) -> Result<Exit, Failure> {
    let tried = format!(
        "nothing of DataRepair {namespace}/{} was taken back",
        args.name
    );
    let repair = kube.repair(namespace, &args.name).await?;
    let status = repair.status.clone().unwrap_or_default();
    let repaired = status.counts.map_or(0, |counts| counts.repaired);
    let (Some(run), true) = (status.run.clone(), over(&repair)) else {
        return Err(Failure::refused(tried, "it has not ended")
            .next(context.call.own(&format!("repair stop {}", args.name))));
    };
    if repair.spec.mode != RepairMode::Repair || repaired == 0 {
        return Err(Failure::failed(tried, "it has mended nothing"));
    }
    confirm::obtain(
        args.yes,
        &format!(
            "Give {} the values back that they had before?",
            crate::render::count(repaired, "row")
        ),
        &tried,
        &context.call.own(&format!("repair undo {}", args.name)),
    )?;
    let spec = DataRepairSpec {
        unit: repair.spec.unit.clone(),
        link: repair.spec.link.clone(),
        idc: repair.spec.idc.clone(),
        mode: RepairMode::Undo,
        run: Some(run),
        ..plain()
    };
    let prefix = format!("{}-undo-", args.name);
    let created = kube
        .create_repair(&object(namespace, &prefix, spec))
        .await?;
    begun(context, kube, &created, &args.follow, args.output.output).await
}

/// Follows what was created, if it is to be.
async fn begun(
    context: &Context,
    kube: &KubeBackend,
    created: &DataRepair,
    follows: &RepairFollowArgs,
    output: Output,
) -> Result<Exit, Failure> {
    if follows.wait && created.spec.schedule.is_none() {
        return follow(context, kube, created, follows, output).await;
    }
    let look = context.call.own(&again("status", created));
    super::show(
        output,
        &Told::of(created),
        |_| format!("Created {}. Follow it: {look}\n", name(created)),
        || vec![name(created)],
    )?;
    Ok(Exit::Done)
}

fn again(word: &str, repair: &DataRepair) -> String {
    let namespace = repair.namespace().unwrap_or_default();
    format!("repair {word} {} -n {namespace}", repair.name_any())
}

/// Shows how far it is until it has ended, the time is over, or somebody presses ^C.
async fn follow(
    context: &Context,
    kube: &KubeBackend,
    repair: &DataRepair,
    follows: &RepairFollowArgs,
    output: Output,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let timeout = follows
        .timeout
        .and_then(|time| Duration::try_from(time).ok());
    let deadline = timeout.and_then(|time| started.checked_add(time));
    let deadline = deadline.unwrap_or(started + Duration::from_secs(10 * 365 * 86_400));
    let namespace = repair.namespace().unwrap_or_default();
    let mut states = kube.follow_repair(&namespace, &repair.name_any());
    let mut line = Line::new();
    let mut speed = Speed::default();
    let why = loop {
        let state = tokio::select! {
            state = states.next() => state,
            () = tokio::time::sleep_until(deadline) => break "it did not end in time".to_owned(),
            signal = tokio::signal::ctrl_c() => break match signal {
                Ok(()) => "you stopped following it".to_owned(),
                Err(error) => format!("^C cannot be listened for: {error}"),
            },
        };
        let Some(state) = state else {
            break "nothing more was heard of it".to_owned();
        };
        let state = state.inspect_err(|_| line.end())?;
        let rows = state.status.as_ref().and_then(|status| status.counts);
        speed.look(Timestamp::now(), rows.unwrap_or_default().rows);
        line.put(&render::progress(&state, speed));
        if over(&state) {
            line.end();
            return ended(context, &state, output);
        }
    };
    line.end();
    let what = format!("DataRepair {namespace}/{} goes on", repair.name_any());
    Err(Failure::under_way(what, why)
        .next(format!(
            "follow it again: {}",
            context.call.own(&again("status", repair))
        ))
        .next(format!(
            "end it: {}",
            context.call.own(&again("stop", repair))
        )))
}

/// Says how it ended, also by the exit code.
fn ended(context: &Context, repair: &DataRepair, output: Output) -> Result<Exit, Failure> {
    told(repair, output)?;
    let status = repair.status.clone().unwrap_or_default();
    let tried = format!(
        "DataRepair {}/{}",
        repair.namespace().unwrap_or_default(),
        repair.name_any()
    );
    let message = status.message.unwrap_or_default();
    let compares = !matches!(repair.spec.mode, RepairMode::Undo | RepairMode::Rebuild);
    let left = status
        .counts
        .and_then(|counts| render::left_in_words(&counts));
    match status.phase {
        Some(DataRepairPhase::Done) => {
            let Some(left) = left.filter(|_| compares) else {
                return Ok(Exit::Done);
            };
            let mut failure = Failure::failed(tried, left);
            let rows = status.counts.map_or(0, |counts| counts.rows_left());
            if repair.spec.mode == RepairMode::Verify && rows > 0 {
                failure = failure.next(format!("mend them: {}", context.call.own(&mend(repair))));
            }
            for link in &status.links {
                if let Some(words) = render::rebuild(repair, link) {
                    failure = failure.next(format!(
                        "have what is missing copied: {}",
                        context.call.own(&words)
                    ));
                }
            }
            Err(failure)
        }
        Some(DataRepairPhase::Refused) => Err(Failure::refused(tried, message)),
        _ => Err(Failure::failed(tried, message)),
    }
}

fn mend(repair: &DataRepair) -> String {
    let namespace = repair.namespace().unwrap_or_default();
    let spec = &repair.spec;
    let mut words = match (&spec.unit, &spec.link) {
        (_, Some(link)) => format!("repair {namespace}/{link} --link --repair"),
        (unit, None) => {
            let unit = unit.clone().unwrap_or_default();
            format!("repair {namespace}/{unit} --repair")
        }
    };
    if let Some(idc) = &spec.idc {
        words.push_str(&format!(" --idc {idc}"));
    }
    if !spec.tables.is_empty() {
        words.push_str(&format!(" --tables '{}'", spec.tables.join(",")));
    }
    words
}

async fn control(
    context: &Context,
    kube: &KubeBackend,
    namespace: &str,
    args: &RepairNameArgs,
    control: RepairControl,
) -> Result<Exit, Failure> {
    let repair = kube.repair(namespace, &args.name).await?;
    let repeats = repair
        .status
        .as_ref()
        .is_some_and(|status| status.next_schedule_time.is_some());
    if over(&repair) && !repeats {
        let tried = format!("DataRepair {namespace}/{} was not changed", args.name);
        return Err(Failure::failed(tried, "it has ended")
            .next(context.call.own(&again("report", &repair))));
    }
    kube.control_repair(namespace, &args.name, control).await?;
    let look = context.call.own(&again("status", &repair));
    let what = match control {
        RepairControl::Run => "goes on",
        RepairControl::Pause => "is about to pause",
        RepairControl::Stop => "is about to end",
    };
    let repair = kube.repair(namespace, &args.name).await?;
    super::show(
        args.output.output,
        &Told::of(&repair),
        |_| {
            format!(
                "DataRepair {namespace}/{} {what}. See it: {look}\n",
                args.name
            )
        },
        || vec![name(&repair)],
    )?;
    Ok(Exit::Done)
}

/// How far it is: one line that changes on a terminal, otherwise one for each change. It goes to
/// standard error, so that standard output holds the result only.
struct Line {
    moves: bool,
    last: String,
}

impl Line {
    fn new() -> Self {
        Self {
            moves: std::io::stderr().is_terminal(),
            last: String::new(),
        }
    }

    fn put(&mut self, text: &str) {
        if text == self.last {
            return;
        }
        if self.moves {
            note(&format!("\r\x1b[2K{text}"));
            let _flushed = std::io::stderr().flush();
        } else {
            note(&format!("{text}\n"));
        }
        text.clone_into(&mut self.last);
    }

    fn end(&mut self) {
        if self.moves && !self.last.is_empty() {
            note("\n");
        }
        self.last.clear();
    }
}
