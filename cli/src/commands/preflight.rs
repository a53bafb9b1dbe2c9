//! `preflight`: gathers Units and credentials, looks at the real databases, changes nothing.

use std::io::Read;
use std::path::Path;

use crds::Unit;
use futures::future::join_all;
use kube::ResourceExt;
use model::{Credentials, Finding, UnitKey};
use mysql::session::{Program, SessionOptions};

use super::Context;
use crate::args::PreflightArgs;
use crate::backend::{KubeBackend, Scope};
use crate::failure::{Exit, Failure};
use crate::preflight::{
    self, Manifest, MemberReport, Report, SecretSource, UnitReport, credentials, inspect,
};

/// The cluster, or why it could not be asked.
pub(super) type Cluster = Result<KubeBackend, Failure>;

pub(super) async fn run(context: &Context, args: &PreflightArgs) -> Result<Exit, Failure> {
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    let wanted = args
        .unit
        .as_ref()
        .map(|unit| super::key(unit, &namespace))
        .transpose()?;
    let mut manifest = Manifest::default();
    for file in &args.filename {
        manifest.add(&file.display().to_string(), &read(file)?, &namespace)?;
    }
    let cluster = KubeBackend::connect(&context.kube, &context.call).await;
    let (units, others) = if args.filename.is_empty() {
        let scope = match (wanted, args.all_namespaces) {
            (Some(unit), _) => Scope::Unit(unit),
            (None, true) => Scope::All,
            (None, false) => Scope::Namespace(namespace),
        };
        from_cluster(&cluster, &scope).await?
    } else {
        let others = match &cluster {
            Ok(cluster) => cluster.units(&Scope::All).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        (from_manifest(&manifest, wanted.as_ref())?, others)
    };
    if units.is_empty() {
        let place = if args.filename.is_empty() {
            "the cluster"
        } else {
            "the manifest"
        };
        return Err(Failure::failed(
            "nothing was checked",
            format!("there is no Unit in {place} here"),
        )
        .next(context.call.own("status -A")));
    }
    let report = report(&units, &others, &manifest, &cluster).await;
    let names = || {
        let failed = report.units.iter().filter(|unit| unit.blocks());
        failed
            .map(|unit| format!("unit.multiactive.dev/{}", unit.unit.name()))
            .collect()
    };
    super::show(
        args.output.output,
        &report,
        |_| preflight::render(&report, context.out),
        names,
    )?;
    Ok(if report.blocking() == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| {
        Failure::failed(
            format!("manifest {} was not read", file.display()),
            error.to_string(),
        )
    })
}

/// The Units in scope, and all others that may be seen.
async fn from_cluster(cluster: &Cluster, scope: &Scope) -> Result<(Vec<Unit>, Vec<Unit>), Failure> {
    let cluster = cluster.as_ref().map_err(Clone::clone)?;
    let units = cluster.units(scope).await?;
    // Whoever may see only one namespace cannot see a server shared with another one; the operator
    // sees it and says so in the Unit's status.
    let others = cluster.units(&Scope::All).await.unwrap_or_default();
    Ok((units, others))
}

fn from_manifest(manifest: &Manifest, wanted: Option<&UnitKey>) -> Result<Vec<Unit>, Failure> {
    let units: Vec<Unit> = manifest
        .units
        .iter()
        .filter(|unit| wanted.is_none_or(|wanted| preflight::key(unit).as_ref() == Some(wanted)))
        .cloned()
        .collect();
    match (units.is_empty(), wanted) {
        (true, Some(wanted)) => Err(Failure::failed(
            format!("Unit {wanted} was not found"),
            "the manifest has no such Unit",
        )),
        _ => Ok(units),
    }
}

async fn report(units: &[Unit], others: &[Unit], manifest: &Manifest, cluster: &Cluster) -> Report {
    let known = match cluster {
        Ok(cluster) => cluster.idcs().await.ok(),
        Err(_) => None,
    };
    // Without the cluster's IDCs, those of the manifest are not known to be all there are.
    let idcs: Option<Vec<String>> = known.map(|known| {
        known
            .iter()
            .chain(&manifest.idcs)
            .map(ResourceExt::name_any)
            .collect()
    });
    let mut shared = preflight::shared_servers(units, others);
    let refused = match cluster {
        Ok(cluster) => cluster.judge(&manifest.ours).await,
        Err(_) => Vec::new(),
    };
    let mut reports = Vec::new();
    for unit in units {
        let Some(key) = preflight::key(unit) else {
            continue;
        };
        let mut findings = refused
            .iter()
            .filter(|(kind, namespace, name, _)| {
                kind == "Unit" && namespace == key.namespace() && name == key.name()
            })
            .map(|(.., finding)| finding.clone())
            .collect::<Vec<Finding>>();
        findings.extend(shared.remove(&key).unwrap_or_default());
        findings.extend(
            idcs.iter()
                .flat_map(|idcs| preflight::unknown_idcs(unit, idcs)),
        );
        let members = members(unit, &key, manifest, cluster).await;
        let (members, reached): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let reached: Vec<inspect::Reached> = reached.into_iter().flatten().collect();
        findings.extend(inspect::between(&reached));
        reports.push(UnitReport {
            unit: key,
            findings,
            members,
        });
    }
    let findings = refused
        .into_iter()
        .filter(|(kind, ..)| kind != "Unit")
        .map(|(.., finding)| finding)
        .collect();
    Report {
        findings,
        units: reports,
    }
}

/// Looks at all members at once: each waits for its own server only.
async fn members(
    unit: &Unit,
    key: &UnitKey,
    manifest: &Manifest,
    cluster: &Cluster,
) -> Vec<(MemberReport, Option<inspect::Reached>)> {
    let looks = unit.spec.members.iter().map(|member| async {
        let mut report = MemberReport {
            idc: member.idc.clone(),
            endpoint: member.endpoint.document().to_string(),
            server: None,
            findings: Vec::new(),
        };
        let reached = match account(key.namespace(), member, manifest, cluster).await {
            Ok(credentials) => inspect::member(unit, member, &credentials, &mut report).await,
            Err(finding) => {
                report.findings.push(finding);
                None
            }
        };
        (report, reached)
    });
    join_all(looks).await
}

/// A member's account from its Secrets, or what is wrong with them.
async fn account(
    namespace: &str,
    member: &crds::Member,
    manifest: &Manifest,
    cluster: &Cluster,
) -> Result<Credentials, Finding> {
    let account = secret(namespace, &member.credentials_secret, manifest, cluster).await;
    let ca = match &member.endpoint.tls.ca_secret {
        Some(name) => Some(secret(namespace, name, manifest, cluster).await),
        None => None,
    };
    credentials(member, namespace, &account, ca.as_ref())
}

/// How to reach a member's server with the account of its Secrets, or why that is not known.
pub(super) async fn session_options(
    namespace: &str,
    member: &crds::Member,
    manifest: &Manifest,
    cluster: &Cluster,
) -> Result<SessionOptions, String> {
    let credentials = account(namespace, member, manifest, cluster)
        .await
        .map_err(|finding| format!("{} {}", finding.message, finding.fix))?;
    SessionOptions::new(&member.endpoint.document(), &credentials, Program::Arbiter)
        .map_err(|error| error.to_string())
}

/// A Secret of the manifest, otherwise of the cluster.
async fn secret(
    namespace: &str,
    name: &str,
    manifest: &Manifest,
    cluster: &Cluster,
) -> SecretSource {
    let key = (namespace.to_owned(), name.to_owned());
    if let Some(secret) = manifest.secrets.get(&key) {
        return SecretSource::Found(Box::new(secret.clone()));
    }
    let found = match cluster {
        Ok(cluster) => cluster.secret(namespace, name).await,
        Err(failure) => Err(failure.clone()),
    };
    match found {
        Ok(Some(secret)) => SecretSource::Found(Box::new(secret)),
        Ok(None) => SecretSource::Missing,
        Err(failure) => SecretSource::Unknown(failure.returned),
    }
}
