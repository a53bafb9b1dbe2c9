//! Sessions with the databases that an object names.

use model::{IdcName, UnitKey};
use mysql::session::{Session, SessionOptions};

use super::Context;
use super::preflight::{Cluster, session_options};
use crate::backend::{KubeBackend, Scope};
use crate::failure::Failure;
use crate::names::UnitArg;
use crate::preflight::Manifest;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A member that was reached.
pub(super) struct Member {
    pub(super) idc: IdcName,
    pub(super) options: SessionOptions,
    pub(super) session: Session,
}

/// Who settles it, or asks for it.
pub(super) fn by() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown user".to_owned());
    format!("mactl, {user}")
}

pub(super) fn failed(tried: &str, idc: &IdcName, returned: &str) -> Failure {
    Failure::failed(tried, format!("the database of {idc}: {returned}"))
}

/// Sessions with every member, and why there is none with others.
pub(super) async fn members(
    context: &Context,
    unit: &UnitArg,
) -> Result<(UnitKey, Vec<Member>, Vec<Failure>), Failure> {
    let key = super::key(unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let cluster = Ok(KubeBackend::connect(&context.kube, &context.call).await?);
    let members = of_unit(&key, &cluster).await?;
    let look = context.call.own(&format!("preflight {key}"));
    let (reached, unreached) = reach(key.namespace(), &members, &look, &cluster).await;
    Ok((key, reached, unreached))
}

/// What people name whose databases are meant.
pub(super) struct Named {
    /// For example `Unit shop/orders`.
    pub(super) title: String,
    /// As it is typed after a command, for example `shop/orders` or `shop/a-b --link`.
    pub(super) words: String,
    /// Those that the databases hold something of; `None`: all of it.
    pub(super) sources: Option<Vec<IdcName>>,
    /// Whether it belongs to a Unit, or is one.
    pub(super) has_unit: bool,
}

impl Named {
    /// Whether what came from there is meant.
    pub(super) fn has(&self, source: &str) -> bool {
        let sources = self.sources.as_ref();
        sources.is_none_or(|sources| sources.iter().any(|idc| idc.as_str() == source))
    }
}

/// Sessions with a Unit's members, or with both ends of a link, and why there is none with others.
pub(super) async fn named(
    context: &Context,
    name: &UnitArg,
    link: bool,
) -> Result<(Named, Vec<Member>, Vec<Failure>), Failure> {
    if !link {
        let (key, reached, unreached) = members(context, name).await?;
        let named = Named {
            title: format!("Unit {key}"),
            words: key.to_string(),
            sources: None,
            has_unit: true,
        };
        return Ok((named, reached, unreached));
    }
    let key = super::key(name, &crate::kubeconfig::namespace(&context.kube)?)?;
    let cluster = Ok(KubeBackend::connect(&context.kube, &context.call).await?);
    let (ends, has_unit) = of_link(&key, &cluster).await?;
    let kubectl = format!("-n {} describe synclink {}", key.namespace(), key.name());
    let look = context.call.kubectl(&kubectl);
    let (reached, unreached) = reach(key.namespace(), &ends, &look, &cluster).await;
    let named = Named {
        title: format!("SyncLink {key}"),
        words: format!("{key} --link"),
        sources: Some(ends.into_iter().map(|end| end.idc).collect()),
        has_unit,
    };
    Ok((named, reached, unreached))
}

async fn of_unit(key: &UnitKey, cluster: &Cluster) -> Result<Vec<crds::Member>, Failure> {
    let units = match cluster {
        Ok(cluster) => cluster.units(&Scope::Unit(key.clone())).await?,
        Err(failure) => return Err(failure.clone()),
    };
    let members = units.into_iter().flat_map(|unit| unit.spec.members);
    Ok(members.collect())
}

/// Source and target of a link, by its Unit or by itself, and whether it has one.
async fn of_link(key: &UnitKey, cluster: &Cluster) -> Result<(Vec<crds::Member>, bool), Failure> {
    let link = match cluster {
        Ok(cluster) => cluster.link(key.namespace(), key.name()).await?,
        Err(failure) => return Err(failure.clone()),
    };
    let tried = format!("the databases of SyncLink {key} were not reached");
    let unknown = |why: &str| Failure::failed(tried.clone(), why.to_owned());
    let Some(unit) = &link.spec.unit else {
        let ends = link.spec.own_ends();
        return ends
            .map(|ends| (Vec::from(ends), false))
            .ok_or_else(|| unknown("its target is no database"));
    };
    let unit = UnitKey::new(key.namespace(), unit.as_str());
    let unit = unit.map_err(|error| unknown(&error.to_string()))?;
    let members = of_unit(&unit, cluster).await?;
    let end = |idc: Option<&IdcName>| {
        let member = members.iter().find(|member| Some(&member.idc) == idc);
        let none = || unknown(&format!("Unit {unit} has no such member as it names"));
        member.cloned().ok_or_else(none)
    };
    let (source, target) = (&link.spec.source.idc, link.spec.target.idc.as_ref());
    Ok((vec![end(Some(source))?, end(target)?], true))
}

async fn reach(
    namespace: &str,
    members: &[crds::Member],
    look: &str,
    cluster: &Cluster,
) -> (Vec<Member>, Vec<Failure>) {
    let (mut reached, mut unreached) = (Vec::new(), Vec::new());
    for member in members {
        match connect(namespace, member, cluster).await {
            Ok((options, session)) => reached.push(Member {
                idc: member.idc.clone(),
                options,
                session,
            }),
            Err(reason) => unreached
                .push(failed("not every database was asked", &member.idc, &reason).next(look)),
        }
    }
    (reached, unreached)
}

/// The target of a link, and where a look at it is advised if it is not reached.
pub(super) async fn target(
    kube: KubeBackend,
    link: &model::LinkKey,
    tried: &str,
    look: &str,
) -> Result<(IdcName, Session), Failure> {
    let cluster = Ok(kube);
    let key = UnitKey::new(link.namespace(), link.name());
    let key = key.map_err(|error| Failure::failed(tried, error.to_string()))?;
    let Some(member) = of_link(&key, &cluster).await?.0.pop() else {
        return Err(Failure::failed(tried, "it has no target"));
    };
    let reached = connect(link.namespace(), &member, &cluster).await;
    let (_, session) = reached.map_err(|reason| failed(tried, &member.idc, &reason).next(look))?;
    Ok((member.idc, session))
}

/// A session with a server, by the endpoint and the account that its object of this namespace names.
pub(super) async fn connect(
    namespace: &str,
    member: &crds::Member,
    cluster: &Cluster,
) -> Result<(SessionOptions, Session), String> {
    let options = session_options(namespace, member, &Manifest::default(), cluster).await?;
    let options = options.with_connect_timeout(CONNECT_TIMEOUT);
    let session = options.connect().await;
    session
        .map(|session| (options, session))
        .map_err(|error| error.to_string())
}
