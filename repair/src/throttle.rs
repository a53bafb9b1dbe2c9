//! When verification waits for others. Pure.

use std::time::Duration;

use model::Throttle;

/// A rest is at most so long: then the load is looked at again.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What the servers and the link are busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// How far the link is behind.
    pub lag: Duration,
    /// Threads that run at the source and at the target, this run's own included.
    pub threads: [u64; 2],
}

/// Why it must wait, as a part of a sentence; `None` if it may go on.
pub(crate) fn must_wait(load: Load, limits: &Throttle) -> Option<String> {
    let most_lag = Duration::from_millis(limits.max_lag_millis);
    if load.lag > most_lag {
        return Some(format!(
            "the link is {:?} behind, more than {most_lag:?}",
            load.lag
        ));
    }
    for (threads, end) in load.threads.into_iter().zip(["source", "target"]) {
        if threads > limits.max_threads_running {
            return Some(format!(
                "the {end} runs {threads} threads, more than {}",
                limits.max_threads_running
            ));
        }
    }
    None
}

/// How long to rest after so much work, so that work takes the given share of the time.
pub(crate) fn rest(worked: Duration, limits: &Throttle) -> Duration {
    let share = if limits.share.is_finite() {
        limits.share.clamp(0.01, 1.0)
    } else {
        1.0
    };
    worked.mul_f64((1.0 - share) / share).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lag: u64, source: u64, target: u64) -> Load {
        Load {
            lag: Duration::from_millis(lag),
            threads: [source, target],
        }
    }

    #[test]
    fn it_waits_for_the_link_and_for_busy_servers() {
        let limits = Throttle::default();
        assert_eq!(must_wait(load(5_000, 50, 50), &limits), None);
        let lag = must_wait(load(5_001, 1, 1), &limits).unwrap();
        assert!(lag.contains("5.001s behind"), "{lag}");
        let source = must_wait(load(0, 51, 1), &limits).unwrap();
        assert!(source.contains("the source runs 51"), "{source}");
        let target = must_wait(load(0, 1, 99), &limits).unwrap();
        assert!(target.contains("the target runs 99"), "{target}");
    }

    #[test]
    fn it_rests_for_its_share() {
        let of = |share| Throttle {
            share,
            ..Throttle::default()
        };
        let worked = Duration::from_millis(100);
        assert_eq!(rest(worked, &of(1.0)), Duration::ZERO);
        assert_eq!(rest(worked, &of(0.5)), worked);
        assert_eq!(rest(worked, &of(0.25)), worked * 3);
        assert_eq!(rest(Duration::from_secs(1), &of(0.0)), LONGEST_REST);
        assert_eq!(rest(worked, &of(f64::NAN)), Duration::ZERO);
    }
}
