//! What applications have noted so far.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tests::history::{Attempt, Nanos, log};

/// Reads the files of all sides, as far as they are.
#[derive(Default)]
pub struct Journal {
    files: BTreeMap<PathBuf, u64>,
    pub attempts: Vec<Attempt>,
}

impl Journal {
    /// Of these files, none of which need exist yet.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            files: files.into_iter().map(|file| (file, 0)).collect(),
            attempts: Vec::new(),
        }
    }

    /// Another reader of the same files, from their beginning.
    pub fn again(&self) -> Self {
        Self::of(self.files.keys().cloned())
    }

    /// Reads what is new.
    pub fn read(&mut self) -> Result<()> {
        for (path, done) in &mut self.files {
            let Ok(mut file) = File::open(path) else {
                continue;
            };
            file.seek(SeekFrom::Start(*done))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            // A line that is being written has no end yet.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            for line in text[..whole].lines() {
                let attempt = log::parse(line)
                    .with_context(|| format!("{}: {line:?} is no attempt", path.display()))?;
                self.attempts.push(attempt);
            }
            *done += whole as u64;
        }
        Ok(())
    }

    /// The first write that was sent after this time and acknowledged, by a member that fits.
    pub fn taken_since(&self, time: Nanos, fits: impl Fn(&str) -> bool) -> Option<&Attempt> {
        self.attempts
            .iter()
            .filter(|it| it.acknowledged() && it.sent > time && fits(&it.member))
            .min_by_key(|it| it.ended)
    }
}
