//! The product's two processes of a link, as they are shipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::database::Database;
use harness::{paths, shell};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// How long a process may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(30);

/// A process of the product; killed when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(name: &'static str, program: &Path, directory: &Path, words: &[&str]) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        let child = Command::new(program)
            .args(["--link", "link.json", "--credentials", "credentials"])
            .args(["--tls", "tls", "--log", "text"])
            .args(["--listen", &format!("127.0.0.1:{}", free_port()?)])
            .args(words)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .with_context(|| {
                format!("no {}: run this by `cargo xtask bench`", program.display())
            })?;
        Ok(Self { name, child, log })
    }

    /// The largest resident memory it ever had, in MiB.
    pub fn peak_memory(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| self.describe())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        let kib: f64 = kib
            .with_context(|| format!("no VmHWM in {path}"))?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// The processor time that it has taken, user's and system's, in seconds.
    pub fn processor_seconds(&self) -> Result<f64> {
        let path = format!("/proc/{}", self.child.id());
        processor_seconds(Path::new(&path)).with_context(|| self.describe())
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> Result<()> {
        let id = self.child.id().to_string();
        shell::run(&mut shell::command("kill", ["-TERM", &id]))?;
        shell::poll(&format!("{} ends", self.name), GRACE, || {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_some(), "it still runs");
            Ok(())
        })
        .with_context(|| self.describe())
    }

    /// Its program.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it says how it is, and the last of it.
    pub fn describe(&self) -> String {
        format!("{}:\n{}", self.log.display(), shell::tail(&self.log))
    }
}

/// The processor time that the process of a folder of `/proc` has taken, in seconds.
pub fn processor_seconds(process: &Path) -> Result<f64> {
    let stat = fs::read_to_string(process.join("stat"))?;
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15, in
    // hundredths of seconds on every Linux.
    let (_, rest) = stat.rsplit_once(')').context("a strange stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks =
        |place: usize| -> Result<f64> { Ok(fields.get(place).context("a short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// A link's files.
pub struct Link {
    directory: PathBuf,
    settings: serde_json::Value,
    binaries: Option<PathBuf>,
    /// Where its syncer serves.
    pub address: String,
    /// The largest memory of each process, in MiB, by work.
    pub peaks: BTreeMap<String, f64>,
}

/// Both processes of a link.
pub struct Running {
    pub syncer: Process,
    pub writer: Process,
}

impl Link {
    /// Writes the files of a link, whose programs are the static release build or elsewhere.
    pub fn new(
        directory: PathBuf,
        source: &Database,
        target: &Database,
        binaries: Option<&Path>,
    ) -> Result<Self> {
        certificates(&directory.join("tls"))?;
        let credentials = directory.join("credentials");
        fs::create_dir_all(&credentials)?;
        // Both servers have the account under the same name.
        fs::write(credentials.join("username"), &target.user)?;
        fs::write(credentials.join("password"), &target.password)?;
        let end = |at: &Database| serde_json::json!({"idc": at.idc, "endpoint": {"host": at.host, "port": at.port}});
        // What the operator writes for a link on which nothing is set.
        let settings = serde_json::json!({
            "link": LINK, "unit": "bench/orders",
            "source": end(source), "target": end(target),
            "origins": [source.idc, target.idc], "databases": ["orders"],
            "tables": {"include": [], "exclude": [], "routes": []},
            "snapshot": {"mode": "Never", "chunkBytes": 8 << 20}, "compression": "Zstd",
            "apply": {"consistency": "Transactional", "maxRows": 1000, "lingerMillis": 5},
            "ddl": "Apply", "relay": false,
        });
        let link = Self {
            directory,
            settings,
            binaries: binaries.map(Path::to_path_buf),
            address: format!("127.0.0.1:{}", free_port()?),
            peaks: BTreeMap::new(),
        };
        link.write_settings()?;
        Ok(link)
    }

    /// How conflicts are found, by processes that are started after this.
    pub fn detect(&mut self, how: &str) -> Result<()> {
        self.settings["conflicts"] = serde_json::json!({"detect": how, "resolve": "Halt"});
        self.write_settings()
    }

    fn write_settings(&self) -> Result<()> {
        fs::write(self.directory.join("link.json"), self.settings.to_string())?;
        Ok(())
    }

    /// The directory with the certificates.
    pub fn tls(&self) -> PathBuf {
        self.directory.join("tls")
    }

    fn process(&self, name: &'static str, words: &[&str]) -> Result<Process> {
        let program = match &self.binaries {
            Some(binaries) => std::path::absolute(binaries.join(name))?,
            None => paths::release(name),
        };
        Process::start(name, &program, &self.directory, words)
    }

    /// Starts its syncer.
    pub fn syncer(&self) -> Result<Process> {
        self.process("syncer", &["--serve", &self.address])
    }

    /// Starts its syncer, and returns when it serves.
    pub fn ready_syncer(&self) -> Result<Process> {
        let syncer = self.syncer()?;
        shell::poll("the syncer serves", GRACE, || {
            std::net::TcpStream::connect(&self.address)?;
            Ok(())
        })
        .with_context(|| syncer.describe())?;
        Ok(syncer)
    }

    /// Starts its writer.
    pub fn writer(&self) -> Result<Process> {
        self.process("writer", &["--syncer", &self.address])
    }
}

/// The link's name.
pub const LINK: &str = "bench/link";

/// Certificates of one CA for both ends.
fn certificates(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["transport.multiactive".to_owned()])?
        .signed_by(&key, &issuer)?;
    fs::write(directory.join("ca.crt"), authority_certificate.pem())?;
    fs::write(directory.join("tls.crt"), certificate.pem())?;
    fs::write(directory.join("tls.key"), key.serialize_pem())?;
    Ok(())
}

/// A free port of loopback, below those that the system gives to outgoing connections, and another
/// one each time.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 24_000, "no free port below 24000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}
