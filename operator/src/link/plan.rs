//! What a SyncLink consists of: a pure function of what was observed.

use std::collections::BTreeMap;

use crds::{Compression, DdlPolicy, Endpoint, Idc, LinkOptions, SnapshotMode, SyncLink};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, KeyToPath, ProjectedVolumeSource, Secret, SecretProjection,
    Service, ServiceAccount, Volume, VolumeProjection,
};
use model::{
    ApplySettings, ConflictResolution, ConflictSettings, LinkConfig, LinkEnd, LinkKey, Route,
    SnapshotSettings, TableSelection,
};
use serde_json::json;

use super::validate::Ends;
use super::{Sides, alone};
use crate::covers::hash;
use crate::options::{Settings, SyncerService};
use crate::resources::{
    MOUNTS, Part, Program, STATUS_PORT, labels, mounted, needs, owner, secret_volume,
};

/// The port on which a syncer serves its writer.
pub const SERVE_PORT: i32 = 7443;

/// Names of what belongs to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The syncer, its Service and its account.
    pub syncer: String,
    /// The writer, its Service and its account.
    pub writer: String,
    /// The ConfigMap.
    pub config: String,
    /// The copy of the certificate.
    pub transport: String,
    /// The Service at which other clusters reach the syncer.
    pub reach: String,
}

impl Names {
    /// Of the link of this name.
    pub fn of(link: &str) -> Self {
        Self {
            syncer: format!("{link}-syncer"),
            writer: format!("{link}-writer"),
            config: format!("{link}-link"),
            transport: format!("{link}-transport"),
            reach: format!("{link}-reach"),
        }
    }
}

/// Everything that is made for a link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkPlan {
    /// The link's settings, which both ends read.
    pub config: ConfigMap,
    /// The certificate, copied: a pod mounts Secrets of its own namespace only.
    pub transport: Secret,
    /// Syncer and writer may do nothing in Kubernetes.
    pub accounts: Vec<ServiceAccount>,
    /// The syncer's for the writer, and both for their status.
    pub services: Vec<Service>,
    /// Syncer and writer, as far as they belong into this cluster.
    pub deployments: Vec<Deployment>,
}

/// What a plan is made from.
pub struct Inputs<'a> {
    /// The link.
    pub link: &'a SyncLink,
    /// Its name.
    pub key: &'a LinkKey,
    /// What it joins.
    pub ends: &'a Ends,
    /// The IDC of the source, for scheduling.
    pub source: Option<&'a Idc>,
    /// The IDC of the target.
    pub target: Option<&'a Idc>,
    /// The certificate.
    pub certificate: BTreeMap<String, ByteString>,
    /// The installation.
    pub settings: &'a Settings,
    /// Which ends are made in this cluster.
    pub sides: Sides,
    /// Where the syncer is reached that runs in another cluster; without it no writer is planned.
    pub syncer_at: Option<String>,
}

/// The settings as both ends read them.
pub fn config(link: &SyncLink, key: &LinkKey, ends: &Ends) -> LinkConfig {
    let LinkOptions {
        tables,
        snapshot,
        transport: _,
        kafka: _,
        compression,
        apply,
        conflicts,
        ddl,
        relay,
        classes: _,
    } = &link.spec.options;
    let end = |member: &crds::Member| LinkEnd {
        idc: member.idc.clone(),
        endpoint: member.endpoint.document(),
    };
    let routes = tables.routes.iter();
    LinkConfig {
        link: key.clone(),
        unit: ends.unit.clone(),
        source: end(&ends.source),
        target: end(&ends.target),
        origins: ends.origins.clone(),
        databases: ends.databases.clone(),
        tables: TableSelection {
            include: tables.include.clone(),
            exclude: tables.exclude.clone(),
            routes: routes
                .map(|route| Route {
                    from: route.from.clone(),
                    to: route.to.clone(),
                })
                .collect(),
        },
        snapshot: SnapshotSettings {
            mode: match snapshot.mode {
                SnapshotMode::IfEmpty => model::SnapshotMode::IfEmpty,
                SnapshotMode::Always => model::SnapshotMode::Always,
                SnapshotMode::Never => model::SnapshotMode::Never,
            },
            chunk_bytes: snapshot.chunk_bytes.as_bytes(),
        },
        compression: match compression {
            Compression::None => model::Compression::None,
            // Lz4 is refused before anything is planned.
            Compression::Lz4 | Compression::Zstd => model::Compression::Zstd,
        },
        apply: ApplySettings {
            // Eventual is refused before anything is planned.
            consistency: model::Consistency::Transactional,
            max_rows: apply.batch.max_rows,
            linger_millis: apply.batch.linger.as_millis(),
        },
        ddl: match ddl {
            DdlPolicy::Apply => model::DdlPolicy::Apply,
            DdlPolicy::Ignore => model::DdlPolicy::Ignore,
            DdlPolicy::Halt => model::DdlPolicy::Halt,
        },
        relay: *relay,
        conflicts: match (conflicts, &ends.unit) {
            (Some(conflicts), _) => settings(conflicts, ends),
            (None, Some(_)) => ConflictSettings::default(),
            (None, None) => settings(&alone::conflicts(link), ends),
        },
    }
}

fn settings(conflicts: &crds::Conflicts, ends: &Ends) -> ConflictSettings {
    use crds::ConflictResolution as Asked;
    let (source_priority, target_priority) = (ends.source.priority, ends.target.priority);
    ConflictSettings {
        detect: match conflicts.detect {
            crds::ConflictDetection::Key => model::ConflictDetection::Key,
            crds::ConflictDetection::BeforeImage => model::ConflictDetection::BeforeImage,
        },
        resolve: match conflicts.resolve {
            Asked::Halt => ConflictResolution::Halt,
            Asked::Hold => ConflictResolution::Hold,
            Asked::SourceWins => ConflictResolution::SourceWins,
            Asked::TargetWins => ConflictResolution::TargetWins,
            Asked::LastWriteWins => ConflictResolution::LastWriteWins {
                // The CRD demands it; without one, no table has it, and the writer halts.
                column: conflicts.column.clone().unwrap_or_default(),
                source_priority,
                target_priority,
            },
            Asked::Delta => ConflictResolution::Delta {
                counters: conflicts.counters.clone(),
            },
            Asked::IdcPriority => ConflictResolution::IdcPriority {
                source_priority,
                target_priority,
            },
        },
        // Of a Unit's members one takes writes at a time.
        both_write: false,
    }
}

/// Plans a link.
pub fn plan(inputs: &Inputs<'_>) -> Result<LinkPlan, serde_json::Error> {
    let names = Names::of(inputs.key.name());
    let config = config(inputs.link, inputs.key, inputs.ends);
    let config = serde_json::to_string_pretty(&config)?;
    let syncer = part(inputs, "syncer", &names.syncer);
    let writer = part(inputs, "writer", &names.writer);
    let images = &inputs.settings.images;
    let annotations = BTreeMap::from([(
        // Both ends read the file once, so other settings mean other pods.
        "multiactive.dev/config".to_owned(),
        hash(&json!(config)),
    )]);
    let source = Side {
        names: &names,
        member: &inputs.ends.source,
        idc: inputs.source,
        annotations: annotations.clone(),
        replicas: i32::from(!inputs.link.spec.suspended),
    };
    let target = Side {
        member: &inputs.ends.target,
        idc: inputs.target,
        annotations,
        ..source.clone()
    };
    let (mut accounts, mut services) = (Vec::new(), Vec::new());
    let mut deployments = Vec::new();
    if inputs.sides.syncer {
        accounts.push(syncer.account());
        services.push(syncer.service(&[("http", STATUS_PORT), ("transport", SERVE_PORT)]));
        services.extend(reach(inputs, &syncer, &names));
        deployments.push(syncer.deployment(source.syncer(&images.syncer), images));
    }
    if inputs.sides.writer {
        accounts.push(writer.account());
        services.push(writer.service(&[("http", STATUS_PORT)]));
        let at = syncer_address(inputs, &names);
        deployments
            .extend(at.map(|at| writer.deployment(target.writer(&images.writer, &at), images)));
    }
    Ok(LinkPlan {
        config: ConfigMap {
            metadata: syncer_like(inputs).metadata(&names.config),
            data: Some(BTreeMap::from([("link.json".to_owned(), config)])),
            ..ConfigMap::default()
        },
        transport: Secret {
            metadata: syncer_like(inputs).metadata(&names.transport),
            data: Some(inputs.certificate.clone()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        },
        accounts,
        services,
        deployments,
    })
}

/// Where the writer finds its syncer: at its Service, where both are in one cluster.
fn syncer_address(inputs: &Inputs<'_>, names: &Names) -> Option<String> {
    if inputs.sides.syncer {
        let namespace = inputs.key.namespace();
        return Some(format!("{}.{namespace}.svc:{SERVE_PORT}", names.syncer));
    }
    inputs.syncer_at.clone()
}

/// The Service at which another cluster reaches the syncer, with no port but the links': what it
/// serves asks for a certificate of theirs. None where pods are reached by their own addresses.
fn reach(inputs: &Inputs<'_>, syncer: &Part, names: &Names) -> Option<Service> {
    let settings = inputs.settings;
    let balanced = settings.syncer_service == SyncerService::LoadBalancer;
    if settings.idc.is_none() || !balanced {
        return None;
    }
    let mut service = syncer.service(&[("transport", SERVE_PORT)]);
    service.metadata.name = Some(names.reach.clone());
    let annotations = settings.syncer_annotations.clone();
    service.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    if let Some(spec) = &mut service.spec {
        spec.type_ = Some("LoadBalancer".to_owned());
    }
    Some(service)
}

fn part(inputs: &Inputs<'_>, component: &'static str, name: &str) -> Part {
    let mut all = labels([("multiactive.dev/link", inputs.key.name())]);
    if let Some(unit) = &inputs.ends.unit {
        all.extend(labels([("multiactive.dev/unit", unit.name())]));
    }
    Part {
        component,
        name: name.to_owned(),
        namespace: inputs.key.namespace().to_owned(),
        owner: owner(inputs.link),
        labels: all,
    }
}

/// What belongs to both ends.
fn syncer_like(inputs: &Inputs<'_>) -> Part {
    part(inputs, "link", inputs.key.name())
}

/// One end of a link.
#[derive(Clone)]
struct Side<'a> {
    names: &'a Names,
    member: &'a crds::Member,
    idc: Option<&'a Idc>,
    annotations: BTreeMap<String, String>,
    replicas: i32,
}

impl Side<'_> {
    fn syncer(&self, image: &str) -> Program {
        let mut program = self.program(image, needs("100m", "64Mi", "512Mi"));
        program.args.push(format!("--serve=0.0.0.0:{SERVE_PORT}"));
        program.ports.push(("transport", SERVE_PORT));
        program
    }

    fn writer(&self, image: &str, syncer: &str) -> Program {
        let mut program = self.program(image, needs("100m", "64Mi", "512Mi"));
        program.args.push(format!("--syncer={syncer}"));
        program
    }

    fn program(
        &self,
        image: &str,
        resources: k8s_openapi::api::core::v1::ResourceRequirements,
    ) -> Program {
        let scheduling = self
            .idc
            .and_then(|idc| idc.spec.scheduling.clone())
            .unwrap_or_default();
        Program {
            image: image.to_owned(),
            args: vec![
                format!("--link={MOUNTS}/link/link.json"),
                format!("--credentials={MOUNTS}/credentials"),
                format!("--tls={MOUNTS}/tls"),
            ],
            env: Vec::new(),
            ports: vec![("http", STATUS_PORT)],
            files: vec![
                mounted(config_volume(&self.names.config), "link"),
                mounted(
                    credentials_volume(&self.member.credentials_secret, &self.member.endpoint),
                    "credentials",
                ),
                mounted(secret_volume(&self.names.transport), "tls"),
            ],
            annotations: self.annotations.clone(),
            node_selector: scheduling.node_selector,
            resources,
            replicas: self.replicas,
            grace: 30,
        }
    }
}

/// A `ConfigMap` as a volume.
pub fn config_volume(name: &str) -> Volume {
    Volume {
        config_map: Some(ConfigMapVolumeSource {
            name: name.to_owned(),
            default_mode: Some(0o440),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The account, and beside it the CA from another Secret where the endpoint names one.
pub fn credentials_volume(account: &str, endpoint: &Endpoint) -> Volume {
    let projection = |secret: &str, keys: &[&str]| VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(
                keys.iter()
                    .map(|key| KeyToPath {
                        key: (*key).to_owned(),
                        path: (*key).to_owned(),
                        mode: None,
                    })
                    .collect(),
            ),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let mut sources = vec![projection(account, &["username", "password"])];
    if let Some(ca) = &endpoint.tls.ca_secret {
        sources.push(projection(ca, &["ca.crt"]));
    }
    Volume {
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            default_mode: Some(0o440),
        }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, assert_snapshot};

    fn with_link<T>(link: &SyncLink, look: impl FnOnce(LinkPlan) -> T) -> T {
        look(planned(link, None, None))
    }

    fn planned(link: &SyncLink, here: Option<&str>, syncer_at: Option<&str>) -> LinkPlan {
        let unit = samples::unit();
        let settings = Settings {
            idc: here.map(samples::idc_name),
            ..samples::settings()
        };
        let (source, target) = (samples::idc("sh"), samples::idc("bj"));
        let inputs = Inputs {
            link,
            key: &LinkKey::new("shop", "orders-sh-bj").unwrap(),
            ends: &Ends::of_unit(
                samples::key(),
                &unit,
                &unit.spec.members[0],
                &unit.spec.members[1],
            ),
            source: Some(&source),
            target: Some(&target),
            certificate: BTreeMap::from([("tls.key".to_owned(), ByteString(b"key".to_vec()))]),
            settings: &settings,
            sides: Sides {
                syncer: settings.here(&samples::idc_name("sh")),
                writer: settings.here(&samples::idc_name("bj")),
                target: Some(samples::idc_name("bj")),
            },
            syncer_at: syncer_at.map(str::to_owned),
        };
        plan(&inputs).unwrap()
    }

    #[test]
    fn each_cluster_makes_its_own_end() {
        let deployments = |plan: &LinkPlan| -> Vec<String> {
            let names = plan.deployments.iter().map(|it| it.metadata.name.clone());
            names.flatten().collect()
        };
        let source = planned(&samples::link(), Some("sh"), None);
        assert_eq!(deployments(&source), ["orders-sh-bj-syncer"]);
        let reach = source.services[1].spec.as_ref().unwrap();
        assert_eq!(reach.type_.as_deref(), Some("LoadBalancer"));
        assert_eq!(
            reach.ports.as_ref().unwrap().len(),
            1,
            "no status to others"
        );
        let unknown = planned(&samples::link(), Some("bj"), None);
        assert_eq!(deployments(&unknown), Vec::<String>::new());
        let target = planned(&samples::link(), Some("bj"), Some("192.0.2.9:7443"));
        assert_eq!(deployments(&target), ["orders-sh-bj-writer"]);
        let text = serde_json::to_string(&target.deployments).unwrap();
        assert!(text.contains("--syncer=192.0.2.9:7443"), "{text}");
    }

    #[test]
    fn a_link_as_it_is_applied() {
        with_link(&samples::link(), |plan| {
            let LinkPlan {
                config,
                transport,
                accounts,
                services,
                deployments,
            } = plan;
            assert_snapshot("link-deployments", &deployments);
            assert_snapshot("link-others", &(config, transport, accounts, services));
        });
    }

    #[test]
    fn what_becomes_of_conflicts_is_told_to_the_writer() {
        let mut link = samples::link();
        link.spec.options.conflicts = Some(crds::Conflicts {
            detect: crds::ConflictDetection::BeforeImage,
            resolve: crds::ConflictResolution::SourceWins,
            column: None,
            counters: Vec::new(),
        });
        with_link(&link, |plan| {
            let text = serde_json::to_string(&plan.config).unwrap();
            let told = r#"\"detect\": \"BeforeImage\",\n    \"resolve\": \"SourceWins\""#;
            assert!(text.contains(told), "{text}");
        });
    }

    #[test]
    fn a_suspended_link_has_no_pods_and_the_same_settings() {
        let mut suspended = samples::link();
        suspended.spec.suspended = true;
        let running = with_link(&samples::link(), |plan| plan);
        let stopped = with_link(&suspended, |plan| plan);
        assert_eq!(running.config, stopped.config);
        for deployment in stopped.deployments {
            assert_eq!(deployment.spec.unwrap().replicas, Some(0));
        }
    }

    #[test]
    fn other_settings_replace_the_pods() {
        let mut other = samples::link();
        other.spec.options.apply.batch.max_rows = 7;
        let annotations = |plan: LinkPlan| {
            plan.deployments
                .into_iter()
                .map(|deployment| {
                    deployment
                        .spec
                        .unwrap()
                        .template
                        .metadata
                        .unwrap()
                        .annotations
                        .unwrap()
                })
                .collect::<Vec<_>>()
        };
        let before = with_link(&samples::link(), annotations);
        assert_ne!(before, with_link(&other, annotations));
        assert_eq!(before, with_link(&samples::link(), annotations));
    }
}
