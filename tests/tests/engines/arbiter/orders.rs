//! A person takes a member out and lets it in again, and holds the automation: by `mactl`, directly
//! against etcd.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use model::{FenceProof, IntentKind, IntentPhase};

use super::life::{LEASE, protected};
use super::rig::{Rig, until, with_world};

#[test]
fn a_member_that_a_person_takes_out_stays_closed() -> Result<()> {
    with_world(&async |world| Box::pin(taken_out(world)).await)
}

async fn taken_out(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "fenced").await?;
    let unit = rig.unit.to_string();
    let epoch = protected(&mut rig).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let before = rig.moves();

    let (code, said) = rig.mactl(&["fence", &unit, "hz", "--yes"])?;
    ensure!(
        code == Some(3) && said.contains("sh, bj"),
        "{code:?}: {said}"
    );
    let said = rig.mactl_done(&["fence", &unit, "sh", "--dry-run"])?;
    ensure!(said.contains("sh is the primary"), "{said}");
    ensure!(
        rig.state().await?.fence_orders.is_empty(),
        "a dry run wrote"
    );
    let (code, _) = rig.mactl(&["fence", &unit, "sh"])?;
    ensure!(code == Some(3), "unasked: {code:?}");

    let reason = ["--reason", "its disk is worn"];
    rig.mactl_done(&[&["fence", &unit, "sh", "--yes"][..], &reason].concat())?;
    let state = rig.state().await?;
    ensure!(state.primary.is_none(), "{:?}", state.primary);
    let vacated = state.vacated.context("no proof of the release")?.value;
    ensure!(
        vacated.epoch.0 == epoch && matches!(vacated.proof, FenceProof::Fenced { .. }),
        "{vacated:?}"
    );
    stays_closed(&rig).await?;
    refused(&rig, IntentKind::Forced, "sh").await?;
    let said = rig.mactl_done(&["status", &unit])?;
    ensure!(
        said.contains("fenced by ann") && said.contains("its disk is worn"),
        "{said}"
    );

    let phase = rig.ask(IntentKind::Forced, "bj", false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig.primary("bj", epoch, Duration::from_secs(10)).await?;
    rig.written("bj", Duration::from_secs(5)).await?;
    refused(&rig, IntentKind::Planned, "sh").await?;

    rig.mactl_done(&["unfence", &unit, "sh", "--yes"])?;
    held(&rig, &unit).await?;
    let phase = rig.ask(IntentKind::Planned, "sh", false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    rig.primary("sh", epoch, Duration::from_secs(10)).await?;
    rig.written("sh", Duration::from_secs(5)).await?;
    let moves = rig.moves() - before;
    ensure!(moves == 2, "writes moved {moves} times, not to bj and back");
    rig.stop_arbiters()
}

/// Neither its arbiter's restart nor the end of leases opens it.
async fn stays_closed(rig: &Rig<'_>) -> Result<()> {
    let since = Instant::now();
    rig.world.kill(&rig.part("sh"))?;
    rig.world.start(&rig.part("sh"))?;
    until("two lease times go by", LEASE * 3, async || {
        let state = rig.state().await?;
        ensure!(state.primary.is_none(), "{:?}", state.primary);
        Ok((since.elapsed() > LEASE * 2).then_some(()))
    })
    .await?;
    let status = rig.status("sh")?;
    let member = &status.units[&rig.unit];
    ensure!(
        !member.writable && member.message.contains("fenced by ann"),
        "{member:?}"
    );
    let writes = rig.writes();
    let write = writes.iter().find(|write| write.acknowledged > since);
    ensure!(write.is_none(), "{write:?}");
    Ok(())
}

async fn refused(rig: &Rig<'_>, kind: IntentKind, to: &str) -> Result<()> {
    let phase = rig.ask(kind, to, true).await?;
    let IntentPhase::Refused { reason } = &phase else {
        anyhow::bail!("{kind:?} to {to}: {phase:?}");
    };
    ensure!(reason.contains("was fenced by ann"), "{reason}");
    Ok(())
}

/// A hold in etcd refuses what the spec's would, until it is lifted; a spec's own stays.
async fn held(rig: &Rig<'_>, unit: &str) -> Result<()> {
    rig.mactl_done(&["pause", unit, "--reason", "work on the network"])?;
    let said = rig.mactl_done(&["status", unit])?;
    ensure!(said.contains("held by ann"), "{said}");
    let phase = rig.ask(IntentKind::Planned, "sh", false).await?;
    ensure!(
        matches!(&phase, IntentPhase::Refused { reason } if reason.contains("paused")),
        "{phase:?}"
    );
    // What an operator publishes leaves it alone.
    rig.publish(true).await?;
    rig.publish(false).await?;
    ensure!(rig.state().await?.pause_order.is_some(), "the hold is gone");
    rig.publish(true).await?;
    let (code, said) = rig.mactl(&["resume", unit])?;
    ensure!(
        code == Some(3) && said.contains("spec.paused"),
        "{code:?}: {said}"
    );
    ensure!(
        rig.state().await?.pause_order.is_none(),
        "it was not lifted"
    );
    rig.publish(false).await
}
