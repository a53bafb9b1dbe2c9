//! What is not the link's, or did not stay at the source, does not halt the link; and what is said in
//! an unusual way is read all the same.

use anyhow::{Context as _, Result, ensure};
use change::{Body, Flavor};

use super::pull::{Pull, is_at_rest};
use super::{Source, on_each};

/// Everything from `before` until now, and that it is what the tables hold.
async fn read_all(source: &Source<'_>, before: &change::Position) -> Result<Pull> {
    let mut pull = source.pull(Some(before)).await?;
    pull.reach(&source.end()?).await?;
    ensure!(pull.conflicts.is_empty(), "{:?}", pull.conflicts);
    is_at_rest(source, &pull).await?;
    Ok(pull)
}

#[test]
fn a_statement_with_settings_of_its_own_is_read() -> Result<()> {
    on_each(async |source| {
        if source.flavor() != Flavor::MariaDb {
            return Ok(());
        }
        let before = source.make(
            "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 0), (2, 0); \
             SET STATEMENT max_statement_time = 60, lock_wait_timeout = 9 FOR TRUNCATE TABLE t; \
             INSERT INTO t VALUES (3, 0)",
        )?;
        let pull = read_all(source, &before).await?;
        let sent = |ddl: &change::Ddl| String::from_utf8_lossy(&ddl.statement).trim().to_owned();
        let statements = pull.transactions.iter().filter_map(|it| match &it.body {
            Body::Ddl(ddl) => Some(sent(ddl)),
            Body::Rows(_) => None,
        });
        let last = statements.last().unwrap_or_default();
        ensure!(last == "TRUNCATE TABLE t", "{last}");

        let before = source.position()?;
        source.database.root(
            "USE orders; SET binlog_format = STATEMENT; \
             SET STATEMENT max_statement_time = 60 FOR UPDATE t SET v = 1",
        )?;
        let halt = source.pull(Some(&before)).await?.halt().await?;
        ensure!(halt.reason == "StatementFormat", "{halt:?}");
        let before = source.position()?;
        source
            .database
            .root("USE orders; SET STATEMENT sql_mode = '' FOR ALTER TABLE t ADD COLUMN w INT")?;
        let halt = source.pull(Some(&before)).await?.halt().await?;
        ensure!(
            halt.reason == "StatementSetting" && halt.message.contains("with sql_mode"),
            "{halt:?}"
        );
        Ok(())
    })
}

#[test]
fn an_event_larger_than_a_packet_of_the_server_s_is_read() -> Result<()> {
    on_each(async |source| {
        let before = source.make(
            "CREATE TABLE t (id INT PRIMARY KEY, a LONGBLOB, b LONGBLOB, c LONGBLOB); \
             INSERT INTO t VALUES (1, '', '', '')",
        )?;
        let usual = source.database.root("SELECT @@GLOBAL.max_allowed_packet")?;
        let usual = usual.into_iter().flatten().next().context("no limit")?;
        source
            .database
            .root("SET GLOBAL max_allowed_packet = 1048576")?;
        source.database.root(
            "USE orders; UPDATE t SET a = REPEAT('a', 1000000); UPDATE t SET b = REPEAT('b', 1000000); \
             UPDATE t SET c = REPEAT('c', 1000000)",
        )?;
        let mut pull = source.pull(Some(&before)).await?;
        let end = source.end()?;
        let read = pull.reach(&end).await;
        source
            .database
            .root(&format!("SET GLOBAL max_allowed_packet = {usual}"))?;
        read?;
        ensure!(pull.conflicts.is_empty(), "{:?}", pull.conflicts.len());
        Ok(())
    })
}

#[test]
fn what_was_rolled_back_and_logged_all_the_same_is_not_sent() -> Result<()> {
    on_each(async |source| {
        // MySQL forbids this where it has GTIDs.
        if source.flavor() != Flavor::MariaDb {
            return Ok(());
        }
        let before = source.make(
            "CREATE TABLE t (id INT PRIMARY KEY, v INT); \
             CREATE TABLE unwanted_m (id INT PRIMARY KEY) ENGINE = MyISAM; \
             BEGIN; INSERT INTO t VALUES (1, 0); SAVEPOINT a; INSERT INTO t VALUES (2, 0); \
             INSERT INTO unwanted_m VALUES (1); ROLLBACK TO SAVEPOINT a; \
             INSERT INTO t VALUES (3, 0); COMMIT; \
             BEGIN; INSERT INTO t VALUES (4, 0); INSERT INTO unwanted_m VALUES (2); ROLLBACK; \
             INSERT INTO t VALUES (5, 0)",
        )?;
        read_all(source, &before).await?;
        Ok(())
    })
}

#[test]
fn what_others_do_in_their_databases_passes() -> Result<()> {
    on_each(async |source| {
        let file = source.directory.join("rows.txt");
        std::fs::write(&file, "7\n8\n")?;
        let before = source.make("CREATE TABLE t (id INT PRIMARY KEY, v INT)")?;
        let partial = match source.flavor() {
            Flavor::MySql => {
                "SET SESSION binlog_row_value_options = PARTIAL_JSON; \
                 UPDATE j SET j = JSON_SET(j, '$.a', 'y'); \
                 SET SESSION binlog_row_value_options = ''"
            }
            Flavor::MariaDb => "UPDATE j SET id = 2",
        };
        source.database.root(&format!(
            "DROP DATABASE IF EXISTS elsewhere; CREATE DATABASE elsewhere; USE elsewhere; \
             CREATE TABLE l (id INT); CREATE TABLE j (id INT PRIMARY KEY, j JSON); \
             INSERT INTO j VALUES (1, CONCAT('{{\"a\":\"', REPEAT('x', 100), '\"}}')); {partial}; \
             XA START 'x'; INSERT INTO l VALUES (1); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'; \
             XA START 'y'; INSERT INTO l VALUES (2); XA END 'y'; XA PREPARE 'y'; XA ROLLBACK 'y'; \
             XA START 'z'; INSERT INTO l VALUES (3); XA END 'z'; XA COMMIT 'z' ONE PHASE; \
             INSERT INTO orders.t VALUES (1, 1)"
        ))?;
        read_all(source, &before).await?;
        let before = source.position()?;
        source.database.root(&format!(
            "SET GLOBAL local_infile = 1; USE elsewhere; SET SESSION binlog_format = STATEMENT; \
             LOAD DATA LOCAL INFILE '{}' INTO TABLE l; SET SESSION binlog_format = ROW; \
             DROP DATABASE elsewhere",
            file.display()
        ))?;
        let mut pull = source.pull(Some(&before)).await?;
        pull.reach(&source.end()?).await?;
        Ok(())
    })
}
