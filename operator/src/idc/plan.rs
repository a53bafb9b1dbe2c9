//! What an Idc's arbiter consists of: a pure function of what was observed.

use std::collections::BTreeMap;

use crds::Idc;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use model::IdcName;

use super::credentials::Credentials;
use crate::options::Settings;
use crate::resources::{
    MOUNTS, Part, Program, STATUS_PORT, labels, mounted, needs, optional, owner, pod_field,
    secret_volume,
};

/// Where arbiters ask each other for promises.
const PROMISES_PORT: i32 = 7443;

/// The name of an IDC's arbiter, and of what belongs to it.
pub fn arbiter_name(idc: &IdcName) -> String {
    format!("arbiter-{idc}")
}

/// The Secret with the accounts of an IDC's members.
pub fn secret_name(idc: &IdcName) -> String {
    format!("arbiter-{idc}-credentials")
}

/// Everything that is made for an Idc.
#[derive(Debug, Clone, PartialEq)]
pub struct IdcPlan {
    /// The arbiter's account, which may do nothing.
    pub account: ServiceAccount,
    /// The accounts of its members.
    pub secret: Secret,
    /// Where its status is asked.
    pub service: Service,
    /// The arbiter.
    pub deployment: Deployment,
}

/// Plans an Idc. The pod's template does not depend on the accounts, so that a changed password
/// arrives in the mounted directory of the running arbiter and restarts nothing.
pub fn plan(idc: &Idc, name: &IdcName, settings: &Settings, credentials: &Credentials) -> IdcPlan {
    let part = Part {
        component: "arbiter",
        name: arbiter_name(name),
        namespace: settings.namespace.clone(),
        owner: owner(idc),
        labels: labels([("multiactive.dev/idc", name.as_str())]),
    };
    IdcPlan {
        account: part.account(),
        secret: Secret {
            metadata: part.metadata(&secret_name(name)),
            data: Some(credentials.clone()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        },
        service: part.service(&[("http", STATUS_PORT)]),
        deployment: part.deployment(program(idc, name, settings), &settings.images),
    }
}

fn program(idc: &Idc, name: &IdcName, settings: &Settings) -> Program {
    let mut args = vec![
        format!("--idc={name}"),
        format!("--etcd-endpoints={}", settings.etcd_endpoints.join(",")),
        format!("--etcd-prefix={}", settings.etcd_prefix),
        // Whole seconds, which is what etcd's leases are made of.
        format!(
            "--lease-duration={}s",
            settings.lease_duration.as_millis() / 1000
        ),
        format!("--credentials={MOUNTS}/credentials"),
        "--holder=$(POD_NAME)".to_owned(),
        format!("--address=$(POD_IP):{STATUS_PORT}"),
        format!("--serve=0.0.0.0:{PROMISES_PORT}"),
        format!("--tls={MOUNTS}/tls"),
    ];
    let mut files = vec![
        mounted(secret_volume(&secret_name(name)), "credentials"),
        // An arbiter without certificates does everything but give and get promises.
        mounted(optional(secret_volume(&settings.transport_secret)), "tls"),
    ];
    if let Some(secret) = &settings.etcd_tls_secret {
        args.push(format!("--etcd-tls={MOUNTS}/etcd"));
        files.push(mounted(secret_volume(secret), "etcd"));
    }
    let scheduling = idc.spec.scheduling.clone().unwrap_or_default();
    Program {
        image: settings.images.arbiter.clone(),
        args,
        env: vec![
            pod_field("POD_NAME", "metadata.name"),
            pod_field("POD_IP", "status.podIP"),
        ],
        ports: vec![("http", STATUS_PORT), ("promises", PROMISES_PORT)],
        files,
        annotations: BTreeMap::new(),
        node_selector: scheduling.node_selector,
        resources: needs("50m", "48Mi", "256Mi"),
        replicas: settings.arbiter_replicas,
        // Nothing is fenced at the end: the session is yielded to the standby.
        grace: 30,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::samples::{assert_snapshot, idc, idc_name, settings};

    #[test]
    fn an_arbiter_as_it_is_applied() {
        let files = BTreeMap::from([("shop.orders.sh".to_owned(), ByteString(b"{}".to_vec()))]);
        let plan = plan(&idc("sh"), &idc_name("sh"), &settings(), &files);
        assert_snapshot("arbiter-deployment", &plan.deployment);
        assert_snapshot(
            "arbiter-others",
            &(&plan.account, &plan.secret, &plan.service),
        );
    }

    #[test]
    fn changed_accounts_restart_nothing() {
        let with = |content: &[u8]| {
            let file = ("shop.orders.sh".to_owned(), ByteString(content.to_vec()));
            plan(
                &idc("sh"),
                &idc_name("sh"),
                &settings(),
                &BTreeMap::from([file]),
            )
        };
        let (one, other) = (with(b"1"), with(b"2"));
        assert_ne!(one.secret, other.secret);
        assert_eq!(one.deployment, other.deployment);
    }
}
