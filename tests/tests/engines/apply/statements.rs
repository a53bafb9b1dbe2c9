//! DDL at the target.

use anyhow::{Result, ensure};
use harness::Engine;

use super::rig::{Rig, on_each};
use super::script::{changes, insert, table};
use super::skips::ask;

#[test]
fn statements_run_as_at_the_source_and_bear_its_mark() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        // ANSI_QUOTES decides what the quotes are, NOW() was long ago.
        let number = rig.source.length() + 1;
        rig.source.ddl(
            "ALTER TABLE",
            "t",
            "ALTER TABLE \"t\" ADD COLUMN \"made at\" DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
        );
        rig.source.edit(number, |transaction| {
            if let change::Body::Ddl(ddl) = &mut transaction.body {
                ddl.session.sql_mode |= 1 << 2;
                ddl.session.started_micros = 1_700_000_000_000_042;
            }
        });
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let made = rig
            .target
            .root("SELECT CONVERT_TZ(`made at`, @@session.time_zone, '+00:00') FROM orders.t")?;
        let utc = rig.target.root("SELECT `made at` FROM orders.t")?;
        ensure!(
            utc == [["2023-11-14 22:13:20.000042"]] || made == [["2023-11-14 22:13:20.000042"]],
            "{utc:?}"
        );
        let idc = &rig.source.idc;
        match rig.target.engine {
            Engine::MySql => {
                let executed = rig
                    .target
                    .root("SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')")?;
                // The source plays a MariaDB, whose numbers get a UUID of their own.
                ensure!(
                    executed[0][0].contains(&format!(":ma_{idc}:{number}")),
                    "{executed:?}"
                );
            }
            Engine::MariaDb => {
                let domain = mysql::origin::origin_domain(&model::IdcName::new(idc.clone())?);
                let state = rig.target.root("SELECT @@GLOBAL.gtid_binlog_state")?;
                ensure!(
                    state[0][0].contains(&format!("{domain}-1835099236-")),
                    "{state:?}"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn a_failed_statement_halts_and_can_be_done_by_hand() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let gtid = rig
            .source
            .ddl("ALTER TABLE", "gone", "ALTER TABLE gone ADD COLUMN x INT");
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        for part in [
            "ALTER TABLE gone ADD COLUMN x INT",
            &gtid,
            "gone",
            "mactl link skip",
        ] {
            ensure!(error.contains(part), "{part:?} is not in {error:?}");
        }
        ensure!(rig.rows()?.is_empty());
        ask(rig, &gtid).await?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 1);
        Ok(())
    })
}

#[test]
fn a_trigger_s_statement_is_refused() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source.ddl(
            "CREATE TRIGGER",
            "t1",
            "CREATE TRIGGER t1 BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 1",
        );
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("would happen twice"), "{error}");
        let triggers = rig.target.root("SHOW TRIGGERS FROM orders")?;
        ensure!(triggers.is_empty(), "{triggers:?}");
        Ok(())
    })
}

#[test]
fn the_link_s_setting_decides_about_statements() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source.ddl(
            "CREATE TABLE",
            "made",
            "CREATE TABLE made (id INT PRIMARY KEY)",
        );
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        rig.settings(|link| link["ddl"] = "Halt".into())?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("ddl: Halt") && error.contains("CREATE TABLE made"),
            "{error}"
        );
        drop(writer);
        rig.settings(|link| link["ddl"] = "Ignore".into())?;
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        let ledger = writer.status().await?.ledger;
        ensure!(
            (ledger.applied, ledger.filtered, ledger.read) == (1, 1, 2),
            "{ledger:?}"
        );
        let made = rig.target.root("SHOW TABLES FROM orders LIKE 'made'")?;
        ensure!(made.is_empty(), "{made:?}");
        Ok(())
    })
}

/// A source that was built anew counts from 1 again. MySQL would skip a statement whose GTID it
/// knows without a word.
#[test]
fn a_gtid_that_is_taken_is_not_taken_for_done() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        if rig.target.engine != Engine::MySql {
            return Ok(());
        }
        let uuid = rig.source.uuid();
        let taken = format!("{uuid}:ma_{}:1", rig.source.idc);
        rig.target
            .root(&format!("SET gtid_next = '{taken}'; BEGIN; COMMIT"))?;
        rig.source.ddl(
            "CREATE TABLE",
            "made",
            "CREATE TABLE made (id INT PRIMARY KEY)",
        );
        rig.source
            .edit(1, |transaction| transaction.gtid = format!("{uuid}:1"));
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(error.contains("cannot be told whether"), "{error}");
        Ok(())
    })
}

/// MariaDB: the writer ended after it had recorded its intent; what it finds then decides.
#[test]
fn on_mariadb_an_interrupted_statement_is_judged_by_what_is_there() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        if rig.target.engine != Engine::MariaDb {
            return Ok(());
        }
        let gtid = rig.source.ddl(
            "CREATE TABLE",
            "made",
            "CREATE TABLE made (id INT PRIMARY KEY)",
        );
        let mut writer = rig.start_with(&["--crash-at", "before-ddl"])?;
        ensure!(writer.ended().await?, "it did not crash");
        // Somebody makes the table meanwhile: the definitions have changed, the binlog lacks it.
        rig.target
            .root("SET sql_log_bin = 0; CREATE TABLE orders.made (id INT PRIMARY KEY)")?;
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("cannot be told whether") && error.contains(&gtid),
            "{error}"
        );
        rig.target
            .root("SET sql_log_bin = 0; DROP TABLE orders.made")?;
        // As before again: it has not run, so it is run.
        rig.wait_through(&writer).await?;
        let made = rig.target.root("SHOW TABLES FROM orders LIKE 'made'")?;
        ensure!(made.len() == 1, "{made:?}");
        Ok(())
    })
}

/// Tables may be left out at any time; one that is taken in later was never copied.
#[test]
fn tables_that_a_link_takes_in_later_halt_it() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let commit = |id| {
            rig.source
                .commit(vec![changes(&table(), vec![insert(id, 1, None)])]);
        };
        commit(1);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        drop(writer);
        rig.settings(|link| link["tables"]["exclude"] = serde_json::json!(["orders.old"]))?;
        commit(2);
        let writer = rig.start()?;
        rig.wait_through(&writer).await?;
        drop(writer);
        rig.settings(|_| {})?;
        commit(3);
        let writer = rig.start()?;
        let error = rig.wait_halted(&writer).await?;
        ensure!(
            error.contains("orders.old") && error.contains("widened"),
            "{error}"
        );
        ensure!(rig.rows()?.len() == 2, "{:?}", rig.rows()?);
        let (_, accept) = error.split_once("run at the target: ").unwrap_or_default();
        rig.target.root(accept)?;
        rig.wait_through(&writer).await?;
        ensure!(rig.rows()?.len() == 3, "{:?}", rig.rows()?);
        Ok(())
    })
}
