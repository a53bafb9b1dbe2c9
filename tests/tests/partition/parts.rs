//! The processes of a rig: what each is called and how it is started. They are what users run, with
//! the options that the operator gives them, each in the network of its IDC.

use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::World;
use harness::database::Database;
use harness::sandbox::PartSpec;
use model::{
    ApplySettings, Compression, Consistency, DdlPolicy, Endpoint, IdcName, LinkConfig, LinkEnd,
    LinkKey, SnapshotMode, SnapshotSettings, TableSelection, TlsSettings, UnitKey,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// The IDC that is a witness where there are two copies, and has the third where there are three.
pub const THIRD: &str = "witness";
/// Arbiters run under an account of their own, so that a packet filter can tell them apart.
pub const ARBITER_ACCOUNT: u32 = 20_001;
/// Where etcd listens.
pub const ETCD_PORT: u16 = 2379;
const ARBITER_PORT: u16 = 8080;
const STANDBY_PORT: u16 = 8090;
const SYNCER_PORT: u16 = 8081;
const WRITER_PORT: u16 = 8082;
const SERVE_PORT: u16 = 7443;

/// The prefix of the installation's keys.
pub const PREFIX: &str = "/partition/";

pub fn idc(name: &str) -> Result<IdcName> {
    Ok(IdcName::new(name)?)
}

/// The active arbiter of an IDC, or the other one.
pub fn arbiter(idc: &str, standby: bool) -> String {
    let suffix = if standby { "-standby" } else { "" };
    format!("arbiter-{idc}{suffix}")
}

pub fn syncer(from: &str, to: &str) -> String {
    format!("syncer-{from}-{to}")
}

pub fn writer(from: &str, to: &str) -> String {
    format!("writer-{from}-{to}")
}

pub fn application(side: &str) -> String {
    format!("application-{side}")
}

/// Where a writer says how it is.
pub fn writer_status(world: &World, from: &str, to: &str) -> Result<(String, u16)> {
    Ok((world.info().network.idc(to)?, of_link(WRITER_PORT, from)))
}

/// An IDC's processes for several links listen at ports ten apart, by the IDC at the other end.
fn of_link(first: u16, other: &str) -> u16 {
    match other {
        "sh" => first,
        "bj" => first + 10,
        _ => first + 20,
    }
}

/// Where an arbiter says how it is.
pub fn arbiter_status(world: &World, idc: &str, standby: bool) -> Result<(String, u16)> {
    let port = if standby { STANDBY_PORT } else { ARBITER_PORT };
    Ok((world.info().network.idc(idc)?, port))
}

/// Where an arbiter is asked for promises. A syncer of its IDC has the port before.
fn promises_port(standby: bool) -> u16 {
    SERVE_PORT + 1 + u16::from(standby)
}

/// The product's programs, and the files that they are given.
pub struct Programs {
    pub binaries: PathBuf,
    pub directory: PathBuf,
}

impl Programs {
    fn binary(&self, name: &str) -> String {
        self.binaries.join(name).display().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    pub fn credentials(&self) -> PathBuf {
        self.directory.join("arbiter-credentials")
    }

    pub fn arbiter(&self, world: &World, idc: &str, standby: bool) -> Result<PartSpec> {
        let own = harness::coordination::endpoint(world.info().network, idc)?;
        let mut endpoints = world.info().etcd.clone();
        endpoints.sort_by_key(|endpoint| *endpoint != own);
        let (host, port) = arbiter_status(world, idc, standby)?;
        let spec = PartSpec::new([
            "setpriv".to_owned(),
            format!("--reuid={ARBITER_ACCOUNT}"),
            format!("--regid={ARBITER_ACCOUNT}"),
            "--clear-groups".to_owned(),
            self.binary("arbiter"),
            format!("--idc={idc}"),
            format!("--etcd-endpoints={}", endpoints.join(",")),
            format!("--etcd-prefix={PREFIX}"),
            format!("--credentials={}", self.credentials().display()),
            format!("--holder={}", arbiter(idc, standby)),
            format!("--address={host}:{port}"),
            format!("--listen=0.0.0.0:{port}"),
            format!("--serve=0.0.0.0:{}", promises_port(standby)),
            format!("--tls={}", self.file("tls")),
            "--log=text".to_owned(),
        ]);
        Ok(spec.in_netns(idc))
    }

    pub fn syncer(&self, from: &str, to: &str) -> PartSpec {
        let mut words = vec![self.binary("syncer")];
        words.extend(self.link_options(from, to));
        words.push(format!("--serve=0.0.0.0:{}", of_link(SERVE_PORT, to)));
        words.push(format!("--listen=0.0.0.0:{}", of_link(SYNCER_PORT, to)));
        PartSpec::new(words).in_netns(from)
    }

    pub fn writer(&self, world: &World, from: &str, to: &str) -> Result<PartSpec> {
        let mut words = vec![self.binary("writer")];
        words.extend(self.link_options(from, to));
        words.push(format!(
            "--syncer={}:{}",
            world.info().network.idc(from)?,
            of_link(SERVE_PORT, to)
        ));
        words.push(format!("--listen=0.0.0.0:{}", of_link(WRITER_PORT, from)));
        Ok(PartSpec::new(words).in_netns(to))
    }

    fn link_options(&self, from: &str, to: &str) -> [String; 4] {
        [
            format!("--link={}", self.file(&format!("link-{from}-{to}.json"))),
            format!("--credentials={}", self.file("link-credentials")),
            format!("--tls={}", self.file("tls")),
            "--log=text".to_owned(),
        ]
    }

    /// Writes the files of the links from each of these to each other.
    pub fn write_links(&self, unit: &UnitKey, databases: &[&Database]) -> Result<()> {
        certificates(&self.directory.join("tls"))?;
        let credentials = self.directory.join("link-credentials");
        std::fs::create_dir_all(&credentials)?;
        // Every server has the account under the same name.
        std::fs::write(credentials.join("username"), &databases[0].user)?;
        std::fs::write(credentials.join("password"), &databases[0].password)?;
        let idcs: Vec<IdcName> = databases
            .iter()
            .map(|database| idc(&database.idc))
            .collect::<Result<_>>()?;
        for source in databases {
            for target in databases.iter().filter(|it| it.idc != source.idc) {
                let link = link(unit, source, target, &idcs)?;
                let file = self.file(&format!("link-{}-{}.json", source.idc, target.idc));
                std::fs::write(file, serde_json::to_vec_pretty(&link)?)?;
            }
        }
        Ok(())
    }
}

/// How a server is reached.
pub fn endpoint(database: &Database) -> Endpoint {
    Endpoint {
        host: database.host.clone(),
        port: database.port,
        tls: TlsSettings::default(),
    }
}

fn link(
    unit: &UnitKey,
    source: &Database,
    target: &Database,
    origins: &[IdcName],
) -> Result<LinkConfig> {
    let end = |database: &Database| -> Result<LinkEnd> {
        Ok(LinkEnd {
            idc: idc(&database.idc)?,
            endpoint: endpoint(database),
        })
    };
    Ok(LinkConfig {
        link: LinkKey::new(unit.namespace(), format!("{}-{}", source.idc, target.idc))?,
        unit: Some(unit.clone()),
        source: end(source)?,
        target: end(target)?,
        origins: origins.to_vec(),
        databases: vec![source.schema.clone()],
        tables: TableSelection::default(),
        snapshot: SnapshotSettings {
            mode: SnapshotMode::IfEmpty,
            chunk_bytes: 1 << 20,
        },
        compression: Compression::Zstd,
        apply: ApplySettings {
            consistency: Consistency::Transactional,
            max_rows: 1_000,
            linger_millis: 5,
        },
        ddl: DdlPolicy::Apply,
        relay: false,
        conflicts: model::ConflictSettings::default(),
    })
}

/// Certificates of one CA for both ends of all links.
fn certificates(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["transport.multiactive".to_owned()])?
        .signed_by(&key, &issuer)?;
    std::fs::write(directory.join("ca.crt"), authority_certificate.pem())?;
    std::fs::write(directory.join("tls.crt"), certificate.pem())?;
    std::fs::write(directory.join("tls.key"), key.serialize_pem())?;
    Ok(())
}
