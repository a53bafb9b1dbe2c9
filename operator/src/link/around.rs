//! What other objects a link is judged by.

use std::collections::BTreeMap;

use crds::SyncLink;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use model::{LinkKey, UnitKey};

use super::validate::Surroundings;
use crate::context::Context;
use crate::stores::find;

pub fn surroundings<'a>(
    link: &SyncLink,
    key: &LinkKey,
    unit: Option<&'a crds::Unit>,
    transport: Option<&Secret>,
    context: &Context,
) -> Surroundings<'a> {
    let settings = &context.settings;
    Surroundings {
        unit,
        units: names_of_units(key, context),
        twins: twins(link, key, context),
        transport: (
            format!("{}/{}", settings.namespace, settings.transport_secret),
            transport.map(keys),
        ),
        ..match link.spec.unit {
            Some(_) => Surroundings::default(),
            None => surroundings_alone(link, key, context),
        }
    }
}

/// What only a link without a Unit is judged by.
fn surroundings_alone<'a>(link: &SyncLink, key: &LinkKey, context: &Context) -> Surroundings<'a> {
    let stores = &context.stores;
    let is_other = |other: &SyncLink| {
        (other.namespace(), other.name_any()) != (link.namespace(), link.name_any())
            && other.metadata.deletion_timestamp.is_none()
    };
    let alone = stores
        .links
        .state_filter(|other| other.spec.unit.is_none() && is_other(other));
    let mut servers = BTreeMap::new();
    for unit in stores.units.state() {
        let name = UnitKey::new(unit.namespace().unwrap_or_default(), unit.name_any());
        let Ok(name) = name else { continue };
        for member in &unit.spec.members {
            let host = member.endpoint.host.to_ascii_lowercase();
            let address = (host, member.endpoint.port);
            servers.insert(address, name.clone());
        }
    }
    let (source, target) = (&link.spec.source, &link.spec.target);
    let ends = [
        (&source.endpoint, &source.credentials_secret),
        (&target.endpoint, &target.credentials_secret),
    ];
    let named = ends.into_iter().flat_map(|(endpoint, account)| {
        let ca = endpoint.as_ref().and_then(|it| it.tls.ca_secret.clone());
        account.clone().into_iter().chain(ca)
    });
    let secrets = named.filter_map(|name| {
        let secret = find(&stores.secrets, key.namespace(), &name)?;
        Some((name, keys(&secret)))
    });
    Surroundings {
        alone,
        servers,
        secrets: secrets.collect(),
        ..Surroundings::default()
    }
}

fn names_of_units(key: &LinkKey, context: &Context) -> Vec<String> {
    let here = |unit: &crds::Unit| unit.namespace().as_deref() == Some(key.namespace());
    let units = context.stores.units.state_filter(here);
    let mut names: Vec<String> = units.iter().map(|unit| unit.name_any()).collect();
    names.sort();
    names
}

fn twins(
    link: &SyncLink,
    key: &LinkKey,
    context: &Context,
) -> Vec<(String, Option<jiff::Timestamp>)> {
    let Some(unit) = &link.spec.unit else {
        return Vec::new();
    };
    let links = context.stores.links_of(key.namespace(), unit);
    let twins = links.iter().filter(|other| {
        other.name_any() != key.name()
            && other.metadata.deletion_timestamp.is_none()
            && other.spec.source.idc == link.spec.source.idc
            && other.spec.target.idc == link.spec.target.idc
    });
    twins
        .map(|other| {
            (
                other.name_any(),
                other.creation_timestamp().map(|time| time.0),
            )
        })
        .collect()
}

fn keys(secret: &Secret) -> BTreeMap<String, bool> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter()
        .map(|(key, value)| (key, !value.0.is_empty()))
        .collect()
}
