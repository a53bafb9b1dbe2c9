//! No false findings while both ends take writes.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use harness::database::Database;

use super::rig::{Rig, between_all, ensure_equal};

/// `hot` has few rows that are changed all the time, to and fro, removed and put again; `keyed` has
/// a key of two columns, of which one is compared without case; `reals` is compared row by row.
const TABLES: &str = "USE orders; \
    CREATE TABLE wide (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(200), u INT UNIQUE); \
    CREATE TABLE hot (id INT PRIMARY KEY, v INT, at DATETIME(6)); \
    CREATE TABLE keyed (a VARCHAR(20) COLLATE utf8mb4_general_ci, b INT, v INT, PRIMARY KEY (a, b)); \
    CREATE TABLE reals (id INT PRIMARY KEY, d DOUBLE, f FLOAT)";

fn rows() -> String {
    let mut sql = "USE orders; ".to_owned();
    for start in (0..6000).step_by(500) {
        let values: Vec<String> = (start..start + 500)
            .map(|id| format!("({id}, REPEAT('x', {}), {id})", id % 150))
            .collect();
        sql.push_str(&format!(
            "INSERT INTO wide (v, note, u) VALUES {}; ",
            values.join(",")
        ));
    }
    for id in 0..300 {
        sql.push_str(&format!(
            "INSERT INTO hot VALUES ({id}, 0, NOW(6)); \
             INSERT INTO keyed VALUES ('Key{}', {id}, 0); \
             INSERT INTO reals VALUES ({id}, {id} / 7, {id} / 3); ",
            id % 9
        ));
    }
    sql
}

/// What an application does, again and again.
fn round(number: u64) -> String {
    let mut sql = String::from("USE orders; ");
    for step in 0..40 {
        let pick = (number * 37 + step * 11) % 300;
        sql.push_str(&format!(
            "UPDATE hot SET v = 1 - v, at = NOW(6) WHERE id < 40; \
             UPDATE hot SET v = 1 - v WHERE id < 20; \
             DELETE FROM hot WHERE id = {pick}; INSERT INTO hot VALUES ({pick}, 0, NOW(6)); \
             UPDATE keyed SET v = v + 1, a = IF(v % 2, UPPER(a), LOWER(a)) WHERE b = {pick}; \
             UPDATE reals SET d = d * 1.000001, f = f + 0.1 WHERE id % 50 = {}; \
             INSERT INTO wide (v, note) VALUES ({number}, 'new'), ({step}, NULL); \
             UPDATE wide SET v = v + 1, note = CONCAT('n', v) WHERE id BETWEEN {pick} AND {pick} + 9; \
             DELETE FROM wide WHERE u = {};",
            step % 50,
            number * 40 + step
        ));
    }
    sql
}

fn write(source: &Database, stop: &AtomicBool) -> Result<()> {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        source.app(&round(number))?;
    }
    Ok(())
}

/// How many updates the source has been asked for.
fn updates(source: &Database) -> Result<u64> {
    let rows = source.root("SHOW GLOBAL STATUS LIKE 'Com_update'")?;
    Ok(rows[0][1].parse()?)
}

/// Three passes while an application writes without a pause.
async fn passes(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, &rows())?;
    let link = rig.link().await?;
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(rig.source, &stop));
        let runtime = tokio::runtime::Handle::current();
        let passes = tokio::task::block_in_place(|| {
            runtime.block_on(async {
                for pass in 0..3 {
                    let before = updates(rig.source)?;
                    let status = rig.verify(&format!("suite/pass-{pass}")).await?;
                    let during = updates(rig.source)? - before;
                    ensure_equal(&status).with_context(|| format!("pass {pass}"))?;
                    ensure!(during > 10, "{during} updates meanwhile are no load");
                    let tables = &status.report.tables;
                    ensure!(tables.len() == 4 && tables.values().all(|table| table.done));
                    ensure!(tables["orders.wide"].digests && !tables["orders.reals"].digests);
                    ensure!(status.report.rows >= 6000, "{} rows", status.report.rows);
                    eprintln!("pass {pass}: {} rows, {during} updates", status.report.rows);
                }
                anyhow::Ok(())
            })
        });
        stop.store(true, Ordering::Relaxed);
        match writing.join() {
            Ok(written) => passes.and(written),
            Err(_) => anyhow::bail!("the application panicked"),
        }
    });
    outcome?;
    link.check().await
}

#[test]
fn a_load_is_no_finding() -> Result<()> {
    between_all("load", passes)
}
