//! An application that writes without pause to every side, and so measures, by the databases' own
//! clocks and without any code of the product, for how long nobody took its writes.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::database::{Account, Database};

/// The table that is written, in the application's schema.
pub const TABLE: &str = "probe";
/// One write to each side in this time.
const EVERY: Duration = Duration::from_millis(5);

/// Creates the table, on the side that takes writes.
pub fn create_table(primary: &Database) -> Result<()> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {schema}.{TABLE} (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT \
         PRIMARY KEY, side VARCHAR(32) NOT NULL, written_at DATETIME(6) NOT NULL, KEY (written_at))",
        schema = primary.schema
    );
    primary.app(&sql).map(drop)
}

/// Writers that run until they are stopped.
pub struct Probe {
    stop: Arc<AtomicBool>,
    writers: Vec<(Child, JoinHandle<()>)>,
}

impl Probe {
    /// Starts one writer a database. Refused and cut writes are tried again with the next one, as
    /// an application would.
    pub fn start(databases: &[&Database]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for database in databases {
            let mut client = database.client(Account::App);
            client.args(["--force", "--reconnect", "--unbuffered"]);
            client
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut child = client.spawn().context("cannot start the mariadb client")?;
            let Some(mut stdin) = child.stdin.take() else {
                bail!("the mariadb client has no standard input");
            };
            let statement = format!(
                "INSERT INTO {}.{TABLE} (side, written_at) VALUES ('{}', SYSDATE(6));\n",
                database.schema, database.idc
            );
            let stopped = Arc::clone(&stop);
            let feeder = std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    if stdin.write_all(statement.as_bytes()).is_err() {
                        return;
                    }
                    std::thread::sleep(EVERY);
                }
            });
            writers.push((child, feeder));
        }
        Ok(Self { stop, writers })
    }

    /// Ends the writers and waits for what they have begun.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for (mut child, feeder) in self.writers.drain(..) {
            if feeder.join().is_err() {
                bail!("a writer of the probe panicked");
            }
            child
                .wait()
                .context("a writer of the probe cannot be waited for")?;
        }
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        drop(self.end());
    }
}

/// What the probe's rows say.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Writes that were taken.
    pub writes: u64,
    /// The longest time between two of them, wherever they were taken, in milliseconds.
    pub longest_millis: f64,
}

/// Reads the rows on one side, which must have caught up.
pub fn longest_gap(at: &Database) -> Result<Gap> {
    let sql = format!(
        "SELECT COUNT(*), COALESCE(MAX(gap), 0) / 1000 FROM (SELECT TIMESTAMPDIFF(MICROSECOND, \
         LAG(written_at) OVER (ORDER BY written_at), written_at) AS gap FROM {}.{TABLE}) AS gaps",
        at.schema
    );
    let rows = at.root(&sql)?;
    match rows.first().map(Vec::as_slice) {
        Some([writes, gap]) => Ok(Gap {
            writes: writes.parse()?,
            longest_millis: gap.parse()?,
        }),
        _ => bail!("the probe's table in {} cannot be read", at.idc),
    }
}
