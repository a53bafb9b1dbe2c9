//! What is said before, during and after a switchover or failover.

use jiff::Timestamp;
use model::{Epoch, UnitKey};

use super::{ago, history, millis};
use crate::plan::{Check, Lack, Plan, Verdict};
use crate::terminal::Paint;
use crate::view::{Progress, ReceiptView, RequestView, UnitView};

/// The Unit under a heading, for example `Before` and `After`.
pub fn topology(heading: &str, unit: &UnitView, now: Timestamp, paint: Paint) -> String {
    format!(
        "{}\n{}",
        paint.strong(heading),
        super::unit(unit, false, now, paint)
    )
}

/// The checks, one a line; those that did not pass with what to do.
pub fn checks(checks: &[Check], paint: Paint) -> String {
    let mut text = format!("{}\n", paint.strong("Checks"));
    for check in checks {
        let mark = match check.verdict {
            Verdict::Passed => paint.good("✓"),
            Verdict::Unknown => paint.warn("?"),
            Verdict::Failed => paint.bad("✗"),
        };
        text.push_str(&format!("{mark} {}\n", check.message));
        if check.verdict != Verdict::Passed {
            for step in &check.next {
                text.push_str(&super::next_step(step, "    ", paint));
            }
        }
    }
    text
}

/// What is about to happen.
pub fn announcement(plan: &Plan, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.strong("What will happen"));
    for sentence in &plan.sentences {
        text.push_str(&format!("  {sentence}\n"));
    }
    if let Some(loss) = &plan.loss {
        text.push_str(&format!("{} {loss}\n", paint.bad("!")));
    }
    text.push_str(&lacks(&plan.lacks, "", paint));
    if let Some(pause) = &plan.predicted_pause {
        text.push_str(&format!(
            "  Predicted write pause: {} ({}).\n",
            paint.strong(&millis(pause.millis)),
            pause.basis
        ));
    }
    text
}

/// What the new primary lacks, or may lack, each with how to look at it.
pub fn lacks(lacks: &[Lack], indent: &str, paint: Paint) -> String {
    let mut text = String::new();
    for lack in lacks {
        let mark = if lack.is_seen() {
            paint.bad("!")
        } else {
            paint.warn("?")
        };
        text.push_str(&format!("{indent}{mark} {}.\n", lack.message));
        for step in &lack.next {
            text.push_str(&super::next_step(step, &format!("{indent}    "), paint));
        }
    }
    text
}

/// One line for one phase, with the time since it was asked for.
pub fn progress(plan: &Plan, progress: &Progress, elapsed_millis: u64, paint: Paint) -> String {
    let to = plan
        .to
        .as_ref()
        .map_or_else(|| "the new primary".to_owned(), ToString::to_string);
    let from = plan
        .from
        .as_ref()
        .map_or_else(|| "the old primary".to_owned(), ToString::to_string);
    let under = |epoch: &Option<Epoch>| {
        epoch
            .map(|epoch| format!(" under epoch {epoch}"))
            .unwrap_or_default()
    };
    let sentence = match progress {
        Progress::Pending => "written down; the operator passes it on to the arbiters".to_owned(),
        Progress::Requested => format!("asked for: {}", plan.waits_for()),
        Progress::TargetReady {
            lag_millis: Some(lag),
        } => {
            format!(
                "{to} is ready to take over, {} behind; {from} still takes writes",
                millis(*lag)
            )
        }
        Progress::TargetReady { lag_millis: None } => format!("{to} is ready to take over"),
        Progress::Fenced => paint.warn(&format!(
            "{from} is fenced: no writes now; {to} applies what is left"
        )),
        Progress::HandedOver { epoch } => {
            format!("{to} holds the primary{}; it is being opened", under(epoch))
        }
        Progress::Done { epoch } => paint.good(&format!("done: {to} takes writes{}", under(epoch))),
        Progress::Refused { reason } => {
            paint.bad(&format!("refused, nothing has changed: {reason}"))
        }
        Progress::Cancelled { reason } => paint.bad(&format!("rolled back: {reason}")),
    };
    format!("{:>8}  {sentence}\n", millis(elapsed_millis))
}

/// The figures of a transition that is done.
pub fn receipt_summary(plan: &Plan, receipt: &ReceiptView, paint: Paint) -> String {
    let predicted = plan
        .predicted_pause
        .as_ref()
        .map(|pause| format!(" (predicted {})", millis(pause.millis)))
        .unwrap_or_default();
    let measured = match receipt.write_pause_millis {
        Some(pause) => paint.strong(&millis(pause)),
        None => "not known, since the old primary vanished without saying when".to_owned(),
    };
    let mut text = format!("Write pause: {measured}{predicted}\n");
    if !receipt.phases.is_empty() {
        text.push_str(&format!("Steps: {}\n", history::steps(receipt)));
    }
    text
}

/// A request that is under way, in one line.
pub(super) fn under_way(request: &RequestView) -> String {
    let what = if request.planned {
        "switchover"
    } else {
        "failover"
    };
    let to = request
        .to
        .as_ref()
        .map(|to| format!(" to {to}"))
        .unwrap_or_default();
    let phase = match &request.progress {
        Progress::Pending => "written down",
        Progress::Requested => "asked for",
        Progress::TargetReady { .. } => "the target is ready",
        Progress::Fenced => "the old primary is fenced",
        Progress::HandedOver { .. } => "handed over, being opened",
        Progress::Done { .. } => "done",
        Progress::Refused { .. } => "refused",
        Progress::Cancelled { .. } => "rolled back",
    };
    format!("{what}{to} under way: {phase} ({})", request.id)
}

/// How the present epoch began, in one line.
pub(super) fn last_transition(last: &ReceiptView, now: Timestamp) -> String {
    let from = last
        .from
        .as_ref()
        .map(|from| format!(" from {from}"))
        .unwrap_or_default();
    let to = last
        .to
        .as_ref()
        .map(|to| format!(" to {to}"))
        .unwrap_or_default();
    let when = ago(last.opened_at, now);
    let pause = last
        .write_pause_millis
        .map(|pause| format!(", writes paused {}", millis(pause)))
        .unwrap_or_default();
    format!(
        "epoch {}: {}{from}{to}, {}, {when}{pause}",
        last.epoch, last.kind, last.reason
    )
}

/// The heading of a dry run's result.
pub fn dry_run(unit: &UnitKey, would: bool, paint: Paint) -> String {
    if would {
        paint.good(&format!(
            "Unit {unit}: nothing stands against it. Nothing was changed."
        )) + "\n"
    } else {
        paint.bad(&format!(
            "Unit {unit}: it would be refused. Nothing was changed."
        )) + "\n"
    }
}
