//! Whether an object is already as it should be, so that steady state needs no writes.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The annotation that holds the hash of what was applied last.
pub const APPLIED: &str = "multiactive.dev/applied";

/// Whether everything in `desired` is in `live`. The API server adds defaults to objects, so `live`
/// may hold more; lists must have the same length, since an extra entry changes what they mean.
pub fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, wanted)| {
            match live.get(key) {
                Some(found) => covers(found, wanted),
                // The API server leaves empty lists and maps away.
                None => is_empty(wanted),
            }
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live
                    .iter()
                    .zip(desired)
                    .all(|(found, wanted)| covers(found, wanted))
        }
        (live, desired) => live == desired,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A short hash of a value. `serde_json` keeps the keys of maps sorted, so equal values have equal
/// hashes.
pub fn hash(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string().as_bytes());
    let digits: Vec<String> = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digits.concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_server_are_no_difference() {
        let desired = json!({"spec": {"containers": [{"name": "a", "env": []}], "selector": {}}});
        let live = json!({
            "spec": {"containers": [{"name": "a", "terminationMessagePath": "/dev/x"}]},
            "status": {"replicas": 1},
        });
        assert!(covers(&live, &desired));
    }

    #[test]
    fn what_somebody_changed_is_a_difference() {
        let desired = json!({"spec": {"replicas": 1, "ports": [{"port": 1}]}});
        for live in [
            json!({"spec": {"replicas": 2, "ports": [{"port": 1}]}}),
            json!({"spec": {"replicas": 1, "ports": [{"port": 1}, {"port": 2}]}}),
            json!({"spec": {"ports": [{"port": 1}]}}),
            json!({}),
        ] {
            assert!(!covers(&live, &desired), "{live}");
        }
    }

    #[test]
    fn hashes_differ_with_the_value() {
        assert_eq!(
            hash(&json!({"a": 1, "b": 2})),
            hash(&json!({"b": 2, "a": 1}))
        );
        assert_ne!(hash(&json!({"a": 1})), hash(&json!({"a": 2})));
    }
}
