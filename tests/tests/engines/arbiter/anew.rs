//! etcd is lost with its disks and made anew: the databases know more than it does (rule 10).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::World;
use model::{AckRecord, Epoch, IntentKind, IntentPhase};

use super::life::{LEASE, protected};
use super::rig::{DATA, Rig, until, with_world};

#[test]
fn an_etcd_made_anew_is_believed_once_somebody_has_looked() -> Result<()> {
    with_world(&async |world| Box::pin(made_anew(world)).await)
}

async fn made_anew(world: &World) -> Result<()> {
    let mut rig = Rig::new(world, "anew").await?;
    let epoch = protected(&mut rig).await?;
    // The member with the lower priority holds the Unit when etcd is lost.
    let phase = rig.ask(IntentKind::Planned, "bj", false).await?;
    ensure!(matches!(phase, IntentPhase::Done { .. }), "{phase:?}");
    let epoch = rig.primary("bj", epoch, Duration::from_secs(5)).await?;
    rig.written("bj", Duration::from_secs(5)).await?;
    let moves = rig.moves();

    world.forget_etcd()?;
    // What an operator does as soon as it sees that nothing is there.
    rig.publish(false).await?;
    let begin = Instant::now();
    for idc in DATA {
        until("arbiters do not believe etcd", LEASE * 3, async || {
            let status = rig.status(idc)?;
            let member = status.units.get(&rig.unit);
            Ok(member.filter(|it| it.failover.doubts_etcd()).map(drop))
        })
        .await?;
    }
    // The witness as well, and it says so though it has no member.
    until("the witness does not believe etcd", LEASE * 3, async || {
        Ok(rig.status("witness")?.doubts.get(&rig.unit).map(drop))
    })
    .await?;
    until("three lease times go by", LEASE * 4, async || {
        let state = rig.state().await?;
        ensure!(
            state.primary.is_none() && state.epoch.is_none(),
            "{state:?}"
        );
        Ok((begin.elapsed() > LEASE * 3).then_some(()))
    })
    .await?;
    for idc in DATA {
        ensure!(!rig.status(idc)?.units[&rig.unit].writable, "{idc} is open");
    }

    let record = AckRecord {
        epoch: Epoch::NONE,
        at: jiff::Timestamp::now(),
    };
    rig.topology.acknowledge(&rig.unit, &record).await?;
    let again = rig.primary("bj", epoch, Duration::from_secs(30)).await?;
    ensure!(again == epoch + 1, "epoch {again} after {epoch}");
    rig.written("bj", Duration::from_secs(10)).await?;
    until("the witness believes it again", LEASE, async || {
        Ok(rig.status("witness")?.doubts.is_empty().then_some(()))
    })
    .await?;
    ensure!(rig.moves() == moves, "writes moved to another server");
    rig.stop_arbiters()
}
