//! Rows that keep each other from being mended, since each holds a unique value that another one
//! must have: they are removed and put again in one transaction.
//!
//! The rows are gathered from one that was refused: whoever holds, at the target, a unique value that
//! a row of the group has at the source, belongs to it, if it differs itself. All are held in one
//! still moment ([`crate::still`]) and compared and set as single rows are. Where the group does not
//! close, nothing is written: a row that is as it must be is never touched.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use change::Row;
use mysql::unique_keys::UniqueKey;
use mysql::{keyset, unique_keys};

use crate::error::RepairError;
use crate::judge::{Suspect, together};
use crate::mend::{Member, Mended};
use crate::pair::{End, Key, Pair};
use crate::run::{Halt, Run};
use crate::still::ROWS;

/// A group is tried so often.
const ATTEMPTS: u32 = 20;
/// After so many groups in a row that cannot be mended the others are left: each takes a still moment.
const FRUITLESS: u32 = 20;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What looking at a group has come to.
enum Step {
    /// All of it is mended.
    Mended,
    /// The row that it was gathered from is the same at both ends now.
    Equal,
    /// These hold values that it needs.
    Holders(Vec<Key>),
    /// Something moved meanwhile.
    Again(String),
    /// It cannot be mended, for this reason.
    Open(String),
}

impl Run<'_> {
    /// Mends those of these rows that others keep from being mended, together with the others;
    /// returns what is left, or why the run halts before all were tried.
    pub(crate) async fn mend_swapped(
        &mut self,
        pair: &Pair,
        suspects: Vec<Suspect>,
    ) -> Result<ControlFlow<Halt, Vec<Suspect>>, RepairError> {
        let mut mended = HashSet::new();
        // Rows of groups that could not be mended, and why.
        let mut tried: HashMap<Bytes, String> = HashMap::new();
        let mut left = Vec::new();
        let mut fruitless = 0;
        for mut suspect in suspects {
            let cursor = pair.cursor(&suspect.key);
            if mended.contains(&cursor) {
                continue;
            }
            if let Some(halt) = self.may_go_on().await? {
                return Ok(ControlFlow::Break(halt));
            }
            let why = if !suspect.clashes {
                String::new()
            } else if let Some(why) = tried.get(&cursor) {
                why.clone()
            } else if fruitless == FRUITLESS {
                format!("{FRUITLESS} groups before it could not be, so it was not tried")
            } else {
                match self.mend_with_others(pair, &suspect.key).await? {
                    (group, None) => {
                        mended.extend(group);
                        fruitless = 0;
                        continue;
                    }
                    (group, Some(why)) => {
                        fruitless += 1;
                        tried.extend(group.into_iter().map(|cursor| (cursor, why.clone())));
                        why
                    }
                }
            };
            if !why.is_empty() {
                let text = format!("; not mended together with others either: {why}");
                suspect.reason.push_str(&text);
            }
            left.push(suspect);
        }
        // A row may have been tried before the group that it belongs to was found through another one.
        left.retain(|suspect| !mended.contains(&pair.cursor(&suspect.key)));
        Ok(ControlFlow::Continue(left))
    }

    /// Mends one row and whoever holds what it needs. The group's keys, and why it is as it was, if it
    /// is; empty where there is no more to say than of the row alone.
    async fn mend_with_others(
        &mut self,
        pair: &Pair,
        seed: &Key,
    ) -> Result<(HashSet<Bytes>, Option<String>), RepairError> {
        // Before anything is held.
        let uniques = self.uniques(pair).await?;
        let patience = Duration::from_millis(self.config.consistency_timeout_millis);
        let deadline = Instant::now() + patience;
        let mut keys = vec![seed.clone()];
        let mut known = HashSet::from([pair.cursor(seed)]);
        let mut attempts = 0;
        loop {
            let step = match self.ends.hold(pair, &keys).await {
                Ok(Some(sources)) => self.step(pair, &keys, (&known, &uniques), sources).await,
                Ok(None) => Ok(Step::Again("the link did not catch up in time".to_owned())),
                Err(error) => Err(error),
            };
            self.ends.release().await?;
            match step? {
                Step::Mended => return Ok((known, None)),
                Step::Equal => return Ok((HashSet::from([pair.cursor(seed)]), None)),
                Step::Open(why) => return Ok((known, Some(why))),
                Step::Holders(holders) => {
                    known.extend(holders.iter().map(|key| pair.cursor(key)));
                    keys.extend(holders);
                    if keys.len() > ROWS {
                        let why = format!(
                            "more than {ROWS} rows hold unique values of each other; let the link copy \
                             the table anew (mactl repair --rebuild)"
                        );
                        return Ok((known, Some(why)));
                    }
                    if self.shutdown.is_cancelled() {
                        return Ok((known, Some(String::new())));
                    }
                }
                Step::Again(why) => {
                    attempts += 1;
                    if attempts >= ATTEMPTS
                        || Instant::now() >= deadline
                        || self.shutdown.is_cancelled()
                    {
                        return Ok((known, Some(why)));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Looks at a group in a still moment of its rows, and mends it if it is whole.
    async fn step(
        &mut self,
        pair: &Pair,
        keys: &[Key],
        (known, uniques): (&HashSet<Bytes>, &[UniqueKey]),
        sources: Vec<Option<Row>>,
    ) -> Result<Step, RepairError> {
        self.check_shape(pair).await?;
        let targets = self.ends.target.points(pair, keys, "").await?;
        let mut members = Vec::new();
        let (mut rows, mut equal) = (HashSet::new(), HashSet::new());
        for (index, images) in together(sources, targets).into_iter().enumerate() {
            let change = images.change(|row| pair.widen(row));
            let (Some(kind), Some(change)) = (images.kind(), change) else {
                if index == 0 {
                    return Ok(Step::Equal);
                }
                let there = images.target.iter();
                equal.extend(there.map(|row| pair.cursor(&pair.key_of(row))));
                continue;
            };
            if let Some(why) = self.meets_another(pair, &images).await? {
                return Ok(Step::Open(why));
            }
            // Two keys that find the same row, as `a` and `A` may, are one.
            let row = images.source.as_ref().or(images.target.as_ref());
            if row.is_some_and(|row| rows.insert(pair.cursor(&pair.key_of(row)))) {
                members.push(Member {
                    kind,
                    images,
                    change,
                });
            }
        }
        let mut holders = Vec::new();
        for row in self.holders(pair, &members, uniques).await? {
            let key = pair.key_of(&row);
            let cursor = pair.cursor(&key);
            if equal.contains(&cursor) {
                return Ok(Step::Open(format!(
                    "the row at {} holds a unique value of another one, and is the same at both ends: \
                     compare the unique keys of table {} at both ends",
                    pair.describe(&row),
                    pair.name
                )));
            }
            if !known.contains(&cursor) && rows.insert(cursor) {
                holders.push(key);
            }
        }
        if !holders.is_empty() {
            return Ok(Step::Holders(holders));
        }
        self.mend_group(pair, &members).await
    }

    /// Mends a group that is whole.
    async fn mend_group(&mut self, pair: &Pair, members: &[Member]) -> Result<Step, RepairError> {
        if let Some(why) = self.unfit_for_a_group(pair, members) {
            return Ok(Step::Open(why));
        }
        Ok(match self.mend(pair, members).await? {
            Mended::Done => Step::Mended,
            Mended::Again(why) => Step::Again(why),
            // Of one row alone that was said before.
            Mended::Clash(_) if members.len() == 1 => Step::Open(String::new()),
            Mended::Later(why) | Mended::Clash(why) => Step::Open(why),
        })
    }

    /// Why rows that keep each other out must not be removed and put again, if so.
    fn unfit_for_a_group(&self, pair: &Pair, members: &[Member]) -> Option<String> {
        let (repaired, quota) = (self.state.report.total().repaired, self.config.row_quota);
        let count = members.len();
        if repaired + count as u64 > quota {
            return Some(format!(
                "{repaired} rows were mended already, and {count} together would be more than \
                 rowQuota, which is {quota}: raise it"
            ));
        }
        if count == 1 {
            return None;
        }
        let images = members.iter().map(|it| &it.images);
        let rows = images.flat_map(|it| it.source.iter().chain(&it.target));
        let bytes: usize = rows.flatten().map(change::Value::weight).sum();
        let most = self.config.max_batch_bytes;
        if bytes as u64 > most {
            return Some(format!(
                "{count} rows would be written together, which take {bytes} bytes, and maxBatchSize \
                 is {most}: raise it"
            ));
        }
        let whole = pair.fit.is_whole();
        (!whole).then(|| {
            "rows would be removed and put again, and what a column holds that only the target has \
             would be lost: let the link copy the table anew (mactl repair --rebuild)"
                .to_owned()
        })
    }

    async fn uniques(&mut self, pair: &Pair) -> Result<Vec<UniqueKey>, RepairError> {
        let doing = format!("reading the unique keys of {} at the target", pair.name);
        let conn = &mut self.ends.target.session.conn;
        let found = unique_keys::of(conn, pair.database(), pair.table()).await;
        found.map_err(|error| RepairError::driver(doing, None, error))
    }

    /// The target's rows that hold a unique value which a row of the group must have.
    async fn holders(
        &mut self,
        pair: &Pair,
        members: &[Member],
        uniques: &[UniqueKey],
    ) -> Result<Vec<Row>, RepairError> {
        let mut holders = Vec::new();
        for row in members.iter().filter_map(|it| it.images.source.as_ref()) {
            for condition in uniques.iter().filter_map(|key| held(pair, key, row)) {
                holders.extend(self.ends.target.meeting(pair, &condition).await?);
            }
        }
        Ok(holders)
    }
}

/// The condition for the target's rows that hold a row's values of a unique key; `None` where none can
/// or where that cannot be told.
fn held(pair: &Pair, unique: &UniqueKey, row: &Row) -> Option<String> {
    let literals = unique.parts.iter().map(|(name, _)| {
        let mut indexes = 0..pair.columns.len();
        let index = indexes.find(|&index| pair.column(index, End::Target).name == *name)?;
        keyset::literal(&row[index], pair.character_set(index, End::Target))
    });
    let literals: Option<Vec<String>> = literals.collect();
    unique.held(&literals?)
}
