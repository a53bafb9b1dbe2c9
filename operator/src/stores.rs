//! What the operator sees of the cluster: one watch a kind, shared by all controllers.

use std::fmt::Debug;
use std::sync::Arc;

use crds::{DataRepair, Idc, Switchover, SyncLink, Unit};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use model::{IdcName, UnitKey};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::queues::{Queues, Target};
use crate::resources::MANAGED_BY;
use crate::triggers;

/// The objects of each kind, as last seen.
#[derive(Clone)]
pub struct Stores {
    /// Idcs.
    pub idcs: Store<Idc>,
    /// Units.
    pub units: Store<Unit>,
    /// SyncLinks.
    pub links: Store<SyncLink>,
    /// Switchovers.
    pub switchovers: Store<Switchover>,
    /// DataRepairs.
    pub repairs: Store<DataRepair>,
    /// Secrets of all namespaces, but for the kinds that only Kubernetes and Helm use.
    pub secrets: Store<Secret>,
    /// Those of ours.
    pub deployments: Store<Deployment>,
    /// Those of ours.
    pub services: Store<Service>,
    /// Those of ours.
    pub slices: Store<EndpointSlice>,
    /// Those of ours.
    pub config_maps: Store<ConfigMap>,
    /// Those of ours.
    pub accounts: Store<ServiceAccount>,
    /// Those of arbiters, in the operator's own namespace.
    pub arbiters: Store<Pod>,
}

/// The writing ends, which the watches hold.
struct Writers {
    idcs: Writer<Idc>,
    units: Writer<Unit>,
    links: Writer<SyncLink>,
    switchovers: Writer<Switchover>,
    repairs: Writer<DataRepair>,
    secrets: Writer<Secret>,
    deployments: Writer<Deployment>,
    services: Writer<Service>,
    slices: Writer<EndpointSlice>,
    config_maps: Writer<ConfigMap>,
    accounts: Writer<ServiceAccount>,
    arbiters: Writer<Pod>,
}

/// An object of a store.
pub fn find<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

fn all<K>(
    store: &Store<K>,
    target: fn(String, String) -> Target,
) -> impl Iterator<Item = Target> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let objects = store.state().into_iter();
    objects.map(move |object| target(object.namespace().unwrap_or_default(), object.name_any()))
}

impl Stores {
    /// The Unit of this name.
    pub fn unit(&self, key: &UnitKey) -> Option<Arc<Unit>> {
        find(&self.units, key.namespace(), key.name())
    }

    /// The Idc of this name.
    pub fn idc(&self, name: &IdcName) -> Option<Arc<Idc>> {
        self.idcs.get(&ObjectRef::new(name.as_str()))
    }

    /// The SyncLinks of a Unit.
    pub fn links_of(&self, namespace: &str, unit: &str) -> Vec<Arc<SyncLink>> {
        self.links.state_filter(|link| {
            link.namespace().as_deref() == Some(namespace)
                && link.spec.unit.as_deref() == Some(unit)
        })
    }

    /// Starts the watches. They end when the token is cancelled.
    pub fn watch(
        client: &Client,
        namespace: &str,
        certificates: triggers::Certificates,
        queues: &Queues,
        shutdown: &CancellationToken,
    ) -> (Self, JoinSet<()>) {
        let (stores, writers) = make();
        let mut tasks = JoinSet::new();
        let watches = Watches {
            client,
            queues,
            shutdown,
            stores: &stores,
        };
        watches.start(&mut tasks, writers.idcs, everything(), triggers::idc);
        watches.start(&mut tasks, writers.units, everything(), triggers::unit);
        watches.start(&mut tasks, writers.links, everything(), triggers::link);
        watches.start(
            &mut tasks,
            writers.switchovers,
            everything(),
            triggers::switchover,
        );
        watches.start(&mut tasks, writers.repairs, everything(), triggers::repair);
        watches.start(
            &mut tasks,
            writers.secrets,
            useful_secrets(),
            move |secret, stores| triggers::secret(secret, stores, &certificates),
        );
        watches.start(&mut tasks, writers.deployments, ours(), triggers::owned);
        watches.start(&mut tasks, writers.services, ours(), triggers::owned);
        watches.start(&mut tasks, writers.slices, ours(), triggers::slice);
        watches.start(&mut tasks, writers.config_maps, ours(), triggers::owned);
        watches.start(&mut tasks, writers.accounts, ours(), triggers::owned);
        let pods = Api::namespaced(client.clone(), namespace);
        watches.follow(
            &mut tasks,
            pods,
            writers.arbiters,
            arbiters(),
            triggers::arbiter_pod,
        );
        (stores, tasks)
    }

    /// Every custom resource.
    pub fn everything(&self) -> Vec<Target> {
        let idcs = self
            .idcs
            .state()
            .into_iter()
            .map(|idc| Target::Idc(idc.name_any()));
        idcs.chain(all(&self.units, Target::Unit))
            .chain(all(&self.links, Target::Link))
            .chain(all(&self.switchovers, Target::Switchover))
            .chain(all(&self.repairs, Target::Repair))
            .collect()
    }

    /// Waits until each watch has listed once; `false` if the watches ended before.
    pub async fn ready(&self) -> bool {
        let ready = tokio::try_join!(
            self.idcs.wait_until_ready(),
            self.units.wait_until_ready(),
            self.links.wait_until_ready(),
            self.switchovers.wait_until_ready(),
            self.repairs.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.services.wait_until_ready(),
            self.slices.wait_until_ready(),
            self.config_maps.wait_until_ready(),
            self.accounts.wait_until_ready(),
            self.arbiters.wait_until_ready(),
        );
        ready.is_ok()
    }
}

fn make() -> (Stores, Writers) {
    let (idcs, idc_writer) = store();
    let (units, unit_writer) = store();
    let (links, link_writer) = store();
    let (switchovers, switchover_writer) = store();
    let (repairs, repair_writer) = store();
    let (secrets, secret_writer) = store();
    let (deployments, deployment_writer) = store();
    let (services, service_writer) = store();
    let (slices, slice_writer) = store();
    let (config_maps, config_map_writer) = store();
    let (accounts, account_writer) = store();
    let (arbiters, arbiter_writer) = store();
    (
        Stores {
            idcs,
            units,
            links,
            switchovers,
            repairs,
            secrets,
            deployments,
            services,
            slices,
            config_maps,
            accounts,
            arbiters,
        },
        Writers {
            idcs: idc_writer,
            units: unit_writer,
            links: link_writer,
            switchovers: switchover_writer,
            repairs: repair_writer,
            secrets: secret_writer,
            deployments: deployment_writer,
            services: service_writer,
            slices: slice_writer,
            config_maps: config_map_writer,
            accounts: account_writer,
            arbiters: arbiter_writer,
        },
    )
}

fn everything() -> watcher::Config {
    watcher::Config::default()
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
}

fn arbiters() -> watcher::Config {
    ours().labels(&format!(
        "{}={},app.kubernetes.io/component=arbiter",
        MANAGED_BY.0, MANAGED_BY.1
    ))
}

/// Helm's Secrets are large and change with every release; tokens are none of our business.
fn useful_secrets() -> watcher::Config {
    watcher::Config::default().fields(
        "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,\
         type!=kubernetes.io/dockerconfigjson,type!=kubernetes.io/dockercfg,\
         type!=bootstrap.kubernetes.io/token",
    )
}

struct Watches<'a> {
    client: &'a Client,
    queues: &'a Queues,
    shutdown: &'a CancellationToken,
    stores: &'a Stores,
}

impl Watches<'_> {
    fn start<K, F>(
        &self,
        tasks: &mut JoinSet<()>,
        writer: Writer<K>,
        config: watcher::Config,
        affected: F,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&K, &Stores) -> Vec<Target> + Send + 'static,
    {
        let api: Api<K> = Api::all(self.client.clone());
        self.follow(tasks, api, writer, config, affected);
    }

    fn follow<K, F>(
        &self,
        tasks: &mut JoinSet<()>,
        api: Api<K>,
        writer: Writer<K>,
        config: watcher::Config,
        affected: F,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&K, &Stores) -> Vec<Target> + Send + 'static,
    {
        let stream = reflector(writer, watcher(api, config).default_backoff());
        let (queues, stores) = (self.queues.clone(), self.stores.clone());
        let shutdown = self.shutdown.clone();
        tasks.spawn(async move {
            let mut events = Box::pin(stream);
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.next() => event,
                };
                match event {
                    Some(Ok(Event::Apply(object) | Event::Delete(object))) => {
                        queues.send(affected(&object, &stores));
                    }
                    // After a list anything may be different, also by what is not in it any more.
                    Some(Ok(Event::InitDone)) => queues.send(stores.everything()),
                    Some(Ok(Event::Init | Event::InitApply(_))) => {}
                    Some(Err(error)) => {
                        tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is retried");
                    }
                    None => return,
                }
            }
        });
    }
}
