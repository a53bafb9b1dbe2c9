//! `fence` and `unfence`: a person takes a member out, and lets it in again.

use std::time::Duration;

use jiff::Timestamp;
use model::{IdcName, MemberRole, OrderChange, OrderRequest, UnitKey};
use serde::Serialize;
use tokio::time::Instant;

use super::{Context, note};
use crate::args::{EtcdArgs, FenceArgs, Output, UnfenceArgs};
use crate::backend::Backend;
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::plan::{self, FencePlan};
use crate::render;
use crate::view::{MemberView, UnitView};

/// Between two looks at a primary that is being closed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What was done, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    plan: &'a FencePlan,
    /// Whether the order stands now.
    fenced: bool,
    /// False if it was so before, and for a dry run.
    changed: bool,
}

pub(super) async fn run(context: &Context, args: &FenceArgs) -> Result<Exit, Failure> {
    let call = &context.call;
    let unit = super::key(&args.unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let (backend, view) = look(context, &unit, &args.etcd).await?;
    let plan = plan::fence(&view, &args.idc, call)?;
    let idc = &plan.idc;
    let output = args.output.output;
    if let Some(order) = &plan.stands {
        let said = format!("IDC {idc} of Unit {unit} was fenced {order}. Nothing to do.\n");
        return finish(output, &plan, true, false, &said);
    }
    say(output, &context_of(&view, context), &plan.sentences);
    if args.dry_run {
        return finish(output, &plan, false, false, "Nothing was changed.\n");
    }
    let question = if plan.is_primary {
        format!("Go on with Unit {unit}, and fence its primary {idc}?")
    } else {
        format!("Go on with Unit {unit}, and fence {idc}?")
    };
    let not_done = format!("IDC {idc} of Unit {unit} was not fenced");
    let again = call.own(&format!("fence {unit} {idc}"));
    confirm::obtain(args.yes, &question, &not_done, &again)?;
    let request = OrderRequest {
        change: OrderChange::Fence {
            idc: idc.clone(),
            is_primary: plan.is_primary,
        },
        order: super::order(&args.reason),
    };
    backend.order(&unit, &request, call).await?;
    let timeout = Duration::try_from(args.timeout).unwrap_or(Duration::MAX);
    wait(context, &backend, &plan, timeout).await?;
    let lift = call.own(&format!("unfence {unit} {idc}"));
    let closed = if plan.is_primary {
        " and has given the primary up"
    } else {
        ""
    };
    let said = format!("IDC {idc} of Unit {unit} is fenced{closed}. To let it in again: {lift}\n");
    finish(output, &plan, true, true, &said)
}

pub(super) async fn lift(context: &Context, args: &UnfenceArgs) -> Result<Exit, Failure> {
    let call = &context.call;
    let unit = super::key(&args.unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let (backend, view) = look(context, &unit, &args.etcd).await?;
    let mut plan = plan::fence(&view, &args.idc, call)?;
    let idc = &plan.idc;
    let output = args.output.output;
    let Some(order) = &plan.stands else {
        let said = format!("IDC {idc} of Unit {unit} is not fenced by an order. Nothing to do.\n");
        return finish(output, &plan, false, false, &said);
    };
    plan.sentences = vec![format!("{idc} was fenced {order}."), after(&view, idc)];
    say(output, &context_of(&view, context), &plan.sentences);
    if args.dry_run {
        return finish(output, &plan, true, false, "Nothing was changed.\n");
    }
    let not_done = format!("IDC {idc} of Unit {unit} was not let in again");
    let again = call.own(&format!("unfence {unit} {idc}"));
    let question = format!("Let {idc} of Unit {unit} in again?");
    confirm::obtain(args.yes, &question, &not_done, &again)?;
    let request = OrderRequest {
        change: OrderChange::Unfence {
            idc: idc.clone(),
            stands: order.clone(),
        },
        order: super::order(""),
    };
    backend.order(&unit, &request, call).await?;
    let said = format!("IDC {idc} of Unit {unit} is let in again.\n");
    finish(output, &plan, false, true, &said)
}

/// What may follow once it is let in.
fn after(view: &UnitView, idc: &IdcName) -> String {
    match &view.primary {
        Some(primary) => {
            format!("The primary is {primary}, and stays so; {idc} may be elected or chosen again.")
        }
        None if view.paused => format!(
            "The Unit has no primary and its automation is held: {idc} opens once that is resumed, \
             if it was the last primary."
        ),
        None => format!(
            "The Unit has no primary: {idc} may take the writes at once, if it was the last one or \
             is elected."
        ),
    }
}

async fn look(
    context: &Context,
    unit: &UnitKey,
    etcd: &EtcdArgs,
) -> Result<(Backend, UnitView), Failure> {
    let backend = Backend::connect(&context.kube, etcd, &context.call).await?;
    let (_, view) = backend.unit(unit, &context.call).await?;
    Ok((backend, view))
}

fn context_of(view: &UnitView, context: &Context) -> String {
    render::topology("Now", view, Timestamp::now(), context.err)
}

fn say(output: Output, now: &str, sentences: &[String]) {
    if !output.is_for_programs() {
        note(now);
    }
    for sentence in sentences {
        note(&format!("  {sentence}\n"));
    }
}

fn finish(
    output: Output,
    plan: &FencePlan,
    fenced: bool,
    changed: bool,
    said: &str,
) -> Result<Exit, Failure> {
    let outcome = Outcome {
        plan,
        fenced,
        changed,
    };
    super::show(
        output,
        &outcome,
        |_| said.to_owned(),
        || vec![format!("unit.multiactive.dev/{}", plan.unit.name())],
    )?;
    Ok(Exit::Done)
}

/// Waits until the member has given the primary up, or, if it is not known to be the primary, until
/// it is seen closed: with no word of it, it may be one that goes on by its peers' promises.
async fn wait(
    context: &Context,
    backend: &Backend,
    plan: &FencePlan,
    timeout: Duration,
) -> Result<(), Failure> {
    let call = &context.call;
    let deadline = Instant::now() + timeout.min(Duration::from_secs(86_400));
    loop {
        let (_, view) = backend.unit(&plan.unit, call).await?;
        let member = view.member(&plan.idc);
        let done = if plan.is_primary {
            member.is_none_or(has_given_up) && view.primary.as_ref() != Some(&plan.idc)
        } else {
            member.is_some_and(|member| member.writable == Some(false))
        };
        if done {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let said = view.member(&plan.idc).map(|member| member.message.clone());
            let said = said.filter(|words| !words.is_empty());
            let remark =
                said.map_or_else(String::new, |words| format!(". Its arbiter says: {words}"));
            return Err(Failure::under_way(
                format!(
                    "IDC {} of Unit {} was ordered to be fenced",
                    plan.idc, plan.unit
                ),
                format!("whether it is closed is not known yet; the order stands{remark}"),
            )
            .next(call.own(&format!("status {}", plan.unit))));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn has_given_up(member: &MemberView) -> bool {
    member.role != MemberRole::Primary && member.writable != Some(true)
}
