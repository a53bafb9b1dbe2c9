//! `switchover --all`: every primary of an IDC moves to another.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use model::{IdcName, UnitKey};
use serde::Serialize;
use tokio::time::Instant;

use super::{Context, note};
use crate::args::SwitchoverArgs;
use crate::backend::{Backend, Scope, Snapshot};
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::invocation::Invocation;
use crate::plan::{self, Decision, Plan, SwitchoverRequest};
use crate::render;
use crate::terminal::Paint;
use crate::view::{Progress, UnitView};

/// What became of one Unit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    unit: UnitKey,
    /// Whether its primary is in the other IDC now.
    done: bool,
    /// In milliseconds, where it was measured.
    write_pause_millis: Option<u64>,
    /// What came back, as a sentence.
    message: String,
    /// What to do about it.
    next: Vec<String>,
}

impl Moved {
    fn not(unit: &UnitKey, failure: Failure) -> Self {
        Self {
            unit: unit.clone(),
            done: false,
            write_pause_millis: None,
            message: failure.returned,
            next: failure.next,
        }
    }

    fn line(&self) -> String {
        let mark = if self.done { "✓" } else { "✗" };
        let pause = self
            .write_pause_millis
            .map(|pause| format!(", write pause {}", render::millis(pause)))
            .unwrap_or_default();
        let mut text = format!("{mark} {}: {}{pause}\n", self.unit, self.message);
        for step in &self.next {
            text.push_str(&format!("    next: {step}\n"));
        }
        text
    }
}

/// What is to be moved, and what cannot be.
#[derive(Debug, Default)]
struct Sorted {
    plans: Vec<Plan>,
    /// A switchover of it to that IDC was asked for before.
    under_way: Vec<(Plan, String)>,
    cannot: Vec<Moved>,
}

pub(super) async fn run(
    context: &Context,
    args: &SwitchoverArgs,
    from: &IdcName,
) -> Result<Exit, Failure> {
    let call = &context.call;
    let scope = if args.all_namespaces {
        Scope::All
    } else {
        Scope::Namespace(crate::kubeconfig::namespace(&context.kube)?)
    };
    let backend = Backend::connect(&context.kube, &args.etcd, call).await?;
    let snapshot = backend.snapshot(&scope, call).await?;
    let (to, tried) = (&args.to, format!("{from} was not evacuated to {}", args.to));
    for idc in [from, to] {
        if !snapshot.idcs.is_empty() && !snapshot.idcs.iter().any(|known| known.name == *idc) {
            let known: Vec<&str> = snapshot.idcs.iter().map(|idc| idc.name.as_str()).collect();
            let cause = format!("there is no IDC {idc}; there are: {}", known.join(", "));
            return Err(Failure::failed(tried, cause));
        }
    }
    let sorted = sort(&snapshot, from, to, call);
    note(&announcement(&sorted, from, to));
    if sorted.plans.is_empty() && sorted.under_way.is_empty() {
        return end(args, &tried, &sorted.cannot, &[]);
    }
    if args.dry_run {
        note("Nothing was changed (--dry-run).\n");
        return Ok(if sorted.cannot.is_empty() {
            Exit::Done
        } else {
            Exit::Refused
        });
    }
    let number = sorted.plans.len() + sorted.under_way.len();
    let flags = if args.all_namespaces { " -A" } else { "" };
    let again = call.own(&format!("switchover --all --from {from} --to {to}{flags}"));
    confirm::obtain(
        args.follow.yes,
        &format!("Move {}?", render::count(number as u64, "Unit")),
        &tried,
        &again,
    )?;
    let mut moved = sorted.cannot;
    let left = tokio::select! {
        left = all(&backend, args, sorted.plans, sorted.under_way, &mut moved, call) => left,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::under_way(tried, "you stopped following it; what was begun goes on")
                .next(call.own(&format!("status{flags}")))
                .next(format!("move the rest: {again}")));
        }
    };
    end(args, &tried, &moved, &left)
}

/// Decides about every Unit whose primary is there.
fn sort(snapshot: &Snapshot, from: &IdcName, to: &IdcName, call: &Invocation) -> Sorted {
    let mut sorted = Sorted::default();
    let there = |unit: &&UnitView| unit.primary.as_ref() == Some(from);
    for unit in snapshot.units.iter().filter(there) {
        let request = SwitchoverRequest {
            to,
            expected_primary: Some(from),
        };
        match plan::switchover(unit, &snapshot.idcs, &[], request, call) {
            Ok(Decision::Begin(plan)) => match plan.refusal() {
                None => sorted.plans.push(plan),
                Some(refusal) => sorted.cannot.push(Moved::not(&unit.unit, refusal)),
            },
            Ok(Decision::Follow(request, plan)) => sorted.under_way.push((plan, request.id)),
            // Its primary is in `from`, so `to` is `from`.
            Ok(Decision::AlreadySo(_)) => {}
            Err(failure) => sorted.cannot.push(Moved::not(&unit.unit, failure)),
        }
    }
    sorted
}

fn announcement(sorted: &Sorted, from: &IdcName, to: &IdcName) -> String {
    let mut text = String::new();
    for plan in &sorted.plans {
        let pause = plan
            .predicted_pause
            .as_ref()
            .map(|pause| format!(", predicted write pause {}", render::millis(pause.millis)))
            .unwrap_or_default();
        text.push_str(&format!("→ {}: {from} to {to}{pause}\n", plan.unit));
        text.push_str(&render::lacks(&plan.lacks, "    ", Paint::PLAIN));
    }
    for (plan, id) in &sorted.under_way {
        text.push_str(&format!("→ {}: under way already ({id})\n", plan.unit));
    }
    for one in &sorted.cannot {
        text.push_str(&one.line());
    }
    if text.is_empty() {
        text = format!("No Unit here has its primary in {from}.\n");
    }
    text
}

/// Moves them, so many at a time. After a failure none is begun any more; those are the answer.
async fn all(
    backend: &Backend,
    args: &SwitchoverArgs,
    plans: Vec<Plan>,
    under_way: Vec<(Plan, String)>,
    moved: &mut Vec<Moved>,
    call: &Invocation,
) -> Vec<UnitKey> {
    let timeout = Duration::try_from(args.follow.timeout).unwrap_or(Duration::MAX);
    let begun = under_way.into_iter().map(|(plan, id)| (plan, Some(id)));
    let mut waiting = begun.chain(plans.into_iter().map(|plan| (plan, None)));
    let mut running = stream::FuturesUnordered::new();
    let mut failed = false;
    loop {
        while !failed && running.len() < usize::from(args.parallel) {
            let Some((plan, id)) = waiting.next() else {
                break;
            };
            running.push(one(backend, plan, id, timeout, call));
        }
        let Some(ended) = running.next().await else {
            break;
        };
        note(&ended.line());
        failed |= !ended.done;
        moved.push(ended);
    }
    waiting.map(|(plan, _)| plan.unit).collect()
}

async fn one(
    backend: &Backend,
    plan: Plan,
    id: Option<String>,
    timeout: Duration,
    call: &Invocation,
) -> Moved {
    match carried_out(backend, &plan, id, timeout, call).await {
        Ok(moved) => moved,
        Err(failure) => Moved::not(&plan.unit, failure),
    }
}

async fn carried_out(
    backend: &Backend,
    plan: &Plan,
    id: Option<String>,
    timeout: Duration,
    call: &Invocation,
) -> Result<Moved, Failure> {
    let id = match id {
        Some(id) => id,
        None => backend.begin(plan, call).await?,
    };
    let look = call.own(&format!("status {}", plan.unit));
    let far = Instant::now() + Duration::from_secs(86_400);
    let deadline = Instant::now().checked_add(timeout).unwrap_or(far);
    let mut phases = backend.follow(&plan.unit, &id);
    loop {
        let next = tokio::time::timeout_at(deadline, phases.next()).await;
        let waited = || Failure::under_way(plan.not_begun(), "it did not end in time, and goes on");
        let phase = next.map_err(|_| waited().next(look.clone()))?;
        let phase = phase.ok_or_else(|| waited().next(look.clone()))?;
        match phase? {
            Progress::Done { epoch } => {
                let receipt = backend.receipt(&plan.unit, &id, epoch).await?;
                return Ok(Moved {
                    unit: plan.unit.clone(),
                    done: true,
                    write_pause_millis: receipt.and_then(|receipt| receipt.write_pause_millis),
                    message: "moved".to_owned(),
                    next: Vec::new(),
                });
            }
            Progress::Refused { reason } => {
                return Err(Failure::refused(plan.not_begun(), reason).next(look));
            }
            Progress::Cancelled { reason } => {
                let cause = format!("it was begun and rolled back: {reason}");
                return Err(Failure::failed(plan.not_begun(), cause).next(look));
            }
            _ => {}
        }
    }
}

/// Says how it ended, for programs and by the exit code.
fn end(
    args: &SwitchoverArgs,
    tried: &str,
    moved: &[Moved],
    left: &[UnitKey],
) -> Result<Exit, Failure> {
    let names = || {
        let done = moved.iter().filter(|one| one.done);
        done.map(|one| format!("unit.multiactive.dev/{}", one.unit.name()))
            .collect()
    };
    let done = moved.iter().filter(|one| one.done).count();
    let summary = format!("{} moved.\n", render::count(done as u64, "Unit"));
    super::show(args.output.output, &moved, |_| summary, names)?;
    let stay: Vec<String> = moved
        .iter()
        .filter(|one| !one.done)
        .map(|one| one.unit.to_string())
        .chain(left.iter().map(|unit| format!("{unit} (not begun)")))
        .collect();
    if stay.is_empty() {
        return Ok(Exit::Done);
    }
    let cause = format!("still to be moved: {}", stay.join(", "));
    Err(if done == 0 && left.is_empty() {
        Failure::refused(tried, cause)
    } else {
        Failure::failed(tried, cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{call, idc, idcs, unit};

    #[test]
    fn units_are_moved_left_or_cannot_be() {
        let mut elsewhere = unit();
        elsewhere.unit = "shop/stock".parse().unwrap();
        elsewhere.primary = Some(idc("bj"));
        let mut behind = unit();
        behind.unit = "shop/users".parse().unwrap();
        behind.members[1].lag_millis = Some(60_000);
        let snapshot = Snapshot {
            idcs: idcs(),
            units: vec![unit(), elsewhere, behind],
            hidden: 0,
            operator_seen: None,
            notes: Vec::new(),
        };
        let sorted = sort(&snapshot, &idc("sh"), &idc("bj"), &call());
        let names: Vec<_> = sorted.plans.iter().map(|plan| plan.unit.name()).collect();
        assert_eq!(names, ["orders"]);
        assert_eq!(sorted.cannot.len(), 1);
        let text = announcement(&sorted, &idc("sh"), &idc("bj"));
        assert!(
            text.contains("→ shop/orders: sh to bj, predicted write pause")
                && text.contains("✗ shop/users: bj is 60 s behind"),
            "{text}"
        );
        assert!(!text.contains("lacks"), "{text}");
    }

    #[test]
    fn what_a_new_primary_would_lack_is_said_with_its_unit() {
        let mut lacking = unit();
        lacking.links[0].skipped_open = Some(1);
        let snapshot = Snapshot {
            idcs: idcs(),
            units: vec![lacking],
            hidden: 0,
            operator_seen: None,
            notes: Vec::new(),
        };
        let sorted = sort(&snapshot, &idc("sh"), &idc("bj"), &call());
        let text = announcement(&sorted, &idc("sh"), &idc("bj"));
        let lacks =
            "    ! bj lacks 1 transaction of sh that link shop/orders-sh-bj was made to skip.\n";
        assert!(sorted.cannot.is_empty() && text.contains(lacks), "{text}");
    }
}
