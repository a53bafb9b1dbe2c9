//! The product at work, from nothing: every step does what its sentence says, on real parts, and
//! says what to look at. What it claims about data is read with the databases' own client.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use harness::load::LoadSpec;
use harness::probe::{self, Probe};
use harness::product::{self, NAMESPACE, Product, UNIT};
use harness::{Databases, Engine, World, WorldSpec, images, report, shell, tools};

const NAME: &str = "demo";
/// Sysbench's tables that are loaded, and their rows each.
const TABLES: u32 = 2;
const ROWS: u32 = 20_000;
/// How long a step may take before the demo counts as failed.
const LIMIT: Duration = Duration::from_secs(120);

struct Options {
    engines: (Engine, Engine),
    keep: bool,
}

fn parse(words: &[&str]) -> Result<Options> {
    let mut options = Options {
        engines: (Engine::MariaDb, Engine::MariaDb),
        keep: false,
    };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--keep" => options.keep = true,
            "--engine" => {
                options.engines = match words.next().unwrap_or_default() {
                    "mariadb" => (Engine::MariaDb, Engine::MariaDb),
                    "mysql" => (Engine::MySql, Engine::MySql),
                    "mixed" => (Engine::MySql, Engine::MariaDb),
                    other => bail!("--engine is mariadb, mysql or mixed, not `{other}`"),
                }
            }
            _ => bail!("the demo has no option {word}; `cargo xtask help` lists them"),
        }
    }
    Ok(options)
}

/// Runs the demo.
pub fn run(words: &[&str]) -> Result<()> {
    let options = parse(words)?;
    tools::install()?;
    let images = images::build()?;
    let started = Instant::now();
    let databases = Databases::pair(options.engines.0, options.engines.1);
    let mut world = World::up(&WorldSpec::full(NAME, databases))?;
    if options.keep {
        world.keep()?;
    }
    let product = Product::of(&world);
    let shown = show(&world, &product, &images);
    if shown.is_err() {
        // The world goes with this process; what would explain the failure has to be said now.
        eprintln!("{}", product.describe());
    }
    shown?;
    report::line(
        started.elapsed(),
        "the demo, with the tools and images already built",
    );
    if options.keep {
        hint(&world);
    }
    Ok(())
}

fn show(world: &World, product: &Product<'_>, images: &[images::Image]) -> Result<()> {
    let (sh, bj) = (world.database("sh")?, world.database("bj")?);
    report::step("helm install: the operator runs", || {
        product.install(images)
    })?;
    say("kubectl get pods -n multiactive-system");
    report::step(
        "one Idc for each IDC, a Unit, its Secrets: kubectl apply",
        || {
            product.apply(&product::idcs(world))?;
            product.apply(&product::secrets(world))?;
            product.apply(&product::unit(world)).map(drop)
        },
    )?;
    report::step(
        "the Unit is Ready: sh takes writes, links run both ways",
        || all_is_well(product),
    )?;
    mactl(product, &["status"])?;

    load(world, sh, bj)?;
    refused(bj)?;
    let gap = switchover(world, product, (sh, bj))?;
    fail_over(world, product, (sh, bj))?;
    come_back(world, product, (sh, bj))?;
    mactl(product, &["history", UNIT])?;
    say(&format!(
        "the switchover's write pause, measured by an application that wrote all the time: {:.0} \
         ms between two of its {} writes",
        gap.longest_millis, gap.writes
    ));
    Ok(())
}

/// Rows are made in `sh` and arrive in `bj`.
fn load(world: &World, sh: &Database, bj: &Database) -> Result<()> {
    let spec = LoadSpec {
        tables: TABLES,
        rows: ROWS,
        ..LoadSpec::default()
    };
    report::step(
        &format!("sysbench makes {TABLES} tables of {ROWS} rows in sh"),
        || world.prepare_load("sh", spec),
    )?;
    report::step(
        "they are in bj, equal by count and SHA-256 over every value",
        || equal(sh, bj),
    )
}

/// Waits until both sides hold the same, and shows the figures of both.
fn equal(one: &Database, other: &Database) -> Result<()> {
    let mut tables: Vec<String> = (1..=TABLES)
        .map(|number| format!("sbtest{number}"))
        .collect();
    if !one.root("SHOW TABLES FROM orders LIKE 'probe'")?.is_empty() {
        tables.push(probe::TABLE.to_owned());
    }
    for table in tables {
        let sums = shell::poll(&format!("{table} is equal on both sides"), LIMIT, || {
            let sums = [
                one.checksum("orders", &table)?,
                other.checksum("orders", &table)?,
            ];
            ensure!(
                sums[0] == sums[1],
                "{}: {:?}, {}: {:?}",
                one.idc,
                sums[0],
                other.idc,
                sums[1]
            );
            Ok(sums)
        })?;
        for (database, (rows, digest)) in [one, other].into_iter().zip(sums) {
            say(&format!(
                "{:>4} orders.{table}: {rows} rows, digest {digest:016x}",
                database.idc
            ));
        }
    }
    Ok(())
}

/// A write where the primary is not.
fn refused(replica: &Database) -> Result<()> {
    report::step(
        &format!("a write in {} is refused", replica.idc),
        || match replica.app("DELETE FROM orders.sbtest1 WHERE id = 1") {
            Ok(_) => bail!("{} took a write, and is not the primary", replica.idc),
            Err(error) => {
                let text = format!("{error:#}");
                let answer = text.split("ERROR ").last().unwrap_or_default().trim();
                ensure!(
                    answer.starts_with("1290"),
                    "refused for another reason: {text}"
                );
                say(&format!("ERROR {answer}"));
                Ok(())
            }
        },
    )
}

/// A planned switchover to `bj`, while sysbench and the probe write.
fn switchover(
    world: &World,
    product: &Product<'_>,
    (sh, bj): (&Database, &Database),
) -> Result<probe::Gap> {
    probe::create_table(sh)?;
    shell::poll("the probe's table is in bj", LIMIT, || {
        bj.root("SELECT COUNT(*) FROM orders.probe").map(drop)
    })?;
    let probe = Probe::start(&[sh, bj])?;
    let spec = LoadSpec {
        tables: TABLES,
        rows: ROWS,
        rate: 200,
        ..LoadSpec::default()
    };
    let load = world.start_load("sh", "sh", spec)?;
    shell::poll("sysbench writes", LIMIT, || {
        let report = load.report()?;
        ensure!(
            report.seconds >= 2,
            "sysbench has reported on {} s",
            report.seconds
        );
        Ok(())
    })?;
    report::step("mactl switchover orders --to bj, under load", || {
        mactl(product, &["switchover", UNIT, "--to", "bj", "--yes"])
    })?;
    let done = load.stop()?;
    say(&format!(
        "sysbench at sh: {:.0} transactions; the fence cut it, as it must",
        done.transactions
    ));
    // Some writes on the new side close the gap that is measured.
    shell::poll("writes are taken in bj", LIMIT, || {
        let count = bj.value(
            harness::Account::Root,
            "SELECT COUNT(*) FROM orders.probe WHERE side = 'bj'",
        )?;
        ensure!(count.parse::<u64>()? >= 20, "{count} so far");
        Ok(())
    })?;
    probe.stop()?;
    report::step("both sides are equal after the switchover", || {
        equal(bj, sh)
    })?;
    probe::longest_gap(bj)
}

/// The primary's database dies; the Unit goes on in `sh`.
fn fail_over(world: &World, product: &Product<'_>, (sh, bj): (&Database, &Database)) -> Result<()> {
    report::step("the database in bj is killed (SIGKILL)", || {
        world.kill(&harness::database::part(&bj.idc))
    })?;
    report::step("mactl failover orders --to sh", || {
        mactl(product, &["failover", UNIT, "--to", "sh", "--yes"])
    })?;
    report::step("sh takes writes", || {
        sh.app("UPDATE orders.sbtest1 SET k = k + 1 WHERE id <= 100")
            .map(drop)
    })
}

/// The dead database comes back as a replica.
fn come_back(world: &World, product: &Product<'_>, (sh, bj): (&Database, &Database)) -> Result<()> {
    report::step("the database in bj is started again", || {
        world.start(&harness::database::part(&bj.idc))?;
        world.wait_for_database(&bj.idc)
    })?;
    report::step("it has caught up and takes no writes", || {
        equal(sh, bj)?;
        refused(bj)
    })?;
    report::step("the Unit is Ready again, and bj could take over", || {
        all_is_well(product)
    })?;
    mactl(product, &["status"])
}

/// Runs `mactl` on this terminal.
fn mactl(product: &Product<'_>, arguments: &[&str]) -> Result<()> {
    say(&format!("$ mactl -n {NAMESPACE} {}", arguments.join(" ")));
    let status = product
        .mactl(arguments)?
        .stdin(Stdio::null())
        .status()
        .context("cannot run mactl")?;
    ensure!(
        status.success(),
        "`mactl {}` ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}

fn say(text: &str) {
    report::note(text);
}

fn hint(world: &World) {
    println!(
        "\nIt stays up. In a shell:\n\n  eval \"$(cargo xtask cluster env --name {NAME})\"\n  \
         kubectl get multiactive --all-namespaces\n  \
         mactl status -n {NAMESPACE}\n  \
         mactl switchover {UNIT} --to bj -n {NAMESPACE}\n\nLogs: {}/logs\nEnd it: cargo xtask \
         cluster down --name {NAME}\n",
        world.info().directory.display()
    );
}

/// Waits for a primary, for the links in both directions, and for somebody who could take over.
fn all_is_well(product: &Product<'_>) -> Result<()> {
    let unit = format!("unit/{UNIT}");
    product.wait(&unit, "condition=Ready", LIMIT)?;
    for direction in ["sh-bj", "bj-sh"] {
        product.wait(
            &format!("synclink/{UNIT}-{direction}"),
            "condition=Ready",
            LIMIT,
        )?;
    }
    product.wait(&unit, "condition=FailoverReady", LIMIT)
}
