//! Whether the server belongs to another Unit, by what an arbiter wrote there.

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::{Role, Subject};
use crate::session::Session;

pub(super) async fn check(
    session: &mut Session,
    subject: &Subject,
) -> Result<Option<Finding>, mysql_async::Error> {
    let own = match &subject.role {
        Role::Member { unit: None, .. } => return Ok(None),
        Role::Member { unit, .. } => unit.as_ref().map(ToString::to_string),
        Role::LinkEnd => None,
    };
    let tables: Vec<String> = session
        .conn
        .query(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
             WHERE table_schema = 'multiactive' AND table_name IN ('owner', 'epoch')",
        )
        .await?;
    let is_there = |name: &str| tables.iter().any(|table| table == name);
    if !is_there("owner") {
        return Ok(None);
    }
    let row: Option<(String, String, i64)> = session
        .conn
        .query_first(
            "SELECT installation, unit, ABS(TIMESTAMPDIFF(SECOND, at, UTC_TIMESTAMP(6))) \
             FROM multiactive.owner",
        )
        .await?;
    let owned = row.filter(|row| Some(&row.1) != own.as_ref());
    let owned =
        owned.map(|(installation, owner, seconds)| judge(subject, &installation, &owner, seconds));
    if owned.is_some() || subject.role != Role::LinkEnd || !is_there("epoch") {
        return Ok(owned);
    }
    let epoch: Option<Option<u64>> = session
        .conn
        .query_first("SELECT MAX(epoch) FROM multiactive.epoch")
        .await?;
    Ok(epoch.flatten().map(|epoch| former(subject, epoch)))
}

/// What an ended epoch's transactions are is judged by these rows, and nobody writes any more of them.
fn former(subject: &Subject, epoch: u64) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: "FormerMember".to_owned(),
        object: subject.to_string(),
        message: format!(
            "the server was a member of a unit, up to epoch {epoch} (multiactive.epoch), and a link \
             without a unit would take what is written now for that epoch's"
        ),
        fix: "mactl uninstall, for the unit that it was a member of".to_owned(),
    }
}

fn judge(subject: &Subject, installation: &str, owner: &str, seconds: i64) -> Finding {
    // A Unit that was deleted leaves its epochs behind too, and one that is merely without an arbiter
    // for a while is not asked by a link that it does not know of.
    let at_work = seconds < 30 || subject.role == Role::LinkEnd;
    let (consequence, instead) = match subject.role {
        Role::Member { .. } => (
            "a unit owns its servers whole",
            "give each unit servers of its own, or put the databases of both into one unit's \
             spec.databases",
        ),
        Role::LinkEnd => (
            "a link that the unit does not know of would write past its fence",
            "name the unit in the link's spec.unit if both ends are members of it; if it was deleted: \
             mactl uninstall; else give the link servers of its own",
        ),
    };
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
             there {seconds} s ago, and {consequence}"
        ),
        fix: if at_work {
            instead.to_owned()
        } else {
            format!(
                "nothing, if that unit was deleted; if its installation is no more: SET SESSION \
                 sql_log_bin = 0; DELETE FROM multiactive.owner; else {instead}"
            )
        },
    }
}
