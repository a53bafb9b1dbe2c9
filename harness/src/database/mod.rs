//! Database servers, one in each data centre that holds data.

mod sql;
mod template;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::sandbox::{PartSpec, Sandbox};
use crate::{shell, tools};

pub use sql::{Account, Rows};

/// The product's account and its password, as in `sql/`.
pub const PRODUCT: (&str, &str) = ("multiactive", "multiactive-password");
/// An application's account and its password, as in `sql/`.
pub const APPLICATION: (&str, &str) = ("app", "app-password");
/// The schema that the application may use.
pub const SCHEMA: &str = "orders";
/// A Unix socket's path may not be longer.
const SOCKET_LIMIT: usize = 107;

/// Which server software.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// MariaDB, as the system packages it.
    MariaDb,
    /// MySQL, in a root directory of its own.
    MySql,
}

impl Engine {
    /// The name in messages and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

/// A running server, as tests need to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Database {
    /// The data centre.
    pub idc: String,
    /// The software.
    pub engine: Engine,
    /// Where it is reached from pods, data centres and the host.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The socket through which `root` needs no password.
    pub socket: PathBuf,
    /// The product's account.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The application's account.
    pub app_user: String,
    /// Its password.
    pub app_password: String,
    /// The application's schema.
    pub schema: String,
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct DatabaseSpec {
    /// The data centre.
    pub idc: String,
    /// The software.
    pub engine: Engine,
    /// Distinct in the world: the server's id, and its offset among generated keys.
    pub number: u32,
    /// More options, after and so stronger than those of the harness.
    pub options: Vec<String>,
}

/// The name of the part that is a data centre's database.
pub fn part(idc: &str) -> String {
    format!("database-{idc}")
}

/// Where a server finds its data, in the sandbox's view of the file systems.
pub fn data(run: &Path, database: &Database) -> PathBuf {
    let run = match database.engine {
        Engine::MariaDb => run.to_owned(),
        Engine::MySql => tools::mysql_root().join("world"),
    };
    run.join("database").join(&database.idc).join("data")
}

/// Starts a server on fresh data and returns when it answers.
pub fn start(
    sandbox: &Sandbox,
    run: &Path,
    address: &str,
    spec: &DatabaseSpec,
) -> Result<Database> {
    let home = run.join("database").join(&spec.idc);
    fs::create_dir_all(home.join("tmp"))?;
    template::copy(spec.engine, &home.join("data"))?;
    let database = Database {
        idc: spec.idc.clone(),
        engine: spec.engine,
        host: address.to_owned(),
        port: 3306,
        socket: home.join("sock"),
        user: PRODUCT.0.to_owned(),
        password: PRODUCT.1.to_owned(),
        app_user: APPLICATION.0.to_owned(),
        app_password: APPLICATION.1.to_owned(),
        schema: SCHEMA.to_owned(),
    };
    anyhow::ensure!(
        database.socket.as_os_str().len() <= SOCKET_LIMIT,
        "{} is too long for a socket ({SOCKET_LIMIT} bytes): use a shorter path for the checkout, \
         or a shorter name for the world",
        database.socket.display()
    );
    let part_spec = PartSpec::new(command(run, address, spec)).in_netns(&spec.idc);
    sandbox.spawn(&part(&spec.idc), part_spec)?;
    wait(sandbox, &database)?;
    Ok(database)
}

/// Returns when the server answers, for example after it was started again.
pub fn wait(sandbox: &Sandbox, database: &Database) -> Result<()> {
    let name = part(&database.idc);
    shell::poll(&format!("{name} answers"), Duration::from_secs(60), || {
        let Err(error) = database.root("SELECT 1") else {
            return Ok(());
        };
        sandbox.check_running(&name)?;
        let log = sandbox.log(&name);
        Err(error).with_context(|| format!("{}:\n{}", log.display(), shell::tail(&log)))
    })
}

fn command(run: &Path, address: &str, spec: &DatabaseSpec) -> Vec<String> {
    let (mut words, root) = match spec.engine {
        Engine::MariaDb => (vec!["mariadbd".to_owned()], run.display().to_string()),
        Engine::MySql => {
            let root = tools::mysql_root().display().to_string();
            (
                vec!["chroot".to_owned(), root, "mysqld".to_owned()],
                "/world".to_owned(),
            )
        }
    };
    let home = format!("{root}/database/{}", spec.idc);
    // It comes first, and with it MySQL does not read what was persisted.
    let bare = |option: &str| option == "--no-defaults";
    let asked = spec.options.iter().any(|option| bare(option));
    words.push(match spec.engine {
        Engine::MySql if !asked => "--defaults-file=/dev/null".to_owned(),
        _ => "--no-defaults".to_owned(),
    });
    words.extend([
        "--user=root".to_owned(),
        format!("--datadir={home}/data"),
        format!("--tmpdir={home}/tmp"),
        format!("--socket={home}/sock"),
        format!("--pid-file={home}/pid"),
        format!("--bind-address={address}"),
        format!("--server-id={}", spec.number),
        format!("--auto-increment-offset={}", spec.number),
    ]);
    words.extend(COMMON.map(str::to_owned));
    words.extend(match spec.engine {
        Engine::MariaDb => MARIADB.map(str::to_owned).to_vec(),
        Engine::MySql => MYSQL.map(str::to_owned).to_vec(),
    });
    words.extend(spec.options.iter().filter(|it| !bare(it)).cloned());
    words
}

const COMMON: [&str; 15] = [
    "--port=3306",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--auto-increment-increment=2",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=256M",
    "--max-connections=300",
    "--event-scheduler=OFF",
    // A server that starts, for whatever reason, takes no writes until somebody who knows says so.
    "--read-only=1",
    "--local-infile=0",
];
const MARIADB: [&str; 2] = ["--gtid-strict-mode=1", "--log-slave-updates=1"];
const MYSQL: [&str; 5] = [
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-replica-updates=ON",
    "--mysqlx=OFF",
    "--secure-file-priv=NULL",
];
