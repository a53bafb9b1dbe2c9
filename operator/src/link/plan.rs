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
    ApplySettings, LinkConfig, LinkEnd, LinkKey, Route, SnapshotSettings, TableSelection, UnitKey,
};
use serde_json::json;

use super::validate::Ends;
use crate::covers::hash;
use crate::options::Settings;
use crate::resources::{
    MOUNTS, Part, Program, STATUS_PORT, labels, mounted, needs, owner, secret_volume,
};

/// The port on which a syncer serves its writer.
const SERVE_PORT: i32 = 7443;

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
}

impl Names {
    /// Of the link of this name.
    pub fn of(link: &str) -> Self {
        Self {
            syncer: format!("{link}-syncer"),
            writer: format!("{link}-writer"),
            config: format!("{link}-link"),
            transport: format!("{link}-transport"),
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
    pub accounts: [ServiceAccount; 2],
    /// The syncer's for the writer, and both for their status.
    pub services: [Service; 2],
    /// Syncer and writer.
    pub deployments: [Deployment; 2],
}

/// What a plan is made from.
pub struct Inputs<'a> {
    /// The link.
    pub link: &'a SyncLink,
    /// Its name.
    pub key: &'a LinkKey,
    /// The Unit's name.
    pub unit: &'a UnitKey,
    /// What it joins.
    pub ends: Ends<'a>,
    /// The IDC of the source, for scheduling.
    pub source: Option<&'a Idc>,
    /// The IDC of the target.
    pub target: Option<&'a Idc>,
    /// The certificate.
    pub certificate: BTreeMap<String, ByteString>,
    /// The installation.
    pub settings: &'a Settings,
}

/// The settings as both ends read them.
pub fn config(inputs: &Inputs<'_>) -> LinkConfig {
    let LinkOptions {
        tables,
        snapshot,
        transport: _,
        kafka: _,
        compression,
        apply,
        conflicts: _,
        ddl,
        relay,
        classes: _,
    } = &inputs.link.spec.options;
    let spec = &inputs.ends.unit.spec;
    let end = |member: &crds::Member| LinkEnd {
        idc: member.idc.clone(),
        endpoint: member.endpoint.document(),
    };
    let routes = tables.routes.iter();
    LinkConfig {
        link: inputs.key.clone(),
        unit: inputs.unit.clone(),
        source: end(inputs.ends.source),
        target: end(inputs.ends.target),
        origins: spec
            .members
            .iter()
            .map(|member| member.idc.clone())
            .collect(),
        databases: spec.databases.clone(),
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
    }
}

/// Plans a link.
pub fn plan(inputs: &Inputs<'_>) -> Result<LinkPlan, serde_json::Error> {
    let names = Names::of(inputs.key.name());
    let config = serde_json::to_string_pretty(&config(inputs))?;
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
        member: inputs.ends.source,
        idc: inputs.source,
        annotations: annotations.clone(),
        replicas: i32::from(!inputs.link.spec.suspended),
    };
    let target = Side {
        member: inputs.ends.target,
        idc: inputs.target,
        annotations,
        ..source.clone()
    };
    let deployments = [
        syncer.deployment(source.syncer(&images.syncer), images),
        writer.deployment(target.writer(&images.writer, inputs.key), images),
    ];
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
        accounts: [syncer.account(), writer.account()],
        services: [
            syncer.service(&[("http", STATUS_PORT), ("transport", SERVE_PORT)]),
            writer.service(&[("http", STATUS_PORT)]),
        ],
        deployments,
    })
}

fn part(inputs: &Inputs<'_>, component: &'static str, name: &str) -> Part {
    Part {
        component,
        name: name.to_owned(),
        namespace: inputs.key.namespace().to_owned(),
        owner: owner(inputs.link),
        labels: labels([
            ("multiactive.dev/unit", inputs.unit.name()),
            ("multiactive.dev/link", inputs.key.name()),
        ]),
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

    fn writer(&self, image: &str, link: &LinkKey) -> Program {
        let mut program = self.program(image, needs("100m", "64Mi", "512Mi"));
        let (syncer, namespace) = (&self.names.syncer, link.namespace());
        program
            .args
            .push(format!("--syncer={syncer}.{namespace}.svc:{SERVE_PORT}"));
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

fn config_volume(name: &str) -> Volume {
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
fn credentials_volume(account: &str, endpoint: &Endpoint) -> Volume {
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
        let (unit, settings) = (samples::unit(), samples::settings());
        let (source, target) = (samples::idc("sh"), samples::idc("bj"));
        let inputs = Inputs {
            link,
            key: &LinkKey::new("shop", "orders-sh-bj").unwrap(),
            unit: &samples::key(),
            ends: Ends {
                unit: &unit,
                source: &unit.spec.members[0],
                target: &unit.spec.members[1],
            },
            source: Some(&source),
            target: Some(&target),
            certificate: BTreeMap::from([("tls.key".to_owned(), ByteString(b"key".to_vec()))]),
            settings: &settings,
        };
        look(plan(&inputs).unwrap())
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
            plan.deployments.map(|deployment| {
                deployment
                    .spec
                    .unwrap()
                    .template
                    .metadata
                    .unwrap()
                    .annotations
                    .unwrap()
            })
        };
        let before = with_link(&samples::link(), annotations);
        assert_ne!(before, with_link(&other, annotations));
        assert_eq!(before, with_link(&samples::link(), annotations));
    }
}
