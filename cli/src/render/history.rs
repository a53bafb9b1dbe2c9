//! Transitions that were made.

use jiff::Timestamp;
use model::{FenceProof, Receipt, TransitionKind, UnitKey};

use super::{Table, ago, instant, millis};
use crate::terminal::Paint;

/// The transitions of a Unit, the newest first.
pub fn history(receipts: &[Receipt], wide: bool, now: Timestamp) -> String {
    let mut heading = vec!["epoch", "kind", "from", "to", "when", "write pause", "reason"];
    if wide {
        heading.extend(["opened at", "steps"]);
    }
    let mut table = Table::with_heading(&heading);
    for receipt in receipts {
        let mut cells = vec![
            receipt.epoch.to_string(),
            kind(receipt.kind).to_owned(),
            receipt.from.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            receipt.to.to_string(),
            ago(receipt.opened_at, now),
            pause(receipt.write_pause_millis),
            receipt.reason.clone(),
        ];
        if wide {
            cells.push(instant(receipt.opened_at));
            cells.push(steps(receipt));
        }
        table.row(cells);
    }
    table.text()
}

/// One transition in full.
pub fn receipt(unit: &UnitKey, receipt: &Receipt, paint: Paint) -> String {
    let from = receipt.from.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let mut table = Table::default();
    let mut line = |name: &str, value: String| table.row([paint.dim(name), value]);
    line("kind", kind(receipt.kind).to_owned());
    line("from", from);
    line("to", receipt.to.to_string());
    line("reason", format!("{}: {}", receipt.reason, receipt.message));
    line("began", instant(receipt.started_at));
    line("opened", instant(receipt.opened_at));
    line("write pause", pause(receipt.write_pause_millis));
    line("proof", proof(receipt));
    let applied = receipt.applied.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    line("applied", applied);
    for (index, phase) in receipt.phases.iter().enumerate() {
        let name = if index == 0 { "steps" } else { "" };
        line(name, format!("{} {}", phase.name, millis(phase.millis)));
    }
    format!("{}\n{}", paint.strong(&format!("Unit {unit}, epoch {}", receipt.epoch)), table.text())
}

/// How the old primary is known to be closed.
fn proof(receipt: &Receipt) -> String {
    match (&receipt.proof, &receipt.from) {
        (Some(FenceProof::Fenced { identity, position, at, .. }), _) => format!(
            "server {} was fenced at {}, at position {position}",
            identity.0,
            instant(*at)
        ),
        (Some(FenceProof::GuardExpired { identity, at }), _) => format!(
            "server {} was out of reach; its guard's last deadline had passed at {}",
            identity.0,
            instant(*at)
        ),
        (Some(FenceProof::NeverOpened { at }), _) => {
            format!("it was never opened in that epoch (seen at {})", instant(*at))
        }
        (None, Some(from)) => format!("the lease of {from} had run out"),
        (None, None) => "none needed: the Unit had no primary before".to_owned(),
    }
}

pub(super) fn steps(receipt: &Receipt) -> String {
    let steps: Vec<String> = receipt
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.name, millis(phase.millis)))
        .collect();
    steps.join(", ")
}

fn pause(pause: Option<u64>) -> String {
    pause.map_or_else(|| "not known".to_owned(), millis)
}

/// The kind as it is shown.
pub(super) fn kind(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::First => "First",
        TransitionKind::Switchover => "Switchover",
        TransitionKind::Failover => "Failover",
        TransitionKind::Retake => "Retake",
    }
}
