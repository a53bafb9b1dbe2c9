//! Rule 12: the standby arbiter of an IDC watches the session of the active one and takes it over, with
//! the same lease and the next generation, before anything runs out.
//!
//! The lease tells whether the holder lives: while it does, the lease never has less left than what was
//! granted less a keep-alive's interval and a bit. Keep-alives come every sixth of the lease time; two
//! missing ones in a row, and the rounding of what is left, make a third. A session that is gone
//! altogether was most likely ended early by etcd, and its holder lives and claims it anew within
//! milliseconds; that costs its members less than a change of process. So it has to be gone at two looks.
//!
//! Deciding too early is safe: the session's key says who is active, the former one's keep-alives
//! count no more, its transactions compare a revision that is gone, and the servers refuse its
//! generation. Deciding too late costs a pause: guard and lease of the former one run out.

use crate::Settings;

/// A standby looks so often, in milliseconds.
pub const LOOK_EVERY: u64 = 300;
/// etcd tells what is left of a lease in whole seconds; so many milliseconds.
const ROUNDED: u64 = 1_000;
/// A claim and a guard take so long at most where nothing is wrong.
const ADOPTION: u64 = 500;

/// The session, as a standby finds it. Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its holder says that it is about to end.
    pub yielded: bool,
    /// It is this process's own, from before.
    pub own: bool,
    /// What is left of its lease, rounded up to whole seconds.
    pub left: u64,
    /// What was granted.
    pub granted: u64,
}

/// The standby of an IDC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standby {
    was_gone: bool,
}

impl Standby {
    /// Takes in a look at the session, `None` where there is none, and says whether it may be claimed.
    pub fn may_claim(&mut self, found: Option<Standing>) -> bool {
        let was_gone = std::mem::replace(&mut self.was_gone, found.is_none());
        found.map_or(was_gone, |it| {
            it.yielded || it.own || it.left <= it.granted * 2 / 3
        })
    }
}

impl Settings {
    /// How much time is left under a lease time (milliseconds) from the claim of a standby, had the last
    /// keep-alive been the last thing that its predecessor sent, to the moment at which the
    /// predecessor or its guard begins a fence: for the claim, and a guard of its own. `None` if a pause
    /// could not be avoided.
    pub fn time_to_adopt(&self, lease: u64) -> Option<u64> {
        let budget = self.fence_budget.max(self.guard_budget);
        let guarded = lease.checked_sub(Self::drift(lease) + budget)?;
        let third = lease - lease * 2 / 3;
        guarded.checked_sub(third.next_multiple_of(ROUNDED) + LOOK_EVERY)
    }

    /// The shortest lease time (milliseconds, whole seconds) under which a standby is in time.
    pub fn shortest_lease(&self) -> u64 {
        let leases = (1..).map(|seconds| seconds * 1_000);
        let mut long_enough = leases.filter(|it| self.time_to_adopt(*it) >= Some(ADOPTION));
        long_enough.next().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(left: u64) -> Standing {
        Standing {
            yielded: false,
            own: false,
            left: left * 1_000,
            granted: 6_000,
        }
    }

    #[test]
    fn a_session_that_is_kept_alive_is_left_alone() {
        let mut standby = Standby { was_gone: true };
        assert!(!standby.may_claim(Some(held(6))));
        // A keep-alive that came a little late.
        assert!(!standby.may_claim(Some(held(5))));
        assert!(standby.may_claim(Some(held(4))));
        assert!(standby.may_claim(Some(held(0))));
    }

    #[test]
    fn a_session_that_is_gone_is_left_to_its_holder_for_one_look() {
        let mut standby = Standby::default();
        assert!(!standby.may_claim(None));
        assert!(standby.may_claim(None));
        assert!(!standby.may_claim(Some(held(6))));
        assert!(!standby.may_claim(None));
    }

    #[test]
    fn nobody_waits_for_one_that_has_gone() {
        let found = held(6);
        let yielded = Standing {
            yielded: true,
            ..found
        };
        let own = Standing { own: true, ..found };
        for found in [yielded, own] {
            assert!(Standby::default().may_claim(Some(found)));
        }
    }

    #[test]
    fn a_lease_leaves_time_to_adopt() {
        let settings = Settings::default();
        assert_eq!(settings.time_to_adopt(4_000), None);
        assert_eq!(settings.shortest_lease(), 5_000);
        for lease in (5_000..=120_000).step_by(1_000) {
            assert!(settings.time_to_adopt(lease) >= Some(ADOPTION), "{lease}");
        }
    }
}
