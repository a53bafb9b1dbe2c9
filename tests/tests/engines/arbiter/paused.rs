//! While automation is held, a Unit whose primary's database died stays where it is.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::World;
use model::{Epoch, FailoverMode, TransitionKind};

use super::life::{LEASE, protected, servers_back};
use super::rig::{DATA, Rig, until, with_world};

#[test]
fn a_paused_unit_fails_over_only_once_it_is_resumed() -> Result<()> {
    with_world(&async |world| {
        let outcome = Box::pin(paused(world)).await;
        // Whatever came of it, the next test finds both servers.
        let back = servers_back(world);
        outcome.and(back)
    })
}

async fn paused(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "paused").await?;
    rig.policy.mode = FailoverMode::Automatic;
    let unit = rig.unit.to_string();
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    rig.ready_to_fail_over().await?;
    let before = rig.moves();

    rig.mactl_done(&["pause", &unit, "--reason", "work on the network"])?;
    for idc in DATA {
        let what = format!("{idc} says that failover waits for a person");
        until(&what, Duration::from_secs(10), async || {
            let failover = &rig.status(idc)?.units[&rig.unit].failover;
            Ok((failover.reason == "Paused").then_some(()))
        })
        .await?;
    }
    let died = Instant::now();
    world.kill(&harness::database::part("sh"))?;
    stays(&rig, epoch, died).await?;

    let resumed = Instant::now();
    rig.mactl_done(&["resume", &unit])?;
    let epoch = rig.primary("bj", epoch, Duration::from_secs(20)).await?;
    let first = rig.written("bj", Duration::from_secs(5)).await?;
    println!(
        "failover {:?} after the unit was resumed",
        first.acknowledged - resumed
    );
    let receipt = rig.receipt(epoch).await?;
    ensure!(
        receipt.kind == TransitionKind::Failover && receipt.automatic,
        "{receipt:?}"
    );
    servers_back(world)?;
    rig.follows("sh").await?;
    let moves = rig.moves() - before;
    ensure!(moves == 1, "writes moved {moves} times, not once to bj");
    rig.stop_arbiters()
}

/// A majority votes the primary down, which without the hold would be a failover, and nothing comes
/// of it.
async fn stays(rig: &Rig<'_>, epoch: u64, died: Instant) -> Result<()> {
    let mut voted = 0;
    until("three lease times go by", LEASE * 4, async || {
        let state = rig.state().await?;
        let current = state.epoch.as_ref().map(|it| it.value.epoch);
        ensure!(
            current == Some(Epoch(epoch)),
            "{current:?} after {epoch}, and the unit is paused"
        );
        voted = state.votes.len();
        Ok((died.elapsed() > LEASE * 3).then_some(()))
    })
    .await?;
    ensure!(
        voted >= 2,
        "{voted} IDCs vote the dead primary down: there was nothing to hold back"
    );
    ensure!(!rig.status("bj")?.units[&rig.unit].writable, "bj is open");
    let writes = rig.writes();
    let write = writes
        .iter()
        .find(|write| write.idc == "bj" && write.sent > died);
    ensure!(write.is_none(), "bj took {write:?}");
    Ok(())
}
