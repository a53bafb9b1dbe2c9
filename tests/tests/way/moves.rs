//! Every way in which the primary moves, and those in which it must not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::database::Database;
use harness::product::{Product, UNIT};
use tests::{LIMIT, eventually};

use super::{LOAD, done, epoch, equal, refused, routed};

/// Longer than three lease times.
const WITHOUT_ETCD: Duration = Duration::from_secs(20);

/// A planned switchover under load, and what is refused beforehand.
pub fn moves(world: &World, product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    let unknown = product.mactl_output(&["switchover", UNIT, "--to", "nowhere", "--yes"])?;
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(
        !unknown.status.success() && text.contains("nowhere"),
        "{text}"
    );
    ensure!(
        text.contains("bj") && text.contains("sh"),
        "the choices are not named: {text}"
    );

    let load = world.start_load("witness", "sh", LOAD)?;
    eventually("sysbench writes", || {
        ensure!(load.report()?.seconds >= 2, "not yet");
        Ok(())
    })?;
    done(product, &["switchover", UNIT, "--to", "bj", "--yes"])?;
    load.stop()?;
    refused(sh)?;
    bj.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 10")?;
    routed(product, bj)?;
    equal(bj, sh).context("after the switchover")?;
    ensure!(epoch(product)? == 2, "epoch {}", epoch(product)?);
    Ok(())
}

/// The primary's database dies, the Unit goes on elsewhere, the dead one comes back as a replica.
pub fn fails_over(
    world: &World,
    product: &Product<'_>,
    sh: &Database,
    bj: &Database,
) -> Result<()> {
    world.kill(&harness::database::part("bj"))?;
    done(product, &["failover", UNIT, "--to", "sh", "--yes"])?;
    sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 100")?;
    routed(product, sh)?;
    world.start(&harness::database::part("bj"))?;
    world.wait_for_database("bj")?;
    refused(bj).context("right after it has come back")?;
    equal(sh, bj).context("after it has come back")?;
    product.wait(&format!("unit/{UNIT}"), "condition=Ready", LIMIT)?;
    let history = done(product, &["history", UNIT])?;
    ensure!(
        history.contains("Failover") && history.contains("Switchover"),
        "{history}"
    );
    Ok(())
}

/// A restart of the holder's arbiter changes no epoch and refuses no write.
pub fn arbiter_restarts(product: &Product<'_>, sh: &Database) -> Result<()> {
    let before = epoch(product)?;
    let ready = |product: &Product<'_>| -> Result<BTreeSet<String>> {
        let names = product.kubectl(&[
            "get",
            "pods",
            "--namespace=multiactive-system",
            "--selector=multiactive.dev/idc=sh",
            "--output=jsonpath={range .items[?(@.status.containerStatuses[0].ready==true)]}\
             {.metadata.name}{\"\\n\"}{end}",
        ])?;
        Ok(names.lines().map(ToOwned::to_owned).collect())
    };
    let old = ready(product)?;
    ensure!(
        old.len() == 2,
        "an active and a standby arbiter of sh, not {old:?}"
    );
    product.kubectl(&[
        "delete",
        "pod",
        "--namespace=multiactive-system",
        "--selector=multiactive.dev/idc=sh",
        "--wait=false",
    ])?;
    eventually(
        "two other arbiter pods are ready, and writes are taken meanwhile",
        || {
            sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id = 7")
                .map_err(|error| {
                    harness::shell::Final(format!("a write was refused: {error:#}"))
                })?;
            let new = ready(product)?;
            ensure!(new.len() == 2 && new.is_disjoint(&old), "{new:?}");
            Ok(())
        },
    )?;
    ensure!(epoch(product)? == before, "the restart has made an epoch");
    Ok(())
}

/// Nobody asks, and the Unit goes on elsewhere all the same; not twice before somebody has looked.
pub fn fails_over_by_itself(
    world: &World,
    product: &Product<'_>,
    sh: &Database,
    bj: &Database,
) -> Result<()> {
    let unit = format!("unit/{UNIT}");
    product.wait(&unit, "condition=FailoverReady", LIMIT)?;
    world.kill(&harness::database::part("sh"))?;
    eventually("bj takes writes", || {
        bj.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 100")
            .map(drop)
    })?;
    routed(product, bj)?;
    world.start(&harness::database::part("sh"))?;
    world.wait_for_database("sh")?;
    refused(sh).context("right after it has come back")?;
    equal(bj, sh).context("after it has come back")?;
    eventually("another failover waits for somebody to look", || {
        let reason = product.field(
            &unit,
            ".status.conditions[?(@.type==\"FailoverReady\")].reason",
        )?;
        ensure!(reason == "CoolingDown", "{reason}");
        Ok(())
    })?;
    let said = done(product, &["ack", UNIT, "--yes"])?;
    ensure!(said.contains("is acknowledged in epoch 4"), "{said}");
    product.wait(&unit, "condition=FailoverReady", LIMIT)?;
    let said = done(product, &["ack", UNIT])?;
    ensure!(said.contains("nothing to acknowledge"), "{said}");
    Ok(())
}

/// Every primary of an IDC moves to another.
pub fn evacuates(product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    let evacuate = ["switchover", "--all", "--from", "bj", "--to", "sh", "--yes"];
    eventually("bj can be evacuated", || {
        let said = done(product, &evacuate)?;
        ensure!(said.contains("1 Unit moved"), "{said}");
        Ok(())
    })?;
    sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 100")?;
    refused(bj)?;
    routed(product, sh)?;
    let said = done(product, &evacuate)?;
    ensure!(said.contains("0 Units moved"), "{said}");
    Ok(())
}

/// etcd is gone as a whole, and applications notice nothing: the arbiters promise one another, from
/// pod to pod, not to take the Unit.
pub fn etcd_is_lost(world: &World, product: &Product<'_>, sh: &Database) -> Result<()> {
    let before = epoch(product)?;
    for idc in &world.info().idcs {
        world.kill(&harness::coordination::part(idc))?;
    }
    let lost = Instant::now();
    eventually(
        "writes are taken without etcd for three lease times",
        || {
            sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id = 7")
                .map_err(|error| {
                    harness::shell::Final(format!("a write was refused: {error:#}"))
                })?;
            ensure!(lost.elapsed() > WITHOUT_ETCD, "not yet");
            Ok(())
        },
    )?;
    eventually("the Unit says that etcd cannot be reached", || {
        let said = product.field(
            &format!("unit/{UNIT}"),
            ".status.conditions[?(@.type==\"Ready\")].reason",
        )?;
        ensure!(said == "EtcdUnreachable", "{said}");
        Ok(())
    })?;
    for idc in &world.info().idcs {
        world.start(&harness::coordination::part(idc))?;
    }
    world.wait_for_etcd()?;
    product.wait(&format!("unit/{UNIT}"), "condition=Ready", LIMIT)?;
    sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id = 7")?;
    ensure!(
        epoch(product)? == before,
        "the loss of etcd has made an epoch"
    );
    Ok(())
}
