//! How many rows a chunk has. Pure.
//!
//! By bytes, so that no chunk takes more memory than it may, and by time, so that none keeps a
//! server busy for long: the next chunk has as many rows as the last one would have had to have to
//! take just as long as it should, growing slowly and shrinking at once.

use std::time::Duration;

/// A chunk should take so long.
const WANTED: Duration = Duration::from_millis(300);
/// A chunk has at most so many times the rows of the one before.
const GROWTH: u64 = 4;
/// A chunk has at least and at most so many rows.
const ROWS: (u64, u64) = (8, 50_000);
/// The first chunk of a table.
const FIRST: u64 = 256;

/// Decides how many rows the next chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizer {
    rows: u64,
    most_bytes: u64,
}

impl Sizer {
    /// For a table whose rows take about `row_bytes`.
    pub(crate) fn new(most_bytes: u64, row_bytes: u64) -> Self {
        let fit = most_bytes / row_bytes.max(1);
        Self {
            rows: FIRST.min(fit).clamp(ROWS.0, ROWS.1),
            most_bytes,
        }
    }

    /// Rows of the next chunk.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the next chunk.
    pub(crate) fn most_bytes(&self) -> usize {
        usize::try_from(self.most_bytes).unwrap_or(usize::MAX)
    }

    /// After a chunk of so many rows and bytes that took so long.
    pub(crate) fn took(&mut self, rows: u64, bytes: u64, time: Duration) {
        if rows == 0 {
            return;
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let wanted = u64::try_from(WANTED.as_micros()).unwrap_or(u64::MAX);
        let by_time = rows.saturating_mul(wanted) / micros;
        let by_bytes = self.most_bytes / (bytes / rows).max(1);
        self.rows = by_time
            .min(by_bytes)
            .min(self.rows.saturating_mul(GROWTH))
            .clamp(ROWS.0, ROWS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn large_rows_come_few_at_a_time() {
        assert_eq!(Sizer::new(MIB, 100).rows(), FIRST);
        assert_eq!(Sizer::new(MIB, 64 << 10).rows(), 16);
        assert_eq!(Sizer::new(MIB, 64 << 20).rows(), ROWS.0);
        let mut sizer = Sizer::new(MIB, 100);
        sizer.took(256, 256 * (16 << 10), Duration::from_millis(1));
        assert_eq!(sizer.rows(), 64);
    }

    #[test]
    fn a_chunk_takes_about_as_long_as_it_should() {
        let mut sizer = Sizer::new(1 << 30, 100);
        sizer.took(256, 25_600, Duration::from_millis(1));
        assert_eq!(sizer.rows(), 256 * GROWTH);
        sizer.took(1024, 102_400, Duration::from_millis(600));
        assert_eq!(sizer.rows(), 512);
        sizer.took(512, 51_200, Duration::from_secs(600));
        assert_eq!(sizer.rows(), ROWS.0);
        for _ in 0..20 {
            let rows = sizer.rows();
            sizer.took(rows, rows * 10, Duration::from_micros(rows));
        }
        assert_eq!(sizer.rows(), ROWS.1);
        sizer.took(0, 0, Duration::ZERO);
        assert_eq!(sizer.rows(), ROWS.1);
    }
}
