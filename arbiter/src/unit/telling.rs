//! What is told of the member: `/status`, metrics and the log.

use arbitration::FailoverReadiness;
use model::{FailoverStatus, MemberStatus, Severity};

use super::Unit;
use crate::clock;

impl Unit {
    /// Tells what changed since the last time.
    pub(super) fn publish(&mut self) {
        let report = self.core.report(clock::now());
        if !self.core.has_member() {
            // A witness has nothing else to tell of a Unit.
            let doubt = Some(failover_status(&report.failover)).filter(FailoverStatus::doubts_etcd);
            let message = doubt.as_ref().map(|it| it.message.clone());
            let is_new = self.shared.statuses.without_member(&self.key, doubt);
            if let Some(message) = message.filter(|_| is_new) {
                tracing::warn!(unit = %self.key, message, "this arbiter takes no part");
            }
            return;
        }
        let blocking = self
            .told
            .iter()
            .find(|finding| finding.severity == Severity::Blocking);
        // The cause goes before its consequences.
        let message = match blocking {
            Some(finding) if !report.writable => format!("preflight: {finding}"),
            _ if !self.reached && !self.unreached.is_empty() => self.unreached.clone(),
            _ => {
                let lacks = self.promising.lacks();
                let mut said = vec![report.message, lacks];
                said.retain(|part| !part.is_empty());
                said.join("; ")
            }
        };
        let status = MemberStatus {
            role: report.role,
            writable: report.writable,
            reachable: self.reached,
            epoch: report.epoch,
            position: self.position.clone(),
            lag_millis: self.lag_millis,
            findings: self.told.clone(),
            message,
            failover: failover_status(&report.failover),
            stranded: self.strandings.not_in_line(),
            filed: self.strandings.held_here,
            crowded: self.crowded,
            full: self.room.missing.clone(),
            hindrances: self.hindrances.clone(),
            application: self.application.trouble(),
        };

        if self.last_status.as_ref() == Some(&status) {
            return;
        }
        self.log_change(&status);
        self.shared.metrics.member(&self.key, &status);
        self.shared.statuses.member(&self.key, status.clone());
        self.last_status = Some(status);
    }

    fn log_change(&self, status: &MemberStatus) {
        let before = self.last_status.as_ref();
        let key = |status: &MemberStatus| {
            (
                status.role,
                status.writable,
                status.epoch,
                status.message.clone(),
            )
        };
        if before.map(key) != Some(key(status)) {
            tracing::info!(unit = %self.key, role = ?status.role, writable = status.writable,
                epoch = status.epoch.0, message = status.message, "the member");
        }
    }
}

fn failover_status(readiness: &FailoverReadiness) -> FailoverStatus {
    let obstacles = &readiness.obstacles;
    let sentences: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    FailoverStatus {
        ready: readiness.is_ready(),
        reason: obstacles
            .first()
            .map(|obstacle| obstacle.reason().to_owned())
            .unwrap_or_default(),
        message: sentences.join("; "),
    }
}
