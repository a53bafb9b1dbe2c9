//! The clocks: `CLOCK_BOOTTIME` for decisions, the wall clock for documents.

use std::time::Duration;

use arbitration::{Moment, Now};

/// Both clocks, now.
pub fn now() -> Now {
    Now {
        at: Moment(topology::boot_time_millis()),
        wall: jiff::Timestamp::now(),
    }
}

/// The clock that deadlines are told to the database module in.
pub fn since_boot() -> Duration {
    Duration::from_millis(topology::boot_time_millis())
}

/// A moment on that clock.
pub fn at(moment: Moment) -> Duration {
    Duration::from_millis(moment.0)
}
