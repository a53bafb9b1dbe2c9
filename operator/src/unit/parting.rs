//! What a Unit that is being deleted waits for: pure functions.
//!
//! Each open member has a guard running inside it, which makes it read-only unless its arbiter
//! renews it or lets it go. An arbiter lets go when the Unit is gone from etcd. One that does not
//! run cannot: were the Unit forgotten then, its database would stay read-only, and nobody would be
//! left to open it.

use std::collections::BTreeMap;

use crds::Unit;
use kube::ResourceExt;
use model::{IdcName, UnitKey, UnitState};

use super::report::MemberWord;
use super::routing::open_primary;

/// Set by a person, to whatever value, it ends all waiting.
const FORGET: &str = "multiactive.dev/forget";

/// Whether a person has ended all waiting.
pub fn forced(unit: &Unit) -> bool {
    unit.annotations().contains_key(FORGET)
}

/// What is waited for before the Unit is forgotten; `None`: nothing. `looked`: the arbiter of the last
/// primary has had the time to look at its member since it began; before that, what it says of
/// the member is of no member yet.
pub fn before(unit: &Unit, key: &UnitKey, state: &UnitState, looked: bool) -> Option<String> {
    let holder = &state.epoch.as_ref()?.value.idc;
    let document = &state.unit.as_ref()?.value;
    // A member that was taken out was let go then.
    document.member(holder)?;
    if forced(unit) {
        return None;
    }
    if !state.sessions.contains_key(holder) {
        return Some(wait_for_arbiter(unit, key, holder));
    }
    // It is back, and is about to open its member again: let go before that, it would stay closed.
    let able = state
        .members
        .get(holder)
        .is_some_and(|record| record.value.reachable && record.value.preflight_passed);
    let about_to_open = open_primary(state) != Some(holder)
        && !state.is_paused()
        && !state.fence_orders.contains_key(holder)
        && (able || !looked);
    about_to_open.then(|| {
        format!(
            "Waits until {holder}, which took the writes last, is open again: forgotten before \
             that, its database would stay read-only. {}",
            way_out(unit, key, holder)
        )
    })
}

/// What is waited for after the Unit was forgotten; `None`: nothing. Arbiters that do not answer
/// are not waited for: what could be said about them was said before.
pub fn after(unit: &Unit, words: &BTreeMap<IdcName, MemberWord>) -> Option<String> {
    if forced(unit) {
        return None;
    }
    let still: Vec<&str> = words
        .iter()
        .filter(|(_, word)| matches!(word, Some(Ok(Some(_)))))
        .map(|(idc, _)| idc.as_str())
        .collect();
    (!still.is_empty()).then(|| {
        format!(
            "The Unit is deleted, but the arbiters of {} have not let go of their members yet, \
             perhaps since those are out of reach. They go on trying; a database whose guard runs \
             out before that becomes read-only, and is opened by hand: SET GLOBAL read_only = 0.",
            still.join(" and ")
        )
    })
}

fn wait_for_arbiter(unit: &Unit, key: &UnitKey, holder: &IdcName) -> String {
    format!(
        "Waits for the arbiter of {holder}, which has no session in etcd: only it can let go of \
         the database there, whose guard has made it read-only or is about to. Bring it back \
         (`kubectl describe idc {holder}` tells what is wrong). {}",
        way_out(unit, key, holder)
    )
}

fn way_out(unit: &Unit, key: &UnitKey, holder: &IdcName) -> String {
    let server = unit
        .spec
        .member(holder)
        .map(|member| member.endpoint.document().to_string())
        .unwrap_or_default();
    format!(
        "To have the Unit deleted all the same: `kubectl annotate unit {} -n {} {FORGET}=now`; if \
         {server} is to take writes then, open it by hand: SET GLOBAL read_only = 0.",
        key.name(),
        key.namespace()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{idc_name, key, state, unit};

    fn waits(change: impl FnOnce(&mut Unit, &mut UnitState)) -> Option<String> {
        let (mut unit, mut state) = (unit(), state());
        change(&mut unit, &mut state);
        before(&unit, &key(), &state, true)
    }

    #[test]
    fn a_unit_goes_when_its_primary_can_be_let_go_of() {
        assert_eq!(waits(|_, _| {}), None);
        // Never begun: no guard runs anywhere.
        let never = |state: &mut UnitState| {
            (state.epoch, state.primary) = (None, None);
            state.sessions.clear();
        };
        assert_eq!(waits(|_, state| never(state)), None);
        // An outage of the replica's arbiter leaves nothing behind.
        let replica = |state: &mut UnitState| {
            state.sessions.remove(&idc_name("bj"));
        };
        assert_eq!(waits(|_, state| replica(state)), None);
    }

    fn arbiter_down(state: &mut UnitState) {
        state.primary = None;
        state.sessions.remove(&idc_name("sh"));
        state.members.remove(&idc_name("sh"));
    }

    #[test]
    fn a_primary_whose_arbiter_is_down_is_waited_for_with_the_way_out() {
        let told = waits(|_, state| arbiter_down(state)).unwrap();
        for words in [
            "Waits for the arbiter of sh",
            "`kubectl describe idc sh`",
            "`kubectl annotate unit orders -n shop multiactive.dev/forget=now`",
            "192.0.2.1:3307",
            "SET GLOBAL read_only = 0",
        ] {
            assert!(told.contains(words), "{words} is missing in: {told}");
        }
        let forced = waits(|unit, state| {
            arbiter_down(state);
            unit.annotations_mut()
                .insert(FORGET.to_owned(), "now".to_owned());
        });
        assert_eq!(forced, None);
    }

    #[test]
    fn one_that_came_back_is_let_open_first_unless_nothing_opens_it() {
        let told = waits(|_, state| state.primary = None).unwrap();
        assert!(told.contains("until sh, which took the writes last, is open again"));
        let dead = |state: &mut UnitState| {
            state.primary = None;
            let sh = state.members.get_mut(&idc_name("sh")).unwrap();
            sh.value.reachable = false;
        };
        assert_eq!(waits(|_, state| dead(state)), None, "its database is dead");
        // Just begun, the arbiter says of every member that it does not reach it.
        let mut just_back = state();
        dead(&mut just_back);
        assert!(before(&unit(), &key(), &just_back, false).is_some());
    }

    #[test]
    fn arbiters_that_still_hold_on_are_named() {
        let said = crate::samples::primary_status(1);
        let words = |sh: MemberWord| {
            BTreeMap::from([(idc_name("sh"), sh), (idc_name("bj"), Some(Ok(None)))])
        };
        let told = after(&unit(), &words(Some(Ok(Some(said))))).unwrap();
        assert!(
            told.contains("the arbiters of sh have not let go"),
            "{told}"
        );
        assert_eq!(after(&unit(), &words(Some(Ok(None)))), None);
        assert_eq!(after(&unit(), &words(Some(Err("gone".to_owned())))), None);
    }
}
