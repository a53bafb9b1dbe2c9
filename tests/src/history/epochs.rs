//! Which epoch each acknowledged write can belong to.

use std::collections::BTreeMap;

use super::{Attempt, Nanos, Violation, WriteId};

/// What etcd showed to one linearizable read, or to several in a row that showed the same: all that
/// is claimed is that it was so at some instant between `sent` and `received` of the first, and at
/// some instant between those of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When the first read was sent.
    pub first_sent: Nanos,
    /// When it was answered.
    pub first_received: Nanos,
    /// When the last read was sent.
    pub last_sent: Nanos,
    /// When it was answered.
    pub last_received: Nanos,
    /// etcd's revision at the last.
    pub revision: i64,
    /// The epoch, 0 before the first, and whose it is.
    pub epoch: (u64, String),
    /// Who holds `primary`, under which epoch.
    pub primary: Option<(String, u64)>,
    /// The revision of the last renewal of the session of the epoch's IDC.
    pub renewed: i64,
    /// Whether the epoch's holder left the proof that it is fenced.
    pub vacated: bool,
}

/// How long a holder may go on after it has sent the last keep-alive that was acknowledged: the lease
/// time, in nanoseconds. It was recorded when that was acknowledged, at the latest.
const RIGHT: Nanos = 6_000_000_000;

/// One epoch, with what is known of when it was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose it is.
    pub holder: String,
    /// It had not begun at this time.
    pub not_begun: Option<Nanos>,
    /// It had ended by this time.
    pub ended: Option<Nanos>,
    /// It began with a planned switchover.
    pub planned: bool,
}

/// The epochs of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    spans: BTreeMap<u64, Span>,
    /// Times in which nobody held `primary`.
    vacant: Vec<(Nanos, Nanos)>,
}

/// Each acknowledged write with the epochs that it can belong to, the lowest first.
pub type Placed = BTreeMap<WriteId, Vec<u64>>;

impl Epochs {
    /// The epochs that were seen or that receipts tell of, and those that had two holders.
    pub fn of(sightings: &[Sighting], receipts: &[(u64, String, bool)]) -> (Self, Vec<Violation>) {
        let mut epochs = Self::default();
        let mut violations = Vec::new();
        for (number, holder, planned) in receipts {
            epochs.hold(*number, holder, &mut violations);
            if let Some(span) = epochs.spans.get_mut(number) {
                span.planned |= *planned;
            }
        }
        for sighting in sightings {
            let (number, holder) = &sighting.epoch;
            if *number > 0 {
                epochs.hold(*number, holder, &mut violations);
            }
            if let Some((holder, number)) = &sighting.primary {
                epochs.hold(*number, holder, &mut violations);
            }
        }
        epochs.bound(sightings);
        epochs.find_vacant(sightings);
        (epochs, violations)
    }

    /// The highest epoch.
    pub fn last(&self) -> Option<u64> {
        self.spans.keys().next_back().copied()
    }

    /// What is known of an epoch.
    pub fn span(&self, epoch: u64) -> Option<&Span> {
        self.spans.get(&epoch)
    }

    /// The epoch that followed.
    pub fn next(&self, epoch: u64) -> Option<u64> {
        self.spans.range(epoch + 1..).next().map(|(next, _)| *next)
    }

    fn hold(&mut self, number: u64, holder: &str, violations: &mut Vec<Violation>) {
        let span = self.spans.entry(number).or_insert_with(|| Span {
            holder: holder.to_owned(),
            not_begun: None,
            ended: None,
            planned: false,
        });
        if span.holder != holder {
            let violation = Violation::TwoHolders {
                epoch: number,
                holders: [span.holder.clone(), holder.to_owned()],
            };
            if !violations.contains(&violation) {
                violations.push(violation);
            }
        }
    }

    /// An epoch above all that etcd had shown begins after the last read that did not show it, and
    /// all below have ended when it was shown. What etcd shows after it went back in time says
    /// nothing: only what is above everything before counts.
    fn bound(&mut self, sightings: &[Sighting]) {
        let mut highest = 0;
        let mut last_sent = None;
        for sighting in sightings {
            let number = sighting.epoch.0;
            if number > highest {
                for (_, span) in self.spans.range_mut(highest + 1..) {
                    span.not_begun = last_sent.or(span.not_begun);
                }
                for (_, span) in self.spans.range_mut(..number) {
                    span.ended = span.ended.or(Some(sighting.first_received));
                }
                highest = number;
            }
            last_sent = Some(sighting.last_sent);
        }
        // Epochs above all that were seen have begun after the last look.
        for (_, span) in self.spans.range_mut(highest + 1..) {
            span.not_begun = last_sent.or(span.not_begun);
        }
    }

    /// The last holder may be open while nobody holds `primary`.
    pub fn allow_vacancies(&mut self) {
        self.vacant.clear();
    }

    /// `primary` is taken only with a new epoch. So if two reads show none, and the same epoch,
    /// there was none in between either. While its last renewal counts, the last holder may be open
    /// all the same: etcd may have ended its lease early.
    fn find_vacant(&mut self, sightings: &[Sighting]) {
        let mut revision = 0;
        let (mut renewed, mut right) = ((0, String::new()), 0);
        let mut open: Option<(u64, Nanos, Nanos)> = None;
        for sighting in sightings {
            if sighting.revision < revision {
                // etcd lost what it had held: that it shows no primary proves nothing from here on.
                break;
            }
            revision = sighting.revision;
            let absent = sighting.primary.is_none() && sighting.epoch.0 > 0;
            let renewal = (sighting.renewed, sighting.epoch.1.clone());
            if (!absent || open.is_none()) && renewal != renewed {
                (renewed, right) = (renewal, sighting.first_received + RIGHT);
            }
            open = match open.take() {
                Some((epoch, from, _)) if absent && epoch == sighting.epoch.0 => {
                    Some((epoch, from, sighting.last_sent))
                }
                other => {
                    self.vacant
                        .extend(other.map(|(_, from, until)| (from, until)));
                    let right = if sighting.vacated { 0 } else { right };
                    absent.then_some((
                        sighting.epoch.0,
                        sighting.first_received.max(right),
                        sighting.last_sent,
                    ))
                }
            };
        }
        self.vacant
            .extend(open.map(|(_, from, until)| (from, until)));
        self.vacant.retain(|(from, until)| from < until);
    }

    /// Gives each acknowledged write the lowest epoch that the order of writes and the times allow.
    /// The lowest is the best choice: it leaves the most to all that come later.
    pub fn place(&self, attempts: &[Attempt]) -> (Placed, Vec<Violation>) {
        let mut by_sent: Vec<&Attempt> = attempts.iter().filter(|it| it.acknowledged()).collect();
        by_sent.sort_by_key(|attempt| attempt.sent);
        let mut by_ended = by_sent.clone();
        by_ended.sort_by_key(|attempt| attempt.ended);
        let mut before = by_ended.into_iter().peekable();
        let (mut placed, mut violations) = (Placed::new(), Vec::new());
        let mut lowest = 0;
        let mut witness: Option<&Attempt> = None;
        for attempt in by_sent {
            // Whatever was acknowledged before this one was sent was itself sent before.
            while let Some(earlier) = before.next_if(|it| it.ended < attempt.sent) {
                let epoch = placed
                    .get(&earlier.id)
                    .and_then(|fits: &Vec<u64>| fits.first());
                if epoch.is_some_and(|epoch| *epoch > lowest) {
                    lowest = epoch.copied().unwrap_or(lowest);
                    witness = Some(earlier);
                }
            }
            let fits = self.fits(attempt, lowest);
            if fits.is_empty() {
                violations.push(self.overlap(attempt, lowest, witness));
                continue;
            }
            placed.insert(attempt.id, fits);
        }
        (placed, violations)
    }

    fn fits(&self, attempt: &Attempt, lowest: u64) -> Vec<u64> {
        if self.in_vacancy(attempt).is_some() {
            return Vec::new();
        }
        let fits = self.spans.range(lowest..).filter(|(_, span)| {
            span.holder == attempt.member
                && span.not_begun.is_none_or(|time| attempt.ended >= time)
                && span.ended.is_none_or(|time| attempt.sent <= time)
        });
        fits.map(|(epoch, _)| *epoch).collect()
    }

    fn in_vacancy(&self, attempt: &Attempt) -> Option<&(Nanos, Nanos)> {
        let mut vacant = self.vacant.iter();
        vacant.find(|(from, until)| attempt.sent >= *from && attempt.ended <= *until)
    }

    fn overlap(&self, attempt: &Attempt, lowest: u64, witness: Option<&Attempt>) -> Violation {
        let millis = |from: Nanos, to: Nanos| to.saturating_sub(from) / 1_000_000;
        let held: Vec<(&u64, &Span)> = self
            .spans
            .iter()
            .filter(|(_, span)| span.holder == attempt.member)
            .collect();
        let reason = if let Some((from, until)) = self.in_vacancy(attempt) {
            format!(
                "nobody held primary from {} ms before it was sent until {} ms after it was \
                 acknowledged",
                millis(*from, attempt.sent),
                millis(attempt.ended, *until)
            )
        } else if held.is_empty() {
            format!("no epoch was ever held by {}", attempt.member)
        } else if let Some(witness) = witness.filter(|_| held.iter().all(|(it, _)| **it < lowest)) {
            format!(
                "write {} had been acknowledged by {} under epoch {lowest} {} ms before it was \
                 sent",
                witness.id,
                witness.member,
                millis(witness.ended, attempt.sent)
            )
        } else {
            let spans: Vec<String> = held
                .iter()
                .map(|(epoch, span)| match (span.ended, span.not_begun) {
                    (Some(ended), _) if ended < attempt.sent => format!(
                        "epoch {epoch} had ended {} ms before it was sent",
                        millis(ended, attempt.sent)
                    ),
                    (_, Some(begun)) if begun > attempt.ended => format!(
                        "epoch {epoch} had not begun {} ms after it was acknowledged",
                        millis(attempt.ended, begun)
                    ),
                    _ => format!("epoch {epoch} is below {lowest}, which had begun"),
                })
                .collect();
            spans.join(", and ")
        };
        Violation::Overlap {
            write: attempt.id,
            member: attempt.member.clone(),
            reason,
        }
    }
}
