//! What the API server would say of a manifest.

use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Error as KubeError, ResourceExt};
use model::{Finding, Severity};

use super::KubeBackend;
use super::kube::FIELD_MANAGER;

impl KubeBackend {
    /// What the API server says of these objects, without storing any: its own validation, as
    /// findings with kind, namespace and name of the object. Objects whose kind or namespace is not
    /// there yet cannot be judged and are left out.
    pub async fn judge(&self, objects: &[DynamicObject]) -> Vec<(String, String, String, Finding)> {
        let mut found = Vec::new();
        let params = PatchParams {
            dry_run: true,
            force: true,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        for object in objects {
            let Some(types) = &object.types else { continue };
            let Ok(gvk) = GroupVersionKind::try_from(types) else {
                continue;
            };
            let resource = ApiResource::from_gvk(&gvk);
            let (kind, name) = (types.kind.clone(), object.name_any());
            let namespace = object.namespace().unwrap_or_default();
            let api: Api<DynamicObject> = match kind.as_str() {
                "Idc" => Api::all_with(self.client.clone(), &resource),
                _ => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            };
            let patch = Patch::Apply(object);
            let request = api.patch(&name, &params, &patch);
            let answer = tokio::time::timeout(self.timeout, request).await;
            // 404: its kind or its namespace is not there yet. 403: whoever asks may not apply it,
            // which says nothing about the object.
            if let Ok(Err(KubeError::Api(status))) = answer
                && !matches!(status.code, 401 | 403 | 404)
            {
                let finding = Finding {
                    severity: Severity::Blocking,
                    check: "Refused".to_owned(),
                    object: format!("{kind} {name}"),
                    message: format!("the API server refuses it: {}", status.message),
                    fix: String::new(),
                };
                found.push((kind, namespace, name, finding));
            }
        }
        found
    }
}
