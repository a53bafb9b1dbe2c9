//! Looks at the real databases, by `mysql::preflight`.

use std::time::Duration;

use crds::{Member, Unit};
use model::{Credentials, Finding, Severity};
use mysql::preflight::{MemberFacts, Role, Subject, across, member as look};
use mysql::session::{Program, SessionOptions};

use super::MemberReport;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A member that was reached, with what its server says of itself.
pub type Reached = (Subject, MemberFacts);

/// Looks at one member and adds what it finds to its report.
pub async fn member(
    unit: &Unit,
    member: &Member,
    credentials: &Credentials,
    report: &mut MemberReport,
) -> Option<Reached> {
    let subject = Subject {
        idc: member.idc.clone(),
        endpoint: member.endpoint.document(),
        databases: unit.spec.databases.clone(),
        members: unit.spec.members.len(),
        role: Role::Member {
            max_lag_millis: unit.spec.failover.max_lag.as_millis(),
            unit: super::key(unit),
        },
    };
    let options = match SessionOptions::new(&subject.endpoint, credentials, Program::Arbiter) {
        Ok(options) => options.with_connect_timeout(CONNECT_TIMEOUT),
        Err(error) => {
            report.findings.push(Finding {
                severity: Severity::Blocking,
                check: "Options".to_owned(),
                object: subject.to_string(),
                message: format!("{error}."),
                fix: "set tls.caSecret of the member's endpoint, or another tls.mode".to_owned(),
            });
            return None;
        }
    };
    let found = look(&options, &subject).await;
    report.findings.extend(found.findings);
    report.server = found.facts.as_ref().map(|facts| facts.version.to_string());
    found.facts.map(|facts| (subject, facts))
}

/// Compares the members that were reached.
pub fn between(members: &[Reached]) -> Vec<Finding> {
    across(members)
}
