//! Processes that die or freeze.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Scene;
use crate::parts;
use crate::rig::until;

/// A copy that is behind begins to ask after two seconds, and again every five.
const CATCH_UP: Duration = Duration::from_secs(30);

/// The arbiters of the primary's IDC: all, and the one that holds its session.
async fn arbiters(scene: &Scene<'_>) -> Result<(Vec<String>, String)> {
    let mut all = vec![parts::arbiter(&scene.primary, false)];
    if scene.rig.options.standby {
        all.push(parts::arbiter(&scene.primary, true));
    }
    let state = scene.rig.state().await?;
    let primary = parts::idc(&scene.primary)?;
    let session = state.sessions.get(&primary);
    let session = session.context("the primary's IDC has no session")?;
    // Each is called what its part is.
    let active = session.value.holder.clone();
    ensure!(all.contains(&active), "{active} holds the session");
    Ok((all, active))
}

/// The active one, again and again; Kubernetes starts each again.
pub async fn kill_arbiter(scene: &mut Scene<'_>) -> Result<()> {
    let times = scene.random.between(1, 3);
    scene.note(format!("{times} times"));
    if scene.rig.options.standby {
        scene.begin_where_it_stays();
    } else {
        scene.begin();
    }
    for _ in 0..times {
        let (_, active) = arbiters(scene).await?;
        scene.rig.world.kill(&active)?;
        scene.hold(1_500, 5_000).await;
    }
    // Longer than a guard of its predecessors.
    scene.hold(6_500, 8_000).await;
    Ok(())
}

/// The active one alone, and a standby goes on; or all of the IDC, and another IDC does.
pub async fn freeze_arbiter(scene: &mut Scene<'_>) -> Result<()> {
    let (all, active) = arbiters(scene).await?;
    let frozen = if scene.rig.options.standby && scene.random.coin() {
        scene.note("the active one");
        vec![active]
    } else {
        scene.note("all of the IDC");
        all.clone()
    };
    if frozen.len() == all.len() {
        scene.begin_where_it_moves_once();
    } else {
        scene.begin_where_it_stays();
    }
    for arbiter in &frozen {
        scene.rig.world.pause(arbiter)?;
    }
    if frozen.len() == all.len() {
        scene.must_be_taken_over().await?;
    } else {
        scene.hold(8_000, 11_000).await;
    }
    scene.hold(100, 3_000).await;
    for arbiter in &frozen {
        scene.rig.world.resume(arbiter)?;
    }
    Ok(())
}

/// Started again at once, as by a supervisor, or only when the other member has taken over.
pub async fn kill_database(scene: &mut Scene<'_>) -> Result<()> {
    let primary = scene.primary.clone();
    let part = harness::database::part(&primary);
    let at_once = scene.random.coin();
    scene.begin_where_it_moves_once();
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
    scene.begin_where_it_moves_once();
    scene.rig.world.pause(&part)?;
    scene.must_be_taken_over().await?;
    scene.hold(100, 4_000).await;
    scene.rig.world.resume(&part)
}

pub async fn idc_gone(scene: &mut Scene<'_>) -> Result<()> {
    kill_idc(scene)?;
    scene.must_be_taken_over().await?;
    scene.hold(100, 4_000).await;
    bring_idc_back(scene)
}

fn kill_idc(scene: &mut Scene<'_>) -> Result<()> {
    let parts = scene.rig.parts_of(&scene.primary);
    super::coordination::leader(scene)?;
    scene.rig.keeper.hold(&parts);
    scene.begin_where_it_moves_once();
    for part in &parts {
        scene.rig.world.kill(part)?;
    }
    Ok(())
}

fn bring_idc_back(scene: &Scene<'_>) -> Result<()> {
    let (rig, primary) = (scene.rig, &scene.primary);
    rig.world.start(&harness::coordination::part(primary))?;
    rig.world.start(&harness::database::part(primary))?;
    rig.keeper.release();
    rig.world.wait_for_database(primary)?;
    rig.world.wait_for_etcd()
}

/// The link to one of the copies stands still before the primary's IDC is lost, so the other one is
/// the new primary, and the one behind has nobody else to get the rest from.
pub async fn lagging_copy(scene: &mut Scene<'_>) -> Result<()> {
    let rig = scene.rig;
    let others = rig.data().filter(|idc| *idc != scene.primary);
    let others: Vec<&str> = others.collect();
    ensure!(others.len() > 1, "this wants three copies: --engine three");
    let lagging = others[usize::from(scene.random.coin())];
    let link = parts::syncer(&scene.primary, lagging);
    rig.keeper.hold(std::slice::from_ref(&link));
    rig.world.pause(&link)?;
    scene.hold(500, 2_000).await;
    kill_idc(scene)?;
    scene.must_be_taken_over().await?;
    let (_, held) = scene.at_takeover.clone().context("nobody took over")?;
    let database = rig.database(lagging)?;
    let lacks = held.difference(&crate::strand::writes(database)?).count();
    scene.note(format!("{lagging} lacked {lacks} writes"));
    ensure!(lacks > 0, "{lagging} was not behind");
    let what = format!("{lagging} has what the new primary has, without the old one");
    until(&what, CATCH_UP, async || {
        let there = crate::strand::writes(database)?;
        Ok(held.is_subset(&there).then_some(()))
    })
    .await?;
    bring_idc_back(scene)
}
