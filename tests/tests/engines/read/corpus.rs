//! The binlogs that fuzzing begins with. Run by hand when the formats of a server change:
//! `cargo test --package tests --test engines -- --ignored corpus`.

use anyhow::{Context as _, Result};
use change::Flavor;

use super::{Source, on_each};

/// A few rows of every type, changed and removed, and statements of several kinds.
const ROWS: &str = "\
    CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, v INT UNSIGNED, t VARCHAR(300), u INT UNIQUE); \
    CREATE TABLE every (id INT PRIMARY KEY, a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, d BIGINT, \
    e DECIMAL(65,30), f FLOAT, g DOUBLE, h BIT(33), i YEAR, j DATE, k TIME(3), l DATETIME(6), \
    m TIMESTAMP(2) NULL, n CHAR(20), o VARCHAR(20) CHARACTER SET gbk, p TEXT, q BINARY(9), \
    r VARBINARY(400), s LONGBLOB, t ENUM('a','b','c'), u SET('x','y','z'), v GEOMETRY, w JSON, \
    x INT AS (a + 1) VIRTUAL, y INT AS (a * 2) STORED); \
    INSERT INTO every (id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w) VALUES \
    (1, -128, 65535, -8388608, -9223372036854775808, -1.5, 0.1, -0.0, 8589934591, 2155, '2024-02-29', \
    '-838:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07', 'é', '中文', REPEAT('t', 300), \
    'q', 'r', REPEAT('s', 700), 'b', 'x,z', POINT(1, 2), \
    '{\"a\": [1, 2.5, \"x\", null, true, {\"b\": -9223372036854775808}], \"c\": 18446744073709551615}'), \
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL, NULL, NULL, NULL, NULL, NULL); \
    UPDATE every SET id = id + 10, w = '[1]', s = NULL; DELETE FROM every WHERE id = 12; \
    ALTER TABLE plain ADD COLUMN w JSON DEFAULT NULL; SAVEPOINT s; \
    START TRANSACTION; INSERT INTO plain (v) VALUES (1); SAVEPOINT a; INSERT INTO plain (v) VALUES (2); \
    ROLLBACK TO a; COMMIT; SET foreign_key_checks = 0, unique_checks = 0; \
    INSERT INTO plain (v, t, w) VALUES (4000000000, REPEAT('long ', 50), '{\"k\": \"v\"}'); \
    CREATE TABLE made (id INT PRIMARY KEY); DROP TABLE made; TRUNCATE TABLE plain";

fn more() -> String {
    (0..24)
        .map(|number| {
            format!(
                "START TRANSACTION; INSERT INTO orders.plain (v, t, u) VALUES ({number}, 'a', {number}), \
                 ({number}, REPEAT('b', {number}), NULL); UPDATE orders.plain SET v = v + 1 WHERE id \
                 % 3 = 0; COMMIT;"
            )
        })
        .collect()
}

fn keep(source: &Source<'_>, name: &str, rows: &str) -> Result<()> {
    let status = match source.flavor() {
        Flavor::MySql => "SHOW BINARY LOG STATUS",
        Flavor::MariaDb => "SHOW MASTER STATUS",
    };
    source.make("DO 0")?;
    source.database.root("FLUSH BINARY LOGS")?;
    let file = source.database.root(status)?;
    let file = file.concat().first().context("no binlog")?.clone();
    source
        .database
        .root(&format!("USE orders; {rows}; {}", more()))?;
    source.database.root("FLUSH BINARY LOGS")?;
    let home = source.world.info().directory.join("database");
    let binlog = home.join(&source.database.idc).join("data").join(file);
    let corpus = harness::paths::workspace().join("binlog/corpus");
    std::fs::copy(&binlog, corpus.join(format!("{name}.binlog")))?;
    Ok(())
}

#[test]
#[ignore = "it writes into the repository"]
fn corpus() -> Result<()> {
    on_each(async |source| {
        let (name, on, off) = match source.flavor() {
            Flavor::MySql => (
                "mysql",
                "SET GLOBAL binlog_transaction_compression = ON",
                "SET GLOBAL binlog_transaction_compression = OFF",
            ),
            Flavor::MariaDb => (
                "mariadb",
                "SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10",
                "SET GLOBAL log_bin_compress = OFF",
            ),
        };
        keep(source, name, ROWS)?;
        source.database.root(on)?;
        let kept = keep(source, &format!("{name}-compressed"), ROWS);
        source.database.root(off)?;
        kept
    })
}
