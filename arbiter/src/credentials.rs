//! The accounts of the members, from files that come, change and go while the arbiter runs.

use std::path::{Path, PathBuf};

use model::{Credentials, Endpoint, Finding, IdcName, Severity, UnitKey};
use mysql::session::{Program, SessionOptions};

/// What is known about how to reach a member.
#[derive(Debug, Clone)]
pub enum Access {
    /// Options for sessions.
    Granted(Box<SessionOptions>),
    /// Why there are none.
    Missing(Box<Finding>),
}

/// One member's file, read again whenever asked.
#[derive(Debug)]
pub struct CredentialsFile {
    path: PathBuf,
    object: String,
    last: Option<(Endpoint, Result<Vec<u8>, std::io::ErrorKind>)>,
}

impl CredentialsFile {
    /// The file of a Unit's member.
    pub fn new(folder: &Path, unit: &UnitKey, idc: &IdcName) -> Self {
        Self {
            path: folder.join(unit.credentials_file(idc)),
            object: format!("member {idc} of unit {unit}"),
            last: None,
        }
    }

    /// What the file says now, if that differs from the last time.
    pub async fn changed(&mut self, endpoint: &Endpoint) -> Option<Access> {
        let content = tokio::fs::read(&self.path)
            .await
            .map_err(|error| error.kind());
        let current = (endpoint.clone(), content);
        if self.last.as_ref() == Some(&current) {
            return None;
        }
        let access = self.access(endpoint, &current.1);
        self.last = Some(current);
        Some(access)
    }

    fn access(&self, endpoint: &Endpoint, content: &Result<Vec<u8>, std::io::ErrorKind>) -> Access {
        let name = self.path.display();
        let content = match content {
            Ok(content) => content,
            Err(kind) => {
                return self.missing(
                    format!("its account is not known: {name} cannot be read ({kind})"),
                    "create the Secret that spec.members[].credentialsSecret names, with the keys \
                     username and password; the operator then writes the file"
                        .to_owned(),
                );
            }
        };
        let credentials: Credentials = match serde_json::from_slice(content) {
            Ok(credentials) => credentials,
            Err(error) => {
                // The parser's position says enough; its message could quote the password.
                return self.missing(
                    format!(
                        "{name} is not an account as JSON (line {}, column {})",
                        error.line(),
                        error.column()
                    ),
                    "it must hold {\"username\": ..., \"password\": ...}; the operator writes it \
                     from the Secret that spec.members[].credentialsSecret names"
                        .to_owned(),
                );
            }
        };
        match SessionOptions::new(endpoint, &credentials, Program::Arbiter) {
            Ok(options) => Access::Granted(Box::new(options)),
            Err(error) => self.missing(
                error.to_string(),
                "put the CA's certificate into the Secret that spec.members[].credentialsSecret \
                 names, as ca.crt"
                    .to_owned(),
            ),
        }
    }

    fn missing(&self, message: String, fix: String) -> Access {
        Access::Missing(Box::new(Finding {
            severity: Severity::Blocking,
            check: "Credentials".to_owned(),
            object: self.object.clone(),
            message,
            fix,
        }))
    }
}
