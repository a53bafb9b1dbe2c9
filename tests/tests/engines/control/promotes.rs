//! The transaction that ends one epoch and begins the next (rule 8).

use std::cell::Cell;

use super::*;
use model::{Epoch, PositionText};
use mysql::control::{ControlError, Promotion, PromotionOrder};

async fn checkpoint(server: &Server<'_>, link: &str, source: &str, position: &str) -> Result<()> {
    let sql = format!(
        "REPLACE INTO multiactive.applied (link, source, position, at) \
         VALUES ('{link}', '{source}', '{position}', UTC_TIMESTAMP(6))"
    );
    Ok(server.root().await?.query_drop(sql).await?)
}

/// An epoch of another member's, as a link brings it.
async fn epoch_of(server: &Server<'_>, epoch: u64, idc: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO multiactive.epoch (epoch, idc, ended, at) \
         VALUES ({epoch}, '{idc}', NULL, UTC_TIMESTAMP(6))"
    );
    Ok(server.root().await?.query_drop(sql).await?)
}

fn order(server: &Server<'_>, epoch: u64, from: Option<&str>) -> Result<PromotionOrder> {
    let from = from.map(IdcName::new).transpose()?;
    Ok(PromotionOrder {
        epoch: Epoch(epoch),
        idc: server.idc()?,
        from,
        lossy: false,
    })
}

#[test]
fn writes_the_epoch_once_with_what_had_been_applied() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        let first = control.promote(&order(server, 1, None)?).await?;
        ensure!(first.written && first.applied.is_none(), "{first:?}");
        checkpoint(server, "a/one", "gz", "0-5-17").await?;
        checkpoint(server, "a/two", "gz", "0-5-12").await?;
        checkpoint(server, "a/other", "hz", "0-6-99").await?;
        epoch_of(server, 2, "gz").await?;
        // In etcd another one was the holder, of whose epoch nothing has come here.
        let second = control.promote(&order(server, 4, Some("hz"))?).await?;
        ensure!(
            second.applied == Some(PositionText("0-5-12".into())) && second.written,
            "{second:?}"
        );
        checkpoint(server, "a/two", "gz", "0-5-17").await?;
        let follows = "SELECT follows FROM multiactive.epoch WHERE epoch = 4";
        ensure!(
            server.number(follows).await? == 2,
            "it follows another epoch"
        );
        let again = control.promote(&order(server, 4, Some("hz"))?).await?;
        ensure!(
            again.applied == second.applied && !again.written,
            "{again:?}"
        );
        let passed = control.promote(&order(server, 1, None)?).await;
        ensure!(
            matches!(passed, Err(ControlError::EpochPassed { newest: 4, .. })),
            "{passed:?}"
        );
        let mut control = server.control().await?;
        let look = control.observe(None).await?;
        ensure!(
            look.highest_epoch == Epoch(4) && look.highest_epoch_of == Some(server.idc()?),
            "{look:?}"
        );
        Ok(())
    })
}

#[test]
fn links_that_diverge_are_refused_by_name() -> Result<()> {
    on_each(async |server, _| {
        checkpoint(server, "a/one", "gz", "0-5-17,1-5-1").await?;
        checkpoint(server, "a/two", "gz", "0-5-12,1-5-2").await?;
        let refused = server
            .control()
            .await?
            .promote(&order(server, 1, Some("gz"))?)
            .await;
        let text = refused
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        ensure!(text.contains("a/one, a/two"), "{text}");
        ensure!(
            server
                .number("SELECT COUNT(*) FROM multiactive.epoch")
                .await?
                == 0
        );
        Ok(())
    })
}

/// The writer's order: its row in `applied`, then the newest epoch in share mode.
const APPLY: &str = "BEGIN; \
     UPDATE multiactive.applied SET position = '0-5-18' WHERE link = 'a/one'; \
     SELECT epoch FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1 LOCK IN SHARE MODE";

#[test]
fn waits_for_a_writer_and_counts_what_it_applied() -> Result<()> {
    on_each(async |server, _| {
        checkpoint(server, "a/one", "gz", "0-5-17").await?;
        for epoch in [1, 3] {
            // Once on an empty table of epochs, once with rows in it.
            if epoch > 1 {
                epoch_of(server, epoch - 1, "gz").await?;
            }
            let mut writer = server.options.connect().await?;
            writer.conn.query_drop(APPLY).await?;
            let mut control = server.control().await?;
            let wanted = order(server, epoch, Some("gz"))?;
            let commit = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                writer.conn.query_drop("COMMIT").await
            };
            let (committed, promoted) = tokio::join!(commit, control.promote(&wanted));
            committed?;
            let promoted = promoted?;
            ensure!(
                promoted.applied == Some(PositionText("0-5-18".into())),
                "{promoted:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_writer_that_waits_for_it_sees_the_new_epoch() -> Result<()> {
    on_each(async |server, _| {
        checkpoint(server, "a/one", "gz", "0-5-17").await?;
        let mut promoter = server.options.connect().await?;
        // The statements of a promotion, held open before its commit.
        promoter
            .conn
            .query_drop(
                "BEGIN; SELECT * FROM multiactive.applied ORDER BY link FOR UPDATE; \
                 SELECT * FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1 FOR UPDATE; \
                 INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (1, 'sh', '0-5-17', UTC_TIMESTAMP(6))",
            )
            .await?;
        let writer = server.options.connect().await?;
        let waiting = running(server, writer.conn, APPLY).await?;
        promoter.conn.query_drop("COMMIT").await?;
        let mut writer = waiting.await??;
        let epoch: Option<u64> = writer
            .query_first("SELECT MAX(epoch) FROM multiactive.epoch LOCK IN SHARE MODE")
            .await?;
        ensure!(epoch == Some(1), "{epoch:?}");
        Ok(())
    })
}

#[test]
fn tells_whether_a_position_was_applied() -> Result<()> {
    on_each(async |server, _| {
        let gz = IdcName::new("gz")?;
        let mut control = server.control().await?;
        let at = |text: &str| PositionText(text.to_owned());
        ensure!(
            !control.applied_through(&gz, &at("0-5-17")).await?,
            "applied without a link"
        );
        checkpoint(server, "a/one", "gz", "0-5-17").await?;
        ensure!(control.applied_through(&gz, &at("0-5-17")).await?);
        ensure!(control.applied_through(&gz, &at("0-5-16")).await?);
        ensure!(!control.applied_through(&gz, &at("0-5-18")).await?);
        checkpoint(server, "a/two", "gz", "0-5-3").await?;
        ensure!(
            !control.applied_through(&gz, &at("0-5-17")).await?,
            "one link is behind"
        );
        Ok(())
    })
}

/// Looks at what stands against a promotion are seconds apart: a copy that was begun since is found
/// under the locks.
#[test]
fn a_member_that_lacks_tables_is_not_promoted() -> Result<()> {
    on_each(async |server, _| {
        let lacks = |done: bool| {
            format!(
                "REPLACE INTO multiactive.applied (link, source, position, snapshot, at) VALUES \
                 ('a/one', 'gz', '0-5-17', '{{\"done\": false, \"tables\": {{\"shop\": {{\"a\": \
                 {{\"done\": {done}, \"anew\": \"Emptying\"}}}}}}}}', UTC_TIMESTAMP(6))"
            )
        };
        epoch_of(server, 1, "gz").await?;
        server.root().await?.query_drop(lacks(false)).await?;
        let mut wanted = order(server, 2, Some("gz"))?;
        let refused = server.control().await?.promote(&wanted).await;
        ensure!(
            matches!(&refused, Err(ControlError::CopiesTables { link, .. }) if link == "a/one"),
            "{refused:?}"
        );
        ensure!(
            server
                .number("SELECT MAX(epoch) FROM multiactive.epoch")
                .await?
                == 1
        );
        wanted.lossy = true;
        let mut control = server.control().await?;
        ensure!(control.promote(&wanted).await?.written);
        // What it holds now is what the others are copies of.
        wanted.lossy = false;
        wanted.epoch = Epoch(3);
        ensure!(control.promote(&wanted).await?.written);
        epoch_of(server, 4, "gz").await?;
        server.root().await?.query_drop(lacks(true)).await?;
        wanted.epoch = Epoch(5);
        ensure!(control.promote(&wanted).await?.written);
        Ok(())
    })
}

/// What has been received of an epoch whose end nobody proved is applied before the next begins.
#[test]
fn a_promotion_waits_for_what_is_being_applied() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        epoch_of(server, 1, "gz").await?;
        checkpoint(server, "a/one", "gz", "0-5-1").await?;
        checkpoint(server, "a/other", "hz", "0-6-1").await?;
        let wanted = order(server, 2, Some("gz"))?;
        for _ in 0..5 {
            let outcome = while_applying(server, &mut control, &wanted, "gz").await?;
            ensure!(outcome.is_none(), "{outcome:?}");
        }

        // One long transaction, which ends while the promotion waits for its locks.
        let mut other = server.root().await?;
        let position = "UPDATE multiactive.applied SET position = '0-5-900' WHERE link = 'a/one'";
        let applying = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            other.query_drop(format!("BEGIN; {position}")).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            other.query_drop("COMMIT").await?;
            Ok::<_, anyhow::Error>(())
        };
        let (applied, outcome) = tokio::join!(applying, control.promote_if_still(&wanted));
        applied?;
        let outcome = outcome?;
        ensure!(outcome.is_none(), "{outcome:?}");

        // What another member's link brings is not of that epoch.
        let outcome = while_applying(server, &mut control, &wanted, "hz").await?;
        let applied = outcome.and_then(|promotion| promotion.applied);
        ensure!(
            applied == Some(PositionText("0-5-900".into())),
            "{applied:?}"
        );
        Ok(())
    })
}

/// Promotes while the links from one IDC go on.
async fn while_applying(
    server: &Server<'_>,
    control: &mut ControlSession,
    wanted: &PromotionOrder,
    from: &str,
) -> Result<Option<Promotion>> {
    let mut writer = server.root().await?;
    let over = Cell::new(false);
    let sql = format!(
        "UPDATE multiactive.applied SET position = CONCAT('0-5-', SUBSTRING_INDEX(position, '-', -1) + 1) \
         WHERE source = '{from}'"
    );
    let moving = async {
        while !over.get() {
            writer.query_drop(&sql).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    let promoting = async {
        let outcome = control.promote_if_still(wanted).await;
        over.set(true);
        outcome
    };
    let (moved, outcome) = tokio::join!(moving, promoting);
    moved?;
    Ok(outcome?)
}
