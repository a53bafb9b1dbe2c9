//! Findings made of errors: no session, or one that ended.

use model::{Finding, Severity};

use super::Subject;
use crate::session::SessionError;

/// What keeps us from connecting, and what to do.
pub(super) fn finding(subject: &Subject, error: &SessionError) -> Finding {
    let (check, fix) = match error {
        SessionError::Unreachable { endpoint, .. } => (
            "Unreachable",
            format!(
                "check that the server runs, that spec.members[].endpoint names it ({endpoint}), \
                 and that the network lets this process reach that port"
            ),
        ),
        SessionError::AccessDenied { username, .. } => (
            "AccessDenied",
            format!(
                "put the right password into the Secret that credentialsSecret names, or make the \
                 account: CREATE USER '{username}'@'%' IDENTIFIED BY '...'; its grants are in \
                 docs/database-accounts.md"
            ),
        ),
        SessionError::Tls { .. } => (
            "Tls",
            "give the server a certificate that the CA in the Secret (key ca.crt) has signed and \
             that names the endpoint's host, or choose another spec.members[].endpoint.tls.mode"
                .to_owned(),
        ),
        SessionError::MissingCa { .. } => (
            "MissingCa",
            "put the CA's certificate into the Secret that credentialsSecret names, as ca.crt"
                .to_owned(),
        ),
        SessionError::Version { .. } => (
            "Version",
            "use MySQL 8.4 or later, or MariaDB 10.6 or later".to_owned(),
        ),
        SessionError::Refused { .. } => (
            "Refused",
            "see the server's error log, and docs/database-accounts.md for what the account needs"
                .to_owned(),
        ),
    };
    Finding {
        severity: Severity::Blocking,
        check: check.to_owned(),
        object: subject.to_string(),
        message: error.to_string(),
        fix,
    }
}

/// A check that the server did not let us finish.
pub(super) fn interrupted(subject: &Subject, error: &mysql_async::Error) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: "CheckFailed".to_owned(),
        object: subject.to_string(),
        message: format!("the server could not be looked at to the end: {error}"),
        fix: "if a privilege is named, grant it (docs/database-accounts.md); else look again"
            .to_owned(),
    }
}
