//! `multiactive_arbiter_*`.

use std::sync::atomic::AtomicI64;

use arbitration::{Outcome, Purpose};
use jiff::Timestamp;
use model::{MemberRole, MemberStatus, UnitKey};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use topology::TopologyError;

type Labels = Vec<(&'static str, String)>;

/// The arbiter's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    session: Gauge,
    last_keep_alive: Gauge<i64, AtomicI64>,
    etcd_errors: Family<Labels, Counter>,
    transactions: Family<Labels, Counter>,
    commands: Family<Labels, Counter>,
    primary: Family<Labels, Gauge>,
    writable: Family<Labels, Gauge>,
    reachable: Family<Labels, Gauge>,
    epoch: Family<Labels, Gauge>,
    lag: Family<Labels, Gauge>,
    findings: Family<Labels, Gauge>,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            session: Gauge::default(),
            last_keep_alive: Gauge::default(),
            etcd_errors: Family::default(),
            transactions: Family::default(),
            commands: Family::default(),
            primary: Family::default(),
            writable: Family::default(),
            reachable: Family::default(),
            epoch: Family::default(),
            lag: Family::default(),
            findings: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("arbiter");
        let one = &metrics;
        registry.register(
            "session",
            "Whether this IDC's session lives",
            one.session.clone(),
        );
        registry.register(
            "last_keep_alive_seconds",
            "When the last keep-alive was acknowledged, in seconds since 1970",
            one.last_keep_alive.clone(),
        );
        registry.register(
            "etcd_errors",
            "Requests to etcd without a usable answer",
            one.etcd_errors.clone(),
        );
        registry.register(
            "transactions",
            "Transactions of the core, by purpose and outcome",
            one.transactions.clone(),
        );
        registry.register(
            "database_commands",
            "Commands to databases, by kind and outcome",
            one.commands.clone(),
        );
        registry.register(
            "primary",
            "Whether the member holds primary",
            one.primary.clone(),
        );
        registry.register(
            "writable",
            "Whether the member accepts writes",
            one.writable.clone(),
        );
        registry.register(
            "reachable",
            "Whether the last look succeeded",
            one.reachable.clone(),
        );
        registry.register("epoch", "The epoch of the unit", one.epoch.clone());
        registry.register(
            "lag_milliseconds",
            "Age of the primary's newest heartbeat at the member; -1 if there is none",
            one.lag.clone(),
        );
        registry.register("findings", "What preflight found", one.findings.clone());
        metrics
    }

    /// The session lives or not.
    pub fn session(&self, lives: bool) {
        self.session.set(i64::from(lives));
    }

    /// A keep-alive was acknowledged.
    pub fn kept_alive(&self) {
        self.last_keep_alive.set(Timestamp::now().as_second());
    }

    /// A request to etcd failed.
    pub fn etcd_error(&self, error: &TopologyError) {
        self.etcd_errors
            .get_or_create(&vec![("category", error.category().to_owned())])
            .inc();
    }

    /// A transaction ended.
    pub fn transaction(&self, purpose: Purpose, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Done(_) => "done",
            Outcome::Lost => "lost",
            Outcome::Unknown => "unknown",
        };
        let labels = vec![
            ("purpose", format!("{purpose:?}")),
            ("outcome", outcome.to_owned()),
        ];
        self.transactions.get_or_create(&labels).inc();
    }

    /// A database command ended.
    pub fn command(&self, command: &'static str, succeeded: bool) {
        let outcome = if succeeded { "done" } else { "failed" };
        let labels = vec![
            ("command", command.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.commands.get_or_create(&labels).inc();
    }

    /// The member of a Unit, as last known.
    pub fn member(&self, unit: &UnitKey, status: &MemberStatus) {
        let labels = unit_labels(unit);
        let set = |family: &Family<Labels, Gauge>, value: i64| {
            family.get_or_create(&labels).set(value);
        };
        set(&self.primary, i64::from(status.role == MemberRole::Primary));
        set(&self.writable, i64::from(status.writable));
        set(&self.reachable, i64::from(status.reachable));
        set(
            &self.epoch,
            i64::try_from(status.epoch.0).unwrap_or(i64::MAX),
        );
        let lag = status
            .lag_millis
            .map_or(-1, |lag| i64::try_from(lag).unwrap_or(i64::MAX));
        set(&self.lag, lag);
        set(
            &self.findings,
            i64::try_from(status.findings.len()).unwrap_or(i64::MAX),
        );
    }

    /// The Unit has no member here any more.
    pub fn forget(&self, unit: &UnitKey) {
        let labels = unit_labels(unit);
        let families = [
            &self.primary,
            &self.writable,
            &self.reachable,
            &self.epoch,
            &self.lag,
            &self.findings,
        ];
        for family in families {
            family.remove(&labels);
        }
    }
}

fn unit_labels(unit: &UnitKey) -> Labels {
    vec![
        ("namespace", unit.namespace().to_owned()),
        ("unit", unit.name().to_owned()),
    ]
}
