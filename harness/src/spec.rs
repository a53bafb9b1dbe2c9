//! What a world is to hold, and what it holds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::database::{Database, Engine};
use crate::network::{IDCS, Network};
use crate::paths;

/// Where a world's directory says what there is.
pub(crate) const INFO_FILE: &str = "world.json";

/// Which database servers there are.
#[derive(Clone, Debug, Default)]
pub struct Databases {
    /// Each data centre with one, its software, and more options for it.
    pub servers: Vec<(String, Engine, Vec<String>)>,
}

impl Databases {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// One in `sh` and one in `bj`.
    pub fn pair(sh: Engine, bj: Engine) -> Self {
        Self::of(&[(IDCS[0], sh), (IDCS[1], bj)])
    }

    /// Servers with no options of their own.
    pub fn of(servers: &[(&str, Engine)]) -> Self {
        let server = |(idc, engine): &(&str, Engine)| ((*idc).to_owned(), *engine, Vec::new());
        Self {
            servers: servers.iter().map(server).collect(),
        }
    }

    /// The same with more options for the server in one data centre.
    #[must_use]
    pub fn with_options(mut self, idc: &str, options: &[&str]) -> Self {
        for (_, _, all) in self.servers.iter_mut().filter(|(name, _, _)| name == idc) {
            all.extend(options.iter().map(|option| (*option).to_owned()));
        }
        self
    }
}

/// What a world is to hold.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// Its name, and that of its directory under `target/run`.
    pub name: String,
    /// A Kubernetes cluster.
    pub kubernetes: bool,
    /// A cluster of the user's, to be used in place of one started here.
    pub kubeconfig: Option<PathBuf>,
    /// The coordination etcd of three members.
    pub etcd: bool,
    /// Database servers.
    pub databases: Databases,
}

impl WorldSpec {
    /// A world with nothing in it but its network.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kubernetes: false,
            kubeconfig: None,
            etcd: false,
            databases: Databases::none(),
        }
    }

    /// A world with everything, where the cluster is that of `KUBECONFIG` if the user has set it.
    pub fn full(name: &str, databases: Databases) -> Self {
        Self {
            kubernetes: true,
            kubeconfig: users_kubeconfig(),
            etcd: true,
            databases,
            ..Self::empty(name)
        }
    }
}

/// `KUBECONFIG`, unless it is that of another world: its cluster cannot reach this one's addresses.
///
/// A cluster of the user's has limits here. Databases and etcd are still started on this machine,
/// so its pods must be able to reach them, which in practice means a cluster on this machine that
/// routes through it. Images are not put into it. Partitions do not cut its pods.
fn users_kubeconfig() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("KUBECONFIG")?);
    (!path.as_os_str().is_empty() && !path.starts_with(paths::runs())).then_some(path)
}

/// What there is in a world and where, as `world.json` in its directory holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorldInfo {
    /// The world's name.
    pub name: String,
    /// Its directory: logs are in `logs`.
    pub directory: PathBuf,
    /// Its addresses.
    pub network: Network,
    /// Its data centres.
    pub idcs: Vec<String>,
    /// The administrator's kubeconfig, if there is a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// True if that cluster is a part of the world rather than the user's own.
    pub local_cluster: bool,
    /// The coordination cluster's client URLs, in the order of `idcs`.
    pub etcd: Vec<String>,
    /// The database servers.
    pub databases: Vec<Database>,
}

impl WorldInfo {
    /// Reads what the world of this name holds.
    pub fn read(name: &str) -> Result<Self> {
        let path = paths::runs().join(name).join(INFO_FILE);
        let text = fs::read(&path).with_context(|| {
            format!(
                "no world `{name}` ({}): `cargo xtask cluster up`",
                path.display()
            )
        })?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The database server of a data centre.
    pub fn database(&self, idc: &str) -> Result<&Database> {
        self.databases
            .iter()
            .find(|database| database.idc == idc)
            .with_context(|| format!("the world `{}` has no database in {idc}", self.name))
    }

    /// The address of a data centre: of its etcd member and of its database.
    pub fn address(&self, idc: &str) -> Result<String> {
        self.network.idc(idc)
    }
}
