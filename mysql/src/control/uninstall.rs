//! Taking the schema away again, when a person asks for it. Nothing of the product does this by
//! itself.

use super::boots::PERSISTED;
use super::row::Answer;
use super::{ControlError, ControlSession};
use crate::session::Engine;

const DOING: &str = "take the schema multiactive away";

/// An arbiter writes a heartbeat every second or so; after this time without one, none is there.
const QUIET_SECONDS: u64 = 30;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uninstalled {
    /// It is gone, and nothing of ours is left in the server. `read_only` is as it was.
    Gone,
    /// There was none.
    NotThere,
    /// It is in use, and was left alone.
    InUse(InUse),
}

/// Why the schema was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// A guard runs: an arbiter holds the server open.
    Guard,
    /// A heartbeat was written so many seconds ago: an arbiter, or a link, is at work.
    Heartbeat(u64),
    /// So many transactions that a failover left behind are set aside here and not settled.
    Stranded(u64),
    /// So many transactions that a person had links skip are filed here and not settled.
    Held(u64),
}

impl ControlSession {
    /// Takes everything of ours out of the server, if nothing there is in use.
    ///
    /// It is not written to the binlog: each member has a schema of its own, and dropping one must
    /// not drop the others.
    pub async fn uninstall(&mut self) -> Result<Uninstalled, ControlError> {
        if !self.guards_running().await?.is_empty() {
            return Ok(Uninstalled::InUse(InUse::Guard));
        }
        match self.in_use().await {
            Ok(None) => {}
            Ok(Some(why)) => return Ok(Uninstalled::InUse(why)),
            Err(ControlError::NotInstalled { .. }) => return Ok(Uninstalled::NotThere),
            Err(error) => return Err(error),
        }
        // MySQL comes up with it shut, and nobody would be left to open it.
        self.open_door().await?;
        self.execute(
            DOING,
            "SET SESSION sql_log_bin = 0; DROP DATABASE IF EXISTS multiactive; \
             SET SESSION sql_log_bin = 1",
        )
        .await?;
        if self.engine == Engine::MySql {
            for variable in PERSISTED {
                let forget = format!("RESET PERSIST IF EXISTS {variable}");
                self.execute(DOING, &forget).await?;
            }
        }
        Ok(Uninstalled::Gone)
    }

    async fn in_use(&mut self) -> Result<Option<InUse>, ControlError> {
        let statement = "SELECT CAST(COALESCE(MIN(TIMESTAMPDIFF(SECOND, at, UTC_TIMESTAMP(6))), \
             86400) AS SIGNED) FROM multiactive.heartbeat; \
             SELECT COUNT(DISTINCT source, gtid) FROM multiactive.stranded WHERE state = 'Held'";
        let mut sets = self.query(DOING, statement).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let age: i64 = answer.value(&mut answer.row(&mut sets, 0)?, 0, "age")?;
        let stranded: u64 = answer.value(&mut answer.row(&mut sets, 1)?, 0, "count")?;
        let held = self.held().await?;
        let age = age.unsigned_abs();
        Ok(match (age, stranded, held) {
            (age, ..) if age < QUIET_SECONDS => Some(InUse::Heartbeat(age)),
            (_, 0, 0) => None,
            (_, 0, held) => Some(InUse::Held(held)),
            (_, stranded, _) => Some(InUse::Stranded(stranded)),
        })
    }

    /// How many transactions links were made to skip, and nobody has settled.
    async fn held(&mut self) -> Result<u64, ControlError> {
        const ALL: &str = "SELECT COUNT(DISTINCT link, source, gtid) FROM multiactive.held";
        let open = format!("{ALL} WHERE settled IS NULL");
        // A schema of before those columns has nothing settled; one of before that table, nothing
        // filed.
        for statement in [open.as_str(), ALL] {
            let mut sets = match self.query(DOING, statement).await {
                Ok(sets) => sets,
                Err(ControlError::NotInstalled { .. }) => continue,
                Err(error) => return Err(error),
            };
            let answer = Answer {
                doing: DOING,
                endpoint: &self.endpoint,
            };
            return answer.value(&mut answer.row(&mut sets, 0)?, 0, "count");
        }
        Ok(0)
    }
}
