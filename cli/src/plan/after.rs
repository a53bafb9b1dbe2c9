//! Whether a picture of a Unit is one of after a transition: a pure function.

use model::Epoch;

use crate::view::{IdcView, MemberView, UnitView};

/// What is not known yet of a Unit whose transition to `epoch` is done, as words. While there is
/// anything, what is shown may be older than the transition.
pub fn not_known_yet(unit: &UnitView, idcs: &[IdcView], epoch: Option<Epoch>) -> Vec<String> {
    let mut unknown = Vec::new();
    let epoch = epoch.unwrap_or(Epoch::NONE);
    if unit.epoch < epoch {
        // Then nothing else that is shown is of now.
        return vec![format!(
            "everything above is of epoch {}, before epoch {epoch} began",
            unit.epoch
        )];
    }
    if let Some(request) = &unit.under_way {
        unknown.push(format!("that request {} has ended", request.id));
    }
    let told = unit.last_transition.as_ref().map(|last| last.epoch);
    if told < Some(unit.epoch) && unit.epoch > Epoch::NONE {
        unknown.push(format!("how epoch {} began", unit.epoch));
    }
    if unit.primary.is_none() {
        unknown.push("who takes the writes".to_owned());
    }
    let members = unit.members.iter();
    unknown.extend(members.filter_map(|member| member_unknown(unit, idcs, member)));
    unknown
}

fn member_unknown(unit: &UnitView, idcs: &[IdcView], member: &MemberView) -> Option<String> {
    let idc = &member.idc;
    if unit.primary.as_ref() == Some(idc) {
        return (member.writable != Some(true)).then(|| format!("that {idc} takes writes"));
    }
    // Nobody is going to tell of a member that is out of reach, or whose arbiter is.
    let arbiter = idcs.iter().find(|view| view.name == *idc);
    let silent = arbiter.is_some_and(|view| view.arbiter_alive == Some(false));
    let unseen = member.writable.is_none() && member.reachable != Some(false) && !silent;
    unseen.then(|| format!("whether {idc} refuses writes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_picture_of_before_is_not_taken_for_one_of_after() {
        let idcs = fixtures::idcs();
        let known = |unit: &UnitView, epoch| not_known_yet(unit, &idcs, Some(Epoch(epoch)));
        let mut unit = fixtures::unit();
        assert!(known(&unit, 7).is_empty());
        assert_eq!(
            known(&unit, 8),
            ["everything above is of epoch 7, before epoch 8 began"]
        );
        unit.epoch = Epoch(8);
        assert_eq!(known(&unit, 8), ["how epoch 8 began"]);
        unit.last_transition = Some(fixtures::receipt(8));
        unit.members[0].writable = Some(false);
        unit.members[1].writable = None;
        assert_eq!(
            known(&unit, 8),
            ["that sh takes writes", "whether bj refuses writes"]
        );
        // A dead member stays unknown, and is not waited for.
        unit.members[0].writable = Some(true);
        unit.members[1].reachable = Some(false);
        assert!(known(&unit, 8).is_empty());
    }
}
