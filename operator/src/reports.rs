//! What arbiters, syncers, writers and repairs say of themselves, asked every two seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use model::{
    ArbiterStatus, IdcName, Ledger, LinkKey, MemberStatus, RepairStatus, SyncerStatus, UnitKey,
    WriterStatus,
};
use tokio::sync::{Notify, Semaphore, SetOnce};
use tokio_util::sync::CancellationToken;

use crate::http::{self, StatusError};
use crate::options::Settings;
use crate::queues::{Queues, Target};
use crate::resources::STATUS_PORT;
use crate::stores::{Stores, find};
use crate::{idc, link, triggers};

/// How often each process is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How often those that may have news are asked while something changes.
const QUICKLY: Duration = Duration::from_millis(150);
/// How long after a change in etcd, or in what somebody said, that goes on.
const UNSETTLED: Duration = Duration::from_secs(5);
/// How often mere figures make an object be looked at again.
const FIGURES_EVERY: Duration = Duration::from_secs(10);
/// How many are asked at the same time.
const AT_ONCE: usize = 32;

/// A process that is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Arbiter(IdcName),
    Syncer(LinkKey),
    Writer(LinkKey),
    /// What compares a link for the `DataRepair` of this name.
    Repair(LinkKey, String),
}

/// What a process said.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Arbiter(ArbiterStatus),
    Syncer(SyncerStatus),
    Writer(WriterStatus),
    Repair(Box<RepairStatus>),
}

#[derive(Debug, Clone)]
struct Report {
    said: Result<Said, StatusError>,
    /// When the objects it concerns were last looked at because of it.
    told: Instant,
    /// When it was said.
    at: Instant,
    /// Changes applied a second, smoothed; of writers only.
    rate: Option<f64>,
}

/// The last word of each process.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    last: Arc<RwLock<BTreeMap<Source, Report>>>,
    first_round: Arc<SetOnce<()>>,
    change: Arc<Notify>,
}

/// The last word of one process: `None` while it was not asked yet.
pub type Word<T> = Option<Result<T, StatusError>>;

impl Reports {
    fn word(&self, source: &Source) -> Word<Said> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.get(source).map(|report| report.said.clone())
    }

    /// An IDC's arbiter.
    pub fn arbiter(&self, idc: &IdcName) -> Word<ArbiterStatus> {
        self.word(&Source::Arbiter(idc.clone())).map(|said| {
            said.and_then(|said| match said {
                Said::Arbiter(status) => Ok(status),
                Said::Syncer(_) | Said::Writer(_) | Said::Repair(_) => Err(mixed_up(idc.as_str())),
            })
        })
    }

    /// A link's syncer.
    pub fn syncer(&self, link: &LinkKey) -> Word<SyncerStatus> {
        self.word(&Source::Syncer(link.clone())).map(|said| {
            said.and_then(|said| match said {
                Said::Syncer(status) => Ok(status),
                Said::Arbiter(_) | Said::Writer(_) | Said::Repair(_) => Err(mixed_up(link.name())),
            })
        })
    }

    /// A link's writer.
    pub fn writer(&self, link: &LinkKey) -> Word<WriterStatus> {
        self.word(&Source::Writer(link.clone())).map(|said| {
            said.and_then(|said| match said {
                Said::Writer(status) => Ok(status),
                Said::Arbiter(_) | Said::Syncer(_) | Said::Repair(_) => Err(mixed_up(link.name())),
            })
        })
    }

    /// What compares a link for the `DataRepair` of this name.
    pub fn repair(&self, link: &LinkKey, repair: &str) -> Word<RepairStatus> {
        let source = Source::Repair(link.clone(), repair.to_owned());
        self.word(&source).map(|said| {
            said.and_then(|said| match said {
                Said::Repair(status) => Ok(*status),
                Said::Arbiter(_) | Said::Syncer(_) | Said::Writer(_) => Err(mixed_up(repair)),
            })
        })
    }

    /// How many changes a link's writer applies a second, about.
    pub fn rate(&self, link: &LinkKey) -> Option<f64> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.get(&Source::Writer(link.clone()))
            .and_then(|report| report.rate)
    }

    /// Asks until the token is cancelled.
    pub async fn run(
        self,
        settings: Settings,
        stores: Stores,
        queues: Queues,
        shutdown: CancellationToken,
    ) {
        let mut rounds = Rounds::new(Instant::now());
        let places = Semaphore::new(AT_ONCE);
        let mut asking = FuturesUnordered::new();
        let mut asked = BTreeSet::new();
        loop {
            let now = Instant::now();
            if now >= rounds.next {
                let everybody = rounds.begin(now);
                let sources = sources(&settings, &stores);
                self.forget_others(&sources);
                for (source, address) in sources {
                    // Whoever has not answered yet is not asked again, and keeps nobody waiting.
                    if (everybody || self.may_have_news(&source)) && asked.insert(source.clone()) {
                        asking.push(one(source, address, &places));
                    }
                }
            }
            if asking.is_empty() {
                // It is set already from the second round on.
                let _already = self.first_round.set(());
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some((source, said)) = asking.next(), if !asking.is_empty() => {
                    asked.remove(&source);
                    if self.learn(&source, said, Instant::now()) {
                        queues.send(concerned(&source, &stores));
                    }
                }
                () = self.change.notified() => rounds.hurry(Instant::now()),
                () = tokio::time::sleep_until(rounds.next.into()) => {}
            }
        }
    }

    /// Something has changed in etcd: what processes say of themselves follows within a moment, and
    /// what they said before is old.
    pub fn hurry(&self) {
        self.change.notify_one();
    }

    /// Whether a process may have something to say soon: an arbiter, or the end of a link that is
    /// not well. The others are many, and change when something of these does.
    fn may_have_news(&self, source: &Source) -> bool {
        match self.word(source) {
            // It moves all the time, and changes nothing for others: every two seconds will do.
            Some(Ok(Said::Repair(_))) => false,
            None | Some(Err(_) | Ok(Said::Arbiter(_))) => true,
            Some(Ok(Said::Syncer(said))) => !said.connected || !said.error.is_empty(),
            Some(Ok(Said::Writer(said))) => {
                said.phase != model::LinkPhase::Streaming || !said.error.is_empty()
            }
        }
    }

    /// Waits until everybody was asked once.
    pub async fn asked(&self) {
        self.first_round.wait().await;
    }

    fn forget_others(&self, sources: &BTreeMap<Source, String>) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        last.retain(|source, _| sources.contains_key(source));
    }

    /// Takes in a word; whether those it concerns should look at once.
    fn learn(&self, source: &Source, said: Result<Said, StatusError>, now: Instant) -> bool {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = last.get_mut(source) else {
            last.insert(
                source.clone(),
                Report {
                    said,
                    told: now,
                    at: now,
                    rate: None,
                },
            );
            return true;
        };
        let differs = differs(&report.said, &said);
        if differs {
            self.hurry();
        }
        let news = differs
            || (report.said != said && now.duration_since(report.told) >= figures_every(source));
        report.rate = rate(report, &said, now);
        report.at = now;
        report.said = said;
        if news {
            report.told = now;
        }
        news
    }
}

/// Whoever follows a repair wants to see it move.
fn figures_every(source: &Source) -> Duration {
    match source {
        Source::Repair(..) => EVERY,
        Source::Arbiter(_) | Source::Syncer(_) | Source::Writer(_) => FIGURES_EVERY,
    }
}

/// Half of the old rate and half of that since the last word.
fn rate(report: &Report, said: &Result<Said, StatusError>, now: Instant) -> Option<f64> {
    let (Ok(Said::Writer(old)), Ok(Said::Writer(new))) = (&report.said, said) else {
        return None;
    };
    let seconds = now.duration_since(report.at).as_secs_f64();
    // A writer that was restarted may count anew.
    let applied = new.ledger.applied.checked_sub(old.ledger.applied)?;
    if seconds <= 0.0 {
        return report.rate;
    }
    let latest = f64::from(u32::try_from(applied).unwrap_or(u32::MAX)) / seconds;
    Some(
        report
            .rate
            .map_or(latest, |before| f64::midpoint(before, latest)),
    )
}

fn mixed_up(name: &str) -> StatusError {
    StatusError::Answer {
        address: name.to_owned(),
        cause: "another process's status".to_owned(),
    }
}

/// Whether more than figures differs.
fn differs(old: &Result<Said, StatusError>, new: &Result<Said, StatusError>) -> bool {
    match (old, new) {
        (Ok(Said::Arbiter(old)), Ok(Said::Arbiter(new))) => {
            (old.session, &old.doubts) != (new.session, &new.doubts)
                || member_words(old) != member_words(new)
        }
        (Ok(Said::Syncer(old)), Ok(Said::Syncer(new))) => {
            (old.connected, &old.error) != (new.connected, &new.error)
        }
        (Ok(Said::Writer(old)), Ok(Said::Writer(new))) => {
            (
                old.phase,
                &old.error,
                &old.halted_at,
                aside(&old.ledger),
                old.snapshot.done,
            ) != (
                new.phase,
                &new.error,
                &new.halted_at,
                aside(&new.ledger),
                new.snapshot.done,
            )
        }
        (Ok(Said::Repair(old)), Ok(Said::Repair(new))) => {
            (old.phase, &old.run) != (new.phase, &new.run)
        }
        (Err(_), Err(_)) => false,
        _ => true,
    }
}

/// What was not applied and waits for a person.
fn aside(ledger: &Ledger) -> (u64, u64, u64) {
    (ledger.conflicts, ledger.stranded, ledger.held)
}

fn member_words(status: &ArbiterStatus) -> BTreeMap<&UnitKey, MemberStatus> {
    let plain = |member: &MemberStatus| MemberStatus {
        position: None,
        lag_millis: None,
        ..member.clone()
    };
    status
        .units
        .iter()
        .map(|(unit, member)| (unit, plain(member)))
        .collect()
}

/// When processes are asked: all of them every two seconds, and those that may have news more often
/// for a while after a change.
#[derive(Debug, Clone, Copy)]
struct Rounds {
    next: Instant,
    last: Option<Instant>,
    everybody: Instant,
    unsettled_until: Instant,
}

impl Rounds {
    fn new(now: Instant) -> Self {
        Self {
            next: now,
            last: None,
            everybody: now,
            unsettled_until: now,
        }
    }

    /// A round begins; whether everybody is asked.
    fn begin(&mut self, now: Instant) -> bool {
        let everybody = now >= self.everybody;
        if everybody {
            self.everybody = now + EVERY;
        }
        self.last = Some(now);
        self.next = if now < self.unsettled_until {
            self.everybody.min(now + QUICKLY)
        } else {
            self.everybody
        };
        everybody
    }

    /// Something changed. However much does, nobody is asked more often than every [`QUICKLY`].
    fn hurry(&mut self, now: Instant) {
        self.unsettled_until = now + UNSETTLED;
        let soon = self.last.map_or(now, |last| last + QUICKLY);
        self.next = self.next.min(soon.max(now));
    }
}

async fn one(
    source: Source,
    address: String,
    places: &Semaphore,
) -> (Source, Result<Said, StatusError>) {
    // The semaphore is never closed; were it, nobody would have to wait.
    let _place = places.acquire().await.ok();
    let said = ask(&source, &address).await;
    (source, said)
}

async fn ask(source: &Source, address: &str) -> Result<Said, StatusError> {
    match source {
        Source::Arbiter(_) => http::status(address).await.map(Said::Arbiter),
        Source::Syncer(_) => http::status(address).await.map(Said::Syncer),
        Source::Writer(_) => http::status(address).await.map(Said::Writer),
        Source::Repair(..) => http::status(address).await.map(Said::Repair),
    }
}

/// Every process that runs, with its Service's address: that of a pod would need a look at pods.
fn sources(settings: &Settings, stores: &Stores) -> BTreeMap<Source, String> {
    let mut sources = BTreeMap::new();
    for object in stores.idcs.state() {
        let Ok(name) = IdcName::new(object.name_any()) else {
            continue;
        };
        let service = idc::arbiter_name(&name);
        if let Some(address) = address(&stores.services, &settings.namespace, &service) {
            sources.insert(Source::Arbiter(name), address);
        }
    }
    for object in stores.links.state() {
        let namespace = object.namespace().unwrap_or_default();
        let Ok(key) = LinkKey::new(&namespace, object.name_any()) else {
            continue;
        };
        let names = link::Names::of(key.name());
        let runs = |name: &str| {
            find(&stores.deployments, &namespace, name)
                .and_then(|found| found.spec.as_ref()?.replicas)
                .is_some_and(|replicas| replicas > 0)
        };
        for (name, source) in [
            (&names.syncer, Source::Syncer(key.clone())),
            (&names.writer, Source::Writer(key.clone())),
        ] {
            if let Some(address) = address(&stores.services, &namespace, name)
                && runs(name)
            {
                sources.insert(source, address);
            }
        }
    }
    sources.extend(repairs(stores));
    sources
}

/// What compares, of every run under way.
fn repairs(stores: &Stores) -> Vec<(Source, String)> {
    let mut sources = Vec::new();
    for object in stores.repairs.state() {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        for link in object.status.iter().flat_map(|status| &status.links) {
            let service = crds::names::repair_worker(&name, &link.link);
            if let Ok(key) = LinkKey::new(&namespace, &link.link)
                && let Some(address) = address(&stores.services, &namespace, &service)
            {
                sources.push((Source::Repair(key, name.clone()), address));
            }
        }
    }
    sources
}

fn address(services: &Store<Service>, namespace: &str, name: &str) -> Option<String> {
    let service = find(services, namespace, name)?;
    let address = service.spec.as_ref()?.cluster_ip.clone()?;
    match address.parse().ok()? {
        std::net::IpAddr::V4(address) => Some(format!("{address}:{STATUS_PORT}")),
        std::net::IpAddr::V6(address) => Some(format!("[{address}]:{STATUS_PORT}")),
    }
}

fn concerned(source: &Source, stores: &Stores) -> Vec<Target> {
    match source {
        Source::Arbiter(idc) => triggers::arbiter(idc, stores),
        Source::Syncer(link) | Source::Writer(link) => vec![Target::link(link)],
        Source::Repair(link, repair) => {
            vec![Target::Repair(link.namespace().to_owned(), repair.clone())]
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{LinkPhase, SnapshotProgress};

    use super::*;

    fn writer(phase: LinkPhase, applied: u64) -> Said {
        Said::Writer(WriterStatus {
            link: "shop/orders-sh-bj".parse().unwrap(),
            phase,
            snapshot: SnapshotProgress::default(),
            received: None,
            applied: None,
            lag_millis: Some(applied),
            ledger: Ledger {
                read: applied,
                applied,
                ..Ledger::default()
            },
            stranded: 0,
            conflicts_held: None,
            skipped_open: None,
            error: String::new(),
            halted_at: None,
            findings: None,
        })
    }

    #[test]
    fn after_a_change_processes_are_asked_quickly_for_a_while() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rounds = Rounds::new(start);
        assert!(rounds.begin(start));
        assert_eq!(rounds.next, at(2_000));
        rounds.hurry(at(1_000));
        assert_eq!(rounds.next, at(1_000), "at once");
        assert!(!rounds.begin(at(1_000)));
        assert_eq!(rounds.next, at(1_150));
        rounds.hurry(at(1_010));
        assert_eq!(rounds.next, at(1_150), "not more often for a second change");
        assert!(!rounds.begin(at(1_150)));
        assert!(rounds.begin(at(2_000)));
        // Five seconds after the last change it is over.
        assert!(rounds.begin(at(6_020)));
        assert_eq!(rounds.next, at(8_020));
    }

    #[test]
    fn a_phase_is_told_at_once_and_figures_every_ten_seconds() {
        let reports = Reports::default();
        let source = Source::Writer("shop/orders-sh-bj".parse().unwrap());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(reports.learn(&source, Ok(writer(LinkPhase::Streaming, 1)), at(0)));
        assert!(!reports.learn(&source, Ok(writer(LinkPhase::Streaming, 2)), at(2)));
        assert!(reports.learn(&source, Ok(writer(LinkPhase::Halted, 2)), at(4)));
        assert!(!reports.learn(&source, Ok(writer(LinkPhase::Halted, 3)), at(12)));
        assert!(reports.learn(&source, Ok(writer(LinkPhase::Halted, 4)), at(14)));
        // Nothing at all has changed: nothing is told, however long it lasts.
        assert!(!reports.learn(&source, Ok(writer(LinkPhase::Halted, 4)), at(500)));
    }
}
