//! For how long the session of another IDC may still hold what it held (rule 7).
//!
//! # Why the former holder is closed when somebody takes over
//!
//! A holder acts on a keep-alive only if a transaction was acknowledged with it that writes the
//! session's renewal and compares the session's key. It sent that at `t`, and is closed before
//! `t + TTL - d`. The key and `primary` are bound to one lease and go at one revision, so all
//! renewals of that session lie below it. Watches tell of changes in their order: when this arbiter
//! first hears that `primary` is gone, it has heard of all of those renewals, each after it was
//! sent. So TTL after it heard of the last one, on its own clock, the holder is closed, and until
//! then nobody here takes over.
//!
//! Nothing in that depends on when etcd ends a lease. A leader of etcd that was stopped and goes on
//! ends leases that were kept alive with its successor, half a second after a keep-alive was
//! acknowledged (etcd 3.6.16: 7 times in 48); one that does not know yet that it was deposed
//! acknowledges keep-alives that its successor has not heard of.
//!
//! An etcd without room records nothing, and keep-alives count all the same. Nobody can take over in
//! it either; once there is room again whoever would take over counts anew ([`Event::Unrecorded`]).
//!
//! [`Event::Unrecorded`]: crate::Event::Unrecorded
//!
//! A holder that goes by itself leaves a proof instead (rule 6), and nobody waits.

use model::{Epoch, Revision, UnitState};

use crate::automatic::is_vacated;
use crate::core::Core;
use crate::{Moment, Now};

/// The right of the session of an IDC to what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Right {
    /// Its last renewal that is known.
    renewed: Revision,
    /// When this process heard of that.
    heard: Moment,
    /// The lease time, in milliseconds.
    granted: u64,
    /// It is over then, if that was the last one.
    over_at: Moment,
}

impl Right {
    fn hear(&mut self, now: Now) {
        self.heard = now.at;
        // A lease that was longer may still be counted on by whom it was granted to.
        self.over_at = self.over_at.max(now.at.plus(self.granted));
    }
}

/// Nobody holds an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Vacancy {
    epoch: Epoch,
    /// When this process first saw that.
    pub since: Moment,
    /// The last sign of life of the former holder's session is not later.
    pub renewed_by: Moment,
    /// When the former holder's right is over.
    pub over_at: Moment,
}

impl Core {
    /// Notes which sessions were renewed. A renewal that was missed shows in the revision of the
    /// last one.
    pub(crate) fn note_renewals(&mut self, now: Now, state: &UnitState) {
        for (idc, renewal) in &state.renewals {
            let granted = renewal.value.granted_millis;
            let right = self.rights.entry(idc.clone()).or_insert(Right {
                renewed: Revision::ABSENT,
                heard: now.at,
                granted,
                over_at: now.at,
            });
            if right.renewed != renewal.revision {
                right.renewed = renewal.revision;
                right.granted = granted;
                right.hear(now);
            }
        }
    }

    /// etcd has, or had until just now, no room to record renewals.
    pub(crate) fn doubt_rights(&mut self, now: Now) {
        for right in self.rights.values_mut() {
            right.hear(now);
        }
        let longest = self.longest_right();
        if let Some(vacancy) = &mut self.vacancy {
            vacancy.renewed_by = now.at;
            vacancy.over_at = vacancy.over_at.max(now.at.plus(longest));
        }
    }

    fn longest_right(&self) -> u64 {
        let granted = self.rights.values().map(|right| right.granted);
        granted.fold(self.settings.longest_promise, u64::max)
    }

    /// Notes since when `primary` is gone, on this arbiter's clock.
    pub(crate) fn note_vacancy(&mut self, now: Now) {
        let vacant = self.state.as_ref().and_then(|state| {
            let epoch = &state.epoch.as_ref()?.value;
            state.primary.is_none().then_some(epoch)
        });
        let Some(epoch) = vacant else {
            self.vacancy = None;
            return;
        };
        let known = self.vacancy.as_ref().map(|vacancy| vacancy.epoch);
        if known == Some(epoch.epoch) {
            return;
        }
        // One that was never seen to be renewed may have been until now.
        let unknown = (now.at, now.at.plus(self.longest_right()));
        let right = self.rights.get(&epoch.idc);
        let (renewed_by, over_at) = right.map_or(unknown, |right| (right.heard, right.over_at));
        self.vacancy = Some(Vacancy {
            epoch: epoch.epoch,
            since: now.at,
            renewed_by,
            over_at,
        });
    }

    /// Whether the former holder is closed, by its own word or by the time that has gone by. For the
    /// member that held it, another process of its IDC can only open what is open already.
    pub(crate) fn former_right_is_over(&self, now: Now, state: &UnitState) -> bool {
        let Some(vacancy) = &self.vacancy else {
            // The holder is there, and hands over.
            return true;
        };
        let forgotten = |epoch: &model::EpochRecord| epoch.highest > epoch.epoch;
        let known = state.epoch.as_ref().is_some_and(|it| !forgotten(&it.value));
        let proven = known && (is_vacated(state) || self.is_fenced_for_intent());
        !self.rules.await_former_right
            || self.was_holder(state)
            || proven
            || now.at >= vacancy.over_at
    }

    /// Whether the intent of the current epoch carries the proof that its holder is fenced.
    fn is_fenced_for_intent(&self) -> bool {
        self.intent().is_some_and(|intent| {
            Some(intent.value.expected_epoch) == self.epoch()
                && matches!(intent.value.phase, model::IntentPhase::Fenced { .. })
        })
    }
}
