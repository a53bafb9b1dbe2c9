//! What arbitration is told of a server beyond its own state: heartbeats that have arrived, what was
//! applied, how far etcd was, and what stands against a switchover.

use super::*;
use model::{ClusterId, Epoch, EtcdMark, Generation, Revision};

#[test]
fn heartbeats_checkpoints_and_the_memory_of_etcd_are_seen() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        let (own, other) = (server.idc()?, IdcName::new("elsewhere")?);
        let mut root = server.root().await?;
        root.query_drop(
            "SET sql_log_bin = 0; DELETE FROM multiactive.memory; DELETE FROM multiactive.heartbeat; \
             UPDATE multiactive.control SET generation = 0; \
             INSERT INTO multiactive.applied (link, source, position, at) VALUES \
             ('a', 'elsewhere', '0-1-9', NOW()), ('b', 'elsewhere', '0-1-7', NOW())",
        )
        .await?;
        control.heartbeat(NEWEST, &own, Epoch(3), true).await?;
        control.heartbeat(NEWEST, &other, Epoch(2), false).await?;
        control.heartbeat(NEWEST, &other, Epoch(2), false).await?;
        let look = control.observe(Some(&other)).await?;
        let of = |idc: &IdcName| look.heartbeats.iter().find(|row| row.idc == *idc).cloned();
        let (mine, theirs) = (of(&own).context("own")?, of(&other).context("other")?);
        ensure!(
            (mine.epoch, mine.writable, mine.seq) == (Epoch(3), true, 1),
            "{mine:?}"
        );
        ensure!(
            (theirs.epoch, theirs.writable, theirs.seq) == (Epoch(2), false, 2),
            "{theirs:?}"
        );
        let applied = look.applied.clone().map(|position| position.0);
        ensure!(applied.as_deref() == Some("0-1-7"), "{applied:?}");
        ensure!(look.etcd.is_none(), "{look:?}");
        ensure!(control.observe(Some(&own)).await?.applied.is_none());

        let before = control.observe(None).await?.position;
        let mark = |revision| EtcdMark {
            cluster: ClusterId(u64::MAX),
            revision: Revision(revision),
        };
        for revision in [5, 7] {
            control.remember(Generation(1), mark(revision)).await?;
            let look = control.observe(None).await?;
            ensure!(look.etcd == Some(mark(revision)), "{:?}", look.etcd);
            ensure!(look.position == before, "the memory of etcd was logged");
        }
        // A process that was superseded while it was cut off knows less.
        control.adopt(Generation(2)).await?;
        control.remember(Generation(1), mark(6)).await?;
        let look = control.observe(None).await?;
        ensure!(look.etcd == Some(mark(7)), "{:?}", look.etcd);
        let peek = control.peek(&own).await?;
        ensure!(
            !peek.read_only && peek.epoch == Some(Epoch(3)) && peek.seq == Some(1),
            "{peek:?}"
        );
        ensure!(
            control
                .peek(&IdcName::new("nobody")?)
                .await?
                .epoch
                .is_none()
        );
        Ok(())
    })
}

#[test]
fn what_stands_against_a_switchover_is_seen() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        let mut root = server.root().await?;
        root.query_drop(
            "SET sql_log_bin = 0; DELETE FROM multiactive.stranded; \
             INSERT INTO multiactive.stranded (source, gtid, part, epoch, ended_by, changes, \
             `tables`, body, state, filed) VALUES \
             ('sh', '0-1-1', 0, 1, 2, 1, '[]', '', 'Held', NOW()), \
             ('sh', '0-1-1', 1, 1, 2, 1, '[]', '', 'Held', NOW()), \
             ('sh', '0-1-2', 0, 1, 2, 1, '[]', '', 'Discarded', NOW())",
        )
        .await?;
        let mut app = server.app().await?;
        app.query_drop("XA START 'x'; INSERT INTO t VALUES (5, 5); XA END 'x'; XA PREPARE 'x'")
            .await?;
        let seen = control.hindrances().await?;
        ensure!(seen.stranded == 1 && seen.prepared_xa == 1, "{seen:?}");
        ensure!(
            seen.alters.is_empty() && seen.backup_lock != Some(true),
            "{seen:?}"
        );
        app.query_drop("XA ROLLBACK 'x'").await?;

        an_alter_is_seen(server, &mut control).await?;
        if server.engine == Engine::MySql {
            ensure!(control.hindrances().await?.backup_lock == Some(false));
            root.query_drop("LOCK INSTANCE FOR BACKUP").await?;
            ensure!(control.hindrances().await?.backup_lock == Some(true));
            root.query_drop("UNLOCK INSTANCE").await?;
            ensure!(control.hindrances().await?.backup_lock == Some(false));
        } else {
            mariadb_shows_backup_locks_by_a_plugin(server, &mut root, &mut control).await?;
        }
        root.query_drop("DELETE FROM multiactive.stranded").await?;
        let seen = control.hindrances().await?;
        let connections = seen.connections;
        let most: Option<u64> = root.query_first("SELECT @@GLOBAL.max_connections").await?;
        ensure!(Some(connections.most) == most, "{connections:?}");
        // This one, root's and an application's.
        ensure!((3..20).contains(&connections.used), "{connections:?}");
        ensure!(
            seen == mysql::control::Hindrances {
                backup_lock: (server.engine == Engine::MySql).then_some(false),
                connections,
                ..Default::default()
            }
        );
        Ok(())
    })
}

#[test]
fn a_copy_that_has_not_ended_is_seen() -> Result<()> {
    on_each(async |server, _| {
        let mut control = server.control().await?;
        let mut root = server.root().await?;
        let copied = |done: bool, table: bool| {
            format!(
                "REPLACE INTO multiactive.applied (link, source, position, snapshot, ledger, at) \
                 VALUES ('shop/away-here', 'away', NULL, '{{\"done\": {done}, \"tables\": \
                 {{\"shop\": {{\"a\": {{\"done\": true}}, \"b\": {{\"done\": {table}}}}}}}}}', \
                 '{{}}', NOW())"
            )
        };
        let holds = |idc: &str| {
            format!(
                "DELETE FROM multiactive.epoch; INSERT INTO multiactive.epoch (epoch, idc, at) \
                 VALUES (3, '{idc}', NOW()); DELETE FROM multiactive.owner; \
                 INSERT INTO multiactive.owner (installation, unit, idc, at) \
                 VALUES ('/', 'shop/orders', 'here', NOW())"
            )
        };
        root.query_drop("SET sql_log_bin = 0").await?;
        root.query_drop(holds("away")).await?;
        for (done, table, seen) in [
            (false, false, true),
            // Its end was not written down yet.
            (false, true, false),
            (true, true, false),
        ] {
            root.query_drop(copied(done, table)).await?;
            let links = control.hindrances().await?.copied_by;
            ensure!(links.is_empty() != seen, "{done} {table}: {links:?}");
        }
        root.query_drop(copied(false, false)).await?;
        let links = control.hindrances().await?.copied_by;
        ensure!(links == ["shop/away-here"], "{links:?}");
        // What the primary holds nobody copies.
        root.query_drop(holds("here")).await?;
        let links = control.hindrances().await?.copied_by;
        ensure!(links.is_empty(), "{links:?}");
        root.query_drop(
            "DELETE FROM multiactive.applied; DELETE FROM multiactive.epoch; \
             DELETE FROM multiactive.owner",
        )
        .await?;
        Ok(())
    })
}

/// Without the plugin a lock is noticed once somebody waits for it.
async fn mariadb_shows_backup_locks_by_a_plugin(
    server: &Server<'_>,
    root: &mut Conn,
    control: &mut ControlSession,
) -> Result<()> {
    let stage = "BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; \
                 BACKUP STAGE BLOCK_COMMIT";
    root.query_drop(stage).await?;
    ensure!(control.hindrances().await?.backup_lock.is_none());
    let mut app = server.app().await?;
    let waiting =
        tokio::spawn(async move { app.query_drop("INSERT INTO t VALUES (90, 90)").await });
    let give_up = Instant::now() + Duration::from_secs(10);
    while control.hindrances().await?.backup_lock != Some(true) {
        ensure!(Instant::now() < give_up, "nobody is seen to wait");
    }
    root.query_drop("BACKUP STAGE END").await?;
    waiting.await??;
    root.query_drop("INSTALL SONAME 'metadata_lock_info'")
        .await?;
    let locks = [
        (stage, "BACKUP STAGE END"),
        ("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"),
    ];
    for (lock, unlock) in locks {
        ensure!(control.hindrances().await?.backup_lock == Some(false));
        root.query_drop(lock).await?;
        let seen = control.hindrances().await?.backup_lock;
        ensure!(seen == Some(true), "{lock}: {seen:?}");
        root.query_drop(unlock).await?;
    }
    root.query_drop("UNINSTALL SONAME 'metadata_lock_info'")
        .await?;
    Ok(())
}

/// An ALTER that copies a table which takes its time.
async fn an_alter_is_seen(server: &Server<'_>, control: &mut ControlSession) -> Result<()> {
    let mut app = server.app().await?;
    app.query_drop(
            "CREATE TABLE big (id INT PRIMARY KEY, v VARCHAR(200)); \
             INSERT INTO big SELECT a.i + 10 * b.i + 100 * c.i + 1000 * d.i + 10000 * e.i, \
             REPEAT('x', 200) FROM (SELECT 0 AS i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION \
             SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) AS a, \
             (SELECT 0 AS i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 \
             UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) AS b, \
             (SELECT 0 AS i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) AS c, \
             (SELECT 0 AS i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) AS d, \
             (SELECT 0 AS i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) AS e",
        )
        .await?;
    let mut slow = server.app().await?;
    let altering = tokio::spawn(async move {
        for turn in 0..20 {
            slow.query_drop(format!(
                "ALTER TABLE big ADD COLUMN c{turn} INT, ALGORITHM = COPY"
            ))
            .await?;
        }
        Ok::<(), mysql_async::Error>(())
    });
    let mut alters = Vec::new();
    while alters.is_empty() && !altering.is_finished() {
        alters = control.hindrances().await?.alters;
    }
    ensure!(
        alters.iter().any(|text| text.contains("ALTER TABLE big")),
        "{alters:?}"
    );
    altering.await??;
    Ok(())
}
