//! What is kept of a trial that failed, before its rig is thrown away.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::database::Database;

use crate::rig::Rig;
use crate::trial::Trial;

/// What the databases know of epochs, links and stranded writes.
const TABLES: [(&str, &str); 5] = [
    ("epoch", "SELECT * FROM multiactive.epoch ORDER BY epoch"),
    (
        "applied",
        "SELECT link, source, position, ledger, at FROM multiactive.applied",
    ),
    (
        "stranded",
        "SELECT seq, source, gtid, part, epoch, ended_by, committed, changes, state, filed \
         FROM multiactive.stranded ORDER BY seq",
    ),
    (
        "undone",
        "SELECT * FROM multiactive.undone ORDER BY at, gtid",
    ),
    (
        "counters",
        "SELECT client, total FROM orders.counters ORDER BY client",
    ),
];

impl Rig {
    /// Copies the logs of every process and the tables above to a directory of the trial's own, and
    /// says which it is.
    pub async fn keep_evidence(&self, trial: &Trial) -> Result<PathBuf> {
        let name = format!("{}-{}-{}", self.copies.name, trial.fault.name(), trial.seed);
        let directory = harness::paths::target()
            .join("partition-failures")
            .join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        for from in [self.world.info().directory.join("logs"), self.directory()] {
            copy_logs(&from, &directory)?;
        }
        fs::write(directory.join("state.txt"), self.describe().await)?;
        for idc in self.data() {
            fs::write(
                directory.join(format!("tables-{idc}.txt")),
                tables(self.database(idc)?),
            )?;
        }
        Ok(directory)
    }
}

fn copy_logs(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let (Some("log"), Some(name)) = (
            path.extension().and_then(|it| it.to_str()),
            path.file_name(),
        ) {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// A server that does not answer is a finding too.
fn tables(database: &Database) -> String {
    let mut text = String::new();
    for (name, sql) in TABLES {
        text.push_str(&format!("== {name}\n"));
        match database.root(sql) {
            Ok(rows) => {
                for row in rows {
                    text.push_str(&format!("{}\n", row.join(" | ")));
                }
            }
            Err(error) => text.push_str(&format!("{error:#}\n")),
        }
    }
    text
}
