//! What must be there in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::epochs::{Epochs, Placed};
use super::{Attempt, History, MemberRows, Outcome, Violation, WriteId};

/// Lost, doubled, wrongly stranded, diverged, and answers that were wrong.
pub fn check(history: &History, epochs: &Epochs, placed: &Placed) -> Vec<Violation> {
    let attempts: BTreeMap<WriteId, &Attempt> =
        history.attempts.iter().map(|it| (it.id, it)).collect();
    let mut violations = Vec::new();
    let none = MemberRows::default();
    let primary = history.members.get(&history.primary).unwrap_or(&none);
    let stranded = &history.stranding.found;
    for attempt in history.attempts.iter().filter(|it| it.acknowledged()) {
        if !primary.writes.contains(&attempt.id) && !stranded.contains(&attempt.id) {
            violations.push(Violation::Lost {
                write: attempt.id,
                member: attempt.member.clone(),
            });
        }
    }
    violations.extend(stranding(history, primary, epochs, placed));
    violations.extend(late(history, primary, placed));
    for (name, rows) in &history.members {
        violations.extend(counters(name, rows, &attempts));
    }
    let present: BTreeSet<WriteId> = history
        .members
        .values()
        .flat_map(|rows| &rows.writes)
        .chain(stranded)
        .copied()
        .collect();
    violations.extend(answers(history, &present, &attempts));
    violations.extend(equal(&history.members));
    violations
}

/// Nothing of the current epoch is stranded, nor of one that ended with a planned switchover; and
/// what is stranded is not on the primary as well.
fn stranding(
    history: &History,
    primary: &MemberRows,
    epochs: &Epochs,
    placed: &Placed,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let stranding = &history.stranding;
    let found = stranding.found.len() as u64;
    if found != stranding.reported {
        violations.push(Violation::StrandedMiscounted {
            reported: stranding.reported,
            found,
        });
    }
    // What could have been lost with an epoch's end: it was ended by an unplanned transition.
    let may_strand = |epoch: &u64| {
        let next = epochs.next(*epoch).and_then(|next| epochs.span(next));
        next.is_some_and(|next| !next.planned)
    };
    for write in &stranding.found {
        let reason = if primary.writes.contains(write) {
            "it is on the primary as well".to_owned()
        } else {
            match placed.get(write) {
                Some(fits) if !fits.iter().any(may_strand) => format!(
                    "it was acknowledged under epoch {fits:?}, which is the current one or ended \
                     with a planned switchover"
                ),
                _ => continue,
            }
        };
        violations.push(Violation::WronglyStranded {
            write: *write,
            reason,
        });
    }
    violations
}

/// Nothing of an ended epoch is applied once another has begun.
fn late(history: &History, primary: &MemberRows, placed: &Placed) -> Vec<Violation> {
    let Some((epoch, held)) = &history.at_takeover else {
        return Vec::new();
    };
    let ended = |write: &WriteId| {
        let fits = placed.get(write);
        fits.is_some_and(|fits| fits.iter().all(|fit| fit < epoch))
    };
    let late = primary.writes.difference(held).filter(|it| ended(it));
    late.map(|write| Violation::AppliedLate {
        write: *write,
        epoch: *epoch,
    })
    .collect()
}

/// A counted write and its counter are one transaction: they are there together, once.
fn counters(
    name: &str,
    rows: &MemberRows,
    attempts: &BTreeMap<WriteId, &Attempt>,
) -> Vec<Violation> {
    let mut counted: BTreeMap<u32, u64> = rows.totals.keys().map(|it| (*it, 0)).collect();
    for write in &rows.writes {
        if attempts.get(write).is_some_and(|it| it.counted) {
            *counted.entry(write.client).or_default() += 1;
        }
    }
    let wrong = counted.into_iter().filter_map(|(client, rows_there)| {
        let total = rows.totals.get(&client).copied().unwrap_or_default();
        (total != rows_there).then(|| Violation::Miscounted {
            client,
            member: name.to_owned(),
            total,
            rows: rows_there,
        })
    });
    wrong.collect()
}

/// What was refused is not there, nothing is there that nobody wrote, no counter was ahead of its
/// writes, and every error was one that a write can be answered with.
fn answers(
    history: &History,
    present: &BTreeSet<WriteId>,
    attempts: &BTreeMap<WriteId, &Attempt>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut wrong = |write: WriteId, reason: String| {
        violations.push(Violation::WrongAnswer { write, reason });
    };
    for write in present {
        match attempts.get(write).map(|it| &it.outcome) {
            None => wrong(*write, "it is there, and nobody wrote it".to_owned()),
            Some(Outcome::Refused) => wrong(*write, "it was refused, and it is there".to_owned()),
            Some(_) => {}
        }
    }
    let mut counted: BTreeMap<u32, u64> = BTreeMap::new();
    for attempt in attempts.values() {
        if let Outcome::Wrong(said) = &attempt.outcome {
            wrong(attempt.id, format!("{} answered: {said}", attempt.member));
        }
        if !attempt.counted {
            continue;
        }
        let tried = counted.entry(attempt.id.client).or_default();
        *tried += 1;
        if let Some(total) = attempt.total.filter(|total| total > tried) {
            let reason = format!("the client's counter was {total} after {tried} tries");
            wrong(attempt.id, reason);
        }
    }
    for write in &history.stranding.found {
        if !attempts.contains_key(write) {
            wrong(*write, "it is stranded, and nobody wrote it".to_owned());
        }
    }
    violations
}

/// Every member holds the same, by rows and by digest.
fn equal(members: &BTreeMap<String, MemberRows>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut all = members.iter();
    let Some((first, one)) = all.next() else {
        return violations;
    };
    for (name, other) in all {
        let only: [Vec<String>; 2] = [
            one.writes.difference(&other.writes),
            other.writes.difference(&one.writes),
        ]
        .map(|ids| ids.map(ToString::to_string).collect());
        for (here, writes) in [first, name].into_iter().zip(only) {
            if let Some(example) = writes.first() {
                violations.push(Violation::Diverged {
                    reason: format!("{} writes only at {here}, such as {example}", writes.len()),
                });
            }
        }
        if one.totals != other.totals {
            violations.push(Violation::Diverged {
                reason: format!("counters of {first} and {name} differ"),
            });
        }
        for (table, digest) in &one.digests {
            if other.digests.get(table) != Some(digest) {
                violations.push(Violation::Diverged {
                    reason: format!(
                        "table {table}: {first} has {digest:?}, {name} {:?} (rows, digest)",
                        other.digests.get(table)
                    ),
                });
            }
        }
    }
    violations
}
