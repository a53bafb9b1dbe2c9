//! Source transactions that share a target transaction, and rows that share a statement there: what
//! comes of them is what came of them at the source, and what does not fit is named all the same.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use change::TableSchema;

use super::rig::{Rig, Writer, on_each};
use super::script::{changes, delete, insert, row, table, update};

/// A table with the columns of `orders.t`.
fn named(name: &str) -> Arc<TableSchema> {
    Arc::new(TableSchema {
        table: name.to_owned(),
        ..(*table()).clone()
    })
}

/// `plain` stands alone; `child` refers to `parent`; `t` has a second unique key.
const TABLES: &str = "CREATE TABLE orders.plain (id INT PRIMARY KEY, v INT, u INT); \
     CREATE TABLE orders.parent (id INT PRIMARY KEY, v INT, u INT); \
     CREATE TABLE orders.child (id INT PRIMARY KEY, v INT, u INT, \
     FOREIGN KEY (v) REFERENCES orders.parent (id))";

fn rows(rig: &Rig<'_>, table: &str) -> Result<Vec<Vec<String>>> {
    let sql = format!("SELECT id, v, u FROM orders.{table} ORDER BY id");
    rig.target.root(&sql)
}

/// Target transactions that the writer has committed.
async fn commits(writer: &Writer) -> Result<u64> {
    let metrics = writer.get("/metrics").await?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("multiactive_writer_commits_total "));
    let count = line.with_context(|| format!("no count of commits: {metrics}"))?;
    Ok(count.trim().parse()?)
}

/// What every table holds in the end.
fn check_rows(rig: &Rig<'_>) -> Result<()> {
    let text = |id: i64, v: i64, u: Option<i64>| {
        let u = u.map_or("NULL".to_owned(), |u| u.to_string());
        vec![id.to_string(), v.to_string(), u]
    };
    let mut wanted: Vec<_> = (0..10).map(|id| text(id, 2, Some(id))).collect();
    wanted.extend((10..19).map(|id| text(id, 1, None)));
    wanted.push(text(30, 0, None));
    ensure!(rows(rig, "plain")? == wanted, "{:?}", rows(rig, "plain")?);
    let mut wanted: Vec<_> = (0..10).map(|id| text(id, 7, None)).collect();
    wanted.extend((10..20).map(|id| text(id, 0, None)));
    ensure!(rows(rig, "parent")? == wanted, "{:?}", rows(rig, "parent")?);
    let mut wanted: Vec<_> = (0..10).map(|id| text(id, id, Some(7))).collect();
    wanted.extend((10..20).map(|id| text(id, id, None)));
    ensure!(rows(rig, "child")? == wanted, "{:?}", rows(rig, "child")?);
    let mut wanted: Vec<_> = (0..19).map(|id| text(id, 0, Some(100 + id))).collect();
    wanted.push(text(19, 0, Some(19)));
    ensure!(rig.rows()? == wanted, "{:?}", rig.rows()?);
    Ok(())
}

#[test]
fn rows_foreign_keys_and_unique_keys_come_out_as_at_the_source() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(TABLES)?;
        let (plain, parent, child, unique) =
            (named("plain"), named("parent"), named("child"), table());
        let source = &rig.source;
        for id in 0..20 {
            source.commit(vec![
                changes(&parent, vec![insert(id, 0, None)]),
                changes(&child, vec![insert(id, id, None)]),
                changes(&plain, vec![insert(id, 0, None)]),
                changes(&unique, vec![insert(id, 0, Some(id))]),
            ]);
        }
        for id in 0..19 {
            source.commit(vec![
                changes(&plain, vec![update(row(id, 0, None), row(id, 1, None))]),
                // A unique value that is free only after the row before has given it up.
                changes(
                    &unique,
                    vec![update(row(id, 0, Some(id)), row(id, 0, Some(100 + id)))],
                ),
                changes(
                    &unique,
                    vec![update(
                        row(id + 1, 0, Some(id + 1)),
                        row(id + 1, 0, Some(id)),
                    )],
                ),
                changes(
                    &unique,
                    vec![update(
                        row(id + 1, 0, Some(id)),
                        row(id + 1, 0, Some(id + 1)),
                    )],
                ),
            ]);
        }
        for id in 0..10 {
            // A parent goes after its child, and comes again before it.
            source.commit(vec![
                changes(&child, vec![delete(row(id, id, None))]),
                changes(&parent, vec![delete(row(id, 0, None))]),
                changes(&plain, vec![delete(row(id, 1, None))]),
            ]);
            source.commit(vec![
                changes(&parent, vec![insert(id, 7, None)]),
                changes(&child, vec![insert(id, id, Some(7))]),
                changes(&plain, vec![insert(id, 2, Some(id))]),
            ]);
        }
        // A key that changes, a row that ends as it began, and one that comes and goes.
        source.commit(vec![
            changes(&plain, vec![update(row(19, 0, None), row(30, 0, None))]),
            changes(&plain, vec![insert(40, 0, None), delete(row(40, 0, None))]),
            changes(&plain, vec![update(row(18, 1, None), row(18, 5, None))]),
            changes(&plain, vec![update(row(18, 5, None), row(18, 1, None))]),
        ]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        check_rows(rig)?;
        // How many share one depends on how they arrive. But had the updates of many rows, of which
        // 39 of the 60 transactions have some, not reported what they must, each of these would
        // have been gone through alone.
        let commits = commits(&writer).await?;
        ensure!(commits < 39, "60 transactions in {commits} commits");
        Ok(())
    })
}

#[test]
fn a_missing_row_among_many_is_named_and_what_came_before_is_applied() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(TABLES)?;
        let plain = named("plain");
        let fill: Vec<_> = (0..50).map(|id| insert(id, 0, None)).collect();
        rig.source.commit(vec![changes(&plain, fill)]);
        for id in 0..50 {
            let id = if id == 33 { 333 } else { id };
            let change = update(row(id, 0, None), row(id, 1, None));
            rig.source.commit(vec![changes(&plain, vec![change])]);
        }
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("update_missing") && error.contains("id=333"),
            "{error}"
        );
        let applied = rig.applied()?;
        ensure!(applied == rig.source.position(34).to_string(), "{applied}");
        ensure!(rows(rig, "plain")?.len() == 50);
        rig.target
            .root("INSERT INTO orders.plain VALUES (333, 0, NULL)")?;
        rig.wait_through(&writer).await?;
        let left = rig.target.root("SELECT id FROM orders.plain WHERE v = 0")?;
        ensure!(left == [["33"]], "{left:?}");
        Ok(())
    })
}

#[test]
fn a_row_that_holds_the_new_values_already_stops_nothing() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(TABLES)?;
        rig.target
            .root("INSERT INTO orders.plain VALUES (1, 0, NULL), (2, 9, NULL), (3, 0, NULL)")?;
        let plain = named("plain");
        for id in 1..4 {
            let change = update(row(id, 0, None), row(id, 9, None));
            rig.source.commit(vec![changes(&plain, vec![change])]);
        }
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let wanted = [["1", "9", "NULL"], ["2", "9", "NULL"], ["3", "9", "NULL"]];
        ensure!(rows(rig, "plain")? == wanted, "{:?}", rows(rig, "plain")?);
        Ok(())
    })
}
