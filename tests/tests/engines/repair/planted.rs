//! What was planted behind the link's back is found, mended and taken back, and nothing else.

use anyhow::{Context as _, Result, ensure};
use harness::Engine;
use model::{RepairPhase, RepairStatus, TableReport};
use serde_json::json;

use super::plants::{
    DIFFERING, DIFFERING_MYSQL, EXTRA, MINUS_ZERO, MISSING, MORE, MORE_ROWS, SETTINGS, values,
};
use super::rig::{Link, Rig, between_all, ensure_equal};

/// How many rows of each kind were planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Planted {
    missing: u64,
    extra: u64,
    differing: u64,
}

impl Planted {
    fn all(self) -> u64 {
        self.missing + self.extra + self.differing
    }
}

fn plant(rig: &Rig<'_>) -> Result<Planted> {
    let each = |statements: &[&str]| -> Result<u64> {
        for sql in statements {
            let count = rig.plant(SETTINGS, sql)?;
            ensure!(count == 1, "{count} rows: {sql}");
        }
        Ok(statements.len() as u64)
    };
    let missing = each(MISSING)?;
    let extra = each(EXTRA)?;
    let mut differing = each(DIFFERING)?;
    if rig.target.engine == Engine::MySql {
        differing += each(DIFFERING_MYSQL)?;
    }
    Ok(Planted {
        missing,
        extra,
        differing,
    })
}

/// What a run says, which must have judged every row.
fn total(status: &RepairStatus) -> Result<TableReport> {
    let total = status.report.total();
    ensure!(
        status.phase == RepairPhase::Done && total.unjudged == 0 && total.failed == 0,
        "{status:#?}"
    );
    Ok(total)
}

fn ensure_found(found: &TableReport, planted: Planted) -> Result<()> {
    let found = Planted {
        missing: found.missing,
        extra: found.extra,
        differing: found.differing,
    };
    ensure!(found == planted, "found {found:?}, planted {planted:?}");
    Ok(())
}

async fn prepare(rig: &Rig<'_>) -> Result<Link> {
    let (settings, tables, rows) = values();
    let without = match rig.target.engine {
        Engine::MySql => "",
        Engine::MariaDb => MINUS_ZERO,
    };
    rig.make(
        &format!("{settings}\n{tables}\n{MORE}"),
        &format!("{settings}\n{rows}\n{MORE_ROWS}\n{without}"),
    )?;
    rig.link().await
}

async fn every_kind_and_type(rig: &Rig<'_>) -> Result<()> {
    let link = prepare(rig).await?;
    let _heartbeats = rig.heartbeats().await?;
    let base = Rig::checksums(rig.target)?;
    let clean = rig.verify("suite/clean").await?;
    let none = total(&clean)?;
    ensure!(
        (none.missing, none.extra, none.differing) == (0, 0, 0),
        "{clean:#?}"
    );
    ensure!(none.rows > 250, "{} rows", none.rows);

    let planted = plant(rig)?;
    let spoilt = Rig::checksums(rig.target)?;
    let born = rig.born_at_target()?;

    let found = rig.verify("suite/find").await?;
    ensure_found(&total(&found)?, planted).with_context(|| format!("{found:#?}"))?;
    ensure!(rig.recorded("suite/find", "Found")? == planted.all());
    let dry = rig
        .run("suite/dry", "Repair", &json!({"dryRun": true}))
        .await?;
    ensure_found(&total(&dry)?, planted)?;
    ensure!(rig.recorded("suite/dry", "Planned")? == planted.all());
    let told = &dry.report.statements;
    ensure!(
        told.len() == model::MOST_STATEMENTS && told.iter().all(|sql| sql.contains("`orders`.")),
        "{told:#?}"
    );
    ensure!(found.report.statements.is_empty(), "{found:#?}");
    let held = rig
        .run("suite/hold", "Repair", &json!({"winner": "Hold"}))
        .await?;
    ensure_found(&total(&held)?, planted)?;
    ensure!(rig.recorded("suite/hold", "Held")? == planted.all());
    ensure!(
        Rig::checksums(rig.target)? == spoilt,
        "something was written"
    );

    let mended = rig.run("suite/mend", "Repair", &json!({})).await?;
    let report = total(&mended)?;
    ensure_found(&report, planted)?;
    ensure!(report.repaired == planted.all(), "{mended:#?}");
    ensure!(rig.recorded("suite/mend", "Repaired")? == planted.all());
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    // What was written is marked as the source's, so no link carries it on.
    ensure!(rig.born_at_target()? == born, "it was born at the target");
    let after = total(&rig.verify("suite/after").await?)?;
    ensure!(
        (after.missing, after.extra, after.differing) == (0, 0, 0),
        "{after:?}"
    );

    let undone = rig.run("suite/mend", "Undo", &json!({})).await?;
    ensure!(undone.phase == RepairPhase::Done, "{undone:#?}");
    ensure!(undone.report.total().undone == planted.all(), "{undone:#?}");
    ensure!(rig.recorded("suite/mend", "Undone")? == planted.all());
    ensure!(Rig::checksums(rig.target)? == spoilt, "not as it had been");
    rig.run("suite/again", "Repair", &json!({})).await?;
    ensure!(Rig::checksums(rig.target)? == base, "not as it was");
    // The link never met a row that it did not expect.
    link.check().await
}

#[test]
fn every_kind_in_every_type_is_found_and_mended() -> Result<()> {
    between_all("planted", every_kind_and_type)
}

/// A row that somebody has changed since is let be.
async fn undo_lets_be(rig: &Rig<'_>) -> Result<()> {
    rig.make(
        "USE orders; CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "USE orders; INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
    )?;
    let link = rig.link().await?;
    rig.plant("USE orders;", "UPDATE t SET v = 9 WHERE id < 3")?;
    let mended = rig.run("suite/mend", "Repair", &json!({})).await?;
    ensure!(mended.report.total().repaired == 2, "{mended:#?}");
    rig.plant("USE orders;", "UPDATE t SET v = 7 WHERE id = 1")?;
    let undone = rig.run("suite/mend", "Undo", &json!({})).await?;
    ensure!(undone.phase == RepairPhase::Incomplete, "{undone:#?}");
    let rows = rig.target.root("SELECT id, v FROM orders.t ORDER BY id")?;
    ensure!(rows == [["1", "7"], ["2", "9"], ["3", "3"]], "{rows:?}");
    let again = rig.run("suite/mend-2", "Repair", &json!({})).await?;
    ensure!(again.report.total().repaired == 2, "{again:#?}");
    ensure_equal(&rig.verify("suite/end").await?)?;
    link.check().await
}

#[test]
fn what_has_changed_since_is_not_taken_back() -> Result<()> {
    super::rig::between("undo", Engine::MySql, Engine::MariaDb, &undo_lets_be)
}
