//! A halted link leaves out the one transaction that a person names: whole, once, and nothing else,
//! also where the writer dies in the middle of it.

use anyhow::{Context as _, Result, ensure};
use model::{HaltedAt, Ledger, WriterStatus};
use mysql::session::Session;
use mysql::skips::{self, Asked};
use mysql::stranded::FiledChange;

use super::rig::{Rig, Writer, on_each, until};
use super::script::{changes, epoch_row, insert, table};

pub(super) const LINK: &str = "suite/apply";

/// More than the narrowed column holds.
pub(super) const TOO_WIDE: i64 = 70_000;

/// Makes a column narrower at the target than it is at the source.
pub(super) fn narrow(rig: &Rig<'_>) -> Result<()> {
    rig.target.root("ALTER TABLE orders.t MODIFY v SMALLINT")?;
    Ok(())
}

pub(super) async fn session(rig: &Rig<'_>) -> Result<Session> {
    Ok(super::rig::options(rig.target)?.connect().await?)
}

pub(super) async fn ask(rig: &Rig<'_>, gtid: &str) -> Result<Asked> {
    let mut session = session(rig).await?;
    Ok(skips::ask(&mut session, LINK, gtid, "ann", "it's too wide").await?)
}

async fn waits(rig: &Rig<'_>) -> Result<Option<String>> {
    let waiting = skips::waiting(&mut session(rig).await?, LINK).await?;
    Ok(waiting.map(|wish| wish.gtid))
}

/// Waits until the link says at which transaction it is halted.
pub(super) async fn halted_at(writer: &Writer) -> Result<HaltedAt> {
    let mut at = None;
    let halted = until("the link says what it is halted at", async || {
        at = writer.status().await?.halted_at;
        Ok(at.is_some())
    });
    halted.await.with_context(|| writer.describe())?;
    at.context("halted at nothing")
}

/// How often the writer has halted.
async fn halts(writer: &Writer) -> Result<u64> {
    let metrics = writer.get("/metrics").await?;
    let lines = metrics.lines();
    let counts = lines.filter(|line| line.starts_with("multiactive_writer_halts_total{"));
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Waits until the link has tried again and halted again, twice.
async fn halts_again(writer: &Writer) -> Result<()> {
    let before = halts(writer).await?;
    let again = until("it halts again", async || {
        Ok(halts(writer).await? >= before + 2)
    });
    again.await.with_context(|| writer.describe())
}

/// The status once nothing is in flight and nothing fails.
pub(super) async fn settled(writer: &Writer) -> Result<WriterStatus> {
    let mut last = None;
    let settled = until("nothing is in flight", async || {
        let status = writer.status().await?;
        let done = status.error.is_empty() && status.ledger.in_flight == 0;
        last = Some(status);
        Ok(done)
    });
    settled.await.with_context(|| writer.describe())?;
    last.context("no status")
}

fn balanced(ledger: &Ledger) -> bool {
    ledger.read
        == ledger.applied
            + ledger.filtered
            + ledger.conflicts
            + ledger.stranded
            + ledger.held
            + ledger.in_flight
}

/// The ledger at the link's checkpoint.
fn stored(rig: &Rig<'_>) -> Result<Ledger> {
    let rows = rig.target.root("SELECT ledger FROM multiactive.applied")?;
    let text = rows.into_iter().flatten().next().context("no checkpoint")?;
    Ok(serde_json::from_str(&text)?)
}

/// The ids of the rows at the target.
pub(super) fn ids(rig: &Rig<'_>) -> Result<Vec<String>> {
    let rows = rig.rows()?.into_iter();
    Ok(rows.filter_map(|row| row.into_iter().next()).collect())
}

/// The values of `id` in a filed transaction, in order.
fn filed_ids(changes: &[FiledChange]) -> Vec<String> {
    let id = |change: &FiledChange| match change {
        FiledChange::Row { after, .. } => {
            let mut columns = after.iter().flatten();
            columns
                .find(|(name, _)| name == "id")
                .map(|(_, id)| id.clone())
        }
        FiledChange::Statement { .. } => None,
    };
    changes.iter().filter_map(id).collect()
}

#[test]
fn exactly_the_named_transaction_is_left_out() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        narrow(rig)?;
        let commit = |rows| rig.source.commit(vec![changes(&table(), rows)]);
        commit(vec![insert(1, 1, None)]);
        let wide = commit(vec![
            insert(2, 2, None),
            insert(3, TOO_WIDE, None),
            insert(4, 4, None),
        ]);
        let next = commit(vec![insert(5, 5, None)]);
        let writer = rig.start()?;
        let at = halted_at(&writer).await?;
        ensure!(at.gtid == wide && at.skippable, "{at:?}");
        let error = writer.status().await?.error;
        let command = format!("mactl link skip {LINK} --gtid {wide} --reason");
        ensure!(error.contains(&command), "{error}");

        // A wish for another transaction does nothing, and stands in the way of a second one.
        ensure!(matches!(ask(rig, &next).await?, Asked::Stands(_)));
        halts_again(&writer).await?;
        ensure!(ids(rig)? == ["1"], "{:?}", rig.rows()?);
        let Asked::Before(wish) = ask(rig, &wide).await? else {
            anyhow::bail!("two wishes for one link");
        };
        ensure!(
            wish.gtid == next && wish.reason == "it's too wide",
            "{wish:?}"
        );
        ensure!(skips::withdraw(&mut session(rig).await?, &wish).await?);
        ensure!(!skips::withdraw(&mut session(rig).await?, &wish).await?);
        halts_again(&writer).await?;
        ensure!(halted_at(&writer).await?.gtid == wide);

        ensure!(matches!(ask(rig, &wide).await?, Asked::Stands(_)));
        rig.wait_through(&writer).await?;
        ensure!(ids(rig)? == ["1", "5"], "{:?}", rig.rows()?);
        ensure!(waits(rig).await?.is_none());
        let mut session = session(rig).await?;
        let held = skips::held(&mut session, LINK, true).await?;
        ensure!(held.len() == 1, "{held:?}");
        ensure!(
            held[0].gtid == wide
                && held[0].source == rig.source.idc
                && held[0].changes == 3
                && held[0].what == "orders.t (3)"
                && (held[0].asked_by.as_str(), held[0].reason.as_str()) == ("ann", "it's too wide"),
            "{held:?}"
        );
        let shown = skips::show(&mut session, LINK, &wide).await?;
        ensure!(filed_ids(&shown) == ["2", "3", "4"], "{shown:?}");
        ensure!(skips::has_passed(&mut session, LINK, &wide).await? == Some(true));
        let stranded = mysql::stranded::list(&mut session, false).await?;
        ensure!(stranded.is_empty(), "{stranded:?}");

        let status = settled(&writer).await?;
        ensure!(status.halted_at.is_none(), "{status:?}");
        for ledger in [status.ledger, stored(rig)?] {
            ensure!(
                (ledger.held, ledger.applied, ledger.read) == (3, 2, 5) && balanced(&ledger),
                "{ledger:?}"
            );
        }
        Ok(())
    })
}

/// What is filed and what waits, while a link is made to skip: before, or after, nothing between.
async fn is_before_or_after(rig: &Rig<'_>, gtid: &str, all: usize) -> Result<()> {
    let mut session = session(rig).await?;
    let filed = skips::show(&mut session, LINK, gtid).await?.len();
    let waits = waits(rig).await?.is_some();
    let passed = skips::has_passed(&mut session, LINK, gtid).await? == Some(true);
    let before = filed == 0 && waits && !passed;
    let after = filed == all && !waits && passed;
    ensure!(
        before || after,
        "{filed} of {all} changes are filed, a wish waits: {waits}, the checkpoint is past: {passed}"
    );
    Ok(())
}

/// Runs a writer until a failpoint ends it.
async fn crash(rig: &Rig<'_>, point: &str) -> Result<()> {
    let mut writer = rig.start_with(&["--crash-at", point])?;
    let ended = writer.ended().await.with_context(|| writer.describe())?;
    ensure!(ended, "{point} was not reached");
    Ok(())
}

#[test]
fn a_crash_at_any_point_of_a_skip_neither_loses_nor_repeats() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        narrow(rig)?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let wide = rig.source.commit(vec![changes(
            &table(),
            vec![insert(2, 2, None), insert(3, TOO_WIDE, None)],
        )]);
        let writer = rig.start()?;
        ensure!(halted_at(&writer).await?.gtid == wide);
        writer.kill()?;
        ensure!(matches!(ask(rig, &wide).await?, Asked::Stands(_)));

        // Everything before is applied, so the first commit is that of the skip.
        crash(rig, "before-commit:1").await?;
        ensure!(waits(rig).await?.is_some() && !rig.is_through()?);
        is_before_or_after(rig, &wide, 2).await?;
        crash(rig, "after-commit:1").await?;
        ensure!(waits(rig).await?.is_none() && rig.is_through()?);
        is_before_or_after(rig, &wide, 2).await?;

        rig.source
            .commit(vec![changes(&table(), vec![insert(4, 4, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        is_before_or_after(rig, &wide, 2).await?;
        ensure!(ids(rig)? == ["1", "4"], "{:?}", rig.rows()?);
        let ledger = settled(&writer).await?.ledger;
        ensure!(
            (ledger.held, ledger.applied) == (2, 2) && balanced(&ledger),
            "{ledger:?}"
        );
        Ok(())
    })
}

#[test]
fn a_transaction_of_several_parts_is_left_out_whole_whatever_crashes() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        narrow(rig)?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let part = |rows| vec![changes(&table(), rows)];
        let wide = rig.source.commit_parts(vec![
            part((100..150).map(|id| insert(id, 1, None)).collect()),
            part(vec![insert(3, TOO_WIDE, None)]),
            part(vec![insert(200, 1, None)]),
        ]);
        let writer = rig.start()?;
        let at = halted_at(&writer).await?;
        ensure!(at.gtid == wide && at.skippable, "{at:?}");
        writer.kill()?;
        ensure!(matches!(ask(rig, &wide).await?, Asked::Stands(_)));

        // It fails twice, each time after its first part, before it is filed in three.
        for point in [
            "after-part:1",
            "after-part:2",
            "after-part:3",
            "after-part:4",
            "after-part:5",
            "before-commit:1",
            "after-commit:1",
        ] {
            crash(rig, point).await?;
            is_before_or_after(rig, &wide, 52).await?;
        }
        ensure!(waits(rig).await?.is_none() && rig.is_through()?);

        rig.source
            .commit(vec![changes(&table(), vec![insert(5, 5, None)])]);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        ensure!(ids(rig)? == ["1", "5"], "{:?}", rig.rows()?);
        let shown = skips::show(&mut session(rig).await?, LINK, &wide).await?;
        let mut expected: Vec<String> = (100..150).map(|id| id.to_string()).collect();
        expected.extend(["3".to_owned(), "200".to_owned()]);
        ensure!(filed_ids(&shown) == expected, "{shown:?}");
        let ledger = settled(&writer).await?.ledger;
        ensure!(
            (ledger.held, ledger.applied) == (52, 2) && balanced(&ledger),
            "{ledger:?}"
        );
        Ok(())
    })
}

#[test]
fn an_epoch_is_not_left_out_and_a_statement_is() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        narrow(rig)?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let epoch = rig.source.commit(vec![
            epoch_row(1, &rig.source.idc),
            changes(&table(), vec![insert(2, TOO_WIDE, None)]),
        ]);
        let writer = rig.start()?;
        let at = halted_at(&writer).await?;
        ensure!(at.gtid == epoch && !at.skippable, "{at:?}");
        let error = writer.status().await?.error;
        ensure!(!error.contains("link skip"), "{error}");
        ask(rig, &epoch).await?;
        halts_again(&writer).await?;
        ensure!(ids(rig)? == ["1"] && waits(rig).await?.is_some());

        // Once it fits it is applied, and nobody waits for it to be skipped any more.
        rig.target.root("ALTER TABLE orders.t MODIFY v INT")?;
        rig.wait_through(&writer).await?;
        until("the wish is forgotten", async || {
            Ok(waits(rig).await?.is_none())
        })
        .await?;
        ensure!(ids(rig)? == ["1", "2"], "{:?}", rig.rows()?);
        let held = skips::held(&mut session(rig).await?, LINK, true).await?;
        ensure!(held.is_empty(), "{held:?}");

        // So is a statement.
        let statement = rig.source.ddl(
            "CREATE TRIGGER",
            "doubles",
            "CREATE TRIGGER doubles BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 1",
        );
        let at = halted_at(&writer).await?;
        ensure!(at.gtid == statement && at.skippable, "{at:?}");
        ask(rig, &statement).await?;
        rig.wait_through(&writer).await?;
        let held = skips::held(&mut session(rig).await?, LINK, true).await?;
        ensure!(held.len() == 1 && held[0].gtid == statement, "{held:?}");
        let triggers = rig.target.root("SHOW TRIGGERS FROM orders")?;
        ensure!(triggers.is_empty(), "{triggers:?}");
        Ok(())
    })
}

#[test]
fn what_is_not_about_one_transaction_names_none() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        rig.target.root("DROP TABLE orders.t")?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("is not at the target"), "{error}");
        halts_again(&writer).await?;
        ensure!(writer.status().await?.halted_at.is_none());
        Ok(())
    })
}

#[test]
fn an_epoch_that_ended_goes_before_what_a_person_wants() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        narrow(rig)?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let wide = rig
            .source
            .commit(vec![changes(&table(), vec![insert(2, TOO_WIDE, None)])]);
        let writer = rig.start()?;
        ensure!(halted_at(&writer).await?.gtid == wide);
        writer.kill()?;
        ask(rig, &wide).await?;
        rig.target.root(&format!(
            "INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (2, '{}', NULL, NOW(6))",
            rig.target.idc
        ))?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let mut session = session(rig).await?;
        let stranded = mysql::stranded::list(&mut session, true).await?;
        ensure!(
            stranded.len() == 1 && stranded[0].gtid == wide,
            "{stranded:?}"
        );
        let held = skips::held(&mut session, LINK, true).await?;
        ensure!(held.is_empty(), "{held:?}");
        until("the wish is forgotten", async || {
            Ok(waits(rig).await?.is_none())
        })
        .await?;
        let ledger = settled(&writer).await?.ledger;
        ensure!(
            (ledger.stranded, ledger.held, ledger.applied) == (1, 0, 1) && balanced(&ledger),
            "{ledger:?}"
        );
        Ok(())
    })
}
