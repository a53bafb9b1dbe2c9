//! A link that runs and that cannot be planned any more, as when an object that it names is gone: what
//! it was made with goes on. A person can stop it all the same, and its certificate is renewed.

use std::collections::BTreeMap;

use crds::SyncLink;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use model::LinkKey;
use serde_json::json;

use super::MANAGER;
use super::plan::Names;
use crate::cluster::ClusterError;
use crate::context::Context;
use crate::stores::find;

/// Brings what runs of it to what can be asked of it.
pub(super) async fn keep(
    link: &SyncLink,
    key: &LinkKey,
    certificate: &BTreeMap<String, ByteString>,
    context: &Context,
) -> Result<(), ClusterError> {
    let names = Names::of(key.name());
    let (stores, cluster) = (&context.stores, &context.cluster);
    let uid = link.uid().unwrap_or_default();
    let transport = find(&stores.secrets, key.namespace(), &names.transport);
    if let Some(live) = transport
        && !certificate.is_empty()
        && live.data.as_ref() != Some(certificate)
    {
        let patch = json!({"data": certificate});
        cluster.merge(&*live, patch, &uid, MANAGER).await?;
    }
    if !link.spec.suspended {
        return Ok(());
    }
    for name in [&names.writer, &names.syncer] {
        let found = find(&stores.deployments, key.namespace(), name);
        if let Some(live) = found.filter(|live| runs(live)) {
            let patch = json!({"spec": {"replicas": 0}});
            cluster.merge(&*live, patch, &uid, MANAGER).await?;
        }
    }
    Ok(())
}

fn runs(deployment: &Deployment) -> bool {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    replicas != Some(0)
}
