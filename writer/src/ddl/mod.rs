//! DDL of the source, run at the target exactly once.
//!
//! A DDL statement commits by itself, so it cannot share a transaction with the checkpoint. Three
//! things make it exactly one run all the same:
//! - before it runs, the intent is recorded in `multiactive.ddl` (outside the binlog);
//! - it runs under an identity of its own that the server records with its work: a GTID derived
//!   from the source's on MySQL, a number known beforehand in the origin's domain on MariaDB;
//! - a writer that finds the intent, and the checkpoint before it, looks for that identity and so
//!   knows whether the statement has run ([`decide`]).
//!
//! It runs in the session that holds the link's lock: while a statement of a writer that died is
//! still running, the next writer waits for the lock and sees the outcome, never the middle.
//!
//! Meanwhile a second session, the **guard**, holds the transaction that a row change would have:
//! the link's checkpoint and the newest epoch are locked, the epoch was judged, and it commits the
//! checkpoint when the statement is done. So a promotion waits for the statement as it waits for
//! rows.

mod decide;
mod environment;
mod fingerprint;
pub(crate) mod intent;
mod routed;
mod session;

use std::time::Duration;

use change::{Ddl, Gtid, Transaction};
use model::DdlPolicy;
use mysql::session::Engine;

use crate::apply::{Applier, LOCK_EPOCH, READ_EPOCH};
use crate::checkpoint::{self, Checkpoint, Newest};
use crate::epoch::Fate;
use crate::error::{Class, WriterError};
use crate::failpoint::{self, Point};
use crate::lag;
use crate::sql::charset;
use crate::sql::dialect;
use crate::sql::literal;
use crate::sql::plan::{Expect, Request, Subject};
use crate::status::Done;
use crate::target::session::{Cause, Failure, Target};
use decide::Decision;

/// Under which server id a MariaDB target logs replayed statements, so that the binlog state tells
/// their last number apart from that of rows: the letters `madd`.
const DDL_SERVER_ID: u32 = 0x6d61_6464;
/// What a person can do about a statement.
const BY_HAND: &str = "do its work at the target by hand and skip it";
/// How often the guard shows that it lives while a statement runs.
const GUARD_BEAT: Duration = Duration::from_secs(15);

/// Under which identity a statement runs at the target.
enum Identity {
    /// The GTID, on MySQL.
    MySql(String),
    /// Its number in the origin's domain, on MariaDB.
    MariaDb(u64),
}

impl Applier {
    /// Runs a DDL statement of the source, or leaves it out, as the link's settings say.
    pub(crate) async fn ddl(
        &mut self,
        transaction: &Transaction,
        ddl: &Ddl,
    ) -> Result<(), WriterError> {
        crate::bookkeeping::check_origin(transaction, &self.config)?;
        let fate = match (self.config.ddl, &ddl.refused) {
            (DdlPolicy::Ignore, None) => Fate::Applied,
            _ => self.fate(transaction).await?,
        };
        match fate {
            Fate::Applied => {}
            Fate::Stranded { .. } | Fate::Held => {
                return self
                    .transactions(std::slice::from_ref(transaction), None)
                    .await;
            }
            Fate::Lacking { ended_by, known } => {
                return Err(self.lacking(transaction, ended_by, known).await);
            }
        }
        // Around what is refused there may be rows of other tables.
        if self.is_about_missing(ddl) && ddl.refused.is_none() {
            return self.settle_ddl(transaction, ddl, false).await;
        }
        if let Some(refused) = ddl.refused.clone() {
            let gtid = transaction.gtid.clone();
            return Err(WriterError::NotCarried { gtid, refused });
        }
        match self.config.ddl {
            DdlPolicy::Apply => {}
            DdlPolicy::Ignore => return self.settle_ddl(transaction, ddl, false).await,
            DdlPolicy::Halt => {
                return Err(refused(
                    transaction,
                    ddl,
                    "the link's setting is ddl: Halt. Run it at the target by hand if it is wanted there",
                ));
            }
        }
        if self.makes_what_is_there(ddl).await? {
            return self.settle_ddl(transaction, ddl, false).await;
        }
        let mut guard = Target::connect(&self.options, &self.config.source.idc).await?;
        let outcome = self.ddl_guarded(&mut guard, transaction, ddl).await;
        guard.close().await;
        outcome
    }

    async fn ddl_guarded(
        &mut self,
        guard: &mut Target,
        transaction: &Transaction,
        ddl: &Ddl,
    ) -> Result<(), WriterError> {
        self.lock_for_ddl(guard).await?;
        let gtid: Gtid = transaction.gtid.parse()?;
        let databases = self.databases_of(ddl);
        let before = fingerprint::of(&mut self.target, &databases).await?;
        match self.decide_ddl(transaction, &gtid, &before).await? {
            Decision::HasRun => {
                tracing::info!(gtid = %transaction.gtid, "a statement had run before the writer ended");
            }
            Decision::Ambiguous(seen) => {
                return Err(WriterError::DdlAmbiguous {
                    statement: shorten(ddl),
                    gtid: transaction.gtid.clone(),
                    seen: seen.to_owned(),
                });
            }
            Decision::Run => {
                if let Some(reason) = self.meets_route(ddl).or_else(|| decide::refusal(ddl)) {
                    return Err(refused(transaction, ddl, &reason));
                }
                self.run_ddl(guard, transaction, ddl, &gtid, &before)
                    .await?;
            }
        }
        failpoint::pass(Point::AfterDdl);
        self.mappings.clear();
        let next = self.after_ddl(transaction, true)?;
        let mut sql = self.update_statement(&next, false)?;
        sql.extend_from_slice(b";COMMIT");
        guard
            .execute("writing the checkpoint after a statement", &sql)
            .await?;
        self.stored = next;
        self.settled = self.stored.clone();
        self.report_ddl(transaction, 1);
        self.forget_intent(&transaction.gtid).await
    }

    /// Opens the guard's transaction and judges the epoch.
    async fn lock_for_ddl(&self, guard: &mut Target) -> Result<(), WriterError> {
        let mut request = Request::default();
        request.push(Subject::Housekeeping, Expect::Success, b"START TRANSACTION");
        let lock = checkpoint::lock(&self.config.link, &self.stored.record);
        request.push(Subject::Checkpoint, Expect::Answer(1), &lock);
        request.push(Subject::Epoch, Expect::Success, LOCK_EPOCH);
        request.push(Subject::Epoch, Expect::Success, READ_EPOCH);
        let answers = match guard.run(&request).await {
            Ok(answers) => answers,
            Err(Failure {
                cause: Cause::Driver(source),
                ..
            }) => {
                let doing = "preparing a statement".to_owned();
                return Err(WriterError::Target { doing, source });
            }
            Err(_) => return Err(WriterError::CheckpointMoved),
        };
        self.check_epochs(&[answers[2].unwrap_or(0), answers[3].unwrap_or(0)])
    }

    async fn run_ddl(
        &mut self,
        guard: &mut Target,
        transaction: &Transaction,
        ddl: &Ddl,
        gtid: &Gtid,
        before: &str,
    ) -> Result<(), WriterError> {
        let settings = self.ddl_settings(transaction, ddl)?;
        let identity = match self.target.engine() {
            Engine::MySql => Identity::MySql(decide::derived_gtid(gtid, &self.config.source.idc)),
            Engine::MariaDb => Identity::MariaDb(self.binlog_numbers().await?.1 + 1),
        };
        let number = match &identity {
            Identity::MySql(_) => None,
            Identity::MariaDb(number) => Some(*number),
        };
        self.record_intent(transaction, ddl, before, number).await?;
        failpoint::pass(Point::BeforeDdl);
        self.target
            .execute("preparing the session for a statement", settings.as_bytes())
            .await?;
        // Without the source's default database, or where it is not at the target, the statement
        // names its databases itself; a name without one is then refused by the server.
        let database = if ddl.database.is_empty() || !self.has_database(&ddl.database).await? {
            "information_schema"
        } else {
            &ddl.database
        };
        let mut sql = b"USE ".to_vec();
        literal::identifier(&mut sql, database);
        self.target
            .execute("choosing the default database", &sql)
            .await?;
        let charset = self.charset_settings(transaction, ddl).await?;
        self.target
            .execute("preparing the session for a statement", charset.as_bytes())
            .await?;
        let mark = match identity {
            Identity::MySql(gtid) => format!("SET SESSION gtid_next='{gtid}'"),
            Identity::MariaDb(number) => {
                format!("SET SESSION server_id={DDL_SERVER_ID}, gtid_seq_no={number}")
            }
        };
        self.target
            .execute("giving a statement its GTID", mark.as_bytes())
            .await?;
        tracing::info!(gtid = %transaction.gtid, statement = %shorten(ddl), "running a statement");
        let ran = self.run_beside(guard, ddl).await;
        match ran {
            Ok(()) => self.after_statement().await,
            Err(source) => {
                // The session is left as it is; the next attempt opens a new one.
                let error = WriterError::Target {
                    doing: "running a statement".into(),
                    source,
                };
                if error.class() == Class::Halt {
                    let WriterError::Target { source, .. } = error else {
                        return Err(error);
                    };
                    return Err(WriterError::DdlFailed {
                        statement: shorten(ddl),
                        gtid: transaction.gtid.clone(),
                        answer: answer(&source),
                        fix: format!("mend the cause and it is tried again, or {BY_HAND}"),
                    });
                }
                Err(error)
            }
        }
    }

    /// Runs the statement while the guard shows that it lives.
    async fn run_beside(
        &mut self,
        guard: &mut Target,
        ddl: &Ddl,
    ) -> Result<(), mysql_async::Error> {
        use mysql_async::prelude::Queryable as _;
        // In the other character sets a byte below 128 may be half of a character.
        let readable = charset::of_collation(ddl.session.charset_client)
            .is_none_or(|name| !charset::hides_ascii(name));
        let text = if readable {
            dialect::translate(&ddl.statement, self.target.engine())
        } else {
            (&*ddl.statement).into()
        };
        let statement = self.target.conn().query_drop(&*text);
        tokio::pin!(statement);
        loop {
            tokio::select! {
                ran = &mut statement => return ran,
                () = tokio::time::sleep(GUARD_BEAT) => {
                    if let Err(error) = guard.execute("keeping the guard alive", b"DO 1").await {
                        // The checkpoint cannot be written then, and the next attempt finds the
                        // statement's outcome.
                        tracing::warn!(%error, "the guard of a running statement is gone");
                    }
                }
            }
        }
    }

    async fn after_statement(&mut self) -> Result<(), WriterError> {
        if self.target.engine() == Engine::MariaDb {
            self.target
                .execute(
                    "resetting the session",
                    b"SET SESSION server_id=@@GLOBAL.server_id, gtid_seq_no=0",
                )
                .await?;
        }
        self.target.mark(&self.config.source.idc).await?;
        self.target.usual_state().await
    }

    /// Moves the checkpoint past a statement that is left out.
    async fn settle_ddl(
        &mut self,
        transaction: &Transaction,
        ddl: &Ddl,
        applied: bool,
    ) -> Result<(), WriterError> {
        self.settled = self.after_ddl(transaction, applied)?;
        self.store(false).await?;
        tracing::info!(gtid = %transaction.gtid, statement = %shorten(ddl), "statement left out");
        self.report_ddl(transaction, 0);
        Ok(())
    }

    fn after_ddl(
        &self,
        transaction: &Transaction,
        applied: bool,
    ) -> Result<Checkpoint, WriterError> {
        let position = transaction
            .position
            .as_ref()
            .ok_or_else(|| WriterError::Unexpected {
                what: format!("the statement {} without a position", transaction.gtid),
                fix: "run the same release of syncer and writer".to_owned(),
            })?;
        let mut next = self.settled.clone();
        next.arrive(position, transaction.epoch, Some(transaction.into()));
        next.record.serial = self.stored.record.serial + 1;
        if applied {
            next.record.newest = Some(Newest::of(transaction));
        }
        let ledger = &mut next.record.ledger;
        ledger.read += 1 + transaction.filtered;
        ledger.filtered += transaction.filtered + u64::from(!applied);
        ledger.applied += u64::from(applied);
        Ok(next)
    }

    fn report_ddl(&self, transaction: &Transaction, changes: u64) {
        let lag_millis = transaction.position.as_ref().map(|position| {
            lag::of_batch(
                std::slice::from_ref(transaction),
                position,
                &self.config.source.idc,
            )
        });
        let settled = 1 + transaction.filtered;
        self.status.committed(
            &self.stored,
            Done {
                transactions: 1,
                changes,
                settled,
                stranded: 0,
                held: 0,
                lag_millis,
            },
        );
    }

    /// Every database whose definitions the statement may change.
    fn databases_of(&self, ddl: &Ddl) -> Vec<String> {
        let mut databases = self.config.databases.clone();
        databases.extend(ddl.objects.iter().map(|object| object.database.clone()));
        databases.push(ddl.database.clone());
        databases.retain(|name| !name.is_empty());
        databases.sort();
        databases.dedup();
        databases
    }
}

fn refused(transaction: &Transaction, ddl: &Ddl, reason: &str) -> WriterError {
    WriterError::DdlRefused {
        statement: shorten(ddl),
        gtid: transaction.gtid.clone(),
        reason: reason.to_owned(),
    }
}

/// What the server answered, and what helps where that is known.
fn answer(error: &mysql_async::Error) -> String {
    // ER_BINLOG_CREATE_ROUTINE_NEED_SUPER: what it guards against is a binlog of statements.
    const NEEDS_SUPER: u16 = 1419;
    let hint = match error {
        mysql_async::Error::Server(server) if server.code == NEEDS_SUPER => {
            ". Where every binlog is of rows, as links require, this is safe at the target: SET \
             GLOBAL log_bin_trust_function_creators = 1 (and in its configuration)"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

fn shorten(ddl: &Ddl) -> String {
    change::shown(&ddl.statement, change::SHOWN)
}
