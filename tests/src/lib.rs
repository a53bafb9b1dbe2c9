//! What the suites share.

pub mod history;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use harness::product::Product;
use harness::{Databases, Engine, World, WorldSpec, images, shell};

/// How long something may take on a slow machine before a test fails.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The one cluster of a suite: Kubernetes, etcd, MySQL in `sh`, MariaDB in `bj`, and the product
/// installed by Helm. Started by the first test that asks, ended with the process; tests take turns.
pub fn cluster() -> Result<MutexGuard<'static, World>> {
    static CLUSTER: OnceLock<Result<Mutex<World>, String>> = OnceLock::new();
    let world = CLUSTER.get_or_init(|| {
        let start = || -> Result<World> {
            let images: Vec<_> = images::PROCESSES
                .into_iter()
                .map(images::process)
                .collect::<Result<_>>()?;
            let databases = Databases::pair(Engine::MySql, Engine::MariaDb);
            let world = World::up(&WorldSpec::full("suite-cluster", databases))?;
            let product = Product::of(&world);
            product
                .install(&images)
                .with_context(|| product.describe())?;
            Ok(world)
        };
        start()
            .map(Mutex::new)
            .map_err(|error| format!("{error:#}"))
    });
    match world {
        // A test that failed leaves the world as it is; the next one says what it needs.
        Ok(world) => Ok(world.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => bail!("the cluster did not start: {error}"),
    }
}

/// Polls until a check holds.
pub fn eventually<T>(what: &str, check: impl FnMut() -> Result<T>) -> Result<T> {
    shell::poll(what, LIMIT, check)
}
