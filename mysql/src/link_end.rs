//! Looking after a server at one end of a link without a Unit. What an arbiter does for a member, the
//! link's own process at that end does here: preflight, the schema `multiactive`, and heartbeats.
//!
//! Two links may have ends at one server. Each does all of this, and neither minds the other.

use std::time::Duration;

use model::{Epoch, Finding, Generation, IdcName, LinkConfig, LinkEnd, Severity};
use mysql_async::prelude::Queryable;

use crate::control::{ControlError, ControlSession};
use crate::preflight::{self, MemberReport, Role, Subject};
use crate::session::SessionOptions;

/// Making the schema asks for locks that a statement of somebody else's may hold.
const INSTALL_WITHIN: Duration = Duration::from_secs(15);
/// An answer to a heartbeat takes no longer.
const BEAT_WITHIN: Duration = Duration::from_secs(5);

/// One end of such a link, as preflight looks at it.
pub fn subject(config: &LinkConfig, end: &LinkEnd) -> Subject {
    Subject {
        idc: end.idc.clone(),
        endpoint: end.endpoint.clone(),
        databases: config.databases.clone(),
        members: config.origins.len(),
        role: Role::LinkEnd,
    }
}

/// Looks at the server and, where nothing blocks, makes the schema. It never fails: what keeps it from
/// doing so is a finding.
pub async fn prepare(options: &SessionOptions, subject: &Subject) -> MemberReport {
    let mut report = preflight::member(options, subject).await;
    if !report.passed() {
        return report;
    }
    match install(options).await {
        Ok(identity) => {
            if let Some(facts) = &mut report.facts {
                facts.identity = Some(identity);
            }
        }
        Err(error) => report.findings.insert(
            0,
            Finding {
                severity: Severity::Blocking,
                check: "SchemaNotMade".to_owned(),
                object: subject.to_string(),
                message: error.to_string(),
                fix: String::new(),
            },
        ),
    }
    report
}

async fn install(options: &SessionOptions) -> Result<String, ControlError> {
    let mut session = ControlSession::connect(options, INSTALL_WITHIN).await?;
    Ok(session.install().await?.0)
}

/// A link that brings changes to a server, by the row that it keeps there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brings {
    /// Its source's IDC.
    pub from: String,
    /// Whether it has begun.
    pub begun: bool,
    /// Whether it copies tables, or will.
    pub copies: bool,
    /// What it adds up (`conflicts.counters`), in order; `None` where it adds up nothing.
    pub counters: Option<Vec<String>>,
}

/// Which links bring changes to a server. One that is no more is among them until somebody removes its
/// row.
///
/// # Errors
/// Where the server could not be asked, as a sentence.
pub async fn brings(options: &SessionOptions) -> Result<Vec<Brings>, String> {
    type Read = (String, bool, Option<String>, Option<String>, Option<String>);
    const READ: &str = "SELECT CAST(source AS CHAR), position IS NOT NULL, \
                        CAST(JSON_EXTRACT(ledger, '$.copies') AS CHAR), \
                        CAST(JSON_EXTRACT(snapshot, '$.done') AS CHAR), \
                        CAST(JSON_EXTRACT(ledger, '$.counters') AS CHAR) FROM multiactive.applied";
    let mut session = options.connect().await.map_err(|error| error.to_string())?;
    let rows: Result<Vec<Read>, _> = session.conn.query(READ).await;
    let rows = rows.map_err(|error| format!("reading multiactive.applied: {error}"))?;
    if let Err(error) = session.close().await {
        tracing::debug!(%error, "a session did not end in good order");
    }
    let parse = |text: String| {
        serde_json::from_str(&text)
            .map_err(|error| format!("multiactive.applied has the counters {text}: {error}"))
    };
    let is_true = |value: Option<String>| value.as_deref() == Some("true");
    let brings = rows
        .into_iter()
        .map(|(from, begun, copies, copied, counters)| {
            Ok(Brings {
                from,
                begun,
                copies: is_true(copies) && !is_true(copied),
                counters: counters.map(parse).transpose()?,
            })
        });
    brings.collect()
}

/// Writes heartbeats, by whose age the link's lag is told while nobody writes anything else.
pub struct Heart {
    session: ControlSession,
    idc: IdcName,
}

impl Heart {
    /// Connects to a server that is prepared.
    ///
    /// # Errors
    /// Where no session comes about.
    pub async fn connect(options: &SessionOptions, idc: IdcName) -> Result<Self, ControlError> {
        let session = ControlSession::connect(options, BEAT_WITHIN).await?;
        Ok(Self { session, idc })
    }

    /// Writes one. Without a Unit there are no epochs and no generations of arbiters.
    ///
    /// # Errors
    /// Where it was not written; the session may be of no use any more.
    pub async fn beat(&mut self) -> Result<(), ControlError> {
        let (idc, writable) = (self.idc.clone(), true);
        self.session
            .heartbeat(Generation(u64::MAX), &idc, Epoch::NONE, writable)
            .await
    }
}
