//! Nothing of an ended epoch is applied, and a promotion and a transaction are in one order.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use change::{Body, RowChange, Transaction};
use mysql::session::Session;
use mysql::stranded;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};

use super::rig::{Rig, on_each, until};
use super::script::{changes, delete, epoch_row, heartbeat, insert, row, table, update};

/// Begins epoch 2 at the target, as its promotion does.
fn promote(rig: &Rig<'_>) -> Result<()> {
    rig.target.root(&format!(
        "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6))",
        rig.target.idc
    ))?;
    Ok(())
}

/// What is filed, in order: GTID, piece, epoch, the epoch that ended it, changes, state.
fn filed(rig: &Rig<'_>) -> Result<Vec<Vec<String>>> {
    rig.target.root(
        "SELECT gtid, part, epoch, ended_by, changes, state FROM multiactive.stranded ORDER BY seq",
    )
}

/// The bodies of what is filed, in order.
pub fn bodies(rig: &Rig<'_>) -> Result<Vec<Transaction>> {
    let rows = rig
        .target
        .root("SELECT HEX(body) FROM multiactive.stranded ORDER BY seq")?;
    rows.into_iter()
        .flatten()
        .map(|text| {
            let digits: Vec<u8> = text.into_bytes();
            let bytes = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair)?;
                Ok(u8::from_str_radix(pair, 16)?)
            });
            let bytes: Vec<u8> = bytes.collect::<Result<_>>()?;
            Ok(change::decode_stored(bytes.into())?)
        })
        .collect()
}

fn changed(transactions: &[Transaction]) -> Vec<RowChange> {
    let rows = |transaction: &Transaction| match &transaction.body {
        Body::Rows(changes) => changes.iter().flat_map(|it| it.rows.clone()).collect(),
        Body::Ddl(_) => Vec::new(),
    };
    transactions.iter().flat_map(rows).collect()
}

#[test]
fn data_of_an_ended_epoch_is_filed_and_the_link_goes_on() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        promote(rig)?;
        rig.source.commit(vec![heartbeat(&rig.source.idc, 41)]);
        let first = rig.source.commit(vec![changes(
            &table(),
            vec![
                insert(1, 1, None),
                update(row(7, 1, None), row(7, 2, Some(3))),
            ],
        )]);
        rig.source.commit(vec![heartbeat(&rig.source.idc, 42)]);
        let ddl = rig.source.ddl(
            "CREATE TABLE",
            "made",
            "CREATE TABLE made (id INT PRIMARY KEY)",
        );
        let second = rig
            .source
            .commit(vec![changes(&table(), vec![delete(row(2, 1, None))])]);
        rig.source.commit(vec![heartbeat(&rig.source.idc, 43)]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
        let line = |gtid: &str, changes: &str| {
            [gtid, "0", "1", "2", changes, "Held"]
                .map(str::to_owned)
                .to_vec()
        };
        let expected = [line(&first, "2"), line(&ddl, "1"), line(&second, "1")];
        ensure!(filed(rig)? == expected, "{:?}", filed(rig)?);
        let bodies = bodies(rig)?;
        let rows = [
            insert(1, 1, None),
            update(row(7, 1, None), row(7, 2, Some(3))),
            delete(row(2, 1, None)),
        ];
        ensure!(changed(&bodies) == rows, "{bodies:?}");
        let statement = match &bodies[1].body {
            Body::Ddl(ddl) => ddl.statement_lossy().into_owned(),
            Body::Rows(_) => String::new(),
        };
        ensure!(
            statement == "CREATE TABLE made (id INT PRIMARY KEY)",
            "{statement}"
        );
        let made = rig.target.root("SHOW TABLES IN orders LIKE 'made'")?;
        ensure!(made.is_empty(), "{made:?}");
        let seq = rig.target.root("SELECT seq FROM multiactive.heartbeat")?;
        ensure!(seq == [["43"]], "{seq:?}");
        let status = writer.status().await?;
        ensure!(status.error.is_empty(), "{}", status.error);
        ensure!(status.stranded == 3, "{status:?}");
        let ledger = status.ledger;
        ensure!(ledger.stranded == 4 && ledger.applied == 3, "{ledger:?}");
        ensure!(
            ledger.read == ledger.applied + ledger.filtered + ledger.stranded + ledger.in_flight,
            "{ledger:?}"
        );
        Ok(())
    })
}

/// What `mactl stranded` reads and settles.
#[test]
fn what_is_filed_can_be_listed_shown_and_discarded() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        promote(rig)?;
        let first = rig.source.commit(vec![changes(
            &table(),
            vec![update(row(7, 1, None), row(7, 2, Some(3)))],
        )]);
        rig.source
            .commit(vec![changes(&table(), vec![insert(2, 1, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let mut session = super::rig::options(rig.target)?.connect().await?;
        let listed = stranded::list(&mut session, true).await?;
        ensure!(listed.len() == 2, "{listed:?}");
        let filed = &listed[0];
        ensure!(
            filed.gtid == first
                && filed.source == rig.source.idc
                && (filed.epoch, filed.ended_by, filed.changes) == (1, 2, 1)
                && filed.what == "orders.t (1)"
                && filed.committed.starts_with("2023-11-14 22:13:20")
                && filed.state == "Held",
            "{filed:?}"
        );
        let shown = stranded::show(&mut session, &first).await?;
        let image = |values: [&str; 3]| {
            let columns = ["id", "v", "u"].into_iter().zip(values);
            Some(
                columns
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            )
        };
        let expected = stranded::FiledChange::Row {
            table: "orders.t".to_owned(),
            verb: "update",
            before: image(["7", "1", "NULL"]),
            after: image(["7", "2", "3"]),
        };
        ensure!(shown == [expected], "{shown:?}");
        let of_first = stranded::held_names(&mut session, Some(&first)).await?;
        let discarded = stranded::discard(&mut session, &of_first, "a test").await?;
        ensure!(
            discarded == of_first && discarded.len() == 1,
            "{discarded:?}"
        );
        Box::pin(discarded_as_counted(&mut session)).await?;
        ensure!(!stranded::show(&mut session, &first).await?.is_empty());
        session.close().await?;
        Ok(())
    })
}

/// What is filed after it was counted waits, more of it than one page lists.
async fn discarded_as_counted(session: &mut Session) -> Result<()> {
    let counted = stranded::held_names(session, None).await?;
    ensure!(counted.len() == 1, "{counted:?}");
    session
        .conn
        .query_drop(
            "INSERT INTO multiactive.stranded (source, gtid, part, epoch, ended_by, committed, \
                 changes, `tables`, body, state, filed) \
                 WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 31) \
                 SELECT s.source, CONCAT('late-', 32 * m.i + n.i + 1), 0, s.epoch, s.ended_by, s.committed, \
                 s.changes, s.`tables`, s.body, 'Held', s.filed \
                 FROM multiactive.stranded s, n AS m, n WHERE s.state = 'Held' \
                 AND 32 * m.i + n.i < 1001 ORDER BY m.i, n.i",
        )
        .await?;
    let discarded = stranded::discard(session, &counted, "a test").await?;
    ensure!(discarded == counted, "{discarded:?}");
    ensure!(stranded::list(session, true).await?.len() == stranded::LISTED);
    let late = stranded::all_held(session).await?;
    ensure!(
        late.len() == 1001 && late[1000].gtid == "late-1001",
        "{} wait",
        late.len()
    );
    let settled = stranded::list(session, false).await?;
    let settled = settled.iter().filter(|it| it.state == "Discarded").count();
    ensure!(settled == 2, "{settled} are discarded");
    let all = stranded::held_names(session, None).await?;
    let discarded = stranded::discard(session, &all, "a test").await?;
    ensure!(discarded.len() == 1001, "{} discarded", discarded.len());
    Ok(())
}

/// What the source wrote before it knew is filed, what it wrote under an epoch of its own after
/// that is applied.
#[test]
fn only_the_ended_epoch_is_filed() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        // A third member ended it, so this one is not held for what it would have written itself.
        rig.target.root(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, 'gz', NULL, NOW(6))",
        )?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        rig.source.commit(vec![epoch_row(3, &rig.source.idc)]);
        rig.source
            .commit(vec![changes(&table(), vec![insert(2, 1, None)])]);
        rig.source.edit(3, |transaction| transaction.epoch = 3);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()? == [["2", "1", "NULL"]], "{:?}", rig.rows()?);
        ensure!(filed(rig)?.len() == 1, "{:?}", filed(rig)?);
        Ok(())
    })
}

/// Where somebody else has ended the epoch, only what that one is known to lack is filed.
#[test]
fn what_the_new_primary_may_have_halts_a_third_member() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let stranded = rig
            .source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let ended = rig.source.position(0);
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, 'gz', '{ended}', NOW(6))"
        ))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(filed(rig)?.len() == 1 && filed(rig)?[0][0] == stranded);
        drop(writer);
        let had = rig
            .source
            .commit(vec![changes(&table(), vec![insert(2, 1, None)])]);
        let ended = rig.source.position(2);
        rig.target.root(&format!(
            "UPDATE multiactive.epoch SET ended = '{ended}' WHERE epoch = 2"
        ))?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        for part in [had.as_str(), "the primary of that epoch has it", "new copy"] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        ensure!(filed(rig)?.len() == 1 && rig.rows()?.is_empty());
        Ok(())
    })
}

/// What the new primary has handed on meanwhile is no reason to halt a session of before, which was cut
/// off and does not know of it yet.
#[test]
fn what_was_handed_on_meanwhile_is_not_lacking() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let through = rig.source.position(2);
        rig.target.root(&format!(
            "START TRANSACTION; INSERT INTO orders.t VALUES (2, 1, NULL); \
             INSERT INTO multiactive.epoch (epoch, idc, ended, at) \
             VALUES (2, 'gz', '{through}', NOW(6)); \
             UPDATE multiactive.applied SET position = '{through}', \
             ledger = JSON_SET(ledger, '$.serial', 999, '$.last.gtid', '{}'); COMMIT",
            rig.source.gtid(2)
        ))?;
        for id in [2, 3] {
            rig.source
                .commit(vec![changes(&table(), vec![insert(id, 1, None)])]);
        }
        rig.wait_through(&writer).await?;
        let log = writer.describe();
        ensure!(!log.contains("halted"), "{log}");
        ensure!(log.contains("was changed by somebody else"), "{log}");
        // The last one nobody has.
        ensure!(filed(rig)?.len() == 1, "{:?}", filed(rig)?);
        ensure!(rig.rows()?.len() == 2, "{:?}", rig.rows()?);
        Ok(())
    })
}

/// Killed between any two steps, the writer files each transaction once, in order and whole, those
/// that come in parts too.
#[test]
fn a_writer_that_is_killed_files_once() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        promote(rig)?;
        let mut expected = Vec::new();
        for round in 0..30 {
            let rows = |part: i64| vec![insert(round * 10 + part, part, None)];
            if round % 3 == 2 {
                let parts = (0..3).map(|part| vec![changes(&table(), rows(part))]);
                expected.extend((0..3).flat_map(rows));
                rig.source.commit_parts(parts.collect());
            } else {
                expected.extend(rows(0));
                rig.source.commit(vec![changes(&table(), rows(0))]);
            }
        }
        let points = ["before-commit", "after-commit", "after-part"];
        let crashes = rig.crash_at(&points, 4).await?;
        ensure!(crashes > 3, "only {crashes} crashes");
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let bodies = bodies(rig)?;
        ensure!(changed(&bodies) == expected, "{:?}", filed(rig)?);
        let count = "SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded";
        ensure!(rig.target.root(count)? == [["30"]]);
        ensure!(rig.rows()?.is_empty());
        Ok(())
    })
}

/// A transaction of more than a piece takes is filed in several.
#[test]
fn a_large_transaction_is_filed_in_pieces() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        promote(rig)?;
        let rows: Vec<RowChange> = (0..100_000).map(|id| insert(id, id, None)).collect();
        let half = rows.len() / 2;
        rig.source.commit_parts(vec![
            vec![changes(&table(), rows[..half].to_vec())],
            vec![changes(&table(), rows[half..].to_vec())],
        ]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let bodies = bodies(rig)?;
        ensure!(bodies.len() > 3, "{} pieces", bodies.len());
        ensure!(changed(&bodies) == rows);
        let parts = rig
            .target
            .root("SELECT MAX(part) + 1, COUNT(*), SUM(changes) FROM multiactive.stranded")?;
        let count = bodies.len().to_string();
        ensure!(parts == [[count.as_str(), &count, "100000"]], "{parts:?}");
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
        // Late, of the epoch before: the source holds the one after it, and has what it wrote.
        rig.source.commit(vec![changes(
            &table(),
            vec![update(row(1, 2, None), row(1, 3, None))],
        )]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("which ended when epoch 5 began"), "{error}");
        ensure!(rig.rows()? == [["1", "2", "NULL"]], "{:?}", rig.rows()?);
        ensure!(filed(rig)?.is_empty(), "{:?}", filed(rig)?);
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
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (5, '{}', NULL, NOW(6))",
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
        rig.target.root(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, 'gz', NULL, NOW(6))",
        )?;
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
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES ({number}, '{}', NULL, NOW(6))",
            rig.target.idc
        )
    };
    let writer = rig.start()?;
    // The link's beginning tells the target of epoch 1.
    rig.wait_through(&writer).await?;
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
    rig.wait_through(&writer).await?;
    ensure!(rig.rows()?.is_empty(), "{:?}", rig.rows()?);
    ensure!(filed(rig)?.len() == 1, "{:?}", filed(rig)?);
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
