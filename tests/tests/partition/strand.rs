//! After a trial: everything that was committed has crossed, what was stranded is filed, the member
//! that it came from is in line again, all by the product itself, and the rows are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use change::{Body, RowChange, Value};
use harness::database::Database;
use model::LinkPhase;
use tests::history::{MemberRows, Stranding, WriteId};

use crate::rig::{Rig, TABLES, until};

const LIMIT: Duration = Duration::from_secs(90);
/// Within this time a writer has counted again what is set aside.
const COUNTED_WITHIN: Duration = Duration::from_secs(20);
/// So long members may differ while nobody writes: twice the time after which a writer
/// looks again for what was filed late.
const LINE_UP_WITHIN: Duration = Duration::from_secs(20);

/// What a trial has left in the databases.
pub struct Settled {
    pub primary: String,
    pub members: BTreeMap<String, MemberRows>,
    pub stranding: Stranding,
}

impl Rig {
    /// Settles what is stranded and reads all members. Nobody writes any more.
    pub async fn settle(&self) -> Result<Settled> {
        let primary = self.wait_open().await?;
        let give_up = Instant::now() + LINE_UP_WITHIN;
        loop {
            self.drain().await?;
            ensure!(
                self.wait_open().await? == primary,
                "the primary changed while nobody wrote and nothing was wrong"
            );
            let mut members = BTreeMap::new();
            for idc in self.data() {
                members.insert(idc.to_owned(), rows(self.database(idc)?)?);
            }
            // What differs now may be on its way: the network may deliver late what a client had
            // given up, and what is filed late is taken back late.
            let ahead = members.get(&primary);
            if members.values().all(|it| Some(it) == ahead) || Instant::now() >= give_up {
                let stranding = self.stranding().await?;
                return Ok(Settled {
                    primary,
                    members,
                    stranding,
                });
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What is filed, by its images, and how much of it the product says there is. With three
    /// copies two may have filed the same, and each says so: what they say of what is filed twice
    /// is counted once.
    async fn stranding(&self) -> Result<Stranding> {
        let (mut found, mut filed) = (BTreeSet::new(), 0);
        for name in self.data() {
            let here = filed_writes(self.database(name)?)?;
            filed += here.len() as u64;
            found.extend(here);
        }
        let twice = filed - found.len() as u64;
        let mut reported;
        // What was settled after the trial before is counted out every now and then.
        let give_up = Instant::now() + COUNTED_WITHIN;
        loop {
            let said = self
                .links()
                .map(|(from, to)| Ok(self.writer_status(from, to)?.stranded));
            reported = said.sum::<Result<u64>>()?.saturating_sub(twice);
            if reported == found.len() as u64 || Instant::now() >= give_up {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.check_receipt().await?;
        Ok(Stranding { found, reported })
    }

    /// The receipt of the last failover says how much was stranded by it, once the old primary has
    /// gone on.
    async fn check_receipt(&self) -> Result<()> {
        let receipts = self.topology.history(&self.unit, 100).await?;
        let Some(last) = receipts.into_iter().max_by_key(|it| it.epoch) else {
            return Ok(());
        };
        let Some(from) = last.from.filter(|from| *from != last.to) else {
            return Ok(());
        };
        let filed = format!(
            "SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded WHERE source = '{from}' AND \
             ended_by = {}",
            last.epoch
        );
        let at = self.database(last.to.as_str())?;
        let mut seen = None;
        let told = until("the receipt says what was lost", LIMIT, async || {
            let filed: u64 = at.value(harness::Account::Root, &filed)?.parse()?;
            let receipts = self.topology.history(&self.unit, 100).await?;
            let receipt = receipts.into_iter().find(|it| it.epoch == last.epoch);
            seen = receipt.and_then(|it| it.stranded);
            Ok((seen == Some(filed)).then_some(()))
        });
        told.await
            .with_context(|| format!("of epoch {} it says {seen:?}", last.epoch))
    }

    async fn wait_open(&self) -> Result<String> {
        until("an open primary, all members", LIMIT, async || {
            self.open_primary().await
        })
        .await
    }

    /// Waits until all that is in each member's binlog has crossed. A link that has halted will
    /// not get on by itself.
    async fn drain(&self) -> Result<()> {
        let give_up = Instant::now() + LIMIT;
        let mut marks = BTreeMap::new();
        for (from, to) in self.links() {
            let source = self.database(from)?;
            let mark = until("a member answers", LIMIT, async || {
                heartbeat(source, from).map(Some)
            });
            marks.insert((from, to), mark.await?);
        }
        loop {
            let mut waits = String::new();
            for ((from, to), mark) in &marks {
                self.check_not_halted(from, to)?;
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

    fn check_not_halted(&self, from: &str, to: &str) -> Result<()> {
        // It may be being started again.
        let Ok(status) = self.writer_status(from, to) else {
            return Ok(());
        };
        ensure!(
            status.phase != LinkPhase::Halted,
            "the link from {from} to {to} has halted: {}",
            status.error
        );
        Ok(())
    }
}

/// The writes in what is set aside on a member and not settled.
fn filed_writes(at: &Database) -> Result<BTreeSet<WriteId>> {
    let mut writes = BTreeSet::new();
    let bodies = at.root("SELECT HEX(body) FROM multiactive.stranded WHERE state = 'Held'")?;
    for text in bodies.into_iter().flatten() {
        let bytes: Vec<u8> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
            .collect::<Result<_>>()?;
        let Body::Rows(changes) = change::decode_stored(bytes.into())?.body else {
            bail!("a statement was filed, and nobody ran one");
        };
        let of_writes = changes.iter().filter(|it| it.table.table == "writes");
        for row in of_writes.flat_map(|change| &change.rows) {
            let RowChange::Insert { after } = row else {
                bail!("{row:?} was filed, and nobody changes writes");
            };
            let [Value::UInt(client), Value::UInt(number), _] = after.as_slice() else {
                bail!("{after:?} was filed, which is no write");
            };
            writes.insert(WriteId {
                client: u32::try_from(*client)?,
                number: *number,
            });
        }
    }
    Ok(writes)
}

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

impl Rig {
    /// Empties the tables, and settles what was set aside, on each member by itself; says whether
    /// anything was. All are equal and nobody writes.
    pub fn clear(&self) -> Result<bool> {
        let mut settled = false;
        for name in self.data() {
            let held = self.database(name)?.root(
                "SELECT COUNT(*) FROM multiactive.stranded WHERE state = 'Held'; \
                 SET sql_log_bin = 0; DELETE FROM orders.writes; DELETE FROM orders.counters; \
                 UPDATE multiactive.stranded SET state = 'Discarded' WHERE state = 'Held'",
            )?;
            settled |= held.concat().concat() != "0";
        }
        Ok(settled)
    }
}
