//! A world: a network with three data centres, and in it what a test or the demo asks for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::database::{self, Database, DatabaseSpec};
use crate::images::Image;
use crate::load::{self, Load, LoadSpec};
use crate::network::{self, IDCS};
use crate::sandbox::{self, Finished, PartSpec, Sandbox, Signal};
use crate::spec::{Databases, INFO_FILE, WorldInfo, WorldSpec};
use crate::{coordination, kubernetes, paths, report, tools};

/// How long a part may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(30);

/// A world that runs. It ends with this value, unless it is kept or only attached to.
pub struct World {
    info: WorldInfo,
    sandbox: Sandbox,
}

impl World {
    /// Installs the tools that are missing, and starts what `spec` says.
    pub fn up(spec: &WorldSpec) -> Result<Self> {
        tools::install()?;
        let directory = paths::runs().join(&spec.name);
        fs::create_dir_all(&directory)?;
        sandbox::sweep_dead(&paths::runs());
        let claim = sandbox::claim(&directory)?;
        if sandbox::alive(&directory) {
            bail!(
                "the world `{0}` is up already, in {1}: end it with `cargo xtask cluster down \
                 --name {0}`, or use another name",
                spec.name,
                directory.display()
            );
        }
        clear_logs(&directory)?;
        let (sandbox, network) = report::step("sandbox and network", || {
            let sandbox = Sandbox::start(&directory)?;
            sandbox.check_with_input(PartSpec::new(["sh", "-eu"]), &mounts(&directory))?;
            let network = network::build(&sandbox)?;
            // Read by whoever clears away after this world.
            fs::write(directory.join(sandbox::LINK), network.name())?;
            Ok((sandbox, network))
        })?;
        drop(claim);
        let info = WorldInfo {
            name: spec.name.clone(),
            directory,
            network,
            idcs: IDCS.map(str::to_owned).to_vec(),
            kubeconfig: None,
            local_cluster: spec.kubernetes && spec.kubeconfig.is_none(),
            etcd: Vec::new(),
            databases: Vec::new(),
        };
        let mut world = Self { info, sandbox };
        world.start_parts(spec)?;
        let text = serde_json::to_string_pretty(&world.info)?;
        fs::write(world.info.directory.join(INFO_FILE), text)?;
        Ok(world)
    }

    fn start_parts(&mut self, spec: &WorldSpec) -> Result<()> {
        let (sandbox, network, directory) =
            (&self.sandbox, self.info.network, &self.info.directory);
        // All at once: each waits for its own disk, clock or neighbours most of the time.
        let (cluster, etcd, databases) = std::thread::scope(|scope| {
            let cluster = scope.spawn(|| match (&spec.kubeconfig, spec.kubernetes) {
                (_, false) => Ok(None),
                (Some(kubeconfig), true) => {
                    let what = format!("the cluster of KUBECONFIG, {}", kubeconfig.display());
                    report::step(&what, || kubernetes::check(kubeconfig)).map(Some)
                }
                (None, true) => {
                    let start = || kubernetes::start(sandbox, network, directory);
                    report::step("Kubernetes cluster", start).map(Some)
                }
            });
            let etcd = scope.spawn(|| {
                let start = || coordination::start(sandbox, network, directory);
                spec.etcd
                    .then(|| report::step("etcd, a member in each IDC", start))
                    .transpose()
            });
            let databases: Vec<_> = server_specs(&spec.databases)
                .into_iter()
                .map(|server| {
                    scope.spawn(move || {
                        let what = format!("{} in {}", server.engine.name(), server.idc);
                        let address = network.idc(&server.idc)?;
                        let start = || database::start(sandbox, directory, &address, &server);
                        report::step(&what, start)
                    })
                })
                .collect();
            let databases: Vec<_> = databases.into_iter().map(joined).collect();
            (joined(cluster), joined(etcd), databases)
        });
        self.info.kubeconfig = cluster?.map(|cluster| cluster.kubeconfig);
        self.info.etcd = etcd?.unwrap_or_default();
        self.info.databases = databases.into_iter().collect::<Result<_>>()?;
        Ok(())
    }

    /// Speaks to a world that another process has started and keeps.
    pub fn attach(name: &str) -> Result<Self> {
        let info = WorldInfo::read(name)?;
        let sandbox = Sandbox::attach(&info.directory).with_context(|| {
            format!("the world `{name}` is not running: `cargo xtask cluster up --name {name}`")
        })?;
        Ok(Self { info, sandbox })
    }

    /// Lets it outlive this process; `World::end` ends it.
    pub fn keep(&mut self) -> Result<()> {
        self.sandbox.keep()
    }

    /// Ends a kept world. Returns false if there was none.
    pub fn end(name: &str) -> Result<bool> {
        tools::require_root()?;
        sandbox::end_kept(&paths::runs().join(name))
    }

    /// What there is and where.
    pub fn info(&self) -> &WorldInfo {
        &self.info
    }

    /// The database server of a data centre.
    pub fn database(&self, idc: &str) -> Result<&Database> {
        self.info.database(idc)
    }

    /// The sandbox below, for parts that a test defines itself.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// `kubectl` on the world's cluster, ready for more arguments.
    pub fn kubectl(&self) -> Result<std::process::Command> {
        self.with_kubeconfig("kubectl")
    }

    /// `helm` on the world's cluster, ready for more arguments.
    pub fn helm(&self) -> Result<std::process::Command> {
        self.with_kubeconfig("helm")
    }

    fn with_kubeconfig(&self, program: &str) -> Result<std::process::Command> {
        let Some(kubeconfig) = &self.info.kubeconfig else {
            bail!("the world `{}` has no Kubernetes cluster", self.info.name);
        };
        let mut command = std::process::Command::new(paths::tool(program));
        command.env("KUBECONFIG", kubeconfig);
        Ok(command)
    }

    /// Makes an image known to the cluster's node, under its own tag and as `dev`. A cluster of the
    /// user's has to have the image already.
    pub fn import(&self, image: &Image) -> Result<()> {
        if self.info.kubeconfig.is_some() && !self.info.local_cluster {
            let reference = image.reference();
            report::note(&format!("the cluster of KUBECONFIG must have {reference}"));
            return Ok(());
        }
        kubernetes::import(&self.sandbox, image)
    }

    /// Runs a command in the network of a data centre.
    pub fn run_in(&self, idc: &str, argv: &[&str], limit: Duration) -> Result<Finished> {
        self.info.network.idc(idc)?;
        let spec = PartSpec::new(argv.iter().copied()).in_netns(idc);
        self.sandbox.run(spec, "", limit)
    }

    /// True if a TCP connection from the network of a data centre is accepted within a second.
    pub fn reaches(&self, from: &str, host: &str, port: u16) -> Result<bool> {
        let probe = format!(": < /dev/tcp/{host}/{port}");
        let finished = self.run_in(
            from,
            &["timeout", "1", "bash", "-c", &probe],
            Duration::from_secs(10),
        )?;
        Ok(finished.code == Some(0))
    }

    /// Ends a part as a crash does.
    pub fn kill(&self, part: &str) -> Result<()> {
        self.sandbox.signal(part, Signal::Kill, GRACE)
    }

    /// Asks a part to end, and waits until it has.
    pub fn stop(&self, part: &str) -> Result<()> {
        self.sandbox.signal(part, Signal::Terminate, GRACE)
    }

    /// Freezes a part.
    pub fn pause(&self, part: &str) -> Result<()> {
        self.sandbox.signal(part, Signal::Stop, GRACE)
    }

    /// Thaws a part.
    pub fn resume(&self, part: &str) -> Result<()> {
        self.sandbox.signal(part, Signal::Continue, GRACE)
    }

    /// Starts a part again that has ended, as it was. Does not wait until it answers.
    pub fn start(&self, part: &str) -> Result<()> {
        self.sandbox.start_part(part)
    }

    /// Returns when a data centre's database answers, after it was started again.
    pub fn wait_for_database(&self, idc: &str) -> Result<()> {
        database::wait(&self.sandbox, self.database(idc)?)
    }

    /// Drops every packet between two data centres.
    pub fn partition(&self, one: &str, other: &str) -> Result<()> {
        network::partition(&self.sandbox, one, other)
    }

    /// Drops packets from one data centre to another only.
    pub fn partition_one_way(&self, from: &str, to: &str) -> Result<()> {
        network::one_way(&self.sandbox, from, to)
    }

    /// Cuts a data centre off from all others.
    pub fn isolate(&self, idc: &str) -> Result<()> {
        IDCS.iter()
            .filter(|other| **other != idc)
            .try_for_each(|other| self.partition(idc, other))
    }

    /// Lets two data centres reach each other again.
    pub fn heal(&self, one: &str, other: &str) -> Result<()> {
        network::heal(&self.sandbox, one, other)
    }

    /// Ends all partitions.
    pub fn heal_all(&self) -> Result<()> {
        network::heal_all(&self.sandbox)
    }

    /// Cuts the processes of one account in a data centre from a port, wherever it is.
    pub fn cut_account(&self, idc: &str, account: u32, port: u16) -> Result<()> {
        network::cut_account(&self.sandbox, idc, account, port)
    }

    /// Ends what [`World::cut_account`] has begun.
    pub fn heal_accounts(&self) -> Result<()> {
        network::heal_accounts(&self.sandbox)
    }

    /// The data centre whose etcd member leads.
    pub fn etcd_leader(&self) -> Result<String> {
        coordination::leader(self.info.network, &self.info.etcd)
    }

    /// Returns when all members of etcd answer and have a leader.
    pub fn wait_for_etcd(&self) -> Result<()> {
        coordination::wait(&self.sandbox, &self.info.etcd)
    }

    /// Puts etcd's data aside, which ends and starts its members.
    pub fn save_etcd(&self) -> Result<()> {
        coordination::save(&self.sandbox, &self.info.etcd, &self.info.directory)
    }

    /// Starts etcd anew on the data that was last put aside: it goes back in time.
    pub fn restore_etcd(&self) -> Result<()> {
        coordination::restore(&self.sandbox, &self.info.etcd, &self.info.directory)
    }

    /// Makes etcd anew from the data that was last put aside, with its own tool: it goes back in time, as
    /// another cluster.
    pub fn restore_etcd_anew(&self) -> Result<()> {
        let info = &self.info;
        coordination::restore_anew(&self.sandbox, info.network, &info.etcd, &info.directory)
    }

    /// Starts etcd anew with nothing in it.
    pub fn forget_etcd(&self) -> Result<()> {
        coordination::forget(&self.sandbox, &self.info.etcd, &self.info.directory)
    }

    /// Says which pod addresses belong to a data centre, so that partitions cut them too.
    pub fn place_pods(&self, idc: &str, addresses: &[String]) -> Result<()> {
        network::place_pods(&self.sandbox, self.info.network, idc, addresses)
    }

    /// Creates and fills sysbench's tables in a data centre's database, which must take writes.
    pub fn prepare_load(&self, idc: &str, spec: LoadSpec) -> Result<()> {
        load::prepare(
            &self.sandbox,
            &self.info.directory,
            self.database(idc)?,
            spec,
        )
    }

    /// Runs sysbench against a data centre's database until it has committed `spec.events`
    /// transactions.
    pub fn run_load(&self, idc: &str, spec: LoadSpec) -> Result<()> {
        load::run(
            &self.sandbox,
            &self.info.directory,
            self.database(idc)?,
            spec,
        )
    }

    /// Starts sysbench in the network of `from` against the database of `at`.
    pub fn start_load(&self, from: &str, at: &str, spec: LoadSpec) -> Result<Load<'_>> {
        load::start(
            &self.sandbox,
            &self.info.directory,
            self.database(at)?,
            from,
            spec,
        )
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a part's start panicked; what it said is above"),
    }
}

fn server_specs(databases: &Databases) -> Vec<DatabaseSpec> {
    let numbered = (1_u32..).zip(&databases.servers);
    numbered
        .map(|(number, (idc, engine, options))| DatabaseSpec {
            idc: idc.clone(),
            engine: *engine,
            number,
            options: options.clone(),
        })
        .collect()
}

/// Logs of an earlier world of this name would be mistaken for this one's.
fn clear_logs(directory: &Path) -> Result<()> {
    let logs = directory.join("logs");
    drop(fs::remove_dir_all(&logs));
    drop(fs::remove_file(directory.join(INFO_FILE)));
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))
}

/// A private `/run`, so that sockets and names of namespaces clash with nothing, and the world's
/// directory inside MySQL's root directory.
fn mounts(directory: &Path) -> String {
    let root = tools::mysql_root();
    format!(
        "mount -t tmpfs tmpfs /run\n\
         mount --bind '{}' '{root}/world'\n\
         mount -t proc proc '{root}/proc'\n",
        directory.display(),
        root = root.display(),
    )
}
