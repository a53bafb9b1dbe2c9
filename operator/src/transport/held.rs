//! The certificates of an installation that end soon, or have.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::expiry::{Expiry, Purpose, expiry};
use crate::options::Settings;
use crate::stores::{Stores, find};

/// Certificates are looked at again after this time, also if they live longer: timers are not made
/// for years.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What is wrong with the certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// With that of links and promises.
    pub transport: Option<Expiry>,
    /// With that for etcd.
    pub etcd: Option<Expiry>,
    /// When it has to be looked again: that one ends is a change that nobody tells of.
    pub look_at: Option<Duration>,
}

impl Certificates {
    /// What is wrong, in the order of weight.
    pub fn troubles(&self) -> impl Iterator<Item = &Expiry> {
        self.etcd.iter().chain(&self.transport)
    }
}

/// Looks at them. What is new is logged.
pub fn certificates(stores: &Stores, settings: &Settings) -> Certificates {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let now = Timestamp::now();
    let mut next = None::<Timestamp>;
    let mut look = |name: &str, purpose: Purpose| {
        let secret = find(&stores.secrets, &settings.namespace, name)?;
        let name = format!("{}/{name}", settings.namespace);
        let (found, at) = expiry(&secret, &name, purpose, now);
        next = next.into_iter().chain(at).min();
        found
    };
    let issued = settings.issue_transport.is_some();
    let transport = look(&settings.transport_secret, Purpose::Links { issued });
    let etcd = settings
        .etcd_tls_secret
        .as_ref()
        .and_then(|name| look(name, Purpose::Etcd));
    let wait = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    let certificates = Certificates {
        transport,
        etcd,
        look_at: wait.map(|wait| wait.min(LOOK_AGAIN)),
    };
    let messages: Vec<String> = certificates
        .troubles()
        .map(|trouble| trouble.message.clone())
        .collect();
    // Only whole values are assigned, so a poisoned lock holds sound data.
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if *said != messages {
        for message in &messages {
            tracing::warn!("{message}");
        }
        *said = messages;
    }
    certificates
}
