//! Two SyncLinks without a Unit, on servers from which a Unit was taken away: both take writes.

use anyhow::{Context as _, Result, ensure};
use harness::database::Database;
use harness::product::{NAMESPACE, Product, UNIT};
use tests::{LIMIT, eventually};

use crate::{done, equal};

pub fn both_ends_take_writes(product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    for side in [sh, bj] {
        side.open()?;
    }
    product.apply(&link(sh, bj, "TargetWins"))?;
    says(
        product,
        "sh-bj",
        &["resolve TargetWins", "not supported yet"],
    )?;
    product.apply(&link(bj, sh, "Halt"))?;
    product.apply(&link(sh, bj, "SourceWins"))?;
    says(
        product,
        "sh-bj",
        &["SyncLink shop/bj-sh runs the other way"],
    )?;
    sh.root("SET GLOBAL binlog_row_image = 'MINIMAL'")?;
    product.apply(&link(sh, bj, "Hold"))?;
    says(
        product,
        "sh-bj",
        &["database of sh", "binlog_row_image is MINIMAL"],
    )?;
    sh.root("SET GLOBAL binlog_row_image = 'FULL'")?;
    for name in ["sh-bj", "bj-sh"] {
        product.wait(&format!("synclink/{name}"), "condition=Ready", LIMIT)?;
    }
    sh.app("INSERT INTO orders.items (id, name) VALUES (100, 'of sh')")?;
    bj.app("INSERT INTO orders.items (id, name) VALUES (101, 'of bj')")?;
    equal(sh, bj).context("with two links without a Unit")?;
    let told = done(product, &["conflicts", "list", "sh-bj", "--link"])?;
    ensure!(
        told.contains("No conflict of SyncLink shop/sh-bj"),
        "{told}"
    );
    let lag = done(product, &["link", "lag", "sh-bj"])?;
    ensure!(lag.contains("Streaming"), "{lag}");
    product.kubectl(&["delete", "synclinks", "sh-bj", "bj-sh", "--timeout=60s"])?;
    eventually("nothing is left of the links", || {
        let selector = "--selector=multiactive.dev/link";
        let left = product.kubectl(&["get", "pods", selector, "--output=name"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })?;
    for side in [sh, bj] {
        side.root("SET sql_log_bin = 0; DROP DATABASE multiactive")?;
    }
    Ok(())
}

fn link(source: &Database, target: &Database, resolve: &str) -> String {
    let end = |database: &Database| {
        format!(
            "{{idc: {}, endpoint: {{host: {}, port: {}}}, credentialsSecret: {UNIT}-{}}}",
            database.idc, database.host, database.port, database.idc
        )
    };
    format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: SyncLink\n\
         metadata: {{name: {}-{}, namespace: {NAMESPACE}}}\n\
         spec:\n  source: {}\n  target: {}\n  tables: {{include: [\"orders.*\"]}}\n  \
         snapshot: {{mode: Never}}\n  conflicts: {{detect: BeforeImage, resolve: {resolve}}}\n---\n",
        source.idc,
        target.idc,
        end(source),
        end(target)
    )
}

/// Waits until the link's condition `PreflightPassed` is False and its message holds all the words.
fn says(product: &Product<'_>, link: &str, words: &[&str]) -> Result<()> {
    eventually(
        &format!("PreflightPassed=False of {link} says {words:?}"),
        || {
            let condition = ".status.conditions[?(@.type==\"PreflightPassed\")]";
            let object = format!("synclink/{link}");
            let status = product.field(&object, &format!("{condition}.status"))?;
            let message = product.field(&object, &format!("{condition}.message"))?;
            ensure!(
                status == "False" && words.iter().all(|word| message.contains(word)),
                "{status}: {message}"
            );
            Ok(())
        },
    )
}
