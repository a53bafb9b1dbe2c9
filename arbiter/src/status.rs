//! What `/status` answers.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use model::{ArbiterStatus, FailoverStatus, IdcName, MemberStatus, UnitKey};

/// The status of this arbiter, put together by its tasks. Clones share it.
#[derive(Debug, Clone)]
pub struct Statuses {
    shared: Arc<Mutex<ArbiterStatus>>,
}

impl Statuses {
    /// That of an arbiter that has just started.
    pub fn new(idc: IdcName) -> Self {
        let status = ArbiterStatus {
            idc,
            version: process::VERSION.to_owned(),
            session: false,
            last_keep_alive: None,
            units: std::collections::BTreeMap::new(),
            doubts: std::collections::BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(status)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut ArbiterStatus)) {
        // Every critical section only assigns, so a poisoned lock holds sound data.
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// As it is now.
    pub fn snapshot(&self) -> ArbiterStatus {
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The session lives or not.
    pub fn session(&self, lives: bool) {
        self.change(|status| status.session = lives);
    }

    /// A keep-alive was acknowledged.
    pub fn kept_alive(&self) {
        self.change(|status| status.last_keep_alive = Some(Timestamp::now()));
    }

    /// A Unit's member.
    pub fn member(&self, unit: &UnitKey, member: MemberStatus) {
        self.change(|status| {
            status.units.insert(unit.clone(), member);
        });
    }

    /// Another process is active: what is known here of members is past.
    pub fn forget_all(&self) {
        self.change(|status| {
            status.units.clear();
            status.doubts.clear();
        });
    }

    /// A Unit without a member here, and what is said of etcd if it is not believed. True if that is
    /// new.
    pub fn without_member(&self, unit: &UnitKey, doubt: Option<FailoverStatus>) -> bool {
        let mut new = false;
        self.change(|status| {
            status.units.remove(unit);
            let before = status.doubts.remove(unit);
            new = before != doubt;
            if let Some(doubt) = doubt {
                status.doubts.insert(unit.clone(), doubt);
            }
        });
        new
    }
}
