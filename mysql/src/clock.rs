//! How far a server's clock is from the reader's, and two servers' clocks from each other.
//!
//! Each server's clock is compared with the reader's, and the reader's falls out of the difference.
//! It must not step meanwhile, so it is the wall clock of when the process began, carried on by the
//! monotonic one.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A server's clock against the reader's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockReading {
    /// The server's less the reader's, in microseconds.
    pub ahead_micros: i64,
    /// It is off by no more than this: half of the round trip.
    pub within_micros: i64,
}

impl ClockReading {
    /// A reading of the server's clock (UTC, microseconds since 1970) that was asked for and answered
    /// at these moments of [`reader_micros`].
    pub fn new(server_micros: i64, asked: i64, answered: i64) -> Self {
        let half = (answered - asked).max(0) / 2;
        Self {
            ahead_micros: server_micros - (asked + half),
            within_micros: half + 1,
        }
    }
}

/// The reader's clock, in microseconds since 1970. It never steps.
pub fn reader_micros() -> i64 {
    static BEGIN: OnceLock<(i64, Instant)> = OnceLock::new();
    let (wall, begin) = BEGIN.get_or_init(|| {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0));
        (wall, Instant::now())
    });
    wall + i64::try_from(begin.elapsed().as_micros()).unwrap_or(i64::MAX / 2)
}

/// By how many microseconds the first clock is certainly ahead of the second (below 0: behind it);
/// 0 where the readings do not tell them apart.
pub fn clock_difference(first: ClockReading, second: ClockReading) -> i64 {
    let ahead = first.ahead_micros - second.ahead_micros;
    let doubt = first.within_micros + second.within_micros;
    if ahead.abs() <= doubt {
        0
    } else {
        ahead - ahead.signum() * doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(ahead_micros: i64, within_micros: i64) -> ClockReading {
        ClockReading {
            ahead_micros,
            within_micros,
        }
    }

    #[test]
    fn half_a_round_trip_is_the_doubt() {
        let seen = ClockReading::new(2_000_000, 1_000_000, 1_400_000);
        assert_eq!(seen, reading(800_000, 200_001));
    }

    #[test]
    fn clocks_are_told_apart_only_beyond_doubt() {
        assert_eq!(clock_difference(reading(900, 400), reading(0, 500)), 0);
        assert_eq!(clock_difference(reading(1_000, 400), reading(0, 500)), 100);
        assert_eq!(clock_difference(reading(0, 400), reading(1_000, 500)), -100);
        // The reader's own clock falls out.
        let far = 3_600_000_000;
        assert_eq!(clock_difference(reading(far, 0), reading(far + 7, 0)), -7);
    }
}
