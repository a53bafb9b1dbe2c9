//! What the core is told of members beyond what it asks for: signals, whose heartbeats arrive
//! through links, what stands against a switchover; and what is said of its readiness.

use std::time::Duration;

use arbitration::{Event, Sign};
use model::{IdcName, MemberHindrances, PositionText, Signal, UnitDoc};
use mysql::clock::ClockReading;
use mysql::control::{Connections, Observation};
use mysql::preflight::{Role, Subject};
use tokio::time::Instant;

use super::Unit;
use crate::watcher::{Sight, Watched, Watcher};
use crate::worker::Report;

/// How often it is judged whether the members' clocks differ.
const CLOCKS_EVERY: Duration = Duration::from_secs(5);

impl Unit {
    /// What a look tells of this and other members beyond the observation itself: the own one
    /// answered or not, and whose heartbeats have arrived through links.
    pub(super) async fn take_signals(&mut self, report: &Report) {
        let own = self.shared.idc.clone();
        match report {
            Report::Seen { observation, .. } => {
                self.look_for_rivals(&observation.identity.clone()).await;
                self.strandings.highest = observation.highest_epoch;
                self.note_clock(observation.clock).await;
                for signal in self.room.written() {
                    let (of, sign) = (own.clone(), Sign::Answered(*signal));
                    self.step(Event::Signalled { of, sign }).await;
                }
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
            Report::Hindrances(found) => {
                self.crowded = crowded(self.crowded, found.connections);
                self.hindrances = Some(MemberHindrances {
                    prepared_xa: found.prepared_xa,
                    alters: found.alters.clone(),
                    backup_lock: found.backup_lock,
                });
                self.take_hindrances(found).await;
            }
            Report::Unseen { reason, full, .. } => {
                for signal in self.room.refused(*full, reason) {
                    let (of, sign) = (own.clone(), Sign::Failed(*signal, reason.clone()));
                    self.step(Event::Signalled { of, sign }).await;
                }
            }
            _ => {}
        }
    }

    /// The own server's clock, which preflight reads too seldom.
    async fn note_clock(&mut self, clock: ClockReading) {
        let Some((_, facts)) = &mut self.findings.account else {
            return;
        };
        facts.clock = clock;
        if Instant::now() < self.clocks_at {
            return;
        }
        self.clocks_at = Instant::now() + CLOCKS_EVERY;
        let event = self.judge_findings();
        self.step(event).await;
    }

    /// How old this member's copy is.
    pub(super) fn lag_of(&self, observation: &Observation) -> Option<u64> {
        let seen = observation.lag_micros?;
        let followed = self.core.followed()?;
        Some(self.findings.lag_millis(followed, seen))
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
                    role: Role::Member {
                        max_lag_millis: doc.failover.max_lag_millis,
                        unit: None,
                    },
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

/// Whether the server has room for what is written, as its answers to heartbeats tell.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Why it has none; empty where it has.
    pub missing: String,
    /// It had none at some time, so that its having room is a sign now.
    was_missing: bool,
}

impl Room {
    /// A heartbeat was written: the signals that this answers.
    fn written(&mut self) -> &'static [Signal] {
        self.missing.clear();
        signals(self.was_missing)
    }

    /// A heartbeat was not: the signals that this fails. One that found no room tells more than one
    /// that was not answered: a database that others still read is down all the same.
    fn refused(&mut self, full: bool, reason: &str) -> &'static [Signal] {
        self.was_missing |= full;
        self.missing.clear();
        if full {
            self.missing.push_str(reason);
        }
        signals(full)
    }
}

fn signals(about_room: bool) -> &'static [Signal] {
    if about_room {
        &[Signal::Sql, Signal::Resources]
    } else {
        &[Signal::Sql]
    }
}

/// Whether nearly all of a server's connections are in use, with how many it allows. It stays so
/// until clearly fewer are, so that a status does not come and go.
fn crowded(before: Option<u64>, seen: Connections) -> Option<u64> {
    let share = if before.is_some() { 80 } else { 90 };
    (100 * seen.used >= share * seen.most).then_some(seen.most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_room_fails_as_more_than_one_that_is_silent() {
        let mut room = Room::default();
        assert_eq!(room.written(), [Signal::Sql]);
        assert_eq!(room.refused(false, "no answer"), [Signal::Sql]);
        assert_eq!(room.missing, "");
        assert_eq!(
            room.refused(true, "the table is full"),
            [Signal::Sql, Signal::Resources]
        );
        assert_eq!(room.missing, "the table is full");
        // Once it has room again, that is said as long as it may count.
        for _ in 0..2 {
            assert_eq!(room.written(), [Signal::Sql, Signal::Resources]);
            assert_eq!(room.missing, "");
        }
    }

    #[test]
    fn crowded_begins_at_nine_tenths_and_ends_below_eight() {
        let seen = |used| Connections { used, most: 100 };
        assert_eq!(crowded(None, seen(89)), None);
        assert_eq!(crowded(None, seen(90)), Some(100));
        assert_eq!(crowded(Some(100), seen(80)), Some(100));
        assert_eq!(crowded(Some(100), seen(79)), None);
    }
}
