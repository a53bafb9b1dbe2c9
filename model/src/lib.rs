//! Identities and documents that every part of multiactive speaks in: plain data, no IO.
//!
//! An identity has one constructor, which checks it; after that its type is the proof. Documents
//! are what travels between processes as JSON: through etcd (see the `topology` crate for their
//! keys), through a mounted file ([`LinkConfig`]) or from a process's `/status` endpoint.

mod agreement;
mod coordination;
mod identity;
mod link;
mod order;
mod receipt;
mod repair;
mod routes;
mod status;
mod unit;
mod unit_state;
mod voting;

pub use agreement::{IdcSet, SeenSpec, SpecHash, SyncerAddress, UnitSighting};
pub use coordination::{
    EpochRecord, FenceProof, Intent, IntentKind, IntentPhase, MemberRecord, PrimaryRecord,
    RenewalRecord, SessionRecord, VacatedRecord,
};
pub use identity::{
    Epoch, Generation, IdcName, InvalidIdentity, LinkKey, PositionText, ServerBoot, ServerIdentity,
    UnitKey,
};
pub use link::{
    ApplySettings, Compression, ConflictDetection, ConflictResolution, ConflictSettings,
    Consistency, DdlPolicy, LinkConfig, LinkEnd, Route, SnapshotMode, SnapshotSettings,
    TableSelection,
};
pub use order::{Order, OrderChange, OrderRequest};
pub use receipt::{Phase, Receipt, TransitionKind};
pub use repair::{
    MOST_STATEMENTS, RepairConfig, RepairControl, RepairMode, RepairPhase, RepairReport,
    RepairStatus, TableReport, Throttle, Winner,
};
pub use routes::{Routes, routes_problem};
pub use status::{
    ArbiterStatus, FailoverStatus, Finding, HaltedAt, Ledger, LinkPhase, MemberHindrances,
    MemberRole, MemberStatus, Severity, SnapshotProgress, SyncerStatus, WriterStatus,
};
pub use unit::{
    ApplicationCheck, Credentials, Endpoint, FailoverMode, FailoverPolicy, HeartbeatCheck, IdcDoc,
    IdcRole, MemberDoc, TlsMode, TlsSettings, UnitDoc,
};
pub use unit_state::{ClusterId, EtcdMark, LeaseId, Revision, UnitState, Versioned};
pub use voting::{AckRecord, BidRecord, Evidence, Ineligible, Signal, VoteGround, VoteRecord};
