//! Worlds that tests share, and what they run on.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Result, bail};
use harness::{Databases, Engine, World, WorldSpec};

/// A world that is started by the first test that needs it; else why it did not start.
pub type Shared = OnceLock<Result<Mutex<World>, String>>;

/// The world, for one test alone.
pub fn lock(shared: &'static Shared, spec: &WorldSpec) -> Result<MutexGuard<'static, World>> {
    let start = || {
        World::up(spec)
            .map(Mutex::new)
            .map_err(|error| format!("{error:#}"))
    };
    match shared.get_or_init(start) {
        // A test that panicked before has left nothing that the next one relies on.
        Ok(world) => Ok(world.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => bail!("the world did not start: {error}"),
    }
}

/// MySQL in `sh` and MariaDB in `bj`.
pub fn one_of_each(name: &str) -> WorldSpec {
    WorldSpec {
        databases: Databases::pair(Engine::MySql, Engine::MariaDb),
        ..WorldSpec::empty(name)
    }
}

/// Runs something to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work)
}
