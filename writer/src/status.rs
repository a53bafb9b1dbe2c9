//! What the process tells of itself: `/status` and metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::{Finding, HaltedAt, Ledger, LinkConfig, LinkPhase, PositionText, WriterStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::checkpoint::Checkpoint;
use crate::error::{Class, WriterError};

/// From this lag on a link that follows counts as catching up.
const CATCHING_UP_MILLIS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    category: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    kind: &'static str,
    state: &'static str,
}

/// What the loop tells and the endpoints answer; cheap to clone.
#[derive(Clone)]
pub struct Status {
    shared: Arc<Mutex<WriterStatus>>,
    /// Which table the error is about, as `database.table`.
    halted_table: Arc<Mutex<Option<String>>>,
    metrics: Metrics,
}

#[derive(Clone, Default)]
struct Metrics {
    transactions: Counter,
    rows: Counter,
    commits: Counter,
    halts: Family<Category, Counter>,
    retries: Family<Category, Counter>,
    lag_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    in_flight: Gauge,
    halted: Gauge,
    filed: Counter,
    held: Counter,
    stranded: Gauge,
    conflicts: Family<Ended, Counter>,
    conflicts_held: Gauge,
    skipped_open: Gauge,
}

impl Status {
    /// Of a link that has not begun.
    pub fn new(config: &LinkConfig) -> Self {
        let status = WriterStatus {
            link: config.link.clone(),
            phase: LinkPhase::Pending,
            snapshot: model::SnapshotProgress::default(),
            received: None,
            applied: None,
            lag_millis: None,
            ledger: Ledger::default(),
            stranded: 0,
            conflicts_held: None,
            skipped_open: None,
            error: String::new(),
            halted_at: None,
            findings: None,
        };
        Self {
            shared: Arc::new(Mutex::new(status)),
            halted_table: Arc::default(),
            metrics: Metrics::default(),
        }
    }

    /// The status now.
    pub fn get(&self) -> WriterStatus {
        self.lock().clone()
    }

    /// Adds the metrics `writer_*`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("writer");
        let metrics = self.metrics.clone();
        registry.register(
            "applied_transactions",
            "Source transactions applied",
            metrics.transactions,
        );
        registry.register(
            "applied_rows",
            "Row changes and DDL statements applied",
            metrics.rows,
        );
        registry.register("commits", "Target transactions committed", metrics.commits);
        registry.register("halts", "Times the link halted, by cause", metrics.halts);
        registry.register(
            "retries",
            "Times the link had to start again, by cause",
            metrics.retries,
        );
        registry.register(
            "lag_seconds",
            "Age of the newest change when it was applied",
            metrics.lag_seconds,
        );
        registry.register(
            "in_flight",
            "Changes received and not yet applied",
            metrics.in_flight,
        );
        registry.register(
            "halted",
            "1 while the link waits for a person",
            metrics.halted,
        );
        registry.register(
            "filed_transactions",
            "Source transactions of an ended epoch that were set aside by this process",
            metrics.filed,
        );
        registry.register(
            "held_transactions",
            "Source transactions that were left out and filed by this process, since a person had the \
             link skip them",
            metrics.held,
        );
        registry.register(
            "stranded_transactions",
            "Source transactions set aside at the target and not settled",
            metrics.stranded,
        );
        registry.register(
            "conflicts",
            "Changes in conflict with the target's rows, by kind and by how they ended",
            metrics.conflicts,
        );
        registry.register(
            "held_conflicts",
            "Changes of this link that are held as conflicts at the target and not settled",
            metrics.conflicts_held,
        );
        registry.register(
            "skipped_transactions",
            "Source transactions that the link was made to skip, filed at the target and not settled",
            metrics.skipped_open,
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WriterStatus> {
        // Every critical section only assigns or reads, so a poisoned lock holds sound data.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found on the servers of a link without a Unit.
    pub(crate) fn found(&self, findings: &[Finding]) {
        self.lock().findings = Some(findings.to_vec());
    }

    /// A checkpoint was read: a connection begins, nothing is in flight.
    pub(crate) fn resume(&self, checkpoint: &Checkpoint) {
        let mut status = self.lock();
        set_checkpoint(&mut status, checkpoint, 0);
        self.metrics.in_flight.set(0);
    }

    /// Changes arrived.
    pub(crate) fn received(&self, position: Option<&change::Position>, changes: u64) {
        let mut status = self.lock();
        if let Some(position) = position {
            status.received = Some(PositionText(position.to_string()));
        }
        status.ledger.in_flight += changes;
        status.ledger.read += changes;
        self.metrics.in_flight.set(signed(status.ledger.in_flight));
    }

    /// A target transaction was committed.
    pub(crate) fn committed(&self, checkpoint: &Checkpoint, done: Done) {
        self.settled(checkpoint, done);
        self.metrics.filed.inc_by(done.stranded);
        self.metrics.held.inc_by(done.held);
        if done.stranded > 0 {
            let stranded = self.lock().stranded + done.stranded;
            self.set_stranded(stranded);
        }
        if done.held > 0 {
            let open = self.lock().skipped_open.unwrap_or(0) + done.held;
            self.set_skipped_open(open);
        }
        self.metrics.transactions.inc_by(done.transactions);
        self.metrics.rows.inc_by(done.changes);
        self.metrics.commits.inc();
    }

    /// Changes were applied, or left out, up to a position.
    pub(crate) fn settled(&self, checkpoint: &Checkpoint, done: Done) {
        let mut status = self.lock();
        let in_flight = status.ledger.in_flight.saturating_sub(done.settled);
        set_checkpoint(&mut status, checkpoint, in_flight);
        self.metrics.in_flight.set(signed(status.ledger.in_flight));
        if let Some(lag) = done.lag_millis {
            status.lag_millis = Some(lag);
            #[allow(clippy::cast_precision_loss)] // Milliseconds of lag are far below 2^52.
            self.metrics.lag_seconds.set(lag as f64 / 1000.0);
        }
        self.goes_on(&mut status, checkpoint);
    }

    /// So many transactions are set aside at the target and not settled.
    pub(crate) fn set_stranded(&self, stranded: u64) {
        self.lock().stranded = stranded;
        self.metrics.stranded.set(signed(stranded));
    }

    /// Conflicts of a target transaction that was committed, by kind and by how they ended.
    pub(crate) fn conflicts(&self, ended: &BTreeMap<(&'static str, &'static str), u64>) {
        for ((kind, state), count) in ended {
            let ended = Ended { kind, state };
            self.metrics.conflicts.get_or_create(&ended).inc_by(*count);
        }
        let held = ended.iter().filter(|((_, state), _)| *state == "Held");
        let held: u64 = held.map(|(_, count)| *count).sum();
        if held > 0 {
            let all = self.lock().conflicts_held.unwrap_or(0) + held;
            self.set_conflicts_held(all);
        }
    }

    /// So many changes are held as conflicts at the target and not settled.
    pub(crate) fn set_conflicts_held(&self, held: u64) {
        self.lock().conflicts_held = Some(held);
        self.metrics.conflicts_held.set(signed(held));
    }

    /// So many transactions that the link was made to skip are filed at the target and not settled.
    pub(crate) fn set_skipped_open(&self, open: u64) {
        self.lock().skipped_open = Some(open);
        self.metrics.skipped_open.set(signed(open));
    }

    /// Whether an error is told that may be past.
    pub(crate) fn tells_error(&self) -> bool {
        !self.lock().error.is_empty()
    }

    /// The link has been connected for a while, nothing failed and nothing waits: whatever failed
    /// before is past, though nothing was settled since. So it is after a person has moved the
    /// checkpoint past what halted the link, where nothing follows.
    pub(crate) fn quiet(&self, checkpoint: &Checkpoint) {
        let mut status = self.lock();
        if status.ledger.in_flight == 0 {
            self.goes_on(&mut status, checkpoint);
        }
    }

    fn goes_on(&self, status: &mut WriterStatus, checkpoint: &Checkpoint) {
        status.error.clear();
        status.halted_at = None;
        self.metrics.halted.set(0);
        status.phase = if checkpoint.snapshot.is_under_way() {
            LinkPhase::Snapshotting
        } else if status
            .lag_millis
            .is_some_and(|lag| lag > CATCHING_UP_MILLIS)
        {
            LinkPhase::CatchingUp
        } else {
            LinkPhase::Streaming
        };
    }

    /// The link does not go on for now.
    pub(crate) fn stopped(&self, error: &WriterError) {
        self.stopped_at(error, None);
    }

    /// The link does not go on for now, because of this transaction if one is named.
    pub(crate) fn stopped_at(&self, error: &WriterError, at: Option<&HaltedAt>) {
        let mut status = self.lock();
        let category = Category {
            category: error.category(),
        };
        match error.class() {
            Class::Collision => {
                self.metrics.retries.get_or_create(&category).inc();
                return;
            }
            Class::Environment => {
                self.metrics.retries.get_or_create(&category).inc();
            }
            Class::Halt => {
                status.phase = LinkPhase::Halted;
                self.metrics.halts.get_or_create(&category).inc();
                self.metrics.halted.set(1);
            }
        }
        status.error = error.to_string();
        if let Some(at) = at.filter(|at| at.skippable) {
            let skip = how_to_skip(&status.link, &at.gtid);
            status.error.push_str(&skip);
        }
        status.halted_at = at.cloned();
        drop(status);
        *self
            .halted_table
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error.table().map(str::to_owned);
    }

    /// Whether the link has halted at this table (`database.table`) or at something else; `None`: it
    /// has not.
    pub(crate) fn has_halted_at(&self, table: &str) -> Option<bool> {
        let halted = self.lock().phase == LinkPhase::Halted;
        let at = self
            .halted_table
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        halted.then(|| at.as_deref() == Some(table))
    }
}

/// What a person can do where the transaction is not to be applied at all.
fn how_to_skip(link: &model::LinkKey, gtid: &str) -> String {
    format!(
        ". If the target is to go on without the whole transaction, or its work was done there by hand \
         (after SET SESSION sql_log_bin = 0): mactl link skip {link} --gtid {gtid} --reason TEXT"
    )
}

/// What a commit settled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// Source transactions applied.
    pub transactions: u64,
    /// Row changes and DDL statements applied or set aside.
    pub changes: u64,
    /// Changes that are no longer in flight: applied, left out or set aside.
    pub settled: u64,
    /// Source transactions set aside, since their epoch had ended.
    pub stranded: u64,
    /// Source transactions set aside, since a person named them.
    pub held: u64,
    pub lag_millis: Option<u64>,
}

/// What the checkpoint accounts for, and what is in flight beside it. `read` is counted by itself
/// from the first change on, so that a change that went nowhere shows.
fn set_checkpoint(status: &mut WriterStatus, checkpoint: &Checkpoint, in_flight: u64) {
    let ledger = checkpoint.record.ledger;
    status.applied = checkpoint
        .position
        .as_ref()
        .map(|position| PositionText(position.to_string()));
    status.snapshot = checkpoint.snapshot.progress();
    status.ledger = Ledger {
        in_flight,
        read: ledger.read + in_flight,
        ..ledger
    };
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Record, Snapshot};
    use crate::error::{Conflict, ConflictKind};
    use crate::options::tests::sample;

    fn checkpoint(ledger: Ledger) -> Checkpoint {
        Checkpoint {
            position: None,
            snapshot: Snapshot::default(),
            record: Record {
                ledger,
                ..Record::default()
            },
        }
    }

    #[test]
    fn what_was_read_is_counted_and_not_made_up() {
        let status = Status::new(&sample());
        let mut ledger = Ledger {
            read: 7,
            applied: 4,
            held: 3,
            ..Ledger::default()
        };
        status.resume(&checkpoint(ledger));
        status.received(None, 2);
        let now = status.get().ledger;
        assert_eq!((now.read, now.in_flight), (9, 2));
        // One of the two went nowhere.
        (ledger.read, ledger.applied) = (9, 5);
        let done = Done {
            settled: 2,
            ..Done::default()
        };
        status.settled(&checkpoint(ledger), done);
        let now = status.get().ledger;
        assert_eq!((now.read, now.in_flight), (9, 0));
        assert_eq!(now.applied + now.held, 8);
    }

    #[test]
    fn what_was_skipped_is_counted_anew_and_not_known_before() {
        let status = Status::new(&sample());
        assert_eq!(status.get().skipped_open, None);
        status.set_skipped_open(2);
        let done = Done {
            held: 1,
            ..Done::default()
        };
        status.committed(&checkpoint(Ledger::default()), done);
        assert_eq!(status.get().skipped_open, Some(3));
        // A person has settled them; the ledger does not know, and need not.
        status.set_skipped_open(0);
        assert_eq!(status.get().skipped_open, Some(0));
        status.committed(&checkpoint(Ledger::default()), Done::default());
        assert_eq!(status.get().skipped_open, Some(0));
    }

    #[test]
    fn a_halt_names_the_way_round_it_where_there_is_one() {
        let status = Status::new(&sample());
        let error = WriterError::from(Conflict {
            kind: ConflictKind::ValueRefused,
            table: "shop.t".into(),
            key: "id=1".into(),
            gtid: "0-1-7".into(),
            detail: "too wide".into(),
        });
        let at = |skippable| HaltedAt {
            gtid: "0-1-7".into(),
            skippable,
        };
        let command = "mactl link skip shop/sh-bj --gtid 0-1-7 --reason TEXT";
        status.stopped_at(&error, Some(&at(true)));
        let said = status.get();
        assert!(said.error.contains(command), "{}", said.error);
        assert_eq!(said.halted_at, Some(at(true)));
        status.stopped_at(&error, Some(&at(false)));
        assert!(!status.get().error.contains("link skip"));
        // Another error is not about that transaction.
        let locked = WriterError::Locked { connection: 1 };
        status.stopped(&locked);
        assert_eq!(status.get().halted_at, None);
        status.stopped_at(&error, Some(&at(true)));
        status.settled(&checkpoint(Ledger::default()), Done::default());
        let said = status.get();
        assert!(said.error.is_empty() && said.halted_at.is_none());
    }
}
