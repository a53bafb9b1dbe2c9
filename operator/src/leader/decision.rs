//! What to do about the Lease, decided from what was seen: no IO, no clock.

use std::time::Duration;

/// A moment on the local monotonic clock, since some start.
pub type Moment = Duration;

/// How long a holder may go without renewing. Another one takes over after that.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often the holder renews, and the others look.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How much earlier than the lease's end the holder stops to act: others judge by their own clocks.
pub const MARGIN: Duration = Duration::from_secs(5);

/// The Lease as it was read. Times in it are other machines' and only compared for equality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty where it was released.
    pub holder: String,
    /// The version of the object.
    pub resource_version: String,
    /// The duration that its holder wrote.
    pub duration: Duration,
}

/// What is remembered between looks: since when, by the local clock, the Lease has looked like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    seen: Seen,
    since: Moment,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it.
    Create,
    /// It is ours: renew it, if it still has this version.
    Renew {
        /// The version.
        resource_version: String,
    },
    /// It is free or has run out: take it, if it still has this version.
    Take {
        /// The version.
        resource_version: String,
    },
    /// Another one holds it.
    Wait,
}

/// Decides from the Lease as it was just read. Expiry is judged by how long the object has not
/// changed on the local clock, as Kubernetes' own client does, so that skewed clocks cannot matter.
pub fn decide(me: &str, seen: Option<Seen>, memory: &mut Option<Memory>, now: Moment) -> Step {
    let Some(seen) = seen else {
        *memory = None;
        return Step::Create;
    };
    let since = match memory {
        Some(memory) if memory.seen == seen => memory.since,
        _ => now,
    };
    *memory = Some(Memory {
        seen: seen.clone(),
        since,
    });
    let resource_version = seen.resource_version;
    if seen.holder == me {
        Step::Renew { resource_version }
    } else if seen.holder.is_empty() || now >= since + seen.duration {
        Step::Take { resource_version }
    } else {
        Step::Wait
    }
}

/// Until when a holder whose renewal was sent at this moment, and then acknowledged, may act.
pub fn deadline(sent: Moment) -> Moment {
    sent + LEASE.saturating_sub(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, version: &str) -> Seen {
        Seen {
            holder: holder.to_owned(),
            resource_version: version.to_owned(),
            duration: LEASE,
        }
    }

    fn second(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_not_there_is_created_and_ours_is_renewed() {
        let mut memory = None;
        assert_eq!(decide("a", None, &mut memory, second(0)), Step::Create);
        assert_eq!(
            decide("a", Some(seen("a", "1")), &mut memory, second(1)),
            Step::Renew {
                resource_version: "1".to_owned()
            }
        );
    }

    #[test]
    fn anothers_lease_is_taken_only_after_it_has_stood_still_for_its_whole_duration() {
        let mut memory = None;
        assert_eq!(
            decide("b", Some(seen("a", "1")), &mut memory, second(100)),
            Step::Wait
        );
        assert_eq!(
            decide("b", Some(seen("a", "1")), &mut memory, second(114)),
            Step::Wait
        );
        assert_eq!(
            decide("b", Some(seen("a", "1")), &mut memory, second(115)),
            Step::Take {
                resource_version: "1".to_owned()
            }
        );
    }

    #[test]
    fn a_renewal_starts_the_wait_anew() {
        let mut memory = None;
        decide("b", Some(seen("a", "1")), &mut memory, second(0));
        assert_eq!(
            decide("b", Some(seen("a", "2")), &mut memory, second(14)),
            Step::Wait
        );
        assert_eq!(
            decide("b", Some(seen("a", "2")), &mut memory, second(28)),
            Step::Wait
        );
        assert!(matches!(
            decide("b", Some(seen("a", "2")), &mut memory, second(29)),
            Step::Take { .. }
        ));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut memory = None;
        assert!(matches!(
            decide("b", Some(seen("", "7")), &mut memory, second(0)),
            Step::Take { .. }
        ));
    }

    #[test]
    fn the_holder_stops_before_anybody_else_may_begin() {
        // Another one that saw the renewal at the instant it was sent waits a whole lease.
        assert!(deadline(second(0)) < LEASE);
        assert!(RENEW_EVERY * 2 < deadline(second(0)));
    }
}
