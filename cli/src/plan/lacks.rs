//! What a new primary lacks since links have left it out: a pure function.
//!
//! It stands against nothing: who fails over may have no other copy, and what is lacking may not
//! matter. But nobody should learn of it afterwards.

use model::IdcName;

use crate::invocation::Invocation;
use crate::render::count;
use crate::view::{LinkView, UnitView};

/// What a member lacks, or may lack, by one link to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lack {
    /// The member's IDC.
    pub idc: IdcName,
    /// The link to it, as `namespace/name`; `None` where no link to it is known here.
    pub link: Option<String>,
    /// Transactions that the link was made to skip and nobody has settled; `None`: not known.
    pub skipped: Option<u64>,
    /// Changes that are held as conflicts of the link and nobody has settled; `None`: not known.
    pub conflicts: Option<u64>,
    /// The same as a sentence without a full stop.
    pub message: String,
    /// How to look at it.
    pub next: Vec<String>,
}

impl Lack {
    /// Whether something is known to be lacking, and not only not known to be there.
    pub fn is_seen(&self) -> bool {
        self.skipped.unwrap_or(0) > 0 || self.conflicts.unwrap_or(0) > 0
    }
}

/// What members lack, or may lack, by each link to them. A link of which it is known that it has left
/// out nothing is not mentioned.
pub fn lacks<'a>(
    unit: &UnitView,
    members: impl IntoIterator<Item = &'a IdcName>,
    call: &Invocation,
) -> Vec<Lack> {
    let mut found = Vec::new();
    for idc in members {
        let links = unit.links.iter().filter(|link| link.target == *idc);
        let mut links = links.peekable();
        if links.peek().is_none() {
            found.push(no_link(idc));
        }
        found.extend(links.filter_map(|link| of_link(unit, link, call)));
    }
    found
}

/// Links are only known where the Kubernetes API was asked.
fn no_link(idc: &IdcName) -> Lack {
    Lack {
        idc: idc.clone(),
        link: None,
        skipped: None,
        conflicts: None,
        message: format!(
            "whether {idc} lacks transactions that a link was made to skip, or changes that are held \
             as conflicts, is not known here; its database knows"
        ),
        next: vec![
            format!(
                "ask the database of {idc}: SELECT DISTINCT link, gtid FROM multiactive.held WHERE \
                 settled IS NULL"
            ),
            format!(
                "ask the database of {idc}: SELECT link, gtid, `row` FROM multiactive.conflicts WHERE \
                 state = 'Held'"
            ),
        ],
    }
}

fn of_link(unit: &UnitView, link: &LinkView, call: &Invocation) -> Option<Lack> {
    let (idc, source) = (&link.target, &link.source);
    let name = format!("{}/{}", unit.unit.namespace(), link.name);
    let (mut seen, mut unknown, mut next) = (Vec::new(), Vec::new(), Vec::new());
    let kinds = [
        (
            link.skipped_open,
            "transaction",
            "was made to skip",
            "transactions that it was made to skip",
            format!("link held {name}"),
        ),
        (
            link.conflicts_held,
            "change",
            "holds as conflicts",
            "changes that are held as conflicts",
            format!("conflicts list {}", unit.unit),
        ),
    ];
    for (left, what, fate, all, command) in kinds {
        match left {
            Some(0) => continue,
            Some(number) => seen.push(format!(
                "{idc} lacks {} of {source} that link {name} {fate}",
                count(number, what)
            )),
            None => unknown.push(all),
        }
        next.push(call.own(&command));
    }
    if !unknown.is_empty() {
        seen.push(format!(
            "whether {idc} lacks something of link {name} is not known here, for its status here does \
             not count {}",
            unknown.join(" and ")
        ));
    }
    (!seen.is_empty()).then(|| Lack {
        idc: idc.clone(),
        link: Some(name),
        skipped: link.skipped_open,
        conflicts: link.conflicts_held,
        message: seen.join("; "),
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{call, idc, link, unit};

    fn of_bj(unit: &UnitView) -> Vec<Lack> {
        lacks(unit, [&idc("bj")], &call())
    }

    #[test]
    fn what_links_to_the_new_primary_left_out_is_told_for_each() {
        let mut unit = unit();
        assert_eq!(of_bj(&unit), []);
        // What the old primary lacks is its own affair.
        unit.links[1].skipped_open = Some(7);
        assert_eq!(of_bj(&unit), []);
        unit.links[0].skipped_open = Some(2);
        let mut other = link("gz", "bj");
        other.conflicts_held = Some(1);
        unit.links.push(other);
        let found = of_bj(&unit);
        let said: Vec<_> = found.iter().map(|lack| lack.message.as_str()).collect();
        assert_eq!(
            said,
            [
                "bj lacks 2 transactions of sh that link shop/orders-sh-bj was made to skip",
                "bj lacks 1 change of gz that link shop/orders-gz-bj holds as conflicts",
            ]
        );
        let next: Vec<_> = found.iter().flat_map(|lack| &lack.next).collect();
        assert_eq!(
            next,
            [
                "mactl link held shop/orders-sh-bj",
                "mactl conflicts list shop/orders"
            ]
        );
        assert!(found.iter().all(Lack::is_seen));
    }

    #[test]
    fn what_is_not_known_is_not_taken_for_nothing() {
        let mut unit = unit();
        unit.links[0].skipped_open = None;
        let found = of_bj(&unit);
        assert_eq!((found.len(), found[0].is_seen()), (1, false));
        assert!(found[0].message.contains("is not known here"), "{found:?}");
        assert!(!found[0].message.contains("conflicts"), "{found:?}");
        // One part of it is seen, the other one is not.
        unit.links[0].conflicts_held = Some(3);
        let found = of_bj(&unit);
        assert!(found[0].is_seen() && found[0].message.contains("3 changes"));
        assert!(
            found[0].message.contains("not count transactions"),
            "{found:?}"
        );
        // As etcd shows it.
        unit.links.clear();
        let found = of_bj(&unit);
        assert_eq!((found.len(), &found[0].link), (1, &None));
        assert!(!found[0].is_seen() && found[0].next[0].contains("multiactive.held"));
    }
}
