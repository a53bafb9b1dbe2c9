//! `pause` and `resume`.
//!
//! By the Kubernetes API a Unit is paused by its spec, directly against etcd by an order beside it: each
//! holds the automation by itself, so neither overwrites the other
//! (`docs/decisions/0009-orders-in-etcd.md`).

use model::{OrderChange, OrderRequest, UnitKey};
use serde::Serialize;

use super::Context;
use crate::args::PauseArgs;
use crate::backend::{Backend, Scope};
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::view::UnitView;

/// What was done, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    unit: UnitKey,
    /// Whether the automation is held now.
    paused: bool,
    /// False if it was so before.
    changed: bool,
    /// After a resume against etcd: the spec still holds it.
    held_by_spec: bool,
    #[serde(skip)]
    step: Step,
}

/// What is to be changed of one Unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Step {
    spec: bool,
    order: Option<OrderChange>,
}

/// What has to be changed so that the automation is held, or goes on, by what this backend may write.
fn step(view: &UnitView, pause: bool, by_etcd: bool) -> Step {
    Step {
        spec: !by_etcd && view.paused_by_spec != pause,
        order: match &view.pause_order {
            None => (pause && by_etcd).then_some(OrderChange::Pause),
            Some(stands) => (!pause).then(|| OrderChange::Resume {
                stands: stands.clone(),
            }),
        },
    }
}

pub(super) async fn run(context: &Context, args: &PauseArgs, pause: bool) -> Result<Exit, Failure> {
    let call = &context.call;
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    let scope = match &args.unit {
        Some(unit) => Scope::Unit(super::key(unit, &namespace)?),
        None if args.all_namespaces => Scope::All,
        None => Scope::Namespace(namespace),
    };
    let backend = Backend::connect(&context.kube, &args.etcd, call).await?;
    let by_etcd = matches!(backend, Backend::Etcd(_));
    let views = backend.snapshot(&scope, call).await?.units;
    let changed: Vec<Outcome> = views
        .iter()
        .map(|view| {
            let step = step(view, pause, by_etcd);
            let held_by_spec = !pause && by_etcd && view.paused_by_spec;
            Outcome {
                unit: view.unit.clone(),
                paused: pause || held_by_spec,
                changed: step != Step::default(),
                held_by_spec,
                step,
            }
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
    for one in changed.iter().filter(|one| one.changed) {
        change(context, &backend, one, pause, &args.reason).await?;
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
    // Asked to let it go on, and it does not.
    Ok(if changed.iter().any(|one| one.held_by_spec) {
        Exit::Refused
    } else {
        Exit::Done
    })
}

async fn change(
    context: &Context,
    backend: &Backend,
    one: &Outcome,
    pause: bool,
    reason: &str,
) -> Result<(), Failure> {
    if let Some(change) = one.step.order.clone() {
        let order = super::order(reason);
        let request = OrderRequest { change, order };
        backend.order(&one.unit, &request, &context.call).await?;
    }
    match backend {
        Backend::Kube(kube) if one.step.spec => kube.set_paused(&one.unit, pause).await,
        Backend::Kube(_) | Backend::Etcd(_) => Ok(()),
    }
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
            (false, _) if one.held_by_spec => format!(
                "Unit {unit} stays paused: spec.paused of its resource says so, and etcd cannot \
                 change that. With the Kubernetes API: mactl resume {unit}\n"
            ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn each_side_changes_what_is_its_own() {
        let mut view = fixtures::unit();
        let step = |view: &UnitView, pause, by_etcd| {
            let Step { spec, order } = super::step(view, pause, by_etcd);
            (spec, order.is_some())
        };
        assert_eq!(step(&view, true, false), (true, false));
        assert_eq!(step(&view, true, true), (false, true));
        assert_eq!(step(&view, false, false), (false, false));
        view.paused_by_spec = true;
        // The spec holds it already, and may be changed by anybody who applies it: both count.
        assert_eq!(step(&view, true, true), (false, true));
        view.pause_order = Some("by ann".to_owned());
        assert_eq!(step(&view, true, true), (false, false));
        assert_eq!(step(&view, false, true), (false, true));
        assert_eq!(step(&view, false, false), (true, true));
    }
}
