//! The life of a repair, from each thing that can be seen of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{LinkPhase, LinkRepair, RepairCounts, SyncLinkStatus};
use model::{RepairPhase, RepairReport, TableReport};

use super::*;
use crate::http::StatusError;
use crate::samples;

const NOW: &str = "2026-11-22T02:30:20Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn repair(spec: &str) -> DataRepair {
    let mut repair: DataRepair = samples::object(&format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: DataRepair\n\
         metadata: {{name: nightly, namespace: shop}}\nspec: {{{spec}}}\n"
    ));
    repair.metadata.creation_timestamp = Some(Time(time("2026-11-22T02:00:00Z")));
    repair
}

fn controlled(spec: &str, word: &str) -> DataRepair {
    let mut repair = repair(spec);
    repair
        .annotations_mut()
        .insert(crds::CONTROL.to_owned(), word.to_owned());
    repair
}

fn link(phase: Option<LinkPhase>) -> Vec<Arc<SyncLink>> {
    let mut link = samples::link();
    link.status = Some(SyncLinkStatus {
        phase,
        ..SyncLinkStatus::default()
    });
    vec![Arc::new(link)]
}

/// What is seen; as it is told, it is well.
struct Seen {
    links: Vec<Arc<SyncLink>>,
    state: UnitState,
    word: Word<RepairStatus>,
    moved_for: Duration,
    here: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            links: link(Some(LinkPhase::Streaming)),
            state: samples::state(),
            word: None,
            moved_for: Duration::ZERO,
            here: true,
        }
    }
}

impl Seen {
    fn decide(&self, repair: &DataRepair, now: &str) -> Decision {
        let (key, unit) = (samples::key(), samples::unit());
        let facts = Facts {
            repair,
            unit: Some((&key, &unit)),
            known: [vec!["orders".to_owned()], vec!["orders-sh-bj".to_owned()]],
            links: &self.links,
            state: Some(&self.state),
            here: &|_| self.here,
            word: &|_| self.word.clone(),
            moved_for: &|| self.moved_for,
        };
        decide(&facts, time(now))
    }

    fn status(&self, repair: &DataRepair, now: &str) -> DataRepairStatus {
        match self.decide(repair, now) {
            Decision::Report(status, _) => *status,
            finished @ Decision::Finished { .. } => panic!("{finished:?}"),
        }
    }

    /// The repair with the status that is written now.
    fn next(&self, mut repair: DataRepair, now: &str) -> DataRepair {
        repair.status = Some(self.status(&repair, now));
        repair
    }
}

fn says(run: &str, phase: RepairPhase, table: TableReport) -> RepairStatus {
    RepairStatus {
        link: "shop/orders-sh-bj".parse().unwrap(),
        run: run.to_owned(),
        phase,
        report: RepairReport {
            rows_estimate: 200,
            rows: table.rows,
            tables: BTreeMap::from([("orders.a".to_owned(), table)]),
            statements: Vec::new(),
        },
        remaining_seconds: Some(9),
        message: String::new(),
    }
}

fn refused(seen: &Seen, spec: &str) -> String {
    let status = seen.status(&repair(spec), NOW);
    assert_eq!(status.phase, Some(DataRepairPhase::Refused), "{status:?}");
    assert!(status.completion_time.is_some() && status.links.is_empty());
    status.message.unwrap()
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_value_and_the_fix() {
    let well = Seen::default();
    let wins = refused(&well, "unit: orders, mode: Repair, strategy: TargetWins");
    assert!(wins.contains("TargetWins is not supported"), "{wins}");
    let cron = refused(&well, "unit: orders, schedule: '0 25 * * *'");
    assert!(cron.contains("its hour has \"25\""), "{cron}");
    let small = refused(&well, "unit: orders, maxBatchSize: 0KiB");
    assert!(small.contains("spec.maxBatchSize is 0KiB"), "{small}");
    let unknown = refused(&well, "link: nowhere");
    assert!(
        unknown.contains("\"nowhere\"") && unknown.contains("there are: orders-sh-bj"),
        "{unknown}"
    );
    let other = Seen {
        links: Vec::new(),
        ..Seen::default()
    };
    let other = refused(&other, "unit: orders, link: orders-sh-bj");
    assert!(other.contains("is no link of Unit shop/orders"), "{other}");
    let halted = Seen {
        links: link(Some(LinkPhase::Halted)),
        ..Seen::default()
    };
    let text = refused(&halted, "unit: orders");
    assert!(
        text.contains("SyncLink shop/orders-sh-bj is Halted"),
        "{text}"
    );
    let mut none = Seen::default();
    none.state.primary = None;
    assert!(refused(&none, "unit: orders").contains("Unit shop/orders has no primary"));
    let mut other = Seen::default();
    other.state.primary.as_mut().unwrap().value.idc = samples::idc_name("bj");
    let text = refused(&other, "link: orders-sh-bj");
    assert!(
        text.contains("comes from sh, and the primary of Unit shop/orders is bj"),
        "{text}"
    );
    let text = refused(&other, "unit: orders");
    assert!(
        text.contains("no SyncLink from its primary bj to sh"),
        "{text}"
    );
    let far = Seen {
        here: false,
        ..Seen::default()
    };
    let text = refused(&far, "unit: orders");
    assert!(text.contains("orders-sh-bj (to bj)"), "{text}");
}

#[test]
fn a_unit_that_is_not_there_is_told_with_those_there_are() {
    let repair = repair("unit: oders");
    let facts = Facts {
        repair: &repair,
        unit: None,
        known: [vec!["orders".to_owned()], Vec::new()],
        links: &[],
        state: Some(&UnitState::default()),
        here: &|_| true,
        word: &|_| None,
        moved_for: &|| Duration::ZERO,
    };
    let Decision::Report(status, _) = decide(&facts, time(NOW)) else {
        panic!()
    };
    let text = status.message.unwrap();
    assert!(
        text.starts_with(
            "spec.unit is \"oders\", but there is no Unit of that name in namespace shop (there \
             are: orders)"
        ),
        "{text}"
    );
}

#[test]
fn a_run_from_its_beginning_to_its_end() {
    let mut seen = Seen::default();
    let repair = seen.next(repair("unit: orders"), NOW);
    let begun = repair.status.clone().unwrap();
    assert!(under_way(&begun));
    assert_eq!(begun.run.as_deref(), Some("nightly/uid-1"));
    assert_eq!((begun.epoch, begun.links.len()), (Some(1), 1));
    // Nothing was heard of its pod yet, or only of one of another run.
    for word in [
        None,
        Some(Ok(says(
            "nightly/uid-0",
            RepairPhase::Done,
            TableReport::default(),
        ))),
    ] {
        seen.word = word;
        assert!(under_way(&seen.status(&repair, NOW)));
    }
    let half = TableReport {
        rows: 100,
        missing: 2,
        differing: 1,
        ..TableReport::default()
    };
    seen.word = Some(Ok(says(
        "nightly/uid-1",
        RepairPhase::Running,
        half.clone(),
    )));
    let repair = seen.next(repair, NOW);
    let running = repair.status.clone().unwrap();
    assert_eq!(running.phase, Some(DataRepairPhase::Running));
    assert_eq!(running.progress.as_deref(), Some("50%"));
    assert_eq!(running.remaining, Some(crds::Duration::from_secs(9)));
    assert_eq!(running.counts.unwrap().divergent, 3);
    // A pod that takes its place has read nothing yet: what was known stays.
    seen.word = Some(Ok(RepairStatus {
        link: "shop/orders-sh-bj".parse().unwrap(),
        run: "nightly/uid-1".to_owned(),
        phase: RepairPhase::Pending,
        report: RepairReport::default(),
        remaining_seconds: None,
        message: "cannot connect".to_owned(),
    }));
    assert_eq!(seen.status(&repair, NOW).counts.unwrap().divergent, 3);
    let whole = TableReport {
        rows: 210,
        done: true,
        ..half
    };
    seen.word = Some(Ok(says("nightly/uid-1", RepairPhase::Done, whole)));
    let repair = seen.next(repair, "2026-11-22T02:31:00Z");
    let done = repair.status.clone().unwrap();
    assert_eq!(done.phase, Some(DataRepairPhase::Done));
    assert_eq!(
        done.message.as_deref(),
        Some(
            "210 rows of 1 tables compared: 3 rows differ (2 missing, 0 extra, 1 with other values)."
        )
    );
    assert!(!under_way(&done) && done.completion_time.is_some());
    assert_eq!(done.last_run, None);
    // Whatever is heard after that changes nothing.
    seen.word = Some(Err(StatusError::Answer {
        address: "x".to_owned(),
        cause: "gone".to_owned(),
    }));
    let Decision::Finished { delete_at } = seen.decide(&repair, NOW) else {
        panic!()
    };
    assert_eq!(delete_at, time("2026-11-29T02:31:00Z"));
}

#[test]
fn the_end_of_several_links_is_the_worst_and_comes_with_the_last() {
    use DataRepairPhase::{Done, Incomplete, Paused, Pending, Refused, Running, Stopped};
    let run = |phases: &[DataRepairPhase]| {
        let links = phases.iter().map(|phase| LinkRepair {
            link: "a".to_owned(),
            source: samples::idc_name("sh"),
            target: samples::idc_name("bj"),
            phase: *phase,
            message: String::new(),
            remaining: None,
            counts: RepairCounts::default(),
            tables: Vec::new(),
            statements: Vec::new(),
        });
        let old = DataRepairStatus::default();
        let status = report::summed(&repair("unit: orders"), &old, links.collect(), None);
        status.phase.unwrap()
    };
    assert_eq!(run(&[Done, Running]), Running);
    assert_eq!(run(&[Done, Pending]), Pending);
    assert_eq!(run(&[Refused, Paused]), Paused);
    assert_eq!(run(&[Paused, Running]), Running);
    assert_eq!(run(&[Done, Incomplete]), Incomplete);
    assert_eq!(run(&[Stopped, Incomplete]), Stopped);
    assert_eq!(run(&[Stopped, Refused, Done]), Refused);
    assert_eq!(run(&[Done, Done]), Done);
}

#[test]
fn a_primary_that_moved_ends_it_with_the_workers_last_word_or_without() {
    let mut seen = Seen::default();
    let repair = seen.next(repair("unit: orders"), NOW);
    seen.state.epoch.as_mut().unwrap().value.epoch = Epoch(2);
    assert!(under_way(&seen.status(&repair, NOW)));
    seen.moved_for = LAST_WORD;
    let status = seen.status(&repair, NOW);
    assert_eq!(status.phase, Some(DataRepairPhase::Refused));
    let text = status.message.unwrap();
    assert!(
        text.contains("it was begun in epoch 1, and sh holds epoch 2"),
        "{text}"
    );
    seen.links.clear();
    let text = seen.status(&repair, NOW).message.unwrap();
    assert!(text.contains("The SyncLink was deleted"), "{text}");
}

#[test]
fn a_person_may_hold_it_before_it_begins_and_a_word_that_is_none_holds_it_too() {
    let seen = Seen::default();
    let paused = seen.status(&controlled("unit: orders", "Pause"), NOW);
    assert_eq!(paused.phase, Some(DataRepairPhase::Paused));
    assert!(paused.run.is_none());
    let odd = seen.status(&controlled("unit: orders", "pause"), NOW);
    assert_eq!(odd.phase, Some(DataRepairPhase::Paused));
    assert!(
        odd.message
            .unwrap()
            .contains("is \"pause\": set it to Run, Pause or Stop")
    );
    let stopped = seen.next(controlled("unit: orders", "Stop"), NOW);
    assert_eq!(
        stopped.status.as_ref().unwrap().phase,
        Some(DataRepairPhase::Stopped)
    );
    assert!(matches!(
        seen.decide(&stopped, NOW),
        Decision::Finished { .. }
    ));
    let run = seen.status(&controlled("unit: orders", "Run"), NOW);
    assert!(under_way(&run));
}

#[test]
fn a_schedule_runs_at_its_times_and_missed_ones_once() {
    let mut seen = Seen::default();
    let waits = seen.next(
        repair("unit: orders, schedule: '*/20 * * * *'"),
        "2026-11-22T02:10:00Z",
    );
    let status = waits.status.clone().unwrap();
    assert_eq!(status.phase, Some(DataRepairPhase::Pending));
    let at = |time: &Option<Time>| time.as_ref().unwrap().0.to_string();
    assert_eq!(at(&status.next_schedule_time), "2026-11-22T02:20:00Z");
    assert!(!under_way(&status));
    // 02:20, 02:40 and 03:00 have passed: one run, for the last of them.
    let runs = seen.next(waits, "2026-11-22T03:05:00Z");
    let status = runs.status.clone().unwrap();
    assert_eq!(status.run.as_deref(), Some("nightly/uid-1@20261122T0300Z"));
    assert_eq!(at(&status.last_schedule_time), "2026-11-22T03:00:00Z");
    seen.word = Some(Ok(says(
        "nightly/uid-1@20261122T0300Z",
        RepairPhase::Done,
        TableReport::default(),
    )));
    let ended = seen.next(runs, "2026-11-22T03:06:00Z");
    let status = ended.status.clone().unwrap();
    assert_eq!(status.phase, Some(DataRepairPhase::Done));
    assert_eq!(
        status.last_run.as_ref().unwrap().phase,
        DataRepairPhase::Done
    );
    let idle = seen.next(ended, "2026-11-22T03:06:01Z");
    assert_eq!(
        idle.status.as_ref().unwrap().phase,
        Some(DataRepairPhase::Done)
    );
    let again = seen.next(idle.clone(), "2026-11-22T03:20:00Z");
    let status = again.status.clone().unwrap();
    assert_eq!(status.run.as_deref(), Some("nightly/uid-1@20261122T0320Z"));
    assert!(under_way(&status) && status.counts == Some(RepairCounts::default()));
    // One that cannot begin waits for the next time.
    seen.links = link(Some(LinkPhase::Halted));
    let refused = seen.next(idle.clone(), "2026-11-22T03:20:00Z");
    let status = refused.status.clone().unwrap();
    assert_eq!(status.phase, Some(DataRepairPhase::Refused));
    assert!(!under_way(&seen.status(&refused, "2026-11-22T03:21:00Z")));
    seen.links = link(Some(LinkPhase::Streaming));
    assert!(under_way(&seen.status(&refused, "2026-11-22T03:40:00Z")));
    // Held, it does not begin; stopped, it never does.
    let hold = |word: &str| {
        let mut held = idle.clone();
        let word = word.to_owned();
        held.annotations_mut()
            .insert(crds::CONTROL.to_owned(), word);
        held
    };
    let paused = seen.status(&hold("Pause"), "2026-11-22T03:40:00Z");
    assert_eq!(paused.phase, Some(DataRepairPhase::Paused));
    let stopped = seen.next(hold("Stop"), "2026-11-22T03:40:00Z");
    assert!(matches!(
        seen.decide(&stopped, "2026-11-22T04:00:00Z"),
        Decision::Finished { .. }
    ));
}

#[test]
fn figures_are_written_when_their_time_has_come_and_findings_at_once() {
    let mut seen = Seen::default();
    let begun = seen.next(repair("unit: orders"), NOW);
    let run = |rows, missing| {
        let table = TableReport {
            rows,
            missing,
            ..TableReport::default()
        };
        Some(Ok(says("nightly/uid-1", RepairPhase::Running, table)))
    };
    seen.word = run(10, 0);
    let ten = seen.status(&begun, NOW);
    seen.word = run(20, 0);
    let twenty = seen.status(&begun, NOW);
    assert!(!report::worth_writing(&ten, &twenty, false));
    assert!(report::worth_writing(&ten, &twenty, true));
    assert!(!report::worth_writing(&ten, &ten, true));
    seen.word = run(20, 1);
    let found = seen.status(&begun, NOW);
    assert!(report::worth_writing(&twenty, &found, false));
    let reasons = |old: &DataRepairStatus, new: &DataRepairStatus| -> Vec<String> {
        let notices = report::notices(old, new);
        notices.into_iter().map(|notice| notice.reason).collect()
    };
    assert_eq!(reasons(&twenty, &found), ["DivergenceFound"]);
    let empty = DataRepairStatus::default();
    assert_eq!(reasons(&empty, &begun.status.clone().unwrap()), ["Started"]);
    let refused = refused_status();
    assert_eq!(reasons(&empty, &refused), ["Refused"]);
    seen.word = Some(Ok(says(
        "nightly/uid-1",
        RepairPhase::Done,
        TableReport::default(),
    )));
    assert_eq!(reasons(&twenty, &seen.status(&begun, NOW)), ["Finished"]);
}

fn refused_status() -> DataRepairStatus {
    Seen::default().status(&repair("link: nowhere"), NOW)
}

#[test]
fn what_is_left_after_a_run_is_a_condition() {
    let verdict = |spec: &str, counts: RepairCounts| {
        let status = DataRepairStatus {
            phase: Some(DataRepairPhase::Done),
            counts: Some(counts),
            ..DataRepairStatus::default()
        };
        let verdicts = report::verdicts(&repair(spec), &status);
        let of = |name: &str| {
            let found = verdicts.iter().find(|it| it.type_ == name).unwrap();
            (found.status, found.reason.clone())
        };
        (of("Ready"), of("Diverged"))
    };
    let counts = |divergent, repaired| RepairCounts {
        divergent,
        repaired,
        ..RepairCounts::default()
    };
    let yes = |reason: &str| (Some(true), reason.to_owned());
    let no = |reason: &str| (Some(false), reason.to_owned());
    assert_eq!(
        verdict("unit: orders", counts(0, 0)),
        (yes("Done"), no("Equal"))
    );
    assert_eq!(
        verdict("unit: orders", counts(3, 0)),
        (no("DivergenceFound"), yes("DivergenceFound"))
    );
    let mend = "unit: orders, mode: Repair";
    assert_eq!(verdict(mend, counts(3, 3)), (yes("Done"), no("Repaired")));
    assert_eq!(
        verdict(mend, counts(3, 2)),
        (no("DivergenceFound"), yes("DivergenceFound"))
    );
    // No row differs, and a table is missing.
    let missing = RepairCounts {
        tables_missing: 1,
        ..RepairCounts::default()
    };
    assert_eq!(
        verdict("unit: orders", missing),
        (no("DivergenceFound"), yes("DivergenceFound"))
    );
}

#[test]
fn a_table_that_a_copy_lacks_and_the_statements_of_a_dry_run_are_told() {
    let mut seen = Seen::default();
    let repair = seen.next(repair("unit: orders"), NOW);
    let absent = TableReport {
        done: true,
        table_missing: true,
        ..TableReport::default()
    };
    let mut said = says("nightly/uid-1", RepairPhase::Done, absent);
    said.report.statements = vec!["DELETE".to_owned()];
    seen.word = Some(Ok(said));
    let status = seen.status(&repair, NOW);
    let link = &status.links[0];
    assert!(link.tables[0].table_missing && link.counts.tables_missing == 1);
    assert_eq!(link.statements, ["DELETE"]);
    assert_eq!(
        status.message.as_deref(),
        Some(
            "0 rows of 0 tables compared: no row differs; 1 table is not in its copy: rebuild it."
        )
    );
}

#[test]
fn a_rebuild_is_of_one_copy_and_never_of_the_primary() {
    let halted = Seen {
        links: link(Some(LinkPhase::Halted)),
        ..Seen::default()
    };
    // A halted link may be what it is for.
    let status = halted.status(&repair("unit: orders, idc: bj, mode: Rebuild"), NOW);
    assert_eq!(status.phase, Some(DataRepairPhase::Running), "{status:?}");
    assert_eq!(status.links.len(), 1);
    assert_eq!(status.links[0].target.as_str(), "bj");
    let well = Seen::default();
    let primary = refused(&well, "unit: orders, idc: sh, mode: Rebuild");
    assert!(
        primary.contains("spec.idc is \"sh\"")
            && primary.contains("the primary of Unit shop/orders")
            && primary.contains("Name a copy (bj"),
        "{primary}"
    );
    let nowhere = refused(&well, "unit: orders, idc: gz, mode: Verify");
    assert!(
        nowhere.contains("spec.idc is \"gz\"") && nowhere.contains("there are: sh, bj"),
        "{nowhere}"
    );
    let suspended = Seen {
        links: link(Some(LinkPhase::Suspended)),
        ..Seen::default()
    };
    let text = refused(&suspended, "link: orders-sh-bj, mode: Rebuild");
    assert!(
        text.contains("is Suspended") && text.contains("let it run"),
        "{text}"
    );
}

#[test]
fn a_rebuild_says_what_it_copied() {
    let seen = Seen::default();
    let begun = seen.next(repair("unit: orders, idc: bj, mode: Rebuild"), NOW);
    let run = begun.status.clone().unwrap().run.unwrap();
    let table = TableReport {
        done: true,
        rows: 200,
        ..TableReport::default()
    };
    let ended = Seen {
        word: Some(Ok(says(&run, RepairPhase::Done, table))),
        ..Seen::default()
    };
    let status = ended.status(&begun, NOW);
    assert_eq!(status.phase, Some(DataRepairPhase::Done), "{status:?}");
    let message = status.message.clone().unwrap();
    assert!(
        message.contains("1 of 1 tables copied anew, 200 rows."),
        "{message}"
    );
    let verdicts = report::verdicts(&begun, &status);
    let diverged = verdicts.iter().find(|it| it.type_ == "Diverged").unwrap();
    assert!(
        diverged.message.contains("compares nothing"),
        "{diverged:?}"
    );
}
