//! Times in cron's five fields, in UTC.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// So many days are looked through for the next time or the one before: 29 February can be eight
/// years away (1896 to 1904, 2096 to 2104).
const DAYS: u32 = 366 * 9;

/// `minute hour day-of-month month day-of-week`, in UTC: numbers, `*`, ranges `a-b`, steps `/n`,
/// lists. Sunday is 0 or 7. As in cron, if both days are restricted either is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either day counts, since both are restricted.
    either_day: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not cron's five fields (minute hour day-of-month month day-of-week): {reason}"
)]
pub struct InvalidSchedule {
    text: String,
    reason: String,
}

struct Field {
    name: &'static str,
    least: u64,
    most: u64,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        least: 0,
        most: 59,
    },
    Field {
        name: "hour",
        least: 0,
        most: 23,
    },
    Field {
        name: "day-of-month",
        least: 1,
        most: 31,
    },
    Field {
        name: "month",
        least: 1,
        most: 12,
    },
    Field {
        name: "day-of-week",
        least: 0,
        most: 7,
    },
];

impl Field {
    fn number(&self, text: &str) -> Result<u64, String> {
        let (least, most) = (self.least, self.most);
        let number = text
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number));
        // `+5` is a number to Rust.
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        number.filter(|_| plain).ok_or_else(|| {
            format!(
                "its {} has {text:?}; give numbers from {least} to {most}",
                self.name
            )
        })
    }

    /// Which values are meant, one bit each.
    fn bits(&self, text: &str) -> Result<u64, String> {
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.least, self.most),
                Some((first, last)) => (self.number(first)?, self.number(last)?),
                // As in cron, a step goes to the end of the range.
                None if step.is_some() => (self.number(range)?, self.most),
                None => (self.number(range)?, self.number(range)?),
            };
            if first > last {
                return Err(format!("its {} has {part:?}, which is empty", self.name));
            }
            let step = match step.map(str::parse::<usize>) {
                None => 1,
                Some(Ok(step)) if step > 0 => step,
                Some(_) => {
                    return Err(format!(
                        "its {} has {part:?}; give a step from 1",
                        self.name
                    ));
                }
            };
            for value in (first..=last).step_by(step) {
                bits |= 1 << value;
            }
        }
        Ok(bits)
    }
}

impl std::str::FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: String| InvalidSchedule {
            text: text.to_owned(),
            reason,
        };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            return Err(invalid(format!("it has {} fields", words.len())));
        };
        let bits = |place: usize, text| FIELDS[place].bits(text).map_err(invalid);
        let mut weekdays = bits(4, weekday)?;
        weekdays |= weekdays >> 7 & 1;
        let schedule = Self {
            minutes: bits(0, minute)?,
            hours: bits(1, hour)?,
            days: bits(2, day)?,
            months: bits(3, month)?,
            weekdays,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        // Any nine years in a row have each date of the calendar.
        match schedule.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(invalid("no such day exists".to_owned())),
        }
    }
}

impl Schedule {
    /// The first time after this one; none if the calendar ends before.
    pub fn after(&self, than: Timestamp) -> Option<Timestamp> {
        let than = TimeZone::UTC.to_datetime(than);
        let mut date = than.date();
        let mut least = minute_of_day(than.time()) + 1;
        for _ in 0..DAYS {
            if self.on(date)
                && let Some(minute) = (least..24 * 60).find(|minute| self.at(*minute))
            {
                return instant(date, minute);
            }
            (date, least) = (date.tomorrow().ok()?, 0);
        }
        None
    }

    /// The last time that is not after this one; none if the calendar begins after.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let now = TimeZone::UTC.to_datetime(now);
        let mut date = now.date();
        let mut most = minute_of_day(now.time());
        for _ in 0..DAYS {
            if self.on(date)
                && let Some(minute) = (0..=most).rev().find(|minute| self.at(*minute))
            {
                return instant(date, minute);
            }
            (date, most) = (date.yesterday().ok()?, 24 * 60 - 1);
        }
        None
    }

    fn on(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && if self.either_day {
                day || weekday
            } else {
                day && weekday
            }
    }

    fn at(&self, minute: u64) -> bool {
        self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1
    }
}

fn minute_of_day(time: Time) -> u64 {
    u64::from(time.hour().unsigned_abs()) * 60 + u64::from(time.minute().unsigned_abs())
}

fn instant(date: Date, minute: u64) -> Option<Timestamp> {
    let (hour, minute) = (
        i8::try_from(minute / 60).ok()?,
        i8::try_from(minute % 60).ok()?,
    );
    TimeZone::UTC.to_timestamp(date.at(hour, minute, 0, 0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    fn after(text: &str, than: &str) -> String {
        let than: Timestamp = than.parse().unwrap();
        schedule(text).after(than).unwrap().to_string()
    }

    fn until(text: &str, now: &str) -> String {
        let now: Timestamp = now.parse().unwrap();
        schedule(text).until(now).unwrap().to_string()
    }

    #[test]
    fn the_next_time_lies_behind_now_and_the_last_one_may_be_now() {
        // 22 November 2026 is a Sunday.
        let now = "2026-11-22T03:00:00Z";
        assert_eq!(after("0 3 * * *", now), "2026-11-23T03:00:00Z");
        assert_eq!(until("0 3 * * *", now), now);
        assert_eq!(
            until("0 3 * * *", "2026-11-22T02:59:59Z"),
            "2026-11-21T03:00:00Z"
        );
        assert_eq!(
            after("*/20 * * * *", "2026-11-22T03:00:59Z"),
            "2026-11-22T03:20:00Z"
        );
        assert_eq!(after("5/20 23 * * *", now), "2026-11-22T23:05:00Z");
        assert_eq!(
            after("59 23 31 12 *", "2026-12-31T23:59:00Z"),
            "2027-12-31T23:59:00Z"
        );
        assert_eq!(
            after("0 0 29 2 *", "2096-02-29T00:00:00Z"),
            "2104-02-29T00:00:00Z"
        );
        assert_eq!(
            until("0 0 29 2 *", "2104-02-28T23:00:00Z"),
            "2096-02-29T00:00:00Z"
        );
    }

    #[test]
    fn of_two_restricted_days_either_is_enough() {
        let now = "2026-11-22T03:00:00Z";
        assert_eq!(after("0 1 * * 0", now), "2026-11-29T01:00:00Z");
        assert_eq!(after("0 1 * * 7", now), "2026-11-29T01:00:00Z");
        assert_eq!(after("0 1 25 * 0", now), "2026-11-25T01:00:00Z");
        assert_eq!(after("0 1 * * 1-5", now), "2026-11-23T01:00:00Z");
        // A step of all days restricts nothing: both must fit.
        assert_eq!(after("0 1 */2 * 0", now), "2026-11-29T01:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_field() {
        for (text, why) in [
            ("0 3 * *", "it has 4 fields"),
            (
                "60 3 * * *",
                "its minute has \"60\"; give numbers from 0 to 59",
            ),
            ("0 24 * * *", "its hour"),
            ("0 3 0 * *", "its day-of-month"),
            ("0 3 * JAN *", "its month has \"JAN\""),
            ("0 3 * * 8", "its day-of-week"),
            ("+5 3 * * *", "its minute"),
            ("9-5 3 * * *", "\"9-5\", which is empty"),
            ("*/0 3 * * *", "give a step from 1"),
            ("*/-1 3 * * *", "give a step from 1"),
            ("0 3 30 2 *", "no such day exists"),
            ("@daily", "it has 1 fields"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }
}
