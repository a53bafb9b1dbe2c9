//! A world that stays: `cargo xtask cluster`.

use anyhow::{Result, bail};
use harness::{Databases, Engine, World, WorldInfo, WorldSpec, paths};

const NAME: &str = "local";

struct Options {
    name: String,
    databases: Databases,
    kubernetes: bool,
}

fn parse(words: &[&str]) -> Result<Options> {
    let mut options = Options {
        name: NAME.to_owned(),
        databases: Databases::pair(Engine::MariaDb, Engine::MariaDb),
        kubernetes: true,
    };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--no-databases" => options.databases = Databases::none(),
            "--no-kubernetes" => options.kubernetes = false,
            "--engine" => options.databases = engines(words.next().unwrap_or_default())?,
            "--name" => options.name = name(words.next().unwrap_or_default())?,
            _ => bail!("no such option: {word}; `cargo xtask help` lists them"),
        }
    }
    Ok(options)
}

fn engines(word: &str) -> Result<Databases> {
    match word {
        "mariadb" => Ok(Databases::pair(Engine::MariaDb, Engine::MariaDb)),
        "mysql" => Ok(Databases::pair(Engine::MySql, Engine::MySql)),
        "mixed" => Ok(Databases::pair(Engine::MySql, Engine::MariaDb)),
        _ => bail!("--engine is mariadb, mysql or mixed, not `{word}`"),
    }
}

/// It becomes the name of a directory.
fn name(word: &str) -> Result<String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if word.is_empty() || !word.chars().all(plain) {
        bail!("--name takes letters, digits and hyphens, not `{word}`");
    }
    Ok(word.to_owned())
}

/// Starts a world and leaves it running.
pub fn up(words: &[&str]) -> Result<()> {
    let options = parse(words)?;
    let mut spec = WorldSpec::full(&options.name, options.databases);
    spec.kubernetes = options.kubernetes;
    // Whoever says `cluster up` wants one of its own.
    spec.kubeconfig = None;
    let mut world = World::up(&spec)?;
    world.keep()?;
    println!("\n{}", hint(world.info()));
    Ok(())
}

/// Ends a world.
pub fn down(words: &[&str]) -> Result<()> {
    let options = parse(words)?;
    if !World::end(&options.name)? {
        harness::report::note(&format!("the world `{}` was not up", options.name));
    }
    Ok(())
}

/// Prints what a shell needs, to be evaluated by it.
pub fn environment(words: &[&str]) -> Result<()> {
    let options = parse(words)?;
    print!("{}", exports(World::attach(&options.name)?.info()));
    Ok(())
}

fn exports(info: &WorldInfo) -> String {
    let mut text = String::new();
    if let Some(kubeconfig) = &info.kubeconfig {
        text.push_str(&format!("export KUBECONFIG={}\n", kubeconfig.display()));
    }
    if !info.etcd.is_empty() {
        text.push_str(&format!(
            "export ETCD={0} ETCDCTL_ENDPOINTS={0}\n",
            info.etcd.join(",")
        ));
    }
    // `mactl` is beside the other binaries that the images are made of.
    let ours = paths::release("");
    text.push_str(&format!(
        "export PATH={}:{}:$PATH\n",
        paths::tools().join("bin").display(),
        ours.display()
    ));
    text
}

fn hint(info: &WorldInfo) -> String {
    let mut text = exports(info);
    text.push('\n');
    for database in &info.databases {
        text.push_str(&format!(
            "{} in {}: {}:{}\n  mariadb -u root -S {}\n  as an application: user {}, password {}, \
             schema {}\n  as the product: user {}, password {}\n",
            database.engine.name(),
            database.idc,
            database.host,
            database.port,
            database.socket.display(),
            database.app_user,
            database.app_password,
            database.schema,
            database.user,
            database.password,
        ));
    }
    text.push_str(&format!(
        "\nEverything about it: {0}/world.json, its logs: {0}/logs\nEnd it: cargo xtask cluster \
         down\n",
        info.directory.display()
    ));
    text
}
