//! How far two servers' clocks are apart. A member's lag is its own clock less what the primary's
//! heartbeat says, so a member whose clock is behind looks current until it lags by as much.

use model::{Finding, IdcName, Severity};
use mysql_async::prelude::Queryable;

use crate::clock::{ClockReading, clock_difference, reader_micros};
use crate::session::Session;

/// From here on somebody should know: the lag that is shown is off by it.
const WORTH_TELLING_MICROS: i64 = 500_000;

pub(super) async fn read(session: &mut Session) -> Result<ClockReading, mysql_async::Error> {
    let asked = reader_micros();
    let server: Option<i64> = session
        .conn
        .query_first(
            "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00.000000', UTC_TIMESTAMP(6))",
        )
        .await?;
    let answered = reader_micros();
    Ok(ClockReading::new(server.unwrap_or(asked), asked, answered))
}

pub(super) fn compare(
    object: &str,
    left: (&IdcName, ClockReading),
    right: (&IdcName, ClockReading),
    max_lag_millis: u64,
) -> Option<Finding> {
    let ahead = clock_difference(left.1, right.1);
    let limit = i64::try_from(max_lag_millis.saturating_mul(1_000)).unwrap_or(i64::MAX);
    if ahead.abs() < WORTH_TELLING_MICROS && ahead.abs() < limit {
        return None;
    }
    let (fast, slow) = if ahead > 0 {
        (left.0, right.0)
    } else {
        (right.0, left.0)
    };
    // In whole seconds, since it is measured again and again.
    let about = (ahead.abs() + 500_000) / 1_000_000;
    let (severity, consequence) = if ahead.abs() >= limit {
        (
            Severity::Blocking,
            "at least the Unit's failover.maxLag, so that a copy could be that old and pass for \
             current",
        )
    } else {
        (
            Severity::Warning,
            "and by so much the age that a copy seems to have is wrong",
        )
    };
    Some(Finding {
        severity,
        check: "ClocksDiffer".to_owned(),
        object: object.to_owned(),
        message: format!(
            "the clock of {fast} is about {} ahead of that of {slow}, {consequence}",
            if about == 0 {
                "half a second".to_owned()
            } else {
                format!("{about} s")
            }
        ),
        fix: format!(
            "let both machines, {fast} and {slow}, follow the same time servers (chronyc tracking, \
             or timedatectl timesync-status, tells which one is wrong)"
        ),
    })
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

    fn found(left: ClockReading, right: ClockReading) -> Option<Finding> {
        let idc = |name: &str| IdcName::new(name).unwrap();
        compare("both", (&idc("sh"), left), (&idc("bj"), right), 5_000)
    }

    #[test]
    fn a_difference_is_told_and_from_the_greatest_lag_on_blocks() {
        assert_eq!(found(reading(499_000, 0), reading(0, 0)), None);
        let warned = found(reading(-1_800_000, 10), reading(0, 10)).unwrap();
        assert_eq!(warned.severity, Severity::Warning);
        assert!(
            warned
                .message
                .contains("bj is about 2 s ahead of that of sh"),
            "{warned}"
        );
        assert!(warned.fix.contains("bj and sh"), "{warned}");
        // What is in doubt does not block.
        let doubtful = found(reading(5_100_000, 200_000), reading(0, 0)).unwrap();
        assert_eq!(doubtful.severity, Severity::Warning);
        let blocks = found(reading(5_100_000, 50_000), reading(0, 0)).unwrap();
        assert_eq!(blocks.severity, Severity::Blocking);
    }
}
