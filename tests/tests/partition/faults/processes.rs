//! Processes that die or freeze.

use anyhow::Result;

use super::Scene;
use crate::parts;

/// The members of an IDC's arbiters that run: all of them are hit, so that a standby does not hide
/// what is tried. That a standby takes over is tried by killing the active one alone.
fn arbiters(scene: &Scene<'_>) -> Vec<String> {
    let mut all = vec![parts::arbiter(&scene.primary, false)];
    if scene.rig.options.standby {
        all.push(parts::arbiter(&scene.primary, true));
    }
    all
}

pub async fn kill_arbiter(scene: &mut Scene<'_>) -> Result<()> {
    let arbiters = arbiters(scene);
    let times = scene.random.between(1, 3);
    scene.note(format!("{times} times"));
    scene.begin();
    for _ in 0..times {
        let victim = scene.random.pick(&arbiters).clone();
        scene.rig.world.kill(&victim)?;
        scene.hold(1_000, 5_000).await;
    }
    // Longer than a guard of its predecessors.
    scene.hold(6_500, 8_000).await;
    Ok(())
}

pub async fn freeze_arbiter(scene: &mut Scene<'_>) -> Result<()> {
    let arbiters = arbiters(scene);
    scene.begin();
    for arbiter in &arbiters {
        scene.rig.world.pause(arbiter)?;
    }
    scene.must_be_taken_over().await?;
    scene.hold(100, 3_000).await;
    for arbiter in &arbiters {
        scene.rig.world.resume(arbiter)?;
    }
    Ok(())
}

/// Started again at once, as by a supervisor, or only when the other member has taken over.
pub async fn kill_database(scene: &mut Scene<'_>) -> Result<()> {
    let primary = scene.primary.clone();
    let part = harness::database::part(&primary);
    let at_once = scene.random.coin();
    scene.begin();
    scene.rig.world.kill(&part)?;
    if at_once {
        scene.note("started again at once");
        scene.hold(100, 2_500).await;
    } else {
        scene.must_be_taken_over().await?;
        scene.hold(100, 3_000).await;
    }
    scene.rig.world.start(&part)?;
    scene.rig.world.wait_for_database(&primary)
}

pub async fn freeze_database(scene: &mut Scene<'_>) -> Result<()> {
    let part = harness::database::part(&scene.primary);
    scene.begin();
    scene.rig.world.pause(&part)?;
    scene.must_be_taken_over().await?;
    scene.hold(100, 4_000).await;
    scene.rig.world.resume(&part)
}

pub async fn idc_gone(scene: &mut Scene<'_>) -> Result<()> {
    let primary = scene.primary.clone();
    let rig = scene.rig;
    let parts = rig.parts_of(&primary);
    rig.keeper.hold(&parts);
    scene.begin();
    for part in &parts {
        rig.world.kill(part)?;
    }
    scene.must_be_taken_over().await?;
    scene.hold(100, 4_000).await;
    rig.world.start(&harness::coordination::part(&primary))?;
    rig.world.start(&harness::database::part(&primary))?;
    rig.keeper.release();
    rig.world.wait_for_database(&primary)?;
    rig.world.wait_for_etcd()
}
