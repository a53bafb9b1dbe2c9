//! Foreign keys that change rows by themselves, of a source whose binlog does not tell what they do: the
//! target's have to do the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use change::sync::ActingKey;

use super::rig::{Rig, Writer, on_each};
use super::script::{changes, insert, table};

/// Longer than two looks take.
const LOOKS: Duration = Duration::from_secs(4);
/// Longer than a link that has halted waits, at first, before it tries again.
const TRIES: Duration = Duration::from_secs(8);

fn acting(table: &str, on_delete: &str) -> ActingKey {
    ActingKey {
        database: "orders".into(),
        table: table.into(),
        to_database: "orders".into(),
        to_table: "t".into(),
        columns: vec!["t".into()],
        to_columns: vec!["id".into()],
        on_delete: on_delete.into(),
        on_update: "NO ACTION".into(),
    }
}

/// Gives the target's table a key, beside the link.
fn add(rig: &Rig<'_>, name: &str, on_delete: &str) -> Result<()> {
    rig.target.root(&format!(
        "USE orders; SET sql_log_bin = 0; ALTER TABLE child ADD CONSTRAINT {name} \
         FOREIGN KEY (t) REFERENCES t (id) ON DELETE {on_delete}"
    ))?;
    Ok(())
}

fn drop_key(rig: &Rig<'_>, name: &str) -> Result<()> {
    rig.target.root(&format!(
        "SET sql_log_bin = 0; ALTER TABLE orders.child DROP FOREIGN KEY {name}"
    ))?;
    Ok(())
}

/// Halted it stays: nothing is applied meanwhile.
async fn stands(rig: &Rig<'_>, writer: &Writer, told: &str) -> Result<()> {
    let error = rig.wait_halted(writer).await?;
    ensure!(error.contains(told), "{told:?} is not in {error:?}");
    let id = i64::try_from(rig.source.length())? + 1;
    rig.source
        .commit(vec![changes(&table(), vec![insert(id, 1, None)])]);
    tokio::time::sleep(TRIES).await;
    ensure!(!rig.is_through()?, "{}", writer.describe());
    Ok(())
}

async fn goes_on(rig: &Rig<'_>, writer: &Writer) -> Result<()> {
    rig.wait_through(writer).await?;
    tokio::time::sleep(LOOKS).await;
    let error = writer.status().await?.error;
    ensure!(error.is_empty(), "{error}; {}", writer.describe());
    Ok(())
}

#[test]
fn keys_must_be_the_same_at_both_ends() -> Result<()> {
    on_each(async |rig: &Rig<'_>| {
        // One is left out of the link, and one is the target's own: what they do is nobody's.
        rig.target.root(
            "USE orders; CREATE TABLE child (id INT PRIMARY KEY, t INT); \
             CREATE TABLE beside (id INT PRIMARY KEY, t INT, \
             FOREIGN KEY (t) REFERENCES child (id) ON DELETE CASCADE); \
             CREATE TABLE own (id INT PRIMARY KEY, t INT, \
             FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE)",
        )?;
        rig.settings(|link| link["tables"]["exclude"] = serde_json::json!(["orders.beside"]))?;
        add(rig, "one", "CASCADE")?;
        rig.source.act(vec![acting("child", "CASCADE")]);
        rig.source
            .commit(vec![changes(&table(), vec![insert(1, 1, None)])]);
        let writer = rig.start()?;
        goes_on(rig, &writer).await?;
        drop(writer);
        drop_key(rig, "one")?;
        let writer = rig.start()?;
        let lacks = "the target lacks the source's key of orders.child (t)";
        stands(rig, &writer, lacks).await?;
        // Another key that is yet to come by the link does not keep it halted.
        let later = "CREATE TABLE later (id INT PRIMARY KEY, t INT, \
                     FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE)";
        rig.source.ddl("CREATE TABLE", "later", later);
        let keys = ["child", "later"].map(|table| acting(table, "CASCADE"));
        rig.source.act(keys.into());
        add(rig, "two", "CASCADE")?;
        goes_on(rig, &writer).await?;
        drop(writer);
        drop_key(rig, "two")?;
        add(rig, "three", "SET NULL")?;
        let writer = rig.start()?;
        stands(rig, &writer, "and the target one of orders.child (t)").await?;
        drop_key(rig, "three")?;
        add(rig, "four", "CASCADE")?;
        goes_on(rig, &writer).await
    })
}
