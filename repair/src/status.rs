//! What the process tells of itself: `/status` and metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use model::{LinkKey, RepairPhase, RepairReport, RepairStatus};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::record::State;

/// What the loop tells and the endpoints answer; cheap to clone.
#[derive(Clone)]
pub struct Status {
    shared: Arc<Mutex<Shared>>,
    metrics: Metrics,
}

struct Shared {
    status: RepairStatus,
    /// When this process first told how many rows were compared, and how many.
    since: Option<(Instant, u64)>,
}

#[derive(Clone, Default)]
struct Metrics {
    rows: Gauge,
    divergent: Gauge,
    repaired: Gauge,
    failed: Gauge,
    unjudged: Gauge,
}

impl Status {
    /// Of a run that has not begun.
    pub fn new(link: &LinkKey, run: &str) -> Self {
        let status = RepairStatus {
            link: link.clone(),
            run: run.to_owned(),
            phase: RepairPhase::Pending,
            report: RepairReport::default(),
            remaining_seconds: None,
            message: String::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(Shared {
                status,
                since: None,
            })),
            metrics: Metrics::default(),
        }
    }

    /// The status now.
    pub fn get(&self) -> RepairStatus {
        self.lock().status.clone()
    }

    /// Adds the metrics `repair_*`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("repair");
        let metrics = self.metrics.clone();
        registry.register("rows", "Rows of the source compared", metrics.rows);
        registry.register(
            "divergent_rows",
            "Rows that were found to differ",
            metrics.divergent,
        );
        registry.register("repaired_rows", "Rows that were mended", metrics.repaired);
        registry.register(
            "failed_rows",
            "Rows that could not be mended",
            metrics.failed,
        );
        registry.register(
            "unjudged_rows",
            "Rows that differed while the link did not catch up in time",
            metrics.unjudged,
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // Every critical section only assigns or reads, so a poisoned lock holds sound data.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how far the run is.
    pub(crate) fn publish(&self, state: &State) {
        let report = &state.report;
        let mut shared = self.lock();
        let since = *shared.since.get_or_insert((Instant::now(), report.rows));
        let worked = since.0.elapsed().as_secs_f64();
        shared.status.remaining_seconds =
            remaining(report, report.rows - since.1.min(report.rows), worked);
        shared.status.phase = state.phase;
        shared.status.report = report.clone();
        shared.status.message.clone_from(&state.message);
        let total = report.total();
        let metrics = &self.metrics;
        metrics.rows.set(signed(report.rows));
        metrics
            .divergent
            .set(signed(total.missing + total.extra + total.differing));
        metrics.repaired.set(signed(total.repaired));
        metrics.failed.set(signed(total.failed));
        metrics.unjudged.set(signed(total.unjudged));
    }

    /// Tells why the run does not go on, or what it waits for.
    pub(crate) fn tell(&self, phase: RepairPhase, message: String) {
        let mut shared = self.lock();
        shared.status.phase = phase;
        shared.status.message = message;
    }
}

/// The time that is left by the speed so far: so many rows in so many seconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn remaining(report: &RepairReport, rows: u64, seconds: f64) -> Option<u64> {
    let left = report.rows_estimate.saturating_sub(report.rows);
    (rows > 0 && seconds > 0.0).then(|| (left as f64 * seconds / rows as f64).ceil() as u64)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_goes_by_the_speed_so_far() {
        let report = |rows| RepairReport {
            rows_estimate: 1000,
            rows,
            ..RepairReport::default()
        };
        assert_eq!(remaining(&report(0), 0, 5.0), None);
        assert_eq!(remaining(&report(100), 100, 5.0), Some(45));
        // A successor goes by its own speed.
        assert_eq!(remaining(&report(600), 100, 5.0), Some(20));
        assert_eq!(remaining(&report(2000), 100, 5.0), Some(0));
    }
}
