//! Making a server refuse writes, and proving it (rule 5).
//!
//! Cut, close, check. What each engine needs was tried on MySQL 9.7.4 and MariaDB 10.11.19:
//! `SET GLOBAL read_only = 1` returns only when no statement and no commit of an ordinary session
//! is under way; while it waits for one, other sessions can still commit. So sessions are killed
//! first, behind a door that is shut so that none comes back ([`door`]).
//! The variable reads 0 until it is really in force, so reading it back is proof.

use std::time::{Duration, Instant};

use model::{Epoch, Generation, IdcName, PositionText, ServerBoot, ServerIdentity};

use super::observe::position_expression;
use super::procedures::{CUT, LOCAL_WRITER, OPENING, boot};
use super::row::Answer;
use super::{ControlError, ControlSession, FenceError, door, heartbeat_statement, literal};
use crate::session::Engine;

/// How long the last heartbeat may take.
const LAST_HEARTBEAT: Duration = Duration::from_millis(300);

/// How to fence.
#[derive(Debug, Clone)]
pub struct FenceOptions {
    /// The generation of the arbiter; must not be older than one that has acted here (rule 12).
    pub generation: Generation,
    /// How long transactions that are open when the fence begins have to end by themselves; zero
    /// in an emergency. Others go on writing meanwhile.
    pub grace: Duration,
    /// How long it may take after the grace.
    pub budget: Duration,
    /// Connections of ours that must not be killed, beside this session and guards.
    pub keep: Vec<u64>,
    /// Whose heartbeat is written after the fence, with the epoch it ends; then the returned
    /// position lies after everything else and crosses links at once.
    pub heartbeat: Option<(IdcName, Epoch)>,
}

/// A server that refuses writes of ordinary accounts, seen to do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceOutcome {
    /// The server.
    pub identity: ServerIdentity,
    /// Its boot.
    pub boot: ServerBoot,
    /// Its position after the fence, the last heartbeat included: nothing that was born here
    /// before the next opening lies beyond, other than heartbeats.
    pub position: PositionText,
}

impl ControlSession {
    /// Fences the server and ends its guards. **Only `Ok` is a fence.** On a time-out the error
    /// says what stands in the way, and ordinary sessions are kept out; call it again.
    ///
    /// A process that was superseded fences nothing: its successor may have opened the server, and
    /// keeps a guard in it. Between this look and the fence a successor may begin all the same; it
    /// then finds the server fenced, and opens it again.
    ///
    /// Afterwards no earlier order opens the server: one of an earlier generation is refused, since
    /// this one is remembered before the last cut; one of the same generation finds no guard; and
    /// one that had found a guard has ended, since it holds the lock [`OPENING`] until its end.
    pub async fn fence(&mut self, options: &FenceOptions) -> Result<FenceOutcome, FenceError> {
        let adopted = match self.obeyed(options.generation).await {
            Ok(obeyed) => obeyed == options.generation,
            Err(error) if !self.is_usable() || matches!(error, ControlError::Superseded { .. }) => {
                return Err(error.into());
            }
            // Somebody holds the table locked. The cut ends that.
            Err(_) => false,
        };
        if !options.grace.is_zero() {
            self.let_transactions_end(options.grace).await?;
        }
        let deadline = Instant::now() + options.budget;
        let keep: Vec<String> = options.keep.iter().map(u64::to_string).collect();
        let keep = keep.join(",");
        self.execute("refuse ordinary sessions", &door::shut())
            .await?;
        self.close(&keep, options, deadline).await?;
        if !adopted {
            self.adopt(options.generation).await?;
            self.close(&keep, options, deadline).await?;
        }
        // `read_only` does not stop our own account.
        self.end_holder(LOCAL_WRITER, options, deadline).await?;
        if self.engine == Engine::MySql {
            self.wait_until_cut(&keep, options, deadline).await?;
            let transactions = self.prepared_transactions().await?;
            if !transactions.is_empty() {
                return Err(FenceError::PreparedXa {
                    endpoint: self.endpoint.clone(),
                    transactions,
                });
            }
        }
        // From here on nothing needs a guard, and one that passed its deadline would only cut the
        // readers of a server that is fenced.
        self.await_end_of_guards(options, deadline).await?;
        self.end_holder(OPENING, options, deadline).await?;
        self.open_door().await?;
        let fenced = self.fenced_outcome(options).await?;
        let Some((idc, epoch)) = &options.heartbeat else {
            return Ok(fenced);
        };
        // A full disk holds it up. Then others go by the time, and the proof stands without it.
        let heartbeat = heartbeat_statement(options.generation, idc, *epoch, false);
        let doing = "write the last heartbeat";
        match self.query_within(doing, &heartbeat, LAST_HEARTBEAT).await {
            Ok(_) => self.fenced_outcome(options).await,
            Err(_) => Ok(fenced),
        }
    }

    /// Kills and sets until `read_only` is read back.
    async fn close(
        &mut self,
        keep: &str,
        options: &FenceOptions,
        deadline: Instant,
    ) -> Result<(), FenceError> {
        const DOING: &str = "set read_only";
        let cut_and_close = format!(
            "CALL multiactive.{CUT}({}, 1, @multiactive_left, @multiactive_denied); \
             SET GLOBAL read_only = ON",
            literal(keep)
        );
        loop {
            // The server waits for at most one second (the session's `lock_wait_timeout`), so an
            // answer that takes much longer is a server that does not answer.
            let patience = Duration::from_secs(2).max(self.patience);
            match self.query_within(DOING, &cut_and_close, patience).await {
                Ok(_) => {}
                // ER_LOCK_WAIT_TIMEOUT, and a deadlock that this session was chosen to give way in
                Err(error) if matches!(error.server_code(), Some(1205 | 1213)) => {}
                Err(error) => return Err(error.into()),
            }
            if self.reads_only().await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(options).await?);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn await_end_of_guards(
        &mut self,
        options: &FenceOptions,
        deadline: Instant,
    ) -> Result<(), FenceError> {
        loop {
            let guards = self.guards_running().await?;
            if guards.is_empty() {
                return Ok(());
            }
            if let Some(later) = guards.iter().find(|it| it.generation > options.generation) {
                return Err(self.superseded(options.generation, later.generation).into());
            }
            self.end_guards(options.generation, None).await?;
            if Instant::now() >= deadline {
                return Err(self.timed_out(options).await?);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the session that holds this lock of ours. It takes the lock before it looks whether the
    /// server is fenced and keeps it until its end, so one that takes it after this sees that.
    async fn end_holder(
        &mut self,
        lock: &'static str,
        options: &FenceOptions,
        deadline: Instant,
    ) -> Result<(), FenceError> {
        const DOING: &str = "end the holder of a lock";
        let take = format!(
            "SELECT COALESCE(IF(GET_LOCK('{lock}', 0) = 1, \
             RELEASE_LOCK('{lock}') - 1, IS_USED_LOCK('{lock}')), -1)"
        );
        loop {
            let mut sets = self.query(DOING, &take).await?;
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            let mut row = answer.row(&mut sets, 0)?;
            match answer.value::<i64>(&mut row, 0, "holder of a lock")? {
                0 => return Ok(()),
                holder => {
                    if let Ok(holder) = u64::try_from(holder) {
                        self.kill(holder).await?;
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(options).await?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every killed session is gone: one that was in the middle of `XA PREPARE` could
    /// otherwise leave a prepared transaction just after we looked. Those of accounts that ours
    /// may not kill are let be: they pass `read_only` by in any case, which preflight warns of.
    async fn wait_until_cut(
        &mut self,
        keep: &str,
        options: &FenceOptions,
        deadline: Instant,
    ) -> Result<(), FenceError> {
        const DOING: &str = "cut sessions";
        let cut = format!(
            "CALL multiactive.{CUT}({}, 0, @multiactive_left, @multiactive_denied); \
             SELECT CAST(@multiactive_left AS SIGNED), CAST(@multiactive_denied AS SIGNED)",
            literal(keep)
        );
        loop {
            let mut sets = self.query(DOING, &cut).await?;
            sets.retain(|rows| !rows.is_empty());
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            let mut row = answer.row(&mut sets, 0)?;
            let left: i64 = answer.value(&mut row, 0, "number of sessions")?;
            let denied: i64 = answer.value(&mut row, 1, "number of sessions")?;
            if left <= denied {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(options).await?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn timed_out(&mut self, options: &FenceOptions) -> Result<FenceError, ControlError> {
        let obstacles = self.obstacles().await?;
        let endpoint = self.endpoint.clone();
        Ok(FenceError::TimedOut {
            endpoint,
            budget: options.budget,
            obstacles,
        })
    }

    pub(super) async fn reads_only(&mut self) -> Result<bool, ControlError> {
        const DOING: &str = "read read_only back";
        let mut sets = self.query(DOING, "SELECT @@GLOBAL.read_only").await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        Ok(answer.value::<u8>(&mut row, 0, "read_only")? == 1)
    }

    /// The XIDs of prepared XA transactions, as `XA ROLLBACK` takes them.
    pub(crate) async fn prepared_transactions(&mut self) -> Result<Vec<String>, ControlError> {
        const DOING: &str = "look for prepared XA transactions";
        let convert = match self.engine {
            Engine::MySql => "XA RECOVER CONVERT XID",
            Engine::MariaDb => "XA RECOVER FORMAT='SQL'",
        };
        let mut sets = self.query(DOING, convert).await?;
        let rows = if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        };
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        rows.into_iter()
            .map(|mut row| {
                let data: String = answer.value(&mut row, 3, "XID")?;
                if self.engine == Engine::MariaDb {
                    return Ok(data);
                }
                let format: i64 = answer.value(&mut row, 0, "format id")?;
                let gtrid: usize = answer.value(&mut row, 1, "length")?;
                Ok(xid(&data, gtrid, format))
            })
            .collect()
    }

    /// Waits until the transactions that are open now have ended, or the grace is over. The engine
    /// renews what it tells only for those who ask less often than every 0.1 s.
    async fn let_transactions_end(&mut self, grace: Duration) -> Result<(), ControlError> {
        const DOING: &str = "wait for open transactions";
        let end = Instant::now() + grace;
        let open = "SELECT trx_id FROM information_schema.innodb_trx \
             WHERE trx_mysql_thread_id NOT IN (0, CONNECTION_ID())";
        let mut sets = self.query(DOING, open).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut waited_for = Vec::new();
        for mut row in sets.drain(..).flatten() {
            let id: String = answer.value(&mut row, 0, "transaction")?;
            waited_for.push(literal(&id));
        }
        let still = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_id IN ({})",
            waited_for.join(", ")
        );
        while !waited_for.is_empty() && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(Duration::from_millis(120))).await;
            let mut sets = self.query(DOING, &still).await?;
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            let mut row = answer.row(&mut sets, 0)?;
            if answer.value::<u64>(&mut row, 0, "count")? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Reads the proof. `read_only` is looked at once more in the same statement, so that a person
    /// who opened the server by hand meanwhile makes the fence fail.
    async fn fenced_outcome(&mut self, options: &FenceOptions) -> Result<FenceOutcome, FenceError> {
        const DOING: &str = "read the position after the fence";
        let statement = format!(
            "SELECT (SELECT MAX(uuid) FROM multiactive.identity), {}, {}, @@GLOBAL.read_only",
            boot(self.engine),
            position_expression(self.engine)
        );
        let mut sets = self.query(DOING, &statement).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(&mut sets, 0)?;
        if answer.value::<u8>(&mut row, 3, "read_only")? != 1 {
            return Err(self.timed_out(options).await?);
        }
        Ok(FenceOutcome {
            identity: ServerIdentity(answer.value(&mut row, 0, "identity")?),
            boot: ServerBoot(answer.value(&mut row, 1, "boot")?),
            position: PositionText(answer.value(&mut row, 2, "position")?),
        })
    }
}

/// `XA RECOVER CONVERT XID` gives both parts as one hexadecimal text, with the first one's length.
fn xid(data: &str, gtrid_length: usize, format: i64) -> String {
    let hex = data.strip_prefix("0x").unwrap_or(data);
    let (gtrid, bqual) = hex.split_at_checked(gtrid_length * 2).unwrap_or((hex, ""));
    format!("X'{gtrid}',X'{bqual}',{format}")
}

#[cfg(test)]
mod tests {
    use super::xid;

    #[test]
    fn xids_are_written_as_statements_take_them() {
        assert_eq!(xid("0x6162", 1, 1), "X'61',X'62',1");
        assert_eq!(xid("0x6162", 2, 7), "X'6162',X'',7");
    }
}
