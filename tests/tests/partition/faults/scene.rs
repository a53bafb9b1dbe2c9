//! What a fault's script acts on.

use std::time::{Duration, Instant};

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use tests::history::{Nanos, WriteId};

use crate::application::now;
use crate::journal::Journal;
use crate::random::Random;
use crate::rig::Rig;

/// Nothing takes longer than this by design: 8 to 10 s for a lost IDC, and a slow machine.
pub const TAKE_OVER: Duration = Duration::from_secs(30);

/// A trial in its course.
pub struct Scene<'a> {
    /// What is harmed.
    pub rig: &'a Rig,
    /// What applications have noted.
    pub journal: Journal,
    /// Where details are drawn from.
    pub random: Random,
    /// The primary before the fault.
    pub primary: String,
    /// Another IDC with data.
    pub other: String,
    /// When the fault began.
    pub fault_at: Option<Nanos>,
    /// What the new primary held when it first took writes, and its epoch.
    pub at_takeover: Option<(u64, BTreeSet<WriteId>)>,
    /// So many epochs may begin at most: a fault that leaves the primary alone moves nothing, and what
    /// comes back after a takeover takes nothing away again. `None`: it cannot be told.
    pub most_moves: Option<usize>,
    /// Whether a primary that loses etcd may go on by promises.
    pub failsafe: bool,
    /// What was drawn and what was seen.
    pub notes: Vec<String>,
}

impl Scene<'_> {
    /// The fault begins now.
    pub fn begin(&mut self) {
        self.fault_at = Some(now());
    }

    /// The fault begins now, and the primary has to stay where it is, with its epoch.
    pub fn begin_where_it_stays(&mut self) {
        self.most_moves = Some(0);
        self.begin();
    }

    /// The fault begins now, and the primary moves once at most, however it ends.
    pub fn begin_where_it_moves_once(&mut self) {
        self.most_moves = Some(1);
        self.begin();
    }

    /// Remembers a detail for the trial's line.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Waits for a time drawn from this range, in milliseconds. It is the fault's own length, not a
    /// substitute for looking.
    pub async fn hold(&mut self, low: u64, high: u64) {
        let millis = self.random.between(low, high);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Waits until a member takes writes that were sent after this time, and says which. `None` if
    /// none does.
    pub async fn taken(
        &mut self,
        since: Nanos,
        limit: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let give_up = Instant::now() + limit;
        loop {
            self.journal.read()?;
            if let Some(attempt) = self.journal.taken_since(since, &fits) {
                return Ok(Some(attempt.member.clone()));
            }
            if Instant::now() >= give_up {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until another member takes writes, and says whether one did.
    pub async fn taken_over(&mut self, limit: Duration) -> Result<bool> {
        let (since, primary) = (self.fault_at.unwrap_or_else(now), self.primary.clone());
        let Some(new) = self.taken(since, limit, |member| member != primary).await? else {
            return Ok(false);
        };
        if self.at_takeover.is_none() {
            let held = crate::strand::writes(self.rig.database(&new)?)?;
            self.at_takeover = Some((self.rig.lookout.epoch(), held));
        }
        Ok(true)
    }

    /// Another member must take over: a majority of IDCs and of etcd can talk, and it is healthy.
    pub async fn must_be_taken_over(&mut self) -> Result<()> {
        if self.taken_over(TAKE_OVER).await? {
            return Ok(());
        }
        let description = self.rig.describe().await;
        bail!(
            "nobody but {} took writes within {TAKE_OVER:?} of the fault\n{description}",
            self.primary
        )
    }
}
