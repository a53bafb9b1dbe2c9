//! What Kubernetes does for the product's processes: starts again what has ended, unless a fault
//! holds it down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use harness::sandbox::Sandbox;

/// A container that ended is started again about a second later.
const EVERY: Duration = Duration::from_millis(400);

#[derive(Default)]
struct State {
    kept: BTreeSet<String>,
    held: BTreeSet<String>,
    restarts: BTreeMap<String, u32>,
}

/// Keeps processes running, on a thread of its own.
pub struct Keeper {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Begins, with nothing to keep.
    pub fn start(run: &Path) -> Result<Self> {
        let sandbox = Sandbox::attach(run)?;
        let (state, stop) = (
            Arc::<Mutex<State>>::default(),
            Arc::new(AtomicBool::new(false)),
        );
        let (its, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(EVERY);
                if let Err(error) = keep(&sandbox, &its)
                    && !stopped.load(Ordering::Relaxed)
                {
                    println!("the keeper of processes: {error:#}");
                }
            }
        });
        Ok(Self {
            state,
            stop,
            thread: Some(thread),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps this one from now on.
    pub fn keep(&self, part: &str) {
        self.state().kept.insert(part.to_owned());
    }

    /// Leaves these down from now on, once they have ended.
    pub fn hold(&self, parts: &[String]) {
        self.state().held.extend(parts.iter().cloned());
    }

    /// Keeps all again.
    pub fn release(&self) {
        self.state().held.clear();
    }

    /// How often each was started again since the last call.
    pub fn restarts(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.state().restarts)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no result.
            drop(thread.join());
        }
    }
}

fn keep(sandbox: &Sandbox, state: &Mutex<State>) -> Result<()> {
    let states = sandbox.states()?;
    // Held all the while: a fault that begins now is not undone by what was seen before.
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let ended: Vec<String> = states
        .into_iter()
        .filter(|(name, part)| {
            !part.running() && state.kept.contains(name) && !state.held.contains(name)
        })
        .map(|(name, _)| name)
        .collect();
    for name in ended {
        sandbox.start_part(&name)?;
        *state.restarts.entry(name).or_default() += 1;
    }
    Ok(())
}
