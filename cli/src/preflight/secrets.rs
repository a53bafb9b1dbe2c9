//! Credentials from Secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use model::{Credentials, Finding, Severity};

/// What is known of a Secret that a member names.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// It is there.
    Found(Box<Secret>),
    /// It is neither in the manifest nor in the cluster.
    Missing,
    /// It is not in the manifest, and the cluster could not be asked.
    Unknown(String),
}

/// The credentials of a member, or what is wrong with its Secrets.
///
/// # Errors
/// A blocking finding that names the Secret, the key and the fix.
pub fn credentials(
    member: &crds::Member,
    namespace: &str,
    secret: &SecretSource,
    ca: Option<&SecretSource>,
) -> Result<Credentials, Finding> {
    let name = &member.credentials_secret;
    let object = format!("member {} ({})", member.idc, member.endpoint.document());
    let place = format!("Secret {namespace}/{name}");
    let make = format!(
        "kubectl -n {namespace} create secret generic {name} --from-literal=username=USER \
         --from-literal=password=PASSWORD"
    );
    let values = values(&object, &place, secret, &make)?;
    let username = text(&object, &place, &values, "username", &make)?;
    let password = text(&object, &place, &values, "password", &make)?;
    let ca = match (&member.endpoint.tls.ca_secret, ca) {
        (Some(name), Some(secret)) => {
            let place = format!("Secret {namespace}/{name}");
            let make = format!(
                "kubectl -n {namespace} create secret generic {name} --from-file=ca.crt=CA.pem"
            );
            let values = self::values(&object, &place, secret, &make)?;
            Some(text(&object, &place, &values, "ca.crt", &make)?)
        }
        _ => None,
    };
    Ok(Credentials {
        username,
        password,
        ca,
    })
}

fn values(
    object: &str,
    place: &str,
    secret: &SecretSource,
    make: &str,
) -> Result<BTreeMap<String, Vec<u8>>, Finding> {
    match secret {
        SecretSource::Found(secret) => {
            let mut values: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for (key, value) in secret.data.iter().flatten() {
                values.insert(key.clone(), value.0.clone());
            }
            // The API server lets `stringData` win over `data`.
            for (key, value) in secret.string_data.iter().flatten() {
                values.insert(key.clone(), value.clone().into_bytes());
            }
            Ok(values)
        }
        SecretSource::Missing => Err(finding(
            object,
            "SecretMissing",
            format!("{place} does not exist."),
            make,
        )),
        SecretSource::Unknown(why) => Err(finding(
            object,
            "SecretUnknown",
            format!("{place} is not in the manifest and could not be read from the cluster: {why}"),
            "put the Secret into the manifest, or make it readable for you in the cluster",
        )),
    }
}

fn text(
    object: &str,
    place: &str,
    values: &BTreeMap<String, Vec<u8>>,
    key: &str,
    make: &str,
) -> Result<String, Finding> {
    let Some(value) = values.get(key) else {
        let message = format!("{place} has no key {key:?}.");
        return Err(finding(object, "SecretKeyMissing", message, make));
    };
    String::from_utf8(value.clone()).map_err(|_| {
        let message = format!("{place}: the value of {key:?} is not text.");
        finding(object, "SecretKeyInvalid", message, make)
    })
}

fn finding(object: &str, check: &str, message: String, fix: &str) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: check.to_owned(),
        object: object.to_owned(),
        message,
        fix: fix.to_owned(),
    }
}
