//! etcd in trouble.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::World;
use harness::coordination::part;
use harness::network::IDCS;
use model::IntentKind;

use super::Scene;
use crate::application::now;

pub async fn kill_leader(scene: &mut Scene<'_>) -> Result<()> {
    let leader = leader(scene)?;
    scene.begin_where_it_stays();
    scene.rig.world.kill(&leader)?;
    scene.hold(3_000, 9_000).await;
    scene.rig.world.start(&leader)?;
    scene.rig.world.wait_for_etcd()
}

pub async fn freeze_leader(scene: &mut Scene<'_>) -> Result<()> {
    let leader = leader(scene)?;
    scene.begin();
    scene.rig.world.pause(&leader)?;
    scene.hold(3_000, 9_000).await;
    scene.rig.world.resume(&leader)?;
    scene.rig.world.wait_for_etcd()
}

/// The member of etcd that leads. A takeover takes longer where that is lost with the primary.
pub(super) fn leader(scene: &mut Scene<'_>) -> Result<String> {
    let idc = scene.rig.world.etcd_leader()?;
    scene.note(format!("leader in {idc}, primary in {}", scene.primary));
    Ok(part(&idc))
}

pub async fn quorum_lost(scene: &mut Scene<'_>) -> Result<()> {
    let mut idcs = IDCS;
    scene.random.shuffle(&mut idcs);
    let lost = [part(idcs[0]), part(idcs[1])];
    scene.note(format!("lost in {} and {}", idcs[0], idcs[1]));
    scene.begin();
    for member in &lost {
        scene.rig.world.kill(member)?;
    }
    scene.hold(1_500, 13_000).await;
    for member in &lost {
        scene.rig.world.start(member)?;
    }
    scene.rig.world.wait_for_etcd()
}

/// etcd's disks are put back to before a switchover: it names the former primary and its epoch, and
/// knows no session of now. Then a person acknowledges, where the product waits for that.
pub async fn restored(scene: &mut Scene<'_>) -> Result<()> {
    goes_back(scene, World::restore_etcd).await
}

/// The same by etcd's own tool, which makes another cluster of it.
pub async fn restored_anew(scene: &mut Scene<'_>) -> Result<()> {
    goes_back(scene, World::restore_etcd_anew).await
}

async fn goes_back(scene: &mut Scene<'_>, back: fn(&World) -> Result<()>) -> Result<()> {
    let rig = scene.rig;
    rig.world.save_etcd()?;
    rig.steady(Duration::from_secs(60)).await?;
    let other = scene.other.clone();
    let id = rig.ask(IntentKind::Planned, &other, "before").await?;
    let ended = rig.asked(&id, Duration::from_secs(30)).await?;
    scene.note(format!("switched to {other}: {ended:?}"));
    scene
        .taken(now(), Duration::from_secs(10), |member| member == other)
        .await?
        .with_context(|| format!("{other} takes no writes after a switchover to it"))?;
    scene.begin();
    back(&rig.world)?;
    // Two lease times and what it takes to notice: what is going to be done by itself is done.
    scene.hold(14_000, 18_000).await;
    rig.acknowledge().await
}
