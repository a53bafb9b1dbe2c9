//! People who ask for something.

use std::time::Duration;

use anyhow::{Result, ensure};
use model::{IntentKind, IntentPhase};

use super::Scene;

const LIMIT: Duration = Duration::from_secs(30);

pub async fn switchover(scene: &mut Scene<'_>) -> Result<()> {
    let other = scene.other.clone();
    scene.begin();
    let id = scene.rig.ask(IntentKind::Planned, &other, "turn").await?;
    let ended = scene.rig.asked(&id, LIMIT).await?;
    ensure!(
        matches!(ended, Some(IntentPhase::Done { .. })),
        "a switchover with nothing in its way ended as {ended:?}"
    );
    scene.must_be_taken_over().await
}

/// One of them at most is taken up; the other is told why not.
pub async fn two_switchovers(scene: &mut Scene<'_>) -> Result<()> {
    let (rig, other) = (scene.rig, scene.other.clone());
    scene.begin();
    let (one, two) = tokio::join!(
        rig.ask(IntentKind::Planned, &other, "one"),
        rig.ask(IntentKind::Planned, &other, "two"),
    );
    let taken: Vec<&String> = [&one, &two].into_iter().flatten().collect();
    ensure!(
        taken.len() == 1,
        "of two requests at once: {one:?}, {two:?}"
    );
    let ended = rig.asked(taken[0], LIMIT).await?;
    scene.note(format!("{ended:?}"));
    ensure!(
        matches!(ended, Some(IntentPhase::Done { .. })),
        "the one that was taken up ended as {ended:?}"
    );
    scene.must_be_taken_over().await
}
