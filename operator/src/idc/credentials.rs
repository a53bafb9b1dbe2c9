//! Which accounts an arbiter is given: those of all members of all Units. With those of its own IDC
//! it acts; with the others it looks whether they answer, which is what it votes on. A witness has
//! only the latter.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{Member, Unit};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use model::UnitKey;
use topology::TopologyState;

/// Files by name, as the arbiter's Secret holds them.
pub type Credentials = BTreeMap<String, ByteString>;

/// Collects the accounts.
///
/// An account that cannot be read now, or whose member only the published topology still knows,
/// stays as the arbiter already has it: an arbiter that holds a primary must be able to fence it,
/// whatever somebody deletes.
pub fn collect(
    units: &[Arc<Unit>],
    published: Option<&TopologyState>,
    secret: impl Fn(&str, &str) -> Option<Arc<Secret>>,
    present: Option<&Secret>,
) -> Credentials {
    let mut files = Credentials::new();
    let given = present.and_then(|present| present.data.as_ref());
    let mut keep = |file: &str| {
        if let Some(value) = given.and_then(|given| given.get(file)) {
            files.insert(file.to_owned(), value.clone());
        }
    };
    if let Some(published) = published {
        for key in published.unit_keys() {
            let document = published.unit(key).unit;
            for member in document.into_iter().flat_map(|it| it.value.members) {
                keep(&key.credentials_file(&member.idc));
            }
        }
    }
    for unit in units {
        let namespace = unit.namespace().unwrap_or_default();
        let Ok(key) = UnitKey::new(&namespace, unit.name_any()) else {
            continue;
        };
        for member in &unit.spec.members {
            let file = key.credentials_file(&member.idc);
            let now = read(member, &namespace, &secret);
            let value = now.or_else(|| given.and_then(|given| given.get(&file)).cloned());
            files.extend(value.map(|value| (file, value)));
        }
    }
    files
}

fn read(
    member: &Member,
    namespace: &str,
    secret: &impl Fn(&str, &str) -> Option<Arc<Secret>>,
) -> Option<ByteString> {
    let account = secret(namespace, &member.credentials_secret)?;
    let ca = match &member.endpoint.tls.ca_secret {
        Some(name) => Some(text(&*secret(namespace, name)?, "ca.crt")?),
        None => None,
    };
    let credentials = model::Credentials {
        username: text(&account, "username")?,
        password: text(&account, "password")?,
        ca,
    };
    serde_json::to_vec(&credentials).ok().map(ByteString)
}

/// One key of a Secret as text.
pub fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone())
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{object, unit};

    fn secret(data: &[(&str, &str)]) -> Secret {
        Secret {
            data: Some(
                data.iter()
                    .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    fn found(name: &str) -> Option<Arc<Secret>> {
        match name {
            "orders-sh" => Some(Arc::new(secret(&[("username", "app"), ("password", "p")]))),
            "orders-bj" => Some(Arc::new(secret(&[("username", "b"), ("password", "q")]))),
            "ca" => Some(Arc::new(secret(&[("ca.crt", "PEM")]))),
            _ => None,
        }
    }

    #[test]
    fn an_arbiter_gets_the_accounts_of_all_members_with_their_ca() {
        let units = [Arc::new(unit())];
        let files = collect(&units, None, |_, name| found(name), None);
        let names: Vec<_> = files.keys().collect();
        assert_eq!(names, ["shop.orders.bj", "shop.orders.sh"]);
        let json: serde_json::Value = serde_json::from_slice(&files["shop.orders.bj"].0).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"username": "b", "password": "q", "ca": "PEM"})
        );
    }

    #[test]
    fn an_account_that_somebody_deletes_stays_with_an_arbiter_that_may_have_to_fence() {
        let units = [Arc::new(unit())];
        let present = secret(&[("shop.orders.sh", "old"), ("shop.gone.sh", "older")]);
        let files = collect(&units, None, |_, _| None, Some(&present));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["shop.orders.sh"]);
        assert_eq!(files["shop.orders.sh"].0, b"old");
    }

    #[test]
    fn a_secret_without_its_keys_gives_no_account() {
        let units = [Arc::new(object::<Unit>(crate::samples::UNIT))];
        let half = |_: &str, _: &str| Some(Arc::new(secret(&[("username", "app")])));
        assert!(collect(&units, None, half, None).is_empty());
    }
}
