//! The YAML of the custom resource definitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{DataRepair, Idc, Switchover, SyncLink, Unit};

const HEADER: &str =
    "# Generated from the types in crds/src by `cargo xtask codegen`; edits here are lost.\n";

/// Helm must not delete the definitions with the release, since every object would go with them.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// Why the YAML could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A definition does not fit the API's own type.
    #[error("the definition of {name} is not valid JSON for the API: {source}")]
    Json {
        /// The definition.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It cannot be written as YAML.
    #[error("the definition of {name} cannot be written as YAML: {reason}")]
    Yaml {
        /// The definition.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// One generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Its path from the root of the repository.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// The definitions of all kinds, as the API server takes them.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, GenerateError> {
    [
        Idc::crd(),
        Unit::crd(),
        SyncLink::crd(),
        Switchover::crd(),
        DataRepair::crd(),
    ]
    .into_iter()
    .map(tidy)
    .collect()
}

/// All files: plain ones for `kubectl apply`, and the chart's.
pub fn files() -> Result<Vec<GeneratedFile>, GenerateError> {
    let mut files = Vec::new();
    for definition in definitions()? {
        let name = definition.spec.names.plural.clone();
        files.push(GeneratedFile {
            path: format!("crds/yaml/{name}.yaml"),
            content: yaml(&definition)?,
        });
        let mut kept = definition;
        kept.metadata
            .annotations
            .get_or_insert_default()
            .insert(KEEP.0.to_owned(), KEEP.1.to_owned());
        files.push(GeneratedFile {
            path: format!("charts/multiactive-crds/templates/{name}.yaml"),
            content: yaml(&kept)?,
        });
    }
    Ok(files)
}

fn yaml(definition: &CustomResourceDefinition) -> Result<String, GenerateError> {
    let name = definition.spec.names.plural.clone();
    let body = serde_saphyr::to_string(definition).map_err(|error| GenerateError::Yaml {
        name,
        reason: error.to_string(),
    })?;
    Ok(format!("{HEADER}{body}"))
}

/// Rust's unsigned numbers have formats that the API server does not know and warns of.
fn tidy(definition: CustomResourceDefinition) -> Result<CustomResourceDefinition, GenerateError> {
    let name = definition.spec.names.plural.clone();
    let json = |source| GenerateError::Json {
        name: name.clone(),
        source,
    };
    let mut value = serde_json::to_value(definition).map_err(json)?;
    rename_formats(&mut value);
    serde_json::from_value(value).map_err(json)
}

fn rename_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let known = match map.get("format").and_then(Value::as_str) {
                Some("uint8" | "uint16") => Some("int32"),
                Some("uint32" | "uint64") => Some("int64"),
                _ => None,
            };
            if let Some(known) = known {
                map.insert("format".to_owned(), Value::String(known.to_owned()));
            }
            map.values_mut().for_each(rename_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(rename_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_category_and_has_a_status() {
        let definitions = definitions().unwrap();
        assert_eq!(definitions.len(), 5);
        for definition in definitions {
            let names = definition.spec.names;
            assert_eq!(
                names.categories,
                Some(vec!["multiactive".to_owned()]),
                "{}",
                names.kind
            );
            let version = &definition.spec.versions[0];
            assert!(
                version.subresources.as_ref().unwrap().status.is_some(),
                "{}",
                names.kind
            );
        }
    }

    #[test]
    fn helm_keeps_the_definitions_and_finds_no_template_in_them() {
        for file in files().unwrap() {
            if file.path.starts_with("charts/") {
                assert!(
                    file.content.contains("helm.sh/resource-policy: keep"),
                    "{}",
                    file.path
                );
                assert!(
                    !file.content.contains("{{"),
                    "{} would be expanded",
                    file.path
                );
            }
        }
    }

    /// Told in one line, whatever is in them, or with the fields of a SyncLink.
    const WHOLE: [&str; 6] = [
        "linkTemplate",
        "kafka",
        "conflicts",
        "classes",
        "tls",
        "http",
    ];

    /// Names of all fields below a schema, those of objects in lists included.
    fn fields(schema: &Value, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            found.push(name.clone());
            if !WHOLE.contains(&name.as_str()) {
                fields(property, found);
            }
        }
        if schema["items"].is_object() {
            fields(&schema["items"], found);
        }
    }

    #[test]
    fn the_documents_say_of_every_field_whether_it_is_carried_out() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/custom-resources.md");
        let told = std::fs::read_to_string(path).unwrap();
        for definition in definitions().unwrap() {
            let kind = definition.spec.names.kind;
            let heading = format!("## {kind}\n");
            let (_, section) = told.split_once(&heading).unwrap();
            let section = section.split("\n## ").next().unwrap();
            let schema = definition.spec.versions[0].schema.clone().unwrap();
            let schema = serde_json::to_value(schema.open_api_v3_schema).unwrap();
            let mut names = Vec::new();
            fields(&schema["properties"]["spec"], &mut names);
            assert!(names.len() > 1, "{kind}: {names:?}");
            for name in names {
                assert!(section.contains(&name), "{kind}: {name}");
            }
        }
    }
}
