//! From rows that look different to rows that are.
//!
//! Both ends are read at different moments and the link takes its time, so at first every row that
//! was just changed looks different. Each is looked at again behind a fence: the source's row is
//! read, a fence raised, and once the link has passed it the target's row is read. What is equal
//! then is no finding. What looked the same different way twice is settled in a still moment
//! ([`crate::still`]); what moves is looked at again, a few times.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use change::{Row, RowChange};
use model::{RepairMode, Winner};

use crate::error::RepairError;
use crate::mend::{Member, Mended};
use crate::pair::{Key, Pair};
use crate::record::{Fate, Finding, cut};
use crate::run::Run;
use crate::still::{PATIENCE, ROWS};
use crate::verdict::{Images, Kind, is_at_rest};

/// A row that still moves after so many looks is settled all the same: one that is changed all the
/// time would never come to rest.
const LOOKS: u32 = 4;
/// A row is tried to be mended so often.
const ATTEMPTS: u32 = 20;
/// The first pause between two looks; it doubles.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// So many characters of a statement are shown.
const SHOWN: usize = 1 << 16;

/// A row that looks different.
#[derive(Debug, Clone)]
pub(crate) struct Suspect {
    pub key: Key,
    /// What the last look showed.
    seen: Option<Images>,
    looks: u32,
    attempts: u32,
    /// Why it was not mended, when that was tried.
    pub reason: String,
    /// Another row has a unique value of it.
    pub clashes: bool,
}

impl Suspect {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            seen: None,
            looks: 0,
            attempts: 0,
            reason: String::new(),
            clashes: false,
        }
    }
}

/// What a look in a still moment has come to.
enum Settled {
    /// It is equal, or mended, or found.
    Over,
    /// It is looked at again.
    Again(Suspect),
    /// Not before other rows have been mended.
    Later(Suspect),
}

impl Run<'_> {
    /// Judges rows that look different. What is found is in [`Run::found`] then, what was mended is
    /// kept already; returned is what could not be judged or mended in time.
    pub(crate) async fn judge(
        &mut self,
        pair: &Pair,
        keys: Vec<Key>,
    ) -> Result<Vec<Suspect>, RepairError> {
        let patience = Duration::from_millis(self.config.consistency_timeout_millis);
        let deadline = Instant::now() + patience;
        let mut suspects: Vec<Suspect> = keys.into_iter().map(Suspect::new).collect();
        let mut left = Vec::new();
        let mut pause = PAUSE;
        while !suspects.is_empty() {
            self.check_epoch().await?;
            let Some(looked) = self.look(pair, &suspects, deadline).await? else {
                break;
            };
            let (resting, moving) = refresh(pair, suspects, looked);
            suspects = moving;
            for batch in resting.chunks(ROWS) {
                for settled in self.settle(pair, batch.to_vec()).await? {
                    match settled {
                        Settled::Over => {}
                        Settled::Again(suspect) if suspect.attempts < ATTEMPTS => {
                            suspects.push(suspect);
                        }
                        Settled::Again(suspect) | Settled::Later(suspect) => left.push(suspect),
                    }
                }
            }
            if Instant::now() >= deadline || self.shutdown.is_cancelled() {
                break;
            }
            if !suspects.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        left.extend(suspects);
        Ok(left)
    }

    /// Both ends' rows, the target's once the link has passed the source's; `None` if it does not
    /// in time.
    async fn look(
        &mut self,
        pair: &Pair,
        suspects: &[Suspect],
        deadline: Instant,
    ) -> Result<Option<Vec<Images>>, RepairError> {
        let keys: Vec<Key> = suspects.iter().map(|it| it.key.clone()).collect();
        let ends = &mut self.ends;
        let sources = ends.source_points(pair, &keys).await?;
        let fence = ends.fence.raise().await?;
        if !ends.fence.wait(&fence, deadline).await? {
            return Ok(None);
        }
        let targets = ends.target.points(pair, &keys, "").await?;
        Ok(Some(together(sources, targets)))
    }

    /// Settles some rows in one still moment.
    async fn settle(
        &mut self,
        pair: &Pair,
        mut suspects: Vec<Suspect>,
    ) -> Result<Vec<Settled>, RepairError> {
        suspects.sort_by_key(|suspect| suspect.seen.as_ref().and_then(Images::kind));
        let keys: Vec<Key> = suspects.iter().map(|it| it.key.clone()).collect();
        let settled = match self.ends.hold(pair, &keys).await {
            Ok(Some(sources)) => self.settle_held(pair, suspects, sources).await,
            Ok(None) => Ok(suspects.into_iter().map(Settled::Again).collect()),
            Err(error) => Err(error),
        };
        self.ends.release().await?;
        settled
    }

    async fn settle_held(
        &mut self,
        pair: &Pair,
        suspects: Vec<Suspect>,
        sources: Vec<Option<Row>>,
    ) -> Result<Vec<Settled>, RepairError> {
        // Nobody alters the source's table while its rows are held, and the link has brought what was
        // altered before.
        self.check_shape(pair).await?;
        let keys: Vec<Key> = suspects.iter().map(|it| it.key.clone()).collect();
        let targets = self.ends.target.points(pair, &keys, "").await?;
        let looked = together(sources, targets);
        let mut settled = Vec::with_capacity(suspects.len());
        let begun = Instant::now();
        for (suspect, now) in suspects.into_iter().zip(looked) {
            // The source's rows are held all the while.
            settled.push(if begun.elapsed() < PATIENCE {
                self.settle_row(pair, suspect, now).await?
            } else {
                Settled::Again(suspect)
            });
        }
        Ok(settled)
    }

    async fn settle_row(
        &mut self,
        pair: &Pair,
        mut suspect: Suspect,
        now: Images,
    ) -> Result<Settled, RepairError> {
        let Some(kind) = now.kind() else {
            return Ok(Settled::Over);
        };
        let Some(change) = now.change(|row| pair.widen(row)) else {
            return Ok(Settled::Over);
        };
        if let Some(reason) = self.meets_another(pair, &now).await? {
            let found = finding(pair, kind, &now, &change, Fate::Failed, &reason);
            self.found.push(found);
            return Ok(Settled::Over);
        }
        if let Some((fate, reason)) = self.without_mending() {
            self.found
                .push(finding(pair, kind, &now, &change, fate, &reason));
            return Ok(Settled::Over);
        }
        suspect.attempts += 1;
        let member = Member {
            kind,
            images: now,
            change,
        };
        match self.mend(pair, &[member]).await? {
            Mended::Done => Ok(Settled::Over),
            Mended::Again(reason) => {
                suspect.reason = reason;
                Ok(Settled::Again(suspect))
            }
            outcome @ (Mended::Later(_) | Mended::Clash(_)) => {
                suspect.clashes = matches!(outcome, Mended::Clash(_));
                suspect.reason = outcome.reason();
                Ok(Settled::Later(suspect))
            }
        }
    }

    /// Why the target's row that was found by a source row's key is not that row: the source has
    /// another one whose key has just the same letters. Where the ends' collations differ, `a` and `A`
    /// may be two rows of the source and one of the target's.
    pub(crate) async fn meets_another(
        &mut self,
        pair: &Pair,
        images: &Images,
    ) -> Result<Option<String>, RepairError> {
        let (Some(source), Some(target)) = (&images.source, &images.target) else {
            return Ok(None);
        };
        let (key, found) = (pair.key_of(source), pair.key_of(target));
        if key == found {
            return Ok(None);
        }
        let other = self.ends.source_points(pair, &[found]).await?.pop();
        let other = other.flatten().filter(|row| pair.key_of(row) != key);
        Ok(other.map(|other| {
            format!(
                "the rows at {} and at {} of the source are one row of the target's, whose key compares \
                 other letters as equal: give the key of {} one collation at both ends",
                pair.describe(source),
                pair.describe(&other),
                pair.name
            )
        }))
    }

    /// What becomes of a row that is not mended in this run, and why.
    fn without_mending(&self) -> Option<(Fate, String)> {
        let config = self.config;
        if config.mode != RepairMode::Repair {
            return Some((Fate::Found, String::new()));
        }
        if config.dry_run {
            return Some((Fate::Planned, String::new()));
        }
        if config.winner == Winner::Hold {
            return Some((Fate::Held, "a person decides".to_owned()));
        }
        let repaired = self.state.report.total().repaired;
        (repaired >= config.row_quota).then(|| {
            let reason = format!("{repaired} rows were mended already, which is rowQuota");
            (Fate::Found, reason)
        })
    }
}

pub(crate) fn together(sources: Vec<Option<Row>>, targets: Vec<Option<Row>>) -> Vec<Images> {
    let both = sources.into_iter().zip(targets);
    both.map(|(source, target)| Images { source, target })
        .collect()
}

/// Drops what is equal now, and parts what stayed as it was from what moved. Two keys that find the
/// same row, as `a` and `A` may, are one.
fn refresh(
    pair: &Pair,
    suspects: Vec<Suspect>,
    looked: Vec<Images>,
) -> (Vec<Suspect>, Vec<Suspect>) {
    let mut known = HashSet::new();
    let (mut resting, mut moving) = (Vec::new(), Vec::new());
    for (mut suspect, now) in suspects.into_iter().zip(looked) {
        let Some(row) = now.source.as_ref().or(now.target.as_ref()) else {
            continue;
        };
        if now.kind().is_none() || !known.insert(pair.cursor(&pair.key_of(row))) {
            continue;
        }
        suspect.looks += 1;
        let rests = is_at_rest(suspect.seen.as_ref(), &now);
        suspect.seen = Some(now);
        if rests || suspect.looks >= LOOKS {
            resting.push(suspect);
        } else {
            moving.push(suspect);
        }
    }
    (resting, moving)
}

/// A row that differs, as it is recorded.
pub(crate) fn finding(
    pair: &Pair,
    kind: Kind,
    images: &Images,
    change: &RowChange,
    fate: Fate,
    reason: &str,
) -> Finding {
    let row = images.source.as_ref().or(images.target.as_ref());
    Finding {
        kind,
        row: row.map(|row| pair.describe(row)).unwrap_or_default(),
        columns: images
            .columns()
            .into_iter()
            .map(|index| pair.column_name(index).to_owned())
            .collect(),
        fate,
        reason: reason.to_owned(),
        statement: cut(pair.fit.statement(&pair.source, change), SHOWN),
        body: None,
    }
}
