//! Rows that hold each other's unique values at the target: no statement mends one of them before the
//! others, so they are mended, and taken back, together.

use anyhow::{Result, ensure};
use harness::Engine::{MariaDb, MySql};
use model::RepairPhase;
use serde_json::json;

use super::rig::{Rig, between, ensure_equal};

const TABLES: &str = "USE orders; \
    CREATE TABLE two (id INT PRIMARY KEY, u INT UNIQUE, v INT); \
    CREATE TABLE three (k VARCHAR(9) PRIMARY KEY, a INT NOT NULL, \
        name VARCHAR(20) COLLATE utf8mb4_general_ci, UNIQUE KEY name (a, name)); \
    CREATE TABLE parts (id INT PRIMARY KEY, code VARCHAR(40), UNIQUE KEY code (code(3)))";
const ROWS: &str = "USE orders; \
    INSERT INTO two VALUES (1, 1, 10), (2, 2, 20), (3, 3, 30), (4, 4, 40), (5, NULL, 50); \
    INSERT INTO three VALUES ('x', 7, 'anna'), ('y', 7, 'berta'), ('z', 7, 'carl'), ('w', 8, 'anna'); \
    INSERT INTO parts VALUES (1, 'abc one'), (2, 'def two'), (3, 'ghi three')";
/// Two that changed places, three that went round, with other letters, and two by their beginnings.
const PLANTS: &[&str] = &[
    "UPDATE two SET u = NULL WHERE id = 1; UPDATE two SET u = 1, v = 21 WHERE id = 2; \
     UPDATE two SET u = 2 WHERE id = 1",
    "UPDATE three SET name = NULL WHERE k = 'x'; UPDATE three SET name = 'ANNA' WHERE k = 'y'; \
     UPDATE three SET name = 'BERTA' WHERE k = 'z'; UPDATE three SET name = 'CARL' WHERE k = 'x'",
    "UPDATE parts SET code = NULL WHERE id = 1; UPDATE parts SET code = 'abc four' WHERE id = 2; \
     UPDATE parts SET code = 'def five' WHERE id = 1",
];

/// What is recorded of a run: table, row, state and reason.
fn recorded(rig: &Rig<'_>, run: &str) -> Result<Vec<Vec<String>>> {
    rig.target.root(&format!(
        "SELECT `table`, `row`, state, reason FROM multiactive.repairs WHERE run = '{run}' ORDER BY seq"
    ))
}

async fn swaps(rig: &Rig<'_>) -> Result<()> {
    rig.make(TABLES, ROWS)?;
    let link = rig.link().await?;
    let _heartbeats = rig.heartbeats().await?;
    let base = Rig::checksums(rig.target)?;
    for sql in PLANTS {
        rig.plant("USE orders;", sql)?;
    }
    let spoilt = Rig::checksums(rig.target)?;
    let born = rig.born_at_target()?;
    let mended = rig.run("suite/mend", "Repair", &json!({})).await?;
    let total = mended.report.total();
    let rows = recorded(rig, "suite/mend")?;
    ensure!(mended.phase == RepairPhase::Done, "{mended:#?}");
    ensure!(
        (total.differing, total.repaired, total.failed) == (7, 7, 0),
        "{mended:#?} {rows:#?}"
    );
    ensure!(rows.len() == 7, "{rows:#?}");
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    ensure!(rig.born_at_target()? == born, "it was born at the target");
    ensure_equal(&rig.verify("suite/after").await?)?;

    let undone = rig.run("suite/mend", "Undo", &json!({})).await?;
    ensure!(undone.phase == RepairPhase::Done, "{undone:#?}");
    ensure!(undone.report.total().undone == 7, "{undone:#?}");
    let rows = recorded(rig, "suite/mend")?;
    ensure!(rows.iter().all(|row| row[2] == "Undone"), "{rows:#?}");
    ensure!(Rig::checksums(rig.target)? == spoilt, "not as it had been");

    // One of two was changed since: both are let be, and all others taken back.
    rig.run("suite/again", "Repair", &json!({})).await?;
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    rig.plant("USE orders;", "UPDATE two SET v = 99 WHERE id = 1")?;
    let partly = rig.run("suite/again", "Undo", &json!({})).await?;
    ensure!(partly.phase == RepairPhase::Incomplete, "{partly:#?}");
    ensure!(partly.message.starts_with("2 rows"), "{partly:#?}");
    ensure!(partly.report.total().undone == 5, "{partly:#?}");
    let rows = recorded(rig, "suite/again")?;
    let kept = rows.iter().filter(|row| row[2] == "Repaired");
    ensure!(
        kept.clone().count() == 2 && kept.clone().all(|row| row[0] == "two"),
        "{rows:#?}"
    );
    let two = rig
        .target
        .root("SELECT id, u, v FROM orders.two WHERE id < 3")?;
    ensure!(two == [["1", "1", "99"], ["2", "2", "20"]], "{two:?}");
    rig.run("suite/end", "Repair", &json!({})).await?;
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    // The link never met a row that it did not expect.
    rig.source.app(
        "USE orders; UPDATE two SET v = v + 1; UPDATE three SET a = a + 1; \
         UPDATE parts SET code = CONCAT(code, '!')",
    )?;
    rig.equal("SELECT * FROM orders.two; SELECT * FROM orders.three; SELECT * FROM orders.parts")
        .await?;
    link.check().await
}

#[test]
fn unique_values_that_changed_places_are_mended_together() -> Result<()> {
    between("swaps", MySql, MariaDb, &swaps)
}

/// What must not be removed and put again stays as it is, with the reason; what refers to rows that are
/// keeps what it has.
async fn refused(rig: &Rig<'_>) -> Result<()> {
    rig.make(
        "USE orders; \
         CREATE TABLE parents (id INT PRIMARY KEY, u INT UNIQUE); \
         CREATE TABLE children (id INT PRIMARY KEY, parent INT); \
         CREATE TABLE wider (id INT PRIMARY KEY, u INT UNIQUE); \
         CREATE TABLE stricter (id INT PRIMARY KEY, u INT)",
        "USE orders; INSERT INTO parents VALUES (1, 1), (2, 2); \
         INSERT INTO children VALUES (1, 1), (2, 1), (3, 2); \
         INSERT INTO wider VALUES (1, 1), (2, 2); INSERT INTO stricter VALUES (1, 5), (2, 6)",
    )?;
    rig.target.root(
        "SET sql_log_bin = 0; USE orders; ALTER TABLE stricter ADD UNIQUE KEY u (u); \
         ALTER TABLE wider ADD COLUMN note VARCHAR(9) DEFAULT 'none'",
    )?;
    let link = rig.link().await?;
    // Links refuse to copy what MariaDB does not log of such a key, so it comes after that, and to both.
    let family = "SET sql_log_bin = 0; USE orders; ALTER TABLE children ADD CONSTRAINT family \
                  FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE";
    for end in [rig.source, rig.target] {
        end.root(family)?;
    }
    rig.plant("USE orders;", "UPDATE wider SET note = 'mine'")?;
    for table in ["parents", "wider"] {
        let swap = format!(
            "UPDATE {table} SET u = NULL WHERE id = 1; UPDATE {table} SET u = 1 WHERE id = 2; \
             UPDATE {table} SET u = 2 WHERE id = 1"
        );
        rig.plant("USE orders;", &swap)?;
    }
    // Row 1 is the same at both ends, and keeps row 2 from being what it is at the source.
    rig.source
        .root("SET sql_log_bin = 0; UPDATE orders.stricter SET u = 5 WHERE id = 2")?;
    let all = |table: &str| {
        rig.target
            .root(&format!("SELECT * FROM orders.{table} ORDER BY id"))
    };
    let spoilt = [all("wider")?, all("stricter")?];
    let status = rig.run("suite/refused", "Repair", &json!({})).await?;
    let total = status.report.total();
    let rows = recorded(rig, "suite/refused")?;
    ensure!(
        (total.differing, total.repaired, total.failed) == (5, 2, 3),
        "{status:#?} {rows:#?}"
    );
    for (table, count, why) in [
        ("wider", 2, "only the target has"),
        ("stricter", 1, "is the same at both ends"),
    ] {
        let says = |row: &&Vec<String>| {
            row[0] == table
                && row[2] == "Failed"
                && row[3].contains(why)
                && row[3].contains("Duplicate")
        };
        ensure!(
            rows.iter().filter(says).count() == count,
            "{table}: {rows:#?}"
        );
    }
    ensure!(
        [all("wider")?, all("stricter")?] == spoilt,
        "something was written"
    );
    // No row that refers to one that was removed and put again went with it.
    ensure!(all("children")?.len() == 3, "{:?}", all("children")?);
    let parents = all("parents")?;
    ensure!(parents == [["1", "1"], ["2", "2"]], "{parents:?}");
    undo(rig, &all).await?;
    link.check().await
}

/// Taking it back removes nothing that refers to the rows either.
async fn undo(rig: &Rig<'_>, all: &impl Fn(&str) -> Result<Vec<Vec<String>>>) -> Result<()> {
    let undone = rig.run("suite/refused", "Undo", &json!({})).await?;
    ensure!(undone.report.total().undone == 2, "{undone:#?}");
    ensure!(all("children")?.len() == 3, "{:?}", all("children")?);
    ensure!(
        all("parents")? == [["1", "2"], ["2", "1"]],
        "{:?}",
        all("parents")?
    );
    Ok(())
}

/// A key whose letters count otherwise at the two ends: what is two rows of the source is one of the
/// target's, and stays as it is.
async fn two_in_one(rig: &Rig<'_>) -> Result<()> {
    rig.make(
        "USE orders; CREATE TABLE words (k VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY, v INT)",
        "USE orders; INSERT INTO words VALUES ('a', 1), ('b', 2)",
    )?;
    rig.target.root(
        "SET sql_log_bin = 0; ALTER TABLE orders.words MODIFY k VARCHAR(9) \
         COLLATE utf8mb4_general_ci NOT NULL",
    )?;
    let link = rig.link().await?;
    rig.source
        .root("SET sql_log_bin = 0; INSERT INTO orders.words VALUES ('A', 3)")?;
    // The same row with another letter is mended: to the source it is another row.
    rig.plant("USE orders;", "UPDATE words SET k = 'B' WHERE k = 'b'")?;
    let status = rig.run("suite/words", "Repair", &json!({})).await?;
    let total = status.report.total();
    let rows = recorded(rig, "suite/words")?;
    ensure!(
        (total.missing, total.extra, total.differing) == (1, 1, 1)
            && (total.repaired, total.failed) == (2, 1),
        "{status:#?} {rows:#?}"
    );
    let failed = |row: &Vec<String>| row[2] == "Failed" && row[3].contains("one collation at both");
    ensure!(rows.iter().any(failed), "{rows:#?}");
    let words = rig
        .target
        .root("SELECT k, v FROM orders.words ORDER BY v")?;
    ensure!(words == [["a", "1"], ["b", "2"]], "{words:?}");
    rig.source
        .root("SET sql_log_bin = 0; DELETE FROM orders.words WHERE v = 3")?;
    link.check().await
}

#[test]
fn a_row_that_is_two_at_the_source_is_let_be() -> Result<()> {
    between("swaps-words", MySql, MariaDb, &two_in_one)
}

#[test]
fn rows_that_must_not_be_removed_are_not_mended_together() -> Result<()> {
    between("swaps-refused", MySql, MariaDb, &refused)
}
