//! Directly against etcd: for when the Kubernetes API is down.

use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, LocalBoxStream, StreamExt};
use jiff::Timestamp;
use model::{
    AckRecord, ArbiterStatus, Epoch, IdcName, Intent, IntentKind, IntentPhase, OrderRequest,
    UnitKey,
};
use topology::{
    CommitError, EtcdOptions, IntentRefused, OrderRefused, Topology, TopologyError, TopologyState,
};

use super::etcd_access::{CertificateFolder, check_urls, failure};
use super::etcd_view::{self, Reports};
use super::{Scope, Snapshot, unknown_unit};
use crate::args::EtcdArgs;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::plan::Plan;
use crate::view::{Progress, ReceiptView};

/// Between two looks at an intent that is followed. Its phases last some tens of milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(40);

/// How long an arbiter may take to say what it sees. etcd may be reached from where the arbiters'
/// addresses cannot, so this is tried once and not waited for.
const ARBITER_TIMEOUT: Duration = Duration::from_millis(800);

/// How often a request that was not answered, or met a change that does not matter to it, is made.
const TRIES: u32 = 3;

/// As many receipts as are kept.
const ALL_RECEIPTS: u32 = 100;

/// etcd as a source of views and a taker of requests.
#[derive(Debug)]
pub struct EtcdBackend {
    topology: Topology,
    endpoints: String,
    prefix: String,
}

impl EtcdBackend {
    /// Prepares the connection; the first request notices an etcd that is down.
    pub async fn connect(args: &EtcdArgs, timeout: Duration) -> Result<Self, Failure> {
        let endpoints = args.etcd_endpoints.join(",");
        check_urls(args)?;
        let certificates = CertificateFolder::of(args)?;
        let mut options = EtcdOptions::new(
            args.etcd_endpoints.clone(),
            &args.etcd_prefix,
            certificates.as_ref().map(CertificateFolder::path),
        );
        // Every endpoint is tried before a read fails, so each gets its share of the time.
        let share = timeout / u32::try_from(args.etcd_endpoints.len().max(1)).unwrap_or(1);
        options.request_timeout = share.max(Duration::from_millis(500));
        let topology = Topology::connect(&options)
            .await
            .map_err(|error| failure(&format!("etcd at {endpoints} was not used"), &error))?;
        Ok(Self {
            topology,
            endpoints,
            prefix: args.etcd_prefix.clone(),
        })
    }

    /// Where views come from, for people.
    pub fn source(&self) -> String {
        format!("etcd at {} (prefix {})", self.endpoints, self.prefix)
    }

    async fn state(&self) -> Result<TopologyState, Failure> {
        let tried = format!("the topology was not read from {}", self.source());
        let state = self
            .topology
            .state()
            .await
            .map_err(|error| failure(&tried, &error))?;
        if state.idcs.is_empty() && state.unit_keys().next().is_none() {
            return Err(Failure::failed(
                tried,
                format!("etcd answers, but holds nothing under {}", self.prefix),
            )
            .next("give the installation's prefix with --etcd-prefix")
            .next("check that this is the coordination etcd, not that of the Kubernetes API"));
        }
        Ok(state)
    }

    /// The IDCs, and the Units in scope.
    pub async fn snapshot(&self, scope: &Scope, call: &Invocation) -> Result<Snapshot, Failure> {
        let state = self.state().await?;
        let reports = self.reports(&state).await;
        let known: Vec<UnitKey> = state
            .unit_keys()
            .filter(|key| state.unit(key).unit.is_some())
            .cloned()
            .collect();
        let mut units: Vec<_> = known
            .iter()
            .filter(|key| scope.contains(key))
            .filter_map(|key| etcd_view::unit(key, &state.unit(key), &reports))
            .collect();
        if let Scope::Unit(wanted) = scope {
            let Some(unit) = units.first_mut() else {
                return Err(unknown_unit(wanted, &known, &self.source(), call));
            };
            let newest = self.history(wanted, 1).await?;
            unit.last_transition = newest.into_iter().next();
        }
        let hidden = known.len() - units.len();
        let idcs = etcd_view::idcs(&state, &reports);
        Ok(Snapshot {
            idcs,
            units,
            hidden,
            operator_seen: None,
            notes: Vec::new(),
        })
    }

    /// Asks each arbiter for what is not in etcd: lag, positions, findings. Those that cannot be
    /// reached from here are left out; the views then say that these are not known.
    async fn reports(&self, state: &TopologyState) -> Reports {
        let asked = state.sessions.iter().map(|(idc, session)| async {
            let address = session.value.address.clone();
            let answer = tokio::time::timeout(ARBITER_TIMEOUT, arbiter_status(&address)).await;
            Some((idc.clone(), answer.ok()??))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The receipts of a Unit, the newest first.
    pub async fn receipts(
        &self,
        unit: &UnitKey,
        call: &Invocation,
    ) -> Result<Vec<ReceiptView>, Failure> {
        let receipts = self.history(unit, ALL_RECEIPTS).await?;
        if receipts.is_empty() {
            // Tells a Unit that never had a primary from one that does not exist.
            self.snapshot(&Scope::Unit(unit.clone()), call).await?;
        }
        Ok(receipts)
    }

    async fn history(&self, unit: &UnitKey, at_most: u32) -> Result<Vec<ReceiptView>, Failure> {
        let tried = format!(
            "the history of Unit {unit} was not read from {}",
            self.source()
        );
        let found = self
            .topology
            .history(unit, at_most)
            .await
            .map_err(|error| failure(&tried, &error))?;
        Ok(found.iter().map(Into::into).collect())
    }

    /// Asks for what the plan says. Answers with the request's name.
    pub async fn begin(&self, plan: &Plan, call: &Invocation) -> Result<String, Failure> {
        let mut intent = Intent {
            id: random_id(plan),
            kind: if plan.planned {
                IntentKind::Planned
            } else {
                IntentKind::Forced
            },
            to: plan.to.clone(),
            expected_primary: plan.from.clone(),
            expected_epoch: plan.epoch,
            allow_data_loss: plan.allow_data_loss,
            requested_at: Timestamp::now(),
            phase: IntentPhase::Requested,
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.topology.create_intent(&plan.unit, &intent).await {
                Ok(_) => return Ok(intent.id),
                // No answer may also mean that it was created: the same id is no second request.
                Err(IntentRefused::Etcd(TopologyError::Unknown { .. })) if tries > 0 => {}
                // The lost primary's key goes when its lease does. That is no reason to begin anew,
                // as long as nobody else was elected: the epoch is compared all the same.
                Err(IntentRefused::Changed { .. } | IntentRefused::Lost { .. })
                    if tries > 0 && plan.takes_any_primary() =>
                {
                    intent.expected_primary = self.primary(plan).await?;
                }
                Err(IntentRefused::Lost { unit }) => {
                    let lost = IntentRefused::Lost { unit }.to_string();
                    let now = self.words_of_now(plan).await;
                    return Err(Failure::refused(plan.not_begun(), format!("{lost}{now}"))
                        .next(call.own(&format!("status {}", plan.unit))));
                }
                Err(refused) => return Err(intent_failure(plan, refused, call)),
            }
        }
    }

    /// Notes that somebody has looked at the Unit in this epoch.
    pub async fn acknowledge(
        &self,
        unit: &UnitKey,
        record: &AckRecord,
        call: &Invocation,
    ) -> Result<(), Failure> {
        let tried = format!("Unit {unit} was not acknowledged");
        match self.topology.acknowledge(unit, record).await {
            Ok(_) => Ok(()),
            Err(CommitError::Lost { .. }) => Err(Failure::refused(
                tried,
                format!(
                    "epoch {} is past: somebody was elected meanwhile",
                    record.epoch
                ),
            )
            .next(call.own(&format!("status {unit}")))),
            Err(CommitError::Unknown(error)) => Err(failure(&tried, &error)),
        }
    }

    /// Gives or lifts an order.
    pub async fn order(
        &self,
        unit: &UnitKey,
        request: &OrderRequest,
        call: &Invocation,
    ) -> Result<(), Failure> {
        let tried = format!("{} of Unit {unit} was not ordered", request.change);
        let mut left = TRIES;
        loop {
            left -= 1;
            match self.topology.order(unit, request).await {
                Ok(_) => return Ok(()),
                // What is so already is no second order, and what was compared is looked at anew.
                Err(
                    OrderRefused::Etcd(TopologyError::Unknown { .. }) | OrderRefused::Lost { .. },
                ) if left > 0 => {}
                Err(OrderRefused::Etcd(error)) => return Err(failure(&tried, &error)),
                Err(refused) => {
                    return Err(Failure::refused(tried, refused.to_string())
                        .next(call.own(&format!("status {unit}"))));
                }
            }
        }
    }

    /// What etcd holds after a comparison was lost, as far as it can be read.
    async fn words_of_now(&self, plan: &Plan) -> String {
        let Ok(state) = self.topology.unit_state(&plan.unit).await else {
            return String::new();
        };
        let primary = state.primary.map_or("no primary".to_owned(), |primary| {
            format!("primary {}", primary.value.idc)
        });
        let epoch = state.epoch.map_or(Epoch::NONE, |epoch| epoch.value.epoch);
        let request = state
            .intent
            .map(|intent| format!(", and the request {}", intent.value.id))
            .unwrap_or_default();
        format!(
            ". It was planned in epoch {}; now there is {primary}, epoch {epoch}{request}",
            plan.epoch
        )
    }

    /// Who is primary now.
    async fn primary(&self, plan: &Plan) -> Result<Option<IdcName>, Failure> {
        let state = self.topology.unit_state(&plan.unit).await;
        let state = state.map_err(|error| failure(&plan.not_begun(), &error))?;
        Ok(state.primary.map(|primary| primary.value.idc))
    }

    /// The phases of a request from now on. Ends after a final one.
    pub fn follow(
        &self,
        unit: &UnitKey,
        id: &str,
    ) -> LocalBoxStream<'_, Result<Progress, Failure>> {
        let (unit, id) = (unit.clone(), id.to_owned());
        let looks = stream::unfold(None, move |last: Option<Progress>| {
            let (unit, id) = (unit.clone(), id.clone());
            async move {
                if last.as_ref().is_some_and(Progress::is_final) {
                    return None;
                }
                loop {
                    match self.progress(&unit, &id).await {
                        Ok(progress) if last.as_ref() == Some(&progress) => {
                            tokio::time::sleep(LOOK_INTERVAL).await;
                        }
                        Ok(progress) => return Some((Ok(progress.clone()), Some(progress))),
                        Err(failure) => return Some((Err(failure), last)),
                    }
                }
            }
        });
        looks.boxed_local()
    }

    async fn progress(&self, unit: &UnitKey, id: &str) -> Result<Progress, Failure> {
        let tried = format!("request {id} of Unit {unit} was not followed");
        let key = self.topology.keys().intent(unit);
        let found = self
            .topology
            .get(&key, "intent")
            .await
            .map_err(|error| Failure::under_way(tried.clone(), error.to_string()))?;
        match found {
            Some(intent) if intent.value.id == id => Ok(etcd_view::progress(&intent.value.phase)),
            Some(other) => Err(Failure::failed(
                tried,
                format!("another request has taken its place ({})", other.value.id),
            )),
            None => Err(Failure::failed(
                tried,
                format!("etcd no longer holds {key}"),
            )),
        }
    }

    /// The receipt of an epoch.
    pub async fn receipt(
        &self,
        unit: &UnitKey,
        epoch: Epoch,
    ) -> Result<Option<ReceiptView>, Failure> {
        let tried = format!("the receipt of Unit {unit}, epoch {epoch} was not read");
        let found = self
            .topology
            .receipt(unit, epoch)
            .await
            .map_err(|error| failure(&tried, &error))?;
        Ok(found.as_ref().map(Into::into))
    }
}

/// What the arbiter at this address says of itself.
async fn arbiter_status(address: &str) -> Option<ArbiterStatus> {
    let url = format!("http://{address}").parse().ok()?;
    let mut config = kube::Config::new(url);
    config.default_retry = false;
    let client = kube::Client::try_from(config).ok()?;
    let request = kube::core::Request::new("")
        .get("status", &kube::core::params::GetParams::default())
        .ok()?;
    client.request(request).await.ok()
}

fn intent_failure(plan: &Plan, refused: IntentRefused, call: &Invocation) -> Failure {
    let look = call.own(&format!("status {}", plan.unit));
    match refused {
        IntentRefused::Etcd(error) => failure(&plan.not_begun(), &error)
            .next(format!("see whether it began all the same: {look}")),
        refused => Failure::refused(plan.not_begun(), refused.to_string()).next(look),
    }
}

/// A name for a request that nobody else gives: the Unit's target, the time, and the process.
fn random_id(plan: &Plan) -> String {
    let to = plan.to.as_ref().map_or("auto", IdcName::as_str);
    format!("mactl-{}-{to}-{:016x}", plan.unit.name(), random())
}

/// A number that nobody else has: the standard library's hasher is seeded by the operating system.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
