//! What goes on in the server now: XA, native replication, how it starts, whether it is offline.

use model::{Finding, Severity};
use mysql_async::prelude::Queryable;

use super::{Role, Subject};
use crate::control::process_list;
use crate::session::{Engine, Session};

/// Looks at what goes on.
pub(super) async fn check(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let mut findings = xa(session, subject).await?;
    let replicates: Option<u64> = session
        .conn
        .query_first(format!(
            "SELECT COUNT(*) FROM {} WHERE user = 'system user' \
             AND (command IN ('Slave_IO', 'Slave_SQL', 'Slave_worker', 'Connect') \
             OR state LIKE 'Waiting for source%' OR state LIKE 'Waiting for master%')",
            process_list(session.engine())
        ))
        .await?;
    if replicates.unwrap_or(0) > 0 {
        findings.push(warning(
            subject,
            "NativeReplication",
            "the server is a replica of another one: what it brings here passes read_only by, and \
             is copied onwards as if it were born here"
                .to_owned(),
            match session.engine() {
                Engine::MySql => "STOP REPLICA; RESET REPLICA ALL; if its source is a member too",
                Engine::MariaDb => {
                    "STOP ALL SLAVES; RESET SLAVE ALL; if its source is a member too"
                }
            },
        ));
    }
    let fenced = matches!(subject.role, Role::Member { .. });
    if session.engine() == Engine::MariaDb && fenced {
        findings.extend(boots_writable(session, subject).await?);
    }
    Ok(findings)
}

fn warning(subject: &Subject, check: &str, message: String, fix: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        check: check.to_owned(),
        object: subject.to_string(),
        message,
        fix: fix.to_owned(),
    }
}

async fn xa(session: &mut Session, subject: &Subject) -> Result<Vec<Finding>, mysql_async::Error> {
    let prepared: Vec<mysql_async::Row> = match session.conn.query("XA RECOVER").await {
        Ok(rows) => rows,
        // ER_XAER_RMERR without XA_RECOVER_ADMIN, which the check of privileges reports.
        Err(mysql_async::Error::Server(error)) if error.code == 1401 => Vec::new(),
        Err(error) => return Err(error),
    };
    let used: Option<(String, u64)> = session
        .conn
        .query_first("SHOW GLOBAL STATUS LIKE 'Com_xa_start'")
        .await?;
    let used = used.map_or(0, |(_, number)| number);
    if prepared.is_empty() && used == 0 {
        return Ok(Vec::new());
    }
    let consequence = match session.engine() {
        Engine::MySql => {
            "links halt at them, and a prepared one keeps a fenced member closed to all sessions \
             until it is settled"
        }
        Engine::MariaDb => "links halt at them",
    };
    Ok(vec![warning(
        subject,
        "Xa",
        format!(
            "XA transactions are in use ({used} since the server started, {} prepared now): \
             {consequence}",
            prepared.len()
        ),
        "use ordinary transactions in the Unit's databases; settle prepared ones: XA RECOVER; then \
         XA COMMIT or XA ROLLBACK",
    )])
}

/// MariaDB, before our schema is there: afterwards the arbiter reports what it saw when the boot
/// was new. Once somebody has set the variable by SQL the origin tells nothing.
async fn boots_writable(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let installed: Option<u64> = session
        .conn
        .query_first(
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = 'multiactive' AND table_name = 'control'",
        )
        .await?;
    let origin: Option<(String, String)> = session
        .conn
        .query_first(
            "SELECT global_value_origin, global_value FROM information_schema.system_variables \
             WHERE variable_name = 'READ_ONLY'",
        )
        .await?;
    let Some((origin, value)) = origin.filter(|_| installed == Some(0)) else {
        return Ok(Vec::new());
    };
    if origin == "SQL" || value != "OFF" {
        return Ok(Vec::new());
    }
    Ok(vec![Finding {
        severity: Severity::Blocking,
        ..warning(
            subject,
            "BootsFenced",
            "the server starts with read_only = OFF, so after a crash it would take writes beside \
             the new primary"
                .to_owned(),
            "put read_only = 1 under [mysqld] in the server's configuration, and restart it",
        )
    }])
}
