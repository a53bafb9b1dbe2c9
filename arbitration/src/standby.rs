//! Rule 12: the standby arbiter of an IDC watches the active one and takes its session over, with
//! the same lease and the next generation, before anything runs out.
//!
//! Deciding too early is safe: the session's key says who is active, the former one's keep-alives
//! count no more, its transactions compare a revision that is gone, and the servers refuse its
//! generation. Deciding too late costs a pause: guard and lease of the former one run out.

use model::{Generation, Revision};

use crate::{Moment, Settings};

/// How patient a standby is, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StandbySettings {
    /// The active one is asked so often.
    pub ask_every: u64,
    /// So long after the sending of the last question that it answered, it is taken for dead.
    pub silent_after: u64,
    /// The pause before a claim is tried again.
    pub retry_pause: u64,
}

impl Default for StandbySettings {
    fn default() -> Self {
        Self {
            ask_every: 300,
            silent_after: 1_200,
            retry_pause: 300,
        }
    }
}

impl StandbySettings {
    /// How much time is left, under a lease time, for the claim and the adoption of the member:
    /// from the decision to the end of the former one's last guard, had its last keep-alive been
    /// sent one keep-alive interval before it fell silent. `None` if a pause could not be avoided.
    pub fn time_to_adopt(
        &self,
        settings: &Settings,
        lease_millis: u64,
        keep_alive_every: u64,
    ) -> Option<u64> {
        let guard = lease_millis
            .checked_sub(Settings::drift(lease_millis))?
            .checked_sub(settings.guard_budget)?;
        guard.checked_sub(keep_alive_every + self.silent_after + self.ask_every)
    }
}

/// What a standby is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StandbyEvent {
    /// The session's key in etcd, or that there is none.
    Session(Option<(Revision, Generation)>),
    /// The process of this generation answered a question that was sent then.
    Answered {
        /// Who.
        generation: Generation,
        /// When it was asked.
        asked_at: Moment,
    },
    /// The active one says that it is about to end.
    Ending,
    /// Time went by.
    Tick,
}

/// What is known of the session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Session {
    Unknown,
    Absent,
    Held(Revision, Generation),
}

/// The standby of an IDC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Standby {
    settings: StandbySettings,
    session: Session,
    alive_at: Moment,
    tried_at: Option<Moment>,
    ending: bool,
}

impl Standby {
    /// A standby that knows nothing yet.
    pub fn new(settings: StandbySettings) -> Self {
        Self {
            settings,
            session: Session::Unknown,
            alive_at: Moment(0),
            tried_at: None,
            ending: false,
        }
    }

    /// Takes an event in. `Some`: claim the session now, comparing that its key was last written
    /// at this revision.
    pub fn step(&mut self, now: Moment, event: StandbyEvent) -> Option<Revision> {
        match event {
            StandbyEvent::Session(session) => {
                let session = session.map_or(Session::Absent, |(revision, generation)| {
                    Session::Held(revision, generation)
                });
                if self.session != session {
                    // Another process may just have claimed it: it is given its time.
                    self.session = session;
                    self.alive_at = now;
                    self.ending = false;
                    self.tried_at = None;
                }
            }
            StandbyEvent::Answered {
                generation,
                asked_at,
            } => {
                if matches!(self.session, Session::Held(_, active) if active == generation) {
                    self.alive_at = self.alive_at.max(asked_at);
                }
            }
            StandbyEvent::Ending => self.ending = true,
            StandbyEvent::Tick => {}
        }
        let silent = now.since(self.alive_at) >= self.settings.silent_after;
        let rested = self
            .tried_at
            .is_none_or(|at| now.since(at) >= self.settings.retry_pause);
        let (revision, due) = match self.session {
            Session::Unknown => return None,
            Session::Absent => (Revision::ABSENT, true),
            Session::Held(revision, _) => (revision, silent || self.ending),
        };
        if !due || !rested {
            return None;
        }
        self.tried_at = Some(now);
        Some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: StandbyEvent = StandbyEvent::Session(Some((Revision(7), Generation(3))));

    fn answered(generation: u64, asked_at: u64) -> StandbyEvent {
        StandbyEvent::Answered {
            generation: Generation(generation),
            asked_at: Moment(asked_at),
        }
    }

    #[test]
    fn it_claims_from_the_silent_and_only_from_them() {
        let mut standby = Standby::new(StandbySettings::default());
        assert_eq!(standby.step(Moment(0), StandbyEvent::Tick), None);
        assert_eq!(standby.step(Moment(0), ACTIVE), None);
        assert_eq!(standby.step(Moment(1_100), answered(3, 1_000)), None);
        // An answer of a former one is no sign of life of the active one.
        assert_eq!(standby.step(Moment(2_100), answered(2, 2_000)), None);
        assert_eq!(standby.step(Moment(2_199), StandbyEvent::Tick), None);
        assert_eq!(
            standby.step(Moment(2_200), StandbyEvent::Tick),
            Some(Revision(7))
        );
        assert_eq!(standby.step(Moment(2_300), StandbyEvent::Tick), None);
        assert_eq!(
            standby.step(Moment(2_500), StandbyEvent::Tick),
            Some(Revision(7))
        );
        // Somebody else was faster.
        let other = StandbyEvent::Session(Some((Revision(9), Generation(4))));
        assert_eq!(standby.step(Moment(2_600), other), None);
        assert_eq!(standby.step(Moment(3_700), StandbyEvent::Tick), None);
    }

    #[test]
    fn it_claims_at_once_what_nobody_has_or_is_given_up() {
        let mut standby = Standby::new(StandbySettings::default());
        assert_eq!(
            standby.step(Moment(5), StandbyEvent::Session(None)),
            Some(Revision::ABSENT)
        );
        let mut standby = Standby::new(StandbySettings::default());
        assert_eq!(standby.step(Moment(5), ACTIVE), None);
        assert_eq!(
            standby.step(Moment(9), StandbyEvent::Ending),
            Some(Revision(7))
        );
    }

    #[test]
    fn the_defaults_leave_time_to_adopt() {
        let standby = StandbySettings::default();
        let left = standby.time_to_adopt(&Settings::default(), 6_000, 1_000);
        assert!(left.is_some_and(|left| left >= 2_000), "{left:?}");
        let left = standby.time_to_adopt(&Settings::default(), 2_000, 1_000);
        assert_eq!(left, None);
    }
}
