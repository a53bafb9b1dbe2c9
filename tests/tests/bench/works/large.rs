//! One transaction that does not fit into memory.

use anyhow::Result;
use harness::report;

use super::catch_up::{both, figures, stop_both};
use crate::figure::{Figure, Goal};
use crate::options::Options;
use crate::rig::Rig;

/// Rows of the transaction.
const ROWS: u32 = 5_000_000;

/// Once, whatever the rounds: what counts is the memory, which is told with that of all works.
pub async fn measure(rig: &mut Rig, options: &Options) -> Result<Vec<Figure>> {
    let rows = options.scaled(ROWS);
    rig.source()?.root(
        "DROP TABLE IF EXISTS orders.large; \
         CREATE TABLE orders.large (id INT PRIMARY KEY, v BIGINT NOT NULL, note VARCHAR(60) NOT NULL)",
    )?;
    rig.both_follow().await?;
    stop_both(rig, "large")?;
    report::step(
        &format!("one transaction of {rows} rows at the source"),
        || rig.source()?.root(&insert(rows)),
    )?;
    rig.mark()?;
    let taken = both(rig, "large", 0).await?;
    rig.source()?.root("DROP TABLE orders.large")?;
    rig.both_follow().await?;
    let name = format!("one transaction of {rows} rows, {}", rig.engine.name());
    Ok(figures(&name, Goal::None, &[taken]))
}

/// Numbers from the digits of a decimal number, which both engines can do.
fn insert(rows: u32) -> String {
    let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL \
                  SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL \
                  SELECT 8 UNION ALL SELECT 9)";
    let places = rows.to_string().len();
    let tables: Vec<String> = (0..places)
        .map(|place| format!("{digits} t{place}"))
        .collect();
    let terms: Vec<String> = (0..places)
        .map(|place| {
            format!(
                "t{place}.d * {}",
                10_u64.pow(u32::try_from(place).unwrap_or(0))
            )
        })
        .collect();
    let number = terms.join(" + ");
    format!(
        "INSERT INTO orders.large SELECT n, n * 7919, CONCAT('row ', n, ' of a large transaction') \
         FROM (SELECT {number} AS n FROM {}) AS numbers WHERE n < {rows}",
        tables.join(", ")
    )
}
