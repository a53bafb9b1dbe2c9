//! What the core is told of members beyond what it asks for: signals, whose heartbeats arrive
//! through links, what stands against a switchover; and what is said of its readiness.

use std::collections::BTreeSet;

use arbitration::{Event, FailoverReadiness, Hindrance, Sign};
use model::{FailoverStatus, IdcName, PositionText, Signal, UnitDoc};
use mysql::preflight::Subject;

use super::Unit;
use crate::watcher::{Sight, Watched, Watcher};
use crate::worker::Report;

impl Unit {
    /// What a look tells of this and other members beyond the observation itself: the own one
    /// answered or not, and whose heartbeats have arrived through links.
    pub(super) async fn take_signals(&mut self, report: &Report) {
        let own = self.shared.idc.clone();
        match report {
            Report::Seen { observation, .. } => {
                self.look_for_rivals(&observation.identity.clone()).await;
                self.strandings.highest = observation.highest_epoch;
                let sign = Sign::Answered(Signal::Sql);
                self.step(Event::Signalled { of: own, sign }).await;
                for beat in &observation.heartbeats {
                    let before = self.beats.insert(beat.idc.clone(), beat.seq);
                    // The first one that is seen may be old.
                    if beat.idc == self.shared.idc || before.is_none_or(|seq| seq == beat.seq) {
                        continue;
                    }
                    let (of, epoch) = (beat.idc.clone(), beat.epoch);
                    let sign = Sign::Replicated { epoch };
                    self.step(Event::Signalled { of, sign }).await;
                }
            }
            Report::Hindrances(found) => self.take_hindrances(found).await,
            Report::Unseen { reason, .. } => {
                let sign = Sign::Failed(Signal::Sql, reason.clone());
                self.step(Event::Signalled { of: own, sign }).await;
            }
            _ => {}
        }
    }

    /// What a watcher has seen of another member.
    pub(super) async fn take_sight(&mut self, mut sight: Sight) -> Event {
        if let Some(filed) = sight.filed.take() {
            self.take_filed(sight.of.clone(), filed).await;
        }
        if let Some(account) = sight.account
            && self.findings.others.get(&sight.of) != Some(&account)
        {
            self.findings.others.insert(sight.of.clone(), *account);
            let event = self.judge_findings();
            self.step(event).await;
        }
        let sign = match sight.failure {
            None => Sign::Answered(Signal::Sql),
            Some(cause) => Sign::Failed(Signal::Sql, cause),
        };
        Event::Signalled { of: sight.of, sign }
    }

    /// One watcher for each member elsewhere.
    pub(super) fn watch_members(&mut self, doc: &UnitDoc) {
        let members = doc.members.iter();
        let watched: Vec<Watched> = members
            .filter(|member| member.idc != self.shared.idc)
            .map(|member| Watched {
                subject: Subject {
                    idc: member.idc.clone(),
                    endpoint: member.endpoint.clone(),
                    databases: doc.databases.clone(),
                    members: doc.members.len(),
                },
                me: self.shared.idc.clone(),
                heartbeat: doc.heartbeat.clone(),
            })
            .collect();
        if watched == self.watched {
            return;
        }
        self.watchers.abort_all();
        // Of another server, or of a member that is none any more.
        self.findings.others.clear();
        for one in &watched {
            let task = Watcher::new(one.clone(), &self.folder, &self.key);
            self.watchers.spawn(task.run(self.sight_sender.clone()));
        }
        self.watched = watched;
    }
}

/// How many of a position's transactions were born on its server; `None` for a text that is none.
pub(super) fn born_here(position: &PositionText, idcs: &[IdcName]) -> Option<u64> {
    if position.0.is_empty() {
        return Some(0);
    }
    let position: change::Position = position.0.parse().ok()?;
    Some(mysql::origin::born_here(&position, idcs))
}

pub(super) fn failover_status(readiness: &FailoverReadiness) -> FailoverStatus {
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

pub(super) fn hindrances(found: &mysql::control::Hindrances) -> BTreeSet<Hindrance> {
    let counted = |count: u64, of: fn(u64) -> Hindrance| (count > 0).then(|| of(count));
    let alter = (!found.alters.is_empty()).then_some(Hindrance::Alter);
    let backup = (found.backup_lock == Some(true)).then_some(Hindrance::BackupLock);
    let prepared = counted(found.prepared_xa, Hindrance::PreparedXa);
    let stranded = counted(found.stranded, Hindrance::Stranded);
    [alter, backup, prepared, stranded]
        .into_iter()
        .flatten()
        .collect()
}
