//! The clock that deadlines are measured with.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_BOOTTIME`: monotonic, and unlike `CLOCK_MONOTONIC` it goes on while the
/// machine is suspended, as the lease in etcd does.
pub fn boot_time_millis() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000 + nanos / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::boot_time_millis;

    #[test]
    fn it_never_goes_back() {
        let first = boot_time_millis();
        let second = boot_time_millis();
        assert!(first > 0 && second >= first, "{first} then {second}");
    }
}
