//! `conflicts`: rows that a link found changed at its target, in the databases of the targets.

use model::IdcName;
use mysql::conflicts::{Conflict, LISTED, Recorded};
use serde::Serialize;
use writer::{Replayer, Settler};

use super::Context;
use super::databases::{Member, Named, by, failed, named};
use crate::args::{
    ConflictArg, ConflictsArgs, ConflictsCommand, ConflictsListArgs, ConflictsResolveArgs,
    ConflictsShowArgs, Take,
};
use crate::failure::{Exit, Failure};
use crate::names::UnitArg;
use crate::render::conflicts as render;

/// A conflict, and where it is recorded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedConflict {
    /// As `show` and `resolve` take it.
    pub id: String,
    /// The member.
    pub recorded_in: IdcName,
    /// The conflict.
    #[serde(flatten)]
    pub conflict: Conflict,
}

impl ListedConflict {
    pub(crate) fn new(idc: &IdcName, conflict: Conflict) -> Self {
        let id = ConflictArg {
            idc: idc.clone(),
            number: conflict.number,
        };
        Self {
            id: id.to_string(),
            recorded_in: idc.clone(),
            conflict,
        }
    }
}

pub(super) async fn run(context: &Context, args: &ConflictsArgs) -> Result<Exit, Failure> {
    match &args.command {
        ConflictsCommand::List(args) => list(context, args).await,
        ConflictsCommand::Show(args) => show(context, args).await,
        ConflictsCommand::Resolve(args) => resolve(context, args).await,
    }
}

async fn list(context: &Context, args: &ConflictsListArgs) -> Result<Exit, Failure> {
    const TRIED: &str = "not every conflict was listed";
    let (named, mut members, unreached) = named(context, &args.name, args.link).await?;
    let mut listed = Vec::new();
    for member in &mut members {
        let found = mysql::conflicts::list(&mut member.session, !args.settled).await;
        let found = found.map_err(|error| failed(TRIED, &member.idc, &error.to_string()))?;
        if found.len() == LISTED {
            super::note(&format!(
                "note: the {LISTED} newest in {} are listed, there may be more\n",
                member.idc
            ));
        }
        let of_member = |conflict| ListedConflict::new(&member.idc, conflict);
        let found = found.into_iter().filter(|found| named.has(&found.source));
        listed.extend(found.map(of_member));
    }
    super::show(
        args.output.output,
        &listed,
        |wide| render::list(&named.title, &listed, args.settled, wide),
        || listed.iter().map(|it| it.id.clone()).collect(),
    )?;
    // A list with a gap must not look whole.
    match unreached.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(Exit::Done),
    }
}

async fn show(context: &Context, args: &ConflictsShowArgs) -> Result<Exit, Failure> {
    let tried = format!("conflict {} was not shown", args.conflict);
    let of = (&args.name, args.link);
    let found = find(context, of, &args.conflict, &tried).await?;
    let id = args.conflict.to_string();
    let shown = found.recorded.shown();
    super::show(
        args.output.output,
        &shown,
        |_| render::show(&id, &shown),
        || vec![id.clone()],
    )?;
    Ok(Exit::Done)
}

async fn resolve(context: &Context, args: &ConflictsResolveArgs) -> Result<Exit, Failure> {
    let id = args.conflict.to_string();
    let tried = format!("conflict {id} was not settled");
    let of = (&args.name, args.link);
    let mut found = find(context, of, &args.conflict, &tried).await?;
    let conflict = &found.recorded.conflict;
    let source = IdcName::new(&conflict.source)
        .map_err(|error| Failure::failed(tried.clone(), error.to_string()))?;
    let place = format!("{} at {}", conflict.table, conflict.row);
    let idc = &args.conflict.idc;
    if !found.named.has_unit
        && let Some(why) = not_without_a_unit(args.take, conflict, &source, idc)
    {
        return Err(Failure::failed(tried, why));
    }
    let (take, question) = match args.take {
        Take::Source => (
            "source",
            format!("The row of {source} will be put in {idc}: {place}."),
        ),
        Take::Target => (
            "target",
            format!(
                "The row of {idc} will be written in {source}, as an application's write: {place}."
            ),
        ),
        Take::Neither => (
            "neither",
            format!(
                "The change will be discarded, and {source} and {idc} stay different: {place}."
            ),
        ),
    };
    if !args.yes {
        super::note(&render::show(&id, &found.recorded.clone().shown()));
    }
    let command = format!("conflicts resolve {} {id} --take {take}", found.named.words);
    crate::confirm::obtain(args.yes, &question, &tried, &context.call.own(&command))?;
    carry_out(&mut found, args.take, &source, &tried).await?;
    super::print(&format!("conflict {id} settled\n"))?;
    Ok(Exit::Done)
}

/// Why a conflict of a link without a Unit cannot be settled so: its target's writes come to the source
/// by another link, or not at all.
fn not_without_a_unit(
    take: Take,
    conflict: &Conflict,
    source: &IdcName,
    idc: &IdcName,
) -> Option<String> {
    if take == Take::Neither {
        return None;
    }
    let unlogged = format!(
        "make the row at {source} and at {idc} what it shall be, each after SET SESSION sql_log_bin = 0, \
         and then --take neither"
    );
    if conflict.policy == "Delta" {
        return Some(format!(
            "its link adds counters up, and additions of {idc} may be on their way to {source} still: \
             {unlogged}"
        ));
    }
    (take == Take::Target).then(|| {
        format!(
            "its link has no Unit, so what is written at {source} comes back as a change of its own: \
             where a link runs the other way, settle the conflict that it has of this row, with --take \
             source, and this one with --take neither; or {unlogged}"
        )
    })
}

async fn carry_out(
    found: &mut Found,
    take: Take,
    source: &IdcName,
    tried: &str,
) -> Result<(), Failure> {
    let by = by();
    let Found {
        named,
        members,
        at,
        recorded,
    } = found;
    let idc = members[*at].idc.clone();
    let settler = Settler {
        target: &members[*at].options,
        source,
        by: &by,
    };
    let not_reached = || {
        let why = format!("{source}, where the change comes from, was not reached");
        Failure::failed(tried, why)
    };
    match take {
        Take::Source => {
            let has_it = members.iter().find(|member| member.idc == *source);
            let has_it = match has_it {
                _ if named.has_unit => None,
                Some(member) => Some(&member.options),
                None => return Err(not_reached()),
            };
            let done = settler.take_source(recorded, has_it).await;
            done.map_err(|error| failed(tried, &idc, &error.to_string()))
        }
        Take::Target => {
            let Some(member) = members.iter().find(|member| member.idc == *source) else {
                return Err(not_reached());
            };
            let onto = Replayer::connect(&member.options, source).await;
            let mut onto = onto.map_err(|error| failed(tried, source, &error.to_string()))?;
            let done = settler.take_target(recorded, &mut onto).await;
            onto.close().await;
            done.map_err(|error| failed(tried, &idc, &error.to_string()))
        }
        Take::Neither => {
            let (session, number) = (&mut members[*at].session, recorded.conflict.number);
            let done = mysql::conflicts::discard(session, number, &by).await;
            let was_held = done.map_err(|error| failed(tried, &idc, &error.to_string()))?;
            if was_held {
                Ok(())
            } else {
                Err(Failure::failed(tried, "it does not wait to be settled"))
            }
        }
    }
}

/// A conflict that was found, and the members that were reached.
struct Found {
    named: Named,
    members: Vec<Member>,
    /// The member in which it is recorded.
    at: usize,
    recorded: Recorded,
}

async fn find(
    context: &Context,
    (name, link): (&UnitArg, bool),
    conflict: &ConflictArg,
    tried: &str,
) -> Result<Found, Failure> {
    let (named, mut members, unreached) = named(context, name, link).await?;
    let Some(at) = members.iter().position(|it| it.idc == conflict.idc) else {
        let none = format!("{} has no database in {}", named.title, conflict.idc);
        let failure = Failure::failed(tried, none);
        return Err(unreached.into_iter().next().unwrap_or(failure));
    };
    let read = mysql::conflicts::read(&mut members[at].session, conflict.number).await;
    let read = read.map_err(|error| failed(tried, &conflict.idc, &error.to_string()))?;
    match read {
        Some(recorded) => Ok(Found {
            named,
            members,
            at,
            recorded,
        }),
        None => Err(Failure::failed(
            tried,
            format!("there is none of this number in {}", conflict.idc),
        )
        .next(
            context
                .call
                .own(&format!("conflicts list {} --settled", named.words)),
        )),
    }
}
