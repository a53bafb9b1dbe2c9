//! Types and situations through whole links, between all four pairs of engines: copied and
//! streamed, and then compared by the servers' own SQL.

mod compare;
mod crashes;
mod entries;
mod pair;

use anyhow::{Context as _, Result, ensure};
use harness::{Engine, World};

use crate::worlds::block_on;
use entries::Entry;
use pair::{Pair, world};

/// A row of every type at its extremes; both engines understand it.
const VALUES: &str = include_str!("../read/values.sql");

/// What MySQL makes of MariaDB's documents: its own layout, and each digit.
const DOCUMENTS: [[&str; 2]; 5] = [
    [
        "1",
        r#"{"b": [1, 2.50, {"x": "é"}], "big": 12345678901234567890.12, "price": 19.90}"#,
    ],
    ["2", "[]"],
    ["3", "NULL"],
    ["4", "\"text\""],
    ["5", "12345678901234567890123"],
];

/// Every type comes by the copy (into `orders`) and by the stream (into `streamed`).
async fn types(world: &World, from: &str, to: &str) -> Result<()> {
    let copied = vec![VALUES.to_owned()];
    let mut pair = Pair::start(world, from, to, &copied, |_| {}).await?;
    let streamed = VALUES.replace("USE orders;", "USE streamed;");
    pair.run(&streamed)?;
    // The copy has made LONGTEXT of MariaDB's JSON; the statement that is replayed makes JSON of it.
    if (pair.source.engine, pair.target.engine) == (Engine::MariaDb, Engine::MySql) {
        let error = pair.halted().await?;
        ensure!(
            error.contains("\"k\" twice") && error.contains("streamed.big"),
            "{error}"
        );
        pair.target
            .root("SET sql_log_bin = 0; ALTER TABLE streamed.big MODIFY j LONGTEXT")?;
    }
    pair.through().await?;
    let (tables, rows) = pair.compare().with_context(|| pair.link.describe())?;
    ensure!(tables > 35 && rows > 600, "{tables} tables, {rows} rows");
    pair.check_ledger().await
}

/// Every situation, one after the other.
async fn situations(world: &World, from: &str, to: &str) -> Result<()> {
    let (source, target) = (world.database(from)?.engine, world.database(to)?.engine);
    let only = std::env::var("MULTIACTIVE_SITUATION").unwrap_or_default();
    let entries: Vec<Entry> = entries::all()?
        .into_iter()
        .filter(|entry| entry.is_for(source, target))
        .filter(|entry| only.is_empty() || only.split(',').any(|name| name == entry.name))
        .collect();
    let before: Vec<String> = entries.iter().map(|entry| entry.before.clone()).collect();
    let mut pair = Pair::start(world, from, to, &before, |_| {}).await?;
    pair.compare().context("after the copy")?;
    load_data(&mut pair).await.context("LOAD DATA")?;
    for entry in &entries {
        try_entry(&mut pair, entry)
            .await
            .with_context(|| format!("{}: {}", entry.name, pair.link.describe()))?;
    }
    // Each has tables of its own, named after it, so one look at the end tells them all.
    pair.compare().context("after all")?;
    pair.check_ledger().await
}

/// Rows from a file, some of them over others.
async fn load_data(pair: &mut Pair<'_>) -> Result<()> {
    let path = pair.link.directory.join("rows.csv");
    let lines: Vec<String> = (0..2_000)
        .map(|id| format!("{id},line {id} 日本\\t😀,\\N"))
        .collect();
    std::fs::write(&path, lines.join("\n"))?;
    pair.run("CREATE TABLE loaded (id INT PRIMARY KEY, t VARCHAR(60), n INT)")?;
    pair.load_file("loaded", &path)?;
    pair.through().await?;
    pair.compare().map(drop)
}

async fn try_entry(pair: &mut Pair<'_>, entry: &Entry) -> Result<()> {
    pair.run(&entry.then)?;
    let Some(names) = &entry.halts else {
        pair.through().await?;
        if entry.name == "text_to_json" {
            let kept = pair
                .target
                .root("SELECT id, CAST(j AS CHAR) FROM orders.text_to_json ORDER BY id")?;
            ensure!(kept == DOCUMENTS, "{kept:?}");
        }
        return Ok(());
    };
    let error = pair.halted().await?;
    ensure!(error.contains(names.as_str()), "it says: {error}");
    pair.target
        .root(&format!("SET sql_log_bin = 0; {}", entry.mend))?;
    pair.run(&entry.at_source)?;
    // A statement that was done by hand is skipped.
    if error.contains("skip it") && !entry.pauses {
        pair.link.skip(pair.target).await?;
    }
    pair.through().await
}

/// Runs a part of the matrix on a pair of engines, in both directions where they differ.
#[allow(
    clippy::needless_pass_by_value,
    reason = "parts read best as functions in the call"
)]
fn on(sh: Engine, bj: Engine, part: impl AsyncFn(&World, &str, &str) -> Result<()>) -> Result<()> {
    let world = world(sh, bj)?;
    let directions: &[(&str, &str)] = if sh == bj {
        &[("sh", "bj")]
    } else {
        &[("sh", "bj"), ("bj", "sh")]
    };
    for (from, to) in directions {
        one_way(&world, from, to, &part)?;
    }
    Ok(())
}

fn one_way(
    world: &World,
    from: &str,
    to: &str,
    part: &impl AsyncFn(&World, &str, &str) -> Result<()>,
) -> Result<()> {
    let names = [from, to].map(|idc| world.database(idc).map(|side| side.engine.name()));
    block_on(Box::pin(part(world, from, to))).with_context(|| format!("{names:?}"))
}

#[test]
fn types_between_two_mysql() -> Result<()> {
    on(Engine::MySql, Engine::MySql, types)
}

#[test]
fn types_between_two_mariadb() -> Result<()> {
    on(Engine::MariaDb, Engine::MariaDb, types)
}

#[test]
fn types_between_mysql_and_mariadb() -> Result<()> {
    on(Engine::MySql, Engine::MariaDb, types)
}

#[test]
fn situations_from_mysql_to_mariadb() -> Result<()> {
    one_way(
        &world(Engine::MySql, Engine::MariaDb)?,
        "sh",
        "bj",
        &situations,
    )
}

#[test]
fn situations_from_mariadb_to_mysql() -> Result<()> {
    one_way(
        &world(Engine::MariaDb, Engine::MySql)?,
        "sh",
        "bj",
        &situations,
    )
}

#[test]
fn situations_between_two_mysql() -> Result<()> {
    on(Engine::MySql, Engine::MySql, situations)
}

#[test]
fn situations_between_two_mariadb() -> Result<()> {
    on(Engine::MariaDb, Engine::MariaDb, situations)
}
