//! When to tell the writer that a stretch of the binlog held nothing for it.
//!
//! Each position that a writer keeps is a transaction in its target's binlog, and the link in the
//! other direction reads that. If each such transaction led to a word to the other writer, which
//! keeps that too, two idle links would answer each other for ever. So a transaction that holds
//! only the bookkeeping of links (and rows of `multiactive` that came from elsewhere) is never a
//! reason to speak; its position goes along with the next thing that is. What is worth a word is
//! told once a second at most. The rows of `multiactive.heartbeat` that are born at the source are
//! ordinary transactions and carry the position in any case.

use std::time::{Duration, Instant};

use binlog::Passed;

/// At most one word in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was passed over since the writer last learned a position.
#[derive(Debug, Default)]
pub struct Stretch {
    passed: Option<Passed>,
    filtered: u64,
    worth_a_word: bool,
    told: Option<Instant>,
}

impl Stretch {
    /// A transaction of which nothing is sent.
    pub fn pass(&mut self, passed: Passed) {
        self.filtered += passed.filtered;
        self.worth_a_word |= !passed.bookkeeping;
        self.passed = Some(passed);
    }

    /// A frame with a position is about to go: the changes it has to account for, besides its own.
    pub fn take_filtered(&mut self, now: Instant) -> u64 {
        self.passed = None;
        self.worth_a_word = false;
        self.told = Some(now);
        std::mem::take(&mut self.filtered)
    }

    /// When a word is due, if one is.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let told = self.told.map_or(now, |told| told + INTERVAL);
        self.worth_a_word.then_some(told)
    }

    /// What to tell: the last transaction, with the number of changes left out in all.
    pub fn tell(&mut self, now: Instant) -> Option<Passed> {
        let last = self.passed.take()?;
        Some(Passed {
            filtered: self.take_filtered(now),
            ..last
        })
    }
}

#[cfg(test)]
mod tests {
    use change::{Flavor, Gtid, Position};

    use super::*;

    /// One end of a pair of opposite links, in milliseconds of a made-up clock: a server with its
    /// binlog, the syncer that reads it, and the writer that keeps what the other syncer tells.
    struct Side {
        stretch: Stretch,
        log: Vec<Passed>,
        number: u64,
    }

    impl Side {
        fn new() -> Self {
            Self {
                stretch: Stretch::default(),
                log: Vec::new(),
                number: 0,
            }
        }

        fn commit(&mut self, bookkeeping: bool) {
            self.number += 1;
            let mut position = Position::empty(Flavor::MariaDb);
            let gtid: Gtid = format!("0-1-{}", self.number).parse().unwrap();
            position.add(&gtid).unwrap();
            self.log.push(Passed {
                gtid,
                position,
                committed_micros: 0,
                filtered: 1,
                bookkeeping,
            });
        }

        /// Reads the log and says whether a word goes to the other side.
        fn step(&mut self, now: Instant) -> bool {
            for passed in std::mem::take(&mut self.log) {
                self.stretch.pass(passed);
            }
            self.stretch.due(now).is_some_and(|due| due <= now) && self.stretch.tell(now).is_some()
        }
    }

    /// How many words the two sides exchange in a minute after one change on one side, if what a
    /// writer keeps counts as bookkeeping or not.
    fn words(bookkeeping: bool) -> u32 {
        let start = Instant::now();
        let (mut left, mut right) = (Side::new(), Side::new());
        left.commit(false);
        let mut words = 0;
        for millis in (0..60_000).step_by(10) {
            let now = start + Duration::from_millis(millis);
            if left.step(now) {
                words += 1;
                right.commit(bookkeeping);
            }
            if right.step(now) {
                words += 1;
                left.commit(bookkeeping);
            }
        }
        words
    }

    #[test]
    fn an_idle_pair_of_links_is_quiet() {
        assert_eq!(
            words(true),
            1,
            "the one change is told, and nothing answers the telling"
        );
    }

    #[test]
    fn without_the_rule_they_would_answer_each_other_for_ever() {
        assert!(words(false) > 100);
    }

    #[test]
    fn a_busy_stretch_is_told_once_a_second() {
        let start = Instant::now();
        let mut side = Side::new();
        let mut words = 0;
        for millis in 0..10_000 {
            side.commit(false);
            words += u32::from(side.step(start + Duration::from_millis(millis)));
        }
        assert_eq!(words, 10);
    }

    #[test]
    fn what_was_left_out_is_told_exactly_once() {
        let start = Instant::now();
        let mut side = Side::new();
        side.commit(true);
        side.commit(false);
        assert!(side.step(start));
        side.commit(true);
        assert!(!side.step(start + INTERVAL));
        assert_eq!(side.stretch.take_filtered(start + INTERVAL), 1);
        assert_eq!(side.stretch.take_filtered(start + INTERVAL), 0);
    }
}
