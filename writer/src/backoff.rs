//! How long to wait before beginning again.

use std::time::Duration;

use crate::error::Class;

/// Grows from one failure to the next until something succeeds.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait: half of it fixed, half of it random, so that those who failed together do
    /// not come back together.
    pub(crate) fn next(&mut self, class: Class) -> Duration {
        let longest = longest(class, self.failures);
        self.failures = self.failures.saturating_add(1);
        // A random UUID is the random number that is at hand; 1024 steps are fine enough.
        let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        longest / 2 + longest / 2 * random / 255
    }
}

fn longest(class: Class, failures: u32) -> Duration {
    let (first, last) = match class {
        Class::Collision => (50, 1_000),
        Class::Environment => (100, 3_000),
        Class::Halt => (1_000, 10_000),
    };
    Duration::from_millis((first << failures.min(10)).min(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            let wait = backoff.next(Class::Environment);
            let longest = longest(Class::Environment, failures);
            assert!(
                wait >= longest / 2 && wait <= longest,
                "{wait:?} of {longest:?}"
            );
        }
        assert_eq!(longest(Class::Environment, 40), Duration::from_secs(3));
        assert_eq!(longest(Class::Halt, 40), Duration::from_secs(10));
        backoff.reset();
        assert!(backoff.next(Class::Environment) <= Duration::from_millis(100));
    }
}
