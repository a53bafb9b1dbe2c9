//! `switchover` and `failover`: decide, say what will happen, ask, and follow.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use model::{Epoch, UnitKey};
use serde::Serialize;
use tokio::time::Instant;

use super::{Context, note, print};
use crate::args::{EtcdArgs, FailoverArgs, FollowArgs, Output, SwitchoverArgs};
use crate::backend::Backend;
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::plan::{self, Decision, FailoverRequest, Plan, SwitchoverRequest};
use crate::render;
use crate::view::{IdcView, Progress, ReceiptView, UnitView};

/// The flags that both commands have.
struct Asked<'a> {
    etcd: &'a EtcdArgs,
    follow: &'a FollowArgs,
    output: Output,
    dry_run: bool,
}

/// The result for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    /// What was planned, checks and predictions included.
    plan: &'a Plan,
    /// The request's name; `None` for a dry run.
    request: Option<&'a str>,
    /// How far it came; `None` where it was not followed.
    progress: Option<&'a Progress>,
    /// The receipt, once it is done.
    receipt: Option<&'a ReceiptView>,
}

pub(super) async fn switchover(context: &Context, args: &SwitchoverArgs) -> Result<Exit, Failure> {
    let Some(unit) = &args.unit else {
        let from = args
            .from
            .as_ref()
            .ok_or_else(|| Failure::usage("nothing was switched over", "--all needs --from IDC"))?;
        return Box::pin(super::evacuate::run(context, args, from)).await;
    };
    let unit = super::key(unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let asked = Asked {
        etcd: &args.etcd,
        follow: &args.follow,
        output: args.output.output,
        dry_run: args.dry_run,
    };
    let request = SwitchoverRequest {
        to: &args.to,
        expected_primary: args.expected_primary.as_ref(),
    };
    Box::pin(run(context, &unit, &asked, |view, idcs, receipts| {
        plan::switchover(view, idcs, receipts, request, &context.call)
    }))
    .await
}

pub(super) async fn failover(context: &Context, args: &FailoverArgs) -> Result<Exit, Failure> {
    let unit = super::key(&args.unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let asked = Asked {
        etcd: &args.etcd,
        follow: &args.follow,
        output: args.output.output,
        dry_run: args.dry_run,
    };
    let request = FailoverRequest {
        to: args.to.as_ref(),
        allow_data_loss: args.allow_data_loss,
        expect_no_primary: args.expect_no_primary,
    };
    Box::pin(run(context, &unit, &asked, |view, _, _| {
        plan::failover(view, request, &context.call)
    }))
    .await
}

async fn run(
    context: &Context,
    unit: &UnitKey,
    asked: &Asked<'_>,
    decide: impl FnOnce(&UnitView, &[IdcView], &[ReceiptView]) -> Result<Decision, Failure>,
) -> Result<Exit, Failure> {
    let call = &context.call;
    let backend = Backend::connect(&context.kube, asked.etcd, call).await?;
    let (idcs, before) = backend.unit(unit, call).await?;
    // Earlier transitions only make the prediction better, so it goes on without them.
    let receipts = backend.receipts(unit, call).await.unwrap_or_default();
    let (plan, id, begun) = match decide(&before, &idcs, &receipts)? {
        Decision::AlreadySo(message) => {
            if asked.output.is_for_programs() {
                note(&(message + "\n"));
            } else {
                print(&(message + "\n"))?;
            }
            return Ok(Exit::Done);
        }
        Decision::Follow(request, plan) => {
            say(
                asked,
                &format!(
                    "It was asked for before, and is under way: {}\n",
                    request.id
                ),
            )?;
            (plan, request.id, false)
        }
        Decision::Begin(plan) => {
            say(
                asked,
                &render::topology("Before", &before, Timestamp::now(), context.out),
            )?;
            say(asked, &render::checks(&plan.checks, context.out))?;
            say(asked, &render::announcement(&plan, context.out))?;
            if asked.dry_run {
                return dry_run(context, asked, &plan);
            }
            if let Some(refusal) = plan.refusal() {
                return Err(refusal);
            }
            let question = format!("Go on with Unit {unit}?");
            confirm::obtain(
                asked.follow.yes,
                &question,
                &plan.not_begun(),
                &call.own(&plan.command()),
            )?;
            let id = backend.begin(&plan, call).await?;
            (plan, id, true)
        }
    };
    let again = call.own(&plan.command());
    if asked.dry_run || !asked.follow.wait {
        let word = if begun {
            format!("Asked for, as {id}. ")
        } else {
            String::new()
        };
        say(asked, &format!("{word}Follow it: {again}\n"))?;
        finish(asked, &plan, &id, None, None)?;
        return Ok(Exit::Done);
    }
    follow(context, asked, &backend, &plan, &id).await
}

/// Says whether it would be begun.
fn dry_run(context: &Context, asked: &Asked<'_>, plan: &Plan) -> Result<Exit, Failure> {
    let refusal = plan.refusal();
    say(
        asked,
        &render::dry_run(&plan.unit, refusal.is_none(), context.out),
    )?;
    if asked.output.is_for_programs() {
        let outcome = Outcome {
            plan,
            request: None,
            progress: None,
            receipt: None,
        };
        super::show(asked.output, &outcome, |_| String::new(), Vec::new)?;
    }
    Ok(if refusal.is_some() {
        Exit::Refused
    } else {
        Exit::Done
    })
}

/// Prints each phase until the request has ended, the time is over, or somebody presses ^C.
async fn follow(
    context: &Context,
    asked: &Asked<'_>,
    backend: &Backend,
    plan: &Plan,
    id: &str,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let timeout = Duration::try_from(asked.follow.timeout).unwrap_or(Duration::MAX);
    let deadline = started
        .checked_add(timeout)
        .unwrap_or(started + Duration::from_secs(86_400));
    let mut phases = backend.follow(&plan.unit, id);
    let mut last = Progress::Pending;
    loop {
        let phase = tokio::select! {
            phase = phases.next() => phase,
            () = tokio::time::sleep_until(deadline) => {
                let waited = format!("it did not end within {:#}", asked.follow.timeout);
                return Err(detached(context, plan, &last, &waited));
            }
            signal = tokio::signal::ctrl_c() => {
                let what = match signal {
                    Ok(()) => "you stopped following it".to_owned(),
                    Err(error) => format!("^C cannot be listened for: {error}"),
                };
                return Err(detached(context, plan, &last, &what));
            }
        };
        let Some(phase) = phase else { break };
        last = phase.map_err(|failure| failure.next(context.call.own(&plan.command())))?;
        let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        say(asked, &render::progress(plan, &last, elapsed, context.out))?;
        if last.is_final() {
            break;
        }
    }
    ended(context, asked, backend, plan, id, &last).await
}

/// Says how it ended.
async fn ended(
    context: &Context,
    asked: &Asked<'_>,
    backend: &Backend,
    plan: &Plan,
    id: &str,
    last: &Progress,
) -> Result<Exit, Failure> {
    let look = context.call.own(&format!("status {}", plan.unit));
    let epoch = match last {
        Progress::Done { epoch } => *epoch,
        Progress::Refused { reason } => {
            finish(asked, plan, id, Some(last), None)?;
            return Err(Failure::refused(plan.not_begun(), reason.clone()).next(look));
        }
        Progress::Cancelled { reason } => {
            finish(asked, plan, id, Some(last), None)?;
            return Err(Failure::failed(
                plan.not_begun(),
                format!("it was begun and rolled back: {reason}"),
            )
            .next(look));
        }
        _ => {
            return Err(detached(
                context,
                plan,
                last,
                "nothing more was heard of it",
            ));
        }
    };
    let receipt = backend.receipt(&plan.unit, id, epoch).await?;
    let (after, unknown) = settled(context, backend, plan, epoch).await?;
    say(
        asked,
        &render::topology("After", &after, Timestamp::now(), context.out),
    )?;
    if !unknown.is_empty() {
        say(
            asked,
            &format!(
                "Not known yet: {}. Look again: {look}\n",
                unknown.join("; ")
            ),
        )?;
    }
    match &receipt {
        Some(receipt) => say(asked, &render::receipt_summary(plan, receipt, context.out))?,
        None => say(
            asked,
            &format!(
                "Its receipt is not there yet: {}\n",
                context.call.own(&format!("history {}", plan.unit))
            ),
        )?,
    }
    finish(asked, plan, id, Some(last), receipt.as_ref())?;
    Ok(Exit::Done)
}

/// The Unit as it is afterwards, and what is not known of that yet.
///
/// What was reported before the request ended is no picture of afterwards: the operator reports
/// the request, the Unit and the IDCs one after the other. So it is waited for, but not for long:
/// the request itself is done.
async fn settled(
    context: &Context,
    backend: &Backend,
    plan: &Plan,
    epoch: Option<Epoch>,
) -> Result<(UnitView, Vec<String>), Failure> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let (idcs, unit) = backend.unit(&plan.unit, &context.call).await?;
        let unknown = plan::not_known_yet(&unit, &idcs, epoch);
        if unknown.is_empty() || Instant::now() >= deadline {
            return Ok((unit, unknown));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The end for one who no longer waits.
fn detached(context: &Context, plan: &Plan, last: &Progress, why: &str) -> Failure {
    let what = if plan.planned {
        "switchover"
    } else {
        "failover"
    };
    let mut failure = Failure::under_way(format!("the {what} of Unit {} goes on", plan.unit), why);
    if *last == Progress::Pending {
        let deployments = "get deployments -A -l app.kubernetes.io/name=multiactive,app.kubernetes.io/component=operator";
        failure = failure.next(format!(
            "no operator has passed it on; see whether one runs: {}",
            context.call.kubectl(deployments)
        ));
    }
    failure
        .next(format!(
            "see how it is: {}",
            context.call.own(&format!("status {}", plan.unit))
        ))
        .next(format!(
            "follow it again: {}",
            context.call.own(&plan.command())
        ))
}

/// Text for people: on standard output, or beside it when programs read that.
fn say(asked: &Asked<'_>, text: &str) -> Result<(), Failure> {
    if asked.output.is_for_programs() {
        note(text);
        Ok(())
    } else {
        print(text)
    }
}

/// The document for programs, at the end.
fn finish(
    asked: &Asked<'_>,
    plan: &Plan,
    id: &str,
    progress: Option<&Progress>,
    receipt: Option<&ReceiptView>,
) -> Result<(), Failure> {
    if !asked.output.is_for_programs() {
        return Ok(());
    }
    let outcome = Outcome {
        plan,
        request: Some(id),
        progress,
        receipt,
    };
    super::show(
        asked.output,
        &outcome,
        |_| String::new(),
        || vec![id.to_owned()],
    )
}
