//! What etcd holds, as last seen, and what changes in it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use model::{IdcName, IdcSet, LinkKey, SyncerAddress, UnitKey, UnitState};
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;
use topology::{Room, Topology, TopologyState};

use crate::agreement::{IdcAgreement, UnitAgreement, electorate, values};
use crate::metrics::Metrics;
use crate::queues::Queues;
use crate::reports::Reports;
use crate::stores::Stores;
use crate::triggers;

/// How often etcd is asked for its room.
const ROOM_EVERY: Duration = Duration::from_secs(20);

/// etcd as last seen.
#[derive(Debug, Clone, Default)]
struct View {
    state: TopologyState,
    /// Whether it was ever listed.
    seen: bool,
    /// Why the view is not up to date; `None` while it is.
    trouble: Option<String>,
    /// How much room etcd has left.
    room: Option<Room>,
}

/// What etcd holds. Reads are of memory; writes go to [`Coordination::topology`].
#[derive(Debug, Clone)]
pub struct Coordination {
    topology: Topology,
    view: Arc<RwLock<View>>,
    first_answer: Arc<SetOnce<()>>,
}

/// One Unit's part of etcd, and whether it can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitView {
    /// What etcd held when it was last seen; `None` while it was never seen, so that nothing is
    /// concluded from its emptiness.
    pub state: Option<UnitState>,
    /// Why it may be out of date.
    pub trouble: Option<String>,
    /// How much room etcd has left, where that is known.
    pub room: Option<Room>,
}

impl Coordination {
    /// Nothing seen yet.
    pub fn new(topology: Topology) -> Self {
        Self {
            topology,
            view: Arc::default(),
            first_answer: Arc::default(),
        }
    }

    /// Waits until etcd was read, or has failed to be.
    pub async fn tried(&self) {
        self.first_answer.wait().await;
    }

    /// The client, for writes.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    fn read<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        // Writers only assign whole values, so a poisoned lock holds sound data.
        look(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One Unit.
    pub fn unit(&self, unit: &UnitKey) -> UnitView {
        self.read(|view| UnitView {
            state: view.seen.then(|| view.state.unit(unit)),
            trouble: view.trouble.clone(),
            room: view.room,
        })
    }

    /// What the clusters say of one Unit, and what is in force of it.
    pub fn agreement(&self, here: &IdcName, unit: &UnitKey) -> Option<UnitAgreement> {
        self.read(|view| {
            let agreement = &view.state.agreement;
            let views = agreement.unit_views.get(unit);
            view.seen.then(|| UnitAgreement {
                idc: here.clone(),
                electorate: electorate(&view.state),
                views: views.map(values).unwrap_or_default(),
                in_force: view.state.unit(unit).unit.is_some(),
                agreed: agreement.units.get(unit).map(|found| found.value.clone()),
            })
        })
    }

    /// What the clusters say of the set of IDCs.
    pub fn idc_agreement(&self, here: &IdcName, held: Option<IdcSet>) -> Option<IdcAgreement> {
        self.read(|view| {
            view.seen.then(|| IdcAgreement {
                idc: here.clone(),
                electorate: electorate(&view.state),
                views: values(&view.state.agreement.idc_views),
                held,
            })
        })
    }

    /// Where a link's syncer is reached from other clusters.
    pub fn syncer(&self, link: &LinkKey) -> Option<SyncerAddress> {
        self.read(|view| {
            let found = view.state.agreement.syncers.get(link)?;
            Some(found.value.clone())
        })
    }

    /// The IDCs whose clusters say what they see: none where one cluster spans all.
    pub fn clusters(&self) -> Vec<IdcName> {
        self.read(|view| view.state.agreement.idc_views.keys().cloned().collect())
    }

    /// Everything; `None` while it was never seen.
    pub fn everything(&self) -> (Option<TopologyState>, Option<String>) {
        self.read(|view| (view.seen.then(|| view.state.clone()), view.trouble.clone()))
    }

    /// Follows etcd until the token is cancelled, and asks that whatever a change concerns be
    /// looked at.
    pub async fn follow(
        self,
        stores: Stores,
        queues: Queues,
        reports: Reports,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) {
        let mut watch = self.topology.watch();
        loop {
            let next = tokio::select! {
                () = shutdown.cancelled() => return,
                next = watch.next() => next,
            };
            match next {
                // Several a second, and nothing here depends on them.
                Ok(changes) if changes.are_renewals_only() => {}
                Ok(changes) => {
                    let recovered = self.update(|view| {
                        view.state = watch.state().clone();
                        view.seen = true;
                        view.trouble.take().is_some()
                    });
                    if recovered {
                        tracing::info!("etcd is followed again");
                        queues.send(stores.everything());
                    }
                    metrics.etcd(true);
                    reports.hurry();
                    queues.send(triggers::etcd(&changes, watch.state(), &stores));
                }
                Err(error) => {
                    metrics.etcd(false);
                    let text = error.to_string();
                    tracing::warn!(%error, "etcd cannot be followed and is tried again");
                    let began = self.update(|view| {
                        let began = view.trouble.is_none();
                        // The first cause is kept: it is what people read, and a new text each
                        // second would be a write each second.
                        view.trouble.get_or_insert(text);
                        began
                    });
                    if began {
                        queues.send(stores.everything());
                    }
                }
            }
            // It is set already from the second answer on.
            let _already = self.first_answer.set(());
        }
    }

    /// Asks now and then how much room etcd has left, until the token is cancelled.
    pub async fn watch_room(self, stores: Stores, queues: Queues, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(ROOM_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let room = match self.topology.room().await {
                Ok(room) => Some(room),
                Err(error) => {
                    tracing::debug!(%error, "how much room etcd has left is not known");
                    None
                }
            };
            let kind = |room: Option<Room>| room.map(|room| std::mem::discriminant(&room));
            let changed = self.update(|view| {
                let changed = kind(view.room) != kind(room);
                // The figure alone is no news: it would be a write for each Unit each time.
                if changed {
                    view.room = room;
                }
                changed
            });
            if changed {
                queues.send(stores.everything());
            }
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner))
    }
}
