//! What compares one link of a `DataRepair`: a pure function of what was observed.

use std::collections::BTreeMap;

use crds::{DataRepair, Idc, RepairMode, RepairStrategy, SyncLink};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::ResourceExt;
use model::{LinkKey, RepairConfig, RepairControl, Throttle, UnitKey, Winner};
use serde_json::json;

use crate::covers::hash;
use crate::link::{self, Ends};
use crate::options::Settings;
use crate::resources::{MOUNTS, Part, Program, STATUS_PORT, labels, mounted, needs, owner};

/// Everything that is made for one link.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerPlan {
    /// The link's settings, and the run's.
    pub config: ConfigMap,
    /// It may do nothing in Kubernetes.
    pub account: ServiceAccount,
    /// For its status.
    pub service: Service,
    /// One pod, which goes on telling how it ended until that is written down.
    pub deployment: Deployment,
}

/// What a plan is made from.
pub struct Inputs<'a> {
    /// The request.
    pub repair: &'a DataRepair,
    /// The run's name.
    pub run: &'a str,
    /// What a person wants of it.
    pub control: RepairControl,
    /// The link.
    pub link: &'a SyncLink,
    /// Its name.
    pub key: &'a LinkKey,
    /// The Unit's name.
    pub unit: &'a UnitKey,
    /// What the link joins.
    pub ends: Ends,
    /// The IDC of the target, for scheduling.
    pub target: Option<&'a Idc>,
    /// The installation.
    pub settings: &'a Settings,
}

/// The run's settings. A strategy that is not built is refused before.
fn config(repair: &DataRepair, run: &str, control: RepairControl) -> RepairConfig {
    let spec = &repair.spec;
    RepairConfig {
        run: run.to_owned(),
        mode: match spec.mode {
            RepairMode::Verify => model::RepairMode::Verify,
            RepairMode::Repair => model::RepairMode::Repair,
            RepairMode::Undo => model::RepairMode::Undo,
            RepairMode::Rebuild => model::RepairMode::Rebuild,
        },
        winner: match spec.strategy {
            // Only links from the primary are compared.
            None | Some(RepairStrategy::Primary | RepairStrategy::SourceWins) => Winner::Source,
            Some(RepairStrategy::Hold | RepairStrategy::TargetWins) => Winner::Hold,
        },
        tables: spec.tables.clone(),
        max_batch_bytes: spec.max_batch_size.as_bytes(),
        consistency_timeout_millis: spec.consistency_timeout.as_millis(),
        row_quota: spec.row_quota,
        dry_run: spec.dry_run,
        throttle: Throttle {
            share: f64::from(spec.throttle.percent) / 100.0,
            max_lag_millis: spec.throttle.max_lag.as_millis(),
            max_threads_running: spec.throttle.max_threads_running,
        },
        control,
    }
}

/// Plans the worker of one link.
pub fn plan(inputs: &Inputs<'_>) -> Result<WorkerPlan, serde_json::Error> {
    let name = crds::names::repair_worker(&inputs.repair.name_any(), inputs.key.name());
    let part = Part {
        component: "repair",
        name: name.clone(),
        namespace: inputs.key.namespace().to_owned(),
        owner: owner(inputs.repair),
        labels: labels([
            ("multiactive.dev/unit", inputs.unit.name()),
            ("multiactive.dev/link", inputs.key.name()),
        ]),
    };
    let link = link::config(inputs.link, inputs.key, &inputs.ends);
    let files = BTreeMap::from([
        ("link.json".to_owned(), serde_json::to_string_pretty(&link)?),
        (
            "repair.json".to_owned(),
            serde_json::to_string_pretty(&config(inputs.repair, inputs.run, inputs.control))?,
        ),
    ]);
    let images = &inputs.settings.images;
    // The files are read once, so other settings, also a pause, mean another pod; it goes on where
    // the one before was. A name for each content keeps a node that still has the files of before
    // from giving them to it.
    let settings = format!("{name}-{}", hash(&json!(files)));
    let program = program(inputs, &settings, &images.repair);
    Ok(WorkerPlan {
        config: ConfigMap {
            metadata: part.metadata(&settings),
            data: Some(files),
            ..ConfigMap::default()
        },
        account: part.account(),
        service: part.service(&[("http", STATUS_PORT)]),
        deployment: part.deployment(program, images),
    })
}

fn program(inputs: &Inputs<'_>, settings: &str, image: &str) -> Program {
    let Ends { source, target, .. } = &inputs.ends;
    let account = |member: &crds::Member| {
        link::credentials_volume(&member.credentials_secret, &member.endpoint)
    };
    let scheduling = inputs
        .target
        .and_then(|idc| idc.spec.scheduling.clone())
        .unwrap_or_default();
    Program {
        image: image.to_owned(),
        args: vec![
            format!("--link={MOUNTS}/settings/link.json"),
            format!("--repair={MOUNTS}/settings/repair.json"),
            format!("--source-credentials={MOUNTS}/source"),
            format!("--target-credentials={MOUNTS}/target"),
        ],
        env: Vec::new(),
        ports: vec![("http", STATUS_PORT)],
        files: vec![
            mounted(link::config_volume(settings), "settings"),
            mounted(account(source), "source"),
            mounted(account(target), "target"),
        ],
        annotations: BTreeMap::new(),
        node_selector: scheduling.node_selector,
        resources: needs("100m", "64Mi", "512Mi"),
        replicas: 1,
        grace: 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, assert_snapshot};

    fn planned(spec: &str, control: RepairControl) -> WorkerPlan {
        let repair: DataRepair = samples::object(&format!(
            "{{apiVersion: multiactive.dev/v1alpha1, kind: DataRepair,\
              metadata: {{name: nightly, namespace: shop}}, spec: {{link: orders-sh-bj, {spec}}}}}"
        ));
        let unit = samples::unit();
        plan(&Inputs {
            repair: &repair,
            run: "nightly/uid-1",
            control,
            link: &samples::link(),
            key: &LinkKey::new("shop", "orders-sh-bj").unwrap(),
            unit: &samples::key(),
            ends: Ends::of_unit(
                samples::key(),
                &unit,
                &unit.spec.members[0],
                &unit.spec.members[1],
            ),
            target: Some(&samples::idc("bj")),
            settings: &samples::settings(),
        })
        .unwrap()
    }

    fn settings(plan: &WorkerPlan) -> RepairConfig {
        serde_json::from_str(&plan.config.data.as_ref().unwrap()["repair.json"]).unwrap()
    }

    #[test]
    fn a_worker_as_it_is_applied() {
        let WorkerPlan {
            config,
            account,
            service,
            deployment,
        } = planned("mode: Verify", RepairControl::Run);
        assert_snapshot("repair-worker", &(config, account, service, deployment));
    }

    #[test]
    fn everything_that_is_wanted_is_carried_over() {
        let plan = planned(
            "mode: Repair, strategy: Hold, tables: ['orders.a*'], maxBatchSize: 2MiB, \
             consistencyTimeout: 7s, rowQuota: 12, dryRun: true, \
             throttle: {percent: 20, maxLag: 3s, maxThreadsRunning: 9}",
            RepairControl::Pause,
        );
        assert_eq!(
            settings(&plan),
            RepairConfig {
                run: "nightly/uid-1".to_owned(),
                mode: model::RepairMode::Repair,
                winner: Winner::Hold,
                tables: vec!["orders.a*".to_owned()],
                max_batch_bytes: 2 << 20,
                consistency_timeout_millis: 7_000,
                row_quota: 12,
                dry_run: true,
                throttle: Throttle {
                    share: 0.2,
                    max_lag_millis: 3_000,
                    max_threads_running: 9,
                },
                control: RepairControl::Pause,
            }
        );
        for (strategy, winner) in [("Primary", Winner::Source), ("SourceWins", Winner::Source)] {
            let plan = planned(
                &format!("mode: Repair, strategy: {strategy}"),
                RepairControl::Run,
            );
            assert_eq!(settings(&plan).winner, winner);
        }
    }

    #[test]
    fn a_pause_is_another_pod_and_nothing_else_is() {
        let pods = |control| {
            let deployment = planned("mode: Verify", control).deployment;
            deployment.spec.unwrap().template
        };
        let runs = pods(RepairControl::Run);
        assert_eq!(runs, pods(RepairControl::Run));
        assert_ne!(runs, pods(RepairControl::Pause));
    }
}
