//! The first election of a Unit, and the first one after etcd has lost what it knew of it.

use std::cmp::Reverse;

use model::{Epoch, IdcName, TransitionKind, UnitState};

use crate::core::{Core, Plan};
use crate::elect::identities_differ;
use crate::event::{Purpose, Slot};
use crate::{Moment, Now};

/// Why the first election is not held yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FirstWaits {
    /// What etcd says is not known yet, or this IDC has no part in it.
    Nothing,
    /// Two members are one and the same server.
    SameServer,
    /// These members are not reached, have not passed preflight, do not remember etcd, or are not
    /// fenced where that is asked.
    Members(Vec<IdcName>),
    /// Databases know of an epoch, and etcd does not: its holder may be open still, for so many
    /// milliseconds.
    LastHolder { left: u64 },
    /// A person has taken out the member that goes first: another one may lack its data.
    TakenOut(IdcName),
}

impl Core {
    /// Since when etcd has not known of any epoch, and databases of no later one than this.
    pub(crate) fn note_no_epoch(&mut self, now: Now) {
        // Not only what is confirmed: after each commit of this process that is nothing for a moment.
        let believed = self.session.is_some() && self.trusts_etcd();
        let state = self.state.as_ref().filter(|_| believed);
        if state.is_none_or(|state| state.unit.is_none() || state.epoch.is_some()) {
            self.no_epoch = None;
            return;
        }
        let highest = self.highest_epoch();
        if self.no_epoch.is_none_or(|(known, _)| known != highest) {
            self.no_epoch = Some((highest, now.at));
        }
    }

    pub(crate) fn first_waits(&self, now: Now, fenced: bool) -> Option<FirstWaits> {
        let state = self.confirmed();
        let doc = self.doc().filter(|_| !self.is_paused());
        let (Some(state), Some(doc), Some(_)) = (state, doc, self.my_doc()) else {
            return Some(FirstWaits::Nothing);
        };
        if doc.value.members.len() < 2 {
            return Some(FirstWaits::Nothing);
        }
        let is_ready = |idc: &IdcName| {
            state.members.get(idc).is_some_and(|record| {
                let record = &record.value;
                record.reachable
                    && record.preflight_passed
                    && record.remembers
                    && (record.fenced || !fenced)
            })
        };
        let members = doc.value.members.iter().map(|member| &member.idc);
        let waiting: Vec<IdcName> = members.filter(|idc| !is_ready(idc)).cloned().collect();
        if !waiting.is_empty() {
            return Some(FirstWaits::Members(waiting));
        }
        if !identities_differ(state) {
            return Some(FirstWaits::SameServer);
        }
        let first = self.first_ranked(state);
        if let Some(first) = first.filter(|first| state.fence_orders.contains_key(first)) {
            return Some(FirstWaits::TakenOut(first));
        }
        let left = self.last_holder_has(now)?;
        (left > 0).then_some(FirstWaits::LastHolder { left })
    }

    /// How long the holder of an epoch that etcd does not know of may be open still, in
    /// milliseconds: two lease times after that was seen, as its own arbiter has noticed by then, or
    /// has lost its lease. `None` where nobody knows of an epoch.
    fn last_holder_has(&self, now: Now) -> Option<u64> {
        let (highest, since) = self.no_epoch.unwrap_or((Epoch::NONE, Moment(0)));
        let granted = self.lease.as_ref().map_or(u64::MAX / 2, |it| it.granted);
        let waits = highest > Epoch::NONE && self.rules.two_lease_times;
        waits.then(|| (2 * granted).saturating_sub(now.at.since(since)))
    }

    /// The member that goes first: data before none, then the later epoch and who held it, then the
    /// higher priority, then the name. Databases know of epochs where the Unit was deleted and made
    /// anew, or etcd was: the last holder has what was written last, and the others may lack it.
    fn first_ranked(&self, state: &UnitState) -> Option<IdcName> {
        let doc = self.doc()?;
        let rank = |idc: &IdcName| {
            let record = state.members.get(idc).map(|record| &record.value);
            let has_data = record.is_some_and(|record| record.has_data);
            let epoch = record.map(|record| (record.highest_epoch, record.held_highest));
            let priority = doc.value.member(idc).map_or(0, |member| member.priority);
            (Reverse((has_data, epoch, priority)), idc.clone())
        };
        let members = doc.value.members.iter().map(|member| rank(&member.idc));
        members.min().map(|(_, idc)| idc)
    }

    pub(crate) fn take_first(&self, now: Now, state: &UnitState) -> Option<Plan> {
        let fenced = self.rules.compare_members;
        if state.primary.is_some()
            || self.first_waits(now, fenced).is_some()
            || self.first_ranked(state)? != self.me
        {
            return None;
        }
        let mut plan = self.takeover(now, state, Purpose::TakeFirst, TransitionKind::First)?;
        if self.rules.compare_members {
            for (idc, record) in &state.members {
                plan = plan.compare(Slot::Member(idc.clone()), record.revision);
            }
        }
        Some(plan)
    }
}
