//! Faults of etcd alone, where the Unit has failsafe: the other arbiters promise not to take over, so
//! the primary stays open.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Scene, coordination};
use crate::parts::{ARBITER_ACCOUNT, ETCD_PORT};

/// The arbiters take a primary up again within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// Two of three members of etcd are killed.
pub async fn quorum_lost(scene: &mut Scene<'_>) -> Result<()> {
    let tried = coordination::quorum_lost(scene).await;
    end(scene, tried).await
}

/// The primary's arbiter reaches no etcd for longer than a lease, whoever else does.
pub async fn arbiter_without_etcd(scene: &mut Scene<'_>) -> Result<()> {
    let tried = cut_off(scene).await;
    end(scene, tried).await
}

async fn cut_off(scene: &mut Scene<'_>) -> Result<()> {
    let primary = scene.primary.clone();
    scene.begin();
    scene
        .rig
        .world
        .cut_account(&primary, ARBITER_ACCOUNT, ETCD_PORT)?;
    scene.hold(8_000, 14_000).await;
    scene.rig.world.heal_accounts()
}

/// The holder may have taken its own Unit up again, under the next epoch, since its lease was lost.
async fn end(scene: &Scene<'_>, tried: Result<()>) -> Result<()> {
    let settled = scene.rig.steady(SETTLES_WITHIN).await;
    tried?;
    settled?;
    let epoch = scene.rig.state().await?.epoch;
    let holder = epoch.map_or(String::new(), |epoch| epoch.value.idc.to_string());
    ensure!(
        holder == scene.primary,
        "everybody had promised not to take it from {}, and yet {holder} has it",
        scene.primary
    );
    Ok(())
}
