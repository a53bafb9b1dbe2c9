//! Somebody who watches a Unit whose failover is manual, and asks for one when its primary is gone.

use std::time::{Duration, Instant};

use anyhow::Result;
use model::{IntentKind, UnitState};

use crate::rig::Rig;

/// How long the primary must have been gone before the person asks.
const PATIENCE: Duration = Duration::from_millis(1_200);
/// How long a request may take before the person asks again.
const AGAIN: Duration = Duration::from_secs(12);

/// Watches and asks, until it is dropped.
pub async fn watch(rig: &Rig) -> Result<()> {
    let mut gone_since: Option<Instant> = None;
    let mut asked: Option<Instant> = None;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(state) = rig.state().await else {
            continue;
        };
        let Some(to) = candidate(&state) else {
            gone_since = None;
            continue;
        };
        let since = *gone_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE || asked.is_some_and(|asked| asked.elapsed() < AGAIN) {
            continue;
        }
        // It may have been refused since somebody else acted: looked at again.
        if rig.ask(IntentKind::Forced, &to, "person").await.is_ok() {
            asked = Some(Instant::now());
        }
    }
}

/// Whom to ask for, where the primary is gone.
fn candidate(state: &UnitState) -> Option<String> {
    let last = state.epoch.as_ref()?.value.idc.clone();
    let reached = |idc: &model::IdcName| {
        let member = state.members.get(idc);
        member.is_some_and(|member| member.value.reachable)
    };
    let gone = match &state.primary {
        None => true,
        Some(primary) => !reached(&primary.value.idc),
    };
    let mut candidates = state
        .members
        .keys()
        .filter(|idc| **idc != last && reached(idc));
    gone.then(|| candidates.next().map(ToString::to_string))?
}
