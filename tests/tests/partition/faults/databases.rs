//! Databases in trouble at the worst moment.

use std::time::Duration;

use anyhow::Result;
use model::IntentKind;

use super::Scene;
use crate::rig::until;

/// The target of a switchover is killed as soon as the new epoch is there, a little earlier or
/// later, and started again.
pub async fn restart_in_promotion(scene: &mut Scene<'_>) -> Result<()> {
    let rig = scene.rig;
    let other = scene.other.clone();
    let part = harness::database::part(&other);
    let before = rig.lookout.epoch();
    scene.begin();
    rig.ask(IntentKind::Planned, &other, "turn").await?;
    until("the new epoch", Duration::from_secs(20), async || {
        Ok((rig.lookout.epoch() > before).then_some(()))
    })
    .await?;
    scene.hold(0, 60).await;
    rig.world.kill(&part)?;
    scene.hold(100, 6_000).await;
    rig.world.start(&part)?;
    rig.world.wait_for_database(&other)
}
