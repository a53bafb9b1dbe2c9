//! The certificate of the links' mutual TLS: made and renewed here, unless its user brings one.

mod expiry;
mod held;
mod issue;
mod validity;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use tokio_util::sync::CancellationToken;

pub use expiry::Expiry;
pub use held::{Certificates, certificates};
pub use issue::Lifetimes;

use crate::cluster::{Cluster, ClusterError};
use crate::options::Settings;
use crate::resources::{MANAGED_BY, labels};
use crate::stores::{Stores, find};
use issue::{Ca, Leaf, Step, decide, new_ca, new_leaf};

/// How often it is looked whether something is to be renewed. A look is of memory only.
const EVERY: Duration = Duration::from_secs(30);

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The API.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The library that makes certificates.
    #[error("cannot make a certificate for the links: {0}")]
    Make(#[from] rcgen::Error),
    /// Somebody else's Secret has the name.
    #[error(
        "Secret {0} exists and was not made by multiactive, so the links' certificate cannot be \
         kept there: name it with the Helm value transport.tlsSecret to use it, or delete it"
    )]
    Foreign(String),
}

/// Keeps the Secrets of the links' certificate as they should be, until the token is cancelled.
pub async fn run(
    cluster: Cluster,
    stores: Stores,
    settings: Settings,
    lives: Lifetimes,
    shutdown: CancellationToken,
) {
    loop {
        if let Err(error) = look(&cluster, &stores, &settings, lives).await {
            tracing::warn!(%error, "the certificate of the links was not made or renewed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(
    cluster: &Cluster,
    stores: &Stores,
    settings: &Settings,
    lives: Lifetimes,
) -> Result<(), TransportError> {
    let (namespace, name) = (&settings.namespace, &settings.transport_secret);
    let ca_name = format!("{name}-ca");
    let ca_secret = find(&stores.secrets, namespace, &ca_name);
    let leaf_secret = find(&stores.secrets, namespace, name);
    for secret in [&ca_secret, &leaf_secret].into_iter().flatten() {
        if secret.labels().get(NAME.0).map(String::as_str) != Some(NAME.1) {
            let name = format!("{namespace}/{}", secret.name_any());
            return Err(TransportError::Foreign(name));
        }
    }
    let held_ca = ca_secret.as_deref().and_then(read_ca);
    let held_leaf = leaf_secret.as_deref().and_then(read_leaf);
    let now = Timestamp::now();
    let ca = match decide(held_ca.as_ref(), held_leaf.as_ref(), lives, now) {
        Step::Keep => return Ok(()),
        Step::Renew => held_ca,
        Step::Replace => {
            let trusted = held_ca
                .map(|ca| ca.bundle)
                .or(held_leaf.map(|leaf| leaf.bundle));
            let ca = new_ca(&trusted.unwrap_or_default(), lives, now)?;
            let files = [("ca.crt", &ca.bundle), ("ca.key", &ca.key)];
            let secret = secret(namespace, &ca_name, "Opaque", files);
            cluster.write_secret(secret, ca_secret.as_deref()).await?;
            Some(ca)
        }
    };
    let Some(ca) = ca else { return Ok(()) };
    let leaf = new_leaf(&ca, lives, now)?;
    let files = [
        ("ca.crt", &leaf.bundle),
        ("tls.crt", &leaf.certificate),
        ("tls.key", &leaf.key),
    ];
    let secret = secret(namespace, name, "kubernetes.io/tls", files);
    cluster.write_secret(secret, leaf_secret.as_deref()).await?;
    tracing::info!(namespace, name, "issued the certificate of the links");
    Ok(())
}

/// By this label a Secret of ours is told, also one that an earlier version's chart has made.
const NAME: (&str, &str) = ("app.kubernetes.io/name", "multiactive");

fn secret<const N: usize>(
    namespace: &str,
    name: &str,
    kind: &str,
    files: [(&str, &String); N],
) -> Secret {
    let data = files
        .into_iter()
        .map(|(file, text)| (file.to_owned(), ByteString(text.clone().into_bytes())));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels([
                NAME,
                MANAGED_BY,
                ("app.kubernetes.io/component", "transport"),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        data: Some(data.collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?.0.clone();
    String::from_utf8(bytes).ok()
}

fn read_ca(secret: &Secret) -> Option<Ca> {
    Some(Ca {
        bundle: text(secret, "ca.crt")?,
        key: text(secret, "ca.key")?,
    })
}

fn read_leaf(secret: &Secret) -> Option<Leaf> {
    Some(Leaf {
        bundle: text(secret, "ca.crt")?,
        certificate: text(secret, "tls.crt")?,
        key: text(secret, "tls.key")?,
    })
}
