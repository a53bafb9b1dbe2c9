//! What the core is told of members beyond what it asks for: signals, whose heartbeats arrive
//! through links, what stands against a switchover; and what is said of its readiness.

use std::collections::{BTreeMap, BTreeSet};

use arbitration::{Event, FailoverReadiness, Hindrance, Sign};
use model::{Epoch, FailoverStatus, IdcName, PositionText, Signal, UnitDoc};

use mysql::control::FiledCounts;

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

    /// One watcher for each member elsewhere.
    pub(super) fn watch_members(&mut self, doc: &UnitDoc) {
        let members = doc.members.iter();
        let watched: Vec<Watched> = members
            .filter(|member| member.idc != self.shared.idc)
            .map(|member| Watched {
                idc: member.idc.clone(),
                me: self.shared.idc.clone(),
                endpoint: member.endpoint.clone(),
                heartbeat: doc.heartbeat.clone(),
            })
            .collect();
        if watched == self.watched {
            return;
        }
        self.watchers.abort_all();
        for one in &watched {
            let task = Watcher::new(one.clone(), &self.folder, &self.key);
            self.watchers.spawn(task.run(self.sight_sender.clone()));
        }
        self.watched = watched;
    }
}

/// What is known of transactions that only one member has.
#[derive(Debug, Default)]
pub(super) struct Strandings {
    /// What each other member has set aside of this one's.
    filed: BTreeMap<IdcName, FiledCounts>,
    /// How many of those were taken back here, by the member.
    undone: BTreeMap<IdcName, u64>,
    /// How many of other members' are set aside here and not settled.
    pub held_here: u64,
    /// The newest epoch that has arrived here.
    highest: Epoch,
    /// What else stands against a switchover.
    others: BTreeSet<Hindrance>,
    told: (BTreeSet<Hindrance>, Option<(Epoch, u64)>),
}

impl Strandings {
    /// How many of this member's transactions are nowhere else and not taken back here.
    pub fn not_in_line(&self) -> u64 {
        let of = |(idc, counts): (&IdcName, &FiledCounts)| {
            let filed: u64 = counts.values().sum();
            filed.saturating_sub(self.undone.get(idc).copied().unwrap_or(0))
        };
        self.filed.iter().map(of).sum()
    }

    /// How many transactions the end of this member's last epoch has stranded, with the epoch that
    /// began then. None is only said once that epoch has arrived here: by then all is filed.
    fn loss(&self) -> Option<(Epoch, u64)> {
        if self.filed.is_empty() {
            return None;
        }
        let counts = self.filed.values().flat_map(FiledCounts::iter);
        let filed_for = counts.clone().map(|(epoch, _)| *epoch).max();
        let newest = filed_for.unwrap_or_default().max(self.highest);
        let loss = counts
            .filter(|(epoch, _)| **epoch == newest)
            .map(|(_, count)| *count)
            .sum();
        Some((newest, loss))
    }

    fn hindrances(&self) -> BTreeSet<Hindrance> {
        let mut all = self.others.clone();
        let count = self.not_in_line();
        if count > 0 {
            all.insert(Hindrance::NotInLine(count));
        }
        all
    }

    /// What the core has not been told yet.
    fn news(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let hindrances = self.hindrances();
        if hindrances != self.told.0 {
            self.told.0.clone_from(&hindrances);
            events.push(Event::Hindrances(hindrances));
        }
        let loss = self.loss();
        if let Some((epoch, transactions)) = loss.filter(|_| loss != self.told.1) {
            self.told.1 = loss;
            events.push(Event::Stranded {
                epoch,
                transactions,
            });
        }
        events
    }
}

impl Unit {
    /// What another member answered to a look.
    pub(super) async fn take_sight(&mut self, mut sight: Sight) {
        if let Some(filed) = sight.filed.take() {
            self.strandings.filed.insert(sight.of.clone(), filed);
            self.tell_strandings().await;
        }
        self.step(signalled(sight)).await;
    }

    /// What was found in the own database.
    pub(super) async fn take_hindrances(&mut self, found: &mysql::control::Hindrances) {
        self.strandings.held_here = found.stranded;
        self.strandings.undone.clone_from(&found.undone);
        self.strandings.others = hindrances(found);
        self.tell_strandings().await;
    }

    async fn tell_strandings(&mut self) {
        for event in self.strandings.news() {
            self.step(event).await;
        }
    }
}

fn signalled(sight: Sight) -> Event {
    let sign = match sight.failure {
        None => Sign::Answered(Signal::Sql),
        Some(cause) => Sign::Failed(Signal::Sql, cause),
    };
    Event::Signalled { of: sight.of, sign }
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

fn hindrances(found: &mysql::control::Hindrances) -> BTreeSet<Hindrance> {
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
