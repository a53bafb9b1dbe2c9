//! The table of faults. Each is a script that harms the rig, watches what comes of it, and mends it
//! again; its details are drawn from the trial's seed.

mod coordination;
mod databases;
mod failsafe;
mod fences;
mod network;
mod processes;
mod requests;
mod scene;

use anyhow::{Context as _, Result};
use tests::history::Measure;

pub use scene::Scene;

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $measure:ident, $run:path;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $kind,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// What it is called on the command line and in tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What counts as its pause.
            pub fn measure(self) -> Measure {
                match self {
                    $(Self::$kind => Measure::$measure,)*
                }
            }

            /// Harms and mends. An error is what did not happen and should have.
            pub async fn run(self, scene: &mut Scene<'_>) -> Result<()> {
                match self {
                    $(Self::$kind => $run(scene).await,)*
                }
            }
        }
    };
}

faults! {
    /// The primary's IDC is cut off from both others.
    IsolatePrimary = "isolate-primary", FromFault, network::isolate_primary;
    /// Another IDC with data is.
    IsolateReplica = "isolate-replica", FromFault, network::isolate_replica;
    /// The witness is, or the third member.
    IsolateWitness = "isolate-witness", FromFault, network::isolate_witness;
    /// Packets of one direction are lost.
    OneWay = "one-way-loss", FromFault, network::one_way;
    /// The primary's IDC comes and goes.
    Flapping = "flapping", LongestGap, network::flapping;
    /// The primary's arbiter reaches no etcd; everything else does what it did, and there is no failsafe.
    ArbiterWithoutEtcd = "arbiter-without-etcd", FromFault, network::arbiter_without_etcd;
    /// The same, where the Unit has failsafe: nothing stops, and nobody else is elected.
    ArbiterWithoutEtcdFailsafe = "arbiter-without-etcd-failsafe", LongestGap,
        failsafe::arbiter_without_etcd;
    /// The primary's arbiter does not reach its database; everything else does.
    ArbiterWithoutDatabase = "arbiter-without-database", FromFault,
        network::arbiter_without_database;
    /// The primary's arbiter is killed, and started again as Kubernetes does.
    KillArbiter = "kill-arbiter", FromFault, processes::kill_arbiter;
    /// The primary's arbiter is frozen and thawed.
    FreezeArbiter = "freeze-arbiter", FromFault, processes::freeze_arbiter;
    /// The primary's database is killed.
    KillDatabase = "kill-database", FromFault, processes::kill_database;
    /// The primary's database is frozen and thawed.
    FreezeDatabase = "freeze-database", FromFault, processes::freeze_database;
    /// Every process of the primary's IDC is killed, and all come back.
    IdcGone = "idc-gone", FromFault, processes::idc_gone;
    /// The same, while one of two other copies is behind the other. It must get the rest from there.
    /// Wants three copies.
    LaggingCopy = "lagging-copy", FromFault, processes::lagging_copy;
    /// etcd's leader is killed.
    KillEtcdLeader = "kill-etcd-leader", FromFault, coordination::kill_leader;
    /// etcd's leader is frozen and thawed.
    FreezeEtcdLeader = "freeze-etcd-leader", FromFault, coordination::freeze_leader;
    /// Two of three members of etcd are killed, without failsafe.
    EtcdQuorumLost = "etcd-quorum-lost", LongestGap, coordination::quorum_lost;
    /// The same, where the Unit has failsafe: nothing stops, and nobody else is elected.
    EtcdQuorumLostFailsafe = "etcd-quorum-lost-failsafe", LongestGap, failsafe::quorum_lost;
    /// etcd goes back to what it held before the last switchover.
    EtcdRestored = "etcd-restored", LongestGap, coordination::restored;
    /// The same with etcd's own tool, which makes another cluster of what it restores.
    EtcdRestoredAnew = "etcd-restored-anew", LongestGap, coordination::restored_anew;
    /// The new primary's database is killed while it is being promoted.
    DatabaseRestartInPromotion = "database-restart-in-promotion", LongestGap,
        databases::restart_in_promotion;
    /// A fence while applications hold LOCK TABLES.
    FenceLockTables = "fence-lock-tables", FromFault, fences::lock_tables;
    /// A fence while a copying ALTER TABLE runs.
    FenceAlter = "fence-alter", FromFault, fences::alter;
    /// A fence while a statement runs that takes seconds to be taken back.
    FenceRollback = "fence-rollback", FromFault, fences::rollback;
    /// A fence while a backup holds `LOCK INSTANCE FOR BACKUP` or `BACKUP STAGE BLOCK_COMMIT`.
    FenceBackupLock = "fence-backup-lock", FromFault, fences::backup_lock;
    /// A fence while a backup holds FLUSH TABLES WITH READ LOCK.
    FenceReadLock = "fence-read-lock", FromFault, fences::read_lock;
    /// A fence while an XA transaction is prepared.
    FenceXa = "fence-xa", FromFault, fences::xa;
    /// A planned switchover under load.
    Switchover = "switchover", LongestGap, requests::switchover;
    /// Two planned switchovers are asked for at the same time.
    TwoSwitchovers = "two-switchovers", LongestGap, requests::two_switchovers;
}

impl Fault {
    /// The fault of this name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|fault| fault.name() == name);
        found
            .copied()
            .with_context(|| format!("no kind of fault `{name}`; there are: {}", Self::names()))
    }

    /// Whether it can only be done where there are three copies.
    pub fn wants_three(self) -> bool {
        self == Self::LaggingCopy
    }

    /// Whether the Unit has failsafe, where the fault is about that; else it is drawn.
    pub fn failsafe(self) -> Option<bool> {
        match self {
            Self::ArbiterWithoutEtcdFailsafe | Self::EtcdQuorumLostFailsafe => Some(true),
            Self::ArbiterWithoutEtcd | Self::EtcdQuorumLost => Some(false),
            _ => None,
        }
    }

    /// All names.
    pub fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|fault| fault.name()).collect();
        names.join(", ")
    }
}
