//! What must be so after every event, and at every transaction.

use std::collections::BTreeMap;

use arbitration::{Purpose, Transaction, Write};
use model::{Epoch, IdcName, UnitState, VoteGround};

use crate::setup::MAX_LAG;
use crate::world::{LEASE, WRITE_EVERY, World};

/// What is remembered to check by.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Whose each epoch was in which a member was opened.
    opened: BTreeMap<Epoch, IdcName>,
    /// When the last automatic failover was.
    failed_over: Option<u64>,
    /// When etcd was last restored, if that can have been noticed: not where nobody had ever been
    /// elected, and a member's database had not been told of etcd yet. Nothing was forgotten then.
    pub restored_at: Option<u64>,
    /// When etcd ended the lease of an IDC that was kept alive.
    pub ended_early: BTreeMap<IdcName, u64>,
    /// When somebody was elected or opened last.
    pub decided_at: Option<u64>,
    /// etcd was restored under another name, and nobody has acknowledged it since.
    pub doubtful: bool,
    /// Who was open in the last epoch that etcd forgot, and was not opened again since.
    forgotten: Option<(Epoch, IdcName)>,
}

/// Whether a process believed etcd when it was last looked at.
#[derive(Debug, Default)]
pub struct Doubt {
    doubts: bool,
    /// After how many restores it began to doubt.
    began_after: Option<u64>,
    /// The last restore that it came to believe.
    believes: Option<u64>,
    /// When it was thawed last: what it hears then was said before.
    pub thawed_at: Option<u64>,
    /// Its database has told what it remembers. What it tells first may be more than the process has
    /// ever known.
    heard: bool,
}

impl Ledger {
    /// etcd knows no epoch after `last` any more; before, it knew those up to `known`.
    pub fn forget(&mut self, last: Option<Epoch>, known: Option<Epoch>) {
        let later =
            |(epoch, idc): (&Epoch, &IdcName)| (Some(*epoch) > last).then(|| (*epoch, idc.clone()));
        if last < known {
            self.forgotten = self.opened.iter().next_back().and_then(later);
        } else {
            // What a restore in between forgot, this one may know again.
            self.forgotten.take_if(|(epoch, _)| Some(*epoch) <= last);
        }
    }

    /// Whether anybody was ever opened.
    pub fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    pub fn acknowledge(&mut self) {
        self.doubtful = false;
        self.forgotten = None;
    }
}

/// Longer than signals take to say that a member is gone.
const NOTICED: u64 = 2_500;

impl World {
    /// Who has believed a restored etcd again, since somebody had looked, doubts only another one.
    pub fn check_doubt(&mut self, process: usize, observed: bool) {
        let restores = self.counts.restores;
        let has_database = self.databases.contains_key(&self.processes[process].idc);
        let number = process;
        let process = &mut self.processes[number];
        let doubts = !process.core.trusts_etcd();
        let late = process.doubt.thawed_at == Some(self.now);
        match (std::mem::replace(&mut process.doubt.doubts, doubts), doubts) {
            (false, true) => {
                process.doubt.began_after = Some(restores).filter(|_| !late);
                if process.doubt.believes == Some(restores) {
                    let text = format!("{} doubts etcd again, with no reason", process.idc);
                    self.violate(text);
                }
            }
            (true, false) if process.doubt.began_after == Some(restores) && !late => {
                let heard = process.doubt.heard || !has_database;
                process.doubt.believes = Some(restores).filter(|_| heard);
            }
            _ => {}
        }
        self.processes[number].doubt.heard |= observed;
    }

    pub fn check(&mut self) {
        self.check_closed();
        let writable: Vec<_> = self
            .databases
            .values()
            .filter(|database| database.answers() && !database.read_only)
            .collect();
        // Before the first election the servers are their owners'.
        if writable.len() > 1 && self.ledger.opened.values().next().is_some() {
            let text = format!("{} members are writable at once", writable.len());
            self.violate(text);
        }
    }

    /// At the moment of sending: nobody calls unreachable what has just been replicated.
    pub fn check_sent(&mut self, process: usize, transaction: &Transaction) {
        for write in &transaction.writes {
            let Write::Vote(vote, _) = write else {
                continue;
            };
            let told = self.processes[process].told.get(&vote.against);
            let just =
                told.is_some_and(|(at, _, epoch)| self.now - at < 1_200 && *epoch >= vote.epoch);
            if just && vote.ground == VoteGround::Unreachable {
                let text = format!(
                    "{} is voted unreachable but is still replicated",
                    vote.against
                );
                self.violate(text);
            }
        }
    }

    pub fn check_commit(&mut self, me: &IdcName, before: &UnitState, transaction: &Transaction) {
        if matches!(
            transaction.purpose,
            Purpose::TakeFirst
                | Purpose::HandOver
                | Purpose::TakeElected
                | Purpose::TakeForced
                | Purpose::Retake
        ) {
            self.check_taken_out(me, before, transaction.purpose);
            self.ledger.decided_at = Some(self.now);
        }
        match transaction.purpose {
            Purpose::TakeFirst => self.check_first(me, before),
            Purpose::HandOver => self.check_nothing_lost(me, before),
            Purpose::TakeElected => self.check_election(me, before),
            Purpose::Retake => self.check_retake(before),
            _ => {}
        }
    }

    /// Nobody takes over before the last keep-alive that the former holder can have been told of is
    /// a lease time ago, by a clock that may be a little fast. With that rule taken out, it is two
    /// writable members that have to be found.
    pub fn check_wait(&mut self, me: &IdcName, renewed_at: Option<u64>, purpose: Purpose) {
        let takes = matches!(
            purpose,
            Purpose::TakeElected | Purpose::TakeForced | Purpose::Retake
        );
        let early = renewed_at
            .filter(|_| self.rules.await_former_right)
            .filter(|at| self.now - at < LEASE * 98 / 100);
        if let Some(at) = early.filter(|_| takes && !self.just_restored()) {
            let since = self.now - at;
            self.violate(format!(
                "{me} takes over {since} ms after the former holder's session was kept alive"
            ));
        }
    }

    /// Where etcd knows of no epoch, databases may: nobody who was elected later, or had the last
    /// word in the same epoch, is passed over. As every member is fenced, that makes up for what
    /// etcd has forgotten.
    fn check_first(&mut self, me: &IdcName, before: &UnitState) {
        let mine = self.databases[me].last_word();
        let members = before.unit.iter().flat_map(|doc| &doc.value.members);
        let mut others = members.map(|member| &self.databases[&member.idc]);
        let other = others.find(|it| it.writes > 0 && it.last_word() > mine);
        if let Some(other) = other.filter(|_| !self.just_restored()) {
            let text = format!("{me} goes first, and {} knows more", other.idc);
            self.violate(text);
        }
        self.ledger.forgotten = None;
    }

    /// A planned switchover loses nothing: what the fenced holder acknowledged is here.
    fn check_nothing_lost(&mut self, target: &IdcName, before: &UnitState) {
        let Some(source) = before.epoch.as_ref().map(|epoch| epoch.value.idc.clone()) else {
            return;
        };
        let writes = self.databases[&source].writes;
        let here = self.databases[target].applied.get(&source).copied();
        if source != *target && writes > here.unwrap_or(0) {
            self.violate(format!(
                "{source} acknowledged {writes}, {target} takes over with {here:?}"
            ));
        }
    }

    fn votes(before: &UnitState) -> impl Iterator<Item = VoteGround> {
        let epoch = before.epoch.as_ref().map(|epoch| &epoch.value);
        before
            .votes
            .values()
            .map(|vote| &vote.value)
            .filter(move |vote| {
                epoch.is_some_and(|epoch| epoch.epoch == vote.epoch && epoch.idc == vote.against)
            })
            .map(|vote| vote.ground)
    }

    /// Every takeover has its votes or its proof, none follows another too soon, and none loses
    /// more than is allowed.
    fn check_election(&mut self, me: &IdcName, before: &UnitState) {
        let Some(epoch) = before.epoch.as_ref().map(|epoch| epoch.value.clone()) else {
            self.violate("an election without an epoch before it".to_owned());
            return;
        };
        if before.primary.is_some() {
            self.violate(format!("{me} was elected while the primary was held"));
        }
        let votes = Self::votes(before).count();
        let proof = before
            .vacated
            .as_ref()
            .is_some_and(|vacated| vacated.value.epoch == epoch.epoch);
        if 2 * votes <= before.idcs.len() && !proof {
            self.violate(format!("{me} was elected with {votes} votes and no proof"));
        }
        if epoch.idc == *me {
            return;
        }
        self.check_cooldown(me, before, epoch.failed_over);
        self.check_loss(me, &epoch.idc);
    }

    fn check_cooldown(&mut self, me: &IdcName, before: &UnitState, last: Epoch) {
        let acknowledged = before
            .ack
            .as_ref()
            .is_some_and(|ack| ack.value.epoch >= last);
        let soon = self
            .ledger
            .failed_over
            .is_some_and(|at| (self.now - at) * 102 / 100 < self.plan.cooldown);
        // A restored etcd does not remember the failover.
        if soon && !acknowledged && last > Epoch::NONE {
            self.violate(format!("{me} was elected during the cool-down"));
        }
        self.ledger.failed_over = Some(self.now);
    }

    fn check_loss(&mut self, me: &IdcName, source: &IdcName) {
        let here = self.databases[me].applied.get(source).copied().unwrap_or(0);
        // A member that accepts writes gets one every so many milliseconds.
        let lost = self.databases[source].writes.saturating_sub(here) * WRITE_EVERY;
        // The last sign of life may have been a whole lease before the last write.
        if lost > MAX_LAG + LEASE + NOTICED {
            self.violate(format!(
                "{me} was elected though it lacks {lost} ms of {source}"
            ));
        }
    }

    fn check_retake(&mut self, before: &UnitState) {
        let objections = Self::votes(before)
            .filter(|ground| ground.is_about_the_database())
            .count();
        let automatic = before
            .unit
            .as_ref()
            .is_some_and(|unit| unit.value.failover.mode == model::FailoverMode::Automatic);
        if automatic && objections > 0 {
            self.violate(format!("taken again against {objections} votes"));
        }
    }

    /// What was on its way when etcd was restored may still arrive.
    fn just_restored(&self) -> bool {
        let restored = self.ledger.restored_at;
        restored.is_some_and(|at| self.now - at < LEASE)
    }

    /// Opened implies holds: etcd itself has this IDC as the primary of the current epoch.
    pub fn check_opened(&mut self, idc: &IdcName, epoch: Epoch) {
        self.etcd.expire(self.now);
        let whose = self
            .ledger
            .opened
            .entry(epoch)
            .or_insert_with(|| idc.clone());
        if whose != idc {
            let text = format!("{idc} was opened in epoch {epoch}, which was {whose}'s");
            self.violate(text);
        }
        self.ledger.decided_at = Some(self.now);
        let restored = self.just_restored();
        let written = self.databases[idc].epoch;
        if written < epoch {
            self.violate(format!(
                "{idc} was opened in epoch {epoch}, and its database knows {written}"
            ));
        }
        let state = &self.etcd.state;
        let current = state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        let holder = state.primary.as_ref().map(|primary| &primary.value);
        let holds =
            holder.is_some_and(|holder| holder.idc == *idc && Some(holder.epoch) == current);
        // It may not have heard of that yet, and its right is not over.
        let ended = self.ledger.ended_early.get(idc);
        let ended = holder.is_none()
            && current == Some(epoch)
            && ended.is_some_and(|at| self.now - at < LEASE);
        if !holds && !restored && !ended {
            self.violate(format!(
                "{idc} was opened, but etcd says {holder:?} in epoch {current:?}"
            ));
        }
        let forgotten = self.ledger.forgotten.take_if(|(_, last)| last == idc);
        if forgotten.is_none() && self.ledger.forgotten.is_some() && !restored {
            let text = format!("{idc} was opened by an etcd that forgot who was open since");
            self.violate(text);
        }
        if self.ledger.doubtful && !restored {
            self.violate(format!(
                "{idc} was opened by a restored etcd that nobody has looked at"
            ));
        }
    }
}
