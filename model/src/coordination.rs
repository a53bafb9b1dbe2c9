//! What arbiters write to etcd about one Unit, and what they may conclude from it. Keys and leases
//! are in the `topology` crate; the rules are numbered in `docs/architecture.md`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Epoch, Generation, IdcName, Ineligible, PositionText, Revision, ServerBoot, ServerIdentity,
};

/// `sessions/<idc>`: the active arbiter of an IDC. Bound to its lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    /// A random name of the process (a pod's name, or host and pid).
    pub holder: String,
    /// `host:port` of its HTTP endpoint.
    pub address: String,
    /// Version of the software.
    pub version: String,
    /// How many processes have held this IDC's session, this one included.
    pub generation: Generation,
    /// The process is about to end and waits for nobody: another one of its IDC may claim the
    /// session now, rather than when keep-alives are missing.
    #[serde(default)]
    pub yielded: bool,
    /// `host:port` at which other arbiters ask it for promises; empty where it gives none.
    #[serde(default)]
    pub promises_at: String,
}

/// `renewals/<idc>`: written each time that the session of an IDC is kept alive, in a transaction
/// that compares the session's key. So the others see for how long at most what it holds may be
/// held, whatever becomes of the lease: etcd can end one early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalRecord {
    /// The lease time that was granted, in milliseconds.
    pub granted_millis: u64,
}

/// `units/<u>/epoch`: the epoch and whose it is. Only ever incremented.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: Epoch,
    /// The IDC that was elected for it.
    pub idc: IdcName,
    /// The server that was elected for it.
    pub identity: ServerIdentity,
    /// The last epoch that began with an automatic failover: the cool-down counts from it.
    #[serde(default)]
    pub failed_over: Epoch,
    /// The members that the holder knows of, by its own word. Nobody else takes over from it, so a
    /// holder without etcd knows whom to ask for promises. Empty: whoever is in the Unit's
    /// document, as written by versions that make no promises.
    #[serde(default)]
    pub candidates: Vec<IdcName>,
    /// The highest epoch that is known to have been, where etcd was restored and has forgotten it:
    /// written down by whoever knows, since he may be gone when the next one is elected.
    #[serde(default)]
    pub highest: Epoch,
    /// As of what revision etcd was last noticed to have been restored. Nobody holds or takes over
    /// before somebody has acknowledged it at a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noted: Option<Revision>,
    /// Whether the holder's server is known to come up `read_only` after a restart, by the holder's
    /// word. Without that nobody takes over by himself: a lost server that comes back before its
    /// arbiter can reach etcd would take writes beside the next primary.
    #[serde(default)]
    pub boots_fenced: bool,
}

/// `units/<u>/primary`, bound to the holder's session: while it exists, somebody may be writable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrimaryRecord {
    /// The holder.
    pub idc: IdcName,
    /// The epoch it holds.
    pub epoch: Epoch,
    /// The server it may make writable.
    pub identity: ServerIdentity,
    /// The holder's own word, after promotion: this server is open for writing. Routing follows
    /// only an open primary.
    pub open: bool,
}

/// `units/<u>/vacated`: left by a release that was proved, so that the next one need not wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VacatedRecord {
    /// The epoch that ended.
    pub epoch: Epoch,
    /// The IDC that held it.
    pub idc: IdcName,
    /// Why nothing can be written there any more.
    pub proof: FenceProof,
}

/// Why a member is known to accept no writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum FenceProof {
    /// Sessions were cut, `read_only` was set and read back, no prepared XA transaction is left.
    Fenced {
        /// The server it was seen on.
        identity: ServerIdentity,
        /// Its boot.
        boot: ServerBoot,
        /// Its position after the fence: nothing of this epoch lies beyond.
        position: PositionText,
        /// When, by the arbiter's clock.
        at: Timestamp,
    },
    /// The server is out of reach; the deadline of the last guard seen running in it has passed
    /// on the arbiter's own clock, with margin.
    GuardExpired {
        /// The server.
        identity: ServerIdentity,
        /// When the release became allowed, by the arbiter's clock.
        at: Timestamp,
    },
    /// The holder never opened the member in this epoch, and no guard of it was started.
    NeverOpened {
        /// When, by the arbiter's clock.
        at: Timestamp,
    },
}

/// `units/<u>/members/<idc>`, bound to the session of that IDC's arbiter: what it last saw of its
/// own member. Written when it changes; figures that move all the time are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, each named"
)]
pub struct MemberRecord {
    /// The server, once known.
    pub identity: Option<ServerIdentity>,
    /// Its boot.
    pub boot: Option<ServerBoot>,
    /// Whether the arbiter reaches it.
    pub reachable: bool,
    /// Whether it was seen fenced (`read_only`) at the last look.
    pub fenced: bool,
    /// Whether every preflight check that blocks passed.
    pub preflight_passed: bool,
    /// Whether the Unit's databases hold any table with a row: at the very first election the
    /// member with data goes first.
    pub has_data: bool,
    /// The highest epoch in its `multiactive.epoch`: the next one is above it, also where etcd was
    /// lost or the Unit was deleted and made anew.
    #[serde(default)]
    pub highest_epoch: Epoch,
    /// Whether it was this member that held it: it goes first where etcd knows of no epoch, as no
    /// other member can have more of what was written last.
    #[serde(default)]
    pub held_highest: bool,
    /// Whether its database remembers how far etcd was: until every member's does, nobody is elected
    /// for the first time, or a restored etcd might be believed by one that knows nothing.
    #[serde(default = "yes")]
    pub remembers: bool,
    /// Why it could not be elected automatically if the primary failed now; empty if it could.
    #[serde(default)]
    pub ineligible: Vec<Ineligible>,
}

fn yes() -> bool {
    true
}

/// `units/<u>/intent`: a switchover or failover that somebody asked for.
///
/// It is created by whoever asks (the operator for a `Switchover`, `mactl` when the Kubernetes API
/// is down) in a transaction that compares `primary` and `epoch`; each later phase is a
/// compare-and-set on its own revision. A record in a final phase may be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Names the request: the UID of the `Switchover`, or a random UUID.
    pub id: String,
    /// Planned or forced.
    pub kind: IntentKind,
    /// Where the primary is to go; a forced one may leave the choice to the rules.
    pub to: Option<IdcName>,
    /// The primary that whoever asked had seen; `None` where they saw none.
    pub expected_primary: Option<IdcName>,
    /// The epoch that whoever asked had seen.
    pub expected_epoch: Epoch,
    /// Forced only: promote even if writes may be missing.
    pub allow_data_loss: bool,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// How far it is.
    pub phase: IntentPhase,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IntentKind {
    /// Nothing may be lost; rolled back when it cannot be done.
    Planned,
    /// The primary is believed lost; still through fencing and the lease.
    Forced,
}

/// How far an [`Intent`] is. `Done`, `Refused` and `Cancelled` are final.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all_fields = "camelCase")]
pub enum IntentPhase {
    /// Asked for; the target's arbiter checks its side.
    Requested,
    /// The target says that it can take over: healthy, and its lag is tiny. The holder goes on.
    TargetReady {
        /// The target's lag then, in milliseconds.
        lag_millis: u64,
    },
    /// The holder is fenced, with proof, and still holds `primary`; the target catches up to the
    /// proof's position.
    Fenced {
        /// When the fence began: writes stop here. By the holder's clock.
        stopped_at: Timestamp,
        /// The proof, whose position the target must have applied.
        proof: FenceProof,
    },
    /// `primary` went over to the target under the new epoch.
    HandedOver {
        /// When the fence began, carried along for the receipt.
        stopped_at: Option<Timestamp>,
        /// The new epoch.
        epoch: Epoch,
    },
    /// The target is open.
    Done {
        /// The new epoch; its receipt is at `units/<u>/history/<epoch>`.
        epoch: Epoch,
    },
    /// Not begun, since a check failed; nothing has changed.
    Refused {
        /// Which check, and what to do.
        reason: String,
    },
    /// Begun and rolled back; the old primary is open again or may open again.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl IntentPhase {
    /// Whether nothing further will happen to the intent.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Done { .. } | Self::Refused { .. } | Self::Cancelled { .. }
        )
    }
}
