//! Verifications and repairs as text.

use crds::{DataRepair, DataRepairPhase, DataRepairStatus, LinkRepair, RepairCounts, RepairMode};
use jiff::Timestamp;
use kube::ResourceExt;

use super::table::Table;
use super::{count, instant, millis};

/// What is compared: `Unit orders`, `SyncLink orders-sh-bj`.
pub fn subject(repair: &DataRepair) -> String {
    match (&repair.spec.unit, &repair.spec.link) {
        (Some(unit), _) => format!("Unit {unit}"),
        (None, Some(link)) => format!("SyncLink {link}"),
        (None, None) => "nothing".to_owned(),
    }
}

fn status(repair: &DataRepair) -> DataRepairStatus {
    repair.status.clone().unwrap_or_default()
}

fn phase(status: &DataRepairStatus) -> DataRepairPhase {
    status.phase.unwrap_or(DataRepairPhase::Pending)
}

/// What is left that differs, in words; `None`: nothing.
pub fn left_in_words(counts: &RepairCounts) -> Option<String> {
    let rows = match counts.rows_left() {
        0 => None,
        1 => Some("1 row is left that differs".to_owned()),
        rows => Some(format!("{rows} rows are left that differ")),
    };
    let tables = match counts.tables_missing {
        0 => None,
        1 => Some("1 table is not in its copy".to_owned()),
        tables => Some(format!("{tables} tables are not in their copies")),
    };
    let parts: Vec<String> = rows.into_iter().chain(tables).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The words of the command that makes the tables which the copy behind a link lacks; `None`: it lacks
/// none.
pub fn rebuild(repair: &DataRepair, link: &LinkRepair) -> Option<String> {
    let missing = link.tables.iter().filter(|table| table.table_missing);
    let names: Vec<&str> = missing.map(|table| table.table.as_str()).collect();
    let namespace = repair.namespace().unwrap_or_default();
    let of = match &repair.spec.unit {
        Some(unit) => format!("{namespace}/{unit} --rebuild --idc {}", link.target),
        None => format!("{namespace}/{} --link --rebuild", link.link),
    };
    (!names.is_empty()).then(|| format!("repair {of} --tables '{}'", names.join(",")))
}

/// The list for people.
pub fn list(repairs: &[DataRepair], namespaces: bool) -> String {
    if repairs.is_empty() {
        return "There is no DataRepair here.\n".to_owned();
    }
    let mut heading = vec![
        "NAME",
        "OF",
        "MODE",
        "PHASE",
        "PROGRESS",
        "DIVERGENT",
        "REPAIRED",
        "BEGAN",
        "NEXT",
    ];
    if namespaces {
        heading.insert(0, "NAMESPACE");
    }
    let mut table = Table::with_heading(&heading);
    for repair in repairs {
        let status = status(repair);
        let counts = status.counts.unwrap_or_default();
        let time = |at: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            at.as_ref().map_or("-".to_owned(), |at| instant(at.0))
        };
        let mut cells = vec![
            repair.name_any(),
            subject(repair),
            format!("{:?}", repair.spec.mode),
            format!("{:?}", phase(&status)),
            status.progress.clone().unwrap_or("-".to_owned()),
            counts.divergent.to_string(),
            counts.repaired.to_string(),
            time(&status.start_time),
            time(&status.next_schedule_time),
        ];
        if namespaces {
            cells.insert(0, repair.namespace().unwrap_or_default());
        }
        table.row(cells);
    }
    table.text()
}

/// How fast it is, by two looks at it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Speed {
    last: Option<(Timestamp, u64)>,
    rows_a_second: Option<u64>,
}

impl Speed {
    /// Takes in how many rows were compared at this time.
    pub fn look(&mut self, now: Timestamp, rows: u64) {
        if let Some((then, before)) = self.last {
            let passed = now.duration_since(then).as_millis();
            let passed = u64::try_from(passed).unwrap_or_default();
            if rows < before {
                self.rows_a_second = None;
            } else if passed < 1000 || rows == before {
                return;
            } else {
                self.rows_a_second = Some((rows - before).saturating_mul(1000) / passed);
            }
        }
        self.last = Some((now, rows));
    }
}

/// One line on how far it is.
pub fn progress(repair: &DataRepair, speed: Speed) -> String {
    let status = status(repair);
    let counts = status.counts.unwrap_or_default();
    let mut parts = vec![format!("{:?}", phase(&status))];
    if let Some(progress) = &status.progress {
        parts.push(bar(progress));
    }
    parts.push(format!(
        "{} of about {} rows",
        counts.rows,
        counts.rows_estimate.max(counts.rows)
    ));
    if let Some(rows) = speed.rows_a_second.filter(|_| !phase(&status).is_over()) {
        parts.push(format!("{rows} rows/s"));
    }
    if let Some(remaining) = status.remaining {
        parts.push(format!("{} left", millis(remaining.as_millis())));
    }
    if counts.divergent > 0 {
        parts.push(format!("{} differ", counts.divergent));
    }
    if counts.repaired > 0 {
        parts.push(format!("{} repaired", counts.repaired));
    }
    parts.join("  ")
}

fn bar(progress: &str) -> String {
    let percent: usize = progress.trim_end_matches('%').parse().unwrap_or_default();
    let done = percent.min(100) / 5;
    format!("[{}{}] {progress}", "#".repeat(done), "-".repeat(20 - done))
}

/// What it has come to, for people.
pub fn report(repair: &DataRepair) -> String {
    let status = status(repair);
    let mut text = format!(
        "DataRepair {}/{} ({:?} of {}): {:?}\n",
        repair.namespace().unwrap_or_default(),
        repair.name_any(),
        repair.spec.mode,
        subject(repair),
        phase(&status)
    );
    if let Some(message) = status
        .message
        .as_ref()
        .filter(|message| !message.is_empty())
    {
        text.push_str(&format!("  {message}\n"));
    }
    if let (Some(start), Some(end)) = (&status.start_time, &status.completion_time) {
        let took = end.0.duration_since(start.0).as_millis();
        text.push_str(&format!(
            "  began {}, took {}\n",
            instant(start.0),
            millis(u64::try_from(took).unwrap_or_default())
        ));
    }
    if let Some(next) = &status.next_schedule_time {
        text.push_str(&format!("  runs next {}\n", instant(next.0)));
    }
    let what = match repair.spec.mode {
        RepairMode::Rebuild => "copied anew",
        _ => "compared",
    };
    text.push_str(&tables(&status, what));
    text.push_str(&lacking(repair, &status));
    text.push_str(&statements(&status));
    let counts = status.counts.unwrap_or_default();
    let run = status.run.clone().unwrap_or_default();
    if counts.divergent > 0 {
        text.push_str(&format!(
            "{}, one by one, with the statements that mend them, are in the database of {}:\n  \
             SELECT * FROM multiactive.repairs WHERE run = '{run}'\n",
            count(counts.divergent, "row"),
            targets(&status)
        ));
    }
    text
}

/// A line for each link, and for each table with something to say about it.
fn tables(status: &DataRepairStatus, what: &str) -> String {
    let mut table = Table::with_heading(&[
        "LINK",
        "TABLE",
        "ROWS",
        "MISSING",
        "EXTRA",
        "DIFFERING",
        "REPAIRED",
        "FAILED",
        "UNJUDGED",
        "UNDONE",
    ]);
    let mut refused = String::new();
    for link in &status.links {
        let all = &link.counts;
        let cells = |name: String, counts: [u64; 8]| {
            let counts = counts.map(|number| number.to_string());
            [link.link.clone(), name].into_iter().chain(counts)
        };
        table.row(cells(
            format!("(all {})", all.tables),
            [
                all.rows,
                all.missing,
                all.extra,
                all.differing,
                all.repaired,
                all.failed,
                all.unjudged,
                all.undone,
            ],
        ));
        for one in &link.tables {
            table.row(cells(
                one.table.clone(),
                [
                    one.rows,
                    one.missing,
                    one.extra,
                    one.differing,
                    one.repaired,
                    one.failed,
                    one.unjudged,
                    one.undone,
                ],
            ));
            if !one.refused.is_empty() {
                refused.push_str(&format!("{} is not {what}: {}\n", one.table, one.refused));
            }
        }
    }
    if status.links.is_empty() {
        return refused;
    }
    table.text() + &refused
}

/// The tables that copies lack, with the command that makes them.
fn lacking(repair: &DataRepair, status: &DataRepairStatus) -> String {
    let mut text = String::new();
    for link in &status.links {
        for table in link.tables.iter().filter(|table| table.table_missing) {
            let (name, source, target) = (&table.table, &link.source, &link.target);
            text.push_str(&format!("{name} is in {source} and not in {target}\n"));
        }
        if let Some(command) = rebuild(repair, link) {
            text.push_str(&format!("  have it copied: mactl {command}\n"));
        }
    }
    text
}

/// What a dry run would have done.
fn statements(status: &DataRepairStatus) -> String {
    let mut text = String::new();
    for link in status.links.iter().filter(|it| !it.statements.is_empty()) {
        let (shown, all) = (link.statements.len() as u64, link.counts.divergent);
        let which = if shown == all {
            "What would mend".to_owned()
        } else {
            format!("The first {shown} of {all} statements that would mend")
        };
        text.push_str(&format!(
            "{which} the copy in {} (to be run by mactl repair --repair, not by hand):\n",
            link.target
        ));
        for statement in &link.statements {
            text.push_str(&format!("  {statement};\n"));
        }
    }
    text
}

fn targets(status: &DataRepairStatus) -> String {
    let found = status.links.iter().filter(|link| link.counts.divergent > 0);
    let names: Vec<&str> = found.map(|link| link.target.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair() -> DataRepair {
        let yaml = "
apiVersion: multiactive.dev/v1alpha1
kind: DataRepair
metadata: {name: orders-verify-x, namespace: shop}
spec: {unit: orders}
status:
  phase: Running
  run: orders-verify-x/uid
  startTime: 2026-11-22T03:00:00Z
  progress: 42%
  remaining: 90s
  counts: {tables: 2, rows: 4200, rowsEstimate: 10000, divergent: 3, missing: 2, differing: 1}
  links:
  - link: orders-sh-bj
    source: sh
    target: bj
    phase: Running
    counts: {tables: 2, rows: 4200, rowsEstimate: 10000, divergent: 3, missing: 2, differing: 1}
    tables:
    - {table: orders.a, rows: 100, missing: 2, extra: 0, differing: 1, repaired: 0, failed: 0, unjudged: 0, undone: 0}
    - {table: orders.k, refused: it has no key, rows: 0, missing: 0, extra: 0, differing: 0, repaired: 0, failed: 0, unjudged: 0, undone: 0}
";
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        let mut speed = Speed::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        speed.look(at(0), 0);
        speed.look(at(2), 4200);
        // Nothing new was told: the speed is that of before.
        speed.look(at(3), 4200);
        assert_eq!(
            progress(&repair(), speed),
            "Running  [########------------] 42%  4200 of about 10000 rows  2100 rows/s  90 s left  \
             3 differ"
        );
    }

    #[test]
    fn the_report_names_tables_and_where_the_rows_are() {
        let text = report(&repair());
        for part in [
            "DataRepair shop/orders-verify-x (Verify of Unit orders): Running\n",
            "orders-sh-bj  (all 2)   4200  2        0      1 ",
            "orders-sh-bj  orders.a  100   2        0      1 ",
            "orders.k is not compared: it has no key\n",
            "3 rows, one by one, with the statements that mend them, are in the database of bj:\n",
            "WHERE run = 'orders-verify-x/uid'",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn the_list_has_a_line_for_each() {
        let text = list(&[repair()], true);
        assert!(
            text.lines().nth(1).unwrap().starts_with("shop ")
                && text.contains("orders-verify-x  Unit orders  Verify  Running  42%"),
            "{text}"
        );
        assert_eq!(list(&[], false), "There is no DataRepair here.\n");
    }

    #[test]
    fn a_dry_run_shows_the_first_statements_and_says_of_how_many() {
        let mut repair = repair();
        let told = |repair: &DataRepair| report(repair);
        assert!(!told(&repair).contains("would mend"));
        let status = repair.status.as_mut().unwrap();
        status.links[0].statements = vec!["DELETE FROM `orders`.`a` WHERE `id` = 7".to_owned()];
        let text = told(&repair);
        let said = "The first 1 of 3 statements that would mend the copy in bj (to be run by mactl \
            repair --repair, not by hand):\n  DELETE FROM `orders`.`a` WHERE `id` = 7;\n";
        assert!(text.contains(said), "{text}");
        let json = serde_json::to_value(&repair).unwrap();
        assert_eq!(
            json["status"]["links"][0]["statements"][0],
            "DELETE FROM `orders`.`a` WHERE `id` = 7"
        );
    }

    #[test]
    fn a_table_that_a_copy_lacks_is_told_with_the_command_that_makes_it() {
        let mut repair = repair();
        let status = repair.status.as_mut().unwrap();
        let counts = status.counts.as_mut().unwrap();
        counts.tables_missing = 1;
        assert_eq!(
            left_in_words(counts).unwrap(),
            "3 rows are left that differ; 1 table is not in its copy"
        );
        assert_eq!(left_in_words(&RepairCounts::default()), None);
        let table = &mut status.links[0].tables[1];
        (table.table_missing, table.refused) = (true, String::new());
        let text = report(&repair);
        let said = "orders.k is in sh and not in bj\n  have it copied: mactl repair shop/orders \
            --rebuild --idc bj --tables 'orders.k'\n";
        assert!(text.contains(said), "{text}");
        repair.spec.link = repair.spec.unit.take().map(|_| "orders-sh-bj".to_owned());
        let said = "mactl repair shop/orders-sh-bj --link --rebuild --tables 'orders.k'\n";
        assert!(report(&repair).contains(said), "{}", report(&repair));
    }
}
