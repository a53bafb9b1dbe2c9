//! Digests that the engines compute agree on every type that is compared by them, so that equal
//! tables cost one query each.

use anyhow::{Result, ensure};

use super::plants::values;
use super::rig::{Rig, between_all};

async fn digests(rig: &Rig<'_>) -> Result<()> {
    let (settings, tables, rows) = values();
    rig.make(
        &format!("{settings}\n{tables}"),
        &format!("{settings}\n{rows}"),
    )?;
    let link = rig.link().await?;
    // The general log of the target tells how its rows were read.
    rig.target
        .root("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = 1")?;
    let status = rig.verify("suite/digests").await?;
    rig.target.root("SET GLOBAL general_log = 0")?;
    let digested: Vec<&String> = status
        .report
        .tables
        .iter()
        .filter(|(_, table)| table.digests)
        .map(|(name, _)| name)
        .collect();
    ensure!(digested.len() >= 13, "{digested:?}");
    let mut read = Vec::new();
    for name in digested {
        let table = name.trim_start_matches("orders.").replace('`', "``");
        let sql = format!(
            "SELECT COUNT(*) FROM mysql.general_log \
             WHERE CONVERT(argument USING utf8mb4) LIKE 'SELECT %' \
             AND CONVERT(argument USING utf8mb4) LIKE '%FROM `orders`.`{}`%' \
             AND CONVERT(argument USING utf8mb4) NOT LIKE '%SHA2%'",
            table.replace('\'', "''").replace('_', "\\_")
        );
        if rig.target.root(&sql)?.concat() != ["0"] {
            read.push(name.clone());
        }
    }
    ensure!(read.is_empty(), "digests of equal tables differ: {read:?}");
    link.check().await
}

#[test]
fn digests_of_equal_tables_are_equal() -> Result<()> {
    between_all("digests", digests)
}
