//! Whether the server belongs to another Unit, by what an arbiter wrote there.

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::Subject;
use crate::session::Session;

pub(super) async fn check(
    session: &mut Session,
    subject: &Subject,
) -> Result<Option<Finding>, mysql_async::Error> {
    let Some(unit) = &subject.unit else {
        return Ok(None);
    };
    let there: Option<u64> = session
        .conn
        .query_first(
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = 'multiactive' AND table_name = 'owner'",
        )
        .await?;
    if there != Some(1) {
        return Ok(None);
    }
    let row: Option<(String, String, i64)> = session
        .conn
        .query_first(
            "SELECT installation, unit, ABS(TIMESTAMPDIFF(SECOND, at, UTC_TIMESTAMP(6))) \
             FROM multiactive.owner",
        )
        .await?;
    Ok(row
        .filter(|(_, owner, _)| *owner != unit.to_string())
        .map(|(installation, owner, seconds)| judge(subject, &installation, &owner, seconds)))
}

fn judge(subject: &Subject, installation: &str, owner: &str, seconds: i64) -> Finding {
    let at_work = seconds < 30;
    Finding {
        severity: if at_work {
            Severity::Blocking
        } else {
            Severity::Warning
        },
        check: "SharedServer".to_owned(),
        object: subject.to_string(),
        message: format!(
            "the server belongs to unit {owner} (etcd prefix {installation}), whose arbiter wrote \
             there {seconds} s ago, and a unit owns its servers whole"
        ),
        fix: if at_work {
            "give each unit servers of its own, or put the databases of both into one unit's \
             spec.databases"
        } else {
            "nothing, if that unit was deleted; if its installation is no more: SET SESSION \
             sql_log_bin = 0; DELETE FROM multiactive.owner; else give each unit servers of its own"
        }
        .to_owned(),
    }
}
