//! `link settle`: nothing waits any more for transactions that a link has left out.

use mysql::skips::{self, Held};

use super::skip::target;
use super::{LinkReport, read};
use crate::args::LinkSettleArgs;
use crate::commands::databases::{by, failed};
use crate::commands::{Context, note, show};
use crate::failure::{Exit, Failure};
use crate::invocation::quoted;
use crate::render::{count, link as render};

/// At most so many GTIDs are named in a sentence.
const NAMED: usize = 10;

/// What was found of the transactions that were named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// As typed: the link has not left them out.
    missing: Vec<String>,
    /// Nobody has settled them.
    open: Vec<Held>,
    /// They were settled before.
    before: Vec<Held>,
}

/// Sorts what was found for each GTID that was typed.
fn sort(found: Vec<(String, Vec<Held>)>) -> Sorted {
    let mut sorted = Sorted::default();
    for (typed, held) in found {
        if held.is_empty() {
            sorted.missing.push(typed);
        }
        for held in held {
            let place = if held.is_open() {
                &mut sorted.open
            } else {
                &mut sorted.before
            };
            // It may have been typed twice.
            if !place.contains(&held) {
                place.push(held);
            }
        }
    }
    sorted
}

/// GTIDs in words.
fn named(gtids: &[String]) -> String {
    let shown = gtids[..gtids.len().min(NAMED)].join(", ");
    match gtids.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Why transactions cannot be settled that are not there, with those that could be.
fn not_filed(report: &LinkReport, missing: &[String], open: &[Held]) -> String {
    let there: Vec<String> = open.iter().map(|held| held.gtid.clone()).collect();
    let there = if there.is_empty() {
        "nothing waits there to be settled".to_owned()
    } else {
        format!("what waits there to be settled is {}", named(&there))
    };
    format!(
        "SyncLink {} has left no such transaction out of {}: {}; {there}",
        report.link,
        report.target(),
        named(missing)
    )
}

fn question(report: &LinkReport, open: &[Held]) -> String {
    let changes = open.iter().map(|held| held.changes).sum();
    format!(
        "{} lacks {} of {} ({}). Are its rows as they should be, so that nobody has to be told of that \
         any more?",
        report.target(),
        count(open.len() as u64, "transaction"),
        report.source,
        count(changes, "change"),
    )
}

pub(super) async fn run(context: &Context, args: &LinkSettleArgs) -> Result<Exit, Failure> {
    let (kube, report) = read(context, &args.link).await?;
    let key = &report.link;
    let link = key.to_string();
    let tried = format!("nothing of SyncLink {key} was settled");
    let (idc, mut session) = target(context, kube, &report, &tried).await?;
    let database = |error: skips::DriverError| failed(&tried, &idc, &error.to_string());
    let mut found = Vec::new();
    for gtid in &args.gtid {
        let held = skips::find(&mut session, &link, gtid).await;
        found.push((gtid.clone(), held.map_err(database)?));
    }
    let Sorted {
        missing,
        open,
        before,
    } = sort(found);
    if !missing.is_empty() {
        let waiting = skips::held(&mut session, &link, true).await;
        let waiting = waiting.map_err(database)?;
        return Err(
            Failure::refused(&tried, not_filed(&report, &missing, &waiting))
                .next(context.call.own(&format!("link held {key} --settled"))),
        );
    }
    for held in &before {
        note(&format!(
            "note: {} settled {} at {} UTC already: {}\n",
            held.settled_by, held.gtid, held.settled, held.settled_reason
        ));
    }
    let mut settled = Vec::new();
    if !open.is_empty() {
        note(&render::held(key, &open, false, true));
        let mut command = format!("link settle {key}");
        for held in &open {
            command.push_str(&format!(" --gtid {}", held.gtid));
        }
        command.push_str(&format!(" --reason {}", quoted(&args.reason)));
        crate::confirm::obtain(
            args.yes,
            &question(&report, &open),
            &tried,
            &context.call.own(&command),
        )?;
        let gtids: Vec<String> = open.iter().map(|held| held.gtid.clone()).collect();
        let done = skips::settle(&mut session, &link, &gtids, &by(), &args.reason).await;
        done.map_err(|error| failed(&tried, &idc, &error.to_string()))?;
        // As it stands now: somebody else may have settled one at the same moment.
        for held in &open {
            let now = skips::find(&mut session, &link, &held.gtid).await;
            let same = |now: &Held| now.source == held.source && now.asked == held.asked;
            settled.extend(now.map_err(database)?.into_iter().filter(same));
        }
    }
    show(
        args.output.output,
        &settled,
        |_| told(context, &report, &settled),
        || settled.iter().map(|held| held.gtid.clone()).collect(),
    )?;
    Ok(Exit::Done)
}

fn told(context: &Context, report: &LinkReport, settled: &[Held]) -> String {
    if settled.is_empty() {
        return format!(
            "Nothing of what was named waited to be settled in {}.\n",
            report.target()
        );
    }
    let list = format!("link held {} --settled", report.link);
    format!(
        "{} that SyncLink {} has left out of {}: settled. The link counts again within ten seconds, \
         while it is connected.\nSee what was settled: {}\n",
        count(settled.len() as u64, "transaction"),
        report.link,
        report.target(),
        context.call.own(&list)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(gtid: &str, settled: &str) -> Held {
        Held {
            link: "shop/orders-sh-bj".to_owned(),
            source: "sh".to_owned(),
            gtid: gtid.to_owned(),
            epoch: 1,
            committed: String::new(),
            changes: 2,
            what: String::new(),
            asked_by: "ann".to_owned(),
            reason: "wide".to_owned(),
            asked: String::new(),
            filed: String::new(),
            settled: settled.to_owned(),
            settled_by: String::new(),
            settled_reason: String::new(),
        }
    }

    fn report() -> LinkReport {
        let object = json!({
            "apiVersion": "multiactive.dev/v1alpha1", "kind": "SyncLink",
            "metadata": {"name": "orders-sh-bj", "namespace": "shop"},
            "spec": {"unit": "orders", "source": {"idc": "sh"}, "target": {"idc": "bj"}},
        });
        LinkReport::of(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn what_is_named_is_open_settled_before_or_not_there() {
        let found = [
            ("0-1-7", vec![held("0-1-7", "")]),
            ("0-1-8", vec![held("0-1-8", "then")]),
            ("0-1-9", Vec::new()),
            // Typed twice.
            ("0-1-7", vec![held("0-1-7", "")]),
            // Given out again by a source that was built anew.
            ("0-1-5", vec![held("0-1-5", ""), held("0-1-5", "then")]),
        ];
        let found = found.into_iter();
        let sorted = sort(
            found
                .map(|(typed, held)| (typed.to_owned(), held))
                .collect(),
        );
        assert_eq!(
            sorted,
            Sorted {
                missing: vec!["0-1-9".to_owned()],
                open: vec![held("0-1-7", ""), held("0-1-5", "")],
                before: vec![held("0-1-8", "then"), held("0-1-5", "then")],
            }
        );
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        let missing = ["0-1-9".to_owned()];
        let said = not_filed(&report(), &missing, &[held("0-1-7", ""), held("0-1-8", "")]);
        assert_eq!(
            said,
            "SyncLink shop/orders-sh-bj has left no such transaction out of bj: 0-1-9; what waits there \
             to be settled is 0-1-7, 0-1-8"
        );
        let said = not_filed(&report(), &missing, &[]);
        assert!(
            said.ends_with("nothing waits there to be settled"),
            "{said}"
        );
        let many: Vec<Held> = (0..12).map(|n| held(&format!("0-1-{n}"), "")).collect();
        let said = not_filed(&report(), &missing, &many);
        assert!(said.ends_with("0-1-9 and 2 more"), "{said}");
    }

    #[test]
    fn the_question_counts_what_it_is_about() {
        let asked = question(&report(), &[held("0-1-7", ""), held("0-1-8", "")]);
        let about = "bj lacks 2 transactions of sh (4 changes). ";
        assert!(asked.starts_with(about), "{asked}");
    }
}
