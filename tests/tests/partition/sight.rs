//! What etcd shows, asked all the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{UnitKey, UnitState};
use tests::history::Sighting;
use tokio::task::JoinHandle;
use topology::Topology;

use crate::application::now;

const EVERY: Duration = Duration::from_millis(25);

/// Somebody who asks etcd all the time, from outside all partitions.
pub struct Lookout {
    seen: Arc<Mutex<Vec<Sighting>>>,
    task: JoinHandle<()>,
}

impl Lookout {
    /// Begins.
    pub fn start(topology: Topology, unit: UnitKey) -> Self {
        let seen = Arc::<Mutex<Vec<Sighting>>>::default();
        let its = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let sent = now();
                // What fails shows nothing.
                if let Ok(state) = topology.unit_state(&unit).await {
                    let sighting = sighting(&state, sent, now());
                    note(
                        &mut its.lock().unwrap_or_else(PoisonError::into_inner),
                        sighting,
                    );
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { seen, task }
    }

    /// Everything since the last call, and what was in force then.
    pub fn take(&self) -> Vec<Sighting> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.last().cloned();
        let taken = std::mem::take(&mut *seen);
        seen.extend(last);
        taken
    }

    /// The epoch that was seen last.
    pub fn epoch(&self) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last().map_or(0, |sighting| sighting.epoch.0)
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn sighting(state: &UnitState, sent: u64, received: u64) -> Sighting {
    let epoch = state.epoch.as_ref().map(|it| &it.value);
    let primary = state.primary.as_ref().map(|it| &it.value);
    Sighting {
        first_sent: sent,
        first_received: received,
        last_sent: sent,
        last_received: received,
        revision: state.revision.0,
        epoch: epoch.map_or((0, String::new()), |it| (it.epoch.0, it.idc.to_string())),
        primary: primary.map(|it| (it.idc.to_string(), it.epoch.0)),
        renewed: epoch
            .and_then(|it| state.renewals.get(&it.idc))
            .map_or(0, |it| it.revision.0),
        vacated: state
            .vacated
            .as_ref()
            .is_some_and(|it| epoch.is_some_and(|epoch| epoch.epoch == it.value.epoch)),
    }
}

fn note(seen: &mut Vec<Sighting>, next: Sighting) {
    match seen.last_mut() {
        Some(last)
            if last.epoch == next.epoch
                && last.primary == next.primary
                && last.renewed == next.renewed
                && last.vacated == next.vacated
                && last.revision <= next.revision =>
        {
            last.last_sent = next.last_sent;
            last.last_received = next.last_received;
            last.revision = next.revision;
        }
        _ => seen.push(next),
    }
}
