//! What a restart leaves that would let writes in (rule 4).

use super::*;
use model::Severity;
use mysql::control::{BootsFenced, FenceError, FenceOptions};
use mysql::preflight::{Role, Subject, member};
use mysql_async::prelude::Queryable as _;

/// MariaDB has no statement that makes it come up fenced: a configuration that lets it come up
/// writable is refused, before anything is installed and after.
#[test]
fn a_mariadb_that_comes_up_writable_is_refused() -> Result<()> {
    let pair = Databases::pair(harness::Engine::MariaDb, harness::Engine::MariaDb);
    let world = World::up(&WorldSpec {
        databases: pair.with_options("bj", &["--read-only=0"]),
        ..WorldSpec::empty("suite-boots")
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    for (idc, blocked) in [("sh", false), ("bj", true)] {
        let server = server(&world, idc, Engine::MariaDb)?;
        runtime.block_on(async {
            let subject = Subject {
                idc: server.idc()?,
                endpoint: server.options.endpoint().clone(),
                databases: vec!["orders".to_owned()],
                members: 2,
                role: Role::Member {
                    unit: None,
                    max_lag_millis: 5_000,
                },
            };
            let findings = member(&server.options, &subject).await.findings;
            let found = findings.iter().find(|it| it.check == "BootsFenced");
            let severity = found.map(|finding| finding.severity);
            ensure!(
                severity == blocked.then_some(Severity::Blocking),
                "{idc}: {findings:#?}"
            );
            let mut control = server.control().await?;
            control.install().await?;
            let told = control.boots_fenced().await?;
            let expected = if blocked {
                BootsFenced::No
            } else {
                BootsFenced::Yes
            };
            ensure!(told == expected, "{idc}: {told:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// MySQL persists what it comes up with; one that does not read that is known by its next boot.
#[test]
fn a_mysql_that_comes_up_writable_all_the_same_is_known() -> Result<()> {
    let pair = Databases::pair(harness::Engine::MySql, harness::Engine::MySql);
    let world = World::up(&WorldSpec {
        databases: pair.with_options("bj", &["--no-defaults", "--read-only=0"]),
        ..WorldSpec::empty("suite-boots")
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    for (idc, expected) in [("sh", BootsFenced::Yes), ("bj", BootsFenced::No)] {
        let server = server(&world, idc, Engine::MySql)?;
        runtime.block_on(async {
            let mut control = server.control().await?;
            control.install().await?;
            // Nothing shows it yet.
            ensure!(control.boots_fenced().await? == BootsFenced::Yes);
            let part = harness::database::part(idc);
            world.stop(&part)?;
            world.start(&part)?;
            world.wait_for_database(idc)?;
            let mut control = server.control().await?;
            for _ in 0..2 {
                let told = control.boots_fenced().await?;
                ensure!(told == expected, "{idc}: {told:?}");
                // The answer is remembered when somebody has set it.
                let mut root = server.root().await?;
                root.query_drop("SET GLOBAL read_only = 0").await?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A prepared XA transaction outlives a restart. MySQL commits it under `read_only` too, so it is
/// closed to ordinary sessions until the transaction is settled; MariaDB refuses the commit.
#[test]
fn a_prepared_transaction_is_not_committed_after_a_restart() -> Result<()> {
    on_each(async |server, _| {
        server.control().await?.boots_fenced().await?;
        let mut app = server.app().await?;
        app.query_drop(
            "XA START 'left'; INSERT INTO t VALUES (44, 44); XA END 'left'; XA PREPARE 'left'",
        )
        .await?;
        let part = harness::database::part(&server.database.idc);
        server.world.kill(&part)?;
        server.world.start(&part)?;
        server.world.wait_for_database(&server.database.idc)?;
        if server.engine == Engine::MySql {
            // Before anybody of ours has been there.
            let refused = format!("{:?}", server.app().await.map(drop));
            ensure!(refused.contains("offline mode"), "{refused}");
        }
        let mut control = server.control().await?;
        let options = FenceOptions {
            generation: Generation(1),
            grace: Duration::ZERO,
            budget: Duration::from_secs(5),
            keep: Vec::new(),
            heartbeat: None,
        };
        let fenced = control.fence(&options).await;
        match server.engine {
            Engine::MySql => {
                let refused = format!("{:?}", server.app().await.map(drop));
                ensure!(refused.contains("offline mode"), "{refused}");
                ensure!(
                    matches!(&fenced, Err(FenceError::PreparedXa { .. })),
                    "{fenced:?}"
                );
            }
            Engine::MariaDb => {
                fenced?;
                let committed = server.app().await?.query_drop("XA COMMIT 'left'").await;
                ensure!(committed.is_err(), "it was committed under read_only");
            }
        }
        let mut root = server.root().await?;
        root.query_drop("SET sql_log_bin = 0; XA ROLLBACK 'left'")
            .await?;
        control.fence(&options).await?;
        server.app().await?;
        Ok(())
    })
}
