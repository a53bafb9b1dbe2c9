//! How often mere figures are written to an object's status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most once in this time.
const FIGURES: Duration = Duration::from_secs(10);

/// When each object's status was last written.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    written: Arc<Mutex<HashMap<(&'static str, String), Instant>>>,
    looks: Arc<Mutex<HashMap<(&'static str, String), u32>>>,
    first: Arc<Mutex<HashMap<(&'static str, String), Instant>>>,
}

impl Pace {
    /// Whether figures may be written now.
    pub fn due(&self, kind: &'static str, key: &str) -> bool {
        self.due_after(kind, key, FIGURES)
    }

    /// Whether figures may be written now that are written at most once in this time.
    pub fn due_after(&self, kind: &'static str, key: &str, time: Duration) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written
            .get(&(kind, key.to_owned()))
            .is_none_or(|last| last.elapsed() >= time)
    }

    /// Counts a look for something that is not there yet; whether there were so many already.
    pub fn waited(&self, kind: &'static str, key: &str, looks: u32) -> bool {
        let mut counts = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((kind, key.to_owned())).or_default();
        *count += 1;
        let enough = *count >= looks;
        if enough {
            counts.remove(&(kind, key.to_owned()));
        }
        enough
    }

    /// How long ago this was first asked.
    pub fn since(&self, kind: &'static str, key: &str) -> Duration {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of deleted objects would pile up; whoever waits then waits anew.
        if first.len() > 10_000 {
            first.clear();
        }
        let since = first
            .entry((kind, key.to_owned()))
            .or_insert_with(Instant::now);
        since.elapsed()
    }

    /// A status was written now.
    pub fn wrote(&self, kind: &'static str, key: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert((kind, key.to_owned()), Instant::now());
        // Those of deleted objects would pile up; any that are due anyway need not be remembered.
        if written.len() > 10_000 {
            written.retain(|_, last| last.elapsed() < FIGURES);
        }
    }
}
