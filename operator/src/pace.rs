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
}

impl Pace {
    /// Whether figures may be written now.
    pub fn due(&self, kind: &'static str, key: &str) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written
            .get(&(kind, key.to_owned()))
            .is_none_or(|last| last.elapsed() >= FIGURES)
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
