//! Watches etcd, forwards what concerns each Unit, and runs one task a Unit.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arbitration::{Event, HeldSession, Moment};
use model::{EtcdMark, Generation, UnitKey, UnitState};
use process::Health;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use topology::{Changes, SessionClaim, Topology, TopologyWatch};

use crate::fallen::Fallen;
use crate::keeper::{self, SessionNews};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::promises::{Book, Peers};
use crate::servers::Servers;
use crate::status::Statuses;
use crate::unit::{Shared, Unit};

/// How long the farewell to etcd may take at shutdown.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a supervisor ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process was told to end.
    Shutdown,
    /// Another process of this IDC is active now.
    Superseded,
}

/// The arbiter's main task.
pub struct Supervisor {
    shared: Shared,
    claim: SessionClaim,
    credentials: PathBuf,
    health: Health,
    watch: TopologyWatch,
    units: BTreeMap<UnitKey, mpsc::UnboundedSender<Event>>,
    tasks: JoinSet<Result<UnitKey, JoinError>>,
    running: HashMap<Id, UnitKey>,
    fallen: Fallen,
    session: Option<HeldSession>,
    last_keep_alive: Option<KeptAlive>,
    above: watch::Receiver<Generation>,
    /// etcd recorded the last keep-alive.
    has_room: bool,
}

/// The last acknowledged keep-alive, told to units that begin.
#[derive(Debug, Clone, Copy)]
struct KeptAlive {
    sent_at: Moment,
    granted_millis: u64,
    mark: EtcdMark,
}

impl KeptAlive {
    fn events(self) -> [Event; 2] {
        let Self {
            sent_at,
            granted_millis,
            mark,
        } = self;
        [
            Event::KeepAlive {
                sent_at,
                granted_millis,
            },
            Event::EtcdSeen { sent_at, mark },
        ]
    }
}

impl Supervisor {
    /// A supervisor that has not begun.
    pub fn new(
        options: &Options,
        topology: Topology,
        metrics: Metrics,
        statuses: Statuses,
        health: Health,
        book: Book,
    ) -> Self {
        let claim = options.claim();
        let watch = topology.watch();
        let (asked, above) = watch::channel(Generation(0));
        Self {
            shared: Shared {
                claim_above: Arc::new(asked),
                lease_millis: u64::try_from(claim.lease_time.as_millis()).unwrap_or(u64::MAX),
                idc: options.idc.clone(),
                topology,
                metrics,
                statuses,
                servers: Servers::default(),
                peers: options.serve.and(options.tls.clone()).map(Peers::new),
                book,
            },
            claim,
            credentials: options.credentials.clone(),
            health,
            watch,
            units: BTreeMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            fallen: Fallen::default(),
            session: None,
            last_keep_alive: None,
            above,
            has_room: true,
        }
    }

    /// Claims the session and runs until shutdown, or until another process of this IDC has claimed
    /// the session.
    pub async fn run(mut self, shutdown: &CancellationToken) -> anyhow::Result<End> {
        let (sender, mut news) = mpsc::unbounded_channel();
        let mut keeper = tokio::spawn(keeper::keep(
            self.shared.topology.clone(),
            self.claim.clone(),
            self.shared.metrics.clone(),
            sender,
            self.above.clone(),
        ));
        let outcome = loop {
            tokio::select! {
                () = shutdown.cancelled() => break Ok(End::Shutdown),
                Some(news) = news.recv() => {
                    if !self.take_news(&news) {
                        break Ok(End::Superseded);
                    }
                }
                changes = self.watch.next() => match changes {
                    Ok(changes) => self.take_changes(&changes),
                    Err(error) => {
                        self.shared.metrics.etcd_error(&error);
                        tracing::warn!(%error, "the watch of etcd begins anew");
                    }
                },
                Some(ended) = self.tasks.join_next_with_id() => self.take_end(ended),
                () = self.fallen.due() => self.claim_for_fallen(),
                ended = &mut keeper => break self.after_keeper(&mut news, &ended),
            }
            self.health.beat();
        };
        // Nothing is fenced and the lease is not revoked: see the crate's invariants.
        keeper.abort();
        self.tasks.shutdown().await;
        if matches!(outcome, Ok(End::Shutdown)) {
            self.say_farewell().await;
        }
        self.set_session(false);
        outcome
    }

    /// The task that keeps the session ends when it was superseded, which its last news tells.
    fn after_keeper(
        &mut self,
        news: &mut mpsc::UnboundedReceiver<SessionNews>,
        ended: &Result<(), tokio::task::JoinError>,
    ) -> anyhow::Result<End> {
        while let Ok(news) = news.try_recv() {
            if !self.take_news(&news) {
                return Ok(End::Superseded);
            }
        }
        anyhow::bail!("the task that keeps the session ended: {ended:?}")
    }

    /// Lets a standby claim the session at once.
    async fn say_farewell(&self) {
        let Some(session) = self.session else { return };
        let saying = self.shared.topology.yield_session(
            &self.claim,
            session.lease,
            session.revision,
            session.generation,
        );
        match tokio::time::timeout(FAREWELL, saying).await {
            Ok(Ok(())) => tracing::info!("yielded the session of this IDC"),
            // The next process waits a little longer, and nothing else.
            Ok(Err(error)) => tracing::warn!(%error, "the session could not be yielded"),
            Err(_) => tracing::warn!("etcd did not hear the farewell in time"),
        }
    }

    /// Whether this process is still the active one.
    fn take_news(&mut self, news: &SessionNews) -> bool {
        match news {
            SessionNews::Claimed(session) => {
                let held = HeldSession {
                    lease: session.lease,
                    revision: session.revision,
                    generation: session.generation,
                };
                self.session = Some(held);
                self.set_session(true);
                self.tell_all(&Event::SessionClaimed(held));
                for key in self.fallen.rise(held.generation) {
                    let state = self.watch.state().unit(&key);
                    self.tell(&key, state);
                }
            }
            SessionNews::Acknowledged {
                sent_at,
                granted_millis,
                mark,
                recorded,
            } => {
                let had_room = std::mem::replace(&mut self.has_room, *recorded);
                if had_room && !recorded {
                    tracing::warn!(
                        "etcd has no room to record keep-alives: members stay open, and nobody can \
                         be elected before it has"
                    );
                }
                // Others may have gone on unrecorded until just before this one was recorded.
                if !had_room || !recorded {
                    self.tell_all(&Event::Unrecorded);
                }
                let kept = KeptAlive {
                    sent_at: Moment(*sent_at),
                    granted_millis: *granted_millis,
                    mark: *mark,
                };
                self.last_keep_alive = Some(kept);
                self.shared.statuses.kept_alive();
                for event in kept.events() {
                    self.tell_all(&event);
                }
            }
            SessionNews::Lost => self.lose_session(),
            SessionNews::Forgotten { sent_at, mark } => {
                let (sent_at, mark) = (Moment(*sent_at), *mark);
                self.tell_all(&Event::EtcdSeen { sent_at, mark });
                self.lose_session();
            }
            SessionNews::Superseded => {
                tracing::warn!("another process of this IDC has claimed the session");
                return false;
            }
        }
        true
    }

    fn lose_session(&mut self) {
        self.session = None;
        self.last_keep_alive = None;
        self.set_session(false);
        self.tell_all(&Event::SessionLost);
    }

    fn set_session(&self, lives: bool) {
        self.shared.metrics.session(lives);
        self.shared.statuses.session(lives);
        if lives {
            self.health.set_ready();
        } else {
            self.health.set_not_ready("no session in etcd");
        }
    }

    fn take_changes(&mut self, changes: &Changes) {
        if let Some(listed) = changes.listed
            && let Some(mark) = listed.mark
        {
            let sent_at = Moment(listed.sent_at);
            self.tell_all(&Event::EtcdSeen { sent_at, mark });
        }
        let everything =
            changes.listed.is_some() || changes.sessions || changes.renewals || changes.idcs;
        let touched: Vec<UnitKey> = if everything {
            let known = self.units.keys().chain(self.watch.state().unit_keys());
            known.chain(&changes.units).cloned().collect()
        } else {
            changes.units.iter().cloned().collect()
        };
        let touched: std::collections::BTreeSet<UnitKey> = touched.into_iter().collect();
        let states: Vec<(UnitKey, UnitState)> = touched
            .into_iter()
            .map(|key| (key.clone(), self.watch.state().unit(&key)))
            .collect();
        // All of them first: a Unit that begins must know whose the servers are.
        for (key, state) in &states {
            self.shared.servers.note(key, state);
        }
        for (key, state) in states {
            self.tell(&key, state);
        }
    }

    fn tell(&mut self, key: &UnitKey, state: UnitState) {
        if self.fallen.contains(key) {
            return;
        }
        if !self.units.contains_key(key) {
            // An IDC without a member votes all the same.
            if state.unit.is_none() {
                return;
            }
            self.start(key);
        }
        if let Some(sender) = self.units.get(key) {
            // A task that has just ended is taken out, and begun anew, by `take_end`.
            let _ = sender.send(Event::State(Box::new(state)));
        }
    }

    fn start(&mut self, key: &UnitKey) {
        tracing::info!(unit = %key, "the unit is watched");
        let (sender, inputs) = mpsc::unbounded_channel();
        let unit = Unit::new(key.clone(), self.shared.clone(), &self.credentials, inputs);
        let task = self.tasks.spawn(unit.run());
        self.running.insert(task.id(), key.clone());
        let kept = self.last_keep_alive.into_iter().flat_map(KeptAlive::events);
        let told = self
            .session
            .map(Event::SessionClaimed)
            .into_iter()
            .chain(kept);
        for event in told {
            let _ = sender.send(event);
        }
        self.units.insert(key.clone(), sender);
    }

    fn tell_all(&self, event: &Event) {
        for sender in self.units.values() {
            let _ = sender.send(event.clone());
        }
    }

    fn take_end(&mut self, ended: Result<(Id, Result<UnitKey, JoinError>), JoinError>) {
        let (id, error) = match ended {
            Ok((id, Ok(key))) => {
                self.running.remove(&id);
                self.units.remove(&key);
                // It may have come back while its task was ending.
                let state = self.watch.state().unit(&key);
                self.tell(&key, state);
                return;
            }
            Ok((id, Err(error))) => (id, error),
            Err(error) => (error.id(), error),
        };
        let Some(key) = self.running.remove(&id) else {
            return;
        };
        tracing::error!(unit = %key, %error, "a task of a unit ended badly; it begins anew");
        self.health.set_not_ready("a task of a unit ended badly");
        self.units.remove(&key);
        let generation = self.session.map(|session| session.generation);
        self.fallen.add(key, generation.unwrap_or_default());
    }

    fn claim_for_fallen(&mut self) {
        let above = self.fallen.claim_above();
        self.shared.claim_above(above);
    }
}
