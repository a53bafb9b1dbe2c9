//! What the target's own settings and objects stand in the way of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use change::{ColumnKind, RowChange, TableSchema, Value};
use model::LinkPhase;

use super::rig::{Rig, on_each};
use super::script::{changes, column, insert, table};
use super::skips::{ask, halted_at};

/// A table of `orders` with a key and one more column.
fn with_column(name: &str, kind: ColumnKind) -> Arc<TableSchema> {
    Arc::new(TableSchema {
        database: "orders".into(),
        table: name.into(),
        columns: vec![column("id", ColumnKind::Int), column("c", kind)],
        primary_key: vec![0],
    })
}

#[test]
fn a_row_that_is_too_large_for_the_target_is_named_and_can_be_skipped() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let usual = rig.target.root("SELECT @@GLOBAL.max_allowed_packet")?;
        let usual = usual.into_iter().flatten().next().context("no limit")?;
        rig.target.root(
            "SET GLOBAL max_allowed_packet = 1048576; \
             CREATE TABLE orders.big (id INT PRIMARY KEY, c LONGBLOB)",
        )?;
        let tried = too_large(rig).await;
        rig.target
            .root(&format!("SET GLOBAL max_allowed_packet = {usual}"))?;
        tried
    })
}

async fn too_large(rig: &Rig<'_>) -> Result<()> {
    let big = with_column("big", ColumnKind::Blob);
    let row = |id, bytes| RowChange::Insert {
        after: vec![Value::Int(id), Value::Bytes(Bytes::from(vec![7; bytes]))],
    };
    rig.source.commit(vec![changes(&big, vec![row(1, 9)])]);
    let gtid = rig
        .source
        .commit(vec![changes(&big, vec![row(2, 9), row(3, 1_100_000)])]);
    rig.source.commit(vec![changes(&big, vec![row(4, 9)])]);
    let writer = rig.start()?;
    let at = halted_at(&writer).await?;
    ensure!(at.gtid == gtid && at.skippable, "{at:?}");
    let error = rig.wait_halted(&writer).await?;
    for part in ["orders.big", "id=3", &gtid, "max_allowed_packet"] {
        ensure!(error.contains(part), "{part:?} is not in {error:?}");
    }
    ask(rig, &gtid).await?;
    rig.wait_through(&writer).await?;
    let left = rig.target.root("SELECT id FROM orders.big ORDER BY id")?;
    ensure!(left == [["1"], ["4"]], "{left:?}");
    Ok(())
}

#[test]
fn a_trigger_that_is_made_meanwhile_halts_the_link() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        // One definition for all, as of a syncer that goes on reading: another one is looked up anew.
        let table = table();
        rig.source
            .commit(vec![changes(&table, vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target.root(
            "USE orders; SET sql_log_bin = 0; \
             CREATE TRIGGER late BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 9",
        )?;
        let began = Instant::now();
        let mut id = 1;
        loop {
            let status = writer.status().await?;
            if status.phase == LinkPhase::Halted {
                ensure!(status.error.contains("trigger late"), "{}", status.error);
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "the link goes on beside a trigger: {}",
                writer.describe()
            );
            // A link on which something comes all the time.
            id += 1;
            rig.source
                .commit(vec![changes(&table, vec![insert(id, id, None)])]);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
}

#[test]
fn digits_that_would_be_lost_are_told_whatever_the_server_s_notes() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(
            "SET GLOBAL sql_notes = 0; CREATE TABLE orders.exact (id INT PRIMARY KEY, c DECIMAL(10,2)); \
             CREATE TABLE orders.rough (id INT PRIMARY KEY, c DOUBLE(10,2))",
        )?;
        let tried = lost_digits(rig).await;
        rig.target.root("SET GLOBAL sql_notes = 1")?;
        tried
    })
}

async fn lost_digits(rig: &Rig<'_>) -> Result<()> {
    let exact = with_column("exact", ColumnKind::Decimal);
    let rough = with_column("rough", ColumnKind::Double);
    let insert = |value: Value| {
        vec![RowChange::Insert {
            after: vec![Value::Int(1), value],
        }]
    };
    rig.source.commit(vec![changes(
        &exact,
        insert(Value::Decimal("1.234".into())),
    )]);
    rig.source
        .commit(vec![changes(&rough, insert(Value::Double(1.234.into())))]);
    let writer = rig.start()?;
    for name in ["exact", "rough"] {
        let told = format!("orders.{name} at id=1");
        super::rig::until("the link names the row", async || {
            let status = writer.status().await?;
            let told = status.error.contains(&told) && status.error.contains("value_refused");
            Ok(status.phase == LinkPhase::Halted && told)
        })
        .await
        .with_context(|| writer.describe())?;
        rig.target.root(&format!(
            "ALTER TABLE orders.{name} MODIFY c {}",
            match name {
                "exact" => "DECIMAL(10,3)",
                _ => "DOUBLE",
            }
        ))?;
    }
    rig.wait_through(&writer).await
}
