//! A writer that is killed between any two steps neither loses nor repeats.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use change::{RowChange, TableChange};

use super::rig::{Rig, on_each};
use super::script::{changes, delete, insert, row, table, update};

/// Numbers that look random and are the same each time (Knuth's constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % u64::try_from(limit).unwrap_or(1)).unwrap_or(0)
    }
}

/// Rows of `orders.t` by id.
type Rows = BTreeMap<i64, i64>;

/// One random change that is possible with these rows.
fn step(numbers: &mut Numbers, rows: &mut Rows) -> RowChange {
    let (id, other, v) = (numbers.below(40), numbers.below(40), numbers.below(1000));
    match rows.get(&id).copied() {
        None => {
            rows.insert(id, v);
            insert(id, v, Some(id))
        }
        Some(held) if numbers.below(3) == 0 => {
            rows.remove(&id);
            delete(row(id, held, Some(id)))
        }
        // A key that changes, together with its unique value.
        Some(held) if !rows.contains_key(&other) => {
            rows.remove(&id);
            rows.insert(other, v);
            update(row(id, held, Some(id)), row(other, v, Some(other)))
        }
        Some(held) => {
            rows.insert(id, v);
            update(row(id, held, Some(id)), row(id, v, Some(id)))
        }
    }
}

fn transaction(numbers: &mut Numbers, rows: &mut Rows, most: i64) -> TableChange {
    let steps = numbers.below(most) + 1;
    changes(&table(), (0..steps).map(|_| step(numbers, rows)).collect())
}

/// A stream of ordinary transactions, long ones in parts, and DDL. Returns what the table must
/// hold after it, and how many changes that took.
fn write(rig: &Rig<'_>, numbers: &mut Numbers) -> (Rows, u64) {
    let mut rows = Rows::new();
    let mut count = 0;
    let mut counted = |change: TableChange| {
        count += change.rows.len() as u64;
        change
    };
    for round in 0..60 {
        match round % 12 {
            5 => {
                let parts = (0..4).map(|_| vec![counted(transaction(numbers, &mut rows, 30))]);
                rig.source.commit_parts(parts.collect());
            }
            9 => {
                let name = format!("made_{round}");
                let statement = format!("CREATE TABLE {name} (id INT PRIMARY KEY)");
                rig.source.ddl("CREATE TABLE", &name, &statement);
            }
            11 => {
                // It would fail if it were run twice.
                let name = format!("made_{}", round - 2);
                let statement = format!("ALTER TABLE {name} ADD COLUMN added_{round} INT");
                rig.source.ddl("ALTER TABLE", &name, &statement);
            }
            _ => {
                rig.source
                    .commit(vec![counted(transaction(numbers, &mut rows, 8))]);
            }
        }
    }
    // Ten statements of DDL.
    (rows, count + 10)
}

async fn check(rig: &Rig<'_>, rows: &Rows, count: u64) -> Result<()> {
    let writer = rig.start()?;
    rig.wait_through(&writer).await?;
    let expected: Vec<Vec<String>> = rows
        .iter()
        .map(|(id, v)| vec![id.to_string(), v.to_string(), id.to_string()])
        .collect();
    ensure!(
        rig.rows()? == expected,
        "the rows differ: {:?}",
        rig.rows()?
    );
    let made = rig.target.root(
        "SELECT table_name, column_name FROM information_schema.columns \
         WHERE table_schema = 'orders' AND table_name LIKE 'made%' ORDER BY 1, ordinal_position",
    )?;
    ensure!(made.len() == 10, "the DDL differs: {made:?}");
    let ledger = writer.status().await?.ledger;
    ensure!(
        ledger.applied == count,
        "the ledger says {ledger:?}, {count} were made"
    );
    ensure!(ledger.read == ledger.applied + ledger.filtered + ledger.conflicts + ledger.in_flight);
    let intents = rig.target.root("SELECT gtid FROM multiactive.ddl")?;
    ensure!(intents.is_empty(), "intents are left: {intents:?}");
    writer.terminate()
}

#[test]
fn a_crash_at_any_point_neither_loses_nor_repeats() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let mut numbers = Numbers(7);
        let (rows, count) = write(rig, &mut numbers);
        let mut crashes = 0;
        for point in [
            "before-commit",
            "after-commit",
            "after-part",
            "before-ddl",
            "after-ddl",
        ] {
            for times in [1, 2] {
                let mut writer = rig.start_with(&["--crash-at", &format!("{point}:{times}")])?;
                super::rig::until("it crashes or is through", async || {
                    Ok(!writer.is_running()? || rig.is_through()?)
                })
                .await
                .with_context(|| writer.describe())?;
                crashes += usize::from(!writer.is_running()?);
            }
        }
        ensure!(crashes >= 8, "only {crashes} crashes were reached");
        check(rig, &rows, count).await
    })
}

#[test]
fn kill_9_under_load_neither_loses_nor_repeats() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        let mut numbers = Numbers(11);
        let (rows, count) = write(rig, &mut numbers);
        // Small target transactions, so that there is much to kill.
        rig.settings(|link| link["apply"]["maxRows"] = 1.into())?;
        for _ in 0..12 {
            let before = rig.applied()?;
            let writer = rig.start()?;
            super::rig::until("it gets on", async || {
                Ok(rig.applied()? != before || rig.is_through()?)
            })
            .await
            .with_context(|| writer.describe())?;
            writer.kill()?;
        }
        check(rig, &rows, count).await
    })
}

#[test]
fn a_second_writer_waits_and_a_stolen_checkpoint_stops_the_first() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let first = rig.start()?;
        rig.wait_through(&first).await?;
        let second = rig.start()?;
        super::rig::until("the second one waits", async || {
            Ok(second.status().await?.error.contains("another writer"))
        })
        .await
        .with_context(|| second.describe())?;
        ensure!(
            second.get("/readyz").await? == "ok\n",
            "a waiting writer must count as ready"
        );
        rig.source
            .commit(vec![changes(&table(), vec![insert(2, 1, None)])]);
        rig.wait_through(&first).await?;
        first.kill()?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(3, 1, None)])]);
        rig.wait_through(&second).await?;
        // Somebody else puts another name into the row: nothing more is applied over it.
        let stolen =
            "UPDATE multiactive.applied SET ledger = JSON_SET(ledger, '$.serial', 1000000)";
        rig.target.root(stolen)?;
        rig.source
            .commit(vec![changes(&table(), vec![insert(4, 1, None)])]);
        rig.wait_through(&second).await?;
        let serial = "SELECT JSON_EXTRACT(ledger, '$.serial') > 1000000 FROM multiactive.applied";
        ensure!(
            rig.target.root(serial)?[0][0] == "1",
            "the row was written from the old state"
        );
        let metrics = second.get("/metrics").await?;
        let noticed = metrics.lines().any(|line| {
            line.starts_with("multiactive_writer_retries_total{category=\"checkpoint\"} ")
                && !line.ends_with(" 0")
        });
        ensure!(noticed, "the stolen checkpoint was not noticed:\n{metrics}");
        ensure!(rig.rows()?.len() == 4);
        Ok(())
    })
}

#[test]
fn sigterm_ends_in_good_order() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let mut writer = rig.start()?;
        rig.wait_through(&writer).await?;
        writer.terminate()?;
        ensure!(
            !writer.ended().await?,
            "it ended with an error: {}",
            writer.describe()
        );
        let locks =
            "SELECT IS_FREE_LOCK(CONCAT('multiactive.', LEFT(SHA2('suite/apply', 256), 40)))";
        ensure!(
            rig.target.root(locks)?[0][0] == "1",
            "the lock was not given back"
        );
        Ok(())
    })
}
