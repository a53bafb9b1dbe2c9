//! Manifests: what of them preflight looks at.

use std::collections::BTreeMap;

use crds::{Idc, Unit};
use k8s_openapi::api::core::v1::Secret;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;

/// The objects of some manifests that preflight has a use for.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The Units.
    pub units: Vec<Unit>,
    /// The IDCs.
    pub idcs: Vec<Idc>,
    /// The Secrets by namespace and name.
    pub secrets: BTreeMap<(String, String), Secret>,
    /// All objects of our own group as they were written, for the API server's judgement.
    pub ours: Vec<DynamicObject>,
}

impl Manifest {
    /// Takes in one file. Objects without a namespace get `namespace`.
    ///
    /// # Errors
    /// YAML that cannot be read, and objects of our kinds or Secrets that are not of their type.
    pub fn add(&mut self, file: &str, text: &str, namespace: &str) -> Result<(), Failure> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
            Failure::failed(format!("manifest {file} was not read"), error.to_string())
        })?;
        for (index, document) in documents.into_iter().enumerate() {
            self.add_document(
                &format!("{file}, document {}", index + 1),
                document,
                namespace,
            )?;
        }
        Ok(())
    }

    fn add_document(
        &mut self,
        place: &str,
        mut document: Value,
        namespace: &str,
    ) -> Result<(), Failure> {
        let word = |name: &str| {
            document
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (version, kind) = (word("apiVersion").to_owned(), word("kind").to_owned());
        if kind == "List" {
            let items = document.get_mut("items").map(Value::take);
            for item in items
                .and_then(|items| items.as_array().cloned())
                .unwrap_or_default()
            {
                self.add_document(place, item, namespace)?;
            }
            return Ok(());
        }
        let ours = version.starts_with("multiactive.dev/");
        if (ours && kind != "Idc") || kind == "Secret" {
            set_namespace(&mut document, namespace);
        }
        let place = format!("{kind} {} in {place}", name_of(&document));
        if ours {
            self.ours.push(parsed(&place, document.clone())?);
        }
        match (ours, version.as_str(), kind.as_str()) {
            (true, _, "Unit") => self.units.push(parsed(&place, document)?),
            (true, _, "Idc") => self.idcs.push(parsed(&place, document)?),
            (_, "v1", "Secret") => {
                let secret: Secret = parsed(&place, document)?;
                let meta = &secret.metadata;
                let key = (
                    meta.namespace.clone().unwrap_or_default(),
                    meta.name.clone().unwrap_or_default(),
                );
                self.secrets.insert(key, secret);
            }
            _ => {}
        }
        Ok(())
    }
}

fn set_namespace(document: &mut Value, namespace: &str) {
    if let Some(Value::Object(meta)) = document.get_mut("metadata") {
        meta.entry("namespace")
            .or_insert_with(|| Value::String(namespace.to_owned()));
    }
}

fn name_of(document: &Value) -> &str {
    document
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("without a name")
}

fn parsed<T: DeserializeOwned>(place: &str, document: Value) -> Result<T, Failure> {
    serde_json::from_value(document)
        .map_err(|error| Failure::failed(format!("{place} was not read"), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
# A comment first.
---
apiVersion: v1
kind: Secret
metadata: {name: orders-sh}
stringData: {username: app, password: '123'}
---
apiVersion: v1
kind: List
items:
- apiVersion: multiactive.dev/v1alpha1
  kind: Idc
  metadata: {name: sh}
  spec: {}
---
apiVersion: multiactive.dev/v1alpha1
kind: Unit
metadata: {name: orders}
spec:
  databases: [orders]
  members:
  - {idc: sh, endpoint: {host: a}, credentialsSecret: orders-sh}
  - {idc: bj, endpoint: {host: b}, credentialsSecret: orders-bj}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
";

    #[test]
    fn what_is_needed_is_picked_out_of_a_manifest() {
        let mut manifest = Manifest::default();
        manifest.add("unit.yaml", MANIFEST, "shop").unwrap();
        assert_eq!(manifest.units.len(), 1);
        assert_eq!(
            manifest.units[0].metadata.namespace.as_deref(),
            Some("shop")
        );
        assert_eq!(manifest.idcs.len(), 1);
        assert_eq!(manifest.idcs[0].metadata.namespace, None);
        assert_eq!(manifest.ours.len(), 2);
        assert!(
            manifest
                .secrets
                .contains_key(&("shop".to_owned(), "orders-sh".to_owned()))
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut manifest = Manifest::default();
        let broken = MANIFEST.replace("members:", "member:");
        let failure = manifest
            .add("unit.yaml", &broken, "shop")
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("Unit orders in unit.yaml, document"),
            "{failure}"
        );
        assert!(failure.contains("members"), "{failure}");
        let failure = manifest
            .add("unit.yaml", "a: [", "shop")
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("manifest unit.yaml was not read"),
            "{failure}"
        );
    }
}
