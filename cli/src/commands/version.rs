//! `version`.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use serde::Serialize;

use super::Context;
use crate::args::VersionArgs;
use crate::backend::KubeBackend;
use crate::failure::{Exit, Failure};

/// The client's own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All versions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: String,
    /// Those of the operators' images, by `namespace/name` of their Deployments.
    #[serde(skip_serializing_if = "Option::is_none")]
    operators: Option<Vec<Part>>,
    /// Those of the arbiters, by IDC.
    #[serde(skip_serializing_if = "Option::is_none")]
    arbiters: Option<Vec<Part>>,
    /// What does not go together, as sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    mismatches: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Part {
    name: String,
    version: Option<String>,
}

pub(super) async fn run(context: &Context, args: &VersionArgs) -> Result<Exit, Failure> {
    let mut versions = Versions {
        client: VERSION.to_owned(),
        operators: None,
        arbiters: None,
        mismatches: None,
    };
    let read = if args.client {
        Ok(())
    } else {
        read(context, &mut versions).await
    };
    super::show(
        args.output.output,
        &versions,
        |_| text(&versions),
        || vec![VERSION.to_owned()],
    )?;
    read?;
    Ok(Exit::Done)
}

async fn read(context: &Context, versions: &mut Versions) -> Result<(), Failure> {
    let backend = KubeBackend::connect(&context.kube, &context.call).await?;
    let idcs = backend.idcs().await?;
    let arbiters: Vec<Part> = idcs
        .iter()
        .filter_map(crate::backend::idc_view)
        .map(|idc| Part {
            name: format!("arbiter {}", idc.name),
            version: idc.version,
        })
        .collect();
    let selector = ListParams::default()
        .labels("app.kubernetes.io/name=multiactive,app.kubernetes.io/component=operator");
    let api = backend.everywhere::<Deployment>();
    let deployments = backend
        .request("the operator was not looked for", api.list(&selector))
        .await?;
    let operators: Vec<Part> = deployments.items.iter().map(operator).collect();
    versions.mismatches = Some(mismatches(VERSION, operators.iter().chain(&arbiters)));
    versions.operators = Some(operators);
    versions.arbiters = Some(arbiters);
    Ok(())
}

/// The version by the label that the chart gives, otherwise by the image's tag.
fn operator(deployment: &Deployment) -> Part {
    let meta = &deployment.metadata;
    let label = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/version"));
    let image = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .and_then(|pod| pod.containers.first())
        .and_then(|container| container.image.as_deref());
    let tag = image
        .and_then(|image| image.rsplit_once(':'))
        .map(|(_, tag)| tag.to_owned());
    Part {
        name: format!(
            "operator {}/{}",
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default()
        ),
        version: label.cloned().or(tag),
    }
}

/// Parts go together when their major and minor numbers are the same; before 1.0 the patch may
/// differ all the same, since documents in etcd only ever gain fields.
fn mismatches<'a>(client: &str, parts: impl Iterator<Item = &'a Part>) -> Vec<String> {
    let series = |version: &str| {
        let mut numbers = version.trim_start_matches('v').split('.');
        Some((
            numbers.next()?.parse::<u64>().ok()?,
            numbers.next()?.parse::<u64>().ok()?,
        ))
    };
    let own = series(client);
    parts
        .filter_map(|part| match &part.version {
            None => Some(format!("{} has not said its version", part.name)),
            Some(version) if series(version).is_none() => Some(format!(
                "{} has a version that cannot be compared: {version}",
                part.name
            )),
            Some(version) if series(version) != own => Some(format!(
                "{} is {version}, this mactl {client}: use a mactl of the same version",
                part.name
            )),
            Some(_) => None,
        })
        .collect()
}

fn text(versions: &Versions) -> String {
    let mut table = crate::render::Table::default();
    table.row(["mactl".to_owned(), versions.client.clone()]);
    for part in versions
        .operators
        .iter()
        .chain(&versions.arbiters)
        .flatten()
    {
        table.row([
            part.name.clone(),
            part.version.clone().unwrap_or_else(|| "unknown".to_owned()),
        ]);
    }
    let mut text = table.text();
    match &versions.mismatches {
        None => {}
        Some(mismatches) if versions.operators.as_ref().is_some_and(Vec::is_empty) => {
            text.push_str("There is no operator in this cluster.\n");
            text.extend(mismatches.iter().map(|line| format!("{line}\n")));
        }
        Some(mismatches) if mismatches.is_empty() => text.push_str("They go together.\n"),
        Some(mismatches) => text.extend(mismatches.iter().map(|line| format!("{line}\n"))),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_together_by_their_first_two_numbers() {
        let part = |version: Option<&str>| Part {
            name: "arbiter sh".to_owned(),
            version: version.map(str::to_owned),
        };
        let judged = |version| mismatches("0.1.0", [part(version)].iter());
        assert_eq!(judged(Some("0.1.7")), Vec::<String>::new());
        assert_eq!(judged(Some("v0.1.0")), Vec::<String>::new());
        assert!(judged(Some("0.2.0"))[0].contains("use a mactl of the same version"));
        assert!(judged(Some("latest"))[0].contains("cannot be compared"));
        assert!(judged(None)[0].contains("has not said"));
    }
}
