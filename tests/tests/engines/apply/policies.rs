//! Rows compared before they are changed: each policy, what it records, and what a person settles.

use anyhow::{Context as _, Result, ensure};
use change::RowChange;
use model::{IdcName, LinkPhase};
use mysql::conflicts::{self, Conflict};
use serde_json::json;
use writer::{Replayer, SettleError, Settler};

use super::rig::{Rig, Writer, on_each, on_each_under, options, until};
use super::script::{changes, delete, insert, row, table, update};

/// The link compares rows, and does this with what differs.
fn resolve(rig: &Rig<'_>, policy: &serde_json::Value) -> Result<()> {
    rig.settings(|link| {
        link["conflicts"] = json!({"detect": "BeforeImage", "resolve": policy});
    })
}

/// The same, for a target that takes writes of its own: nothing is copied over them.
fn resolve_both(rig: &Rig<'_>, policy: &serde_json::Value) -> Result<()> {
    rig.settings(|link| {
        link["conflicts"] = json!({"detect": "BeforeImage", "resolve": policy});
        link["snapshot"]["mode"] = json!("Never");
    })
}

/// What is recorded, the oldest first.
async fn recorded(rig: &Rig<'_>) -> Result<Vec<Conflict>> {
    let mut session = options(rig.target)?.connect().await?;
    let mut all = conflicts::list(&mut session, false).await?;
    all.reverse();
    Ok(all)
}

/// Each as `kind row state`.
fn told(all: &[Conflict]) -> Vec<String> {
    let text = |it: &Conflict| format!("{} {} {}", it.kind, it.row, it.state);
    all.iter().map(text).collect()
}

/// Rows that the target has otherwise than the source.
const HERE: &str = "INSERT INTO orders.t VALUES (1, 11, NULL), (3, 13, NULL), (4, 14, NULL), \
                    (7, 7, 70), (9, 9, NULL)";

/// Changes of which each meets another row than it expects, but for the first, the last, and 9.
fn clashing() -> Vec<RowChange> {
    vec![
        insert(100, 1, None),
        insert(1, 1, None),
        update(row(2, 0, None), row(2, 2, None)),
        update(row(3, 0, None), row(3, 3, None)),
        delete(row(4, 0, None)),
        delete(row(5, 0, None)),
        insert(8, 8, Some(70)),
        update(row(9, 9, None), row(9, 10, None)),
        insert(101, 1, None),
    ]
}

/// What was committed is told a moment later.
async fn balanced(writer: &Writer, conflicts: u64) -> Result<()> {
    let settled = async || Ok(writer.status().await?.ledger.in_flight == 0);
    until("everything is settled", settled).await?;
    let status = writer.status().await?;
    let ledger = status.ledger;
    ensure!(status.error.is_empty(), "{}", status.error);
    ensure!(ledger.conflicts == conflicts, "{ledger:?}");
    ensure!(
        ledger.read == ledger.applied + ledger.filtered + ledger.conflicts,
        "{ledger:?}"
    );
    Ok(())
}

/// The kinds that [`clashing`] meets, each with its row.
const KINDS: [&str; 6] = [
    "insert_exists id=1",
    "update_missing id=2",
    "update_differs id=3",
    "delete_differs id=4",
    "delete_missing id=5",
    "unique_clash id=8",
];

const OF_SOURCE: &[[&str; 3]] = &[
    ["1", "1", "NULL"],
    ["2", "2", "NULL"],
    ["3", "3", "NULL"],
    ["7", "7", "70"],
    ["9", "10", "NULL"],
    ["100", "1", "NULL"],
    ["101", "1", "NULL"],
];

const OF_TARGET: &[[&str; 3]] = &[
    ["1", "11", "NULL"],
    ["3", "13", "NULL"],
    ["4", "14", "NULL"],
    ["7", "7", "70"],
    ["9", "10", "NULL"],
    ["100", "1", "NULL"],
    ["101", "1", "NULL"],
];

const OF_LAST: &[[&str; 3]] = &[
    ["1", "11", "NULL"],
    ["2", "2", "NULL"],
    ["3", "13", "NULL"],
    ["4", "14", "NULL"],
    ["7", "7", "70"],
    ["9", "10", "NULL"],
    ["100", "1", "NULL"],
    ["101", "1", "NULL"],
];

/// A policy, how each of [`KINDS`] ends by it, the rows after all, and how many changes were left.
type Case = (
    serde_json::Value,
    [&'static str; 6],
    &'static [[&'static str; 3]],
    u64,
);

fn cases() -> Vec<Case> {
    let all = |state| [state, state, state, state, "Same", "Held"];
    // By the column v: 11 and 13 at the target are later than 1 and 3 of the source. What one side
    // removed and the other has changed stays.
    let last = json!({"LastWriteWins": {"column": "v", "sourcePriority": 1, "targetPriority": 2}});
    let by_last = [
        "TargetWon",
        "SourceWon",
        "TargetWon",
        "TargetWon",
        "Same",
        "Held",
    ];
    let higher = json!({"IdcPriority": {"sourcePriority": 2, "targetPriority": 1}});
    vec![
        (json!("SourceWins"), all("SourceWon"), OF_SOURCE, 1),
        (higher, all("SourceWon"), OF_SOURCE, 1),
        (json!("TargetWins"), all("TargetWon"), OF_TARGET, 5),
        (json!("Hold"), all("Held"), OF_TARGET, 5),
        (last, by_last, OF_LAST, 4),
    ]
}

#[test]
fn each_policy_settles_what_differs_and_records_it() -> Result<()> {
    for (policy, states, rows, conflicts) in cases() {
        // Without an epoch, so not under a Unit.
        on_each_under(0, async |rig: &Rig<'_>| {
            resolve_both(rig, &policy)?;
            let writer = rig.start()?;
            rig.wait_through(&writer).await?;
            rig.target.root(HERE)?;
            rig.source.commit(vec![changes(&table(), clashing())]);
            rig.wait_through(&writer).await?;
            ensure!(rig.rows()? == rows, "{policy}: {:?}", rig.rows()?);
            let pairs = KINDS.iter().zip(states);
            let wanted: Vec<String> = pairs
                .map(|(kind, state)| format!("{kind} {state}"))
                .collect();
            let told = told(&recorded(rig).await?);
            ensure!(told == wanted, "{policy}: {told:?}");
            balanced(&writer, conflicts).await
        })?;
    }
    Ok(())
}

#[test]
fn a_target_whose_row_may_win_is_refused_under_a_unit_and_where_rows_are_copied() -> Result<()> {
    let refused = |epoch, copied: bool, told: &str| {
        on_each_under(epoch, async |rig: &Rig<'_>| {
            if copied {
                resolve(rig, &json!("TargetWins"))?;
            } else {
                resolve_both(rig, &json!("TargetWins"))?;
            }
            rig.source
                .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
            let writer = rig.start()?;
            let error = rig.wait_halted(&writer).await?;
            ensure!(error.contains(told), "{error}");
            ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
            Ok(())
        })
    };
    refused(0, true, "then set snapshot.mode: Never")?;
    refused(1, false, "belongs to a Unit whose primary is")
}

#[test]
fn without_a_conflict_nothing_is_recorded_and_batches_stay_whole() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("Hold"))?;
        for id in 0..300 {
            let rows = vec![
                insert(id, 1, Some(id)),
                update(row(id, 1, Some(id)), row(id, 2, Some(id))),
            ];
            rig.source.commit(vec![changes(&table(), rows)]);
        }
        let moved = vec![update(row(5, 2, Some(5)), row(1005, 3, Some(5)))];
        rig.source.commit(vec![changes(&table(), moved)]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 300);
        ensure!(recorded(rig).await?.is_empty());
        let metrics = writer.get("/metrics").await?;
        let commits = metrics
            .lines()
            .find_map(|line| line.strip_prefix("multiactive_writer_commits_total "))
            .context("no commits are counted")?;
        ensure!(commits.parse::<u32>()? < 150, "{commits} commits");
        balanced(&writer, 0).await
    })
}

#[test]
fn what_differs_halts_the_link_where_that_is_asked_for() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("Halt"))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        // What a look at the key alone does not notice.
        rig.target
            .root("INSERT INTO orders.t VALUES (1, 11, NULL)")?;
        let before = row(1, 1, None);
        rig.source.commit(vec![changes(
            &table(),
            vec![update(before, row(1, 2, None))],
        )]);
        let error = rig.wait_halted(&writer).await?;
        for part in [
            "update_differs",
            "orders.t",
            "id=1",
            "v: was 1, became 2, is 11",
        ] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        ensure!(recorded(rig).await?.is_empty());
        rig.target.root("UPDATE orders.t SET v = 1")?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == [["1", "2", "NULL"]]);
        Ok(())
    })
}

#[test]
fn later_changes_of_a_held_row_are_judged_by_what_is_there() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("Hold"))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target
            .root("INSERT INTO orders.t VALUES (1, 11, NULL)")?;
        let step = |from, to| vec![update(row(1, from, None), row(1, to, None))];
        rig.source.commit(vec![changes(&table(), step(1, 2))]);
        rig.source.commit(vec![changes(&table(), step(2, 3))]);
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == [["1", "11", "NULL"]], "{:?}", rig.rows()?);
        // Somebody makes the row what the source has; from then on it follows.
        rig.target.root("UPDATE orders.t SET v = 3")?;
        rig.source.commit(vec![changes(&table(), step(3, 4))]);
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == [["1", "4", "NULL"]], "{:?}", rig.rows()?);
        ensure!(recorded(rig).await?.len() == 2);
        balanced(&writer, 2).await?;
        ensure!(writer.status().await?.conflicts_held == Some(2));
        Ok(())
    })
}

#[test]
fn a_transaction_of_several_parts_is_judged_too() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("SourceWins"))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target
            .root("INSERT INTO orders.t VALUES (500, 9, NULL)")?;
        let part = |rows| vec![changes(&table(), rows)];
        rig.source.commit_parts(vec![
            part((0..50).map(|id| insert(id, 1, None)).collect()),
            part(vec![insert(500, 2, None), delete(row(0, 1, None))]),
            part(vec![update(row(1, 1, None), row(1, 2, None))]),
        ]);
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 50);
        let told = told(&recorded(rig).await?);
        ensure!(told == ["insert_exists id=500 SourceWon"], "{told:?}");
        balanced(&writer, 0).await
    })
}

#[test]
fn a_cascade_that_nobody_has_compared_halts_the_link() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(
            "CREATE TABLE orders.c (id INT PRIMARY KEY, t INT, \
             FOREIGN KEY (t) REFERENCES orders.t (id) ON DELETE CASCADE)",
        )?;
        resolve(rig, &json!("Hold"))?;
        let both = vec![insert(1, 1, None), insert(2, 1, None)];
        rig.source.commit(vec![changes(&table(), both)]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.source
            .commit(vec![changes(&table(), vec![delete(row(1, 1, None))])]);
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("without having been compared"), "{error}");
        ensure!(rig.rows()?.len() == 2, "{:?}", rig.rows()?);
        Ok(())
    })
}

#[test]
fn a_crash_repeats_no_record() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("Hold"))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        writer.kill()?;
        rig.target.root(HERE)?;
        rig.source.commit(vec![changes(&table(), clashing())]);
        for point in ["before-commit", "after-commit"] {
            let mut writer = rig.start_with(&["--crash-at", point])?;
            writer.ended().await?;
        }
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let all = recorded(rig).await?;
        ensure!(all.len() == 6, "{:?}", told(&all));
        balanced(&writer, 5).await
    })
}

#[test]
fn a_person_puts_the_source_s_row() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("Hold"))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target
            .root("INSERT INTO orders.t VALUES (1, 11, NULL), (4, 14, NULL)")?;
        let step = |from, to| update(row(1, from, None), row(1, to, None));
        let rows = vec![step(1, 2), step(2, 3), delete(row(4, 0, None))];
        rig.source.commit(vec![changes(&table(), rows)]);
        rig.wait_through(&writer).await?;
        let (options, source) = (options(rig.target)?, rig.source.idc.parse::<IdcName>()?);
        let mut session = options.connect().await?;
        let settler = Settler {
            target: &options,
            source: &source,
            by: "test",
        };
        let numbers: Vec<u64> = recorded(rig).await?.iter().map(|it| it.number).collect();
        let mut read = Vec::new();
        for number in &numbers {
            let one = conflicts::read(&mut session, *number).await?;
            read.push(one.context("no such conflict")?);
        }
        let older = settler.take_source(&read[0], None).await;
        ensure!(
            matches!(older, Err(SettleError::Newer(newer)) if newer == numbers[1]),
            "{older:?}"
        );
        // The row that was removed at the source has changed here since.
        rig.target.root("UPDATE orders.t SET v = 15 WHERE id = 4")?;
        let changed = settler.take_source(&read[2], None).await;
        ensure!(
            matches!(changed, Err(SettleError::Changed { .. })),
            "{changed:?}"
        );
        settler.take_source(&read[1], None).await?;
        ensure!(conflicts::discard(&mut session, numbers[2], "test").await?);
        let again = settler.take_source(&read[1], None).await;
        ensure!(matches!(again, Err(SettleError::NotHeld(_))), "{again:?}");
        ensure!(rig.rows()? == [["1", "3", "NULL"], ["4", "15", "NULL"]]);
        let told = told(&recorded(rig).await?);
        let wanted = [
            "update_differs id=1 Superseded",
            "update_differs id=1 TookSource",
            "delete_differs id=4 Discarded",
        ];
        ensure!(told == wanted, "{told:?}");
        ensure!(writer.status().await?.phase != LinkPhase::Halted);
        Ok(())
    })
}

#[test]
fn a_person_writes_the_target_s_row_at_the_source() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        resolve(rig, &json!("Hold"))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target
            .root("INSERT INTO orders.t VALUES (1, 11, NULL)")?;
        let change = vec![update(row(1, 1, None), row(1, 2, None))];
        rig.source.commit(vec![changes(&table(), change)]);
        rig.wait_through(&writer).await?;
        writer.kill()?;
        let (options, source) = (options(rig.target)?, rig.source.idc.parse::<IdcName>()?);
        let mut session = options.connect().await?;
        let number = recorded(rig).await?[0].number;
        let read = conflicts::read(&mut session, number).await?;
        let read = read.context("no such conflict")?;
        // One server plays both sides: as the primary it is asked for its row, which is the
        // target's and not the source's. So nothing is written, and the record stays held.
        rig.target.root(&format!(
            "SET GLOBAL read_only = 0; \
             INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (3, '{}', NULL, NOW(6))",
            rig.target.idc
        ))?;
        let idc: IdcName = rig.target.idc.parse()?;
        let mut onto = Replayer::connect(&options, &idc).await?;
        let held = onto.set(&read.conflict.gtid, &read.change).await?;
        let held = held.context("a row that differs was set")?;
        ensure!(held.detail.contains("is 11"), "{held:?}");
        // As it is there, it is set, as an application's write.
        rig.target.root("UPDATE orders.t SET v = 1")?;
        ensure!(onto.set(&read.conflict.gtid, &read.change).await?.is_none());
        ensure!(rig.rows()? == [["1", "2", "NULL"]], "{:?}", rig.rows()?);
        // The target's row is no longer the one that was found.
        let settler = Settler {
            target: &options,
            source: &source,
            by: "test",
        };
        let changed = settler.take_target(&read, &mut onto).await;
        ensure!(
            matches!(changed, Err(SettleError::Changed { .. })),
            "{changed:?}"
        );
        onto.close().await;
        ensure!(told(&recorded(rig).await?) == ["update_differs id=1 Held"]);
        Ok(())
    })
}
