//! What a link was made to skip is counted from its target's table until a person has settled it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mysql::control::ControlSession;
use mysql::skips::{self, SettleError};

use super::rig::{Rig, Writer, on_each, options, until};
use super::script::{changes, insert, table};
use super::skips::{LINK, TOO_WIDE, ask, halted_at, ids, narrow, session, settled};

/// Has the link skip a transaction of two changes, between two that it applies.
async fn skip(rig: &Rig<'_>) -> Result<(Writer, String)> {
    narrow(rig)?;
    let commit = |rows| rig.source.commit(vec![changes(&table(), rows)]);
    commit(vec![insert(1, 1, None)]);
    let wide = commit(vec![insert(2, TOO_WIDE, None), insert(3, 3, None)]);
    commit(vec![insert(4, 4, None)]);
    let writer = rig.start()?;
    ensure!(halted_at(&writer).await?.gtid == wide);
    ask(rig, &wide).await?;
    rig.wait_through(&writer).await?;
    Ok((writer, wide))
}

/// Waits until the writer counts so many that are open.
async fn counts(writer: &Writer, open: u64) -> Result<()> {
    let counted = until("what is open is counted", async || {
        Ok(writer.status().await?.skipped_open == Some(open))
    });
    counted.await.with_context(|| writer.describe())
}

#[test]
fn what_was_skipped_is_told_until_a_person_settles_it() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let (writer, wide) = skip(rig).await?;
        counts(&writer, 1).await?;
        let metrics = writer.get("/metrics").await?;
        let gauge = "multiactive_writer_skipped_transactions 1";
        ensure!(metrics.lines().any(|line| line == gauge), "{metrics}");

        let mut session = session(rig).await?;
        let other = [wide.clone() + "0"];
        ensure!(skips::find(&mut session, LINK, &other[0]).await?.is_empty());
        ensure!(skips::settle(&mut session, LINK, &other, "bob", "mended").await? == 0);
        let mine = [wide.clone()];
        ensure!(skips::settle(&mut session, "suite/other", &mine, "bob", "mended").await? == 0);
        let open = skips::find(&mut session, LINK, &wide.to_uppercase()).await?;
        ensure!(open.len() == 1 && open[0].is_open(), "{open:?}");

        ensure!(skips::settle(&mut session, LINK, &mine, "bob", "mended").await? == 1);
        // A second time changes nothing, and nobody takes the first one's place.
        ensure!(skips::settle(&mut session, LINK, &mine, "eve", "again").await? == 0);
        ensure!(skips::held(&mut session, LINK, true).await?.is_empty());
        let all = skips::held(&mut session, LINK, false).await?;
        ensure!(all.len() == 1 && !all[0].is_open(), "{all:?}");
        ensure!(
            (all[0].settled_by.as_str(), all[0].settled_reason.as_str()) == ("bob", "mended")
                && (all[0].asked_by.as_str(), all[0].reason.as_str()) == ("ann", "it's too wide"),
            "{all:?}"
        );
        ensure!(skips::show(&mut session, LINK, &wide).await?.len() == 2);

        counts(&writer, 0).await?;
        // What was read went where it went, whoever settled it.
        let ledger = settled(&writer).await?.ledger;
        ensure!((ledger.held, ledger.applied) == (2, 2), "{ledger:?}");
        ensure!(ids(rig)? == ["1", "4"], "{:?}", rig.rows()?);
        writer.kill()?;
        let writer = rig.start()?;
        counts(&writer, 0).await
    })
}

#[test]
fn a_writer_started_anew_counts_what_is_open() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let (writer, _) = skip(rig).await?;
        writer.kill()?;
        let writer = rig.start()?;
        counts(&writer, 1).await
    })
}

#[test]
fn a_table_of_an_earlier_release_is_counted_and_gets_its_columns() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.target.root(
            "SET sql_log_bin = 0; ALTER TABLE multiactive.held DROP COLUMN settled, \
             DROP COLUMN settled_by, DROP COLUMN settled_reason",
        )?;
        let (writer, wide) = skip(rig).await?;
        writer.kill()?;
        let writer = rig.start()?;
        counts(&writer, 1).await?;
        let mut session = session(rig).await?;
        for open in [true, false] {
            let held = skips::held(&mut session, LINK, open).await?;
            ensure!(held.len() == 1 && held[0].is_open(), "{held:?}");
        }
        let gtids = [wide];
        let early = skips::settle(&mut session, LINK, &gtids, "bob", "mended").await;
        ensure!(matches!(early, Err(SettleError::TooOld)), "{early:?}");

        // The arbiter of this release comes up.
        let options = options(rig.target)?;
        let mut control = ControlSession::connect(&options, Duration::from_secs(10)).await?;
        control.install().await?;
        ensure!(skips::held(&mut session, LINK, true).await?.len() == 1);
        ensure!(skips::settle(&mut session, LINK, &gtids, "bob", "mended").await? == 1);
        counts(&writer, 0).await
    })
}
