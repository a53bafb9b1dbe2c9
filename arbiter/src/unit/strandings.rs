//! Transactions that only one member has, since a failover left them behind: who has set aside what,
//! and what the core is told of it.

use std::collections::{BTreeMap, BTreeSet};

use arbitration::{Event, Hindrance};
use model::{Epoch, IdcName};
use mysql::control::FiledCounts;

use super::Unit;
use crate::translate::hindrances;

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
    pub highest: Epoch,
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
    /// What another member has set aside of this one's.
    pub(super) async fn take_filed(&mut self, by: IdcName, filed: FiledCounts) {
        self.strandings.filed.insert(by, filed);
        self.tell_strandings().await;
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
