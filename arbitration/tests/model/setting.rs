//! What a model is about, and what can go wrong in it.

use model::IntentKind;

use crate::world::{World, idc};

/// What a model is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Setting {
    pub copies: usize,
    pub automatic: bool,
    pub failsafe: bool,
    pub request: Option<IntentKind>,
    pub horizon: u8,
    pub deviations: u8,
    /// Troubles begin no later than this, in seconds.
    pub begin_by: u8,
}

impl Setting {
    pub const TWO: Self = Self {
        copies: 2,
        automatic: true,
        failsafe: false,
        request: None,
        horizon: 12,
        deviations: 1,
        begin_by: u8::MAX,
    };
    /// Any two troubles at once.
    pub const PAIRS: Self = Self {
        horizon: 7,
        deviations: 2,
        begin_by: 0,
        ..Self::TWO
    };
    pub const THREE: Self = Self {
        copies: 3,
        horizon: 10,
        ..Self::TWO
    };
    pub const FAILSAFE: Self = Self {
        failsafe: true,
        ..Self::TWO
    };
    pub const SWITCHOVER: Self = Self {
        request: Some(IntentKind::Planned),
        horizon: 6,
        ..Self::TWO
    };
    pub const FAILOVER: Self = Self {
        automatic: false,
        request: Some(IntentKind::Forced),
        horizon: 9,
        ..Self::TWO
    };
}

/// What can go wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// The arbiter stops and goes on later.
    Pause(usize),
    /// The arbiter dies and is started again.
    Crash(usize),
    /// The arbiter loses etcd.
    CutEtcd(usize),
    /// etcd's answers and news do not come back.
    Deaf(usize),
    /// etcd ends the lease of the IDC early, and its arbiter loses etcd.
    EndLease(usize),
    /// The arbiter loses its database.
    CutDatabase(usize),
    /// The database dies and comes back fenced.
    Down(usize),
    /// The database stops and goes on later.
    Freeze(usize),
    /// The IDC is cut from etcd and from the others.
    Isolate(usize),
    /// Nothing is replicated.
    Links,
}

impl World {
    pub fn troubles_possible(&self) -> Vec<Trouble> {
        let of_place = |place: usize| {
            let mut all = vec![
                Trouble::Pause(place),
                Trouble::Crash(place),
                Trouble::CutEtcd(place),
                Trouble::Deaf(place),
                Trouble::EndLease(place),
                Trouble::Isolate(place),
            ];
            if place < self.setting.copies {
                all.extend([
                    Trouble::CutDatabase(place),
                    Trouble::Down(place),
                    Trouble::Freeze(place),
                ]);
            }
            all
        };
        (0..3)
            .flat_map(of_place)
            .chain([Trouble::Links])
            .filter(|trouble| !self.is(*trouble))
            .collect()
    }

    pub fn begin(&mut self, trouble: Trouble, lasts: u8) {
        self.troubles.insert(trouble, lasts);
        match trouble {
            Trouble::Crash(place) => {
                // What it sent may arrive all the same.
                let core = self.new_core(&idc(place));
                let process = &mut self.processes[place];
                process.core = core;
                process.session = None;
                for flight in &mut process.flights {
                    flight.late = true;
                }
            }
            Trouble::Down(place) => {
                let database = self.databases.get_mut(&idc(place)).unwrap();
                database.alive = false;
                database.read_only = true;
                database.guards.clear();
                database.waiting.clear();
            }
            Trouble::Freeze(place) => self.databases.get_mut(&idc(place)).unwrap().frozen = true,
            Trouble::EndLease(place) => {
                let _ = self.etcd.end_early(&idc(place));
                self.tell_all();
            }
            _ => {}
        }
    }

    pub fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Down(place) => self.databases.get_mut(&idc(place)).unwrap().restart(),
            Trouble::Freeze(place) => {
                let (now, wall) = (self.now, self.time().wall);
                let database = self.databases.get_mut(&idc(place)).unwrap();
                database.frozen = false;
                database.tick(now);
                // Nobody hears the answers any more.
                for sent in std::mem::take(&mut database.waiting) {
                    database.execute(now, wall, &sent);
                }
            }
            _ => {}
        }
    }
}
