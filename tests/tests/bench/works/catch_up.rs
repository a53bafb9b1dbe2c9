//! Catching up: both targets are stopped, the source is written to, then each in turn is started.

use anyhow::{Context as _, Result};
use harness::load::LoadSpec;
use harness::report;
use mysql_async::prelude::Queryable as _;

use crate::figure::{Figure, Goal, Measured};
use crate::options::Options;
use crate::rig::{Rig, Side, Taken, connect};

/// Rows in one transaction of the bulk inserts.
pub const ROWS: u32 = 100;
/// Transactions of the bulk inserts.
const BULK: u32 = 5_000;
/// Transactions of sysbench.
const OLTP: u32 = 60_000;
/// Connections that write.
const WRITERS: u32 = 4;
/// Of the bulk rows: about 240 bytes each, and as many columns as a table of orders may have.
const COLUMNS: &str = "id BIGINT PRIMARY KEY, customer INT NOT NULL, state TINYINT NOT NULL, \
     amount DECIMAL(12,2) NOT NULL, made DATETIME(6) NOT NULL, changed TIMESTAMP(6) NOT NULL, \
     code CHAR(36) NOT NULL, note VARCHAR(200) NOT NULL";

/// Bulk inserts.
pub async fn bulk(rig: &mut Rig, options: &Options) -> Result<Vec<Figure>> {
    let transactions = options.scaled(BULK);
    let mut pairs = Vec::new();
    for round in 0..options.rounds {
        make_bulk_table(rig).await?;
        stop_both(rig, "bulk")?;
        write_bulk(rig, transactions).await?;
        pairs.push(both(rig, "bulk", round).await?);
    }
    let name = format!(
        "catch up, {} rows in transactions of {ROWS}, {}",
        transactions * ROWS,
        rig.engine.name()
    );
    Ok(figures(&name, Goal::TimesAsFast(1.5), &pairs))
}

/// sysbench's `oltp_write_only`.
pub async fn oltp(rig: &mut Rig, options: &Options) -> Result<Vec<Figure>> {
    let transactions = options.scaled(OLTP);
    let spec = LoadSpec {
        tables: 4,
        rows: 25_000,
        threads: WRITERS,
        rate: 0,
        seconds: 900,
        events: transactions,
        ..LoadSpec::USUAL
    };
    prepare(rig, spec).await?;
    let mut all = Vec::new();
    for detect in ["BeforeImage", "Key"] {
        rig.link.detect(detect)?;
        let mut pairs = Vec::new();
        for round in 0..options.rounds {
            rig.both_follow().await?;
            stop_both(rig, "oltp")?;
            report::step(
                &format!("sysbench commits {transactions} at the source"),
                || rig.world().run_load("sh", spec),
            )?;
            rig.mark()?;
            pairs.push(both(rig, "oltp", round).await?);
        }
        let name = format!(
            "catch up, {transactions} oltp_write_only, Transactional, detect: {detect}, {}",
            rig.engine.name()
        );
        all.extend(figures(&name, Goal::TimesAsFast(1.5), &pairs));
    }
    Ok(all)
}

/// sysbench's tables, on all three servers.
pub async fn prepare(rig: &mut Rig, spec: LoadSpec) -> Result<()> {
    let drop: Vec<String> = (1..=spec.tables)
        .map(|number| format!("DROP TABLE IF EXISTS orders.sbtest{number}"))
        .collect();
    rig.source()?.root(&drop.join(";"))?;
    report::step("sysbench makes its tables at the source", || {
        rig.world().prepare_load("sh", spec)
    })?;
    rig.both_follow().await
}

/// Stops both sides.
pub fn stop_both(rig: &mut Rig, work: &str) -> Result<()> {
    rig.stop_side(Side::Ours, work)?;
    rig.stop_side(Side::Theirs, work)
}

/// Times both sides in the round's order, checks what they hold, and starts both again. The
/// source has its mark already.
pub async fn both(rig: &mut Rig, work: &str, round: u32) -> Result<(Taken, Taken)> {
    let mut both = (Taken::default(), Taken::default());
    for side in Side::in_turn(round) {
        let taken = rig.catch_up(side, work).await?;
        report::note(&format!(
            "{work}: {side:?} took {:.2} s, and {:.2} s of processors",
            taken.clock, taken.processor
        ));
        match side {
            Side::Ours => both.0 = taken,
            Side::Theirs => both.1 = taken,
        }
    }
    rig.check_equal()?;
    for side in [Side::Ours, Side::Theirs] {
        rig.start_side(side)?;
    }
    rig.both_follow().await?;
    Ok(both)
}

/// The figures of a work: on the clock, with the goal, and of processors.
pub fn figures(name: &str, goal: Goal, rounds: &[(Taken, Taken)]) -> Vec<Figure> {
    let pairs = |of: &dyn Fn(Taken) -> f64| {
        let pairs = rounds.iter().map(|(ours, theirs)| (of(*ours), of(*theirs)));
        Measured::Pairs(pairs.collect())
    };
    vec![
        Figure {
            name: name.to_owned(),
            unit: "s",
            measured: pairs(&|taken| taken.clock),
            goal,
        },
        Figure {
            name: format!("{name}, processor time"),
            unit: "s",
            measured: pairs(&|taken| taken.processor),
            goal: Goal::None,
        },
    ]
}

/// An empty table for bulk rows, on all three servers.
pub async fn make_bulk_table(rig: &mut Rig) -> Result<()> {
    rig.source()?.root(&format!(
        "DROP TABLE IF EXISTS orders.bulk; CREATE TABLE orders.bulk ({COLUMNS})"
    ))?;
    rig.both_follow().await
}

/// Writes the bulk rows at the source, and the mark.
pub async fn write_bulk(rig: &mut Rig, transactions: u32) -> Result<()> {
    let since = std::time::Instant::now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut conn = connect(rig.source()?).await?;
        writers.push(tokio::spawn(async move {
            for number in (writer..transactions).step_by(WRITERS as usize) {
                conn.query_drop(bulk_insert(number)).await?;
            }
            conn.disconnect().await
        }));
    }
    for writer in writers {
        writer.await?.context("writing bulk rows")?;
    }
    rig.mark()?;
    let what = format!("{} rows at the source", transactions * ROWS);
    report::line(since.elapsed(), &what);
    Ok(())
}

/// One transaction's statement.
fn bulk_insert(number: u32) -> String {
    let rows: Vec<String> = (0..ROWS)
        .map(|row| {
            let id = u64::from(number) * u64::from(ROWS) + u64::from(row);
            // Spread over all values, so that nothing is easier to compress than real rows are.
            let noise = (id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let more = noise.wrapping_mul(0xbf58_476d_1ce4_e5b9);
            format!(
                "({id},{},{},{}.{:02},NOW(6),NOW(6),'{noise:016x}-{more:016x}','{more:x}{}{noise:x}')",
                noise % 100_000,
                noise % 7,
                more % 1_000_000,
                more % 100,
                "delivered to the usual place, to be paid within thirty days. "
                    .repeat(2)
                    .trim_end(),
            )
        })
        .collect();
    format!("INSERT INTO orders.bulk VALUES {}", rows.join(","))
}
