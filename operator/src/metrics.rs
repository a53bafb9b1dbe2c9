//! What the operator counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    verb: String,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: String,
    category: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabels {
    fate: String,
}

/// The counters, shared by everything.
#[derive(Clone)]
pub struct Metrics {
    writes: Family<WriteLabels, Counter>,
    reconciles: Family<KindLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    seconds: Family<KindLabels, Histogram>,
    repair_runs: Family<RunLabels, Counter>,
    repair_rows: Family<FateLabels, Counter>,
    repair_tables: Family<FateLabels, Counter>,
    leader: Gauge,
    etcd: Gauge,
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        Self {
            writes: Family::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 14))
            }),
            repair_runs: Family::default(),
            repair_rows: Family::default(),
            repair_tables: Family::default(),
            leader: Gauge::default(),
            etcd: Gauge::default(),
        }
    }

    /// Makes them known to `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("operator");
        registry.register(
            "api_writes",
            "Writes to the Kubernetes API; constant in steady state",
            self.writes.clone(),
        );
        registry.register(
            "reconciles",
            "Reconciles that ended well",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed and are tried again",
            self.errors.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long a reconcile took",
            self.seconds.clone(),
        );
        registry.register(
            "repair_runs",
            "Runs of DataRepairs that have ended, by how",
            self.repair_runs.clone(),
        );
        registry.register(
            "repair_rows",
            "Rows of runs that have ended: divergent, and of these repaired or failed; unjudged",
            self.repair_rows.clone(),
        );
        registry.register(
            "repair_tables",
            "Tables of runs that have ended: missing in the copy, or refused",
            self.repair_tables.clone(),
        );
        registry.register("leader", "1 while this operator leads", self.leader.clone());
        registry.register(
            "etcd_connected",
            "1 while the watch of the coordination etcd is up to date",
            self.etcd.clone(),
        );
    }

    /// A write to the API is about to be sent.
    pub fn write(&self, verb: &str, kind: &str) {
        let labels = WriteLabels {
            verb: verb.to_owned(),
            kind: kind.to_owned(),
        };
        self.writes.get_or_create(&labels).inc();
    }

    /// A reconcile ended well after so many seconds.
    pub fn reconciled(&self, kind: &str, seconds: f64) {
        let labels = KindLabels {
            kind: kind.to_owned(),
        };
        self.reconciles.get_or_create(&labels).inc();
        self.seconds.get_or_create(&labels).observe(seconds);
    }

    /// A reconcile failed.
    pub fn failed(&self, kind: &str, category: &str) {
        let labels = ErrorLabels {
            kind: kind.to_owned(),
            category: category.to_owned(),
        };
        self.errors.get_or_create(&labels).inc();
    }

    /// A run of a `DataRepair` has ended.
    pub fn repair_ended(&self, phase: &str, counts: &crds::RepairCounts) {
        let phase = phase.to_owned();
        self.repair_runs.get_or_create(&RunLabels { phase }).inc();
        let rows = [
            ("divergent", counts.divergent),
            ("repaired", counts.repaired),
            ("failed", counts.failed),
            ("unjudged", counts.unjudged),
        ];
        let tables = [
            ("missing", counts.tables_missing),
            ("refused", counts.tables_refused),
        ];
        for (family, of) in [
            (&self.repair_rows, &rows[..]),
            (&self.repair_tables, &tables[..]),
        ] {
            for (fate, count) in of {
                let fate = (*fate).to_owned();
                family.get_or_create(&FateLabels { fate }).inc_by(*count);
            }
        }
    }

    /// Whether this process leads.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Whether the watch of etcd is up to date.
    pub fn etcd(&self, connected: bool) {
        self.etcd.set(i64::from(connected));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_of_a_repair_came_to_is_told() {
        let (metrics, mut registry) = (Metrics::new(), Registry::default());
        metrics.register(&mut registry);
        let counts = crds::RepairCounts {
            divergent: 7,
            tables_missing: 2,
            ..crds::RepairCounts::default()
        };
        metrics.repair_ended("Done", &counts);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "operator_repair_runs_total{phase=\"Done\"} 1",
            "operator_repair_rows_total{fate=\"divergent\"} 7",
            "operator_repair_tables_total{fate=\"missing\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
