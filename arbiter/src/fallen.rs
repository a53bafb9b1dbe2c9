//! Units whose task ended badly, which is a mistake of this program. Each begins anew after a pause,
//! and only under a later generation of the session: what its former task had on its way to etcd or
//! to the server then comes to nothing, as that of a process that was superseded does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Generation, UnitKey};
use tokio::time::Instant;

/// The pause after the first fall of a Unit, within which its guard keeps the member open. Each
/// further one takes twice as long: a mistake that is made again at once must not claim the session
/// over and over, which costs the IDC's other Units a look each.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// Units that wait to begin anew.
#[derive(Debug, Default)]
pub struct Fallen {
    units: BTreeSet<UnitKey>,
    /// How often each has fallen.
    falls: BTreeMap<UnitKey, u32>,
    /// The latest generation that one of them ran under.
    under: Generation,
    due: Option<Instant>,
}

impl Fallen {
    /// Takes a Unit in whose task ran under this generation.
    pub fn add(&mut self, key: UnitKey, under: Generation) {
        let falls = self.falls.entry(key.clone()).or_default();
        let pause = PAUSE
            .saturating_mul(1 << (*falls).min(10))
            .min(LONGEST_PAUSE);
        *falls += 1;
        self.units.insert(key);
        self.under = self.under.max(under);
        // One that falls again and again does not keep another one waiting.
        let due = Instant::now() + pause;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Whether this one waits.
    pub fn contains(&self, key: &UnitKey) -> bool {
        self.units.contains(key)
    }

    /// Returns when the session is to be claimed again for them. Cancel it at any time.
    pub async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// The generation above which the session is to be claimed.
    pub fn claim_above(&mut self) -> Generation {
        self.due = None;
        self.under
    }

    /// Those that may begin under this generation.
    pub fn rise(&mut self, generation: Generation) -> BTreeSet<UnitKey> {
        if generation <= self.under {
            return BTreeSet::new();
        }
        self.due = None;
        std::mem::take(&mut self.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fell_begins_under_a_later_generation_and_after_a_pause() {
        let key = UnitKey::new("shop", "orders").unwrap();
        let mut fallen = Fallen::default();
        assert!(fallen.rise(Generation(1)).is_empty());
        let begin = Instant::now();
        fallen.add(key.clone(), Generation(3));
        assert!(fallen.contains(&key));
        assert!(
            fallen.rise(Generation(3)).is_empty(),
            "under its own generation"
        );
        assert!(fallen.due >= Some(begin + PAUSE));
        assert_eq!(fallen.claim_above(), Generation(3));
        assert!(fallen.contains(&key), "before the session was claimed");
        assert_eq!(fallen.rise(Generation(4)), BTreeSet::from([key]));
        assert!(fallen.rise(Generation(5)).is_empty());
        let again = Instant::now();
        fallen.add(UnitKey::new("shop", "orders").unwrap(), Generation(5));
        let due = fallen.due;
        assert!(due >= Some(again + 2 * PAUSE));
        fallen.add(UnitKey::new("shop", "orders").unwrap(), Generation(5));
        assert_eq!(fallen.due, due, "the longer pause put the other one off");
    }
}
