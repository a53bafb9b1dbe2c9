//! Nothing of an ended epoch is applied, and a promotion and a transaction are in one order.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};

use super::rig::{Rig, on_each, until};
use super::script::{changes, epoch_row, heartbeat, insert, row, table, update};

#[test]
fn data_of_an_ended_epoch_is_stranded_and_heartbeats_are_not() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch VALUES (2, '{}', NULL, NOW(6))",
            rig.target.idc
        ))?;
        rig.source.commit(vec![heartbeat(&rig.source.idc, 41)]);
        rig.source.commit(vec![heartbeat(&rig.source.idc, 42)]);
        let stranded = rig
            .source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        rig.source.commit(vec![changes(
            &table(),
            vec![insert(2, 1, None), insert(3, 1, None)],
        )]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        for part in [
            "2 transaction(s) with 3 change(s)",
            &stranded,
            "epoch 1",
            "epoch 2",
            "stranded",
            "UPDATE multiactive.applied SET position=",
        ] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
        ensure!(
            rig.applied()? == rig.source.position(2).to_string(),
            "{}",
            rig.applied()?
        );
        let seq = rig.target.root("SELECT seq FROM multiactive.heartbeat")?;
        ensure!(seq == [["42"]], "{seq:?}");
        // What the error says to do lets the link pass them, and nothing else.
        let (_, pass) = error
            .split_once("running at the target: ")
            .unwrap_or_default();
        rig.target.root(pass)?;
        rig.wait_through(&writer).await?;
        until("the link goes on", async || {
            Ok(writer.status().await?.error.is_empty())
        })
        .await?;
        ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
        Ok(())
    })
}

#[test]
fn an_epoch_that_crosses_ends_the_ones_before() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        rig.source.commit(vec![epoch_row(5, &rig.source.idc)]);
        rig.source.commit(vec![changes(
            &table(),
            vec![update(row(1, 1, None), row(1, 2, None))],
        )]);
        rig.source.edit(3, |transaction| transaction.epoch = 5);
        // Late, of the epoch before: the same batch brings the row that ends it.
        rig.source.commit(vec![changes(
            &table(),
            vec![update(row(1, 2, None), row(1, 3, None))],
        )]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("stranded"), "{error}");
        ensure!(rig.rows()? == [["1", "2", "NULL"]], "{:?}", rig.rows()?);
        let epochs = rig
            .target
            .root("SELECT epoch, idc FROM multiactive.epoch ORDER BY epoch")?;
        let source = rig.source.idc.as_str();
        ensure!(epochs == [["1", source], ["5", source]], "{epochs:?}");
        Ok(())
    })
}

#[test]
fn one_epoch_of_two_idcs_halts() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch VALUES (5, '{}', NULL, NOW(6))",
            rig.target.idc
        ))?;
        rig.source.commit(vec![epoch_row(5, &rig.source.idc)]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("another IDC holds"), "{error}");
        Ok(())
    })
}

/// Rows that were read under an epoch that has ended here are copied as little.
#[test]
fn a_copy_of_an_ended_epoch_is_refused() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source.copy(vec![row(1, 1, None)]);
        rig.target
            .root("INSERT INTO multiactive.epoch VALUES (2, 'gz', NULL, NOW(6))")?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("under epoch 1, which ended when epoch 2 began"),
            "{error}"
        );
        ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
        // Under the newest epoch it is taken.
        drop(writer);
        rig.target.root(
            "DELETE FROM multiactive.epoch WHERE epoch = 2; DELETE FROM multiactive.applied",
        )?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        until("the row is copied", async || Ok(!rig.rows()?.is_empty())).await
    })
}

/// By the time a person looks, the source may have given out its lost numbers again.
#[test]
fn a_source_that_went_back_stays_halted_until_a_person_has_looked() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.source.halt(Some(change::Halt::SOURCE_WENT_BACK));
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("the script says SourceWentBack"), "{error}");
        rig.source.halt(None);
        rig.source
            .commit(vec![changes(&table(), vec![insert(2, 1, None)])]);
        drop(writer);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(rig.rows()?.len() == 1, "{:?}", rig.rows()?);
        let (_, mend) = error
            .split_once("one runs at the target: ")
            .unwrap_or_default();
        rig.target.root(mend)?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 2, "{:?}", rig.rows()?);
        Ok(())
    })
}

async fn root(rig: &Rig<'_>) -> Result<Conn> {
    let options = OptsBuilder::default()
        .user(Some("root"))
        .socket(rig.target.socket.to_str());
    Ok(Conn::new(options).await?)
}

/// The promotion holds its locks while a transaction arrives: whichever lock the writer meets
/// first, it must wait, see the new epoch and apply nothing.
async fn meet(rig: &Rig<'_>, locks: &str) -> Result<()> {
    let epoch = |number: u64| {
        format!(
            "INSERT INTO multiactive.epoch VALUES ({number}, '{}', NULL, NOW(6))",
            rig.target.idc
        )
    };
    let writer = rig.start()?;
    // The link's beginning tells the target of epoch 1.
    rig.wait_through(&writer).await?;
    let before = rig.applied()?;
    let mut promotion = root(rig).await?;
    promotion.query_drop("START TRANSACTION").await?;
    promotion.query_drop(locks).await?;
    rig.source
        .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
    let waiting = match rig.target.engine {
        harness::Engine::MySql => "SELECT COUNT(*) FROM performance_schema.data_lock_waits",
        harness::Engine::MariaDb => "SELECT COUNT(*) FROM information_schema.innodb_lock_waits",
    };
    until("the writer waits", async || {
        // MariaDB renews what it tells of locks only if nobody has asked for 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
        Ok(rig.target.root(waiting)?[0][0] != "0")
    })
    .await
    .with_context(|| writer.describe())?;
    promotion.query_drop(epoch(2)).await?;
    promotion.query_drop("COMMIT").await?;
    promotion.disconnect().await?;
    let error = rig.wait_halted(&writer).await?;
    ensure!(error.contains("stranded"), "the error is {error:?}");
    ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
    ensure!(
        rig.applied()? == before,
        "the checkpoint is {:?}",
        rig.applied()?
    );
    Ok(())
}

#[test]
fn a_transaction_that_waited_for_a_promotion_sees_it() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let locks = "SELECT link FROM multiactive.applied ORDER BY link FOR UPDATE; \
                     SELECT epoch FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1 FOR UPDATE";
        meet(rig, locks).await
    })
}

/// The lock on the newest epoch is enough by itself, though it then is not the newest any more.
#[test]
fn a_transaction_that_waited_for_an_epoch_sees_the_next() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let locks = "SELECT epoch FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1 FOR UPDATE";
        meet(rig, locks).await
    })
}
