//! Which Unit each server belongs to. A Unit owns its servers, since `read_only` is the whole
//! server's: a second Unit on one of them would fence the first one's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::{Epoch, Finding, ServerIdentity, Severity, UnitKey};

type Owners = BTreeMap<ServerIdentity, BTreeMap<UnitKey, Epoch>>;

/// The servers that this arbiter has seen, by identity, not by address. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    shared: Arc<Mutex<Owners>>,
}

impl Servers {
    /// Notes that a Unit was seen on a server, and answers the Unit that stands in its way: one that
    /// has had a primary there, or, where neither has, any other. So a Unit that is at work is not
    /// disturbed by one that is put on its server by mistake.
    pub fn seen(&self, server: &ServerIdentity, unit: &UnitKey, epoch: Epoch) -> Option<UnitKey> {
        let mut owners = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let units = owners.entry(server.clone()).or_default();
        units.insert(unit.clone(), epoch);
        units
            .iter()
            .filter(|(other, _)| *other != unit)
            .find(|(_, theirs)| **theirs > Epoch::NONE || epoch == Epoch::NONE)
            .map(|(other, _)| other.clone())
    }

    /// The Unit has no member here any more, or is seen on another server from now on.
    pub fn forget(&self, unit: &UnitKey) {
        let mut owners = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for units in owners.values_mut() {
            units.remove(unit);
        }
        owners.retain(|_, units| !units.is_empty());
    }
}

/// What to say of a server that belongs to another Unit.
pub fn finding(object: String, server: &ServerIdentity, other: &UnitKey) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: "SharedServer".to_owned(),
        object,
        message: format!(
            "unit {other} has a member on the same server (identity {}), and a unit owns its \
             servers whole",
            server.0
        ),
        fix: "give each unit servers of its own, or put the databases of both into one unit's \
              spec.databases"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_at_work_is_not_disturbed() {
        let servers = Servers::default();
        let server = ServerIdentity("one".to_owned());
        let unit = |name: &str| UnitKey::new("shop", name).unwrap();
        let (first, second) = (unit("first"), unit("second"));
        assert_eq!(servers.seen(&server, &first, Epoch(3)), None);
        assert_eq!(
            servers.seen(&server, &second, Epoch::NONE),
            Some(first.clone())
        );
        assert_eq!(servers.seen(&server, &first, Epoch(3)), None);
        servers.forget(&first);
        assert_eq!(servers.seen(&server, &second, Epoch::NONE), None);
        // Two new ones stand in each other's way.
        assert_eq!(
            servers.seen(&server, &first, Epoch::NONE),
            Some(second.clone())
        );
        assert_eq!(servers.seen(&server, &second, Epoch::NONE), Some(first));
    }
}
