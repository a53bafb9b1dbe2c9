//! `stranded`: what a failover left behind, in the databases of the members that took over.

mod replay;

use std::collections::BTreeSet;

use model::IdcName;
use mysql::stranded::{Filed, LISTED};
use serde::Serialize;

use super::Context;
use super::databases::{by, failed, members};
use crate::args::{
    StrandedArgs, StrandedCommand, StrandedDiscardArgs, StrandedListArgs, StrandedShowArgs,
};
use crate::failure::{Exit, Failure};
use crate::render::{count, stranded as render};

pub use replay::ReplayReport;

/// A transaction, and in which member it is set aside.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The member.
    pub held_in: IdcName,
    /// The transaction.
    #[serde(flatten)]
    pub filed: Filed,
}

pub(super) async fn run(context: &Context, args: &StrandedArgs) -> Result<Exit, Failure> {
    match &args.command {
        StrandedCommand::List(args) => list(context, args).await,
        StrandedCommand::Show(args) => show(context, args).await,
        StrandedCommand::Replay(args) => replay::run(context, args).await,
        StrandedCommand::Discard(args) => discard(context, args).await,
    }
}

async fn list(context: &Context, args: &StrandedListArgs) -> Result<Exit, Failure> {
    const TRIED: &str = "not everything that is set aside was listed";
    let (key, mut members, unreached) = members(context, &args.unit).await?;
    let mut listed = Vec::new();
    for member in &mut members {
        let filed = mysql::stranded::list(&mut member.session, !args.settled).await;
        let filed = filed.map_err(|error| failed(TRIED, &member.idc, &error.to_string()))?;
        if filed.len() == LISTED {
            super::note(&format!(
                "note: the {LISTED} oldest in {} are listed, there may be more\n",
                member.idc
            ));
        }
        listed.extend(filed.into_iter().map(|filed| Listed {
            held_in: member.idc.clone(),
            filed,
        }));
    }
    super::show(
        args.output.output,
        &listed,
        |wide| render::list(&key, &listed, wide),
        || listed.iter().map(|it| it.filed.gtid.clone()).collect(),
    )?;
    // A list with a gap must not look whole.
    match unreached.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(Exit::Done),
    }
}

async fn show(context: &Context, args: &StrandedShowArgs) -> Result<Exit, Failure> {
    let tried = format!("transaction {} was not shown", args.gtid);
    let (key, mut members, unreached) = members(context, &args.unit).await?;
    for member in &mut members {
        let changes = mysql::stranded::show(&mut member.session, &args.gtid).await;
        let changes = changes.map_err(|error| failed(&tried, &member.idc, &error.to_string()))?;
        if changes.is_empty() {
            continue;
        }
        let names = || vec![args.gtid.clone()];
        super::show(
            args.output.output,
            &changes,
            |_| render::show(&changes),
            names,
        )?;
        return Ok(Exit::Done);
    }
    Err(unreached.into_iter().next().unwrap_or_else(|| {
        Failure::failed(tried, "no member has set it aside")
            .next(context.call.own(&format!("stranded list {key} --settled")))
    }))
}

async fn discard(context: &Context, args: &StrandedDiscardArgs) -> Result<Exit, Failure> {
    const TRIED: &str = "nothing was discarded";
    let (key, mut members, unreached) = members(context, &args.unit).await?;
    if let Some(failure) = unreached.into_iter().next() {
        return Err(failure);
    }
    // Each once, whoever holds it; and only these are discarded, whatever is filed meanwhile.
    let mut names = BTreeSet::new();
    for member in &mut members {
        let held = mysql::stranded::held_names(&mut member.session, args.gtid.as_deref()).await;
        names.extend(held.map_err(|error| failed(TRIED, &member.idc, &error.to_string()))?);
    }
    let number = names.len() as u64;
    if number == 0 {
        return Err(
            Failure::failed(TRIED, format!("nothing of Unit {key} waits to be settled"))
                .next(context.call.own(&format!("stranded list {key} --settled"))),
        );
    }
    let which = args.gtid.clone().unwrap_or_default();
    let command = format!("stranded discard {key} {which}");
    crate::confirm::obtain_number(
        args.yes,
        &format!(
            "{} of Unit {key} will be discarded: acknowledged writes that are on no member.",
            count(number, "transaction")
        ),
        number,
        TRIED,
        &context.call.own(command.trim_end()),
    )?;
    let by = by();
    let mut done = BTreeSet::new();
    for member in &mut members {
        let discarded = mysql::stranded::discard(&mut member.session, &names, &by).await;
        done.extend(discarded.map_err(|error| {
            let tried = format!("only {} discarded", count(done.len() as u64, "transaction"));
            failed(&tried, &member.idc, &error.to_string())
        })?);
    }
    super::print(&format!(
        "{} of Unit {key} discarded\n",
        count(done.len() as u64, "transaction")
    ))?;
    Ok(Exit::Done)
}
