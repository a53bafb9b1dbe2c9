//! A row means the same whether it comes by the stream or by the copy.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use change::Flavor;

use super::pull::differences;
use super::{Source, on_each};

const COMMON: &str = include_str!("values.sql");

/// What only MySQL has: types, values inside JSON, indexes on expressions.
const MYSQL: &str = "\
    CREATE TABLE vecs (id INT PRIMARY KEY, v VECTOR(3)); \
    INSERT INTO vecs VALUES (1, STRING_TO_VECTOR('[1,2.5,-3]')), (2, NULL); \
    CREATE TABLE expressions (id INT PRIMARY KEY, a INT, KEY ((a + 1)), KEY (a DESC)); \
    INSERT INTO expressions VALUES (1, 2), (2, NULL); \
    INSERT INTO jsons VALUES (500, JSON_OBJECT('d', DATE'2020-01-02', 'dt', \
    TIMESTAMP'2020-01-02 03:04:05.123456', 't', TIME'-12:34:56.5', 'dec', \
    CAST(1.10 AS DECIMAL(10,2)), 'b', x'00ff', 'bit', b'101', 'big', REPEAT(x'ab', 200), 'neg', \
    CAST(-12345678901234567890.123456789 AS DECIMAL(40,9)), 't2', TIME'838:59:59', 'ts', NOW(), \
    'y', CAST(2020 AS YEAR))); \
    INSERT INTO jsons VALUES (501, JSON_ARRAY(ST_GeomFromText('POINT(1 2)'), 1, 'x', NULL, TRUE, \
    CAST('{\"a\":1}' AS JSON)));";

/// Fills every table, reads what the stream brings and what the copy brings, and compares.
async fn compare(source: &Source<'_>, settings: &str) -> Result<()> {
    let before = source.make(settings)?;
    source.database.root(COMMON)?;
    if source.flavor() == Flavor::MySql {
        source.database.root(&format!("USE orders; {MYSQL}"))?;
    }
    let end = source.position()?;
    let mut streamed = source.pull(Some(&before)).await?;
    streamed.reach(&end).await?;
    ensure!(streamed.conflicts.is_empty(), "{:?}", streamed.conflicts);
    let mut copied = source.pull(None).await?;
    while !copied.copied_all {
        copied.next().await?;
    }
    let differences = differences(&streamed.rows(), &copied.rows());
    ensure!(
        differences.is_empty(),
        "stream and copy: {}",
        differences.join("\n")
    );
    let tables: BTreeSet<_> = copied.copied.keys().map(|(table, _)| table).collect();
    let expected = if source.flavor() == Flavor::MySql {
        22
    } else {
        20
    };
    ensure!(
        tables.len() == expected,
        "{} tables: {tables:?}",
        tables.len()
    );
    Ok(())
}

#[test]
fn stream_and_copy_agree_on_every_type() -> Result<()> {
    on_each(async |source| compare(source, "").await)
}

#[test]
fn compressed_logs_say_the_same() -> Result<()> {
    on_each(async |source| {
        let (on, off) = match source.flavor() {
            Flavor::MySql => (
                "SET GLOBAL binlog_transaction_compression = ON",
                "SET GLOBAL binlog_transaction_compression = OFF",
            ),
            Flavor::MariaDb => (
                "SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10",
                "SET GLOBAL log_bin_compress = OFF",
            ),
        };
        source.database.root(on)?;
        let outcome = compare(source, "").await;
        source.database.root(off)?;
        outcome
    })
}
