//! A planned switchover whose target does not catch up: it is cancelled, and the old primary goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::World;
use model::{Epoch, IntentKind, IntentPhase, MemberRole};

use super::life::protected;
use super::rig::{Rig, with_world};

/// The target's time to catch up, less what a slow machine may take to notice its end.
const STOOD_STILL: Duration = Duration::from_secs(9);

#[test]
fn a_switchover_whose_target_stands_still_is_cancelled() -> Result<()> {
    with_world(&async |world| Box::pin(cancelled(world)).await)
}

async fn cancelled(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "cancelled").await?;
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let before = rig.moves();

    // What is written from now on never counts as applied in bj, whose lag stays small.
    rig.checkpoints.hold("sh");
    rig.written("sh", Duration::from_secs(5)).await?;
    let begin = Instant::now();
    let phase = rig.ask(IntentKind::Planned, "bj", false).await?;
    let IntentPhase::Cancelled { reason } = &phase else {
        anyhow::bail!("not cancelled: {phase:?}");
    };
    ensure!(
        reason.contains("bj did not catch up and take over within 10 s"),
        "{reason}"
    );
    stayed(&rig, epoch, begin).await?;

    // Nothing of it is left that would stand in the way of the next one.
    rig.checkpoints.release("sh");
    let phase = rig.ask(IntentKind::Planned, "bj", false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    rig.primary("bj", epoch, Duration::from_secs(5)).await?;
    rig.written("bj", Duration::from_secs(5)).await?;
    let moves = rig.moves() - before;
    ensure!(moves == 1, "writes moved {moves} times, not once to bj");
    rig.stop_arbiters()
}

/// The primary was fenced for it, takes writes again in the same epoch, and the target never did.
async fn stayed(rig: &Rig<'_>, epoch: u64, begin: Instant) -> Result<()> {
    let open = rig.primary("sh", epoch - 1, Duration::from_secs(5)).await?;
    ensure!(open == epoch, "epoch {open} instead of {epoch}");
    rig.written("sh", Duration::from_secs(5)).await?;
    let (gap, _) = rig.longest_gap(begin);
    println!("a switchover was cancelled: {gap:?} without writes");
    ensure!(
        gap > STOOD_STILL,
        "{gap:?} without writes: the primary was not fenced until the target's time was over"
    );
    let writes = rig.writes();
    let elsewhere = writes
        .iter()
        .find(|write| write.idc == "bj" && write.sent > begin);
    ensure!(elsewhere.is_none(), "the target took {elsewhere:?}");
    let state = rig.state().await?;
    let current = state.epoch.map(|it| it.value.epoch);
    ensure!(current == Some(Epoch(epoch)), "{current:?} after {epoch}");
    let next = rig.topology.receipt(&rig.unit, Epoch(epoch + 1)).await?;
    ensure!(next.is_none(), "nothing moved, and a receipt says {next:?}");
    let status = rig.status("bj")?;
    let target = &status.units[&rig.unit];
    ensure!(
        target.role == MemberRole::Replica && !target.writable,
        "{target:?}"
    );
    Ok(())
}
