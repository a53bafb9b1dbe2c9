//! A member that was the primary is brought in line before anything of the next epoch reaches it.

use anyhow::{Context as _, Result, ensure};
use change::{Body, Position, RowChange, TableChange, Transaction};

use super::rig::{Rig, Writer, on_each, until};
use super::script::{changes, delete, epoch_row, insert, row, table, update};

/// The target holds epoch 2, and then the source begins epoch 3 and writes under it.
fn lose(rig: &Rig<'_>) -> Result<()> {
    rig.target.root(&format!(
        "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6))",
        rig.target.idc
    ))?;
    rig.source.commit(vec![epoch_row(3, &rig.source.idc)]);
    rig.source
        .commit(vec![changes(&table(), vec![insert(50, 3, Some(50))])]);
    rig.source.edit(2, |transaction| transaction.epoch = 3);
    Ok(())
}

/// Rows that were there at the hand-over.
const BEFORE: &str = "SET sql_log_bin = 0; \
     INSERT INTO orders.t VALUES (1, 10, 1), (2, 20, 2), (3, 30, NULL)";

/// What the target wrote after it: a row made, changed and given another key; a swap of two unique
/// values through a third; a row removed.
fn stranded() -> Vec<Vec<RowChange>> {
    vec![
        vec![insert(7, 70, Some(7)), delete(row(3, 30, None))],
        vec![
            update(row(7, 70, Some(7)), row(7, 71, Some(7))),
            update(row(1, 10, Some(1)), row(1, 10, Some(9))),
            update(row(2, 20, Some(2)), row(2, 20, Some(1))),
            update(row(1, 10, Some(9)), row(1, 10, Some(2))),
        ],
        vec![update(row(7, 71, Some(7)), row(8, 72, Some(8)))],
    ]
}

const AFTER: &str = "DELETE FROM orders.t; \
     INSERT INTO orders.t VALUES (1, 10, 2), (2, 20, 1), (8, 72, 8)";

fn filed(rig: &Rig<'_>, number: u64, part: u32, changes: Vec<TableChange>) -> Transaction {
    Transaction {
        gtid: format!("0-77-{number}"),
        origin: rig.target.idc.clone(),
        epoch: 2,
        committed_micros: 1_700_000_000_000_000,
        part,
        position: None,
        filtered: 0,
        body: Body::Rows(changes),
    }
}

/// Files what the target wrote, the last transaction in two pieces.
fn file(rig: &Rig<'_>) {
    let mut number = 0;
    let mut transactions: Vec<Transaction> = stranded()
        .into_iter()
        .map(|rows| {
            number += 1;
            filed(rig, number, 0, vec![changes(&table(), rows)])
        })
        .collect();
    let more = filed(rig, number, 1, Vec::new());
    transactions.push(more);
    rig.source.file(&transactions);
}

fn own_position(rig: &Rig<'_>) -> Result<Position> {
    let sql = match rig.target.engine {
        harness::Engine::MySql => "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')",
        harness::Engine::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
    };
    let text = rig.target.root(sql)?.concat().concat();
    let flavor = match rig.target.engine {
        harness::Engine::MySql => change::Flavor::MySql,
        harness::Engine::MariaDb => change::Flavor::MariaDb,
    };
    Ok(Position::parse(flavor, &text.replace('\n', ""))?)
}

/// Everything that the target has, and whatever it will have during the test: what it commits itself
/// and what the link does there.
fn reach_all(rig: &Rig<'_>) -> Result<()> {
    let source: model::IdcName = rig.source.idc.parse()?;
    let one = |sql: &str| anyhow::Ok(rig.target.root(sql)?.concat().concat());
    let text = match rig.target.engine {
        harness::Engine::MySql => {
            let uuid = one("SELECT @@GLOBAL.server_uuid")?;
            let tag = mysql::origin::origin_tag(&source);
            format!(
                "{},{uuid}:1-1000000,{uuid}:{tag}:1-1000000",
                own_position(rig)?
            )
        }
        harness::Engine::MariaDb => {
            let server = one("SELECT @@GLOBAL.server_id")?;
            let domain = mysql::origin::origin_domain(&source);
            format!("0-{server}-1000000,{domain}-{server}-1000000")
        }
    };
    rig.source.reach(&rig.target.idc, text.parse()?);
    Ok(())
}

fn undone(rig: &Rig<'_>) -> Result<Vec<Vec<String>>> {
    rig.target
        .root("SELECT gtid, how, changes FROM multiactive.undone ORDER BY gtid")
}

async fn wait_told(writer: &Writer, part: &str) -> Result<()> {
    let mut error = String::new();
    until(part, async || {
        error = writer.status().await?.error;
        Ok(error.contains(part))
    })
    .await
    .with_context(|| format!("it says {error:?}\n{}", writer.describe()))
}

fn in_line() -> Vec<Vec<String>> {
    [
        ["1", "10", "1"],
        ["2", "20", "2"],
        ["3", "30", "NULL"],
        ["50", "3", "50"],
    ]
    .map(|row| row.map(str::to_owned).to_vec())
    .to_vec()
}

fn all_undone() -> Vec<Vec<String>> {
    [["0-77-1", "2"], ["0-77-2", "4"], ["0-77-3", "1"]]
        .map(|[gtid, count]| [gtid, "Inverse", count].map(str::to_owned).to_vec())
        .to_vec()
}

/// Nothing of the new epoch arrives before the source has filed all and all of it was taken back.
#[test]
fn the_old_primary_is_held_and_brought_in_line() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        rig.target.root(BEFORE)?;
        rig.target.root(AFTER)?;
        file(rig);
        rig.target.root("SET GLOBAL read_only = 0")?;
        let writer = rig.start()?;
        wait_told(&writer, "the target is not read_only yet").await?;
        rig.target.root("SET GLOBAL read_only = 1")?;
        wait_told(&writer, "no link from there has begun").await?;
        let behind = match rig.target.engine {
            harness::Engine::MySql => "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
            harness::Engine::MariaDb => "0-77-1",
        };
        rig.source.reach(&rig.target.idc, behind.parse()?);
        wait_told(&writer, "it has got to").await?;
        let asked = rig.source.asked();
        until("it asks on", async || Ok(rig.source.asked() > asked + 3)).await?;
        ensure!(undone(rig)?.is_empty(), "{:?}", undone(rig)?);
        let newest = "SELECT MAX(epoch) FROM multiactive.epoch";
        ensure!(rig.target.root(newest)? == [["2"]], "the epoch has passed");
        reach_all(rig)?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == in_line(), "{:?}", rig.rows()?);
        ensure!(undone(rig)? == all_undone(), "{:?}", undone(rig)?);
        ensure!(rig.target.root(newest)? == [["3"]]);
        let status = writer.status().await?;
        ensure!(status.error.is_empty(), "{}", status.error);
        Ok(())
    })
}

/// The target was promoted, by its arbiter and not through the link, while the link ran: what the
/// writer had read of epochs before is not what counts.
#[test]
fn a_target_that_was_promoted_meanwhile_is_held() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(BEFORE)?;
        rig.source.commit(vec![epoch_row(1, &rig.source.idc)]);
        rig.source
            .commit(vec![changes(&table(), vec![insert(60, 6, None)])]);
        rig.source.edit(2, |transaction| transaction.epoch = 1);
        let writer = rig.start()?;
        until("it has applied what came first", async || {
            Ok(rig.rows()?.len() == 4)
        })
        .await?;
        rig.target.root("SET GLOBAL read_only = 0")?;
        rig.target.root(AFTER)?;
        file(rig);
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6))",
            rig.target.idc
        ))?;
        rig.source.commit(vec![epoch_row(3, &rig.source.idc)]);
        wait_told(&writer, "the target is not read_only yet").await?;
        let newest = "SELECT MAX(epoch) FROM multiactive.epoch";
        ensure!(rig.target.root(newest)? == [["2"]], "the epoch has passed");
        Ok(())
    })
}

/// What is taken back is marked as born in the source: it is neither sent nor stranded itself.
#[test]
fn taking_back_is_marked() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        rig.target.root(BEFORE)?;
        rig.target.root(AFTER)?;
        file(rig);
        reach_all(rig)?;
        let before = own_position(rig)?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let idcs = [&rig.source.idc, &rig.target.idc].map(|idc| idc.parse());
        let idcs: Vec<model::IdcName> = idcs.into_iter().collect::<Result<_, _>>()?;
        let born = |position: &Position| mysql::origin::born_here(position, &idcs);
        let after = own_position(rig)?;
        ensure!(after != before, "nothing was logged");
        ensure!(
            born(&after) == born(&before),
            "{before} became {after}, of which {} more were born here",
            born(&after) - born(&before)
        );
        Ok(())
    })
}

/// Killed between any two steps, each transaction is taken back once.
#[test]
fn a_writer_that_is_killed_takes_back_once() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        rig.target.root(BEFORE)?;
        rig.target.root(AFTER)?;
        file(rig);
        reach_all(rig)?;
        let points = ["after-row", "before-commit", "after-commit"];
        let crashes = rig.crash_at(&points, 4).await?;
        ensure!(crashes > 4, "only {crashes} crashes");
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == in_line(), "{:?}", rig.rows()?);
        ensure!(undone(rig)? == all_undone(), "{:?}", undone(rig)?);
        Ok(())
    })
}

/// A row that is not what the change left is shown, and nothing of its transaction is taken back.
#[test]
fn a_row_that_was_changed_halts() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        rig.target.root(BEFORE)?;
        rig.target.root(AFTER)?;
        rig.target.root("UPDATE orders.t SET v = 11 WHERE id = 1")?;
        file(rig);
        reach_all(rig)?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        for part in [
            "0-77-2",
            "orders.t at id=1",
            "left id=1, v=10, u=2",
            "there is id=1, v=11, u=2",
            "what it was before the change (id=1, v=10, u=9)",
            "INSERT INTO multiactive.undone",
        ] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        // The newest is undone, nothing of the one that does not fit.
        let rows = rig.rows()?;
        ensure!(rows[2] == ["7", "71", "7"], "{rows:?}");
        ensure!(undone(rig)?.len() == 1, "{:?}", undone(rig)?);
        // Once a person has made the row what it was at the end, the link goes on.
        rig.target
            .root("SET sql_log_bin = 0; UPDATE orders.t SET v = 10 WHERE id = 1")?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == in_line(), "{:?}", rig.rows()?);
        ensure!(undone(rig)? == all_undone(), "{:?}", undone(rig)?);
        Ok(())
    })
}

/// A statement cannot be taken back; the message says what to do, and that lets the link go on.
#[test]
fn a_statement_asks_for_a_new_copy() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        let other = super::script::Source::new(&rig.target.idc, change::Flavor::MariaDb);
        other.ddl("TRUNCATE", "t", "TRUNCATE TABLE t");
        let mut statement = filed(rig, 9, 0, Vec::new());
        other.edit(1, |made| statement.body = made.body.clone());
        rig.source.file(&[statement]);
        reach_all(rig)?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        for part in ["0-77-9", "TRUNCATE TABLE t", "copied anew"] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        let (_, pass) = error.split_once("run at the target: ").unwrap_or_default();
        rig.target.root(pass)?;
        rig.wait_through(&writer).await?;
        ensure!(
            undone(rig)? == [["0-77-9", "Hand", "0"]],
            "{:?}",
            undone(rig)?
        );
        Ok(())
    })
}

/// What is filed after the target was brought in line is found and taken back too.
#[test]
fn what_is_filed_late_is_taken_back() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        rig.target.root(BEFORE)?;
        rig.target.root(AFTER)?;
        file(rig);
        reach_all(rig)?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target
            .root("SET sql_log_bin = 0; UPDATE orders.t SET v = 31 WHERE id = 3")?;
        let late = vec![update(row(3, 30, None), row(3, 31, None))];
        rig.source
            .file(&[filed(rig, 99, 0, vec![changes(&table(), late)])]);
        until("it is taken back", async || Ok(rig.rows()? == in_line()))
            .await
            .with_context(|| writer.describe())?;
        until("it is written down", async || Ok(undone(rig)?.len() == 4)).await
    })
}

/// A source that was promoted again with what was set aside here has rows that would never come.
#[test]
fn a_source_that_kept_its_stranded_writes_halts() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        lose(rig)?;
        rig.target.root(&format!(
            "INSERT INTO multiactive.stranded (source, gtid, part, epoch, ended_by, changes, \
             `tables`, body, filed) VALUES ('{}', '0-9-1', 0, 1, 2, 1, '', '', NOW(6))",
            rig.source.idc
        ))?;
        reach_all(rig)?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("promoted again with 1 transaction(s)"),
            "{error}"
        );
        rig.source.says_undone(1);
        rig.wait_through(&writer).await
    })
}

/// What the primary has by now, which looks as the stranded changes left it: a person has had them
/// written again there.
fn replayed() -> Vec<Vec<change::Value>> {
    vec![
        row(1, 10, Some(2)),
        row(2, 20, Some(1)),
        row(8, 72, Some(8)),
    ]
}

/// A member that was the primary and has been emptied to be copied anew: what it had committed is
/// gone with its rows, so nothing is taken back, neither half-way through the copy nor by a writer
/// that was killed before it could write down that all was copied.
#[test]
fn nothing_is_taken_back_of_what_is_copied_anew() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (0, '{}', NULL, NOW(6)); DELETE FROM orders.t",
            rig.target.idc
        ))?;
        file(rig);
        reach_all(rig)?;
        rig.source.copy_in_part(replayed());
        for _ in 0..2 {
            // The second one goes on in the middle.
            let writer = rig.start()?;
            rig.source
                .commit(vec![changes(&table(), vec![insert(60, 6, None)])]);
            rig.source
                .commit(vec![changes(&table(), vec![delete(row(60, 6, None))])]);
            rig.wait_through(&writer).await?;
            ensure!(rig.rows()?.len() == 3, "{:?}", rig.rows()?);
            ensure!(undone(rig)?.is_empty(), "{:?}", undone(rig)?);
            writer.kill()?;
        }
        rig.target
            .root("SET sql_log_bin = 0; DELETE FROM orders.t; DELETE FROM multiactive.applied")?;
        rig.source.copy(replayed());
        let mut writer = rig.start_with(&["--crash-at", "after-commit"])?;
        ensure!(writer.ended().await?, "it went on: {}", writer.describe());
        ensure!(rig.rows()?.len() == 3, "{:?}", rig.rows()?);
        ensure!(undone(rig)?.is_empty(), "{:?}", undone(rig)?);
        let writer = rig.start()?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(50, 3, Some(50))])]);
        rig.wait_through(&writer).await?;
        let ids: Vec<String> = rig.rows()?.into_iter().map(|row| row[0].clone()).collect();
        ensure!(ids == ["1", "2", "8", "50"], "{ids:?}");
        let by_copy = undone(rig)?.into_iter().filter(|row| row[1] == "Copy");
        ensure!(by_copy.count() == 3, "{:?}", undone(rig)?);
        Ok(())
    })
}
