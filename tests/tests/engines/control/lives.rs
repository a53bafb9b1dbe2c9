//! Installing, looking, beating, and what a restart leaves.

use super::*;
use model::{Epoch, Generation};
use mysql::control::{BootsFenced, ControlError, GuardOrder, InUse, SCHEMA_VERSION, Uninstalled};

async fn position(server: &Server<'_>) -> Result<String> {
    Ok(server.control().await?.observe(None).await?.position.0)
}

#[test]
fn installing_is_repeatable_never_logged_and_works_while_fenced() -> Result<()> {
    on_each(async |server, identity| {
        let before = position(server).await?;
        let mut root = server.root().await?;
        root.query_drop("SET GLOBAL read_only = 1; SET sql_log_bin = 0; DROP DATABASE multiactive")
            .await?;
        let mut control = server.control().await?;
        let anew = control.install().await?;
        ensure!(anew != identity, "a new schema has the old identity");
        ensure!(
            control.install().await? == anew,
            "the second installation changed the identity"
        );
        ensure!(position(server).await? == before, "installing was logged");
        root.query_drop("DROP PROCEDURE multiactive.open_4; DROP TABLE multiactive.watermark")
            .await?;
        ensure!(
            control.install().await? == anew,
            "mending changed the identity"
        );
        root.query_drop("SELECT * FROM multiactive.watermark")
            .await?;
        let newer = SCHEMA_VERSION + 1;
        root.query_drop(format!(
            "UPDATE multiactive.control SET schema_version = {newer}"
        ))
        .await?;
        let refused = control.install().await;
        ensure!(
            matches!(refused, Err(ControlError::SchemaNewer { found, .. }) if found == newer),
            "{refused:?}"
        );
        root.query_drop(format!(
            "UPDATE multiactive.control SET schema_version = {SCHEMA_VERSION}"
        ))
        .await?;
        Ok(())
    })
}

#[test]
fn a_look_tells_what_there_is() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        let idc = server.idc()?;
        control.heartbeat(NEWEST, &idc, Epoch(3), true).await?;
        let first = control.observe(Some(&idc)).await?;
        ensure!(
            first.identity == identity && !first.read_only && !first.offline,
            "{first:?}"
        );
        ensure!(
            first.lag_micros.is_some_and(|lag| lag < 2_000_000),
            "{first:?}"
        );
        ensure!(
            !first.position.0.is_empty() && first.guards.is_empty(),
            "{first:?}"
        );
        ensure!(first.highest_epoch == Epoch::NONE, "{first:?}");
        let nobody = IdcName::new("nobody")?;
        ensure!(control.observe(Some(&nobody)).await?.lag_micros.is_none());
        // The boot must not move, also while the second turns.
        let end = Instant::now() + Duration::from_millis(2_200);
        while Instant::now() < end {
            let look = control.observe(None).await?;
            ensure!(
                look.boot == first.boot,
                "{:?} became {:?}",
                first.boot,
                look.boot
            );
        }
        ensure!(
            control.has_data(&["orders".to_owned()]).await?,
            "two rows were not seen"
        );
        let mut app = server.app().await?;
        app.query_drop("DELETE FROM t").await?;
        ensure!(
            !control.has_data(&["orders".to_owned()]).await?,
            "rows were seen in an empty table"
        );
        ensure!(!control.has_data(&["none".to_owned()]).await?);
        Ok(())
    })
}

#[test]
fn a_heartbeat_is_logged_also_while_fenced() -> Result<()> {
    on_each(async |server, _| {
        let mut root = server.root().await?;
        root.query_drop("SET GLOBAL read_only = 1").await?;
        let (idc, mut control) = (server.idc()?, server.control().await?);
        let before = position(server).await?;
        control.heartbeat(NEWEST, &idc, Epoch(1), false).await?;
        control.heartbeat(NEWEST, &idc, Epoch(1), false).await?;
        ensure!(
            position(server).await? != before,
            "the heartbeat is not in the binlog"
        );
        let mut app = server.app().await?;
        let refused = app.query_drop("INSERT INTO t VALUES (9, 9)").await;
        ensure!(refused.is_err(), "the application wrote to a fenced server");
        Ok(())
    })
}

#[test]
fn a_restart_is_seen_and_comes_up_fenced() -> Result<()> {
    on_each(async |server, identity| {
        let part = harness::database::part(&server.database.idc);
        server.world.kill(&part)?;
        server.world.start(&part)?;
        server.world.wait_for_database(&server.database.idc)?;
        let mut root = server.root().await?;
        root.query_drop("SET GLOBAL read_only = 0").await?;
        let mut control = server.control().await?;
        let before = control.observe(None).await?;
        // On MariaDB the variable was set by SQL before anybody looked, so this boot tells nothing.
        let told = control.boots_fenced().await?;
        match server.engine {
            Engine::MySql => ensure!(told == BootsFenced::Yes, "{told:?}"),
            Engine::MariaDb => ensure!(told == BootsFenced::NotKnown, "{told:?}"),
        }
        ensure!(!before.read_only);
        // A boot is known by the second in which it began.
        while control.observe(None).await?.clock_micros / 1_000_000 <= before.boot.0 + 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.world.kill(&part)?;
        server.world.start(&part)?;
        server.world.wait_for_database(&server.database.idc)?;
        let mut control = server.control().await?;
        let after = control.observe(None).await?;
        ensure!(after.read_only, "the server came up writable");
        ensure!(
            after.identity == identity && after.boot != before.boot,
            "{before:?} {after:?}"
        );
        // Now nobody has set it yet; and the answer is remembered when somebody has.
        ensure!(control.boots_fenced().await? == BootsFenced::Yes);
        let mut root = server.root().await?;
        root.query_drop("SET GLOBAL read_only = 0").await?;
        ensure!(control.boots_fenced().await? == BootsFenced::Yes);
        Ok(())
    })
}

#[test]
fn a_call_that_ran_out_of_patience_gives_the_connection_up() -> Result<()> {
    on_each(async |server, _| {
        let idc = server.idc()?;
        let mut root = server.root().await?;
        let mut control =
            ControlSession::connect(&server.options, Duration::from_millis(400)).await?;
        root.query_drop("FLUSH TABLES WITH READ LOCK").await?;
        let late = control.heartbeat(NEWEST, &idc, Epoch(1), true).await;
        ensure!(
            matches!(late, Err(ControlError::Timeout { .. })),
            "{late:?}"
        );
        let lost = control.heartbeat(NEWEST, &idc, Epoch(1), true).await;
        ensure!(matches!(lost, Err(ControlError::Broken { .. })), "{lost:?}");
        ensure!(!control.is_usable());
        root.query_drop("UNLOCK TABLES").await?;
        Ok(())
    })
}

#[test]
fn the_schema_is_taken_away_only_where_nothing_needs_it() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        let order = GuardOrder {
            until: clock() + Duration::from_secs(8),
            identity,
            generation: Generation(0),
        };
        let guard = control.start_guard(&server.options, &order, clock).await?;
        let in_use = |why| Uninstalled::InUse(why);
        ensure!(control.uninstall().await? == in_use(InUse::Guard));
        control.end_guards(NEWEST, None).await?;
        drop(guard);

        control
            .heartbeat(NEWEST, &server.idc()?, Epoch(1), true)
            .await?;
        let left = control.uninstall().await?;
        ensure!(
            matches!(left, Uninstalled::InUse(InUse::Heartbeat(age)) if age < 30),
            "{left:?}"
        );

        let mut root = server.root().await?;
        root.query_drop(
            "SET sql_log_bin = 0; UPDATE multiactive.heartbeat SET at = at - INTERVAL 1 HOUR; \
             INSERT INTO multiactive.stranded \
             (source, gtid, part, epoch, ended_by, changes, `tables`, body, filed) \
             VALUES ('sh', '0-1-7', 0, 1, 2, 1, '', '', UTC_TIMESTAMP())",
        )
        .await?;
        ensure!(control.uninstall().await? == in_use(InUse::Stranded(1)));
        root.query_drop(
            "DELETE FROM multiactive.stranded; INSERT INTO multiactive.held \
             (link, source, gtid, epoch, changes, `tables`, body, asked_by, reason, asked, filed) \
             VALUES ('shop/sh-bj', 'sh', '0-1-7', 1, 1, '', '', '', '', UTC_TIMESTAMP(), \
             UTC_TIMESTAMP())",
        )
        .await?;
        ensure!(control.uninstall().await? == in_use(InUse::Held(1)));
        // What is settled waits for nobody.
        root.query_drop("UPDATE multiactive.held SET settled = UTC_TIMESTAMP()")
            .await?;

        let before = position(server).await?;
        // As a MySQL comes up whose Unit was deleted before.
        let persisted = "SELECT COUNT(*) FROM performance_schema.persisted_variables \
                         WHERE variable_name IN ('read_only', 'offline_mode')";
        if server.engine == Engine::MySql {
            control.boots_fenced().await?;
            ensure!(server.number(persisted).await? == 2);
            root.query_drop("SET GLOBAL offline_mode = 1").await?;
        }
        ensure!(control.uninstall().await? == Uninstalled::Gone);
        if server.engine == Engine::MySql {
            ensure!(server.number(persisted).await? == 0);
            server.app().await?;
        }
        ensure!(control.uninstall().await? == Uninstalled::NotThere);
        ensure!(server.number("SELECT COUNT(*) FROM orders.t").await? == 2);
        control.install().await?;
        ensure!(position(server).await? == before, "it was logged");
        Ok(())
    })
}
