//! Links: where they stand, how far, and where their changes went.

use jiff::Timestamp;
use model::LinkKey;
use mysql::skips::Held;

use super::table::Table;
use super::{ago, count, millis};
use crate::commands::{LedgerReport, LinkReport};

/// The list for people.
pub fn list(reports: &[LinkReport], namespaces: bool, wide: bool) -> String {
    if reports.is_empty() {
        return "There is no SyncLink here.\n".to_owned();
    }
    let mut heading = vec!["NAME", "FROM", "TO", "PHASE", "LAG", "RATE", "HELD"];
    if namespaces {
        heading.insert(0, "NAMESPACE");
    }
    if wide {
        heading.push("MESSAGE");
    }
    let mut table = Table::with_heading(&heading);
    for report in reports {
        let mut row = vec![
            report.link.name().to_owned(),
            report.source.to_string(),
            report.target().to_owned(),
            phase(report),
            report.lag_millis.map_or("-".to_owned(), millis),
            report.rate.clone().unwrap_or_else(|| "-".to_owned()),
            report
                .ledger
                .map_or("-".to_owned(), |ledger| ledger.held.all.to_string()),
        ];
        if namespaces {
            row.insert(0, report.link.namespace().to_owned());
        }
        if wide {
            row.push(report.message.clone());
        }
        table.row(row);
    }
    table.text()
}

/// How far behind a link is.
pub fn lag(report: &LinkReport, now: Timestamp) -> String {
    let unknown = || "not known".to_owned();
    let mut text = heading(report);
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    line("lag", report.lag_millis.map_or_else(unknown, millis));
    line("rate", report.rate.clone().unwrap_or_else(unknown));
    let position = &report.position;
    line("received", position.source.clone().unwrap_or_else(unknown));
    line("applied", position.applied.clone().unwrap_or_else(unknown));
    text + &age(report, now)
}

/// Where each change went.
pub fn ledger(report: &LinkReport, now: Timestamp) -> String {
    let mut text = heading(report);
    let Some(ledger) = &report.ledger else {
        text.push_str("  nothing was counted yet\n");
        return text + &age(report, now);
    };
    let held = ledger.held;
    let kinds = [
        (held.conflicts, "conflicts"),
        (held.stranded, "stranded"),
        (held.skipped, "skipped"),
    ];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, kind)| format!("{number} {kind}"))
        .collect();
    let kinds = if kinds.is_empty() {
        String::new()
    } else {
        format!("  ({})", kinds.join(", "))
    };
    let width = ledger
        .read
        .max(u64::try_from(ledger.accounted()).unwrap_or(u64::MAX))
        .to_string()
        .len();
    let mut line = |sign: &str, name: &str, number: u64, note: &str| {
        text.push_str(&format!("  {sign} {name:<9} {number:>width$}{note}\n"));
    };
    line(" ", "read", ledger.read, "");
    line("=", "applied", ledger.applied, "");
    line("+", "filtered", ledger.filtered, "");
    line("+", "held", held.all, &kinds);
    line("+", "in flight", ledger.in_flight, "");
    if ledger.balanced {
        text.push_str("It adds up.\n");
    } else {
        text.push_str(&format!("IT DOES NOT ADD UP: {}.\n", imbalance(ledger)));
    }
    if let (Some(conflicts), Some(skipped)) = (report.conflicts_held, report.skipped_open) {
        text.push_str(&format!(
            "Not settled at {}: {} held as conflicts, {} skipped.\n",
            report.target(),
            count(conflicts, "change"),
            count(skipped, "transaction")
        ));
    }
    text + &age(report, now)
}

/// What is wrong with a ledger that does not add up.
pub fn imbalance(ledger: &LedgerReport) -> String {
    let (read, accounted) = (u128::from(ledger.read), ledger.accounted());
    if read > accounted {
        format!(
            "{read} changes were read and {accounted} are accounted for, so {} went nowhere",
            read - accounted
        )
    } else {
        format!(
            "{read} changes were read and {accounted} are accounted for, {} more than that",
            accounted - read
        )
    }
}

/// What a link has left out; `settled`: also what was settled, with when, by whom and why.
pub fn held(link: &LinkKey, held: &[Held], settled: bool, wide: bool) -> String {
    if held.is_empty() && settled {
        return format!("SyncLink {link} has left nothing out.\n");
    }
    if held.is_empty() {
        return format!("Nothing that SyncLink {link} has left out waits to be settled.\n");
    }
    let mut heading = vec![
        "GTID",
        "COMMITTED",
        "CHANGES",
        "FILED",
        "ASKED BY",
        "REASON",
    ];
    if settled {
        heading.extend(["SETTLED", "SETTLED BY", "WHY"]);
    }
    if wide {
        heading.extend(["EPOCH", "WHAT"]);
    }
    let mut table = Table::with_heading(&heading);
    for held in held {
        let mut row = vec![
            held.gtid.clone(),
            held.committed.clone(),
            held.changes.to_string(),
            held.filed.clone(),
            held.asked_by.clone(),
            held.reason.clone(),
        ];
        if settled {
            let texts = [&held.settled, &held.settled_by, &held.settled_reason];
            row.extend(texts.map(|text| match text.as_str() {
                "" => "-".to_owned(),
                text => text.to_owned(),
            }));
        }
        if wide {
            row.extend([held.epoch.to_string(), held.what.clone()]);
        }
        table.row(row);
    }
    table.text()
}

fn phase(report: &LinkReport) -> String {
    match report.phase {
        Some(phase) => format!("{phase:?}"),
        None if report.is_elsewhere() => "elsewhere".to_owned(),
        None => "-".to_owned(),
    }
}

fn heading(report: &LinkReport) -> String {
    let mut text = format!(
        "SyncLink {}, {} → {}: {}\n",
        report.link,
        report.source,
        report.target(),
        phase(report)
    );
    if !report.message.is_empty() {
        text.push_str(&format!("  {}\n", report.message));
    }
    text
}

/// How old the figures are.
fn age(report: &LinkReport, now: Timestamp) -> String {
    if report.is_elsewhere() {
        return format!(
            "The figures are in the object of the same name in the cluster of {}.\n",
            report.target()
        );
    }
    match report.written {
        Some(written) => format!(
            "As the operator wrote it {}; it writes again when the figures have moved by a fifth.\n",
            ago(written, now)
        ),
        None => "The API does not tell when this was written.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::now;

    fn report(read: u64) -> LinkReport {
        let object = json!({
            "apiVersion": "multiactive.dev/v1alpha1", "kind": "SyncLink",
            "metadata": {"name": "orders-sh-bj", "namespace": "shop", "generation": 1,
                "managedFields": [{"manager": "multiactive-link", "operation": "Apply",
                    "subresource": "status", "time": "2026-03-04T05:05:55Z"}]},
            "spec": {"unit": "orders", "source": {"idc": "sh"}, "target": {"idc": "bj"}},
            "status": {"observedGeneration": 1, "phase": "Streaming", "lag": "35ms", "rate": "120/s",
                "position": {"source": "0-1-9", "applied": "0-1-8"},
                "conflictsHeld": 0, "skippedOpen": 1,
                "ledger": {"read": read, "applied": 990, "filtered": 4, "conflicts": 0,
                    "stranded": 1, "held": 3, "inFlight": 2}},
        });
        LinkReport::of(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn a_ledger_shows_its_sum_and_is_loud_when_it_is_wrong() {
        let text = ledger(&report(1000), now());
        assert_eq!(
            text,
            "SyncLink shop/orders-sh-bj, sh → bj: Streaming\n\
             \x20   read      1000\n\
             \x20 = applied    990\n\
             \x20 + filtered     4\n\
             \x20 + held         4  (1 stranded, 3 skipped)\n\
             \x20 + in flight    2\n\
             It adds up.\n\
             Not settled at bj: 0 changes held as conflicts, 1 transaction skipped.\n\
             As the operator wrote it 12 s ago; it writes again when the figures have moved by a \
             fifth.\n"
        );
        let text = ledger(&report(1003), now());
        let wrong = "IT DOES NOT ADD UP: 1003 changes were read and 1000 are accounted for, so 3 went \
                     nowhere.\n";
        assert!(text.contains(wrong), "{text}");
        let text = ledger(&report(999), now());
        assert!(text.contains("1 more than that"), "{text}");
    }

    #[test]
    fn lag_shows_both_positions_and_how_old_they_are() {
        let text = lag(&report(1000), now());
        for part in ["35 ms", "120/s", "0-1-9", "0-1-8", "12 s ago"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_list_shows_what_is_held() {
        assert_eq!(
            list(&[report(1000)], true, false),
            "NAMESPACE  NAME          FROM  TO  PHASE      LAG    RATE   HELD\n\
             shop       orders-sh-bj  sh    bj  Streaming  35 ms  120/s  4\n"
        );
    }

    fn left_out(settled: &str) -> Held {
        Held {
            link: "shop/orders-sh-bj".to_owned(),
            source: "sh".to_owned(),
            gtid: "0-1-7".to_owned(),
            epoch: 1,
            committed: "then".to_owned(),
            changes: 3,
            what: "orders.t (3)".to_owned(),
            asked_by: "ann".to_owned(),
            reason: "wide".to_owned(),
            asked: "early".to_owned(),
            filed: "later".to_owned(),
            settled: settled.to_owned(),
            settled_by: if settled.is_empty() { "" } else { "bob" }.to_owned(),
            settled_reason: if settled.is_empty() { "" } else { "mended" }.to_owned(),
        }
    }

    #[test]
    fn who_settled_what_is_listed_when_asked_for() {
        let link: LinkKey = "shop/orders-sh-bj".parse().unwrap();
        let open = held(&link, &[left_out("")], false, false);
        assert!(
            open.contains("0-1-7") && !open.contains("SETTLED"),
            "{open}"
        );
        let all = [left_out(""), left_out("now")];
        assert_eq!(
            held(&link, &all, true, false),
            "GTID   COMMITTED  CHANGES  FILED  ASKED BY  REASON  SETTLED  SETTLED BY  WHY\n\
             0-1-7  then       3        later  ann       wide    -        -           -\n\
             0-1-7  then       3        later  ann       wide    now      bob         mended\n"
        );
        assert!(held(&link, &[], false, false).contains("waits to be settled"));
        assert!(held(&link, &[], true, false).contains("left nothing out"));
    }
}
