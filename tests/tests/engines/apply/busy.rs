//! Two servers that are written to at the same time by a load that is not ours, each in a database of its
//! own, and a third one to which what both write is handed on.
//!
//! `MULTIACTIVE_SECONDS` is for longer runs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::load::LoadSpec;
use model::LinkPhase;

use super::alone::status;
use super::handed_on::{BJ, SH, Three, WITNESS, in_three};

/// sysbench's `oltp_read_write` over these tables.
const LOAD: LoadSpec = LoadSpec {
    script: "oltp_read_write",
    tables: 3,
    rows: 2_000,
    threads: 4,
    ..LoadSpec::USUAL
};

/// Where each of the two is written, and by which load.
const WRITTEN: [(usize, &str, &str); 2] = [(SH, "sh", "orders"), (BJ, "bj", "billing")];

fn load_of(schema: &'static str) -> LoadSpec {
    LoadSpec { schema, ..LOAD }
}

/// Everything is there on all three, and the books of each link tell what it did.
async fn written_at_both_ends(three: &Three<'_>) -> Result<()> {
    for server in three.servers {
        server.root(&format!(
            "SET sql_log_bin = 0; DROP DATABASE IF EXISTS billing; \
             CREATE DATABASE billing CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; \
             GRANT ALL ON billing.* TO '{}'@'%', '{}'@'%'",
            server.app_user, server.user
        ))?;
    }
    let ways = [(SH, BJ, false), (BJ, SH, false), (BJ, WITNESS, true)];
    let mut links = Vec::new();
    for (from, to, relay) in ways {
        links.push(three.link_of(&["orders", "billing"], from, to, relay)?);
    }
    for (link, (from, to, _)) in links.iter().zip(ways) {
        three.begins(link, from, to).await?;
    }
    for (_, idc, schema) in WRITTEN {
        three.world.prepare_load(idc, load_of(schema))?;
    }
    let mut loads = Vec::new();
    for (_, idc, schema) in WRITTEN {
        loads.push(three.world.start_load(idc, idc, load_of(schema))?);
    }
    let seconds = match std::env::var("MULTIACTIVE_SECONDS") {
        Ok(text) => text.parse().context("MULTIACTIVE_SECONDS is a number")?,
        Err(_) => 10,
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for load in loads {
        let report = load.stop()?;
        println!("{report:?}");
        // Its own connections may deadlock, and it tries again.
        ensure!(report.transactions > 20.0, "{report:?}");
    }
    for (_, _, schema) in WRITTEN {
        for number in 1..=LOAD.tables {
            let table = format!("sbtest{number}");
            three.equal_in(schema, &table, &links).await?;
        }
    }
    for link in &links {
        let status = status(link).await?;
        ensure!(status.phase == LinkPhase::Streaming, "{}", link.describe());
        let ledger = status.ledger;
        ensure!(
            ledger.read == ledger.applied + ledger.filtered + ledger.in_flight
                && ledger.applied > 1_000,
            "{ledger:?}"
        );
    }
    Ok(())
}

#[test]
fn a_load_at_both_ends_and_a_third_copy() -> Result<()> {
    in_three(&written_at_both_ends)
}
