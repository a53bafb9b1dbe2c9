//! From mistakes to a running Unit, through a switchover and a failover, to its deletion: one test,
//! since each step needs what the one before has made.

mod alone;
mod moves;
mod repairs;
mod routing;
mod without_api;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use harness::load::LoadSpec;
use harness::product::{self, NAMESPACE, Product, UNIT};
use harness::{Account, World};
use tests::{LIMIT, eventually};

/// The lease time that the chart sets.
const LEASE: Duration = Duration::from_secs(6);
const LOAD: LoadSpec = LoadSpec {
    tables: 2,
    rows: 5000,
    threads: 4,
    rate: 100,
    seconds: 600,
    events: 0,
    ..LoadSpec::USUAL
};

#[test]
fn a_unit_from_its_first_mistakes_to_its_end() {
    let world = tests::cluster().unwrap();
    let product = Product::of(&world);
    if let Err(error) = the_way(&world, &product) {
        panic!("{error:?}\n{}", product.describe());
    }
}

fn the_way(world: &World, product: &Product<'_>) -> Result<()> {
    let (sh, bj) = (world.database("sh")?, world.database("bj")?);
    // Rows from before the product was there: the member that has them becomes the first primary,
    // and they reach the other one by snapshot.
    sh.open()?;
    world.prepare_load("sh", LOAD)?;
    product.apply(&product::idcs(world))?;

    mistakes(world, product, sh, bj)?;
    product.wait(&format!("unit/{UNIT}"), "condition=Ready", LIMIT)?;
    ensure!(product.field("unit/orders", ".status.primary")? == "sh");
    equal(sh, bj).context("after the snapshot")?;
    refused(bj)?;
    routed(product, sh)?;

    let watched = routing::Watched::start(world)?;
    streams(world, sh, bj)?;
    repairs::repairs(product, sh, bj)?;
    moves::moves(world, product, sh, bj)?;
    moves::fails_over(world, product, sh, bj)?;
    moves::arbiter_restarts(product, sh)?;
    moves::fails_over_by_itself(world, product, sh, bj)?;
    moves::evacuates(product, sh, bj)?;
    let stale = watched.finish(|idc| Ok(world.database(idc.as_str())?.host.clone()))?;
    println!("-rw led to a server that was not open any more for {stale:?} at most");
    // The next primary may be open by then.
    ensure!(
        stale < LEASE,
        "-rw led to a server that was not open any more for {stale:?}"
    );
    without_api::everything_goes_on(world, product, sh, bj)?;
    moves::etcd_is_lost(world, product, sh)?;
    ends(world, product, sh, bj)
}

/// Each mistake is told with the object, the value and the fix, and starts nothing.
fn mistakes(world: &World, product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    // A Secret that is not there.
    product.apply(&product::secret("sh", &sh.user, &sh.password))?;
    product.apply(&product::unit(world))?;
    says(product, &["Secret shop/orders-bj"])?;
    // A password that is wrong.
    product.apply(&product::secret("bj", &bj.user, "not-the-password"))?;
    says(product, &["bj", &bj.host, "refuses the account", &bj.user])?;
    nothing_started(product)?;

    // Everything right but the databases: a table without key, and statement binlog. They are made
    // wrong before the Secret is mended, or the Unit would rightly start in between.
    sh.root("CREATE TABLE orders.keyless (a INT)")?;
    bj.root("SET GLOBAL binlog_format = 'STATEMENT'")?;
    product.apply(&product::secrets(world))?;
    says(product, &["orders.keyless", "ALTER TABLE"])?;
    says(product, &["STATEMENT", "SET GLOBAL binlog_format"])?;
    nothing_started(product)?;
    let preflight = product.mactl_output(&["preflight"])?;
    let text = String::from_utf8_lossy(&preflight.stdout).into_owned();
    ensure!(!preflight.status.success(), "preflight passed: {text}");
    ensure!(
        text.contains("orders.keyless") && text.contains("STATEMENT"),
        "preflight: {text}"
    );

    // A server that is not there.
    let elsewhere = product::unit(world).replacen("port: 3306", "port: 3999", 1);
    product.apply(&elsewhere)?;
    says(product, &[&format!("{}:3999", sh.host), "cannot reach"])?;
    nothing_started(product)?;

    sh.root("DROP TABLE orders.keyless")?;
    bj.root("SET GLOBAL binlog_format = 'ROW'")?;
    // Two servers that are each well, and do not go together.
    let number = |database: &Database| database.value(Account::Root, "SELECT @@server_id");
    let (theirs, ours) = (number(sh)?, number(bj)?);
    bj.root(&format!("SET GLOBAL server_id = {theirs}"))?;
    product.apply(&product::unit(world))?;
    says(product, &[&format!("both have server_id = {theirs}")])?;
    nothing_started(product)?;
    bj.root(&format!("SET GLOBAL server_id = {ours}"))?;
    Ok(())
}

/// Waits until the Unit's condition `PreflightPassed` is False and its message holds all the words.
fn says(product: &Product<'_>, words: &[&str]) -> Result<()> {
    eventually(&format!("PreflightPassed=False says {words:?}"), || {
        let condition = ".status.conditions[?(@.type==\"PreflightPassed\")]";
        let status = product.field("unit/orders", &format!("{condition}.status"))?;
        let message = product.field("unit/orders", &format!("{condition}.message"))?;
        ensure!(
            status == "False" && words.iter().all(|word| message.contains(word)),
            "{status}: {message}"
        );
        Ok(())
    })
}

fn nothing_started(product: &Product<'_>) -> Result<()> {
    let pods = product.kubectl(&["get", "deployments", "--output=name"])?;
    ensure!(pods.trim().is_empty(), "started half-way: {pods}");
    let primary = product.field("unit/orders", ".status.primary")?;
    ensure!(
        primary.is_empty(),
        "{primary} is primary before preflight has passed"
    );
    Ok(())
}

/// A write is refused for the reason that the server takes none. A server that is just being fenced
/// cuts sessions before it gives reasons, so it may take several tries; none of them may pass.
fn refused(replica: &Database) -> Result<()> {
    let tries = Instant::now();
    loop {
        match replica.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id = 1") {
            Ok(_) => bail!("{} takes writes and is not the primary", replica.idc),
            Err(error) => {
                let text = format!("{error:#}");
                if text.contains("ERROR 1290") {
                    return Ok(());
                }
                // Lost connections, and offline mode.
                let cut = ["ERROR 2013", "ERROR 2026", "ERROR 2006", "ERROR 3032"];
                ensure!(
                    cut.iter().any(|code| text.contains(code)) && tries.elapsed() < LIMIT,
                    "refused for another reason: {text}"
                );
            }
        }
    }
}

/// The Service that applications write to leads to this server and to no other.
fn routed(product: &Product<'_>, primary: &Database) -> Result<()> {
    eventually(&format!("{UNIT}-rw leads to {}", primary.idc), || {
        let slices = product.kubectl(&[
            "get",
            "endpointslices",
            &format!("--selector=kubernetes.io/service-name={UNIT}-rw"),
            "--output=jsonpath={.items[*].endpoints[*].addresses[*]}",
        ])?;
        ensure!(
            slices.trim() == primary.host,
            "{slices:?}, not {}",
            primary.host
        );
        Ok(())
    })
}

fn tables(database: &Database) -> Result<Vec<String>> {
    let rows = database.root(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'orders' \
         ORDER BY table_name",
    )?;
    Ok(rows.into_iter().flatten().collect())
}

/// Both sides come to hold the same tables and rows, counted and summed by SQL that is not ours.
fn equal(one: &Database, other: &Database) -> Result<()> {
    eventually(&format!("{} and {} are equal", one.idc, other.idc), || {
        let names = tables(one)?;
        ensure!(!names.is_empty(), "{} has no tables", one.idc);
        ensure!(names == tables(other)?, "tables differ: {names:?}");
        for table in names {
            let sums = (
                one.checksum("orders", &table)?,
                other.checksum("orders", &table)?,
            );
            ensure!(sums.0 == sums.1, "{table}: {sums:?}");
        }
        Ok(())
    })
}

/// DDL and rows made while the links run.
fn streams(world: &World, sh: &Database, bj: &Database) -> Result<()> {
    sh.app(
        "CREATE TABLE orders.items (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, \
         name VARCHAR(50), price DECIMAL(20,4), made DATETIME(3)); \
         INSERT INTO orders.items (name, price, made) VALUES \
         ('one', 1.5, '2026-01-02 03:04:05.678'), ('zwei Käse', -0.0001, NULL), (NULL, NULL, NULL); \
         ALTER TABLE orders.items ADD COLUMN note TEXT; \
         UPDATE orders.items SET note = CONCAT('note ', id), price = price * 2",
    )?;
    let load = world.start_load("witness", "sh", LOAD)?;
    eventually("sysbench has written for three seconds", || {
        ensure!(load.report()?.seconds >= 3, "not yet");
        Ok(())
    })?;
    let report = load.stop()?;
    ensure!(report.transactions > 50.0, "{report:?}");
    equal(sh, bj).context("after DDL and a load")
}

/// Runs `mactl`, which must succeed.
fn done(product: &Product<'_>, arguments: &[&str]) -> Result<String> {
    let output = product.mactl_output(arguments)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "mactl {}: {text}{errors}",
        arguments.join(" ")
    );
    Ok(text)
}

fn epoch(product: &Product<'_>) -> Result<u64> {
    let text = product.field("unit/orders", ".status.epoch")?;
    text.parse()
        .with_context(|| format!("status.epoch is {text:?}"))
}

/// Deletion takes away what was made, and nothing from the databases.
fn ends(world: &World, product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    let before = (tables(sh)?, tables(bj)?);
    product.kubectl(&["delete", "unit", UNIT, "--timeout=60s"])?;
    eventually("everything made for the Unit is gone", || {
        let left = product.kubectl(&[
            "get",
            "synclinks,deployments,services,configmaps,endpointslices",
            "--selector=app.kubernetes.io/managed-by=multiactive",
            "--output=name",
        ])?;
        ensure!(left.trim().is_empty(), "left in {NAMESPACE}: {left}");
        Ok(())
    })?;
    ensure!(
        (tables(sh)?, tables(bj)?) == before,
        "tables have gone with the Unit"
    );
    ensure!(
        sh.value(Account::Root, "SELECT COUNT(*) FROM multiactive.identity")? == "1",
        "the schema multiactive has gone with the Unit"
    );
    product.kubectl(&["delete", "idcs", "--all", "--timeout=60s"])?;
    // Asked for, the schema goes too.
    let manifest = world.info().directory.join("orders.yaml");
    fs::write(&manifest, product::unit(world))?;
    let manifest = manifest.display().to_string();
    eventually("the databases are left as they were", || {
        done(product, &["uninstall", "--filename", &manifest, "--yes"]).map(drop)
    })?;
    for database in [sh, bj] {
        let left = database.root("SHOW DATABASES LIKE 'multiactive'")?;
        ensure!(left.is_empty(), "{}: {left:?}", database.idc);
    }
    ensure!((tables(sh)?, tables(bj)?) == before);
    alone::both_ends_take_writes(product, sh, bj)?;
    product.uninstall()
}
