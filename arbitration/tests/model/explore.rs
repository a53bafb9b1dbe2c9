//! The bounds, the actions and the properties.

use arbitration::{Purpose, Rules};
use stateright::{Model, Property};

use crate::setting::{Setting, Trouble};
use crate::world::World;

/// The world within bounds.
#[derive(Debug, Clone)]
pub struct Bounded {
    pub setting: Setting,
    pub rules: Rules,
    /// Seconds after the first primary was open.
    pub horizon: u8,
    /// How many deviations there are at most.
    pub deviations: u8,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A second goes by.
    Second,
    /// The oldest transaction of a process that is on its way arrives, and is answered.
    Arrives(usize),
    /// It arrives, and the answer is lost.
    AnswerLost(usize),
    /// Nobody waits for it any more; it arrives later, or never.
    Late(usize),
    /// Something goes wrong, for so many seconds.
    Begins(Trouble, u8),
    /// Somebody asks for what the setting is about.
    Ask,
}

/// How long troubles last: shorter than anything that waits, and longer than a lease.
const LASTS: [u8; 2] = [2, 8];

pub const RECOVERS: &str = "quorum and a healthy candidate lead to a primary";

impl Model for Bounded {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::established(self.setting, self.rules)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        let left = self.deviations - state.deviations;
        let mut waits = false;
        for process in 0..state.processes.len() {
            let Some(flight) = state.oldest(process) else {
                continue;
            };
            actions.push(Action::Arrives(process));
            waits |= !flight.late;
            if left > 0 && !flight.late {
                actions.push(Action::Late(process));
                actions.push(Action::AnswerLost(process));
            }
        }
        // What is on its way arrives within the second, unless it is late.
        if waits || state.second >= self.horizon {
            return;
        }
        actions.push(Action::Second);
        if state.may_ask() {
            actions.push(Action::Ask);
        }
        if left > 0 && state.fresh_second && state.second <= self.setting.begin_by {
            for trouble in state.troubles_possible() {
                actions.extend(LASTS.map(|lasts| Action::Begins(trouble, lasts)));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut state = last.clone();
        match action {
            Action::Second => state.second(),
            Action::Arrives(process) => state.arrives(process, true),
            Action::AnswerLost(process) => {
                state.deviations += 1;
                state.arrives(process, false);
            }
            Action::Late(process) => {
                state.deviations += 1;
                state.late(process);
            }
            Action::Begins(trouble, lasts) => {
                state.deviations += 1;
                state.begin(trouble, lasts);
            }
            Action::Ask => state.ask(),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one writable", |_, state: &World| {
                state.writable().count() <= 1
            }),
            Property::always("writable implies epoch current", |_, state: &World| {
                let current = state.etcd.state.epoch.as_ref();
                let current = current.map(|epoch| epoch.value.idc.clone());
                state
                    .writable()
                    .all(|member| Some(&member.idc) == current.as_ref())
            }),
            Property::always(
                "every takeover has its votes or its proof",
                |_, state: &World| state.violation != Some(Purpose::TakeElected),
            ),
            Property::always(
                "nothing is lost below the hand-over position",
                |_, state: &World| state.violation != Some(Purpose::HandOver),
            ),
            Property::always(RECOVERS, |model: &Bounded, state: &World| {
                let end = state.second >= model.horizon && state.in_flight() == 0;
                !end || state.violation.is_some() || state.recovers()
            }),
        ]
    }
}
