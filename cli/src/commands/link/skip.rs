//! `link skip` and `link held`: the wish at the target, and what the writer filed for it.

use std::time::Duration;

use model::IdcName;
use mysql::session::Session;
use mysql::skips::{self, Asked, Held, LISTED, Wish};
use tokio::time::Instant;

use super::{LinkReport, read};
use crate::args::{LinkHeldArgs, LinkSkipArgs};
use crate::backend::KubeBackend;
use crate::commands::databases::{self, by, failed};
use crate::commands::{Context, note, show};
use crate::failure::{Exit, Failure};
use crate::invocation::quoted;
use crate::render::{count, link as render, stranded};

/// How often the target is asked whether the writer has come to it.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &Context, args: &LinkSkipArgs) -> Result<Exit, Failure> {
    let (kube, report) = read(context, &args.link).await?;
    match (&args.gtid, &args.reason) {
        (Some(gtid), Some(reason)) if !args.withdraw => {
            skip(context, args, kube, &report, gtid, reason).await
        }
        _ => withdraw(context, kube, &report).await,
    }
}

async fn skip(
    context: &Context,
    args: &LinkSkipArgs,
    kube: KubeBackend,
    report: &LinkReport,
    typed: &str,
    reason: &str,
) -> Result<Exit, Failure> {
    let key = &report.link;
    let tried = format!("transaction {typed} of SyncLink {key} was not skipped");
    let gtid = report.skippable(typed).map_err(|why| {
        Failure::refused(&tried, why).next(context.call.own(&format!("link lag {key}")))
    })?;
    if !args.yes {
        note(&format!("{}\n", report.message));
    }
    let command = format!("link skip {key} --gtid {gtid} --reason {}", quoted(reason));
    crate::confirm::obtain(
        args.yes,
        &format!(
            "{} will lack the whole transaction {gtid} of {}, also after it becomes primary, unless its \
             work was done there by hand. Go on without it?",
            report.target(),
            report.source
        ),
        &tried,
        &context.call.own(&command),
    )?;
    let (idc, mut session) = target(context, kube, report, &tried).await?;
    let link = key.to_string();
    let asked = skips::ask(&mut session, &link, gtid, &by(), reason).await;
    let wish = match asked.map_err(|error| failed(&tried, &idc, &error.to_string()))? {
        Asked::Stands(wish) => wish,
        Asked::Before(wish) if wish.gtid == gtid => {
            note(&format!(
                "{} asked for this at {} UTC already: {}\n",
                wish.by, wish.at, wish.reason
            ));
            wish
        }
        Asked::Before(wish) => {
            return Err(Failure::refused(
                &tried,
                format!(
                    "the link is to skip {} first, as {} asked at {} UTC",
                    wish.gtid, wish.by, wish.at
                ),
            )
            .next(context.call.own(&format!("link skip {key} --withdraw"))));
        }
    };
    let held = wait(context, args, report, &idc, &mut session, &wish).await?;
    show(
        args.output.output,
        &held,
        |_| skipped(context, report, &held),
        || vec![held.gtid.clone()],
    )?;
    Ok(Exit::Done)
}

/// Waits until the wish is gone, and tells what became of it.
async fn wait(
    context: &Context,
    args: &LinkSkipArgs,
    report: &LinkReport,
    idc: &IdcName,
    session: &mut Session,
    wish: &Wish,
) -> Result<Held, Failure> {
    let key = &report.link;
    let tried = format!(
        "transaction {} of SyncLink {key} was not skipped",
        wish.gtid
    );
    let database = |error: skips::DriverError| failed(&tried, idc, &error.to_string());
    let patience = Duration::try_from(args.timeout).unwrap_or(Duration::MAX);
    let deadline = Instant::now().checked_add(patience);
    loop {
        let waiting = skips::waiting(session, &wish.link).await;
        if waiting.map_err(database)?.as_ref() != Some(wish) {
            break;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::under_way(
                &tried,
                "the writer has not come to it yet; it looks again every ten seconds or so, and the \
                 wish stands",
            )
            .next(format!(
                "see whether it has: {}",
                context.call.own(&format!("link held {key}"))
            ))
            .next(format!(
                "take it back: {}",
                context.call.own(&format!("link skip {key} --withdraw"))
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    // The wish went in the transaction that filed it, so what is filed is to be seen now.
    let held = skips::held(session, &wish.link, true)
        .await
        .map_err(database)?;
    let ours = |held: &Held| held.gtid == wish.gtid && held.asked == wish.at;
    if let Some(held) = held.into_iter().find(ours) {
        return Ok(held);
    }
    let passed = skips::has_passed(session, &wish.link, &wish.gtid).await;
    let passed = passed.map_err(|error| failed(&tried, idc, &error.to_string()))?;
    Err(Failure::failed(
        tried,
        if passed == Some(true) {
            "the link has gone past it without leaving it out: what stood in its way was mended, or \
             its epoch ended"
        } else {
            "somebody has taken the wish back"
        },
    )
    .next(context.call.own(&format!("link lag {key}"))))
}

fn skipped(context: &Context, report: &LinkReport, held: &Held) -> String {
    let see = format!("link held {} --gtid {}", report.link, held.gtid);
    let settle = format!(
        "link settle {} --gtid {} --reason TEXT",
        report.link, held.gtid
    );
    format!(
        "SyncLink {} has left transaction {} out: {} ({}), filed in {}.\nSee it: {}\nOnce {} is right \
         without it: {}\n",
        report.link,
        held.gtid,
        count(held.changes, "change"),
        held.what,
        report.target(),
        context.call.own(&see),
        report.target(),
        context.call.own(&settle)
    )
}

async fn withdraw(
    context: &Context,
    kube: KubeBackend,
    report: &LinkReport,
) -> Result<Exit, Failure> {
    let key = &report.link;
    let tried = format!("nothing was taken back of SyncLink {key}");
    let (idc, mut session) = target(context, kube, report, &tried).await?;
    let waiting = skips::waiting(&mut session, &key.to_string()).await;
    let waiting = waiting.map_err(|error| failed(&tried, &idc, &error.to_string()))?;
    let see = context.call.own(&format!("link held {key}"));
    let Some(wish) = waiting else {
        return Err(Failure::failed(tried, "it is not asked to skip anything").next(see));
    };
    let withdrawn = skips::withdraw(&mut session, &wish).await;
    if !withdrawn.map_err(|error| failed(&tried, &idc, &error.to_string()))? {
        return Err(Failure::failed(tried, "it was carried out just now").next(see));
    }
    crate::commands::print(&format!(
        "SyncLink {key} is not to skip transaction {} any more.\n",
        wish.gtid
    ))?;
    Ok(Exit::Done)
}

pub(super) async fn held(context: &Context, args: &LinkHeldArgs) -> Result<Exit, Failure> {
    let (kube, report) = read(context, &args.link).await?;
    let key = &report.link;
    let tried = format!("what SyncLink {key} has left out was not read");
    let (idc, mut session) = target(context, kube, &report, &tried).await?;
    let link = key.to_string();
    if let Some(gtid) = &args.gtid {
        let changes = skips::show(&mut session, &link, gtid).await;
        let changes = changes.map_err(|error| failed(&tried, &idc, &error.to_string()))?;
        if changes.is_empty() {
            return Err(Failure::failed(
                format!("transaction {gtid} was not shown"),
                format!("SyncLink {key} has not left it out"),
            )
            .next(context.call.own(&format!("link held {key}"))));
        }
        show(
            args.output.output,
            &changes,
            |_| stranded::show(&changes),
            || vec![gtid.clone()],
        )?;
        return Ok(Exit::Done);
    }
    let held = skips::held(&mut session, &link, !args.settled).await;
    let held = held.map_err(|error| failed(&tried, &idc, &error.to_string()))?;
    if held.len() == LISTED {
        note(&format!(
            "note: the {LISTED} newest are listed, there may be more\n"
        ));
    }
    let waiting = skips::waiting(&mut session, &link).await;
    if let Some(wish) = waiting.map_err(|error| failed(&tried, &idc, &error.to_string()))? {
        note(&format!(
            "note: {} is to be skipped, as {} asked at {} UTC, and was not yet\n",
            wish.gtid, wish.by, wish.at
        ));
    }
    show(
        args.output.output,
        &held,
        |wide| render::held(key, &held, args.settled, wide),
        || held.iter().map(|held| held.gtid.clone()).collect(),
    )?;
    Ok(Exit::Done)
}

/// A session with the link's target, with the account that its Unit or the link itself gives.
pub(super) async fn target(
    context: &Context,
    kube: KubeBackend,
    report: &LinkReport,
    tried: &str,
) -> Result<(IdcName, Session), Failure> {
    let link = &report.link;
    let look = match &report.unit {
        Some(unit) => context.call.own(&format!("preflight {unit}")),
        None => context.call.own(&format!("link lag {link}")),
    };
    databases::target(kube, link, tried, &look).await
}
