//! Where a stream begins, and what it does not begin from.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use change::sync::PullRequest;
use change::{Flavor, Position, SnapshotState, TargetTable};

use super::pull::Pull;
use super::{Source, on_each, on_each_with};

/// The numbers of `orders.t` that a connection brings between two positions.
async fn brought(source: &Source<'_>, from: &Position, to: &Position) -> Result<Vec<String>> {
    let mut pull = source.pull(Some(from)).await?;
    pull.reach(to).await?;
    ensure!(pull.conflicts.is_empty(), "{:?}", pull.conflicts);
    Ok(pull
        .transactions
        .iter()
        .map(|transaction| transaction.gtid.clone())
        .collect())
}

/// Transactions under the server's own numbers and under an application's: a tag on MySQL, a
/// domain on MariaDB. From each place on, exactly what follows comes.
#[test]
fn a_stream_begins_right_behind_the_checkpoint() -> Result<()> {
    on_each(async |source| {
        let mut positions = vec![source.make("CREATE TABLE t (id INT PRIMARY KEY)")?];
        let mark = match source.flavor() {
            Flavor::MySql => "SET gtid_next = 'AUTOMATIC:payroll'",
            Flavor::MariaDb => "SET gtid_domain_id = 77",
        };
        positions.push(source.position()?);
        for id in 0..6 {
            let mark = if id % 3 == 1 { mark } else { "DO 0" };
            source
                .database
                .root(&format!("USE orders; {mark}; INSERT INTO t VALUES ({id})"))?;
            positions.push(source.position()?);
            if id == 2 {
                source.database.root("FLUSH BINARY LOGS")?;
            }
        }
        let end = source.position()?;
        let all = brought(source, &positions[0], &end).await?;
        ensure!(all.len() == 7, "{all:?}");
        for (number, position) in positions.iter().enumerate().take(7) {
            let rest = brought(source, position, &end).await?;
            ensure!(
                rest == all[number..],
                "from {position}: {rest:?} of {all:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_checkpoint_whose_binlogs_are_purged_is_refused() -> Result<()> {
    on_each(async |source| {
        let before = source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        source.database.root("INSERT INTO orders.t VALUES (1)")?;
        let mut pull = source.pull(Some(&before)).await?;
        pull.reach(&source.position()?).await?;
        source.database.root("FLUSH BINARY LOGS")?;
        let status = match source.flavor() {
            Flavor::MySql => "SHOW BINARY LOG STATUS",
            Flavor::MariaDb => "SHOW MASTER STATUS",
        };
        let file = source.database.root(status)?;
        let file = file
            .first()
            .and_then(|row| row.first())
            .context("no binlog")?;
        let purge = format!("PURGE BINARY LOGS TO '{file}'");
        // A server keeps a file that somebody reads; the reader of the last test may not be gone.
        harness::shell::poll("the old binlogs are gone", Duration::from_secs(30), || {
            source.database.root(&purge)?;
            let left = source.database.root("SHOW BINARY LOGS")?;
            ensure!(left.len() == 1, "{left:?}");
            Ok(())
        })?;
        let halt = source.pull(Some(&before)).await?.halt().await?;
        ensure!(
            halt.reason == "Purged" && halt.message.contains("copy"),
            "{halt:?}"
        );
        // What was purged cannot be compared, and is not missing.
        pull.again(source).await?;
        source.database.root("INSERT INTO orders.t VALUES (2)")?;
        pull.reach(&source.position()?).await?;
        ensure!(pull.rows().len() == 2, "{:?}", pull.rows());
        Ok(())
    })
}

fn data(source: &Source<'_>) -> PathBuf {
    let run = &source.world.info().directory;
    run.join("database").join(&source.database.idc).join("data")
}

/// Runs something while the server is down.
fn while_down(source: &Source<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let part = harness::database::part(&source.database.idc);
    source.world.stop(&part)?;
    work()?;
    source.world.start(&part)?;
    source.world.wait_for_database(&source.database.idc)
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let mut copy = harness::shell::command("cp", ["-a", "--reflink=auto", "--sparse=always"]);
    harness::shell::run(copy.arg(from).arg(to))
}

/// What was written after the backup is lost at the source and is at the target. The source will
/// give out its numbers again.
#[test]
fn a_source_that_was_restored_from_a_backup_is_refused() -> Result<()> {
    on_each(async |source| {
        let before = source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        let data = data(source);
        let backup = data.with_extension("backup");
        while_down(source, || copy(&data, &backup))?;
        source
            .database
            .root("INSERT INTO orders.t VALUES (1); INSERT INTO orders.t VALUES (2)")?;
        let applied = source.position()?;
        let mut pull = source.pull(Some(&before)).await?;
        pull.reach(&applied).await?;
        while_down(source, || copy(&backup, &data))?;
        std::fs::remove_dir_all(&backup)?;
        let halt = source.pull(Some(&applied)).await?.halt().await?;
        ensure!(
            halt.reason == "SourceWentBack" && halt.message.contains("restored from a backup"),
            "{halt:?}"
        );
        // From where it is now, it is read.
        let here = source.position()?;
        source.database.root("INSERT INTO orders.t VALUES (3)")?;
        let next = brought(source, &here, &source.position()?).await?;
        ensure!(next.len() == 1, "{next:?}");
        Ok(())
    })
}

/// As before, and by the time that anybody reads it again, the source has given those numbers out and
/// has passed the checkpoint.
#[test]
fn a_source_that_gave_lost_numbers_out_again_is_refused() -> Result<()> {
    on_each(async |source| {
        let before = source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        let data = data(source);
        let backup = data.with_extension("backup");
        while_down(source, || copy(&data, &backup))?;
        source
            .database
            .root("INSERT INTO orders.t VALUES (1); INSERT INTO orders.t VALUES (2)")?;
        let mut pull = source.pull(Some(&before)).await?;
        pull.reach(&source.position()?).await?;
        // The same one goes on, also where nothing of its last transaction was sent.
        for write in [
            "INSERT INTO orders.t VALUES (3)",
            "CREATE TABLE orders.unwanted (id INT PRIMARY KEY)",
            "INSERT INTO orders.unwanted VALUES (1)",
            "INSERT INTO orders.t VALUES (4)",
        ] {
            pull.again(source).await?;
            source.database.root(write)?;
            pull.reach(&source.position()?).await?;
        }
        ensure!(pull.rows().len() == 4, "{:?}", pull.rows());
        while_down(source, || copy(&backup, &data))?;
        std::fs::remove_dir_all(&backup)?;
        // MariaDB tells of seconds only, and whoever restores a server needs more than one.
        std::thread::sleep(Duration::from_millis(1_100));
        for id in 11..20 {
            source
                .database
                .root(&format!("INSERT INTO orders.t VALUES ({id})"))?;
        }
        ensure!(
            source
                .position()?
                .contains(&pull.position.clone().context("a position")?)
        );
        pull.again(source).await?;
        let halt = pull.halt().await?;
        ensure!(
            halt.reason == "SourceWentBack" && halt.message.contains("gave a number out twice"),
            "{halt:?}"
        );
        Ok(())
    })
}

#[test]
fn a_checkpoint_of_another_engine_is_refused() -> Result<()> {
    on_each(async |source| {
        source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        let other = match source.flavor() {
            Flavor::MySql => Position::parse(Flavor::MariaDb, "0-1-5")?,
            Flavor::MariaDb => {
                Position::parse(Flavor::MySql, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5")?
            }
        };
        let halt = source.pull(Some(&other)).await?.halt().await?;
        ensure!(halt.reason == "OtherEngine", "{halt:?}");
        Ok(())
    })
}

/// What the syncer answers in place of a stream, or as its end.
async fn refusal(source: &Source<'_>, request: PullRequest) -> String {
    let answer = async {
        let mut pull = Pull::request(source, request).await?;
        pull.next().await
    };
    match answer.await {
        Ok(frame) => format!("{frame:?}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_new_link_waits_for_the_first_primary() -> Result<()> {
    on_each(async |source| {
        source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        source.database.root("DELETE FROM multiactive.epoch")?;
        let request = PullRequest::of("suite/read".to_owned(), None, 0, &[]);
        let answer = refusal(source, request).await;
        ensure!(answer.contains("has had no primary yet"), "{answer}");
        Ok(())
    })
}

/// Only the member whose epoch it is gives copies; from others the stream alone is read.
#[test]
fn a_member_without_the_epoch_gives_no_copy() -> Result<()> {
    on_each(async |source| {
        source.make("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)")?;
        source.database.root(
            "SET sql_log_bin = 0; INSERT INTO multiactive.epoch (epoch, idc, ended, at) VALUES (9, 'gz', NULL, NOW(6))",
        )?;
        let mut pull = source.pull(None).await?;
        while !pull.copied_all {
            pull.next().await?;
        }
        ensure!(
            pull.chunks == 0 && pull.rows().is_empty(),
            "{:?}",
            pull.copied
        );
        source.database.root("INSERT INTO orders.t VALUES (2)")?;
        pull.reach(&source.position()?).await?;
        ensure!(pull.rows().len() == 1, "{:?}", pull.rows());
        Ok(())
    })
}

/// Where there is no checkpoint, rows at the target may lack anything.
#[test]
fn a_link_does_not_begin_beside_rows_of_unknown_origin() -> Result<()> {
    on_each_with("IfEmpty", async |source| {
        source.make("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)")?;
        let request = |empty| {
            let table = TargetTable {
                database: "orders".to_owned(),
                table: "t".to_owned(),
                empty,
                snapshot: SnapshotState::None,
            };
            PullRequest::of("suite/read".to_owned(), None, 0, &[table])
        };
        let halt = Pull::request(source, request(false)).await?.halt().await?;
        ensure!(
            halt.reason == "TargetHasRows" && halt.message.contains("orders.t"),
            "{halt:?}"
        );
        let mut pull = Pull::request(source, request(true)).await?;
        while !pull.copied_all {
            pull.next().await?;
        }
        ensure!(pull.rows().len() == 1, "{:?}", pull.rows());
        Ok(())
    })
}

#[test]
fn a_request_of_another_link_or_release_is_refused() -> Result<()> {
    on_each(async |source| {
        let position = source.position()?;
        let other = PullRequest::of("suite/other".to_owned(), Some(&position), 1, &[]);
        let answer = refusal(source, other).await;
        ensure!(
            answer.contains("suite/other") && answer.contains("suite/read"),
            "{answer}"
        );
        let mut newer = PullRequest::of("suite/read".to_owned(), Some(&position), 1, &[]);
        newer.protocol = change::PROTOCOL + 1;
        let answer = refusal(source, newer).await;
        ensure!(answer.contains("same release of both"), "{answer}");
        // One of the release before is served, and not told what it would run.
        source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        let position = source.position()?;
        let done = "USE orders; CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1";
        source.database.root(done)?;
        let mut older = PullRequest::of("suite/read".to_owned(), Some(&position), 1, &[]);
        older.reads_refused = false;
        let mut pull = Pull::request(source, older).await?;
        let halt = loop {
            if let change::Frame::Halt(halt) = pull.next().await? {
                break halt;
            }
            ensure!(pull.transactions.is_empty(), "{:?}", pull.transactions);
        };
        source.database.root("DROP EVENT orders.e")?;
        ensure!(halt.reason == "ServerEvent", "{halt:?}");
        Ok(())
    })
}

/// A second connection ends the first, so that no two writers are served.
#[test]
fn the_newest_connection_is_served_alone() -> Result<()> {
    on_each(async |source| {
        let before = source.make("CREATE TABLE t (id INT PRIMARY KEY)")?;
        let end = source.position()?;
        let mut first = source.pull(Some(&before)).await?;
        first.reach(&end).await?;
        let mut second = source.pull(Some(&before)).await?;
        second.reach(&end).await?;
        ensure!(first.next().await.is_err(), "the first is still served");
        source.database.root("INSERT INTO orders.t VALUES (1)")?;
        second.reach(&source.position()?).await
    })
}
