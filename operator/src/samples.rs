//! What tests work on: a Unit in two IDCs as its user writes it, and etcd's records of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crds::{Idc, Member, SyncLink, Unit};
use kube::Resource;
use model::{
    Epoch, EpochRecord, IdcName, LeaseId, MemberRecord, PrimaryRecord, Revision, ServerIdentity,
    SessionRecord, UnitKey, UnitState, Versioned,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::{Images, Settings};

/// A custom resource from YAML, as the API server would hand it out.
pub fn object<K: Resource<DynamicType = ()> + DeserializeOwned>(yaml: &str) -> K {
    let mut object: K = serde_saphyr::from_str(yaml).unwrap();
    object.meta_mut().uid.get_or_insert("uid-1".to_owned());
    object.meta_mut().generation.get_or_insert(1);
    object
}

pub const UNIT: &str = "
apiVersion: multiactive.dev/v1alpha1
kind: Unit
metadata: {name: orders, namespace: shop}
spec:
  databases: [orders]
  members:
  - {idc: sh, endpoint: {host: 192.0.2.1, port: 3307}, credentialsSecret: orders-sh, priority: 100}
  - idc: bj
    endpoint: {host: 192.0.2.2, tls: {mode: VerifyIdentity, caSecret: ca}}
    credentialsSecret: orders-bj
    priority: 50
";

pub fn unit() -> Unit {
    object(UNIT)
}

pub fn key() -> UnitKey {
    UnitKey::new("shop", "orders").unwrap()
}

pub fn idc_name(name: &str) -> IdcName {
    IdcName::new(name).unwrap()
}

pub fn idc(name: &str) -> Idc {
    object(&format!(
        "apiVersion: multiactive.dev/v1alpha1\nkind: Idc\nmetadata: {{name: {name}}}\n\
         spec: {{role: Data, scheduling: {{nodeSelector: {{region: {name}}}}}}}\n"
    ))
}

pub fn link() -> SyncLink {
    object(
        "{apiVersion: multiactive.dev/v1alpha1, kind: SyncLink,\
          metadata: {name: orders-sh-bj, namespace: shop},\
          spec: {unit: orders, source: {idc: sh}, target: {idc: bj}}}",
    )
}

pub fn member(unit: &mut Unit, place: usize) -> &mut Member {
    &mut unit.spec.members[place]
}

pub fn settings() -> Settings {
    Settings {
        namespace: "multiactive-system".to_owned(),
        etcd_endpoints: vec!["https://a:2379".to_owned(), "https://b:2379".to_owned()],
        etcd_prefix: "/multiactive/".to_owned(),
        etcd_tls_secret: Some("etcd-client".to_owned()),
        lease_duration: crds::Duration::from_secs(6),
        arbiter_replicas: 2,
        transport_secret: "multiactive-transport".to_owned(),
        issue_transport: None,
        images: Images {
            arbiter: "multiactive/arbiter:1".to_owned(),
            syncer: "multiactive/syncer:1".to_owned(),
            writer: "multiactive/writer:1".to_owned(),
            repair: "multiactive/repair:1".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: vec!["registry".to_owned()],
        },
        idc: None,
        syncer_service: crate::options::SyncerService::LoadBalancer,
        syncer_annotations: BTreeMap::new(),
    }
}

pub fn versioned<T>(value: T) -> Versioned<T> {
    Versioned {
        value,
        revision: Revision(7),
        lease: Some(LeaseId(1)),
    }
}

/// Both members well, and `sh` primary of epoch 1.
pub fn state() -> UnitState {
    let identity = |idc: &str| ServerIdentity(format!("identity-{idc}"));
    let sh = idc_name("sh");
    let record = |idc: &str| MemberRecord {
        identity: Some(identity(idc)),
        boot: None,
        reachable: true,
        fenced: idc != "sh",
        preflight_passed: true,
        has_data: true,
        highest_epoch: Epoch(1),
        held_highest: idc == "sh",
        remembers: true,
        ineligible: Vec::new(),
    };
    let session = |idc: &str| SessionRecord {
        holder: format!("arbiter-{idc}"),
        address: "192.0.2.9:8080".to_owned(),
        version: "0".to_owned(),
        generation: model::Generation(1),
        yielded: false,
        promises_at: "192.0.2.9:7443".to_owned(),
    };
    let both = ["sh", "bj"];
    UnitState {
        revision: Revision(9),
        unit: Some(versioned(unit().spec.document("uid-1", 1))),
        epoch: Some(versioned(EpochRecord {
            epoch: Epoch(1),
            idc: sh.clone(),
            identity: identity("sh"),
            failed_over: Epoch::NONE,
            candidates: Vec::new(),
            highest: Epoch::NONE,
            noted: None,
            boots_fenced: true,
        })),
        primary: Some(versioned(PrimaryRecord {
            idc: sh,
            epoch: Epoch(1),
            identity: identity("sh"),
            open: true,
        })),
        members: BTreeMap::from(both.map(|idc| (idc_name(idc), versioned(record(idc))))),
        sessions: BTreeMap::from(both.map(|idc| (idc_name(idc), versioned(session(idc))))),
        ..UnitState::default()
    }
}

/// Compares a value, as YAML, with `operator/snapshots/<name>.yaml`; with `UPDATE_SNAPSHOTS=1`
/// writes it instead.
pub fn assert_snapshot<T: Serialize>(name: &str, actual: &T) {
    let actual = serde_saphyr::to_string(actual).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("snapshots")
        .join(format!("{name}.yaml"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; UPDATE_SNAPSHOTS=1 writes it", path.display())
    });
    assert!(
        expected == actual,
        "{name} differs; UPDATE_SNAPSHOTS=1 accepts it\n--- expected\n{expected}\n--- actual\n{actual}"
    );
}

/// What the arbiter of an open primary says of it.
pub fn primary_status(epoch: u64) -> model::MemberStatus {
    model::MemberStatus {
        role: model::MemberRole::Primary,
        writable: true,
        reachable: true,
        epoch: Epoch(epoch),
        position: None,
        lag_millis: None,
        findings: Vec::new(),
        message: String::new(),
        failover: model::FailoverStatus::default(),
        stranded: 0,
        filed: 0,
        crowded: None,
        full: String::new(),
        hindrances: None,
        application: String::new(),
    }
}
