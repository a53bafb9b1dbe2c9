//! What it means to take a member out.

use model::{IdcName, MemberRole, UnitKey};
use serde::Serialize;

use super::failover::eligible;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::names;
use crate::view::{MemberView, UnitView};

/// What an order to fence a member, or to let it in again, would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FencePlan {
    /// The Unit.
    pub unit: UnitKey,
    /// The member.
    pub idc: IdcName,
    /// Whether it is the primary now, open or about to be.
    pub is_primary: bool,
    /// The order that stands already.
    pub stands: Option<String>,
    /// What will happen, as sentences.
    pub sentences: Vec<String>,
}

/// Decides what fencing the member of this IDC does.
///
/// # Errors
/// The Unit has no member there.
pub fn fence(unit: &UnitView, idc: &IdcName, call: &Invocation) -> Result<FencePlan, Failure> {
    let Some(member) = unit.member(idc) else {
        return Err(no_member(unit, idc, call));
    };
    let is_primary = unit.primary.as_ref() == Some(idc) || member.role == MemberRole::Primary;
    let sentences = if is_primary {
        of_primary(unit, idc, call)
    } else {
        of_copy(unit, idc)
    };
    Ok(FencePlan {
        unit: unit.unit.clone(),
        idc: idc.clone(),
        is_primary,
        stands: member.fence_order.clone(),
        sentences,
    })
}

fn no_member(unit: &UnitView, idc: &IdcName, call: &Invocation) -> Failure {
    let known: Vec<&str> = unit.idcs().map(IdcName::as_str).collect();
    let failure = Failure::refused(
        format!("no order about IDC {idc} was given to Unit {}", unit.unit),
        format!(
            "it has no member there; its members are in {}",
            known.join(", ")
        ),
    );
    let similar = names::similar_words(idc.as_str(), known.iter().copied());
    match similar.as_slice() {
        [] => failure.next(call.own(&format!("status {}", unit.unit))),
        similar => failure.next(format!("did you mean {}?", similar.join(" or "))),
    }
}

fn of_primary(unit: &UnitView, idc: &IdcName, call: &Invocation) -> Vec<String> {
    let mut sentences = vec![
        format!(
            "{idc} is the primary: its sessions are cut, it is closed with proof, and it gives the \
             primary up. Writes stop then."
        ),
        format!(
            "If its database cannot be reached, its guard's deadline is waited for. Until then {idc} \
             stays the primary."
        ),
    ];
    let (able, unable) = others(unit, idc);
    let by_hand = call.own(&format!("failover {}", unit.unit));
    if able.is_empty() {
        let why = unable.join(", ");
        sentences.push(format!(
            "No other member can take over ({why}): nothing accepts writes until {idc} is let in again."
        ));
        return sentences;
    }
    let able = able.join(", ");
    let held = unit.complaint("FailoverReady");
    sentences.push(match held {
        _ if unit.paused => format!(
            "Its automation is held, so nobody takes over by himself. Could: {able}. {}; then {by_hand}.",
            call.own(&format!("resume {}", unit.unit))
        ),
        _ if !unit.automatic_failover => {
            format!("Nobody takes over by himself (failover.mode Manual). Could: {able}: {by_hand}.")
        }
        Some(held) => format!(
            "Perhaps nobody takes over by himself: {} Could, otherwise: {able}: {by_hand}.",
            held.message
        ),
        None if !unit.automation_known => format!(
            "Whether somebody takes over by himself is not known, since its status is old. Could: \
             {able}: {by_hand}."
        ),
        None => format!("Then another member takes over by itself: {able}."),
    });
    sentences
}

fn of_copy(unit: &UnitView, idc: &IdcName) -> Vec<String> {
    let mut sentences = vec![format!(
        "{idc} stays closed, and is neither elected nor chosen. Its links go on: it goes on receiving."
    )];
    let primary = unit.primary.as_ref();
    let (able, unable) = others(unit, idc);
    let able: Vec<&str> = able
        .into_iter()
        .filter(|other| primary.is_none_or(|primary| primary.as_str() != *other))
        .collect();
    sentences.push(match (primary, able.is_empty()) {
        (Some(primary), true) => {
            format!(
                "If {primary} is lost then, no member can take over{}.",
                why(&unable)
            )
        }
        (Some(primary), false) => {
            format!(
                "If {primary} is lost then, what is left is: {}.",
                able.join(", ")
            )
        }
        (None, true) => format!(
            "The Unit has no primary, and nobody is left{}.",
            why(&unable)
        ),
        (None, false) => format!(
            "The Unit has no primary; what is left is: {}.",
            able.join(", ")
        ),
    });
    sentences
}

fn why(unable: &[String]) -> String {
    if unable.is_empty() {
        String::new()
    } else {
        format!(" ({})", unable.join(", "))
    }
}

/// Who else could hold the Unit, and why others could not.
fn others<'a>(unit: &'a UnitView, idc: &IdcName) -> (Vec<&'a str>, Vec<String>) {
    let (mut able, mut unable) = (Vec::new(), Vec::new());
    let others = unit.members.iter().filter(|member| member.idc != *idc);
    for member in others {
        match judged(unit, member) {
            Ok(()) => able.push(member.idc.as_str()),
            Err(reason) => unable.push(reason),
        }
    }
    (able, unable)
}

fn judged(unit: &UnitView, member: &MemberView) -> Result<(), String> {
    eligible(unit, member, false)?;
    match member.stranded {
        Some(count) if count > 0 => Err(format!("{} has stranded writes", member.idc)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{call, idc, unit};

    fn said(unit: &UnitView, of: &str) -> String {
        fence(unit, &idc(of), &call()).unwrap().sentences.join(" ")
    }

    #[test]
    fn what_happens_to_the_primary_is_said() {
        let mut view = unit();
        assert!(fence(&view, &idc("sh"), &call()).unwrap().is_primary);
        assert!(said(&view, "sh").ends_with("another member takes over by itself: bj."));
        view.automation_known = false;
        assert!(
            said(&view, "sh").contains("is not known"),
            "{}",
            said(&view, "sh")
        );
        view.automatic_failover = false;
        assert!(said(&view, "sh").contains("Could: bj: mactl failover shop/orders"));
        view.paused = true;
        assert!(said(&view, "sh").contains("mactl resume shop/orders"));
        view.members[1].fence_order = Some("by ann".to_owned());
        let alone = said(&view, "sh");
        assert!(alone.contains("bj was fenced by a person"), "{alone}");
        assert!(alone.contains("nothing accepts writes until sh"), "{alone}");
        // Held, and not open yet.
        view.primary = None;
        assert!(fence(&view, &idc("sh"), &call()).unwrap().is_primary);
    }

    #[test]
    fn what_is_left_is_said_of_a_copy() {
        let view = unit();
        let plan = fence(&view, &idc("bj"), &call()).unwrap();
        assert!(!plan.is_primary);
        assert!(said(&view, "bj").ends_with("no member can take over."));
        let refused = fence(&view, &idc("hz"), &call()).unwrap_err();
        assert!(refused.returned.contains("its members are in sh, bj"));
    }
}
