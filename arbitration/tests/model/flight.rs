//! Transactions on their way, and what must be so when one takes effect.

use arbitration::{Event, Outcome, Purpose};
use jiff::Timestamp;
use model::{Epoch, Intent, IntentPhase};

use crate::setting::Trouble;
use crate::world::{LEASE, World, idc};

impl World {
    /// The oldest transaction of a process arrives, if it can.
    pub fn arrives(&mut self, place: usize, answered: bool) {
        self.fresh_second = false;
        let Some(flight) = self.processes[place].flights.pop_front() else {
            return;
        };
        let id = flight.transaction.id;
        // A late one has found another way.
        let reached = self.reaches_etcd(place) || flight.late;
        let before = self.etcd.state.clone();
        let awaits = self.etcd.awaits(&idc(place));
        let made = reached
            .then(|| self.etcd.commit(&idc(place), &flight.transaction))
            .flatten();
        if made.is_some() {
            let purpose = flight.transaction.purpose;
            self.check_commit(place, &before, purpose);
            let early =
                self.rules.await_former_right && awaits.is_some_and(|at| self.now - at < LEASE);
            if early && matches!(purpose, Purpose::TakeElected | Purpose::TakeForced) {
                self.violation = Some(Purpose::TakeElected);
            }
        }
        let heard = answered && reached && !self.is(Trouble::Deaf(place));
        let outcome = match made {
            _ if !heard => Outcome::Unknown,
            Some(revision) => Outcome::Done(revision),
            None => Outcome::Lost,
        };
        if !flight.late && self.runs(place) {
            self.step(place, Event::Committed { id, outcome });
        }
        if made.is_some() {
            self.tell_all();
        }
    }

    /// Nobody waits any more for the oldest transaction of a process.
    pub fn late(&mut self, place: usize) {
        self.fresh_second = false;
        let Some(flight) = self.processes[place].flights.front_mut() else {
            return;
        };
        flight.late = true;
        let id = flight.transaction.id;
        let outcome = Outcome::Unknown;
        if self.runs(place) {
            self.step(place, Event::Committed { id, outcome });
        }
    }

    pub fn ask(&mut self) {
        self.asked = true;
        self.fresh_second = false;
        let Some(kind) = self.setting.request else {
            return;
        };
        let state = &self.etcd.state;
        let intent = Intent {
            id: "request".to_owned(),
            kind,
            to: Some(idc(1)),
            expected_primary: state.primary.as_ref().map(|it| it.value.idc.clone()),
            expected_epoch: state
                .epoch
                .as_ref()
                .map_or(Epoch::NONE, |it| it.value.epoch),
            allow_data_loss: false,
            requested_at: Timestamp::UNIX_EPOCH,
            phase: IntentPhase::Requested,
        };
        let intent = self.etcd.put(intent);
        self.etcd.state.intent = Some(intent);
        self.tell_all();
    }

    fn check_commit(&mut self, place: usize, before: &model::UnitState, purpose: Purpose) {
        let Some(epoch) = before.epoch.as_ref().map(|epoch| &epoch.value) else {
            return;
        };
        let broken = match purpose {
            Purpose::TakeElected => {
                let votes = before
                    .votes
                    .values()
                    .filter(|vote| vote.value.epoch == epoch.epoch)
                    .count();
                let proof = before
                    .vacated
                    .as_ref()
                    .is_some_and(|vacated| vacated.value.epoch == epoch.epoch);
                before.primary.is_some() || !(2 * votes > before.idcs.len() || proof)
            }
            Purpose::HandOver => {
                let here = self.databases[&idc(place)].applied.get(&epoch.idc);
                self.databases[&epoch.idc].writes > here.copied().unwrap_or(0)
            }
            _ => false,
        };
        if broken {
            self.violation = Some(purpose);
        }
    }
}
