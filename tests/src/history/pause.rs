//! For how long nobody took writes.

use super::{Attempt, Nanos};

/// What counts as the pause of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// From the fault to the first write that is acknowledged by another member than before; where
    /// none is, the longest time without an acknowledged write.
    FromFault,
    /// The longest time between two acknowledged writes, wherever.
    LongestGap,
}

/// For how long nobody took writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// In nanoseconds.
    pub nanos: Nanos,
    /// The first member that took writes after the fault and had not taken the last before it.
    pub moved_to: Option<String>,
}

impl Pause {
    /// Of the writes between the fault and the end of the trial. `None` without any write before
    /// or after the fault.
    pub fn of(attempts: &[Attempt], measure: Measure, fault: Nanos) -> Option<Self> {
        let mut acknowledged: Vec<&Attempt> = attempts
            .iter()
            .filter(|attempt| attempt.acknowledged())
            .collect();
        acknowledged.sort_by_key(|attempt| attempt.ended);
        let split = acknowledged.partition_point(|attempt| attempt.ended <= fault);
        let (before, after) = acknowledged.split_at(split);
        let last = before.last()?;
        let mut times = vec![fault];
        times.extend(after.iter().map(|attempt| attempt.ended));
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max()?;
        let moved = after.iter().find(|attempt| attempt.member != last.member);
        let nanos = match (measure, moved) {
            (Measure::FromFault, Some(first)) => first.ended - fault,
            _ => gap,
        };
        Some(Self {
            nanos,
            moved_to: moved.map(|attempt| attempt.member.clone()),
        })
    }
}

/// The value at or below which so many of a hundred lie, by nearest rank. The values are sorted.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
