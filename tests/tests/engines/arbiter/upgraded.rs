//! Arbiters find our schema as an earlier release made it.

use std::time::Duration;

use anyhow::Result;

use super::life::protected;
use super::rig::{DATA, Rig, until, with_world};

/// What came later, of which promotions and links write.
const LATER: [(&str, &str); 5] = [
    ("epoch", "follows"),
    ("epoch", "needs"),
    ("undone", "source"),
    ("undone", "epoch"),
    ("undone", "ended_by"),
];

/// They make it theirs as soon as preflight has passed, with the session that they have looked by
/// before: nobody has to restart them, and the Unit is taken up again.
#[test]
fn what_an_earlier_release_made_is_brought_up_to_date() -> Result<()> {
    with_world(&async |world| {
        let mut rig = Rig::new(world, "upgraded").await?;
        let epoch = protected(&mut rig).await?;
        rig.written("sh", Duration::from_secs(10)).await?;
        rig.stop_arbiters()?;
        for idc in DATA {
            let database = world.database(idc)?;
            for (table, column) in LATER {
                database.root(&format!(
                    "SET SESSION sql_log_bin = 0; ALTER TABLE multiactive.{table} DROP COLUMN {column}"
                ))?;
            }
        }
        rig.start_arbiters()?;
        for idc in DATA {
            let database = world.database(idc)?;
            let what = format!("{idc} has what came later");
            until(&what, Duration::from_secs(20), async || {
                let there = LATER.iter().all(|(table, column)| {
                    let read = format!("SELECT COUNT({column}) FROM multiactive.{table}");
                    database.root(&read).is_ok()
                });
                Ok(there.then_some(()))
            })
            .await?;
        }
        rig.primary("sh", epoch - 1, Duration::from_secs(60))
            .await?;
        rig.written("sh", Duration::from_secs(10)).await?;
        rig.stop_arbiters()
    })
}
