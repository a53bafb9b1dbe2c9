//! The dead man in the server (rule 2), its client gone, under every lock that could hold it up.

use super::*;
use model::Generation;
use mysql::control::{ControlError, GuardHandle, GuardOrder};

async fn start(server: &Server<'_>, identity: &ServerIdentity, millis: u64) -> Result<GuardHandle> {
    let order = GuardOrder {
        until: clock() + Duration::from_millis(millis),
        identity: identity.clone(),
        generation: Generation(1),
    };
    Ok(server
        .control()
        .await?
        .start_guard(&server.options, &order, clock)
        .await?)
}

/// Starts a guard, lets go of everything on this side, prepares trouble, and returns how late the
/// fence was.
async fn lateness<T>(
    server: &Server<'_>,
    identity: &ServerIdentity,
    trouble: impl AsyncFnOnce() -> Result<T>,
) -> Result<Duration> {
    let trouble = trouble().await?;
    let deadline = clock() + Duration::from_millis(1_500);
    let guard = start(server, identity, 1_500).await?;
    drop(guard);
    while clock() + Duration::from_millis(20) < deadline {
        // A look can itself be held up, so what counts is that it was open when it answered.
        let open = !server.read_only().await?;
        ensure!(open || clock() >= deadline, "fenced before the deadline");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until(
        "read_only after the guard's deadline",
        Duration::from_secs(10),
        || server.read_only(),
    )
    .await?;
    let late = clock().saturating_sub(deadline);
    drop(trouble);
    Ok(late)
}

fn report(server: &Server<'_>, what: &str, late: Duration) -> Result<()> {
    println!("{:?}: guard under {what}: {late:?} late", server.engine);
    ensure!(
        late < Duration::from_millis(1_000),
        "under {what}: {late:?} late"
    );
    Ok(())
}

#[test]
fn fences_at_its_deadline_though_its_client_is_gone() -> Result<()> {
    on_each(async |server, identity| {
        let late = lateness(server, &identity, async || Ok(())).await?;
        report(server, "nothing", late)
    })
}

#[test]
fn cuts_an_open_transaction_and_lets_nothing_commit() -> Result<()> {
    on_each(async |server, identity| {
        let mut app = server.app().await?;
        app.query_drop("BEGIN; INSERT INTO t VALUES (10, 10)")
            .await?;
        let late = lateness(server, &identity, async || Ok(())).await?;
        ensure!(
            app.query_drop("COMMIT").await.is_err(),
            "the transaction was committed"
        );
        ensure!(server.number("SELECT COUNT(*) FROM orders.t").await? == 2);
        report(server, "an open transaction", late)
    })
}

#[test]
fn is_not_held_up_by_locked_tables() -> Result<()> {
    on_each(async |server, identity| {
        let late = lateness(server, &identity, async || {
            let mut app = server.app().await?;
            app.query_drop("LOCK TABLES t WRITE").await?;
            Ok(app)
        })
        .await?;
        report(server, "LOCK TABLES WRITE", late)
    })
}

#[test]
fn is_not_held_up_by_a_long_update() -> Result<()> {
    on_each(async |server, identity| {
        let late = lateness(server, &identity, async || {
            let app = server.app().await?;
            running(server, app, "UPDATE t SET v = v + 1 WHERE SLEEP(20) = 0").await
        })
        .await?;
        report(server, "a long UPDATE", late)
    })
}

/// `read_only` waits until a long statement that was cut is rolled back. Nobody gets in meanwhile, and
/// MariaDB's `init_connect` is afterwards what it was.
#[test]
fn lets_nobody_write_while_a_long_statement_is_rolled_back() -> Result<()> {
    on_each(async |server, identity| {
        let mut root = server.root().await?;
        root.query_drop(
            "SET sql_log_bin = 0; \
             CREATE TABLE orders.big (id INT PRIMARY KEY AUTO_INCREMENT, v INT, p CHAR(200)); \
             CREATE TABLE orders.clients (id INT PRIMARY KEY AUTO_INCREMENT, v INT); \
             CREATE TABLE orders.few (id INT PRIMARY KEY AUTO_INCREMENT, v INT); \
             INSERT INTO orders.few (v) VALUES (1)",
        )
        .await?;
        for _ in 0..13 {
            root.query_drop("INSERT INTO orders.few (v) SELECT v FROM orders.few")
                .await?;
        }
        if server.engine == Engine::MariaDb {
            root.query_drop("SET GLOBAL init_connect = 'SET @came = 1'")
                .await?;
        }
        let app = server.app().await?;
        // It would take minutes.
        let insert = "INSERT INTO big (v, p) SELECT a.v, 'x' FROM few AS a, few AS b";
        let inserting = running(server, app, insert).await?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;

        let deadline = clock() + Duration::from_millis(1_500);
        drop(start(server, &identity, 1_500).await?);
        let last = tokio::sync::Mutex::new(Duration::ZERO);
        let closing = until("read_only", Duration::from_secs(60), || server.read_only());
        tokio::select! {
            closed = closing => closed?,
            never = write_again_and_again(server, &last) => never,
        };
        let closed = clock();
        let last = *last.lock().await;
        println!(
            "{:?}: read_only {:?} after the guard's deadline, the last write {:?} after it",
            server.engine,
            closed.saturating_sub(deadline),
            last.saturating_sub(deadline)
        );
        ensure!(
            last + Duration::from_secs(1) > deadline,
            "nobody wrote before it"
        );
        ensure!(
            last < deadline + Duration::from_millis(500),
            "{:?} after the deadline a write was acknowledged",
            last.saturating_sub(deadline)
        );
        if server.engine == Engine::MariaDb {
            let came = "SELECT @came = 1 AND @@GLOBAL.init_connect = 'SET @came = 1'";
            until("sessions get in as before", PATIENCE, || async {
                let Ok(mut app) = server.app().await else {
                    return Ok(false);
                };
                let came = app.query_first::<Option<u8>, _>(came).await;
                Ok(came.is_ok_and(|came| came == Some(Some(1))))
            })
            .await?;
        }
        drop(inserting);
        Ok(())
    })
}

/// Connects as an application does, writes, and notes when that was acknowledged.
async fn write_again_and_again(
    server: &Server<'_>,
    last: &tokio::sync::Mutex<Duration>,
) -> Duration {
    loop {
        if let Ok(mut app) = server.app().await
            && app
                .query_drop("INSERT INTO clients (v) VALUES (1)")
                .await
                .is_ok()
        {
            *last.lock().await = clock();
        }
    }
}

#[test]
fn is_not_held_up_by_a_lock_for_a_backup() -> Result<()> {
    on_each(async |server, identity| {
        let locks: &[&str] = match server.engine {
            Engine::MySql => &["FLUSH TABLES WITH READ LOCK", "LOCK INSTANCE FOR BACKUP"],
            Engine::MariaDb => &[
                "FLUSH TABLES WITH READ LOCK",
                "BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; \
                 BACKUP STAGE BLOCK_COMMIT",
            ],
        };
        for lock in locks {
            let late = lateness(server, &identity, async || {
                let mut root = server.root().await?;
                root.query_drop(*lock).await?;
                Ok(root)
            })
            .await?;
            report(server, lock, late)?;
            server.reset().await?;
        }
        Ok(())
    })
}

#[test]
fn is_ended_only_as_asked() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        let first = start(server, &identity, 60_000).await?;
        let second = start(server, &identity, 90_000).await?;
        let seen = control.guards_running().await?;
        ensure!(seen.len() == 2, "{seen:?}");
        ensure!(
            seen.iter().all(|guard| guard.identity == identity.0),
            "{seen:?}"
        );
        ensure!(
            seen.iter()
                .any(|guard| guard.deadline_micros == first.deadline_micros())
        );
        // A KILL QUERY must not end the dead man.
        let mut root = server.root().await?;
        root.query_drop(format!("KILL QUERY {}", second.id()))
            .await?;
        control.end_guards(NEWEST, Some(second.id())).await?;
        until("the first guard is gone", PATIENCE, || async {
            let seen = server.control().await?.guards_running().await?;
            Ok(seen.len() == 1 && seen[0].id == second.id())
        })
        .await?;
        let looked = control.observe(None).await?;
        ensure!(looked.guards.len() == 1 && !looked.read_only, "{looked:?}");
        control.end_guards(NEWEST, None).await?;
        until("no guard is left", PATIENCE, || async {
            Ok(server.control().await?.guards_running().await?.is_empty())
        })
        .await?;
        ensure!(
            !server.read_only().await?,
            "ending a guard fenced the server"
        );
        Ok(())
    })
}

#[test]
fn does_not_run_in_another_server_or_after_its_deadline() -> Result<()> {
    on_each(async |server, identity| {
        let stranger = start(server, &ServerIdentity("somebody-else".into()), 5_000).await;
        let text = stranger
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        ensure!(text.contains("another server"), "{text}");
        let order = GuardOrder {
            until: clock(),
            identity,
            generation: Generation(1),
        };
        let over = server
            .control()
            .await?
            .start_guard(&server.options, &order, clock)
            .await;
        ensure!(
            matches!(over, Err(ControlError::DeadlineOver { .. })),
            "{over:?}"
        );
        Ok(())
    })
}

#[test]
fn a_server_that_was_frozen_past_the_deadline_fences_when_it_thaws() -> Result<()> {
    on_each(async |server, identity| {
        let mut app = server.app().await?;
        app.query_drop("BEGIN; INSERT INTO t VALUES (11, 11)")
            .await?;
        let guard = start(server, &identity, 1_000).await?;
        let part = harness::database::part(&server.database.idc);
        server.world.pause(&part)?;
        // The commit waits in the server's socket while it is frozen.
        let commit = tokio::spawn(async move { app.query_drop("DO SLEEP(1); COMMIT").await });
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        server.world.resume(&part)?;
        until("read_only after the thaw", PATIENCE, || server.read_only()).await?;
        ensure!(
            commit.await?.is_err(),
            "a transaction was committed after the deadline"
        );
        drop(guard);
        Ok(())
    })
}

#[test]
fn mysql_stays_offline_while_a_prepared_transaction_is_left() -> Result<()> {
    on_each(async |server, identity| {
        if server.engine == Engine::MariaDb {
            return Ok(());
        }
        let mut app = server.app().await?;
        app.query_drop("XA START 'a'; INSERT INTO t VALUES (12, 12); XA END 'a'; XA PREPARE 'a'")
            .await?;
        let late = lateness(server, &identity, async || Ok(())).await?;
        report(server, "a prepared XA transaction", late)?;
        until("the guard has ended", PATIENCE, || async {
            Ok(server.control().await?.guards_running().await?.is_empty())
        })
        .await?;
        ensure!(server.number("SELECT @@GLOBAL.offline_mode").await? == 1);
        ensure!(server.app().await.is_err(), "an application came in");
        server.root().await?.query_drop("XA ROLLBACK 'a'").await?;
        Ok(())
    })
}
