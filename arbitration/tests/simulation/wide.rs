//! Faults of the network between IDCs, of etcd, and of servers.

use model::IdcName;

use crate::chaos::Fault;
use crate::etcd::Etcd;
use crate::setup::Focus;
use crate::world::{HEARTBEAT, Happening, IDCS, World, idc};

impl World {
    /// Whether it has to be ended later.
    pub fn begin_wide_fault(&mut self, fault: &Fault, lasts: u64) -> bool {
        match fault {
            Fault::Deaf(place) => self.set_cuts(place, |process| process.deaf_to_etcd = true),
            Fault::Isolate(place) => self.isolate(place, true),
            Fault::Apart(place) => self.set_apart(place, true),
            Fault::OneWay(from, to) => {
                self.cuts.insert((from.clone(), to.clone()));
            }
            Fault::Flap(place, left) => {
                self.isolate(place, left % 2 == 0);
                if *left > 0 {
                    let next = self.rng.range(100, 2_500);
                    let again = Fault::Flap(place.clone(), left - 1);
                    self.later(next, Happening::Fault(again));
                }
                return false;
            }
            Fault::Leaderless => {
                self.etcd.leaderless = true;
                self.later(lasts.min(9_000), Happening::Heal(Fault::Leaderless));
                return false;
            }
            Fault::EndLease(place) => {
                self.end_lease(place, lasts);
                return false;
            }
            Fault::Restore => {
                self.restore();
                return false;
            }
            Fault::Acknowledge => {
                self.acknowledge();
                return false;
            }
            Fault::StepClock(place, back) => {
                self.step_clock(place, *back);
                return false;
            }
            Fault::BackupLock(place) => self.databases.get_mut(place).unwrap().locked = true,
            Fault::SlowFence(place) => {
                self.databases.get_mut(place).unwrap().slow_fence = lasts.min(8_000);
                return false;
            }
            Fault::DiskFull(place) => self.databases.get_mut(place).unwrap().full = true,
            Fault::TakeOut(place) => self.take_out(place),
            Fault::Hold => self.hold(true),
            Fault::Reshape => {
                self.plan.with_third = false;
                self.publish(false);
            }
            other => unreachable!("{other:?} is begun above"),
        }
        true
    }

    pub fn end_wide_fault(&mut self, fault: &Fault) {
        match fault {
            Fault::Deaf(place) => {
                self.set_cuts(place, |process| process.deaf_to_etcd = false);
                self.push_all();
            }
            Fault::Isolate(place) => self.isolate(place, false),
            Fault::Apart(place) => self.set_apart(place, false),
            Fault::OneWay(from, to) => {
                self.cuts.remove(&(from.clone(), to.clone()));
            }
            Fault::Leaderless if self.etcd.leaderless => {
                let now = self.now;
                self.etcd.elect(now);
                self.push_all();
            }
            Fault::BackupLock(place) => self.databases.get_mut(place).unwrap().locked = false,
            Fault::DiskFull(place) => self.databases.get_mut(place).unwrap().full = false,
            Fault::TakeOut(place) => self.let_in(place),
            Fault::Hold => self.hold(false),
            Fault::Reshape => {
                self.plan.with_third = true;
                self.publish(false);
            }
            _ => {}
        }
    }

    fn end_lease(&mut self, place: &IdcName, lasts: u64) {
        if self.etcd.leaderless {
            return;
        }
        if self.rng.percent(60) {
            self.set_cuts(place, |process| process.cut_from_etcd = true);
            self.later(lasts, Happening::Heal(Fault::CutEtcd(place.clone())));
        }
        if self.etcd.end_early(place) {
            self.ledger.ended_early.insert(place.clone(), self.now);
            self.counts.early_ends += 1;
            self.push_all();
        }
    }

    fn isolate(&mut self, place: &IdcName, cut: bool) {
        self.set_cuts(place, |process| process.cut_from_etcd = cut);
        self.set_ways(place, cut);
    }

    fn set_apart(&mut self, place: &IdcName, cut: bool) {
        for other in IDCS.map(idc).iter().filter(|other| *other != place) {
            self.set_cuts(other, |process| process.cut_from_etcd = cut);
        }
        self.set_ways(place, cut);
    }

    /// The ways between an IDC and all others.
    fn set_ways(&mut self, place: &IdcName, cut: bool) {
        for other in IDCS.map(idc) {
            if other == *place {
                continue;
            }
            for way in [
                (other.clone(), place.clone()),
                (place.clone(), other.clone()),
            ] {
                if cut {
                    self.cuts.insert(way);
                } else {
                    self.cuts.remove(&way);
                }
            }
        }
        if !cut {
            self.push_all();
        }
    }

    /// A server's clock is set by some seconds. Not back while the server stands still: its guard
    /// could not tell that from time that has not passed. `docs/verification.md` says so.
    fn step_clock(&mut self, place: &IdcName, back: bool) {
        let by = self.rng.range(100, 6_000);
        let database = self.databases.get_mut(place).unwrap();
        if back && database.frozen {
            return;
        }
        let clock = &mut database.clock;
        clock.offset = if back {
            clock.offset - by
        } else {
            clock.offset + by
        };
    }

    /// Whether the one that it calls the holder was succeeded since, and was cut off from before the
    /// snapshot on: only another name could tell it. `docs/verification.md` says so.
    fn forgets_unnoticed(&self, etcd: &Etcd) -> bool {
        let Some(holder) = etcd.state.primary.as_ref().map(|it| &it.value) else {
            return false;
        };
        let epoch = self.etcd.state.epoch.as_ref().map(|it| it.value.epoch);
        epoch > Some(holder.epoch)
            && self.processes.iter().any(|process| {
                let known = process.core.etcd_mark().map(|mark| mark.revision);
                process.alive && process.idc == holder.idc && known <= Some(etcd.state.revision)
            })
    }

    /// Whether somebody was elected or opened so lately that those who know may not have told their
    /// databases yet: only another name could tell it, as above.
    fn has_just_decided(&self) -> bool {
        let decided = self.ledger.decided_at;
        decided.is_some_and(|at| self.now - at < HEARTBEAT)
    }

    /// etcd is made anew, with nothing in it or from the last snapshot: as another cluster, as its own tool does it, or
    /// under its name, as when somebody puts its disks back. What was on its way to the old one is
    /// gone with its connections.
    fn restore(&mut self) {
        let nothing = self.rng.percent(15).then(Etcd::default);
        let Some(mut etcd) = nothing.or_else(|| self.snapshot.clone()) else {
            return;
        };
        let renamed = self.plan.focus != Focus::PutBack && self.rng.percent(50);
        let renamed = renamed || self.forgets_unnoticed(&etcd) || self.has_just_decided();
        etcd.cluster = self.etcd.cluster + u64::from(renamed);
        etcd.elect(self.now);
        let mut databases = self.databases.values();
        let unnoticed = self.etcd.state.epoch.is_none()
            && self.ledger.restored_at.is_none()
            && databases.any(|database| database.remembers.is_none());
        // Under its old name it is only as wrong as what it forgot: who was open last.
        let epoch = |etcd: &Etcd| etcd.state.epoch.as_ref().map(|epoch| epoch.value.epoch);
        self.ledger.forget(epoch(&etcd), epoch(&self.etcd));
        self.etcd = etcd;
        if !unnoticed {
            self.ledger.restored_at = Some(self.now);
            self.ledger.doubtful |= renamed;
        }
        self.counts.restores += 1;
        self.forget_requests();
        for process in 0..self.processes.len() {
            self.processes[process].last_push = 0;
            self.processes[process].lists = true;
        }
        self.publish_idcs();
        self.publish(false);
    }
}
