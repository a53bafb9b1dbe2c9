//! From commit to visible, while sysbench writes at a steady rate.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::load::LoadSpec;
use harness::report;
use mysql_async::prelude::Queryable as _;

use super::catch_up::{prepare, stop_both};
use crate::figure::{Figure, Goal, Measured};
use crate::options::Options;
use crate::rig::{Rig, Side, connect};

/// Transactions a second.
const RATE: u32 = 500;
/// How long each side is looked at in one round.
const SECONDS: u32 = 20;
/// Between two probes.
const PAUSE: Duration = Duration::from_millis(13);
/// A probe that is not visible by then has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// Both sides, one at a time.
pub async fn measure(rig: &mut Rig, options: &Options) -> Result<Vec<Figure>> {
    let seconds = options.scaled(SECONDS).max(5);
    let spec = LoadSpec {
        tables: 4,
        rows: 25_000,
        threads: 4,
        rate: RATE,
        seconds: seconds + 120,
        events: 0,
        ..LoadSpec::USUAL
    };
    prepare(rig, spec).await?;
    rig.source()?.root(
        "DROP TABLE IF EXISTS orders.probe; CREATE TABLE orders.probe (id BIGINT PRIMARY KEY)",
    )?;
    let (mut middle, mut high) = (Vec::new(), Vec::new());
    let mut probes = 0;
    let mut busy = false;
    for round in 0..options.rounds {
        let mut both = [(0.0, 0.0); 2];
        rig.both_follow().await?;
        stop_both(rig, "lag")?;
        for side in Side::in_turn(round) {
            rig.start_side(side)?;
            rig.mark()?;
            rig.wait_marked(side).await?;
            let Some(lags) = probe(rig, side, spec, seconds, &mut probes).await? else {
                busy = true;
                rig.mark()?;
                rig.wait_marked(side).await?;
                rig.stop_side(side, "lag")?;
                continue;
            };
            let found = (percentile(&lags, 50), percentile(&lags, 99));
            report::note(&format!(
                "lag: {side:?} p50 {:.2} ms, p99 {:.2} ms of {} probes",
                found.0,
                found.1,
                lags.len()
            ));
            both[usize::from(side == Side::Theirs)] = found;
            rig.mark()?;
            rig.wait_marked(side).await?;
            rig.stop_side(side, "lag")?;
        }
        rig.start_side(Side::Ours)?;
        rig.start_side(Side::Theirs)?;
        rig.both_follow().await?;
        rig.check_equal()?;
        middle.push((both[0].0, both[1].0));
        high.push((both[0].1, both[1].1));
    }
    let figure = |what: &str, pairs| Figure {
        name: format!(
            "commit to visible at {RATE} oltp_write_only a second, {what}, {}",
            rig.engine.name()
        ),
        unit: "ms",
        measured: if busy {
            Measured::Refused("the machine was too busy for the rate")
        } else {
            Measured::Pairs(pairs)
        },
        goal: Goal::RatioAtMost(2.5),
    };
    Ok(vec![figure("p50", middle), figure("p99", high)])
}

/// Milliseconds from the answer to a commit at the source until its row is visible at a target, in
/// ascending order. They hold one question's way to the target and back. `None` if sysbench did not
/// reach the rate.
async fn probe(
    rig: &Rig,
    side: Side,
    spec: LoadSpec,
    seconds: u32,
    probes: &mut u64,
) -> Result<Option<Vec<f64>>> {
    let mut source = connect(rig.source()?).await?;
    let mut target = connect(rig.target(side)?).await?;
    let load = rig.world().start_load("sh", "sh", spec)?;
    let warm = Instant::now() + Duration::from_secs(2);
    let until = warm + Duration::from_secs(seconds.into());
    let mut lags = Vec::new();
    while Instant::now() < until {
        *probes += 1;
        source
            .query_drop(format!("INSERT INTO orders.probe VALUES ({probes})"))
            .await?;
        let committed = Instant::now();
        let look = format!("SELECT id FROM orders.probe WHERE id = {probes}");
        while target.query_first::<u64, _>(&look).await?.is_none() {
            ensure!(
                committed.elapsed() < LIMIT,
                "a row is not visible at the target of {side:?} after {LIMIT:?}"
            );
        }
        if committed >= warm {
            lags.push(committed.elapsed().as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let done = load.stop()?;
    let rate = done.transactions / f64::from(done.seconds.max(1));
    if rate < f64::from(RATE) * 0.9 {
        report::note(&format!(
            "sysbench committed {rate:.0} transactions a second, not {RATE}"
        ));
        return Ok(None);
    }
    source.disconnect().await?;
    target.disconnect().await?;
    lags.sort_by(f64::total_cmp);
    ensure!(lags.len() >= 100, "only {} probes", lags.len());
    Ok(Some(lags))
}

/// The smallest value that so many of a hundred do not exceed.
fn percentile(ascending: &[f64], percent: usize) -> f64 {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending[rank - 1]
}
