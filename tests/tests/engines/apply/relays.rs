//! A third copy lacks the end of an epoch whose holder is gone: the new primary hands on what it has
//! applied of it. `gz` was the primary, the source is.

use anyhow::{Context as _, Result, ensure};
use change::{Body, RowChange, Transaction};

use super::rig::{Rig, on_each, until};
use super::script::{applied, changes, delete, insert, row, table, update};
use super::thirds::{begin, follow_gz, has, waits};

/// What the source's writer keeps beside the position: the newest data, and how much it left out.
fn ledger(newest: u64, conflicts: u64) -> String {
    format!(
        r#"{{"read": 5, "applied": 5, "filtered": 0, "conflicts": {conflicts}, "stranded": 0,
            "held": 0, "inFlight": 0, "epoch": 2, "writer": "the source's", "serial": 3,
            "engine": "MariaDb", "ddl": "Apply", "newest": {{"epoch": 2, "within": "0-9-{newest}"}},
            "selection": {{"databases": ["orders"], "include": [], "exclude": []}}}}"#
    )
}

/// One transaction of the source's with what `gz` wrote between two numbers.
fn handed_on(before: u64, after: u64, rows: Vec<RowChange>) -> Transaction {
    let from = (format!("0-9-{before}"), ledger(before, 0));
    let to = (format!("0-9-{after}"), ledger(after, 0));
    with_row((&from.0, &from.1), (&to.0, &to.1), rows)
}

fn with_row(from: (&str, &str), to: (&str, &str), rows: Vec<RowChange>) -> Transaction {
    let gtid = format!("77-1-{}", to.0.rsplit('-').next().unwrap_or_default());
    let mut changed = vec![applied("gz", from, to)];
    if !rows.is_empty() {
        changed.push(changes(&table(), rows));
    }
    Transaction {
        position: gtid.parse().ok(),
        gtid,
        origin: "gz".to_owned(),
        epoch: 2,
        committed_micros: 1_700_000_000_000_000,
        part: 0,
        filtered: 0,
        body: Body::Rows(changed),
    }
}

/// What `gz` wrote from its third transaction on: 3 inserts row 2, 4 gives it another `u`, 5 inserts
/// row 3 with the one that it had, 6 removes row 1, 7 changes row 3. The source has applied 3 to 6
/// together.
fn of_gz() -> Vec<Transaction> {
    let together = vec![
        insert(2, 20, Some(2)),
        update(row(2, 20, Some(2)), row(2, 20, Some(3))),
        insert(3, 30, Some(2)),
        delete(row(1, 10, None)),
    ];
    let last = vec![update(row(3, 30, Some(2)), row(3, 31, Some(2)))];
    vec![handed_on(2, 6, together), handed_on(6, 7, last)]
}

/// The target's rows when it had so many of them.
fn at(number: u64) -> &'static str {
    match number {
        2 => "",
        3 => "INSERT INTO orders.t VALUES (2, 20, 2)",
        4 => "INSERT INTO orders.t VALUES (2, 20, 3)",
        5 => "INSERT INTO orders.t VALUES (2, 20, 3), (3, 30, 2)",
        _ => {
            "INSERT INTO orders.t VALUES (2, 20, 3), (3, 30, 2); DELETE FROM orders.t WHERE id = 1"
        }
    }
}

fn prepare(rig: &Rig<'_>, number: u64) -> Result<()> {
    rig.target.root(&format!(
        "SET sql_log_bin = 0; INSERT INTO orders.t VALUES (1, 10, NULL); {}",
        at(number)
    ))?;
    let position = format!("0-9-{number}");
    follow_gz(rig, &position, Some((2, &position)))?;
    begin(rig, 3, (2, "0-9-7"));
    Ok(())
}

fn arrived(rig: &Rig<'_>) -> Result<()> {
    let expected = [["2", "20", "3"], ["3", "31", "2"], ["50", "3", "50"]];
    ensure!(rig.rows()? == expected, "{:?}", rig.rows()?);
    let link = "SELECT position, JSON_UNQUOTE(JSON_EXTRACT(ledger, '$.newest.within')), \
                JSON_UNQUOTE(JSON_EXTRACT(ledger, '$.writer')) FROM multiactive.applied \
                WHERE source = 'gz'";
    let link = rig.target.root(link)?;
    ensure!(link == [["0-9-7", "0-9-7", "another"]], "{link:?}");
    Ok(())
}

/// Whatever part of the first one it has: what it touches is put as it is in the end.
#[test]
fn a_gone_primarys_last_transactions_come_from_the_new_one() -> Result<()> {
    for number in 2..=6 {
        on_each(async |rig: &Rig<'_>| {
            prepare(rig, number)?;
            rig.source.hand_on(of_gz());
            let writer = rig.start()?;
            rig.wait_through(&writer).await?;
            arrived(rig).with_context(|| format!("from {number}"))?;
            let status = writer.status().await?;
            ensure!(status.error.is_empty(), "{}", status.error);
            Ok(())
        })?;
    }
    Ok(())
}

/// Killed between any two steps, it goes on from where the link is.
#[test]
fn a_crash_while_it_is_handed_on_repeats_nothing() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        prepare(rig, 4)?;
        rig.source.hand_on(of_gz());
        let points = ["after-row", "before-commit", "after-commit"];
        let crashes = rig.crash_at(&points, 2).await?;
        ensure!(crashes > 2, "only {crashes} crashes");
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        arrived(rig)?;
        // Each was written once: 7 times before, and twice more; 9 changes before, and five more.
        let serial = "SELECT JSON_EXTRACT(ledger, '$.serial'), JSON_EXTRACT(ledger, '$.applied') \
                      FROM multiactive.applied WHERE source = 'gz'";
        let serial = rig.target.root(serial)?;
        ensure!(serial == [["9", "14"]], "{serial:?}");
        Ok(())
    })
}

#[test]
fn what_does_not_go_on_from_here_is_left_alone() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        prepare(rig, 4)?;
        let writer = rig.start()?;
        let parts = ["cannot hand it on: it has nothing of that", "for good"];
        waits(rig, &writer, 3, &parts).await?;
        let last = of_gz().pop().context("the last")?;
        rig.source.hand_on(vec![last]);
        let parts = [
            "what gz had committed up to 0-9-7",
            "does not go on from what is here",
        ];
        waits(rig, &writer, 3, &parts).await?;
        ensure!(has(rig, 2)? && !has(rig, 3)?, "{:?}", rig.rows()?);
        rig.source.hand_on(of_gz());
        rig.wait_through(&writer).await?;
        arrived(rig)
    })
}

/// Its own link brings more meanwhile, or the target goes on with another epoch: nothing is put over
/// that.
#[test]
fn a_target_that_went_on_meanwhile_gets_nothing() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        prepare(rig, 4)?;
        let writer = rig.start()?;
        waits(rig, &writer, 3, &["what gz had committed up to 0-9-7"]).await?;
        // Promoted with what it had.
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at, follows) \
             VALUES (4, '{}', '0-9-4', NOW(6), 2)",
            rig.target.idc
        ))?;
        rig.source.hand_on(of_gz());
        until("the link goes on", async || rig.is_through()).await?;
        ensure!(!has(rig, 3)?, "{:?}", rig.rows()?);
        let link = "SELECT position FROM multiactive.applied WHERE source = 'gz'";
        ensure!(rig.target.root(link)? == [["0-9-4"]]);
        Ok(())
    })
}

/// It has written since under an epoch of its own, which the source never knew: what it lacks does not
/// follow what is here, so it waits.
#[test]
fn a_target_that_wrote_since_gets_nothing() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target
            .root(&format!("SET sql_log_bin = 0; {}", at(4)))?;
        follow_gz(rig, "0-9-4", Some((2, "0-9-4")))?;
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at, follows) \
             VALUES (3, '{}', '0-9-4', NOW(6), 2)",
            rig.target.idc
        ))?;
        begin(rig, 4, (2, "0-9-7"));
        rig.source.hand_on(of_gz());
        let writer = rig.start()?;
        let parts = ["held before epoch 4", "what gz had committed up to 0-9-7"];
        waits(rig, &writer, 4, &parts).await?;
        // Longer than it would wait before it asks.
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        waits(rig, &writer, 4, &parts).await?;
        ensure!(!has(rig, 3)?, "{:?}", rig.rows()?);
        Ok(())
    })
}

/// A row that somebody wrote here by hand has the value of one that comes.
#[test]
fn what_does_not_fit_here_is_said() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        prepare(rig, 4)?;
        rig.target
            .root("SET sql_log_bin = 0; INSERT INTO orders.t VALUES (9, 90, 2)")?;
        rig.source.hand_on(of_gz());
        let writer = rig.start()?;
        let parts = ["cannot hand it on: ", "orders.t", "what gz had committed"];
        waits(rig, &writer, 3, &parts).await?;
        ensure!(has(rig, 1)? && !has(rig, 3)?, "{:?}", rig.rows()?);
        rig.target
            .root("SET sql_log_bin = 0; DELETE FROM orders.t WHERE id = 9")?;
        rig.wait_through(&writer).await?;
        arrived(rig)
    })
}
