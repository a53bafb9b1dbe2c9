//! Packets that vanish.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Scene;
use crate::parts::{ARBITER_ACCOUNT, ETCD_PORT, THIRD};

pub async fn isolate_primary(scene: &mut Scene<'_>) -> Result<()> {
    let primary = scene.primary.clone();
    super::coordination::leader(scene)?;
    scene.begin_where_it_moves_once();
    scene.rig.world.isolate(&primary)?;
    scene.must_be_taken_over().await?;
    scene.hold(200, 4_000).await;
    scene.rig.world.heal_all()
}

pub async fn isolate_replica(scene: &mut Scene<'_>) -> Result<()> {
    let other = scene.other.clone();
    stays_up(scene, &other).await
}

pub async fn isolate_witness(scene: &mut Scene<'_>) -> Result<()> {
    stays_up(scene, THIRD).await
}

async fn stays_up(scene: &mut Scene<'_>, isolated: &str) -> Result<()> {
    scene.begin_where_it_stays();
    scene.rig.world.isolate(isolated)?;
    scene.hold(4_000, 13_000).await;
    scene.rig.world.heal_all()
}

/// Whatever comes of it: some directions matter, others do not.
pub async fn one_way(scene: &mut Scene<'_>) -> Result<()> {
    let (primary, other) = (scene.primary.clone(), scene.other.clone());
    let cuts: &[(&str, &str)] = match scene.random.between(0, 4) {
        0 => &[(&primary, &other), (&primary, THIRD)],
        1 => &[(&other, &primary), (THIRD, &primary)],
        2 => &[(&primary, &other)],
        3 => &[(&other, &primary)],
        _ => &[(THIRD, &other), (&primary, &other)],
    };
    scene.begin();
    for (from, to) in cuts {
        scene.note(format!("{from}>{to}"));
        scene.rig.world.partition_one_way(from, to)?;
    }
    scene.taken_over(Duration::from_secs(14)).await?;
    scene.hold(200, 3_000).await;
    scene.rig.world.heal_all()
}

pub async fn flapping(scene: &mut Scene<'_>) -> Result<()> {
    let primary = scene.primary.clone();
    let end = Instant::now() + Duration::from_millis(scene.random.between(9_000, 16_000));
    scene.begin();
    while Instant::now() < end {
        scene.rig.world.isolate(&primary)?;
        scene.hold(100, 3_500).await;
        scene.rig.world.heal_all()?;
        scene.hold(50, 1_800).await;
    }
    Ok(())
}

pub async fn arbiter_without_etcd(scene: &mut Scene<'_>) -> Result<()> {
    cut_arbiter(scene, ETCD_PORT).await
}

pub async fn arbiter_without_database(scene: &mut Scene<'_>) -> Result<()> {
    let port = scene.rig.database(&scene.primary)?.port;
    cut_arbiter(scene, port).await
}

async fn cut_arbiter(scene: &mut Scene<'_>, port: u16) -> Result<()> {
    let primary = scene.primary.clone();
    scene.begin_where_it_moves_once();
    let world = &scene.rig.world;
    world.cut_account(&primary, ARBITER_ACCOUNT, port)?;
    scene.must_be_taken_over().await?;
    scene.hold(200, 3_000).await;
    world.heal_accounts()
}
