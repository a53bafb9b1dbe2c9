//! A person takes members out and lets them in again, and holds the automation: at any moment,
//! beside everything else. What must be so then.

use arbitration::{DatabaseCommand, Purpose};
use model::{IdcName, Order, UnitState};

use crate::chaos::Fault;
use crate::world::{LEASE, World};

/// Beyond a lease time: whatever may run, and differ, between a clock and another one.
const MARGIN: u64 = 1_000;

/// What a process was told of the order about its own member.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sighting {
    revision: i64,
    /// Since when it has known the order, in true time; `None` while there is none.
    since: Option<u64>,
}

impl World {
    /// In worlds in which people give orders, now and then instead of another fault.
    pub fn draw_order(&mut self) -> Option<Fault> {
        if !self.plan.orders || !self.rng.percent(12) {
            return None;
        }
        if self.rng.percent(15) {
            return Some(Fault::Hold);
        }
        let holder = self.etcd.state.primary.as_ref();
        let holder = holder.map(|primary| primary.value.idc.clone());
        let place = match holder {
            Some(holder) if self.rng.percent(60) => holder,
            _ => self.data_idc(),
        };
        Some(Fault::TakeOut(place))
    }

    fn order(&self) -> Order {
        Order {
            by: "somebody".to_owned(),
            at: self.wall(),
            reason: String::new(),
        }
    }

    /// As `topology`'s `order_fence` does it: one order a member, a second one changes nothing.
    pub fn take_out(&mut self, place: &IdcName) {
        if !self.etcd.state.fence_orders.contains_key(place) {
            let order = self.order();
            let order = self.etcd.put(order);
            self.etcd.state.fence_orders.insert(place.clone(), order);
            self.counts.fences += 1;
            self.push_all();
        }
    }

    pub fn let_in(&mut self, place: &IdcName) {
        if self.etcd.state.fence_orders.remove(place).is_some() {
            self.etcd.state.revision.0 += 1;
            self.push_all();
        }
    }

    pub fn hold(&mut self, held: bool) {
        let order = self.order();
        let order = self.etcd.put(order);
        self.etcd.state.pause_order = held.then_some(order);
        self.push_all();
    }

    pub fn lift_orders(&mut self) {
        for place in self.plan.members.clone() {
            self.let_in(&place);
        }
        if self.etcd.state.pause_order.is_some() {
            self.hold(false);
        }
    }

    /// A process is told a state; an older one than before counts only where etcd itself went back.
    pub fn sight_order(&mut self, process: usize, state: &UnitState) {
        let now = self.now;
        let process = &mut self.processes[process];
        let sighting = &mut process.sighting;
        if state.revision.0 < sighting.revision && process.core.trusts_etcd() {
            return;
        }
        sighting.revision = state.revision.0;
        let ordered = state.fence_orders.contains_key(&process.idc);
        sighting.since = sighting
            .since
            .filter(|_| ordered)
            .or(ordered.then_some(now));
    }

    /// An arbiter that has seen the order opens nothing.
    pub fn check_open_sent(&mut self, process: usize, command: &DatabaseCommand) {
        let opens = matches!(command, DatabaseCommand::Open { .. });
        if opens && self.processes[process].sighting.since.is_some() {
            let text = format!(
                "process {process} opens {}, which a person took out, as it has seen",
                self.processes[process].idc
            );
            self.violate(text);
        }
    }

    /// etcd has the order: nobody whom it takes out is elected.
    pub fn check_taken_out(&mut self, me: &IdcName, before: &UnitState, purpose: Purpose) {
        if before.fence_orders.contains_key(me) {
            let text = format!("{me} was elected, which a person took out");
            self.violate(text);
        }
        // A hand-over that has begun goes on.
        if before.pause_order.is_some() && purpose != Purpose::HandOver {
            let text = format!("{me} was elected while a person holds the automation");
            self.violate(text);
        }
    }

    /// What was open is fenced, by the arbiter or by the guard, within a lease time.
    pub fn check_closed(&mut self) {
        if !self.plan.orders {
            return;
        }
        let open = self.databases.values();
        let open = open.filter(|database| database.answers() && !database.read_only);
        let late = open.filter_map(|database| {
            // Of the process that acts for the IDC: a superseded one hears nothing of what is lifted.
            let active = self.etcd.state.sessions.get(&database.idc)?.revision;
            let process = self.processes.iter().rev().find(|process| {
                let session = process.session.map(|session| session.revision);
                process.alive && process.idc == database.idc && session == Some(active)
            })?;
            // Nor what was, of one that a restored etcd makes the active one again.
            let restored = self.ledger.restored_at.unwrap_or_default();
            let since = process.sighting.since?.max(restored);
            let opened = self.ledger.has_opened();
            (opened && self.now - since > LEASE + MARGIN).then(|| database.idc.clone())
        });
        if let Some(idc) = late.collect::<Vec<_>>().first() {
            let text =
                format!("{idc} is writable a lease after its arbiter saw the order against it");
            self.violate(text);
        }
    }
}
