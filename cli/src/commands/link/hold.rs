//! `link suspend` and `link resume`.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::{LinkReport, name, read, told};
use crate::args::LinkHoldArgs;
use crate::commands::Context;
use crate::failure::{Exit, Failure};

/// Sets `spec.suspended`, and waits until the operator has taken it up.
pub(super) async fn run(
    context: &Context,
    args: &LinkHoldArgs,
    suspend: bool,
) -> Result<Exit, Failure> {
    let (kube, report) = read(context, &args.link).await?;
    let key = report.link.clone();
    let verb = if suspend { "suspended" } else { "resumed" };
    if suspend && report.is_elsewhere() {
        return Err(Failure::refused(
            format!("SyncLink {key} was not {verb}"),
            format!(
                "its writer runs in the cluster of {0}. Suspend it there, with the --context of {0}'s \
                 cluster",
                report.target()
            ),
        ));
    }
    let changed = report.suspended != suspend;
    if changed {
        kube.set_suspended(&key, suspend).await?;
    }
    let patience = Duration::try_from(args.timeout).unwrap_or(Duration::MAX);
    let deadline = Instant::now().checked_add(patience);
    let mut looks = kube.follow_link(&key);
    let settled = loop {
        let look = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, looks.next()).await,
            None => Ok(looks.next().await),
        };
        let Ok(Some(look)) = look else {
            return Err(not_taken_up(context, &report, suspend));
        };
        let report = told(&look?, &key)?;
        if report.suspended != suspend {
            return Err(Failure::failed(
                format!("SyncLink {key} was not {verb}"),
                "somebody else has changed spec.suspended meanwhile",
            ));
        }
        if report.has_settled(suspend) {
            break report;
        }
    };
    crate::commands::show(
        args.output.output,
        &settled,
        |_| sentence(context, &settled, suspend, changed),
        || vec![name(&key)],
    )?;
    Ok(Exit::Done)
}

fn not_taken_up(context: &Context, report: &LinkReport, suspend: bool) -> Failure {
    let key = &report.link;
    let what = if suspend {
        format!("SyncLink {key} is to be suspended")
    } else {
        format!("SyncLink {key} is to go on")
    };
    Failure::under_way(
        what,
        "spec.suspended says so, and the operator has not said in the status that it took it up",
    )
    .next(format!(
        "look again: {}",
        context.call.own(&format!("link lag {key}"))
    ))
    .next(format!(
        "whether the operator runs: {}",
        context.call.own("version")
    ))
}

fn sentence(context: &Context, report: &LinkReport, suspend: bool, changed: bool) -> String {
    let key = &report.link;
    let word = |suspend| if suspend { "suspend" } else { "resume" };
    let again = context.call.own(&format!("link {} {key}", word(!suspend)));
    match (suspend, changed) {
        (true, true) => format!(
            "SyncLink {key} is suspended: {} gets no changes of {}. Go on: {again}\n",
            report.target(),
            report.source
        ),
        (true, false) => format!("SyncLink {key} was suspended already. Go on: {again}\n"),
        (false, true) => {
            let look = context.call.own(&format!("link lag {key}"));
            format!("SyncLink {key} goes on from where it was. See it: {look}\n")
        }
        (false, false) => format!("SyncLink {key} was not suspended.\n"),
    }
}
