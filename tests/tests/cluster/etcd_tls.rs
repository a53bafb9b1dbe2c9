//! Operator, arbiters and `mactl` against an etcd that demands certificates.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::product::{self, Product, SYSTEM};
use harness::sandbox::PartSpec;
use harness::{paths, sandbox};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use crate::refusals::reinstall;

const PART: &str = "etcd-tls";
const SECRET: &str = "etcd-client";

/// Certificates as files: `ca.crt`, `server.*`, `client.*`, and a CA that signed none of them.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn make(directory: PathBuf, address: &str) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        let ca = authority("etcd")?;
        fs::write(directory.join("ca.crt"), ca.as_ref().pem())?;
        fs::write(
            directory.join("other.crt"),
            authority("other")?.as_ref().pem(),
        )?;
        for name in ["server", "client"] {
            let mut params = CertificateParams::new(vec![address.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &ca)?;
            fs::write(directory.join(format!("{name}.crt")), certificate.pem())?;
            fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(Self { directory })
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn start(world: &World, address: &str, certificates: &Certificates, data: &Path) -> Result<String> {
    let url = format!("https://{address}:2479");
    let peer = format!("http://{address}:2480");
    let spec = PartSpec::new([
        paths::tool("etcd").display().to_string(),
        "--name=one".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--initial-cluster=one={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--listen-peer-urls={peer}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-client-urls={url}"),
        format!("--cert-file={}", certificates.path("server.crt")),
        format!("--key-file={}", certificates.path("server.key")),
        format!("--trusted-ca-file={}", certificates.path("ca.crt")),
        "--client-cert-auth".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    world.sandbox().spawn(PART, spec.in_netns("sh"))?;
    Ok(url)
}

#[test]
fn an_etcd_that_demands_certificates_is_used_by_everybody() {
    let world = tests::cluster().unwrap();
    let product = Product::of(&world);
    if let Err(error) = used_by_everybody(&world, &product) {
        panic!("{error:?}\n{}", product.describe());
    }
}

fn used_by_everybody(world: &World, product: &Product<'_>) -> Result<()> {
    reinstall(product)?;
    let address = world.info().address("sh")?;
    let directory = world.info().directory.join("etcd-tls");
    let certificates = Certificates::make(directory.join("certificates"), &address)?;
    let url = start(world, &address, &certificates, &directory.join("data"))?;
    let namespace = format!("--namespace={SYSTEM}");
    let files = [
        ("ca.crt", "ca.crt"),
        ("tls.crt", "client.crt"),
        ("tls.key", "client.key"),
    ]
    .map(|(key, file)| format!("--from-file={key}={}", certificates.path(file)));
    let mut create = vec!["create", "secret", "generic", SECRET, &namespace];
    create.extend(files.iter().map(String::as_str));
    product.kubectl(&create)?;
    product.apply(&product::idcs(world))?;
    product.upgrade(&[
        &format!("etcd.endpoints={{{url}}}"),
        &format!("etcd.tlsSecret={SECRET}"),
    ])?;
    let result = everybody(product, &url, &certificates);
    // The other tests find what they had, whatever came of this one.
    product.upgrade(&[
        &format!("etcd.endpoints={{{}}}", world.info().etcd.join(",")),
        "etcd.tlsSecret=",
    ])?;
    product.kubectl(&["delete", "secret", SECRET, &namespace])?;
    world.sandbox().signal(
        PART,
        sandbox::Signal::Terminate,
        std::time::Duration::from_secs(30),
    )?;
    result
}

fn everybody(product: &Product<'_>, url: &str, certificates: &Certificates) -> Result<()> {
    let ask = |ca: &str| -> Result<std::process::Output> {
        product.mactl_output(&[
            "status",
            "--output=json",
            &format!("--etcd-endpoints={url}"),
            &format!("--etcd-ca={}", certificates.path(ca)),
            &format!("--etcd-cert={}", certificates.path("client.crt")),
            &format!("--etcd-key={}", certificates.path("client.key")),
        ])
    };
    tests::eventually("mactl sees three arbiters in the etcd with TLS", || {
        let answer = ask("ca.crt")?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        let view: serde_json::Value =
            serde_json::from_slice(&answer.stdout).with_context(|| said.clone())?;
        let idcs = view["idcs"].as_array().context("no IDCs")?;
        let alive = idcs.iter().filter(|idc| idc["arbiterAlive"] == true);
        ensure!(alive.count() == 3, "{idcs:?}");
        Ok(())
    })?;
    let refused = ask("other.crt")?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && said.contains("give the CA that signed it"),
        "{}: {said}",
        refused.status
    );
    // The operator follows it too: it reports the arbiters' sessions.
    for idc in ["sh", "bj", "witness"] {
        product.wait(&format!("idc/{idc}"), "condition=Ready", tests::LIMIT)?;
    }
    Ok(())
}
