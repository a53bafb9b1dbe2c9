//! Writes to the Kubernetes API: all of them pass through here, where leadership is checked at the
//! moment of writing, and nothing is written that is there already.

mod merge;
mod secrets;

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::covers::{APPLIED, covers, hash};
use crate::leader::Leadership;
use crate::metrics::Metrics;

/// A request that takes longer is given up; the object is tried again later.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What every object of ours is: owned by a custom resource, in a namespace.
pub trait Owned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Owned for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Why the API was not written to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Another operator leads now.
    #[error("cannot {doing}: this operator is not the leader any more")]
    NotLeader {
        /// What was being done.
        doing: String,
    },
    /// The API server refused.
    #[error("cannot {doing}: the Kubernetes API answered: {source}")]
    Kube {
        /// What was being done.
        doing: String,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot {doing}: the Kubernetes API did not answer within {REQUEST_TIMEOUT:?}")]
    Timeout {
        /// What was being done.
        doing: String,
    },
    /// Something of that name exists and is not ours.
    #[error(
        "{kind} {namespace}/{name} exists already and does not belong to this object, so it is \
         left alone: delete or rename it, or give this object another name"
    )]
    Foreign {
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Something of that name is left from an earlier object of the owner's name.
    #[error(
        "{kind} {namespace}/{name} still belongs to an object of the same name that was deleted: \
         Kubernetes' garbage collector removes it"
    )]
    Leftover {
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object of ours cannot be written as JSON.
    #[error("cannot {doing}: {source}")]
    Json {
        /// What was being done.
        doing: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl ClusterError {
    /// A stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeader { .. } => "not_leader",
            Self::Kube { .. } => "api",
            Self::Timeout { .. } => "api_timeout",
            Self::Foreign { .. } => "foreign",
            Self::Leftover { .. } => "leftover",
            Self::Json { .. } => "json",
        }
    }
}

/// The cluster, as one that may be written to while this process leads.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    leadership: Leadership,
    recorder: Recorder,
    metrics: Metrics,
}

impl Cluster {
    /// Writes as this holder, while it leads.
    pub fn new(client: Client, leadership: Leadership, holder: &str, metrics: Metrics) -> Self {
        let reporter = Reporter {
            controller: "multiactive.dev/operator".to_owned(),
            instance: Some(holder.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            leadership,
            recorder,
            metrics,
        }
    }

    /// Refuses unless this process leads at this moment.
    pub fn check_leader(&self, doing: &str) -> Result<(), ClusterError> {
        if self.leadership.holds() {
            Ok(())
        } else {
            Err(ClusterError::NotLeader {
                doing: doing.to_owned(),
            })
        }
    }

    /// Makes an object as desired by server-side apply, unless it is so already.
    ///
    /// The desired object must have an owner reference; an object of that name that another owner
    /// made, or nobody, is left alone.
    pub async fn apply<K: Owned>(
        &self,
        store: &Store<K>,
        mut desired: K,
        manager: &str,
    ) -> Result<(), ClusterError> {
        let (namespace, name) = (desired.namespace().unwrap_or_default(), desired.name_any());
        let kind = K::kind(&()).into_owned();
        let doing = format!("apply {kind} {namespace}/{name}");
        let json = |source| ClusterError::Json {
            doing: doing.clone(),
            source,
        };
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let live = match store.get(&ObjectRef::new(&name).within(&namespace)) {
            Some(live) => Some((*live).clone()),
            // The watch may lag behind what was just made, and does not show what others made.
            None => self.bounded(&doing, api.get_opt(&name)).await?,
        };
        let plain = typed(&desired).map_err(json)?;
        let hash = hash(&plain);
        desired
            .annotations_mut()
            .insert(APPLIED.to_owned(), hash.clone());
        let wanted = typed(&desired).map_err(json)?;
        if let Some(live) = live {
            if !same_owner(&live, &desired, |found, wanted| found.uid == wanted.uid) {
                let earlier = |found: &OwnerReference, wanted: &OwnerReference| {
                    (&found.kind, &found.name) == (&wanted.kind, &wanted.name)
                };
                return Err(if same_owner(&live, &desired, earlier) {
                    ClusterError::Leftover {
                        kind,
                        namespace,
                        name,
                    }
                } else {
                    ClusterError::Foreign {
                        kind,
                        namespace,
                        name,
                    }
                });
            }
            let found = typed(&live).map_err(json)?;
            if live.annotations().get(APPLIED) == Some(&hash) && covers(&found, &wanted) {
                return Ok(());
            }
        }
        self.check_leader(&doing)?;
        self.metrics.write("apply", &kind);
        let parameters = PatchParams::apply(manager).force();
        self.bounded(
            &doing,
            api.patch(&name, &parameters, &Patch::Apply(&wanted)),
        )
        .await?;
        tracing::info!(kind, namespace, name, "applied");
        Ok(())
    }

    /// Deletes an object if it is there and owned by this owner's UID.
    pub async fn delete<K: Owned>(
        &self,
        store: &Store<K>,
        namespace: &str,
        name: &str,
        owner_uid: &str,
    ) -> Result<(), ClusterError> {
        let Some(live) = store.get(&ObjectRef::new(name).within(namespace)) else {
            return Ok(());
        };
        if !is_owned(&*live, owner_uid) || live.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let kind = K::kind(&()).into_owned();
        let doing = format!("delete {kind} {namespace}/{name}");
        self.check_leader(&doing)?;
        self.metrics.write("delete", &kind);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.delete_exactly(&doing, &api, name, live.uid()).await?;
        tracing::info!(kind, namespace, name, "deleted");
        Ok(())
    }

    /// Deletes a custom resource, provided that it is still the same.
    pub async fn delete_object<K>(&self, object: &K) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = ()>,
    {
        let kind = K::kind(&()).into_owned();
        let doing = format!("delete {kind} {}", object.name_any());
        self.check_leader(&doing)?;
        self.metrics.write("delete", &kind);
        self.delete_exactly(
            &doing,
            &self.api_of(object),
            &object.name_any(),
            object.uid(),
        )
        .await
    }

    async fn delete_exactly<K: Clone + Debug + DeserializeOwned>(
        &self,
        doing: &str,
        api: &Api<K>,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), ClusterError> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                ..Preconditions::default()
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match self.bounded(doing, api.delete(name, &parameters)).await {
            Ok(_) => Ok(()),
            // Gone already, or another object of the same name by now.
            Err(ClusterError::Kube { source, .. }) if is_code(&source, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a custom resource's status, whole.
    pub async fn write_status<K, S>(
        &self,
        object: &K,
        status: &S,
        manager: &str,
    ) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = ()>,
        S: Serialize,
    {
        let kind = K::kind(&()).into_owned();
        let doing = format!("write the status of {kind} {}", object.name_any());
        self.check_leader(&doing)?;
        self.metrics.write("status", &kind);
        let mut patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": kind,
            "metadata": {"name": object.name_any()},
            "status": status,
        });
        // A status never goes to another object that has taken the name meanwhile.
        if let (Some(uid), Some(metadata)) = (object.uid(), patch.get_mut("metadata")) {
            metadata["uid"] = Value::String(uid);
        }
        let parameters = PatchParams::apply(manager).force();
        let api = self.api_of(object);
        let name = object.name_any();
        match self
            .bounded(
                &doing,
                api.patch_status(&name, &parameters, &Patch::Apply(&patch)),
            )
            .await
        {
            Ok(_) => Ok(()),
            // Deleted meanwhile: there is nobody to tell.
            Err(ClusterError::Kube { source, .. }) if is_code(&source, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets or takes away a finalizer, comparing the list of finalizers that was seen.
    pub async fn set_finalizer<K>(
        &self,
        object: &K,
        finalizer: &str,
        wanted: bool,
    ) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = ()>,
    {
        let mut finalizers = object.finalizers().to_vec();
        if finalizers.iter().any(|present| present == finalizer) == wanted {
            return Ok(());
        }
        if wanted {
            finalizers.push(finalizer.to_owned());
        } else {
            finalizers.retain(|present| present != finalizer);
        }
        let kind = K::kind(&()).into_owned();
        let doing = format!("change the finalizers of {kind} {}", object.name_any());
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            // A merge patch replaces the whole list, so it must not cross with another's change.
            "resourceVersion": object.resource_version(),
        }});
        self.patch_metadata(object, "finalizer", &doing, &patch, &[404])
            .await
            .map(drop)
    }

    /// Sets an annotation, unless it is so already.
    pub async fn annotate<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        annotation: &str,
        value: &str,
    ) -> Result<(), ClusterError> {
        if object
            .annotations()
            .get(annotation)
            .is_some_and(|present| present == value)
        {
            return Ok(());
        }
        let kind = K::kind(&()).into_owned();
        let doing = format!("annotate {kind} {}", object.name_any());
        let patch = json!({"metadata": {"annotations": {annotation: value}}});
        self.patch_metadata(object, "annotate", &doing, &patch, &[404])
            .await
            .map(drop)
    }

    /// An annotation as the API has it now: what is remembered of an object may be behind.
    pub async fn annotation<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        annotation: &str,
    ) -> Result<Option<String>, ClusterError> {
        let (api, name) = (self.api_of(object), object.name_any());
        let doing = format!("read {} {name}", K::kind(&()));
        let now = self.bounded(&doing, api.get_metadata_opt(&name)).await?;
        Ok(now.and_then(|mut now| now.annotations_mut().remove(annotation)))
    }

    /// Takes an annotation off, and perhaps sets another; false: the object was changed meanwhile,
    /// and is looked at again.
    pub async fn take_annotation<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        annotation: &str,
        set: Option<(&str, &str)>,
    ) -> Result<bool, ClusterError> {
        let kind = K::kind(&()).into_owned();
        let doing = format!("take an annotation off {kind} {}", object.name_any());
        let mut annotations = json!({annotation: null});
        if let Some((other, value)) = set {
            annotations[other] = json!(value);
        }
        let patch = json!({"metadata": {
            "annotations": annotations,
            // Not one that was put there since.
            "resourceVersion": object.resource_version(),
        }});
        self.patch_metadata(object, "annotate", &doing, &patch, &[404, 409])
            .await
    }

    /// Patches an object's metadata; false: the API answered with one of these codes, which say that
    /// the object is gone or was changed meanwhile.
    async fn patch_metadata<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        what: &'static str,
        doing: &str,
        patch: &Value,
        no_errors: &[u16],
    ) -> Result<bool, ClusterError> {
        self.check_leader(doing)?;
        self.metrics.write(what, &K::kind(&()));
        let (api, name) = (self.api_of(object), object.name_any());
        let parameters = PatchParams::default();
        match self
            .bounded(doing, api.patch(&name, &parameters, &Patch::Merge(patch)))
            .await
        {
            Ok(_) => Ok(true),
            Err(ClusterError::Kube { source, .. }) if is_code(&source, no_errors) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Publishes an Event about an object. A failure is logged only: Events are for people, and
    /// nothing depends on them.
    pub async fn event<K: Resource<DynamicType = ()>>(&self, object: &K, notice: &Notice) {
        if self.check_leader("publish an Event").is_err() {
            return;
        }
        self.metrics.write("event", &K::kind(&()));
        // The API takes a kilobyte.
        let note: String = notice.note.chars().take(900).collect();
        let event = Event {
            type_: if notice.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: notice.reason.clone(),
            note: Some(note),
            action: notice.reason.clone(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        let published = self.recorder.publish(&event, &reference);
        match tokio::time::timeout(REQUEST_TIMEOUT, published).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, ?notice, "an Event was not published"),
            Err(_) => tracing::warn!(?notice, "an Event was not published in time"),
        }
    }

    /// Kinds of both scopes, of which only the object itself knows.
    fn api_of<K: Resource<DynamicType = ()>>(&self, object: &K) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    async fn bounded<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(ClusterError::Kube {
                doing: doing.to_owned(),
                source: Box::new(source),
            }),
            Err(_) => Err(ClusterError::Timeout {
                doing: doing.to_owned(),
            }),
        }
    }
}

/// Something worth an Event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// Whether somebody should look.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

fn typed<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = Value::String(K::api_version(&()).into_owned());
    value["kind"] = Value::String(K::kind(&()).into_owned());
    Ok(value)
}

fn is_owned<K: ResourceExt>(live: &K, owner_uid: &str) -> bool {
    let mut owners = live.owner_references().iter();
    owners.any(|owner| owner.uid == owner_uid)
}

fn same_owner<K: ResourceExt>(
    live: &K,
    desired: &K,
    same: impl Fn(&OwnerReference, &OwnerReference) -> bool,
) -> bool {
    let wanted = desired.owner_references();
    wanted.iter().any(|wanted| {
        live.owner_references()
            .iter()
            .any(|found| same(found, wanted))
    })
}

fn is_code(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}

#[cfg(test)]
mod tests;
