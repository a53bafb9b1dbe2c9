//! After a trial: everything that was committed has crossed, what was stranded is accounted for and
//! brought back in line, and the rows are read.
//!
//! How the product tells of stranded transactions, and how a person settles them, is in
//! [`Rig::pass_stranded`] alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::database::Database;
use model::LinkPhase;
use tests::history::{MemberRows, Stranding, WriteId};

use crate::parts::{DATA, LINKS};
use crate::rig::{Rig, TABLES, until};

const LIMIT: Duration = Duration::from_secs(90);
/// How often the two members are compared before they count as different.
const TRIES: u32 = 3;

/// What a trial has left in the databases.
pub struct Settled {
    pub primary: String,
    pub members: BTreeMap<String, MemberRows>,
    pub stranding: Stranding,
}

impl Rig {
    /// Settles what is stranded and reads both members. Nobody writes any more.
    pub async fn settle(&self) -> Result<Settled> {
        let primary = self.wait_open().await?;
        let replica = Self::other(&primary).to_owned();
        let mut passed = Passed::default();
        let mut found = BTreeSet::new();
        let mut tries = 0;
        loop {
            tries += 1;
            self.drain(&mut passed).await?;
            ensure!(
                self.wait_open().await? == primary,
                "the primary changed while nobody wrote and nothing was wrong"
            );
            let ahead = rows(self.database(&primary)?)?;
            let mut behind = rows(self.database(&replica)?)?;
            let more: BTreeSet<WriteId> =
                behind.writes.difference(&ahead.writes).copied().collect();
            if !more.is_empty() {
                bring_in_line(self.database(&replica)?, &more, &behind, &ahead)?;
                behind = rows(self.database(&replica)?)?;
                found.extend(more);
            }
            // What differs now may be on its way: the network may deliver late what a client had
            // given up. What differs three times is different.
            if ahead == behind || tries == TRIES {
                return Ok(Settled {
                    members: [(primary.clone(), ahead), (replica, behind)].into(),
                    primary,
                    stranding: Stranding {
                        found,
                        reported: passed.values().map(|(count, _)| count).sum(),
                    },
                });
            }
        }
    }

    async fn wait_open(&self) -> Result<String> {
        until("an open primary, all members", LIMIT, async || {
            self.open_primary().await
        })
        .await
    }

    /// Waits until all that is in either member's binlog has crossed, and passes what the product
    /// reports as stranded on the way.
    async fn drain(&self, passed: &mut Passed) -> Result<()> {
        let give_up = Instant::now() + LIMIT;
        let mut marks = BTreeMap::new();
        for (from, to) in LINKS {
            let source = self.database(from)?;
            let mark = until("a member answers", LIMIT, async || {
                heartbeat(source, from).map(Some)
            });
            marks.insert((from, to), mark.await?);
        }
        loop {
            let mut waits = String::new();
            for ((from, to), mark) in &marks {
                self.pass_stranded(from, to, passed)?;
                // Two more: the first may have been read in the middle of its transaction. A server
                // that is being fenced may cut whoever asks.
                match heartbeat(self.database(to)?, from) {
                    Ok(arrived) if arrived >= mark + 2 => {}
                    Ok(arrived) => {
                        waits.push_str(&format!(" {from} to {to}: {arrived} of {mark};"));
                    }
                    Err(error) => waits.push_str(&format!(" {from} to {to}: {error:#};")),
                }
            }
            if waits.is_empty() {
                return Ok(());
            }
            if Instant::now() >= give_up {
                let description = self.describe().await;
                bail!("links have not caught up within {LIMIT:?}:{waits}\n{description}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Where a link has halted for stranded transactions: counts them and does what its message
    /// says. Any other halt is an error.
    fn pass_stranded(&self, from: &str, to: &str, passed: &mut Passed) -> Result<()> {
        let Ok(status) = self.writer_status(from, to) else {
            // It is being started again.
            return Ok(());
        };
        if status.phase != LinkPhase::Halted || status.error.is_empty() {
            return Ok(());
        }
        let error = &status.error;
        ensure!(
            error.contains("they are stranded"),
            "the link from {from} to {to} has halted: {error}"
        );
        let Some((_, statement)) = error.split_once("running at the target: ") else {
            return Ok(());
        };
        let count = error
            .split_once(" transaction(s)")
            .and_then(|(before, _)| before.rsplit(' ').next())
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no number of transactions in {error:?}"))?;
        let first = error
            .split_once("the first ")
            .and_then(|(_, after)| after.split(',').next())
            .with_context(|| format!("no first transaction in {error:?}"))?;
        // The same first one again, with more behind it: the count is of all of them.
        let told = (count, statement.to_owned());
        if passed.get(first) != Some(&told) {
            self.database(to)?.root(statement)?;
            passed.insert(first.to_owned(), told);
        }
        Ok(())
    }
}

/// What was passed: by the first transaction of a halt, how many the product counted and the
/// statement that it gave.
type Passed = BTreeMap<String, (u64, String)>;

/// The count of a member's heartbeats, as a server has it.
fn heartbeat(at: &Database, of: &str) -> Result<u64> {
    let sql = format!("SELECT COALESCE(MAX(seq), 0) FROM multiactive.heartbeat WHERE idc = '{of}'");
    Ok(at.value(harness::Account::Root, &sql)?.parse()?)
}

/// Every write that a member holds.
pub fn writes(at: &Database) -> Result<BTreeSet<WriteId>> {
    let mut writes = BTreeSet::new();
    for row in at.root("SELECT client, number FROM orders.writes")? {
        let [client, number] = row.as_slice() else {
            bail!("a row of {} columns", row.len());
        };
        writes.insert(WriteId {
            client: client.parse()?,
            number: number.parse()?,
        });
    }
    Ok(writes)
}

/// Everything that applications have written, and the digests of the whole tables.
fn rows(at: &Database) -> Result<MemberRows> {
    let mut rows = MemberRows {
        writes: writes(at)?,
        ..MemberRows::default()
    };
    for row in at.root("SELECT client, total FROM orders.counters")? {
        let [client, total] = row.as_slice() else {
            bail!("a row of {} columns", row.len());
        };
        rows.totals.insert(client.parse()?, total.parse()?);
    }
    for table in TABLES {
        rows.digests
            .insert(table.to_owned(), at.checksum("orders", table)?);
    }
    Ok(rows)
}

/// What a person does with stranded rows whose content is not wanted: removes them where they were
/// written, without a trace in the binlog. Nothing else is touched.
fn bring_in_line(
    replica: &Database,
    stranded: &BTreeSet<WriteId>,
    behind: &MemberRows,
    ahead: &MemberRows,
) -> Result<()> {
    let mut sql = String::from("SET sql_log_bin = 0; START TRANSACTION;\n");
    for WriteId { client, number } in stranded {
        sql.push_str(&format!(
            "DELETE FROM orders.writes WHERE client = {client} AND number = {number};\n"
        ));
    }
    // Only the counters of clients whose writes were stranded.
    let clients: BTreeSet<u32> = stranded.iter().map(|write| write.client).collect();
    for client in clients.intersection(&behind.totals.keys().copied().collect()) {
        sql.push_str(&match ahead.totals.get(client) {
            Some(total) => {
                format!("UPDATE orders.counters SET total = {total} WHERE client = {client};\n")
            }
            None => format!("DELETE FROM orders.counters WHERE client = {client};\n"),
        });
    }
    sql.push_str("COMMIT");
    replica.root(&sql).map(drop)
}

impl Rig {
    /// Empties the tables, on each member by itself. Both are equal and nobody writes.
    pub fn clear(&self) -> Result<()> {
        for name in DATA {
            self.database(name)?.root(
                "SET sql_log_bin = 0; DELETE FROM orders.writes; DELETE FROM orders.counters",
            )?;
        }
        Ok(())
    }
}
