//! What the arbiter does to the server of its own IDC: install the schema, look, beat, guard, open,
//! fence, promote. The rules that are referred to by number are those of the arbitration design.
//!
//! Everything here happens through a [`ControlSession`]. Each call is bounded by the session's
//! patience; a call that ran out of it has dropped the connection, and whoever holds the session
//! makes a new one. **A time-out says nothing about the server's state.**

mod boots;
mod checkpoints;
mod door;
mod error;
mod fence;
mod guard;
mod hindrances;
mod install;
mod observe;
mod open;
mod owner;
mod procedures;
mod processes;
mod promise;
mod promote;
mod row;
mod tables;
mod uninstall;

use std::time::Duration;

use model::{Generation, IdcName};
use mysql_async::Row;
use mysql_async::prelude::Queryable;

use crate::session::{Engine, Session, SessionOptions};

pub use boots::BootsFenced;
pub use error::{ControlError, FenceError, Obstacle};
pub use fence::{FenceOptions, FenceOutcome};
pub use guard::{GuardHandle, GuardOrder, PreparedGuard};
pub use hindrances::{Connections, FiledCounts, Hindrances};
use install::OBEYED;
pub use observe::{HeartbeatRow, Observation, Peek};
pub use open::{OpenOrder, OpenOutcome, OpenRefusal};
pub use owner::{Owner, OwnerRow, Ownership};
pub use procedures::LOCAL_WRITER;
pub(crate) use procedures::process_list;
pub use processes::RunningGuard;
pub use promise::{PromiseOrder, PromiseOutcome, PromiseRow};
pub use promote::{Promotion, PromotionOrder};
pub use tables::SCHEMA_VERSION;
pub use uninstall::{InUse, Uninstalled};

/// A session of the arbiter that has been prepared: UTC, short lock waits, a known SQL mode.
#[derive(Debug)]
pub struct ControlSession {
    session: Option<Session>,
    engine: Engine,
    endpoint: model::Endpoint,
    id: u32,
    patience: Duration,
}

impl ControlSession {
    /// Connects and prepares a session. `patience` bounds every later call but the fence, which
    /// has a budget of its own.
    pub async fn connect(
        options: &SessionOptions,
        patience: Duration,
    ) -> Result<Self, ControlError> {
        let mut session = options
            .clone()
            .with_connect_timeout(patience)
            .connect()
            .await?;
        let engine = session.engine();
        let endpoint = session.endpoint().clone();
        // Sessions of ours must never wait for long behind somebody else's locks, and what they
        // write must mean the same whatever the server's defaults are. The zone matters to the
        // guard, whose clock is SYSDATE.
        let prepare = "SET SESSION time_zone = '+00:00', lock_wait_timeout = 1, \
             innodb_lock_wait_timeout = 1, sql_mode = 'STRICT_ALL_TABLES', autocommit = 1, \
             transaction_isolation = 'REPEATABLE-READ', character_set_client = 'utf8mb4', \
             character_set_results = 'utf8mb4', collation_connection = 'utf8mb4_bin'";
        let prepare = match engine {
            Engine::MySql => prepare.to_owned(),
            // The variable has this name on every supported MariaDB; the other one is newer.
            Engine::MariaDb => prepare.replace("transaction_isolation", "tx_isolation"),
        };
        let id = session.id();
        let preparing = session.conn.query_drop(prepare);
        match tokio::time::timeout(patience, preparing).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => {
                return Err(ControlError::sql("prepare a session", &endpoint, source));
            }
            Err(_) => {
                return Err(ControlError::timeout(
                    "prepare a session",
                    &endpoint,
                    patience,
                ));
            }
        }
        Ok(Self {
            session: Some(session),
            engine,
            endpoint,
            id,
            patience,
        })
    }

    /// The server's engine.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The server's own number of this connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The session below, for what this module does not offer (preflight); `None` after a
    /// time-out or a broken connection.
    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Whether a call may still be made: false after a time-out or a broken connection.
    pub fn is_usable(&self) -> bool {
        self.session.is_some()
    }

    /// Writes the heartbeat row of this IDC: who it is, the epoch it knows, whether it believes
    /// itself writable. It is an ordinary logged transaction born here, so it crosses links; it
    /// also works while the server is fenced, since our account passes `read_only` by. Nothing is
    /// written where the server obeys a later generation than this one.
    pub async fn heartbeat(
        &mut self,
        generation: Generation,
        idc: &IdcName,
        epoch: model::Epoch,
        writable: bool,
    ) -> Result<(), ControlError> {
        let statement = heartbeat_statement(generation, idc, epoch, writable);
        self.execute("write the heartbeat", &statement).await
    }

    /// Runs one statement that returns nothing.
    pub(crate) async fn execute(
        &mut self,
        doing: &'static str,
        statement: &str,
    ) -> Result<(), ControlError> {
        self.query(doing, statement).await.map(drop)
    }

    /// Runs one or several statements in one round trip and returns the rows of each.
    pub(crate) async fn query(
        &mut self,
        doing: &'static str,
        statements: &str,
    ) -> Result<Vec<Vec<Row>>, ControlError> {
        let patience = self.patience;
        self.query_within(doing, statements, patience).await
    }

    pub(crate) async fn query_within(
        &mut self,
        doing: &'static str,
        statements: &str,
        patience: Duration,
    ) -> Result<Vec<Vec<Row>>, ControlError> {
        // The session is taken out and put back only when the answer was read to its end, so that
        // neither a time-out nor a caller that drops this future leaves half an answer behind.
        let Some(mut session) = self.session.take() else {
            return Err(ControlError::Broken {
                doing,
                endpoint: self.endpoint.clone(),
            });
        };
        let answer = tokio::time::timeout(patience, all_sets(&mut session, statements)).await;
        match answer {
            Ok(Ok(sets)) => {
                self.session = Some(session);
                Ok(sets)
            }
            Ok(Err(source)) => {
                if !source.is_fatal() {
                    self.session = Some(session);
                }
                Err(ControlError::sql(doing, &self.endpoint, source))
            }
            Err(_) => Err(ControlError::timeout(doing, &self.endpoint, patience)),
        }
    }
}

async fn all_sets(
    session: &mut Session,
    statements: &str,
) -> Result<Vec<Vec<Row>>, mysql_async::Error> {
    let mut sets = Vec::new();
    let mut result = session.conn.query_iter(statements).await?;
    while !result.is_empty() {
        sets.push(result.collect().await?);
    }
    result.drop_result().await?;
    Ok(sets)
}

fn heartbeat_statement(
    generation: Generation,
    idc: &IdcName,
    epoch: model::Epoch,
    writable: bool,
) -> String {
    // Read beforehand, since an INSERT that reads a table locks what it reads.
    // ON DUPLICATE KEY UPDATE rather than REPLACE: an update of the row, never delete and insert.
    format!(
        "SET @multiactive_obeyed = ({OBEYED}); \
         INSERT INTO multiactive.heartbeat (idc, epoch, writable, seq, at) \
         SELECT {idc}, {epoch}, {writable}, 1, SYSDATE(6) FROM DUAL \
         WHERE @multiactive_obeyed <= {generation} \
         ON DUPLICATE KEY UPDATE epoch = {epoch}, writable = {writable}, seq = seq + 1, \
         at = SYSDATE(6)",
        generation = generation.0,
        idc = literal(idc.as_str()),
        writable = u8::from(writable),
    )
}

/// A string literal, for sessions whose SQL mode is ours.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A quoted identifier.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
