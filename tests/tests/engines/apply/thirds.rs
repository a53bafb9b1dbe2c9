//! A copy that is neither the old primary nor the new one: it goes on with the new epoch only once it
//! has just as much of the old one as the new primary had. `gz` was the primary, the source is.

use anyhow::{Context as _, Result, ensure};
use change::{Body, Position, RowChange, TableChange, Transaction};
use model::LinkPhase;

use super::epochs::bodies;
use super::rig::{Rig, Writer, on_each, until};
use super::script::{changes, delete, epoch_row_after, insert, row, table, update};

/// The epoch of `gz` is known at the target, and its link has brought so much.
pub fn follow_gz(rig: &Rig<'_>, position: &str, newest: Option<(u64, &str)>) -> Result<()> {
    let newest = newest.map_or(String::new(), |(epoch, within)| {
        format!(r#", "newest": {{"epoch": {epoch}, "within": "{within}"}}"#)
    });
    let ledger = format!(
        r#"{{"read": 9, "applied": 9, "filtered": 0, "conflicts": 0, "stranded": 0, "held": 0,
            "inFlight": 0, "epoch": 2, "writer": "another", "serial": 7,
            "selection": {{"databases": ["orders"], "include": [], "exclude": []}}{newest}}}"#
    );
    rig.target.root(&format!(
        "INSERT IGNORE INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, 'gz', NULL, NOW(6)); \
         REPLACE INTO multiactive.applied (link, source, position, ledger, at) \
         VALUES ('suite/from-gz', 'gz', '{position}', '{ledger}', NOW(6))"
    ))?;
    Ok(())
}

/// The source begins an epoch that follows another, of which it had so much, and writes under it.
pub fn begin(rig: &Rig<'_>, epoch: u64, follows: (u64, &str)) {
    let row = epoch_row_after(epoch, &rig.source.idc, Some(follows));
    rig.source.commit(vec![row]);
    let number = rig.source.length();
    rig.source
        .commit(vec![changes(&table(), vec![insert(50, 3, Some(50))])]);
    for it in [number, number + 1] {
        rig.source.edit(it, |transaction| transaction.epoch = epoch);
    }
}

/// Waits until the link says that it waits for this, and sees that nothing of the epoch is there.
pub async fn waits(rig: &Rig<'_>, writer: &Writer, epoch: u64, parts: &[&str]) -> Result<()> {
    let mut said = String::new();
    let told = until("the link says what it waits for", async || {
        said = writer.status().await?.error;
        Ok(parts.iter().all(|part| said.contains(part)))
    });
    told.await.with_context(|| said.clone())?;
    ensure!(writer.status().await?.phase != LinkPhase::Halted, "{said}");
    let begun = format!("SELECT epoch FROM multiactive.epoch WHERE epoch >= {epoch}");
    ensure!(rig.target.root(&begun)?.is_empty(), "the epoch has begun");
    ensure!(!has(rig, 50)?, "a row of the epoch is there");
    Ok(())
}

pub fn has(rig: &Rig<'_>, id: i64) -> Result<bool> {
    let sql = format!("SELECT id FROM orders.t WHERE id = {id}");
    Ok(!rig.target.root(&sql)?.is_empty())
}

#[test]
fn waits_for_what_the_new_epoch_builds_upon() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-4", Some((2, "0-9-4")))?;
        begin(rig, 3, (2, "0-9-5"));
        let writer = rig.start()?;
        let parts = ["held before epoch 3", "what gz had committed up to 0-9-5"];
        waits(rig, &writer, 3, &parts).await?;
        // A heartbeat more than the source had, and no data.
        follow_gz(rig, "0-9-6", Some((2, "0-9-5")))?;
        rig.wait_through(&writer).await?;
        ensure!(has(rig, 50)?, "the row is missing");
        let status = writer.status().await?;
        ensure!(status.error.is_empty(), "{}", status.error);
        let newest = "SELECT JSON_EXTRACT(ledger, '$.newest.epoch') FROM multiactive.applied \
                      WHERE source <> 'gz'";
        ensure!(rig.target.root(newest)? == [["3"]]);
        Ok(())
    })
}

#[test]
fn waits_for_epochs_that_the_source_knew() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-5", None)?;
        begin(rig, 5, (4, ""));
        let writer = rig.start()?;
        waits(rig, &writer, 5, &["the beginning of epoch 4"]).await?;
        rig.target.root(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at, follows) \
             VALUES (4, 'tj', '0-9-5', NOW(6), 2)",
        )?;
        rig.wait_through(&writer).await?;
        ensure!(has(rig, 50)?, "the row is missing");
        Ok(())
    })
}

/// The source was a primary, and the link begins only now, without a copy: what was written before it
/// would be lacking without a word.
#[test]
fn waits_where_a_link_begins_behind_what_is_lacking() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-5", None)?;
        rig.source.begin_in(3);
        rig.source
            .commit(vec![changes(&table(), vec![insert(50, 3, Some(50))])]);
        rig.source.edit(1, |transaction| transaction.epoch = 4);
        let writer = rig.start()?;
        let parts = ["held before epoch 3", "knows of epoch 2 only"];
        waits(rig, &writer, 3, &parts).await?;
        // A later primary has copied everything.
        rig.target.root(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (4, 'tj', NULL, NOW(6))",
        )?;
        rig.wait_through(&writer).await
    })
}

fn of_gz(number: u64, rows: Vec<RowChange>) -> Transaction {
    let changes: Vec<TableChange> = vec![changes(&table(), rows)];
    Transaction {
        gtid: format!("0-9-{number}"),
        origin: "gz".to_owned(),
        epoch: 2,
        committed_micros: 1_700_000_000_000_000,
        part: 0,
        position: None,
        filtered: 0,
        body: Body::Rows(changes),
    }
}

/// What `gz` wrote and the source never got: some of it is here, and some never came.
fn file(rig: &Rig<'_>) -> Result<()> {
    rig.source.file(&[
        of_gz(
            6,
            vec![
                insert(6, 60, None),
                update(row(1, 10, None), row(1, 11, None)),
            ],
        ),
        of_gz(7, vec![update(row(1, 11, None), row(1, 12, None))]),
        of_gz(8, vec![delete(row(6, 60, None))]),
        of_gz(9, vec![insert(9, 90, None)]),
    ]);
    rig.target
        .root("SET sql_log_bin = 0; INSERT INTO orders.t VALUES (1, 12, NULL), (6, 60, NULL)")?;
    Ok(())
}

#[test]
fn what_the_new_primary_never_got_is_taken_back() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-7", Some((2, "0-9-7")))?;
        file(rig)?;
        begin(rig, 3, (2, "0-9-5"));
        let writer = rig.start()?;
        let parts = [
            "may have changes of gz up to 0-9-7",
            "had not when it was promoted",
        ];
        waits(rig, &writer, 3, &parts).await?;
        rig.source.reach("gz", "0-9-6".parse::<Position>()?);
        waits(rig, &writer, 3, &parts).await?;
        ensure!(
            has(rig, 6)?,
            "taken back before the source had seen all of it"
        );
        rig.source.reach("gz", "0-9-9".parse::<Position>()?);
        rig.wait_through(&writer).await?;
        ensure!(
            rig.rows()? == [["1", "10", "NULL"], ["50", "3", "50"]],
            "{:?}",
            rig.rows()?
        );
        let undone = "SELECT gtid, source, epoch FROM multiactive.undone ORDER BY gtid";
        ensure!(
            rig.target.root(undone)? == [["0-9-6", "gz", "2"], ["0-9-7", "gz", "2"]],
            "{:?}",
            rig.target.root(undone)?
        );
        // The writer of the link from gz finds its row changed.
        let left = "SELECT JSON_UNQUOTE(JSON_EXTRACT(ledger, '$.newest.within')), \
                    JSON_EXTRACT(ledger, '$.serial') FROM multiactive.applied WHERE source = 'gz'";
        ensure!(rig.target.root(left)? == [["0-9-5", "8"]]);
        ensure!(bodies(rig)?.is_empty(), "something was filed");
        Ok(())
    })
}

/// More of `gz` came between, so that it is gone through again.
#[test]
fn what_was_taken_back_before_is_left_alone() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-7", Some((2, "0-9-7")))?;
        file(rig)?;
        rig.target.root(&format!(
            "SET sql_log_bin = 0; UPDATE orders.t SET v = 11 WHERE id = 1; \
             INSERT INTO multiactive.undone \
             (filed_in, gtid, how, changes, at, source, epoch, ended_by) \
             VALUES ('{}', '0-9-7', 'Inverse', 1, NOW(6), 'gz', 2, 3)",
            rig.source.idc
        ))?;
        begin(rig, 3, (2, "0-9-5"));
        rig.source.reach("gz", "0-9-9".parse::<Position>()?);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(
            rig.rows()? == [["1", "10", "NULL"], ["50", "3", "50"]],
            "{:?}",
            rig.rows()?
        );
        Ok(())
    })
}

/// Killed between any two steps, it takes back exactly once.
#[test]
fn a_crash_takes_nothing_back_twice() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-7", Some((2, "0-9-7")))?;
        file(rig)?;
        begin(rig, 3, (2, "0-9-5"));
        rig.source.reach("gz", "0-9-9".parse::<Position>()?);
        let points = ["after-row", "before-commit", "after-commit"];
        let crashes = rig.crash_at(&points, 3).await?;
        ensure!(crashes > 2, "only {crashes} crashes");
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(
            rig.rows()? == [["1", "10", "NULL"], ["50", "3", "50"]],
            "{:?}",
            rig.rows()?
        );
        Ok(())
    })
}

#[test]
fn a_copy_that_went_on_without_the_new_primary_halts() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        follow_gz(rig, "0-9-5", None)?;
        rig.target.root(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at, follows) \
             VALUES (3, 'tj', '0-9-3', NOW(6), 2); \
             INSERT INTO multiactive.stranded \
             (source, gtid, part, epoch, ended_by, changes, `tables`, body, filed) \
             VALUES ('gz', '0-9-4', 0, 2, 3, 1, 'orders.t', '', NOW(6))",
        )?;
        begin(rig, 4, (2, "0-9-5"));
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        for part in ["epoch 4", "transaction 0-9-4 of gz", "needs a new copy"] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        ensure!(!has(rig, 50)?, "a row of the epoch is there");
        Ok(())
    })
}
