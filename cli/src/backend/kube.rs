//! The Kubernetes API.

use std::fmt::Debug;
use std::time::Duration;

use crds::{Idc, Switchover, SwitchoverKind, SwitchoverSpec, SyncLink, Unit};
use futures::future::join4;
use futures::stream::{LocalBoxStream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, watch_object};
use kube::runtime::{WatchStreamExt, watcher::DefaultBackoff};
use kube::{Api, Client, Error as KubeError, Resource, ResourceExt};
use model::UnitKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::kube_errors::{down, failure};
use super::{Scope, Snapshot, kube_view, unknown_unit};
use crate::args::KubeArgs;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::plan::Plan;
use crate::view::{Progress, ReceiptView};

/// Watch errors in a row after which following is given up; the backoff between them makes that
/// some seconds.
const WATCH_ERRORS: u32 = 4;

/// Who wrote a field, in `managedFields`.
pub(super) const FIELD_MANAGER: &str = "mactl";

/// The Kubernetes API as a source of views and a taker of requests.
pub struct KubeBackend {
    pub(super) client: Client,
    url: String,
    pub(super) timeout: Duration,
    pub(super) call: Invocation,
}

impl Debug for KubeBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeBackend")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl KubeBackend {
    /// Prepares the connection; the first request notices an API that is down.
    pub async fn connect(args: &KubeArgs, call: &Invocation) -> Result<Self, Failure> {
        let config = crate::kubeconfig::load(args).await?;
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config)
            .map_err(|error| failure("the Kubernetes API was not used", &error, &url, call))?;
        let timeout = Duration::try_from(args.request_timeout).unwrap_or(Duration::MAX);
        Ok(Self {
            client,
            url,
            timeout,
            call: call.clone(),
        })
    }

    /// Where views come from, for people.
    pub fn source(&self) -> String {
        format!("the Kubernetes API at {}", self.url)
    }

    /// One request, bounded in time.
    pub async fn request<T>(
        &self,
        tried: &str,
        request: impl Future<Output = Result<T, KubeError>>,
    ) -> Result<T, Failure> {
        let Ok(answer) = tokio::time::timeout(self.timeout, request).await else {
            let cause = format!("no answer within {:?} (--request-timeout)", self.timeout);
            return Err(down(tried, &cause, &self.url, &self.call));
        };
        answer.map_err(|error| failure(tried, &error, &self.url, &self.call))
    }

    /// The API of a kind in a scope's namespace, or in all.
    fn api<K>(&self, scope: &Scope) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match scope {
            Scope::All => Api::all(self.client.clone()),
            Scope::Namespace(namespace) => Api::namespaced(self.client.clone(), namespace),
            Scope::Unit(unit) => Api::namespaced(self.client.clone(), unit.namespace()),
        }
    }

    /// The API of a kind in one namespace.
    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The API of a kind in all namespaces.
    pub fn everywhere<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Every IDC.
    pub async fn idcs(&self) -> Result<Vec<Idc>, Failure> {
        self.list("the IDCs were not read", &Api::all(self.client.clone()))
            .await
    }

    async fn list<K>(&self, tried: &str, api: &Api<K>) -> Result<Vec<K>, Failure>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        Ok(self
            .request(tried, api.list(&ListParams::default()))
            .await?
            .items)
    }

    /// The Units in scope; one that was named must be there.
    pub async fn units(&self, scope: &Scope) -> Result<Vec<Unit>, Failure> {
        let Scope::Unit(key) = scope else {
            let place = match scope {
                Scope::Namespace(namespace) => format!(" of namespace {namespace}"),
                _ => String::new(),
            };
            let tried = format!("the Units{place} were not read");
            return self.list(&tried, &self.api::<Unit>(scope)).await;
        };
        let tried = format!("Unit {key} was not read");
        let api = self.api::<Unit>(scope);
        match self.request(&tried, api.get_opt(key.name())).await? {
            Some(unit) => Ok(vec![unit]),
            None => Err(self.unknown(key).await),
        }
    }

    /// The failure for a Unit that is not there, with what may have been meant, as far as whoever
    /// asks may see it.
    async fn unknown(&self, key: &UnitKey) -> Failure {
        let known = if let Ok(units) = self.units_everywhere().await {
            units
        } else {
            let scope = Scope::Namespace(key.namespace().to_owned());
            self.list("", &self.api::<Unit>(&scope))
                .await
                .unwrap_or_default()
        };
        let keys: Vec<UnitKey> = known.iter().filter_map(kube_view::key).collect();
        unknown_unit(key, &keys, &self.source(), &self.call)
    }

    async fn units_everywhere(&self) -> Result<Vec<Unit>, Failure> {
        self.list("the Units were not read", &self.api::<Unit>(&Scope::All))
            .await
    }

    /// The IDCs, and the Units in scope with their links and requests.
    pub async fn snapshot(&self, scope: &Scope, _: &Invocation) -> Result<Snapshot, Failure> {
        let units = self.units(scope).await?;
        let links = self.api::<SyncLink>(scope);
        let requests = self.api::<Switchover>(scope);
        let (idcs, links, requests, operator_seen) = join4(
            self.idcs(),
            self.list("the SyncLinks were not read", &links),
            self.list("the Switchovers were not read", &requests),
            self.operator_seen(),
        )
        .await;
        // IDCs are cluster-scoped, so whoever may only see a namespace sees the rest without them.
        let mut notes = Vec::new();
        let (idcs, links, requests) = (
            or_note(idcs, &mut notes),
            or_note(links, &mut notes),
            or_note(requests, &mut notes),
        );
        let mut hidden = 0;
        if units.is_empty() && matches!(scope, Scope::Namespace(_)) {
            hidden = self.units_everywhere().await.map_or(0, |units| units.len());
        }
        Ok(Snapshot {
            idcs: idcs.iter().filter_map(kube_view::idc).collect(),
            units: units
                .iter()
                .filter_map(|unit| kube_view::unit(unit, &links, &requests, &idcs))
                .collect(),
            hidden,
            operator_seen,
            notes,
        })
    }

    /// When an operator renewed its Lease last. Whoever may not read that goes without: it only
    /// adds how old the statuses may be.
    async fn operator_seen(&self) -> Option<Timestamp> {
        let leases: Api<Lease> = Api::all(self.client.clone());
        let named = ListParams::default().fields("metadata.name=multiactive-operator");
        let found = self.request("", leases.list(&named)).await.ok()?;
        let renewed = found.items.into_iter().filter_map(|lease| lease.spec);
        renewed.filter_map(|spec| Some(spec.renew_time?.0)).max()
    }

    /// What the API knows of a Unit's transitions, the newest first.
    pub async fn receipts(
        &self,
        key: &UnitKey,
        _: &Invocation,
    ) -> Result<Vec<ReceiptView>, Failure> {
        let scope = Scope::Unit(key.clone());
        let units = self.units(&scope).await?;
        let requests = self
            .list(
                "the Switchovers were not read",
                &self.api::<Switchover>(&scope),
            )
            .await?;
        Ok(units
            .iter()
            .flat_map(|unit| kube_view::receipts(unit, &requests))
            .collect())
    }

    /// Creates the Switchover that the plan says. Answers with its name.
    pub async fn begin(&self, plan: &Plan, _: &Invocation) -> Result<String, Failure> {
        let to = plan.to.as_ref().map_or("auto", |to| to.as_str());
        let mut request = Switchover::new(
            "",
            SwitchoverSpec {
                unit: plan.unit.name().to_owned(),
                to: plan.to.clone(),
                expected_primary: plan.expected_primary(),
                kind: if plan.planned {
                    SwitchoverKind::Planned
                } else {
                    SwitchoverKind::Forced
                },
                expect_no_primary: plan.expect_no_primary,
                allow_data_loss: plan.allow_data_loss,
                dry_run: false,
                ttl_after_finished: crds::Duration::from_secs(7 * 24 * 3600),
            },
        );
        request.metadata = ObjectMeta {
            generate_name: Some(format!("{}-{to}-", plan.unit.name())),
            namespace: Some(plan.unit.namespace().to_owned()),
            ..ObjectMeta::default()
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let api = self.namespaced::<Switchover>(plan.unit.namespace());
        let created = self
            .request(&plan.not_begun(), api.create(&params, &request))
            .await?;
        Ok(created.name_any())
    }

    /// The phases of a Switchover from now on. Ends after a final one.
    pub fn follow(
        &self,
        unit: &UnitKey,
        id: &str,
    ) -> LocalBoxStream<'_, Result<Progress, Failure>> {
        let tried = format!("Switchover {}/{id} was not followed", unit.namespace());
        let looks = self.watched::<Switchover>(unit.namespace(), id, tried);
        let state = (looks, None::<Progress>);
        futures::stream::unfold(state, async |(mut looks, last)| {
            if last.as_ref().is_some_and(Progress::is_final) {
                return None;
            }
            loop {
                match looks.next().await? {
                    Ok(request) => {
                        let progress = kube_view::progress(&request);
                        if last.as_ref() != Some(&progress) {
                            return Some((Ok(progress.clone()), (looks, Some(progress))));
                        }
                    }
                    Err(failure) => return Some((Err(failure), (looks, last))),
                }
            }
        })
        .boxed_local()
    }

    /// An object as it is, and at each change. Ends after a failure.
    pub(super) fn watched<K>(
        &self,
        namespace: &str,
        name: &str,
        tried: String,
    ) -> LocalBoxStream<'_, Result<K, Failure>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let watch = watch_object(self.namespaced::<K>(namespace), name);
        let watch = watch.backoff(DefaultBackoff::default());
        let state = Some((watch.boxed_local(), 0_u32));
        futures::stream::unfold(state, move |state| {
            let tried = tried.clone();
            async move {
                let (mut watch, mut errors) = state?;
                loop {
                    match watch.next().await? {
                        Ok(Some(object)) => return Some((Ok(object), Some((watch, 0)))),
                        Ok(None) => {
                            let gone = "it was deleted while it was followed";
                            return Some((Err(Failure::failed(tried, gone)), None));
                        }
                        Err(_) if errors < WATCH_ERRORS => errors += 1,
                        Err(error) => {
                            return Some((Err(self.watch_failure(&tried, error)), None));
                        }
                    }
                }
            }
        })
        .boxed_local()
    }

    /// The arbiters carry on whatever happens to the API, so a watch that breaks ends nothing.
    fn watch_failure(&self, tried: &str, error: watcher::Error) -> Failure {
        let cause = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => failure(tried, &error, &self.url, &self.call),
            other => Failure::failed(tried, other.to_string()),
        };
        Failure {
            exit: crate::failure::Exit::StillUnderWay,
            ..cause
        }
    }

    /// The receipt of a Switchover that is done.
    pub async fn receipt(&self, unit: &UnitKey, id: &str) -> Result<Option<ReceiptView>, Failure> {
        let tried = format!(
            "the receipt of Switchover {}/{id} was not read",
            unit.namespace()
        );
        let api = self.namespaced::<Switchover>(unit.namespace());
        let request = self.request(&tried, api.get(id)).await?;
        Ok(kube_view::receipt(&request))
    }

    /// Sets `spec.paused` of a Unit and nothing else.
    pub async fn set_paused(&self, unit: &UnitKey, paused: bool) -> Result<(), Failure> {
        let what = if paused { "paused" } else { "resumed" };
        let tried = format!("Unit {unit} was not {what}");
        let patch = serde_json::json!({"spec": {"paused": paused}});
        let api = self.namespaced::<Unit>(unit.namespace());
        self.patch(&tried, &api, unit.name(), &Patch::Merge(patch))
            .await
    }

    /// Changes a part of an object.
    pub(super) async fn patch<K, P>(
        &self,
        tried: &str,
        api: &Api<K>,
        name: &str,
        patch: &Patch<P>,
    ) -> Result<(), Failure>
    where
        K: Clone + Debug + DeserializeOwned,
        P: Serialize + Debug,
    {
        self.request(tried, api.patch(name, &parameters(), patch))
            .await
            .map(drop)
    }

    /// A Secret; `None` if there is none of that name.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, Failure> {
        let tried = format!("Secret {namespace}/{name} was not read");
        let api = self.namespaced::<Secret>(namespace);
        self.request(&tried, api.get_opt(name)).await
    }
}

/// Names whoever patches.
pub(super) fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

fn or_note<T>(read: Result<Vec<T>, Failure>, notes: &mut Vec<String>) -> Vec<T> {
    read.unwrap_or_else(|failure| {
        notes.push(failure.to_string());
        Vec::new()
    })
}
