//! What `/metrics` tells of a syncer.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a connection ended, one CamelCase word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: String,
}

impl Reason {
    /// The label of this word.
    pub fn of(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
        }
    }
}

/// The metrics of a syncer; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// 1 while a writer is connected.
    pub connected: Gauge,
    /// Transactions sent whole.
    pub transactions: Counter,
    /// Row changes and statements sent.
    pub changes: Counter,
    /// Row changes and statements read and left out.
    pub filtered: Counter,
    /// Rows sent by snapshots.
    pub snapshot_rows: Counter,
    /// Bytes of packets, compressed.
    pub sent_bytes: Counter,
    /// When the newest transaction read was committed, in seconds since 1970.
    pub read_commit_seconds: Gauge,
    /// Ends of connections.
    pub ends: Family<Reason, Counter>,
}

impl Metrics {
    /// Makes them known under the prefix `syncer_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("syncer");
        let Self {
            connected,
            transactions,
            changes,
            filtered,
            snapshot_rows,
            sent_bytes,
            read_commit_seconds,
            ends,
        } = self.clone();
        registry.register("connected", "1 while a writer is connected", connected);
        registry.register("transactions", "Transactions sent", transactions);
        registry.register("changes", "Row changes and DDL statements sent", changes);
        registry.register("filtered", "Row changes and statements left out", filtered);
        registry.register("snapshot_rows", "Rows sent by snapshots", snapshot_rows);
        registry.register("sent_bytes", "Bytes sent, after compression", sent_bytes);
        registry.register(
            "read_commit_timestamp_seconds",
            "Commit time of the newest transaction read",
            read_commit_seconds,
        );
        registry.register("connection_ends", "Connections that ended, by reason", ends);
    }
}
