//! Transitions that were made.

use jiff::Timestamp;
use model::UnitKey;

use super::{Table, ago, instant, millis};
use crate::terminal::Paint;
use crate::view::ReceiptView;

/// The transitions of a Unit, the newest first.
pub fn history(receipts: &[ReceiptView], wide: bool, now: Timestamp) -> String {
    let mut heading = vec![
        "epoch",
        "kind",
        "from",
        "to",
        "when",
        "write pause",
        "reason",
    ];
    if wide {
        heading.extend(["opened at", "steps"]);
    }
    let mut table = Table::with_heading(&heading);
    for receipt in receipts {
        let mut cells = vec![
            receipt.epoch.to_string(),
            receipt.kind.clone(),
            receipt
                .from
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            receipt
                .to
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
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
pub fn receipt(unit: &UnitKey, receipt: &ReceiptView, paint: Paint) -> String {
    let from = receipt
        .from
        .as_ref()
        .map_or_else(|| "none".to_owned(), ToString::to_string);
    let mut table = Table::default();
    let mut line = |name: &str, value: String| table.row([paint.dim(name), value]);
    line("kind", receipt.kind.clone());
    line("from", from);
    line(
        "to",
        receipt
            .to
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string),
    );
    line("reason", format!("{}: {}", receipt.reason, receipt.message));
    line("began", receipt.started_at.map_or_else(unknown, instant));
    line("opened", instant(receipt.opened_at));
    line("write pause", pause(receipt.write_pause_millis));
    line("proof", receipt.proof.clone().unwrap_or_else(unknown));
    line("applied", receipt.applied.clone().unwrap_or_else(unknown));
    for (index, phase) in receipt.phases.iter().enumerate() {
        let name = if index == 0 { "steps" } else { "" };
        line(name, format!("{} {}", phase.name, millis(phase.millis)));
    }
    format!(
        "{}\n{}",
        paint.strong(&format!("Unit {unit}, epoch {}", receipt.epoch)),
        table.text()
    )
}

pub(super) fn steps(receipt: &ReceiptView) -> String {
    let steps: Vec<String> = receipt
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.name, millis(phase.millis)))
        .collect();
    steps.join(", ")
}

fn pause(pause: Option<u64>) -> String {
    pause.map_or_else(unknown, millis)
}

fn unknown() -> String {
    "not known".to_owned()
}
