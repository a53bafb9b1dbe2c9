//! Routes: a table under another name, and several tables in one, fed by a script.

use std::sync::Arc;

use anyhow::{Result, ensure};
use change::{RowChange, TableChange, TableSchema};

use super::rig::{Rig, on_each, until};
use super::script::{changes, delete, insert, row, table, update};
use super::skips::{ask, halted_at};

/// A table of the source like `orders.t`.
fn like_t(name: &str) -> Arc<TableSchema> {
    let mut schema = (*table()).clone();
    name.clone_into(&mut schema.table);
    Arc::new(schema)
}

fn of(name: &str, rows: Vec<RowChange>) -> TableChange {
    changes(&like_t(name), rows)
}

/// The same, while the table is being copied.
fn copied(name: &str, rows: Vec<RowChange>) -> TableChange {
    TableChange {
        lenient: true,
        ..of(name, rows)
    }
}

/// `orders.s` goes to `orders.t`, and nothing else does.
fn renames(rig: &Rig<'_>) -> Result<()> {
    rig.settings(|link| {
        link["tables"]["routes"] = serde_json::json!([{"from": "orders.s", "to": "orders.t"}]);
        link["tables"]["exclude"] = serde_json::json!(["orders.t"]);
    })
}

/// Every `orders.t_...` goes to `orders.t`.
fn merges(rig: &Rig<'_>) -> Result<()> {
    rig.settings(|link| {
        link["tables"]["routes"] = serde_json::json!([{"from": "orders.t_*", "to": "orders.t"}]);
        link["conflicts"] = serde_json::json!({"detect": "BeforeImage", "resolve": "Halt"});
    })
}

fn says(error: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(error.contains(part), "{part:?} is not in {error:?}");
    }
    Ok(())
}

#[test]
fn a_table_arrives_under_its_other_name() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        renames(rig)?;
        rig.source.commit(vec![of(
            "s",
            vec![
                insert(1, 1, Some(1)),
                insert(2, 2, None),
                insert(3, 3, None),
            ],
        )]);
        rig.source.commit(vec![of(
            "s",
            vec![
                update(row(1, 1, Some(1)), row(4, 1, Some(1))),
                delete(row(2, 2, None)),
            ],
        )]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == [["3", "3", "NULL"], ["4", "1", "1"]]);
        // What does not fit is told with both names.
        rig.target
            .root("INSERT INTO orders.t VALUES (5, 0, NULL)")?;
        rig.source.commit(vec![of("s", vec![insert(5, 5, None)])]);
        let error = rig.wait_halted(&writer).await?;
        says(
            &error,
            &["insert_exists", "orders.t (rows of orders.s)", "id=5"],
        )?;
        rig.target.root("DELETE FROM orders.t WHERE id = 5")?;
        rig.wait_through(&writer).await?;
        // A statement is for a person, also where it could only mean one table.
        let gtid = rig
            .source
            .ddl("ALTER TABLE", "s", "ALTER TABLE s ADD COLUMN w INT");
        rig.source.commit(vec![of("s", vec![insert(6, 6, None)])]);
        let error = rig.wait_halted(&writer).await?;
        says(&error, &["ALTER TABLE s", "(from orders.s to orders.t)"])?;
        says(&error, &["it is about orders.t", &gtid, "mactl link skip"])?;
        rig.target.root("ALTER TABLE orders.t ADD COLUMN w INT")?;
        ask(rig, &gtid).await?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 4);
        // One that only has the name of the table at the target meets it as well.
        rig.source.ddl("DROP TABLE", "t", "DROP TABLE t");
        let error = rig.wait_halted(&writer).await?;
        says(&error, &["DROP TABLE t", "(from orders.s to orders.t)"])?;
        ensure!(rig.rows()?.len() == 4);
        Ok(())
    })
}

#[test]
fn a_table_that_is_missing_and_other_routes_halt_by_name() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        renames(rig)?;
        rig.target.root("RENAME TABLE orders.t TO orders.away")?;
        rig.source.commit(vec![of("s", vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        says(
            &error,
            &["rows of orders.s go to orders.t", "not at the target"],
        )?;
        rig.target.root("RENAME TABLE orders.away TO orders.t")?;
        rig.wait_through(&writer).await?;
        writer.kill()?;
        rig.settings(|_| {})?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        says(&error, &["routes changed", "from orders.s to orders.t"])
    })
}

#[test]
fn rows_of_several_tables_stay_apart() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        merges(rig)?;
        for shard in 1..=3 {
            let name = format!("t_{shard}");
            rig.source
                .commit(vec![of(&name, vec![insert(shard, 10, None)])]);
        }
        // One row goes over to another table, in one transaction and in one batch with the others.
        rig.source.commit(vec![
            of("t_1", vec![delete(row(1, 10, None))]),
            of("t_2", vec![insert(1, 11, None)]),
        ]);
        rig.source.commit(vec![of(
            "t_2",
            vec![update(row(1, 11, None), row(1, 12, None))],
        )]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let rows = [
            ["1", "12", "NULL"],
            ["2", "10", "NULL"],
            ["3", "10", "NULL"],
        ];
        ensure!(rig.rows()? == rows, "{:?}", rig.rows()?);
        // Two tables have a row of one key. Left out, the second one's changes find the first one's.
        let gtid = rig
            .source
            .commit(vec![of("t_3", vec![insert(2, 30, None)])]);
        rig.source
            .commit(vec![of("t_3", vec![delete(row(2, 30, None))])]);
        let error = rig.wait_halted(&writer).await?;
        says(
            &error,
            &["insert_exists", "orders.t (rows of orders.t_3)", "id=2"],
        )?;
        ensure!(halted_at(&writer).await?.skippable);
        ask(rig, &gtid).await?;
        let next = until("the removal halts it", async || {
            Ok(writer.status().await?.error.contains("delete_differs"))
        });
        next.await?;
        ensure!(rig.rows()? == rows, "{:?}", rig.rows()?);
        Ok(())
    })
}

#[test]
fn the_same_row_of_two_tables_and_a_clash_of_values_halt() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        merges(rig)?;
        rig.source
            .commit(vec![of("t_1", vec![insert(1, 1, Some(7))])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.source
            .commit(vec![of("t_2", vec![insert(2, 2, Some(7))])]);
        let error = rig.wait_halted(&writer).await?;
        says(
            &error,
            &["unique_clash", "orders.t (rows of orders.t_2)", "id=2"],
        )?;
        rig.target.root("UPDATE orders.t SET u = NULL")?;
        rig.wait_through(&writer).await?;
        rig.target.root("UPDATE orders.t SET u = 8 WHERE id = 1")?;
        // Left out, nothing could tell the row of the one from that of the other.
        rig.source
            .commit(vec![of("t_2", vec![insert(1, 1, Some(8))])]);
        let error = rig.wait_halted(&writer).await?;
        says(
            &error,
            &["a row of another source table", "id=1", "orders.t_2"],
        )?;
        let status = writer.status().await?;
        ensure!(status.halted_at.is_none(), "{:?}", status.halted_at);
        Ok(())
    })
}

#[test]
fn a_statement_on_one_of_several_tables_leaves_the_rows_of_all() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        merges(rig)?;
        rig.source.commit(vec![of("t_1", vec![insert(1, 1, None)])]);
        rig.source.commit(vec![of("t_2", vec![insert(2, 2, None)])]);
        // A new one needs nothing.
        rig.source.ddl(
            "CREATE TABLE",
            "t_3",
            "CREATE TABLE t_3 (id INT PRIMARY KEY, v INT, u INT UNIQUE)",
        );
        rig.source.commit(vec![of("t_3", vec![insert(3, 3, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 3);
        for (verb, object, statement) in [
            ("TRUNCATE TABLE", "t_1", "TRUNCATE TABLE t_1"),
            ("DROP TABLE", "t_2", "DROP TABLE t_2"),
            ("ALTER TABLE", "t_2", "ALTER TABLE t_2 DROP COLUMN v"),
            ("RENAME TABLE", "t_1", "RENAME TABLE t_1 TO t_9"),
            (
                "CREATE TABLE",
                "t_1",
                "CREATE OR REPLACE TABLE t_1 (id INT PRIMARY KEY)",
            ),
            ("DROP TABLE", "t", "DROP TABLE t"),
        ] {
            let gtid = rig.source.ddl(verb, object, statement);
            let mut error = String::new();
            let halted = until("the link halts at it", async || {
                error = writer.status().await?.error;
                Ok(error.contains(&gtid))
            });
            halted.await?;
            says(
                &error,
                &[
                    statement,
                    "(from orders.t_* to orders.t)",
                    "those must stay",
                ],
            )?;
            ensure!(
                rig.rows()?.len() == 3,
                "{:?} after {statement}",
                rig.rows()?
            );
            ask(rig, &gtid).await?;
            rig.wait_through(&writer).await?;
        }
        ensure!(rig.rows()?.len() == 3);
        Ok(())
    })
}

/// What the stream brings of tables that are being copied: rows that were copied and rows that were
/// not, of keys that another table has too.
#[test]
fn what_is_copied_never_touches_another_table() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        merges(rig)?;
        rig.source
            .commit(vec![copied("t_1", vec![insert(1, 1, None)])]);
        // Not copied yet, so it is put; and changed again.
        rig.source.commit(vec![copied(
            "t_1",
            vec![update(row(2, 1, None), row(2, 2, None))],
        )]);
        rig.source.commit(vec![copied(
            "t_1",
            vec![update(row(2, 2, None), row(3, 2, None))],
        )]);
        // Not copied yet, so there is nothing to remove: what is there is of another table, though it
        // is the same.
        rig.source.commit(vec![
            copied("t_2", vec![delete(row(1, 1, None))]),
            of("t_3", vec![insert(4, 4, None)]),
        ]);
        let crashes = rig.crash_at(&["before-commit", "after-commit"], 3).await?;
        ensure!(crashes > 3, "{crashes}");
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let rows = [["1", "1", "NULL"], ["3", "2", "NULL"], ["4", "4", "NULL"]];
        ensure!(rig.rows()? == rows, "{:?}", rig.rows()?);
        // It would be put, and its place is taken by the same row of another table.
        rig.source.commit(vec![copied(
            "t_2",
            vec![update(row(1, 0, None), row(1, 1, None))],
        )]);
        let error = rig.wait_halted(&writer).await?;
        says(
            &error,
            &[
                "a row of another source table",
                "orders.t (rows of orders.t_2)",
                "id=1",
            ],
        )?;
        ensure!(writer.status().await?.halted_at.is_none());
        ensure!(rig.rows()? == rows, "{:?}", rig.rows()?);
        Ok(())
    })
}
