//! What all objects that the operator makes have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, Service, ServiceAccount, ServicePort, ServiceSpec, Volume,
    VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use crate::options::Images;

/// The label that tells our objects.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "multiactive");
/// The port of every process's HTTP endpoint.
pub const STATUS_PORT: i32 = 8080;
/// The user that the images run as.
const USER: i64 = 65532;
/// Where files are mounted.
pub const MOUNTS: &str = "/etc/multiactive";

/// Which process an object is for, and of what.
#[derive(Debug, Clone)]
pub struct Part {
    /// The process: arbiter, syncer, writer.
    pub component: &'static str,
    /// The object's name, and the value of its label `instance`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whom it is made for.
    pub owner: OwnerReference,
    /// More labels.
    pub labels: BTreeMap<String, String>,
}

impl Part {
    /// Labels by which pods are selected.
    pub fn selector(&self) -> BTreeMap<String, String> {
        labels([
            ("app.kubernetes.io/name", "multiactive"),
            ("app.kubernetes.io/component", self.component),
            ("app.kubernetes.io/instance", &self.name),
        ])
    }

    fn all_labels(&self) -> BTreeMap<String, String> {
        let mut all = self.selector();
        all.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        all.extend(self.labels.clone());
        all
    }

    /// Metadata of an object of this part, under a name of its own.
    pub fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.all_labels()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// An account that may do nothing.
    pub fn account(&self) -> ServiceAccount {
        ServiceAccount {
            metadata: self.metadata(&self.name),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    }

    /// A Service in front of the pod, also while it is not ready: its status tells why.
    pub fn service(&self, ports: &[(&str, i32)]) -> Service {
        let ports = ports.iter().map(|(name, port)| ServicePort {
            name: Some((*name).to_owned()),
            port: *port,
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::String((*name).to_owned())),
            ..ServicePort::default()
        });
        Service {
            metadata: self.metadata(&self.name),
            spec: Some(ServiceSpec {
                selector: Some(self.selector()),
                ports: Some(ports.collect()),
                publish_not_ready_addresses: Some(true),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    /// On different nodes, where there are several.
    fn apart(&self) -> Affinity {
        let term = WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: PodAffinityTerm {
                topology_key: "kubernetes.io/hostname".to_owned(),
                label_selector: Some(LabelSelector {
                    match_labels: Some(self.selector()),
                    ..LabelSelector::default()
                }),
                ..PodAffinityTerm::default()
            },
        };
        Affinity {
            pod_anti_affinity: Some(PodAntiAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(vec![term]),
                ..PodAntiAffinity::default()
            }),
            ..Affinity::default()
        }
    }

    /// A Deployment under the restricted pod security standard.
    pub fn deployment(&self, program: Program, images: &Images) -> Deployment {
        let Program {
            image,
            args,
            env,
            ports,
            files,
            annotations,
            node_selector,
            resources,
            replicas,
            grace,
        } = program;
        let (mounts, volumes): (Vec<VolumeMount>, Vec<Volume>) = files.into_iter().unzip();
        let container = Container {
            name: self.component.to_owned(),
            image: Some(image),
            image_pull_policy: Some(images.pull_policy.clone()),
            args: Some(args),
            env: Some(env),
            ports: Some(ports.into_iter().map(container_port).collect()),
            liveness_probe: Some(probe("/healthz", 10)),
            readiness_probe: Some(probe("/readyz", 2)),
            resources: Some(resources),
            security_context: Some(restricted_container()),
            volume_mounts: Some(mounts),
            ..Container::default()
        };
        let pod = PodSpec {
            service_account_name: Some(self.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(restricted_pod()),
            node_selector: (!node_selector.is_empty()).then_some(node_selector),
            affinity: (replicas > 1).then(|| self.apart()),
            image_pull_secrets: pull_secrets(images),
            termination_grace_period_seconds: Some(grace),
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        };
        Deployment {
            metadata: self.metadata(&self.name),
            spec: Some(DeploymentSpec {
                replicas: Some(replicas),
                revision_history_limit: Some(3),
                strategy: Some(strategy(replicas)),
                selector: LabelSelector {
                    match_labels: Some(self.selector()),
                    ..LabelSelector::default()
                },
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(self.all_labels()),
                        annotations: (!annotations.is_empty()).then_some(annotations),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(pod),
                },
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }
}

/// A part of one pod is ended before the next one starts: two would only contend for the same
/// checkpoint. One that has a standby starts the new pod first.
fn strategy(replicas: i32) -> DeploymentStrategy {
    if replicas <= 1 {
        return DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            ..DeploymentStrategy::default()
        };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

/// What runs in a pod.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its image.
    pub image: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// Its ports by name.
    pub ports: Vec<(&'static str, i32)>,
    /// What is mounted.
    pub files: Vec<(VolumeMount, Volume)>,
    /// Annotations of the pod: a change replaces it.
    pub annotations: BTreeMap<String, String>,
    /// Where it may run.
    pub node_selector: BTreeMap<String, String>,
    /// What it needs.
    pub resources: ResourceRequirements,
    /// How many pods: 0 while suspended, more than 1 where one stands by.
    pub replicas: i32,
    /// How long it may take to end, in seconds.
    pub grace: i64,
}

/// Labels from pairs.
pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A reference to the custom resource that something is made for: with it, what was made goes.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What a process asks for, and the memory it is held to.
pub fn needs(cpu: &str, memory: &str, memory_limit: &str) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), quantity(cpu)),
            ("memory".to_owned(), quantity(memory)),
        ])),
        limits: Some(BTreeMap::from([(
            "memory".to_owned(),
            quantity(memory_limit),
        )])),
        ..ResourceRequirements::default()
    }
}

/// A volume mounted read-only below [`MOUNTS`]. The whole directory is mounted, not single files,
/// so that changes of the source arrive in running pods.
pub fn mounted(mut volume: Volume, name: &str) -> (VolumeMount, Volume) {
    name.clone_into(&mut volume.name);
    let mount = VolumeMount {
        name: name.to_owned(),
        mount_path: format!("{MOUNTS}/{name}"),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    (mount, volume)
}

/// A Secret as a volume that only the process's group can read.
pub fn secret_volume(name: &str) -> Volume {
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A Secret that may come later, or never: the pod starts without it.
pub fn optional(mut volume: Volume) -> Volume {
    if let Some(secret) = &mut volume.secret {
        secret.optional = Some(true);
    }
    volume
}

/// An environment variable with a field of the pod.
pub fn pod_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn container_port((name, port): (&'static str, i32)) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(3),
        ..Probe::default()
    }
}

fn restricted_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

fn restricted_pod() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        // Mounted Secrets are readable for this group only.
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn pull_secrets(images: &Images) -> Option<Vec<LocalObjectReference>> {
    let secrets = images.pull_secrets.iter();
    let references: Vec<_> = secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!references.is_empty()).then_some(references)
}
