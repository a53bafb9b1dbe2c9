//! Fencing with proof, each case of the table in the arbitration design (rule 5).

use super::*;
use model::{Epoch, Generation};
use mysql::control::{
    ControlError, FenceError, FenceOptions, FenceOutcome, GuardOrder, OpenOrder, OpenOutcome,
    OpenRefusal,
};

fn emergency() -> FenceOptions {
    FenceOptions {
        generation: Generation(1),
        grace: Duration::ZERO,
        budget: Duration::from_secs(5),
        keep: Vec::new(),
        heartbeat: None,
    }
}

/// Fences, times it, and sees that an application can write nothing any more.
async fn fence(server: &Server<'_>, what: &str) -> Result<FenceOutcome> {
    let start = Instant::now();
    let outcome = server.control().await?.fence(&emergency()).await?;
    println!(
        "{:?}: fence with {what}: {:?}",
        server.engine,
        start.elapsed()
    );
    ensure!(server.read_only().await?);
    let mut app = server.app().await?;
    ensure!(
        app.query_drop("INSERT INTO t VALUES (30, 30)")
            .await
            .is_err(),
        "it takes writes"
    );
    ensure!(
        app.query_drop("SELECT * FROM t").await.is_ok(),
        "it takes no reads"
    );
    ensure!(
        start.elapsed() < Duration::from_secs(3),
        "{what}: {:?}",
        start.elapsed()
    );
    Ok(outcome)
}

#[test]
fn nothing_commits_after_it() -> Result<()> {
    on_each(async |server, identity| {
        let mut app = server.app().await?;
        app.query_drop("BEGIN; INSERT INTO t VALUES (31, 31)")
            .await?;
        let outcome = fence(server, "an open transaction").await?;
        ensure!(outcome.identity == identity, "{outcome:?}");
        ensure!(
            app.query_drop("COMMIT").await.is_err(),
            "an open transaction was committed"
        );
        ensure!(server.number("SELECT COUNT(*) FROM orders.t").await? == 2);
        let after = server.control().await?.observe(None).await?;
        ensure!(
            after.position == outcome.position,
            "{after:?} moved on from {outcome:?}"
        );
        ensure!(after.boot == outcome.boot);
        Ok(())
    })
}

#[test]
fn goes_through_locked_tables() -> Result<()> {
    on_each(async |server, _| {
        let mut app = server.app().await?;
        app.query_drop("LOCK TABLES t WRITE").await?;
        fence(server, "LOCK TABLES WRITE").await?;
        ensure!(
            app.query_drop("INSERT INTO t VALUES (32, 32)")
                .await
                .is_err()
        );
        Ok(())
    })
}

#[test]
fn goes_through_a_long_update() -> Result<()> {
    on_each(async |server, _| {
        let app = server.app().await?;
        let update = running(server, app, "UPDATE t SET v = v + 1 WHERE SLEEP(20) = 0").await?;
        fence(server, "a long UPDATE").await?;
        ensure!(update.await?.is_err(), "the update went through");
        ensure!(server.number("SELECT SUM(v) FROM orders.t").await? == 3);
        Ok(())
    })
}

#[test]
fn goes_through_an_alter_that_copies() -> Result<()> {
    on_each(async |server, _| {
        server
            .root()
            .await?
            .query_drop(
                "SET sql_log_bin = 0; CREATE TABLE orders.big (id INT PRIMARY KEY, v INT, \
                 w INT AS (v + 1) STORED); INSERT INTO orders.big (id, v) \
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                 SELECT i, i FROM n",
            )
            .await?;
        let app = server.app().await?;
        // Each row copied takes its time, so that the statement lasts until it is cut.
        let alter = running(
            server,
            app,
            "ALTER TABLE big ADD COLUMN x DOUBLE NOT NULL DEFAULT 0, ALGORITHM = COPY; \
             ALTER TABLE big ADD COLUMN y INT, ALGORITHM = COPY; SELECT SLEEP(20)",
        )
        .await?;
        fence(server, "ALTER ... ALGORITHM = COPY").await?;
        ensure!(alter.await?.is_err());
        Ok(())
    })
}

#[test]
fn goes_through_a_read_lock_on_everything() -> Result<()> {
    on_each(async |server, _| {
        // Whoever fences has looked before; nothing can be written any more.
        server.control().await?.adopt(Generation(1)).await?;
        let mut root = server.root().await?;
        root.query_drop("FLUSH TABLES WITH READ LOCK").await?;
        fence(server, "FLUSH TABLES WITH READ LOCK").await?;
        Ok(())
    })
}

#[test]
fn a_prepared_transaction_of_mysql_is_no_fence_and_one_of_mariadb_is_refused() -> Result<()> {
    on_each(async |server, _| {
        let mut app = server.app().await?;
        app.query_drop(
            "XA START 'ab','c',7; INSERT INTO t VALUES (33, 33); XA END 'ab','c',7; \
             XA PREPARE 'ab','c',7",
        )
        .await?;
        app.disconnect().await?;
        if server.engine == Engine::MariaDb {
            fence(server, "a prepared XA transaction").await?;
            let commit = server.app().await?.query_drop("XA COMMIT 'ab','c',7").await;
            ensure!(commit.is_err(), "MariaDB committed it under read_only");
            server
                .root()
                .await?
                .query_drop("XA ROLLBACK 'ab','c',7")
                .await?;
            return Ok(());
        }
        let refused = server.control().await?.fence(&emergency()).await;
        let Err(FenceError::PreparedXa { transactions, .. }) = refused else {
            bail!("{refused:?}");
        };
        ensure!(transactions == ["X'6162',X'63',7"], "{transactions:?}");
        ensure!(server.number("SELECT @@GLOBAL.offline_mode").await? == 1);
        ensure!(server.app().await.is_err(), "an application came in");
        // What the error says is what settles it.
        let settle = format!("XA ROLLBACK {}", transactions[0]);
        server.root().await?.query_drop(settle).await?;
        fence(server, "the XA transaction settled").await?;
        Ok(())
    })
}

#[test]
fn says_what_stands_in_the_way_and_never_calls_a_time_out_a_fence() -> Result<()> {
    on_each(async |server, _| {
        // On MySQL our account may not kill root (SYSTEM_USER); MariaDB knows no such thing, so
        // there the killed session is kept alive by a statement that takes its time to die.
        if server.engine == Engine::MariaDb {
            return Ok(());
        }
        let mut root = server.root().await?;
        root.query_drop("LOCK TABLES orders.t WRITE").await?;
        let options = FenceOptions {
            budget: Duration::from_millis(1_500),
            ..emergency()
        };
        let refused = server.control().await?.fence(&options).await;
        let Err(FenceError::TimedOut { obstacles, .. }) = &refused else {
            bail!("{refused:?}");
        };
        ensure!(
            obstacles.iter().any(|obstacle| obstacle.user == "root"),
            "{obstacles:?}"
        );
        ensure!(!server.read_only().await?);
        root.query_drop("UNLOCK TABLES").await?;
        fence(server, "the lock gone").await?;
        Ok(())
    })
}

#[test]
fn gives_open_transactions_their_grace() -> Result<()> {
    on_each(async |server, _| {
        let mut app = server.app().await?;
        app.query_drop("BEGIN; INSERT INTO t VALUES (34, 34)")
            .await?;
        let finishing = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            app.query_drop("COMMIT").await
        };
        // What the engine tells of transactions is up to 0.1 s old if somebody asked before.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let options = FenceOptions {
            grace: Duration::from_secs(5),
            ..emergency()
        };
        let mut control = server.control().await?;
        let start = Instant::now();
        let (committed, fenced) = tokio::join!(finishing, control.fence(&options));
        committed.context("the transaction was cut within its grace")?;
        fenced?;
        ensure!(
            start.elapsed() < Duration::from_secs(3),
            "the grace was used up for nothing"
        );
        ensure!(server.number("SELECT COUNT(*) FROM orders.t").await? == 3);
        Ok(())
    })
}

#[test]
fn ends_guards_cuts_our_writer_and_leaves_a_last_heartbeat() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        let order = GuardOrder {
            until: clock() + Duration::from_secs(30),
            identity,
            generation: Generation(1),
        };
        let guard = control.start_guard(&server.options, &order, clock).await?;
        let mut writer = server.options.connect().await?;
        writer
            .conn
            .query_drop("BEGIN; INSERT INTO orders.t VALUES (35, 35)")
            .await?;
        let mut kept = server.options.connect().await?;
        kept.conn
            .query_drop("BEGIN; INSERT INTO orders.t VALUES (36, 36)")
            .await?;
        let options = FenceOptions {
            keep: vec![u64::from(kept.id())],
            heartbeat: Some((server.idc()?, Epoch(7))),
            ..emergency()
        };
        let before = control.observe(None).await?.position;
        let outcome = control.fence(&options).await?;
        ensure!(outcome.position != before, "no last heartbeat");
        until("no guard is left", PATIENCE, || async {
            Ok(server.control().await?.guards_running().await?.is_empty())
        })
        .await?;
        ensure!(
            writer.conn.query_drop("COMMIT").await.is_err(),
            "the writer was not cut"
        );
        ensure!(
            kept.conn.query_drop("ROLLBACK").await.is_ok(),
            "a session to be kept was cut"
        );
        ensure!(
            server
                .number("SELECT writable FROM multiactive.heartbeat WHERE epoch = 7")
                .await?
                == 0
        );
        drop(guard);
        Ok(())
    })
}

/// Rule 12: what a later arbiter keeps open, an earlier one that has not heard of it leaves alone.
#[test]
fn whoever_was_superseded_fences_nothing() -> Result<()> {
    on_each(async |server, identity| {
        let mut control = server.control().await?;
        control.adopt(Generation(2)).await?;
        let order = GuardOrder {
            until: clock() + Duration::from_secs(30),
            identity,
            generation: Generation(2),
        };
        let guard = control.start_guard(&server.options, &order, clock).await?;
        let mut app = server.app().await?;
        app.query_drop("BEGIN; INSERT INTO t VALUES (37, 37)")
            .await?;

        let options = FenceOptions {
            heartbeat: Some((server.idc()?, Epoch(9))),
            ..emergency()
        };
        let mut former = server.control().await?;
        let refused = former.fence(&options).await;
        let Err(FenceError::Control(ControlError::Superseded {
            own: 1, found: 2, ..
        })) = refused
        else {
            bail!("{refused:?}");
        };
        former.end_guards(Generation(1), None).await?;
        former
            .heartbeat(Generation(1), &server.idc()?, Epoch(9), false)
            .await?;
        let beaten = "SELECT COUNT(*) FROM multiactive.heartbeat WHERE epoch = 9";
        ensure!(server.number(beaten).await? == 0, "it left a heartbeat");
        app.query_drop("COMMIT").await?;
        let guards = control.guards_running().await?;
        ensure!(
            guards.len() == 1 && guards[0].id == guard.id(),
            "{guards:?}"
        );
        ensure!(!server.read_only().await?);

        let options = FenceOptions {
            generation: Generation(2),
            ..options
        };
        control.fence(&options).await?;
        ensure!(server.number(beaten).await? == 1, "no last heartbeat");
        Ok(())
    })
}

/// An order to open holds a lock until its end. While one is under way no other begins, and a fence
/// is proved only when it has ended.
#[test]
fn ends_whoever_is_about_to_open() -> Result<()> {
    on_each(async |server, identity| {
        let mut opener = server.options.connect().await?;
        let took = opener
            .conn
            .query_first::<i64, _>("SELECT GET_LOCK('multiactive.open', 0)")
            .await?;
        ensure!(took == Some(1));
        let mut control = server.control().await?;
        let order = OpenOrder {
            epoch: Epoch(1),
            until: clock() + Duration::from_secs(5),
            boot: control.observe(None).await?.boot,
            identity,
            generation: Generation(1),
        };
        let second = control.open(&order, clock).await?;
        ensure!(
            second == OpenOutcome::Refused(OpenRefusal::Busy),
            "{second:?}"
        );
        fence(server, "an order to open under way").await?;
        ensure!(
            opener.conn.query_drop("DO 1").await.is_err(),
            "whoever opens was not ended"
        );
        // The fence may have met the end of its first order, and ended it as well.
        let later = server.control().await?.open(&order, clock).await?;
        ensure!(
            !matches!(
                later,
                OpenOutcome::Opened | OpenOutcome::Refused(OpenRefusal::Busy)
            ),
            "{later:?}"
        );
        Ok(())
    })
}

/// Somebody locks the table in which the generation is read: that keeps nobody from fencing.
#[test]
fn goes_through_a_lock_on_our_own_table() -> Result<()> {
    on_each(async |server, _| {
        let mut root = server.root().await?;
        root.query_drop(
            "SET sql_log_bin = 0; CREATE USER locker IDENTIFIED BY 'Locks#1'; \
             GRANT SELECT, LOCK TABLES ON multiactive.* TO locker; SET sql_log_bin = 1",
        )
        .await?;
        let options = OptsBuilder::default()
            .ip_or_hostname(server.database.host.clone())
            .tcp_port(server.database.port)
            .prefer_socket(false)
            .user(Some("locker"))
            .pass(Some("Locks#1"));
        let mut locker = Conn::new(options).await?;
        locker
            .query_drop("LOCK TABLES multiactive.control WRITE")
            .await?;
        fence(server, "our table locked").await?;
        // On MariaDB it has cut root as well.
        let mut root = server.root().await?;
        root.query_drop("SET sql_log_bin = 0; DROP USER locker")
            .await?;
        Ok(())
    })
}

/// Many sessions commit as fast as they can; what was acknowledged is there, and nothing is
/// acknowledged after the fence has returned.
#[test]
fn under_load_every_acknowledged_write_is_within_the_position() -> Result<()> {
    on_each(async |server, _| {
        let mut tasks = Vec::new();
        for worker in 0..8 {
            let mut app = server.app().await?;
            tasks.push(tokio::spawn(async move {
                let mut last = (0_i64, Duration::ZERO);
                for number in 1_i64.. {
                    let id = 1_000 * (worker + 1) * 1_000 + number;
                    let sql = format!("INSERT INTO t VALUES ({id}, 1)");
                    if app.query_drop(sql).await.is_err() {
                        break;
                    }
                    last = (number, clock());
                }
                last
            }));
        }
        until("some load", PATIENCE, || async {
            Ok(server.number("SELECT COUNT(*) FROM orders.t").await? > 100)
        })
        .await?;
        let mut control = server.control().await?;
        let start = Instant::now();
        let outcome = control.fence(&emergency()).await?;
        let (took, fenced_at) = (start.elapsed(), clock());
        let mut acknowledged = 2;
        for task in tasks {
            let (count, at) = task.await?;
            ensure!(at <= fenced_at, "a write was acknowledged after the fence");
            acknowledged += count;
        }
        let there = server.number("SELECT COUNT(*) FROM orders.t").await?;
        println!(
            "{:?}: fence under load: {took:?}, {there} rows",
            server.engine
        );
        // A commit that was under way may be there without its acknowledgement, never the reverse.
        ensure!(
            (acknowledged..=acknowledged + 8).contains(&there),
            "{acknowledged} {there}"
        );
        ensure!(control.observe(None).await?.position == outcome.position);
        Ok(())
    })
}
