//! Somebody who watches a Unit whose failover is manual, and asks for one when nobody takes writes
//! any more, or etcd names no primary.

use std::time::Duration;

use anyhow::Result;
use model::{IntentKind, UnitState};

use crate::application::now;
use crate::journal::Journal;
use crate::rig::Rig;

/// How long nobody must have taken a write, or been the primary, before the person asks, in
/// nanoseconds.
const PATIENCE: u64 = 2_500_000_000;
/// How long a request may take before the person asks again.
const AGAIN: u64 = 12_000_000_000;

/// Watches and asks, until it is dropped.
pub async fn watch(rig: &Rig, mut journal: Journal) -> Result<()> {
    let (mut taken, mut named, mut asked) = (now(), now(), 0);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        journal.read()?;
        for attempt in journal.attempts.drain(..) {
            if attempt.acknowledged() {
                taken = taken.max(attempt.ended);
            }
        }
        let Ok(state) = rig.state().await else {
            continue;
        };
        let time = now();
        if state.primary.is_some() {
            named = time;
        }
        if time < taken.min(named) + PATIENCE || time < asked + AGAIN {
            continue;
        }
        let Some(to) = candidate(&state) else {
            continue;
        };
        // It may be refused since somebody else acted meanwhile: then it is looked at again.
        if rig.ask(IntentKind::Forced, &to, "person").await.is_ok() {
            asked = time;
        }
    }
}

/// Whom to ask for: a member that is reached and has not held the last epoch.
fn candidate(state: &UnitState) -> Option<String> {
    let last = state.epoch.as_ref()?.value.idc.clone();
    let mut candidates = state
        .members
        .iter()
        .filter(|(idc, member)| **idc != last && member.value.reachable);
    candidates.next().map(|(idc, _)| idc.to_string())
}
