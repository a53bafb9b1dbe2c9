//! `stranded replay`: rehearsed, shown, confirmed, and then done one transaction after the other.

use std::collections::BTreeSet;

use model::{IdcName, UnitKey};
use mysql::stranded::Filed;
use serde::Serialize;
use writer::{Outcome, ReplayError, Replayed, Replayer};

use super::super::databases::{Member, by, failed, members};
use crate::args::StrandedReplayArgs;
use crate::commands::Context;
use crate::failure::{Exit, Failure};
use crate::render::{count, stranded as render};

const TRIED: &str = "nothing was replayed";

/// A transaction that was rehearsed or replayed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Its GTID where it was committed.
    pub gtid: String,
    /// Where that was.
    pub source: String,
    /// The member that it is set aside in.
    pub held_in: IdcName,
    /// What became of it.
    #[serde(flatten)]
    pub replayed: Replayed,
}

/// What a replay tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// The Unit.
    pub unit: String,
    /// The member that it is replayed on.
    pub primary: IdcName,
    /// Whether it was only rehearsed.
    pub rehearsed: bool,
    /// Each transaction, in the order of commit.
    pub transactions: Vec<Tried>,
}

/// A transaction that is to be replayed.
struct Wanted {
    member: usize,
    filed: Filed,
}

pub(super) async fn run(context: &Context, args: &StrandedReplayArgs) -> Result<Exit, Failure> {
    let (key, mut members, unreached) = members(context, &args.unit).await?;
    let wanted = wanted(&mut members, args.gtid.as_deref()).await?;
    if wanted.is_empty() {
        let nothing = Failure::failed(TRIED, format!("nothing of Unit {key} waits to be settled"))
            .next(context.call.own(&format!("stranded list {key} --settled")));
        return Err(unreached.into_iter().next().unwrap_or(nothing));
    }
    let (primary, mut onto) = primary(&key, &members, &unreached).await?;
    let rehearsed = rehearse(&mut onto, &mut members, &wanted).await;
    let rehearsed = rehearsed.map_err(|error| failed(TRIED, &primary, &error.to_string()))?;
    let mut report = ReplayReport {
        unit: key.to_string(),
        primary: primary.clone(),
        rehearsed: true,
        transactions: rehearsed,
    };
    if args.dry_run {
        show(args, &report)?;
        return finished(&report, unreached);
    }
    confirm(context, args, &report)?;
    report.rehearsed = false;
    report.transactions.clear();
    for wanted in &wanted {
        match carry_out(&mut onto, &mut members, wanted).await {
            Ok(replayed) => report.transactions.push(tried(&members, wanted, replayed)),
            Err(error) => {
                show(args, &report)?;
                let tried = format!("transaction {} was not replayed", wanted.filed.gtid);
                return Err(failed(&tried, &primary, &error.to_string()).next(
                    context
                        .call
                        .own(&format!("stranded replay {key} --dry-run")),
                ));
            }
        }
    }
    onto.close().await;
    show(args, &report)?;
    finished(&report, unreached)
}

/// What is set aside and not settled, each transaction once: those of earlier epochs first, in the
/// order of commit.
async fn wanted(members: &mut [Member], gtid: Option<&str>) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    let mut known = BTreeSet::new();
    for (index, member) in members.iter_mut().enumerate() {
        let filed = mysql::stranded::all_held(&mut member.session).await;
        for filed in filed.map_err(|error| failed(TRIED, &member.idc, &error.to_string()))? {
            let meant = gtid.is_none_or(|gtid| gtid == filed.gtid);
            if meant && known.insert((filed.source.clone(), filed.gtid.clone())) {
                wanted.push(Wanted {
                    member: index,
                    filed,
                });
            }
        }
    }
    wanted.sort_by_key(|wanted| wanted.filed.epoch);
    Ok(wanted)
}

/// The member that takes the writes, by its own word.
async fn primary(
    key: &UnitKey,
    members: &[Member],
    unreached: &[Failure],
) -> Result<(IdcName, Replayer), Failure> {
    let mut reasons = Vec::new();
    for member in members {
        match Replayer::connect(&member.options, &member.idc).await {
            Ok(onto) => return Ok((member.idc.clone(), onto)),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if !unreached.is_empty() {
        reasons.push(format!(
            "{} not reached",
            count(unreached.len() as u64, "member")
        ));
    }
    let said = format!(
        "no member of Unit {key} takes the writes: {}",
        reasons.join("; ")
    );
    Err(Failure::failed(TRIED, said))
}

/// Rehearses all of them, those of one member after those of another.
async fn rehearse(
    onto: &mut Replayer,
    members: &mut [Member],
    wanted: &[Wanted],
) -> Result<Vec<Tried>, ReplayError> {
    let mut all = Vec::with_capacity(wanted.len());
    onto.begin_rehearsal().await?;
    for wanted in wanted {
        let (source, gtid) = (&wanted.filed.source, &wanted.filed.gtid);
        let from = &mut members[wanted.member].session;
        let replayed = onto.rehearse(from, source, gtid).await;
        match replayed {
            Ok(replayed) => all.push(tried(members, wanted, replayed)),
            Err(error) => {
                onto.end_rehearsal().await?;
                return Err(error);
            }
        }
    }
    onto.end_rehearsal().await?;
    Ok(all)
}

/// Replays one, and settles it in every member that holds it.
async fn carry_out(
    onto: &mut Replayer,
    members: &mut [Member],
    wanted: &Wanted,
) -> Result<Replayed, ReplayError> {
    let (source, gtid) = (&wanted.filed.source, &wanted.filed.gtid);
    let from = &mut members[wanted.member].session;
    let replayed = onto.replay(from, source, gtid, &by()).await?;
    if replayed.outcome != Outcome::Held {
        for member in members {
            mysql::stranded::settle_replayed(&mut member.session, source, gtid, &by()).await?;
        }
    }
    Ok(replayed)
}

fn tried(members: &[Member], wanted: &Wanted, replayed: Replayed) -> Tried {
    Tried {
        gtid: wanted.filed.gtid.clone(),
        source: wanted.filed.source.clone(),
        held_in: members[wanted.member].idc.clone(),
        replayed,
    }
}

fn confirm(
    context: &Context,
    args: &StrandedReplayArgs,
    report: &ReplayReport,
) -> Result<(), Failure> {
    let fits = |it: &&Tried| it.replayed.outcome == Outcome::Replayed;
    let fitting = report.transactions.iter().filter(fits).count() as u64;
    let all = report.transactions.len() as u64;
    if !args.yes {
        crate::commands::note(&render::replayed(report));
    }
    let which = args.gtid.clone().unwrap_or_default();
    let command = format!("stranded replay {} {which}", report.unit);
    crate::confirm::obtain(
        args.yes,
        &format!(
            "{fitting} of {} will be written again on {}.",
            count(all, "transaction"),
            report.primary
        ),
        TRIED,
        &context.call.own(command.trim_end()),
    )
}

fn show(args: &StrandedReplayArgs, report: &ReplayReport) -> Result<(), Failure> {
    let held = || {
        let held = report.transactions.iter();
        held.filter(|it| it.replayed.outcome == Outcome::Held)
            .map(|it| it.gtid.clone())
            .collect()
    };
    crate::commands::show(
        args.output.output,
        report,
        |_| render::replayed(report),
        held,
    )
}

/// What could not be asked, and what is held, must not look like the end of it.
fn finished(report: &ReplayReport, unreached: Vec<Failure>) -> Result<Exit, Failure> {
    if let Some(failure) = unreached.into_iter().next() {
        return Err(failure);
    }
    let held = report
        .transactions
        .iter()
        .any(|it| it.replayed.outcome == Outcome::Held);
    Ok(if held && !report.rehearsed {
        Exit::Failed
    } else {
        Exit::Done
    })
}
