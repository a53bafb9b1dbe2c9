//! Which Unit each server belongs to. A Unit owns its servers, since `read_only` is the whole
//! server's: a second Unit on one of them would fence the first one's business.
//!
//! Two sources: what this arbiter has seen of its own IDC's servers, and what the arbiters of all
//! IDCs have written of theirs to etcd, for one server may be reached from two IDCs under two names.
//! A third one is in each server (`multiactive.owner`); what it says of a Unit that was deleted or
//! has moved away is judged here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Epoch, Finding, IdcName, ServerIdentity, Severity, UnitKey, UnitState};
use mysql::control::OwnerRow;

/// What etcd says of a Unit's servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Noted {
    epoch: Epoch,
    /// The server of each member; `None` where its arbiter does not say.
    members: BTreeMap<IdcName, Option<ServerIdentity>>,
}

#[derive(Debug, Default)]
struct Known {
    own: BTreeMap<ServerIdentity, BTreeMap<UnitKey, Epoch>>,
    noted: BTreeMap<UnitKey, Noted>,
}

/// The servers, by identity, not by address. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    shared: Arc<Mutex<Known>>,
}

impl Servers {
    /// Notes that a Unit was seen on a server, and answers the Unit that stands in its way.
    pub fn seen(&self, server: &ServerIdentity, unit: &UnitKey, epoch: Epoch) -> Option<UnitKey> {
        let mut known = self.known();
        let units = known.own.entry(server.clone()).or_default();
        units.insert(unit.clone(), epoch);
        known.rival(server, unit, epoch)
    }

    /// The Unit that stands in this one's way on a server: one that has had a primary, or, where
    /// neither has, any other. So a Unit that is at work is not disturbed by one that is put on its
    /// server by mistake.
    pub fn rival(&self, server: &ServerIdentity, unit: &UnitKey, epoch: Epoch) -> Option<UnitKey> {
        self.known().rival(server, unit, epoch)
    }

    /// Takes what etcd says of a Unit now; one without a document is none any more.
    pub fn note(&self, unit: &UnitKey, state: &UnitState) {
        let mut known = self.known();
        let Some(doc) = &state.unit else {
            known.noted.remove(unit);
            return;
        };
        let identity = |idc: &IdcName| {
            let record = state.members.get(idc)?;
            record.value.identity.clone()
        };
        let members = doc.value.members.iter();
        let noted = Noted {
            epoch: state
                .epoch
                .as_ref()
                .map_or(Epoch::NONE, |it| it.value.epoch),
            members: members
                .map(|member| (member.idc.clone(), identity(&member.idc)))
                .collect(),
        };
        known.noted.insert(unit.clone(), noted);
    }

    /// Whether the owner that a server names, and that is not at work there, has let go of it: it is
    /// of this installation, and was deleted, or all of its members are known to be elsewhere.
    pub fn has_left(&self, installation: &str, owner: &OwnerRow) -> bool {
        let known = self.known();
        let unit = known
            .noted
            .iter()
            .find(|(unit, _)| unit.to_string() == owner.unit);
        owner.installation == installation
            && unit.is_none_or(|(_, noted)| {
                let mut members = noted.members.values();
                members.all(|it| it.as_ref().is_some_and(|server| *server != owner.identity))
            })
    }

    /// The Unit has no member here any more, or is seen on another server from now on.
    pub fn forget(&self, unit: &UnitKey) {
        let mut known = self.known();
        for units in known.own.values_mut() {
            units.remove(unit);
        }
        known.own.retain(|_, units| !units.is_empty());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn rival(&self, server: &ServerIdentity, unit: &UnitKey, epoch: Epoch) -> Option<UnitKey> {
        let own = self.own.get(server).into_iter().flatten();
        let noted = self.noted.iter().filter(|(_, noted)| {
            let mut servers = noted.members.values().flatten();
            servers.any(|theirs| theirs == server)
        });
        own.map(|(other, theirs)| (other, *theirs))
            .chain(noted.map(|(other, noted)| (other, noted.epoch)))
            .filter(|(other, _)| *other != unit)
            .find(|(_, theirs)| *theirs > Epoch::NONE || epoch == Epoch::NONE)
            .map(|(other, _)| other.clone())
    }
}

/// What to say of a server on which another Unit has a member.
pub fn finding(object: String, server: &ServerIdentity, other: &UnitKey) -> Finding {
    shared(
        object,
        format!(
            "unit {other} has a member on the same server (identity {}), and a unit owns its \
             servers whole",
            server.0
        ),
        "",
    )
}

/// What to say of a server that names another Unit as its owner.
pub fn foreign(object: String, owner: &OwnerRow, installation: &str) -> Finding {
    let OwnerRow {
        unit,
        idc,
        identity,
        ..
    } = owner;
    let of = if owner.installation == installation {
        String::new()
    } else {
        format!(
            " of another installation (etcd prefix {})",
            owner.installation
        )
    };
    let now = if owner.at_work {
        "is at work there"
    } else {
        "is not at work there now"
    };
    shared(
        object,
        format!(
            "the server (identity {}) belongs to unit {unit}{of}, whose arbiter of IDC {idc} {now}; \
             a unit owns its servers whole",
            identity.0
        ),
        "; if that unit is deleted or moved, this ends by itself half a minute later; if its whole \
         installation is no more: SET SESSION sql_log_bin = 0; DELETE FROM multiactive.owner;",
    )
}

fn shared(object: String, message: String, more: &str) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: "SharedServer".to_owned(),
        object,
        message,
        fix: format!(
            "give each unit servers of its own, or put the databases of both into one unit's \
             spec.databases{more}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        Endpoint, EpochRecord, FailoverMode, FailoverPolicy, HeartbeatCheck, MemberDoc,
        MemberRecord, Revision, TlsSettings, UnitDoc, Versioned,
    };

    fn unit(name: &str) -> UnitKey {
        UnitKey::new("shop", name).unwrap()
    }

    fn server(name: &str) -> ServerIdentity {
        ServerIdentity(name.to_owned())
    }

    fn versioned<T>(value: T) -> Versioned<T> {
        Versioned {
            value,
            revision: Revision(1),
            lease: None,
        }
    }

    /// A Unit as etcd has it: the server of each member, so far as its arbiter says.
    fn state(epoch: u64, members: &[(&str, Option<&str>)]) -> UnitState {
        let idc = |name: &str| IdcName::new(name).unwrap();
        let member = |(name, _): &(&str, Option<&str>)| MemberDoc {
            idc: idc(name),
            endpoint: Endpoint {
                host: format!("{name}.example"),
                port: 3306,
                tls: TlsSettings::default(),
            },
            priority: 1,
        };
        let record = |identity: &str| MemberRecord {
            identity: Some(server(identity)),
            boot: None,
            reachable: true,
            fenced: true,
            preflight_passed: true,
            has_data: false,
            highest_epoch: Epoch::NONE,
            held_highest: false,
            remembers: true,
            ineligible: Vec::new(),
        };
        let doc = UnitDoc {
            uid: String::new(),
            generation: 1,
            databases: vec!["orders".to_owned()],
            members: members.iter().map(member).collect(),
            failover: FailoverPolicy {
                mode: FailoverMode::Manual,
                max_lag_millis: 5_000,
                cooldown_millis: 0,
                failback: FailoverMode::Manual,
                failsafe: false,
            },
            application: None,
            heartbeat: HeartbeatCheck {
                interval_millis: 500,
                timeout_millis: 500,
                failures: 3,
            },
            paused: false,
        };
        let begun = EpochRecord {
            epoch: Epoch(epoch),
            idc: idc(members[0].0),
            identity: server("any"),
            failed_over: Epoch::NONE,
            candidates: Vec::new(),
            highest: Epoch::NONE,
            noted: None,
            boots_fenced: true,
        };
        UnitState {
            unit: Some(versioned(doc)),
            epoch: (epoch > 0).then(|| versioned(begun)),
            members: members
                .iter()
                .filter_map(|(name, identity)| Some((idc(name), versioned(record((*identity)?)))))
                .collect(),
            ..UnitState::default()
        }
    }

    #[test]
    fn a_unit_at_work_is_not_disturbed() {
        let servers = Servers::default();
        let server = server("one");
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

    #[test]
    fn one_server_is_recognised_from_two_idcs() {
        let servers = Servers::default();
        let (here, there) = (unit("here"), unit("there"));
        // Each in its own two IDCs, and the server `one` under two names.
        servers.note(
            &there,
            &state(4, &[("bj", Some("one")), ("gz", Some("two"))]),
        );
        servers.note(&here, &state(0, &[("sh", Some("one")), ("xa", None)]));
        let one = server("one");
        assert_eq!(servers.seen(&one, &here, Epoch::NONE), Some(there.clone()));
        assert_eq!(servers.rival(&one, &there, Epoch(4)), None);
        assert_eq!(servers.seen(&server("three"), &here, Epoch::NONE), None);
        servers.note(&there, &UnitState::default());
        assert_eq!(servers.seen(&one, &here, Epoch::NONE), None);
    }

    #[test]
    fn an_owner_has_left_when_it_is_deleted_or_known_to_be_elsewhere() {
        let servers = Servers::default();
        let owner = OwnerRow {
            installation: "/a/".to_owned(),
            unit: "shop/old".to_owned(),
            idc: "sh".to_owned(),
            at_work: false,
            identity: server("one"),
        };
        let left = || servers.has_left("/a/", &owner);
        let old = unit("old");
        assert!(left(), "it is deleted");
        assert!(!servers.has_left("/b/", &owner), "of it nothing is known");
        servers.note(&old, &state(4, &[("sh", Some("one")), ("bj", Some("two"))]));
        assert!(!left());
        servers.note(&old, &state(4, &[("sh", None), ("bj", Some("two"))]));
        assert!(!left(), "its arbiter is away");
        servers.note(&old, &state(4, &[("sh", Some("six")), ("bj", Some("two"))]));
        assert!(left(), "its member has another server");
    }
}
