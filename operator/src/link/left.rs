//! What a link leaves to a person while it goes on: the target is not what its source is until that
//! is settled.

use crds::SyncLink;
use kube::ResourceExt;

use super::report::Facts;

/// What is left for a person, by the writer's last word: while none is heard it is what it was.
pub(super) fn left(facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let said = facts.said();
    let old = facts.link.status.clone().unwrap_or_default();
    let conflicts = said.and_then(|said| said.conflicts_held);
    let skipped = said.and_then(|said| said.skipped_open);
    left_for_a_person(
        facts.link,
        conflicts.or(old.conflicts_held),
        skipped.or(old.skipped_open),
    )
}

/// Why the target of a link is not what its source is until a person has settled it, as reasons of a
/// condition and sentences. The link goes on meanwhile.
pub fn left_for_a_person(
    link: &SyncLink,
    conflicts: Option<u64>,
    skipped: Option<u64>,
) -> Vec<(&'static str, String)> {
    let spec = &link.spec;
    let target = spec.target.idc.as_ref().map_or("", model::IdcName::as_str);
    let settle = match &spec.unit {
        Some(unit) => format!("See mactl conflicts list {unit}."),
        None => format!("See mactl conflicts list {} --link.", link.name_any()),
    };
    let mut left = Vec::new();
    if let Some(number) = skipped.filter(|number| *number > 0) {
        let text = format!(
            "Transactions that it was made to skip, that {target} lacks and nobody has settled: \
             {number}. See mactl link held {} -n {}.",
            link.name_any(),
            link.namespace().unwrap_or_default()
        );
        left.push((crds::TRANSACTIONS_SKIPPED, text));
    }
    if let Some(number) = conflicts.filter(|number| *number > 0) {
        let text = format!(
            "Changes that are held as conflicts in {target}, and wait for a person: {number}. \
             {settle}"
        );
        left.push((crds::CONFLICTS_HELD, text));
    }
    left
}

#[cfg(test)]
mod tests {
    use crds::{SyncLink, SyncLinkStatus, condition};
    use model::WriterStatus;

    use crate::http::StatusError;
    use crate::link::report::tests::{told, writer};
    use crate::link::report::worth_writing;
    use crate::samples;

    fn degraded(status: &SyncLinkStatus) -> (String, String) {
        let degraded = condition(&status.conditions, "Degraded").unwrap();
        (degraded.reason.clone(), degraded.message.clone())
    }

    fn said(link: &SyncLink, word: WriterStatus) -> SyncLinkStatus {
        told(link, Some(Ok(word)))
    }

    fn streams(conflicts: Option<u64>, skipped: Option<u64>) -> WriterStatus {
        WriterStatus {
            phase: model::LinkPhase::Streaming,
            conflicts_held: conflicts,
            skipped_open: skipped,
            error: String::new(),
            ..writer(None)
        }
    }

    #[test]
    fn what_is_held_makes_a_link_degraded() {
        let link = samples::link();
        let says =
            |conflicts, skipped| degraded(&said(&link, streams(Some(conflicts), Some(skipped))));
        assert_eq!(says(0, 0).0, "AllWell");
        let (reason, message) = says(2, 0);
        assert_eq!(reason, "ConflictsHeld");
        assert!(
            message.contains("in bj")
                && message.ends_with("person: 2. See mactl conflicts list orders."),
            "{message}"
        );
        let (reason, message) = says(0, 3);
        assert_eq!(reason, "TransactionsSkipped");
        assert_eq!(
            message,
            "Transactions that it was made to skip, that bj lacks and nobody has settled: 3. See mactl \
             link held orders-sh-bj -n shop."
        );
        let (reason, message) = says(2, 3);
        assert_eq!(reason, "TransactionsSkipped");
        assert!(
            message.contains(": 3.") && message.contains(": 2."),
            "{message}"
        );
    }

    #[test]
    fn what_is_left_is_told_beside_what_else_is_wrong() {
        let link = samples::link();
        let halted = WriterStatus {
            skipped_open: Some(1),
            ..writer(None)
        };
        let (reason, message) = degraded(&said(&link, halted));
        assert_eq!(reason, "Halted");
        assert!(message.starts_with("conflict. Transactions"), "{message}");
    }

    #[test]
    fn what_was_left_stays_so_until_somebody_has_counted_again() {
        let mut link = samples::link();
        let first = said(&link, streams(Some(1), Some(2)));
        assert_eq!(
            (first.conflicts_held, first.skipped_open),
            (Some(1), Some(2))
        );
        link.status = Some(first.clone());
        // Started anew, and out of reach.
        let silent = StatusError::Answer {
            address: "10.0.0.1:8080".to_owned(),
            cause: "503".to_owned(),
        };
        for word in [Ok(streams(None, None)), Err(silent)] {
            let status = told(&link, Some(word));
            assert_eq!(status.skipped_open, Some(2));
            assert!(degraded(&status).1.contains("skip, that bj lacks"));
        }
        link.spec.suspended = true;
        assert_eq!(degraded(&told(&link, None)).0, "TransactionsSkipped");
        link.spec.suspended = false;
        let settled = said(&link, streams(Some(1), Some(0)));
        assert_eq!(degraded(&settled).0, "ConflictsHeld");
        assert!(worth_writing(&first, &settled, false));
        // Of an earlier release's writer it is not known.
        let link = samples::link();
        let unknown = said(&link, streams(Some(0), None));
        assert_eq!(
            (unknown.conflicts_held, unknown.skipped_open),
            (Some(0), None)
        );
        assert_eq!(degraded(&unknown).0, "AllWell");
    }
}
