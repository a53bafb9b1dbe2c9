//! A change that does not fit halts the link, names what does not fit, applies nothing, and goes on
//! by itself once a person has mended it.

use anyhow::{Result, ensure};
use change::RowChange;

use super::rig::{Rig, on_each};
use super::script::{changes, delete, heartbeat, insert, row, table, update};

/// What the target holds first, the change that does not fit, what the error must name, the person's
/// remedy, and what the row's table holds after all.
struct Case {
    kind: &'static str,
    before: &'static str,
    change: RowChange,
    names: &'static str,
    mend: &'static str,
    after: &'static [[&'static str; 3]],
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            kind: "insert_exists",
            before: "INSERT INTO orders.t VALUES (5, 1, NULL)",
            change: insert(5, 2, None),
            names: "id=5",
            mend: "DELETE FROM orders.t WHERE id = 5",
            after: &[["5", "2", "NULL"]],
        },
        Case {
            kind: "update_missing",
            before: "DO 1",
            change: update(row(6, 1, None), row(6, 2, None)),
            names: "id=6",
            mend: "INSERT INTO orders.t VALUES (6, 1, NULL)",
            after: &[["6", "2", "NULL"]],
        },
        Case {
            kind: "delete_missing",
            before: "DO 1",
            change: delete(row(7, 1, None)),
            names: "id=7",
            mend: "INSERT INTO orders.t VALUES (7, 1, NULL)",
            after: &[],
        },
        Case {
            kind: "unique_clash",
            before: "INSERT INTO orders.t VALUES (8, 1, 80)",
            change: insert(9, 1, Some(80)),
            names: "id=9",
            mend: "UPDATE orders.t SET u = 81 WHERE id = 8",
            after: &[["8", "1", "81"], ["9", "1", "80"]],
        },
    ]
}

#[test]
fn each_kind_halts_names_its_row_and_goes_on_when_mended() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let writer = rig.start()?;
        for (number, case) in (0i64..).zip(cases()) {
            rig.wait_through(&writer).await?;
            rig.target.root("DELETE FROM orders.t")?;
            rig.target.root(case.before)?;
            let held = rig.rows()?;
            let at = rig.applied()?;
            // The row that does not fit has neighbours in its transaction, which fit.
            let neighbour = 1000 + number * 10;
            let rows = vec![
                insert(neighbour, 1, None),
                case.change,
                insert(neighbour + 1, 1, None),
            ];
            let gtid = rig.source.commit(vec![changes(&table(), rows)]);
            rig.source.commit(vec![changes(
                &table(),
                vec![
                    delete(row(neighbour, 1, None)),
                    delete(row(neighbour + 1, 1, None)),
                ],
            )]);
            let error = rig.wait_halted(&writer).await?;
            for part in [
                case.kind,
                "orders.t",
                case.names,
                gtid.as_str(),
                "Nothing of the transaction",
            ] {
                ensure!(error.contains(part), "{part:?} is not in {error:?}");
            }
            ensure!(
                rig.rows()? == held,
                "something was applied: {:?}",
                rig.rows()?
            );
            ensure!(rig.applied()? == at, "the checkpoint moved");
            let ledger = writer.status().await?.ledger;
            ensure!(ledger.in_flight >= 3, "{ledger:?}");
            ensure!(
                ledger.read == ledger.applied + ledger.filtered + ledger.in_flight,
                "{ledger:?}"
            );
            rig.target.root(case.mend)?;
            rig.wait_through(&writer).await?;
            ensure!(
                rig.rows()? == case.after,
                "{}: {:?}",
                case.kind,
                rig.rows()?
            );
            let status = writer.status().await?;
            ensure!(status.error.is_empty(), "{}", status.error);
        }
        Ok(())
    })
}

#[test]
fn what_came_before_a_conflict_is_applied() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        rig.source
            .commit(vec![changes(&table(), vec![insert(2, 1, None)])]);
        rig.source
            .commit(vec![changes(&table(), vec![delete(row(99, 1, None))])]);
        rig.source
            .commit(vec![changes(&table(), vec![insert(3, 1, None)])]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("delete_missing") && error.contains("id=99"),
            "{error}"
        );
        ensure!(
            rig.applied()? == rig.source.position(2).to_string(),
            "{}",
            rig.applied()?
        );
        ensure!(rig.rows()?.len() == 2, "{:?}", rig.rows()?);
        Ok(())
    })
}

#[test]
fn a_conflict_in_a_transaction_of_several_parts_undoes_all_parts() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let part = |rows| vec![changes(&table(), rows)];
        rig.source.commit_parts(vec![
            part((0..50).map(|id| insert(id, 1, None)).collect()),
            part(vec![update(row(500, 1, None), row(500, 2, None))]),
            part(vec![insert(100, 1, None)]),
        ]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("update_missing") && error.contains("id=500"),
            "{error}"
        );
        ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
        rig.target
            .root("INSERT INTO orders.t VALUES (500, 1, NULL)")?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 52);
        Ok(())
    })
}

#[test]
fn unique_values_that_are_swapped_come_out_right() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let table = table();
        rig.source.commit(vec![changes(
            &table,
            vec![insert(1, 0, Some(10)), insert(2, 0, Some(20))],
        )]);
        // As a source logs it: through a third value, and through NULL.
        rig.source.commit(vec![changes(
            &table,
            vec![
                update(row(1, 0, Some(10)), row(1, 0, Some(-1))),
                update(row(2, 0, Some(20)), row(2, 0, Some(10))),
                update(row(1, 0, Some(-1)), row(1, 0, Some(20))),
            ],
        )]);
        rig.source.commit(vec![changes(
            &table,
            vec![
                update(row(1, 0, Some(20)), row(1, 0, None)),
                update(row(2, 0, Some(10)), row(2, 0, Some(20))),
                update(row(1, 0, None), row(1, 0, Some(10))),
                // And the keys themselves.
                update(row(1, 0, Some(10)), row(3, 0, Some(10))),
                update(row(2, 0, Some(20)), row(1, 0, Some(20))),
                update(row(3, 0, Some(10)), row(2, 0, Some(10))),
            ],
        )]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(
            rig.rows()? == [["1", "0", "20"], ["2", "0", "10"]],
            "{:?}",
            rig.rows()?
        );
        Ok(())
    })
}

#[test]
fn a_trigger_at_the_target_is_refused() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(
            "CREATE TRIGGER orders.doubles BEFORE INSERT ON orders.t FOR EACH ROW SET NEW.v = NEW.v * 2",
        )?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("trigger doubles") && error.contains("DROP TRIGGER"),
            "{error}"
        );
        ensure!(rig.rows()?.is_empty());
        rig.target.root("DROP TRIGGER orders.doubles")?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == [["1", "1", "NULL"]]);
        Ok(())
    })
}

#[test]
fn what_was_born_at_the_target_breaks_the_link() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        // The canary: the target's own heartbeat must never come back to it.
        rig.source.commit(vec![heartbeat(&rig.target.idc, 1)]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("round in circles"), "{error}");
        drop(writer);
        rig.source.edit(1, |transaction| {
            transaction.origin.clone_from(&rig.target.idc);
        });
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains(&format!("was born in {}", rig.target.idc)),
            "{error}"
        );
        Ok(())
    })
}
