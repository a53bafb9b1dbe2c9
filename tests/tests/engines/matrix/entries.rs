//! The situations that links are tried in, as `situations.sql` has them.

use anyhow::{Context as _, Result, bail};
use harness::Engine;

const SCRIPT: &str = include_str!("situations.sql");

/// One situation.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    pub name: String,
    /// Only with this engine as the source.
    source: Option<Engine>,
    /// Only with this engine as the target.
    target: Option<Engine>,
    /// What is there when the link begins.
    pub before: String,
    /// What is done while it runs.
    pub then: String,
    /// The link halts, and says this.
    pub halts: Option<String>,
    /// It goes on by itself once the cause is mended.
    pub pauses: bool,
    /// What a person then does at the target.
    pub mend: String,
    /// What a person then does at the source.
    pub at_source: String,
}

impl Entry {
    /// Whether it is tried between these engines.
    pub fn is_for(&self, source: Engine, target: Engine) -> bool {
        self.source.is_none_or(|engine| engine == source)
            && self.target.is_none_or(|engine| engine == target)
    }
}

/// All of them.
pub fn all() -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut part = "before";
    for line in SCRIPT.lines() {
        match line.strip_prefix("--# ") {
            Some(word @ ("then" | "mend" | "finally")) => part = word,
            Some(head) => {
                part = "before";
                entries.push(heading(head)?);
            }
            None if line.starts_with("-- ") => {}
            None => {
                let Some(entry) = entries.last_mut() else {
                    continue;
                };
                let text = match part {
                    "then" => &mut entry.then,
                    "mend" => &mut entry.mend,
                    "finally" => &mut entry.at_source,
                    _ => &mut entry.before,
                };
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Ok(entries)
}

fn heading(head: &str) -> Result<Entry> {
    let pauses = head.contains(" pauses ");
    let word = if pauses { " pauses " } else { " halts " };
    let (head, halts) = match head.split_once(word) {
        Some((head, text)) => (head, Some(text.to_owned())),
        None => (head, None),
    };
    let mut words = head.split(' ');
    let mut entry = Entry {
        name: words.next().context("an entry without a name")?.to_owned(),
        halts,
        pauses,
        ..Entry::default()
    };
    while let (Some(word), Some(name)) = (words.next(), words.next()) {
        let engine = match name {
            "mysql" => Engine::MySql,
            "mariadb" => Engine::MariaDb,
            other => bail!("{}: the engine {other}", entry.name),
        };
        match word {
            "from" => entry.source = Some(engine),
            "to" => entry.target = Some(engine),
            other => bail!("{}: the word {other}", entry.name),
        }
    }
    Ok(entry)
}
