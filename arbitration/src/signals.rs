//! How an arbiter judges members by signals that are independent of each other.
//!
//! A signal has to fail so often in a row as the Unit says before it counts, and has to succeed as
//! often before it counts no more. What does not answer but whose heartbeats arrive here through
//! the link is not down: then it is this arbiter's network that is. What ordinary clients cannot
//! write to is down all the same, since heartbeats are written by an account of ours.

use std::collections::BTreeMap;

use model::{Epoch, Evidence, HeartbeatCheck, IdcName, Signal, VoteGround};

use crate::core::{Core, Exposure};
use crate::observation::Sign;
use crate::{Moment, Now};

/// What is known of one member through its signals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Watched {
    counts: BTreeMap<Signal, Count>,
    /// When its newest heartbeat arrived through the link, and the epoch it carried.
    replicated: Option<(Moment, Epoch)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Count {
    failed: u32,
    answered: u32,
    down: bool,
    detail: String,
}

impl Watched {
    fn take(&mut self, now: Now, sign: Sign, enough: u32) {
        match sign {
            Sign::Answered(signal) => {
                let count = self.counts.entry(signal).or_default();
                count.failed = 0;
                count.answered = (count.answered + 1).min(enough);
                if count.answered >= enough {
                    count.down = false;
                }
            }
            Sign::Failed(signal, detail) => {
                let count = self.counts.entry(signal).or_default();
                count.answered = 0;
                count.failed = (count.failed + 1).min(enough);
                count.detail = detail;
                if count.failed >= enough {
                    count.down = true;
                }
            }
            Sign::Replicated { epoch } => self.replicated = Some((now.at, epoch)),
        }
    }

    fn is_down(&self, signal: Signal) -> bool {
        self.counts.get(&signal).is_some_and(|count| count.down)
    }

    fn evidence(&self) -> Vec<Evidence> {
        self.counts
            .iter()
            .filter(|(_, count)| count.down)
            .map(|(signal, count)| Evidence {
                signal: *signal,
                failures: count.failed,
                detail: count.detail.clone(),
            })
            .collect()
    }
}

/// How long after a signal stopped it is noticed at the latest, in milliseconds.
pub(crate) fn noticed_after(check: &HeartbeatCheck) -> u64 {
    check.interval_millis * u64::from(check.failures) + check.timeout_millis
}

impl Core {
    pub(crate) fn take_sign(&mut self, now: Now, of: IdcName, sign: Sign) {
        // What arrives before the Unit is known counts as a sign of life all the same.
        let enough = match self.doc() {
            // A count kept for a member that the Unit no longer has would be believed when it
            // returns; that its heartbeats arrive is told with the time.
            Some(doc) if doc.value.member(&of).is_none() => {
                let watched = self.signals.entry(of).or_default();
                watched.counts.clear();
                if let Sign::Replicated { epoch } = sign {
                    watched.replicated = Some((now.at, epoch));
                }
                return;
            }
            Some(doc) => doc.value.heartbeat.failures.max(1),
            None if matches!(sign, Sign::Replicated { .. }) => 1,
            None => return,
        };
        self.signals.entry(of).or_default().take(now, sign, enough);
    }

    /// This member was opened. That ordinary writes failed until now says nothing of it from here on,
    /// or it would be fenced again on account of it together with what others have not taken back yet.
    pub(crate) fn forget_refused_writes(&mut self) {
        if let Some(watched) = self.signals.get_mut(&self.me) {
            watched.counts.remove(&Signal::Sql);
        }
    }

    /// A member was elected. Its own arbiter reached its server then; a verdict that stands from
    /// before, since a signal has to succeed so often before it counts no more, would take the
    /// primary from it at once.
    pub(crate) fn count_anew(&mut self, holder: &IdcName) {
        if let Some(watched) = self.signals.get_mut(holder) {
            watched.counts.clear();
        }
    }

    /// Whether the member's heartbeats have arrived through the link until just now.
    pub(crate) fn replicates(&self, now: Now, member: &IdcName) -> bool {
        let Some(check) = self.doc().map(|doc| &doc.value.heartbeat) else {
            return false;
        };
        let last = self
            .signals
            .get(member)
            .and_then(|watched| watched.replicated);
        last.is_some_and(|(at, epoch)| {
            now.at.since(at) <= noticed_after(check) && Some(epoch) >= self.epoch()
        })
    }

    /// The verdict on a member: `None` unless it is down.
    pub(crate) fn verdict(
        &self,
        now: Now,
        member: &IdcName,
    ) -> Option<(VoteGround, Vec<Evidence>)> {
        let watched = self.signals.get(member)?;
        let silent = watched.is_down(Signal::Sql);
        let evidence = watched.evidence();
        if *member == self.me {
            // Ordinary writes fail in a member that is fenced, as they should.
            let meant_to_be_open = self.member.exposure == Exposure::Open
                || (self.held().is_some_and(|primary| primary.value.open)
                    && !self.member.reachable);
            let ground = if self.member.reachable {
                VoteGround::WritesFail
            } else {
                VoteGround::Unreachable
            };
            let down = silent || watched.is_down(Signal::Resources);
            return (meant_to_be_open && down).then_some((ground, evidence));
        }
        if watched.is_down(Signal::Resources) {
            return Some((VoteGround::WritesFail, evidence));
        }
        let lives = self.rules.replication_is_life && self.replicates(now, member);
        (silent && !lives).then_some((VoteGround::Unreachable, evidence))
    }
}
