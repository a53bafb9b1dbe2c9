//! What `/status` tells of a syncer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Finding, LinkKey, PositionText, SyncerStatus};

/// The status, written by connections and read by the HTTP endpoint; cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    status: Arc<Mutex<SyncerStatus>>,
}

impl StatusBoard {
    /// Nobody has connected yet.
    pub fn new(link: LinkKey) -> Self {
        let status = SyncerStatus {
            link,
            connected: false,
            position: None,
            error: String::new(),
            findings: None,
        };
        Self {
            status: Arc::new(Mutex::new(status)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SyncerStatus> {
        // Every critical section only assigns or reads, so a poisoned lock holds sound data.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status now.
    pub fn get(&self) -> SyncerStatus {
        self.lock().clone()
    }

    /// A writer connected. What was wrong before is forgotten at the first packet.
    pub fn connect(&self) {
        self.lock().connected = true;
    }

    /// The source was looked at.
    pub fn found(&self, findings: Vec<Finding>) {
        self.lock().findings = Some(findings);
    }

    /// Something was read and sent.
    pub fn set_position(&self, position: PositionText) {
        let mut status = self.lock();
        status.position = Some(position);
        status.error.clear();
    }

    /// The connection ended; `error` may be empty.
    pub fn disconnect(&self, error: String) {
        let mut status = self.lock();
        status.connected = false;
        status.error = error;
    }
}
