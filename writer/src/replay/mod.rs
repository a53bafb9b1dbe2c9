//! Replaying what a failover set aside, in the member that takes the writes now: for a person, one
//! transaction of `multiactive.stranded` at a time, all of it or nothing.
//!
//! What is replayed is a write like any application's: it is born in the primary, belongs to the
//! epoch that is current, and reaches the other members through the links. Each change is a compare
//! and set ([`verdict`] has the rule), so a transaction that meets what somebody else wrote since is
//! left for a person, with the rows.
//!
//! **Once.** The transaction writes its row into `multiactive.replayed` first, whose key lets it do
//! so once a primary; a copy that became the primary since has its rows, and finds them there.
//!
//! **Only in the primary.** Our account passes `read_only` by, so each transaction looks itself: it
//! locks the newest row of `multiactive.epoch`, which must be this member's, and reads that
//! `read_only` is off, while it holds the server's lock [`LOCAL_WRITER`]. A fence takes that lock
//! after it has set `read_only` and ends whoever holds it, before it notes how far the server got.
//! A guard's fence inside the server does not; what would be committed after it is a local write of
//! an ended epoch, which is stranded again and not lost.

mod row;
pub(crate) mod verdict;

use change::{Body, TableChange};
use model::IdcName;
use mysql::control::LOCAL_WRITER;
use mysql::session::{Session, SessionOptions};
use mysql::stranded::{self, StrandedError};
use serde::Serialize;

use crate::bookkeeping;
use crate::error::{Class, WriterError};
use crate::target::lookup::{Mappings, quote};
use crate::target::session::Target;

pub use verdict::Kind;

/// At most so many rows of a transaction are told one by one.
const TOLD: usize = 100;
/// A collision with an application's transaction is tried again so often.
const COLLISIONS: u32 = 4;

/// Replays in one primary.
#[derive(Debug)]
pub struct Replayer {
    target: Target,
    mappings: Mappings,
    idc: IdcName,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Every change is in the primary now (in a rehearsal: would be).
    Replayed,
    /// It had been replayed before.
    ReplayedBefore,
    /// Nothing of it was applied: some of it is for a person.
    Held,
}

/// A transaction that was replayed, or tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// What became of it.
    pub outcome: Outcome,
    /// Changes that were applied, if the transaction was.
    pub applied: u64,
    /// Changes whose rows were there already.
    pub already_there: u64,
    /// Changes that are for a person.
    pub held: u64,
    /// The first of those.
    pub rows: Vec<HeldRow>,
}

/// A change that is for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRow {
    /// Why.
    pub kind: Kind,
    /// `database.table`.
    pub table: String,
    /// The row's key, as `column=value`, or the statement.
    pub key: String,
    /// What was expected and found, or the server's answer.
    pub detail: String,
}

/// Why nothing could be replayed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// This member does not take the writes.
    #[error("{idc} does not take the writes: {reason}")]
    NotPrimary {
        /// The member.
        idc: IdcName,
        /// What says so.
        reason: String,
    },
    /// Somebody else replays here.
    #[error("somebody else is replaying in {idc} (connection {connection}): wait for its end")]
    Busy {
        /// The member.
        idc: IdcName,
        /// The server's number of the other session.
        connection: u64,
    },
    /// It waits no longer.
    #[error(
        "{gtid} does not wait to be settled any more: somebody else has replayed or discarded it \
         meanwhile, and nothing of it was written here (mactl stranded list --settled tells who)"
    )]
    Settled {
        /// The transaction.
        gtid: String,
    },
    /// What is set aside cannot be read.
    #[error(transparent)]
    Stranded(#[from] StrandedError),
    /// The primary's answer.
    #[error(transparent)]
    Primary(#[from] WriterError),
}

impl Replayer {
    /// A session with a member that takes the writes.
    ///
    /// # Errors
    /// [`ReplayError::NotPrimary`] if it does not.
    pub async fn connect(options: &SessionOptions, idc: &IdcName) -> Result<Self, ReplayError> {
        let mut replayer = Self {
            target: Target::connect_local(options).await?,
            mappings: Mappings::default(),
            idc: idc.clone(),
        };
        let lock = format!("SELECT GET_LOCK('{LOCAL_WRITER}', 0), IS_USED_LOCK('{LOCAL_WRITER}')");
        let taken: Option<(Option<u64>, Option<u64>)> = replayer
            .target
            .first("taking the lock of local writers", &lock)
            .await?;
        if let Some((_, holder)) = taken.filter(|(taken, _)| *taken != Some(1)) {
            return Err(ReplayError::Busy {
                idc: idc.clone(),
                connection: holder.unwrap_or(0),
            });
        }
        replayer.check_primary().await?;
        Ok(replayer)
    }

    /// Begins a rehearsal: transactions are tried one after the other, each on top of those before it
    /// that would be replayed, and all is taken back at its end. The rows concerned are locked
    /// meanwhile.
    ///
    /// # Errors
    /// The primary's.
    pub async fn begin_rehearsal(&mut self) -> Result<(), ReplayError> {
        Ok(self
            .execute("beginning a rehearsal", "START TRANSACTION")
            .await?)
    }

    /// Tries one within a rehearsal.
    ///
    /// # Errors
    /// Any; the rehearsal has to be ended then.
    pub async fn rehearse(
        &mut self,
        from: &mut Session,
        source: &str,
        gtid: &str,
    ) -> Result<Replayed, ReplayError> {
        self.execute("marking the place", "SAVEPOINT one").await?;
        let replayed = self.attempt(from, source, gtid, "").await?;
        if replayed.outcome != Outcome::Replayed {
            self.execute("going back to the mark", "ROLLBACK TO SAVEPOINT one")
                .await?;
        }
        Ok(replayed)
    }

    /// Takes a rehearsal back.
    ///
    /// # Errors
    /// The primary's; the server takes it back all the same when the session ends.
    pub async fn end_rehearsal(&mut self) -> Result<(), ReplayError> {
        Ok(self.target.roll_back().await?)
    }

    /// Replays one transaction, all of it or nothing, and settles it where it is set aside in this
    /// member. `by` says who asked for it.
    ///
    /// # Errors
    /// Any; nothing of it was applied then, unless the connection broke while it was committed.
    pub async fn replay(
        &mut self,
        from: &mut Session,
        source: &str,
        gtid: &str,
        by: &str,
    ) -> Result<Replayed, ReplayError> {
        let mut collisions = 0;
        loop {
            let error = match self.replay_once(from, source, gtid, by).await {
                Ok(replayed) => return Ok(replayed),
                Err(error) => error,
            };
            drop(self.target.roll_back().await);
            let collided =
                matches!(&error, ReplayError::Primary(error) if error.class() == Class::Collision);
            collisions += 1;
            if !collided || collisions == COLLISIONS {
                return Err(error);
            }
        }
    }

    async fn replay_once(
        &mut self,
        from: &mut Session,
        source: &str,
        gtid: &str,
        by: &str,
    ) -> Result<Replayed, ReplayError> {
        self.execute("beginning a transaction", "START TRANSACTION")
            .await?;
        let replayed = self.attempt(from, source, gtid, by).await?;
        if replayed.outcome == Outcome::Replayed {
            self.check_primary().await?;
            self.execute("committing", "COMMIT").await?;
        } else {
            self.target.roll_back().await?;
        }
        Ok(replayed)
    }

    /// Makes one row what a change leaves it as, if it is what the change expects or that already, as
    /// an application's write. `Some` tells why it is neither; nothing was changed then.
    ///
    /// # Errors
    /// Any; nothing was changed, unless the connection broke while it was committed.
    pub async fn set(
        &mut self,
        gtid: &str,
        change: &TableChange,
    ) -> Result<Option<HeldRow>, ReplayError> {
        self.execute("beginning a transaction", "START TRANSACTION")
            .await?;
        match self.set_in_transaction(gtid, change).await {
            Ok(None) => Ok(None),
            other => {
                self.target.roll_back().await?;
                other
            }
        }
    }

    async fn set_in_transaction(
        &mut self,
        gtid: &str,
        change: &TableChange,
    ) -> Result<Option<HeldRow>, ReplayError> {
        self.check_primary().await?;
        let mapping = self.mappings.get(&mut self.target, &change.table).await?;
        for row in &change.rows {
            let one = row::One {
                gtid,
                change,
                mapping: &mapping,
                row,
            };
            if let row::Done::Held(held) = one.replay(&mut self.target).await? {
                return Ok(Some(held));
            }
        }
        self.check_primary().await?;
        self.execute("committing", "COMMIT").await?;
        Ok(None)
    }

    /// Everything of a transaction but its end.
    async fn attempt(
        &mut self,
        from: &mut Session,
        source: &str,
        gtid: &str,
        by: &str,
    ) -> Result<Replayed, ReplayError> {
        self.check_primary().await?;
        let mut replayed = Replayed {
            outcome: Outcome::Replayed,
            applied: 0,
            already_there: 0,
            held: 0,
            rows: Vec::new(),
        };
        if self.was_replayed(source, gtid).await? {
            replayed.outcome = Outcome::ReplayedBefore;
            return Ok(replayed);
        }
        let pieces = stranded::pieces(from, (source, gtid)).await?;
        let mut part = 0;
        while let Some(piece) = stranded::piece(from, source, gtid, part).await? {
            match &piece.body {
                Body::Ddl(ddl) => replayed.hold(HeldRow {
                    kind: Kind::Statement,
                    table: ddl.database.clone(),
                    key: ddl.told().into_owned(),
                    detail: match ddl.refused {
                        None => "run it by hand, then discard the transaction",
                        Some(_) => {
                            "its rows are not kept here: do by hand what it did, then discard it"
                        }
                    }
                    .to_owned(),
                }),
                Body::Rows(changes) => {
                    for change in changes {
                        self.table(gtid, change, &mut replayed).await?;
                    }
                }
            }
            part += 1;
        }
        // Somebody else may have settled it, even between two of its pieces.
        if pieces == 0 || part != pieces {
            return Err(ReplayError::Settled {
                gtid: gtid.to_owned(),
            });
        }
        if replayed.held > 0 {
            replayed.outcome = Outcome::Held;
        } else {
            self.settle(source, gtid, replayed.applied, by).await?;
        }
        Ok(replayed)
    }

    async fn table(
        &mut self,
        gtid: &str,
        change: &TableChange,
        replayed: &mut Replayed,
    ) -> Result<(), ReplayError> {
        // Heartbeats and the like speak of the member that they come from.
        if bookkeeping::is_ours(&change.table.database) {
            return Ok(());
        }
        let mapping = match self.mappings.get(&mut self.target, &change.table).await {
            Ok(mapping) => mapping,
            Err(WriterError::Unfit(unfit)) => {
                for _ in &change.rows {
                    replayed.hold(HeldRow {
                        kind: Kind::TableUnfit,
                        table: change.table.to_string(),
                        key: String::new(),
                        detail: unfit.to_string(),
                    });
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for row in &change.rows {
            let one = row::One {
                gtid,
                change,
                mapping: &mapping,
                row,
            };
            match one.replay(&mut self.target).await? {
                row::Done::Applied => replayed.applied += 1,
                row::Done::AlreadyThere => replayed.already_there += 1,
                row::Done::Held(held) => replayed.hold(held),
            }
        }
        Ok(())
    }

    /// Whether this member takes the writes. Within a transaction the answer stays true until its
    /// end, but for a fence, which ends this session.
    async fn check_primary(&mut self) -> Result<(), ReplayError> {
        let not = |reason: String| ReplayError::NotPrimary {
            idc: self.idc.clone(),
            reason,
        };
        let newest = "SELECT epoch, CAST(idc AS CHAR) FROM multiactive.epoch \
             ORDER BY epoch DESC LIMIT 1 LOCK IN SHARE MODE";
        let newest: Option<(u64, String)> = self
            .target
            .first("reading multiactive.epoch", newest)
            .await?;
        match newest {
            Some((_, holder)) if holder == self.idc.as_str() => {}
            Some((epoch, holder)) => {
                return Err(not(format!("epoch {epoch} is held by {holder}")));
            }
            None => return Err(not("no epoch has begun there".to_owned())),
        }
        let closed: Option<u8> = self
            .target
            .first(
                "asking whether it takes writes",
                "SELECT @@GLOBAL.read_only",
            )
            .await?;
        if closed != Some(0) {
            return Err(not("it is read_only".to_owned()));
        }
        Ok(())
    }

    async fn was_replayed(&mut self, source: &str, gtid: &str) -> Result<bool, WriterError> {
        let sql = format!(
            "SELECT COUNT(*) FROM multiactive.replayed WHERE source={} AND gtid={}",
            quote(source),
            quote(gtid)
        );
        let count: Option<u64> = self
            .target
            .first("reading multiactive.replayed", &sql)
            .await?;
        Ok(count != Some(0))
    }

    /// Writes down, in the transaction that replays it, that it was replayed.
    async fn settle(
        &mut self,
        source: &str,
        gtid: &str,
        changes: u64,
        by: &str,
    ) -> Result<(), WriterError> {
        let (source, gtid, by) = (quote(source), quote(gtid), quote(by));
        let sql = format!(
            "INSERT INTO multiactive.replayed (source, gtid, changes, at, `by`) \
             VALUES ({source},{gtid},{changes},UTC_TIMESTAMP(6),{by})"
        );
        self.execute("writing to multiactive.replayed", &sql)
            .await?;
        let sql = format!(
            "UPDATE multiactive.stranded SET state='Replayed', settled=UTC_TIMESTAMP(6), \
             settled_by={by} WHERE source={source} AND gtid={gtid} AND state='Held'"
        );
        self.execute("writing to multiactive.stranded", &sql).await
    }

    async fn execute(&mut self, doing: &str, sql: &str) -> Result<(), WriterError> {
        self.target.execute(doing, sql.as_bytes()).await
    }

    /// Ends the session.
    pub async fn close(self) {
        self.target.close().await;
    }
}

impl Replayed {
    fn hold(&mut self, row: HeldRow) {
        self.held += 1;
        if self.rows.len() < TOLD {
            self.rows.push(row);
        }
    }
}
