//! Starting the guard (rule 2): a `CALL` that runs in the server and fences it by itself.

use std::time::Duration;

use model::{Generation, ServerIdentity};
use mysql_async::prelude::Queryable;
use tokio::task::JoinHandle;

use super::procedures::GUARD;
use super::{ControlError, ControlSession, literal};
use crate::session::{Session, SessionOptions};

/// What guard to start.
#[derive(Debug, Clone)]
pub struct GuardOrder {
    /// When it has to begin its fence, on the clock that the caller passes along.
    pub until: Duration,
    /// The server it is for; it refuses to run in another.
    pub identity: ServerIdentity,
    /// The generation of the arbiter.
    pub generation: Generation,
}

/// A guard that is ready to be started, on a connection of its own.
#[derive(Debug)]
pub struct PreparedGuard {
    session: Session,
    id: u64,
    deadline_micros: i64,
    call: String,
}

/// A guard that was seen running. Dropping this closes its connection on this side only: **the
/// guard goes on in the server until its deadline**, or until it is ended by
/// [`ControlSession::end_guards`].
#[derive(Debug)]
pub struct GuardHandle {
    id: u64,
    deadline_micros: i64,
    running: JoinHandle<()>,
}

impl GuardHandle {
    /// The server's number of its connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its deadline on the server's clock, in UTC microseconds since 1970.
    pub fn deadline_micros(&self) -> i64 {
        self.deadline_micros
    }
}

impl Drop for GuardHandle {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// `n + (until - r)`: the deadline on the server's clock, which read `n` no later than the local
/// clock read `r`. However late the answer came, this can only shorten. `None` if it is over.
pub(super) fn server_deadline(server: i64, local: Duration, until: Duration) -> Option<i64> {
    let left = until.checked_sub(local).filter(|left| !left.is_zero())?;
    server.checked_add(i64::try_from(left.as_micros()).ok()?)
}

impl ControlSession {
    /// Starts a guard on a connection of its own and returns when the process list shows it
    /// running; only then it counts. Guards that ran before are not ended: do that afterwards with
    /// [`ControlSession::end_guards`] and this one's number.
    ///
    /// `clock` is the caller's monotonic clock, on which `order.until` is a time; it has to go on
    /// while the machine is suspended (`CLOCK_BOOTTIME`).
    ///
    /// # Errors
    /// Those of [`Self::prepare_guard`] and [`Self::run_guard`].
    pub async fn start_guard(
        &mut self,
        options: &SessionOptions,
        order: &GuardOrder,
        clock: impl Fn() -> Duration,
    ) -> Result<GuardHandle, ControlError> {
        let prepared = self.prepare_guard(options, order, clock).await?;
        self.run_guard(prepared).await
    }

    /// The first half of [`Self::start_guard`]: after an error no guard was started, nor will be.
    ///
    /// # Errors
    /// [`ControlError::DeadlineOver`], and those of any session.
    pub async fn prepare_guard(
        &self,
        options: &SessionOptions,
        order: &GuardOrder,
        clock: impl Fn() -> Duration,
    ) -> Result<PreparedGuard, ControlError> {
        let mut own = ControlSession::connect(options, self.patience).await?;
        let server = own.clock_micros().await?;
        let endpoint = self.endpoint.clone();
        let Some(deadline_micros) = server_deadline(server, clock(), order.until) else {
            return Err(ControlError::DeadlineOver { endpoint });
        };
        let id = u64::from(own.id());
        let Some(session) = own.session.take() else {
            let doing = "start the guard";
            return Err(ControlError::Broken { doing, endpoint });
        };
        let call = format!(
            "CALL multiactive.{GUARD}({server}, {deadline_micros}, {}, {})",
            literal(&order.identity.0),
            order.generation.0
        );
        Ok(PreparedGuard {
            session,
            id,
            deadline_micros,
            call,
        })
    }

    /// The second half: after an error the guard may run all the same.
    ///
    /// # Errors
    /// [`ControlError::GuardNotSeen`], and those of any session.
    pub async fn run_guard(
        &mut self,
        prepared: PreparedGuard,
    ) -> Result<GuardHandle, ControlError> {
        let PreparedGuard {
            mut session,
            id,
            deadline_micros,
            call,
        } = prepared;
        let (ended, end) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(async move {
            let outcome = session.conn.query_drop(call).await;
            // Nobody listens any more once the guard was seen running.
            drop(ended.send(outcome));
        });
        let handle = GuardHandle {
            id,
            deadline_micros,
            running,
        };
        self.see_running(&handle, end).await?;
        Ok(handle)
    }

    async fn see_running(
        &mut self,
        handle: &GuardHandle,
        mut end: tokio::sync::oneshot::Receiver<Result<(), mysql_async::Error>>,
    ) -> Result<(), ControlError> {
        let endpoint = self.endpoint.clone();
        let not_seen = |reason| ControlError::GuardNotSeen {
            endpoint: endpoint.clone(),
            reason,
        };
        let give_up = tokio::time::Instant::now() + self.patience;
        loop {
            let seen = self.guards_running().await?;
            if seen.iter().any(|guard| {
                guard.id == handle.id && guard.deadline_micros == handle.deadline_micros
            }) {
                return Ok(());
            }
            match end.try_recv() {
                Ok(Ok(())) => return Err(not_seen("it has ended already".to_owned())),
                Ok(Err(error)) => return Err(not_seen(error.to_string())),
                Err(_) => {}
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(not_seen(format!("not within {:?}", self.patience)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_only_shortens() {
        let millis = Duration::from_millis;
        assert_eq!(
            server_deadline(1_000_000, millis(10), millis(60)),
            Some(1_050_000)
        );
        assert_eq!(
            server_deadline(1_000_000, millis(40), millis(60)),
            Some(1_020_000)
        );
        assert_eq!(server_deadline(1_000_000, millis(60), millis(60)), None);
        assert_eq!(server_deadline(1_000_000, millis(70), millis(60)), None);
    }
}
