//! The state of everything, kept up to date: list, then watch from that revision, and again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use model::{EtcdMark, LinkKey, Revision, UnitKey};
use tokio::time::Instant;

use crate::clock::boot_time_millis;
use crate::keys::Located;
use crate::{Topology, TopologyError, TopologyState};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What changed with one step of [`TopologyWatch::next`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one kind of key that changed"
)]
pub struct Changes {
    /// Everything was listed anew: what was deleted meanwhile is in `units` too.
    pub listed: Option<Listed>,
    /// Units of which anything changed, also those that are gone now.
    pub units: BTreeSet<UnitKey>,
    /// Whether any IDC's document changed. It changes the state of every Unit: each IDC votes.
    pub idcs: bool,
    /// Whether any session began, ended or was taken over. It changes the state of every Unit.
    pub sessions: bool,
    /// Whether any session was kept alive. It changes the state of every Unit, too.
    pub renewals: bool,
    /// Whether anything changed that clusters say of IDCs, or have agreed on about them.
    pub agreed_idcs: bool,
    /// Units of which clusters say something else now, or have agreed on something else.
    pub agreed_units: BTreeSet<UnitKey>,
    /// Links whose syncer is reached elsewhere now.
    pub syncers: BTreeSet<LinkKey>,
}

/// How far etcd was when everything was listed. The list is a linearizable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// When it was asked for, in milliseconds of the boot clock.
    pub sent_at: u64,
    /// Which etcd it was, and its revision; `None` if it did not say.
    pub mark: Option<EtcdMark>,
}

/// Keeps a [`TopologyState`] up to date. It does nothing on its own: whoever owns it calls
/// [`Self::next`] in a loop, which may be cancelled and called again at any time.
#[derive(Debug)]
pub struct TopologyWatch {
    topology: Topology,
    state: TopologyState,
    stream: Option<(WatchStream, tokio::sync::watch::Receiver<usize>)>,
    failures: u32,
    not_before: Instant,
    problems: BTreeMap<String, String>,
}

impl Topology {
    /// A watch of everything. Its first [`TopologyWatch::next`] lists.
    pub fn watch(&self) -> TopologyWatch {
        TopologyWatch {
            topology: self.clone(),
            state: TopologyState::default(),
            stream: None,
            failures: 0,
            not_before: Instant::now(),
            problems: BTreeMap::new(),
        }
    }
}

impl TopologyWatch {
    /// The state as of the last [`Self::next`]. Empty, at revision 0, before the first.
    pub fn state(&self) -> &TopologyState {
        &self.state
    }

    /// Keys whose value could not be read, with the reason. The state holds the last value that
    /// could, if there was one.
    pub fn problems(&self) -> &BTreeMap<String, String> {
        &self.problems
    }

    /// Forgets the stream, so that the next [`Self::next`] lists anew: after a transaction whose
    /// outcome is unknown.
    pub fn list_again(&mut self) {
        self.stream = None;
    }

    /// Waits for the next change. All changes of one etcd transaction arrive together.
    ///
    /// Cancellation-safe: the state changes only in the instant in which this returns.
    ///
    /// # Errors
    /// [`TopologyError::Unknown`] tells that etcd cannot be reached or stopped the watch, so that
    /// it can be shown; the state stays as it was. Calling again tries again, after a growing
    /// pause.
    pub async fn next(&mut self) -> Result<Changes, TopologyError> {
        tokio::time::sleep_until(self.not_before).await;
        let answer = if self.stream.is_none() {
            self.list().await
        } else {
            self.follow().await
        };
        if answer.is_ok() {
            self.failures = 0;
        } else {
            self.stream = None;
            self.failures = self.failures.saturating_add(1);
            self.not_before = Instant::now() + pause(self.failures);
        }
        answer
    }

    async fn list(&mut self) -> Result<Changes, TopologyError> {
        let moves = self.topology.moves();
        let sent_at = boot_time_millis();
        let (state, problems) = self.topology.list_state().await?;
        let from = state.revision;
        let prefix = self.topology.keys().prefix().to_owned();
        let stream = self
            .topology
            .once(&format!("watch {prefix}"), |mut client| async move {
                let options = WatchOptions::new()
                    .with_prefix()
                    .with_start_revision(from.0 + 1);
                client.watch(prefix.as_str(), Some(options)).await
            })
            .await?;
        let units = state
            .unit_keys()
            .chain(self.state.unit_keys())
            .cloned()
            .collect();
        self.problems.clear();
        for problem in problems {
            self.note(&problem);
        }
        let revision = state.revision;
        let mark = state.cluster.map(|cluster| EtcdMark { cluster, revision });
        self.state = state;
        self.stream = Some((stream, moves));
        Ok(Changes {
            listed: Some(Listed { sent_at, mark }),
            units,
            idcs: true,
            sessions: true,
            renewals: true,
            agreed_idcs: true,
            agreed_units: BTreeSet::new(),
            syncers: BTreeSet::new(),
        })
    }

    async fn follow(&mut self) -> Result<Changes, TopologyError> {
        loop {
            let Some((stream, moves)) = &mut self.stream else {
                return Ok(Changes::default());
            };
            let message = tokio::select! {
                message = stream.message() => message,
                Ok(()) = moves.changed() => {
                    // The endpoint was left because it failed somebody; this stream may be dead
                    // without knowing it.
                    return Err(self.unknown("another endpoint is used now".to_owned()));
                }
            };
            match message {
                Ok(Some(response)) if response.canceled() => {
                    let cause = format!(
                        "the watch was ended at revision {} (compacted up to {}) {}",
                        self.state.revision,
                        response.compact_revision(),
                        response.cancel_reason()
                    );
                    return Err(self.unknown(cause));
                }
                Ok(Some(response)) => {
                    let changes = self.take(&response);
                    if changes != Changes::default() {
                        return Ok(changes);
                    }
                }
                Ok(None) => return Err(self.unknown("the watch ended".to_owned())),
                Err(error) => {
                    let current = self.topology.current();
                    self.topology.leave(current);
                    return Err(self.unknown(crate::client::describe(&error)));
                }
            }
        }
    }

    fn take(&mut self, response: &WatchResponse) -> Changes {
        let mut changes = Changes::default();
        let keys = self.topology.keys().clone();
        for event in response.events() {
            let Some(pair) = event.kv() else { continue };
            let name = String::from_utf8_lossy(pair.key()).into_owned();
            // Not the header's revision: that is the server's, and may be ahead of the events.
            self.state.revision = self.state.revision.max(Revision(pair.mod_revision()));
            self.problems.remove(&name);
            let deleted = event.event_type() == EventType::Delete;
            match self.state.take(&keys, pair, deleted) {
                Ok(Some(located)) => changes.add(located),
                Ok(None) => {}
                Err(problem) => self.note(&problem),
            }
        }
        changes
    }

    fn note(&mut self, problem: &TopologyError) {
        tracing::error!(error = %problem, "a document in etcd cannot be read");
        if let TopologyError::Document { key, cause, .. } = problem {
            self.problems.insert(key.clone(), cause.clone());
        }
    }

    fn unknown(&self, cause: String) -> TopologyError {
        TopologyError::Unknown {
            doing: format!("watch {}", self.topology.keys().prefix()),
            endpoint: self.topology.endpoint().to_owned(),
            cause,
        }
    }
}

impl Changes {
    /// Whether sessions were kept alive, and nothing else happened.
    pub fn are_renewals_only(&self) -> bool {
        let renewals = Self {
            renewals: true,
            ..Self::default()
        };
        *self == renewals
    }

    fn add(&mut self, located: Located) {
        match located {
            Located::Idc(_) => self.idcs = true,
            Located::Session(_) => self.sessions = true,
            Located::Renewal(_) => self.renewals = true,
            Located::IdcsView(_) | Located::AgreedIdcs => self.agreed_idcs = true,
            Located::UnitView(unit, _) | Located::AgreedUnit(unit) => {
                self.agreed_units.insert(unit);
            }
            Located::Syncer(link) => {
                self.syncers.insert(link);
            }
            Located::Unit(unit)
            | Located::Epoch(unit)
            | Located::Primary(unit)
            | Located::Vacated(unit)
            | Located::Intent(unit)
            | Located::Ack(unit)
            | Located::PauseOrder(unit)
            | Located::FenceOrder(unit, _)
            | Located::Vote(unit, _)
            | Located::Bid(unit, _)
            | Located::History(unit, _)
            | Located::Member(unit, _) => {
                self.units.insert(unit);
            }
        }
    }
}

/// The pause after so many failures in a row: doubled each time, up to 2 s, of which a random half
/// is left out so that not all come back at once.
fn pause(failures: u32) -> Duration {
    let longest = SHORTEST_PAUSE
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_PAUSE);
    // The standard library seeds each `RandomState` anew; that is all the randomness this needs.
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let share = u32::try_from(random % 512).unwrap_or_default();
    longest.saturating_mul(512 + share) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for failures in 1..40 {
            let pause = pause(failures);
            assert!(
                pause >= SHORTEST_PAUSE && pause <= LONGEST_PAUSE,
                "{failures}: {pause:?}"
            );
        }
        assert!(pause(20) >= LONGEST_PAUSE / 2);
    }
}
