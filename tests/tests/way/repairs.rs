//! Verification and repair as people ask for them: rows planted behind the link's back are found,
//! all of them and no others, mended, and given back.

use anyhow::{Context as _, Result, ensure};
use harness::Account;
use harness::database::Database;
use harness::product::{NAMESPACE, Product, UNIT};
use serde_json::Value;
use tests::{LIMIT, eventually};

use crate::{done, equal};

/// What is planted: one row missing, one extra, two with other values.
const PLANTED: &str = "SET SESSION sql_log_bin = 0; \
     DELETE FROM orders.sbtest1 WHERE id = 7; \
     UPDATE orders.sbtest1 SET pad = 'not what was written' WHERE id = 9; \
     UPDATE orders.items SET name = 'ONE' WHERE id = 1; \
     INSERT INTO orders.sbtest2 (id, k, c, pad) VALUES (1000000, 1, 'c', 'nobody wrote this')";

pub fn repairs(product: &Product<'_>, sh: &Database, bj: &Database) -> Result<()> {
    refused(product)?;
    let whole = run(product, &["repair", UNIT], 0)?;
    ensure!(
        count(&whole, "divergent") == 0 && count(&whole, "rows") >= 10_000,
        "{whole}"
    );
    pods_are_gone(product)?;

    bj.root(PLANTED)?;
    let found = run(product, &["repair", UNIT], 1)?;
    let counts = ["divergent", "missing", "extra", "differing"].map(|name| count(&found, name));
    ensure!(counts == [4, 1, 1, 2], "{found}");
    let object = format!("datarepair/{}", text(&found, "/name")?);
    let diverged = ".status.conditions[?(@.type==\"Diverged\")].status";
    ensure!(product.field(&object, diverged)? == "True");
    let row = bj.value(
        Account::Root,
        "SELECT COUNT(*) FROM orders.sbtest1 WHERE id = 7",
    )?;
    ensure!(row == "0", "a verification has written");

    let mended = run(product, &["repair", UNIT, "--repair", "--yes"], 0)?;
    ensure!(count(&mended, "repaired") == 4, "{mended}");
    equal(sh, bj).context("after the repair")?;
    let kept = format!(
        "SELECT COUNT(*) FROM multiactive.repairs WHERE state = 'Repaired' AND run = '{}'",
        text(&mended, "/status/run")?
    );
    ensure!(bj.value(Account::Root, &kept)? == "4");

    let name = text(&mended, "/name")?;
    let undone = run(product, &["repair", "undo", &name, "--yes"], 0)?;
    ensure!(count(&undone, "undone") == 4, "{undone}");
    let pad = "SELECT pad FROM orders.sbtest2 WHERE id = 1000000";
    ensure!(bj.value(Account::Root, pad)? == "nobody wrote this");
    let again = run(product, &["repair", UNIT, "--repair", "--yes"], 0)?;
    ensure!(count(&again, "repaired") == 4, "{again}");
    equal(sh, bj).context("after the second repair")?;

    held(product)?;
    repeated(product)?;
    pods_are_gone(product)
}

/// Runs `mactl` with JSON asked for; it must end with this code.
fn run(product: &Product<'_>, arguments: &[&str], code: i32) -> Result<Value> {
    let arguments = [arguments, &["--output=json"]].concat();
    let output = product.mactl_output(&arguments)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let what = arguments.join(" ");
    println!("mactl {what}\n{text}{errors}");
    ensure!(
        output.status.code() == Some(code),
        "mactl {what}: {text}{errors}"
    );
    serde_json::from_str(&text).with_context(|| format!("mactl {what} printed {text}"))
}

fn count(told: &Value, name: &str) -> u64 {
    let found = &told["status"]["counts"][name];
    found.as_u64().unwrap_or(u64::MAX)
}

fn text(told: &Value, path: &str) -> Result<String> {
    let found = told.pointer(path).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("no {path} in {told}"))
}

/// What makes no sense is refused aloud, and starts nothing.
fn refused(product: &Product<'_>) -> Result<()> {
    for (name, spec, says) in [
        (
            "backwards",
            "link: orders-bj-sh",
            "comes from bj, and the primary of Unit shop/orders is sh",
        ),
        (
            "nowhere",
            "link: orders-sh-gz",
            "there are: orders-bj-sh, orders-sh-bj",
        ),
        (
            "never",
            "unit: orders, schedule: '0 25 * * *'",
            "its hour has",
        ),
        (
            "wins",
            "unit: orders, mode: Repair, strategy: TargetWins",
            "TargetWins is not supported",
        ),
    ] {
        product.apply(&manifest(name, "{}", spec))?;
        let object = format!("datarepair/{name}");
        eventually(&format!("{name} is refused"), || {
            let phase = product.field(&object, ".status.phase")?;
            let message = product.field(&object, ".status.message")?;
            ensure!(
                phase == "Refused" && message.contains(says),
                "{phase}: {message}"
            );
            Ok(())
        })?;
        product.kubectl(&["delete", &object, "--timeout=60s"])?;
    }
    pods_are_gone(product)
}

fn manifest(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: DataRepair\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}, annotations: {annotations}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// Nothing that compares is left of runs that have ended.
fn pods_are_gone(product: &Product<'_>) -> Result<()> {
    eventually("what compared is gone", || {
        let left = product.kubectl(&[
            "get",
            "deployments,pods,services,configmaps,serviceaccounts",
            "--selector=app.kubernetes.io/component=repair",
            "--output=name",
        ])?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(())
    })
}

/// A slow one is paused in the middle, waits, goes on where it was, and sees every row.
fn held(product: &Product<'_>) -> Result<()> {
    let slow = "unit: orders, maxBatchSize: 4KiB, throttle: {percent: 1}";
    product.apply(&manifest("slow", "{}", slow))?;
    let number = |path: &str| -> Result<u64> {
        let text = product.field("datarepair/slow", path)?;
        Ok(text.parse().unwrap_or_default())
    };
    let rows = ".status.counts.rows";
    eventually("it has begun to compare", || {
        ensure!(number(rows)? > 0, "not yet");
        Ok(())
    })?;
    done(product, &["repair", "pause", "slow"])?;
    eventually("it is paused", || {
        let phase = product.field("datarepair/slow", ".status.phase")?;
        ensure!(phase == "Paused", "{phase}");
        Ok(())
    })?;
    let (paused_at, all) = (number(rows)?, number(".status.counts.rowsEstimate")?);
    ensure!(
        paused_at < all,
        "it was through before it was paused: {paused_at} of {all}"
    );
    // Its pod dies meanwhile; that makes it neither go on nor begin anew.
    let component = "--selector=app.kubernetes.io/component=repair";
    product.kubectl(&["delete", "pods", component, "--timeout=60s"])?;
    eventually("its pod is back", || {
        let jsonpath = "--output=jsonpath={.items[*].status.readyReplicas}";
        let ready = product.kubectl(&["get", "deployments", component, jsonpath])?;
        ensure!(ready.trim() == "1", "{ready}");
        Ok(())
    })?;
    ensure!(number(rows)? == paused_at, "it went on while it was paused");
    done(product, &["repair", "resume", "slow"])?;
    product.wait("datarepair/slow", "condition=Ready", LIMIT)?;
    ensure!(number(rows)? >= 10_000 && number(".status.counts.divergent")? == 0);
    // One that is stopped says so, with what it came to.
    product.apply(&manifest("stopped", "{}", slow))?;
    eventually("another one has begun", || {
        let run = product.field("datarepair/stopped", ".status.run")?;
        ensure!(!run.is_empty(), "not yet");
        Ok(())
    })?;
    done(product, &["repair", "stop", "stopped"])?;
    eventually("it is stopped", || {
        let phase = product.field("datarepair/stopped", ".status.phase")?;
        ensure!(phase == "Stopped", "{phase}");
        Ok(())
    })
}

/// A schedule runs at its next minute, and says when the one after is.
fn repeated(product: &Product<'_>) -> Result<()> {
    product.apply(&manifest(
        "minutely",
        "{}",
        "unit: orders, schedule: '* * * * *'",
    ))?;
    eventually("a run of the schedule has ended", || {
        let last = product.field("datarepair/minutely", ".status.lastRun.phase")?;
        let next = product.field("datarepair/minutely", ".status.nextScheduleTime")?;
        ensure!(
            last == "Done" && !next.is_empty(),
            "{last:?}, next {next:?}"
        );
        Ok(())
    })?;
    println!("{}", done(product, &["repair", "list"])?);
    product.kubectl(&["delete", "datarepairs", "--all", "--timeout=60s"])?;
    Ok(())
}
