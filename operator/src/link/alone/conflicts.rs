//! What becomes of conflicts on links without a Unit, alone and beside one that runs the other way.

use std::collections::BTreeSet;

use crds::{ConflictDetection, ConflictResolution, Conflicts, SyncLink};

use super::Other;
use crate::unit::Problem;

/// What becomes of conflicts: without a Unit both ends may be written to, so rows are compared.
pub fn conflicts(link: &SyncLink) -> Conflicts {
    link.spec.options.conflicts.clone().unwrap_or(Conflicts {
        detect: ConflictDetection::BeforeImage,
        resolve: ConflictResolution::Halt,
        column: None,
        counters: Vec::new(),
    })
}

/// What becomes of conflicts where both ends may be written to.
pub(super) fn settles(
    link: &SyncLink,
    opposite: Option<&Other<'_>>,
    databases: &[String],
    problems: &mut Vec<Problem>,
) {
    let own = conflicts(link);
    for counter in &own.counters {
        let database = counter.split('.').next().unwrap_or_default();
        if !databases.iter().any(|copied| copied == database) {
            problems.push(Problem::new(
                "NoTables",
                format!(
                    "spec.conflicts.counters has {counter:?}, and spec.tables.include no table of \
                     database {database}: correct one of the two."
                ),
            ));
        }
    }
    let waits = matches!(
        own.resolve,
        ConflictResolution::Halt | ConflictResolution::Hold | ConflictResolution::Delta
    );
    let one_way = opposite.is_none() && own.resolve == ConflictResolution::SourceWins;
    if !waits && !one_way {
        problems.push(Problem::new(
            "NotSupportedYet",
            format!(
                "spec.conflicts.resolve {:?} chooses a row where both ends may be written to, which \
                 is not supported yet: choose Hold (a person decides, mactl conflicts), Delta (counters are \
                 added up) or Halt{}.",
                own.resolve,
                opposite.map_or_else(
                    || "; SourceWins where no link runs the other way".to_owned(),
                    |opposite| format!(", since SyncLink {} runs the other way", opposite.name)
                )
            ),
        ));
    }
    let Some(opposite) = opposite else { return };
    if own.detect == ConflictDetection::Key {
        problems.push(Problem::new(
            "CannotConverge",
            format!(
                "spec.conflicts.detect Key does not see that both ends changed one row, and SyncLink \
                 {} runs the other way: set detect: BeforeImage.",
                opposite.name
            ),
        ));
    }
    counted_alike(&own, opposite, problems);
    if let Some(route) = link.spec.options.tables.routes.first() {
        problems.push(Problem::new(
            "CannotConverge",
            format!(
                "spec.tables.routes (from {} to {}) gives tables another name at the target, and \
                 SyncLink {} would bring them back under that name: remove one of the two.",
                route.from, route.to, opposite.name
            ),
        ));
    }
}

/// What one end adds up and the other one holds would differ until a person has settled it.
fn counted_alike(own: &Conflicts, opposite: &Other<'_>, problems: &mut Vec<Problem>) {
    let set = |conflicts: &Conflicts| -> Option<BTreeSet<String>> {
        (conflicts.resolve == ConflictResolution::Delta)
            .then(|| conflicts.counters.iter().cloned().collect())
    };
    let (here, there) = (set(own), set(&conflicts(opposite.link)));
    if here == there {
        return;
    }
    let words = |set: &Option<BTreeSet<String>>| match set {
        Some(set) => set.iter().cloned().collect::<Vec<_>>().join(", "),
        None => "none".to_owned(),
    };
    problems.push(Problem::new(
        "CannotConverge",
        format!(
            "spec.conflicts adds up the counters {}, and SyncLink {}, which runs the other way, {}: give \
             both resolve: Delta with the same counters, or neither.",
            words(&here),
            opposite.name,
            words(&there)
        ),
    ));
}
