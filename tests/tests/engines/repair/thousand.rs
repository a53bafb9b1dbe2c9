//! More than a thousand rows that differ in every way, planted behind the link's back in a table that
//! an application goes on writing to: all are found and mended, and no other row is touched.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::Engine::{MariaDb, MySql};
use model::{RepairPhase, RepairStatus};
use serde_json::json;

use super::plants::SETTINGS;
use super::rig::{Rig, one_way};

/// Columns of every type: what they hold, and what is planted instead.
const COLUMNS: &[[&str; 3]] = &[
    ["TINYINT", "id % 100", "id % 100 + 1"],
    ["SMALLINT UNSIGNED", "65535 - id", "65534 - id"],
    ["MEDIUMINT ZEROFILL", "id", "id + 1"],
    ["INT", "-2147483648 + id", "-2147483647 + id"],
    [
        "BIGINT UNSIGNED",
        "18446744073709551615 - id",
        "18446744073709551614 - id",
    ],
    [
        "DECIMAL(65,30)",
        "CONCAT(id, '.000000000000000000000000000001')",
        "id",
    ],
    ["FLOAT", "id / 7", "id / 7 + 1"],
    ["DOUBLE", "id / 7e0", "id / 7e0 + 1e-9"],
    ["BIT(33)", "0x100000000 + id", "0x100000001 + id"],
    // Case, a trailing space, and NULL against what is empty, both ways.
    [
        "CHAR(20) COLLATE utf8mb4_general_ci",
        "CONCAT('a', id)",
        "CONCAT('A', id)",
    ],
    [
        "VARCHAR(20) COLLATE utf8mb4_general_ci",
        "CONCAT('a', id)",
        "CONCAT('a', id, ' ')",
    ],
    ["VARCHAR(20)", "NULL", "''"],
    ["TEXT", "''", "NULL"],
    [
        "MEDIUMTEXT CHARACTER SET gbk",
        "CONCAT('中', id)",
        "CONCAT('文', id)",
    ],
    [
        "VARCHAR(20) CHARACTER SET latin1",
        "CONCAT('é', id)",
        "CONCAT('e', id)",
    ],
    [
        "LONGTEXT",
        "CONCAT(REPEAT('日😀', 20), id)",
        "CONCAT(REPEAT('日😁', 20), id)",
    ],
    ["BINARY(8)", "id", "CONCAT(id, ' ')"],
    ["VARBINARY(20)", "id", "CONCAT(id, 0x00)"],
    ["BLOB", "REPEAT(id, 50)", "CONCAT(REPEAT(id, 50), 0xff)"],
    ["ENUM('a', 'b', '')", "'a'", "''"],
    ["SET('a', 'b', 'c')", "'a,c'", "'a'"],
    ["YEAR", "1901 + id % 200", "1902 + id % 200"],
    ["DATE", "'2024-02-29'", "'2024-00-00'"],
    ["TIME(6)", "'-838:59:58.999999'", "'-838:59:58.999998'"],
    [
        "DATETIME(6)",
        "'2024-02-29 23:59:58.987654'",
        "'2024-02-29 23:59:58.987655'",
    ],
    // What was meant as another time zone's.
    [
        "TIMESTAMP(6) NULL",
        "'2024-02-29 23:59:58.5'",
        "'2024-02-29 15:59:58.5'",
    ],
    ["TIMESTAMP NULL", "'2038-01-19 11:14:07'", "NULL"],
    [
        "JSON",
        "CONCAT('{\"a\": [', id, ', null]}')",
        "CONCAT('{\"a\": [', id, ']}')",
    ],
    [
        "POINT",
        "ST_GeomFromText('POINT(1.5 -2)', 4326)",
        "ST_GeomFromText('POINT(1.5 -3)', 4326)",
    ],
    ["BOOLEAN", "TRUE", "NULL"],
];
/// So many rows; of each sixty the first thirty differ in a column each, the next are missing, extra, and
/// pairs that hold each other's unique values, some are let be, and the last twenty the application has.
const ROWS: u64 = 2100;
const MISSING: u64 = 35;
const EXTRA: u64 = 35;
const DIFFERING: u64 = 35 * 30 + 14;
const PLANTED: u64 = MISSING + EXTRA + DIFFERING;

fn table() -> String {
    let columns = COLUMNS.iter().enumerate();
    let columns: Vec<String> = columns
        .map(|(number, [kind, ..])| format!("c{number} {kind}"))
        .collect();
    format!(
        "USE orders; CREATE TABLE every (id INT PRIMARY KEY, u INT UNIQUE, n INT, note VARCHAR(40), {})",
        columns.join(", ")
    )
}

fn rows() -> String {
    let ids: Vec<String> = (0..ROWS).map(|id| format!("({id}, {id})")).collect();
    let columns = COLUMNS.iter().enumerate();
    let values: Vec<String> = columns
        .map(|(number, [_, value, _])| format!("c{number} = {value}"))
        .collect();
    format!(
        "{SETTINGS} INSERT INTO every (id, u) VALUES {}; UPDATE every SET {}",
        ids.join(","),
        values.join(", ")
    )
}

/// What an application does to the rows that are its own.
fn round(number: u64) -> String {
    let first = 40 + 60 * (number % (ROWS / 60));
    let (id, gone) = (1_000_000 + number, 1_000_000 + number.saturating_sub(20));
    format!(
        "USE orders; UPDATE every SET n = {number}, note = 'of round {number}' \
         WHERE id BETWEEN {first} AND {first} + 19; \
         DELETE FROM every WHERE id = {first} + {number} % 20; \
         INSERT INTO every (id, u, n) VALUES ({first} + {number} % 20, {first} + {number} % 20, {number}); \
         INSERT INTO every (id, n, c13) VALUES ({id}, {number}, '中文'); \
         DELETE FROM every WHERE id = {gone}; DO SLEEP(0.05)"
    )
}

fn plant(rig: &Rig<'_>) -> Result<()> {
    let planted = |sql: &str, count: u64| -> Result<()> {
        let found = rig.plant(SETTINGS, sql)?;
        ensure!(found == count, "{found} rows, not {count}: {sql}");
        Ok(())
    };
    for (number, [_, _, other]) in COLUMNS.iter().enumerate() {
        let sql = format!(
            "UPDATE every SET c{number} = {other} WHERE id < {ROWS} AND id % 60 = {number}"
        );
        planted(&sql, ROWS / 60)?;
    }
    let of = |rest: u64| format!("WHERE id < {ROWS} AND id % 60 = {rest}");
    planted(&format!("DELETE FROM every {}", of(30)), MISSING)?;
    let extra = format!(
        "INSERT INTO every (id, u, c13) SELECT -1 - id, -id, c13 FROM every {}",
        of(31)
    );
    planted(&extra, EXTRA)?;
    let pairs = format!("WHERE id < {ROWS} AND id % 300 IN (32, 33)");
    planted(&format!("UPDATE every SET u = -u {pairs}"), 14)?;
    planted(
        &format!("UPDATE every SET u = IF(id % 60 = 32, id + 1, id - 1) {pairs}"),
        14,
    )
}

/// The target's rows that are not the application's, each by a digest that the server makes of it.
fn untouched(rig: &Rig<'_>) -> Result<BTreeMap<String, String>> {
    let names = (0..COLUMNS.len()).map(|number| format!("c{number}"));
    let names = ["u", "n", "note"]
        .map(str::to_owned)
        .into_iter()
        .chain(names);
    let values: Vec<String> = names
        .map(|name| format!("IFNULL(HEX(CONCAT({name})), 'NULL')"))
        .collect();
    let rows = rig.target.root(&format!(
        "{SETTINGS} SELECT id, SHA2(CONCAT_WS('|', {}), 256) FROM every \
         WHERE id < {ROWS} AND (id < 0 OR id % 60 < 40)",
        values.join(", ")
    ))?;
    let pairs = rows.into_iter().map(|row| match row.as_slice() {
        [id, digest] => Ok((id.clone(), digest.clone())),
        other => anyhow::bail!("{other:?}"),
    });
    pairs.collect()
}

fn ensure_all(status: &RepairStatus, repaired: u64) -> Result<()> {
    let total = status.report.total();
    ensure!(
        status.phase == RepairPhase::Done
            && (total.missing, total.extra, total.differing) == (MISSING, EXTRA, DIFFERING)
            && (total.repaired, total.failed, total.unjudged) == (repaired, 0, 0),
        "{status:#?}"
    );
    Ok(())
}

async fn thousand(rig: &Rig<'_>) -> Result<()> {
    rig.make(&table(), &rows())?;
    let link = rig.link().await?;
    let base = untouched(rig)?;
    ensure!(base.len() as u64 == ROWS / 60 * 40, "{} rows", base.len());
    let mended = rig.under_load(round, async {
        plant(rig)?;
        let spoilt = untouched(rig)?;
        let same = base
            .iter()
            .filter(|(id, digest)| spoilt.get(*id) == Some(digest));
        let (same, all) = (same.count() as u64, base.len() as u64);
        ensure!(
            all - same == MISSING + DIFFERING,
            "{same} of {all} are as they were"
        );
        let found = rig.verify("suite/found").await?;
        ensure_all(&found, 0).context("looking only")?;
        ensure!(untouched(rig)? == spoilt, "something was written");
        rig.run("suite/mended", "Repair", &json!({})).await
    })?;
    ensure_all(&mended, PLANTED)?;
    ensure!(untouched(rig)? == base, "not as it was");
    ensure!(rig.recorded("suite/mended", "Repaired")? == PLANTED);
    // What the application wrote meanwhile is its own at both ends.
    rig.equal(&format!(
        "SELECT id, u, n, note, HEX(c13) FROM orders.every \
         WHERE id >= {ROWS} OR (id >= 0 AND id % 60 >= 40) ORDER BY id"
    ))
    .await?;
    rig.equal("SELECT id, u FROM orders.every ORDER BY id")
        .await?;
    link.check().await
}

#[test]
fn a_thousand_are_mended_while_an_application_writes() -> Result<()> {
    one_way("thousand", MySql, MariaDb, &thousand)
}
