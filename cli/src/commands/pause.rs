//! `pause` and `resume`.

use model::UnitKey;
use serde::Serialize;

use super::Context;
use crate::args::PauseArgs;
use crate::backend::{KubeBackend, Scope};
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::render;

/// What was done, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    unit: UnitKey,
    paused: bool,
    /// False if it was so before.
    changed: bool,
}

pub(super) async fn run(context: &Context, args: &PauseArgs, pause: bool) -> Result<Exit, Failure> {
    let call = &context.call;
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    let scope = match &args.unit {
        Some(unit) => Scope::Unit(super::key(unit, &namespace)?),
        None if args.all_namespaces => Scope::All,
        None => Scope::Namespace(namespace),
    };
    let backend = KubeBackend::connect(&context.kube, call).await?;
    let mut changed: Vec<Outcome> = backend
        .units(&scope)
        .await?
        .iter()
        .filter_map(|unit| {
            let key = UnitKey::new(
                unit.metadata.namespace.clone()?,
                unit.metadata.name.clone()?,
            );
            Some(Outcome {
                unit: key.ok()?,
                paused: pause,
                changed: unit.spec.paused != pause,
            })
        })
        .collect();
    let word = if pause { "pause" } else { "resume" };
    let waiting: Vec<String> = changed
        .iter()
        .filter(|one| one.changed)
        .map(|one| one.unit.to_string())
        .collect();
    if args.unit.is_none() && !waiting.is_empty() {
        // Many at once is where a slip hurts, so it is asked for.
        super::note(&announcement(pause, &waiting));
        let flags = if args.all_namespaces { " -A" } else { "" };
        let command = call.own(&format!("{word}{flags}"));
        let question = format!(
            "{} {}?",
            capital(word),
            render::count(waiting.len() as u64, "Unit")
        );
        confirm::obtain(
            args.yes,
            &question,
            &format!("no Unit was {word}d"),
            &command,
        )?;
    }
    for one in changed.iter_mut().filter(|one| one.changed) {
        backend.set_paused(&one.unit, pause).await?;
    }
    let names = || {
        changed
            .iter()
            .map(|one| format!("unit.multiactive.dev/{}", one.unit.name()))
            .collect()
    };
    super::show(
        args.output.output,
        &changed,
        |_| told(&changed, pause, context),
        names,
    )?;
    Ok(Exit::Done)
}

fn announcement(pause: bool, units: &[String]) -> String {
    let what = if pause {
        "Their automation will be held: a primary that is lost is not replaced until they are resumed."
    } else {
        "Their automation will go on: a primary that is lost is replaced, if the Unit says so."
    };
    format!("{}\n{what}\n", units.join("\n"))
}

fn told(changed: &[Outcome], pause: bool, context: &Context) -> String {
    if changed.is_empty() {
        return format!("There is no Unit here: {}\n", context.call.own("status -A"));
    }
    let lines = changed.iter().map(|one| {
        let unit = &one.unit;
        match (pause, one.changed) {
            (true, true) => format!(
                "Unit {unit} is paused: its primary is not replaced when it is lost. Go on: {}\n",
                context.call.own(&format!("resume {unit}"))
            ),
            (true, false) => format!("Unit {unit} was paused already.\n"),
            (false, true) => format!("Unit {unit} goes on.\n"),
            (false, false) => format!("Unit {unit} was not paused.\n"),
        }
    });
    lines.collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
