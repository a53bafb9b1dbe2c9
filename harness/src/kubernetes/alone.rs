//! API servers with nothing behind them: clusters that hold objects and run nothing, as many as a test
//! asks for. They share one etcd under different prefixes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::pki::Pki;
use super::{PORT, READY, apiserver, storage};
use crate::{World, paths, shell};

/// One of them.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// Its name.
    pub name: String,
    /// Its administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

/// Starts one for each name in a world that has no Kubernetes of its own, and returns when all answer.
pub fn start_api_servers(world: &World, names: &[&str]) -> Result<Vec<ApiServer>> {
    let (sandbox, info) = (world.sandbox(), world.info());
    storage(sandbox, &info.directory)?;
    let mut servers = Vec::new();
    for (port, name) in (PORT..).zip(names) {
        let directory = info.directory.join("kubernetes").join(name);
        let pki = Pki::make(&directory, info.network, port)?;
        let prefix = format!("/registry-{name}");
        let spec = apiserver(info.network, &pki, port, &prefix);
        sandbox.spawn(&format!("kube-apiserver-{name}"), spec)?;
        servers.push(ApiServer {
            name: (*name).to_owned(),
            kubeconfig: PathBuf::from(pki.kubeconfig("admin")),
        });
    }
    for server in &servers {
        let part = format!("kube-apiserver-{}", server.name);
        let limit = READY.max(Duration::from_secs(300));
        shell::poll(&format!("{part} is ready"), limit, || {
            sandbox.check_running(&part)?;
            shell::text(server.kubectl().args(["get", "--raw=/readyz"])).map(drop)
        })?;
    }
    Ok(servers)
}

impl ApiServer {
    /// `kubectl` on it, ready for more arguments.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(paths::tool("kubectl"));
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .arg("--request-timeout=30s");
        command
    }
}
