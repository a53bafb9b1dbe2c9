//! What has to happen before a link may be started.

use model::{IdcName, LinkKey, UnitKey, UnitState};

use super::{Ends, Names, Sides};
use crate::context::Context;

/// What has to happen before the link may be started.
pub fn waits(ends: &Ends, key: &LinkKey, sides: &Sides, context: &Context) -> Vec<String> {
    let mut waits = match &ends.unit {
        Some(unit) => waits_for_members(unit, ends, context),
        // Syncer and writer look at their servers themselves.
        None => Vec::new(),
    };
    let unreached = sides.writer && !sides.syncer && context.coordination.syncer(key).is_none();
    let unreached = unreached.then(|| {
        format!(
            "The cluster of {} has not told yet where its syncer is reached: it does once the \
             syncer runs and Service {}/{} has an address from outside (Helm value \
             transport.syncerService there).",
            ends.source.idc,
            key.namespace(),
            Names::of(key.name()).reach
        )
    });
    waits.extend(unreached);
    waits
}

fn waits_for_members(unit: &UnitKey, ends: &Ends, context: &Context) -> Vec<String> {
    let view = context.coordination.unit(unit);
    let Some(state) = view.state else {
        return vec!["etcd has not been read yet.".to_owned()];
    };
    if state.unit.is_none() {
        return vec![format!(
            "Unit {unit} is not in force yet: its conditions tell why."
        )];
    }
    [&ends.source.idc, &ends.target.idc]
        .into_iter()
        .filter(|idc| !passed(&state, idc))
        .map(|idc| {
            format!(
                "Member {idc} of Unit {unit} has not passed preflight: the Unit's condition \
                 PreflightPassed tells why."
            )
        })
        .collect()
}

/// A member that was never reached has nothing to start a link on, whatever was found before.
fn passed(state: &UnitState, idc: &IdcName) -> bool {
    let record = state.members.get(idc).map(|record| &record.value);
    record.is_some_and(|record| record.preflight_passed && record.reachable)
}
