//! Whether locks held for a backup can be seen, which a planned switchover asks for.

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::Subject;
use crate::session::{Engine, Session};

pub(super) async fn check(
    session: &mut Session,
    subject: &Subject,
) -> Result<Option<Finding>, mysql_async::Error> {
    if session.engine() == Engine::MariaDb {
        // Its plugin for this is the server's to have or not; `docs/database-accounts.md` tells.
        return Ok(None);
    }
    let looked: Result<Option<u8>, _> = session
        .conn
        .query_first("SELECT 1 FROM performance_schema.metadata_locks LIMIT 1")
        .await;
    match looked {
        Ok(_) => Ok(None),
        // ER_TABLEACCESS_DENIED_ERROR
        Err(mysql_async::Error::Server(error)) if error.code == 1142 => {
            let account: Option<String> = session
                .conn
                .query_first("SELECT CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')")
                .await?;
            let account = account.unwrap_or_default();
            Ok(Some(Finding {
                severity: Severity::Warning,
                check: "LocksNotSeen".to_owned(),
                object: subject.to_string(),
                message: format!(
                    "the account {account} lacks SELECT on performance_schema.metadata_locks, so a \
                     planned switchover begins although a backup holds a lock, and is rolled back \
                     when the fence has to wait for it"
                ),
                fix: format!("GRANT SELECT ON performance_schema.metadata_locks TO {account};"),
            }))
        }
        Err(error) => Err(error),
    }
}
