//! What has to be so before anything is started, and what somebody should know: each finding names
//! the object, the value seen there and the fix.
//!
//! [`member`] looks at one server; [`across`] compares what the members' servers told of
//! themselves. Tables can be made at any time: what these checks say of tables is true when they
//! run, and links look again at each table they meet.

mod access;
mod clock;
mod facts;
mod locks;
mod owner;
mod privileges;
mod roles;
mod settings;
mod state;
mod tables;

use std::fmt;

use model::{Endpoint, Finding, IdcName, Severity, UnitKey};

use crate::session::{Session, SessionOptions};

pub use facts::{MemberFacts, TextDefaults};

/// Which member is looked at, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its IDC.
    pub idc: IdcName,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The Unit's databases.
    pub databases: Vec<String>,
    /// How many servers have copies of them.
    pub members: usize,
    /// What the server is there for.
    pub role: Role,
}

/// What a server is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A Unit's member.
    Member {
        /// The Unit's `failover.maxLag`, in milliseconds.
        max_lag_millis: u64,
        /// The Unit, where preflight is to say whether the server belongs to another one. An arbiter
        /// claims its server itself, and knows more.
        unit: Option<UnitKey>,
    },
    /// An end of a link without a Unit: nobody fences it, and applications may write to it.
    LinkEnd,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.role {
            Role::Member { .. } => "member",
            Role::LinkEnd => "database of",
        };
        write!(f, "{what} {} ({})", self.idc, self.endpoint)
    }
}

/// What a look at one member came to.
#[derive(Debug, Clone, Default)]
pub struct MemberReport {
    /// What was found, the blocking findings first.
    pub findings: Vec<Finding>,
    /// What the server says of itself; `None` if no session came about.
    pub facts: Option<MemberFacts>,
}

impl MemberReport {
    /// Whether nothing blocks.
    pub fn passed(&self) -> bool {
        self.facts.is_some()
            && self
                .findings
                .iter()
                .all(|finding| finding.severity != Severity::Blocking)
    }
}

/// Looks at one member. It never fails: what keeps it from looking is a finding too.
pub async fn member(options: &SessionOptions, subject: &Subject) -> MemberReport {
    let mut session = match options.connect().await {
        Ok(session) => session,
        Err(error) => {
            return MemberReport {
                findings: vec![access::finding(subject, &error)],
                facts: None,
            };
        }
    };
    let mut report = MemberReport::default();
    match facts::read(&mut session, subject).await {
        Ok(facts) => {
            report.facts = Some(facts);
            match look(&mut session, subject).await {
                Ok(findings) => report.findings = findings,
                Err(error) => report.findings.push(access::interrupted(subject, &error)),
            }
        }
        Err(error) => report.findings.push(access::interrupted(subject, &error)),
    }
    if let Err(error) = session.close().await {
        tracing::debug!(%error, "a preflight session did not end in good order");
    }
    report
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

async fn look(
    session: &mut Session,
    subject: &Subject,
) -> Result<Vec<Finding>, mysql_async::Error> {
    let mut findings = settings::check(session, subject).await?;
    let missing = privileges::missing(session, subject).await?;
    let may_look = missing
        .iter()
        .all(|finding| finding.severity != Severity::Blocking);
    findings.extend(missing);
    // With a privilege missing the other checks would see half, and say wrong things of it.
    if may_look {
        if matches!(subject.role, Role::Member { .. }) {
            findings.extend(privileges::bypassing(session, subject).await?);
            findings.extend(locks::check(session, subject).await?);
        }
        findings.extend(owner::check(session, subject).await?);
        findings.extend(state::check(session, subject).await?);
        findings.extend(tables::check(session, subject).await?);
    }
    Ok(findings)
}

/// What a member's server says of itself, for [`across`]; nothing is judged.
///
/// # Errors
/// What kept it from being asked, as a finding.
pub async fn facts(options: &SessionOptions, subject: &Subject) -> Result<MemberFacts, Finding> {
    let mut session = options
        .connect()
        .await
        .map_err(|error| access::finding(subject, &error))?;
    let facts = facts::read(&mut session, subject)
        .await
        .map_err(|error| access::interrupted(subject, &error))?;
    if let Err(error) = session.close().await {
        tracing::debug!(%error, "a session did not end in good order");
    }
    Ok(facts)
}

/// Compares the members' servers with each other.
pub fn across(members: &[(Subject, MemberFacts)]) -> Vec<Finding> {
    facts::compare(members)
}
