//! The Unit goes back by itself to the member that ought to have it, once that has been in sync for a
//! while.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use change::Position;
use harness::World;
use model::{FailoverMode, FenceProof, Receipt, TransitionKind};

use super::life::{protected, servers_back};
use super::rig::{Rig, with_world};

/// How long a member has to be in sync before it asks for the primary back. No Unit says another time.
const IN_SYNC: Duration = Duration::from_secs(60);
/// A machine that stands still for a second makes it begin anew.
const GONE_BACK: Duration = Duration::from_secs(150);

#[test]
fn a_unit_goes_back_once_its_first_member_is_in_sync() -> Result<()> {
    with_world(&async |world| {
        let outcome = Box::pin(goes_back(world)).await;
        // Whatever came of it, the next test finds both servers.
        let back = servers_back(world);
        outcome.and(back)
    })
}

async fn goes_back(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "failback").await?;
    rig.policy.mode = FailoverMode::Automatic;
    rig.policy.failback = FailoverMode::Automatic;
    rig.policy.cooldown_millis = 1_000;
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    rig.ready_to_fail_over().await?;
    let before = rig.moves();

    let died = Instant::now();
    world.kill(&harness::database::part("sh"))?;
    let epoch = rig.primary("bj", epoch, Duration::from_secs(20)).await?;
    let first = rig.written("bj", Duration::from_secs(5)).await?;
    println!("failed over {:?} after the kill", first.acknowledged - died);
    let receipt = rig.receipt(epoch).await?;
    ensure!(
        receipt.kind == TransitionKind::Failover && receipt.automatic,
        "{receipt:?}"
    );

    let started = Instant::now();
    servers_back(world)?;
    rig.follows("sh").await?;
    let epoch = rig.primary("sh", epoch, GONE_BACK).await?;
    let first = rig.written("sh", Duration::from_secs(5)).await?;
    let after = first.acknowledged - started;
    println!("went back {after:?} after the server was started");
    ensure!(
        after >= IN_SYNC,
        "it went back after {after:?}: it cannot have been in sync for {IN_SYNC:?}"
    );
    lost_nothing(&rig.receipt(epoch).await?)?;
    let moves = rig.moves() - before;
    ensure!(moves == 2, "writes moved {moves} times, not to bj and back");
    rig.stop_arbiters()
}

/// It was planned: bj was fenced, and sh had all that bj had acknowledged until then.
fn lost_nothing(receipt: &Receipt) -> Result<()> {
    let from = receipt.from.as_ref().map(model::IdcName::as_str);
    ensure!(
        receipt.kind == TransitionKind::Switchover && from == Some("bj"),
        "{receipt:?}"
    );
    ensure!(receipt.may_be_lost_millis == Some(0), "{receipt:?}");
    let Some(FenceProof::Fenced { position, .. }) = &receipt.proof else {
        anyhow::bail!("bj was not seen to be fenced: {receipt:?}");
    };
    let applied = receipt.applied.as_ref().context("nothing was applied")?;
    let (fenced, applied): (Position, Position) = (position.0.parse()?, applied.0.parse()?);
    ensure!(
        applied.contains(&fenced),
        "sh had applied {applied} of bj, which was fenced at {fenced}"
    );
    Ok(())
}
