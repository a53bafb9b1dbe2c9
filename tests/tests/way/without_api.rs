//! The Kubernetes API server is gone, which is when people need `mactl` most: writes go on, the
//! primary moves on request and by itself, all by way of etcd alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::product::{Product, UNIT};
use tests::{LIMIT, eventually};

use super::{done, epoch, equal, refused, routed};

const API_SERVER: &str = "kube-apiserver";
/// Longer than two lease times.
const WITHOUT_API: Duration = Duration::from_secs(14);

/// The primary is `sh` before and after.
pub fn everything_goes_on(
    world: &World,
    product: &Product<'_>,
    sh: &Database,
    bj: &Database,
) -> Result<()> {
    let before = epoch(product)?;
    world.kill(API_SERVER)?;
    let went_on = without_it(world, product, sh, bj);
    // Whatever came of it, what follows needs it.
    world.start(API_SERVER)?;
    went_on?;
    let unit = format!("unit/{UNIT}");
    eventually("the API server tells what happened without it", || {
        let primary = product.field(&unit, ".status.primary")?;
        ensure!(
            primary == "sh" && epoch(product)? == before + 2,
            "{primary}"
        );
        Ok(())
    })?;
    product.wait(&unit, "condition=Ready", LIMIT)?;
    product.wait(&unit, "condition=FailoverReady", LIMIT)?;
    routed(product, sh)?;
    equal(sh, bj).context("after the API server has come back")
}

fn without_it(world: &World, product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    let endpoints = format!("--etcd-endpoints={}", world.info().etcd.join(","));
    let refers = product.mactl_output(&["status", UNIT])?;
    let said = String::from_utf8_lossy(&refers.stderr).into_owned();
    ensure!(
        !refers.status.success() && said.contains("--etcd-endpoints"),
        "{said}"
    );
    let lost = Instant::now();
    eventually("writes are taken without the API server", || {
        sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id = 7")
            .map_err(|error| harness::shell::Final(format!("a write was refused: {error:#}")))?;
        ensure!(lost.elapsed() > WITHOUT_API, "not yet");
        Ok(())
    })?;
    let said = done(product, &["status", UNIT, &endpoints])?;
    ensure!(said.contains("sh") && said.contains("bj"), "{said}");
    done(
        product,
        &["switchover", UNIT, "--to", "bj", "--yes", &endpoints],
    )?;
    bj.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 100")?;
    refused(sh)?;

    world.kill(&harness::database::part("bj"))?;
    eventually("sh takes writes", || {
        sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 100")
            .map(drop)
    })?;
    world.start(&harness::database::part("bj"))?;
    world.wait_for_database("bj")?;
    refused(bj).context("right after it has come back")?;
    equal(sh, bj).context("after it has come back")?;
    let history = done(product, &["history", UNIT, &endpoints])?;
    ensure!(history.contains("Failover"), "{history}");
    let said = done(product, &["ack", UNIT, "--yes", &endpoints])?;
    ensure!(said.contains("is acknowledged"), "{said}");
    Ok(())
}
