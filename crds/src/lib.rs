//! The custom resources of multiactive.dev and the YAML generated from them.
//!
//! What can be judged from one object alone is refused by the API server itself: the schema holds
//! bounds and CEL rules, each with a sentence that says what to change. What needs a look at other
//! objects is the operator's to report as a condition.

// The comments of types are the descriptions that `kubectl explain` shows, where marks of code would
// only be in the way; and a kind has several columns.
#![allow(clippy::doc_markdown, clippy::duplicated_attributes)]

mod conditions;
mod document;
mod duration;
pub mod generate;
mod idc;
mod link;
pub mod names;
mod repair;
mod schedule;
mod schema;
mod size;
mod switchover;
mod unit;

pub use conditions::{Verdict, condition, merge_conditions};
pub use duration::{Duration, InvalidDuration};
pub use idc::{ArbiterSummary, Idc, IdcRole, IdcSpec, IdcStatus, ReachedMember, Scheduling};
pub use link::{
    Apply, Batch, Class, Compression, ConflictDetection, ConflictResolution, Conflicts,
    Consistency, DdlPolicy, HaltedAtStatus, KafkaTarget, KafkaTransport, LedgerStatus, LinkOptions,
    LinkPhase, LinkSource, LinkTarget, PositionStatus, Route, Snapshot, SnapshotMode,
    SnapshotStatus, SyncLink, SyncLinkSpec, SyncLinkStatus, Tables, Transport,
};
pub use repair::{
    DataRepair, DataRepairPhase, DataRepairSpec, DataRepairStatus, LinkRepair, RepairCounts,
    RepairMode, RepairRun, RepairStrategy, RepairThrottle, RepairedTable,
};
pub use schedule::{InvalidSchedule, Schedule};
pub use size::{ByteSize, InvalidSize};
pub use switchover::{
    PhaseDuration, ReceiptStatus, Switchover, SwitchoverKind, SwitchoverPhase, SwitchoverSpec,
    SwitchoverStatus,
};
pub use unit::{
    Automation, Endpoint, Failover, HealthChecks, Heartbeat, HttpCheck, LastTransition, LinkLayout,
    Member, MemberRole, MemberSummary, ReplicationCheck, Routing, Tls, TlsMode, Unit, UnitPhase,
    UnitSpec, UnitStatus,
};

/// The API group of all kinds.
pub const GROUP: &str = "multiactive.dev";

/// The annotation by which somebody says that they have looked at a Unit: `model::AckRecord` as
/// JSON. The operator carries it into etcd and takes it off.
pub const ACKNOWLEDGE: &str = "multiactive.dev/acknowledge";

/// The annotation in which the operator keeps the last one that it has carried.
pub const ACKNOWLEDGED: &str = "multiactive.dev/acknowledged";

/// The annotation by which somebody gives or lifts an order: `model::OrderRequest` as JSON. The
/// operator carries it into etcd and takes it off.
pub const ORDER: &str = "multiactive.dev/order";

/// The annotation in which the operator keeps the last order that it has carried.
pub const ORDERED: &str = "multiactive.dev/ordered";

/// The annotation by which a person pauses, resumes or stops a `DataRepair`, whose spec cannot be
/// changed: `Run`, `Pause` or `Stop`.
pub const CONTROL: &str = "multiactive.dev/control";

/// The reason of a SyncLink's Degraded while changes are held as conflicts at its target, and nothing
/// else is wrong with it.
pub const CONFLICTS_HELD: &str = "ConflictsHeld";

/// The reason of a SyncLink's Degraded while its target lacks transactions that it was made to skip,
/// and nothing else is wrong with it.
pub const TRANSACTIONS_SKIPPED: &str = "TransactionsSkipped";

/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";
