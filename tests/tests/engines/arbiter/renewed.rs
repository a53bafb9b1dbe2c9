//! etcd's certificates are replaced on disk, while a client of it runs.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::World;
use harness::sandbox::PartSpec;
use topology::{EtcdOptions, Topology};

use super::rig::{idc, until, with_world};
use crate::apply::rig::certificates_for;

const PART: &str = "etcd-renewed";

fn start(world: &World, address: &str, directory: &std::path::Path) -> Result<String> {
    let url = format!("https://{address}:2579");
    let peer = format!("http://{address}:2580");
    let file = |name: &str| directory.join("certificates").join(name);
    let spec = PartSpec::new([
        harness::paths::tool("etcd").display().to_string(),
        "--name=one".to_owned(),
        format!("--data-dir={}", directory.join("data").display()),
        format!("--initial-cluster=one={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--listen-peer-urls={peer}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-client-urls={url}"),
        format!("--cert-file={}", file("tls.crt").display()),
        format!("--key-file={}", file("tls.key").display()),
        format!("--trusted-ca-file={}", file("ca.crt").display()),
        "--client-cert-auth".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    world.sandbox().spawn(PART, spec.in_netns("sh"))?;
    Ok(url)
}

/// The new ones are of another CA, so that with the old ones nobody gets in any more.
#[test]
fn renewed_certificates_for_etcd_are_taken_up_without_a_restart() -> Result<()> {
    with_world(&async |world| {
        let address = world.info().address("sh")?;
        let directory = world.info().directory.join("etcd-renewed");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        let certificates = directory.join("certificates");
        certificates_for(&certificates, &address)?;
        let url = start(world, &address, &directory)?;
        let options = EtcdOptions::new(vec![url], "/renewed/", Some(certificates.clone()));
        let etcd = Topology::connect(&options).await?;
        let key = etcd.keys().session(&idc("sh")?);
        let answers = async || -> Result<Option<()>> {
            let looked = etcd.standing(&super::topology::claim("one")?).await;
            Ok(looked.is_ok().then_some(()))
        };
        until("etcd answers", Duration::from_secs(30), answers).await?;
        world.kill(PART)?;
        // Half of them are there for a while, which is no reason to give the old ones up.
        std::fs::write(certificates.join("tls.key"), "half a key")?;
        ensure!(
            answers().await?.is_none(),
            "{key} is read from an etcd that is gone"
        );
        certificates_for(&certificates, &address)?;
        start(world, &address, &directory)?;
        let outcome = until("etcd answers again", Duration::from_secs(30), answers).await;
        world.kill(PART)?;
        outcome
    })
}
