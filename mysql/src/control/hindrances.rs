//! What would make a planned switchover hurt: looked for before it begins.

use std::collections::BTreeMap;

use model::{Epoch, IdcName};

use super::procedures::process_list;
use super::row::Answer;
use super::{ControlError, ControlSession, literal};
use crate::copies;
use crate::session::Engine;

const DOING: &str = "look for what stands against a switchover";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hindrances {
    /// Statements that a fence would have to wait for or to kill: an ALTER at work. The first
    /// hundred characters of each.
    pub alters: Vec<String>,
    /// Whether a session holds a lock for a backup. `None` where that cannot be seen: on MariaDB
    /// without its plugin `metadata_lock_info`, unless somebody waits for such a lock, and on MySQL
    /// without `SELECT` on `performance_schema.metadata_locks`.
    pub backup_lock: Option<bool>,
    /// Prepared XA transactions.
    pub prepared_xa: u64,
    /// Transactions of an ended epoch that were set aside here and not settled.
    pub stranded: u64,
    /// How many of this server's own transactions that another member has set aside were taken back
    /// here, by the member.
    pub undone: BTreeMap<IdcName, u64>,
    /// The links that still copy tables to this server, so that rows are missing here. Not told of a
    /// server that holds the newest epoch: what it has is what the others are copies of.
    pub copied_by: Vec<String>,
    /// How many connections are in use.
    pub connections: Connections,
}

/// A server's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// So many are in use.
    pub used: u64,
    /// So many it allows to ordinary accounts.
    pub most: u64,
}

/// How many of one member's transactions another member has set aside, by the epoch that ended
/// theirs.
pub type FiledCounts = BTreeMap<Epoch, u64>;

impl ControlSession {
    /// Looks for what would make a planned switchover of this server hurt.
    pub async fn hindrances(&mut self) -> Result<Hindrances, ControlError> {
        // Both engines have these states; the first copies a table, the second changes it in place.
        let statement = format!(
            "SELECT LEFT(COALESCE(CAST(info AS CHAR), state), 100) FROM {} \
             WHERE state IN ('copy to tmp table', 'altering table') LIMIT 5; \
             SELECT COUNT(DISTINCT source, gtid) FROM multiactive.stranded WHERE state = 'Held'; \
             SELECT filed_in, COUNT(*) FROM multiactive.undone WHERE source IS NULL \
             GROUP BY filed_in; \
             SHOW GLOBAL STATUS LIKE 'Threads_connected'; \
             SELECT @@GLOBAL.max_connections; \
             SELECT CAST(link AS CHAR), CAST(snapshot AS CHAR) FROM multiactive.applied \
             WHERE COALESCE(JSON_UNQUOTE(JSON_EXTRACT(snapshot, '$.done')), 'false') <> 'true' \
             AND NOT (SELECT idc FROM multiactive.epoch ORDER BY epoch DESC LIMIT 1) \
             <=> (SELECT idc FROM multiactive.owner) ORDER BY 1",
            process_list(self.engine)
        );
        let mut sets = self.query(DOING, &statement).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let stranded = answer.value(&mut answer.row(&mut sets, 1)?, 0, "count")?;
        // `SHOW` gives text.
        let used: String = answer.value(&mut answer.row(&mut sets, 3)?, 1, "Threads_connected")?;
        let connections = Connections {
            used: used
                .parse()
                .map_err(|_| answer.missing("Threads_connected".to_owned()))?,
            most: answer.value(&mut answer.row(&mut sets, 4)?, 0, "max_connections")?,
        };
        let mut copied_by = Vec::new();
        for mut row in std::mem::take(&mut sets[5]) {
            let link: String = answer.value(&mut row, 0, "link")?;
            let snapshot: Option<String> = answer.value(&mut row, 1, "snapshot")?;
            if snapshot.is_some_and(|snapshot| lacks_tables(&snapshot)) {
                copied_by.push(link);
            }
        }
        let mut undone = BTreeMap::new();
        for mut row in std::mem::take(&mut sets[2]) {
            let name: String = answer.value(&mut row, 0, "IDC")?;
            let idc =
                IdcName::new(name).map_err(|_| answer.missing("name of an IDC".to_owned()))?;
            undone.insert(idc, answer.value(&mut row, 1, "count")?);
        }
        let mut alters = Vec::new();
        for mut row in sets.drain(..).next().unwrap_or_default() {
            alters.push(answer.value(&mut row, 0, "statement")?);
        }
        Ok(Hindrances {
            alters,
            backup_lock: self.backup_lock().await?,
            prepared_xa: u64::try_from(self.prepared_transactions().await?.len())
                .unwrap_or(u64::MAX),
            stranded,
            undone,
            copied_by,
            connections,
        })
    }

    /// What this server has set aside of another member's, so far as it ended that one's epoch
    /// itself: only then is what it has filed what nobody else has.
    ///
    /// # Errors
    /// [`ControlError::NotInstalled`] where our schema is not there, or is of before this count.
    pub async fn filed_of(
        &mut self,
        member: &IdcName,
        here: &IdcName,
    ) -> Result<FiledCounts, ControlError> {
        const DOING: &str = "count what is set aside";
        let statement = format!(
            "SELECT ended_by, COUNT(DISTINCT gtid) FROM multiactive.stranded \
             WHERE source = {} AND ended_by IN \
             (SELECT epoch FROM multiactive.epoch WHERE idc = {}) GROUP BY ended_by",
            literal(member.as_str()),
            literal(here.as_str())
        );
        let mut sets = self.query(DOING, &statement).await?;
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut counts = FiledCounts::new();
        for mut row in sets.pop().unwrap_or_default() {
            let epoch = Epoch(answer.value(&mut row, 0, "epoch")?);
            counts.insert(epoch, answer.value(&mut row, 1, "count")?);
        }
        Ok(counts)
    }

    /// MySQL: `LOCK INSTANCE FOR BACKUP` is a shared lock of type BACKUP LOCK (a DDL statement
    /// takes it as `INTENTION_EXCLUSIVE`), `FLUSH TABLES WITH READ LOCK` a shared GLOBAL one.
    ///
    /// MariaDB: both, and `BACKUP STAGE`, are backup locks of these modes; statements hold others of
    /// them (`sql/mdl.h`, tried on 10.11.19).
    async fn backup_lock(&mut self) -> Result<Option<bool>, ControlError> {
        let look = match self.engine {
            Engine::MySql => {
                "SELECT EXISTS (SELECT 1 FROM performance_schema.metadata_locks \
                 WHERE object_type IN ('BACKUP LOCK', 'GLOBAL') AND lock_type = 'SHARED' \
                 AND lock_status = 'GRANTED')"
            }
            Engine::MariaDb => {
                "SELECT EXISTS (SELECT 1 FROM information_schema.metadata_lock_info \
                 WHERE lock_type = 'Backup lock' AND lock_mode IN ('MDL_BACKUP_START', \
                 'MDL_BACKUP_FLUSH', 'MDL_BACKUP_WAIT_FLUSH', 'MDL_BACKUP_WAIT_DDL', \
                 'MDL_BACKUP_WAIT_COMMIT', 'MDL_BACKUP_FTWRL1', 'MDL_BACKUP_FTWRL2'))"
            }
        };
        match self.query(DOING, look).await {
            Ok(mut sets) => self.answered(&mut sets).map(Some),
            // ER_TABLEACCESS_DENIED_ERROR; ER_UNKNOWN_TABLE without the plugin.
            Err(error) if matches!(error.server_code(), Some(1142 | 1109)) => {
                if self.engine == Engine::MySql {
                    return Ok(None);
                }
                let waits = "SELECT EXISTS (SELECT 1 FROM information_schema.processlist \
                     WHERE state = 'Waiting for backup lock')";
                let mut sets = self.query(DOING, waits).await?;
                Ok(self.answered(&mut sets)?.then_some(true))
            }
            Err(error) => Err(error),
        }
    }

    fn answered(&self, sets: &mut [Vec<mysql_async::Row>]) -> Result<bool, ControlError> {
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut row = answer.row(sets, 0)?;
        Ok(answer.value::<u8>(&mut row, 0, "answer")? != 0)
    }
}

/// Whether a link's column `snapshot` names a table whose copy has not ended. What cannot be read is
/// not taken for a whole copy.
pub(super) fn lacks_tables(snapshot: &str) -> bool {
    copies::unfinished(snapshot).map_or(true, |tables| !tables.is_empty())
}

#[cfg(test)]
mod tests {
    use super::lacks_tables;

    #[test]
    fn what_cannot_be_read_is_no_whole_copy() {
        assert!(!lacks_tables(
            r#"{"tables": {"shop": {"a": {"done": true}}}}"#
        ));
        assert!(lacks_tables(
            r#"{"tables": {"shop": {"a": {"done": false}}}}"#
        ));
        assert!(lacks_tables("{"));
    }
}
