//! Somebody ends the session in which a guard runs, as tools do that end long queries: while the
//! member would have nothing that closes it without its arbiter, it is closed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::rig::{Rig, until};

/// An arbiter looks at its member every second.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Some of its heartbeats.
const SETTLED: Duration = Duration::from_secs(4);

/// Ends every guard of the primary in `sh`, and waits until it is open again with another one.
pub async fn guard_is_killed(rig: &Rig<'_>, epoch: u64) -> Result<()> {
    let database = rig.world.database("sh")?;
    let guards = || -> Vec<String> {
        let running = "SELECT id FROM information_schema.processlist \
                       WHERE info LIKE 'DO SLEEP(0.05) /* multiactive.guard%'";
        let mut found = Vec::new();
        // Between two of its sleeps one is not seen.
        for _ in 0..3 {
            // The fence may have ended the session in which this is asked.
            let seen = database.root(running).unwrap_or_default();
            found.extend(seen.into_iter().flatten());
        }
        found
    };
    let before = guards();
    ensure!(!before.is_empty(), "no guard runs at the primary");
    let begin = Instant::now();
    for id in &before {
        // One that was replaced meanwhile has ended.
        drop(database.root(&format!("KILL {id}")));
    }
    until("another guard runs", SEEN_WITHIN, async || {
        let running = guards();
        let all_new = running.iter().all(|id| !before.contains(id));
        Ok((all_new && !running.is_empty()).then_some(()))
    })
    .await?;
    // What the arbiter's look found just after that is done by now, if it found none.
    until("some heartbeats go by", SETTLED * 2, async || {
        Ok((begin.elapsed() > SETTLED).then_some(()))
    })
    .await?;
    rig.written("sh", Duration::from_secs(10)).await?;
    let (gap, writes) = rig.longest_gap(begin);
    println!("guard killed: {gap:?} at most between two of {writes} writes");
    let state = rig.state().await?;
    let found = state.epoch.map(|epoch| epoch.value.epoch.0);
    ensure!(found == Some(epoch), "epoch {found:?} instead of {epoch}");
    Ok(())
}
